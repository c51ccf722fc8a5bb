/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/ipc/messages.h"
#include "smtp-out/command.h"

#define ALL_OFFERS (OFFER_PIPELINING | OFFER_SIZE | OFFER_8BITMIME | OFFER_SMTPUTF8 | OFFER_DSN)

static void expect(struct buf *b, enum err e, const char *want)
{
	if (want == NULL) {
		assert_int_not_equal(e, ERR_OK);
		assert_int_equal(buf_len(b), 0);
		return;
	}
	assert_int_equal(e, ERR_OK);
	assert_int_equal(buf_len(b), strlen(want) + 2);
	assert_memory_equal(buf_view(b).p, want, strlen(want));
	assert_memory_equal(buf_view(b).p + strlen(want), "\r\n", 2);
	buf_reset(b);
}

static void writes_mail(void **state)
{
	static const struct {
		const char *sender;
		const char *envid;
		unsigned offers;
		uint8_t ret;
		struct command_needs needs;
		const char *want; /* null: refused */
	} cases[] = {
		{"", "", 0, 0, {0}, "MAIL FROM:<>"},
		{"a@b.c", "", 0, RET_FULL, {.bytes = 5}, "MAIL FROM:<a@b.c>"},
		{"a@b.c", "x", OFFER_SIZE, 0, {.bytes = 0}, "MAIL FROM:<a@b.c> SIZE=0"},
		{"a@b.c", "x", OFFER_SIZE, 0, {.bytes = UINT64_MAX},
			"MAIL FROM:<a@b.c> SIZE=18446744073709551615"},
		{"a@b.c", "", OFFER_DSN, 0, {0}, "MAIL FROM:<a@b.c>"},
		{"a@b.c", "", OFFER_DSN, RET_HDRS, {0}, "MAIL FROM:<a@b.c> RET=HDRS"},
		{"a@b.c", "id+1=2", OFFER_DSN, RET_FULL, {0},
			"MAIL FROM:<a@b.c> RET=FULL ENVID=id+2B1+3D2"},
		{"a@b.c", "i", ALL_OFFERS, RET_HDRS, {7, true, true},
			"MAIL FROM:<a@b.c> SIZE=7 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=i"},
		{"\"a b>\"@b.c", "", 0, 0, {0}, "MAIL FROM:<\"a b>\"@b.c>"},
		{"\"a\\\"b\"@b.c", "", 0, 0, {0}, "MAIL FROM:<\"a\\\"b\"@b.c>"},
		{"a b@c", "", 0, 0, {0}, NULL},
		{"a>@c", "", 0, 0, {0}, NULL},
		{"a<@c", "", 0, 0, {0}, NULL},
		{"a\r\nRCPT@c", "", 0, 0, {0}, NULL},
		{"a\x7f@c", "", 0, 0, {0}, NULL},
		{"\"a\r\n\"@c", "", 0, 0, {0}, NULL},
		{"\"a\\\n\"@c", "", 0, 0, {0}, NULL},
		{"\"a@c", "", 0, 0, {0}, NULL},
		{"\"a\\", "", 0, 0, {0}, NULL},
	};
	struct buf b;

	(void)state;
	buf_init(&b, 65536);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct job j = {.sender = slice_from_cstr(cases[i].sender),
			.envid = slice_from_cstr(cases[i].envid),
			.ret = cases[i].ret};
		struct ehlo e = {.offers = cases[i].offers};

		expect(&b, command_mail(&b, &j, &e, cases[i].needs), cases[i].want);
	}
	buf_clear(&b);
}

static void writes_rcpt(void **state)
{
	static const struct {
		const char *address;
		const char *orcpt;
		uint8_t notify;
		unsigned offers;
		bool utf8;
		const char *want;
	} cases[] = {
		{"a@b.c", "rfc822;x@y", 2, 0, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "", NOTIFY_NEVER, OFFER_DSN, false, "RCPT TO:<a@b.c> NOTIFY=NEVER"},
		{"a@b.c", "", NOTIFY_DELAY, OFFER_DSN, false, "RCPT TO:<a@b.c> NOTIFY=DELAY"},
		{"a@b.c", "", NOTIFY_SUCCESS | NOTIFY_DELAY, OFFER_DSN, false,
			"RCPT TO:<a@b.c> NOTIFY=SUCCESS,DELAY"},
		{"a@b.c", "rfc822;a+b=c d@e", 0, OFFER_DSN, false,
			"RCPT TO:<a@b.c> ORCPT=rfc822;a+2Bb+3Dc+20d@e"},
		{"a@b.c", "x400;/c=de/", 0, OFFER_DSN, false,
			"RCPT TO:<a@b.c> ORCPT=x400;/c+3Dde/"},
		{"a@b.c", "utf-8;\xc3\xa4@x", 0, OFFER_DSN, true,
			"RCPT TO:<a@b.c> ORCPT=utf-8;\xc3\xa4@x"},
		{"a@b.c", "utf-8;\xc3\xa4 +@x", 0, OFFER_DSN, false,
			"RCPT TO:<a@b.c> ORCPT=utf-8;\\x{E4}\\x{20}\\x{2B}@x"},
		{"a@b.c", "utf-8;\xf0\x9f\x98\x80@x", 0, OFFER_DSN, false,
			"RCPT TO:<a@b.c> ORCPT=utf-8;\\x{1F600}@x"},
		/* What cannot be told is left out. */
		{"a@b.c", "utf-8;\xc3@x", NOTIFY_NEVER, OFFER_DSN, false,
			"RCPT TO:<a@b.c> NOTIFY=NEVER"},
		{"a@b.c", "utf-8;\xff", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "utf-8;a\rb", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "no type", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", ";x", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "rfc822;", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "rf c;x", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c", "r\r\n;x", 0, OFFER_DSN, false, "RCPT TO:<a@b.c>"},
		{"a@b.c>", "", 0, 0, false, NULL},
		{"a@b\n.c", "", 0, 0, false, NULL},
	};
	struct buf b;

	(void)state;
	buf_init(&b, 65536);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct job_rcpt r = {.address = slice_from_cstr(cases[i].address),
			.orcpt = slice_from_cstr(cases[i].orcpt),
			.notify = cases[i].notify};
		struct job j = {.rcpt_count = 1, .rcpts = &r};
		struct ehlo e = {.offers = cases[i].offers};

		expect(&b, command_rcpt(&b, &j, 0, &e, cases[i].utf8), cases[i].want);
	}
	buf_clear(&b);
}

/* Whatever bytes an envelope holds, one command comes out or none. */
static void no_byte_makes_a_second_line(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 65536);
	for (unsigned c = 0; c < 256; c++) {
		uint8_t address[] = {'a', (uint8_t)c, '@', 'b'};
		uint8_t orcpt[] = {'r', ';', (uint8_t)c};
		struct job_rcpt r = {.address = slice_make(address, sizeof(address)),
			.orcpt = slice_make(orcpt, sizeof(orcpt))};
		struct job j = {.rcpt_count = 1,
			.rcpts = &r,
			.sender = r.address,
			.envid = slice_make(orcpt, sizeof(orcpt))};
		struct ehlo e = {.offers = ALL_OFFERS};
		struct command_needs needs = {0};

		for (int which = 0; which < 2; which++) {
			enum err err = which == 0 ? command_mail(&b, &j, &e, needs)
						  : command_rcpt(&b, &j, 0, &e, true);
			struct slice line = buf_view(&b);
			assert_true(err == ERR_OK || line.n == 0);
			for (size_t i = 0; i + 2 < line.n; i++) {
				assert_true(line.p[i] >= 0x20 && line.p[i] != 0x7f);
			}
			buf_reset(&b);
		}
	}
	buf_clear(&b);
}

static void the_longest_line_fits(void **state)
{
	uint8_t address[LIMIT_ADDRESS];
	uint8_t orcpt[LIMIT_ORCPT];
	struct buf b;

	(void)state;
	buf_init(&b, 65536);
	memset(address, 'a', sizeof(address));
	memset(orcpt, '+', sizeof(orcpt));
	orcpt[1] = ';';
	orcpt[0] = 'x';
	struct job_rcpt r = {.address = slice_make(address, sizeof(address)),
		.orcpt = slice_make(orcpt, sizeof(orcpt)),
		.notify = NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY};
	struct job j = {.rcpt_count = 1, .rcpts = &r};
	struct ehlo e = {.offers = ALL_OFFERS};
	assert_int_equal(command_rcpt(&b, &j, 0, &e, true), ERR_OK);
	assert_true(buf_len(&b) <= COMMAND_LINE_MAX);
	buf_clear(&b);
}

static void a_full_buffer_is_left_as_it_was(void **state)
{
	struct buf b;
	struct job j = {.sender = SLICE("a@b.example")};
	struct ehlo e = {.offers = OFFER_SIZE};
	struct command_needs needs = {.bytes = 1};

	(void)state;
	for (size_t room = 0; room < 33; room++) {
		buf_init(&b, 3 + room);
		assert_int_equal(buf_append(&b, SLICE("abc")), ERR_OK);
		enum err err = command_mail(&b, &j, &e, needs);
		assert_true(err == ERR_TOOBIG ? buf_len(&b) == 3 : room >= 32);
		buf_clear(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_mail),
		cmocka_unit_test(writes_rcpt),
		cmocka_unit_test(no_byte_makes_a_second_line),
		cmocka_unit_test(the_longest_line_fits),
		cmocka_unit_test(a_full_buffer_is_left_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
