/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/slice.h"

struct slice slice_from_cstr(const char *text)
{
	return text == NULL ? SLICE_EMPTY : slice_make(text, strlen(text));
}

bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool slice_eq_nocase(struct slice a, struct slice b)
{
	return a.n == b.n && slice_starts_nocase(a, b);
}

int slice_cmp(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n == 0 ? 0 : memcmp(a.p, b.p, n);

	if (order != 0) {
		return order;
	}
	return (a.n > b.n) - (a.n < b.n);
}

bool slice_starts(struct slice s, struct slice prefix)
{
	return slice_eq(slice_head(s, prefix.n), prefix);
}

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
	if (prefix.n > s.n) {
		return false;
	}
	for (size_t i = 0; i < prefix.n; i++) {
		if (ascii_lower(s.p[i]) != ascii_lower(prefix.p[i])) {
			return false;
		}
	}
	return true;
}

bool slice_ends_nocase(struct slice s, struct slice suffix)
{
	return suffix.n <= s.n && slice_starts_nocase(slice_skip(s, s.n - suffix.n), suffix);
}

size_t slice_find(struct slice s, uint8_t c)
{
	const uint8_t *at = s.n == 0 ? NULL : memchr(s.p, c, s.n);

	return at == NULL ? s.n : (size_t)(at - s.p);
}

size_t slice_find_last(struct slice s, uint8_t c)
{
	const uint8_t *at = s.n == 0 ? NULL : memrchr(s.p, c, s.n);

	return at == NULL ? s.n : (size_t)(at - s.p);
}

struct slice slice_head(struct slice s, size_t n)
{
	return (struct slice){s.p, n < s.n ? n : s.n};
}

struct slice slice_skip(struct slice s, size_t n)
{
	if (n >= s.n) {
		return (struct slice){s.p == NULL ? NULL : s.p + s.n, 0};
	}
	return (struct slice){s.p + n, s.n - n};
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
	while (s.n != 0 && is_blank(s.p[0])) {
		s = slice_skip(s, 1);
	}
	while (s.n != 0 && is_blank(s.p[s.n - 1])) {
		s.n--;
	}
	return s;
}

bool slice_cut(struct slice *rest, uint8_t separator, struct slice *part)
{
	if (rest->n == 0) {
		return false;
	}
	size_t n = slice_find(*rest, separator);
	*part = slice_head(*rest, n);
	*rest = slice_skip(*rest, n == rest->n ? n : n + 1);
	return true;
}

bool slice_word(struct slice *rest, const char *separators, struct slice *word)
{
	struct slice set = slice_from_cstr(separators);
	struct slice s = *rest;
	size_t n = 0;

	while (s.n != 0 && slice_find(set, s.p[0]) != set.n) {
		s = slice_skip(s, 1);
	}
	while (n < s.n && slice_find(set, s.p[n]) == set.n) {
		n++;
	}
	*rest = slice_skip(s, n);
	if (n == 0) {
		return false;
	}
	*word = slice_head(s, n);
	return true;
}
