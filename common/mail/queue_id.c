/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <sys/random.h>

#include "common/mail/queue_id.h"

#define BASE 52u
#define TIME_DIGITS 9u
/* 52 to the ninth: microseconds until 2058; then the ids begin anew. */
#define TIME_SPAN INT64_C(2779905883635712)

/* In ASCII order, so that ids sort by time. */
static const char alphabet[BASE + 1] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

void queue_id_source_init(struct queue_id_source *s, unsigned writer)
{
	uint32_t random = 0;

	assert(writer < BASE);
	/* So few bytes come whole once the kernel has any randomness, and this waits for it. */
	ssize_t n = getrandom(&random, sizeof(random), 0);
	assert(n == (ssize_t)sizeof(random));
	*s = (struct queue_id_source){.last_us = -1,
		.writer = (uint8_t)writer,
		.salt = (uint16_t)(random % (BASE * BASE))};
}

void queue_id_next(struct queue_id_source *s, int64_t wall_us, char to[QUEUE_ID_BYTES + 1])
{
	/* The clock may stand still or step back; the id goes on from the last one. */
	s->last_us = wall_us > s->last_us ? wall_us : s->last_us + 1;

	int64_t left = s->last_us % TIME_SPAN;
	for (unsigned i = TIME_DIGITS; i-- > 0; left /= BASE) {
		to[i] = alphabet[left % BASE];
	}
	to[TIME_DIGITS] = alphabet[s->writer];
	to[TIME_DIGITS + 1] = alphabet[s->salt / BASE];
	to[TIME_DIGITS + 2] = alphabet[s->salt % BASE];
	to[QUEUE_ID_BYTES] = 0;
}

static bool is_digit_of_id(uint8_t c)
{
	if (c >= '0' && c <= '9') {
		return true;
	}
	uint8_t low = ascii_lower(c);
	return low >= 'a' && low <= 'z' && low != 'a' && low != 'e' && low != 'i' &&
	       low != 'o' && low != 'u';
}

bool queue_id_is_valid(struct slice id)
{
	if (id.n != QUEUE_ID_BYTES) {
		return false;
	}
	for (size_t i = 0; i < id.n; i++) {
		if (!is_digit_of_id(id.p[i])) {
			return false;
		}
	}
	return true;
}
