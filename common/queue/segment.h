/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment: the form of a queue file. docs/QUEUE.md has the states and what recovery does.
 *
 * - at 0 the file header, one page: magic, version, segment id, mark, slot capacity, CRC;
 * - at SEGMENT_PAGE the slot table: capacity times SEGMENT_SLOT_BYTES, zero when made;
 * - at data_at the records, each aligned to SEGMENT_ALIGN, to the end of the file.
 *
 * A record is a header with two CRCs (its own, and of what follows), then envelope, head
 * (what we put before the message: Received, DKIM-Signature ...) and content (the client's
 * header fields that stay and its body), the last two in wire form and in either order.
 * Every record carries the segment's mark, drawn at random when the file was made: neither
 * what a block held before nor what a message says can pass for a record.
 *
 * Records that became durable together are a group. A group begins and ends at a multiple of
 * SEGMENT_PAGE, zeros fill it up, and it is written only when the one before it is durable: so
 * no write touches a page that holds a committed record, and a file that is longer than a
 * group says that the group was committed.
 *
 * While it is made a file has another name (tmp-...); it gets that of a segment when its first
 * records are durable. So a file with a segment's name has a whole header, and at least one
 * record was committed to it. The writer holds a lock (flock) from birth for as long as it
 * may append.
 *
 * A committed record never changes. A recipient slot is written in place, by qmgr alone. An
 * all-zero slot means: to be delivered, never tried, due at once.
 */
#ifndef COMMON_QUEUE_SEGMENT_H
#define COMMON_QUEUE_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/mail/queue_id.h"

#define SEGMENT_PAGE 4096u
#define SEGMENT_SLOT_BYTES 16u
#define SEGMENT_ALIGN 64u
#define SEGMENT_RECORD_HEADER_BYTES 128u
#define SEGMENT_VERSION 1u
/* Defaults of an ordinary segment; whichever is reached first ends it. */
#define SEGMENT_BYTES 0x4000000u /* 64 MiB */
#define SEGMENT_SLOTS 16384u
/* Most slots of any segment: those of one message with LIMIT_RCPTS, in whole pages. */
#define SEGMENT_SLOTS_MAX 1000192u

struct segment_info {
	uint64_t id; /* microsecond of making, unique among all segments of a queue */
	uint64_t mark;
	uint32_t slot_capacity;
	uint64_t data_at; /* where records begin */
};

/* "0005f3a1b2c3d4e5.seg": 16 hex digits of the id. */
#define SEGMENT_NAME_MAX 24u
void segment_name(uint64_t id, char to[SEGMENT_NAME_MAX]);
MUST_CHECK enum err segment_name_parse(struct slice name, uint64_t *id);

struct segment_record {
	uint64_t offset; /* of the record header in the file */
	uint64_t length; /* header to the end of the payload, not rounded */
	uint32_t first_slot;
	uint32_t rcpt_count;
	uint32_t flags;       /* TX_ bits */
	uint64_t envelope_at; /* offsets are from the start of the file */
	uint32_t envelope_bytes;
	uint64_t head_at;
	uint32_t head_bytes;
	uint64_t content_at;
	uint64_t content_bytes;
	int64_t accepted_us;
	uint32_t payload_crc;
	char queue_id[QUEUE_ID_BYTES + 1];
};

enum slot_state {
	SLOT_WAITING = 0,   /* to be delivered, at next_at_s */
	SLOT_DELIVERED = 1, /* final from here on */
	SLOT_FAILED = 2,    /* and its consequences are durable */
	SLOT_EXPIRED = 3,
	SLOT_DELETED = 4, /* by an operator */
	SLOT_SUPPRESSED = 5,
	SLOT_MOVED = 6 /* lives on in another segment (copied forward) */
};
enum {
	SLOT_HELD = 1, /* an operator holds it */
	SLOT_DELAY_TOLD = 2,
	SLOT_ACTIVE = 4 /* a running qmgr works on it; means nothing to the next one */
};

struct slot {
	uint8_t state; /* enum slot_state */
	uint8_t flags; /* below 16 */
	uint16_t attempts;
	uint32_t next_at_s; /* wall clock; 0: due */
	uint16_t smtp_code; /* of the last attempt */
	uint8_t stage;      /* enum smtp_stage of the last attempt */
	uint8_t status_class;
	uint16_t status_subject;
	uint16_t status_detail;
};
void slot_encode(const struct slot *s, uint8_t to[SEGMENT_SLOT_BYTES]);
/* What is not exactly as slot_encode() wrote it decodes as SLOT_WAITING, due: better twice than
 * never. */
void slot_decode(const uint8_t from[SEGMENT_SLOT_BYTES], struct slot *out);
static inline bool slot_is_final(const struct slot *s)
{
	return s->state != SLOT_WAITING;
}
static inline uint64_t segment_slot_at(uint32_t slot)
{
	return SEGMENT_PAGE + (uint64_t)slot * SEGMENT_SLOT_BYTES;
}

#endif
