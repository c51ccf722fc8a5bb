/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/mail/reply.h"

/* Feeds bytes in pieces of the given size; *used is how many were taken in all. */
static enum err feed(struct reply *r, struct slice bytes, size_t piece, size_t *used)
{
	enum err e = ERR_AGAIN;

	*used = 0;
	while (e == ERR_AGAIN && *used < bytes.n) {
		struct slice part = slice_head(slice_skip(bytes, *used), piece);
		size_t n = 0;

		e = reply_feed(r, part, &n);
		if (e == ERR_AGAIN) {
			assert_int_equal(n, part.n);
		}
		*used += n;
	}
	return e;
}

static void reads_replies_in_every_chunking(void **state)
{
	static const struct {
		struct slice bytes;
		enum err want;
		unsigned code;
		struct enhanced_code status;
		struct slice text;
		unsigned lines;
		bool bare_lf;
		size_t left; /* bytes of the next reply */
	} cases[] = {
		{SLICE_INIT("250 Ok\r\n"), ERR_OK, 250, {0}, SLICE_INIT("Ok"), 1, false, 0},
		{SLICE_INIT("250 Ok\r\n354 Go\r\n"), ERR_OK, 250, {0}, SLICE_INIT("Ok"), 1,
			false, 8},
		{SLICE_INIT("250\r\n"), ERR_OK, 250, {0}, SLICE_INIT(""), 1, false, 0},
		{SLICE_INIT("250 \r\n"), ERR_OK, 250, {0}, SLICE_INIT(""), 1, false, 0},
		{SLICE_INIT("250 2.1.5 Ok\r\n"), ERR_OK, 250, {2, 1, 5}, SLICE_INIT("2.1.5 Ok"),
			1, false, 0},
		{SLICE_INIT(
			 "550-5.1.1 No such user\r\n550-5.1.1 here, see\r\n550 5.1.1 help\r\n"),
			ERR_OK, 550, {5, 1, 1},
			SLICE_INIT("5.1.1 No such user\nhere, see\nhelp"), 3, false, 0},
		{SLICE_INIT("550-5.1.1 a\r\n550 5.7.1 b\r\n"), ERR_OK, 550, {5, 1, 1},
			SLICE_INIT("5.1.1 a\n5.7.1 b"), 2, false, 0},
		{SLICE_INIT("550-sorry\r\n550 5.7.1 b\r\n"), ERR_OK, 550, {5, 7, 1},
			SLICE_INIT("sorry\n5.7.1 b"), 2, false, 0},
		{SLICE_INIT("550 4.7.1 odd\r\n"), ERR_OK, 550, {4, 7, 1},
			SLICE_INIT("4.7.1 odd"), 1, false, 0},
		{SLICE_INIT("250-\r\n250-\r\n250 \r\n"), ERR_OK, 250, {0}, SLICE_INIT("\n\n"),
			3, false, 0},
		{SLICE_INIT("250 Ok\n"), ERR_OK, 250, {0}, SLICE_INIT("Ok"), 1, true, 0},
		{SLICE_INIT("250\n"), ERR_OK, 250, {0}, SLICE_INIT(""), 1, true, 0},
		{SLICE_INIT("250-a\n250 b\r\n"), ERR_OK, 250, {0}, SLICE_INIT("a\nb"), 2, true,
			0},
		{SLICE_INIT("250 a\rb\r\n"), ERR_OK, 250, {0}, SLICE_INIT("a\rb"), 1, false, 0},
		{SLICE_INIT("250 a\r\r\n"), ERR_OK, 250, {0}, SLICE_INIT("a\r"), 1, false, 0},
		{SLICE_INIT("250 \0\x1b[2J\r\n"), ERR_OK, 250, {0}, SLICE_INIT("\0\x1b[2J"), 1,
			false, 0},
		{SLICE_INIT("250 caf\xc3\xa9\xff\r\n"), ERR_OK, 250, {0},
			SLICE_INIT("caf\xc3\xa9\xff"), 1, false, 0},
		{SLICE_INIT("199 x\r\n"), ERR_OK, 199, {0}, SLICE_INIT("x"), 1, false, 0},
		{SLICE_INIT("999 x\r\n"), ERR_OK, 999, {0}, SLICE_INIT("x"), 1, false, 0},
		/* A last line with nothing behind the code is a line (RFC 5321 section 4.2). */
		{SLICE_INIT("553-a\r\n553\r\n"), ERR_OK, 553, {0}, SLICE_INIT("a\n"), 2, false,
			0},
		/* What has no end yet. */
		{SLICE_INIT("553-\r\n"), ERR_AGAIN, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("553-"), ERR_AGAIN, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("553"), ERR_AGAIN, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("553\r"), ERR_AGAIN, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("5"), ERR_AGAIN, 0, {0}, SLICE_INIT(""), 0, false, 0},
		/* What is no reply. */
		{SLICE_INIT("\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("5\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("55\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("25 Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("2500 Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT(" 250 Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("050 Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("abc Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("250\tOk\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("250_Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("250\0\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("25\r0 Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("250\r Ok\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("553-a\r\n250 b\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false,
			0},
		{SLICE_INIT("553-a\r\nb\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("553-a\r\n\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""), 0, false, 0},
		{SLICE_INIT("HTTP/1.1 400 Bad Request\r\n"), ERR_SYNTAX, 0, {0}, SLICE_INIT(""),
			0, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t piece = 1; piece <= cases[i].bytes.n; piece++) {
			struct reply r;
			size_t used;

			reply_init(&r);
			enum err e = feed(&r, cases[i].bytes, piece, &used);
			if (e != cases[i].want) {
				fail_msg("case %zu in pieces of %zu: %s", i, piece, err_str(e));
			}
			if (e == ERR_OK) {
				assert_int_equal(r.code, cases[i].code);
				assert_int_equal(r.status.class, cases[i].status.class);
				assert_int_equal(r.status.subject, cases[i].status.subject);
				assert_int_equal(r.status.detail, cases[i].status.detail);
				assert_true(slice_eq(buf_view(&r.text), cases[i].text));
				assert_int_equal(r.lines, cases[i].lines);
				assert_int_equal(r.bare_lf, cases[i].bare_lf);
				assert_int_equal(cases[i].bytes.n - used, cases[i].left);
			}
			reply_clear(&r);
			reply_clear(&r);
		}
	}
}

static void waits_at_every_truncation(void **state)
{
	struct slice whole = SLICE("550-5.1.1 No\r\n550-\r\n550 5.1.1 way\r\n");

	(void)state;
	for (size_t n = 0; n < whole.n; n++) {
		struct reply r;
		size_t used = 77;

		reply_init(&r);
		assert_int_equal(reply_feed(&r, slice_head(whole, n), &used), ERR_AGAIN);
		assert_int_equal(used, n);
		assert_int_equal(reply_feed(&r, slice_skip(whole, n), &used), ERR_OK);
		assert_int_equal(used, whole.n - n);
		assert_true(slice_eq(buf_view(&r.text), SLICE("5.1.1 No\n\nway")));
		reply_clear(&r);
	}
}

static void begins_anew_after_a_reset(void **state)
{
	struct reply r;
	size_t used;

	(void)state;
	reply_init(&r);
	assert_int_equal(reply_feed(&r, SLICE("550 5.1.1 No\n"), &used), ERR_OK);
	reply_reset(&r);
	/* Nothing of the earlier one shows: no status, no text, no flag. */
	assert_int_equal(reply_feed(&r, SLICE("250 Ok\r\n"), &used), ERR_OK);
	assert_int_equal(r.code, 250);
	assert_int_equal(r.status.class, 0);
	assert_int_equal(r.lines, 1);
	assert_false(r.bare_lf);
	assert_true(slice_eq(buf_view(&r.text), SLICE("Ok")));
	reply_reset(&r);
	assert_int_equal(reply_feed(&r, SLICE("250\r\n"), &used), ERR_OK);
	assert_int_equal(buf_len(&r.text), 0);
	reply_clear(&r);
}

static void ends_a_line_that_is_too_long(void **state)
{
	static const size_t pieces[] = {1, 7, 4096, SIZE_MAX};
	char *line = alloc_bytes(8192);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		for (size_t n = REPLY_LINE_MAX - 2; n <= REPLY_LINE_MAX + 2; n++) {
			struct reply r;
			size_t used;

			memset(line, 'x', n);
			memcpy(line, "250 ", 4);
			memcpy(line + n, "\r\n", 2);
			reply_init(&r);
			assert_int_equal(feed(&r, slice_make(line, n + 2), pieces[i], &used),
				n <= REPLY_LINE_MAX ? ERR_OK : ERR_TOOBIG);
			reply_clear(&r);
		}
	}
	free(line);
}

static void keeps_a_bounded_text_of_a_long_reply(void **state)
{
	struct reply r;
	size_t used;
	char line[1010];

	(void)state;
	reply_init(&r);
	memset(line, 'y', sizeof(line));
	memcpy(line, "451-", 4);
	memcpy(line + 1008, "\r\n", 2);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(reply_feed(&r, slice_make(line, sizeof(line)), &used),
			ERR_AGAIN);
	}
	assert_int_equal(reply_feed(&r, SLICE("451 4.3.0 end\r\n"), &used), ERR_OK);
	assert_int_equal(buf_len(&r.text), LIMIT_REPLY_TEXT);
	assert_int_equal(r.lines, 51);
	reply_clear(&r);
}

static void ends_a_reply_of_too_many_lines_or_bytes(void **state)
{
	static const struct {
		size_t text;
		enum err want;
	} cases[] = {
		{1, ERR_TOOBIG},    /* lines */
		{1000, ERR_TOOBIG}, /* bytes */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char line[1010];
		struct reply r;
		size_t n = cases[i].text + 6;
		size_t used;
		uint64_t fed = 0;
		enum err e = ERR_AGAIN;

		memset(line, 'z', sizeof(line));
		memcpy(line, "250-", 4);
		memcpy(line + n - 2, "\r\n", 2);
		reply_init(&r);
		while (e == ERR_AGAIN) {
			e = reply_feed(&r, slice_make(line, n), &used);
			fed += used;
		}
		assert_int_equal(e, cases[i].want);
		assert_true(fed <= REPLY_BYTES_MAX + 1024u);
		assert_true(r.lines <= REPLY_LINES_MAX);
		reply_clear(&r);
	}
}

static void takes_exactly_the_most_lines(void **state)
{
	struct reply r;
	size_t used;

	(void)state;
	reply_init(&r);
	for (unsigned i = 1; i < REPLY_LINES_MAX; i++) {
		assert_int_equal(reply_feed(&r, SLICE("250-X\r\n"), &used), ERR_AGAIN);
	}
	assert_int_equal(reply_feed(&r, SLICE("250 X\r\n"), &used), ERR_OK);
	assert_int_equal(r.lines, REPLY_LINES_MAX);
	reply_clear(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_replies_in_every_chunking),
		cmocka_unit_test(waits_at_every_truncation),
		cmocka_unit_test(begins_anew_after_a_reset),
		cmocka_unit_test(ends_a_line_that_is_too_long),
		cmocka_unit_test(keeps_a_bounded_text_of_a_long_reply),
		cmocka_unit_test(ends_a_reply_of_too_many_lines_or_bytes),
		cmocka_unit_test(takes_exactly_the_most_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
