/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/utf8.h"

static size_t put(uint32_t c, uint8_t to[4])
{
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n - 1; i > 0; i--) {
		to[i] = (uint8_t)(0x80 | (c & 0x3f));
		c >>= 6;
	}
	to[0] = (uint8_t)(n == 1 ? c : (0xf00u >> n & 0xffu) | c);
	return n;
}

static void takes_every_character(void **state)
{
	(void)state;
	for (uint32_t c = 0; c <= 0x110000; c++) {
		uint8_t bytes[5] = {0, 0, 0, 0, 0x80};
		uint32_t got = 0;
		size_t n = put(c, bytes);
		bool fine = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
		uint8_t ours[4] = {0};

		if (c <= 0x10ffff) {
			assert_int_equal(utf8_put(c, ours), n);
			assert_memory_equal(ours, bytes, 4);
		}

		assert_int_equal(utf8_take(slice_make(bytes, 5), &got), fine ? n : 0);
		assert_int_equal(got, fine ? c : 0);
		for (size_t cut = 0; cut < n; cut++) {
			assert_int_equal(utf8_take(slice_make(bytes, cut), &got), 0);
		}
	}
}

static void refuses_what_is_none(void **state)
{
	static const char *const bad[] = {"", "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2",
		"\xc2 ", "\xc2\xc2", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe2\x82", "\xe2\x82 ",
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
		"\xf0\x9f\x98", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80",
		"\xfe", "\xff"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint32_t c = 77;
		assert_int_equal(utf8_take(slice_from_cstr(bad[i]), &c), 0);
		assert_int_equal(c, 77);
	}
}

static void knows_controls(void **state)
{
	(void)state;
	for (uint32_t c = 0; c < 0x200; c++) {
		bool control = c < 0x20 || (c > 0x7e && c < 0xa0);
		assert_int_equal(utf8_is_control(c), control);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_every_character),
		cmocka_unit_test(refuses_what_is_none),
		cmocka_unit_test(knows_controls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
