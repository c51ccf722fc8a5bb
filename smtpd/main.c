/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proc/service.h"
#include "smtpd/server.h"

int main(int argc, char **argv)
{
	struct server *server = server_new();
	int status = service_main(argc, argv, server_hooks(), server);

	server_free(&server);
	return status;
}
