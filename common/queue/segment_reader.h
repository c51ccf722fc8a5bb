/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_reader: finds the records of a segment again.
 *
 * Used by qmgr when it starts and when a cleanup dies, by the command for listings, and by the
 * power-cut harness. Never trusts a byte that no CRC covers.
 */
#ifndef COMMON_QUEUE_SEGMENT_READER_H
#define COMMON_QUEUE_SEGMENT_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/mail/envelope.h"
#include "common/queue/segment.h"

/*
 * Opens DIR/NAME without following links and checks that it is a regular file with one link.
 * writable: for slots (O_RDWR), else read-only. ERR_CORRUPT: the header is not that of a
 * segment.
 */
MUST_CHECK enum err segment_open(int dir, uint64_t id, bool writable, int *fd,
	struct segment_info *out);
/* The same from a descriptor (qmgr hands them out). */
MUST_CHECK enum err segment_read_info(int fd, struct segment_info *out);

/* Reads count slots from first on; to has count * SEGMENT_SLOT_BYTES. */
MUST_CHECK enum err segment_read_slots(int fd, uint32_t first, uint32_t count, uint8_t *to);
MUST_CHECK enum err segment_write_slots(int fd, uint32_t first, uint32_t count,
	const uint8_t *from);

enum segment_found {
	SEGMENT_RECORD,  /* *out is a whole record, header and payload checked as asked */
	SEGMENT_DAMAGED, /* bytes from out->offset, out->length long, are no valid record; later
			    ones may be */
	SEGMENT_END      /* nothing more up to the limit; a torn tail has been passed */
};
/*
 * The next record at or behind *at, which moves on. limit: do not look behind it; everything
 * before it has been announced as durable (UINT64_MAX: to the end of the file, of which
 * nothing is known). check_payload: read all bytes and compare the payload's CRC too; this is
 * done in any case for the last group of the file, which a power cut may have torn, unless
 * there is a limit.
 *
 * What is no valid record is passed over by looking for the next valid header at every
 * SEGMENT_ALIGN step. It is SEGMENT_DAMAGED when it was committed once: it lies before a
 * limit, before another group, or the file has nothing else. It is passed in silence when it
 * lies in the last group or behind it: torn, never acknowledged. *torn_bytes, when not null,
 * says how much of that this call passed. Of a record whose header is valid and whose payload
 * is not, *out is filled whole.
 */
MUST_CHECK enum err segment_next(int fd, const struct segment_info *info, uint64_t *at,
	uint64_t limit, bool check_payload, enum segment_found *found,
	struct segment_record *out, uint64_t *torn_bytes);

/* Reads the record at offset again; the header's CRC and the place of its parts are checked. */
MUST_CHECK enum err segment_read_record(int fd, const struct segment_info *info,
	uint64_t offset, struct segment_record *out);
/* Reads and decodes the envelope; its bytes are read into the arena. check_payload: also the
 * CRC of all. */
MUST_CHECK enum err segment_read_envelope(int fd, const struct segment_record *r,
	bool check_payload, struct arena *a, struct envelope *out);

/* Copies the bytes of a damaged range to SEGMENT-OFFSET in the given directory (for people);
 * ERR_OK also when that is there already. */
MUST_CHECK enum err segment_set_aside(int fd, int corrupt_dir, uint64_t segment,
	uint64_t offset, uint64_t length);

#endif
