/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lines: the logical lines of main.cf, master.cf and tables.
 *
 * A line that begins with a blank continues the one before. Empty lines and lines whose first
 * non-blank byte is '#' are passed over, also inside a continued line, which they do not end.
 */
#ifndef COMMON_CONF_LINES_H
#define COMMON_CONF_LINES_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

struct lines {
	struct slice rest;
	unsigned next;     /* number of the first line of rest */
	struct buf joined; /* a logical line of several */
	unsigned orphan;   /* number of a continuation that has nothing before it; 0: none */
};

void lines_init(struct lines *l, struct slice text);
void lines_clear(struct lines *l);
/* The next logical line without blanks at its end, and where it begins. *line lives until the
 * next call. */
bool lines_next(struct lines *l, struct slice *line, unsigned *number);

/* Takes the next run of bytes that are none of the separators off *rest; braces keep what
 * stands between them together. False: there is none. */
bool lines_word(struct slice *rest, const char *separators, struct slice *word);

#endif
