/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf: a growable byte buffer with a ceiling.
 *
 * Whatever a peer sends is collected in a struct buf, and a buf is told at birth
 * the most it may ever hold. Reaching the ceiling is an ordinary outcome
 * (ERR_TOOBIG) that the caller answers. Running out of memory below it is not:
 * that ends the process, and the master starts another (alloc.h).
 *
 * The contents are bytes, not a C string. No terminator is kept or expected.
 * Consuming from the front is cheap: the bytes move only when room is needed.
 */
#ifndef COMMON_BASE_BUF_H
#define COMMON_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct buf {
	uint8_t *data;
	size_t start; /* first byte not yet consumed */
	size_t end;   /* behind the last byte */
	size_t cap;
	size_t max; /* most bytes between start and end */
};

/* Prepares an empty buffer that never holds more than max bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* Releases the contents; b is as buf_init() left it. Harmless when repeated. */
void buf_clear(struct buf *b);

/* Empties b and keeps its memory for reuse. */
void buf_reset(struct buf *b);

/* Empties b, and gives its memory back when it is larger than keep bytes. */
void buf_shrink(struct buf *b, size_t keep);

/* Appends all of s or nothing. ERR_TOOBIG when it does not fit under the ceiling. */
MUST_CHECK enum err buf_append(struct buf *b, struct slice s);
MUST_CHECK enum err buf_append_byte(struct buf *b, uint8_t c);
MUST_CHECK enum err buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);

/*
 * Makes room for n more bytes and returns where they go, or null when they would pass
 * the ceiling. buf_commit() then adds the first n of them to the contents.
 */
uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

/* Keeps the first n bytes; n is at most buf_len(b). */
void buf_truncate(struct buf *b, size_t n);

/* Drops the first n bytes; n is at most buf_len(b). */
void buf_consume(struct buf *b, size_t n);

/* Borrows the contents. The view ends with the next non-const call on b. */
static inline struct slice buf_view(const struct buf *b)
{
	return b->data == NULL ? SLICE_EMPTY
			       : slice_make(b->data + b->start, b->end - b->start);
}

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

#endif
