/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire: values as bytes, for messages between programs and records on disk.
 *
 * Big-endian fixed widths; a string is a u32 length and its bytes. A writer or reader
 * keeps its first error and does nothing afterwards, so the error is asked for once,
 * at the end.
 */
#ifndef COMMON_BASE_WIRE_H
#define COMMON_BASE_WIRE_H

#include <stdint.h>

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

struct wire_writer wire_begin(struct buf *to);
/* A value above max, or a string longer than max, is ERR_TOOBIG. */
void wire_put_u8(struct wire_writer *w, uint8_t v, uint8_t max);
void wire_put_u16(struct wire_writer *w, uint16_t v, uint16_t max);
void wire_put_u32(struct wire_writer *w, uint32_t v, uint32_t max);
void wire_put_u64(struct wire_writer *w, uint64_t v, uint64_t max);
void wire_put_i64(struct wire_writer *w, int64_t v, int64_t max);
void wire_put_str(struct wire_writer *w, struct slice v, size_t max);
/* On an error takes back all that was written since wire_begin(). */
MUST_CHECK enum err wire_end(struct wire_writer *w);

/* A value above max, a string longer than max and a truncated value are ERR_PROTO. */
uint8_t wire_get_u8(struct wire_reader *r, uint8_t max);
uint16_t wire_get_u16(struct wire_reader *r, uint16_t max);
uint32_t wire_get_u32(struct wire_reader *r, uint32_t max);
uint64_t wire_get_u64(struct wire_reader *r, uint64_t max);
int64_t wire_get_i64(struct wire_reader *r, int64_t max);
/* Borrowed from the bytes that are read. */
struct slice wire_get_str(struct wire_reader *r, size_t max);
/* Also ERR_PROTO when bytes are left over. */
MUST_CHECK enum err wire_finish(const struct wire_reader *r);

#endif
