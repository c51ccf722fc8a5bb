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
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/mail/address.h"

#define S(text) SLICE_INIT(text)
#define X10 "xxxxxxxxxx"
#define X60 X10 X10 X10 X10 X10 X10
#define X63 X60 "xxx"
#define X64 X63 "x"

enum {
	U = ADDRESS_UTF8,
	LAX = ADDRESS_LAX_DOTS,
	ND = ADDRESS_NO_DOMAIN,
	NUL = ADDRESS_NULL
};

struct path_case {
	struct slice path;
	unsigned allowed;
	enum address_fault want;
	const char *text; /* what is kept */
	const char *rest;
};

static const struct path_case paths[] = {
	/* plain ones */
	{S("<a@t.example>"), 0, ADDRESS_FINE, "a@t.example", ""},
	{S("<a@t>"), 0, ADDRESS_FINE, "a@t", ""},
	{S("<A.B@T.Example>"), 0, ADDRESS_FINE, "A.B@T.Example", ""},
	{S("<a.b.c@t>"), 0, ADDRESS_FINE, "a.b.c@t", ""},
	{S("<a@1.2.3.example>"), 0, ADDRESS_FINE, "a@1.2.3.example", ""},
	{S("<1@2>"), 0, ADDRESS_FINE, "1@2", ""},
	{S("<a@x--y.example>"), 0, ADDRESS_FINE, "a@x--y.example", ""},
	{S("<a@xn--bcher-kva.example>"), 0, ADDRESS_FINE, "a@xn--bcher-kva.example", ""},
	{S("<a@a_b.example>"), 0, ADDRESS_FINE, "a@a_b.example", ""},
	{S("<a@_dmarc.example>"), 0, ADDRESS_FINE, "a@_dmarc.example", ""},
	{S("<!#$%&'*+-/=?^_`{|}~@t>"), 0, ADDRESS_FINE, "!#$%&'*+-/=?^_`{|}~@t", ""},
	{S("<user+tag@t>"), 0, ADDRESS_FINE, "user+tag@t", ""},
	{S("<bounce-1234=user=d.example@t>"), 0, ADDRESS_FINE, "bounce-1234=user=d.example@t",
		""},
	/* what follows the path */
	{S("<a@t> SIZE=1"), 0, ADDRESS_FINE, "a@t", " SIZE=1"},
	{S("<a@t>x"), 0, ADDRESS_FINE, "a@t", "x"}, {S("<a@t>>"), 0, ADDRESS_FINE, "a@t", ">"},
	{S("<a@t> "), 0, ADDRESS_FINE, "a@t", " "},
	/* the null path */
	{S("<>"), NUL, ADDRESS_FINE, "", ""},
	{S("<> BODY=7BIT"), NUL, ADDRESS_FINE, "", " BODY=7BIT"},
	{S("<>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("< >"), NUL, ADDRESS_BAD_LOCAL, NULL, NULL},
	/* brackets */
	{S(""), NUL, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<"), NUL, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S(">"), NUL, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("a@t"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("a@t>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<a@t"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<<a@t>>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S(" <a@t>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("< a@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a@t >"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a @t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a@ t>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("Name <a@t>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	/* dots */
	{S("<a..b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<.a@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a.@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<.@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a..b@t>"), LAX, ADDRESS_FINE, "a..b@t", ""},
	{S("<.a@t>"), LAX, ADDRESS_FINE, ".a@t", ""},
	{S("<a.@t>"), LAX, ADDRESS_FINE, "a.@t", ""},
	{S("<a...@docomo.example>"), LAX, ADDRESS_FINE, "a...@docomo.example", ""},
	{S("<.@t>"), LAX, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<...@t>"), LAX, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a@t..example>"), LAX, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@.t>"), LAX, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t.>"), LAX, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@.>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	/* missing parts */
	{S("<@t>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<a@>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<@>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL}, {S("<a>"), ND, ADDRESS_FINE, "a", ""},
	{S("<Postmaster>"), ND, ADDRESS_FINE, "Postmaster", ""},
	{S("<\"post master\">"), ND, ADDRESS_FINE, "\"post master\"", ""},
	{S("<a b>"), ND, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<>"), ND, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<a"), ND, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<a@b@c>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@@t>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<\"a\"b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a\"b\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a.\"b\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a\".b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	/* specials outside quotes */
	{S("<a,b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a:b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a;b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a(c)@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a[b]@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a\\b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<:include:/x@d>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<|/bin/sh>"), ND, ADDRESS_FINE, "|/bin/sh", ""},
	{S("<\"|sh\"@d>"), 0, ADDRESS_FINE, "\"|sh\"@d", ""},
	{S("</etc/passwd@d>"), 0, ADDRESS_FINE, "/etc/passwd@d", ""},
	{S("<$(id)@d>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<;for i in 0 1;do :;done;>"), ND, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<`id`@d>"), 0, ADDRESS_FINE, "`id`@d", ""},
	{S("<a!b!c@t>"), 0, ADDRESS_FINE, "a!b!c@t", ""},
	{S("<a%b@t>"), 0, ADDRESS_FINE, "a%b@t", ""},
	/* quoted strings */
	{S("<\"a b\"@t>"), 0, ADDRESS_FINE, "\"a b\"@t", ""},
	{S("<\"a\\\"b\"@t>"), 0, ADDRESS_FINE, "\"a\\\"b\"@t", ""},
	{S("<\"a@b\"@t>"), 0, ADDRESS_FINE, "\"a@b\"@t", ""},
	{S("<\"a>b\"@t>"), 0, ADDRESS_FINE, "\"a>b\"@t", ""},
	{S("<\"a\\\\\"@t>"), 0, ADDRESS_FINE, "\"a\\\\\"@t", ""},
	{S("<\"\\ \"@t>"), 0, ADDRESS_FINE, "\"\\ \"@t", ""},
	{S("<\" \"@t>"), 0, ADDRESS_FINE, "\" \"@t", ""},
	{S("<\"a..b\"@t>"), 0, ADDRESS_FINE, "\"a..b\"@t", ""},
	{S("<\".a.\"@t>"), 0, ADDRESS_FINE, "\".a.\"@t", ""},
	{S("<\"x' OR 1=1--\"@a.b>"), 0, ADDRESS_FINE, "\"x' OR 1=1--\"@a.b", ""},
	{S("<\"\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a\\\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a\"@>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<\"a\">"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<\"a\tb\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a\\\tb\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a\\"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	/* control bytes */
	{S("<a\rb@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a\nb@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a\0b@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a\x7f@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<a\x1b[2J@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<b@d\0.evil>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<b@d\r\n>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<b@d\x7f>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<\"a\0b\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<\"a\r\nb\"@t>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	/* domains */
	{S("<a@-t>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t->"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t-.example>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t.-example>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t!x>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t/x>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t:25>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@t,b@u>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@\"t\">"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@(t)>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	/* address literals */
	{S("<a@[127.0.0.1]>"), 0, ADDRESS_FINE, "a@[127.0.0.1]", ""},
	{S("<a@[192.0.2.255]> X"), 0, ADDRESS_FINE, "a@[192.0.2.255]", " X"},
	{S("<a@[IPv6:2001:db8::1]>"), 0, ADDRESS_FINE, "a@[IPv6:2001:db8::1]", ""},
	{S("<a@[ipv6:::1]>"), 0, ADDRESS_FINE, "a@[ipv6:::1]", ""},
	{S("<a@[IPv6:::ffff:192.0.2.1]>"), 0, ADDRESS_FINE, "a@[IPv6:::ffff:192.0.2.1]", ""},
	{S("<a@[2001:db8::1]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[256.0.0.1]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[127.1]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[127.0.0.1>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@127.0.0.1]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@["), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[ 127.0.0.1 ]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[0x7f.0.0.1]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[IPv6:]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[IPv6:1:2:3:4:5:6:7:8:9]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[IPv6:fe80::1%eth0]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[x400:c=jp]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[127.0.0.1\0]>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<a@[127.0.0.1]x>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	/* source routes */
	{S("<@h1.example,@h2.example:u@d.example>"), 0, ADDRESS_FINE, "u@d.example", ""},
	{S("<@h1:u@d> X"), 0, ADDRESS_FINE, "u@d", " X"},
	{S("<@[127.0.0.1]:u@d>"), 0, ADDRESS_FINE, "u@d", ""},
	{S("<@h1:\"a b\"@d>"), 0, ADDRESS_FINE, "\"a b\"@d", ""},
	{S("<@h1,:u@d>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<@h1,h2:u@d>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<@:u@d>"), 0, ADDRESS_BAD_DOMAIN, NULL, NULL},
	{S("<@h1:>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<@h1:u>"), ND, ADDRESS_BAD_SYNTAX, NULL, NULL},
	{S("<@h1:@h2:u@d>"), 0, ADDRESS_BAD_LOCAL, NULL, NULL},
	{S("<@h1 ,@h2:u@d>"), 0, ADDRESS_BAD_SYNTAX, NULL, NULL},
	/* lengths */
	{S("<" X64 "@t>"), 0, ADDRESS_FINE, X64 "@t", ""},
	{S("<" X64 "x@t>"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<" X64 "x>"), ND, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<a@" X63 ">"), 0, ADDRESS_FINE, "a@" X63, ""},
	{S("<a@" X64 ">"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<a@b." X64 ".c>"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<\"" X60 "xx\"@t>"), 0, ADDRESS_FINE, "\"" X60 "xx\"@t", ""},
	{S("<\"" X60 "xxx\"@t>"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	/* a path of 256 octets, and of 257 */
	{S("<" X64 "@" X63 "." X63 "." X60 ">"), 0, ADDRESS_FINE, X64 "@" X63 "." X63 "." X60,
		""},
	{S("<" X64 "@" X63 "." X63 "." X60 "x>"), 0, ADDRESS_FINE,
		X64 "@" X63 "." X63 "." X60 "x", ""},
	{S("<" X64 "@" X63 "." X63 "." X60 "xx>"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<a@" X63 "." X63 "." X63 "." X60 ">"), 0, ADDRESS_FINE,
		"a@" X63 "." X63 "." X63 "." X60, ""},
	{S("<a@" X63 "." X63 "." X63 "." X60 "x>"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<a@" X63 "." X63 "." X63 "." X63 "." X63 ">"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	{S("<@" X63 "." X63 "." X63 ":" X64 "@t>"), 0, ADDRESS_TOO_LONG, NULL, NULL},
	/* beyond ASCII */
	{S("<b\xc3\xbc@t>"), 0, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<a@b\xc3\xbc.example>"), 0, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\"\xc3\xbc\"@t>"), 0, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<b\xc3\xbc@t>"), U, ADDRESS_FINE, "b\xc3\xbc@t", ""},
	{S("<\"\xc3\xbc x\"@t>"), U, ADDRESS_FINE, "\"\xc3\xbc x\"@t", ""},
	{S("<a@b\xc3\xbc.example>"), U, ADDRESS_FINE, "a@b\xc3\xbc.example", ""},
	{S("<\xe6\x97\xa5\xe6\x9c\xac@\xe4\xbe\x8b\xe3\x81\x88.jp>"), U, ADDRESS_FINE,
		"\xe6\x97\xa5\xe6\x9c\xac@\xe4\xbe\x8b\xe3\x81\x88.jp", ""},
	{S("<\xf0\x9f\x90\x8e@t>"), U, ADDRESS_FINE, "\xf0\x9f\x90\x8e@t", ""},
	{S("<\xc0\x80@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xc1\xbf@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xe0\x9f\xbf@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xed\xa0\x80@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xf0\x8f\xbf\xbf@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xf4\x90\x80\x80@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xf5\x80\x80\x80@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xff@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xc3>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<\xe6\x97>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<a\x80@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},
	{S("<a\xc2\x85@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},     /* NEL */
	{S("<a\xe2\x80\xa8@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL}, /* line separator */
	{S("<a\xe2\x80\xae@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL}, /* right-to-left */
	{S("<a\xe2\x80\x8b@t>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL}, /* zero width */
	{S("<\xef\xbb\xbf"
	   "a@t>"),
		U, ADDRESS_NEEDS_UTF8, NULL, NULL},                    /* byte order mark */
	{S("<a@t\xef\xbc\xa0u>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL},  /* wide at sign */
	{S("<a@t\xe3\x80\x82jp>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL}, /* ideographic stop */
	{S("<a@\xef\xbd\x81.jp>"), U, ADDRESS_NEEDS_UTF8, NULL, NULL}, /* wide letter */
	{S("<a\xc4\x8a@t>"), U, ADDRESS_FINE, "a\xc4\x8a@t", ""}, /* U+010A, not a line end */
};

static void check_path(const struct path_case *c, size_t number)
{
	struct address out = {.text = SLICE("untouched")};
	struct slice rest = SLICE("untouched");
	enum address_fault got = address_parse_path(c->path, c->allowed, &out, &rest);

	if (got != c->want) {
		fail_msg("case %zu %.*s: fault %d, not %d", number, SLICE_ARG(c->path),
			(int)got, (int)c->want);
	}
	if (got != ADDRESS_FINE) {
		assert_true(slice_eq(out.text, SLICE("untouched")));
		assert_true(slice_eq(rest, SLICE("untouched")));
		return;
	}
	if (!slice_eq(out.text, slice_from_cstr(c->text)) ||
		!slice_eq(rest, slice_from_cstr(c->rest))) {
		fail_msg("case %zu: kept %.*s, rest %.*s", number, SLICE_ARG(out.text),
			SLICE_ARG(rest));
	}
	if (out.domain.n != 0) {
		assert_int_equal(out.local.n + 1 + out.domain.n, out.text.n);
		assert_ptr_equal(out.local.p, out.text.p);
		assert_ptr_equal(out.domain.p, out.text.p + out.local.n + 1);
	}
}

static void parses_paths_as_the_table_says(void **state)
{
	(void)state;
	assert_true(ARRAY_LEN(paths) >= 150);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		check_path(&paths[i], i);
	}
}

/* The copies have their exact size, so a sanitizer sees one byte too far. */
static void refuses_every_truncation(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct path_case *c = &paths[i];
		size_t whole = c->want == ADDRESS_FINE ? c->path.n - strlen(c->rest) : 0;
		for (size_t n = 0; n < whole; n++) {
			uint8_t *copy = alloc_bytes(n);
			struct address out;
			struct slice rest;
			memcpy(copy, c->path.p, n);
			if (address_parse_path(slice_make(copy, n), c->allowed, &out, &rest) ==
				ADDRESS_FINE) {
				fail_msg("case %zu cut at %zu was taken", i, n);
			}
			free(copy);
		}
	}
}

static void what_was_parsed_parses_to_itself(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		const struct path_case *c = &paths[i];
		struct address first, again;
		struct slice rest;
		if (address_parse_path(c->path, c->allowed, &first, &rest) != ADDRESS_FINE) {
			continue;
		}
		assert_int_equal(address_parse(first.text, c->allowed, &again), ADDRESS_FINE);
		assert_true(slice_eq(again.text, first.text));
		assert_true(slice_eq(again.local, first.local));
		assert_true(slice_eq(again.domain, first.domain));
	}
}

static void an_address_without_brackets_is_all_of_the_text(void **state)
{
	static const struct {
		struct slice text;
		unsigned allowed;
		enum address_fault want;
	} cases[] = {
		{S("a@t"), 0, ADDRESS_FINE},
		{S("a@t "), 0, ADDRESS_BAD_DOMAIN},
		{S(" a@t"), 0, ADDRESS_BAD_LOCAL},
		{S("a@t>"), 0, ADDRESS_BAD_DOMAIN},
		{S("<a@t>"), 0, ADDRESS_BAD_LOCAL},
		{S("@x:a@t"), 0, ADDRESS_BAD_LOCAL},
		{S(""), 0, ADDRESS_BAD_LOCAL},
		{S(""), NUL, ADDRESS_FINE},
		{S("a"), 0, ADDRESS_BAD_SYNTAX},
		{S("a"), ND, ADDRESS_FINE},
		{S("a b"), ND, ADDRESS_BAD_LOCAL},
		{S("a@b\n"), 0, ADDRESS_BAD_DOMAIN},
		{S("a@b\0"), 0, ADDRESS_BAD_DOMAIN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct address out;
		if (address_parse(cases[i].text, cases[i].allowed, &out) != cases[i].want) {
			fail_msg("case %zu", i);
		}
	}
}

static void takes_linear_time_whatever_comes(void **state)
{
	static const char *const fillers[] = {
		"(",
		"\"",
		",",
		"<",
		"@",
		".",
		"a",
		"\\",
		"[",
		"a.",
		"@a,",
		"@a:",
		"\xc3\xbc",
		"\"\\",
		"a@",
		":",
		"-",
	};
	const size_t size = 1024 * 1024;
	uint8_t *text = alloc_bytes(size);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++) {
		size_t n = strlen(fillers[i]);
		struct address out;
		struct slice rest;
		text[0] = '<';
		for (size_t at = 1; at < size; at++) {
			text[at] = (uint8_t)fillers[i][(at - 1) % n];
		}
		int64_t start_us = clock_mono_us();
		if (address_parse_path(slice_make(text, size), U | LAX | ND | NUL, &out,
			    &rest) == ADDRESS_FINE) {
			fail_msg("a megabyte of %s is no path", fillers[i]);
		}
		/* A parser that is quadratic in a megabyte needs hours. */
		assert_true(clock_mono_us() - start_us < 5000000);
	}
	free(text);
}

static void tells_names_for_ehlo_from_garbage(void **state)
{
	static const struct {
		struct slice name;
		bool want;
	} cases[] = {
		{S("client.example"), true},
		{S("localhost"), true},
		{S("[127.0.0.1]"), true},
		{S("[IPv6:2001:db8::1]"), true},
		{S("[2001:db8::1]"), true},
		{S("my_pc"), true},
		{S("-x-"), true},
		{S("x."), true},
		{S("192.0.2.1"), true},
		{S("b\xc3\xbc"
		   "cher.example"),
			true},
		{S("b\xfc"
		   "cher.example"),
			false},
		{S(""), false},
		{S("["), false},
		{S("[]"), false},
		{S("]"), false},
		{S("[x"), false},
		{S("[x]"), false},
		{S("a b"), false},
		{S("exa\0mple"), false},
		{S("exa\x1b[2J"), false},
		{S("a@b"), false},
		{S("a/b"), false},
		{S("a\r"), false},
		{S("<a>"), false},
		{S("a\"b"), false},
	};
	char name[LIMIT_HOSTNAME + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (helo_is_valid(cases[i].name) != cases[i].want) {
			fail_msg("case %zu", i);
		}
	}
	memset(name, 'a', sizeof(name));
	assert_true(helo_is_valid(slice_make(name, LIMIT_HOSTNAME)));
	assert_false(helo_is_valid(slice_make(name, LIMIT_HOSTNAME + 1)));
}

static void domains_have_labels_and_literals_brackets(void **state)
{
	(void)state;
	assert_true(domain_is_valid(SLICE("a.b.c"), 0));
	assert_true(domain_is_valid(SLICE("xn--a.b"), 0));
	assert_false(domain_is_valid(SLICE("a.b."), 0));
	assert_false(domain_is_valid(SLICE(""), 0));
	assert_false(domain_is_valid(SLICE("a b"), 0));
	assert_false(domain_is_valid(SLICE("[127.0.0.1]"), 0));
	assert_false(domain_is_valid(SLICE("\xc3\xbc.example"), 0));
	assert_true(domain_is_valid(SLICE("\xc3\xbc.example"), U));
	assert_true(domain_is_literal(SLICE("[127.0.0.1]")));
	assert_false(domain_is_literal(SLICE("127.0.0.1")));
	assert_false(domain_is_literal(SLICE("[a]")));
	assert_false(domain_is_literal(SLICE_EMPTY));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_paths_as_the_table_says),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(what_was_parsed_parses_to_itself),
		cmocka_unit_test(an_address_without_brackets_is_all_of_the_text),
		cmocka_unit_test(takes_linear_time_whatever_comes),
		cmocka_unit_test(tells_names_for_ehlo_from_garbage),
		cmocka_unit_test(domains_have_labels_and_literals_brackets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
