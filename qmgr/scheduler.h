/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scheduler: which recipient goes when.
 */
#ifndef QMGR_SCHEDULER_H
#define QMGR_SCHEDULER_H

#include "qmgr/qmgr.h"

void scheduler_init(struct qmgr *q);
void scheduler_close(struct qmgr *q);

/*
 * Takes recipients of m into work: those of the given indexes (all when indexes is null) whose
 * slots wait, are not held and are not in work yet. Beyond the limit of what memory may hold
 * they go to the waiting heap, due at once.
 */
void scheduler_take(struct qmgr *q, struct message *m, const uint32_t *indexes, uint32_t count);

/* The destination has a route: its pending parcels go to the site. */
void scheduler_routed(struct qmgr *q, struct destination *d);
/* The unsettled recipients of a loose parcel go back to their site without having been tried.
 */
void scheduler_return(struct qmgr *q, struct parcel *p);
/* The recipients of a loose parcel cannot go now, though nothing was tried: to the heap, due at
 * at_s and up to spread_s later; the parcel ends. */
void scheduler_put_off(struct qmgr *q, struct parcel **p, int64_t at_s, uint32_t spread_s);
/* 0 to spread_s, the same for the same slot. */
int64_t scheduler_spread(uint32_t slot, uint32_t spread_s);

/* There is something new for the site; a capped one keeps its turn. */
void scheduler_poke(struct qmgr *q, struct site *s);
/* Something changed that may let the site send, capped or not. */
void scheduler_rouse(struct qmgr *q, struct site *s);
/* Jobs have ended: capped sites may have their turn. */
void scheduler_wake_capped(struct qmgr *q);
/* An agent came, or has room again; the limits are others. */
void scheduler_rouse_all(struct qmgr *q);

/* Nothing can be spoken to there: what waits for it in memory goes to the heap. */
void scheduler_disperse(struct qmgr *q, struct site *s);
/* Everything that waits is due now, and every site is tried again. */
void scheduler_flush_all(struct qmgr *q);
/* Every second: what may have been missed. */
void scheduler_tick(struct qmgr *q);

#endif
