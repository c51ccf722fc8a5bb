/* SPDX-License-Identifier: Apache-2.0 */
/* intake: what the cleanup processes tell of records that have become durable. */
#ifndef QMGR_INTAKE_H
#define QMGR_INTAKE_H

#include "qmgr/qmgr.h"

void intake_peer(struct qmgr *q, unsigned index, int *fd);
void intake_close_all(struct qmgr *q);
/* Asks writers to leave segments that are finished but still open. Called every second. */
void intake_rotate_finished(struct qmgr *q);

#endif
