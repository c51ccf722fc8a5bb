/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notice: recipients whose sender must be told, on their way to bounce.
 *
 * Their slots say "waiting" until bounce has answered that the consequences are durable:
 * whoever dies before that, the recipient is tried once more and fails again.
 */
#ifndef QMGR_NOTICE_H
#define QMGR_NOTICE_H

#include "qmgr/qmgr.h"

void notice_init(struct qmgr *q);
void notice_close(struct qmgr *q);
void notice_peer(struct qmgr *q, int *fd);

/* Too many are out already: the failure must be taken as temporary. */
bool notice_is_full(const struct qmgr *q);
/* Adds a recipient to *n, made if null; a notice of another kind is submitted first. */
void notice_add(struct qmgr *q, struct notice **n, struct message *m, uint8_t kind,
	const struct notice_rcpt *r);
/* On its way; nulls *n. Null is fine. */
void notice_submit(struct qmgr *q, struct notice **n);
/* Called every second: what bounce could not do a while ago is asked of it again. */
void notice_tick(struct qmgr *q);

#endif
