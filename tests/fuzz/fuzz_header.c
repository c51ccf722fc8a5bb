/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a message: the split between header and body is the same for the whole and at a
 * cut anywhere, fields add up to the block, and addresses are views into their values.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/limits.h"
#include "common/mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds) {
		abort();
	}
}

static void check_fields(struct slice block)
{
	struct slice rest = block;
	struct header_field f;
	size_t seen = 0;

	while (header_next(&rest, &f)) {
		struct slice address;
		struct slice domain;
		unsigned count = 0;

		require(f.raw.p == block.p + seen && f.raw.n > 0);
		seen += f.raw.n;
		enum err e = header_first_address(f.value, &address, &domain, &count);
		require((e == ERR_OK) == (count > 0));
		if (e == ERR_OK) {
			require(address.p >= f.value.p &&
				address.p + address.n <= f.value.p + f.value.n);
			require(domain.n > 0 && domain.p + domain.n == address.p + address.n);
		}
	}
	require(seen == block.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice all = {data, size};
	size_t head = 0;
	size_t body = 0;
	bool answered = false;

	enum err e = header_split(all, true, &head, &body);
	if (e == ERR_OK) {
		require(head <= body && body <= size && head <= LIMIT_HEADER_BLOCK);
		check_fields(slice_head(all, head));
	} else {
		require(e == ERR_TOOBIG);
	}
	/* Every cut of a short input; of a long one some, and all of the last. */
	size_t step = size < 512 ? 1 : size / 256;
	for (size_t n = 0; n <= size; n += step) {
		size_t h = 0;
		size_t b = 0;
		enum err cut = header_split(slice_head(all, n), false, &h, &b);
		require(cut != ERR_AGAIN || !answered);
		if (cut != ERR_AGAIN) {
			answered = true;
			require(cut == e && (cut != ERR_OK || (h == head && b == body)));
		}
	}
	check_fields(all);
	return 0;
}
