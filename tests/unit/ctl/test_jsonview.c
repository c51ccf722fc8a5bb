/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/json.h"
#include "ctl/jsonview.h"

static void expect_member(const char *object, const char *name, const char *want)
{
	struct jsonview_value value;
	struct buf plain;

	buf_init(&plain, 1000);
	bool is_there = jsonview_find(slice_from_cstr(object), name, &value);
	if (is_there) {
		jsonview_plain(&value, &plain);
	}
	if (is_there != (want != NULL) ||
		(is_there && !slice_eq(buf_view(&plain), slice_from_cstr(want)))) {
		fail_msg("%s of %s: \"%.*s\"", name, object, SLICE_ARG(buf_view(&plain)));
	}
	buf_clear(&plain);
}

static void finds_members_and_unescapes_them(void **state)
{
	static const char text[] =
		" { \"a\" : \"x\", \"n\":-1.5e3,\"t\":true,\"z\":null,"
		"\"o\":{\"a\":\"inner\",\"}\":1},\"l\":[1,\"]\",{}],"
		"\"e\":\"q\\\"b\\\\s\\/\\b\\f\\n\\r\\t\","
		"\"u\":\"\\u00e9\\u20ac\\ud83d\\ude00\\ud800\",\"last\":\"\" } ";

	(void)state;
	expect_member(text, "a", "x");
	expect_member(text, "n", "-1.5e3");
	expect_member(text, "t", "true");
	expect_member(text, "z", "null");
	expect_member(text, "o", "{\"a\":\"inner\",\"}\":1}");
	expect_member(text, "l", "[1,\"]\",{}]");
	expect_member(text, "e", "q\"b\\s/\b\f\n\r\t");
	expect_member(text, "u", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd");
	expect_member(text, "last", "");
	expect_member(text, "inner", NULL);
	expect_member("{}", "a", NULL);
	expect_member("[{\"a\":1}]", "a", NULL);
	expect_member("", "a", NULL);
}

static void tells_json_from_what_is_none(void **state)
{
	static const struct {
		const char *text;
		bool is_valid;
	} cases[] = {
		{"{}", true},
		{"[]", true},
		{" 1 ", true},
		{"\"x\"", true},
		{"{\"a\":[{\"b\":[]}]}", true},
		{"", false},
		{"{", false},
		{"{]", false},
		{"{}}", false},
		{"\"x", false},
		{"\"\\x\"", false},
		{"\"\\u12g4\"", false},
		{"\"\\u12", false},
		{"\"a\nb\"", false},
		{"nul", false},
		{"+1", false},
		{"x", false},
		{"{} {}", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (jsonview_is_valid(slice_from_cstr(cases[i].text)) != cases[i].is_valid) {
			fail_msg("%s", cases[i].text);
		}
	}
}

static void is_bounded_in_depth(void **state)
{
	char deep[100];

	(void)state;
	memset(deep, '[', 50);
	memset(deep + 50, ']', 50);
	assert_false(jsonview_is_valid(slice_make(deep, 100)));
	assert_true(jsonview_is_valid(slice_make(deep + 20, 60)));
}

static void reads_what_we_write(void **state)
{
	static const char odd[] = "\x01\"\\/\x7f\xc3\xa9 tab\t";
	struct buf text;
	struct buf plain;
	struct jsonview_value value;

	(void)state;
	buf_init(&text, 1000);
	buf_init(&plain, 1000);
	struct json j = json_begin(&text);
	json_object(&j);
	json_member_str(&j, "odd", SLICE(odd));
	json_member_u64(&j, "big", UINT64_MAX);
	json_object_end(&j);
	assert_int_equal(json_end(&j), ERR_OK);
	assert_true(jsonview_find(buf_view(&text), "odd", &value));
	jsonview_plain(&value, &plain);
	assert_true(slice_eq(buf_view(&plain), SLICE(odd)));
	assert_true(jsonview_find(buf_view(&text), "big", &value));
	assert_true(slice_eq(value.text, SLICE("18446744073709551615")));
	buf_clear(&text);
	buf_clear(&plain);
}

static void ends_at_every_truncation(void **state)
{
	static const char whole[] =
		"{\"a\":\"x\\u00e9\\ud83d\\ude00\",\"b\":[1,{\"c\":null}],\"d\":-1.5e3,\"e\":true}";

	(void)state;
	for (size_t n = 0; n < sizeof(whole) - 1; n++) {
		char *exact = test_malloc(n + 1);
		struct jsonview_value value;
		struct slice name;
		struct buf plain;
		memcpy(exact, whole, n);
		buf_init(&plain, 1000);
		struct jsonview v = jsonview_open(slice_make(exact, n));
		while (jsonview_next(&v, &name, &value)) {
			buf_reset(&plain);
			jsonview_plain(&value, &plain);
		}
		assert_true(v.is_bad);
		assert_false(jsonview_is_valid(slice_make(exact, n)));
		buf_clear(&plain);
		test_free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_members_and_unescapes_them),
		cmocka_unit_test(tells_json_from_what_is_none),
		cmocka_unit_test(is_bounded_in_depth),
		cmocka_unit_test(reads_what_we_write),
		cmocka_unit_test(ends_at_every_truncation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
