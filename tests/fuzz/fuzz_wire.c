/* SPDX-License-Identifier: Apache-2.0 */
/* The input says what to read from itself; what was read is written again and must be the same.
 */
#include <assert.h>

#include "common/base/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void copy_one(uint8_t kind, struct wire_reader *r, struct wire_writer *w)
{
	switch (kind % 6) {
	case 0:
		wire_put_u8(w, wire_get_u8(r, 200), 200);
		break;
	case 1:
		wire_put_u16(w, wire_get_u16(r, 50000), 50000);
		break;
	case 2:
		wire_put_u32(w, wire_get_u32(r, UINT32_MAX), UINT32_MAX);
		break;
	case 3:
		wire_put_u64(w, wire_get_u64(r, UINT64_MAX), UINT64_MAX);
		break;
	case 4:
		wire_put_i64(w, wire_get_i64(r, 1), 1);
		break;
	default:
		wire_put_str(w, wire_get_str(r, 1000), 1000);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf b;

	if (n < 1 || p[0] > n - 1) {
		return 0;
	}
	struct slice kinds = slice_make(p + 1, p[0]);
	struct slice body = slice_skip(slice_make(p, n), 1 + kinds.n);
	struct wire_reader r = {.left = body};
	buf_init(&b, n + 8);
	struct wire_writer w = wire_begin(&b);
	for (size_t i = 0; i < kinds.n && r.err == ERR_OK; i++) {
		copy_one(kinds.p[i], &r, &w);
	}
	if (wire_finish(&r) == ERR_OK) {
		assert(wire_end(&w) == ERR_OK && slice_eq(buf_view(&b), body));
	}
	buf_clear(&b);
	return 0;
}
