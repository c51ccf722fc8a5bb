/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crc32c.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/io/fd.h"
#include "common/queue/layout.h"
#include "common/queue/planted.h"
#include "common/queue/segment_file.h"
#include "common/queue/segment_writer.h"

/* What a group may hold in memory; a larger message goes the way of segment_big. */
#define GROUP_MAX ((size_t)256 * 1024 * 1024)
/* What the buffers keep between groups. */
#define GROUP_KEEP ((size_t)8 * 1024 * 1024)
/* Filling of the last page of two parts. */
#define GROUP_SLACK ((size_t)2 * SEGMENT_PAGE)
/* After a failure the next segment is not made ahead for so long: the disk is probably full. */
#define PREPARE_PAUSE_MS 1000

/* The records of a group that go to one file: bytes of the group buffer. */
struct part {
	struct segment_file *file;
	size_t from;
	size_t to;        /* the last part: to the end of the buffer */
	uint64_t file_at; /* a multiple of SEGMENT_PAGE */
	size_t first_record;
	bool is_last; /* nothing goes to the file afterwards */
};

struct sealed {
	uint64_t segment;
	uint64_t end;
};

struct segment_writer {
	struct segment_maker maker;
	const struct segment_writer_events *events;
	void *arg;
	struct queue_id_source ids;
	char next_id[QUEUE_ID_BYTES + 1]; /* empty: not drawn yet */
	struct segment_file *current;
	struct segment_file *next;
	int64_t prepare_not_before_ms;
	bool is_late; /* a planted fault */

	struct buf group;
	struct buf envelope;
	struct part *parts;
	size_t part_count;
	size_t part_room;
	struct layout_record *records;
	size_t record_count;
	size_t record_room;

	/* To be told at the next call: the caller first tells what the last commit made
	 * durable. */
	struct sealed *sealed;
	size_t sealed_count;
	size_t sealed_room;
};

struct segment_big {
	struct segment_writer *writer;
	struct segment_file *file;
	struct layout_record record;
	struct buf waiting; /* content that is not in the file yet */
	uint64_t at;        /* where it goes */
};

static size_t room_for(size_t count, size_t room)
{
	return count < room ? room : room == 0 ? 8 : room * 2;
}

enum err segment_writer_new(int dir, unsigned writer,
	const struct segment_writer_events *events, void *arg, struct segment_writer **out)
{
	struct segment_writer *w = alloc_zero(1, sizeof(*w));

	w->maker = (struct segment_maker){.dir = dir, .writer = writer};
	w->events = events;
	w->arg = arg;
	queue_id_source_init(&w->ids, writer);
	buf_init(&w->group, GROUP_MAX + GROUP_SLACK);
	buf_init(&w->envelope, GROUP_MAX);
	segment_file_sweep(&w->maker);
	*out = w;
	return ERR_OK;
}

static void tell_open(struct segment_writer *w, uint64_t segment)
{
	if (w->events != NULL && w->events->on_open != NULL) {
		w->events->on_open(w->arg, segment);
	}
}

static void tell_sealed(struct segment_writer *w)
{
	size_t count = w->sealed_count;

	w->sealed_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (w->events != NULL && w->events->on_sealed != NULL) {
			w->events->on_sealed(w->arg, w->sealed[i].segment, w->sealed[i].end);
		}
	}
}

static void note_sealed(struct segment_writer *w, const struct segment_file *f)
{
	size_t room = room_for(w->sealed_count, w->sealed_room);

	if (room != w->sealed_room) {
		w->sealed = alloc_resize(w->sealed, room, sizeof(*w->sealed));
		w->sealed_room = room;
	}
	w->sealed[w->sealed_count++] = (struct sealed){.segment = f->info.id, .end = f->end};
}

static void seal(struct segment_writer *w, struct segment_file **f)
{
	if (*f != NULL && (*f)->is_named) {
		note_sealed(w, *f);
	}
	segment_file_close(&w->maker, f);
}

static void forget_group(struct segment_writer *w)
{
	w->part_count = 0;
	w->record_count = 0;
	buf_shrink(&w->group, GROUP_KEEP);
	buf_shrink(&w->envelope, GROUP_KEEP);
}

void segment_writer_free(struct segment_writer **writer)
{
	struct segment_writer *w = *writer;

	if (w == NULL) {
		return;
	}
	for (size_t i = 0; i < w->part_count; i++) {
		if (w->parts[i].file != w->current) {
			seal(w, &w->parts[i].file);
		}
	}
	seal(w, &w->current);
	segment_file_close(&w->maker, &w->next);
	tell_sealed(w);
	buf_clear(&w->group);
	buf_clear(&w->envelope);
	free(w->parts);
	free(w->records);
	free(w->sealed);
	ALLOC_FREE(*writer);
}

const char *segment_writer_next_id(struct segment_writer *w)
{
	if (w->next_id[0] == 0) {
		queue_id_next(&w->ids, clock_wall_us(), w->next_id);
	}
	return w->next_id;
}

void segment_writer_use_id(struct segment_writer *w, const char id[QUEUE_ID_BYTES + 1])
{
	memcpy(w->next_id, id, QUEUE_ID_BYTES);
	w->next_id[QUEUE_ID_BYTES] = 0;
}

static void take_id(struct segment_writer *w, char to[QUEUE_ID_BYTES + 1])
{
	memcpy(to, segment_writer_next_id(w), QUEUE_ID_BYTES + 1);
	w->next_id[0] = 0;
}

size_t segment_writer_pending(const struct segment_writer *w)
{
	return buf_len(&w->group);
}

/* ---- room for a record ---- */

static struct part *last_part(struct segment_writer *w)
{
	return w->part_count == 0 ? NULL : &w->parts[w->part_count - 1];
}

static bool part_is_open(struct segment_writer *w)
{
	struct part *p = last_part(w);

	return p != NULL && w->current != NULL && p->file == w->current;
}

/* A whole number of pages: the next part, or the next group, begins on one. */
static void fill_page(struct segment_writer *w)
{
	size_t len = buf_len(&w->group);
	size_t fill = num_round_up(len, SEGMENT_PAGE) - len;
	uint8_t *to = buf_reserve(&w->group, fill);

	assert(to != NULL);
	memset(to, 0, fill);
	buf_commit(&w->group, fill);
}

static void end_part(struct segment_writer *w)
{
	/* Parts begin at multiples of the page in the buffer too. */
	fill_page(w);
	last_part(w)->to = buf_len(&w->group);
}

/* Nothing more goes to the current file. */
static void leave_current(struct segment_writer *w)
{
	if (part_is_open(w)) {
		end_part(w);
		last_part(w)->is_last = true;
		w->current = NULL;
	} else if (w->current->is_named || w->next != NULL) {
		seal(w, &w->current);
	} else {
		w->next = w->current;
		w->current = NULL;
	}
}

/* Where the bytes of the open part end in its file. */
static uint64_t part_end(struct segment_writer *w)
{
	const struct part *p = last_part(w);

	return p->file_at + (buf_len(&w->group) - p->from);
}

/* Where the next record goes. */
static uint64_t record_at(struct segment_writer *w)
{
	return part_is_open(w) ? num_round_up(part_end(w), SEGMENT_ALIGN)
			       : num_round_up(w->current->end, SEGMENT_PAGE);
}

static bool current_has_room(struct segment_writer *w, uint64_t length, uint32_t rcpts)
{
	const struct segment_file *f = w->current;

	if (f == NULL || rcpts > f->info.slot_capacity - f->pending_slots_end) {
		return false;
	}
	uint64_t at = record_at(w);
	return at <= f->limit && length <= f->limit - at;
}

/* Sees to it that the current file has room. */
static enum err find_room(struct segment_writer *w, uint64_t length, uint32_t rcpts)
{
	if (current_has_room(w, length, rcpts)) {
		return ERR_OK;
	}
	struct segment_file *f = NULL;
	uint32_t slots = (uint32_t)num_round_up(rcpts, SEGMENT_PAGE / SEGMENT_SLOT_BYTES);
	uint64_t limit = layout_data_at(slots) + num_round_up(length, SEGMENT_PAGE);
	enum err e = ERR_OK;

	if (rcpts > SEGMENT_SLOTS || length > SEGMENT_BYTES - layout_data_at(SEGMENT_SLOTS)) {
		e = segment_file_new(&w->maker, slots, limit, &f);
	} else if (w->next != NULL) {
		f = w->next;
		w->next = NULL;
	} else {
		e = segment_file_new(&w->maker, SEGMENT_SLOTS, SEGMENT_BYTES, &f);
	}
	if (e != ERR_OK) {
		return e;
	}
	if (w->current != NULL) {
		leave_current(w);
	}
	w->current = f;
	return ERR_OK;
}

static void begin_part(struct segment_writer *w)
{
	size_t room = room_for(w->part_count, w->part_room);

	if (room != w->part_room) {
		w->parts = alloc_resize(w->parts, room, sizeof(*w->parts));
		w->part_room = room;
	}
	w->parts[w->part_count++] = (struct part){
		.file = w->current,
		.from = buf_len(&w->group),
		.file_at = num_round_up(w->current->end, SEGMENT_PAGE),
		.first_record = w->record_count,
	};
}

static struct layout_record *new_record(struct segment_writer *w)
{
	size_t room = room_for(w->record_count, w->record_room);

	if (room != w->record_room) {
		w->records = alloc_resize(w->records, room, sizeof(*w->records));
		w->record_room = room;
	}
	return &w->records[w->record_count++];
}

/* ---- adding ---- */

static uint8_t *put_bytes(uint8_t *to, struct slice s)
{
	if (s.p != NULL && s.n != 0) {
		memcpy(to, s.p, s.n);
	}
	return to + s.n;
}

/* The record's bytes at the end of the buffer, the header left for the commit. */
static void append_record(struct segment_writer *w, struct layout_record *r, size_t gap,
	struct slice head, struct slice content)
{
	struct slice envelope = buf_view(&w->envelope);
	size_t n = gap + (size_t)r->record.length;
	uint8_t *to = buf_reserve(&w->group, n);

	assert(to != NULL);
	memset(to, 0, gap + SEGMENT_RECORD_HEADER_BYTES);
	uint8_t *payload = to + gap + SEGMENT_RECORD_HEADER_BYTES;
	uint8_t *p = put_bytes(put_bytes(put_bytes(payload, envelope), head), content);
	r->record.payload_crc = crc32c(0, slice_make(payload, (size_t)(p - payload)));
	buf_commit(&w->group, n);
}

enum err segment_writer_add(struct segment_writer *w, const struct envelope *e,
	struct slice head, struct slice content, int64_t accepted_us,
	struct segment_record *out, uint64_t *segment)
{
	tell_sealed(w);
	buf_reset(&w->envelope);
	enum err err = envelope_encode(e, &w->envelope);
	if (err != ERR_OK) {
		return err;
	}
	size_t left = GROUP_MAX - buf_len(&w->group);
	size_t fixed = SEGMENT_PAGE + SEGMENT_RECORD_HEADER_BYTES + buf_len(&w->envelope);
	if (buf_len(&w->group) > GROUP_MAX || fixed > left || head.n > left - fixed ||
		content.n > left - fixed - head.n) {
		return ERR_TOOBIG;
	}
	struct layout_record r = {.record = {
					  .rcpt_count = e->rcpt_count,
					  .flags = e->flags,
					  .envelope_bytes = (uint32_t)buf_len(&w->envelope),
					  .head_bytes = (uint32_t)head.n,
					  .content_bytes = content.n,
					  .accepted_us = accepted_us,
				  }};
	layout_record_place(&r); /* for its length */
	err = find_room(w, r.record.length, e->rcpt_count);
	if (err != ERR_OK) {
		return err;
	}
	struct segment_file *f = w->current;
	if (!part_is_open(w)) {
		begin_part(w);
	}
	r.record.offset = record_at(w);
	r.record.first_slot = f->pending_slots_end;
	layout_record_place(&r);
	take_id(w, r.record.queue_id);

	append_record(w, &r, (size_t)(r.record.offset - part_end(w)), head, content);
	*new_record(w) = r;
	f->pending_slots_end += e->rcpt_count;
	*out = r.record;
	*segment = f->info.id;
	return ERR_OK;
}

/* ---- committing ---- */

static void write_headers(struct segment_writer *w, const struct part *p, size_t record_end)
{
	uint8_t *bytes = w->group.data + w->group.start + p->from;

	for (size_t i = p->first_record; i < record_end; i++) {
		struct layout_record *r = &w->records[i];
		r->group_at = p->file_at;
		r->group_end = p->file_at + (p->to - p->from);
		layout_record_encode(&p->file->info, r,
			bytes + (r->record.offset - p->file_at));
	}
}

static enum err write_part(struct segment_writer *w, const struct part *p)
{
	struct segment_file *f = p->file;
	struct slice bytes = {buf_view(&w->group).p + p->from, p->to - p->from};
	enum err e = PLANTED_ACK_EARLY ? segment_file_sync(f->fd) : ERR_OK;

	if (e == ERR_OK) {
		e = fd_pwrite_all(f->fd, bytes, (off_t)p->file_at);
	}
	if (e == ERR_OK && !PLANTED_ACK_EARLY) {
		e = segment_file_sync(f->fd);
	}
	if (e == ERR_OK && !f->is_named) {
		e = segment_file_publish(&w->maker, f);
	}
	return e;
}

/* Of the group nothing may remain: parts up to the failed one were written, the others not. */
static void undo_parts(struct segment_writer *w, size_t failed)
{
	for (size_t i = 0; i < w->part_count; i++) {
		struct segment_file *f = w->parts[i].file;
		bool is_current = f == w->current;

		f->pending_slots_end = f->slots_end;
		if (i > failed && is_current) {
			continue;
		}
		if (is_current) {
			w->current = NULL;
		}
		if (f->is_named && f->end != f->info.data_at) {
			note_sealed(w, f);
		}
		segment_file_abandon(&w->maker, &f);
	}
}

static void settle_parts(struct segment_writer *w)
{
	for (size_t i = 0; i < w->part_count; i++) {
		struct part *p = &w->parts[i];
		struct segment_file *f = p->file;
		size_t record_end =
			i + 1 < w->part_count ? w->parts[i + 1].first_record : w->record_count;
		const struct segment_record *last = &w->records[record_end - 1].record;
		bool is_first = f->end == f->info.data_at;

		f->end = last->offset + last->length;
		f->slots_end = last->first_slot + last->rcpt_count;
		if (is_first) {
			tell_open(w, f->info.id);
		}
		if (p->is_last) {
			seal(w, &f);
		}
	}
}

enum err segment_writer_commit(struct segment_writer *w)
{
	enum err e = ERR_OK;
	size_t i = 0;

	tell_sealed(w);
	if (w->part_count == 0) {
		return ERR_OK;
	}
	w->is_late = PLANTED_COMMIT_LATE && !w->is_late;
	if (w->is_late) {
		return ERR_OK;
	}
	if (part_is_open(w)) {
		end_part(w);
	}
	for (size_t n = 0; n < w->part_count; n++) {
		write_headers(w, &w->parts[n],
			n + 1 < w->part_count ? w->parts[n + 1].first_record : w->record_count);
	}
	for (i = 0; i < w->part_count && e == ERR_OK; i++) {
		e = write_part(w, &w->parts[i]);
	}
	if (e == ERR_OK) {
		settle_parts(w);
	} else {
		undo_parts(w, i - 1);
		w->prepare_not_before_ms = clock_mono_ms() + PREPARE_PAUSE_MS;
	}
	int saved = errno;
	forget_group(w);
	errno = saved;
	return e;
}

void segment_writer_rotate(struct segment_writer *w, uint64_t segment)
{
	tell_sealed(w);
	if (w->current != NULL && w->current->is_named && w->current->info.id == segment) {
		leave_current(w);
	}
	tell_sealed(w);
}

bool segment_writer_current(const struct segment_writer *w, uint64_t *segment, uint64_t *end)
{
	if (w->current == NULL || !w->current->is_named) {
		return false;
	}
	*segment = w->current->info.id;
	*end = w->current->end;
	return true;
}

void segment_writer_prepare(struct segment_writer *w)
{
	const struct segment_file *f = w->current;

	tell_sealed(w);
	if (w->next != NULL || clock_mono_ms() < w->prepare_not_before_ms) {
		return;
	}
	/* A quiet relay need not keep a second file; a busy one has half a segment's time. */
	if (f != NULL && f->end < SEGMENT_BYTES / 2 && f->slots_end < SEGMENT_SLOTS / 2) {
		return;
	}
	if (segment_file_new(&w->maker, SEGMENT_SLOTS, SEGMENT_BYTES, &w->next) != ERR_OK) {
		w->prepare_not_before_ms = clock_mono_ms() + PREPARE_PAUSE_MS;
	}
}

/* ---- a message too large for memory ---- */

/* Content goes to the file in pieces of this size; its buffer grows to half as much again. */
#define BIG_PIECE (SEGMENT_BIG_MEMORY / 3 * 2)
/* The disk is set to work this often, so that the sync at the end is short. */
#define BIG_WRITEBACK UINT64_C(0x400000)

static enum err big_write_out(struct segment_big *b, struct slice s)
{
	enum err e = fd_pwrite_all(b->file->fd, s, (off_t)b->at);

	if (e != ERR_OK) {
		return e;
	}
	if ((b->at + s.n) / BIG_WRITEBACK != b->at / BIG_WRITEBACK) {
		uint64_t from = b->at / BIG_WRITEBACK * BIG_WRITEBACK;
		(void)sync_file_range(b->file->fd, (off_t)from, (off_t)(b->at + s.n - from),
			SYNC_FILE_RANGE_WRITE);
	}
	b->record.record.payload_crc = crc32c(b->record.record.payload_crc, s);
	b->at += s.n;
	return ERR_OK;
}

static enum err big_flush(struct segment_big *b)
{
	enum err e = big_write_out(b, buf_view(&b->waiting));

	buf_reset(&b->waiting);
	return e;
}

void segment_big_abort(struct segment_big **big)
{
	struct segment_big *b = *big;
	int saved = errno;

	if (b == NULL) {
		return;
	}
	segment_file_abandon(&b->writer->maker, &b->file);
	buf_clear(&b->waiting);
	ALLOC_FREE(*big);
	errno = saved;
}

enum err segment_big_begin(struct segment_writer *w, const struct envelope *e,
	struct segment_big **out)
{
	tell_sealed(w);
	buf_reset(&w->envelope);
	enum err err = envelope_encode(e, &w->envelope);
	if (err != ERR_OK) {
		return err;
	}
	struct segment_big *b = alloc_zero(1, sizeof(*b));
	b->writer = w;
	buf_init(&b->waiting, BIG_PIECE);
	uint32_t slots =
		(uint32_t)num_round_up(e->rcpt_count, SEGMENT_PAGE / SEGMENT_SLOT_BYTES);
	err = segment_file_new(&w->maker, slots, 0, &b->file);
	if (err == ERR_OK) {
		b->record = (struct layout_record){.content_first = true,
			.group_at = b->file->info.data_at,
			.record = {
				.offset = b->file->info.data_at,
				.rcpt_count = e->rcpt_count,
				.flags = e->flags,
				.envelope_bytes = (uint32_t)buf_len(&w->envelope),
			}};
		b->at = b->record.record.offset + SEGMENT_RECORD_HEADER_BYTES;
		err = big_write_out(b, buf_view(&w->envelope));
	}
	buf_shrink(&w->envelope, GROUP_KEEP);
	if (err != ERR_OK) {
		segment_big_abort(&b);
		return err;
	}
	take_id(w, b->record.record.queue_id);
	*out = b;
	return ERR_OK;
}

enum err segment_big_content(struct segment_big *b, struct slice bytes)
{
	enum err e = ERR_OK;

	if (bytes.n > BIG_PIECE - buf_len(&b->waiting)) {
		e = big_flush(b);
	}
	if (e == ERR_OK && bytes.n <= BIG_PIECE) {
		e = buf_append(&b->waiting, bytes);
	} else if (e == ERR_OK) {
		e = big_write_out(b, bytes);
	}
	if (e == ERR_OK) {
		b->record.record.content_bytes += bytes.n;
	}
	return e;
}

uint64_t segment_big_bytes(const struct segment_big *b)
{
	return b->record.record.content_bytes;
}

void segment_big_add_flags(struct segment_big *b, uint32_t flags)
{
	b->record.record.flags |= flags;
}

/* The rest of the file, the record's header, and all of it to the disk. */
static enum err big_finish(struct segment_big *b, struct slice head)
{
	struct layout_record *r = &b->record;
	uint8_t header[SEGMENT_RECORD_HEADER_BYTES];
	enum err e = head.n > UINT32_MAX ? ERR_TOOBIG : big_flush(b);

	if (e == ERR_OK) {
		e = big_write_out(b, head);
	}
	if (e != ERR_OK) {
		return e;
	}
	r->record.head_bytes = (uint32_t)head.n;
	layout_record_place(r);
	assert(r->record.offset + r->record.length == b->at);
	r->group_end = num_round_up(b->at, SEGMENT_PAGE);
	layout_record_encode(&b->file->info, r, header);
	e = fd_pwrite_all(b->file->fd, slice_make(header, sizeof(header)),
		(off_t)r->record.offset);
	/* As in any segment, a group is whole pages. */
	if (e == ERR_OK && ftruncate(b->file->fd, (off_t)r->group_end) != 0) {
		e = err_from_errno();
	}
	return e == ERR_OK ? segment_file_sync(b->file->fd) : e;
}

enum err segment_big_commit(struct segment_big **big, struct slice head, int64_t accepted_us,
	struct segment_record *out, uint64_t *segment)
{
	struct segment_big *b = *big;
	struct segment_writer *w = b->writer;

	tell_sealed(w);
	b->record.record.accepted_us = accepted_us;
	enum err e = big_finish(b, head);
	if (e == ERR_OK) {
		e = segment_file_publish(&w->maker, b->file);
	}
	if (e != ERR_OK) {
		segment_big_abort(big);
		return e;
	}
	*out = b->record.record;
	*segment = b->file->info.id;
	b->file->end = out->offset + out->length;
	b->file->slots_end = out->rcpt_count;
	tell_open(w, b->file->info.id);
	seal(w, &b->file);
	segment_big_abort(big);
	return ERR_OK;
}
