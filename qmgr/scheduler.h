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

/* The live recipients of a record that a sweep found: into the heap, at their times. */
void scheduler_found(struct qmgr *q, struct store_segment *seg, const struct record_ref *r);

/* A slot goes (back) to the heap, due at at_s. */
void scheduler_wait(struct qmgr *q, struct store_segment *seg, uint32_t slot, int64_t at_s);

/* The destination has a route: its pending parcels go to the site's backlog. */
void scheduler_routed(struct qmgr *q, struct destination *d);
/* The unsettled recipients of a parcel, not in flight, go back to their site without having
 * been tried. */
void scheduler_return(struct qmgr *q, struct parcel *p);
/* The parcel is done with: settled recipients leave, unsettled ones must not be left. */
void scheduler_parcel_free(struct qmgr *q, struct parcel **p);

/* Something changed that may let the site send. */
void scheduler_poke(struct qmgr *q, struct site *s);
/* Nothing can be spoken to there: what waits for it in memory goes to the heap. */
void scheduler_park_all(struct qmgr *q, struct site *s);
/* Every second: what has become due. */
void scheduler_tick(struct qmgr *q);
/* An agent came, or has room again. */
void scheduler_poke_all(struct qmgr *q);
/* Everything that waits is due now, and every site is tried again. */
void scheduler_flush_all(struct qmgr *q);

#endif
