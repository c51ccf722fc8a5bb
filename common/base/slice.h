/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice: bytes that somebody else owns, to be read.
 *
 * Not a C string: may hold NUL, has no terminator. {NULL, 0} is the empty slice.
 */
#ifndef COMMON_BASE_SLICE_H
#define COMMON_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const uint8_t *p;
	size_t n;
};

/* A string literal, or an array that holds a terminated literal, as a slice. */
#define SLICE(literal) ((struct slice){(const uint8_t *)(literal), sizeof(literal) - 1})
#define SLICE_INIT(literal)                                                                    \
	{                                                                                      \
		(const uint8_t *)(literal), sizeof(literal) - 1                                \
	}
#define SLICE_EMPTY ((struct slice){NULL, 0})
/* For printf's "%.*s"; only for bytes known to be printable. */
#define SLICE_ARG(s) (int)(s).n, (const char *)(s).p

static inline struct slice slice_make(const void *p, size_t n)
{
	return (struct slice){(const uint8_t *)p, n};
}

/* text is terminated, or null (then the slice is empty). */
struct slice slice_from_cstr(const char *text);

bool slice_eq(struct slice a, struct slice b);
/* ASCII letters compare equal in both cases; other bytes exactly. */
bool slice_eq_nocase(struct slice a, struct slice b);
/* Byte order, shorter first when one is a prefix; for sorting. */
int slice_cmp(struct slice a, struct slice b);
bool slice_starts(struct slice s, struct slice prefix);
bool slice_starts_nocase(struct slice s, struct slice prefix);
bool slice_ends_nocase(struct slice s, struct slice suffix);

/* Index of the first c, or s.n when there is none. */
size_t slice_find(struct slice s, uint8_t c);
/* Index of the last c, or s.n when there is none. */
size_t slice_find_last(struct slice s, uint8_t c);

/* The first n bytes / all but the first n; n beyond the end means all / nothing. */
struct slice slice_head(struct slice s, size_t n);
struct slice slice_skip(struct slice s, size_t n);

/* Without spaces and tabs (also CR and LF) at both ends. */
struct slice slice_trim(struct slice s);

/*
 * Takes the bytes before the first separator off *rest into *part and drops the
 * separator; false when *rest is empty. The last part has no separator.
 */
bool slice_cut(struct slice *rest, uint8_t separator, struct slice *part);

/* Takes the next run of bytes that are in none of the set (a C string of separators). */
bool slice_word(struct slice *rest, const char *separators, struct slice *word);

static inline uint8_t ascii_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

#endif
