/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verdict: what a recipient's address earned from a remote server, or from the DNS.
 *
 * Never used for failures of ours: those become VERDICT_LATER before they leave
 * smtp-out, so a defect of ours bounces nobody's mail.
 */
#ifndef COMMON_MAIL_VERDICT_H
#define COMMON_MAIL_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

enum verdict_kind {
	VERDICT_DONE,  /* the next hop has taken responsibility */
	VERDICT_LATER, /* temporary: try again */
	VERDICT_NEVER  /* permanent: tell the sender */
};

/* Where in the dialogue it happened. The same text means different things at different
 * stages (docomo's "550 Unknown user" after the data is the user's filter). Values are
 * stored in slots and journals: never renumber. */
enum smtp_stage {
	STAGE_NONE = 0,
	STAGE_DNS = 1,
	STAGE_CONNECT = 2,
	STAGE_GREETING = 3,
	STAGE_EHLO = 4,
	STAGE_STARTTLS = 5, /* the command and the handshake */
	STAGE_AUTH = 6,
	STAGE_MAIL = 7,
	STAGE_RCPT = 8,
	STAGE_DATA = 9,         /* the DATA command */
	STAGE_CONTENT = 10,     /* while content was being sent */
	STAGE_END_OF_DATA = 11, /* the reply to the final dot */
	STAGE_RSET = 12,
	STAGE_QUIT = 13,
	STAGE_EXPIRED = 14,   /* qmgr gave up */
	STAGE_OPERATOR = 15,  /* somebody's command */
	STAGE_CANCELLED = 16, /* never begun; not an attempt */
	STAGE_LOCAL = 17,     /* a failure of ours */
	STAGE_COUNT = 18
};

/* RFC 3463: class.subject.detail; class 0: none. */
struct enhanced_code {
	uint8_t class;
	uint16_t subject;
	uint16_t detail;
};

#define ENHANCED_TEXT_MAX 16u

/* "5.1.1" at the beginning of s, which must be followed by a space or the end. *rest, when not
 * null, is what follows with blanks skipped. Subject and detail have at most 3 digits, class is
 * 2, 4 or 5. */
bool enhanced_parse(struct slice s, struct enhanced_code *out, struct slice *rest);
void enhanced_format(struct enhanced_code code, char to[ENHANCED_TEXT_MAX]);

const char *verdict_kind_name(enum verdict_kind kind); /* "delivered", "deferred", "failed" */
const char *smtp_stage_name(enum smtp_stage stage); /* "rcpt", "end_of_data" ... as in logs */

#endif
