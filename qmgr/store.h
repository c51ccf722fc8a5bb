/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: the segments on disk, as qmgr knows them: which records stand where, the state of
 * every recipient slot, and which segments are of no use any more.
 *
 * qmgr is the only writer of slots. A change goes to the memory image at once and to the file
 * when the turn ends (one write a segment, so a killed process repeats nothing that a turn had
 * settled), and is flushed to the disk within a second. A segment whose recipients are all
 * final is removed, once its writer has sealed it or is dead.
 *
 * A live writer holds a lock (flock) on its files: a segment that is locked and that no cleanup
 * has announced is left alone, whatever it looks like.
 */
#ifndef QMGR_STORE_H
#define QMGR_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/io/loop.h"
#include "common/journal/journal_writer.h"
#include "common/queue/segment.h"
#include "common/queue/segment_reader.h"

struct record_ref {
	uint64_t offset;
	uint32_t first_slot;
	uint32_t rcpt_count;
};

struct store_segment {
	struct hash_id_link by_id;
	struct list open;  /* in the store's list of open files, most recent last */
	struct list dirty; /* in the store's list of segments to write */
	struct list unsynced;
	uint32_t index; /* in the store's vector */
	struct segment_info info;
	int fd;
	uint8_t *slots;
	uint32_t slots_room;
	uint32_t slots_used;
	struct record_ref *records; /* by first_slot, ascending */
	uint32_t record_count;
	uint32_t record_room;
	uint32_t live;       /* slots that are not final */
	uint32_t pins;       /* messages in memory that refer to it */
	uint32_t dirty_from; /* slots from..to-1 differ from the file */
	uint32_t dirty_to;
	uint64_t known_end;   /* records before it are in the table */
	uint64_t owed_end;    /* records before it have been announced */
	uint64_t live_agents; /* bit per smtp-out that holds a descriptor */
	int64_t quiet_since_ms;
	bool sealed;    /* no writer appends to it */
	bool announced; /* by a cleanup that lives */
	bool rotate_asked;
	bool keep; /* damage in it could not be set aside: it stays until the next start */
	unsigned writer; /* cleanup that announced it */
};

struct store;

struct store_events {
	/* A record that was found by scanning: its live slots are to be delivered. */
	void (*on_record)(void *arg, struct store_segment *s, const struct record_ref *r);
	/* About to be removed (or forgotten): nobody may use it afterwards. */
	void (*on_remove)(void *arg, struct store_segment *s);
	/* So many slots became writable again after a failure, or the disk went bad. */
	void (*on_sick)(void *arg, bool sick);
};

MUST_CHECK enum err store_new(struct loop *loop, int queue_dir, int corrupt_dir,
	struct journal_writer *journal, const struct store_events *events, void *arg,
	struct store **out);
/* Writes and syncs what is dirty. */
void store_free(struct store **s);

/* Looks for segments that are not known yet and whose writer is dead, and takes them in. Called
 * at the start and now and then. Returns how many records with live recipients were found. */
uint64_t store_sweep(struct store *s);

/* A cleanup says that it writes that segment: records up to end are durable. Those that are not
 * known yet are found by scanning, now or (when they cannot be read now) by the sweeps.
 * ERR_DENIED: another one writes it. */
MUST_CHECK enum err store_announce(struct store *s, unsigned writer, uint64_t id, uint64_t end,
	struct store_segment **out);
/* Only who announced it can seal it. */
void store_sealed(struct store *s, unsigned writer, uint64_t id);
/* The cleanup is gone: its segments' tails are scanned by the next sweeps and they count as
 * sealed. */
void store_writer_gone(struct store *s, unsigned writer);
/* Adds a record that a cleanup told of. ERR_EXISTS: known already. ERR_CORRUPT: it cannot be.
 * ERR_AGAIN: the sweeps will find it, after something before it that cannot be read now. */
MUST_CHECK enum err store_add_record(struct store *s, struct store_segment *seg,
	const struct record_ref *r, uint64_t length);

struct store_segment *store_find(struct store *s, uint64_t id);
struct store_segment *store_at(struct store *s, uint32_t index); /* null when it is gone */
uint32_t store_size(const struct store *s);                      /* indexes are below it */
uint32_t store_segment_count(const struct store *s);
const struct record_ref *store_record_of(const struct store_segment *seg, uint32_t slot);

/* Open for reading and slots; -1 with errno. Valid until the next call for another segment. */
int store_fd(struct store *s, struct store_segment *seg);

struct slot store_slot(const struct store_segment *seg, uint32_t slot);
void store_set_slot(struct store *s, struct store_segment *seg, uint32_t slot,
	const struct slot *to);

/* The same in memory only: for what a restart may forget (SLOT_ACTIVE, a wait without an
 * attempt). */
void store_note_slot(struct store_segment *seg, uint32_t slot, const struct slot *to);

void store_pin(struct store_segment *seg);
void store_unpin(struct store *s, struct store_segment *seg);

/* Sets the bytes of a record aside and makes its live slots final. False: its file cannot be
 * opened, nothing has changed. */
bool store_quarantine(struct store *s, struct store_segment *seg, const struct record_ref *r,
	const char *why);

/* Calls back for each segment in use; stops when visit answers false. */
void store_visit(struct store *s, bool (*visit)(void *arg, struct store_segment *seg),
	void *arg);

/* The day's clock was stepped: in memory, waits keep their lengths. */
void store_shift_times(struct store *s, int64_t step_s);

uint64_t store_live(const struct store *s); /* recipients that are not final */

#endif
