/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "resolve/dns_packet.h"

/* ---- making messages ---- */

struct message {
	uint8_t bytes[65535];
	size_t n;
};

static void put(struct message *m, const void *bytes, size_t n)
{
	assert_true(n <= sizeof(m->bytes) - m->n);
	memcpy(m->bytes + m->n, bytes, n);
	m->n += n;
}

static void put_u16(struct message *m, unsigned v)
{
	const uint8_t b[] = {(uint8_t)(v >> 8), (uint8_t)v};

	put(m, b, sizeof(b));
}

static void put_u32(struct message *m, uint32_t v)
{
	put_u16(m, v >> 16);
	put_u16(m, v & 0xffff);
}

static void put_name(struct message *m, const char *name)
{
	struct slice rest = slice_from_cstr(name);
	struct slice label;

	while (slice_cut(&rest, '.', &label)) {
		const uint8_t n = (uint8_t)label.n;
		put(m, &n, 1);
		put(m, label.p, label.n);
	}
	put(m, "", 1);
}

static void begin(struct message *m, unsigned rcode, const char *name, unsigned type)
{
	m->n = 0;
	put_u16(m, 0x1234);
	put_u16(m, 0x8180 | rcode);
	put_u16(m, 1);
	put_u16(m, 0);
	put_u16(m, 0);
	put_u16(m, 0);
	put_name(m, name);
	put_u16(m, type);
	put_u16(m, 1);
}

static void count(struct message *m, size_t at)
{
	unsigned v = (unsigned)(m->bytes[at] << 8 | m->bytes[at + 1]) + 1;

	m->bytes[at] = (uint8_t)(v >> 8);
	m->bytes[at + 1] = (uint8_t)v;
}

enum {
	ANSWER = 6,
	AUTHORITY = 8
};

static void put_record(struct message *m, size_t section, const char *owner, unsigned type,
	uint32_t ttl_s, const void *rdata, size_t n)
{
	count(m, section);
	put_name(m, owner);
	put_u16(m, type);
	put_u16(m, 1);
	put_u32(m, ttl_s);
	put_u16(m, (unsigned)n);
	put(m, rdata, n);
}

static void put_mx(struct message *m, const char *owner, unsigned preference, const char *host,
	uint32_t ttl_s)
{
	static struct message rdata;

	rdata.n = 0;
	put_u16(&rdata, preference);
	put_name(&rdata, host);
	put_record(m, ANSWER, owner, DNS_TYPE_MX, ttl_s, rdata.bytes, rdata.n);
}

static void put_alias(struct message *m, const char *owner, const char *target, uint32_t ttl_s)
{
	static struct message rdata;

	rdata.n = 0;
	put_name(&rdata, target);
	put_record(m, ANSWER, owner, DNS_TYPE_CNAME, ttl_s, rdata.bytes, rdata.n);
}

static void put_soa(struct message *m, const char *owner, uint32_t ttl_s, uint32_t minimum_s)
{
	static struct message rdata;

	rdata.n = 0;
	put_name(&rdata, "ns.lab");
	put_name(&rdata, "root.lab");
	for (int i = 0; i < 4; i++) {
		put_u32(&rdata, 1);
	}
	put_u32(&rdata, minimum_s);
	put_record(m, AUTHORITY, owner, DNS_TYPE_SOA, ttl_s, rdata.bytes, rdata.n);
}

static enum err parse(const struct message *m, uint16_t type, struct arena *a,
	struct dns_answer *out)
{
	return dns_packet_parse(slice_make(m->bytes, m->n), type, a, out);
}

static struct message m; /* 64 KiB are not for the stack */

static int setup(void **state)
{
	static struct arena a;

	arena_init(&a, (size_t)4 * 1024 * 1024);
	*state = &a;
	return 0;
}

static int teardown(void **state)
{
	arena_clear(*state);
	return 0;
}

/* ---- tests ---- */

static void reads_mx_records(void **state)
{
	struct dns_answer out;

	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	put_mx(&m, "A.LAB", 10, "mx1.a.lab", 300);
	put_mx(&m, "a.lab", 65535, "", 200);
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_int_equal(out.count, 2);
	assert_int_equal(out.records[0].preference, 10);
	assert_true(slice_eq(out.records[0].host, SLICE("mx1.a.lab")));
	assert_int_equal(out.records[1].preference, 65535);
	assert_int_equal(out.records[1].host.n, 0);
	assert_int_equal(out.ttl_s, 200);
	assert_int_equal(out.unusable, 0);
}

static void reads_addresses_behind_aliases(void **state)
{
	struct dns_answer out;

	begin(&m, 0, "a.lab", DNS_TYPE_AAAA);
	put_record(&m, ANSWER, "c.lab", DNS_TYPE_AAAA, 500, "0123456789abcdef", 16);
	put_alias(&m, "a.lab", "B.lab", 100);
	put_alias(&m, "b.LAB", "c.lab", 50);
	put_record(&m, ANSWER, "other.lab", DNS_TYPE_AAAA, 1, "0123456789abcdef", 16);
	assert_int_equal(parse(&m, DNS_TYPE_AAAA, *state, &out), ERR_OK);
	assert_int_equal(out.count, 1);
	assert_int_equal(out.records[0].family, 6);
	assert_memory_equal(out.records[0].addr, "0123456789abcdef", 16);
	assert_int_equal(out.aliases, 2);
	assert_int_equal(out.ttl_s, 50);
}

static void follows_pointers_backwards_only(void **state)
{
	struct dns_answer out;

	/* The owner is a pointer to the question, the host a label and that pointer. */
	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	count(&m, ANSWER);
	put(&m, "\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x07\x00\x0a\x02mx\xc0\x0c", 19);
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_true(slice_eq(out.records[0].host, SLICE("mx.a.lab")));

	static const struct {
		const char *why;
		uint8_t owner[4];
		size_t n;
	} bad[] = {
		{"to itself", {0xc0, 23}, 2},
		{"forwards", {0xc0, 40}, 2},
		{"behind the end", {0xff, 0xff}, 2},
		{"to a label that leads to it", {1, 'x', 0xc0, 23}, 4},
		{"of a kind that is none", {0x80, 0, 0, 0}, 4},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		begin(&m, 0, "a.lab", DNS_TYPE_A);
		assert_int_equal(m.n, 23);
		count(&m, ANSWER);
		put(&m, bad[i].owner, bad[i].n);
		put(&m, "\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04", 14);
		if (parse(&m, DNS_TYPE_A, *state, &out) != ERR_SYNTAX) {
			fail_msg("accepted: %s", bad[i].why);
		}
	}
}

static void gives_up_on_circles_of_aliases(void **state)
{
	struct dns_answer out;
	char from[16];
	char to[16];

	begin(&m, 0, "a.lab", DNS_TYPE_A);
	put_alias(&m, "a.lab", "b.lab", 60);
	put_alias(&m, "b.lab", "a.lab", 60);
	assert_int_equal(parse(&m, DNS_TYPE_A, *state, &out), ERR_SYNTAX);

	for (unsigned n = DNS_ALIASES_MAX; n <= DNS_ALIASES_MAX + 1; n++) {
		begin(&m, 0, "n0.lab", DNS_TYPE_A);
		for (unsigned i = 0; i < n; i++) {
			(void)snprintf(from, sizeof(from), "n%u.lab", i);
			(void)snprintf(to, sizeof(to), "n%u.lab", i + 1);
			put_alias(&m, from, to, 60);
		}
		put_record(&m, ANSWER, to, DNS_TYPE_A, 60, "\1\2\3\4", 4);
		assert_int_equal(parse(&m, DNS_TYPE_A, *state, &out),
			n == DNS_ALIASES_MAX ? ERR_OK : ERR_SYNTAX);
	}
}

static void passes_over_records_of_the_wrong_size(void **state)
{
	struct dns_answer out;
	uint8_t rdata[41] = {0};

	for (size_t n = 0; n <= 40; n++) {
		begin(&m, 0, "a.lab", DNS_TYPE_A);
		put_record(&m, ANSWER, "a.lab", DNS_TYPE_A, 60, rdata, n);
		assert_int_equal(parse(&m, DNS_TYPE_A, *state, &out), ERR_OK);
		assert_int_equal(out.count, n == 4);
		assert_int_equal(out.unusable, n != 4);

		begin(&m, 0, "a.lab", DNS_TYPE_AAAA);
		put_record(&m, ANSWER, "a.lab", DNS_TYPE_AAAA, 60, rdata, n);
		assert_int_equal(parse(&m, DNS_TYPE_AAAA, *state, &out), ERR_OK);
		assert_int_equal(out.count, n == 16);

		/* Two zeros and the root: a null MX; anything else is too short or goes on. */
		begin(&m, 0, "a.lab", DNS_TYPE_MX);
		put_record(&m, ANSWER, "a.lab", DNS_TYPE_MX, 60, rdata, n);
		assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
		assert_int_equal(out.count, n == 3);
	}
}

static void passes_over_hosts_that_are_none(void **state)
{
	static const struct {
		const char *rdata;
		size_t n;
	} bad[] = {
		{"\0\1\3a b\0", 7},      /* a blank */
		{"\0\1\3a.b\0", 7},      /* a dot within a label */
		{"\0\1\3a\0b\0", 7},     /* NUL */
		{"\0\1\2\xc3\xa9\0", 6}, /* beyond ASCII */
		{"\0\1\3abc", 6},        /* no end within the record */
		{"\0\1\3abc\0x", 8},     /* more behind it */
		{"\0\1\xc0", 3},         /* half a pointer */
	};
	struct dns_answer out;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		begin(&m, 0, "a.lab", DNS_TYPE_MX);
		put_mx(&m, "a.lab", 5, "good.lab", 60);
		put_record(&m, ANSWER, "a.lab", DNS_TYPE_MX, 60, bad[i].rdata, bad[i].n);
		assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
		if (out.count != 1 || out.unusable != 1) {
			fail_msg("case %zu: %zu usable", i, out.count);
		}
	}
}

static void knows_how_long_a_no_holds(void **state)
{
	static const struct {
		uint32_t ttl_s;
		uint32_t minimum_s;
		uint32_t want_s;
	} cases[] = {
		{3600, 60, 60},
		{30, 60, 30},
		{0x80000000u, 60, 0},
		{UINT32_MAX, UINT32_MAX, 0},
		{3600, 0, 0},
	};
	struct dns_answer out;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin(&m, DNS_RCODE_NXDOMAIN, "a.lab", DNS_TYPE_MX);
		put_soa(&m, "lab", cases[i].ttl_s, cases[i].minimum_s);
		assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
		assert_int_equal(out.rcode, DNS_RCODE_NXDOMAIN);
		assert_int_equal(out.ttl_s, cases[i].want_s);
	}
	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_int_equal(out.count, 0);
	assert_int_equal(out.ttl_s, DNS_TTL_NO_SOA_S);
}

static void keeps_times_to_live_in_bounds(void **state)
{
	struct dns_answer out;

	begin(&m, 0, "a.lab", DNS_TYPE_A);
	put_record(&m, ANSWER, "a.lab", DNS_TYPE_A, 0x7fffffff, "\1\2\3\4", 4);
	assert_int_equal(parse(&m, DNS_TYPE_A, *state, &out), ERR_OK);
	assert_int_equal(out.ttl_s, DNS_TTL_MAX_S);
	begin(&m, 0, "a.lab", DNS_TYPE_A);
	put_record(&m, ANSWER, "a.lab", DNS_TYPE_A, 0x80000001u, "\1\2\3\4", 4);
	assert_int_equal(parse(&m, DNS_TYPE_A, *state, &out), ERR_OK);
	assert_int_equal(out.ttl_s, 0); /* RFC 2181 section 8 */
}

static void refuses_what_is_no_answer(void **state)
{
	struct dns_answer out = {.count = 42};

	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	m.bytes[2] = 0x01; /* a question */
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_SYNTAX);
	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	assert_int_equal(parse(&m, DNS_TYPE_A, *state, &out), ERR_SYNTAX);
	m.bytes[5] = 2; /* questions */
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_SYNTAX);
	m.n = 0;
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_SYNTAX);
	assert_int_equal(out.count, 42);
}

static void refuses_every_truncation(void **state)
{
	struct dns_answer out = {.count = 42};

	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	put_alias(&m, "a.lab", "b.lab", 60);
	put_mx(&m, "b.lab", 10, "mx1.b.lab", 300);
	put_mx(&m, "b.lab", 20, "mx2.b.lab", 300);
	for (size_t n = 0; n < m.n; n++) {
		enum err e =
			dns_packet_parse(slice_make(m.bytes, n), DNS_TYPE_MX, *state, &out);
		assert_int_equal(e, ERR_SYNTAX);
		assert_int_equal(out.count, 42);
	}
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_int_equal(out.count, 2);
}

static void takes_the_longest_names_and_no_longer_ones(void **state)
{
	struct dns_answer out;
	char name[300];

	/* Three labels of 63 and one of 61 are 255 octets with their lengths and the end. */
	memset(name, 'a', sizeof(name));
	name[63] = name[127] = name[191] = '.';
	name[253] = '\0';
	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	put_mx(&m, "a.lab", 10, name, 60);
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_int_equal(out.count, 1);
	assert_int_equal(out.records[0].host.n, DNS_NAME_MAX);
	name[253] = 'a';
	name[254] = '\0';
	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	put_mx(&m, "a.lab", 10, name, 60);
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_int_equal(out.count, 0);
	assert_int_equal(out.unusable, 1);
}

static void reads_as_many_records_as_a_message_holds(void **state)
{
	struct dns_answer out;
	size_t n = 0;

	begin(&m, 0, "a.lab", DNS_TYPE_MX);
	while (m.n + 16 <= sizeof(m.bytes)) {
		count(&m, ANSWER);
		put(&m, "\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x04\x00\x0a\xc0\x0c", 16);
		n++;
	}
	assert_true(n > 4000);
	assert_int_equal(parse(&m, DNS_TYPE_MX, *state, &out), ERR_OK);
	assert_int_equal(out.count + out.unusable, n);

	struct arena small;
	arena_init(&small, 100);
	assert_int_equal(parse(&m, DNS_TYPE_MX, &small, &out), ERR_TOOBIG);
	arena_clear(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_mx_records, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_addresses_behind_aliases, setup,
			teardown),
		cmocka_unit_test_setup_teardown(follows_pointers_backwards_only, setup,
			teardown),
		cmocka_unit_test_setup_teardown(gives_up_on_circles_of_aliases, setup,
			teardown),
		cmocka_unit_test_setup_teardown(passes_over_records_of_the_wrong_size, setup,
			teardown),
		cmocka_unit_test_setup_teardown(passes_over_hosts_that_are_none, setup,
			teardown),
		cmocka_unit_test_setup_teardown(knows_how_long_a_no_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_times_to_live_in_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_no_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_every_truncation, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_the_longest_names_and_no_longer_ones,
			setup, teardown),
		cmocka_unit_test_setup_teardown(reads_as_many_records_as_a_message_holds, setup,
			teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
