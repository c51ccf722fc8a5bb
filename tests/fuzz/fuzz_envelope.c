/* SPDX-License-Identifier: Apache-2.0 */
/* What decodes is encoded again and must be the same bytes. */
#include <stdlib.h>

#include "common/mail/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = {data, size};
	struct envelope e;
	struct arena a;
	struct buf again;

	arena_init(&a, (size_t)1 << 20);
	buf_init(&again, (size_t)1 << 20);
	if (envelope_decode(bytes, &a, &e) == ERR_OK &&
		(envelope_encode(&e, &again) != ERR_OK || !slice_eq(buf_view(&again), bytes))) {
		abort();
	}
	arena_clear(&a);
	buf_clear(&again);
	return 0;
}
