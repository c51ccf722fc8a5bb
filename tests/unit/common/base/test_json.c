/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/json.h"

static void writes_nested_values_with_commas_between(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 10000);
	struct json j = json_begin(&b);
	json_object(&j);
	json_member_str(&j, "event", SLICE("sent"));
	json_member_i64(&j, "low", INT64_MIN);
	json_member_u64(&j, "high", UINT64_MAX);
	json_member_bool(&j, "last", true);
	json_key(&j, "rcpts");
	json_array(&j);
	json_array_end(&j);
	json_key(&j, "list");
	json_array(&j);
	json_i64(&j, -1);
	json_u64(&j, 0);
	json_null(&j);
	json_bool(&j, false);
	json_object(&j);
	json_object_end(&j);
	json_array(&j);
	json_str(&j, SLICE_EMPTY);
	json_array_end(&j);
	json_array_end(&j);
	json_key(&j, "at");
	json_time_us(&j, INT64_C(1767323045678901));
	json_object_end(&j);
	assert_int_equal(json_end(&j), ERR_OK);
	assert_true(slice_eq(buf_view(&b),
		SLICE("{\"event\":\"sent\",\"low\":-9223372036854775808,"
		      "\"high\":18446744073709551615,\"last\":true,\"rcpts\":[],"
		      "\"list\":[-1,0,null,false,{},[\"\"]],"
		      "\"at\":\"2026-01-02T03:04:05.678901Z\"}")));
	buf_clear(&b);
}

static void escapes_what_must_be_escaped(void **state)
{
	static const struct {
		struct slice from;
		struct slice want;
	} cases[] = {
		{SLICE_INIT("plain text /"), SLICE_INIT("plain text /")},
		{SLICE_INIT("\"\\"), SLICE_INIT("\\\"\\\\")},
		{SLICE_INIT("\r\n\t"), SLICE_INIT("\\r\\n\\t")},
		{SLICE_INIT("a\0b"), SLICE_INIT("a\\u0000b")},
		{SLICE_INIT("\x1f\x7f"), SLICE_INIT("\\u001f\\u007f")},
		{SLICE_INIT("\xc3\xa9"), SLICE_INIT("\xc3\xa9")},
		{SLICE_INIT("\xe9\xa7\x85\xe4\xbc\x9d"),
			SLICE_INIT("\xe9\xa7\x85\xe4\xbc\x9d")},
		{SLICE_INIT("\xf0\x9f\x93\xac"), SLICE_INIT("\xf0\x9f\x93\xac")},
		{SLICE_INIT("\xf4\x8f\xbf\xbf"), SLICE_INIT("\xf4\x8f\xbf\xbf")},
		/* not UTF-8: a byte by itself, overlong, surrogate, too high, cut off */
		{SLICE_INIT("\x80"), SLICE_INIT("\xef\xbf\xbd")},
		{SLICE_INIT("\xff"), SLICE_INIT("\xef\xbf\xbd")},
		{SLICE_INIT("\xc0\xaf"), SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd")},
		{SLICE_INIT("\xe0\x80\x80"),
			SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
		{SLICE_INIT("\xed\xa0\x80"),
			SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
		{SLICE_INIT("\xf4\x90\x80\x80"),
			SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
		{SLICE_INIT("\xc3"), SLICE_INIT("\xef\xbf\xbd")},
		{SLICE_INIT("\xc3("), SLICE_INIT("\xef\xbf\xbd(")},
		{SLICE_INIT("\xe9\xa7"), SLICE_INIT("\xef\xbf\xbd\xef\xbf\xbd")},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf b;
		buf_init(&b, 1000);
		struct json j = json_begin(&b);
		json_str(&j, cases[i].from);
		assert_int_equal(json_end(&j), ERR_OK);
		struct slice s = buf_view(&b);
		assert_int_equal(s.p[0], '"');
		assert_int_equal(s.p[s.n - 1], '"');
		assert_true(slice_eq(slice_make(s.p + 1, s.n - 2), cases[i].want));
		buf_clear(&b);
	}
}

static void writes_times_before_1970_and_beyond_all_calendars(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	struct json j = json_begin(&b);
	json_array(&j);
	json_time_us(&j, 0);
	json_time_us(&j, -1);
	json_time_us(&j, INT64_MAX);
	json_time_us(&j, INT64_MIN);
	json_array_end(&j);
	assert_int_equal(json_end(&j), ERR_OK);
	assert_true(slice_starts(buf_view(&b),
		SLICE("[\"1970-01-01T00:00:00.000000Z\",\"1969-12-31T23:59:59.999999Z\",")));
	buf_clear(&b);
}

static void keeps_the_first_error(void **state)
{
	(void)state;
	for (size_t max = 0; max < 12; max++) {
		struct buf b;
		buf_init(&b, max);
		struct json j = json_begin(&b);
		json_object(&j);
		json_member_u64(&j, "key", 1234);
		json_object_end(&j);
		assert_int_equal(json_end(&j), max < 12 ? ERR_TOOBIG : ERR_OK);
		assert_true(buf_len(&b) <= max);
		buf_clear(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_nested_values_with_commas_between),
		cmocka_unit_test(escapes_what_must_be_escaped),
		cmocka_unit_test(writes_times_before_1970_and_beyond_all_calendars),
		cmocka_unit_test(keeps_the_first_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
