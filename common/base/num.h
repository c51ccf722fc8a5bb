/* SPDX-License-Identifier: Apache-2.0 */
/*
 * num: numbers from text, and narrow numbers from wide ones.
 *
 * Digits only: no sign, no blank, no prefix, nothing left over. Leading zeros are
 * allowed, an empty slice is not.
 */
#ifndef COMMON_BASE_NUM_H
#define COMMON_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* ERR_SYNTAX: not a decimal number; ERR_TOOBIG: larger than max. */
MUST_CHECK enum err num_parse_u32(struct slice s, uint32_t max, uint32_t *out);
MUST_CHECK enum err num_parse_u64(struct slice s, uint64_t max, uint64_t *out);
MUST_CHECK enum err num_parse_hex_u64(struct slice s, uint64_t *out);

static inline uint64_t num_round_up(uint64_t n, uint64_t multiple)
{
	return (n + multiple - 1) / multiple * multiple;
}

#endif
