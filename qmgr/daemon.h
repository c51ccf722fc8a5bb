/* SPDX-License-Identifier: Apache-2.0 */
/* daemon: the hooks of the queue manager's life, and its ticking clock. */
#ifndef QMGR_DAEMON_H
#define QMGR_DAEMON_H

#include "common/proc/service.h"

extern const struct service_hooks daemon_hooks;

#endif
