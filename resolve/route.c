/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/route.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"

/* Addresses of one route before the best LIMIT_ROUTE_ADDRS are taken. */
#define ADDRS_MAX 4096u

struct route *route_new(const struct route *head, const struct route_addr *addrs, size_t count)
{
	struct slice text = slice_head(head->text, LIMIT_TEXT);
	size_t bytes = sizeof(struct route) + count * sizeof(*addrs) + text.n;

	assert(count <= ADDRS_MAX);
	for (size_t i = 0; i < count; i++) {
		/* Addresses of one host come one after another and share its name. */
		if (i == 0 || !slice_eq(addrs[i].host, addrs[i - 1].host)) {
			bytes += addrs[i].host.n;
		}
	}
	struct route *r = alloc_bytes(bytes);
	*r = *head;
	r->bytes = bytes;
	r->addr_count = count;
	uint8_t *free_at = (uint8_t *)&r->addrs[count];
	if (text.n != 0) {
		memcpy(free_at, text.p, text.n);
	}
	r->text = slice_make(free_at, text.n);
	free_at += text.n;
	for (size_t i = 0; i < count; i++) {
		struct slice host = addrs[i].host;
		r->addrs[i] = addrs[i];
		if (i != 0 && slice_eq(host, addrs[i - 1].host)) {
			r->addrs[i].host = r->addrs[i - 1].host;
			continue;
		}
		if (host.n != 0) {
			memcpy(free_at, host.p, host.n);
		}
		r->addrs[i].host = slice_make(free_at, host.n);
		free_at += host.n;
	}
	return r;
}

void route_free(struct route **r)
{
	free(*r);
	*r = NULL;
}

struct route *route_failure(uint8_t result, uint8_t dnssec, uint32_t ttl_s, const char *code,
	struct slice text)
{
	struct route head = {.result = result, .dnssec = dnssec, .ttl_s = ttl_s, .text = text};

	memcpy(head.code, code, strnlen(code, sizeof(head.code) - 1));
	return route_new(&head, NULL, 0);
}

uint32_t route_random(uint32_t n)
{
	/* The key of the hash is drawn from the kernel; a counter through it is as good as a
	 * stream of draws for spreading load, and costs no system call. */
	static uint64_t counter;

	if (counter == 0 &&
		getrandom(&counter, sizeof(counter), 0) != (ssize_t)sizeof(counter)) {
		counter = 1;
	}
	counter++;
	uint64_t h = hash_bytes(slice_make(&counter, sizeof(counter)));
	return (uint32_t)(((h >> 32) * n) >> 32);
}

static void shuffle(uint16_t *order, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = route_random((uint32_t)i);
		uint16_t swapped = order[i - 1];
		order[i - 1] = order[j];
		order[j] = swapped;
	}
}

/* Those of the family to the front, the order otherwise kept. */
static void family_first(const struct route *r, uint16_t *order, size_t n, uint8_t family)
{
	size_t front = 0;

	for (size_t i = 0; i < n; i++) {
		uint16_t at = order[i];
		if (r->addrs[at].to.family != family) {
			continue;
		}
		memmove(&order[front + 1], &order[front], (i - front) * sizeof(*order));
		order[front++] = at;
	}
}

size_t route_order(const struct route *r, enum route_family first,
	uint16_t order[LIMIT_ROUTE_ADDRS])
{
	static const uint8_t families[] = {
		[ROUTE_FAMILY_ANY] = 0,
		[ROUTE_FAMILY_IPV4] = 4,
		[ROUTE_FAMILY_IPV6] = 6,
	};
	size_t n = 0;

	while (n < r->addr_count && n < LIMIT_ROUTE_ADDRS) {
		uint16_t group[ADDRS_MAX];
		size_t size = 0;
		uint16_t preference = r->addrs[n].preference;
		for (size_t i = n; i < r->addr_count && r->addrs[i].preference == preference;
			i++) {
			group[size++] = (uint16_t)i;
		}
		shuffle(group, size);
		if (families[first] != 0) {
			family_first(r, group, size, families[first]);
		}
		size_t take = size < LIMIT_ROUTE_ADDRS - n ? size : LIMIT_ROUTE_ADDRS - n;
		memcpy(&order[n], group, take * sizeof(*order));
		n += take;
	}
	return n;
}
