/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdint.h>

#include "common/mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says what is allowed. What is taken must parse to itself, with nothing in it
 * that could end a line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) {
		return 0;
	}
	unsigned allowed = data[0] & 15u;
	struct slice text = {data + 1, size - 1};
	struct address a, again;
	struct slice rest;

	if (address_parse_path(text, allowed, &a, &rest) == ADDRESS_FINE) {
		assert(address_parse(a.text, allowed, &again) == ADDRESS_FINE);
		assert(slice_eq(a.text, again.text) && slice_eq(a.local, again.local));
		assert(rest.p >= text.p && rest.p + rest.n == text.p + text.n);
		for (size_t i = 0; i < a.text.n; i++) {
			assert(a.text.p[i] >= 0x20 && a.text.p[i] != 0x7f);
			assert(a.text.p[i] < 0x80 || (allowed & ADDRESS_UTF8) != 0);
		}
	}
	if (address_parse(text, allowed, &a) == ADDRESS_FINE) {
		assert(a.text.n == text.n);
	}
	(void)helo_is_valid(text);
	(void)domain_is_literal(text);
	(void)domain_is_valid(text, allowed);
	return 0;
}
