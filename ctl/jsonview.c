/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/jsonview.h"
#include "common/base/num.h"
#include "common/base/utf8.h"

#define DEPTH_MAX 32u

static struct slice skip_blanks(struct slice s)
{
	while (s.n != 0 &&
		(s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\n' || s.p[0] == '\r')) {
		s = slice_skip(s, 1);
	}
	return s;
}

static bool is_hex(uint8_t c)
{
	c = ascii_lower(c);
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* s begins with a quote: takes the string. */
static bool take_string(struct slice *s, struct slice *inner)
{
	for (size_t i = 1; i < s->n; i++) {
		uint8_t c = s->p[i];
		if (c == '"') {
			*inner = slice_make(s->p + 1, i - 1);
			*s = slice_skip(*s, i + 1);
			return true;
		}
		if (c < 0x20) {
			return false;
		}
		if (c != '\\') {
			continue;
		}
		i++;
		if (i == s->n || slice_find(SLICE("\"\\/bfnrtu"), s->p[i]) == 9) {
			return false;
		}
		for (size_t k = 1; s->p[i] == 'u' && k <= 4; k++) {
			if (i + k >= s->n || !is_hex(s->p[i + k])) {
				return false;
			}
		}
	}
	return false;
}

/* A number or a word: a run of the bytes that these are made of. */
static bool take_plain(struct slice *s, struct jsonview_value *value)
{
	static const struct slice words[] = {SLICE_INIT("true"), SLICE_INIT("false"),
		SLICE_INIT("null")};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (slice_starts(*s, words[i])) {
			*value = (struct jsonview_value){JSONVIEW_WORD,
				slice_head(*s, words[i].n)};
			*s = slice_skip(*s, words[i].n);
			return true;
		}
	}
	while (n < s->n && slice_find(SLICE("+-.0123456789eE"), s->p[n]) < 15) {
		n++;
	}
	*value = (struct jsonview_value){JSONVIEW_NUMBER, slice_head(*s, n)};
	*s = slice_skip(*s, n);
	return n != 0 && value->text.p[0] != '+' && value->text.p[0] != '.';
}

/* s begins with an opening bracket: takes all up to the one that closes it. */
static bool take_nested(struct slice *s, struct slice *all)
{
	uint8_t close[DEPTH_MAX];
	size_t depth = 0;
	struct slice rest = *s;
	struct slice inner;

	while (rest.n != 0) {
		uint8_t c = rest.p[0];
		if (c == '"') {
			if (!take_string(&rest, &inner)) {
				return false;
			}
			continue;
		}
		if (c == '{' || c == '[') {
			if (depth == DEPTH_MAX) {
				return false;
			}
			close[depth++] = c == '{' ? '}' : ']';
		} else if (c == '}' || c == ']') {
			if (depth == 0 || close[--depth] != c) {
				return false;
			}
		}
		rest = slice_skip(rest, 1);
		if (depth == 0) {
			*all = slice_head(*s, s->n - rest.n);
			*s = rest;
			return true;
		}
	}
	return false;
}

static bool take_value(struct slice *s, struct jsonview_value *value)
{
	if (s->n == 0) {
		return false;
	}
	switch (s->p[0]) {
	case '"':
		value->kind = JSONVIEW_STRING;
		return take_string(s, &value->text);
	case '{':
	case '[':
		value->kind = s->p[0] == '{' ? JSONVIEW_OBJECT : JSONVIEW_ARRAY;
		return take_nested(s, &value->text);
	default:
		return take_plain(s, value);
	}
}

struct jsonview jsonview_open(struct slice text)
{
	struct jsonview v = {.rest = skip_blanks(text)};

	v.is_array = v.rest.n != 0 && v.rest.p[0] == '[';
	v.is_bad = v.rest.n == 0 || (v.rest.p[0] != '{' && v.rest.p[0] != '[');
	v.rest = slice_skip(v.rest, 1);
	return v;
}

bool jsonview_next(struct jsonview *v, struct slice *name, struct jsonview_value *value)
{
	struct slice rest = skip_blanks(v->rest);

	if (v->is_bad) {
		return false;
	}
	if (rest.n != 0 && rest.p[0] == (v->is_array ? ']' : '}')) {
		v->rest = rest;
		return false;
	}
	if (v->has_begun) {
		if (rest.n == 0 || rest.p[0] != ',') {
			v->is_bad = true;
			return false;
		}
		rest = skip_blanks(slice_skip(rest, 1));
	}
	*name = SLICE_EMPTY;
	if (!v->is_array) {
		if (rest.n == 0 || rest.p[0] != '"' || !take_string(&rest, name)) {
			v->is_bad = true;
			return false;
		}
		rest = skip_blanks(rest);
		if (rest.n == 0 || rest.p[0] != ':') {
			v->is_bad = true;
			return false;
		}
		rest = skip_blanks(slice_skip(rest, 1));
	}
	if (!take_value(&rest, value)) {
		v->is_bad = true;
		return false;
	}
	v->has_begun = true;
	v->rest = rest;
	return true;
}

bool jsonview_find(struct slice object, const char *name, struct jsonview_value *value)
{
	struct jsonview v = jsonview_open(object);
	struct slice found;

	while (jsonview_next(&v, &found, value)) {
		if (!v.is_array && slice_eq(found, slice_from_cstr(name))) {
			return true;
		}
	}
	return false;
}

/* The number of a \uXXXX, which take_string() has checked. */
static uint32_t hex4(const uint8_t *p)
{
	uint64_t n = 0;

	if (num_parse_hex_u64(slice_make(p, 4), &n) != ERR_OK) {
		return '?';
	}
	return (uint32_t)n;
}

/* s begins with a backslash: takes the escape. */
static size_t take_escape(struct slice *s, uint8_t to[4])
{
	static const char letters[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	uint8_t c = s->n > 1 ? s->p[1] : '?';

	if (c == 'u' && s->n >= 6) {
		uint32_t n = hex4(s->p + 2);
		*s = slice_skip(*s, 6);
		if (n >= 0xd800 && n < 0xdc00 && s->n >= 6 && s->p[0] == '\\' &&
			s->p[1] == 'u') {
			uint32_t low = hex4(s->p + 2);
			if (low >= 0xdc00 && low < 0xe000) {
				*s = slice_skip(*s, 6);
				return utf8_put(0x10000 + ((n - 0xd800) << 10) + (low - 0xdc00),
					to);
			}
		}
		return utf8_put(n >= 0xd800 && n < 0xe000 ? 0xfffd : n, to);
	}
	*s = slice_skip(*s, 2);
	for (size_t i = 0; letters[i] != '\0'; i++) {
		if (c == (uint8_t)letters[i]) {
			c = (uint8_t)meanings[i];
			break;
		}
	}
	to[0] = c;
	return 1;
}

void jsonview_plain(const struct jsonview_value *value, struct buf *to)
{
	struct slice rest = value->text;

	while (rest.n != 0) {
		uint8_t bytes[4];
		size_t n = value->kind == JSONVIEW_STRING ? slice_find(rest, '\\') : rest.n;
		enum err e = buf_append(to, slice_head(rest, n));
		rest = slice_skip(rest, n);
		if (e == ERR_OK && rest.n != 0) {
			n = take_escape(&rest, bytes);
			e = buf_append(to, slice_make(bytes, n));
		}
		if (e != ERR_OK) {
			return;
		}
	}
}

bool jsonview_is_valid(struct slice text)
{
	struct slice rest = skip_blanks(text);
	struct jsonview_value value;

	return take_value(&rest, &value) && skip_blanks(rest).n == 0;
}
