/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/mail/verdict.h"

static void parses_enhanced_codes_at_the_beginning_only(void **state)
{
	static const struct {
		struct slice text;
		bool want;
		struct enhanced_code code;
		struct slice rest;
	} cases[] = {
		{SLICE_INIT("5.1.1"), true, {5, 1, 1}, SLICE_INIT("")},
		{SLICE_INIT("2.0.0 Ok"), true, {2, 0, 0}, SLICE_INIT("Ok")},
		{SLICE_INIT("4.7.650  \tslow down"), true, {4, 7, 650},
			SLICE_INIT("slow down")},
		{SLICE_INIT("5.999.999 x"), true, {5, 999, 999}, SLICE_INIT("x")},
		{SLICE_INIT("5.7.1 "), true, {5, 7, 1}, SLICE_INIT("")},
		{SLICE_INIT("5.1000.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.1.1000"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("3.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("0.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("1.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("6.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("55.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5..1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.1."), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5."), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT(""), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.1.1x"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.1.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.1.1\0"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5.-1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT(" 5.1.1"), false, {0}, SLICE_INIT("")},
		{SLICE_INIT("5 .1.1"), false, {0}, SLICE_INIT("")},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct enhanced_code code = {9, 9, 9};
		struct slice rest = SLICE("untouched");
		bool got = enhanced_parse(cases[i].text, &code, &rest);

		if (got != cases[i].want) {
			fail_msg("%.*s", SLICE_ARG(cases[i].text));
		}
		if (got) {
			assert_int_equal(code.class, cases[i].code.class);
			assert_int_equal(code.subject, cases[i].code.subject);
			assert_int_equal(code.detail, cases[i].code.detail);
			assert_true(slice_eq(rest, cases[i].rest));
			assert_true(enhanced_parse(cases[i].text, &code, NULL));
		} else {
			assert_int_equal(code.class, 9);
			assert_true(slice_eq(rest, SLICE("untouched")));
		}
	}
}

static void refuses_every_truncation(void **state)
{
	struct slice whole = SLICE("4.712.345 text");
	struct enhanced_code code;

	(void)state;
	for (size_t n = 0; n < 7; n++) {
		assert_false(enhanced_parse(slice_head(whole, n), &code, NULL));
	}
	/* From here on shorter numbers are numbers. */
	for (size_t n = 7; n <= whole.n; n++) {
		assert_true(enhanced_parse(slice_head(whole, n), &code, NULL));
	}
	assert_false(enhanced_parse(SLICE_EMPTY, &code, NULL));
}

static void formats_what_it_parses(void **state)
{
	char text[ENHANCED_TEXT_MAX];
	struct enhanced_code code = {5, 7, 26};

	(void)state;
	enhanced_format(code, text);
	assert_string_equal(text, "5.7.26");
	enhanced_format((struct enhanced_code){0}, text);
	assert_string_equal(text, "0.0.0");
	enhanced_format((struct enhanced_code){255, 65535, 65535}, text);
	assert_string_equal(text, "255.65535.65535");
}

static void names_every_kind_and_stage(void **state)
{
	(void)state;
	assert_string_equal(verdict_kind_name(VERDICT_DONE), "delivered");
	assert_string_equal(verdict_kind_name(VERDICT_LATER), "deferred");
	assert_string_equal(verdict_kind_name(VERDICT_NEVER), "failed");
	for (unsigned s = 0; s < STAGE_COUNT; s++) {
		assert_non_null(smtp_stage_name((enum smtp_stage)s));
		assert_string_not_equal(smtp_stage_name((enum smtp_stage)s), "unknown");
	}
	assert_string_equal(smtp_stage_name(STAGE_END_OF_DATA), "end_of_data");
	assert_string_equal(smtp_stage_name(STAGE_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_enhanced_codes_at_the_beginning_only),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(formats_what_it_parses),
		cmocka_unit_test(names_every_kind_and_stage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
