/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies of a server: read whole and byte by byte they must mean the same, and stay within
 * their limits.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/mail/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice left = {data, size};
	struct reply whole;
	struct reply bytes;
	enum err e = ERR_OK;

	reply_init(&whole);
	reply_init(&bytes);
	while (e == ERR_OK && left.n > 0) {
		size_t used = 0;
		size_t at = 0;
		enum err one = ERR_AGAIN;

		e = reply_feed(&whole, left, &used);
		require(used <= left.n);
		while (one == ERR_AGAIN && at < left.n) {
			size_t n = 0;
			one = reply_feed(&bytes, slice_head(slice_skip(left, at), 1), &n);
			require(n == 1);
			at += n;
		}
		require(one == e);
		if (e == ERR_OK) {
			require(used == at && whole.code == bytes.code &&
				whole.lines == bytes.lines);
			require(whole.code >= 100 && whole.code <= 999);
			require(slice_eq(buf_view(&whole.text), buf_view(&bytes.text)));
			require(buf_len(&whole.text) <= LIMIT_REPLY_TEXT);
			require(whole.lines <= REPLY_LINES_MAX &&
				whole.bytes <= REPLY_BYTES_MAX);
			require(whole.status.class == bytes.status.class &&
				whole.bare_lf == bytes.bare_lf);
		}
		left = slice_skip(left, used);
		reply_reset(&whole);
		reply_reset(&bytes);
	}
	reply_clear(&whole);
	reply_clear(&bytes);
	return 0;
}
