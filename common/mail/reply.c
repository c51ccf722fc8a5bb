/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mail/reply.h"

#include <assert.h>

#include "common/base/limits.h"

void reply_init(struct reply *r)
{
	*r = (struct reply){0};
	buf_init(&r->text, LIMIT_REPLY_TEXT);
}

void reply_clear(struct reply *r)
{
	buf_clear(&r->text);
	reply_init(r);
}

void reply_reset(struct reply *r)
{
	struct buf text = r->text;

	buf_reset(&text);
	*r = (struct reply){.text = text};
}

/* Keeps of s what fits. */
static void keep(struct reply *r, struct slice s)
{
	struct slice kept = slice_head(s, LIMIT_REPLY_TEXT - buf_len(&r->text));

	if (kept.n > 0) {
		enum err e = buf_append(&r->text, kept);
		assert(e == ERR_OK);
	}
}

/*
 * The status is that of the first line that has one; lines behind it that repeat it lose it,
 * because the text is for people.
 */
static void settle_text(struct reply *r)
{
	struct slice left = buf_view(&r->text);
	size_t kept = 0;
	bool is_first = true;

	if (left.n == 0) {
		return;
	}
	uint8_t *to = r->text.data + r->text.start;
	for (;;) {
		size_t n = slice_find(left, '\n');
		struct slice line = slice_head(left, n);
		struct enhanced_code code;
		struct slice rest;

		if (enhanced_parse(line, &code, &rest)) {
			if (r->status.class == 0) {
				r->status = code;
			} else if (!is_first && code.class == r->status.class &&
				   code.subject == r->status.subject &&
				   code.detail == r->status.detail) {
				line = rest;
			}
		}
		memmove(to + kept, line.p, line.n);
		kept += line.n;
		if (n == left.n) {
			break;
		}
		to[kept++] = '\n';
		left = slice_skip(left, n + 1);
		is_first = false;
	}
	buf_truncate(&r->text, kept);
}

/* A line has ended. ERR_AGAIN when another one follows. */
static enum err end_line(struct reply *r)
{
	if (r->column < 3) {
		return ERR_SYNTAX;
	}
	if (r->column == 3) {
		r->is_last = true;
	}
	if (r->lines == 0) {
		r->code = r->line_code;
	} else if (r->code != r->line_code) {
		return ERR_SYNTAX;
	}
	r->lines++;
	if (!r->has_cr) {
		r->bare_lf = true;
	}
	r->has_cr = false;
	r->column = 0;
	r->line_code = 0;
	if (r->is_last) {
		settle_text(r);
		return ERR_OK;
	}
	if (r->lines == REPLY_LINES_MAX) {
		return ERR_TOOBIG;
	}
	keep(r, SLICE("\n"));
	return ERR_AGAIN;
}

/* One of the first four bytes of a line, or its end before them. */
static enum err feed_head(struct reply *r, uint8_t c)
{
	if (c == '\n') {
		return end_line(r);
	}
	if (r->has_cr) {
		return ERR_SYNTAX;
	}
	if (c == '\r') {
		r->has_cr = true;
		return ERR_AGAIN;
	}
	if (r->column == 3) {
		if (c != ' ' && c != '-') {
			return ERR_SYNTAX;
		}
		r->is_last = c == ' ';
	} else {
		if (c < '0' || c > '9' || (r->column == 0 && c == '0')) {
			return ERR_SYNTAX;
		}
		r->line_code = (uint16_t)(r->line_code * 10 + (c - '0'));
	}
	r->column++;
	return ERR_AGAIN;
}

/* Text of a line, up to its LF if it is there; *used tells how much. */
static enum err feed_text(struct reply *r, struct slice s, size_t *used)
{
	const uint8_t *lf = memchr(s.p, '\n', s.n);
	struct slice text = slice_head(s, lf == NULL ? s.n : (size_t)(lf - s.p));

	*used = text.n + (lf == NULL ? 0 : 1);
	if (r->has_cr && text.n > 0) {
		/* A CR that was not the end of a line is part of its text. */
		r->has_cr = false;
		r->column++;
		keep(r, SLICE("\r"));
	}
	if (text.n > 0 && text.p[text.n - 1] == '\r') {
		r->has_cr = true;
		text.n--;
	}
	if (text.n > (size_t)REPLY_LINE_MAX - r->column || r->column > REPLY_LINE_MAX) {
		return ERR_TOOBIG;
	}
	r->column = (uint16_t)(r->column + text.n);
	keep(r, text);
	return lf == NULL ? ERR_AGAIN : end_line(r);
}

enum err reply_feed(struct reply *r, struct slice bytes, size_t *used)
{
	size_t at = 0;
	enum err e = ERR_AGAIN;

	while (e == ERR_AGAIN && at < bytes.n) {
		size_t taken = 1;

		if (r->column < 4) {
			e = feed_head(r, bytes.p[at]);
		} else {
			e = feed_text(r, slice_skip(bytes, at), &taken);
		}
		at += taken;
		if (taken > REPLY_BYTES_MAX - r->bytes) {
			e = ERR_TOOBIG;
		} else {
			r->bytes += (uint32_t)taken;
		}
	}
	*used = at;
	return e;
}
