/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: cleanup */
/*
 * Any bytes as a message and as what a client said of itself: a message that streams in is
 * composed as one that is there at once; nothing but whole fields goes out; what is put in
 * front is whole lines that no client can end early.
 */
#include <stdlib.h>
#include <string.h>

#include "cleanup/composer.h"
#include "cleanup/wireform.h"
#include "common/mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct composer_rules rules = {.hostname = SLICE_INIT("relay.example"),
	.mail_name = SLICE_INIT("Ekiden"),
	.add_missing = true,
	.show_tls = true,
	.hopcount_limit = 5};

static void require(bool holds)
{
	if (!holds) {
		abort();
	}
}

static void store(struct slice content, const struct composed *c, struct slice more,
	struct buf *to)
{
	buf_reset(to);
	require(buf_append(to, buf_view(&c->kept)) == ERR_OK);
	require(buf_append(to, slice_skip(content, c->rest_at)) == ERR_OK);
	require(buf_append(to, more) == ERR_OK);
}

/* Whatever the client said: Received, then at most Message-ID and Date, each a field of whole
 * lines. */
static void check_front(const struct composed *c, struct slice said)
{
	size_t part = said.n / 8;
	struct slice s[8];
	struct wireform form = {0};
	struct header_field f;
	struct buf front;

	for (size_t i = 0; i < 8; i++) {
		s[i] = slice_head(slice_skip(said, i * part), part);
	}
	struct composer_origin origin = {.helo = s[0],
		.client_name = s[1],
		.client_addr = s[2],
		.protocol = slice_head(s[3], 16),
		.tls = slice_head(s[4], 128),
		.queue_id = SLICE("4XyZ4XyZ4XyZ"),
		.rcpt = s[5]};
	buf_init(&front, COMPOSER_FRONT_MAX);
	require(composer_front(c, &rules, &origin, &front) == ERR_OK);
	require(wireform_feed(&form, buf_view(&front)) == ERR_OK && wireform_is_whole(&form));
	size_t head = 0;
	size_t body = 0;
	require(header_split(buf_view(&front), true, &head, &body) == ERR_OK);
	require(head == buf_len(&front) && body == head);
	struct slice rest = buf_view(&front);
	require(header_next(&rest, &f) && header_is(&f, "Received"));
	unsigned more = 0;
	while (header_next(&rest, &f)) {
		require(header_is(&f, "Message-ID") || header_is(&f, "Date"));
		more++;
	}
	require(more == (c->has_date ? 0u : 1u) + (c->has_message_id ? 0u : 1u));
	buf_clear(&front);
}

static void check_cuts(struct slice all, enum err e, struct slice want)
{
	size_t step = all.n < 256 ? 1 : all.n / 128;
	struct buf stored;

	buf_init(&stored, all.n + 65536);
	for (size_t n = 0; n <= all.n; n += step) {
		struct composer_refusal why = {0};
		struct composed c;
		enum err cut = composer_read(slice_head(all, n), false, &rules, &c, &why);

		if (cut == ERR_AGAIN) {
			continue;
		}
		require(cut == e);
		if (cut == ERR_OK) {
			store(slice_head(all, n), &c, slice_skip(all, n), &stored);
			require(slice_eq(buf_view(&stored), want));
			composed_clear(&c);
		}
	}
	buf_clear(&stored);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice all = {data, size};
	struct composer_refusal why = {0};
	struct composed c;
	struct buf stored;

	buf_init(&stored, size + 65536);
	enum err e = composer_read(all, true, &rules, &c, &why);
	require(e == ERR_OK || (e == ERR_SYNTAX && why.smtp_code >= 500 && why.text != NULL));
	if (e == ERR_OK) {
		size_t head = 0;
		size_t body = 0;
		struct header_field f;

		store(all, &c, SLICE_EMPTY, &stored);
		/* There is a header and an empty line, and the body is the one that was signed.
		 */
		require(header_split(buf_view(&stored), true, &head, &body) == ERR_OK);
		require(body == head + 2);
		require(slice_eq(slice_skip(buf_view(&stored), body),
			slice_skip(all, c.body_at)));
		struct slice rest = slice_head(buf_view(&stored), head);
		while (header_next(&rest, &f)) {
			require(!header_is(&f, "Bcc") && !header_is(&f, "Return-Path"));
		}
		check_front(&c, all);
		composed_clear(&c);
	}
	check_cuts(all, e, buf_view(&stored));
	buf_clear(&stored);

	struct wireform whole = {0};
	struct wireform cut = {0};
	enum err a = wireform_feed(&whole, all);
	enum err b = wireform_feed(&cut, slice_head(all, size / 3));
	if (b == ERR_OK) {
		b = wireform_feed(&cut, slice_skip(all, size / 3));
	}
	require(a == b && (a != ERR_OK || memcmp(&whole, &cut, sizeof(whole)) == 0));
	return 0;
}
