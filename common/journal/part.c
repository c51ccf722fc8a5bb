/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "common/base/crc32c.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/base/wire.h"
#include "common/journal/part.h"

#define SUFFIX SLICE(".log")
#define STAMP_DIGITS 16u
#define CRC_AT 4u
#define CHECKED_AT 8u /* what the checksum covers */

enum err part_name(const char *by, uint64_t made_us, char to[PART_NAME_MAX])
{
	return str_format(to, PART_NAME_MAX, "%s-%016" PRIu64 ".log", by, made_us);
}

/* "smtp-out-0" */
static bool by_is_valid(struct slice by)
{
	uint32_t index = 0;
	size_t dash = slice_find_last(by, '-');

	if (dash == 0 || dash == by.n || by.n > PART_BY_MAX) {
		return false;
	}
	for (size_t i = 0; i < dash; i++) {
		if (by.p[i] != '-' && (by.p[i] < 'a' || by.p[i] > 'z')) {
			return false;
		}
	}
	return num_parse_u32(slice_skip(by, dash + 1), UINT32_MAX, &index) == ERR_OK;
}

enum err part_name_parse(struct slice name, struct slice *by, uint64_t *made_us)
{
	uint64_t stamp = 0;

	if (name.n <= SUFFIX.n || !slice_eq(slice_skip(name, name.n - SUFFIX.n), SUFFIX)) {
		return ERR_SYNTAX;
	}
	name = slice_head(name, name.n - SUFFIX.n);
	size_t dash = slice_find_last(name, '-');
	if (dash == name.n || name.n - dash - 1 != STAMP_DIGITS ||
		num_parse_u64(slice_skip(name, dash + 1), UINT64_MAX, &stamp) != ERR_OK ||
		!by_is_valid(slice_head(name, dash))) {
		return ERR_SYNTAX;
	}
	*by = slice_head(name, dash);
	*made_us = stamp;
	return ERR_OK;
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

void part_frame_encode(uint8_t *frame, int64_t time_us, uint16_t type, size_t n)
{
	put32(frame, (uint32_t)(PART_FRAME_BYTES - CHECKED_AT + n));
	put32(frame + 8, (uint32_t)((uint64_t)time_us >> 32));
	put32(frame + 12, (uint32_t)(uint64_t)time_us);
	put32(frame + 16, (uint32_t)type << 16);
	put32(frame + CRC_AT,
		crc32c(0, slice_make(frame + CHECKED_AT, PART_FRAME_BYTES - CHECKED_AT + n)));
}

enum part_found part_frame_decode(struct slice s, struct part_event *out)
{
	struct wire_reader r = {.left = s, .err = ERR_OK};

	if (s.n < CRC_AT) {
		return PART_SHORT;
	}
	uint32_t length = wire_get_u32(&r, UINT32_MAX);
	if (length < PART_FRAME_BYTES - CHECKED_AT ||
		length > PART_FRAME_BYTES - CHECKED_AT + PART_BODY_MAX) {
		return PART_NOTHING;
	}
	if (s.n < CHECKED_AT || s.n - CHECKED_AT < length) {
		return PART_SHORT;
	}
	uint32_t crc = wire_get_u32(&r, UINT32_MAX);
	if (crc != crc32c(0, slice_make(s.p + CHECKED_AT, length))) {
		return PART_NOTHING;
	}
	out->time_us = (int64_t)wire_get_u64(&r, UINT64_MAX);
	out->type = wire_get_u16(&r, UINT16_MAX);
	(void)wire_get_u16(&r, UINT16_MAX);
	out->n = CHECKED_AT + length;
	out->body = slice_make(s.p + PART_FRAME_BYTES, out->n - PART_FRAME_BYTES);
	return PART_EVENT;
}
