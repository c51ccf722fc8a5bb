/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "master/backoff.h"

static void waits_longer_each_time_up_to_half_a_minute(void **state)
{
	static const int64_t want[] = {0, 0, 100, 500, 1000, 2000, 5000, 10000, 20000, 30000,
		30000, 30000};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(backoff_ms(i), want[i]);
	}
	assert_int_equal(backoff_ms(UINT32_MAX), 30000);
}

static void counts_failures_and_forgets_them_with_health(void **state)
{
	static const struct {
		int64_t lived_ms;
		unsigned before;
		unsigned after;
	} cases[] = {
		{0, 0, 1},
		{0, 1, 2},
		{100, 5, 6},
		{1999, 5, 6},
		{2000, 5, 5},
		{4000, 5, 4},
		{10000, 5, 1},
		{59999, 5, 1},
		{60000, 9, 1},
		{0, 100, 11},
		{0, UINT32_MAX, 11},
		{60000, UINT32_MAX, 1},
		{INT64_MAX, 3, 1},
		{-5, 3, 4},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(backoff_failures(cases[i].before, cases[i].lived_ms),
			cases[i].after);
	}
}

static void a_program_that_never_lives_ends_at_the_longest_wait(void **state)
{
	unsigned failures = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		failures = backoff_failures(failures, 0);
	}
	assert_int_equal(backoff_ms(failures), 30000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_longer_each_time_up_to_half_a_minute),
		cmocka_unit_test(counts_failures_and_forgets_them_with_health),
		cmocka_unit_test(a_program_that_never_lives_ends_at_the_longest_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
