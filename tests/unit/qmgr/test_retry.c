/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "qmgr/retry.h"

static void doubles_up_to_the_most(void **state)
{
	static const struct {
		uint32_t attempt;
		uint32_t middle;
	} cases[] = {{1, 300}, {2, 600}, {3, 1200}, {4, 2400}, {5, 4000}, {6, 4000},
		{4000000000u, 4000}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (uint64_t seed = 0; seed < 2000; seed += 7) {
			uint32_t wait = retry_wait_s(cases[i].attempt, 300, 4000, seed);

			assert_in_range(wait, cases[i].middle - cases[i].middle / 8,
				cases[i].middle + cases[i].middle / 8 + 1);
		}
	}
}

static void seeds_spread_over_a_quarter(void **state)
{
	uint32_t least = UINT32_MAX;
	uint32_t most = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 5000; seed++) {
		uint32_t wait = retry_wait_s(1, 400, 4000, seed);

		least = wait < least ? wait : least;
		most = wait > most ? wait : most;
	}
	assert_int_equal(least, 350);
	assert_int_equal(most, 450);
}

static void is_never_under_a_second(void **state)
{
	(void)state;
	assert_int_equal(retry_wait_s(1, 0, 0, 1), 1);
	assert_int_equal(retry_wait_s(1, 1, 1, UINT64_MAX), 1);
	assert_int_equal(retry_wait_s(0, 1, 10, 0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(doubles_up_to_the_most),
		cmocka_unit_test(seeds_spread_over_a_quarter),
		cmocka_unit_test(is_never_under_a_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
