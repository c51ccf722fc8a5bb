/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/base/num.h"
#include "common/base/str.h"
#include "common/mail/verdict.h"
#include "common/queue/segment.h"

#define ID_DIGITS 16u
#define SUFFIX ".seg"

static_assert(ID_DIGITS + sizeof(SUFFIX) <= SEGMENT_NAME_MAX, "a name has its place");

void segment_name(uint64_t id, char to[SEGMENT_NAME_MAX])
{
	enum err e = str_format(to, SEGMENT_NAME_MAX, "%016" PRIx64 SUFFIX, id);

	assert(e == ERR_OK);
}

enum err segment_name_parse(struct slice name, uint64_t *id)
{
	char canonical[SEGMENT_NAME_MAX];
	uint64_t n = 0;

	if (name.n != ID_DIGITS + sizeof(SUFFIX) - 1 ||
		num_parse_hex_u64(slice_head(name, ID_DIGITS), &n) != ERR_OK) {
		return ERR_SYNTAX;
	}
	/* Only the one spelling that segment_name() gives: no upper case. */
	segment_name(n, canonical);
	if (!slice_eq(name, slice_from_cstr(canonical))) {
		return ERR_SYNTAX;
	}
	*id = n;
	return ERR_OK;
}

/*
 * CRC-8 (polynomial 0x07) over a slot without its check byte. Zero for zeros, so a slot that
 * was never written is whole; and a slot in which a single bit has turned is not, so that no
 * bit can say "delivered" of what was not.
 */
static uint8_t slot_check(const uint8_t slot[SEGMENT_SLOT_BYTES])
{
	unsigned crc = 0;

	for (size_t i = 0; i < SEGMENT_SLOT_BYTES; i++) {
		crc ^= i == 1 ? 0 : slot[i];
		for (unsigned bit = 0; bit < 8; bit++) {
			crc = (crc & 0x80) != 0 ? (crc << 1 ^ 0x07) & 0xff : crc << 1;
		}
	}
	return (uint8_t)crc;
}

void slot_encode(const struct slot *s, uint8_t to[SEGMENT_SLOT_BYTES])
{
	to[0] = (uint8_t)((s->state & 15) | s->flags << 4);
	to[2] = (uint8_t)(s->attempts >> 8);
	to[3] = (uint8_t)s->attempts;
	to[4] = (uint8_t)(s->next_at_s >> 24);
	to[5] = (uint8_t)(s->next_at_s >> 16);
	to[6] = (uint8_t)(s->next_at_s >> 8);
	to[7] = (uint8_t)s->next_at_s;
	to[8] = (uint8_t)(s->smtp_code >> 8);
	to[9] = (uint8_t)s->smtp_code;
	to[10] = s->stage;
	to[11] = s->status_class;
	to[12] = (uint8_t)(s->status_subject >> 8);
	to[13] = (uint8_t)s->status_subject;
	to[14] = (uint8_t)(s->status_detail >> 8);
	to[15] = (uint8_t)s->status_detail;
	to[1] = slot_check(to);
}

void slot_decode(const uint8_t from[SEGMENT_SLOT_BYTES], struct slot *out)
{
	static const uint8_t never_written[SEGMENT_SLOT_BYTES];

	*out = (struct slot){.state = SLOT_WAITING};
	if (memcmp(from, never_written, sizeof(never_written)) == 0) {
		return;
	}
	if (from[1] != slot_check(from) || (from[0] & 15) > SLOT_MOVED ||
		from[10] >= STAGE_COUNT) {
		return;
	}
	*out = (struct slot){
		.state = from[0] & 15,
		.flags = from[0] >> 4,
		.attempts = (uint16_t)(from[2] << 8 | from[3]),
		.next_at_s = (uint32_t)from[4] << 24 | (uint32_t)from[5] << 16 |
			     (uint32_t)from[6] << 8 | from[7],
		.smtp_code = (uint16_t)(from[8] << 8 | from[9]),
		.stage = from[10],
		.status_class = from[11],
		.status_subject = (uint16_t)(from[12] << 8 | from[13]),
		.status_detail = (uint16_t)(from[14] << 8 | from[15]),
	};
}
