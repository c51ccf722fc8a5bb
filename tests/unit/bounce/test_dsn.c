/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bounce/dsn.h"
#include "bounce/pace.h"
#include "bounce/writer.h"
#include "common/base/attr.h"
#include "common/ipc/messages.h"

#define TOKEN "0123456789abcdef0123456789abcdef"
#define BOUNDARY "\r\n--=_" TOKEN

static struct dsn_rcpt one = {.address = SLICE_INIT("b@example.net"),
	.orcpt = SLICE_INIT("rfc822;B@example.net"),
	.stage = STAGE_RCPT,
	.smtp_code = 550,
	.status = {5, 1, 1},
	.text = SLICE_INIT("5.1.1 no such user"),
	.host = SLICE_INIT("mx.example.net"),
	.addr = SLICE_INIT("192.0.2.1"),
	.last_attempt_us = 1780000100000000};

static struct dsn sample(void)
{
	return (struct dsn){.kind = NOTICE_FAILED,
		.language = DSN_ENGLISH,
		.hostname = SLICE("relay.example.org"),
		.queue_id = SLICE("3QxBcD9fGhJk"),
		.sender = SLICE("a@example.org"),
		.envid = SLICE("env"),
		.accepted_us = 1780000000000000,
		.now_s = 1780000200,
		.token = TOKEN,
		.rcpts = &one,
		.rcpt_count = 1,
		.original = DSN_ORIGINAL_FULL,
		.message = SLICE("Subject: x\r\nMessage-ID: <i@x>\r\n\r\nbody\r\n..dot\r\n"),
		.original_max = 50000};
}

static size_t count(struct slice in, const char *what)
{
	struct slice w = slice_from_cstr(what);
	size_t n = 0;

	for (size_t i = 0; i + w.n <= in.n; i++) {
		n += memcmp(in.p + i, w.p, w.n) == 0 ? 1 : 0;
	}
	return n;
}

/* What every notice must be on the wire, whatever went into it. */
static void check_wire(struct slice wire)
{
	size_t column = 0;

	assert_true(wire.n >= 2);
	assert_memory_equal(wire.p + wire.n - 2, "\r\n", 2);
	for (size_t i = 0; i < wire.n; i++) {
		if (wire.p[i] == '\n') {
			assert_true(i > 0 && wire.p[i - 1] == '\r');
			assert_true(column <= WRITER_LINE_MAX + 1);
			column = 0;
			continue;
		}
		assert_true(wire.p[i] != '\r' || (i + 1 < wire.n && wire.p[i + 1] == '\n'));
		assert_true(wire.p[i] != '\0');
		if (column == 0 && wire.p[i] == '.') {
			assert_true(i + 1 < wire.n && wire.p[i + 1] == '.');
		}
		column += wire.p[i] == '\r' ? 0 : 1;
	}
}

static void writes_a_whole_notice(void **state)
{
	static const char *const lines[] = {
		"Date: Thu, 28 May 2026 20:30:00 +0000\r\n",
		"From: Mail Delivery System <MAILER-DAEMON@relay.example.org>\r\n",
		"\r\nTo: <a@example.org>\r\n",
		"Subject: Your message could not be delivered\r\n",
		"Message-ID: <" TOKEN ".notice@relay.example.org>\r\n",
		"In-Reply-To: <i@x>\r\n",
		"References: <i@x>\r\n",
		"Auto-Submitted: auto-replied\r\n",
		"MIME-Version: 1.0\r\n",
		"report-type=delivery-status;\r\n",
		"Original-Envelope-Id: env\r\nReporting-MTA: dns; relay.example.org\r\n",
		"\r\nOriginal-Recipient: rfc822; B@example.net\r\n"
		"Final-Recipient: rfc822; b@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n"
		"Remote-MTA: dns; mx.example.net\r\n"
		"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
		"Last-Attempt-Date: Thu, 28 May 2026 20:28:20 +0000\r\n",
		"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n",
		"\r\n\r\nbody\r\n..dot\r\n" BOUNDARY "--\r\n",
	};
	struct dsn d = sample();
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 100000);
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	check_wire(buf_view(&to));
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		if (count(buf_view(&to), lines[i]) != 1) {
			fail_msg("not once: %s\nin\n%.*s", lines[i], SLICE_ARG(buf_view(&to)));
		}
	}
	assert_int_equal(count(buf_view(&to), BOUNDARY), 4);
	assert_false(needs.is_8bit || needs.is_utf8);
	buf_clear(&to);
}

static void writes_each_kind_in_each_language(void **state)
{
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 100000);
	for (uint8_t kind = 0; kind <= NOTICE_RELAYED; kind++) {
		for (int language = DSN_ENGLISH; language <= DSN_BOTH; language++) {
			struct dsn d = sample();
			d.kind = kind;
			d.language = (enum dsn_language)language;
			buf_reset(&to);
			assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
			check_wire(buf_view(&to));
			assert_int_equal(count(buf_view(&to), "=?UTF-8?B?"),
				language == DSN_ENGLISH ? 0 : 1);
			/* The text may be base64, but then no byte is beyond ASCII. */
			assert_false(needs.is_8bit);
		}
	}
	buf_clear(&to);
}

static void mends_a_class_that_does_not_fit(void **state)
{
	static const struct {
		uint8_t kind;
		struct enhanced_code status;
		const char *want;
	} cases[] = {
		{NOTICE_FAILED, {5, 1, 1}, "Status: 5.1.1\r\n"},
		{NOTICE_FAILED, {4, 2, 0}, "Status: 5.2.0\r\n"},
		{NOTICE_FAILED, {0, 0, 0}, "Status: 5.0.0\r\n"},
		{NOTICE_EXPIRED, {4, 3, 2}, "Status: 4.3.2\r\n"},
		{NOTICE_EXPIRED, {0, 0, 0}, "Status: 4.4.7\r\n"},
		{NOTICE_EXPIRED, {2, 0, 0}, "Status: 4.4.7\r\n"},
		{NOTICE_DELAYED, {5, 3, 2}, "Status: 4.3.2\r\n"},
		{NOTICE_RELAYED, {0, 0, 0}, "Status: 2.0.0\r\n"},
	};
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 100000);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct dsn d = sample();
		struct dsn_rcpt r = one;
		d.kind = cases[i].kind;
		d.rcpts = &r;
		r.status = cases[i].status;
		buf_reset(&to);
		assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
		assert_int_equal(count(buf_view(&to), cases[i].want), 1);
	}
	buf_clear(&to);
}

static void sends_back_no_more_than_it_may(void **state)
{
	static char long_message[20000];
	struct dsn_needs needs;
	struct buf to;
	size_t n = (size_t)snprintf(long_message, sizeof(long_message), "Subject: y\r\n\r\n");

	(void)state;
	while (n + 12 < sizeof(long_message)) {
		memcpy(long_message + n, "0123456789\r\n", 12);
		n += 12;
	}
	buf_init(&to, 100000);
	struct dsn d = sample();
	d.message = slice_make(long_message, n);
	for (size_t max = 0; max < 40; max++) {
		d.original_max = max;
		buf_reset(&to);
		assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
		check_wire(buf_view(&to));
		assert_int_equal(count(buf_view(&to), "0123456789\r\n"), 0);
		assert_int_equal(count(buf_view(&to), "Subject: y\r\n"), max >= 12);
	}
	d.original_max = n;
	buf_reset(&to);
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	assert_true(count(buf_view(&to), "0123456789\r\n") > 1000);
	d.original = DSN_ORIGINAL_HEADERS;
	buf_reset(&to);
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	assert_int_equal(count(buf_view(&to), "text/rfc822-headers\r\n"), 1);
	assert_int_equal(count(buf_view(&to), "0123456789\r\n"), 0);
	d.original = DSN_ORIGINAL_NONE;
	buf_reset(&to);
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	assert_int_equal(count(buf_view(&to), BOUNDARY), 3);
	buf_clear(&to);
}

static void takes_messages_cut_anywhere(void **state)
{
	static const char message[] = "Subject: x\r\nMessage-ID: <i@x>\r\n\r\nbody\r\n..dot\r\n"
				      "\r\r\nlone\rand\nlone\r\n";
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 100000);
	for (size_t n = 0; n < sizeof(message); n++) { /* the last with its NUL */
		struct dsn d = sample();
		d.message = slice_make(message, n + 1);
		buf_reset(&to);
		assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
		check_wire(buf_view(&to));
	}
	buf_clear(&to);
}

static void tells_how_it_must_travel(void **state)
{
	struct dsn d = sample();
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 100000);
	d.message = SLICE("Subject: \xe9\r\n\r\n");
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	assert_true(needs.is_8bit && !needs.is_utf8);
	assert_int_equal(count(buf_view(&to), "Content-Transfer-Encoding: 8bit\r\n"), 1);
	d = sample();
	d.sender = SLICE("\xe9\x80\x81@example.org");
	buf_reset(&to);
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	assert_true(needs.is_8bit && needs.is_utf8);
	assert_int_equal(count(buf_view(&to), "message/global-delivery-status\r\n"), 1);
	assert_int_equal(count(buf_view(&to), "To: <\xe9\x80\x81@example.org>\r\n"), 1);
	buf_clear(&to);
}

static void leaves_nothing_behind_when_there_is_no_room(void **state)
{
	struct dsn d = sample();
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 100000);
	assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
	size_t whole = buf_len(&to);
	buf_clear(&to);
	for (size_t max = 6; max < whole + 6; max++) {
		buf_init(&to, max);
		assert_int_equal(buf_append(&to, SLICE("before")), ERR_OK);
		assert_int_equal(dsn_compose(&d, &to, &needs), ERR_TOOBIG);
		assert_true(slice_eq(buf_view(&to), SLICE("before")));
		buf_clear(&to);
	}
}

/* A small generator of our own: the same numbers every time. */
static uint32_t draw(uint64_t *seed, uint32_t n)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*seed >> 33) % n);
}

static struct slice draw_text(uint64_t *seed, char *to, size_t max)
{
	static const char *const pieces[] = {"\r\n", "\n", "\r", "X-Evil: 1", BOUNDARY, ".",
		"\r\n.\r\n", " ", "\t", "\xe3\x81\x82", "\xff", "\x1b[0m", "Action: delivered",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"\xc2\x85", "\xe2\x80\xa8", ";", "<", ">", "\"", "Content-Type: text/html"};
	size_t n = 0;

	for (uint32_t i = draw(seed, 60); i > 0; i--) {
		const char *piece = pieces[draw(seed, ARRAY_LEN(pieces))];
		size_t len = strlen(piece);
		if (len > max - n) {
			break;
		}
		memcpy(to + n, piece, len);
		n += len;
		if (draw(seed, 40) == 0 && n < max) {
			to[n++] = '\0';
		}
	}
	return slice_make(to, n);
}

/* Lines that begin with the word. */
static size_t count_lines(struct slice in, const char *word)
{
	char behind_end[80];

	(void)snprintf(behind_end, sizeof(behind_end), "\r\n%s", word);
	return count(in, behind_end);
}

static void lets_no_foreign_text_become_structure(void **state)
{
	uint64_t seed = 20261126;
	static char text[6][2048];
	struct dsn_needs needs;
	struct buf to;

	(void)state;
	buf_init(&to, 1000000);
	for (int i = 0; i < 3000; i++) {
		struct dsn d = sample();
		struct dsn_rcpt r[2] = {one, one};
		d.language = DSN_ENGLISH;
		d.is_utf8 = draw(&seed, 2) == 0;
		d.original = DSN_ORIGINAL_NONE;
		d.rcpts = r;
		d.rcpt_count = 2;
		d.kind = (uint8_t)draw(&seed, NOTICE_RELAYED + 1);
		r[0].text = draw_text(&seed, text[0], sizeof(text[0]));
		r[0].host = draw_text(&seed, text[1], LIMIT_HOSTNAME);
		r[0].orcpt = draw_text(&seed, text[2], LIMIT_ORCPT);
		r[1].address = draw_text(&seed, text[3], LIMIT_ADDRESS);
		r[1].addr = draw_text(&seed, text[4], 64);
		d.envid = draw_text(&seed, text[5], LIMIT_ENVID);
		buf_reset(&to);
		assert_int_equal(dsn_compose(&d, &to, &needs), ERR_OK);
		struct slice wire = buf_view(&to);
		check_wire(wire);
		assert_int_equal(count_lines(wire, "--=_"), 3);
		assert_int_equal(count_lines(wire, "X-Evil"), 0);
		assert_int_equal(count_lines(wire, "Action: "), 2);
		assert_int_equal(count_lines(wire, "Status: "), 2);
		assert_int_equal(count_lines(wire, "Content-Type: "), 3);
		assert_int_equal(count_lines(wire, "Final-Recipient: "), 2);
		assert_int_equal(count(wire, "\xc2\x85"), 0);
		assert_int_equal(count(wire, "\xe2\x80\xa8"), 0);
	}
	buf_clear(&to);
}

static void encodes_base64(void **state)
{
	static const struct {
		const char *plain;
		const char *coded;
	} cases[] = {{"", ""}, {"f", "Zg==\r\n"}, {"fo", "Zm8=\r\n"}, {"foo", "Zm9v\r\n"},
		{"foob", "Zm9vYg==\r\n"}, {"fooba", "Zm9vYmE=\r\n"},
		{"foobar", "Zm9vYmFy\r\n"}};
	struct buf to;

	(void)state;
	buf_init(&to, 1000);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct writer w = writer_begin(&to);
		buf_reset(&to);
		writer_base64(&w, slice_from_cstr(cases[i].plain));
		assert_int_equal(w.err, ERR_OK);
		assert_true(slice_eq(buf_view(&to), slice_from_cstr(cases[i].coded)));
	}
	buf_clear(&to);
}

static void knows_text_that_may_be_shown(void **state)
{
	static const struct {
		struct slice text;
		bool good;
	} cases[] = {
		{SLICE_INIT(""), true},
		{SLICE_INIT("abc ~"), true},
		{SLICE_INIT("\xe3\x81\x82"), true},
		{SLICE_INIT("\xf0\x9f\x98\x80"), true},
		{SLICE_INIT("a\0b"), false},
		{SLICE_INIT("\x7f"), false},
		{SLICE_INIT("\x80"), false},
		{SLICE_INIT("\xc0\xaf"), false},
		{SLICE_INIT("\xe3\x81"), false},
		{SLICE_INIT("\xed\xa0\x80"), false},
		{SLICE_INIT("\xc2\x85"), false},
		{SLICE_INIT("\xe2\x80\xa8"), false},
		{SLICE_INIT("\xf4\x90\x80\x80"), false},
		{SLICE_INIT("\xe0\x80\xaf"), false},
		{SLICE_INIT("\xf0\x80\x80\xaf"), false},
		{SLICE_INIT("\r\n"), false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(writer_is_utf8(cases[i].text), cases[i].good);
	}
}

static void counts_notices_of_each_sender(void **state)
{
	struct pace p;

	(void)state;
	pace_init(&p);
	for (unsigned i = 0; i < PACE_NOTICES_MAX; i++) {
		assert_true(pace_allows(&p, SLICE("a@x"), 5000));
	}
	assert_false(pace_allows(&p, SLICE("A@X"), 5000));
	assert_true(pace_allows(&p, SLICE("b@x"), 5000));
	assert_false(pace_allows(&p, SLICE("a@x"), PACE_PERIOD_MS - 1));
	assert_true(pace_allows(&p, SLICE("a@x"), 2 * PACE_PERIOD_MS));
	pace_clear(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_a_whole_notice),
		cmocka_unit_test(writes_each_kind_in_each_language),
		cmocka_unit_test(mends_a_class_that_does_not_fit),
		cmocka_unit_test(sends_back_no_more_than_it_may),
		cmocka_unit_test(takes_messages_cut_anywhere),
		cmocka_unit_test(tells_how_it_must_travel),
		cmocka_unit_test(leaves_nothing_behind_when_there_is_no_room),
		cmocka_unit_test(lets_no_foreign_text_become_structure),
		cmocka_unit_test(encodes_base64),
		cmocka_unit_test(knows_text_that_may_be_shown),
		cmocka_unit_test(counts_notices_of_each_sender),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
