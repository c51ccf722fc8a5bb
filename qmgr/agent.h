/* SPDX-License-Identifier: Apache-2.0 */
/* agent: the smtp-out processes: what each knows, the jobs it has, what it reports. */
#ifndef QMGR_AGENT_H
#define QMGR_AGENT_H

#include "qmgr/qmgr.h"

/* A (new) channel to smtp-out number index; what an earlier one had in flight goes back. Takes
 * *fd. */
void agent_peer(struct qmgr *q, unsigned index, int *fd);
/* Hands the first parcel of a site's backlog over as a job. False: no process can take it now.
 */
bool agent_send(struct qmgr *q, struct site *s, struct parcel *p);
/* Asks for jobs back that have not begun. */
void agent_cancel(struct parcel *p);
/* The segment is about to go: who holds a descriptor lets go of it. */
void agent_drop_segment(struct qmgr *q, const struct store_segment *seg);
struct connection *agent_connection(const struct agent *a, uint64_t id);
void agent_close_all(struct qmgr *q);

#endif
