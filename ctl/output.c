/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/utf8.h"
#include "ctl/command.h"
#include "ctl/output.h"

void out_clean(struct slice s, struct buf *to)
{
	while (s.n != 0) {
		uint32_t c = 0;
		size_t n = utf8_take(s, &c);
		if (c != '\t' && utf8_is_control(c)) {
			n = 0;
		}
		struct slice piece = n == 0 ? SLICE("?") : slice_head(s, n);
		if (buf_append(to, piece) != ERR_OK) {
			return;
		}
		s = slice_skip(s, n == 0 ? 1 : n);
	}
}

void out_bytes(struct slice s)
{
	if (s.n != 0) {
		(void)fwrite(s.p, 1, s.n, stdout);
	}
}

void out_text(struct slice s)
{
	struct buf clean;

	buf_init(&clean, s.n);
	out_clean(s, &clean);
	out_bytes(buf_view(&clean));
	buf_clear(&clean);
}

void out_printf(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
}

void out_json_line(const struct json *j)
{
	struct slice s = buf_view(j->to);

	if (json_end(j) == ERR_OK) {
		out_bytes(s);
		(void)putchar('\n');
	}
}

bool out_is_broken(void)
{
	return ferror(stdout) != 0;
}

int out_end(int status)
{
	if (fflush(stdout) != 0 || ferror(stdout) != 0) {
		return status == EX_OK ? complain(EX_IOERR, "the output could not be written")
				       : status;
	}
	return status;
}

void out_format_bytes(uint64_t n, char to[OUT_SHORT_MAX])
{
	static const char units[] = "KMGTPE";
	unsigned u = 0;
	uint64_t tenths;

	if (n < 1024) {
		(void)snprintf(to, OUT_SHORT_MAX, "%" PRIu64, n);
		return;
	}
	while (n >= UINT64_C(1024) * 1024 && u < 5) {
		n /= 1024;
		u++;
	}
	tenths = n * 10 / 1024;
	if (tenths < 100) {
		(void)snprintf(to, OUT_SHORT_MAX, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10,
			tenths % 10, units[u]);
	} else {
		(void)snprintf(to, OUT_SHORT_MAX, "%" PRIu64 "%c", tenths / 10, units[u]);
	}
}

void out_format_age(int64_t seconds, char to[OUT_SHORT_MAX])
{
	const char *sign = seconds < 0 ? "-" : "";
	uint64_t s = seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds;

	if (s < 60) {
		(void)snprintf(to, OUT_SHORT_MAX, "%s%" PRIu64 "s", sign, s);
	} else if (s < 3600) {
		(void)snprintf(to, OUT_SHORT_MAX, "%s%" PRIu64 "m", sign, s / 60);
	} else if (s < 86400) {
		(void)snprintf(to, OUT_SHORT_MAX, "%s%" PRIu64 "h%02" PRIu64 "m", sign,
			s / 3600, s % 3600 / 60);
	} else {
		(void)snprintf(to, OUT_SHORT_MAX, "%s%" PRIu64 "d%02" PRIu64 "h", sign,
			s / 86400, s % 86400 / 3600);
	}
}

/* ---- columns ---- */

void columns_init(struct columns *c, size_t width)
{
	*c = (struct columns){.width = width < COLUMNS_MAX ? width : COLUMNS_MAX};
}

void columns_add(struct columns *c, struct slice cell)
{
	struct buf clean;

	buf_init(&clean, cell.n + 1);
	out_clean(cell, &clean);
	uint8_t *text = alloc_zero(buf_len(&clean) + 1, 1);
	struct slice view = buf_view(&clean);
	for (size_t i = 0; i < view.n; i++) {
		text[i] = view.p[i] == '\t' ? (uint8_t)' ' : view.p[i];
	}
	buf_clear(&clean);
	c->cells = alloc_resize(c->cells, c->count + 1, sizeof(*c->cells));
	c->cells[c->count++] = (char *)text;
}

void columns_printf(struct columns *c, const char *format, ...)
{
	char text[LIMIT_TEXT];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	columns_add(c, slice_from_cstr(text));
}

/* Characters, not bytes. */
static size_t text_width(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		n += ((unsigned char)*text & 0xc0) != 0x80;
	}
	return n;
}

void columns_print(const struct columns *c)
{
	size_t widths[COLUMNS_MAX] = {0};

	for (size_t i = 0; i < c->count; i++) {
		size_t n = text_width(c->cells[i]);
		if (n > widths[i % c->width]) {
			widths[i % c->width] = n;
		}
	}
	for (size_t i = 0; i < c->count; i++) {
		bool is_last = i % c->width == c->width - 1 || i + 1 == c->count;
		(void)fputs(c->cells[i], stdout);
		if (is_last) {
			(void)putchar('\n');
			continue;
		}
		size_t pad = widths[i % c->width] - text_width(c->cells[i]) + 2;
		(void)printf("%*s", (int)pad, "");
	}
}

void columns_clear(struct columns *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->cells[i]);
	}
	ALLOC_FREE(c->cells);
	c->count = 0;
}
