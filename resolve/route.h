/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route: where mail for a name goes, or why it goes nowhere. Made once, then only read.
 */
#ifndef RESOLVE_ROUTE_H
#define RESOLVE_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/io/endpoint.h"
#include "common/ipc/messages.h"

struct route_addr {
	struct endpoint to; /* without a port */
	struct slice host;
	uint16_t preference;
	uint8_t dnssec; /* DNSSEC_ of the look-up of the address */
};

struct route {
	uint8_t result; /* ROUTE_ */
	uint8_t dnssec; /* DNSSEC_ of the MX answer */
	uint32_t ttl_s;
	char code[16];
	struct slice text;
	size_t bytes; /* what it costs */
	size_t addr_count;
	struct route_addr addrs[]; /* by preference; those of one preference stay together */
};

/* One piece of memory that holds copies of everything; text is cut at LIMIT_TEXT. */
struct route *route_new(const struct route *head, const struct route_addr *addrs, size_t count);
void route_free(struct route **r);
/* "5.4.4" and a formatted text, without addresses. */
struct route *route_failure(uint8_t result, uint8_t dnssec, uint32_t ttl_s, const char *code,
	struct slice text);

enum route_family {
	ROUTE_FAMILY_ANY,
	ROUTE_FAMILY_IPV4,
	ROUTE_FAMILY_IPV6
};
/*
 * The order in which to try, fresh for each time it is told: equal preferences shuffled, the
 * preferred family first among them. Fills order[] with indices of addrs[]; returns how many,
 * at most LIMIT_ROUTE_ADDRS.
 */
size_t route_order(const struct route *r, enum route_family first,
	uint16_t order[LIMIT_ROUTE_ADDRS]);

/* A number below n, from the kernel by way of a buffer. n is not 0. */
uint32_t route_random(uint32_t n);

#endif
