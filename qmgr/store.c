/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/store_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/fd.h"

#define SYNC_EVERY_MS 1000
/* How much of a second the syncs may take before the rest waits for the next. */
#define SYNC_BUDGET_MS 200

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

void store_grow_slots(struct store_segment *seg, uint32_t used)
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
		seg->slots_room = room;
	}
	if (used > seg->slots_used) {
		memset(seg->slots + (size_t)seg->slots_used * SEGMENT_SLOT_BYTES, 0,
			(size_t)(used - seg->slots_used) * SEGMENT_SLOT_BYTES);
		seg->slots_used = used;
	}
}

/* ---- files ---- */

void store_close_file(struct store *s, struct store_segment *seg)
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

		if (s->open_count >= STORE_OPEN_MAX) {
			struct list *oldest = list_first(&s->open);
			struct store_segment *old =
				CONTAINER_OF(oldest, struct store_segment, open);

			store_close_file(s, old);
		}
		enum err e = segment_open(s->queue_dir, seg->info.id, true, &seg->fd, &info);

		if (e != ERR_OK) {
			errno = e == ERR_CORRUPT ? EBADMSG : errno;
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

/* Slots that cannot be written, or not be made to last: nothing more is to be delivered. */
static void judge(struct store *s, const char *what)
{
	bool sick = s->unwritable || s->unsyncable;

	if (s->sick == sick) {
		return;
	}
	s->sick = sick;
	if (sick) {
		log_error("event=slots_unwritable what=%s err=\"%s\"", what, strerror(errno));
	} else {
		log_info("event=slots_writable");
	}
	s->events->on_sick(s->arg, sick);
}

static void arm_sync(struct store *s)
{
	if (!s->sync_timer.armed) {
		loop_timer_start(&s->sync_timer, SYNC_EVERY_MS);
	}
}

static bool write_slots(struct store *s, struct store_segment *seg)
{
	int fd = store_fd(s, seg);

	if (fd < 0 && (errno == ENOENT || errno == EBADMSG)) {
		/* Somebody has taken the file away, or made it something else: there is nothing
		 * left to write to, and the others must go on. */
		log_error("event=segment_vanished segment=%016llx live=%u",
			(unsigned long long)seg->info.id, seg->live);
		seg->dirty_from = 0;
		seg->dirty_to = 0;
		list_remove(&seg->dirty);
		return true;
	}
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
	arm_sync(s);
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
			store_close_file(s, seg);
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
		s->unsyncable = true;
		judge(s, "sync");
	} else if (list_is_empty(&s->unsynced)) {
		/* Not before: that something can be written says nothing about what lasts. */
		s->unsyncable = false;
		judge(s, "sync");
	}
	if (s->sick || s->unremoved || !list_is_empty(&s->unsynced)) {
		arm_sync(s);
	}
}

/* ---- removal ---- */

static void release(struct store *s, struct store_segment *seg)
{
	store_close_file(s, seg);
	list_remove(&seg->dirty);
	list_remove(&seg->unsynced);
	hash_id_table_remove(&s->by_id, &seg->by_id);
	s->all[seg->index] = NULL;
	s->segment_count--;
	free(seg->slots);
	free(seg->records);
	free(seg);
}

void store_remove_if_finished(struct store *s, struct store_segment *seg)
{
	char name[SEGMENT_NAME_MAX];

	if (seg->live > 0 || seg->pins > 0 || !seg->sealed || seg->announced || seg->keep) {
		return;
	}
	segment_name(seg->info.id, name);
	if (unlinkat(s->queue_dir, name, 0) != 0 && errno != ENOENT) {
		/* Costs space, and no more: all that was in it is settled. */
		if (!s->unremoved && log_may(&s->removal_gate)) {
			log_error("event=remove_failed segment=%s err=\"%s\"", name,
				strerror(errno));
		}
		s->unremoved = true;
		arm_sync(s);
		return;
	}
	s->events->on_remove(s->arg, seg);
	s->dir_unsynced = true;
	arm_sync(s);
	release(s, seg);
}

static void on_flush(void *arg)
{
	struct store *s = arg;
	struct list *l = list_first(&s->dirty);

	while (l != NULL) {
		struct store_segment *seg = CONTAINER_OF(l, struct store_segment, dirty);

		if (!write_slots(s, seg)) {
			s->unwritable = true;
			judge(s, "write");
			arm_sync(s);
			return;
		}
		store_remove_if_finished(s, seg);
		l = list_first(&s->dirty);
	}
	s->unwritable = false;
	judge(s, "write");
}

static void on_sync_time(void *arg)
{
	struct store *s = arg;

	/* Whatever failed is tried again: removals, slots, syncs. */
	if (s->unremoved) {
		s->unremoved = false;
		for (uint32_t i = 0; i < s->all_count; i++) {
			if (s->all[i] != NULL) {
				store_remove_if_finished(s, s->all[i]);
			}
		}
	}
	on_flush(s);
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
	s->removal_gate = (struct log_gate){.burst = 5, .period_s = 60};
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
 * An index that has become free is taken again, so that the vector is as long as there are
 * segments at once and not as there ever were. What still names the old segment by it is an
 * entry of the waiting heap, which asks the slot before it believes; parked recipients and
 * messages pin theirs.
 */
static uint32_t free_index(struct store *s)
{
	while (s->all_count > 0 && s->all[s->all_count - 1] == NULL) {
		s->all_count--;
	}
	/* At least every second place is free: the search is short. */
	for (uint32_t i = 0; s->segment_count < s->all_count / 2 && i < s->all_count; i++) {
		s->hole = s->hole + 1 < s->all_count ? s->hole + 1 : 0;
		if (s->all[s->hole] == NULL) {
			return s->hole;
		}
	}
	if (s->all_count == s->all_room) {
		s->all_room = s->all_room == 0 ? 16 : s->all_room * 2;
		s->all = alloc_resize(s->all, s->all_room, sizeof(struct store_segment *));
	}
	return s->all_count++;
}

struct store_segment *store_segment_add(struct store *s, const struct segment_info *info,
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
	seg->index = free_index(s);
	s->all[seg->index] = seg;
	s->segment_count++;
	hash_id_table_insert(&s->by_id, &seg->by_id, info->id);
	if (seg->fd >= 0) {
		list_append(&s->open, &seg->open);
		s->open_count++;
	}
	return seg;
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
		store_remove_if_finished(s, seg);
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
