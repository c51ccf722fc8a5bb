/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: smtpd */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "smtpd/intake.h"
#include "tests/dialog/intake_reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_content(void *arg, struct slice bytes)
{
	struct buf *out = arg;
	enum err e = buf_append(out, bytes);

	assert(e == ERR_OK && bytes.n != 0);
}

/* Every line ends in CR LF and no line but a doubled one begins with a dot. */
static void check_wire_form(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		bool at_line = i == 0 || s.p[i - 1] == '\n';
		assert(s.p[i] != '\n' || (i > 0 && s.p[i - 1] == '\r'));
		assert(s.p[i] != '\r' || (i + 1 < s.n && s.p[i + 1] == '\n'));
		assert(s.p[i] != '.' || !at_line || (i + 1 < s.n && s.p[i + 1] == '.'));
	}
}

/* The first byte says in what pieces. Long runs are made from short inputs: 0x01 stands for 100
 * plain bytes, so that the fast path over plain text is reached. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t run[101] =
		"This text of one hundred octets has no end of line in it, and so it stands for what "
		"most of mail is..";
	struct buf text, out, want, edited;
	struct intake in;

	if (size < 2 || size > 4096) {
		return 0;
	}
	size_t piece = (size_t)1 + data[0];
	buf_init(&text, 1u << 20);
	buf_init(&out, 4u << 20);
	buf_init(&want, 4u << 20);
	buf_init(&edited, INTAKE_EDITED_MAX);
	for (size_t i = 1; i < size; i++) {
		enum err e = data[i] == 1 ? buf_append(&text, slice_make(run, 98))
					  : buf_append_byte(&text, data[i]);
		assert(e == ERR_OK);
	}
	/* There is an end in any case. */
	enum err e = buf_append(&text, SLICE("\r\n.\r\nMAIL FROM:<a@b>\r\n"));
	assert(e == ERR_OK);

	struct reference r = reference_run(buf_view(&text), &want);
	struct intake_sink sink = {.content = on_content, .arg = &out, .edited = &edited};
	struct slice left = buf_view(&text);
	size_t used = 0;
	intake_init(&in);
	while (left.n != 0 && in.place != INTAKE_ENDED) {
		struct slice given = slice_head(left, piece);
		/* In memory of its exact size: the fast path must not look beyond. */
		uint8_t *copy = alloc_bytes(given.n);
		memcpy(copy, given.p, given.n);
		size_t n = intake_feed(&in, slice_make(copy, given.n), &sink);
		free(copy);
		assert(n == given.n || in.place == INTAKE_ENDED);
		used += n;
		left = slice_skip(left, n);
	}
	assert(r.has_end && in.place == INTAKE_ENDED);
	assert(used == r.used);
	assert(in.has_bare == r.has_bare && in.has_nul == r.has_nul &&
		in.has_8bit == r.has_8bit);
	assert(slice_eq(buf_view(&out), buf_view(&want)));
	assert(in.size == r.size);
	check_wire_form(buf_view(&out));
	buf_clear(&text);
	buf_clear(&out);
	buf_clear(&want);
	buf_clear(&edited);
	return 0;
}
