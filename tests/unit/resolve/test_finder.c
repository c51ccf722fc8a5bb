/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "resolve/finder.h"

/*
 * What the DNS says, as the cases below write it: "a.lab MX 10 mx.lab", "mx.lab A 192.0.2.1",
 * "x.lab MX !failed". A name and type that are not there have no data; "?" never answers.
 */
struct world {
	struct loop *loop;
	struct finder *finder;
	struct finder_rules rules;
	struct cidr_list forbidden;
	const char *const *zone;
	unsigned asked;
	struct {
		char name[DNS_NAME_MAX + 1];
		uint16_t type;
		dns_done *done;
		void *arg;
	} open[2048];
	size_t open_count;
	struct route *route;
	unsigned told;
};

static const char *type_name(uint16_t type)
{
	return type == DNS_TYPE_MX ? "MX" : type == DNS_TYPE_A ? "A" : "AAAA";
}

static void lookup(void *arg, struct slice name, uint16_t type, dns_done *done, void *done_arg)
{
	struct world *w = arg;

	assert_true(w->open_count < ARRAY_LEN(w->open));
	memcpy(w->open[w->open_count].name, name.p, name.n);
	w->open[w->open_count].name[name.n] = '\0';
	w->open[w->open_count].type = type;
	w->open[w->open_count].done = done;
	w->open[w->open_count].arg = done_arg;
	w->open_count++;
	w->asked++;
}

static enum dns_status status_of(const char *word)
{
	static const struct {
		const char *word;
		enum dns_status status;
	} words[] = {{"!nodata", DNS_NODATA}, {"!nx", DNS_NXDOMAIN}, {"!failed", DNS_FAILED},
		{"!bogus", DNS_BOGUS}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(words[i].word, word) == 0) {
			return words[i].status;
		}
	}
	fail_msg("no such word: %s", word);
	return DNS_FAILED;
}

static void read_record(uint16_t type, const char *text, struct dns_record *out)
{
	struct slice rest = slice_from_cstr(text);
	struct slice word;
	struct endpoint e;

	if (type == DNS_TYPE_MX) {
		assert_true(slice_cut(&rest, ' ', &word));
		uint32_t n = 0;
		assert_int_equal(num_parse_u32(word, 65535, &n), ERR_OK);
		out->preference = (uint16_t)n;
		out->host = slice_eq(rest, SLICE(".")) ? SLICE_EMPTY : rest;
		return;
	}
	assert_int_equal(endpoint_parse_addr(rest, 0, &e), ERR_OK);
	out->family = e.family;
	memcpy(out->addr, e.addr, sizeof(out->addr));
}

/* Answers what is open now, newest first; false when there is nothing to answer. */
static bool answer_one(struct world *w)
{
	static struct dns_record records[1200];
	char line[DNS_NAME_MAX + 16];

	for (size_t i = w->open_count; i > 0; i--) {
		struct dns_reply reply = {.status = DNS_NODATA, .ttl_s = 60, .why = "it says"};
		bool is_silent = false;
		(void)snprintf(line, sizeof(line), "%s %s ", w->open[i - 1].name,
			type_name(w->open[i - 1].type));
		for (const char *const *z = w->zone; *z != NULL; z++) {
			if (strncmp(*z, line, strlen(line)) != 0) {
				continue;
			}
			const char *value = *z + strlen(line);
			is_silent = is_silent || value[0] == '?';
			if (value[0] == '!') {
				reply.status = status_of(value);
			} else if (!is_silent) {
				reply.status = DNS_FOUND;
				reply.ttl_s = 300;
				read_record(w->open[i - 1].type, value, &records[reply.count]);
				reply.count++;
			}
		}
		if (is_silent) {
			continue;
		}
		reply.records = records;
		dns_done *done = w->open[i - 1].done;
		void *arg = w->open[i - 1].arg;
		w->open[i - 1] = w->open[--w->open_count];
		done(arg, &reply);
		return true;
	}
	return false;
}

static void on_found(void *arg, struct route *route)
{
	struct world *w = arg;

	w->told++;
	route_free(&w->route);
	w->route = route;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct finder_source source = {.lookup = lookup, .arg = w};
	struct slice bad;

	clock_hold(1000000000, 1000000000);
	assert_int_equal(loop_new(&w->loop), ERR_OK);
	assert_int_equal(cidr_list_parse(SLICE("127.0.0.0/8 [::1]/128"), &w->forbidden, &bad),
		ERR_OK);
	w->rules = (struct finder_rules){.myhostname = SLICE("me.lab"),
		.ipv4 = true,
		.forbidden = &w->forbidden};
	w->finder = finder_new(w->loop, &w->rules, &source);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	finder_free(&w->finder);
	route_free(&w->route);
	cidr_list_clear(&w->forbidden);
	loop_free(&w->loop);
	clock_release();
	free(w);
	return 0;
}

static void find(struct world *w, uint8_t kind, const char *name, const char *const *zone)
{
	w->zone = zone;
	w->told = 0;
	finder_find(w->finder, kind, slice_from_cstr(name), on_found, w);
	while (answer_one(w)) {
	}
}

static void expect(const struct world *w, uint8_t result, const char *code, size_t addrs)
{
	assert_int_equal(w->told, 1);
	if (w->route->result != result || strcmp(w->route->code, code) != 0 ||
		w->route->addr_count != addrs) {
		fail_msg("result %u code %s addrs %zu text %.*s", w->route->result,
			w->route->code, w->route->addr_count, SLICE_ARG(w->route->text));
	}
}

#define ZONE(...) ((const char *const[]){__VA_ARGS__, NULL})

static void judges_what_the_dns_says(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *name;
		const char *zone[5];
		uint8_t result;
		const char *code;
		size_t addrs;
	} cases[] = {
		{"a.lab", {"a.lab MX 10 m.lab", "m.lab A 192.0.2.1"}, ROUTE_OK, "", 1},
		{"a.lab", {"a.lab A 192.0.2.1"}, ROUTE_OK, "", 1},
		{"a.lab", {"a.lab MX 0 ."}, ROUTE_NEVER, "5.1.10", 0},
		{"a.lab", {"a.lab MX 7 .", "a.lab MX 9 ."}, ROUTE_NEVER, "5.1.10", 0},
		{"a.lab", {"a.lab MX 0 .", "a.lab MX 9 m.lab", "m.lab A 192.0.2.1"}, ROUTE_OK,
			"", 1},
		{"a.lab", {"a.lab MX !nx"}, ROUTE_NEVER, "5.1.2", 0},
		{"a.lab", {"a.lab MX !failed", "a.lab A 192.0.2.1"}, ROUTE_LATER, "4.4.3", 0},
		{"a.lab", {"a.lab MX !bogus", "a.lab A 192.0.2.1"}, ROUTE_LATER, "4.7.0", 0},
		{"a.lab", {"a.lab A !failed"}, ROUTE_LATER, "4.4.3", 0},
		{"a.lab", {"a.lab A !bogus"}, ROUTE_LATER, "4.7.0", 0},
		{"a.lab", {"x"}, ROUTE_NEVER, "5.4.4", 0},
		{"a.lab", {"a.lab MX 1 m.lab", "m.lab A !nx"}, ROUTE_NEVER, "5.4.4", 0},
		{"a.lab", {"a.lab MX 1 m.lab", "m.lab A !failed"}, ROUTE_LATER, "4.4.3", 0},
		{"a.lab",
			{"a.lab MX 1 m.lab", "a.lab MX 2 n.lab", "m.lab A !failed",
				"n.lab A !bogus"},
			ROUTE_LATER, "4.7.0", 0},
		{"a.lab",
			{"a.lab MX 1 m.lab", "a.lab MX 2 n.lab", "m.lab A !failed",
				"n.lab A 192.0.2.1"},
			ROUTE_OK, "", 1},
		{"a.lab", {"a.lab MX 1 m.lab", "m.lab A 127.0.0.1"}, ROUTE_NEVER, "5.4.4", 0},
		{"a.lab",
			{"a.lab MX 1 m.lab", "a.lab MX 2 n.lab", "m.lab A 127.0.0.1",
				"n.lab A !failed"},
			ROUTE_LATER, "4.4.3", 0},
		{"a.lab", {"a.lab MX 1 me.lab", "a.lab MX 0 ."}, ROUTE_NEVER, "5.4.6", 0},
		{"a.lab", {"a.lab MX 1 192.0.2.7"}, ROUTE_NEVER, "5.4.4", 0},
		{"me.lab", {"me.lab A 192.0.2.1"}, ROUTE_NEVER, "5.4.6", 0},
		{"[127.0.0.1]", {"x"}, ROUTE_NEVER, "5.4.4", 0},
		{"[192.0.2.1]", {"x"}, ROUTE_OK, "", 1},
		{"a lab", {"x"}, ROUTE_NEVER, "5.1.2", 0},
		{"", {"x"}, ROUTE_NEVER, "5.1.2", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		find(w, ROUTE_MX, cases[i].name, cases[i].zone);
		expect(w, cases[i].result, cases[i].code, cases[i].addrs);
		assert_int_equal(w->open_count, 0);
	}
}

static void judges_hosts(void **state)
{
	struct world *w = *state;

	find(w, ROUTE_HOST, "h.lab", ZONE("h.lab A 192.0.2.1", "h.lab MX 0 ."));
	expect(w, ROUTE_OK, "", 1);
	find(w, ROUTE_HOST, "h.lab", ZONE("h.lab A !nx"));
	expect(w, ROUTE_NEVER, "5.4.4", 0);
	find(w, ROUTE_HOST, "h.lab", ZONE("h.lab A !failed"));
	expect(w, ROUTE_LATER, "4.4.3", 0);
	/* An operator who names us has a reason. */
	find(w, ROUTE_HOST, "me.lab", ZONE("me.lab A 192.0.2.1"));
	expect(w, ROUTE_OK, "", 1);
}

static void leaves_out_ourselves_and_what_is_no_better(void **state)
{
	struct world *w = *state;

	find(w, ROUTE_MX, "a.lab",
		ZONE("a.lab MX 10 best.lab", "a.lab MX 20 ME.lab", "a.lab MX 20 equal.lab",
			"a.lab MX 30 worse.lab", "best.lab A 192.0.2.1",
			"equal.lab A 192.0.2.2", "worse.lab A 192.0.2.3"));
	expect(w, ROUTE_OK, "", 1);
	assert_true(slice_eq(w->route->addrs[0].host, SLICE("best.lab")));
}

static void keeps_the_order_of_preference(void **state)
{
	struct world *w = *state;

	/* The answers come in the opposite order. */
	find(w, ROUTE_MX, "a.lab",
		ZONE("a.lab MX 30 c.lab", "a.lab MX 10 a1.lab", "a.lab MX 20 b.lab",
			"a1.lab A 192.0.2.1", "b.lab A 192.0.2.2", "c.lab A 192.0.2.3",
			"c.lab A 192.0.2.1"));
	expect(w, ROUTE_OK, "", 3); /* one of them twice */
	for (size_t i = 1; i < 3; i++) {
		assert_true(w->route->addrs[i - 1].preference < w->route->addrs[i].preference);
	}
}

static void does_not_wait_for_the_silent_when_there_is_another(void **state)
{
	struct world *w = *state;

	find(w, ROUTE_MX, "a.lab",
		ZONE("a.lab MX 1 dead.lab", "a.lab MX 2 m.lab", "dead.lab A ?",
			"m.lab A 192.0.2.1"));
	assert_int_equal(w->told, 0);
	clock_advance_ms(FINDER_GRACE_MS + 1000);
	loop_turn(w->loop, false);
	expect(w, ROUTE_OK, "", 1);
	assert_true(w->route->ttl_s <= FINDER_PARTIAL_MAX_S);
	/* The late answer is for nobody any more. */
	w->zone = ZONE("dead.lab A 192.0.2.9");
	assert_true(answer_one(w));
	assert_int_equal(w->told, 1);
}

static void gives_up_at_the_deadline(void **state)
{
	struct world *w = *state;
	static const char *const silent[][3] = {{"a.lab MX ?"},
		{"a.lab MX 1 m.lab", "m.lab A ?"}, {"a.lab A ?"}};

	for (size_t i = 0; i < ARRAY_LEN(silent); i++) {
		find(w, ROUTE_MX, "a.lab", silent[i]);
		for (int ms = 0; ms < FINDER_DEADLINE_MS - 1000; ms += 1000) {
			clock_advance_ms(1000);
			loop_turn(w->loop, false);
		}
		assert_int_equal(w->told, 0);
		clock_advance_ms(2000);
		loop_turn(w->loop, false);
		expect(w, ROUTE_LATER, "4.4.3", 0);
		w->zone = ZONE("a.lab MX !failed", "m.lab A !failed", "a.lab A !failed");
		while (answer_one(w)) {
		}
		assert_int_equal(w->told, 1);
	}
}

static void does_bounded_work(void **state)
{
	struct world *w = *state;
	static char lines[1000][64];
	static const char *zone[1001];

	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(lines[i], sizeof(lines[i]), "a.lab MX %u m%u.lab", i / 2, i);
		zone[i] = lines[i];
	}
	w->rules.ipv6 = true;
	w->asked = 0;
	find(w, ROUTE_MX, "a.lab", zone);
	expect(w, ROUTE_NEVER, "5.4.4", 0);
	assert_int_equal(w->asked, 1 + 2 * FINDER_HOSTS_MAX);

	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(lines[i], sizeof(lines[i]), "h.lab A 10.1.%u.%u", i / 200,
			i % 200);
	}
	find(w, ROUTE_HOST, "h.lab", zone);
	expect(w, ROUTE_OK, "", FINDER_HOST_ADDRS_MAX);
}

static void holds_no_longer_than_the_shortest(void **state)
{
	struct world *w = *state;

	find(w, ROUTE_MX, "a.lab", ZONE("a.lab MX 1 m.lab", "m.lab A 192.0.2.1"));
	assert_int_equal(w->route->ttl_s, 300);
	w->rules.ipv6 = true; /* and its "no" holds 60 s */
	find(w, ROUTE_MX, "a.lab", ZONE("a.lab MX 1 m.lab", "m.lab A 192.0.2.1"));
	assert_int_equal(w->route->ttl_s, 60);
	find(w, ROUTE_MX, "a.lab", ZONE("a.lab MX !failed"));
	assert_in_range(w->route->ttl_s, 5, 10);
}

static void can_be_ended_at_any_time(void **state)
{
	struct world *w = *state;
	static const char *const zone[] = {"a.lab MX ?", "b.lab A ?", NULL};

	find(w, ROUTE_MX, "a.lab", zone);
	find(w, ROUTE_HOST, "b.lab", zone);
	assert_int_equal(w->told, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(judges_what_the_dns_says, setup, teardown),
		cmocka_unit_test_setup_teardown(judges_hosts, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_out_ourselves_and_what_is_no_better,
			setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_the_order_of_preference, setup, teardown),
		cmocka_unit_test_setup_teardown(
			does_not_wait_for_the_silent_when_there_is_another, setup, teardown),
		cmocka_unit_test_setup_teardown(gives_up_at_the_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(does_bounded_work, setup, teardown),
		cmocka_unit_test_setup_teardown(holds_no_longer_than_the_shortest, setup,
			teardown),
		cmocka_unit_test_setup_teardown(can_be_ended_at_any_time, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
