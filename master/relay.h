/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay: the whole of it, as master sees it: starts the programs in order, keeps them running,
 * changes their settings, ends them in order.
 */
#ifndef MASTER_RELAY_H
#define MASTER_RELAY_H

#include <stdbool.h>

struct relay_start {
	const char *config_dir;
	bool background; /* nobody looks at standard error: log to a file also when none is
			    named */
};

/* From start to end. Returns the exit status (sysexits): 0 after an orderly stop. */
int relay_run(const struct relay_start *start);

#endif
