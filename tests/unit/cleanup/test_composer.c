/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cleanup/composer.h"
#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/limits.h"

static const struct composer_rules rules = {.hostname = SLICE_INIT("relay.example"),
	.mail_name = SLICE_INIT("Ekiden"),
	.add_missing = true,
	.show_tls = true,
	.hopcount_limit = 3};

static const struct composer_origin origin = {.helo = SLICE_INIT("client.example"),
	.client_name = SLICE_INIT("c.example"),
	.client_addr = SLICE_INIT("192.0.2.1"),
	.protocol = SLICE_INIT("ESMTP"),
	.queue_id = SLICE_INIT("4XyZ4XyZ4XyZ"),
	.wall_s = 1795727982};

/* What is stored of the content. */
static void store(struct slice content, const struct composed *c, struct buf *to)
{
	buf_reset(to);
	assert_int_equal(buf_append(to, buf_view(&c->kept)), ERR_OK);
	assert_int_equal(buf_append(to, slice_skip(content, c->rest_at)), ERR_OK);
}

struct stored_case {
	const char *why;
	struct slice content;
	struct slice stored;
	bool is_same; /* not even copied */
};

static const struct stored_case stored_cases[] = {
	{"a plain message", SLICE_INIT("From: a@b\r\nDate: x\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\nDate: x\r\n\r\nhi\r\n"), true},
	{"odd spacing, folding, 8-bit and empty values",
		SLICE_INIT(
			"from :a@b\r\nSUBJECT:\r\n\t\xe3\x81\x82\r\n \r\nX:\r\n..y:\tz \r\n\r\n..\r\n"),
		SLICE_INIT(
			"from :a@b\r\nSUBJECT:\r\n\t\xe3\x81\x82\r\n \r\nX:\r\n..y:\tz \r\n\r\n..\r\n"),
		true},
	{"Bcc goes out", SLICE_INIT("From: a@b\r\nBcc: x@y\r\nTo: c@d\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\nTo: c@d\r\n\r\nhi\r\n"), false},
	{"Bcc in any case, folded, with a blank before the colon",
		SLICE_INIT("bCC :\r\n x@y,\r\n\tz@y\r\nFrom: a@b\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nhi\r\n"), false},
	{"every Bcc", SLICE_INIT("Bcc: x\r\nFrom: a@b\r\nBcc:\r\nBcc: z\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nhi\r\n"), false},
	{"Resent-Bcc and Return-Path",
		SLICE_INIT("Return-Path: <x@y>\r\nResent-Bcc: x@y\r\nFrom: a@b\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nhi\r\n"), false},
	{"what only begins or ends like them stays",
		SLICE_INIT(
			"Bccx: 1\r\nX-Bcc: 2\r\nReturn-Path-To: 3\r\nBc: 4\r\n\r\nBcc: body\r\n"),
		SLICE_INIT(
			"Bccx: 1\r\nX-Bcc: 2\r\nReturn-Path-To: 3\r\nBc: 4\r\n\r\nBcc: body\r\n"),
		true},
	{"nothing stays of the header", SLICE_INIT("Bcc: x\r\n\r\nhi\r\n"),
		SLICE_INIT("\r\nhi\r\n"), false},
	{"no header", SLICE_INIT("\r\nhi\r\n"), SLICE_INIT("\r\nhi\r\n"), true},
	{"no header and no empty line", SLICE_INIT("Hello there\r\n"),
		SLICE_INIT("\r\nHello there\r\n"), false},
	{"nothing", SLICE_INIT(""), SLICE_INIT("\r\n"), false},
	{"an empty line", SLICE_INIT("\r\n"), SLICE_INIT("\r\n"), true},
	{"only a header", SLICE_INIT("From: a@b\r\n"), SLICE_INIT("From: a@b\r\n\r\n"), false},
	{"a header that runs into text", SLICE_INIT("From: a@b\r\nno field\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nno field\r\n\r\nhi\r\n"), false},
	{"a stuffed dot where the body begins", SLICE_INIT("From: a@b\r\n..\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\n..\r\nhi\r\n"), false},
	{"a blank line continues a field that goes out",
		SLICE_INIT("Bcc: x\r\n \r\nFrom: a@b\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nhi\r\n"), false},
	{"a mailbox file's first line",
		SLICE_INIT("From a@b Thu Jan  1 00:00:00 1970\r\nFrom: a@b\r\n\r\nhi\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nhi\r\n"), false},
	{"and more of them",
		SLICE_INIT("From a\r\n>From b\r\nFrom c\r\nFrom: a@b\r\n\r\nFrom d\r\n"),
		SLICE_INIT("From: a@b\r\n\r\nFrom d\r\n"), false},
	{"From with a blank is a field", SLICE_INIT("From : a@b\r\n\r\nhi\r\n"),
		SLICE_INIT("From : a@b\r\n\r\nhi\r\n"), true},
	{"a mailbox file's first line later on is text",
		SLICE_INIT("To: a@b\r\nFrom c d\r\n\r\nhi\r\n"),
		SLICE_INIT("To: a@b\r\n\r\nFrom c d\r\n\r\nhi\r\n"), false},
	{"existing signatures stay",
		SLICE_INIT("DKIM-Signature: v=1\r\nARC-Seal: i=1\r\nFrom: a@b\r\n\r\nhi\r\n"),
		SLICE_INIT("DKIM-Signature: v=1\r\nARC-Seal: i=1\r\nFrom: a@b\r\n\r\nhi\r\n"),
		true},
	{"fields that stand there twice stay",
		SLICE_INIT("Subject: 1\r\nFrom: a@b\r\nSubject: 2\r\nFrom: c@d\r\n\r\nhi\r\n"),
		SLICE_INIT("Subject: 1\r\nFrom: a@b\r\nSubject: 2\r\nFrom: c@d\r\n\r\nhi\r\n"),
		true},
};

static void stores_what_came_but_for_what_must_go(void **state)
{
	struct buf stored;

	(void)state;
	buf_init(&stored, 65536);
	for (size_t i = 0; i < ARRAY_LEN(stored_cases); i++) {
		const struct stored_case *t = &stored_cases[i];
		struct composer_refusal why = {0};
		struct composed c;
		if (composer_read(t->content, true, &rules, &c, &why) != ERR_OK) {
			fail_msg("%s: %u %s", t->why, why.smtp_code, why.text);
		}
		store(t->content, &c, &stored);
		if (!slice_eq(buf_view(&stored), t->stored)) {
			fail_msg("%s: stored %.*s", t->why, SLICE_ARG(buf_view(&stored)));
		}
		/* The mailbox line is skipped without a copy. */
		if (t->is_same) {
			assert_int_equal(buf_len(&c.kept), 0);
			assert_int_equal(c.rest_at, 0);
		}
		composed_clear(&c);
	}
	buf_clear(&stored);
}

/* A message that streams in must be composed as one that is there at once. */
static void says_the_same_of_a_message_that_is_cut(void **state)
{
	struct buf stored;

	(void)state;
	buf_init(&stored, 65536);
	for (size_t i = 0; i < ARRAY_LEN(stored_cases); i++) {
		const struct stored_case *t = &stored_cases[i];
		for (size_t n = 0; n <= t->content.n; n++) {
			uint8_t *copy = alloc_bytes(n);
			struct composer_refusal why = {0};
			struct composed c;
			memcpy(copy, t->content.p, n);
			struct slice cut = slice_make(copy, n);
			enum err e = composer_read(cut, false, &rules, &c, &why);
			if (e == ERR_OK) {
				/* What follows comes in pieces. */
				store(cut, &c, &stored);
				assert_int_equal(buf_append(&stored, slice_skip(t->content, n)),
					ERR_OK);
				if (!slice_eq(buf_view(&stored), t->stored)) {
					fail_msg("%s: cut at %zu", t->why, n);
				}
				composed_clear(&c);
			} else {
				assert_int_equal(e, ERR_AGAIN);
			}
			free(copy);
		}
	}
	buf_clear(&stored);
}

static void front(const char *header, const struct composer_rules *r,
	const struct composer_origin *o, struct buf *to)
{
	struct composer_refusal why = {0};
	struct composed c;

	buf_reset(to);
	assert_int_equal(composer_read(slice_from_cstr(header), true, r, &c, &why), ERR_OK);
	assert_int_equal(composer_front(&c, r, o, to), ERR_OK);
	composed_clear(&c);
}

#define ALL_THERE "Date: x\r\nMessage-ID: <1@x>\r\n\r\n"

static void says_where_a_message_came_from(void **state)
{
	static const struct {
		struct composer_origin o;
		const char *want;
	} cases[] = {
		{{.helo = SLICE_INIT("h"),
			 .client_name = SLICE_INIT("n.example"),
			 .client_addr = SLICE_INIT("192.0.2.1"),
			 .protocol = SLICE_INIT("ESMTP"),
			 .queue_id = SLICE_INIT("QQ"),
			 .wall_s = 0},
			"Received: from h (n.example [192.0.2.1])\r\n\tby relay.example (Ekiden) "
			"with ESMTP id QQ;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"},
		{{.helo = SLICE_INIT("h"),
			 .client_addr = SLICE_INIT("2001:db8::1"),
			 .protocol = SLICE_INIT("ESMTPS"),
			 .tls = SLICE_INIT("TLSv1.3 TLS_AES_256_GCM_SHA384"),
			 .queue_id = SLICE_INIT("QQ"),
			 .rcpt = SLICE_INIT("u@d.example")},
			"Received: from h (unknown [IPv6:2001:db8::1])\r\n\tby relay.example "
			"(Ekiden) with ESMTPS id QQ\r\n\t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
			"\tfor <u@d.example>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"},
		/* A notice of ours comes from no client. */
		{{.queue_id = SLICE_INIT("QQ"), .rcpt = SLICE_INIT("\"a b\"@d")},
			"Received: by relay.example (Ekiden) id QQ\r\n\tfor <\"a b\"@d>;\r\n\tThu, 1 "
			"Jan 1970 00:00:00 +0000\r\n"},
		{{.client_addr = SLICE_INIT("192.0.2.1"), .queue_id = SLICE_INIT("QQ")},
			"Received: from unknown (unknown [192.0.2.1])\r\n\tby relay.example (Ekiden) "
			"id QQ;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"},
		/* Nothing that a client says ends a line, a comment or the field. */
		{{.helo = SLICE_INIT("h\r\nBcc: x;(\\)\t \x7f\xff"),
			 .client_name = SLICE_INIT("a)b(c"),
			 .client_addr = SLICE_INIT("192.0.2.1]"),
			 .queue_id = SLICE_INIT("QQ"),
			 .rcpt = SLICE_INIT("a>\r\n b\0<\xe4\xbe\x8b@d")},
			"Received: from h??Bcc:?x???????? (a?b?c [192.0.2.1]])\r\n\tby "
			"relay.example (Ekiden) id QQ\r\n\tfor <a??? b??\xe4\xbe\x8b@d>;\r\n\tThu, "
			"1 Jan 1970 00:00:00 +0000\r\n"},
	};
	struct buf to;

	(void)state;
	buf_init(&to, COMPOSER_FRONT_MAX);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		front(ALL_THERE, &rules, &cases[i].o, &to);
		assert_int_equal(buf_append_byte(&to, '\0'), ERR_OK);
		assert_string_equal((const char *)buf_view(&to).p, cases[i].want);
	}
	/* The longest of everything fits, in lines that fit. */
	char longest[LIMIT_ADDRESS];
	memset(longest, 'x', sizeof(longest));
	struct slice s = slice_make(longest, sizeof(longest));
	struct composer_origin o = {.helo = slice_head(s, LIMIT_HOSTNAME),
		.client_name = slice_head(s, LIMIT_HOSTNAME),
		.client_addr = slice_head(s, 64),
		.protocol = slice_head(s, 16),
		.tls = slice_head(s, LIMIT_NAME),
		.queue_id = slice_head(s, LIMIT_QUEUE_ID),
		.rcpt = s};
	struct composer_rules r = rules;
	r.hostname = slice_head(s, LIMIT_HOSTNAME);
	r.mail_name = s;
	front("\r\n", &r, &o, &to);
	struct slice rest = buf_view(&to);
	struct slice line;
	while (slice_cut(&rest, '\n', &line)) {
		assert_true(line.n <= 999);
	}
	buf_clear(&to);
}

static void hides_tls_when_told_to(void **state)
{
	struct composer_origin o = origin;
	struct composer_rules r = rules;
	struct buf to;

	(void)state;
	buf_init(&to, COMPOSER_FRONT_MAX);
	o.tls = SLICE("TLSv1.3");
	r.show_tls = false;
	front(ALL_THERE, &r, &o, &to);
	assert_null(memmem(buf_view(&to).p, buf_len(&to), "TLS", 3));
	buf_clear(&to);
}

static void adds_only_what_is_missing(void **state)
{
#define DATE "Date: Thu, 26 Nov 2026 21:19:42 +0000\r\n"
#define ID "Message-ID: <20261126211942.4XyZ4XyZ4XyZ@relay.example>\r\n"
	static const struct {
		const char *header;
		const char *added;
	} cases[] = {
		{"\r\n", ID DATE},
		{"From: a@b\r\n\r\n", ID DATE},
		{"Date: x\r\n\r\n", ID},
		{"dATE : x\r\n\r\n", ID},
		{"Date:\r\n\r\n", ID},
		{"Message-Id: <1@x>\r\n\r\n", DATE},
		{"MESSAGE-ID:\r\n\r\n", DATE},
		{ALL_THERE, ""},
		{"X-Date: x\r\nResent-Date: x\r\nResent-Message-ID: x\r\n\r\nDate: x\r\n",
			ID DATE},
	};
	struct composer_rules no = rules;
	struct buf to;

	(void)state;
	buf_init(&to, COMPOSER_FRONT_MAX);
	no.add_missing = false;
	front("\r\n", &no, &origin, &to);
	size_t received = buf_len(&to);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		front(cases[i].header, &rules, &origin, &to);
		struct slice added = slice_skip(buf_view(&to), received);
		assert_true(slice_eq(added, slice_from_cstr(cases[i].added)));
	}
	buf_clear(&to);
}

static void refuses_headers_that_cannot_be_right(void **state)
{
#define HOP "Received: x\r\n"
	static const struct {
		struct slice content;
		unsigned code;
		const char *status;
	} cases[] = {
		{SLICE_INIT(HOP HOP HOP HOP "\r\nhi\r\n"), 554, "5.4.6 "},
		{SLICE_INIT(HOP "received : y\r\n" HOP "RECEIVED:\r\n\r\nhi\r\n"), 554,
			"5.4.6 "},
		{SLICE_INIT("Subject: a\0b\r\n\r\nhi\r\n"), 554, "5.6.0 "},
	};
	struct composer_refusal why = {0};
	struct composed c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(composer_read(cases[i].content, true, &rules, &c, &why),
			ERR_SYNTAX);
		assert_int_equal(why.smtp_code, cases[i].code);
		assert_memory_equal(why.text, cases[i].status, 6);
	}
	assert_int_equal(composer_read(SLICE(HOP HOP HOP "\r\nhi\r\n"), true, &rules, &c, &why),
		ERR_OK);
	assert_int_equal(c.received, 3);
	composed_clear(&c);
}

static struct slice repeat(struct buf *b, const char *text, size_t times)
{
	for (size_t i = 0; i < times; i++) {
		assert_int_equal(buf_append(b, slice_from_cstr(text)), ERR_OK);
	}
	return buf_view(b);
}

/* V32, and the like of V10 in front of the header. */
static void refuses_headers_without_end(void **state)
{
	static const char *const units[] = {"X: y\r\n", "xxxxxxxx", "From a b c\r\n",
		">From x\r\n"};
	struct composer_refusal why;
	struct composed c;
	struct buf b;

	(void)state;
	buf_init(&b, 16u * 1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		buf_reset(&b);
		why = (struct composer_refusal){0};
		struct slice s = repeat(&b, units[i], 1000000);
		assert_int_equal(composer_read(s, false, &rules, &c, &why), ERR_SYNTAX);
		assert_int_equal(why.smtp_code, 554);
		assert_memory_equal(why.text, "5.6.0 ", 6);
	}
	/* A From field over 64 KiB cannot be judged. */
	buf_reset(&b);
	(void)repeat(&b, "From: ", 1);
	(void)repeat(&b, "a@b.example,\r\n ", 5000);
	(void)repeat(&b, "c@d\r\n\r\nhi\r\n", 1);
	assert_int_equal(composer_read(buf_view(&b), true, &rules, &c, &why), ERR_SYNTAX);
	assert_int_equal(why.smtp_code, 554);
	buf_clear(&b);
}

static void tells_who_it_is_from(void **state)
{
	static const struct {
		const char *header;
		const char *address;
		const char *domain;
		const char *message_id;
		unsigned fields;
		unsigned addresses;
	} cases[] = {
		{"From: Ann <a@b.example>\r\nMessage-ID: <1@x>\r\n\r\n", "a@b.example",
			"b.example", "<1@x>", 1, 1},
		{"From: a@b.example, c@d.example\r\nMessage-ID:\r\n <1@x>\r\n\r\n",
			"a@b.example", "b.example", "<1@x>", 1, 2},
		{"From: nobody\r\nFrom: c@d.example\r\n\r\n", "c@d.example", "d.example", "", 2,
			1},
		{"Resent-From: a@b\r\nSender: c@d\r\n\r\nFrom: e@f\r\n", "", "", "", 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct composer_refusal why = {0};
		struct composed c;
		assert_int_equal(
			composer_read(slice_from_cstr(cases[i].header), true, &rules, &c, &why),
			ERR_OK);
		assert_true(slice_eq(c.from_address, slice_from_cstr(cases[i].address)));
		assert_true(slice_eq(c.from_domain, slice_from_cstr(cases[i].domain)));
		assert_true(slice_eq(c.message_id, slice_from_cstr(cases[i].message_id)));
		assert_int_equal(c.from_fields, cases[i].fields);
		assert_int_equal(c.from_addresses, cases[i].addresses);
		composed_clear(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stores_what_came_but_for_what_must_go),
		cmocka_unit_test(says_the_same_of_a_message_that_is_cut),
		cmocka_unit_test(says_where_a_message_came_from),
		cmocka_unit_test(hides_tls_when_told_to),
		cmocka_unit_test(adds_only_what_is_missing),
		cmocka_unit_test(refuses_headers_that_cannot_be_right),
		cmocka_unit_test(refuses_headers_without_end),
		cmocka_unit_test(tells_who_it_is_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
