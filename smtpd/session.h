/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: one client's dialogue, from the greeting to QUIT, without a socket.
 *
 * Bytes, times and answers of the store come in by calls; replies and wishes (pause, start TLS,
 * close) go out through struct session_io. So a test plays the whole protocol in memory, cut
 * into any pieces, with a clock of its own.
 *
 * The phase is read off what the session holds and never stored beside it: a transaction ends
 * by freeing it.
 */
#ifndef SMTPD_SESSION_H
#define SMTPD_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/slice.h"
#include "common/io/endpoint.h"
#include "smtpd/settings.h"
#include "smtpd/store.h"
#include "smtpd/tx.h"

/* What all sessions of the process share. */
struct session_env {
	struct store store;
	/* Whether the address may be suppressed: if so the store is asked. */
	bool (*may_be_suppressed)(void *arg, struct slice address);
	void *suppressed_arg;
	struct tx_pool txs;
	struct buf edited; /* scratch of the intake */
	struct buf text;   /* scratch of the reply that is being made */
	struct log_gate gate;
	uint64_t next_id;
	uint64_t accepted;  /* messages */
	uint64_t discarded; /* messages accepted for suppressed recipients only */
	uint64_t rejected;  /* commands and messages refused */
	bool is_draining;
};

void session_env_init(struct session_env *env, struct store store);
void session_env_clear(struct session_env *env);

/* The connection, as the session uses it. Nothing here calls back. */
struct session_io {
	void (*write)(void *arg, struct slice bytes);
	/* Whether the client reads what it is sent. When this says no, session_on_drained()
	 * follows once it has. */
	bool (*has_room)(void *arg);
	/* Offer no input / offer again what was left and what comes. */
	void (*pause)(void *arg);
	void (*resume)(void *arg);
	/* Call session_on_late() once it is so late (of clock_mono_ms()). */
	void (*deadline)(void *arg, int64_t at_ms);
	/* When all output has left: hand over to TLS, then session_on_tls(). */
	void (*start_tls)(void *arg);
	/* The session is over: send what is queued, then close. No call follows. */
	void (*close)(void *arg);
};

/* What the session waits for before it looks at more input. */
enum hold {
	HOLD_NONE,
	HOLD_DELAY,  /* a reply is held back */
	HOLD_LOOKUP, /* the store says whether a recipient is suppressed */
	HOLD_DONE,   /* the store says what became of the message */
	HOLD_TLS
};

struct session {
	const struct session_io *io;
	void *io_arg;
	struct session_env *env;
	struct settings *settings; /* one use of them */
	struct tx *tx;             /* null: no transaction */
	struct waiting_rcpt *rcpt; /* of HOLD_LOOKUP */
	char *helo;                /* null: not greeted; ASCII */
	char *tls;                 /* facts; null: clear */
	uint8_t *delayed;          /* of HOLD_DELAY */
	size_t delayed_bytes;
	struct endpoint client;
	uint64_t id;
	int64_t line_since_ms; /* when the line that is not whole began; 0: there is none */
	uint32_t errors;
	uint32_t junk;
	uint32_t messages;
	uint32_t skipped; /* octets of a bad line that is being dropped */
	enum hold hold;
	bool is_esmtp;
	bool is_trusted;
	bool in_data;
	bool is_skipping;
	bool is_paused;
	bool is_stuck;  /* paused because the client does not read */
	bool has_input; /* some has come: the first is looked at */
	bool has_ended; /* the client will send no more */
	bool has_quit;
	bool is_closed;
};

/* Takes over the caller's use of the settings. Greets. is_early: the client spoke before. */
void session_start(struct session *s, struct session_env *env, const struct session_io *io,
	void *io_arg, struct settings *settings, const struct endpoint *client, bool is_early);
/* Releases what it holds; the store forgets it. */
void session_clear(struct session *s);

/* Returns how many bytes were used; the rest is offered again with more behind it. */
size_t session_input(struct session *s, struct slice bytes);
void session_on_late(struct session *s);
/* All output has left. */
void session_on_drained(struct session *s);
/* TLS is up. A failed handshake ends in session_clear() at once. */
void session_on_tls(struct session *s, const char *facts);
/* The client will send no more, or is gone: the connection closes. */
void session_on_end(struct session *s);
/* The relay stops: idle ones are told now, those with content when it is done. */
void session_drain(struct session *s);

/* ---- for the commands ---- */

enum {
	ANSWER_CLOSE = 1, /* and close */
	ANSWER_OURS = 2,  /* a refusal that is not the client's mistake */
	ANSWER_LATER = 4, /* nothing to say yet */
	ANSWER_TLS = 8    /* TLS follows */
};

/* A whole reply, lines ended; valid until the next one is made. */
struct answer {
	struct slice text;
	unsigned flags;
};

#define ANSWER(literal) ((struct answer){.text = SLICE(literal "\r\n")})
#define ANSWER_WITH(literal, how)                                                              \
	((struct answer){.text = SLICE(literal "\r\n"), .flags = (how)})
/* Formatted; cut to one legal line of printable ASCII. */
struct answer answer_format(struct session *s, unsigned flags, const char *format, ...)
	PRINTF_LIKE(3, 4);

enum phase {
	PHASE_NEW, /* no greeting of the client's yet */
	PHASE_READY,
	PHASE_MAIL,
	PHASE_RCPT
};
enum phase session_phase(const struct session *s);

/* Ends the transaction, if there is one; what the store had of it is aborted. */
void session_drop_tx(struct session *s);
/* The recipient of HOLD_LOOKUP. */
struct waiting_rcpt {
	struct store_ticket ticket;
	struct slice orcpt; /* in the transaction's arena */
	uint8_t notify;
	char address[LIMIT_ADDRESS + 1];
};
/* Starts waiting for the store's answer; false when nobody can be asked. */
bool session_look_up(struct session *s, const struct address *a, struct slice orcpt,
	uint8_t notify);
/* Content comes from now on. */
void session_begin_data(struct session *s);
/* A line for the log about something refused; held back when there are many. */
void session_log_reject(struct session *s, const char *event, struct slice what);

#endif
