/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proc/service.h"
#include "qmgr/daemon.h"
#include "qmgr/qmgr.h"

int main(int argc, char **argv)
{
	static struct qmgr q;

	return service_main(argc, argv, &daemon_hooks, &q);
}
