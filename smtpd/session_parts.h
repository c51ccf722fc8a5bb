/* SPDX-License-Identifier: Apache-2.0 */
/* session_parts: what session.c and content.c, the two halves of a session, need of each other.
 */
#ifndef SMTPD_SESSION_PARTS_H
#define SMTPD_SESSION_PARTS_H

#include "common/base/slice.h"
#include "smtpd/session.h"

/* ---- of session.c ---- */

/* The one place where replies to commands and content leave, and errors are counted. */
void session_reply(struct session *s, struct answer a);
/* A last reply, with our name, and the end. */
void session_close_with(struct session *s, const char *code, const char *why);
void session_wait(struct session *s, enum hold hold, int64_t ms);
/* What was waited for has come, and its reply has been written or held back. */
void session_go_on(struct session *s);
void session_pause_input(struct session *s);
void session_resume_input(struct session *s);
void session_idle_deadline(struct session *s);

/* ---- of content.c ---- */

/* Takes content; returns how much. */
size_t session_take_content(struct session *s, struct slice bytes);
/* The message is with the store, or never will be; the session is ready for the next. */
void session_end_tx(struct session *s, struct answer a);
/* For a transaction that nobody has any more. */
struct answer session_lost_answer(void);

#endif
