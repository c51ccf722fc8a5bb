/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bounce/classify.h"
#include "common/base/attr.h"
#include "common/base/limits.h"

static bool judge(uint8_t stage, uint16_t code, const char *text, bool is_shared)
{
	struct failure f = {.stage = stage,
		.smtp_code = code,
		.text = slice_from_cstr(text),
		.is_shared = is_shared};

	(void)enhanced_parse(f.text, &f.status, NULL);
	return classify_is_dead_address(&f);
}

static void knows_dead_addresses(void **state)
{
	static const struct {
		uint8_t stage;
		uint16_t code;
		const char *text;
	} cases[] = {
		{STAGE_RCPT, 550, "5.1.1 <x@y.example>: recipient rejected: user unknown"},
		{STAGE_RCPT, 550, "5.1.1 mailbox of x is gone"},
		{STAGE_RCPT, 554, "5.1.1 gone"},
		{STAGE_RCPT, 550, "5.1.6 moved away"},
		{STAGE_RCPT, 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; not found by lookup"},
		{STAGE_RCPT, 550, "No such user here"},
		{STAGE_RCPT, 553, "Invalid recipient <x@y.example>"},
		{STAGE_RCPT, 550, "USER UNKNOWN"},
		{STAGE_RCPT, 550, "5.0.0 User unknown"},
		{STAGE_RCPT, 550, "5.1.0 unknown recipient"},
		{STAGE_RCPT, 550, "<x@y.example> does not exist"},
		{STAGE_RCPT, 550, "The email account that you tried to reach does not exist."},
		{STAGE_RCPT, 550, "no such\nmailbox not\nfound: user\nunknown"},
		{STAGE_RCPT, 550, "<spam-quota-blocked@full.example>: User unknown"},
		{STAGE_RCPT, 550,
			"5.4.1 <x@y.example>: Recipient address rejected: Access denied"},
		{STAGE_END_OF_DATA, 550, "5.1.1 not found"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (!judge(cases[i].stage, cases[i].code, cases[i].text, false)) {
			fail_msg("not taken for dead: %s", cases[i].text);
		}
	}
}

static void spares_living_addresses(void **state)
{
	static const struct {
		uint8_t stage;
		uint16_t code;
		const char *text;
	} cases[] = {
		{STAGE_RCPT, 550, ""},
		{STAGE_RCPT, 550, "5.1.2 no such domain here"},
		{STAGE_RCPT, 550, "5.2.1 the mailbox is disabled, user unknown"},
		{STAGE_RCPT, 552, "5.2.2 over quota"},
		{STAGE_RCPT, 552, "mailbox full (#5.1.1)"},
		{STAGE_RCPT, 550, "5.7.1 relaying denied, user unknown"},
		{STAGE_RCPT, 554, "5.7.1 blocked, see https://example.org/"},
		{STAGE_RCPT, 550, "5.1.1 rejected by policy"},
		{STAGE_RCPT, 553, "domain does not exist"},
		{STAGE_RCPT, 550, "your domain name does not exist in the DNS"},
		{STAGE_RCPT, 550, "Access denied: PTR record does not exist"},
		{STAGE_RCPT, 550, "the MX host for relay.example doesn't exist"},
		{STAGE_RCPT, 550, "Requested action not taken: mailbox unavailable"},
		{STAGE_RCPT, 550, "5.7.1 mailbox unavailable"},
		{STAGE_RCPT, 550, "5.7.1 recipient rejected"},
		{STAGE_RCPT, 550, "5.7.0 no such user, or you may not write to him"},
		{STAGE_RCPT, 550, "5.4.1 no such user"},
		{STAGE_RCPT, 550, "5.1.8 <a@relay.example>: user unknown"},
		{STAGE_RCPT, 550, "Callout failed: 550 no such user"},
		{STAGE_RCPT, 550,
			"Verification failed for <a@relay.example>\nNo Such User Here"},
		{STAGE_RCPT, 550, "sender does not exist"},
		{STAGE_RCPT, 550, "is not registered at this gateway"},
		{STAGE_RCPT, 550, ": User unknown"},
		{STAGE_RCPT, 550, "5.1.1 : User unknown"},
		{STAGE_RCPT, 450, "4.1.1 user unknown"},
		{STAGE_RCPT, 250, "2.1.5 user unknown"},
		{STAGE_RCPT, 552, "too many recipients"},
		{STAGE_END_OF_DATA, 550, "Unknown user x@y.example"},
		{STAGE_END_OF_DATA, 550, ": User unknown"},
		{STAGE_MAIL, 550, "5.1.1 user unknown"},
		{STAGE_DATA, 550, "5.1.1 user unknown"},
		{STAGE_DNS, 0, "5.1.2 the domain does not exist"},
		{STAGE_CONNECT, 554, "5.1.1 user unknown"},
		{STAGE_EXPIRED, 550, "5.1.1 user unknown"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (judge(cases[i].stage, cases[i].code, cases[i].text, false)) {
			fail_msg("taken for dead: %s", cases[i].text);
		}
	}
	/* One answer for several says nothing about one of them. */
	assert_false(judge(STAGE_END_OF_DATA, 550, "5.1.1 not found", true));
}

static void reads_texts_of_any_length(void **state)
{
	char text[LIMIT_REPLY_TEXT + 200];

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		memset(text, n % 2 == 0 ? '@' : 'x', sizeof(text));
		if (n % 3 == 0) {
			text[n / 2] = ' ';
		}
		struct failure f = {.stage = STAGE_RCPT,
			.smtp_code = 550,
			.text = slice_make(text, n)};
		assert_false(classify_is_dead_address(&f));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_dead_addresses),
		cmocka_unit_test(spares_living_addresses),
		cmocka_unit_test(reads_texts_of_any_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
