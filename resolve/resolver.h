/* SPDX-License-Identifier: Apache-2.0 */
/*
 * resolver: the service. qmgr asks for routes, the cache or the finder has them.
 */
#ifndef RESOLVE_RESOLVER_H
#define RESOLVE_RESOLVER_H

#include "common/proc/service.h"

struct resolver;

/* What service_main() is given as its arg, and the hooks to go with it. */
struct resolver *resolver_new(void);
void resolver_free(struct resolver **r);
extern const struct service_hooks resolver_hooks;

#endif
