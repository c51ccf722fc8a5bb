/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout: the bytes of a segment's two headers, for writer and reader; docs/QUEUE.md has the
 * table.
 *
 * Big-endian. Each header ends with the CRC32C of what stands before it. Of a record only
 * lengths are stored: its parts follow one another without gaps, so no part can lie outside.
 */
#ifndef COMMON_QUEUE_LAYOUT_H
#define COMMON_QUEUE_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/queue/segment.h"

/* Bytes in front of the records of a segment with so many slots; a multiple of SEGMENT_PAGE. */
uint64_t layout_data_at(uint32_t slot_capacity);

void layout_file_encode(const struct segment_info *info, int64_t made_us,
	uint8_t to[SEGMENT_PAGE]);
/* False when the page is not the header of a segment of this version. */
MUST_CHECK bool layout_file_decode(const uint8_t from[SEGMENT_PAGE], struct segment_info *out);

/* A record and the group that it was committed with. */
struct layout_record {
	struct segment_record record;
	bool content_first; /* the head stands behind the content */
	uint64_t group_at; /* where the group begins and ends, both multiples of SEGMENT_PAGE */
	uint64_t group_end;
};

/* Fills in length and the places of the parts from the record's offset and the parts' sizes. */
void layout_record_place(struct layout_record *r);
void layout_record_encode(const struct segment_info *info, const struct layout_record *r,
	uint8_t *to);
/*
 * from has SEGMENT_RECORD_HEADER_BYTES that were read at offset. False when they are no header
 * of a record of this segment at this place, or when the record, its slots or its group leave
 * their bounds.
 */
MUST_CHECK bool layout_record_decode(const struct segment_info *info, uint64_t offset,
	const uint8_t *from, struct layout_record *out);

#endif
