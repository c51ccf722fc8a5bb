/* SPDX-License-Identifier: Apache-2.0 */
/* utf8: the one reader and writer of UTF-8 (RFC 3629): shortest forms only, no surrogates. */
#ifndef COMMON_BASE_UTF8_H
#define COMMON_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

/* The character at the front of s, ASCII too: its length in bytes, and its code. 0: there is
 * none, or s is empty. */
size_t utf8_take(struct slice s, uint32_t *code);

/* Writes the character (not above 0x10ffff) and returns its length. */
size_t utf8_put(uint32_t code, uint8_t to[4]);

/* C0, DEL and C1: what a terminal may obey. */
static inline bool utf8_is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code <= 0x9f);
}

#endif
