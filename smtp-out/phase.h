/* SPDX-License-Identifier: Apache-2.0 */
/*
 * phase: what a command that is on its way to a server asks, one row each.
 *
 * Commands in flight are a queue of phases (session.h). A row tells the name for logs, the
 * stage that outcomes carry, and which time limit holds until the reply is complete.
 */
#ifndef SMTP_OUT_PHASE_H
#define SMTP_OUT_PHASE_H

#include "common/mail/verdict.h"
#include "smtp-out/settings.h"

enum phase {
	PHASE_GREETING,
	PHASE_EHLO,
	PHASE_HELO,
	PHASE_STARTTLS,
	PHASE_HANDSHAKE, /* no command: the TLS handshake */
	PHASE_RSET,
	PHASE_MAIL,
	PHASE_RCPT,
	PHASE_DATA,
	PHASE_DOT, /* the content with its final dot */
	PHASE_COUNT
};

const char *phase_name(enum phase p);
enum smtp_stage phase_stage(enum phase p);
enum time_limit phase_time_limit(enum phase p);

#endif
