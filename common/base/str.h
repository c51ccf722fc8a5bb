/* SPDX-License-Identifier: Apache-2.0 */
/* str: formatting into arrays of a true bound. */
#ifndef COMMON_BASE_STR_H
#define COMMON_BASE_STR_H

#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* ERR_TOOBIG when it does not fit; to then holds the empty string. */
MUST_CHECK enum err str_format(char *to, size_t size, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* A terminated copy of s. ERR_TOOBIG, or ERR_SYNTAX when s holds NUL; to is then empty. */
MUST_CHECK enum err str_copy(char *to, size_t size, struct slice s);

/* Terminated copy of as much as fits, every byte outside 0x20..0x7e as '?'. */
void str_printable(char *to, size_t size, struct slice s);

#endif
