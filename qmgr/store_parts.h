/* SPDX-License-Identifier: Apache-2.0 */
/* store_parts: what store.c (slots, files, removal) and store_records.c share. */
#ifndef QMGR_STORE_PARTS_H
#define QMGR_STORE_PARTS_H

#include "common/base/log.h"
#include "qmgr/store.h"

/* A queue of large messages has one file for each: not all can be open. */
#define STORE_OPEN_MAX 512u

struct store {
	struct loop *loop;
	int queue_dir;
	int corrupt_dir;
	struct journal_writer *journal;
	const struct store_events *events;
	void *arg;
	struct hash_id_table by_id;
	struct store_segment **all; /* by index; null: free */
	uint32_t all_count;
	uint32_t all_room;
	uint32_t hole; /* where a free index was found last */
	uint32_t segment_count;
	struct list open;
	uint32_t open_count;
	struct list dirty;
	struct list unsynced;
	struct loop_flush flush;
	struct loop_timer sync_timer;
	struct log_gate removal_gate;
	bool dir_unsynced; /* removals that are not on disk yet */
	bool unremoved;    /* a file could not be removed: tried again with the next sync */
	bool unwritable;   /* the last write of slots failed */
	bool unsyncable;   /* a sync failed, and since then not all has been synced */
	bool sick;
	uint64_t live;
};

struct store_segment *store_segment_add(struct store *s, const struct segment_info *info,
	int *fd);
void store_grow_slots(struct store_segment *seg, uint32_t used);
void store_close_file(struct store *s, struct store_segment *seg);
/* Removes the file of a segment in which nothing is left to do, and forgets the segment. */
void store_remove_if_finished(struct store *s, struct store_segment *seg);

#endif
