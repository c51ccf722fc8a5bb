/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/log.h"
#include "smtpd/policy.h"
#include "smtpd/settings.h"
#include "tests/dialog/smtpd_cert.h"

static struct conf *conf_with(const char *const *pairs, const char *file, const char *bytes)
{
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;
	struct buf why;

	buf_init(&why, 4096);
	assert_int_equal(conf_builder_set(b, SLICE("myhostname"), SLICE("relay.example"), &why),
		ERR_OK);
	for (; pairs != NULL && pairs[0] != NULL; pairs += 2) {
		assert_int_equal(conf_builder_set(b, slice_from_cstr(pairs[0]),
					 slice_from_cstr(pairs[1]), &why),
			ERR_OK);
	}
	if (file != NULL) {
		assert_int_equal(
			conf_builder_file(b, slice_from_cstr(file), slice_from_cstr(bytes)),
			ERR_OK);
	}
	assert_int_equal(conf_builder_end(&b, &why, &c), ERR_OK);
	buf_clear(&why);
	return c;
}

static enum err make(const struct conf *c, const char *options, struct buf *why,
	struct settings **out)
{
	buf_reset(why);
	return settings_new(c, SLICE("smtp"), slice_from_cstr(options), why, out);
}

static void options_of_a_listener_override_the_configuration(void **state)
{
	static const char *const pairs[] = {"smtpd_recipient_limit", "7", "smtpd_timeout",
		"11s", NULL};
	struct conf *c = conf_with(pairs, NULL, NULL);
	struct settings *plain = NULL;
	struct settings *own = NULL;
	struct buf why;

	(void)state;
	buf_init(&why, 1024);
	assert_int_equal(make(c, "", &why, &plain), ERR_OK);
	assert_int_equal(make(c,
				 "smtpd_recipient_limit=9\nmynetworks=192.0.2.0/24\n"
				 "syslog_name=postfix/other\nmyhostname=other.example\n",
				 &why, &own),
		ERR_OK);
	conf_free(&c); /* nothing is borrowed from it */
	assert_int_equal(plain->rcpt_limit, 7);
	assert_int_equal(own->rcpt_limit, 9);
	assert_int_equal(own->idle_ms, 11000);
	assert_true(slice_eq(plain->hostname, SLICE("relay.example")));
	assert_true(slice_eq(own->hostname, SLICE("other.example")));
	struct endpoint loopback = {.family = 4, .addr = {127, 0, 0, 1}};
	assert_true(policy_is_trusted(plain, &loopback));
	assert_false(policy_is_trusted(own, &loopback));
	settings_free(&plain);
	settings_free(&own);
	buf_clear(&why);
}

static void a_bad_option_is_explained(void **state)
{
	struct conf *c = conf_with(NULL, NULL, NULL);
	struct settings *s = NULL;
	struct buf why;

	(void)state;
	buf_init(&why, 1024);
	assert_int_not_equal(make(c, "smtpd_recipient_limit=many\n", &why, &s), ERR_OK);
	assert_null(s);
	assert_true(buf_len(&why) != 0);
	conf_free(&c);
	buf_clear(&why);
}

static void tls_needs_a_certificate_and_its_key(void **state)
{
	static const char *const pairs[] = {"smtpd_tls_security_level", "may",
		"smtpd_tls_cert_file", "/c.pem", NULL};
	static const char *const off[] = {"smtpd_tls_cert_file", "/c.pem", NULL};
	static const char *const none[] = {"smtpd_tls_security_level", "may", NULL};
	static const struct {
		const char *const *pairs;
		const char *bytes;
		enum err want;
		bool is_offered;
		const char *why;
	} cases[] = {
		{pairs, SMTPD_CERT SMTPD_CERT_KEY, ERR_OK, true, ""},
		{pairs, SMTPD_CERT_KEY SMTPD_CERT, ERR_OK, true, ""},
		{pairs, SMTPD_CERT SMTPD_CERT SMTPD_CERT_KEY, ERR_OK, true, ""},
		{off, SMTPD_CERT SMTPD_CERT_KEY, ERR_OK, false, ""},
		{none, SMTPD_CERT SMTPD_CERT_KEY, ERR_OK, false, ""},
		{pairs, SMTPD_CERT, ERR_CONFIG, false, "no unencrypted private key"},
		{pairs, SMTPD_CERT_KEY, ERR_CONFIG, false, "no certificate"},
		{pairs, "x", ERR_CONFIG, false, "no certificate"},
		{pairs, "", ERR_CONFIG, false, "smtpd_tls_cert_file"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf *c = conf_with(cases[i].pairs, "/c.pem", cases[i].bytes);
		struct settings *s = NULL;
		struct buf why;
		buf_init(&why, 1024);
		if (make(c, "", &why, &s) != cases[i].want) {
			fail_msg("case %zu: %.*s", i, SLICE_ARG(buf_view(&why)));
		}
		if (s != NULL) {
			assert_int_equal(s->tls != NULL, cases[i].is_offered);
		} else {
			assert_int_equal(buf_append_byte(&why, 0), ERR_OK);
			assert_non_null(strstr((const char *)buf_view(&why).p, cases[i].why));
		}
		settings_free(&s);
		conf_free(&c);
		buf_clear(&why);
	}
}

static void the_last_user_releases_them(void **state)
{
	struct conf *c = conf_with(NULL, NULL, NULL);
	struct settings *s = NULL;
	struct buf why;

	(void)state;
	buf_init(&why, 1024);
	assert_int_equal(make(c, "", &why, &s), ERR_OK);
	struct settings *other = settings_share(s);
	settings_free(&s);
	assert_null(s);
	assert_true(slice_eq(other->hostname, SLICE("relay.example")));
	settings_free(&other);
	settings_free(&other);
	conf_free(&c);
	buf_clear(&why);
}

static void relay_rules_are_taken_in_order(void **state)
{
	static const struct {
		const char *rules;
		const char *rcpt;
		bool trusted;
		enum relay_answer want;
	} cases[] = {
		{"permit_mynetworks, reject_unauth_destination", "a@x", true, RELAY_OK},
		{"permit_mynetworks, reject_unauth_destination", "a@x", false, RELAY_REFUSED},
		{"permit_mynetworks, reject_unauth_destination", "a@Here.example", false,
			RELAY_OK},
		{"permit_mynetworks, defer_unauth_destination", "a@x", false, RELAY_DEFERRED},
		{"permit_mynetworks permit_sasl_authenticated defer_unauth_destination", "a@x",
			false, RELAY_DEFERRED},
		{"permit_mynetworks, defer", "a@here.example", false, RELAY_DEFERRED},
		{"reject_unauth_destination, permit", "a@x", true, RELAY_REFUSED},
		{"reject_unauth_destination, permit", "a@here.example", false, RELAY_OK},
		{"reject", "a@here.example", true, RELAY_REFUSED},
		{"permit, reject", "a@x", false, RELAY_OK},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *pairs[] = {"mydestination", "here.example",
			"smtpd_relay_restrictions", cases[i].rules, NULL};
		struct conf *c = conf_with(pairs, NULL, NULL);
		struct settings *s = NULL;
		struct address a;
		struct buf why;
		buf_init(&why, 1024);
		assert_int_equal(make(c, "", &why, &s), ERR_OK);
		assert_int_equal(address_parse(slice_from_cstr(cases[i].rcpt), 0, &a),
			ADDRESS_FINE);
		if (policy_relay(s, cases[i].trusted, &a) != cases[i].want) {
			fail_msg("case %zu", i);
		}
		settings_free(&s);
		conf_free(&c);
		buf_clear(&why);
	}
}

static void rules_without_an_end_let_nobody_relay(void **state)
{
	struct settings s = {.relay = {RELAY_PERMIT_MYNETWORKS}, .relay_count = 1};
	struct address a;

	(void)state;
	assert_int_equal(address_parse(SLICE("a@x"), 0, &a), ADDRESS_FINE);
	assert_int_equal(policy_relay(&s, true, &a), RELAY_OK);
	assert_int_equal(policy_relay(&s, false, &a), RELAY_REFUSED);
	s.relay_count = 0;
	assert_int_equal(policy_relay(&s, true, &a), RELAY_REFUSED);
}

static void postmaster_needs_no_domain(void **state)
{
	struct address a;

	(void)state;
	assert_int_equal(address_parse(SLICE("PostMaster"), ADDRESS_NO_DOMAIN, &a),
		ADDRESS_FINE);
	assert_true(policy_is_postmaster(&a));
	assert_int_equal(address_parse(SLICE("postmaster@x"), 0, &a), ADDRESS_FINE);
	assert_false(policy_is_postmaster(&a));
	assert_int_equal(address_parse(SLICE("post"), ADDRESS_NO_DOMAIN, &a), ADDRESS_FINE);
	assert_false(policy_is_postmaster(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_of_a_listener_override_the_configuration),
		cmocka_unit_test(a_bad_option_is_explained),
		cmocka_unit_test(tls_needs_a_certificate_and_its_key),
		cmocka_unit_test(the_last_user_releases_them),
		cmocka_unit_test(relay_rules_are_taken_in_order),
		cmocka_unit_test(rules_without_an_end_let_nobody_relay),
		cmocka_unit_test(postmaster_needs_no_domain),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
