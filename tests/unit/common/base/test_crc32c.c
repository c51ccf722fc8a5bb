/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/crc32c.h"

static void agrees_with_published_sums(void **state)
{
	uint8_t bytes[32];

	(void)state;
	assert_int_equal(crc32c(0, SLICE_EMPTY), 0);
	assert_int_equal(crc32c(0, SLICE("123456789")), 0xe3069283);
	/* RFC 3720 section B.4 */
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, slice_make(bytes, sizeof(bytes))), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, slice_make(bytes, sizeof(bytes))), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = i;
	}
	assert_int_equal(crc32c(0, slice_make(bytes, sizeof(bytes))), 0x46dd794e);
	for (uint8_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)(31 - i);
	}
	assert_int_equal(crc32c(0, slice_make(bytes, sizeof(bytes))), 0x113fdb5c);
}

static void is_the_same_in_pieces_and_with_or_without_the_processor(void **state)
{
	uint8_t bytes[100];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] = (uint8_t)(i * 37 + 11);
	}
	struct slice whole = slice_make(bytes, sizeof(bytes));
	uint32_t sum = crc32c(0, whole);
	for (size_t n = 0; n <= whole.n; n++) {
		struct slice head = slice_head(whole, n);
		struct slice tail = slice_skip(whole, n);
		assert_int_equal(crc32c(crc32c(0, head), tail), sum);
		assert_int_equal(crc32c(0, tail), crc32c_by_table(0, tail));
		assert_int_equal(crc32c_by_table(crc32c(0, head), tail), sum);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_published_sums),
		cmocka_unit_test(is_the_same_in_pieces_and_with_or_without_the_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
