/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master -c DIR [-b]
 *
 * Started by the command `ekiden', which names the directory of the settings. -b: in the
 * background, the command has detached us; else in the foreground. When it accepts mail it
 * writes "READY\n" to the descriptor that EKIDEN_READY_FD names, or "FAILED why\n".
 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/base/log.h"
#include "master/relay.h"

int main(int argc, char **argv)
{
	struct relay_start start = {.config_dir = NULL, .background = false};

	log_open("master");
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
			start.config_dir = argv[++i];
		} else if (strcmp(argv[i], "-b") == 0) {
			start.background = true;
		} else {
			start.config_dir = NULL;
			break;
		}
	}
	if (start.config_dir == NULL) {
		(void)fputs("usage: master -c DIR [-b]; use the command `ekiden'\n", stderr);
		return EX_USAGE;
	}
	return relay_run(&start);
}
