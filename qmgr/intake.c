/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/intake.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "qmgr/due.h"
#include "qmgr/scheduler.h"

/* A segment that everything has left is given up after a quiet while, so that an idle relay
 * keeps no old mail. */
#define ROTATE_AFTER_MS 5000
/* Numbers from here on are not cleanup's: writers of segments have one each (compact.c). */
#define WRITERS_MAX 51u
#define TEXTS_MAX (64u * (LIMIT_ADDRESS + LIMIT_ORCPT) + 4096u)

static struct slice keep(struct intake *in, struct slice s)
{
	size_t at = buf_len(&in->texts);

	/* Reserved in full when the message began: the buffer does not move. */
	if (buf_append(&in->texts, s) != ERR_OK) {
		return SLICE_EMPTY;
	}
	return slice_make(buf_view(&in->texts).p + at, s.n);
}

/* The record's segment is held from the record to its last recipient. */
static void hold(struct intake *in, struct store_segment *seg)
{
	in->segment = seg;
	store_pin(seg);
}

static void release(struct intake *in)
{
	store_unpin(in->q->store, in->segment);
	in->segment = NULL;
}

static void take(struct intake *in)
{
	struct message *m = message_new(in->segment, &in->record, &in->envelope);

	scheduler_take(in->q, m, NULL, m->rcpt_count);
	message_unref(in->q->store, &m);
	buf_reset(&in->texts);
	release(in);
}

/* An envelope that did not come along is read when its recipients are due: now. */
static void take_from_disk(struct intake *in)
{
	const struct record_ref *r = store_record_of(in->segment, in->record.first_slot);

	if (r != NULL) {
		due_found(in->q, in->segment, r);
	}
	release(in);
}

static enum err on_segment_open(struct intake *in, const struct msg_segment_open *m)
{
	struct store_segment *seg;
	enum err e;

	if (in->missing > 0 || m->end > INT64_MAX) {
		return ERR_PROTO;
	}
	e = store_announce(in->q->store, in->index, m->segment, m->end, &seg);

	if (e != ERR_OK) {
		/* The disk is not to be read at the moment; a sweep will find what is in there.
		 */
		log_error("event=announce_failed segment=%016llx err=\"%s\"",
			(unsigned long long)m->segment, err_str(e));
	}
	return ERR_OK;
}

static enum err on_enqueue(struct intake *in, const struct msg_enqueue *m)
{
	struct store *store = in->q->store;
	struct store_segment *seg = store_find(store, m->segment);
	struct record_ref ref = {.offset = m->offset,
		.first_slot = m->first_slot,
		.rcpt_count = m->rcpt_count};
	enum err e;

	if (in->missing > 0 || !queue_id_is_valid(m->queue_id) ||
		(m->rcpts_follow != 0 && m->rcpts_follow != m->rcpt_count)) {
		return ERR_PROTO;
	}
	if (seg == NULL &&
		store_announce(store, in->index, m->segment, m->offset, &seg) != ERR_OK) {
		log_error("event=enqueue_unknown_segment segment=%016llx",
			(unsigned long long)m->segment);
		in->missing = m->rcpts_follow; /* found again by a sweep */
		return ERR_OK;
	}
	if (!seg->announced || seg->writer != in->index) {
		return ERR_PROTO; /* somebody else's */
	}
	e = store_add_record(store, seg, &ref, m->length);
	if (e == ERR_EXISTS || e == ERR_AGAIN) {
		in->missing = m->rcpts_follow; /* known already, or to be found by a sweep */
		return ERR_OK;
	}
	if (e != ERR_OK) {
		return ERR_PROTO;
	}
	hold(in, seg);
	in->record = (struct segment_record){.offset = m->offset,
		.length = m->length,
		.first_slot = m->first_slot,
		.rcpt_count = m->rcpt_count,
		.flags = m->flags,
		.head_at = m->head_offset,
		.head_bytes = m->head_bytes,
		.content_at = m->content_offset,
		.content_bytes = m->content_bytes,
		.accepted_us = m->accepted_us};
	memcpy(in->record.queue_id, m->queue_id.p, QUEUE_ID_BYTES);
	in->missing = m->rcpts_follow;
	if (m->rcpts_follow == 0) {
		take_from_disk(in);
		return ERR_OK;
	}
	buf_reset(&in->texts);
	if (buf_reserve(&in->texts, TEXTS_MAX) == NULL) {
		return ERR_PROTO; /* what is held goes the way of a cleanup that died */
	}
	in->envelope = (struct envelope){.sender = keep(in, m->sender),
		.envid = keep(in, m->envid),
		.tenant = keep(in, m->tenant),
		.ret = m->ret,
		.stream_class = m->stream_class,
		.priority = m->priority,
		.deadline_s = m->deadline_s,
		.flags = m->flags,
		.rcpt_count = 0,
		.rcpts = in->rcpts};
	return ERR_OK;
}

static enum err on_enqueue_rcpt(struct intake *in, const struct msg_enqueue_rcpt *m)
{
	if (in->missing == 0) {
		return ERR_PROTO;
	}
	in->missing--;
	if (in->segment == NULL) {
		return ERR_OK; /* known already */
	}
	in->rcpts[in->envelope.rcpt_count++] =
		(struct envelope_rcpt){.address = keep(in, m->address),
			.orcpt = keep(in, m->orcpt),
			.notify = m->notify};
	if (in->missing == 0) {
		take(in);
	}
	return ERR_OK;
}

#define ON(name, call)                                                                         \
	case MSG_ID_##name: {                                                                  \
		struct msg_##name m;                                                           \
		e = msg_##name##_decode(body, &m);                                             \
		if (e == ERR_OK) {                                                             \
			e = call;                                                              \
		}                                                                              \
		break;                                                                         \
	}

static enum err on_sealed(struct intake *in, const struct msg_segment_sealed *m)
{
	if (in->missing > 0) {
		return ERR_PROTO;
	}
	store_sealed(in->q->store, in->index, m->segment);
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct intake *in = arg;
	enum err e = ERR_PROTO;

	(void)fd;
	if (in->greeted == (type == MSG_ID_hello)) {
		return ERR_PROTO; /* first of all, and once */
	}
	in->greeted = true;
	switch (type) {
		ON(hello, m.role == ROLE_CLEANUP ? ERR_OK : ERR_PROTO)
		ON(segment_open, on_segment_open(in, &m))
		ON(enqueue, on_enqueue(in, &m))
		ON(enqueue_rcpt, on_enqueue_rcpt(in, &m))
		ON(segment_sealed, on_sealed(in, &m))
	default:
		break;
	}
	return e;
}
#undef ON

static void intake_free(struct intake *in)
{
	struct qmgr *q = in->q;

	q->intakes[in->index] = NULL;
	channel_close(&in->channel);
	if (in->segment != NULL) {
		/* The record is known, its recipients are not: no sweep would find it again. */
		take_from_disk(in);
	}
	store_writer_gone(q->store, in->index);
	q->next_sweep_ms = 0; /* soon: what it left behind */
	buf_clear(&in->texts);
	free(in);
}

static void on_gone(void *arg, enum err why)
{
	struct intake *in = arg;

	log_warn("event=peer_gone role=cleanup index=%u why=\"%s\"", in->index, err_str(why));
	intake_free(in);
}

void intake_peer(struct qmgr *q, unsigned index, int *fd)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_gone = on_gone};
	struct msg_hello hello = {.role = ROLE_QMGR, .index = 0};

	if (index >= WRITERS_MAX) {
		return;
	}
	if (q->intakes[index] != NULL) {
		intake_free(q->intakes[index]);
	}
	struct intake *in = alloc_zero(1, sizeof(*in));

	in->q = q;
	in->index = index;
	buf_init(&in->texts, TEXTS_MAX);
	in->channel = channel_new(q->loop, fd, &handler, in);
	q->intakes[index] = in;
	if (msg_hello_send(in->channel, &hello) != ERR_OK) {
		log_error("event=hello_failed role=cleanup");
	}
}

void intake_close_all(struct qmgr *q)
{
	for (unsigned i = 0; i < INTAKES_MAX; i++) {
		if (q->intakes[i] != NULL) {
			intake_free(q->intakes[i]);
		}
	}
}

static bool rotate_if_finished(void *arg, struct store_segment *seg)
{
	struct qmgr *q = arg;
	struct intake *in = seg->announced ? q->intakes[seg->writer] : NULL;

	if (in != NULL && !seg->rotate_asked && seg->live == 0 && seg->pins == 0 &&
		seg->record_count > 0 &&
		loop_now_ms(q->loop) - seg->quiet_since_ms > ROTATE_AFTER_MS) {
		struct msg_segment_rotate m = {.segment = seg->info.id};

		seg->rotate_asked = msg_segment_rotate_send(in->channel, &m) == ERR_OK;
	}
	return true;
}

void intake_rotate_finished(struct qmgr *q)
{
	store_visit(q->store, rotate_if_finished, q);
}
