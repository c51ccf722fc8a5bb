/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard: addresses that must never be connected to, however a name led there.
 *
 * An IPv6 address can carry an IPv4 address that a gateway, or the kernel itself, would connect
 * to: each such form is looked at as what it carries, too.
 */
#ifndef COMMON_IO_GUARD_H
#define COMMON_IO_GUARD_H

#include <stdbool.h>

#include "common/io/endpoint.h"

/* forbidden may be null: nothing is. */
bool guard_forbids(const struct cidr_list *forbidden, const struct endpoint *e);

#endif
