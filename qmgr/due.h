/* SPDX-License-Identifier: Apache-2.0 */
/*
 * due: the recipients that wait for their time, and their way back into work.
 */
#ifndef QMGR_DUE_H
#define QMGR_DUE_H

#include "qmgr/qmgr.h"

void due_init(struct qmgr *q);
void due_close(struct qmgr *q);

/* A slot goes (back) to the heap, due at at_s. Whoever pops the entry asks the slot: it must
 * not be active any more, and its next_at_s must say at_s or less. */
void due_wait(struct qmgr *q, struct store_segment *seg, uint32_t slot, int64_t at_s);
/* The live recipients of a record that a sweep found: into the heap, at their times. */
void due_found(struct qmgr *q, struct store_segment *seg, const struct record_ref *r);
/* Everything that waits is due now. */
void due_flush(struct qmgr *q);

/* Sees to it that what is due is taken when it is. Called when there may be room again. */
void due_arm(struct qmgr *q);
/* Waits are intervals: a step of the clock does not lengthen or end them. Called every second.
 */
void due_watch_clock(struct qmgr *q);

/* In the heap, or nowhere: neither final nor held nor in work. */
static inline bool due_is_takeable(const struct slot *slot)
{
	return !slot_is_final(slot) && (slot->flags & (SLOT_HELD | SLOT_ACTIVE)) == 0;
}

#endif
