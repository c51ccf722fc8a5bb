/* SPDX-License-Identifier: Apache-2.0 */
/* outcome: what becomes of a recipient after an attempt, or without one. */
#ifndef QMGR_OUTCOME_H
#define QMGR_OUTCOME_H

#include "qmgr/qmgr.h"

/* One recipient of a job in flight, not settled yet. */
void outcome_take(struct qmgr *q, struct parcel *p, const struct msg_outcome *m);
/* The parcel is back: its notice goes out, its unsettled recipients go on, or it ends. */
void outcome_finish(struct qmgr *q, struct parcel *p);
/* All recipients are settled: its notice goes out, it ends. */
void outcome_parcel_end(struct qmgr *q, struct parcel **p);

/* A destination has no route: for all recipients that wait for it. */
void outcome_unroutable(struct qmgr *q, struct destination *d, enum verdict_kind kind,
	struct slice code, struct slice text);
/* Transports discard, error and retry. The recipient is in no parcel; the caller submits *n. */
void outcome_local(struct qmgr *q, struct message *m, uint32_t index, const struct nexthop *hop,
	struct notice **n);
/* Several smtp-out died with that loose parcel: its unsettled recipients wait as after a
 * failure.
 */
void outcome_lost(struct qmgr *q, struct parcel *p);
/* True when the recipient is past its lifetime: it is then on its way into a notice of p. */
bool outcome_expire(struct qmgr *q, struct parcel *p, uint32_t index);

#endif
