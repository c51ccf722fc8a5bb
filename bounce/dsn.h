/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dsn: writes a delivery status notification (RFC 3464, 6522; 6533 where addresses go beyond
 * ASCII): text for people, fields for programs, and what is sent back of the message.
 *
 * What servers said is a stranger's text: nothing in it can begin a header field, a part or a
 * line of its own. Pure: no clock, no chance, no file.
 */
#ifndef BOUNCE_DSN_H
#define BOUNCE_DSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/mail/verdict.h"

struct dsn_rcpt {
	struct slice address;
	struct slice orcpt; /* "rfc822;user@x" or empty */
	uint8_t stage;      /* enum smtp_stage */
	uint16_t smtp_code; /* 0: no server said it */
	struct enhanced_code status;
	struct slice text; /* lines joined by '\n' */
	struct slice host;
	struct slice addr;
	int64_t last_attempt_us; /* 0: none */
};

enum dsn_language {
	DSN_ENGLISH,
	DSN_JAPANESE,
	DSN_BOTH
};

enum dsn_original {
	DSN_ORIGINAL_NONE,
	DSN_ORIGINAL_HEADERS,
	DSN_ORIGINAL_FULL
};

/* Hexadecimal digits drawn for each notice, so that no message can know its boundary. */
#define DSN_TOKEN_BYTES 32u

/* Of recipients in the text for people; the fields for programs have all. */
#define DSN_TEXT_RCPTS_MAX 50u

struct dsn {
	uint8_t kind; /* NOTICE_ */
	enum dsn_language language;
	bool is_utf8; /* the message asked for SMTPUTF8 */
	struct slice hostname;
	struct slice queue_id;
	struct slice sender; /* who is told; not empty */
	struct slice envid;
	int64_t accepted_us;
	int64_t now_s;
	char token[DSN_TOKEN_BYTES + 1];
	const struct dsn_rcpt *rcpts;
	size_t rcpt_count;
	/* The message in wire form, from its first byte on, perhaps cut. Sent back are whole
	 * lines of it up to original_max bytes. */
	enum dsn_original original;
	struct slice message;
	size_t original_max;
};

/* What the notice needs on its way. */
struct dsn_needs {
	bool is_8bit;
	bool is_utf8;
};

/* Appends the notice in wire form: CR LF lines, dot-stuffed, without the final ".". ERR_TOOBIG:
 * no room in to, which is then as it was. */
MUST_CHECK enum err dsn_compose(const struct dsn *d, struct buf *to, struct dsn_needs *needs);

#endif
