/* SPDX-License-Identifier: Apache-2.0 */
/* control: what operators ask of the queue, over run/qmgr.sock. */
#ifndef QMGR_CONTROL_H
#define QMGR_CONTROL_H

#include "qmgr/qmgr.h"

/* Takes the listening socket. */
void control_listen(struct qmgr *q, int *fd);
void control_close(struct qmgr *q);

#endif
