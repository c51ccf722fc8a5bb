/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact: copies forward what is alive in old segments of which little is, so that a dead
 * domain's few messages never pin the space of the many that were delivered beside them.
 *
 * A copied record keeps its queue id, its time of acceptance and the states of its recipients;
 * of the recipients only those that are alive go along. The copy is durable before the old
 * slots say "moved". Who dies between the two leaves both: compact_reconcile() finds that at
 * the next start and keeps the old one.
 */
#ifndef QMGR_COMPACT_H
#define QMGR_COMPACT_H

#include "qmgr/qmgr.h"

MUST_CHECK enum err compact_new(struct qmgr *q);
void compact_free(struct qmgr *q);
/* After a sweep that found something. */
void compact_reconcile(struct qmgr *q);
/* Every second: at most one segment, a few megabytes. */
void compact_tick(struct qmgr *q);

#endif
