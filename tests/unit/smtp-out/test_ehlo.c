/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "smtp-out/ehlo.h"

static void reads_offers(void **state)
{
	static const struct {
		const char *text;
		struct ehlo want;
	} cases[] = {
		{"", {0}},
		{"mx", {0}},
		{"PIPELINING", {0}}, /* the name of the server */
		{"mx\n", {0}},
		{"mx\nPIPELINING", {.offers = OFFER_PIPELINING}},
		{"mx\npipelining\n\n8BitMime\n", {.offers = OFFER_PIPELINING | OFFER_8BITMIME}},
		{"mx\nSMTPUTF8\nDSN\nSTARTTLS\nENHANCEDSTATUSCODES\nCHUNKING",
			{.offers = OFFER_SMTPUTF8 | OFFER_DSN | OFFER_STARTTLS |
				   OFFER_ENHANCED | OFFER_CHUNKING}},
		{"mx\nSIZE", {.offers = OFFER_SIZE}},
		{"mx\nSIZE 0", {.offers = OFFER_SIZE}},
		{"mx\nSIZE abc", {.offers = OFFER_SIZE}},
		{"mx\nSIZE -5", {.offers = OFFER_SIZE}},
		{"mx\nSIZE 1 2", {.offers = OFFER_SIZE, .size = 1}},
		{"mx\nSIZE\t12 ", {.offers = OFFER_SIZE, .size = 12}},
		{"mx\n  SIZE 12", {.offers = OFFER_SIZE, .size = 12}},
		{"mx\nSIZE 12\nSIZE 5\nSIZE 7", {.offers = OFFER_SIZE, .size = 5}},
		{"mx\nSIZE 18446744073709551616", {.offers = OFFER_SIZE, .size = INT64_MAX}},
		{"mx\nSIZE=5", {0}},
		{"mx\nXSIZE 5\nSIZES 5", {0}},
		{"mx\nAUTH=LOGIN\nAUTH PLAIN\nVRFY\nHELP", {0}},
		{"mx\nLIMITS MAILMAX=3 RCPTMAX=100 RCPTDOMAINMAX=1", {0, 0, 3, 100}},
		{"mx\nlimits mailmax=3", {0, 0, 3, 0}},
		{"mx\nLIMITS MAILMAX= RCPTMAX=x MAILMAX=0 =7 RCPTMAX", {0}},
		{"mx\nLIMITS RCPTMAX=99999999999", {0, 0, 0, UINT32_MAX}},
		{"mx\nLIMITS RCPTMAX=9 RCPTMAX=4", {0, 0, 0, 4}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ehlo e = ehlo_parse(slice_from_cstr(cases[i].text));

		assert_int_equal(e.offers, cases[i].want.offers);
		assert_int_equal(e.size, cases[i].want.size);
		assert_int_equal(e.mail_max, cases[i].want.mail_max);
		assert_int_equal(e.rcpt_max, cases[i].want.rcpt_max);
	}
}

static void never_offers_more_when_truncated(void **state)
{
	static const char text[] = "mx.example\nPIPELINING\nSIZE 1000\nDSN\nLIMITS MAILMAX=5";

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		struct ehlo e = ehlo_parse(slice_make(text, n));

		assert_true(e.size <= 1000);
		assert_true(e.mail_max == 0 || e.mail_max == 5);
		assert_int_equal(
			e.offers & ~(unsigned)(OFFER_PIPELINING | OFFER_SIZE | OFFER_DSN), 0);
	}
}

static void bytes_that_are_no_text_are_passed_over(void **state)
{
	static const char text[] = "mx\n\0\0DSN\nDSN\0\nPIPE\xffLINING\n8BITMIME";

	(void)state;
	struct ehlo e = ehlo_parse(slice_make(text, sizeof(text) - 1));
	assert_int_equal(e.offers, OFFER_8BITMIME);
}

static void the_last_line_of_a_cut_text_counts_for_nothing(void **state)
{
	char text[LIMIT_REPLY_TEXT + 1];
	static const char tail[] = "\nDSN\nSIZE 100";

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text + LIMIT_REPLY_TEXT - (sizeof(tail) - 1), tail, sizeof(tail) - 1);
	struct ehlo e = ehlo_parse(slice_make(text, LIMIT_REPLY_TEXT));
	assert_int_equal(e.offers, OFFER_DSN);
	e = ehlo_parse(slice_make(text + 1, LIMIT_REPLY_TEXT - 1));
	assert_int_equal(e.offers, OFFER_DSN | OFFER_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_offers),
		cmocka_unit_test(never_offers_more_when_truncated),
		cmocka_unit_test(bytes_that_are_no_text_are_passed_over),
		cmocka_unit_test(the_last_line_of_a_cut_text_counts_for_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
