/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/clock.h"
#include "smtp-out/site.h"

struct stage {
	struct loop *loop;
	struct settings settings;
	struct office office;
	struct site *site;
	struct cidr_list forbidden;
};

static const struct office_reports no_reports = {.on_job = NULL};

static void open_stage(struct stage *st)
{
	*st = (struct stage){.settings = {.use_ipv4 = true,
				     .use_ipv6 = true,
				     .address_limit = 5,
				     .total_limit = 100}};
	assert_int_equal(loop_new(&st->loop), ERR_OK);
	office_init(&st->office, st->loop, &no_reports, NULL);
	st->office.settings = &st->settings;
	st->site = site_new(&st->office, 1);
}

static void close_stage(struct stage *st)
{
	site_free(&st->site);
	cidr_list_clear(&st->forbidden);
	office_clear(&st->office);
	loop_free(&st->loop);
}

/* "ADDRESS PREFERENCE" each. */
static void servers(struct stage *st, const char *const *lines, uint32_t count)
{
	struct site_server *list = alloc_zero(count, sizeof(*list));

	for (uint32_t i = 0; i < count; i++) {
		struct slice rest = slice_from_cstr(lines[i]);
		struct slice word;
		assert_true(slice_word(&rest, " ", &word));
		assert_int_equal(endpoint_parse_addr(word, 25, &list[i].to), ERR_OK);
		assert_true(slice_word(&rest, " ", &word));
		list[i].preference = (uint16_t)(word.p[0] - '0');
	}
	site_update(st->site, 4, &list, count);
}

static const char *pick(struct stage *st, struct connection *c)
{
	static char text[ENDPOINT_TEXT_MAX];

	switch (site_pick(st->site, c)) {
	case SITE_PICKED:
		endpoint_format_addr(&c->target.to, text);
		return text;
	case SITE_EXHAUSTED:
		return "exhausted";
	case SITE_FORBIDDEN:
		return "forbidden";
	}
	return "?";
}

static void picks_by_preference_each_once(void **state)
{
	static const char *const list[] = {"192.0.2.3 3", "192.0.2.1 1", "192.0.2.2 2"};
	struct stage st;
	struct connection c = {.tried = 0};

	(void)state;
	open_stage(&st);
	servers(&st, list, ARRAY_LEN(list));
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	assert_string_equal(pick(&st, &c), "192.0.2.2");
	assert_string_equal(pick(&st, &c), "192.0.2.3");
	assert_string_equal(pick(&st, &c), "exhausted");
	close_stage(&st);
}

/* Among equals chance decides: chi-squared with 3 degrees of freedom stays below 30, which
 * chance exceeds once in a million times. */
static void spreads_among_equals(void **state)
{
	static const char *const list[] = {"192.0.2.1 1", "192.0.2.2 1", "192.0.2.3 1",
		"192.0.2.4 1", "192.0.2.9 2"};
	struct stage st;
	int counts[10] = {0};
	double chi = 0;

	(void)state;
	open_stage(&st);
	servers(&st, list, ARRAY_LEN(list));
	for (int i = 0; i < 1000; i++) {
		struct connection c = {.tried = 0, .changes = st.site->changes};
		const char *got = pick(&st, &c);
		counts[got[strlen(got) - 1] - '0']++;
	}
	assert_int_equal(counts[9], 0);
	for (int i = 1; i <= 4; i++) {
		chi += (counts[i] - 250.0) * (counts[i] - 250.0) / 250.0;
	}
	assert_true(chi < 30);
	close_stage(&st);
}

static void tries_what_was_bad_lately_last(void **state)
{
	static const char *const list[] = {"192.0.2.1 1", "192.0.2.2 2"};
	struct stage st;
	struct connection c = {.tried = 0};

	(void)state;
	open_stage(&st);
	servers(&st, list, ARRAY_LEN(list));
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	site_server_failed(st.site, &c.target, false);
	struct connection d = {.changes = st.site->changes};
	assert_string_equal(pick(&st, &d), "192.0.2.2");
	assert_string_equal(pick(&st, &d), "192.0.2.1");
	assert_string_equal(pick(&st, &d), "exhausted");
	/* It is remembered when the list comes anew. */
	servers(&st, list, ARRAY_LEN(list));
	assert_string_equal(pick(&st, &d), "192.0.2.2");
	close_stage(&st);
}

static void remembers_where_tls_failed(void **state)
{
	static const char *const list[] = {"192.0.2.1 1"};
	struct stage st;
	struct connection c = {.tried = 0};

	(void)state;
	open_stage(&st);
	servers(&st, list, ARRAY_LEN(list));
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	assert_false(c.target.in_clear);
	site_server_failed(st.site, &c.target, true);
	struct connection d = {.changes = st.site->changes};
	assert_string_equal(pick(&st, &d), "192.0.2.1");
	assert_true(d.target.in_clear);
	close_stage(&st);
}

static void never_picks_what_is_forbidden(void **state)
{
	static const char *const list[] = {"127.0.0.1 1", "::ffff:127.0.0.2 1",
		"64:ff9b::127.0.0.3 1", "64:ff9b:1::127.0.0.6 1", "::ffff:0:127.0.0.7 1",
		"2002:7f00:0004:: 1", "::127.0.0.5 1", "::1 1", "169.254.1.1 1", "192.0.2.1 2"};
	struct stage st;
	struct connection c = {.tried = 0};
	struct slice bad;

	(void)state;
	open_stage(&st);
	assert_int_equal(cidr_list_parse(SLICE("127.0.0.0/8 169.254.0.0/16 [::1]/128"),
				 &st.forbidden, &bad),
		ERR_OK);
	st.settings.forbidden = &st.forbidden;
	servers(&st, list, ARRAY_LEN(list));
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	assert_string_equal(pick(&st, &c), "exhausted");
	servers(&st, list, ARRAY_LEN(list) - 1);
	assert_string_equal(pick(&st, &c), "forbidden");
	close_stage(&st);
}

static void speaks_only_the_protocols_that_are_on(void **state)
{
	static const char *const list[] = {"2001:db8::1 1", "192.0.2.1 2"};
	struct stage st;
	struct connection c = {.tried = 0};

	(void)state;
	open_stage(&st);
	st.settings.use_ipv6 = false;
	servers(&st, list, ARRAY_LEN(list));
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	assert_string_equal(pick(&st, &c), "exhausted");
	close_stage(&st);
}

static void begins_anew_when_the_list_changes(void **state)
{
	static const char *const list[] = {"192.0.2.1 1", "192.0.2.2 2"};
	struct stage st;
	struct connection c = {.tried = 0};

	(void)state;
	open_stage(&st);
	servers(&st, list, 1);
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	servers(&st, list, 2);
	assert_string_equal(pick(&st, &c), "192.0.2.1");
	assert_string_equal(pick(&st, &c), "192.0.2.2");
	servers(&st, list, 0);
	assert_string_equal(pick(&st, &c), "exhausted");
	close_stage(&st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(picks_by_preference_each_once),
		cmocka_unit_test(spreads_among_equals),
		cmocka_unit_test(tries_what_was_bad_lately_last),
		cmocka_unit_test(remembers_where_tls_failed),
		cmocka_unit_test(never_picks_what_is_forbidden),
		cmocka_unit_test(speaks_only_the_protocols_that_are_on),
		cmocka_unit_test(begins_anew_when_the_list_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
