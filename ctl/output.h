/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output: what people and scripts read, on standard output.
 *
 * Text that came from outside is printed so that a terminal only shows it: controls but tabs
 * and bytes that are no UTF-8 become '?'.
 */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/slice.h"

/* For the values of a JSON line. */
#define OUT_LINE_MAX ((size_t)16 * 1024 * 1024)

/* As they are. */
void out_bytes(struct slice s);
void out_text(struct slice s);
/* The same, into a buffer. */
void out_clean(struct slice s, struct buf *to);
void out_printf(const char *format, ...) PRINTF_LIKE(1, 2);
/* One JSON object and a line end. */
void out_json_line(const struct json *j);
/* Flushes; the exit status: status, or EX_IOERR when something could not be written. */
int out_end(int status);
/* Something could not be written: the reader is gone. */
bool out_is_broken(void);

#define OUT_SHORT_MAX 24u
/* "812", "4.1K", "23M". */
void out_format_bytes(uint64_t n, char to[OUT_SHORT_MAX]);
/* "45s", "12m", "3h05m", "2d04h". */
void out_format_age(int64_t seconds, char to[OUT_SHORT_MAX]);

/* Rows of cells, printed in columns as wide as they need. */
struct columns {
	size_t width; /* cells in a row; at most COLUMNS_MAX */
	char **cells;
	size_t count;
};
#define COLUMNS_MAX 12u
void columns_init(struct columns *c, size_t width);
void columns_add(struct columns *c, struct slice cell);
void columns_printf(struct columns *c, const char *format, ...) PRINTF_LIKE(2, 3);
void columns_print(const struct columns *c);
void columns_clear(struct columns *c);

#endif
