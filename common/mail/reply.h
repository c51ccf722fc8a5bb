/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply: a server's SMTP reply, read line by line (RFC 5321 section 4.2).
 *
 * All lines of a reply carry the same code; the last has a space (or nothing) behind it.
 * Anything else, a line over REPLY_LINE_MAX, more than REPLY_LINES_MAX lines or
 * REPLY_BYTES_MAX bytes, is a protocol error: the connection is of no use any more.
 */
#ifndef COMMON_MAIL_REPLY_H
#define COMMON_MAIL_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/mail/verdict.h"

#define REPLY_LINE_MAX 2048u
#define REPLY_LINES_MAX 500u
#define REPLY_BYTES_MAX 65536u

struct reply {
	uint16_t code;
	struct enhanced_code status; /* class 0 when the server sent none */
	struct buf text; /* all lines without code and separator, joined by '\n', enhanced code
			    of the first kept; at most LIMIT_REPLY_TEXT bytes are kept; controls
			    but '\n' and 8-bit bytes as they came */
	unsigned lines;
	uint32_t bytes;
	bool bare_lf; /* some line ended in a lone LF */
	/* Of the line that is being read; nobody else's business. */
	uint16_t column; /* bytes of it so far, without its end */
	uint16_t line_code;
	bool is_last;
	bool has_cr; /* a CR that may be the first half of its end */
};

void reply_init(struct reply *r);
void reply_clear(struct reply *r);
/* Ready for the next reply; keeps memory. */
void reply_reset(struct reply *r);

/*
 * Feeds bytes; *used says how many were taken. ERR_OK: the reply is complete (the rest of
 * the bytes belong to the next one). ERR_AGAIN: more is needed, all were taken. ERR_SYNTAX or
 * ERR_TOOBIG: not a reply.
 */
MUST_CHECK enum err reply_feed(struct reply *r, struct slice bytes, size_t *used);

#endif
