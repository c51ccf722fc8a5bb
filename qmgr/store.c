/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/io/fd.h"

/* A queue of large messages has one file for each: not all can be open. */
#define OPEN_MAX 512u
#define SYNC_EVERY_MS 1000
/* How much of a second the syncs may take before the rest waits for the next. */
#define SYNC_BUDGET_MS 200
#define RETRY_WRITE_MS 1000

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
	uint32_t segment_count;
	struct list open;
	uint32_t open_count;
	struct list dirty;
	struct list unsynced;
	struct loop_flush flush;
	struct loop_timer sync_timer;
	bool dir_unsynced; /* removals that are not on disk yet */
	bool sick;
	uint64_t live;
	uint64_t bytes;
};

/* ---- slots ---- */

struct slot store_slot(const struct store_segment *seg, uint32_t slot)
{
	struct slot s = {0};

	if (slot < seg->slots_used) {
		slot_decode(seg->slots + (size_t)slot * SEGMENT_SLOT_BYTES, &s);
	}
	return s;
}

static void mark_dirty(struct store *s, struct store_segment *seg, uint32_t slot)
{
	if (seg->dirty_to == seg->dirty_from) {
		seg->dirty_from = slot;
		seg->dirty_to = slot + 1;
	} else {
		seg->dirty_from = slot < seg->dirty_from ? slot : seg->dirty_from;
		seg->dirty_to = slot >= seg->dirty_to ? slot + 1 : seg->dirty_to;
	}
	if (list_is_empty(&seg->dirty)) {
		list_append(&s->dirty, &seg->dirty);
	}
	loop_flush_mark(&s->flush);
}

void store_set_slot(struct store *s, struct store_segment *seg, uint32_t slot,
	const struct slot *to)
{
	assert(slot < seg->slots_used);
	uint8_t *at = seg->slots + (size_t)slot * SEGMENT_SLOT_BYTES;
	struct slot before;

	slot_decode(at, &before);
	slot_encode(to, at);
	if (slot_is_final(to) && !slot_is_final(&before)) {
		seg->live--;
		s->live--;
	} else if (!slot_is_final(to) && slot_is_final(&before)) {
		seg->live++;
		s->live++;
	}
	mark_dirty(s, seg, slot);
}

void store_note_slot(struct store_segment *seg, uint32_t slot, const struct slot *to)
{
	assert(slot < seg->slots_used && !slot_is_final(to));
	slot_encode(to, seg->slots + (size_t)slot * SEGMENT_SLOT_BYTES);
}

static void grow_slots(struct store *s, struct store_segment *seg, uint32_t used)
{
	if (used > seg->slots_room) {
		uint32_t room = seg->slots_room == 0 ? 64 : seg->slots_room;

		while (room < used) {
			room = room > UINT32_MAX / 2 ? used : room * 2;
		}
		if (room > seg->info.slot_capacity) {
			room = seg->info.slot_capacity;
		}
		seg->slots = alloc_resize(seg->slots, room, SEGMENT_SLOT_BYTES);
		s->bytes += (uint64_t)(room - seg->slots_room) * SEGMENT_SLOT_BYTES;
		seg->slots_room = room;
	}
	if (used > seg->slots_used) {
		memset(seg->slots + (size_t)seg->slots_used * SEGMENT_SLOT_BYTES, 0,
			(size_t)(used - seg->slots_used) * SEGMENT_SLOT_BYTES);
		seg->slots_used = used;
	}
}

/* ---- files ---- */

static void close_file(struct store *s, struct store_segment *seg)
{
	if (seg->fd >= 0) {
		fd_close(&seg->fd);
		list_remove(&seg->open);
		s->open_count--;
	}
}

int store_fd(struct store *s, struct store_segment *seg)
{
	if (seg->fd < 0) {
		struct segment_info info;

		if (s->open_count >= OPEN_MAX) {
			struct list *oldest = list_first(&s->open);
			struct store_segment *old =
				CONTAINER_OF(oldest, struct store_segment, open);

			close_file(s, old);
		}
		if (segment_open(s->queue_dir, seg->info.id, true, &seg->fd, &info) != ERR_OK) {
			seg->fd = -1;
			return -1;
		}
		s->open_count++;
	} else {
		list_remove(&seg->open);
	}
	list_append(&s->open, &seg->open);
	return seg->fd;
}

static void set_sick(struct store *s, bool sick)
{
	if (s->sick != sick) {
		s->sick = sick;
		if (sick) {
			log_error("event=slots_unwritable err=\"%s\"", strerror(errno));
		} else {
			log_info("event=slots_writable");
		}
		s->events->on_sick(s->arg, sick);
	}
}

static bool write_slots(struct store *s, struct store_segment *seg)
{
	int fd = store_fd(s, seg);

	if (fd < 0 ||
		segment_write_slots(fd, seg->dirty_from, seg->dirty_to - seg->dirty_from,
			seg->slots + (size_t)seg->dirty_from * SEGMENT_SLOT_BYTES) != ERR_OK) {
		return false;
	}
	seg->dirty_from = 0;
	seg->dirty_to = 0;
	list_remove(&seg->dirty);
	if (list_is_empty(&seg->unsynced)) {
		list_append(&s->unsynced, &seg->unsynced);
	}
	if (!s->sync_timer.armed) {
		loop_timer_start(&s->sync_timer, SYNC_EVERY_MS);
	}
	return true;
}

static bool sync_dir(struct store *s)
{
	if (s->dir_unsynced && fsync(s->queue_dir) != 0) {
		return false;
	}
	s->dir_unsynced = false;
	return true;
}

static void sync_segments(struct store *s)
{
	int64_t until = clock_mono_ms() + SYNC_BUDGET_MS;
	bool ok = sync_dir(s);

	while (ok && !list_is_empty(&s->unsynced)) {
		struct store_segment *seg =
			CONTAINER_OF(list_first(&s->unsynced), struct store_segment, unsynced);
		int fd = store_fd(s, seg);

		/* A failed sync drops the pages' dirty marks: what the image says is written
		 * anew. */
		if (fd < 0 || fdatasync(fd) != 0) {
			close_file(s, seg);
			seg->dirty_from = 0;
			seg->dirty_to = seg->slots_used;
			if (list_is_empty(&seg->dirty)) {
				list_append(&s->dirty, &seg->dirty);
			}
			ok = false;
		}
		list_remove(&seg->unsynced);
		if (clock_mono_ms() >= until) {
			break;
		}
	}
	if (!ok) {
		set_sick(s, true);
	}
	if (s->sick || !list_is_empty(&s->unsynced)) {
		loop_timer_start(&s->sync_timer, s->sick ? RETRY_WRITE_MS : SYNC_EVERY_MS);
	}
}

/* ---- removal ---- */

static void release(struct store *s, struct store_segment *seg)
{
	close_file(s, seg);
	list_remove(&seg->dirty);
	list_remove(&seg->unsynced);
	hash_id_table_remove(&s->by_id, &seg->by_id);
	s->all[seg->index] = NULL;
	s->segment_count--;
	s->bytes -= (uint64_t)seg->slots_room * SEGMENT_SLOT_BYTES +
		    (uint64_t)seg->record_room * sizeof(*seg->records);
	free(seg->slots);
	free(seg->records);
	free(seg);
}

static void remove_if_finished(struct store *s, struct store_segment *seg)
{
	char name[SEGMENT_NAME_MAX];

	if (seg->live > 0 || seg->pins > 0 || !seg->sealed || seg->announced) {
		return;
	}
	s->events->on_remove(s->arg, seg);
	segment_name(seg->info.id, name);
	if (unlinkat(s->queue_dir, name, 0) != 0 && errno != ENOENT) {
		set_sick(s, true);
		loop_timer_start(&s->sync_timer, RETRY_WRITE_MS);
		return;
	}
	s->dir_unsynced = true;
	if (!s->sync_timer.armed) {
		loop_timer_start(&s->sync_timer, SYNC_EVERY_MS);
	}
	release(s, seg);
}

static void on_flush(void *arg)
{
	struct store *s = arg;
	struct list *l = list_first(&s->dirty);

	while (l != NULL) {
		struct store_segment *seg = CONTAINER_OF(l, struct store_segment, dirty);

		if (!write_slots(s, seg)) {
			set_sick(s, true);
			loop_timer_start(&s->sync_timer, RETRY_WRITE_MS);
			return;
		}
		remove_if_finished(s, seg);
		l = list_first(&s->dirty);
	}
	set_sick(s, false);
}

static void on_sync_time(void *arg)
{
	struct store *s = arg;

	if (s->sick) {
		/* Whatever failed is tried again: slots, removals, syncs. */
		for (uint32_t i = 0; i < s->all_count; i++) {
			if (s->all[i] != NULL) {
				remove_if_finished(s, s->all[i]);
			}
		}
		on_flush(s);
	}
	sync_segments(s);
}

/* ---- segments ---- */

enum err store_new(struct loop *loop, int queue_dir, int corrupt_dir,
	struct journal_writer *journal, const struct store_events *events, void *arg,
	struct store **out)
{
	struct store *s = alloc_zero(1, sizeof(*s));

	s->loop = loop;
	s->queue_dir = queue_dir;
	s->corrupt_dir = corrupt_dir;
	s->journal = journal;
	s->events = events;
	s->arg = arg;
	hash_id_table_init(&s->by_id);
	list_init(&s->open);
	list_init(&s->dirty);
	list_init(&s->unsynced);
	loop_flush_add(&s->flush, loop, on_flush, s);
	loop_timer_init(&s->sync_timer, loop, on_sync_time, s);
	*out = s;
	return ERR_OK;
}

void store_free(struct store **sp)
{
	struct store *s = *sp;

	if (s == NULL) {
		return;
	}
	on_flush(s);
	sync_segments(s);
	loop_timer_stop(&s->sync_timer);
	loop_flush_remove(&s->flush);
	for (uint32_t i = 0; i < s->all_count; i++) {
		if (s->all[i] != NULL) {
			release(s, s->all[i]);
		}
	}
	hash_id_table_clear(&s->by_id);
	free(s->all);
	ALLOC_FREE(*sp);
}

struct store_segment *store_find(struct store *s, uint64_t id)
{
	struct hash_id_link *l = hash_id_table_find(&s->by_id, id);

	return l == NULL ? NULL : CONTAINER_OF(l, struct store_segment, by_id);
}

struct store_segment *store_at(struct store *s, uint32_t index)
{
	return index < s->all_count ? s->all[index] : NULL;
}

uint32_t store_size(const struct store *s)
{
	return s->all_count;
}

uint32_t store_segment_count(const struct store *s)
{
	return s->segment_count;
}

uint64_t store_live(const struct store *s)
{
	return s->live;
}

/*
 * An index is taken again only by the sweep below's callers at the end of the vector, never
 * while waiting entries may still name it: those find a null or, after the vector has started
 * over, another segment whose slot they ask before they believe.
 */
static struct store_segment *segment_add(struct store *s, const struct segment_info *info,
	int *fd)
{
	struct store_segment *seg = alloc_zero(1, sizeof(*seg));

	seg->info = *info;
	seg->fd = *fd;
	*fd = -1;
	seg->known_end = info->data_at;
	seg->quiet_since_ms = clock_mono_ms();
	list_init(&seg->open);
	list_init(&seg->dirty);
	list_init(&seg->unsynced);
	if (s->segment_count == 0) {
		s->all_count = 0;
	}
	if ((s->all_count & (s->all_count - 1)) == 0) {
		uint32_t room = s->all_count == 0 ? 1 : s->all_count * 2;

		s->all = alloc_resize(s->all, room, sizeof(*s->all));
	}
	seg->index = s->all_count++;
	s->all[seg->index] = seg;
	s->segment_count++;
	hash_id_table_insert(&s->by_id, &seg->by_id, info->id);
	if (seg->fd >= 0) {
		list_append(&s->open, &seg->open);
		s->open_count++;
	}
	return seg;
}

static void append_record(struct store *s, struct store_segment *seg,
	const struct record_ref *r)
{
	if (seg->record_count == seg->record_room) {
		uint32_t room = seg->record_room == 0 ? 16 : seg->record_room * 2;

		seg->records = alloc_resize(seg->records, room, sizeof(*seg->records));
		s->bytes += (uint64_t)(room - seg->record_room) * sizeof(*seg->records);
		seg->record_room = room;
	}
	seg->records[seg->record_count++] = *r;
}

const struct record_ref *store_record_of(const struct store_segment *seg, uint32_t slot)
{
	uint32_t low = 0;
	uint32_t high = seg->record_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (seg->records[middle].first_slot +
				(uint64_t)seg->records[middle].rcpt_count <=
			slot) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	if (low == seg->record_count || seg->records[low].first_slot > slot) {
		return NULL;
	}
	return &seg->records[low];
}

static bool record_is_sane(const struct store_segment *seg, const struct record_ref *r)
{
	return r->rcpt_count > 0 && r->first_slot >= seg->slots_used &&
	       r->first_slot < seg->info.slot_capacity &&
	       r->rcpt_count <= seg->info.slot_capacity - r->first_slot;
}

enum err store_add_record(struct store *s, struct store_segment *seg,
	const struct record_ref *r, uint64_t length)
{
	if (r->offset < seg->known_end) {
		return ERR_EXISTS;
	}
	if (!record_is_sane(seg, r) || length > UINT64_MAX / 2 || r->offset > UINT64_MAX / 2) {
		return ERR_CORRUPT;
	}
	grow_slots(s, seg, r->first_slot + r->rcpt_count);
	append_record(s, seg, r);
	seg->live += r->rcpt_count;
	s->live += r->rcpt_count;
	seg->known_end = num_round_up(r->offset + length, SEGMENT_ALIGN);
	seg->quiet_since_ms = loop_now_ms(s->loop);
	return ERR_OK;
}

static void tell_damage(struct store *s, struct store_segment *seg, uint64_t offset,
	uint64_t bytes, const char *why)
{
	struct event_damage e = {.segment = seg->info.id,
		.offset = offset,
		.bytes = bytes,
		.text = slice_from_cstr(why)};

	log_error("event=damage segment=%016llx offset=%llu bytes=%llu why=\"%s\"",
		(unsigned long long)seg->info.id, (unsigned long long)offset,
		(unsigned long long)bytes, why);
	journal_damage(s->journal, clock_wall_us(), &e);
	if (segment_set_aside(seg->fd, s->corrupt_dir, seg->info.id, offset, bytes) != ERR_OK) {
		log_error("event=set_aside_failed segment=%016llx offset=%llu",
			(unsigned long long)seg->info.id, (unsigned long long)offset);
	}
}

/* Takes in the records between what is known and limit. */
static enum err scan(struct store *s, struct store_segment *seg, uint64_t limit,
	uint64_t *found)
{
	uint64_t at = seg->known_end;
	uint64_t torn = 0;
	enum segment_found what;
	struct segment_record r;
	enum err e;

	if (store_fd(s, seg) < 0) {
		return ERR_SYS;
	}
	for (;;) {
		/* What an unannounced tail holds may be torn: every byte is checked there. */
		e = segment_next(seg->fd, &seg->info, &at, limit, limit == UINT64_MAX, &what,
			&r, &torn);
		if (e != ERR_OK || what == SEGMENT_END) {
			break;
		}
		if (what == SEGMENT_DAMAGED) {
			tell_damage(s, seg, r.offset, r.length, "no valid record");
			continue;
		}
		struct record_ref ref = {.offset = r.offset,
			.first_slot = r.first_slot,
			.rcpt_count = r.rcpt_count};

		if (!record_is_sane(seg, &ref)) {
			tell_damage(s, seg, r.offset, r.length, "slots of another record");
			continue;
		}
		uint32_t used = r.first_slot + r.rcpt_count;

		grow_slots(s, seg, used);
		e = segment_read_slots(seg->fd, r.first_slot, r.rcpt_count,
			seg->slots + (size_t)r.first_slot * SEGMENT_SLOT_BYTES);
		if (e != ERR_OK) {
			break;
		}
		append_record(s, seg, &ref);
		uint32_t live = 0;
		for (uint32_t i = r.first_slot; i < used; i++) {
			struct slot slot = store_slot(seg, i);

			if (!slot_is_final(&slot)) {
				slot.flags &= (uint8_t)~SLOT_ACTIVE;
				store_note_slot(seg, i, &slot);
				live++;
			}
		}
		seg->live += live;
		s->live += live;
		if (live > 0) {
			(*found)++;
			s->events->on_record(s->arg, seg, &ref);
		}
	}
	if (e == ERR_OK) {
		seg->known_end = limit == UINT64_MAX ? at : limit > at ? limit : at;
	} else {
		log_error("event=scan_failed segment=%016llx err=\"%s\"",
			(unsigned long long)seg->info.id, err_str(e));
	}
	return e;
}

enum err store_announce(struct store *s, unsigned writer, uint64_t id, uint64_t end,
	struct store_segment **out)
{
	struct store_segment *seg = store_find(s, id);
	uint64_t found = 0;

	if (seg == NULL) {
		struct segment_info info;
		int fd = -1;
		enum err e = segment_open(s->queue_dir, id, true, &fd, &info);

		if (e != ERR_OK) {
			return e;
		}
		seg = segment_add(s, &info, &fd);
	}
	seg->announced = true;
	seg->sealed = false;
	seg->writer = writer;
	if (end > seg->known_end) {
		enum err e = scan(s, seg, end, &found);

		if (e != ERR_OK) {
			return e;
		}
	}
	*out = seg;
	return ERR_OK;
}

void store_sealed(struct store *s, uint64_t id)
{
	struct store_segment *seg = store_find(s, id);

	if (seg != NULL) {
		seg->sealed = true;
		seg->announced = false;
		remove_if_finished(s, seg);
	}
}

void store_writer_gone(struct store *s, unsigned writer)
{
	for (uint32_t i = 0; i < s->all_count; i++) {
		struct store_segment *seg = s->all[i];

		if (seg != NULL && seg->announced && seg->writer == writer) {
			seg->announced = false;
		}
	}
}

/* True when no live writer holds the file. */
static bool is_orphan(int fd)
{
	if (flock(fd, LOCK_SH | LOCK_NB) != 0) {
		return false;
	}
	(void)flock(fd, LOCK_UN);
	return true;
}

/* The tail that a dead writer left. */
static void adopt(struct store *s, struct store_segment *seg, uint64_t *found)
{
	if (store_fd(s, seg) < 0 || !is_orphan(seg->fd)) {
		return;
	}
	if (scan(s, seg, UINT64_MAX, found) == ERR_OK) {
		seg->sealed = true;
		remove_if_finished(s, seg);
	}
}

/* A file that has the name of a segment and is none: out of the way, for people. */
static void set_file_aside(struct store *s, const char *name)
{
	log_error("event=bad_segment file=%s", name);
	if (renameat(s->queue_dir, name, s->corrupt_dir, name) != 0) {
		log_error("event=set_aside_failed file=%s err=\"%s\"", name, strerror(errno));
	}
}

static void sweep_file(struct store *s, const char *name, uint64_t id, uint64_t *found)
{
	struct segment_info info;
	int fd = -1;
	enum err e = segment_open(s->queue_dir, id, true, &fd, &info);

	if (e == ERR_CORRUPT) {
		/* A writer that is making it right now holds its lock. */
		int raw = openat(s->queue_dir, name,
			O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		bool live = raw >= 0 && !is_orphan(raw);

		fd_close(&raw);
		if (!live) {
			set_file_aside(s, name);
		}
		return;
	}
	if (e != ERR_OK) {
		log_error("event=open_failed file=%s err=\"%s\"", name, err_str(e));
		return;
	}
	if (!is_orphan(fd)) {
		fd_close(&fd);
		return;
	}
	if (s->open_count >= OPEN_MAX) {
		close_file(s, CONTAINER_OF(list_first(&s->open), struct store_segment, open));
	}
	adopt(s, segment_add(s, &info, &fd), found);
}

uint64_t store_sweep(struct store *s)
{
	uint64_t found = 0;
	int fd = openat(s->queue_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL) {
		fd_close(&fd);
		log_error("event=sweep_failed err=\"%s\"", strerror(errno));
		return 0;
	}
	for (uint32_t i = 0; i < s->all_count; i++) {
		if (s->all[i] != NULL && !s->all[i]->announced && !s->all[i]->sealed) {
			adopt(s, s->all[i], &found);
		}
	}
	for (struct dirent *entry = readdir(d); entry != NULL; entry = readdir(d)) {
		uint64_t id;

		if (segment_name_parse(slice_from_cstr(entry->d_name), &id) == ERR_OK &&
			store_find(s, id) == NULL) {
			sweep_file(s, entry->d_name, id, &found);
		}
	}
	(void)closedir(d);
	return found;
}

void store_pin(struct store_segment *seg)
{
	seg->pins++;
}

void store_unpin(struct store *s, struct store_segment *seg)
{
	assert(seg->pins > 0);
	seg->pins--;
	seg->quiet_since_ms = loop_now_ms(s->loop);
	/* Slots that are still to be written bring the removal with them. */
	if (seg->pins == 0 && seg->live == 0 && list_is_empty(&seg->dirty)) {
		remove_if_finished(s, seg);
	}
}

void store_quarantine(struct store *s, struct store_segment *seg, const struct record_ref *r,
	const char *why)
{
	struct segment_record rec;
	uint64_t bytes = SEGMENT_RECORD_HEADER_BYTES;

	if (store_fd(s, seg) < 0) {
		return;
	}
	if (segment_read_record(seg->fd, &seg->info, r->offset, &rec) == ERR_OK) {
		bytes = rec.length;
	}
	tell_damage(s, seg, r->offset, bytes, why);
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
		struct slot slot = store_slot(seg, i);

		if (!slot_is_final(&slot)) {
			slot.state = SLOT_DELETED;
			store_set_slot(s, seg, i, &slot);
		}
	}
}

void store_visit(struct store *s, bool (*visit)(void *arg, struct store_segment *seg),
	void *arg)
{
	for (uint32_t i = 0; i < s->all_count; i++) {
		if (s->all[i] != NULL && !visit(arg, s->all[i])) {
			return;
		}
	}
}

void store_shift_times(struct store *s, int64_t step_s)
{
	for (uint32_t i = 0; i < s->all_count; i++) {
		struct store_segment *seg = s->all[i];

		for (uint32_t k = 0; seg != NULL && k < seg->slots_used; k++) {
			struct slot slot = store_slot(seg, k);
			int64_t at = (int64_t)slot.next_at_s + step_s;

			if (!slot_is_final(&slot) && slot.next_at_s != 0) {
				slot.next_at_s = at < 1                ? 1
						 : at > UINT32_MAX - 1 ? UINT32_MAX - 1
								       : (uint32_t)at;
				store_note_slot(seg, k, &slot);
			}
		}
	}
}
