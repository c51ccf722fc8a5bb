/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "qmgr/waiting.h"

static uint32_t draw(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

static void gives_them_back_in_order_of_time(void **state)
{
	struct waiting w;
	struct waiting_entry e;
	uint64_t seed = 7;
	uint64_t sum = 0;
	uint32_t last = 0;

	(void)state;
	waiting_init(&w);
	for (uint32_t i = 0; i < 20000; i++) {
		waiting_push(&w, (struct waiting_entry){draw(&seed) % 5000, 1, i});
		sum += i;
	}
	for (uint32_t i = 0; i < 20000; i++) {
		assert_true(waiting_pop_due(&w, 5000, &e));
		assert_true(e.at_s >= last);
		last = e.at_s;
		sum -= e.slot;
	}
	assert_int_equal(sum, 0);
	assert_false(waiting_pop_due(&w, INT64_MAX, &e));
	waiting_clear(&w);
}

static void gives_nothing_before_its_time(void **state)
{
	struct waiting w;
	struct waiting_entry e;

	(void)state;
	waiting_init(&w);
	assert_int_equal(waiting_next_s(&w), UINT32_MAX);
	waiting_push(&w, (struct waiting_entry){100, 1, 2});
	assert_int_equal(waiting_next_s(&w), 100);
	assert_false(waiting_pop_due(&w, 99, &e));
	assert_true(waiting_pop_due(&w, 100, &e));
	assert_int_equal(e.slot, 2);
	waiting_clear(&w);
}

static void keeps_intervals_over_a_step_of_the_clock(void **state)
{
	struct waiting w;
	struct waiting_entry e;

	(void)state;
	waiting_init(&w);
	waiting_push(&w, (struct waiting_entry){0, 1, 1});
	waiting_push(&w, (struct waiting_entry){1000, 1, 2});
	waiting_push(&w, (struct waiting_entry){5000, 1, 3});
	waiting_shift(&w, -3600);
	assert_true(waiting_pop_due(&w, 0, &e));
	assert_int_equal(e.slot, 1);
	assert_true(waiting_pop_due(&w, 1, &e));
	assert_int_equal(e.slot, 2);
	assert_int_equal(waiting_next_s(&w), 1400);
	waiting_shift(&w, INT64_C(10000000000));
	assert_int_equal(waiting_next_s(&w), UINT32_MAX);
	waiting_flush(&w);
	assert_true(waiting_pop_due(&w, 0, &e));
	waiting_clear(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_them_back_in_order_of_time),
		cmocka_unit_test(gives_nothing_before_its_time),
		cmocka_unit_test(keeps_intervals_over_a_step_of_the_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
