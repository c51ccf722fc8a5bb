/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/committer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/ipc/messages.h"

/* A group of this size is committed before another message joins, though the turn has not
 * ended. */
#define GROUP_BYTES ((size_t)8 * 1024 * 1024)
/* Recipients that come along with the news for qmgr; it reads more from the segment. */
#define RCPTS_ALONG 64u
/* The next segment is made ahead this long after a commit, not within it. */
#define PREPARE_MS 20

struct committer {
	struct loop_flush flush;
	struct loop_timer prepare;
	struct segment_writer *writer;
	struct list group;
	struct channel *qmgr; /* borrowed; null: none */
	struct committer_counts counts;
	void (*on_failure)(void *arg, enum err e);
	void *arg;
};

/* ---- qmgr ---- */

/* A message that cannot be put into the channel is a defect; qmgr finds the record by itself.
 */
static void check_sent(enum err e, const char *what)
{
	if (e != ERR_OK) {
		log_error("event=qmgr_send what=%s err=\"%s\"", what, err_str(e));
	}
}

static void on_open(void *arg, uint64_t segment)
{
	struct committer *c = arg;

	if (c->qmgr != NULL) {
		/* All that is in it is told one by one. */
		struct msg_segment_open m = {.segment = segment, .end = 0};
		check_sent(msg_segment_open_send(c->qmgr, &m), "segment_open");
	}
}

static void on_sealed(void *arg, uint64_t segment, uint64_t end)
{
	struct committer *c = arg;

	if (c->qmgr != NULL) {
		struct msg_segment_sealed m = {.segment = segment, .end = end};
		check_sent(msg_segment_sealed_send(c->qmgr, &m), "segment_sealed");
	}
}

void committer_set_qmgr(struct committer *c, struct channel *qmgr)
{
	struct msg_segment_open m;

	c->qmgr = qmgr;
	if (qmgr != NULL && segment_writer_current(c->writer, &m.segment, &m.end)) {
		check_sent(msg_segment_open_send(qmgr, &m), "segment_open");
	}
}

static void tell_rcpts(struct committer *c, const struct envelope *e)
{
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		const struct envelope_rcpt *r = &e->rcpts[i];
		struct msg_enqueue_rcpt m = {.address = r->address,
			.orcpt = r->orcpt,
			.notify = r->notify};
		check_sent(msg_enqueue_rcpt_send(c->qmgr, &m), "enqueue_rcpt");
	}
}

static void tell(struct committer *c, const struct parcel *p)
{
	const struct segment_record *r = &p->record;
	const struct envelope *e = p->envelope;
	uint32_t along = e->rcpt_count <= RCPTS_ALONG ? e->rcpt_count : 0;

	if (c->qmgr == NULL) {
		return;
	}
	struct msg_enqueue m = {
		.segment = p->segment,
		.offset = r->offset,
		.length = r->length,
		.first_slot = r->first_slot,
		.rcpt_count = r->rcpt_count,
		.rcpts_follow = along,
		.flags = r->flags,
		.head_offset = r->head_at,
		.head_bytes = r->head_bytes,
		.content_offset = r->content_at,
		.content_bytes = r->content_bytes,
		.accepted_us = r->accepted_us,
		.queue_id = slice_from_cstr(r->queue_id),
		.sender = e->sender,
		.envid = e->envid,
		.ret = e->ret,
		.tenant = e->tenant,
		.stream_class = e->stream_class,
		.priority = e->priority,
		.deadline_s = e->deadline_s,
	};
	check_sent(msg_enqueue_send(c->qmgr, &m), "enqueue");
	if (along > 0) {
		tell_rcpts(c, e);
	}
}

/* ---- groups ---- */

static void note_failure(struct committer *c, enum err e)
{
	c->counts.failures++;
	c->on_failure(c->arg, e);
}

static void settle(struct committer *c, struct parcel *p, enum err e)
{
	list_remove(&p->link);
	if (e == ERR_OK) {
		c->counts.messages++;
		/* Before anything else touches the writer: its next words may be that the
		 * segment is sealed. */
		tell(c, p);
	}
	p->on_settled(p->arg, e);
}

static void settle_big(struct committer *c, struct parcel *p)
{
	enum err e =
		segment_big_commit(&p->big, p->head, p->accepted_us, &p->record, &p->segment);

	if (e != ERR_OK) {
		log_error("event=commit_failed bytes=big err=\"%s\" errno=\"%s\"", err_str(e),
			e == ERR_SYS ? strerror(errno) : "");
		note_failure(c, e);
	}
	settle(c, p, e);
}

void committer_flush(struct committer *c)
{
	struct list *l;
	enum err e = ERR_OK;

	if (list_is_empty(&c->group)) {
		return;
	}
	size_t bytes = segment_writer_pending(c->writer);
	if (bytes > 0) {
		e = segment_writer_commit(c->writer);
		if (e != ERR_OK) {
			log_error("event=commit_failed bytes=%zu err=\"%s\" errno=\"%s\"",
				bytes, err_str(e), e == ERR_SYS ? strerror(errno) : "");
			note_failure(c, e);
		}
	}
	c->counts.groups++;
	/* First those of the group, whose fate is known, then the others one by one. */
	struct list bigs;
	list_init(&bigs);
	while ((l = list_first(&c->group)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);
		if (p->big != NULL) {
			list_remove(l);
			list_append(&bigs, l);
		} else {
			settle(c, p, e);
		}
	}
	while ((l = list_first(&bigs)) != NULL) {
		settle_big(c, CONTAINER_OF(l, struct parcel, link));
	}
	if (!c->prepare.armed) {
		loop_timer_start(&c->prepare, PREPARE_MS);
	}
}

static void on_flush(void *arg)
{
	committer_flush(arg);
}

static void on_prepare(void *arg)
{
	struct committer *c = arg;

	segment_writer_prepare(c->writer);
}

enum err committer_new(struct loop *loop, int dir, unsigned writer,
	void (*on_failure)(void *arg, enum err e), void *arg, struct committer **out)
{
	static const struct segment_writer_events events = {.on_open = on_open,
		.on_sealed = on_sealed};
	struct committer *c = alloc_zero(1, sizeof(*c));
	enum err e = segment_writer_new(dir, writer, &events, c, &c->writer);

	if (e != ERR_OK) {
		free(c);
		return e;
	}
	list_init(&c->group);
	c->on_failure = on_failure;
	c->arg = arg;
	loop_flush_add(&c->flush, loop, on_flush, c);
	loop_timer_init(&c->prepare, loop, on_prepare, c);
	*out = c;
	return ERR_OK;
}

void committer_free(struct committer **committer)
{
	struct committer *c = *committer;

	if (c == NULL) {
		return;
	}
	committer_flush(c);
	loop_flush_remove(&c->flush);
	loop_timer_stop(&c->prepare);
	segment_writer_free(&c->writer);
	ALLOC_FREE(*committer);
}

const char *committer_next_id(struct committer *c)
{
	return segment_writer_next_id(c->writer);
}

enum err committer_add(struct committer *c, struct parcel *p, struct slice head,
	struct slice content)
{
	if (segment_writer_pending(c->writer) >= GROUP_BYTES) {
		committer_flush(c);
	}
	enum err e = segment_writer_add(c->writer, p->envelope, head, content, p->accepted_us,
		&p->record, &p->segment);
	if (e != ERR_OK) {
		/* A message that does not fit says nothing about the disk. */
		if (e != ERR_TOOBIG && e != ERR_SYNTAX) {
			note_failure(c, e);
		}
		return e;
	}
	list_append(&c->group, &p->link);
	loop_flush_mark(&c->flush);
	return ERR_OK;
}

enum err committer_begin_big(struct committer *c, struct parcel *p)
{
	enum err e = segment_big_begin(c->writer, p->envelope, &p->big);

	if (e != ERR_OK && e != ERR_TOOBIG && e != ERR_SYNTAX) {
		note_failure(c, e);
	}
	return e;
}

void committer_add_big(struct committer *c, struct parcel *p)
{
	list_append(&c->group, &p->link);
	loop_flush_mark(&c->flush);
}

void committer_rotate(struct committer *c, uint64_t segment)
{
	/* What waits in it is told before the segment is sealed. */
	committer_flush(c);
	segment_writer_rotate(c->writer, segment);
}

struct committer_counts committer_count(const struct committer *c)
{
	return c->counts;
}
