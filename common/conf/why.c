/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "common/base/limits.h"
#include "common/conf/why.h"

void why_add(struct buf *why, const char *format, ...)
{
	char text[LIMIT_TEXT];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	size_t room = why->max - buf_len(why);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
	/* It fits, so nothing is left to tell. */
	if (buf_append(why, slice_make(text, len < room ? len : room)) != ERR_OK) {
		buf_reset(why);
	}
}
