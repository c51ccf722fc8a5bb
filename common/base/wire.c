/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/wire.h"

struct wire_writer wire_begin(struct buf *to)
{
	return (struct wire_writer){.to = to, .start = buf_len(to), .err = ERR_OK};
}

/* The low n bytes of v, highest first. */
static void put(struct wire_writer *w, uint64_t v, size_t n)
{
	uint8_t *to = w->err == ERR_OK ? buf_reserve(w->to, n) : NULL;

	if (to == NULL) {
		w->err = w->err == ERR_OK ? ERR_TOOBIG : w->err;
		return;
	}
	for (size_t i = n; i-- > 0; v >>= 8) {
		to[i] = (uint8_t)v;
	}
	buf_commit(w->to, n);
}

static void put_bounded(struct wire_writer *w, uint64_t v, uint64_t max, size_t n)
{
	if (v > max && w->err == ERR_OK) {
		w->err = ERR_TOOBIG;
	}
	put(w, v, n);
}

void wire_put_u8(struct wire_writer *w, uint8_t v, uint8_t max)
{
	put_bounded(w, v, max, 1);
}

void wire_put_u16(struct wire_writer *w, uint16_t v, uint16_t max)
{
	put_bounded(w, v, max, 2);
}

void wire_put_u32(struct wire_writer *w, uint32_t v, uint32_t max)
{
	put_bounded(w, v, max, 4);
}

void wire_put_u64(struct wire_writer *w, uint64_t v, uint64_t max)
{
	put_bounded(w, v, max, 8);
}

void wire_put_i64(struct wire_writer *w, int64_t v, int64_t max)
{
	if (v > max && w->err == ERR_OK) {
		w->err = ERR_TOOBIG;
	}
	put(w, (uint64_t)v, 8);
}

void wire_put_str(struct wire_writer *w, struct slice v, size_t max)
{
	if ((v.n > max || v.n > UINT32_MAX) && w->err == ERR_OK) {
		w->err = ERR_TOOBIG;
	}
	put(w, v.n, 4);
	if (w->err == ERR_OK) {
		w->err = buf_append(w->to, v);
	}
}

enum err wire_end(struct wire_writer *w)
{
	if (w->err != ERR_OK) {
		buf_truncate(w->to, w->start);
	}
	return w->err;
}

static uint64_t get(struct wire_reader *r, size_t n)
{
	uint64_t v = 0;

	if (r->err != ERR_OK || n > r->left.n) {
		r->err = r->err == ERR_OK ? ERR_PROTO : r->err;
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		v = v << 8 | r->left.p[i];
	}
	r->left = slice_skip(r->left, n);
	return v;
}

static uint64_t get_bounded(struct wire_reader *r, uint64_t max, size_t n)
{
	uint64_t v = get(r, n);

	if (v > max) {
		r->err = ERR_PROTO;
		return 0;
	}
	return v;
}

uint8_t wire_get_u8(struct wire_reader *r, uint8_t max)
{
	return (uint8_t)get_bounded(r, max, 1);
}

uint16_t wire_get_u16(struct wire_reader *r, uint16_t max)
{
	return (uint16_t)get_bounded(r, max, 2);
}

uint32_t wire_get_u32(struct wire_reader *r, uint32_t max)
{
	return (uint32_t)get_bounded(r, max, 4);
}

uint64_t wire_get_u64(struct wire_reader *r, uint64_t max)
{
	return get_bounded(r, max, 8);
}

int64_t wire_get_i64(struct wire_reader *r, int64_t max)
{
	int64_t v = (int64_t)get(r, 8);

	if (r->err == ERR_OK && v > max) {
		r->err = ERR_PROTO;
	}
	return r->err == ERR_OK ? v : 0;
}

struct slice wire_get_str(struct wire_reader *r, size_t max)
{
	size_t n = (size_t)get(r, 4);

	if (r->err == ERR_OK && (n > max || n > r->left.n)) {
		r->err = ERR_PROTO;
	}
	if (r->err != ERR_OK) {
		return SLICE_EMPTY;
	}
	struct slice s = slice_head(r->left, n);
	r->left = slice_skip(r->left, n);
	return s;
}

enum err wire_finish(const struct wire_reader *r)
{
	if (r->err != ERR_OK) {
		return r->err;
	}
	return r->left.n == 0 ? ERR_OK : ERR_PROTO;
}
