/* SPDX-License-Identifier: Apache-2.0 */
/* cleaner: the program: what service.h calls, and the parts put together. */
#ifndef CLEANUP_CLEANER_H
#define CLEANUP_CLEANER_H

#include "common/proc/service.h"

struct cleaner;

extern const struct service_hooks cleaner_hooks;

/* The argument of the hooks. */
struct cleaner *cleaner_new(void);
void cleaner_free(struct cleaner **c);

#endif
