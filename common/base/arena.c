/* SPDX-License-Identifier: Apache-2.0 */
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/arena.h"

/* Small transactions fit into the first block; large ones soon ask for few large blocks. */
#define BLOCK_FIRST ((size_t)1000)
#define BLOCK_LARGEST ((size_t)65536)

struct arena_block {
	struct arena_block *next;
	size_t used;
	size_t cap;
	alignas(max_align_t) uint8_t bytes[];
};

void arena_init(struct arena *a, size_t max)
{
	*a = (struct arena){.blocks = NULL, .used = 0, .max = max};
}

static void blocks_free(struct arena_block *b)
{
	while (b != NULL) {
		struct arena_block *next = b->next;
		free(b);
		b = next;
	}
}

void arena_clear(struct arena *a)
{
	blocks_free(a->blocks);
	arena_init(a, a->max);
}

void arena_reset(struct arena *a)
{
	struct arena_block *keep = a->blocks;

	if (keep == NULL) {
		a->used = 0;
		return;
	}
	blocks_free(keep->next);
	keep->next = NULL;
	keep->used = 0;
	a->used = 0;
	if (keep->cap > BLOCK_LARGEST) {
		free(keep);
		a->blocks = NULL;
	}
}

/* The newest block is the only one that is filled: what older ones have left is small. */
static void block_add(struct arena *a, size_t n)
{
	size_t cap = a->blocks == NULL ? BLOCK_FIRST : a->blocks->cap * 2;

	if (cap > BLOCK_LARGEST) {
		cap = BLOCK_LARGEST;
	}
	if (cap < n) {
		cap = n;
	}
	struct arena_block *b = alloc_resize(NULL, 1, sizeof(*b) + cap);
	b->next = a->blocks;
	b->used = 0;
	b->cap = cap;
	a->blocks = b;
}

static uint8_t *take(struct arena *a, size_t n, size_t align)
{
	if (n > a->max - a->used) {
		return NULL;
	}
	struct arena_block *b = a->blocks;
	size_t at = b == NULL ? 0 : (b->used + align - 1) / align * align;
	if (b == NULL || at > b->cap || n > b->cap - at) {
		block_add(a, n);
		b = a->blocks;
		at = 0;
	}
	b->used = at + n;
	a->used += n;
	return b->bytes + at;
}

void *arena_alloc(struct arena *a, size_t n)
{
	uint8_t *p = take(a, n, alignof(max_align_t));

	if (p != NULL) {
		memset(p, 0, n);
	}
	return p;
}

bool arena_copy(struct arena *a, struct slice s, struct slice *out)
{
	uint8_t *p = take(a, s.n, 1);

	if (p == NULL) {
		return false;
	}
	if (s.n != 0) {
		memcpy(p, s.p, s.n);
	}
	*out = slice_make(p, s.n);
	return true;
}

char *arena_cstr(struct arena *a, struct slice s)
{
	if (s.n == SIZE_MAX || slice_find(s, 0) != s.n) {
		return NULL;
	}
	uint8_t *p = take(a, s.n + 1, 1);
	if (p == NULL) {
		return NULL;
	}
	if (s.n != 0) {
		memcpy(p, s.p, s.n);
	}
	p[s.n] = 0;
	return (char *)p;
}
