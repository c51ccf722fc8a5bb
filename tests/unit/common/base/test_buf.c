/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"

static void holds_what_is_appended(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_int_equal(buf_len(&b), 0);
	assert_null(buf_view(&b).p);
	assert_int_equal(buf_append(&b, SLICE("abc")), ERR_OK);
	assert_int_equal(buf_append(&b, SLICE_EMPTY), ERR_OK);
	assert_int_equal(buf_append_byte(&b, 0), ERR_OK);
	assert_int_equal(buf_printf(&b, "%s-%d", "x", 7), ERR_OK);
	assert_true(slice_eq(buf_view(&b), SLICE("abc\0x-7")));
	buf_clear(&b);
	assert_int_equal(buf_len(&b), 0);
	buf_clear(&b);
}

static void appends_all_or_nothing_under_its_ceiling(void **state)
{
	struct buf b;
	uint8_t bytes[400];

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	for (size_t max = 0; max < sizeof(bytes); max += 13) {
		buf_init(&b, max);
		assert_int_equal(buf_append(&b, slice_make(bytes, max + 1)), ERR_TOOBIG);
		assert_int_equal(buf_len(&b), 0);
		assert_int_equal(buf_append(&b, slice_make(bytes, max)), ERR_OK);
		assert_int_equal(buf_append_byte(&b, 'y'), ERR_TOOBIG);
		assert_int_equal(buf_printf(&b, "%s", "y"), ERR_TOOBIG);
		assert_int_equal(buf_printf(&b, "%s", ""), ERR_OK);
		assert_null(buf_reserve(&b, 1));
		assert_int_equal(buf_len(&b), max);
		if (max != 0) {
			buf_consume(&b, 1);
			assert_int_equal(buf_append_byte(&b, 'y'), ERR_OK);
			assert_int_equal(buf_append_byte(&b, 'y'), ERR_TOOBIG);
		}
		buf_clear(&b);
	}
	buf_init(&b, SIZE_MAX);
	assert_int_equal(buf_append(&b, SLICE("no ceiling")), ERR_OK);
	buf_clear(&b);
}

static void prints_texts_of_every_length_around_its_small_array(void **state)
{
	struct buf b;
	char text[1100];

	(void)state;
	for (size_t n = 500; n < sizeof(text); n += (n < 520 ? 1 : 97)) {
		memset(text, 'x', n);
		text[n] = 0;
		buf_init(&b, n);
		assert_int_equal(buf_printf(&b, "%s", text), ERR_OK);
		assert_int_equal(buf_len(&b), n);
		assert_true(slice_eq(buf_view(&b), slice_make(text, n)));
		buf_clear(&b);
		buf_init(&b, n - 1);
		assert_int_equal(buf_printf(&b, "%s", text), ERR_TOOBIG);
		assert_int_equal(buf_len(&b), 0);
		buf_clear(&b);
	}
}

static void works_as_a_queue_of_bytes(void **state)
{
	struct buf b;
	uint8_t put = 0;
	uint8_t taken = 0;
	uint32_t random = 1;

	(void)state;
	buf_init(&b, 5000);
	for (int i = 0; i < 20000; i++) {
		random = random * 1664525 + 1013904223;
		size_t n = (random >> 16) % 300;
		if ((random >> 30) != 0 && n <= 5000 - buf_len(&b)) {
			uint8_t *to = buf_reserve(&b, n);
			assert_non_null(to);
			for (size_t j = 0; j < n; j++) {
				to[j] = put++;
			}
			buf_commit(&b, n);
		} else {
			struct slice s = buf_view(&b);
			n = n * 2 < s.n ? n * 2 : s.n;
			for (size_t j = 0; j < n; j++) {
				assert_int_equal(s.p[j], taken);
				taken++;
			}
			buf_consume(&b, n);
		}
		assert_true(b.cap <= 7500);
	}
	buf_clear(&b);
}

static void keeps_the_first_or_drops_the_first(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(buf_append(&b, SLICE("0123456789")), ERR_OK);
	buf_consume(&b, 3);
	buf_truncate(&b, 4);
	assert_true(slice_eq(buf_view(&b), SLICE("3456")));
	buf_consume(&b, 0);
	buf_truncate(&b, 4);
	assert_true(slice_eq(buf_view(&b), SLICE("3456")));
	buf_consume(&b, 4);
	assert_int_equal(buf_len(&b), 0);
	buf_truncate(&b, 0);
	buf_clear(&b);
}

static void gives_memory_back_when_told(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	assert_non_null(buf_reserve(&b, 50000));
	buf_reset(&b);
	assert_non_null(b.data);
	buf_shrink(&b, 1 << 20);
	assert_non_null(b.data);
	buf_shrink(&b, 1000);
	assert_null(b.data);
	assert_int_equal(buf_append(&b, SLICE("again")), ERR_OK);
	assert_true(slice_eq(buf_view(&b), SLICE("again")));
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_what_is_appended),
		cmocka_unit_test(appends_all_or_nothing_under_its_ceiling),
		cmocka_unit_test(prints_texts_of_every_length_around_its_small_array),
		cmocka_unit_test(works_as_a_queue_of_bytes),
		cmocka_unit_test(keeps_the_first_or_drops_the_first),
		cmocka_unit_test(gives_memory_back_when_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
