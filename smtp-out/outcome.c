/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/outcome.h"

#include <assert.h>

#include "common/base/limits.h"

struct outcome outcome_of_reply(enum smtp_stage stage, const struct reply *r)
{
	unsigned class = r->code / 100u;
	struct outcome o = {
		.kind = class == 2   ? VERDICT_DONE
			: class == 5 ? VERDICT_NEVER
				     : VERDICT_LATER,
		.stage = stage,
		.smtp_code = r->code,
		.status = r->status,
		.text = buf_view(&r->text),
	};

	assert(class == 2 || class == 4 || class == 5);
	if (o.status.class != class) {
		o.status = (struct enhanced_code){.class = (uint8_t) class};
	}
	return o;
}

struct outcome outcome_of_ours(enum verdict_kind kind, enum smtp_stage stage,
	struct enhanced_code status, const char *text)
{
	return (struct outcome){.kind = kind,
		.stage = stage,
		.status = status,
		.text = slice_from_cstr(text)};
}

/* Length of the well-formed UTF-8 character at the beginning of s (RFC 3629); 0: none. */
static size_t utf8_length(struct slice s)
{
	uint8_t c = s.p[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	if (n == 0 || n > s.n) {
		return 0;
	}
	for (size_t i = 1; i < n; i++) {
		if ((s.p[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	if ((c == 0xe0 && s.p[1] < 0xa0) || (c == 0xed && s.p[1] > 0x9f) ||
		(c == 0xf0 && s.p[1] < 0x90) || (c == 0xf4 && s.p[1] > 0x8f) ||
		(c == 0xc2 && s.p[1] < 0xa0)) {
		return 0; /* overlong, surrogate, beyond Unicode; C1 controls */
	}
	return n;
}

/* How many of the first bytes need no care. */
static size_t plain_length(struct slice s)
{
	size_t n = 0;

	while (n < s.n && ((s.p[n] >= 0x20 && s.p[n] < 0x7f) || s.p[n] == '\n')) {
		n++;
	}
	return n;
}

static struct slice escape(struct slice text, uint8_t to[LIMIT_REPLY_TEXT])
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	while (text.n > 0) {
		uint8_t c = text.p[0];
		size_t whole = c == '\n' ? 1 : utf8_length(text);
		size_t need = whole;

		if (whole == 0 || (whole == 1 && (c < 0x20 || c == 0x7f) && c != '\n')) {
			whole = 0;
			need = 4;
		}
		if (need > LIMIT_REPLY_TEXT - n) {
			break;
		}
		if (whole > 0) {
			memcpy(to + n, text.p, whole);
		} else {
			const uint8_t shown[4] = {'\\', 'x', (uint8_t)hex[c >> 4],
				(uint8_t)hex[c & 15]};
			memcpy(to + n, shown, sizeof(shown));
		}
		n += need;
		text = slice_skip(text, whole == 0 ? 1 : whole);
	}
	return slice_make(to, n);
}

struct slice outcome_keep_text(struct arena *a, struct slice text)
{
	uint8_t shown[LIMIT_REPLY_TEXT];
	struct slice kept = SLICE_EMPTY;

	if (plain_length(text) < text.n || text.n > LIMIT_REPLY_TEXT) {
		text = escape(text, shown);
	}
	if (text.n == 0 || !arena_copy(a, text, &kept)) {
		return SLICE_EMPTY;
	}
	return kept;
}
