/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: routes by what was asked, until they expire. Bounded by bytes; what was not used for
 * longest goes first.
 */
#ifndef RESOLVE_CACHE_H
#define RESOLVE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/list.h"
#include "resolve/route.h"

struct cache {
	struct hash_table entries;
	struct list recent; /* the one used last comes last */
	size_t bytes;
	size_t bytes_max;
};

void cache_init(struct cache *c, size_t bytes_max);
void cache_clear(struct cache *c);
/* Null: nothing, or nothing that still holds. Borrowed until the next call. *ttl_s: how long it
 * still holds, at least 1. */
const struct route *cache_find(struct cache *c, struct slice key, int64_t now_ms,
	uint32_t *ttl_s);
/* Takes the route, for its ttl_s from now on. Returns it: valid until the next call (also when
 * it is larger than the cache may be). */
const struct route *cache_take(struct cache *c, struct slice key, struct route *route,
	int64_t now_ms);

#endif
