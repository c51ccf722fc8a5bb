/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/buf.h"

#define SMALLEST ((size_t)256)

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.data = NULL, .max = max};
}

void buf_clear(struct buf *b)
{
	free(b->data);
	buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
	b->start = 0;
	b->end = 0;
}

void buf_shrink(struct buf *b, size_t keep)
{
	buf_reset(b);
	if (b->cap > keep) {
		buf_clear(b);
	}
}

/*
 * Room for n more bytes behind end; the ceiling has been checked. The bytes move to the
 * front only when at least half as many were consumed, so a queue of bytes costs constant
 * work per byte. A capacity of one and a half times the ceiling is always enough for that.
 */
static void make_room(struct buf *b, size_t n)
{
	size_t len = buf_len(b);

	if (b->data != NULL && b->start >= len / 2 && b->cap - len >= n) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
		return;
	}
	size_t most = b->max > SIZE_MAX / 2 ? b->max : b->max + b->max / 2;
	size_t cap = len + n > most / 2 ? most : (len + n) * 2;
	if (cap < SMALLEST && SMALLEST <= most) {
		cap = SMALLEST;
	}
	if (b->data == NULL || b->start == 0) {
		b->data = alloc_resize(b->data, cap, 1);
	} else {
		uint8_t *data = alloc_bytes(cap);
		memcpy(data, b->data + b->start, len);
		free(b->data);
		b->data = data;
	}
	b->start = 0;
	b->end = len;
	b->cap = cap;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	if (n > b->max - buf_len(b)) {
		return NULL;
	}
	if (b->data == NULL || n > b->cap - b->end) {
		make_room(b, n);
	}
	return b->data + b->end;
}

void buf_commit(struct buf *b, size_t n)
{
	assert(n <= b->cap - b->end);
	b->end += n;
}

enum err buf_append(struct buf *b, struct slice s)
{
	uint8_t *to = buf_reserve(b, s.n);

	if (to == NULL) {
		return ERR_TOOBIG;
	}
	if (s.n != 0) {
		memcpy(to, s.p, s.n);
		b->end += s.n;
	}
	return ERR_OK;
}

enum err buf_append_byte(struct buf *b, uint8_t c)
{
	uint8_t *to = buf_reserve(b, 1);

	if (to == NULL) {
		return ERR_TOOBIG;
	}
	*to = c;
	b->end++;
	return ERR_OK;
}

enum err buf_printf(struct buf *b, const char *format, ...)
{
	char small[512];
	va_list args;
	enum err e = ERR_OK;

	va_start(args, format);
	int n = vsnprintf(small, sizeof(small), format, args);
	va_end(args);
	if (n < 0) {
		return ERR_SYS;
	}
	if ((size_t)n < sizeof(small)) {
		return buf_append(b, slice_make(small, (size_t)n));
	}
	if ((size_t)n > b->max - buf_len(b)) {
		return ERR_TOOBIG;
	}
	char *large = alloc_bytes((size_t)n + 1);
	va_start(args, format);
	int m = vsnprintf(large, (size_t)n + 1, format, args);
	va_end(args);
	e = m == n ? buf_append(b, slice_make(large, (size_t)n)) : ERR_SYS;
	free(large);
	return e;
}

void buf_truncate(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->end = b->start + n;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->start += n;
	if (b->start == b->end) {
		buf_reset(b);
	}
}
