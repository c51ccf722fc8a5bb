/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_writer: appends records to segments of its own and makes them durable in groups.
 *
 * One writer a process (cleanup, and qmgr for what it copies forward). Records gather by
 * segment_writer_add(); segment_writer_commit() makes all of them durable with one pwrite and
 * one fdatasync. Segments follow one another by themselves; the next one is made ahead, so that
 * its making (file, header, slots, sync of file and directory) delays no message.
 *
 * A file is made under a name that is no segment's (tmp-WRITER-ID), locked (flock, exclusive)
 * before it gets its header, synced, and renamed to its own by its first commit; the lock is
 * kept as long as the writer lives and may append. So qmgr, which removes and adopts what dead
 * writers left, can tell by a lock that cannot be had that a file is not its to touch.
 *
 * After a failed write or sync nothing of the group is durable, the descriptor is never tried
 * again: the segment is abandoned (what was committed in it before stays valid) and the next
 * group begins in a new one.
 */
#ifndef COMMON_QUEUE_SEGMENT_WRITER_H
#define COMMON_QUEUE_SEGMENT_WRITER_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/mail/envelope.h"
#include "common/queue/segment.h"

struct segment_writer;

struct segment_writer_events {
	/* A new segment is in use: its first records are durable and the file has its name.
	 * From a commit, before it returns. May be null. */
	void (*on_open)(void *arg, uint64_t segment);
	/*
	 * Nothing more will be appended to it. end: where its committed records end. Never
	 * comes from the commit that made its last record durable but from a later call, so
	 * that those records can be told first. May be null.
	 */
	void (*on_sealed)(void *arg, uint64_t segment, uint64_t end);
};

/* dir is borrowed (the queue directory, O_DIRECTORY). writer: number for queue ids, below 52.
 */
MUST_CHECK enum err segment_writer_new(int dir, unsigned writer,
	const struct segment_writer_events *events, void *arg, struct segment_writer **out);
/* Seals what is open; an unused segment is removed. */
void segment_writer_free(struct segment_writer **writer);

/*
 * Adds a message to the group in memory; copies everything. On success *out describes the
 * record that segment_writer_commit() will make durable (its queue id is drawn here). A group
 * that has grown past the segment's room goes into the next one. ERR_FULL, ERR_SYS: no segment
 * can be made.
 */
MUST_CHECK enum err segment_writer_add(struct segment_writer *w, const struct envelope *e,
	struct slice head, struct slice content, int64_t accepted_us,
	struct segment_record *out, uint64_t *segment);
/* Draws the queue id that the next add or big_begin will use, so that it can stand in Received.
 */
const char *segment_writer_next_id(struct segment_writer *w);
/* The next add takes that id instead of a new one (a copy of a message that has one). */
void segment_writer_use_id(struct segment_writer *w, const char id[QUEUE_ID_BYTES + 1]);
/* Bytes and records that wait for the commit. */
size_t segment_writer_pending(const struct segment_writer *w);

/* Makes the group durable. Blocks. On failure the whole group is forgotten. */
MUST_CHECK enum err segment_writer_commit(struct segment_writer *w);

/* Seals the current segment before its time; the next add opens another. */
void segment_writer_rotate(struct segment_writer *w, uint64_t segment);
/* Id of the segment in use and end of its durable records; false when there is none. */
bool segment_writer_current(const struct segment_writer *w, uint64_t *segment, uint64_t *end);
/* Makes the next segment ahead if there is none. Call when idle. */
void segment_writer_prepare(struct segment_writer *w);

/*
 * A message too large for memory: a segment of its own, its content written as it comes. It is
 * durable when big_commit() returns ERR_OK; big_abort() (or the death of the process) leaves
 * nothing.
 */
struct segment_big;
/* What one holds in memory at most. */
#define SEGMENT_BIG_MEMORY ((size_t)96 * 1024)
MUST_CHECK enum err segment_big_begin(struct segment_writer *w, const struct envelope *e,
	struct segment_big **out);
MUST_CHECK enum err segment_big_content(struct segment_big *b, struct slice bytes);
uint64_t segment_big_bytes(const struct segment_big *b);
/* Flags that the content has earned since the envelope was written. */
void segment_big_add_flags(struct segment_big *b, uint32_t flags);
MUST_CHECK enum err segment_big_commit(struct segment_big **big, struct slice head,
	int64_t accepted_us, struct segment_record *out, uint64_t *segment);
void segment_big_abort(struct segment_big **big);

#endif
