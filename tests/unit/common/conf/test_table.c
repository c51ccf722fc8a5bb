/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/conf/conf.h"
#include "common/conf/table.h"

static struct table *parse(const char *spec, const char *content)
{
	struct table *t = NULL;
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	if (table_parse(slice_from_cstr(spec), slice_from_cstr(content), &why, &t) != ERR_OK) {
		fail_msg("%s: %.*s", spec, SLICE_ARG(buf_view(&why)));
	}
	buf_clear(&why);
	return t;
}

static void expect(const struct table *t, const char *key, const char *want)
{
	struct slice got = SLICE_EMPTY;
	bool is_there = table_find(t, slice_from_cstr(key), &got);

	if (is_there != (want != NULL) ||
		(want != NULL && !slice_eq(got, slice_from_cstr(want)))) {
		fail_msg("%s: got \"%.*s\"", key, SLICE_ARG(got));
	}
}

static void expect_domain(const struct table *t, const char *domain, bool parents,
	const char *want)
{
	struct slice got = SLICE_EMPTY;
	bool is_there = table_find_domain(t, slice_from_cstr(domain), parents, &got);

	if (is_there != (want != NULL) ||
		(want != NULL && !slice_eq(got, slice_from_cstr(want)))) {
		fail_msg("%s: got \"%.*s\"", domain, SLICE_ARG(got));
	}
}

static void reads_the_text_that_postmap_reads(void **state)
{
	struct table *t = parse("texthash:/x", "# comment\n"
					       "\n"
					       "Example.COM\tsmtp:[192.0.2.1]:25  \r\n"
					       "  # comment inside\n"
					       "long one\n"
					       "   and two\n"
					       "\t\n"
					       "   and three\n"
					       "\"john smith\"@example.com yes\n"
					       "example.com  second\n"
					       "last value");
	struct slice key;
	struct slice value;

	(void)state;
	assert_int_equal(table_count(t), 4);
	expect(t, "example.com", "smtp:[192.0.2.1]:25");
	expect(t, "LONG", "one   and two   and three");
	expect(t, "\"John Smith\"@example.com", "yes");
	expect(t, "last", "value");
	expect(t, "nosuch", NULL);
	expect(t, "", NULL);
	table_at(t, 0, &key, &value);
	assert_true(slice_eq(key, SLICE("example.com")));
	table_at(t, 3, &key, &value);
	assert_true(slice_eq(key, SLICE("last")));
	table_free(&t);
	table_free(&t);
}

static void looks_for_parents_as_transport_5_says(void **state)
{
	struct table *t = parse("texthash:/x", "example.com host\n"
					       ".example.com below\n"
					       "example.net net\n"
					       "* all\n");

	(void)state;
	expect_domain(t, "example.com", false, "host");
	expect_domain(t, "EXAMPLE.com.", false, "host");
	expect_domain(t, "a.example.com", false, "below");
	expect_domain(t, "b.a.example.com", true, "below");
	expect_domain(t, "a.example.net", false, "all");
	expect_domain(t, "a.example.net", true, "net");
	expect_domain(t, "example.org", true, "all");
	expect_domain(t, "", true, "all");
	expect_domain(t, ".", true, "all");
	expect_domain(t, "a..example.com", false, "below");
	table_free(&t);
	t = parse("texthash:/x", "com c\n");
	expect_domain(t, "example.com", false, NULL);
	expect_domain(t, "example.com", true, "c");
	expect_domain(t, "example.net", true, NULL);
	table_free(&t);
}

static void reads_inline_and_static_tables(void **state)
{
	struct table *t = parse("inline:{a=1, {b = two words}, C=3}", "");

	(void)state;
	assert_int_equal(table_count(t), 3);
	expect(t, "a", "1");
	expect(t, "B", "two words");
	expect(t, "c", "3");
	table_free(&t);
	t = parse("static:{smtp:[192.0.2.1]}", "");
	expect(t, "anything", "smtp:[192.0.2.1]");
	expect_domain(t, "x.y", false, "smtp:[192.0.2.1]");
	table_free(&t);
	t = parse("proxy:static:x", "");
	expect(t, "", "x");
	table_free(&t);
	t = parse("", "");
	assert_int_equal(table_count(t), 0);
	expect(t, "a", NULL);
	expect_domain(t, "a.b", true, NULL);
	table_free(&t);
}

static void refuses_with_a_line_and_a_reason(void **state)
{
	static const struct {
		const char *spec;
		const char *content;
		const char *why;
	} cases[] = {
		{"texthash:/x", "a b\nlonely\n", "line 2: expected a key and a value"},
		{"texthash:/x", "lonely   \n", "line 1: expected a key and a value"},
		{"texthash:/x", "  a b\n", "line 1: continues nothing"},
		{"hash:/etc/x", "", "write texthash:/etc/x"},
		{"lmdb:/etc/x", "", "write texthash:/etc/x"},
		{"btree:/etc/x", "", "write texthash:/etc/x"},
		{"regexp:/etc/x", "", "must be texthash:/path"},
		{"/etc/x", "", "must be texthash:/path"},
		{"inline:a=b", "", "expected inline:{"},
		{"inline:{a}", "", "entry 1: expected a key and a value"},
		{"inline:{a=1,{=2}}", "", "entry 2: expected a key and a value"},
		{"static:", "", "expected a key and a value"},
	};
	struct buf why;

	(void)state;
	buf_init(&why, LIMIT_TEXT);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct table *t = NULL;
		enum err e = table_parse(slice_from_cstr(cases[i].spec),
			slice_from_cstr(cases[i].content), &why, &t);
		struct slice said = buf_view(&why);
		if (e == ERR_OK ||
			memmem(said.p, said.n, cases[i].why, strlen(cases[i].why)) == NULL) {
			fail_msg("%s: %.*s", cases[i].spec, SLICE_ARG(said));
		}
		assert_null(t);
		buf_reset(&why);
	}
	buf_clear(&why);
}

static void refuses_nul_bytes_and_endless_keys(void **state)
{
	char *text = malloc(3000);
	struct table *t = NULL;
	struct buf why;

	(void)state;
	buf_init(&why, LIMIT_TEXT);
	assert_int_equal(table_parse(SLICE("texthash:/x"), SLICE("a\0b c\n"), &why, &t),
		ERR_SYNTAX);
	memset(text, 'a', 3000);
	memcpy(text + 1025, " v", 2);
	assert_int_equal(table_parse(SLICE("texthash:/x"), slice_make(text, 1027), &why, &t),
		ERR_SYNTAX);
	assert_int_equal(
		table_parse(SLICE("texthash:/x"), slice_make(text + 1, 1026), &why, &t),
		ERR_OK);
	struct slice got;
	assert_true(table_find(t, slice_make(text + 1, 1024), &got));
	assert_false(table_find(t, slice_make(text, 1025), &got));
	table_free(&t);
	buf_clear(&why);
	free(text);
}

static void holds_many_entries(void **state)
{
	struct buf text;
	struct table *t = NULL;
	struct buf why;
	char key[32];

	(void)state;
	buf_init(&text, (size_t)8 << 20);
	buf_init(&why, LIMIT_TEXT);
	for (unsigned i = 0; i < 20000; i++) {
		assert_int_equal(buf_printf(&text, "host%u.example v%u\n", i, i), ERR_OK);
	}
	assert_int_equal(table_parse(SLICE("texthash:/x"), buf_view(&text), &why, &t), ERR_OK);
	buf_clear(&text);
	assert_int_equal(table_count(t), 20000);
	for (unsigned i = 0; i < 20000; i += 777) {
		char want[32];
		(void)snprintf(key, sizeof(key), "HOST%u.example", i);
		(void)snprintf(want, sizeof(want), "v%u", i);
		expect(t, key, want);
	}
	table_free(&t);
	buf_clear(&why);
}

static void splits_lists_of_tables(void **state)
{
	struct slice rest = SLICE("texthash:/a, inline:{a=1, b=2} ,proxy:texthash:/b");
	static const char *const want[] = {"texthash:/a", "inline:{a=1, b=2}",
		"proxy:texthash:/b"};
	static const char *const paths[] = {"/a", NULL, "/b"};
	struct slice spec;
	struct slice path;
	size_t n = 0;

	(void)state;
	while (table_spec_next(&rest, &spec)) {
		assert_true(n < ARRAY_LEN(want));
		assert_true(slice_eq(spec, slice_from_cstr(want[n])));
		assert_int_equal(table_spec_file(spec, &path), paths[n] != NULL);
		if (paths[n] != NULL) {
			assert_true(slice_eq(path, slice_from_cstr(paths[n])));
		}
		n++;
	}
	assert_int_equal(n, 3);
}

static void asks_the_tables_of_a_setting_in_their_order(void **state)
{
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;
	struct table *t = NULL;
	struct buf why;
	struct slice key;
	struct slice value;

	(void)state;
	buf_init(&why, LIMIT_TEXT);
	assert_int_equal(conf_builder_set(b, SLICE("transport_maps"),
				 SLICE("texthash:/a, inline:{y=inline, x=inline}"), &why),
		ERR_OK);
	assert_int_equal(conf_builder_file(b, SLICE("texthash:/a"), SLICE("x file\n")), ERR_OK);
	assert_int_equal(conf_builder_end(&b, &why, &c), ERR_OK);
	assert_int_equal(table_from_conf(c, CONF_transport_maps, &why, &t), ERR_OK);
	expect(t, "x", "file");
	expect(t, "y", "inline");
	expect(t, "z", NULL);
	assert_int_equal(table_count(t), 3);
	table_at(t, 2, &key, &value);
	assert_true(slice_eq(key, SLICE("x")));
	table_free(&t);
	assert_int_equal(table_from_conf(c, CONF_dkim_keys, &why, &t), ERR_OK);
	assert_int_equal(table_count(t), 0);
	table_free(&t);
	conf_free(&c);

	b = conf_builder_new();
	assert_int_equal(
		conf_builder_set(b, SLICE("transport_maps"), SLICE("texthash:/gone"), &why),
		ERR_OK);
	assert_int_equal(conf_builder_end(&b, &why, &c), ERR_OK);
	assert_int_equal(table_from_conf(c, CONF_transport_maps, &why, &t), ERR_CONFIG);
	assert_null(t);
	conf_free(&c);
	buf_clear(&why);
}

static void ends_at_every_truncation(void **state)
{
	static const char spec[] = "inline:{a=1, {b = \"x y\"}, c={d}}";
	static const char text[] = "# c\n\"a b\"@c d\n  e\nf\\g h\n";
	struct buf why;

	(void)state;
	buf_init(&why, LIMIT_TEXT);
	for (size_t n = 0; n < sizeof(spec); n++) {
		struct table *t = NULL;
		uint8_t *exact = test_malloc(n + 1);
		memcpy(exact, spec, n);
		buf_reset(&why);
		if (table_parse(slice_make(exact, n), SLICE_EMPTY, &why, &t) == ERR_OK) {
			table_free(&t);
		}
		test_free(exact);
	}
	for (size_t n = 0; n < sizeof(text); n++) {
		struct table *t = NULL;
		uint8_t *exact = test_malloc(n + 1);
		memcpy(exact, text, n);
		buf_reset(&why);
		if (table_parse(SLICE("texthash:/x"), slice_make(exact, n), &why, &t) ==
			ERR_OK) {
			table_free(&t);
		}
		test_free(exact);
	}
	buf_clear(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_text_that_postmap_reads),
		cmocka_unit_test(looks_for_parents_as_transport_5_says),
		cmocka_unit_test(reads_inline_and_static_tables),
		cmocka_unit_test(refuses_with_a_line_and_a_reason),
		cmocka_unit_test(refuses_nul_bytes_and_endless_keys),
		cmocka_unit_test(holds_many_entries),
		cmocka_unit_test(splits_lists_of_tables),
		cmocka_unit_test(asks_the_tables_of_a_setting_in_their_order),
		cmocka_unit_test(ends_at_every_truncation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
