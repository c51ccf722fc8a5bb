/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_writer: one program's part of the record of all that happened.
 *
 * Events gather in memory and leave in one write when the turn of the loop ends; the file is
 * flushed to the disk at least once a second while it changes. Files are named
 * PROGRAM-INDEX-MICROSECOND.log, follow one another at JOURNAL_FILE_BYTES, and old ones are
 * removed beyond the settings. An event is: u32 length, u32 CRC32C of what follows, u64 time in
 * us, u16 type, u16 zero, body. A failed write loses no mail and stops nothing: lost events are
 * counted and told by a gap event when writing works again.
 */
#ifndef COMMON_JOURNAL_JOURNAL_WRITER_H
#define COMMON_JOURNAL_JOURNAL_WRITER_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/io/loop.h"
#include "common/journal/event.h"

#define JOURNAL_FILE_BYTES 0x4000000u /* 64 MiB */

struct journal_writer;

/* dir is borrowed. program and index name the files. */
MUST_CHECK enum err journal_writer_new(struct loop *loop, int dir, const char *program,
	unsigned index, uint64_t keep_bytes, int64_t keep_s, struct journal_writer **out);
/* Writes and flushes what is left. */
void journal_writer_free(struct journal_writer **writer);

/* For the generated senders below. */
struct buf *journal_event_begin(struct journal_writer *j, uint16_t type, int64_t time_us);
void journal_event_end(struct journal_writer *j, enum err encoded);

/* journal_NAME(j, time_us, &event): never fails for the caller. */
#define AS_SENDER(id, name, FIELDS)                                                            \
	static inline void journal_##name(struct journal_writer *j, int64_t time_us,           \
		const struct event_##name *e)                                                  \
	{                                                                                      \
		struct buf *to = journal_event_begin(j, EVENT_ID_##name, time_us);             \
		journal_event_end(j, event_##name##_encode(e, to));                            \
	}
EVENT_ALL(AS_SENDER)
#undef AS_SENDER

#endif
