/* SPDX-License-Identifier: Apache-2.0 */
/*
 * part: the names of a program's journal files and the frame of an event, for writer and
 * reader.
 *
 * A frame, big-endian: u32 length of what follows the checksum, u32 CRC32C of that, u64 time in
 * us, u16 type, u16 zero, body.
 */
#ifndef COMMON_JOURNAL_PART_H
#define COMMON_JOURNAL_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

#define PART_FRAME_BYTES 20u
/* More than any event of event.h needs. */
#define PART_BODY_MAX 16384u
#define PART_BY_MAX 40u
#define PART_NAME_MAX 64u

/* PROGRAM-INDEX-MICROSECOND.log; the microsecond in 16 digits, so that names sort. */
MUST_CHECK enum err part_name(const char *by, uint64_t made_us, char to[PART_NAME_MAX]);
/* *by is what stands before the microsecond. ERR_SYNTAX: not such a name. */
MUST_CHECK enum err part_name_parse(struct slice name, struct slice *by, uint64_t *made_us);

/* Fills in the frame in front of a body of n bytes. */
void part_frame_encode(uint8_t *frame, int64_t time_us, uint16_t type, size_t n);

enum part_found {
	PART_EVENT,
	PART_SHORT, /* so far an event, but its end is missing */
	PART_NOTHING
};
struct part_event {
	int64_t time_us;
	uint16_t type;
	struct slice body;
	size_t n; /* frame and body */
};
/* What s begins with. */
enum part_found part_frame_decode(struct slice s, struct part_event *out);

#endif
