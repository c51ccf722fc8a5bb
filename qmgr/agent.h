/* SPDX-License-Identifier: Apache-2.0 */
/* agent: the smtp-out processes: what each knows, the jobs it has, what it reports. */
#ifndef QMGR_AGENT_H
#define QMGR_AGENT_H

#include "qmgr/qmgr.h"

/* A (new) channel to smtp-out number index; what an earlier one had in flight goes back. Takes
 * *fd. */
void agent_peer(struct qmgr *q, unsigned index, int *fd);
unsigned agent_count(const struct qmgr *q);
enum agent_sent {
	AGENT_SENT,
	AGENT_NONE,      /* no process can take it now: one that can rouses the site */
	AGENT_UNREADABLE /* its segment cannot be opened */
};
/* Hands a loose parcel of the site over as a job; it stays loose if that cannot be. */
enum agent_sent agent_send(struct qmgr *q, struct site *s, struct parcel *p);
/* Asks for a job back, if it has not begun. */
void agent_cancel(struct parcel *p);
/* The segment is about to go: who holds a descriptor lets go of it. */
void agent_drop_segment(struct qmgr *q, const struct store_segment *seg);
struct connection *agent_connection(const struct agent *a, uint64_t id);
void agent_close_all(struct qmgr *q);

#endif
