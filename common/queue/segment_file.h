/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_file: the life of one segment file on its writer's side: made, named, closed.
 *
 * For segment_writer and segment_big only. It is made under a temporary name ("tmp-WRITER-ID"),
 * locked, with header and slot table synced; segment_file_publish() gives it its real name once
 * something in it is durable. A temporary file that nobody holds the lock of was left by a dead
 * process.
 */
#ifndef COMMON_QUEUE_SEGMENT_FILE_H
#define COMMON_QUEUE_SEGMENT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/queue/segment.h"

struct segment_file {
	struct segment_info info;
	int fd;
	bool is_named;              /* it has the name of a segment */
	uint64_t limit;             /* no record goes behind it */
	uint64_t end;               /* of the last durable record */
	uint32_t slots_end;         /* behind the last slot of a durable record */
	uint32_t pending_slots_end; /* the same with what waits for the commit */
};

/* Where new ids come from. */
struct segment_maker {
	int dir; /* borrowed */
	unsigned writer;
	uint64_t last_id;
};

/* limit: what the file may grow to; space up to it is reserved where the disk has plenty. */
MUST_CHECK enum err segment_file_new(struct segment_maker *m, uint32_t slot_capacity,
	uint64_t limit, struct segment_file **out);
/* Its name, durably. On failure it has none. */
MUST_CHECK enum err segment_file_publish(struct segment_maker *m, struct segment_file *f);
/* Closes it. One without its name is removed. */
void segment_file_close(struct segment_maker *m, struct segment_file **f);
/* Gives up on it after a failure: what is not committed is cut off, or the whole file removed,
 * as well as the disk still allows. Keeps errno. */
void segment_file_abandon(struct segment_maker *m, struct segment_file **f);

/* The contents of the file to the disk. */
MUST_CHECK enum err segment_file_sync(int fd);

/* Removes what dead writers left under temporary names. */
void segment_file_sweep(const struct segment_maker *m);

#endif
