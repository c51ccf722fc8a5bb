/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mail/header.h"

#include <string.h>

#include "common/base/limits.h"

#define ADDRESSES_BYTES_MAX 65536u

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* RFC 5322 section 3.6.8: ftext is printable US-ASCII but the colon. */
static bool is_ftext(uint8_t c)
{
	return c > 32 && c < 127 && c != ':';
}

/* Where the line that begins at `at` ends, behind its CR LF; 0 when it does not end before
 * `end`. */
static size_t line_end(struct slice s, size_t at, size_t end)
{
	while (at < end) {
		const uint8_t *lf = (const uint8_t *)memchr(s.p + at, '\n', end - at);
		if (lf == NULL) {
			return 0;
		}
		size_t i = (size_t)(lf - s.p);
		if (i > at && s.p[i - 1] == '\r') {
			return i + 1;
		}
		at = i + 1;
	}
	return 0;
}

enum line_kind {
	LINE_FIELD, /* begins or continues a field */
	LINE_EMPTY,
	LINE_OTHER,
	LINE_CUT, /* cannot be said without more bytes */
	LINE_LONG
};

/*
 * What the line at `at` is, judged by its beginning alone. A byte is only looked at
 * when all before it are there, and none behind the limit decides: so the answer for content
 * that is cut anywhere is either LINE_CUT or the answer for all of it.
 */
static enum line_kind judge_line(struct slice s, size_t at, bool at_end)
{
	enum line_kind cut = at_end ? LINE_OTHER : LINE_CUT;
	size_t i = at;

	if (i == s.n) {
		return cut;
	}
	if (s.p[i] == '\r') {
		if (i + 1 == s.n) {
			return cut;
		}
		return s.p[i + 1] == '\n' ? LINE_EMPTY : LINE_OTHER;
	}
	if (is_blank(s.p[i])) {
		return at == 0 ? LINE_OTHER : LINE_FIELD;
	}
	while (i < s.n && is_ftext(s.p[i])) {
		i++;
		if (i >= LIMIT_HEADER_BLOCK) {
			return LINE_LONG;
		}
	}
	size_t name_end = i;
	while (name_end > at && i < s.n && is_blank(s.p[i])) {
		i++;
		if (i >= LIMIT_HEADER_BLOCK) {
			return LINE_LONG;
		}
	}
	if (i == s.n) {
		return cut;
	}
	return s.p[i] == ':' && name_end > at ? LINE_FIELD : LINE_OTHER;
}

enum err header_split(struct slice content, bool at_end, size_t *head_bytes, size_t *body_at)
{
	size_t limit = content.n < LIMIT_HEADER_BLOCK ? content.n : LIMIT_HEADER_BLOCK;
	size_t at = 0;
	unsigned lines = 0;

	for (;;) {
		size_t empty_line = 0;

		switch (judge_line(content, at, at_end)) {
		case LINE_EMPTY:
			empty_line = 2;
			break;
		case LINE_OTHER:
			break;
		case LINE_CUT:
			return ERR_AGAIN;
		case LINE_LONG:
			return ERR_TOOBIG;
		case LINE_FIELD: {
			size_t end = line_end(content, at, limit);
			if (end == 0 && content.n > limit) {
				return ERR_TOOBIG;
			}
			if (end == 0 && !at_end) {
				return content.n == LIMIT_HEADER_BLOCK ? ERR_TOOBIG : ERR_AGAIN;
			}
			if (++lines > LIMIT_HEADER_LINES) {
				return ERR_TOOBIG;
			}
			at = end == 0 ? content.n : end;
			continue;
		}
		}
		*head_bytes = at;
		*body_at = at + empty_line;
		return ERR_OK;
	}
}

bool header_next(struct slice *rest, struct header_field *out)
{
	struct slice s = *rest;
	size_t end = 0;

	if (s.n == 0) {
		return false;
	}
	do {
		size_t next = line_end(s, end, s.n);
		end = next == 0 ? s.n : next;
	} while (end < s.n && is_blank(s.p[end]));

	out->raw = slice_head(s, end);
	struct slice text = out->raw;
	if (text.n >= 2 && text.p[text.n - 2] == '\r' && text.p[text.n - 1] == '\n') {
		text.n -= 2;
	}
	size_t colon = slice_find(text, ':');
	out->name = slice_head(text, colon);
	if (out->name.n > 0 && out->name.p[0] == '.') {
		out->name = slice_skip(out->name, 1); /* the dot that stuffing put there */
	}
	while (out->name.n > 0 && is_blank(out->name.p[out->name.n - 1])) {
		out->name.n--;
	}
	out->value = slice_skip(text, colon < text.n ? colon + 1 : colon);
	*rest = slice_skip(s, end);
	return true;
}

bool header_is(const struct header_field *f, const char *name)
{
	return slice_eq_nocase(f->name, slice_from_cstr(name));
}

/* ---- addresses of a From-like value ---- */

static bool is_fold(uint8_t c)
{
	return is_blank(c) || c == '\r' || c == '\n';
}

/* Behind the quoted string that begins at i (a quote); the end when it is not closed. */
static size_t skip_quoted(struct slice s, size_t i)
{
	for (i++; i < s.n; i++) {
		if (s.p[i] == '\\') {
			i++;
		} else if (s.p[i] == '"') {
			return i + 1;
		}
	}
	return s.n;
}

/* Behind the comment that begins at i, others inside it counted, not recursed into. */
static size_t skip_comment(struct slice s, size_t i)
{
	size_t depth = 0;

	for (; i < s.n; i++) {
		if (s.p[i] == '\\') {
			i++;
		} else if (s.p[i] == '(') {
			depth++;
		} else if (s.p[i] == ')' && --depth == 0) {
			return i + 1;
		}
	}
	return s.n;
}

/* Behind the domain literal that begins at i. */
static size_t skip_literal(struct slice s, size_t i)
{
	size_t close = slice_find(slice_skip(s, i), ']');
	return close < s.n - i ? i + close + 1 : s.n;
}

/* What one mailbox of the list has shown so far. */
struct mailbox {
	size_t start; /* first significant byte; with end equal: nothing yet */
	size_t end;
	struct slice angle; /* inside the first <...> */
	bool has_angle;
};

static bool is_domain(struct slice d)
{
	if (d.n >= 2 && d.p[0] == '[') {
		for (size_t i = 1; i + 1 < d.n; i++) {
			if (d.p[i] <= 32 || d.p[i] == 127 || d.p[i] == '[' || d.p[i] == ']') {
				return false;
			}
		}
		return d.p[d.n - 1] == ']';
	}
	for (size_t i = 0; i < d.n; i++) {
		if (d.p[i] <= 32 || d.p[i] == 127 || strchr("()<>@,;:\\\"[]", d.p[i]) != NULL) {
			return false;
		}
	}
	return d.n > 0 && d.p[0] != '.';
}

/*
 * Words and dots, strictly: where readers disagree which address it is ("a@b@c", "a@b> c@d"),
 * it is none, or we would sign for one of them.
 */
static bool is_local(struct slice l)
{
	for (size_t i = 0; i < l.n;) {
		if (l.p[i] == '"') {
			i = skip_quoted(l, i);
			continue;
		}
		if (l.p[i] <= 32 || l.p[i] == 127 || strchr("()<>@,;:\\[]", l.p[i]) != NULL) {
			return false;
		}
		i++;
	}
	return l.n > 0;
}

/* The parts of an addr-spec; false when it is none. */
static bool split_address(struct slice s, struct slice *address, struct slice *domain)
{
	s = slice_trim(s);
	if (s.n > 0 && s.p[0] == '@') { /* a source route, RFC 5322 section 4.4 */
		size_t colon = slice_find(s, ':');
		if (colon == s.n) {
			return false;
		}
		s = slice_trim(slice_skip(s, colon + 1));
	}
	size_t at = s.n;
	for (size_t i = 0; i < s.n;) {
		if (s.p[i] == '"') {
			i = skip_quoted(s, i);
		} else if (s.p[i] == '(') {
			i = skip_comment(s, i);
		} else {
			if (s.p[i] == '@') {
				at = i;
			}
			i++;
		}
	}
	if (at == s.n || !is_local(slice_trim(slice_head(s, at)))) {
		return false;
	}
	/* A comment behind the domain is no part of it; one inside it makes it unreadable. */
	struct slice d = slice_trim(slice_skip(s, at + 1));
	size_t comment = slice_find(d, '(');
	if (comment < d.n && skip_comment(d, comment) == d.n) {
		d = slice_trim(slice_head(d, comment));
	}
	if (!is_domain(d)) {
		return false;
	}
	*domain = d;
	*address = slice_make(s.p, (size_t)(d.p + d.n - s.p));
	return true;
}

enum err header_first_address(struct slice value, struct slice *address, struct slice *domain,
	unsigned *count)
{
	struct mailbox m = {0};
	unsigned found = 0;
	size_t i = 0;

	if (value.n > ADDRESSES_BYTES_MAX) {
		return ERR_TOOBIG;
	}
	/* One step past the end closes the last mailbox. */
	while (i <= value.n) {
		uint8_t c = i < value.n ? value.p[i] : ',';
		size_t from = i;

		if (is_fold(c)) {
			i++;
			continue;
		}
		if (c == '(') {
			i = skip_comment(value, i);
			continue;
		}
		if (c == ',' || c == ';') {
			struct slice a;
			struct slice d;
			struct slice text =
				m.has_angle ? m.angle
					    : slice_make(value.p + m.start, m.end - m.start);
			if (text.n > 0 && split_address(text, &a, &d) && found++ == 0) {
				*address = a;
				*domain = d;
			}
			m = (struct mailbox){0};
			i++;
			continue;
		}
		if (c == ':') { /* what came before was the name of a group */
			m = (struct mailbox){0};
			i++;
			continue;
		}
		if (c == '<') {
			for (i++; i < value.n && value.p[i] != '>';) {
				i = value.p[i] == '"' ? skip_quoted(value, i) : i + 1;
			}
			if (!m.has_angle) {
				m.has_angle = true;
				m.angle = slice_make(value.p + from + 1, i - from - 1);
			}
			i += i < value.n ? 1 : 0;
			continue;
		}
		if (c == '"') {
			i = skip_quoted(value, i);
		} else if (c == '[') {
			i = skip_literal(value, i);
		} else {
			i++;
		}
		if (m.end == m.start) {
			m.start = from;
		}
		m.end = i;
	}
	if (count != NULL) {
		*count = found;
	}
	return found > 0 ? ERR_OK : ERR_SYNTAX;
}
