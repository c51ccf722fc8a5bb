/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>

#include "master/jsontext.h"

/* What may come next. */
enum want {
	WANT_VALUE,
	WANT_VALUE_OR_END, /* behind "[" */
	WANT_KEY,          /* behind "," in an object */
	WANT_KEY_OR_END,   /* behind "{" */
	WANT_COMMA_OR_END
};

struct scan {
	struct slice left;
	uint32_t is_object; /* one bit a level, the lowest is the innermost */
	unsigned depth;
	enum want want;
};

static bool next_is(const struct scan *s, uint8_t c)
{
	return s->left.n != 0 && s->left.p[0] == c;
}

static void skip(struct scan *s, size_t n)
{
	s->left = slice_skip(s->left, n);
}

static bool take_byte(struct scan *s, uint8_t c)
{
	if (!next_is(s, c)) {
		return false;
	}
	skip(s, 1);
	return true;
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static size_t take_digits(struct scan *s)
{
	size_t n = 0;

	while (n < s->left.n && is_digit(s->left.p[n])) {
		n++;
	}
	skip(s, n);
	return n;
}

static bool take_number(struct scan *s)
{
	(void)take_byte(s, '-');
	bool zero = next_is(s, '0');
	size_t n = take_digits(s);
	if (n == 0 || (zero && n > 1)) {
		return false;
	}
	if (take_byte(s, '.') && take_digits(s) == 0) {
		return false;
	}
	if (take_byte(s, 'e') || take_byte(s, 'E')) {
		if (!take_byte(s, '+')) {
			(void)take_byte(s, '-');
		}
		return take_digits(s) != 0;
	}
	return true;
}

static bool is_hex(uint8_t c)
{
	return is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'f');
}

static bool take_escape(struct scan *s)
{
	if (s->left.n == 0) {
		return false;
	}
	uint8_t c = s->left.p[0];
	skip(s, 1);
	if (c != 'u') {
		return slice_find(SLICE("\"\\/bfnrt"), c) != 8;
	}
	for (size_t i = 0; i < 4; i++) {
		if (i >= s->left.n || !is_hex(s->left.p[i])) {
			return false;
		}
	}
	skip(s, 4);
	return true;
}

static bool take_string(struct scan *s)
{
	if (!take_byte(s, '"')) {
		return false;
	}
	while (s->left.n != 0) {
		uint8_t c = s->left.p[0];
		skip(s, 1);
		if (c == '"') {
			return true;
		}
		if (c < 0x20 || c == 0x7f || (c == '\\' && !take_escape(s))) {
			return false;
		}
	}
	return false;
}

static bool take_word(struct scan *s)
{
	static const struct slice words[] = {SLICE_INIT("true"), SLICE_INIT("false"),
		SLICE_INIT("null")};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (slice_starts(s->left, words[i])) {
			skip(s, words[i].n);
			return true;
		}
	}
	return false;
}

static bool open_level(struct scan *s, bool is_object)
{
	if (s->depth == JSONTEXT_DEPTH_MAX) {
		return false;
	}
	s->depth++;
	s->is_object = s->is_object << 1 | (is_object ? 1u : 0u);
	s->want = is_object ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
	return true;
}

static bool close_level(struct scan *s, uint8_t c)
{
	if (c != ((s->is_object & 1u) != 0 ? '}' : ']')) {
		return false;
	}
	s->depth--;
	s->is_object >>= 1;
	s->want = WANT_COMMA_OR_END;
	return true;
}

static bool take_value(struct scan *s)
{
	if (take_byte(s, '{')) {
		return open_level(s, true);
	}
	if (take_byte(s, '[')) {
		return open_level(s, false);
	}
	s->want = WANT_COMMA_OR_END;
	return next_is(s, '"') ? take_string(s) : take_word(s) || take_number(s);
}

static bool take_key(struct scan *s)
{
	if (!take_string(s)) {
		return false;
	}
	while (take_byte(s, ' ')) {
	}
	s->want = WANT_VALUE;
	return take_byte(s, ':');
}

/* A value, a key with its colon, a comma or the end of a level. */
static bool take_one(struct scan *s)
{
	uint8_t c = s->left.p[0];
	bool ends = c == '}' || c == ']';

	switch (s->want) {
	case WANT_VALUE:
		return take_value(s);
	case WANT_KEY:
		return take_key(s);
	case WANT_VALUE_OR_END:
		if (!ends) {
			return take_value(s);
		}
		break;
	case WANT_KEY_OR_END:
		if (!ends) {
			return take_key(s);
		}
		break;
	case WANT_COMMA_OR_END:
		if (!ends) {
			s->want = (s->is_object & 1u) != 0 ? WANT_KEY : WANT_VALUE;
			return take_byte(s, ',');
		}
		break;
	}
	skip(s, 1);
	return close_level(s, c);
}

bool jsontext_is_object(struct slice text)
{
	struct scan s = {.left = text};

	if (!take_byte(&s, '{') || !open_level(&s, true)) {
		return false;
	}
	while (s.depth != 0) {
		while (take_byte(&s, ' ')) {
		}
		if (s.left.n == 0 || !take_one(&s)) {
			return false;
		}
	}
	return s.left.n == 0;
}
