/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "build_paths.h"
#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/conf/conf.h"
#include "common/conf/value.h"

static struct buf why;

static int set_up(void **state)
{
	(void)state;
	buf_init(&why, LIMIT_TEXT);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_clear(&why);
	return 0;
}

static void assert_text(struct slice got, const char *want)
{
	if (!slice_eq(got, slice_from_cstr(want))) {
		fail_msg("got \"%.*s\", want \"%s\"", SLICE_ARG(got), want);
	}
}

static struct conf *build(const char *const *pairs)
{
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;

	for (; *pairs != NULL; pairs += 2) {
		enum err e = conf_builder_set(b, slice_from_cstr(pairs[0]),
			slice_from_cstr(pairs[1]), &why);
		if (e != ERR_OK) {
			fail_msg("%s: %.*s", pairs[0], SLICE_ARG(buf_view(&why)));
		}
	}
	if (conf_builder_end(&b, &why, &c) != ERR_OK) {
		fail_msg("%.*s", SLICE_ARG(buf_view(&why)));
	}
	assert_null(b);
	return c;
}

static void has_a_default_of_the_right_kind_for_everything(void **state)
{
	static const char *const none[] = {NULL};
	struct conf *c = build(none);

	(void)state;
	assert_true(conf_text(c, CONF_myhostname).n != 0);
	assert_text(conf_text(c, CONF_queue_directory), PATH_LOCALSTATEDIR "/spool/ekiden");
	assert_int_equal(conf_time_s(c, CONF_maximal_queue_lifetime), 5 * 86400);
	assert_int_equal(conf_time_ms(c, CONF_smtp_connect_timeout), 30000);
	assert_int_equal(conf_count(c, CONF_message_size_limit), 10240000);
	assert_true(conf_bool(c, CONF_smtp_pipeline_next));
	assert_int_equal(conf_list_count(c, CONF_mydestination), 0);
	assert_true(conf_is(c, CONF_smtpd_tls_security_level, ""));
	assert_int_equal(conf_endpoint_count(c, CONF_dns_servers), 0);
	for (unsigned p = 0; p < CONF_COUNT; p++) {
		const struct conf_param_info *info = conf_param_info((enum conf_param)p);
		assert_int_equal(conf_param_find(slice_from_cstr(info->name)), p);
		assert_true(info->meaning[0] != '\0');
		assert_true((info->sees & SEES_ALL) != 0);
	}
	conf_free(&c);
	conf_free(&c);
}

static void lets_defaults_follow_what_they_refer_to(void **state)
{
	static const char *const pairs[] = {"smtpd_tls_cert_file", "/etc/x.pem", "mynetworks",
		"10.0.0.0/8", "myhostname", "relay.example.com", NULL};
	struct conf *c = build(pairs);
	struct endpoint inside;

	(void)state;
	assert_text(conf_text(c, CONF_smtpd_tls_key_file), "/etc/x.pem");
	assert_text(conf_text(c, CONF_smtpd_banner), "relay.example.com ESMTP Ekiden");
	assert_text(conf_text(c, CONF_mydomain), "example.com");
	assert_text(conf_text(c, CONF_myorigin), "relay.example.com");
	assert_string_equal(conf_cstr(c, CONF_smtp_helo_name), "relay.example.com");
	assert_int_equal(endpoint_parse_addr(SLICE("10.1.2.3"), 0, &inside), ERR_OK);
	assert_true(
		cidr_list_has(conf_cidr(c, CONF_smtpd_client_event_limit_exceptions), &inside));
	conf_free(&c);
}

static void parses_times_with_the_unit_of_the_default(void **state)
{
	static const struct {
		const char *name;
		const char *text;
		int64_t seconds; /* -1: refused */
	} cases[] = {
		{"maximal_queue_lifetime", "5", 5 * 86400},
		{"maximal_queue_lifetime", "5h", 5 * 3600},
		{"maximal_queue_lifetime", "0", 0},
		{"maximal_queue_lifetime", "1w", 7 * 86400},
		{"maximal_queue_lifetime", "100d", 100 * 86400},
		{"maximal_queue_lifetime", "101d", -1},
		{"minimal_backoff_time", "10", 10},
		{"minimal_backoff_time", "10S", 10},
		{"minimal_backoff_time", " 2m ", 120},
		{"minimal_backoff_time", "0", -1},
		{"minimal_backoff_time", "", -1},
		{"minimal_backoff_time", "s", -1},
		{"minimal_backoff_time", "-1s", -1},
		{"minimal_backoff_time", "1.5s", -1},
		{"minimal_backoff_time", "10 s", -1},
		{"minimal_backoff_time", "10ms", -1},
		{"minimal_backoff_time", "99999999999999999999d", -1},
		{"minimal_backoff_time", "9223372036854775807w", -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf_value v;
		enum conf_param p = conf_param_find(slice_from_cstr(cases[i].name));
		enum err e = conf_value_parse(p, slice_from_cstr(cases[i].text), &why, &v);
		if ((e == ERR_OK) != (cases[i].seconds >= 0) ||
			(e == ERR_OK && v.number != (uint64_t)cases[i].seconds)) {
			fail_msg("%s = %s", cases[i].name, cases[i].text);
		}
		if (e == ERR_OK) {
			conf_value_clear(&v);
		} else {
			assert_true(
				slice_starts(buf_view(&why), SLICE("must be a time such as")));
		}
		buf_reset(&why);
	}
}

static void takes_and_refuses_values_by_their_type(void **state)
{
	static const struct {
		const char *name;
		const char *text;
		const char *why; /* null: fine */
	} cases[] = {
		{"smtpd_helo_required", "YES", NULL},
		{"smtpd_helo_required", "true", "must be yes or no (got \"true\")"},
		{"smtpd_helo_required", "", "must be yes or no"},
		{"message_size_limit", "20m", NULL},
		{"message_size_limit", "20M", NULL},
		{"message_size_limit", "16g", NULL},
		{"message_size_limit", "17g", "in 0..17179869184"},
		{"message_size_limit", "20x", "must be a number of bytes"},
		{"message_size_limit", "k", "must be a number of bytes"},
		{"message_size_limit", "18446744073709551615", "in 0.."},
		{"smtpd_recipient_limit", "0", "in 1..1000000"},
		{"smtpd_recipient_limit", "1k", "must be a number"},
		{"smtpd_tls_security_level", "", NULL},
		{"smtpd_tls_security_level", "MAY", NULL},
		{"smtpd_tls_security_level", "dane",
			"must be one of (empty), none, may, encrypt"},
		{"bounce_notice_language", "", "must be one of en, ja, both"},
		{"mynetworks", "10.0.0.0/8, [::1]/128 !192.0.2.1", NULL},
		{"mynetworks", "10.0.0.1/8", "host bits zero"},
		{"mynetworks", "hash:/etc/x", "tables are not understood here"},
		{"mynetworks", "10.0.0.0/33", "must be a list of networks"},
		{"dns_servers", "127.0.0.1@5353 192.0.2.1", NULL},
		{"dns_servers", "localhost", "ADDRESS@PORT"},
		{"dns_servers", "127.0.0.1@0", "ADDRESS@PORT"},
		{"smtpd_tls_cert_file", "", NULL},
		{"smtpd_tls_cert_file", "cert.pem", "the path of a file, from / on"},
		{"myhostname", "relay.example.com", NULL},
		{"myhostname", "-x.example.com", "must be a host name"},
		{"myhostname", "a b", "must be a host name"},
		{"myhostname", "a..b", "must be a host name"},
		{"myhostname", "a.b.", "must be a host name"},
		{"smtp_helo_name", "[192.0.2.1]", NULL},
		{"relayhost", "", NULL},
		{"relayhost", "example.com", NULL},
		{"relayhost", "example.com:587", NULL},
		{"relayhost", "[mx.example.com]:submission", NULL},
		{"relayhost", "[127.0.0.1]:2525", NULL},
		{"relayhost", "[2001:db8::1]", NULL},
		{"relayhost", "[IPv6:2001:db8::1]:25", NULL},
		{"relayhost", "[127.0.0.1", "must be one next hop"},
		{"relayhost", "[127.0.0.1]25", "must be one next hop"},
		{"relayhost", "[127.0.0.1]:0", "must be one next hop"},
		{"relayhost", "[127.0.0.1]:65536", "must be one next hop"},
		{"relayhost", "a.example, b.example", "must be one next hop"},
		{"relayhost", "smtp:[mx.example.com]", "must be one next hop"},
		{"inet_protocols", "ipv4, ipv6", NULL},
		{"inet_protocols", "ipv5", "all, ipv4, ipv6"},
		{"inet_protocols", "", "all, ipv4 or ipv6"},
		{"inet_interfaces", "127.0.0.1, ::1", NULL},
		{"inet_interfaces", "$x", "all, loopback-only"},
		{"smtp_bind_address", "192.0.2.1", NULL},
		{"smtp_bind_address", "::1", "an IPv4 address"},
		{"smtp_bind_address6", "[::1]", NULL},
		{"smtp_bind_address6", "192.0.2.1", "an IPv6 address"},
		{"smtpd_relay_restrictions", "permit_mynetworks, reject", NULL},
		{"smtpd_relay_restrictions", "permit_mynetworks", "everybody could relay"},
		{"smtpd_relay_restrictions", "", "everybody could relay"},
		{"smtpd_relay_restrictions", "permit_mynetwork reject", "must be a list of"},
		{"smtpd_tls_protocols", ">=TLSv1.2", NULL},
		{"smtpd_tls_protocols", "!SSLv2, !SSLv3", NULL},
		{"smtpd_tls_protocols", "", NULL},
		{"smtpd_tls_protocols", ">TLSv1.2", "must be a list such as"},
		{"compatibility_level", "3.6", NULL},
		{"compatibility_level", "new", "a level such as 3.6"},
		{"queue_directory", "spool", "a path, from / on"},
		{"smtpd_banner", "relay \x7f", "printable"},
		{"nosuch", "1", "is no parameter"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf_builder *b = conf_builder_new();
		enum err e = conf_builder_set(b, slice_from_cstr(cases[i].name),
			slice_from_cstr(cases[i].text), &why);
		struct slice said = buf_view(&why);
		if ((e == ERR_OK) != (cases[i].why == NULL) ||
			(e != ERR_OK && memmem(said.p, said.n, cases[i].why,
						strlen(cases[i].why)) == NULL)) {
			fail_msg("%s = %s: %.*s", cases[i].name, cases[i].text,
				SLICE_ARG(said));
		}
		conf_builder_free(&b);
		buf_reset(&why);
	}
}

static void spells_words_as_the_schema_does(void **state)
{
	static const char *const pairs[] = {"smtp_tls_security_level", "Encrypt",
		"smtpd_relay_restrictions",
		"permit_mynetworks permit_sasl_authenticated, defer_unauth_destination", NULL};
	struct conf *c = build(pairs);

	(void)state;
	assert_true(conf_is(c, CONF_smtp_tls_security_level, "encrypt"));
	assert_false(conf_is(c, CONF_smtp_tls_security_level, "may"));
	assert_int_equal(conf_list_count(c, CONF_smtpd_relay_restrictions), 2);
	assert_text(conf_list_at(c, CONF_smtpd_relay_restrictions, 0), "permit_mynetworks");
	assert_text(conf_list_at(c, CONF_smtpd_relay_restrictions, 1),
		"defer_unauth_destination");
	conf_free(&c);
}

static void refuses_settings_that_do_not_fit_together(void **state)
{
	static const struct {
		const char *pairs[5];
		const char *why;
	} cases[] = {
		{{"minimal_backoff_time", "2h", "maximal_backoff_time", "1h", NULL},
			"minimal_backoff_time must not be larger"},
		{{"smtpd_soft_error_limit", "30", NULL},
			"smtpd_soft_error_limit must not be larger"},
		{{"smtpd_tls_security_level", "encrypt", NULL}, "needs smtpd_tls_cert_file"},
		{{"maillog_file", "/home/x", NULL}, "maillog_file_prefixes"},
		{{"maillog_file", "/variable", NULL}, "maillog_file_prefixes"},
		{{"queue_directory", "/x", "data_directory", "/x", NULL},
			"must not be the same"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf_builder *b = conf_builder_new();
		struct conf *c = NULL;
		for (const char *const *p = cases[i].pairs; *p != NULL; p += 2) {
			assert_int_equal(conf_builder_set(b, slice_from_cstr(p[0]),
						 slice_from_cstr(p[1]), &why),
				ERR_OK);
		}
		assert_int_equal(conf_builder_end(&b, &why, &c), ERR_CONFIG);
		assert_null(b);
		assert_null(c);
		struct slice said = buf_view(&why);
		if (memmem(said.p, said.n, cases[i].why, strlen(cases[i].why)) == NULL) {
			fail_msg("%.*s", SLICE_ARG(said));
		}
		buf_reset(&why);
	}
}

static void keeps_files_and_shares_them_with_copies(void **state)
{
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;
	struct conf *copy = NULL;
	struct slice got;

	(void)state;
	assert_int_equal(conf_builder_file(b, SLICE("/a"), SLICE("one ")), ERR_OK);
	assert_int_equal(conf_builder_file(b, SLICE("/b"), SLICE("")), ERR_OK);
	assert_int_equal(conf_builder_file(b, SLICE("/a"), SLICE("two")), ERR_OK);
	assert_int_equal(conf_builder_set(b, SLICE("myhostname"), SLICE("a.example"), &why),
		ERR_OK);
	assert_int_equal(conf_builder_end(&b, &why, &c), ERR_OK);
	b = conf_builder_copy(c);
	assert_int_equal(conf_builder_set_line(b, SLICE("smtpd_recipient_limit = 7"), &why),
		ERR_OK);
	assert_int_equal(conf_builder_set_line(b, SLICE("nosuch=1"), &why), ERR_NOTFOUND);
	assert_int_equal(conf_builder_set_line(b, SLICE("smtpd_timeout"), &why), ERR_CONFIG);
	assert_int_equal(conf_builder_end(&b, &why, &copy), ERR_OK);
	assert_int_equal(conf_count(c, CONF_smtpd_recipient_limit), 1000);
	conf_free(&c);
	assert_int_equal(conf_count(copy, CONF_smtpd_recipient_limit), 7);
	assert_text(conf_text(copy, CONF_myhostname), "a.example");
	assert_int_equal(conf_file(copy, SLICE("/a"), &got), ERR_OK);
	assert_text(got, "one two");
	assert_int_equal(conf_file(copy, SLICE("/b"), &got), ERR_OK);
	assert_int_equal(got.n, 0);
	assert_int_equal(conf_file(copy, SLICE("/c"), &got), ERR_NOTFOUND);
	conf_free(&copy);
}

static void refuses_what_is_too_long_or_holds_nul(void **state)
{
	char *text = malloc(LIMIT_PARAM_VALUE + 2);
	struct conf_builder *b = conf_builder_new();

	(void)state;
	memset(text, 'a', LIMIT_PARAM_VALUE + 2);
	assert_int_equal(conf_builder_set(b, SLICE("double_bounce_sender"),
				 slice_make(text, LIMIT_PARAM_VALUE), &why),
		ERR_OK);
	assert_int_equal(conf_builder_set(b, SLICE("double_bounce_sender"),
				 slice_make(text, LIMIT_PARAM_VALUE + 1), &why),
		ERR_CONFIG);
	assert_int_equal(
		conf_builder_set(b, SLICE("double_bounce_sender"), SLICE("a\0b"), &why),
		ERR_CONFIG);
	assert_int_equal(
		conf_builder_set(b, SLICE("double_bounce_sender"), SLICE("a\nb"), &why),
		ERR_CONFIG);
	memset(text, ' ', LIMIT_PARAM_VALUE);
	for (size_t i = 0; i < LIMIT_PARAM_VALUE; i += 2) {
		text[i] = 'a';
	}
	assert_int_equal(conf_builder_set(b, SLICE("mydestination"),
				 slice_make(text, LIMIT_PARAM_VALUE), &why),
		ERR_CONFIG);
	assert_int_equal(conf_builder_set(b, SLICE("mydestination"),
				 slice_make(text, CONF_WORDS_MAX * (size_t)2), &why),
		ERR_OK);
	conf_builder_free(&b);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(has_a_default_of_the_right_kind_for_everything,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(lets_defaults_follow_what_they_refer_to, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(parses_times_with_the_unit_of_the_default,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(takes_and_refuses_values_by_their_type, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(spells_words_as_the_schema_does, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(refuses_settings_that_do_not_fit_together,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_files_and_shares_them_with_copies, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(refuses_what_is_too_long_or_holds_nul, set_up,
			tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
