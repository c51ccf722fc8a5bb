/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/str.h"

static void formats_what_fits(void **state)
{
	char to[8] = "before";

	(void)state;
	assert_int_equal(str_format(to, sizeof(to), "%d-%s", 12, "abcd"), ERR_OK);
	assert_string_equal(to, "12-abcd");
	assert_int_equal(str_format(to, sizeof(to), "%d-%s", 12, "abcde"), ERR_TOOBIG);
	assert_string_equal(to, "");
	assert_int_equal(str_format(to, 1, "%s", ""), ERR_OK);
	assert_int_equal(str_format(to, 1, "%s", "x"), ERR_TOOBIG);
}

static void copies_what_fits_and_has_no_nul(void **state)
{
	char to[5] = "old";

	(void)state;
	assert_int_equal(str_copy(to, sizeof(to), SLICE("abcd")), ERR_OK);
	assert_string_equal(to, "abcd");
	assert_int_equal(str_copy(to, sizeof(to), SLICE("abcde")), ERR_TOOBIG);
	assert_string_equal(to, "");
	assert_int_equal(str_copy(to, sizeof(to), SLICE("a\0b")), ERR_SYNTAX);
	assert_string_equal(to, "");
	assert_int_equal(str_copy(to, sizeof(to), SLICE_EMPTY), ERR_OK);
	assert_string_equal(to, "");
	assert_int_equal(str_copy(to, 1, SLICE_EMPTY), ERR_OK);
	assert_int_equal(str_copy(to, 1, SLICE("x")), ERR_TOOBIG);
}

static void shows_only_what_can_be_shown(void **state)
{
	char to[8];

	(void)state;
	str_printable(to, sizeof(to), SLICE("a\r\n\0\x7f\xc3~"));
	assert_string_equal(to, "a?????~");
	str_printable(to, sizeof(to), SLICE("longer than that"));
	assert_string_equal(to, "longer ");
	str_printable(to, sizeof(to), SLICE_EMPTY);
	assert_string_equal(to, "");
	str_printable(to, 1, SLICE("x"));
	assert_string_equal(to, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_what_fits),
		cmocka_unit_test(copies_what_fits_and_has_no_nul),
		cmocka_unit_test(shows_only_what_can_be_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
