/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: master */
/* fuzz_jsontext: what a program may claim to be its status. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "master/jsontext.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	if (jsontext_is_object(slice_make(bytes, n))) {
		assert(n >= 2 && bytes[0] == '{' && bytes[n - 1] == '}');
		for (size_t i = 0; i < n; i++) {
			assert(bytes[i] >= 0x20 && bytes[i] != 0x7f);
		}
		/* No proper beginning of an object is one. */
		assert(!jsontext_is_object(slice_make(bytes, n - 1)));
	}
	return 0;
}
