/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_parts: what a session is made of, for its own sources only: session.c (what happens
 * to it), opening.c (until it is ready), transfer.c (messages), ending.c (how it goes wrong).
 */
#ifndef SMTP_OUT_SESSION_PARTS_H
#define SMTP_OUT_SESSION_PARTS_H

#include "common/mail/reply.h"
#include "smtp-out/ehlo.h"
#include "smtp-out/flight.h"
#include "smtp-out/session.h"
#include "smtp-out/tx.h"

struct session {
	const struct session_owner *owner;
	void *arg;
	const struct settings *settings;
	struct buf *scratch; /* what is to be written at the end of the call */
	struct reply reply;
	struct ehlo ehlo;
	struct flight flight;
	uint64_t written;
	uint64_t timed;      /* 1 + the number of the entry that the deadline is for; 0: none */
	uint64_t stall_sent; /* bytes that had left when the deadline was set */
	bool times_transfer; /* the deadline is for the content to leave, not for its reply */
	struct tx txs[2];
	uint8_t front; /* index of the older tx */
	uint8_t tx_count;
	int64_t began_ms;
	uint32_t jobs_begun;
	uint32_t jobs_done;
	enum tls_level level;
	bool in_clear;
	bool is_tls;
	bool is_ready;
	bool is_idle;
	bool is_closed;
	bool is_quitting;
	bool pipelines;
	bool was_idle;
	bool needs_rset;
};

static inline struct tx *session_front(struct session *s)
{
	return &s->txs[s->front];
}

/* The younger one; the front one when it is alone. */
static inline struct tx *session_back(struct session *s)
{
	return s->tx_count == 2 ? &s->txs[s->front ^ 1u] : &s->txs[s->front];
}

static inline uint64_t session_sent(const struct session *s)
{
	return s->owner->sent(s->arg);
}

static inline int64_t session_now_ms(const struct session *s)
{
	return s->owner->now_ms(s->arg);
}

/* ---- session.c ---- */

/* Adds to what is going to be written. */
void session_put(struct session *s, struct slice bytes);
/* The command that has just been put is on its way. tx: null for phases before RSET. */
void session_fly(struct session *s, enum phase phase, struct tx *tx, uint32_t rcpt);
/* Every recipient of its job is settled: the job goes to the owner. */
void session_job_done(struct session *s, struct tx *tx);
/* Writes what has been put. */
void session_flush(struct session *s);
/* The oldest command's time runs from when it became the oldest; bytes that are no complete
 * reply do not prolong it. */
void session_set_deadline(struct session *s);

/* ---- ending.c ---- */

/* What becomes of the front job when the connection breaks. */
enum fate {
	FATE_SETTLE,
	FATE_BACK,   /* it has not begun for the server */
	FATE_REFUSED /* the server would not have it: another may */
};

/* A failure that is not the recipients': LATER, 4.subject.detail. */
struct outcome ending_ours(enum smtp_stage stage, uint16_t subject, uint16_t detail,
	const char *text);
#define ENDING_TEXT_MAX 512u
/* The outcome for the front job when the connection breaks now: what, and at which command. */
struct outcome ending_lost(struct session *s, uint16_t subject, uint16_t detail,
	const char *what, char text[ENDING_TEXT_MAX]);
/* The connection worked before the front job came. */
bool ending_has_worked(const struct session *s);
/* The server has not answered anything about the front job. */
bool ending_is_untouched(struct session *s);
/* Before it was ready: this server cannot be used. */
void ending_fail(struct session *s, const struct outcome *why, enum session_failure how);
/* The connection is of no use any more: the front job has that fate, the other goes back. */
void ending_break_off(struct session *s, const struct outcome *why, enum fate fate);
/* The server broke the protocol: nothing that it said lately can be trusted. */
void ending_nonsense(struct session *s, const char *what);
/* Says QUIT; nothing runs. */
void ending_quit(struct session *s);

/* ---- opening.c ---- */

void opening_begin(struct session *s);
/* Handlers of replies (2yz, 4yz or 5yz). */
void opening_on_greeting(struct session *s, const struct flight_entry *e);
void opening_on_ehlo(struct session *s, const struct flight_entry *e);
void opening_on_starttls(struct session *s, const struct flight_entry *e);
/* The handshake is done. */
void opening_on_tls(struct session *s, enum tls_trust trust, const char *why_untrusted);

/* ---- transfer.c ---- */

/* Sends whatever can be sent now; takes jobs. */
void transfer_pump(struct session *s);
/* Handlers of replies (2yz, 4yz or 5yz; to DATA 3yz, not 2yz). */
void transfer_on_rset(struct session *s, const struct flight_entry *e);
void transfer_on_mail(struct session *s, const struct flight_entry *e);
void transfer_on_rcpt(struct session *s, const struct flight_entry *e);
void transfer_on_data(struct session *s, const struct flight_entry *e);
void transfer_on_dot(struct session *s, const struct flight_entry *e);

#endif
