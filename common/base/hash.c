/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"

#define BUCKETS_FIRST ((size_t)16)

/* SipHash with one round per word and three at the end (Aumasson, Bernstein 2012). */
struct sip {
	uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t v, unsigned by)
{
	return (v << by) | (v >> (64 - by));
}

static inline void sip_round(struct sip *s)
{
	s->a += s->b;
	s->b = rotate(s->b, 13) ^ s->a;
	s->a = rotate(s->a, 32);
	s->c += s->d;
	s->d = rotate(s->d, 16) ^ s->c;
	s->a += s->d;
	s->d = rotate(s->d, 21) ^ s->a;
	s->c += s->b;
	s->b = rotate(s->b, 17) ^ s->c;
	s->c = rotate(s->c, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
	s->d ^= word;
	sip_round(s);
	s->a ^= word;
}

/* Sets bit 5 of every byte that is an ASCII capital; the other bytes stay. */
static inline uint64_t fold(uint64_t word)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t low = word & (ones * 0x7f);
	uint64_t from_a = low + ones * (0x80 - 'A');
	uint64_t above_z = low + ones * (0x7f - 'Z');
	uint64_t capital = from_a & ~above_z & ~word & (ones * 0x80);

	return word | (capital >> 2);
}

static uint64_t sip_hash(const uint64_t key[2], struct slice s, bool nocase)
{
	struct sip state = {
		.a = key[0] ^ UINT64_C(0x736f6d6570736575),
		.b = key[1] ^ UINT64_C(0x646f72616e646f6d),
		.c = key[0] ^ UINT64_C(0x6c7967656e657261),
		.d = key[1] ^ UINT64_C(0x7465646279746573),
	};
	uint64_t last = (uint64_t)s.n << 56;
	size_t i = 0;

	for (; s.n - i >= 8; i += 8) {
		uint64_t word;
		memcpy(&word, s.p + i, sizeof(word));
		sip_word(&state, nocase ? fold(word) : word);
	}
	for (unsigned shift = 0; i < s.n; i++, shift += 8) {
		last |= (uint64_t)(nocase ? ascii_lower(s.p[i]) : s.p[i]) << shift;
	}
	sip_word(&state, last);
	state.c ^= 0xff;
	for (int i_round = 0; i_round < 3; i_round++) {
		sip_round(&state);
	}
	return state.a ^ state.b ^ state.c ^ state.d;
}

/*
 * The kernel hands every program 16 random bytes when it starts: no system call, so this
 * works in any sandbox. They also seed the stack protector; hashing them first keeps that
 * from being told by a table's order.
 */
static const uint64_t *process_key(void)
{
	static uint64_t key[2];
	static bool is_drawn;

	if (!is_drawn) {
		uint64_t seed[2] = {0, 0};
		/* An address as a number is how the kernel hands it over.
		 * NOLINTNEXTLINE(performance-no-int-to-ptr) */
		const void *random = (const void *)getauxval(AT_RANDOM);
		assert(random != NULL);
		memcpy(seed, random, sizeof(seed));
		key[0] = sip_hash(seed, SLICE("table key, first half"), false);
		key[1] = sip_hash(seed, SLICE("table key, second half"), false);
		is_drawn = true;
	}
	return key;
}

uint64_t hash_bytes(struct slice s)
{
	return sip_hash(process_key(), s, false);
}

uint64_t hash_bytes_nocase(struct slice s)
{
	return sip_hash(process_key(), s, true);
}

uint64_t hash_stable_nocase(struct slice s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.n; i++) {
		h = (h ^ ascii_lower(s.p[i])) * UINT64_C(0x100000001b3);
	}
	return h;
}

void hash_table_init(struct hash_table *t)
{
	*t = (struct hash_table){.buckets = NULL};
}

void hash_table_clear(struct hash_table *t)
{
	free(t->buckets);
	hash_table_init(t);
}

struct hash_link *hash_table_find(const struct hash_table *t, struct slice key)
{
	if (t->count == 0) {
		return NULL;
	}
	uint64_t h = hash_bytes(key);
	struct hash_link *l = t->buckets[h & (t->size - 1)];
	while (l != NULL && (l->hash != h || !slice_eq(l->key, key))) {
		l = l->next;
	}
	return l;
}

static void table_grow(struct hash_table *t)
{
	size_t size = t->size == 0 ? BUCKETS_FIRST : t->size * 2;
	struct hash_link **buckets = alloc_zero(size, sizeof(struct hash_link *));

	for (size_t i = 0; i < t->size; i++) {
		for (struct hash_link *l = t->buckets[i], *next; l != NULL; l = next) {
			struct hash_link **to = &buckets[l->hash & (size - 1)];
			next = l->next;
			l->next = *to;
			*to = l;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->size = size;
}

void hash_table_insert(struct hash_table *t, struct hash_link *link, struct slice key)
{
	if (t->count == t->size) {
		table_grow(t);
	}
	link->key = key;
	link->hash = hash_bytes(key);
	struct hash_link **to = &t->buckets[link->hash & (t->size - 1)];
	link->next = *to;
	*to = link;
	t->count++;
}

/* Leaves link->next as it was: an iteration that stands on link goes on from it. */
void hash_table_remove(struct hash_table *t, struct hash_link *link)
{
	assert(t->size != 0);
	struct hash_link **at = &t->buckets[link->hash & (t->size - 1)];
	while (*at != link) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = link->next;
	t->count--;
}

struct hash_link *hash_table_next(const struct hash_table *t, const struct hash_link *after)
{
	size_t i = 0;

	if (after != NULL) {
		if (after->next != NULL) {
			return after->next;
		}
		i = (after->hash & (t->size - 1)) + 1;
	}
	while (i < t->size && t->buckets[i] == NULL) {
		i++;
	}
	return i < t->size ? t->buckets[i] : NULL;
}

void hash_id_table_init(struct hash_id_table *t)
{
	*t = (struct hash_id_table){.buckets = NULL};
}

void hash_id_table_clear(struct hash_id_table *t)
{
	free(t->buckets);
	hash_id_table_init(t);
}

/* Ids are drawn by our own programs, so spreading them is enough. */
static size_t id_bucket(size_t size, uint64_t id)
{
	id ^= process_key()[0];
	id = (id ^ (id >> 32)) * UINT64_C(0xd6e8feb86659fd93);
	id = (id ^ (id >> 32)) * UINT64_C(0xd6e8feb86659fd93);
	return (size_t)(id ^ (id >> 32)) & (size - 1);
}

struct hash_id_link *hash_id_table_find(const struct hash_id_table *t, uint64_t id)
{
	if (t->count == 0) {
		return NULL;
	}
	struct hash_id_link *l = t->buckets[id_bucket(t->size, id)];
	while (l != NULL && l->id != id) {
		l = l->next;
	}
	return l;
}

static void id_table_grow(struct hash_id_table *t)
{
	size_t size = t->size == 0 ? BUCKETS_FIRST : t->size * 2;
	struct hash_id_link **buckets = alloc_zero(size, sizeof(struct hash_id_link *));

	for (size_t i = 0; i < t->size; i++) {
		for (struct hash_id_link *l = t->buckets[i], *next; l != NULL; l = next) {
			struct hash_id_link **to = &buckets[id_bucket(size, l->id)];
			next = l->next;
			l->next = *to;
			*to = l;
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->size = size;
}

void hash_id_table_insert(struct hash_id_table *t, struct hash_id_link *link, uint64_t id)
{
	if (t->count == t->size) {
		id_table_grow(t);
	}
	link->id = id;
	struct hash_id_link **to = &t->buckets[id_bucket(t->size, id)];
	link->next = *to;
	*to = link;
	t->count++;
}

void hash_id_table_remove(struct hash_id_table *t, struct hash_id_link *link)
{
	assert(t->size != 0);
	struct hash_id_link **at = &t->buckets[id_bucket(t->size, link->id)];
	while (*at != link) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = link->next;
	t->count--;
}

struct hash_id_link *hash_id_table_next(const struct hash_id_table *t,
	const struct hash_id_link *after)
{
	size_t i = 0;

	if (after != NULL) {
		if (after->next != NULL) {
			return after->next;
		}
		i = id_bucket(t->size, after->id) + 1;
	}
	while (i < t->size && t->buckets[i] == NULL) {
		i++;
	}
	return i < t->size ? t->buckets[i] : NULL;
}
