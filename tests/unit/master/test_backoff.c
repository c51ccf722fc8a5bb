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
		unsigned before;
		int64_t lived_ms;
		unsigned after;
	} cases[] = {
		{0, 0, 1},
		{1, 0, 2},
		{5, 100, 6},
		{5, 1999, 6},
		{5, 2000, 5},
		{5, 4000, 4},
		{5, 10000, 1},
		{5, 59999, 1},
		{9, 60000, 1},
		{100, 0, 11},
		{UINT32_MAX, 0, 11},
		{UINT32_MAX, 60000, 1},
		{3, INT64_MAX, 1},
		{3, -5, 4},
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
