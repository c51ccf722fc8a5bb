/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight: the commands that are on their way to a server, in the order in which their replies
 * come. PIPELINING is this queue being longer than one, and nothing else.
 */
#ifndef SMTP_OUT_FLIGHT_H
#define SMTP_OUT_FLIGHT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smtp-out/phase.h"

/* Commands in flight at most: some 4 KiB of replies, which any socket buffer holds. */
#define FLIGHT_WINDOW 50u
#define FLIGHT_RING 64u
static_assert(FLIGHT_WINDOW < FLIGHT_RING && (FLIGHT_RING & (FLIGHT_RING - 1)) == 0,
	"the ring is too small");

struct flight_entry {
	uint64_t end; /* of the command in all that the session has written */
	uint16_t rcpt;
	uint8_t phase; /* enum phase */
	uint8_t tx;    /* index of the transaction; phases before RSET have none */
};

struct flight {
	struct flight_entry ring[FLIGHT_RING];
	uint64_t head; /* entries taken off since the beginning */
	uint64_t tail; /* entries put on */
};

static inline size_t flight_count(const struct flight *f)
{
	return (size_t)(f->tail - f->head);
}

/* The oldest; there is one. Valid until flight_put(). */
static inline const struct flight_entry *flight_head(const struct flight *f)
{
	assert(f->tail != f->head);
	return &f->ring[f->head & (FLIGHT_RING - 1)];
}

/* Whether the oldest is of that phase. */
static inline bool flight_waits_for(const struct flight *f, enum phase phase)
{
	return f->tail != f->head && flight_head(f)->phase == (uint8_t)phase;
}

static inline void flight_put(struct flight *f, struct flight_entry e)
{
	assert(flight_count(f) < FLIGHT_RING);
	f->ring[f->tail & (FLIGHT_RING - 1)] = e;
	f->tail++;
}

static inline void flight_take(struct flight *f)
{
	assert(f->tail != f->head);
	f->head++;
}

#endif
