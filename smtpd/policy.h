/* SPDX-License-Identifier: Apache-2.0 */
/* policy: who may send mail where. Pure functions of the settings; nothing here replies. */
#ifndef SMTPD_POLICY_H
#define SMTPD_POLICY_H

#include <stdbool.h>

#include "common/io/endpoint.h"
#include "common/mail/address.h"
#include "smtpd/settings.h"

enum relay_answer {
	RELAY_OK,
	RELAY_REFUSED,
	RELAY_DEFERRED
};

/* A client of mynetworks. */
bool policy_is_trusted(const struct settings *s, const struct endpoint *client);

/* Whether a client may have mail sent to the recipient. A list without an end refuses: nobody
 * relays because a word was forgotten. */
enum relay_answer policy_relay(const struct settings *s, bool is_trusted,
	const struct address *rcpt);

/* <postmaster> without a domain (RFC 5321 section 4.5.1). */
bool policy_is_postmaster(const struct address *rcpt);

#endif
