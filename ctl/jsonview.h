/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jsonview: JSON that our own programs wrote, taken apart for people.
 *
 * Bounded in depth. Looks only as closely as taking apart needs (a number is a run of the bytes
 * that numbers are made of): never used on what a stranger sent.
 */
#ifndef CTL_JSONVIEW_H
#define CTL_JSONVIEW_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

enum jsonview_kind {
	JSONVIEW_STRING,
	JSONVIEW_NUMBER,
	JSONVIEW_WORD, /* true, false, null */
	JSONVIEW_OBJECT,
	JSONVIEW_ARRAY
};

/* Views into the text; a string without its quotes, still escaped. */
struct jsonview_value {
	enum jsonview_kind kind;
	struct slice text;
};

/* Takes the next "name": value off the inside of an object. *rest begins as the text of the
 * whole object. False at the end, or at what is no JSON. */
struct jsonview {
	struct slice rest;
	bool is_array;
	bool has_begun;
	bool is_bad;
};
struct jsonview jsonview_open(struct slice text);
bool jsonview_next(struct jsonview *v, struct slice *name, struct jsonview_value *value);
/* The member of that name of an object; false: there is none. */
bool jsonview_find(struct slice object, const char *name, struct jsonview_value *value);
/* The value as plain text, strings unescaped, appended. */
void jsonview_plain(const struct jsonview_value *value, struct buf *to);
/* All of text is one value. */
bool jsonview_is_valid(struct slice text);

#endif
