/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/writer.h"
#include "common/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FOLD_AT 76u
#define BASE64_LINE_BYTES 57u /* that become 76 characters */
#define FORMAT_MAX 2048u

struct writer writer_begin(struct buf *to)
{
	return (struct writer){.to = to, .err = ERR_OK, .column = 0};
}

static void put(struct writer *w, struct slice bytes)
{
	if (w->err == ERR_OK && bytes.n != 0) {
		w->err = buf_append(w->to, bytes);
	}
}

/* Bytes without a line end. */
static void put_in_line(struct writer *w, struct slice bytes)
{
	if (bytes.n == 0) {
		return;
	}
	if (w->column == 0 && bytes.p[0] == '.') {
		put(w, SLICE("."));
	}
	put(w, bytes);
	w->column += bytes.n;
}

static void end_line(struct writer *w)
{
	put(w, SLICE("\r\n"));
	w->column = 0;
}

void writer_text(struct writer *w, const char *text)
{
	struct slice rest = slice_from_cstr(text);

	while (rest.n != 0) {
		size_t n = slice_find(rest, '\n');
		put_in_line(w, slice_head(rest, n));
		if (n < rest.n) {
			end_line(w);
		}
		rest = slice_skip(rest, n + 1);
	}
}

void writer_format(struct writer *w, const char *format, ...)
{
	char text[FORMAT_MAX];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text)) {
		w->err = w->err == ERR_OK ? ERR_TOOBIG : w->err;
		return;
	}
	writer_text(w, text);
}

/* The length of a character that may be shown: no control, nor a separator of lines and
 * paragraphs, which some take for line ends. 0: there is none. */
static size_t shown_length(struct slice s)
{
	uint32_t c = 0;
	size_t n = utf8_take(s, &c);

	return utf8_is_control(c) || c == 0x2028 || c == 0x2029 ? 0 : n;
}

bool writer_is_utf8(struct slice text)
{
	while (text.n != 0) {
		size_t n = shown_length(text);

		if (n == 0) {
			return false;
		}
		text = slice_skip(text, n);
	}
	return true;
}

/* Takes the next character off *rest, in the form in which it may be shown. */
static struct slice take_clean(struct slice *rest, bool utf8)
{
	uint8_t c = rest->p[0];
	size_t n = c >= 0x80 && utf8 ? shown_length(*rest) : 0;
	struct slice shown = SLICE("?");

	if (n != 0) {
		shown = slice_head(*rest, n);
	} else if (c >= 0x20 && c < 0x7f) {
		shown = slice_head(*rest, 1);
	} else if (c == '\n' || c == '\r' || c == '\t') {
		shown = SLICE(" ");
	}
	*rest = slice_skip(*rest, n == 0 ? 1 : n);
	return shown;
}

void writer_clean(struct writer *w, struct slice text, bool utf8)
{
	while (text.n != 0 && w->err == ERR_OK) {
		put_in_line(w, take_clean(&text, utf8));
	}
}

/* How many bytes until the next blank. */
static size_t word_length(struct slice text)
{
	size_t n = 0;

	while (n < text.n && text.p[n] != ' ' && text.p[n] != '\n' && text.p[n] != '\r' &&
		text.p[n] != '\t') {
		n++;
	}
	return n;
}

void writer_folded(struct writer *w, struct slice text, bool utf8)
{
	while (text.n != 0 && w->err == ERR_OK) {
		struct slice before = text;
		struct slice shown = take_clean(&text, utf8);
		bool is_blank = shown.p[0] == ' ';
		/* A line of nothing but blanks would end a header. */
		if (is_blank && (text.n == 0 || word_length(text) == 0)) {
			continue;
		}
		if (is_blank && w->column + 1 + word_length(slice_skip(before, 1)) > FOLD_AT) {
			end_line(w);
		} else if (w->column + shown.n > WRITER_LINE_MAX - 8) {
			end_line(w);
			put_in_line(w, SLICE(" "));
		}
		put_in_line(w, shown);
	}
}

void writer_base64(struct writer *w, struct slice bytes)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

	while (bytes.n != 0 && w->err == ERR_OK) {
		struct slice part = slice_head(bytes, BASE64_LINE_BYTES);
		char line[BASE64_LINE_BYTES / 3 * 4];
		size_t n = 0;
		for (size_t i = 0; i < part.n; i += 3) {
			size_t have = part.n - i;
			uint32_t v = (uint32_t)part.p[i] << 16 |
				     (have > 1 ? (uint32_t)part.p[i + 1] << 8 : 0) |
				     (have > 2 ? part.p[i + 2] : 0);
			line[n++] = digits[v >> 18];
			line[n++] = digits[v >> 12 & 63];
			line[n++] = digits[have > 1 ? v >> 6 & 63 : 64];
			line[n++] = digits[have > 2 ? v & 63 : 64];
		}
		put_in_line(w, slice_make(line, n));
		end_line(w);
		bytes = slice_skip(bytes, part.n);
	}
}

void writer_line(struct writer *w, struct slice line, bool is_header)
{
	do {
		struct slice part = slice_head(line, WRITER_LINE_MAX - 8);
		line = slice_skip(line, part.n);
		while (part.n != 0) {
			size_t n = 0;
			while (n < part.n && part.p[n] != '\r' && part.p[n] != '\n' &&
				part.p[n] != '\0') {
				n++;
			}
			put_in_line(w, slice_head(part, n));
			if (n < part.n) {
				put_in_line(w, SLICE("?"));
			}
			part = slice_skip(part, n + 1);
		}
		end_line(w);
		if (line.n != 0 && is_header) {
			put_in_line(w, SLICE(" "));
		}
	} while (line.n != 0 && w->err == ERR_OK);
}
