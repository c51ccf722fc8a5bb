/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "qmgr/policy.h"

static void reads_next_hops(void **state)
{
	static const struct {
		const char *text;
		enum err e;
		enum nexthop_kind kind;
		const char *key;
	} cases[] = {
		{"example.com", ERR_OK, NEXTHOP_MX, "example.com:25"},
		{"Example.COM:587", ERR_OK, NEXTHOP_MX, "example.com:587"},
		{"[mail.example.com]", ERR_OK, NEXTHOP_HOST, "[mail.example.com]:25"},
		{"[127.0.0.1]:2526", ERR_OK, NEXTHOP_HOST, "[127.0.0.1]:2526"},
		{"[IPv6:2001:DB8::1]:26", ERR_OK, NEXTHOP_HOST, "[2001:db8::1]:26"},
		{"[2001:db8::1]", ERR_OK, NEXTHOP_HOST, "[2001:db8::1]:25"},
		{"[mail.example.com]:submission", ERR_OK, NEXTHOP_HOST,
			"[mail.example.com]:587"},
		{"", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"[", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"[]", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"[a", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"[a]b", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"[a]:", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"a:", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"a:0", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"a:65536", ERR_SYNTAX, NEXTHOP_MX, ""},
		{"a:x", ERR_SYNTAX, NEXTHOP_MX, ""},
		{":25", ERR_SYNTAX, NEXTHOP_MX, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct nexthop hop;
		enum err e = nexthop_parse(slice_from_cstr(cases[i].text), &hop);

		if (e != cases[i].e) {
			fail_msg("\"%s\": %s", cases[i].text, err_str(e));
		}
		if (e == ERR_OK) {
			assert_int_equal(hop.kind, cases[i].kind);
			assert_string_equal(hop.key, cases[i].key);
		}
	}
}

static struct policy *policy_of(const char *relayhost, const char *transports)
{
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;
	struct policy *p = NULL;
	struct slice spec = SLICE("texthash:/t");
	struct buf why;
	enum err e;

	buf_init(&why, 4096);
	e = conf_builder_set(b, SLICE("relayhost"), slice_from_cstr(relayhost), &why);
	if (e == ERR_OK && transports != NULL) {
		e = conf_builder_set(b, SLICE("transport_maps"), spec, &why);
	}
	if (e == ERR_OK && transports != NULL) {
		e = conf_builder_file(b, spec, slice_from_cstr(transports));
	}
	if (e == ERR_OK) {
		e = conf_builder_end(&b, &why, &c);
	}
	if (e == ERR_OK) {
		e = policy_new(c, &why, &p);
	}
	conf_builder_free(&b);
	conf_free(&c);
	buf_clear(&why);
	return e == ERR_OK ? p : NULL;
}

static void expect(const struct policy *p, const char *address, enum nexthop_kind kind,
	const char *key)
{
	struct nexthop hop;

	policy_route(p, slice_from_cstr(address), &hop);
	assert_int_equal(hop.kind, kind);
	if (kind == NEXTHOP_MX || kind == NEXTHOP_HOST) {
		assert_string_equal(hop.key, key);
	} else {
		assert_string_equal(hop.text, key);
	}
}

static void prefers_the_table_then_relayhost_then_the_domain(void **state)
{
	struct policy *p =
		policy_of("[smart.example]:587", "who@example.com smtp:[10.0.0.1]:2525\n"
						 "example.com smtp:[10.0.0.2]\n"
						 "direct.example smtp:\n"
						 "dead.example error:5.1.2 no such domain\n"
						 "void.example discard:\n"
						 "later.example retry:4.0.0 come back\n"
						 ".sub.example smtp:[10.0.0.3]\n");

	(void)state;
	assert_non_null(p);
	expect(p, "who@example.com", NEXTHOP_HOST, "[10.0.0.1]:2525");
	expect(p, "else@EXAMPLE.com", NEXTHOP_HOST, "[10.0.0.2]:25");
	/* As in transport(5): a parent counts only with a dot in front. */
	expect(p, "a@other.example.com", NEXTHOP_HOST, "[smart.example]:587");
	expect(p, "a@deep.below.sub.example", NEXTHOP_HOST, "[10.0.0.3]:25");
	expect(p, "a@sub.example", NEXTHOP_HOST, "[smart.example]:587");
	expect(p, "a@direct.example", NEXTHOP_MX, "direct.example:25");
	expect(p, "a@dead.example", NEXTHOP_ERROR, "5.1.2 no such domain");
	expect(p, "a@void.example", NEXTHOP_DISCARD, "");
	expect(p, "a@later.example", NEXTHOP_RETRY, "4.0.0 come back");
	expect(p, "a@other.example", NEXTHOP_HOST, "[smart.example]:587");
	policy_free(&p);
	p = policy_of("", NULL);
	expect(p, "a@other.example", NEXTHOP_MX, "other.example:25");
	expect(p, "\"a@b\"@other.example", NEXTHOP_MX, "other.example:25");
	expect(p, "a@[192.0.2.1]", NEXTHOP_HOST, "[192.0.2.1]:25");
	expect(p, "a@[IPv6:2001:db8::1]", NEXTHOP_HOST, "[2001:db8::1]:25");
	policy_free(&p);
}

static void refuses_entries_that_cannot_be_obeyed(void **state)
{
	(void)state;
	assert_null(policy_of("", "example.com local:\n"));
	assert_null(policy_of("", "example.com smtp:[a\n"));
	assert_null(policy_of("[a]:b", NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_next_hops),
		cmocka_unit_test(prefers_the_table_then_relayhost_then_the_domain),
		cmocka_unit_test(refuses_entries_that_cannot_be_obeyed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
