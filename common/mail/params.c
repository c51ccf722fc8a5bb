/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/base/utf8.h"
#include "common/mail/params.h"

/* The bits of ipc/messages.h, which this folder does not know. */
enum {
	NEVER = 1,
	SUCCESS = 2,
	FAILURE = 4,
	DELAY = 8
};

static bool is_alnum(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

enum err param_next(struct slice *rest, struct param *out)
{
	struct slice s = *rest;
	size_t i = 0;

	while (i < s.n && s.p[i] == ' ') {
		i++;
	}
	if (i == s.n) {
		return ERR_NOTFOUND;
	}
	if (i == 0) {
		return ERR_SYNTAX;
	}
	s = slice_skip(s, i);
	i = 0;
	while (i < s.n && (is_alnum(s.p[i]) || (s.p[i] == '-' && i != 0))) {
		i++;
	}
	struct param found = {.keyword = slice_head(s, i), .value = SLICE_EMPTY};
	if (i == 0) {
		return ERR_SYNTAX;
	}
	if (i < s.n && s.p[i] == '=') {
		size_t start = ++i;
		/* esmtp-value, with the bytes of UTF-8 that RFC 6531 section 3.3 adds. */
		while (i < s.n && s.p[i] > 0x20 && s.p[i] != '=' && s.p[i] != 0x7f) {
			i++;
		}
		if (i == start) {
			return ERR_SYNTAX;
		}
		found.value = slice_head(slice_skip(s, start), i - start);
	}
	if (i < s.n && s.p[i] != ' ') {
		return ERR_SYNTAX;
	}
	*out = found;
	*rest = slice_skip(s, i);
	return ERR_OK;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c = ascii_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Both digits in either case: the standard has capitals only, but small ones mean nothing
 * else. What is encoded must be printable ASCII (RFC 3461 sections 4.2 and 4.4): it goes into
 * header fields of notices.
 */
enum err xtext_decode(struct slice s, struct arena *a, struct slice *out)
{
	uint8_t *to = arena_alloc(a, s.n);
	size_t n = 0;

	if (to == NULL) {
		return ERR_TOOBIG;
	}
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '=') {
			return ERR_SYNTAX;
		}
		if (c == '+') {
			if (s.n - i < 3 || hex_digit(s.p[i + 1]) < 0 ||
				hex_digit(s.p[i + 2]) < 0) {
				return ERR_SYNTAX;
			}
			c = (uint8_t)(hex_digit(s.p[i + 1]) * 16 + hex_digit(s.p[i + 2]));
			if (c < 0x20 || c >= 0x7f) {
				return ERR_SYNTAX;
			}
			i += 2;
		}
		to[n++] = c;
	}
	*out = slice_make(to, n);
	return ERR_OK;
}

enum err xtext_encode(struct slice s, char *to, size_t size, size_t *n)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t at = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		bool is_plain = c > 0x20 && c < 0x7f && c != '+' && c != '=';
		if (size - at < (is_plain ? 1u : 3u)) {
			return ERR_TOOBIG;
		}
		if (is_plain) {
			to[at++] = (char)c;
			continue;
		}
		to[at++] = '+';
		to[at++] = hex[c >> 4];
		to[at++] = hex[c & 15];
	}
	*n = at;
	return ERR_OK;
}

enum err notify_parse(struct slice s, uint8_t *out)
{
	static const struct {
		struct slice word;
		uint8_t bit;
	} words[] = {
		{SLICE_INIT("NEVER"), NEVER},
		{SLICE_INIT("SUCCESS"), SUCCESS},
		{SLICE_INIT("FAILURE"), FAILURE},
		{SLICE_INIT("DELAY"), DELAY},
	};
	uint8_t bits = 0;
	bool more = true;

	while (more) {
		size_t comma = slice_find(s, ',');
		struct slice word = slice_head(s, comma);
		uint8_t bit = 0;
		for (size_t i = 0; i < ARRAY_LEN(words); i++) {
			if (slice_eq_nocase(word, words[i].word)) {
				bit = words[i].bit;
			}
		}
		if (bit == 0 || (bits & bit) != 0) {
			return ERR_SYNTAX;
		}
		bits |= bit;
		more = comma < s.n;
		s = slice_skip(s, comma + 1);
	}
	if ((bits & NEVER) != 0 && bits != NEVER) {
		return ERR_SYNTAX;
	}
	*out = bits;
	return ERR_OK;
}

/* ---- the original recipient ---- */

/* "\x{3042}" at the front of s (RFC 6533 section 3); *n is how long it is. */
static enum err take_embedded(struct slice s, size_t *n, uint32_t *code)
{
	uint64_t value = 0;

	if (!slice_starts(s, SLICE("\\x{"))) {
		return ERR_SYNTAX;
	}
	size_t end = slice_find(slice_head(s, 10), '}');
	if (end < 5 || end >= s.n || s.p[end] != '}' ||
		num_parse_hex_u64(slice_make(s.p + 3, end - 3), &value) != ERR_OK) {
		return ERR_SYNTAX;
	}
	if (value < 0x20 || (value >= 0x7f && value < 0xa0) || value > 0x10ffff ||
		(value >= 0xd800 && value <= 0xdfff)) {
		return ERR_SYNTAX;
	}
	*code = (uint32_t)value;
	*n = end + 1;
	return ERR_OK;
}

/* Any of the three forms of RFC 6533 section 3: they differ in what is escaped. */
static enum err utf8_address_decode(struct slice s, struct arena *a, struct slice *out)
{
	uint8_t *to = arena_alloc(a, s.n);
	size_t n = 0;

	if (to == NULL) {
		return ERR_TOOBIG;
	}
	while (s.n != 0) {
		size_t k = 1;
		uint32_t code = 0;
		if (s.p[0] == '\\') {
			if (take_embedded(s, &k, &code) != ERR_OK) {
				return ERR_SYNTAX;
			}
			n += utf8_put(code, to + n);
		} else {
			k = utf8_take(s, &code);
			if (k == 0 || code == ' ' || utf8_is_control(code)) {
				return ERR_SYNTAX;
			}
			memcpy(to + n, s.p, k);
			n += k;
		}
		s = slice_skip(s, k);
	}
	*out = slice_make(to, n);
	return ERR_OK;
}

enum err orcpt_parse(struct slice s, struct arena *a, struct slice *out)
{
	size_t semicolon = slice_find(s, ';');
	struct slice type = slice_head(s, semicolon);
	struct slice address = slice_skip(s, semicolon + 1);
	struct slice decoded = SLICE_EMPTY;
	enum err e;

	if (s.n > LIMIT_ORCPT) {
		return ERR_TOOBIG;
	}
	if (type.n == 0 || address.n == 0) {
		return ERR_SYNTAX;
	}
	for (size_t i = 0; i < type.n; i++) {
		if (!is_alnum(type.p[i]) && type.p[i] != '-' && type.p[i] != '_') {
			return ERR_SYNTAX;
		}
	}
	if (slice_eq_nocase(type, SLICE("utf-8"))) {
		e = utf8_address_decode(address, a, &decoded);
	} else {
		e = xtext_decode(address, a, &decoded);
	}
	if (e != ERR_OK) {
		return e;
	}
	size_t n = type.n + 1 + decoded.n;
	uint8_t *to = arena_alloc(a, n);
	if (to == NULL) {
		return ERR_TOOBIG;
	}
	memcpy(to, s.p, type.n + 1);
	memcpy(to + type.n + 1, decoded.p, decoded.n);
	*out = slice_make(to, n);
	return ERR_OK;
}
