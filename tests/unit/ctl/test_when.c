/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "ctl/when.h"

#define NOW_US INT64_C(1795732475000000)

static void reads_moments_and_distances(void **state)
{
	static const struct {
		const char *text;
		int64_t us; /* -1: refused */
	} cases[] = {
		{"1970-01-01", 0},
		{"1970-01-01T00:00:01Z", 1000000},
		{"2000-02-29", INT64_C(951782400000000)},
		{"2026-11-26T22:34:35Z", NOW_US},
		{"2026-11-26 22:34:35", NOW_US},
		{"2026-11-26T22:34Z", NOW_US - 35000000},
		{"2026-11-26T22:34:35.25Z", NOW_US + 250000},
		{"2026-11-26T22:34:35.123456789Z", NOW_US + 123456},
		{"9999-12-31T23:59:59Z", INT64_C(253402300799000000)},
		{"90", NOW_US - 90000000},
		{"10m", NOW_US - 600000000},
		{"2h", NOW_US - INT64_C(7200000000)},
		{"0s", NOW_US},
		{"9999999d", 0},
		{"", -1},
		{"1969-12-31", -1},
		{"2026-13-01", -1},
		{"2026-00-01", -1},
		{"2026-02-29", -1},
		{"2100-02-29", -1},
		{"2026-11-31", -1},
		{"2026-11-26T", -1},
		{"2026-11-26T24:00", -1},
		{"2026-11-26T22:60", -1},
		{"2026-11-26T22:34:", -1},
		{"2026-11-26T22:34:35.Z", -1},
		{"2026-11-26T22:34:35Zx", -1},
		{"2026-11-26x", -1},
		{"2026-1-2", -1},
		{"10y", -1},
		{"-5m", -1},
		{"yesterday", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int64_t us = -1;
		enum err e = when_parse(slice_from_cstr(cases[i].text), NOW_US, &us);
		if ((e == ERR_OK) != (cases[i].us >= 0) || (e == ERR_OK && us != cases[i].us)) {
			fail_msg("%s: %lld", cases[i].text, (long long)us);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_moments_and_distances),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
