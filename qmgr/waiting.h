/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiting: the recipients that wait for their time, twelve bytes each.
 *
 * A heap by time. Entries are never looked for and taken out: who pops one asks the slot
 * whether it still waits.
 */
#ifndef QMGR_WAITING_H
#define QMGR_WAITING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiting_entry {
	uint32_t at_s;    /* wall clock; 0: at once */
	uint32_t segment; /* index in the store */
	uint32_t slot;
};

struct waiting {
	struct waiting_entry *entries;
	size_t count;
	size_t room;
};

void waiting_init(struct waiting *w);
void waiting_clear(struct waiting *w);
void waiting_push(struct waiting *w, struct waiting_entry e);
/* False when nothing is due at now_s. */
bool waiting_pop_due(struct waiting *w, int64_t now_s, struct waiting_entry *out);
/* When the first is due; UINT32_MAX when there is none. */
uint32_t waiting_next_s(const struct waiting *w);
/* The clock was stepped by step_s: keeps the intervals. */
void waiting_shift(struct waiting *w, int64_t step_s);
/* Makes everything due at once. */
void waiting_flush(struct waiting *w);

#endif
