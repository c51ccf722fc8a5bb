/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/deliverer.h"

int main(int argc, char **argv)
{
	struct deliverer *d = deliverer_new();
	int status = service_main(argc, argv, &deliverer_hooks, d);

	deliverer_free(&d);
	return status;
}
