/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "common/base/attr.h"
#include "smtp-out/tls.h"

static void reads_versions(void **state)
{
	static const struct {
		const char *text;
		int lowest; /* 0: refused */
		int highest;
	} cases[] = {
		{">=TLSv1.2", TLS1_2_VERSION, TLS1_3_VERSION},
		{">=TLSv1", TLS1_VERSION, TLS1_3_VERSION},
		{"<=TLSv1.2", TLS1_VERSION, TLS1_2_VERSION},
		{">=TLSv1.1, <=TLSv1.2", TLS1_1_VERSION, TLS1_2_VERSION},
		{"TLSv1.2", TLS1_2_VERSION, TLS1_2_VERSION},
		{"tlsv1.3", TLS1_3_VERSION, TLS1_3_VERSION},
		{"TLSv1.2 TLSv1.3", TLS1_2_VERSION, TLS1_3_VERSION},
		{"TLSv1.3:TLSv1.1", TLS1_1_VERSION, TLS1_3_VERSION},
		{"!SSLv2, !SSLv3", TLS1_VERSION, TLS1_3_VERSION},
		{"!SSLv3 !TLSv1 !TLSv1.1", TLS1_2_VERSION, TLS1_3_VERSION},
		{"!TLSv1.3", TLS1_VERSION, TLS1_2_VERSION},
		{"", TLS1_VERSION, TLS1_3_VERSION},
		{"SSLv3", 0, 0},
		{">=TLSv1.3 <=TLSv1.2", 0, 0},
		{"TLSv1.4", 0, 0},
		{">=", 0, 0},
		{"TLSv1.2x", 0, 0},
		{"!SSLv3 !TLSv1 !TLSv1.1 !TLSv1.2 !TLSv1.3", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int lowest = 0;
		int highest = 0;
		enum err e =
			tls_versions_parse(slice_from_cstr(cases[i].text), &lowest, &highest);

		assert_int_equal(e, cases[i].lowest == 0 ? ERR_SYNTAX : ERR_OK);
		assert_int_equal(lowest, cases[i].lowest);
		assert_int_equal(highest, cases[i].highest);
	}
}

static void says_what_would_be_right(void **state)
{
	static const struct {
		const char *protocols;
		const char *grade;
		const char *anchors;
		bool fine;
	} cases[] = {
		{">=TLSv1.2", "medium", "", true},
		{">=TLSv1.2", "high", "", true},
		{">=TLSv1.2", "null", "", true},
		{"TLSv9", "medium", "", false},
		{">=TLSv1.2", "medium", "not PEM", false},
		{">=TLSv1.2", "medium",
			"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
			false},
	};
	struct buf why;

	(void)state;
	buf_init(&why, 1000);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct tls *t = NULL;
		enum err e = tls_new(slice_from_cstr(cases[i].protocols),
			slice_from_cstr(cases[i].grade), slice_from_cstr(cases[i].anchors),
			&why, &t);

		assert_int_equal(e, cases[i].fine ? ERR_OK : ERR_CONFIG);
		assert_true((buf_len(&why) == 0) == cases[i].fine);
		buf_reset(&why);
		tls_free(&t);
		tls_free(&t);
	}
	buf_clear(&why);
}

static void names_the_host_unless_it_is_an_address(void **state)
{
	struct buf why;
	struct tls *t = NULL;

	(void)state;
	buf_init(&why, 1000);
	assert_int_equal(tls_new(SLICE(">=TLSv1.2"), SLICE("medium"), SLICE_EMPTY, &why, &t),
		ERR_OK);
	SSL *named = tls_client(t, "mx.example", TLS_MAY);
	SSL *by_address = tls_client(t, "192.0.2.1", TLS_SECURE);
	SSL *nameless = tls_client(t, "", TLS_MAY);
	assert_non_null(named);
	assert_non_null(by_address);
	assert_non_null(nameless);
	assert_string_equal(SSL_get_servername(named, TLSEXT_NAMETYPE_host_name), "mx.example");
	assert_null(SSL_get_servername(by_address, TLSEXT_NAMETYPE_host_name));
	assert_null(SSL_get_servername(nameless, TLSEXT_NAMETYPE_host_name));
	SSL_free(named);
	SSL_free(by_address);
	SSL_free(nameless);
	tls_free(&t);
	buf_clear(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_versions),
		cmocka_unit_test(says_what_would_be_right),
		cmocka_unit_test(names_the_host_unless_it_is_an_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
