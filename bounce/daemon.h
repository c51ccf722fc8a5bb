/* SPDX-License-Identifier: Apache-2.0 */
/* daemon: the service that everything in bounce/ hangs on. */
#ifndef BOUNCE_DAEMON_H
#define BOUNCE_DAEMON_H

#include "bounce/desk.h"
#include "bounce/orders.h"
#include "bounce/suppressor.h"
#include "common/proc/service.h"

/* What service_main() is given as its arg, cleared, with the hooks. */
struct daemon {
	int journal_dir;
	int suppress_dir;
	struct suppress *list; /* until the suppressor takes it */
	struct journal_writer *journal;
	struct suppressor *suppressor;
	struct desk *desk;
	struct orders *orders;
};
extern const struct service_hooks daemon_hooks;

#endif
