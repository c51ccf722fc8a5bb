/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "common/io/endpoint.h"

static void parses_addresses(void **state)
{
	static const struct {
		const char *text;
		const char *printed; /* null: refused */
	} cases[] = {
		{"192.0.2.1", "192.0.2.1"},
		{"[192.0.2.1]", "192.0.2.1"},
		{"2001:db8::1", "2001:db8::1"},
		{"[2001:DB8:0:0::1]", "2001:db8::1"},
		{"::", "::"},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
		{"0.0.0.0", "0.0.0.0"},
		{"255.255.255.255", "255.255.255.255"},
		{"", NULL},
		{"[]", NULL},
		{"[", NULL},
		{"]", NULL},
		{"[192.0.2.1", NULL},
		{"192.0.2.1]", NULL},
		{"[[192.0.2.1]]", NULL},
		{"192.0.2", NULL},
		{"192.0.2.256", NULL},
		{"192.0.2.01", NULL},
		{"192.0.2.1 ", NULL},
		{" 192.0.2.1", NULL},
		{"0x7f.0.0.1", NULL},
		{"2130706433", NULL},
		{"fe80::1%eth0", NULL},
		{"2001:db8:::1", NULL},
		{"1:2:3:4:5:6:7:8:9", NULL},
		{"mx.example.net", NULL},
		{"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct endpoint e = {.family = 9};
		char s[ENDPOINT_TEXT_MAX];
		enum err got = endpoint_parse_addr(slice_from_cstr(cases[i].text), 25, &e);
		if (cases[i].printed == NULL) {
			if (got != ERR_SYNTAX || e.family != 9) {
				fail_msg("accepted: %s", cases[i].text);
			}
			continue;
		}
		assert_int_equal(got, ERR_OK);
		assert_int_equal(e.port, 25);
		endpoint_format_addr(&e, s);
		assert_string_equal(s, cases[i].printed);
	}
}

static void parses_addresses_with_ports(void **state)
{
	static const struct {
		const char *text;
		const char *printed; /* null: refused; the default port is 53 */
	} cases[] = {
		{"192.0.2.1", "[192.0.2.1]:53"},
		{"192.0.2.1@5353", "[192.0.2.1]:5353"},
		{"192.0.2.1:5353", "[192.0.2.1]:5353"},
		{"[192.0.2.1]:5353", "[192.0.2.1]:5353"},
		{"[192.0.2.1]", "[192.0.2.1]:53"},
		{"2001:db8::1", "[2001:db8::1]:53"},
		{"2001:db8::1@5353", "[2001:db8::1]:5353"},
		{"[2001:db8::1]:5353", "[2001:db8::1]:5353"},
		{"2001:db8::1:5353", "[2001:db8::1:5353]:53"}, /* all of it is the address */
		{"127.0.0.1:0", "[127.0.0.1]:0"},
		{"127.0.0.1:65535", "[127.0.0.1]:65535"},
		{"127.0.0.1:65536", NULL},
		{"127.0.0.1:", NULL},
		{"127.0.0.1@", NULL},
		{"127.0.0.1:-1", NULL},
		{"127.0.0.1:+1", NULL},
		{"127.0.0.1: 1", NULL},
		{"127.0.0.1:1x", NULL},
		{":25", NULL},
		{"@25", NULL},
		{"[]:25", NULL},
		{"[::1]25", NULL},
		{"[::1", NULL},
		{"::1]:25", NULL},
		{"localhost:25", NULL},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct endpoint e = {.family = 9};
		char s[ENDPOINT_TEXT_MAX];
		enum err got = endpoint_parse(slice_from_cstr(cases[i].text), 53, &e);
		if (cases[i].printed == NULL) {
			if (got != ERR_SYNTAX || e.family != 9) {
				fail_msg("accepted: %s", cases[i].text);
			}
			continue;
		}
		assert_int_equal(got, ERR_OK);
		endpoint_format(&e, s);
		assert_string_equal(s, cases[i].printed);
	}
}

static void refuses_embedded_nul(void **state)
{
	struct endpoint e;

	(void)state;
	assert_int_equal(endpoint_parse_addr(SLICE("192.0.2.1\0"), 25, &e), ERR_SYNTAX);
	assert_int_equal(endpoint_parse(SLICE("192.0.2.1\0:25"), 25, &e), ERR_SYNTAX);
	assert_int_equal(endpoint_parse(SLICE("192.0.2.1:2\0"), 25, &e), ERR_SYNTAX);
}

static void every_truncation_is_refused_or_another_address(void **state)
{
	struct slice whole = SLICE("[2001:db8::192.0.2.1]:5353");
	struct endpoint e;

	(void)state;
	for (size_t n = 0; n < whole.n; n++) {
		/* Only within the port, and without it, is there a shorter endpoint. */
		bool good = n == 21 || n >= 23;
		assert_int_equal(endpoint_parse(slice_head(whole, n), 25, &e),
			good ? ERR_OK : ERR_SYNTAX);
	}
}

static void goes_through_a_sockaddr_and_back(void **state)
{
	static const char *const texts[] = {"[192.0.2.1]:25", "[2001:db8::1]:65535"};
	struct sockaddr_storage sa;
	struct endpoint e;
	struct endpoint again;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(endpoint_parse(slice_from_cstr(texts[i]), 0, &e), ERR_OK);
		assert_true(endpoint_to_sockaddr(&e, &sa) > 0);
		assert_int_equal(endpoint_from_sockaddr(&sa, &again), ERR_OK);
		assert_true(endpoint_eq(&e, &again));
		again.port++;
		assert_false(endpoint_eq(&e, &again));
		assert_true(endpoint_eq_addr(&e, &again));
		again.addr[3]++;
		assert_false(endpoint_eq_addr(&e, &again));
	}
	sa.ss_family = AF_UNIX;
	assert_int_equal(endpoint_from_sockaddr(&sa, &again), ERR_SYNTAX);
}

static void unmaps_only_mapped_addresses(void **state)
{
	static const char *const pairs[][2] = {
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"::192.0.2.1", "::192.0.2.1"},
		{"64:ff9b::192.0.2.1", "64:ff9b::c000:201"},
		{"192.0.2.1", "192.0.2.1"},
		{"::1", "::1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		struct endpoint e;
		char s[ENDPOINT_TEXT_MAX];
		assert_int_equal(endpoint_parse_addr(slice_from_cstr(pairs[i][0]), 1, &e),
			ERR_OK);
		endpoint_unmap(&e);
		endpoint_format_addr(&e, s);
		assert_string_equal(s, pairs[i][1]);
	}
}

static bool has(const char *list, const char *addr)
{
	struct cidr_list l = {.items = NULL};
	struct endpoint e;
	struct slice bad;

	assert_int_equal(cidr_list_parse(slice_from_cstr(list), &l, &bad), ERR_OK);
	assert_int_equal(endpoint_parse_addr(slice_from_cstr(addr), 0, &e), ERR_OK);
	bool found = cidr_list_has(&l, &e);
	cidr_list_clear(&l);
	cidr_list_clear(&l);
	return found;
}

static void matches_networks(void **state)
{
	static const struct {
		const char *list;
		const char *addr;
		bool found;
	} cases[] = {
		{"127.0.0.0/8", "127.255.255.255", true},
		{"127.0.0.0/8", "128.0.0.0", false},
		{"127.0.0.0/8", "126.255.255.255", false},
		{"", "127.0.0.1", false},
		{" , ,", "127.0.0.1", false},
		{"192.0.2.7", "192.0.2.7", true},
		{"192.0.2.7", "192.0.2.6", false},
		{"192.0.2.7/32", "192.0.2.7", true},
		{"192.0.2.128/25", "192.0.2.127", false},
		{"192.0.2.128/25", "192.0.2.128", true},
		{"192.0.2.4/31", "192.0.2.5", true},
		{"192.0.2.4/31", "192.0.2.6", false},
		{"0.0.0.0/0", "203.0.113.9", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "127.0.0.1", false},
		{"[::1]/128", "::1", true},
		{"[::1]", "::1", true},
		{"[2001:db8::]/33", "2001:db8:7fff::", true},
		{"[2001:db8::]/33", "2001:db8:8000::", false},
		{"[2001:db8::/32]", "2001:db8:8000::", true},
		{"fe80::/10", "febf::1", true},
		{"fe80::/10", "fec0::1", false},
		{"127.0.0.0/8", "::ffff:127.0.0.1", true},
		{"[::ffff:127.0.0.0]/104", "127.9.9.9", true},
		{"!10.1.0.0/16 10.0.0.0/8", "10.1.2.3", false},
		{"!10.1.0.0/16 10.0.0.0/8", "10.2.2.3", true},
		{"10.0.0.0/8 !10.1.0.0/16", "10.1.2.3", true}, /* the first match decides */
		{"10.0.0.0/8,\n\t[::1]/128,192.0.2.7", "192.0.2.7", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (has(cases[i].list, cases[i].addr) != cases[i].found) {
			fail_msg("\"%s\" and %s", cases[i].list, cases[i].addr);
		}
	}
}

static void refuses_bad_lists_and_names_the_word(void **state)
{
	static const struct {
		const char *list;
		const char *bad;
	} cases[] = {
		{"127.0.0.0/8 192.0.2.1/24", "192.0.2.1/24"}, /* host bits set */
		{"127.0.0.0/33", "127.0.0.0/33"},
		{"::/129", "::/129"},
		{"::1/127", "::1/127"},
		{"127.0.0.0/", "127.0.0.0/"},
		{"/8", "/8"},
		{"!", "!"},
		{"127.0.0.0/8/8", "127.0.0.0/8/8"},
		{"127.0.0.0/-8", "127.0.0.0/-8"},
		{"127.0.0.0/ 8", "127.0.0.0/"},
		{"[::1/128", "[::1/128"},
		{"localhost", "localhost"},
		{"10.0.0.0/8;127.0.0.1", "10.0.0.0/8;127.0.0.1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cidr_list l = {.items = NULL, .count = 77};
		struct slice bad = SLICE_EMPTY;
		enum err e = cidr_list_parse(slice_from_cstr(cases[i].list), &l, &bad);
		if (e != ERR_SYNTAX || l.count != 77) {
			fail_msg("accepted: %s", cases[i].list);
		}
		assert_true(slice_eq(bad, slice_from_cstr(cases[i].bad)));
	}
}

static void a_list_has_at_most_4096_networks(void **state)
{
	static char text[4097 * 3 + 1];
	struct cidr_list l = {.items = NULL};
	struct slice bad;

	(void)state;
	for (size_t i = 0; i < 4097; i++) {
		memcpy(text + i * 3, "::,", 3);
	}
	struct slice whole = slice_make(text, 4096 * 3);
	assert_int_equal(cidr_list_parse(whole, &l, &bad), ERR_OK);
	assert_int_equal(l.count, 4096);
	cidr_list_clear(&l);
	whole.n += 3;
	assert_int_equal(cidr_list_parse(whole, &l, &bad), ERR_TOOBIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_addresses),
		cmocka_unit_test(parses_addresses_with_ports),
		cmocka_unit_test(refuses_embedded_nul),
		cmocka_unit_test(every_truncation_is_refused_or_another_address),
		cmocka_unit_test(goes_through_a_sockaddr_and_back),
		cmocka_unit_test(unmaps_only_mapped_addresses),
		cmocka_unit_test(matches_networks),
		cmocka_unit_test(refuses_bad_lists_and_names_the_word),
		cmocka_unit_test(a_list_has_at_most_4096_networks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
