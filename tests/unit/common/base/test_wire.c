/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/wire.h"

static enum err put_sample(struct buf *to)
{
	struct wire_writer w = wire_begin(to);

	wire_put_u8(&w, 0x01, UINT8_MAX);
	wire_put_u16(&w, 0x0203, UINT16_MAX);
	wire_put_u32(&w, 0x04050607, UINT32_MAX);
	wire_put_u64(&w, UINT64_C(0x08090a0b0c0d0e0f), UINT64_MAX);
	wire_put_i64(&w, -2, INT64_MAX);
	wire_put_str(&w, SLICE("a\0b"), 3);
	wire_put_str(&w, SLICE_EMPTY, 0);
	return wire_end(&w);
}

static enum err get_sample(struct slice from)
{
	struct wire_reader r = {.left = from};

	bool is_same = wire_get_u8(&r, UINT8_MAX) == 0x01;
	is_same = wire_get_u16(&r, UINT16_MAX) == 0x0203 && is_same;
	is_same = wire_get_u32(&r, UINT32_MAX) == 0x04050607 && is_same;
	is_same = wire_get_u64(&r, UINT64_MAX) == UINT64_C(0x08090a0b0c0d0e0f) && is_same;
	is_same = wire_get_i64(&r, INT64_MAX) == -2 && is_same;
	is_same = slice_eq(wire_get_str(&r, 3), SLICE("a\0b")) && is_same;
	is_same = slice_eq(wire_get_str(&r, 0), SLICE_EMPTY) && is_same;
	enum err e = wire_finish(&r);
	assert_true(is_same || e != ERR_OK);
	return e;
}

static void writes_big_endian_and_reads_it_back(void **state)
{
	static const uint8_t want[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 3, 'a', 0, 'b', 0, 0, 0, 0};
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(put_sample(&b), ERR_OK);
	assert_true(slice_eq(buf_view(&b), slice_make(want, sizeof(want))));
	assert_int_equal(get_sample(buf_view(&b)), ERR_OK);
	buf_clear(&b);
}

static void refuses_every_truncation_and_every_surplus(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(put_sample(&b), ERR_OK);
	for (size_t n = 0; n < buf_len(&b); n++) {
		assert_int_equal(get_sample(slice_head(buf_view(&b), n)), ERR_PROTO);
	}
	assert_int_equal(buf_append_byte(&b, 0), ERR_OK);
	assert_int_equal(get_sample(buf_view(&b)), ERR_PROTO);
	buf_clear(&b);
}

static void takes_back_what_does_not_fit(void **state)
{
	struct buf b;

	(void)state;
	for (size_t max = 0; max < 34; max++) {
		buf_init(&b, max + 3);
		assert_int_equal(buf_append(&b, SLICE("old")), ERR_OK);
		assert_int_equal(put_sample(&b), ERR_TOOBIG);
		assert_true(slice_eq(buf_view(&b), SLICE("old")));
		buf_clear(&b);
	}
}

static void writes_nothing_above_its_maximum(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	for (int i = 0; i < 6; i++) {
		struct wire_writer w = wire_begin(&b);
		wire_put_u8(&w, 1, 1);
		wire_put_u8(&w, 5, i == 0 ? 4 : 5);
		wire_put_u16(&w, 500, i == 1 ? 499 : 500);
		wire_put_u32(&w, 5, i == 2 ? 4 : 5);
		wire_put_u64(&w, 5, i == 3 ? 4 : 5);
		wire_put_i64(&w, 5, i == 4 ? 4 : 5);
		wire_put_str(&w, SLICE("abc"), i == 5 ? 2 : 3);
		wire_put_u8(&w, 1, 1);
		assert_int_equal(wire_end(&w), ERR_TOOBIG);
		assert_int_equal(buf_len(&b), 0);
	}
	buf_clear(&b);
}

static void reads_nothing_above_its_maximum(void **state)
{
	static const uint8_t ff[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t seven[8] = {0, 0, 0, 0, 0, 0, 0, 7};
	struct slice all = slice_make(ff, 8);
	struct wire_reader r = {.left = all};

	(void)state;
	assert_int_equal(wire_get_u8(&r, 254), 0);
	assert_int_equal(wire_finish(&r), ERR_PROTO);
	/* after an error: zeros and empty strings, and still the error */
	assert_int_equal(wire_get_u8(&r, 255), 0);
	assert_int_equal(wire_get_u64(&r, UINT64_MAX), 0);
	assert_int_equal(wire_get_i64(&r, INT64_MAX), 0);
	assert_int_equal(wire_get_str(&r, SIZE_MAX).n, 0);
	assert_int_equal(wire_finish(&r), ERR_PROTO);

	r = (struct wire_reader){.left = all};
	assert_int_equal(wire_get_u16(&r, 65534), 0);
	assert_int_equal(r.err, ERR_PROTO);
	r = (struct wire_reader){.left = all};
	assert_int_equal(wire_get_u32(&r, UINT32_MAX - 1), 0);
	assert_int_equal(r.err, ERR_PROTO);
	r = (struct wire_reader){.left = all};
	assert_int_equal(wire_get_u64(&r, UINT64_MAX - 1), 0);
	assert_int_equal(r.err, ERR_PROTO);
	r = (struct wire_reader){.left = slice_make(seven, 8)};
	assert_int_equal(wire_get_i64(&r, 6), 0);
	assert_int_equal(r.err, ERR_PROTO);
	/* a length near 2^32 */
	r = (struct wire_reader){.left = all};
	assert_int_equal(wire_get_str(&r, SIZE_MAX).n, 0);
	assert_int_equal(r.err, ERR_PROTO);
	/* longer than allowed, though the bytes are there */
	r = (struct wire_reader){.left = SLICE("\0\0\0\2ab")};
	assert_int_equal(wire_get_str(&r, 1).n, 0);
	assert_int_equal(r.err, ERR_PROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_big_endian_and_reads_it_back),
		cmocka_unit_test(refuses_every_truncation_and_every_surplus),
		cmocka_unit_test(takes_back_what_does_not_fit),
		cmocka_unit_test(writes_nothing_above_its_maximum),
		cmocka_unit_test(reads_nothing_above_its_maximum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
