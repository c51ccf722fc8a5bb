/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "smtp-out/outcome.h"

static void reads_replies(void **state)
{
	static const struct {
		const char *reply;
		enum verdict_kind kind;
		struct enhanced_code status;
	} cases[] = {
		{"250 ok\r\n", VERDICT_DONE, {2, 0, 0}},
		{"250 2.1.5 ok\r\n", VERDICT_DONE, {2, 1, 5}},
		{"299 4.0.0 ok\r\n", VERDICT_DONE, {2, 0, 0}},
		{"450 4.2.1 busy\r\n", VERDICT_LATER, {4, 2, 1}},
		{"421 bye\r\n", VERDICT_LATER, {4, 0, 0}},
		{"450 5.1.1 unknown\r\n", VERDICT_LATER, {4, 0, 0}},
		{"550 5.1.1 unknown\r\n", VERDICT_NEVER, {5, 1, 1}},
		{"550 4.7.1 hm\r\n", VERDICT_NEVER, {5, 0, 0}},
		{"599 no\r\n", VERDICT_NEVER, {5, 0, 0}},
	};
	struct reply r;

	(void)state;
	reply_init(&r);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t used = 0;
		reply_reset(&r);
		assert_int_equal(reply_feed(&r, slice_from_cstr(cases[i].reply), &used),
			ERR_OK);
		struct outcome o = outcome_of_reply(STAGE_RCPT, &r);
		assert_int_equal(o.kind, cases[i].kind);
		assert_int_equal(o.stage, STAGE_RCPT);
		assert_int_equal(o.smtp_code, r.code);
		assert_memory_equal(&o.status, &cases[i].status, sizeof(o.status));
	}
	reply_clear(&r);
}

static void keeps_text_that_anything_can_bear(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} cases[] = {
		{"", ""},
		{"plain 1.2.3", "plain 1.2.3"},
		{"two\nlines", "two\nlines"},
		{"tab\there", "tab\\x09here"},
		{"\x1b[2J", "\\x1b[2J"},
		{"\r", "\\x0d"},
		{"\x7f", "\\x7f"},
		{"gr\xc3\xbc\xc3\x9f"
		 "e",
			"gr\xc3\xbc\xc3\x9f"
			"e"},
		{"\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80"},
		{"\xc3", "\\xc3"},
		{"\xc0\x80", "\\xc0\\x80"},
		{"\xe0\x80\x80", "\\xe0\\x80\\x80"},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
		{"\xf5", "\\xf5"},
		{"\xc2\x85", "\\xc2\\x85"}, /* a C1 control */
		{"\xe2\x82", "\\xe2\\x82"},
	};
	struct arena a;

	(void)state;
	arena_init(&a, 1u << 20);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice kept = outcome_keep_text(&a, slice_from_cstr(cases[i].text));
		assert_int_equal(kept.n, strlen(cases[i].want));
		if (kept.n > 0) {
			assert_memory_equal(kept.p, cases[i].want, kept.n);
		}
	}
	arena_clear(&a);
}

static void keeps_no_more_than_the_limit(void **state)
{
	static uint8_t text[3 * LIMIT_REPLY_TEXT];
	struct arena a;

	(void)state;
	arena_init(&a, 1u << 22);
	for (unsigned c = 0; c < 256; c++) {
		memset(text, (int)c, sizeof(text));
		for (size_t n = LIMIT_REPLY_TEXT - 5; n < LIMIT_REPLY_TEXT + 5; n++) {
			struct slice kept = outcome_keep_text(&a, slice_make(text, n));
			assert_true(kept.n <= LIMIT_REPLY_TEXT);
			assert_true(kept.n > LIMIT_REPLY_TEXT - 6);
		}
		arena_reset(&a);
	}
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_replies),
		cmocka_unit_test(keeps_text_that_anything_can_bear),
		cmocka_unit_test(keeps_no_more_than_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
