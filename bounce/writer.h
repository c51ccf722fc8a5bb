/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer: lines of a notice, in wire form, from pieces of text.
 *
 * Text goes in with '\n' between lines and comes out as CR LF lines, dot-stuffed. The functions
 * that take a stranger's text let no line end of it through. Keeps the first error.
 */
#ifndef BOUNCE_WRITER_H
#define BOUNCE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* RFC 5322 section 2.1.1, without the line's end. */
#define WRITER_LINE_MAX 998u

struct writer {
	struct buf *to;
	enum err err;
	size_t column; /* bytes in the line so far, without a dot that was put in front */
};

struct writer writer_begin(struct buf *to);

/* Ours, '\n' ends a line. */
void writer_text(struct writer *w, const char *text);
void writer_format(struct writer *w, const char *format, ...) PRINTF_LIKE(2, 3);
/* A stranger's, within a line: controls become '?', also what is beyond ASCII unless utf8 is
 * true and it is well-formed UTF-8 without controls. Line ends become blanks. */
void writer_clean(struct writer *w, struct slice text, bool utf8);
/* The same, folded: a new line that begins with a blank, at blanks where there are some. */
void writer_folded(struct writer *w, struct slice text, bool utf8);
/* Whole lines of base64 (RFC 2045 section 6.8). */
void writer_base64(struct writer *w, struct slice bytes);
/* A line of a message sent back, without its end: NUL, lone CR and lone LF become '?'; what is
 * too long is broken, with a blank in front of what follows when it is a header. */
void writer_line(struct writer *w, struct slice line, bool is_header);

/* Text that writer_clean() would leave as it is with utf8. */
bool writer_is_utf8(struct slice text);

#endif
