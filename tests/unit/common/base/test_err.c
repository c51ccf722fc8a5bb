/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/err.h"

static void has_a_phrase_for_every_error(void **state)
{
	(void)state;
	for (int i = 0; i < ERR_COUNT; i++) {
		assert_non_null(err_str((enum err)i));
		assert_string_not_equal(err_str((enum err)i), "unknown error");
	}
	assert_string_equal(err_str(ERR_COUNT), "unknown error");
	assert_string_equal(err_str((enum err)1000), "unknown error");
}

static void sorts_what_system_calls_say(void **state)
{
	static const struct {
		int from;
		enum err want;
	} cases[] = {
		{ENOSPC, ERR_FULL},
		{EDQUOT, ERR_FULL},
		{EAGAIN, ERR_AGAIN},
		{ENOENT, ERR_NOTFOUND},
		{EEXIST, ERR_EXISTS},
		{EACCES, ERR_DENIED},
		{EPERM, ERR_DENIED},
		{EPIPE, ERR_CLOSED},
		{ECONNRESET, ERR_CLOSED},
		{EIO, ERR_SYS},
		{EROFS, ERR_SYS},
		{0, ERR_SYS},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		errno = cases[i].from;
		assert_int_equal(err_from_errno(), cases[i].want);
		assert_int_equal(errno, cases[i].from);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_a_phrase_for_every_error),
		cmocka_unit_test(sorts_what_system_calls_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
