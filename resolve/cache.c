/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/cache.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

struct entry {
	struct hash_link by_key;
	struct list recent;
	struct route *route;
	int64_t expires_ms;
	size_t bytes;
	uint8_t key[];
};

void cache_init(struct cache *c, size_t bytes_max)
{
	hash_table_init(&c->entries);
	list_init(&c->recent);
	c->bytes = 0;
	c->bytes_max = bytes_max;
}

static void entry_drop(struct cache *c, struct entry *e)
{
	hash_table_remove(&c->entries, &e->by_key);
	list_remove(&e->recent);
	c->bytes -= e->bytes;
	route_free(&e->route);
	free(e);
}

void cache_clear(struct cache *c)
{
	struct list *l;

	while ((l = list_first(&c->recent)) != NULL) {
		entry_drop(c, CONTAINER_OF(l, struct entry, recent));
	}
	hash_table_clear(&c->entries);
}

const struct route *cache_find(struct cache *c, struct slice key, int64_t now_ms,
	uint32_t *ttl_s)
{
	struct hash_link *l = hash_table_find(&c->entries, key);
	struct entry *e = l == NULL ? NULL : CONTAINER_OF(l, struct entry, by_key);

	if (e == NULL) {
		return NULL;
	}
	if (e->expires_ms <= now_ms) {
		entry_drop(c, e);
		return NULL;
	}
	list_remove(&e->recent);
	list_append(&c->recent, &e->recent);
	*ttl_s = (uint32_t)((e->expires_ms - now_ms + 999) / 1000);
	return e->route;
}

const struct route *cache_take(struct cache *c, struct slice key, struct route *route,
	int64_t now_ms)
{
	struct hash_link *l = hash_table_find(&c->entries, key);
	struct list *oldest;

	if (l != NULL) {
		entry_drop(c, CONTAINER_OF(l, struct entry, by_key));
	}
	struct entry *e = alloc_bytes(sizeof(*e) + key.n);
	*e = (struct entry){.route = route,
		.expires_ms = now_ms + (int64_t)route->ttl_s * 1000,
		.bytes = sizeof(*e) + key.n + route->bytes};
	if (key.n != 0) {
		memcpy(e->key, key.p, key.n);
	}
	hash_table_insert(&c->entries, &e->by_key, slice_make(e->key, key.n));
	list_append(&c->recent, &e->recent);
	c->bytes += e->bytes;
	while (c->bytes > c->bytes_max && (oldest = list_first(&c->recent)) != &e->recent) {
		entry_drop(c, CONTAINER_OF(oldest, struct entry, recent));
	}
	return route;
}
