/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: bounce */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bounce/classify.h"
#include "bounce/dsn.h"
#include "bounce/writer.h"
#include "common/ipc/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct slice take(struct slice *rest)
{
	struct slice part = SLICE_EMPTY;

	/* 0xfe is in no text: it parts the fields. */
	(void)slice_cut(rest, 0xfe, &part);
	return slice_head(part, LIMIT_REPLY_TEXT);
}

static void check(struct slice wire)
{
	size_t column = 0;

	for (size_t i = 0; i < wire.n; i++) {
		assert(wire.p[i] != '\0');
		assert(wire.p[i] != '\n' || (i > 0 && wire.p[i - 1] == '\r'));
		assert(wire.p[i] != '\r' || (i + 1 < wire.n && wire.p[i + 1] == '\n'));
		assert(column != 0 || wire.p[i] != '.' ||
			(i + 1 < wire.n && wire.p[i + 1] == '.'));
		column = wire.p[i] == '\n' ? 0 : column + 1;
		assert(column <= WRITER_LINE_MAX + 2);
	}
}

/* The first two bytes choose; then fields of one recipient, parted by 0xfe; then the message.
 */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	if (n < 2) {
		return 0;
	}
	struct slice rest = slice_make(bytes + 2, n - 2);
	struct dsn_rcpt r = {.stage = STAGE_RCPT, .smtp_code = 550, .last_attempt_us = 1};
	struct dsn d = {.kind = bytes[0] & 3,
		.language = (enum dsn_language)((bytes[0] >> 2) % 3),
		.is_utf8 = (bytes[0] & 0x80) != 0,
		.original = (enum dsn_original)(bytes[1] % 3),
		.original_max = (size_t)bytes[1] * 8,
		.hostname = SLICE("relay.example.org"),
		.queue_id = SLICE("3QxBcD9fGhJk"),
		.token = "0123456789abcdef0123456789abcdef",
		.rcpts = &r,
		.rcpt_count = 1};
	struct dsn_needs needs;
	struct buf to;

	d.sender = take(&rest);
	d.envid = take(&rest);
	r.address = take(&rest);
	r.orcpt = take(&rest);
	r.text = take(&rest);
	r.host = take(&rest);
	r.addr = take(&rest);
	d.message = rest;
	if (d.sender.n == 0) {
		return 0;
	}
	buf_init(&to, (size_t)1024 * 1024);
	if (dsn_compose(&d, &to, &needs) == ERR_OK) {
		check(buf_view(&to));
	}
	buf_clear(&to);
	struct failure f = {.stage = STAGE_RCPT, .smtp_code = 550, .text = r.text};
	(void)classify_is_dead_address(&f);
	return 0;
}
