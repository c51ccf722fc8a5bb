/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parking: the recipients of a site beyond what memory may hold of it, eight bytes each.
 *
 * First come, first served. A parked slot is active and pins its segment, so that neither its
 * place nor its index is taken by another one.
 */
#ifndef QMGR_PARKING_H
#define QMGR_PARKING_H

#include "qmgr/qmgr.h"

static inline size_t parking_count(const struct site *s)
{
	return s->parked_count - s->parked_from;
}

/* Takes the recipients of a loose parcel; the parcel ends. */
void parking_add(struct qmgr *q, struct site *s, struct parcel **p);
/* Brings parked recipients back into the backlog, as far as memory may hold them. */
void parking_refill(struct qmgr *q, struct site *s);
/* All go to the heap, due at at_s and up to spread_s later. */
void parking_disperse(struct qmgr *q, struct site *s, int64_t at_s, uint32_t spread_s);
/* At the end of the process. */
void parking_discard(struct qmgr *q, struct site *s);

#endif
