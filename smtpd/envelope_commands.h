/* SPDX-License-Identifier: Apache-2.0 */
/* envelope_commands: MAIL and RCPT, their paths and their parameters. */
#ifndef SMTPD_ENVELOPE_COMMANDS_H
#define SMTPD_ENVELOPE_COMMANDS_H

#include "common/base/slice.h"
#include "common/mail/address.h"
#include "smtpd/session.h"

struct answer envelope_mail(struct session *s, struct slice args);
struct answer envelope_rcpt(struct session *s, struct slice args);
/* The reply to RCPT once it is known whether the recipient is suppressed (LOOKUP_). */
struct answer envelope_finish_rcpt(struct session *s, const struct address *a,
	struct slice orcpt, uint8_t notify, unsigned result, struct slice reason);
/* A refusal when no mail can be taken now; an empty text when it can. */
struct answer envelope_check_store(struct session *s);

#endif
