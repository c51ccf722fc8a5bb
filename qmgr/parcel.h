/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parcel: some recipients of one message that go the same way, and where they stand.
 *
 * A parcel moves only through here, so the counters of qmgr and of the sites always say what
 * the lists say. From every place it is lifted first (it is loose then), and what is loose is
 * put somewhere or freed before the call that holds it returns.
 */
#ifndef QMGR_PARCEL_H
#define QMGR_PARCEL_H

#include "qmgr/qmgr.h"

/* Loose and empty. */
struct parcel *parcel_new(struct qmgr *q, struct message *m, struct destination *d);
/* Adds a recipient to a loose one. It may move in memory (a list that it is in stays right):
 * the new address is returned. */
struct parcel *parcel_add(struct qmgr *q, struct parcel *p, uint32_t index);

/* Waits for its destination's route. */
void parcel_pend(struct qmgr *q, struct parcel *p);
/* Waits in the backlog of p->site. */
void parcel_queue(struct qmgr *q, struct parcel *p, bool first);
/* Is a job now. */
void parcel_launch(struct qmgr *q, struct parcel *p);
/* Loose again, wherever it was. */
void parcel_lift(struct qmgr *q, struct parcel *p);

/* Forgets recipients of a loose one that are settled, and what an operator deleted or holds.
 * False when none is left. */
bool parcel_prune(struct qmgr *q, struct parcel *p);
/* A loose one is done with: all its recipients have gone their way. */
void parcel_free(struct qmgr *q, struct parcel **p);
/* At the end of the process: wherever it is, and whatever becomes of its recipients. */
void parcel_discard(struct qmgr *q, struct parcel *p);

#endif
