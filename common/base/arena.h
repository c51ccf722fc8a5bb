/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: memory that dies together.
 *
 * A transaction, a delivery job, a decoded message: all that it holds comes from one
 * arena and ends with one call. Nothing in an arena is released by itself.
 */
#ifndef COMMON_BASE_ARENA_H
#define COMMON_BASE_ARENA_H

#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/slice.h"

struct arena_block;

struct arena {
	struct arena_block *blocks;
	size_t used; /* bytes handed out */
	size_t max;  /* most bytes handed out before arena_alloc() answers null */
};

/* Allocates nothing yet. */
void arena_init(struct arena *a, size_t max);
/* Releases everything; a is as arena_init() left it. */
void arena_clear(struct arena *a);
/* Forgets everything but keeps one block of memory for reuse. */
void arena_reset(struct arena *a);

/* n cleared bytes aligned for any object; null when the maximum would be passed. */
void *arena_alloc(struct arena *a, size_t n);
/* A copy of s; false when the maximum would be passed. */
MUST_CHECK bool arena_copy(struct arena *a, struct slice s, struct slice *out);
/* A terminated copy of s; null when s holds NUL or the maximum would be passed. */
char *arena_cstr(struct arena *a, struct slice s);

#endif
