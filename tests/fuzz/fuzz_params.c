/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdint.h>

#include "common/mail/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that can stand behind a path; what xtext decodes to encodes to the same value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = {data, size};
	struct param p;
	struct arena arena;

	arena_init(&arena, 1u << 20);
	while (param_next(&rest, &p) == ERR_OK) {
		struct slice out, again;
		uint8_t bits;
		assert(p.keyword.n != 0);
		if (xtext_decode(p.value, &arena, &out) == ERR_OK) {
			char to[4096];
			size_t n = 0;
			if (xtext_encode(out, to, sizeof(to), &n) == ERR_OK) {
				assert(xtext_decode(slice_make(to, n), &arena, &again) ==
					ERR_OK);
				assert(slice_eq(out, again));
			}
		}
		if (orcpt_parse(p.value, &arena, &out) == ERR_OK) {
			assert(out.n <= p.value.n);
			for (size_t i = 0; i < out.n; i++) {
				assert(out.p[i] >= 0x20 && out.p[i] != 0x7f);
			}
		}
		if (notify_parse(p.value, &bits) == ERR_OK) {
			assert(bits != 0 && (bits == 1 || (bits & 1) == 0));
		}
	}
	arena_clear(&arena);
	return 0;
}
