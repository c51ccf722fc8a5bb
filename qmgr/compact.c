/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/compact.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/fd.h"
#include "common/queue/segment_writer.h"
#include "qmgr/due.h"

/* The number of qmgr among the writers of segments; cleanup processes have the lower ones. */
#define COPY_WRITER 51u
/* Ids of segments are microseconds with the writer's number in the last six bits. */
#define WRITER_OF(id) ((unsigned)((id) % 64u))
/* Smaller segments pin too little to be worth the copy. */
#define LEAST_BYTES (4u * 1024 * 1024)
/* At most this share of a segment may be alive. */
#define LIVE_SHARE 4u
/* What one tick may read and write: it is done in one go, while no mail moves. */
#define STEP_BYTES (8u * 1024 * 1024)
/* Not while its messages are being worked on. */
#define QUIET_MS 10000

struct copied {
	struct record_ref from;
	struct segment_record to;
	uint64_t segment;
};

struct compact {
	struct qmgr *q;
	struct segment_writer *writer;
	uint32_t next; /* index of the segment to be looked at */
	struct copied *batch;
	size_t count;
	size_t room;
};

static void on_sealed(void *arg, uint64_t segment, uint64_t end)
{
	struct compact *k = arg;

	(void)end;
	store_sealed(k->q->store, COPY_WRITER, segment);
}

enum err compact_new(struct qmgr *q)
{
	static const struct segment_writer_events events = {.on_sealed = on_sealed};
	struct compact *k = alloc_zero(1, sizeof(*k));
	enum err e;

	k->q = q;
	e = segment_writer_new(q->queue_dir, COPY_WRITER, &events, k, &k->writer);
	if (e != ERR_OK) {
		free(k);
		return e;
	}
	q->compact = k;
	return ERR_OK;
}

void compact_free(struct qmgr *q)
{
	if (q->compact != NULL) {
		segment_writer_free(&q->compact->writer);
		free(q->compact->batch);
		ALLOC_FREE(q->compact);
	}
}

/* ---- choosing ---- */

static uint64_t record_length(const struct store_segment *seg, uint32_t i)
{
	uint64_t end = i + 1 < seg->record_count ? seg->records[i + 1].offset : seg->known_end;

	return end - seg->records[i].offset;
}

static bool record_is_live(const struct store_segment *seg, const struct record_ref *r)
{
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
		struct slot slot = store_slot(seg, i);

		if (!slot_is_final(&slot)) {
			return true;
		}
	}
	return false;
}

static bool is_worth_it(const struct compact *k, const struct store_segment *seg)
{
	uint64_t alive = 0;

	if (!seg->sealed || seg->announced || seg->live == 0 || seg->pins > 0 ||
		seg->known_end < LEAST_BYTES ||
		loop_now_ms(k->q->loop) - seg->quiet_since_ms < QUIET_MS) {
		return false;
	}
	for (uint32_t i = 0; i < seg->record_count; i++) {
		if (record_is_live(seg, &seg->records[i])) {
			alive += record_length(seg, i);
		}
	}
	return alive <= STEP_BYTES && alive < seg->known_end / LIVE_SHARE;
}

/* ---- copying ---- */

static enum err read_part(int fd, uint64_t at, uint64_t n, struct arena *a, struct slice *out)
{
	uint8_t *to = arena_alloc(a, (size_t)n);

	if (to == NULL) {
		return ERR_TOOBIG;
	}
	*out = slice_make(to, (size_t)n);
	return fd_pread_all(fd, to, (size_t)n, (off_t)at);
}

static void keep_live_rcpts(const struct store_segment *seg, uint32_t first_slot,
	struct envelope *e)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		struct slot slot = store_slot(seg, first_slot + i);

		if (!slot_is_final(&slot)) {
			e->rcpts[kept++] = e->rcpts[i];
		}
	}
	e->rcpt_count = kept;
}

static enum err copy_record(struct compact *k, struct store_segment *seg,
	const struct record_ref *ref)
{
	struct segment_record r;
	struct envelope env;
	struct slice head;
	struct slice content;
	struct arena a;
	struct copied c = {.from = *ref};
	enum err e;

	arena_init(&a, 4 * (size_t)STEP_BYTES);
	e = segment_read_record(seg->fd, &seg->info, ref->offset, &r);
	if (e == ERR_OK) {
		e = segment_read_envelope(seg->fd, &r, true, &a, &env);
	}
	if (e == ERR_OK && env.rcpt_count != ref->rcpt_count) {
		e = ERR_CORRUPT;
	}
	if (e == ERR_OK) {
		e = read_part(seg->fd, r.head_at, r.head_bytes, &a, &head);
	}
	if (e == ERR_OK) {
		e = read_part(seg->fd, r.content_at, r.content_bytes, &a, &content);
	}
	if (e == ERR_OK) {
		keep_live_rcpts(seg, ref->first_slot, &env);
		env.flags = r.flags;
		segment_writer_use_id(k->writer, r.queue_id);
		e = segment_writer_add(k->writer, &env, head, content, r.accepted_us, &c.to,
			&c.segment);
	}
	arena_clear(&a);
	if (e != ERR_OK) {
		return e;
	}
	if (k->count == k->room) {
		k->room = k->room == 0 ? 64 : k->room * 2;
		k->batch = alloc_resize(k->batch, k->room, sizeof(*k->batch));
	}
	k->batch[k->count++] = c;
	return ERR_OK;
}

/* The copy takes over: its slots first, so that whoever dies in between repeats rather than
 * loses. */
static enum err take_over(struct compact *k, struct store_segment *old, const struct copied *c)
{
	struct qmgr *q = k->q;
	struct store_segment *seg;
	struct record_ref ref = {.offset = c->to.offset,
		.first_slot = c->to.first_slot,
		.rcpt_count = c->to.rcpt_count};
	uint32_t to = ref.first_slot;
	enum err e;

	e = store_announce(q->store, COPY_WRITER, c->segment, c->to.offset, &seg);
	if (e == ERR_OK) {
		e = store_add_record(q->store, seg, &ref, c->to.length);
	}
	if (e != ERR_OK) {
		return e;
	}
	for (uint32_t i = 0; i < c->from.rcpt_count; i++) {
		struct slot slot = store_slot(old, c->from.first_slot + i);

		if (slot_is_final(&slot)) {
			continue;
		}
		slot.flags &= (uint8_t)~SLOT_ACTIVE;
		store_set_slot(q->store, seg, to, &slot);
		if ((slot.flags & SLOT_HELD) == 0) {
			due_wait(q, seg, to, slot.next_at_s);
		}
		to++;
		slot.state = SLOT_MOVED;
		store_set_slot(q->store, old, c->from.first_slot + i, &slot);
	}
	return ERR_OK;
}

static void compact_segment(struct compact *k, struct store_segment *seg)
{
	struct qmgr *q = k->q;
	uint64_t id = seg->info.id;
	enum err e = store_fd(q->store, seg) < 0 ? ERR_SYS : ERR_OK;

	k->count = 0;
	for (uint32_t i = 0; e == ERR_OK && i < seg->record_count; i++) {
		if (record_is_live(seg, &seg->records[i])) {
			e = copy_record(k, seg, &seg->records[i]);
		}
	}
	if (e == ERR_OK) {
		e = segment_writer_commit(k->writer);
	}
	if (e != ERR_OK) {
		/* What was added and not committed is forgotten with the writer's group. */
		log_warn("event=compact_failed segment=%016llx err=\"%s\"",
			(unsigned long long)id, err_str(e));
		compact_free(q);
		if (compact_new(q) != ERR_OK) {
			log_error("event=compact_off");
		}
		return;
	}
	/* Held: the last record's going would remove it while it is being read. */
	store_pin(seg);
	for (size_t i = 0; e == ERR_OK && i < k->count; i++) {
		e = take_over(k, seg, &k->batch[i]);
	}
	store_unpin(q->store, seg);
	if (e != ERR_OK) {
		/* The copy is durable and cannot be used: of the two that there are now, only a
		 * new start can tell which one counts. */
		service_fail(q->service, "a copy could not be taken over");
		return;
	}
	log_info("event=compacted segment=%016llx messages=%zu", (unsigned long long)id,
		k->count);
}

/* Its own segment, once everything has left it. */
static void leave_finished(struct compact *k)
{
	uint64_t id;
	uint64_t end;

	if (segment_writer_current(k->writer, &id, &end)) {
		struct store_segment *seg = store_find(k->q->store, id);

		if (seg != NULL && seg->live == 0 && seg->pins == 0 && seg->record_count > 0) {
			segment_writer_rotate(k->writer, id);
		}
	}
}

void compact_tick(struct qmgr *q)
{
	struct compact *k = q->compact;

	if (k == NULL || q->sick || q->draining) {
		return;
	}
	leave_finished(k);
	for (uint32_t looked = 0; looked < 16 && looked < store_size(q->store); looked++) {
		struct store_segment *seg = store_at(q->store, k->next);

		k->next = k->next + 1 < store_size(q->store) ? k->next + 1 : 0;
		if (seg != NULL && is_worth_it(k, seg)) {
			compact_segment(k, seg);
			return;
		}
	}
}

/* ---- after a start ---- */

struct known_id {
	struct hash_link link;
	struct store_segment *segment;
	struct record_ref ref;
	char id[QUEUE_ID_BYTES];
};

/* Calls visit for each record of the segment that has live recipients, with its queue id. */
static void each_live(struct qmgr *q, struct store_segment *seg,
	void (*visit)(struct qmgr *q, struct hash_table *t, struct store_segment *seg,
		const struct record_ref *ref, const char *id),
	struct hash_table *t)
{
	struct segment_record r;

	for (uint32_t i = 0; seg->live > 0 && i < seg->record_count; i++) {
		if (record_is_live(seg, &seg->records[i]) && store_fd(q->store, seg) >= 0 &&
			segment_read_record(seg->fd, &seg->info, seg->records[i].offset, &r) ==
				ERR_OK) {
			visit(q, t, seg, &seg->records[i], r.queue_id);
		}
	}
}

static void note_original(struct qmgr *q, struct hash_table *t, struct store_segment *seg,
	const struct record_ref *ref, const char *id)
{
	struct slice key = slice_make(id, QUEUE_ID_BYTES);

	(void)q;
	if (hash_table_find(t, key) == NULL) {
		struct known_id *n = alloc_zero(1, sizeof(*n));

		n->segment = seg;
		n->ref = *ref;
		memcpy(n->id, id, QUEUE_ID_BYTES);
		hash_table_insert(t, &n->link, slice_make(n->id, QUEUE_ID_BYTES));
	}
}

/*
 * All live recipients of a record move at once; if some had moved and others not, a power cut
 * came between their pages. The copy goes, so here they wait again, all of them.
 */
static void take_back_moved(struct qmgr *q, const struct known_id *n)
{
	for (uint32_t i = 0; i < n->ref.rcpt_count; i++) {
		uint32_t number = n->ref.first_slot + i;
		struct slot slot = store_slot(n->segment, number);

		if (slot.state == SLOT_MOVED) {
			slot.state = SLOT_WAITING;
			store_set_slot(q->store, n->segment, number, &slot);
			if ((slot.flags & SLOT_HELD) == 0) {
				due_wait(q, n->segment, number, slot.next_at_s);
			}
		}
	}
}

static void drop_copy(struct qmgr *q, struct hash_table *t, struct store_segment *seg,
	const struct record_ref *ref, const char *id)
{
	struct hash_link *l = hash_table_find(t, slice_make(id, QUEUE_ID_BYTES));

	if (l == NULL) {
		note_original(q, t, seg, ref, id); /* of a copy of a copy */
		return;
	}
	take_back_moved(q, CONTAINER_OF(l, struct known_id, link));
	log_info("event=copy_dropped qid=%.12s", id);
	for (uint32_t i = ref->first_slot; i < ref->first_slot + ref->rcpt_count; i++) {
		struct slot slot = store_slot(seg, i);

		if (!slot_is_final(&slot)) {
			slot.state = SLOT_MOVED;
			store_set_slot(q->store, seg, i, &slot);
		}
	}
}

static bool is_copy(const struct store_segment *seg)
{
	return WRITER_OF(seg->info.id) == COPY_WRITER;
}

void compact_reconcile(struct qmgr *q)
{
	struct hash_table originals;
	struct hash_link *l;
	bool any = false;

	for (uint32_t i = 0; i < store_size(q->store); i++) {
		struct store_segment *seg = store_at(q->store, i);

		any = any || (seg != NULL && is_copy(seg) && seg->live > 0);
	}
	if (!any) {
		return;
	}
	hash_table_init(&originals);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < store_size(q->store); i++) {
			struct store_segment *seg = store_at(q->store, i);

			if (seg == NULL || is_copy(seg) != (pass == 1)) {
				continue;
			}
			store_pin(seg);
			each_live(q, seg, pass == 0 ? note_original : drop_copy, &originals);
			store_unpin(q->store, seg);
		}
	}
	while ((l = hash_table_next(&originals, NULL)) != NULL) {
		hash_table_remove(&originals, l);
		free(CONTAINER_OF(l, struct known_id, link));
	}
	hash_table_clear(&originals);
}
