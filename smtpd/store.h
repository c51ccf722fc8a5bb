/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: what a session asks of the cleanup programs, as it sees them.
 *
 * A ticket is one transaction or one question that has been handed over. It belongs to the
 * session; the store knows it from store_begin() or store_ask() on until it has answered, or
 * until store_forget(). An answer never comes from within a call to the store.
 */
#ifndef SMTPD_STORE_H
#define SMTPD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/ipc/messages.h"

struct store_events {
	/* The fate of a transaction, as msg_tx_done has it. May come before store_end(). */
	void (*on_done)(void *arg, unsigned code, struct slice text);
	/* The answer to a question: LOOKUP_. */
	void (*on_answer)(void *arg, unsigned result, struct slice text);
	/* The program that had the ticket is gone. */
	void (*on_lost)(void *arg);
	/* More content may be sent: after store_has_room() said no. */
	void (*on_room)(void *arg);
};

struct store_ticket {
	struct hash_id_link link; /* by id */
	struct list all;          /* of the same program */
	struct list waiting;      /* for room */
	void *peer;               /* null: not handed over */
	const struct store_events *events;
	void *arg;
	bool is_question;
	bool has_ended; /* store_end() was called */
};

/* One recipient, as the store takes it. */
struct store_rcpt {
	struct slice address;
	struct slice orcpt;
	uint64_t hash;
	uint8_t notify;
};

struct store_ops {
	/* Whether mail can be taken now: STORE_. */
	unsigned (*state)(void *arg);
	/* Hands a transaction over; its number is filled in. False: nobody takes it. */
	bool (*begin)(void *arg, struct store_ticket *t, struct msg_tx_begin *facts,
		const struct store_rcpt *rcpts);
	void (*content)(void *arg, struct store_ticket *t, struct slice bytes);
	void (*end)(void *arg, struct store_ticket *t);
	/* Whether the address is suppressed. False: nobody to ask. */
	bool (*ask)(void *arg, struct store_ticket *t, struct slice address);
	/* Gives a ticket back before it was answered; a transaction that has not ended is
	 * aborted. Harmless when it is not handed over. */
	void (*forget)(void *arg, struct store_ticket *t);
	bool (*has_room)(void *arg, struct store_ticket *t);
};

struct store {
	const struct store_ops *ops;
	void *arg;
};

static inline void store_ticket_init(struct store_ticket *t, const struct store_events *events,
	void *arg)
{
	*t = (struct store_ticket){.events = events, .arg = arg};
	list_init(&t->all);
	list_init(&t->waiting);
}

static inline bool store_has_ticket(const struct store_ticket *t)
{
	return t->peer != NULL;
}

#endif
