/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash: a keyed hash of bytes, and a table from bytes to pointers.
 *
 * The key is drawn at random once per process, so that a stranger who chooses the
 * names cannot choose the collisions.
 */
#ifndef COMMON_BASE_HASH_H
#define COMMON_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

uint64_t hash_bytes(struct slice s);
/* The same with ASCII letters folded to lower case. */
uint64_t hash_bytes_nocase(struct slice s);
/* Unkeyed (FNV-1a, 64 bit, folded to lower case): the same in every process. */
uint64_t hash_stable_nocase(struct slice s);

/*
 * A table of entries owned by the caller. An entry embeds a struct hash_link as its
 * member; the table never allocates or frees entries. The key must stay unchanged and
 * alive while the entry is linked.
 */
struct hash_link {
	struct hash_link *next;
	uint64_t hash;
	struct slice key;
};

struct hash_table {
	struct hash_link **buckets;
	size_t size; /* buckets, a power of two, or 0 */
	size_t count;
};

void hash_table_init(struct hash_table *t);
void hash_table_clear(struct hash_table *t); /* forgets the entries, frees the buckets */
struct hash_link *hash_table_find(const struct hash_table *t, struct slice key);
/* The key must not be in the table yet. */
void hash_table_insert(struct hash_table *t, struct hash_link *link, struct slice key);
void hash_table_remove(struct hash_table *t, struct hash_link *link);
/* Start with null; returns each link once, null at the end. The returned link may be removed.
 */
struct hash_link *hash_table_next(const struct hash_table *t, const struct hash_link *after);

/* Keys that are numbers: an entry embeds this the same way. */
struct hash_id_link {
	struct hash_id_link *next;
	uint64_t id;
};

struct hash_id_table {
	struct hash_id_link **buckets;
	size_t size;
	size_t count;
};

void hash_id_table_init(struct hash_id_table *t);
void hash_id_table_clear(struct hash_id_table *t);
struct hash_id_link *hash_id_table_find(const struct hash_id_table *t, uint64_t id);
void hash_id_table_insert(struct hash_id_table *t, struct hash_id_link *link, uint64_t id);
void hash_id_table_remove(struct hash_id_table *t, struct hash_id_link *link);
struct hash_id_link *hash_id_table_next(const struct hash_id_table *t,
	const struct hash_id_link *after);

#endif
