/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/slice.h"

static void compares_bytes_and_letters(void **state)
{
	static const struct {
		struct slice a;
		struct slice b;
		bool eq;
		bool eq_nocase;
		int order;
	} cases[] = {
		{SLICE_INIT(""), {NULL, 0}, true, true, 0},
		{SLICE_INIT("a"), {NULL, 0}, false, false, 1},
		{SLICE_INIT("abc"), SLICE_INIT("abc"), true, true, 0},
		{SLICE_INIT("abc"), SLICE_INIT("aBC"), false, true, 1},
		{SLICE_INIT("abc"), SLICE_INIT("abcd"), false, false, -1},
		{SLICE_INIT("a\0b"), SLICE_INIT("a\0c"), false, false, -1},
		{SLICE_INIT("\xff"), SLICE_INIT("a"), false, false, 1},
		{SLICE_INIT("@"), SLICE_INIT("`"), false, false, -1},
		{SLICE_INIT("["), SLICE_INIT("{"), false, false, -1},
		{SLICE_INIT("\xc1"), SLICE_INIT("\xe1"), false, false, -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int order = slice_cmp(cases[i].a, cases[i].b);
		int back = slice_cmp(cases[i].b, cases[i].a);
		assert_int_equal(slice_eq(cases[i].a, cases[i].b), cases[i].eq);
		assert_int_equal(slice_eq_nocase(cases[i].a, cases[i].b), cases[i].eq_nocase);
		assert_int_equal((order > 0) - (order < 0), cases[i].order);
		assert_int_equal((back > 0) - (back < 0), -cases[i].order);
	}
}

static void knows_beginnings_and_ends(void **state)
{
	(void)state;
	assert_true(slice_starts(SLICE("MAIL FROM:"), SLICE("MAIL")));
	assert_false(slice_starts(SLICE("MAIL FROM:"), SLICE("mail")));
	assert_true(slice_starts_nocase(SLICE("MAIL FROM:"), SLICE("mail f")));
	assert_false(slice_starts(SLICE("MA"), SLICE("MAIL")));
	assert_false(slice_starts_nocase(SLICE("MA"), SLICE("MAIL")));
	assert_true(slice_starts(SLICE_EMPTY, SLICE_EMPTY));
	assert_true(slice_starts_nocase(SLICE("x"), SLICE_EMPTY));
	assert_true(slice_ends_nocase(SLICE("mx.Example.NET"), SLICE(".net")));
	assert_true(slice_ends_nocase(SLICE(".net"), SLICE(".NET")));
	assert_false(slice_ends_nocase(SLICE("net"), SLICE(".net")));
	assert_true(slice_ends_nocase(SLICE_EMPTY, SLICE_EMPTY));
}

static void finds_the_first_and_the_last(void **state)
{
	(void)state;
	assert_int_equal(slice_find(SLICE("a@b@c"), '@'), 1);
	assert_int_equal(slice_find_last(SLICE("a@b@c"), '@'), 3);
	assert_int_equal(slice_find(SLICE("abc"), '@'), 3);
	assert_int_equal(slice_find_last(SLICE("abc"), '@'), 3);
	assert_int_equal(slice_find(SLICE("a\0b"), 0), 1);
	assert_int_equal(slice_find(SLICE_EMPTY, 0), 0);
	assert_int_equal(slice_find_last(SLICE_EMPTY, 0), 0);
}

static void cuts_without_leaving_its_bounds(void **state)
{
	struct slice s = SLICE("0123");

	(void)state;
	for (size_t n = 0; n < 7; n++) {
		size_t in = n < 4 ? n : 4;
		assert_int_equal(slice_head(s, n).n, in);
		assert_int_equal(slice_skip(s, n).n, 4 - in);
		assert_ptr_equal(slice_skip(s, n).p, s.p + in);
	}
	assert_int_equal(slice_skip(s, SIZE_MAX).n, 0);
	assert_int_equal(slice_head(s, SIZE_MAX).n, 4);
	assert_null(slice_skip(SLICE_EMPTY, 3).p);
	assert_int_equal(slice_from_cstr(NULL).n, 0);
	assert_true(slice_eq(slice_from_cstr("ab"), SLICE("ab")));
}

static void trims_both_ends(void **state)
{
	(void)state;
	assert_true(slice_eq(slice_trim(SLICE(" \t\r\na b\n\r\t ")), SLICE("a b")));
	assert_true(slice_eq(slice_trim(SLICE(" \t ")), SLICE_EMPTY));
	assert_true(slice_eq(slice_trim(SLICE_EMPTY), SLICE_EMPTY));
	assert_true(slice_eq(slice_trim(SLICE("\vx\f")), SLICE("\vx\f")));
}

static void takes_parts_between_separators(void **state)
{
	static const struct {
		struct slice from;
		size_t n;
		struct slice parts[4];
	} cases[] = {
		{SLICE_INIT(""), 0, {{NULL, 0}}},
		{SLICE_INIT("a"), 1, {SLICE_INIT("a")}},
		{SLICE_INIT("a,"), 1, {SLICE_INIT("a")}},
		{SLICE_INIT(","), 1, {SLICE_INIT("")}},
		{SLICE_INIT(",a"), 2, {SLICE_INIT(""), SLICE_INIT("a")}},
		{SLICE_INIT("a,,b"), 3, {SLICE_INIT("a"), SLICE_INIT(""), SLICE_INIT("b")}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice rest = cases[i].from;
		struct slice part;
		size_t n = 0;
		while (slice_cut(&rest, ',', &part)) {
			assert_true(n < cases[i].n);
			assert_true(slice_eq(part, cases[i].parts[n]));
			n++;
		}
		assert_int_equal(n, cases[i].n);
		assert_int_equal(rest.n, 0);
	}
}

static void takes_words(void **state)
{
	static const struct {
		struct slice from;
		size_t n;
		struct slice words[4];
	} cases[] = {
		{SLICE_INIT(""), 0, {{NULL, 0}}},
		{SLICE_INIT(" , "), 0, {{NULL, 0}}},
		{SLICE_INIT("a"), 1, {SLICE_INIT("a")}},
		{SLICE_INIT(", a ,"), 1, {SLICE_INIT("a")}},
		{SLICE_INIT("a, b\tc"), 2, {SLICE_INIT("a"), SLICE_INIT("b\tc")}},
		{SLICE_INIT("a\0 b"), 2, {SLICE_INIT("a\0"), SLICE_INIT("b")}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice rest = cases[i].from;
		struct slice word;
		size_t n = 0;
		while (slice_word(&rest, ", ", &word)) {
			assert_true(n < cases[i].n);
			assert_true(slice_eq(word, cases[i].words[n]));
			n++;
		}
		assert_int_equal(n, cases[i].n);
		assert_int_equal(rest.n, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares_bytes_and_letters),
		cmocka_unit_test(knows_beginnings_and_ends),
		cmocka_unit_test(finds_the_first_and_the_last),
		cmocka_unit_test(cuts_without_leaving_its_bounds),
		cmocka_unit_test(trims_both_ends),
		cmocka_unit_test(takes_parts_between_separators),
		cmocka_unit_test(takes_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
