/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outcome: what a recipient, a job or a whole server earned: a verdict with the stage and
 * the words of it.
 *
 * A failure of ours is VERDICT_LATER too (STAGE_LOCAL): it bounces nobody's mail.
 */
#ifndef SMTP_OUT_OUTCOME_H
#define SMTP_OUT_OUTCOME_H

#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/slice.h"
#include "common/mail/reply.h"
#include "common/mail/verdict.h"

struct outcome {
	enum verdict_kind kind;
	enum smtp_stage stage;
	uint16_t smtp_code; /* 0: no reply */
	struct enhanced_code status;
	uint8_t flags;     /* OUTCOME_ bits of ipc/messages.h */
	struct slice text; /* borrowed; at most LIMIT_REPLY_TEXT bytes when it was escaped */
};

/*
 * By the first digit of the code; the status is the server's when its class agrees with the
 * code, else the class alone (the text keeps both). The code is one of 2yz, 4yz, 5yz. The text
 * is the reply's own.
 */
struct outcome outcome_of_reply(enum smtp_stage stage, const struct reply *r);

/* One of ours: "4.4.2", text is terminated and outlives the outcome. */
struct outcome outcome_of_ours(enum verdict_kind kind, enum smtp_stage stage,
	struct enhanced_code status, const char *text);

/*
 * A copy of text in the arena that logs, notices and terminals can bear: line feeds stay,
 * other controls and bytes that are not UTF-8 become \xNN, at most LIMIT_REPLY_TEXT bytes.
 * Empty when the arena is full.
 */
struct slice outcome_keep_text(struct arena *a, struct slice text);

#endif
