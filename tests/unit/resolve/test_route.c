/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/io/guard.h"
#include "resolve/cache.h"
#include "resolve/route.h"
#include "resolve/settings.h"

static struct route *make(size_t n, const uint16_t *preferences, const uint8_t *families,
	uint32_t ttl_s)
{
	struct route_addr addrs[300];
	struct route head = {.result = ROUTE_OK, .ttl_s = ttl_s};

	for (size_t i = 0; i < n; i++) {
		addrs[i] = (struct route_addr){.to = {.family = families[i]},
			.host = SLICE("mx.example.net"),
			.preference = preferences[i]};
		addrs[i].to.addr[3] = (uint8_t)i;
	}
	return route_new(&head, addrs, n);
}

static void shuffles_within_a_preference_only(void **state)
{
	static const uint16_t preferences[] = {1, 1, 1, 5, 9, 9};
	static const uint8_t families[] = {4, 6, 4, 6, 4, 6};
	uint16_t order[LIMIT_ROUTE_ADDRS];
	unsigned first[6] = {0};
	struct route *r = make(6, preferences, families, 60);

	(void)state;
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(route_order(r, ROUTE_FAMILY_ANY, order), 6);
		for (size_t k = 1; k < 6; k++) {
			assert_true(preferences[order[k - 1]] <= preferences[order[k]]);
		}
		first[order[0]]++;
	}
	for (size_t i = 0; i < 3; i++) {
		assert_in_range(first[i], 800, 1200); /* 1000 and five standard deviations */
	}
	assert_int_equal(route_order(r, ROUTE_FAMILY_IPV6, order), 6);
	assert_int_equal(order[0], 1);
	assert_int_equal(order[4], 5);
	assert_int_equal(route_order(r, ROUTE_FAMILY_IPV4, order), 6);
	assert_int_equal(families[order[0]] + families[order[1]], 8);
	assert_int_equal(order[2], 1);
	route_free(&r);
	assert_null(r);
}

static void tells_as_many_addresses_as_a_message_may(void **state)
{
	uint16_t preferences[300];
	uint8_t families[300];
	uint16_t order[LIMIT_ROUTE_ADDRS];
	bool seen[300] = {false};

	(void)state;
	for (size_t i = 0; i < 300; i++) {
		preferences[i] = i < 40 ? 1 : 2;
		families[i] = 4;
	}
	struct route *r = make(300, preferences, families, 60);
	assert_int_equal(route_order(r, ROUTE_FAMILY_ANY, order), LIMIT_ROUTE_ADDRS);
	for (size_t i = 0; i < LIMIT_ROUTE_ADDRS; i++) {
		assert_false(seen[order[i]]);
		seen[order[i]] = true;
		assert_int_equal(preferences[order[i]], i < 40 ? 1 : 2);
	}
	route_free(&r);
}

static void copies_all_that_it_is_given(void **state)
{
	char host[] = "mx.example.net";
	char text[] = "because";
	struct route head = {.result = ROUTE_LATER, .text = slice_from_cstr(text)};
	struct route_addr a = {.host = slice_from_cstr(host)};
	struct route *r = route_new(&head, &a, 1);

	(void)state;
	memset(host, 'x', sizeof(host));
	memset(text, 'x', sizeof(text));
	assert_true(slice_eq(r->text, SLICE("because")));
	assert_true(slice_eq(r->addrs[0].host, SLICE("mx.example.net")));
	route_free(&r);
	char longest[LIMIT_TEXT + 100];
	memset(longest, 'y', sizeof(longest));
	r = route_failure(ROUTE_NEVER, 0, 7, "5.1.10", slice_make(longest, sizeof(longest)));
	assert_int_equal(r->text.n, LIMIT_TEXT);
	assert_string_equal(r->code, "5.1.10");
	route_free(&r);
}

static void remembers_routes_until_they_expire(void **state)
{
	static const uint16_t preference = 1;
	static const uint8_t family = 4;
	struct cache c;
	uint32_t ttl_s = 0;

	(void)state;
	cache_init(&c, 100000);
	assert_null(cache_find(&c, SLICE("a"), 0, &ttl_s));
	(void)cache_take(&c, SLICE("a"), make(1, &preference, &family, 10), 1000);
	assert_non_null(cache_find(&c, SLICE("a"), 1000, &ttl_s));
	assert_int_equal(ttl_s, 10);
	assert_non_null(cache_find(&c, SLICE("a"), 10999, &ttl_s));
	assert_int_equal(ttl_s, 1);
	assert_null(cache_find(&c, SLICE("a"), 11000, &ttl_s));
	assert_int_equal(c.bytes, 0);
	(void)cache_take(&c, SLICE("a"), make(1, &preference, &family, 10), 0);
	(void)cache_take(&c, SLICE("a"), make(1, &preference, &family, 20), 0);
	assert_non_null(cache_find(&c, SLICE("a"), 0, &ttl_s));
	assert_int_equal(ttl_s, 20);
	assert_int_equal(c.entries.count, 1);
	cache_clear(&c);
	assert_int_equal(c.bytes, 0);
}

static void forgets_what_was_not_used_for_longest(void **state)
{
	static const uint16_t preference = 1;
	static const uint8_t family = 4;
	struct cache c;
	char key[16];
	uint32_t ttl_s;

	(void)state;
	cache_init(&c, 5000);
	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		(void)cache_take(&c, slice_from_cstr(key), make(1, &preference, &family, 10),
			0);
		assert_true(c.bytes <= 5000);
		(void)cache_find(&c, SLICE("k0"), 0, &ttl_s);
	}
	assert_non_null(cache_find(&c, SLICE("k0"), 0, &ttl_s));
	assert_non_null(cache_find(&c, SLICE("k999"), 0, &ttl_s));
	assert_null(cache_find(&c, SLICE("k1"), 0, &ttl_s));
	/* One that is larger than all is there alone. */
	uint16_t preferences[300] = {0};
	uint8_t families[300] = {0};
	(void)cache_take(&c, SLICE("big"), make(300, preferences, families, 10), 0);
	assert_int_equal(c.entries.count, 1);
	cache_clear(&c);
}

static void looks_through_addresses_that_carry_others(void **state)
{
	static const struct {
		const char *addr;
		bool forbidden;
	} cases[] = {
		{"127.0.0.1", true},
		{"127.255.255.255", true},
		{"128.0.0.1", false},
		{"192.0.2.1", false},
		{"::1", true},
		{"::2", true},
		{"2001:db8::1", false},
		{"::ffff:127.0.0.1", true},
		{"::ffff:192.0.2.1", false},
		{"::127.0.0.1", true},
		{"64:ff9b::127.0.0.1", true},
		{"64:ff9b::192.0.2.1", false},
		{"64:ff9b:1::7f00:1", true},
		{"2002:7f00:1::5", true},
		{"2002:c000:201::5", false},
		{"::ffff:0:127.0.0.1", true},
		{"fe80::1", true},
		{"0.0.0.0", true},
	};
	struct cidr_list forbidden;
	struct slice bad;

	(void)state;
	assert_int_equal(cidr_list_parse(SLICE("0.0.0.0/8 127.0.0.0/8 [::1]/128 [fe80::]/10"),
				 &forbidden, &bad),
		ERR_OK);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct endpoint e;
		assert_int_equal(endpoint_parse_addr(slice_from_cstr(cases[i].addr), 25, &e),
			ERR_OK);
		if (guard_forbids(&forbidden, &e) != cases[i].forbidden) {
			fail_msg("wrong about %s", cases[i].addr);
		}
		assert_false(guard_forbids(NULL, &e));
	}
	cidr_list_clear(&forbidden);
}

static void reads_the_servers_of_the_system(void **state)
{
	struct endpoint to[2];

	(void)state;
	assert_int_equal(settings_system_servers(SLICE(""), to, 2), 0);
	assert_int_equal(
		settings_system_servers(
			SLICE("# nameserver 9.9.9.9\nsearch x\nnameserver\t192.0.2.1 \n"
			      "nameserver fe80::1%eth0\nnameserver x\n"
			      "nameserver 2001:db8::1\nnameserver 192.0.2.3"),
			to, 2),
		2);
	assert_int_equal(to[0].family, 4);
	assert_int_equal(to[0].port, 53);
	assert_int_equal(to[1].family, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shuffles_within_a_preference_only),
		cmocka_unit_test(tells_as_many_addresses_as_a_message_may),
		cmocka_unit_test(copies_all_that_it_is_given),
		cmocka_unit_test(remembers_routes_until_they_expire),
		cmocka_unit_test(forgets_what_was_not_used_for_longest),
		cmocka_unit_test(looks_through_addresses_that_carry_others),
		cmocka_unit_test(reads_the_servers_of_the_system),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
