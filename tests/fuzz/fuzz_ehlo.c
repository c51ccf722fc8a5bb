/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: smtp-out */
#include <assert.h>
#include <stdint.h>

#include "common/base/limits.h"
#include "common/mail/reply.h"
#include "smtp-out/ehlo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A reply to EHLO, read line by line or as text: what is offered twice is offered once, and a
 * line more never takes anything away. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reply r;
	size_t used = 0;
	struct ehlo e = ehlo_parse(slice_make(data, size));

	assert((e.offers & OFFER_SIZE) != 0 || e.size == 0);
	assert(e.size <= INT64_MAX);
	if (size + 5 < LIMIT_REPLY_TEXT) {
		uint8_t more[LIMIT_REPLY_TEXT];
		memcpy(more, data, size);
		memcpy(more + size, "\nDSN", 4);
		struct ehlo f = ehlo_parse(slice_make(more, size + 4));
		assert(f.offers == (e.offers | OFFER_DSN) && f.size == e.size);
	}
	reply_init(&r);
	if (reply_feed(&r, slice_make(data, size), &used) == ERR_OK) {
		(void)ehlo_parse(buf_view(&r.text));
	}
	reply_clear(&r);
	return 0;
}
