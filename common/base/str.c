/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base/str.h"

enum err str_format(char *to, size_t size, const char *format, ...)
{
	va_list args;

	assert(size != 0);
	va_start(args, format);
	int n = vsnprintf(to, size, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= size) {
		to[0] = 0;
		return ERR_TOOBIG;
	}
	return ERR_OK;
}

enum err str_copy(char *to, size_t size, struct slice s)
{
	assert(size != 0);
	to[0] = 0;
	if (s.n >= size) {
		return ERR_TOOBIG;
	}
	if (slice_find(s, 0) != s.n) {
		return ERR_SYNTAX;
	}
	if (s.n != 0) {
		memcpy(to, s.p, s.n);
	}
	to[s.n] = 0;
	return ERR_OK;
}

void str_printable(char *to, size_t size, struct slice s)
{
	assert(size != 0);
	s = slice_head(s, size - 1);
	for (size_t i = 0; i < s.n; i++) {
		bool is_printable = s.p[i] >= 0x20 && s.p[i] <= 0x7e;
		to[i] = (char)(is_printable ? s.p[i] : '?');
	}
	to[s.n] = 0;
}
