/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deliverer: the program smtp-out: takes jobs from qmgr, hands them to sites, reports what
 * became of every recipient.
 *
 * qmgr is trusted more than this program: nonsense from it ends us. When qmgr is gone,
 * all that runs is dropped, because nobody is there to hear how it went; the new qmgr tries
 * again.
 */
#ifndef SMTP_OUT_DELIVERER_H
#define SMTP_OUT_DELIVERER_H

#include "common/proc/service.h"

struct deliverer;

struct deliverer *deliverer_new(void);
void deliverer_free(struct deliverer **d);

/* Their arg is a struct deliverer. */
extern const struct service_hooks deliverer_hooks;

#endif
