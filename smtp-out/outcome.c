/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/outcome.h"

#include <assert.h>

#include "common/base/limits.h"
#include "common/base/utf8.h"

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
		uint32_t code = 0;
		size_t whole = utf8_take(text, &code);

		if (code != '\n' && utf8_is_control(code)) {
			whole = 0;
		}
		size_t need = whole == 0 ? 4 : whole;
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
