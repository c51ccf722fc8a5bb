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
#include "smtpd/intake.h"
#include "tests/dialog/intake_reference.h"

#define S(text) SLICE_INIT(text)

static void on_content(void *arg, struct slice bytes)
{
	struct buf *out = arg;

	assert_int_equal(buf_append(out, bytes), ERR_OK);
}

/* Feeds in pieces of n bytes, each in memory of its exact size. Returns what was taken. */
static size_t feed(struct intake *in, struct slice text, size_t n, struct buf *out)
{
	struct buf edited;
	size_t used = 0;

	buf_init(&edited, INTAKE_EDITED_MAX);
	struct intake_sink sink = {.content = on_content, .arg = out, .edited = &edited};
	while (text.n != 0 && in->place != INTAKE_ENDED) {
		struct slice piece = slice_head(text, n);
		uint8_t *copy = alloc_bytes(piece.n);
		memcpy(copy, piece.p, piece.n);
		used += intake_feed(in, slice_make(copy, piece.n), &sink);
		free(copy);
		text = slice_skip(text, n);
	}
	buf_clear(&edited);
	return used;
}

static void content_becomes_wire_form_in_pieces_of_any_size(void **state)
{
	static const struct {
		struct slice text;
		struct slice want;
		uint64_t size;
		bool has_bare;
		bool has_nul;
		bool has_8bit;
	} cases[] = {
		{S(".\r\n"), S(""), 0, false, false, false},
		{S("a\r\n.\r\n"), S("a\r\n"), 3, false, false, false},
		{S("a\r\n..\r\n.\r\n"), S("a\r\n..\r\n"), 6, false, false, false},
		{S("..a\r\n.\r\n"), S("..a\r\n"), 4, false, false, false},
		{S(".a\r\n.\r\n"), S("a\r\n"), 3, false, false, false},
		{S("a.\r\n.\r\n"), S("a.\r\n"), 4, false, false, false},
		{S("\r\n.\r\n"), S("\r\n"), 2, false, false, false},
		{S("a\nb\r\n.\r\n"), S("a\r\nb\r\n"), 6, true, false, false},
		{S("a\rb\r\n.\r\n"), S("a\r\nb\r\n"), 6, true, false, false},
		{S("a\n.\nb\r\n.\r\n"), S("a\r\n..\r\nb\r\n"), 9, true, false, false},
		{S("a\n.\r\n.\r\n"), S("a\r\n..\r\n"), 6, true, false, false},
		{S("a\n..\r\n.\r\n"), S("a\r\n..\r\n"), 6, true, false, false},
		{S("a\n...b\r\n.\r\n"), S("a\r\n...b\r\n"), 8, true, false, false},
		{S("a\n.b\r\n.\r\n"), S("a\r\n..b\r\n"), 7, true, false, false},
		{S("\n.\r\n.\r\n"), S("\r\n..\r\n"), 5, true, false, false},
		{S(".\n.\r\n.\r\n"), S("..\r\n..\r\n"), 6, true, false, false},
		{S(".\r.\r\n.\r\n"), S("..\r\n..\r\n"), 6, true, false, false},
		{S("a\r\n.\r\r\n.\r\n"), S("a\r\n..\r\n\r\n"), 8, true, false, false},
		{S("a\r\r\n.\r\n"), S("a\r\n\r\n"), 5, true, false, false},
		{S("a\0b\r\n.\r\n"), S("a\0b\r\n"), 5, false, true, false},
		{S("\r\n.\0\r\n.\r\n"), S("\r\n\0\r\n"), 5, false, true, false},
		{S("\xe3\x81\x82\r\n.\r\n"), S("\xe3\x81\x82\r\n"), 5, false, false, true},
		{S("a\r\n.\r\n.\r\n"), S("a\r\n"), 3, false, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t n = 1; n <= cases[i].text.n; n++) {
			struct intake in;
			struct buf out;
			intake_init(&in);
			buf_init(&out, 4096);
			size_t used = feed(&in, cases[i].text, n, &out);
			if (in.place != INTAKE_ENDED || in.size != cases[i].size ||
				in.has_bare != cases[i].has_bare ||
				in.has_nul != cases[i].has_nul ||
				in.has_8bit != cases[i].has_8bit ||
				!slice_eq(buf_view(&out), cases[i].want)) {
				fail_msg("case %zu in pieces of %zu", i, n);
			}
			assert_true(used <= cases[i].text.n);
			buf_clear(&out);
		}
	}
}

static void nothing_ends_a_message_but_its_end(void **state)
{
	static const struct slice ends[] = {
		S("\n.\n"),
		S("\r.\r"),
		S("\r.\n"),
		S("\n.\r"),
		S("\n.\r\n"),
		S("\r\n.\n"),
		S("\r.\r\n"),
		S("\r\n.\rx"),
		S("\r\n\0.\r\n"),
		S("\r\n.\0\r\n"),
		S("\r\n.\r\r\n"),
		S("\r\r\n.\r\r\n"),
		S("\n\n.\r\n"),
		S("\r\n. \r\n"),
		S("\r\n.."),
		S("\r\n..\r\n"),
		S("\n\r\n.x\r\n"),
		S("\r\n.\r"),
		S("\r\n."),
		S("\r\n"),
		S("\r"),
		S("\r\n.\x1a\r\n"),
		S("\xe2\x80\xa8.\xe2\x80\xa8"),
		S("\x0b.\x0b"),
		S("\x85.\x85"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		for (size_t n = 1; n <= 8; n++) {
			struct intake in;
			struct buf out, text;
			intake_init(&in);
			buf_init(&out, 4096);
			buf_init(&text, 4096);
			assert_int_equal(buf_append(&text, SLICE("body")), ERR_OK);
			assert_int_equal(buf_append(&text, ends[i]), ERR_OK);
			size_t used = feed(&in, buf_view(&text), n, &out);
			if (in.place == INTAKE_ENDED || used != buf_len(&text)) {
				fail_msg("sequence %zu in pieces of %zu", i, n);
			}
			buf_clear(&out);
			buf_clear(&text);
		}
	}
}

/* A small generator of our own: the same runs everywhere. */
static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

static void random_content_agrees_with_the_reference(void **state)
{
	static const uint8_t alphabet[] = {'\r', '\n', '.', 'a', '\r', '\n', '.', 0x80, 0};
	uint64_t seed = 42;
	struct buf out, want, text;

	(void)state;
	buf_init(&out, 1u << 20);
	buf_init(&want, 1u << 20);
	buf_init(&text, 1u << 20);
	for (int run = 0; run < 20000; run++) {
		struct intake in;
		size_t n = next_random(&seed) % 40;
		size_t letters = run % 3 == 0 ? ARRAY_LEN(alphabet) : run % 3 == 1 ? 8 : 4;
		buf_reset(&text);
		buf_reset(&out);
		buf_reset(&want);
		for (size_t i = 0; i < n; i++) {
			/* Now and then a long run of plain text, for the fast path. */
			if (next_random(&seed) % 16 == 0) {
				for (size_t k = next_random(&seed) % 200; k > 0; k--) {
					assert_int_equal(buf_append_byte(&text, 'x'), ERR_OK);
				}
			}
			assert_int_equal(
				buf_append_byte(&text, alphabet[next_random(&seed) % letters]),
				ERR_OK);
		}
		assert_int_equal(buf_append(&text, SLICE("\r\n.\r\nRSET\r\n")), ERR_OK);
		struct reference r = reference_run(buf_view(&text), &want);
		intake_init(&in);
		size_t used = feed(&in, buf_view(&text), 1 + next_random(&seed) % 300, &out);
		assert_true(r.has_end);
		assert_int_equal(used, r.used);
		assert_int_equal(in.size, r.size);
		assert_int_equal(in.has_bare, r.has_bare);
		assert_int_equal(in.has_nul, r.has_nul);
		assert_int_equal(in.has_8bit, r.has_8bit);
		assert_true(slice_eq(buf_view(&out), buf_view(&want)));
	}
	buf_clear(&out);
	buf_clear(&want);
	buf_clear(&text);
}

static size_t calls;

static void count_call(void *arg, struct slice bytes)
{
	(void)arg;
	(void)bytes;
	calls++;
}

static void clean_content_is_passed_on_where_it_lies(void **state)
{
	struct slice text = SLICE("Subject: x\r\n\r\n..a\r\nb\r\n.\r\n");
	struct buf edited;
	struct intake in;

	(void)state;
	buf_init(&edited, INTAKE_EDITED_MAX);
	struct intake_sink sink = {.content = count_call, .edited = &edited};
	intake_init(&in);
	calls = 0;
	assert_int_equal(intake_feed(&in, text, &sink), text.n);
	assert_int_equal(calls, 1);
	assert_null(edited.data); /* nothing was copied */
	buf_clear(&edited);
}

static void what_is_discarded_is_still_counted_and_ended(void **state)
{
	struct buf out;
	struct intake in;

	(void)state;
	buf_init(&out, 16);
	intake_init(&in);
	in.is_discarding = true;
	(void)feed(&in, SLICE("a\nb\r\n.x\r\n..\r\n"), 3, &out);
	assert_int_equal(in.size, 3 + 3 + 3 + 3);
	assert_true(in.has_bare);
	(void)feed(&in, SLICE(".\r\n"), 1, &out);
	assert_int_equal(in.place, INTAKE_ENDED);
	assert_int_equal(buf_len(&out), 0);
	buf_clear(&out);
}

static void a_hundred_megabytes_pass_in_no_time(void **state)
{
	const size_t size = (size_t)1 << 20;
	uint8_t *text = alloc_bytes(size);
	struct buf edited;
	struct intake in;

	(void)state;
	for (size_t i = 0; i < size; i++) {
		text[i] = i % 80 == 78 ? '\r' : i % 80 == 79 ? '\n' : 'x';
	}
	buf_init(&edited, INTAKE_EDITED_MAX);
	struct intake_sink sink = {.content = count_call, .edited = &edited};
	intake_init(&in);
	int64_t start_us = clock_mono_us();
	for (int i = 0; i < 100; i++) {
		assert_int_equal(intake_feed(&in, slice_make(text, size), &sink), size);
	}
	int64_t us = clock_mono_us() - start_us;
	print_message("# %d MB/s\n", (int)(100 * 1000000 / (us == 0 ? 1 : us)));
	assert_true(us < 20000000);
	buf_clear(&edited);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_becomes_wire_form_in_pieces_of_any_size),
		cmocka_unit_test(nothing_ends_a_message_but_its_end),
		cmocka_unit_test(random_content_agrees_with_the_reference),
		cmocka_unit_test(clean_content_is_passed_on_where_it_lies),
		cmocka_unit_test(what_is_discarded_is_still_counted_and_ended),
		cmocka_unit_test(a_hundred_megabytes_pass_in_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
