/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: values as bytes, for messages between programs and records on disk.
 *
 * Big-endian fixed widths; a string is a u32 length and its bytes. A writer or reader
 * keeps its first error and does nothing afterwards, so the error is asked for once,
 * at the end. Everything is inline: each message between programs is some twenty of these.
 */
#ifndef COMMON_BASE_WIRE_H
#define COMMON_BASE_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct wire_writer {
	struct buf *to;
	size_t start; /* length of *to at the beginning: where an error takes it back to */
	enum err err;
};

struct wire_reader {
	struct slice left;
	enum err err;
};

static inline struct wire_writer wire_begin(struct buf *to)
{
	return (struct wire_writer){.to = to, .start = buf_len(to), .err = ERR_OK};
}

/* Where n more bytes go, or null and an error; the caller commits them. */
static inline uint8_t *wire_room(struct wire_writer *w, size_t n)
{
	struct buf *b = w->to;

	if (w->err != ERR_OK) {
		return NULL;
	}
	if (n <= b->cap - b->end && n <= b->max - buf_len(b)) {
		return b->data + b->end;
	}
	uint8_t *p = buf_reserve(b, n);
	if (p == NULL) {
		w->err = ERR_TOOBIG;
	}
	return p;
}

static inline void wire_limit(struct wire_writer *w, bool fits)
{
	if (!fits && w->err == ERR_OK) {
		w->err = ERR_TOOBIG;
	}
}

/* A value above max, or a string longer than max, is ERR_TOOBIG. */
static inline void wire_put_u8(struct wire_writer *w, uint8_t v, uint8_t max)
{
	wire_limit(w, v <= max);
	uint8_t *p = wire_room(w, 1);
	if (p != NULL) {
		*p = v;
		w->to->end += 1;
	}
}

static inline void wire_put_u16(struct wire_writer *w, uint16_t v, uint16_t max)
{
	wire_limit(w, v <= max);
	uint8_t *p = wire_room(w, sizeof(v));
	if (p != NULL) {
		v = htobe16(v);
		memcpy(p, &v, sizeof(v));
		w->to->end += sizeof(v);
	}
}

static inline void wire_put_u32(struct wire_writer *w, uint32_t v, uint32_t max)
{
	wire_limit(w, v <= max);
	uint8_t *p = wire_room(w, sizeof(v));
	if (p != NULL) {
		v = htobe32(v);
		memcpy(p, &v, sizeof(v));
		w->to->end += sizeof(v);
	}
}

static inline void wire_put_u64(struct wire_writer *w, uint64_t v, uint64_t max)
{
	wire_limit(w, v <= max);
	uint8_t *p = wire_room(w, sizeof(v));
	if (p != NULL) {
		v = htobe64(v);
		memcpy(p, &v, sizeof(v));
		w->to->end += sizeof(v);
	}
}

static inline void wire_put_i64(struct wire_writer *w, int64_t v, int64_t max)
{
	wire_limit(w, v <= max);
	wire_put_u64(w, (uint64_t)v, UINT64_MAX);
}

static inline void wire_put_str(struct wire_writer *w, struct slice v, size_t max)
{
	wire_limit(w, v.n <= max && v.n <= UINT32_MAX);
	uint8_t *p = w->err == ERR_OK ? wire_room(w, v.n + 4) : NULL;
	if (p != NULL) {
		uint32_t n = htobe32((uint32_t)v.n);
		memcpy(p, &n, sizeof(n));
		if (v.n != 0) {
			memcpy(p + sizeof(n), v.p, v.n);
		}
		w->to->end += v.n + 4;
	}
}

/* On an error takes back all that was written since wire_begin(). */
MUST_CHECK static inline enum err wire_end(struct wire_writer *w)
{
	if (w->err != ERR_OK) {
		buf_truncate(w->to, w->start);
	}
	return w->err;
}

/* Takes n bytes off the front, or null and an error. */
static inline const uint8_t *wire_take(struct wire_reader *r, size_t n)
{
	const uint8_t *p = r->left.p;

	if (r->err != ERR_OK || n > r->left.n) {
		r->err = ERR_PROTO;
		return NULL;
	}
	if (n != 0) {
		r->left = (struct slice){p + n, r->left.n - n};
	}
	return p;
}

/* A value above max, a string longer than max and a truncated value are ERR_PROTO. */
static inline uint8_t wire_get_u8(struct wire_reader *r, uint8_t max)
{
	const uint8_t *p = wire_take(r, 1);

	if (p == NULL || *p > max) {
		r->err = ERR_PROTO;
		return 0;
	}
	return *p;
}

static inline uint16_t wire_get_u16(struct wire_reader *r, uint16_t max)
{
	uint16_t v = 0;
	const uint8_t *p = wire_take(r, sizeof(v));

	if (p != NULL) {
		memcpy(&v, p, sizeof(v));
		v = be16toh(v);
	}
	if (v > max) {
		r->err = ERR_PROTO;
		v = 0;
	}
	return v;
}

static inline uint32_t wire_get_u32(struct wire_reader *r, uint32_t max)
{
	uint32_t v = 0;
	const uint8_t *p = wire_take(r, sizeof(v));

	if (p != NULL) {
		memcpy(&v, p, sizeof(v));
		v = be32toh(v);
	}
	if (v > max) {
		r->err = ERR_PROTO;
		v = 0;
	}
	return v;
}

static inline uint64_t wire_get_u64(struct wire_reader *r, uint64_t max)
{
	uint64_t v = 0;
	const uint8_t *p = wire_take(r, sizeof(v));

	if (p != NULL) {
		memcpy(&v, p, sizeof(v));
		v = be64toh(v);
	}
	if (v > max) {
		r->err = ERR_PROTO;
		v = 0;
	}
	return v;
}

static inline int64_t wire_get_i64(struct wire_reader *r, int64_t max)
{
	int64_t v = (int64_t)wire_get_u64(r, UINT64_MAX);

	if (v > max) {
		r->err = ERR_PROTO;
		v = 0;
	}
	return v;
}

/* Borrowed from the bytes that are read. */
static inline struct slice wire_get_str(struct wire_reader *r, size_t max)
{
	size_t n = wire_get_u32(r, UINT32_MAX);

	if (r->err != ERR_OK || n > max) {
		r->err = ERR_PROTO;
		return SLICE_EMPTY;
	}
	const uint8_t *p = wire_take(r, n);
	return r->err == ERR_OK ? slice_make(p, n) : SLICE_EMPTY;
}

/* Also ERR_PROTO when bytes are left over. */
MUST_CHECK static inline enum err wire_finish(const struct wire_reader *r)
{
	if (r->err != ERR_OK) {
		return r->err;
	}
	return r->left.n == 0 ? ERR_OK : ERR_PROTO;
}

#endif
