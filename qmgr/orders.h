/* SPDX-License-Identifier: Apache-2.0 */
/* orders: what operators ask of the queue, over run/qmgr.sock. */
#ifndef QMGR_ORDERS_H
#define QMGR_ORDERS_H

#include "qmgr/qmgr.h"

/* Takes *fd, a listening socket, in place of an earlier one. */
void orders_listen(struct qmgr *q, int *fd);
void orders_close(struct qmgr *q);

#endif
