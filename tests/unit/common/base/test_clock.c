/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/clock.h"

static void goes_on_by_itself(void **state)
{
	(void)state;
	int64_t wall_us = clock_wall_us();
	int64_t mono_us = clock_mono_us();
	assert_true(wall_us > INT64_C(1700000000000000));
	assert_true(clock_wall_s() >= wall_us / 1000000);
	assert_true(clock_mono_us() >= mono_us);
	assert_true(clock_mono_ms() >= mono_us / 1000);
}

static void stands_still_when_held(void **state)
{
	(void)state;
	clock_hold(INT64_C(1767323045678901), 5000000);
	assert_int_equal(clock_wall_us(), INT64_C(1767323045678901));
	assert_int_equal(clock_wall_s(), 1767323045);
	assert_int_equal(clock_mono_us(), 5000000);
	clock_advance_ms(1500);
	assert_int_equal(clock_wall_us(), INT64_C(1767323047178901));
	assert_int_equal(clock_mono_ms(), 6500);
	clock_release();
	assert_int_not_equal(clock_wall_us(), INT64_C(1767323047178901));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_on_by_itself),
		cmocka_unit_test(stands_still_when_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
