/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/conf/expand.h"

static const struct {
	const char *name;
	const char *text;
} names[] = {
	{"x", "1"},
	{"empty", ""},
	{"two", "$x$x"},
	{"level", "3.6"},
	{"dollar", "$$x"},
	{"loop", "a $other"},
	{"other", "${loop}"},
	{"self", "${self?a}"},
	{"d0", "$d1$d1"},
	{"d1", "$d2$d2"},
	{"d2", "$d3$d3"},
	{"d3", "$d4$d4"},
	{"d4", "$d5$d5"},
	{"d5", "$d6$d6"},
	{"d6", "$d7$d7"},
	{"d7", "$d8$d8"},
	{"d8", "$d9$d9"},
	{"d9", "$e0$e0"},
	{"e0", "$e1$e1"},
	{"e1", "$e2$e2"},
	{"e2", "$e3$e3"},
	{"e3", "$e4$e4"},
	{"e4", "$empty$empty"},
};

static bool find(const void *arg, struct slice name, struct slice *raw)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (slice_eq(name, slice_from_cstr(names[i].name))) {
			*raw = slice_from_cstr(names[i].text);
			return true;
		}
	}
	return false;
}

static const struct expand_source source = {.find = find};

static enum err expand(struct slice text, struct buf *out, struct buf *why)
{
	buf_reset(out);
	buf_reset(why);
	return expand_text(text, &source, out, why);
}

/* The results are what "postconf -x" of Postfix 3.7 printed for them. */
static const struct {
	const char *text;
	const char *want; /* null: refused */
} cases[] = {
	{"", ""}, {"plain = text # kept", "plain = text # kept"}, {"$x", "1"},
	{"a$x.b", "a1.b"}, {"$xy|", "|"}, {"${x}y", "1y"}, {"$(x)y", "1y"}, {"${ x }", "1"},
	{"$two", "11"}, {"$$x", "$x"}, {"$dollar", "$x"}, {"$nosuch|", "|"},
	{"${x?yes}", "yes"}, {"${empty?yes}|", "|"}, {"${nosuch:no}", "no"}, {"${x:no}|", "|"},
	{"${x?{a}:{b}}", "a"}, {"${empty?{a}:{b}}", "b"}, {"${x?{ a b }:{ c }}|", " a b |"},
	{"${x ?{a}}", "a"}, {"${x?y:z}", "y:z"}, {"${x?{y}:z w}", "y"},
	{"${empty?{y}:z w}", "z w"}, {"${x?$two}", "11"}, {"${x?${empty:{$two}}}", "11"},
	{"${{a} == {a} ? {y} : {n}}", "y"}, {"${{a}=={b}?{y}:{n}}", "n"},
	{"${{ 1 } == {1} ? {y} : {n}}", "n"}, {"${{$x} == {1} ? {y} : {n}}", "y"},
	{"${{a} != {b} ? {y}}", "y"}, {"${{a} == {b} : {n}}", "n"},
	{"${{a} == {a} ?yes}", "yes"}, {"${{a} == {a}}", "true"}, {"${{a} == {b}}|", "|"},
	{"${{10} < {9} ? {lt} : {ge}}", "ge"}, {"${{a10} < {a9} ? {lt} : {ge}}", "lt"},
	{"${{9} <= {9} ? {y} : {n}}", "y"}, {"${{9} > {9} ? {y} : {n}}", "n"},
	{"${{9} >= {9} ? {y} : {n}}", "y"}, {"${{$level} <level {3.10} ? {lt} : {ge}}", "lt"},
	{"${{$level} <=level {3.6} ? {y} : {n}}", "y"},
	{"${{3.6} ==level {3.6.0} ? {eq} : {ne}}", "eq"},
	{"${{$level} <level {1} ? {no} : {yes}}", "yes"},
	{"${{a} <level {1} ? {no} : {yes}}", NULL},
	{"${{1.2.3.4} <level {1} ? {no} : {yes}}", NULL}, {"$", NULL}, {"a$ b", NULL},
	{"$-", NULL}, {"${", NULL}, {"${}", NULL}, {"${x", NULL}, {"$(x", NULL},
	{"${x!y}", NULL}, {"${x?{y}", NULL}, {"${x?{y}z}", NULL}, {"${x:{y}:{z}}", NULL},
	{"${x?{y}:{z}w}", NULL}, {"${{a}}", NULL}, {"${{a} = {b}}", NULL},
	{"${{a} == b}", NULL}, {"${{a} == {b} x}", NULL}, {"$loop", NULL}, {"$self", NULL},
	{"$d0", NULL}, /* 2^16 steps that yield nothing */
};

static void expands_as_postfix_does(void **state)
{
	struct buf out;
	struct buf why;

	(void)state;
	buf_init(&out, LIMIT_PARAM_VALUE);
	buf_init(&why, LIMIT_TEXT);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum err e = expand(slice_from_cstr(cases[i].text), &out, &why);
		if ((e == ERR_OK) != (cases[i].want != NULL) ||
			(e == ERR_OK &&
				!slice_eq(buf_view(&out), slice_from_cstr(cases[i].want)))) {
			fail_msg("%s: \"%.*s\" (%.*s)", cases[i].text,
				SLICE_ARG(buf_view(&out)), SLICE_ARG(buf_view(&why)));
		}
		if (e != ERR_OK) {
			assert_true(buf_len(&why) != 0);
		}
	}
	buf_clear(&out);
	buf_clear(&why);
}

static void ends_at_every_truncation(void **state)
{
	struct buf out;
	struct buf why;

	(void)state;
	buf_init(&out, LIMIT_PARAM_VALUE);
	buf_init(&why, LIMIT_TEXT);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice whole = slice_from_cstr(cases[i].text);
		for (size_t n = 0; n < whole.n; n++) {
			uint8_t *exact = test_malloc(n + 1);
			memcpy(exact, whole.p, n);
			enum err e = expand(slice_make(exact, n), &out, &why);
			assert_true(e == ERR_OK || e == ERR_SYNTAX);
			test_free(exact);
		}
	}
	buf_clear(&out);
	buf_clear(&why);
}

static void stops_where_the_result_is_too_long_or_too_deep(void **state)
{
	struct buf out;
	struct buf why;
	char deep[400] = "";

	(void)state;
	buf_init(&out, 3);
	buf_init(&why, LIMIT_TEXT);
	assert_int_equal(expand(SLICE("$x$x$x"), &out, &why), ERR_OK);
	assert_int_equal(expand(SLICE("$x$x$x$x"), &out, &why), ERR_TOOBIG);
	assert_true(buf_len(&why) != 0);
	for (size_t i = 0; i < 60; i++) {
		memcpy(deep + i * 3, "${x?", 4);
		deep[i * 3 + 2] = 'x';
	}
	assert_int_equal(expand(slice_make(deep, 180), &out, &why), ERR_SYNTAX);
	buf_clear(&out);
	buf_clear(&why);
}

struct seen {
	char text[200];
};

static void note(void *arg, struct slice name)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	assert_true(n + name.n + 2 < sizeof(s->text));
	memcpy(s->text + n, name.p, name.n);
	s->text[n + name.n] = ' ';
	s->text[n + name.n + 1] = '\0';
}

static void finds_every_name_that_is_referred_to(void **state)
{
	struct seen s = {.text = ""};

	(void)state;
	expand_references(
		SLICE("$a ${b} $(c) $$d ${ e ?{$f}:{${g:h}}} ${{$i} == {$j} ? {$k}} $"), note,
		&s);
	assert_string_equal(s.text, "a b c e f g i j k ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(expands_as_postfix_does),
		cmocka_unit_test(ends_at_every_truncation),
		cmocka_unit_test(stops_where_the_result_is_too_long_or_too_deep),
		cmocka_unit_test(finds_every_name_that_is_referred_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
