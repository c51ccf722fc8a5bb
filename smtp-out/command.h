/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command: MAIL and RCPT as they go over the wire, with the parameters that the server knows.
 *
 * What stands in a job was checked when it was accepted; here it is looked at once more, so
 * that nothing with a control byte can ever become a second command.
 */
#ifndef SMTP_OUT_COMMAND_H
#define SMTP_OUT_COMMAND_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "smtp-out/ehlo.h"
#include "smtp-out/job.h"

/* The longest line that comes out: an ORCPT of 500 octets as xtext is three times as long. */
#define COMMAND_LINE_MAX 4096u

/* What of its message is told in MAIL. */
struct command_needs {
	uint64_t bytes; /* SIZE= */
	bool body_8bit; /* BODY=8BITMIME */
	bool smtputf8;
};

/* Appends a line with its CR LF, or nothing: ERR_SYNTAX for bytes that no envelope may hold,
 * ERR_TOOBIG. */
MUST_CHECK enum err command_mail(struct buf *to, const struct job *j, const struct ehlo *e,
	struct command_needs needs);
MUST_CHECK enum err command_rcpt(struct buf *to, const struct job *j, uint32_t rcpt,
	const struct ehlo *e, bool smtputf8);

#endif
