/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "smtpd/tx.h"

#define POOL_MOST ((size_t)256)
#define RCPTS_FIRST ((size_t)4)
/* As many recipients are found by looking at all. */
#define UNINDEXED ((size_t)16)
/* Address, original recipient, array (twice, when it grows) and index of one recipient. */
#define RCPT_BYTES (LIMIT_ADDRESS + LIMIT_ORCPT + 3 * sizeof(struct store_rcpt) + 64)

struct tx *tx_new(struct tx_pool *pool, uint32_t rcpt_limit)
{
	size_t max = (size_t)65536 + (size_t)rcpt_limit * RCPT_BYTES;
	struct tx *tx = pool->free;
	struct arena arena;

	if (tx == NULL) {
		tx = alloc_bytes(sizeof(*tx));
		arena_init(&arena, max);
	} else {
		pool->free = tx->next_free;
		pool->count--;
		arena = tx->arena;
		arena.max = max;
	}
	*tx = (struct tx){.arena = arena};
	return tx;
}

void tx_free(struct tx_pool *pool, struct tx **tx)
{
	struct tx *it = *tx;

	*tx = NULL;
	if (it == NULL) {
		return;
	}
	assert(!store_has_ticket(&it->ticket));
	if (pool->count == POOL_MOST) {
		arena_clear(&it->arena);
		free(it);
		return;
	}
	arena_reset(&it->arena);
	it->next_free = pool->free;
	pool->free = it;
	pool->count++;
}

void tx_pool_clear(struct tx_pool *pool)
{
	while (pool->free != NULL) {
		struct tx *next = pool->free->next_free;
		arena_clear(&pool->free->arena);
		free(pool->free);
		pool->free = next;
	}
	pool->count = 0;
}

static uint64_t rcpt_hash(const struct address *a)
{
	return hash_bytes(a->local) ^ (hash_bytes_nocase(a->domain) * 3);
}

static bool is_same(const struct store_rcpt *r, uint64_t hash, const struct address *a)
{
	return r->hash == hash && r->address.n == a->text.n &&
	       slice_eq(slice_head(r->address, a->local.n), a->local) &&
	       slice_eq_nocase(slice_skip(r->address, a->local.n),
		       slice_skip(a->text, a->local.n));
}

static void index_put(struct tx *tx, size_t at)
{
	size_t i = (size_t)tx->rcpts[at].hash & (tx->index_size - 1);

	while (tx->index[i] != 0) {
		i = (i + 1) & (tx->index_size - 1);
	}
	tx->index[i] = (uint32_t)at + 1;
}

/* Room for one more in the index, which is at most half full. */
static bool index_grow(struct tx *tx)
{
	size_t size = tx->index_size == 0 ? 8 * UNINDEXED : tx->index_size * 2;

	if (tx->rcpt_count < UNINDEXED || (tx->rcpt_count + 1) * 2 <= tx->index_size) {
		return true;
	}
	uint32_t *index = arena_alloc(&tx->arena, size * sizeof(*index));
	if (index == NULL) {
		return false;
	}
	tx->index = index;
	tx->index_size = size;
	for (size_t i = 0; i < tx->rcpt_count; i++) {
		index_put(tx, i);
	}
	return true;
}

static bool rcpts_grow(struct tx *tx)
{
	size_t room = tx->rcpt_room == 0 ? RCPTS_FIRST : tx->rcpt_room * 2;

	if (tx->rcpt_count < tx->rcpt_room) {
		return true;
	}
	struct store_rcpt *rcpts = arena_alloc(&tx->arena, room * sizeof(*rcpts));
	if (rcpts == NULL) {
		return false;
	}
	for (size_t i = 0; i < tx->rcpt_count; i++) {
		rcpts[i] = tx->rcpts[i];
	}
	tx->rcpts = rcpts;
	tx->rcpt_room = room;
	return true;
}

static bool has_rcpt(const struct tx *tx, uint64_t hash, const struct address *a)
{
	if (tx->index_size == 0) {
		size_t i = 0;
		while (i < tx->rcpt_count && !is_same(&tx->rcpts[i], hash, a)) {
			i++;
		}
		return i < tx->rcpt_count;
	}
	size_t i = (size_t)hash & (tx->index_size - 1);
	while (tx->index[i] != 0 && !is_same(&tx->rcpts[tx->index[i] - 1], hash, a)) {
		i = (i + 1) & (tx->index_size - 1);
	}
	return tx->index[i] != 0;
}

bool tx_has_rcpt(const struct tx *tx, const struct address *a)
{
	return tx->rcpt_count != 0 && has_rcpt(tx, rcpt_hash(a), a);
}

enum err tx_add_rcpt(struct tx *tx, const struct address *a, struct slice orcpt, uint8_t notify)
{
	struct store_rcpt r = {.orcpt = orcpt, .hash = rcpt_hash(a), .notify = notify};

	if (has_rcpt(tx, r.hash, a)) {
		return ERR_EXISTS;
	}
	if (!rcpts_grow(tx) || !index_grow(tx) ||
		!arena_copy(&tx->arena, a->text, &r.address)) {
		return ERR_TOOBIG;
	}
	tx->rcpts[tx->rcpt_count++] = r;
	if (tx->index_size != 0) {
		index_put(tx, tx->rcpt_count - 1);
	}
	return ERR_OK;
}
