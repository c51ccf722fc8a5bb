/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/daemon.h"

int main(int argc, char **argv)
{
	struct daemon d = {.journal_dir = -1};

	return service_main(argc, argv, &daemon_hooks, &d);
}
