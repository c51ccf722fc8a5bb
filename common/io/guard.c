/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/guard.h"

#include <stddef.h>
#include <string.h>

#include "common/base/attr.h"

/* Prefixes whose addresses carry an IPv4 address, and where in them. */
static const struct {
	uint8_t prefix[12];
	size_t prefix_bytes;
	size_t at;
} carriers[] = {
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 12, 12},    /* ::ffff:0:0/96, mapped */
	{{0}, 12, 12},                                           /* ::/96, "compatible" */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0}, 12, 12},    /* ::ffff:0:0:0/96, SIIT */
	{{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}, 12, 12}, /* 64:ff9b::/96, RFC 6052 */
	{{0, 0x64, 0xff, 0x9b, 0, 1}, 6, 12},                    /* 64:ff9b:1::/48, RFC 8215 */
	{{0x20, 0x02}, 2, 2},                                    /* 2002::/16, 6to4 */
};

bool guard_forbids(const struct cidr_list *forbidden, const struct endpoint *e)
{
	if (forbidden == NULL || forbidden->count == 0) {
		return false;
	}
	if (cidr_list_has(forbidden, e)) {
		return true;
	}
	for (size_t i = 0; e->family == 6 && i < ARRAY_LEN(carriers); i++) {
		if (memcmp(e->addr, carriers[i].prefix, carriers[i].prefix_bytes) != 0) {
			continue;
		}
		struct endpoint carried = {.family = 4, .port = e->port};
		memcpy(carried.addr, e->addr + carriers[i].at, 4);
		if (cidr_list_has(forbidden, &carried)) {
			return true;
		}
	}
	return false;
}
