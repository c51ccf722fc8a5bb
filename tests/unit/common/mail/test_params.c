/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/mail/params.h"

#define S(text) SLICE_INIT(text)

struct decode_case {
	struct slice text;
	enum err want;
	struct slice value;
};

static void takes_parameters_one_by_one(void **state)
{
	struct slice rest =
		SLICE(" SIZE=1000  BODY=8BITMIME SMTPUTF8 AUTH=<> X-y=a+2Bb;c \xc3\xbc=1");
	static const struct {
		const char *keyword;
		const char *value;
	} want[] = {
		{"SIZE", "1000"},
		{"BODY", "8BITMIME"},
		{"SMTPUTF8", NULL},
		{"AUTH", "<>"},
		{"X-y", "a+2Bb;c"},
	};
	struct param p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(param_next(&rest, &p), ERR_OK);
		assert_true(slice_eq(p.keyword, slice_from_cstr(want[i].keyword)));
		if (want[i].value == NULL) {
			assert_null(p.value.p);
		} else {
			assert_non_null(p.value.p);
			assert_true(slice_eq(p.value, slice_from_cstr(want[i].value)));
		}
	}
	assert_int_equal(param_next(&rest, &p), ERR_SYNTAX);
}

static void refuses_what_is_no_parameter(void **state)
{
	static const struct {
		struct slice text;
		enum err want;
	} cases[] = {
		{S(""), ERR_NOTFOUND},
		{S(" "), ERR_NOTFOUND},
		{S("   "), ERR_NOTFOUND},
		{S("SIZE=1"), ERR_SYNTAX}, /* no blank */
		{S("x"), ERR_SYNTAX},
		{S(" ="), ERR_SYNTAX},
		{S(" =1"), ERR_SYNTAX},
		{S(" SIZE="), ERR_SYNTAX},
		{S(" SIZE= 1"), ERR_SYNTAX},
		{S(" SIZE=1=2"), ERR_SYNTAX},
		{S(" -A=1"), ERR_SYNTAX},
		{S(" A-=1"), ERR_OK},
		{S(" A_B=1"), ERR_SYNTAX},
		{S("\tSIZE=1"), ERR_SYNTAX},
		{S(" \tSIZE=1"), ERR_SYNTAX},
		{S(" SIZE\t=1"), ERR_SYNTAX},
		{S(" SIZE=1\t"), ERR_SYNTAX},
		{S(" SIZE=1\r"), ERR_SYNTAX},
		{S(" SIZE=\0"), ERR_SYNTAX},
		{S(" SIZE=1\0"), ERR_SYNTAX},
		{S(" SIZE=1\x7f"), ERR_SYNTAX},
		{S(" S\0IZE=1"), ERR_SYNTAX},
		{S(" A=\xc3\xbc"), ERR_OK},
		{S(" 8BIT"), ERR_OK},
		{S(" A=!\"#$%&'()*+,-./:;<>?@[\\]^_`{|}~"), ERR_OK},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice rest = cases[i].text;
		struct param p;
		if (param_next(&rest, &p) != cases[i].want) {
			fail_msg("case %zu", i);
		}
		if (cases[i].want == ERR_SYNTAX) {
			assert_ptr_equal(rest.p, cases[i].text.p);
		}
	}
}

static void check_decoding(enum err (*decode)(struct slice, struct arena *, struct slice *),
	const struct decode_case *cases, size_t count)
{
	struct arena arena;

	arena_init(&arena, 65536);
	for (size_t i = 0; i < count; i++) {
		struct slice out = SLICE("untouched");
		enum err e = decode(cases[i].text, &arena, &out);
		if (e != cases[i].want) {
			fail_msg("case %zu %.*s: %s", i, SLICE_ARG(cases[i].text), err_str(e));
		}
		if (!slice_eq(out, e == ERR_OK ? cases[i].value : SLICE("untouched"))) {
			fail_msg("case %zu yields %.*s", i, SLICE_ARG(out));
		}
		/* Every truncation, in memory of its exact size. */
		for (size_t n = 0; n < cases[i].text.n; n++) {
			uint8_t *copy = alloc_bytes(n);
			memcpy(copy, cases[i].text.p, n);
			e = decode(slice_make(copy, n), &arena, &out);
			free(copy);
			arena_reset(&arena);
		}
	}
	arena_clear(&arena);
}

static const struct decode_case xtexts[] = {
	{S("QQ1"), ERR_OK, S("QQ1")},
	{S("a+2Bb"), ERR_OK, S("a+b")},
	{S("a+2bb"), ERR_OK, S("a+b")},
	{S("a+3Db"), ERR_OK, S("a=b")},
	{S("a+20b"), ERR_OK, S("a b")},
	{S("+2B+2B"), ERR_OK, S("++")},
	{S("a+7Eb~"), ERR_OK, S("a~b~")},
	{S("a+2"), ERR_SYNTAX, S("")},
	{S("a+"), ERR_SYNTAX, S("")},
	{S("a+zz"), ERR_SYNTAX, S("")},
	{S("a+2zz"), ERR_SYNTAX, S("")},
	{S("a=b"), ERR_SYNTAX, S("")},
	{S("a b"), ERR_SYNTAX, S("")},
	{S("a\tb"), ERR_SYNTAX, S("")},
	{S("a\x7f"), ERR_SYNTAX, S("")},
	{S("a\xc3\xbc"), ERR_SYNTAX, S("")},
	{S("x+0D+0AInjected:1"), ERR_SYNTAX, S("")},
	{S("x+0A"), ERR_SYNTAX, S("")},
	{S("x+00"), ERR_SYNTAX, S("")},
	{S("x+09"), ERR_SYNTAX, S("")},
	{S("x+7F"), ERR_SYNTAX, S("")},
	{S("x+E3"), ERR_SYNTAX, S("")},
};

static void decodes_xtext(void **state)
{
	(void)state;
	check_decoding(xtext_decode, xtexts, ARRAY_LEN(xtexts));
}

static void encodes_xtext_within_its_room(void **state)
{
	char to[16];
	size_t n = 99;

	(void)state;
	assert_int_equal(xtext_encode(SLICE("a+b=c d"), to, sizeof(to), &n), ERR_OK);
	assert_int_equal(n, 13);
	assert_memory_equal(to, "a+2Bb+3Dc+20d", 13);
	n = 99;
	assert_int_equal(xtext_encode(SLICE("a+b=c d"), to, 12, &n), ERR_TOOBIG);
	assert_int_equal(xtext_encode(SLICE("a+"), to, 3, &n), ERR_TOOBIG);
	assert_int_equal(n, 99);
	assert_int_equal(xtext_encode(SLICE_EMPTY, to, 0, &n), ERR_OK);
	assert_int_equal(n, 0);
	assert_int_equal(xtext_encode(SLICE("\xff\x01"), to, 6, &n), ERR_OK);
	assert_memory_equal(to, "+FF+01", 6);
}

static void parses_notify(void **state)
{
	static const struct {
		struct slice text;
		enum err want;
		uint8_t bits;
	} cases[] = {
		{S("NEVER"), ERR_OK, 1},
		{S("SUCCESS"), ERR_OK, 2},
		{S("FAILURE"), ERR_OK, 4},
		{S("DELAY"), ERR_OK, 8},
		{S("SUCCESS,FAILURE,DELAY"), ERR_OK, 14},
		{S("delay,Success"), ERR_OK, 10},
		{S("NEVER,SUCCESS"), ERR_SYNTAX, 0},
		{S("SUCCESS,NEVER"), ERR_SYNTAX, 0},
		{S("SUCCESS,SUCCESS"), ERR_SYNTAX, 0},
		{S(""), ERR_SYNTAX, 0},
		{S(","), ERR_SYNTAX, 0},
		{S("SUCCESS,"), ERR_SYNTAX, 0},
		{S(",SUCCESS"), ERR_SYNTAX, 0},
		{S("X"), ERR_SYNTAX, 0},
		{S("SUCCES"), ERR_SYNTAX, 0},
		{S("SUCCESS FAILURE"), ERR_SYNTAX, 0},
		{S("SUCCESS\0"), ERR_SYNTAX, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t bits = 77;
		if (notify_parse(cases[i].text, &bits) != cases[i].want ||
			bits != (cases[i].want == ERR_OK ? cases[i].bits : 77)) {
			fail_msg("case %zu", i);
		}
	}
}

static const struct decode_case orcpts[] = {
	{S("rfc822;a@b"), ERR_OK, S("rfc822;a@b")},
	{S("RFC822;a+2Bb@c"), ERR_OK, S("RFC822;a+b@c")},
	{S("x400;/c=jp/"), ERR_SYNTAX, S("")},
	{S("x400;/c+3Djp/"), ERR_OK, S("x400;/c=jp/")},
	{S("utf-8;a@b"), ERR_OK, S("utf-8;a@b")},
	{S("utf-8;\xe6\x97\xa5@b"), ERR_OK, S("utf-8;\xe6\x97\xa5@b")},
	{S("UTF-8;\\x{65E5}@b"), ERR_OK, S("UTF-8;\xe6\x97\xa5@b")},
	{S("utf-8;\\x{5C}\\x{2B}\\x{3D}"), ERR_OK, S("utf-8;\\+=")},
	{S("utf-8;\\x{5}"), ERR_SYNTAX, S("")},
	{S("utf-8;\\x{1F40E}"), ERR_OK, S("utf-8;\xf0\x9f\x90\x8e")},
	{S("utf-8;\\x{0D}"), ERR_SYNTAX, S("")},
	{S("utf-8;\\x{D800}"), ERR_SYNTAX, S("")},
	{S("utf-8;\\x{110000}"), ERR_SYNTAX, S("")},
	{S("utf-8;\\x{}"), ERR_SYNTAX, S("")},
	{S("utf-8;\\x{65E5"), ERR_SYNTAX, S("")},
	{S("utf-8;\\y"), ERR_SYNTAX, S("")},
	{S("utf-8;\xc0\x80"), ERR_SYNTAX, S("")},
	{S("utf-8;\xed\xa0\x80"), ERR_SYNTAX, S("")},
	{S("utf-8;\xf5\x80\x80\x80"), ERR_SYNTAX, S("")},
	{S("utf-8;\xe6\x97"), ERR_SYNTAX, S("")},
	{S("utf-8;\xc2\x85"), ERR_SYNTAX, S("")},
	{S("utf-8;a b"), ERR_SYNTAX, S("")},
	{S("rfc822;\xe6\x97\xa5@b"), ERR_SYNTAX, S("")},
	{S("rfc822;"), ERR_SYNTAX, S("")},
	{S(";a@b"), ERR_SYNTAX, S("")},
	{S("rfc822"), ERR_SYNTAX, S("")},
	{S("rfc 822;a"), ERR_SYNTAX, S("")},
	{S("rfc822;a+0Ab"), ERR_SYNTAX, S("")},
	{S("rfc822;a;b"), ERR_OK, S("rfc822;a;b")},
};

static void parses_the_original_recipient(void **state)
{
	(void)state;
	check_decoding(orcpt_parse, orcpts, ARRAY_LEN(orcpts));
}

static void an_original_recipient_has_at_most_500_octets(void **state)
{
	char text[502];
	struct arena arena;
	struct slice out;

	(void)state;
	arena_init(&arena, 4096);
	memset(text, 'a', sizeof(text));
	memcpy(text, "rfc822;", 7);
	assert_int_equal(orcpt_parse(slice_make(text, 500), &arena, &out), ERR_OK);
	assert_int_equal(out.n, 500);
	assert_int_equal(orcpt_parse(slice_make(text, 501), &arena, &out), ERR_TOOBIG);
	arena_clear(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_parameters_one_by_one),
		cmocka_unit_test(refuses_what_is_no_parameter),
		cmocka_unit_test(decodes_xtext),
		cmocka_unit_test(encodes_xtext_within_its_room),
		cmocka_unit_test(parses_notify),
		cmocka_unit_test(parses_the_original_recipient),
		cmocka_unit_test(an_original_recipient_has_at_most_500_octets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
