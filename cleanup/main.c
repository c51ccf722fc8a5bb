/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/cleaner.h"

int main(int argc, char **argv)
{
	struct cleaner *c = cleaner_new();
	int status = service_main(argc, argv, &cleaner_hooks, c);

	cleaner_free(&c);
	return status;
}
