/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cleanup/wireform.h"
#include "common/base/attr.h"

static const struct {
	struct slice s;
	bool good;
	bool whole;
	uint64_t message_bytes;
	bool has_nul;
	bool has_8bit;
} cases[] = {
	{SLICE_INIT(""), true, true, 0, false, false},
	{SLICE_INIT("\r\n"), true, true, 2, false, false},
	{SLICE_INIT("a\r\n"), true, true, 3, false, false},
	{SLICE_INIT("a\r\n\r\nb\r\n"), true, true, 8, false, false},
	{SLICE_INIT("..\r\n"), true, true, 3, false, false},
	{SLICE_INIT("..a\r\n...\r\nx.y\r\n"), true, true, 13, false, false},
	{SLICE_INIT("\xe3\x81\x82\r\n"), true, true, 5, false, true},
	{SLICE_INIT("a\0b\r\n"), true, true, 5, true, false},
	{SLICE_INIT("a"), true, false, 1, false, false},
	{SLICE_INIT("a\r"), true, false, 2, false, false},
	{SLICE_INIT("a\r\n."), true, false, 4, false, false},
	{SLICE_INIT("a\r\n.."), true, false, 4, false, false},
	{SLICE_INIT("\n"), false, false, 0, false, false},
	{SLICE_INIT("\r"), true, false, 1, false, false},
	{SLICE_INIT("\r\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\nb\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\rb\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\n\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\r\n\n"), false, false, 0, false, false},
	{SLICE_INIT(".\r\n"), false, false, 0, false, false},
	{SLICE_INIT(".a\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\r\n.\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\r\n.\r\nMAIL FROM:<x@y>\r\n"), false, false, 0, false, false},
	{SLICE_INIT("a\n.\n"), false, false, 0, false, false},
	{SLICE_INIT("a\r.\r"), false, false, 0, false, false},
	{SLICE_INIT("a\r\n.\r"), false, false, 0, false, false},
	{SLICE_INIT("a\r.\r\n"), false, false, 0, false, false},
};

static enum err feed_pieces(struct wireform *w, struct slice s, size_t piece)
{
	enum err e = ERR_OK;

	while (e == ERR_OK && s.n > 0) {
		e = wireform_feed(w, slice_head(s, piece));
		s = slice_skip(s, piece);
	}
	return e;
}

static void tells_wire_form_in_every_chunking(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t piece = 1; piece <= cases[i].s.n + 1; piece++) {
			struct wireform w = {0};
			enum err e = feed_pieces(&w, cases[i].s, piece);
			if ((e == ERR_OK) != cases[i].good) {
				fail_msg("case %zu in pieces of %zu: %s", i, piece, err_str(e));
			}
			if (e != ERR_OK) {
				continue;
			}
			assert_int_equal(wireform_is_whole(&w), cases[i].whole);
			assert_int_equal(wireform_message_bytes(&w), cases[i].message_bytes);
			assert_int_equal(w.has_nul, cases[i].has_nul);
			assert_int_equal(w.has_8bit, cases[i].has_8bit);
		}
	}
}

/* Against a machine that looks at one byte after the other. */
static bool slow(struct slice s, bool *whole)
{
	uint8_t a = '\r'; /* the two before */
	uint8_t b = '\n';
	bool dot = false;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		bool start = a == '\r' && b == '\n';
		if ((dot && c != '.') || (b == '\r' && c != '\n') || (c == '\n' && b != '\r')) {
			return false;
		}
		dot = start && c == '.';
		a = b;
		b = c;
	}
	*whole = a == '\r' && b == '\n' && !dot;
	return true;
}

static void agrees_with_a_slow_reader_on_all_short_texts(void **state)
{
	static const uint8_t letters[] = {'\r', '\n', '.', 'x'};
	uint8_t text[7];

	(void)state;
	for (uint32_t k = 0; k < 1u << (2 * sizeof(text)); k++) {
		for (size_t i = 0; i < sizeof(text); i++) {
			text[i] = letters[(k >> (2 * i)) & 3];
		}
		struct slice s = slice_make(text, sizeof(text));
		bool whole = false;
		bool good = slow(s, &whole);
		for (size_t cut = 0; cut < sizeof(text); cut++) {
			struct wireform w = {0};
			enum err e = wireform_feed(&w, slice_head(s, cut));
			if (e == ERR_OK) {
				e = wireform_feed(&w, slice_skip(s, cut));
			}
			assert_int_equal(e == ERR_OK, good);
			assert_true(!good || wireform_is_whole(&w) == whole);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_wire_form_in_every_chunking),
		cmocka_unit_test(agrees_with_a_slow_reader_on_all_short_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
