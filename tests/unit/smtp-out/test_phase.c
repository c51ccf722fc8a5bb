/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtp-out/flight.h"
#include "smtp-out/phase.h"

static void every_phase_has_a_row(void **state)
{
	(void)state;
	for (int p = 0; p < PHASE_COUNT; p++) {
		assert_non_null(phase_name((enum phase)p));
		assert_true(phase_name((enum phase)p)[0] != '\0');
		assert_int_not_equal(phase_stage((enum phase)p), STAGE_NONE);
		assert_true(phase_time_limit((enum phase)p) < WAIT_COUNT);
		for (int q = 0; q < p; q++) {
			assert_string_not_equal(phase_name((enum phase)p),
				phase_name((enum phase)q));
		}
	}
}

/* RFC 5321 section 4.5.3.2 names a limit for each. */
static void limits_are_those_of_the_command(void **state)
{
	(void)state;
	assert_int_equal(phase_time_limit(PHASE_GREETING), WAIT_HELO);
	assert_int_equal(phase_time_limit(PHASE_MAIL), WAIT_MAIL);
	assert_int_equal(phase_time_limit(PHASE_RCPT), WAIT_RCPT);
	assert_int_equal(phase_time_limit(PHASE_DATA), WAIT_DATA_INIT);
	assert_int_equal(phase_time_limit(PHASE_DOT), WAIT_DATA_DONE);
	assert_int_equal(phase_stage(PHASE_DOT), STAGE_END_OF_DATA);
	assert_int_equal(phase_stage(PHASE_HANDSHAKE), STAGE_STARTTLS);
}

static void commands_leave_in_the_order_in_which_they_came(void **state)
{
	static struct flight f;
	uint16_t next = 0;

	(void)state;
	assert_false(flight_waits_for(&f, PHASE_GREETING));
	for (uint16_t i = 0; i < 1000; i++) {
		flight_put(&f, (struct flight_entry){.rcpt = i, .phase = PHASE_RCPT});
		if (flight_count(&f) == FLIGHT_WINDOW) {
			while (flight_count(&f) > i % 7) {
				assert_int_equal(flight_head(&f)->rcpt, next++);
				assert_true(flight_waits_for(&f, PHASE_RCPT));
				flight_take(&f);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_phase_has_a_row),
		cmocka_unit_test(limits_are_those_of_the_command),
		cmocka_unit_test(commands_leave_in_the_order_in_which_they_came),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
