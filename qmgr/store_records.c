/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the store: how they come to be known, and what becomes of damaged ones. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/io/fd.h"
#include "qmgr/store_parts.h"

static void append_record(struct store_segment *seg, const struct record_ref *r)
{
	if (seg->record_count == seg->record_room) {
		uint32_t room = seg->record_room == 0 ? 16 : seg->record_room * 2;

		seg->records = alloc_resize(seg->records, room, sizeof(*seg->records));
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

static void owe(struct store_segment *seg, uint64_t end)
{
	seg->owed_end = end > seg->owed_end ? end : seg->owed_end;
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
	if (seg->owed_end > seg->known_end) {
		/* There is something before it that could not be read: all is found in its
		 * order when it can. */
		owe(seg, num_round_up(r->offset + length, SEGMENT_ALIGN));
		return ERR_AGAIN;
	}
	store_grow_slots(seg, r->first_slot + r->rcpt_count);
	append_record(seg, r);
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
		seg->keep = true; /* it has the only copy */
	}
}

/* Takes in a record that was read, with its slots. Nothing has changed when they cannot be. */
static enum err take_in(struct store *s, struct store_segment *seg,
	const struct segment_record *r, uint64_t *found)
{
	struct record_ref ref = {.offset = r->offset,
		.first_slot = r->first_slot,
		.rcpt_count = r->rcpt_count};
	uint32_t live = 0;

	if (!record_is_sane(seg, &ref)) {
		tell_damage(s, seg, r->offset, r->length, "slots of another record");
		return ERR_OK;
	}
	uint8_t *slots = alloc_bytes((size_t)r->rcpt_count * SEGMENT_SLOT_BYTES);
	enum err e = segment_read_slots(seg->fd, r->first_slot, r->rcpt_count, slots);

	if (e == ERR_OK) {
		store_grow_slots(seg, r->first_slot + r->rcpt_count);
		memcpy(seg->slots + (size_t)r->first_slot * SEGMENT_SLOT_BYTES, slots,
			(size_t)r->rcpt_count * SEGMENT_SLOT_BYTES);
		append_record(seg, &ref);
	}
	free(slots);
	if (e != ERR_OK) {
		return e;
	}
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
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
	return ERR_OK;
}

/*
 * Takes in the records between what is known and limit. What has been taken in is known from
 * then on, also when the rest cannot be read.
 */
static enum err scan(struct store *s, struct store_segment *seg, uint64_t limit,
	uint64_t *found)
{
	uint64_t at = seg->known_end;
	uint64_t torn = 0;
	enum segment_found what = SEGMENT_END;
	struct segment_record r;
	enum err e;

	if (store_fd(s, seg) < 0) {
		return ERR_SYS;
	}
	do {
		/* What an unannounced tail holds may be torn: every byte is checked there. */
		e = segment_next(seg->fd, &seg->info, &at, limit, limit == UINT64_MAX, &what,
			&r, &torn);
		if (e == ERR_OK && what == SEGMENT_DAMAGED) {
			tell_damage(s, seg, r.offset, r.length, "no valid record");
		} else if (e == ERR_OK && what == SEGMENT_RECORD) {
			e = take_in(s, seg, &r, found);
		}
		if (e == ERR_OK) {
			seg->known_end = at;
		}
	} while (e == ERR_OK && what != SEGMENT_END);
	if (e == ERR_OK && limit != UINT64_MAX && limit > seg->known_end) {
		seg->known_end = limit;
	}
	if (e != ERR_OK) {
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
		seg = store_segment_add(s, &info, &fd);
	}
	if (seg->announced && seg->writer != writer) {
		return ERR_DENIED;
	}
	seg->announced = true;
	seg->sealed = false;
	seg->writer = writer;
	owe(seg, end);
	if (seg->owed_end > seg->known_end) {
		enum err e = scan(s, seg, seg->owed_end, &found);

		if (e != ERR_OK) {
			return e;
		}
	}
	*out = seg;
	return ERR_OK;
}

void store_sealed(struct store *s, unsigned writer, uint64_t id)
{
	struct store_segment *seg = store_find(s, id);

	if (seg != NULL && seg->announced && seg->writer == writer) {
		/* With something unread in it, it stays open to the sweeps. */
		seg->sealed = seg->owed_end <= seg->known_end;
		seg->announced = false;
		store_remove_if_finished(s, seg);
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
		store_remove_if_finished(s, seg);
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
	if (s->open_count >= STORE_OPEN_MAX) {
		store_close_file(s,
			CONTAINER_OF(list_first(&s->open), struct store_segment, open));
	}
	adopt(s, store_segment_add(s, &info, &fd), found);
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
		struct store_segment *seg = s->all[i];

		if (seg != NULL && seg->announced && seg->owed_end > seg->known_end) {
			if (scan(s, seg, seg->owed_end, &found) != ERR_OK) {
				continue; /* again with the next sweep */
			}
		} else if (seg != NULL && !seg->announced && !seg->sealed) {
			adopt(s, seg, &found);
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

bool store_quarantine(struct store *s, struct store_segment *seg, const struct record_ref *r,
	const char *why)
{
	struct segment_record rec;
	uint64_t bytes = SEGMENT_RECORD_HEADER_BYTES;

	if (store_fd(s, seg) < 0) {
		return false;
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
	return true;
}
