/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/resolver.h"

int main(int argc, char **argv)
{
	struct resolver *r = resolver_new();
	int status = service_main(argc, argv, &resolver_hooks, r);

	resolver_free(&r);
	return status;
}
