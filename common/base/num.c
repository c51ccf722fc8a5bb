/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/num.h"

enum err num_parse_u64(struct slice s, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;
	bool is_over = false;

	if (s.n == 0) {
		return ERR_SYNTAX;
	}
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9') {
			return ERR_SYNTAX;
		}
		uint64_t digit = (uint64_t)(s.p[i] - '0');
		if (is_over || n > (UINT64_MAX - digit) / 10) {
			is_over = true;
			continue;
		}
		n = n * 10 + digit;
	}
	if (is_over || n > max) {
		return ERR_TOOBIG;
	}
	*out = n;
	return ERR_OK;
}

enum err num_parse_u32(struct slice s, uint32_t max, uint32_t *out)
{
	uint64_t n = 0;
	enum err e = num_parse_u64(s, max, &n);

	if (e == ERR_OK) {
		*out = (uint32_t)n;
	}
	return e;
}

enum err num_parse_hex_u64(struct slice s, uint64_t *out)
{
	uint64_t n = 0;
	bool is_over = false;

	if (s.n == 0) {
		return ERR_SYNTAX;
	}
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = ascii_lower(s.p[i]);
		uint64_t digit = 0;
		if (c >= '0' && c <= '9') {
			digit = (uint64_t)(c - '0');
		} else if (c >= 'a' && c <= 'f') {
			digit = (uint64_t)(c - 'a') + 10;
		} else {
			return ERR_SYNTAX;
		}
		is_over = is_over || n >> 60 != 0;
		n = n << 4 | digit;
	}
	if (is_over) {
		return ERR_TOOBIG;
	}
	*out = n;
	return ERR_OK;
}
