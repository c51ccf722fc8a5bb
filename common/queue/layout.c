/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "common/base/crc32c.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/queue/layout.h"

#define FILE_MAGIC UINT64_C(0x454b49444e534547) /* "EKIDNSEG" */
#define RECORD_MAGIC 0x454b5243u                /* "EKRC" */
#define RECORD_CRC_AT (SEGMENT_RECORD_HEADER_BYTES - 4)
#define FILE_CRC_AT (SEGMENT_PAGE - 4)
/* No file is that long; sums of a few numbers below it cannot wrap. */
#define OFFSET_MAX (UINT64_C(1) << 60)

enum {
	FLAG_CONTENT_FIRST = 1
};

static void put16(uint8_t *to, uint16_t v)
{
	to[0] = (uint8_t)(v >> 8);
	to[1] = (uint8_t)v;
}

static void put32(uint8_t *to, uint32_t v)
{
	put16(to, (uint16_t)(v >> 16));
	put16(to + 2, (uint16_t)v);
}

static void put64(uint8_t *to, uint64_t v)
{
	put32(to, (uint32_t)(v >> 32));
	put32(to + 4, (uint32_t)v);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

uint64_t layout_data_at(uint32_t slot_capacity)
{
	return SEGMENT_PAGE +
	       num_round_up((uint64_t)slot_capacity * SEGMENT_SLOT_BYTES, SEGMENT_PAGE);
}

void layout_file_encode(const struct segment_info *info, int64_t made_us,
	uint8_t to[SEGMENT_PAGE])
{
	memset(to, 0, SEGMENT_PAGE);
	put64(to, FILE_MAGIC);
	put32(to + 8, SEGMENT_VERSION);
	put32(to + 12, info->slot_capacity);
	put64(to + 16, info->id);
	put64(to + 24, info->mark);
	put64(to + 32, info->data_at);
	put64(to + 40, (uint64_t)made_us);
	put32(to + FILE_CRC_AT, crc32c(0, slice_make(to, FILE_CRC_AT)));
}

bool layout_file_decode(const uint8_t from[SEGMENT_PAGE], struct segment_info *out)
{
	struct segment_info info = {
		.slot_capacity = get32(from + 12),
		.id = get64(from + 16),
		.mark = get64(from + 24),
		.data_at = get64(from + 32),
	};

	if (get64(from) != FILE_MAGIC || get32(from + 8) != SEGMENT_VERSION ||
		get32(from + FILE_CRC_AT) != crc32c(0, slice_make(from, FILE_CRC_AT))) {
		return false;
	}
	if (info.slot_capacity == 0 || info.slot_capacity > SEGMENT_SLOTS_MAX ||
		info.data_at != layout_data_at(info.slot_capacity)) {
		return false;
	}
	*out = info;
	return true;
}

void layout_record_place(struct layout_record *r)
{
	struct segment_record *m = &r->record;

	m->envelope_at = m->offset + SEGMENT_RECORD_HEADER_BYTES;
	uint64_t at = m->envelope_at + m->envelope_bytes;
	if (r->content_first) {
		m->content_at = at;
		m->head_at = at + m->content_bytes;
		at = m->head_at + m->head_bytes;
	} else {
		m->head_at = at;
		m->content_at = at + m->head_bytes;
		at = m->content_at + m->content_bytes;
	}
	m->length = at - m->offset;
}

void layout_record_encode(const struct segment_info *info, const struct layout_record *r,
	uint8_t *to)
{
	const struct segment_record *m = &r->record;

	memset(to, 0, SEGMENT_RECORD_HEADER_BYTES);
	put32(to, RECORD_MAGIC);
	put16(to + 4, SEGMENT_VERSION);
	put16(to + 6, r->content_first ? FLAG_CONTENT_FIRST : 0);
	put64(to + 8, info->mark);
	put64(to + 16, m->offset);
	put64(to + 24, r->group_at);
	put64(to + 32, r->group_end);
	put32(to + 40, m->first_slot);
	put32(to + 44, m->rcpt_count);
	put32(to + 48, m->flags);
	put32(to + 52, m->envelope_bytes);
	put32(to + 56, m->head_bytes);
	put32(to + 60, m->payload_crc);
	put64(to + 64, m->content_bytes);
	put64(to + 72, (uint64_t)m->accepted_us);
	memcpy(to + 80, m->queue_id, QUEUE_ID_BYTES);
	put32(to + RECORD_CRC_AT, crc32c(0, slice_make(to, RECORD_CRC_AT)));
}

static bool bounds_hold(const struct segment_info *info, const struct layout_record *r)
{
	const struct segment_record *m = &r->record;

	if (m->rcpt_count == 0 || m->rcpt_count > LIMIT_RCPTS ||
		m->rcpt_count > info->slot_capacity ||
		m->first_slot > info->slot_capacity - m->rcpt_count) {
		return false;
	}
	return m->offset >= info->data_at && m->offset % SEGMENT_ALIGN == 0 &&
	       r->group_at >= info->data_at && r->group_at % SEGMENT_PAGE == 0 &&
	       r->group_end <= OFFSET_MAX && r->group_end % SEGMENT_PAGE == 0 &&
	       r->group_at <= m->offset && m->offset < r->group_end &&
	       m->content_bytes <= OFFSET_MAX;
}

bool layout_record_decode(const struct segment_info *info, uint64_t offset, const uint8_t *from,
	struct layout_record *out)
{
	/* The cheap questions first: a search asks them at every step. */
	if (get32(from) != RECORD_MAGIC || get64(from + 8) != info->mark ||
		get64(from + 16) != offset || get16(from + 4) != SEGMENT_VERSION ||
		get16(from + 6) > FLAG_CONTENT_FIRST) {
		return false;
	}
	if (get32(from + RECORD_CRC_AT) != crc32c(0, slice_make(from, RECORD_CRC_AT))) {
		return false;
	}
	struct layout_record r = {.content_first = get16(from + 6) == FLAG_CONTENT_FIRST,
		.group_at = get64(from + 24),
		.group_end = get64(from + 32),
		.record = {
			.offset = offset,
			.first_slot = get32(from + 40),
			.rcpt_count = get32(from + 44),
			.flags = get32(from + 48),
			.envelope_bytes = get32(from + 52),
			.head_bytes = get32(from + 56),
			.payload_crc = get32(from + 60),
			.content_bytes = get64(from + 64),
			.accepted_us = (int64_t)get64(from + 72),
		}};
	memcpy(r.record.queue_id, from + 80, QUEUE_ID_BYTES);
	if (!bounds_hold(info, &r) ||
		!queue_id_is_valid(slice_make(r.record.queue_id, QUEUE_ID_BYTES))) {
		return false;
	}
	layout_record_place(&r);
	if (r.record.length > r.group_end - offset) {
		return false;
	}
	*out = r;
	return true;
}
