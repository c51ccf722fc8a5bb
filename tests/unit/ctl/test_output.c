/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "ctl/command.h"
#include "ctl/output.h"

static void shows_sizes_and_ages_shortly(void **state)
{
	static const struct {
		uint64_t n;
		const char *want;
	} sizes[] = {
		{0, "0"},
		{1023, "1023"},
		{1024, "1.0K"},
		{10239, "9.9K"},
		{10240, "10K"},
		{1048575, "1023K"},
		{1048576, "1.0M"},
		{UINT64_C(5) << 30, "5.0G"},
		{UINT64_MAX, "15E"},
	};
	static const struct {
		int64_t s;
		const char *want;
	} ages[] = {
		{0, "0s"},
		{59, "59s"},
		{60, "1m"},
		{3599, "59m"},
		{3600, "1h00m"},
		{86399, "23h59m"},
		{86400, "1d00h"},
		{-5, "-5s"},
		{INT64_MIN, "-106751991167300d15h"},
	};
	char got[OUT_SHORT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		out_format_bytes(sizes[i].n, got);
		assert_string_equal(got, sizes[i].want);
	}
	for (size_t i = 0; i < ARRAY_LEN(ages); i++) {
		out_format_age(ages[i].s, got);
		assert_string_equal(got, ages[i].want);
	}
}

static void shows_a_terminal_nothing_that_it_would_obey(void **state)
{
	static const struct {
		struct slice text;
		struct slice want;
	} cases[] = {
		{SLICE_INIT("plain\ttext"), SLICE_INIT("plain\ttext")},
		{SLICE_INIT("\x1b[2J\r\n\x07\0\x7f"), SLICE_INIT("?[2J?????")},
		{SLICE_INIT("\xe5\xb1\xb1\xc3\xa9\xf0\x9f\x98\x80"),
			SLICE_INIT("\xe5\xb1\xb1\xc3\xa9\xf0\x9f\x98\x80")},
		{SLICE_INIT("\xc2\x9b"
			    "31m"),
			SLICE_INIT("??31m")},
		{SLICE_INIT("\xc0\xaf\xed\xa0\x80\xff"), SLICE_INIT("??????")},
		{SLICE_INIT("\xe5\xb1"), SLICE_INIT("??")},
	};
	struct buf got;

	(void)state;
	buf_init(&got, 1000);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		buf_reset(&got);
		out_clean(cases[i].text, &got);
		if (!slice_eq(buf_view(&got), cases[i].want)) {
			fail_msg("%zu: \"%.*s\"", i, SLICE_ARG(buf_view(&got)));
		}
	}
	buf_clear(&got);
}

static void takes_options_wherever_they_stand(void **state)
{
	char words[][12] = {"one", "--since=1h", "-n", "two", "--since", "2h", "--json", "--",
		"-x"};
	char *args[ARRAY_LEN(words)];
	struct command c = {.args = args, .count = ARRAY_LEN(words)};
	const char *since = NULL;
	bool flag = false;
	const struct option options[] = {{"--since", &since, NULL}, {"-n", NULL, &flag}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		args[i] = words[i];
	}
	assert_true(args_take(&c, options, ARRAY_LEN(options)));
	assert_string_equal(since, "2h");
	assert_true(flag);
	assert_true(c.json);
	assert_int_equal(c.count, 3);
	assert_string_equal(c.args[0], "one");
	assert_string_equal(c.args[1], "two");
	assert_string_equal(c.args[2], "-x");
}

static void refuses_options_that_it_does_not_know(void **state)
{
	char unknown[] = "--nosuch";
	char since[] = "--since";
	char flag_with_value[] = "-n=1";
	char *lists[] = {unknown, since, flag_with_value};
	const char *value = NULL;
	bool flag = false;
	const struct option options[] = {{"--since", &value, NULL}, {"-n", NULL, &flag}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		struct command c = {.args = &lists[i], .count = 1};
		assert_false(args_take(&c, options, ARRAY_LEN(options)));
	}
}

static void explains_every_verb(void **state)
{
	size_t n = 0;

	(void)state;
	for (; verb_at(n) != NULL; n++) {
		const struct verb *v = verb_at(n);
		assert_ptr_equal(verb_find(v->name), v);
		assert_true(v->summary[0] != '\0');
		assert_non_null(v->run);
	}
	assert_true(n >= 12);
	assert_null(verb_find("nosuch"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_sizes_and_ages_shortly),
		cmocka_unit_test(shows_a_terminal_nothing_that_it_would_obey),
		cmocka_unit_test(takes_options_wherever_they_stand),
		cmocka_unit_test(refuses_options_that_it_does_not_know),
		cmocka_unit_test(explains_every_verb),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
