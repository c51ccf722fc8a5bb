/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router: from the next hop of a recipient to the site that serves it, by asking resolve.
 */
#ifndef QMGR_ROUTER_H
#define QMGR_ROUTER_H

#include "qmgr/qmgr.h"

void router_init(struct qmgr *q);
void router_close(struct qmgr *q);
/* A (new) channel to resolve; what was being asked is asked again. Takes *fd. */
void router_peer(struct qmgr *q, int *fd);

/* The destination of that next hop (an MX or host one), made if there is none. */
struct destination *router_destination(struct qmgr *q, const struct nexthop *hop);
/* Parcels wait in d->pending: finds the route; scheduler_routed() or outcomes follow. */
void router_want(struct qmgr *q, struct destination *d);
/* Called when a destination lost a parcel. */
void router_release(struct qmgr *q, struct destination *d);
/* Forgets routes that are out of date and in no use. */
void router_expire(struct qmgr *q);

#endif
