/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/mail/header.h"

struct split_case {
	const char *why;
	struct slice content;
	size_t head_bytes;
	size_t body_at;
};

#define SPLIT(why, head, between, body)                                                        \
	{                                                                                      \
		why, SLICE_INIT(head between body), sizeof(head) - 1, sizeof(head between) - 1 \
	}

static const struct split_case split_cases[] = {
	SPLIT("nothing at all", "", "", ""),
	SPLIT("no header, an empty line", "", "\r\n", "body\r\n"),
	SPLIT("only an empty line", "", "\r\n", ""),
	SPLIT("a plain message", "From: a@b\r\nTo: c@d\r\n", "\r\n", "hi\r\n"),
	SPLIT("no body", "From: a@b\r\n", "\r\n", ""),
	SPLIT("no empty line and no body", "From: a@b\r\n", "", ""),
	SPLIT("a header that ends in the middle of a line", "From: a@b", "", ""),
	SPLIT("text at once", "", "", "Hello there\r\nFrom: a@b\r\n\r\nhi\r\n"),
	SPLIT("a line without a colon", "From: a@b\r\n", "", "no colon\r\n\r\nhi\r\n"),
	SPLIT("a line of one word", "From: a@b\r\n", "", "word\r\n\r\nhi\r\n"),
	SPLIT("a colon without a name", "From: a@b\r\n", "", ": x\r\n\r\nhi\r\n"),
	SPLIT("a blank in a name", "From: a@b\r\n", "", "My Name: x\r\n\r\nhi\r\n"),
	SPLIT("8-bit in a name", "From: a@b\r\n", "", "N\xc3\xa4me: x\r\n\r\nhi\r\n"),
	SPLIT("a control in a name", "From: a@b\r\n", "", "Na\x01me: x\r\n\r\nhi\r\n"),
	SPLIT("NUL in a name", "From: a@b\r\n", "", "Na\0me: x\r\n\r\nhi\r\n"),
	SPLIT("a blank before the colon", "Subject : x\r\nTo\t: y\r\n", "\r\n", "hi\r\n"),
	SPLIT("folded lines", "Subject: a\r\n b\r\n\tc\r\n", "\r\n", "hi\r\n"),
	SPLIT("folded at once", "Subject:\r\n b\r\n", "\r\n", "hi\r\n"),
	SPLIT("an empty value", "Subject:\r\n", "\r\n", "hi\r\n"),
	SPLIT("a blank line continues", "Subject: a\r\n \r\nTo: x\r\n", "\r\n", "hi\r\n"),
	SPLIT("a tab line continues", "Subject: a\r\n\t\r\nTo: x\r\n", "\r\n", "hi\r\n"),
	SPLIT("a blank line before any field", "", "", " \r\nTo: x\r\n\r\nhi\r\n"),
	SPLIT("a lone LF ends nothing", "Subject: a\nTo: x\n\nhi\r\n", "\r\n", "body\r\n"),
	SPLIT("a lone CR ends nothing", "Subject: a\rTo: x\r\rhi\r\n", "\r\n", "body\r\n"),
	SPLIT("CR CR LF", "Subject: a\r\r\n", "", "\r\r\nbody\r\n"),
	SPLIT("a stuffed dot in front of a name", "..x: y\r\n", "\r\n", "hi\r\n"),
	SPLIT("a stuffed lone dot", "To: x\r\n", "", "..\r\n\r\nhi\r\n"),
	SPLIT("a mailbox separator", "", "",
		"From a@b Thu Jan  1 00:00:00 1970\r\nTo: x\r\n\r\n"),
	SPLIT("a CR at the very end", "To: x\r\n", "", "\r"),
	SPLIT("a name at the very end", "To: x\r\n", "", "Subject"),
	SPLIT("NUL in a value", "To: x\0y\r\n", "\r\n", "hi\r\n"),
	SPLIT("colons everywhere", "To::::\r\nX-:y\r\n", "\r\n", ":::\r\n"),
};

static void finds_where_the_body_begins(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(split_cases); i++) {
		const struct split_case *c = &split_cases[i];
		size_t head = 999;
		size_t body = 999;
		if (header_split(c->content, true, &head, &body) != ERR_OK ||
			head != c->head_bytes || body != c->body_at) {
			fail_msg("%s: %zu %zu", c->why, head, body);
		}
	}
}

/* What a receiver of pieces must be able to rely on: an answer that is given early is the
 * answer. */
static void gives_the_same_answer_at_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(split_cases); i++) {
		const struct split_case *c = &split_cases[i];
		bool answered = false;
		for (size_t n = 0; n <= c->content.n; n++) {
			/* A copy of its own, so that a look behind the end is seen by the
			 * sanitizer. */
			uint8_t *copy = alloc_bytes(n);
			size_t head = 999;
			size_t body = 999;
			memcpy(copy, c->content.p, n);
			enum err e = header_split(slice_make(copy, n), false, &head, &body);
			free(copy);
			if (e == ERR_OK && (head != c->head_bytes || body != c->body_at)) {
				fail_msg("%s: cut at %zu: %zu %zu", c->why, n, head, body);
			}
			if (e != ERR_OK && e != ERR_AGAIN) {
				fail_msg("%s: cut at %zu: %s", c->why, n, err_str(e));
			}
			if (e == ERR_AGAIN && (answered || head != 999 || body != 999)) {
				fail_msg("%s: cut at %zu: took its answer back", c->why, n);
			}
			answered = e == ERR_OK;
		}
	}
}

static struct slice repeat(struct buf *b, const char *text, size_t times)
{
	buf_reset(b);
	for (size_t i = 0; i < times; i++) {
		assert_int_equal(buf_append(b, slice_from_cstr(text)), ERR_OK);
	}
	return buf_view(b);
}

static void refuses_header_blocks_over_their_limits(void **state)
{
	struct buf b;
	size_t head = 0;
	size_t body = 0;

	(void)state;
	buf_init(&b, 64u * 1024 * 1024);
	/* Lines. */
	(void)repeat(&b, "A: b\r\n", LIMIT_HEADER_LINES);
	assert_int_equal(header_split(buf_view(&b), true, &head, &body), ERR_OK);
	assert_int_equal(head, 6 * LIMIT_HEADER_LINES);
	assert_int_equal(header_split(buf_view(&b), false, &head, &body), ERR_AGAIN);
	(void)repeat(&b, "A: b\r\n", LIMIT_HEADER_LINES + 1);
	assert_int_equal(header_split(buf_view(&b), true, &head, &body), ERR_TOOBIG);
	(void)repeat(&b, "A: b\r\n", 1000000);
	assert_int_equal(header_split(buf_view(&b), false, &head, &body), ERR_TOOBIG);

	/* Bytes: one field that fills the block to the last byte, then one byte more. */
	for (size_t extra = 0; extra < 2; extra++) {
		(void)repeat(&b, "A: ", 1);
		for (size_t i = 0; i < LIMIT_HEADER_BLOCK - 5 + extra; i++) {
			assert_int_equal(buf_append_byte(&b, 'x'), ERR_OK);
		}
		assert_int_equal(buf_append(&b, SLICE("\r\n\r\nbody\r\n")), ERR_OK);
		enum err e = header_split(buf_view(&b), true, &head, &body);
		assert_int_equal(e, extra == 0 ? ERR_OK : ERR_TOOBIG);
		if (e == ERR_OK) {
			assert_int_equal(head, LIMIT_HEADER_BLOCK);
			assert_int_equal(body, LIMIT_HEADER_BLOCK + 2);
		}
		/* At every cut near the limit. */
		for (size_t n = LIMIT_HEADER_BLOCK - 3; n <= buf_len(&b); n++) {
			size_t h = 0;
			enum err cut =
				header_split(slice_head(buf_view(&b), n), false, &h, &body);
			assert_true(cut == e || cut == ERR_AGAIN);
		}
	}

	/* A name without an end, a value without an end, folding without an end. */
	static const char *const endless[] = {"x", "A:xxxxxxx", "A: b\r\n  ", " "};
	for (size_t i = 0; i < ARRAY_LEN(endless); i++) {
		struct slice s = repeat(&b, endless[i], 2 * LIMIT_HEADER_BLOCK);
		if (endless[i][0] == ' ') {
			assert_int_equal(header_split(s, false, &head, &body), ERR_OK);
			assert_int_equal(head, 0);
			continue;
		}
		assert_int_equal(header_split(s, false, &head, &body), ERR_TOOBIG);
		assert_int_equal(header_split(s, true, &head, &body), ERR_TOOBIG);
	}
	buf_clear(&b);
}

static void takes_fields_off_a_block(void **state)
{
	static const struct {
		const char *name;
		const char *value;
		const char *raw;
	} want[] = {
		{"From", " a@b", "From: a@b\r\n"},
		{"Subject", "\r\n folded\r\n\tagain", "Subject :\r\n folded\r\n\tagain\r\n"},
		{"X", "", "X:\r\n"},
		{".dotted", " y", "..dotted: y\r\n"},
		{"Blank", " a\r\n ", "Blank: a\r\n \r\n"},
		{"To", ":::", "To::::\r\n"},
		{"last", " cut", "last: cut"},
	};
	struct buf b;
	struct header_field f;

	(void)state;
	buf_init(&b, 4096);
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(buf_append(&b, slice_from_cstr(want[i].raw)), ERR_OK);
	}
	struct slice rest = buf_view(&b);
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_true(header_next(&rest, &f));
		assert_true(slice_eq(f.name, slice_from_cstr(want[i].name)));
		assert_true(slice_eq(f.value, slice_from_cstr(want[i].value)));
		assert_true(slice_eq(f.raw, slice_from_cstr(want[i].raw)));
	}
	assert_false(header_next(&rest, &f));
	buf_clear(&b);
}

static void takes_fields_off_every_truncation(void **state)
{
	static const char text[] =
		"From: a@b\r\nSubject :\r\n folded\r\n\tagain\r\nX:\r\nlast: cut";

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		uint8_t *copy = alloc_bytes(n);
		struct header_field f;
		size_t seen = 0;
		memcpy(copy, text, n);
		struct slice rest = slice_make(copy, n);
		while (header_next(&rest, &f)) {
			assert_true(f.raw.n > 0);
			seen += f.raw.n;
		}
		assert_int_equal(seen, n);
		free(copy);
	}
}

static void compares_names_without_case(void **state)
{
	struct header_field f = {.name = SLICE_INIT("message-ID")};

	(void)state;
	assert_true(header_is(&f, "Message-Id"));
	assert_false(header_is(&f, "Message-I"));
	assert_false(header_is(&f, "Message-Idx"));
}

struct address_case {
	const char *value;
	const char *address; /* null: ERR_SYNTAX */
	const char *domain;
	unsigned count;
};

static const struct address_case address_cases[] = {
	{" a@b.example", "a@b.example", "b.example", 1},
	{" <a@b.example>", "a@b.example", "b.example", 1},
	{" Ann Other <a@b.example>", "a@b.example", "b.example", 1},
	{" \"Other, Ann\" <a@b.example>", "a@b.example", "b.example", 1},
	{" Other, Ann <a@b.example>", "a@b.example", "b.example", 1},
	{" \"<x@y>\" <a@b.example>", "a@b.example", "b.example", 1},
	{" \"a \\\" <x@y>\" <a@b.example>", "a@b.example", "b.example", 1},
	{" x@y.example <a@b.example>", "a@b.example", "b.example", 1},
	{" =?utf-8?q?x@y.example?= <a@b.example>", "a@b.example", "b.example", 1},
	{" =?utf-8?B?44GC44GE?=\r\n <a@b.example>", "a@b.example", "b.example", 1},
	{" a@b.example (Ann <x@y>)", "a@b.example", "b.example", 1},
	{" (Ann (x@y)) a@b.example", "a@b.example", "b.example", 1},
	{" (unclosed a@b.example", NULL, NULL, 0},
	{" a@b.example, c@d.example", "a@b.example", "b.example", 2},
	{" <a@b.example>,<c@d.example>,", "a@b.example", "b.example", 2},
	{"\r\n a@b.example,\r\n\tc@d.example", "a@b.example", "b.example", 2},
	{" Team: a@b.example, c@d.example;", "a@b.example", "b.example", 2},
	{" undisclosed-recipients:;", NULL, NULL, 0},
	{" x@y.example: a@b.example;", "a@b.example", "b.example", 1},
	{" <@relay.example,@other.example:a@b.example>", "a@b.example", "b.example", 1},
	{" <@relay.example>", NULL, NULL, 0},
	{" \"a b\"@b.example", "\"a b\"@b.example", "b.example", 1},
	{" \"x@y\"@b.example", "\"x@y\"@b.example", "b.example", 1},
	{" <\"a>b\"@b.example>", "\"a>b\"@b.example", "b.example", 1},
	{" a@[192.0.2.1]", "a@[192.0.2.1]", "[192.0.2.1]", 1},
	{" a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", 1},
	{" <a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", 1},
	{" < a@b.example >", "a@b.example", "b.example", 1},
	{" <a@b.example (work)>", "a@b.example", "b.example", 1},
	{" a@b@c.example", NULL, NULL, 0},
	{" Ann a@b.example", NULL, NULL, 0},
	{" a<x@y.example>", "x@y.example", "y.example", 1},
	{" <a(b)@b.example>", NULL, NULL, 0},
	{" a @ b.example", "a @ b.example", "b.example", 1},
	{" a.@b.example", "a.@b.example", "b.example", 1},
	{" a@\xe4\xbe\x8b.example", "a@\xe4\xbe\x8b.example", "\xe4\xbe\x8b.example", 1},
	{" a@b(x).example", NULL, NULL, 0},
	{" a@b example", NULL, NULL, 0},
	{" a@", NULL, NULL, 0},
	{" @b.example", NULL, NULL, 0},
	{" <@b.example>", NULL, NULL, 0},
	{" a@.example", NULL, NULL, 0},
	{" Ann", NULL, NULL, 0},
	{" <>", NULL, NULL, 0},
	{" <a@b.example", "a@b.example", "b.example", 1},
	{" \"unclosed <a@b.example>", NULL, NULL, 0},
	{" a@b.example> c@d.example", NULL, NULL, 0},
	{"", NULL, NULL, 0},
	{" \r\n ", NULL, NULL, 0},
	{" ,,;;::", NULL, NULL, 0},
};

static void finds_the_first_address(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(address_cases); i++) {
		const struct address_case *c = &address_cases[i];
		struct slice address = SLICE_EMPTY;
		struct slice domain = SLICE_EMPTY;
		unsigned count = 99;
		enum err e = header_first_address(slice_from_cstr(c->value), &address, &domain,
			&count);
		if (e != (c->address == NULL ? ERR_SYNTAX : ERR_OK) || count != c->count ||
			!slice_eq(address, slice_from_cstr(c->address)) ||
			!slice_eq(domain, slice_from_cstr(c->domain))) {
			fail_msg("%s: %s %u %.*s %.*s", c->value, err_str(e), count,
				SLICE_ARG(address), SLICE_ARG(domain));
		}
	}
}

static void survives_every_truncation_of_an_address_list(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(address_cases); i++) {
		size_t whole = strlen(address_cases[i].value);
		for (size_t n = 0; n <= whole; n++) {
			uint8_t *copy = alloc_bytes(n);
			struct slice address = SLICE_EMPTY;
			struct slice domain = SLICE_EMPTY;
			memcpy(copy, address_cases[i].value, n);
			enum err e = header_first_address(slice_make(copy, n), &address,
				&domain, NULL);
			if (e == ERR_OK) {
				assert_true(
					address.p >= copy && address.p + address.n <= copy + n);
				assert_true(
					domain.p >= copy && domain.p + domain.n <= copy + n);
				assert_true(domain.n > 0 && address.n > domain.n);
			}
			free(copy);
		}
	}
}

/* V30: what took others quadratic time. */
static void needs_linear_time_for_hostile_lists(void **state)
{
	static const char *const units[] = {"(", "\"", ",", "<", ">", ":", ";", "@", "[", "\\",
		"()", "<>", "\"\"", "a@b,", "(\"", "<\"", "<(", "@a,@b:", "(\\", "[]", "\r\n "};
	struct buf b;

	(void)state;
	buf_init(&b, 2u * 1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		size_t n = strlen(units[i]);
		struct slice address;
		struct slice domain;
		unsigned count = 0;

		struct slice all = repeat(&b, units[i], 65536 / n);
		int64_t begin = clock_mono_us();
		(void)!header_first_address(all, &address, &domain, &count);
		/* Quadratic would be 4 * 10^9 steps. */
		assert_true(clock_mono_us() - begin < 500000);
		(void)repeat(&b, units[i], 1048576 / n);
		assert_int_equal(header_first_address(buf_view(&b), &address, &domain, &count),
			ERR_TOOBIG);
	}
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_where_the_body_begins),
		cmocka_unit_test(gives_the_same_answer_at_every_cut),
		cmocka_unit_test(refuses_header_blocks_over_their_limits),
		cmocka_unit_test(takes_fields_off_a_block),
		cmocka_unit_test(takes_fields_off_every_truncation),
		cmocka_unit_test(compares_names_without_case),
		cmocka_unit_test(finds_the_first_address),
		cmocka_unit_test(survives_every_truncation_of_an_address_list),
		cmocka_unit_test(needs_linear_time_for_hostile_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
