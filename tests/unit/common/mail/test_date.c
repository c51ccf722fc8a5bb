/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/mail/date.h"

static void writes_the_stamps_of_header_fields(void **state)
{
	static const struct {
		int64_t wall_s;
		const char *text;
	} cases[] = {
		{0, "Thu, 1 Jan 1970 00:00:00 +0000"},
		{951782400, "Tue, 29 Feb 2000 00:00:00 +0000"},
		{951868799, "Tue, 29 Feb 2000 23:59:59 +0000"},
		{951868800, "Wed, 1 Mar 2000 00:00:00 +0000"},
		{2147483647, "Tue, 19 Jan 2038 03:14:07 +0000"},
		{2147483648, "Tue, 19 Jan 2038 03:14:08 +0000"},
		{4107542400, "Mon, 1 Mar 2100 00:00:00 +0000"},
		{4107542399, "Sun, 28 Feb 2100 23:59:59 +0000"},
		{1795727982, "Thu, 26 Nov 2026 21:19:42 +0000"},
		{INT64_C(253402300799), "Fri, 31 Dec 9999 23:59:59 +0000"},
		{INT64_MAX, "Fri, 31 Dec 9999 23:59:59 +0000"},
		{-1, "Thu, 1 Jan 1970 00:00:00 +0000"},
		{INT64_MIN, "Thu, 1 Jan 1970 00:00:00 +0000"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[DATE_TEXT_MAX];
		date_format_rfc5322(cases[i].wall_s, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void writes_the_stamps_of_logs(void **state)
{
	static const struct {
		int64_t wall_us;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000000Z"},
		{INT64_C(1795727982123456), "2026-11-26T21:19:42.123456Z"},
		{INT64_C(1795727982000001), "2026-11-26T21:19:42.000001Z"},
		{-1, "1970-01-01T00:00:00.000000Z"},
		{INT64_MAX, "9999-12-31T23:59:59.775807Z"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[DATE_TEXT_MAX];
		date_format_iso(cases[i].wall_us, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void agrees_with_the_c_library_over_five_centuries(void **state)
{
	(void)state;
	/* A step that is prime in seconds meets every day, hour and minute. */
	for (int64_t t = 0; t < INT64_C(16000000000); t += 86399 * 7 + 2) {
		char ours[DATE_TEXT_MAX];
		char theirs[DATE_TEXT_MAX];
		char year[16];
		time_t clock = (time_t)t;
		struct tm tm;

		assert_non_null(gmtime_r(&clock, &tm));
		assert_true(strftime(year, sizeof(year), "%a, ", &tm) > 0);
		(void)snprintf(theirs, sizeof(theirs), "%s%d ", year, tm.tm_mday);
		size_t n = strlen(theirs);
		assert_true(strftime(theirs + n, sizeof(theirs) - n, "%b %Y %H:%M:%S +0000",
				    &tm) > 0);
		date_format_rfc5322(t, ours);
		assert_string_equal(ours, theirs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_the_stamps_of_header_fields),
		cmocka_unit_test(writes_the_stamps_of_logs),
		cmocka_unit_test(agrees_with_the_c_library_over_five_centuries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
