/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/num.h"

static void parses_decimals_up_to_their_maximum(void **state)
{
	static const struct {
		struct slice text;
		uint64_t max;
		enum err want;
		uint64_t value;
	} cases[] = {
		{SLICE_INIT("0"), 0, ERR_OK, 0},
		{SLICE_INIT("1"), 0, ERR_TOOBIG, 0},
		{SLICE_INIT("00012"), 12, ERR_OK, 12},
		{SLICE_INIT("13"), 12, ERR_TOOBIG, 0},
		{SLICE_INIT("18446744073709551615"), UINT64_MAX, ERR_OK, UINT64_MAX},
		{SLICE_INIT("18446744073709551616"), UINT64_MAX, ERR_TOOBIG, 0},
		{SLICE_INIT("18446744073709551620"), UINT64_MAX, ERR_TOOBIG, 0},
		{SLICE_INIT("99999999999999999999999999"), UINT64_MAX, ERR_TOOBIG, 0},
		{SLICE_INIT("99999999999999999999999999x"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT(""), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT("+1"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT("-1"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT(" 1"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT("1 "), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT("1\0"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT("0x1"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT("/"), UINT64_MAX, ERR_SYNTAX, 0},
		{SLICE_INIT(":"), UINT64_MAX, ERR_SYNTAX, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t n = 77;
		assert_int_equal(num_parse_u64(cases[i].text, cases[i].max, &n), cases[i].want);
		assert_int_equal(n, cases[i].want == ERR_OK ? cases[i].value : 77);
	}
}

static void parses_32_bits_without_wrapping(void **state)
{
	uint32_t n = 77;

	(void)state;
	assert_int_equal(num_parse_u32(SLICE("4294967295"), UINT32_MAX, &n), ERR_OK);
	assert_int_equal(n, UINT32_MAX);
	n = 77;
	assert_int_equal(num_parse_u32(SLICE("4294967296"), UINT32_MAX, &n), ERR_TOOBIG);
	assert_int_equal(num_parse_u32(SLICE("4294967297"), UINT32_MAX, &n), ERR_TOOBIG);
	assert_int_equal(num_parse_u32(SLICE_EMPTY, UINT32_MAX, &n), ERR_SYNTAX);
	assert_int_equal(n, 77);
}

static void parses_hexadecimals_of_at_most_64_bits(void **state)
{
	static const struct {
		struct slice text;
		enum err want;
		uint64_t value;
	} cases[] = {
		{SLICE_INIT("0"), ERR_OK, 0},
		{SLICE_INIT("fF"), ERR_OK, 255},
		{SLICE_INIT("ffffffffffffffff"), ERR_OK, UINT64_MAX},
		{SLICE_INIT("0000ffffffffffffffff"), ERR_OK, UINT64_MAX},
		{SLICE_INIT("10000000000000000"), ERR_TOOBIG, 0},
		{SLICE_INIT("10000000000000000g"), ERR_SYNTAX, 0},
		{SLICE_INIT(""), ERR_SYNTAX, 0},
		{SLICE_INIT("g"), ERR_SYNTAX, 0},
		{SLICE_INIT("`"), ERR_SYNTAX, 0},
		{SLICE_INIT("@"), ERR_SYNTAX, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t n = 77;
		assert_int_equal(num_parse_hex_u64(cases[i].text, &n), cases[i].want);
		assert_int_equal(n, cases[i].want == ERR_OK ? cases[i].value : 77);
	}
}

static void rounds_up_to_a_multiple(void **state)
{
	(void)state;
	assert_int_equal(num_round_up(0, 8), 0);
	assert_int_equal(num_round_up(1, 8), 8);
	assert_int_equal(num_round_up(8, 8), 8);
	assert_int_equal(num_round_up(9, 8), 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_decimals_up_to_their_maximum),
		cmocka_unit_test(parses_32_bits_without_wrapping),
		cmocka_unit_test(parses_hexadecimals_of_at_most_64_bits),
		cmocka_unit_test(rounds_up_to_a_multiple),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
