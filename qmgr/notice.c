/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/notice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/fd.h"

/* Notices that bounce has at once, and recipients in notices in all. */
#define SENT_MAX 200u
#define OUT_MAX 20000u
#define RCPTS_MAX 1000u
/* After bounce could not do it. */
#define AGAIN_MS 30000

void notice_init(struct qmgr *q)
{
	hash_id_table_init(&q->notices);
	list_init(&q->notices_waiting);
	list_init(&q->notices_sent);
	list_init(&q->notices_delayed);
}

static void notice_free(struct qmgr *q, struct notice *n)
{
	hash_id_table_remove(&q->notices, &n->by_id);
	list_remove(&n->link);
	q->notices_sent_count -= n->sent ? 1 : 0;
	q->notices_out -= n->count;
	for (uint32_t i = 0; i < n->count; i++) {
		free(n->rcpts[i].text);
		free(n->rcpts[i].host);
		free(n->rcpts[i].addr);
	}
	free(n->rcpts);
	message_unref(q->store, &n->message);
	free(n);
}

void notice_close(struct qmgr *q)
{
	struct hash_id_link *l;

	while ((l = hash_id_table_next(&q->notices, NULL)) != NULL) {
		notice_free(q, CONTAINER_OF(l, struct notice, by_id));
	}
	hash_id_table_clear(&q->notices);
	channel_close(&q->bounce);
}

bool notice_is_full(const struct qmgr *q)
{
	return q->notices_out >= OUT_MAX;
}

void notice_add(struct qmgr *q, struct notice **np, struct message *m, uint8_t kind,
	const struct notice_rcpt *r)
{
	struct notice *n = *np;

	if (n != NULL && (n->kind != kind || n->count == RCPTS_MAX)) {
		notice_submit(q, np);
		n = NULL;
	}
	if (n == NULL) {
		n = alloc_zero(1, sizeof(*n));
		n->message = m;
		n->kind = kind;
		list_init(&n->link);
		message_ref(m);
		hash_id_table_insert(&q->notices, &n->by_id, qmgr_next_id(q));
		*np = n;
	}
	if (n->count == n->room) {
		n->room = n->room == 0 ? 1 : n->room * 2;
		n->rcpts = alloc_resize(n->rcpts, n->room, sizeof(*n->rcpts));
	}
	struct notice_rcpt *to = &n->rcpts[n->count++];

	*to = *r;
	to->text = alloc_cstr(r->text);
	to->host = alloc_cstr(r->host);
	to->addr = alloc_cstr(r->addr);
	q->notices_out++;
}

static enum err send_rcpt(struct qmgr *q, const struct notice *n, const struct notice_rcpt *r)
{
	struct msg_notice_rcpt m = {.notice = n->by_id.id,
		.address = r->rcpt.address,
		.orcpt = r->rcpt.orcpt,
		.notify = r->rcpt.notify,
		.stage = r->stage,
		.smtp_code = r->smtp_code,
		.status_class = r->status.class,
		.status_subject = r->status.subject,
		.status_detail = r->status.detail,
		.text = slice_from_cstr(r->text),
		.host = slice_from_cstr(r->host),
		.addr = slice_from_cstr(r->addr),
		.last_attempt_us = r->attempt_us};

	return msg_notice_rcpt_send(q->bounce, &m);
}

static bool send_notice(struct qmgr *q, struct notice *n)
{
	const struct message *m = n->message;
	char name[SEGMENT_NAME_MAX];
	struct msg_notice msg = {.notice = n->by_id.id,
		.kind = n->kind,
		.head_offset = m->head_at,
		.head_bytes = m->head_bytes,
		.content_offset = m->content_at,
		.content_bytes = m->content_bytes,
		.flags = m->flags,
		.accepted_us = m->accepted_us,
		.queue_id = slice_make(m->queue_id, QUEUE_ID_BYTES),
		.sender = m->sender,
		.envid = m->envid,
		.ret = m->ret,
		.tenant = m->tenant,
		.rcpt_count = n->count};

	segment_name(m->segment->info.id, name);
	int fd = openat(q->queue_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		log_error("event=open_failed segment=%s err=\"%s\"", name, strerror(errno));
		return false;
	}
	enum err e = msg_notice_send_fd(q->bounce, &msg, fd);

	fd_close(&fd);
	for (uint32_t i = 0; e == ERR_OK && i < n->count; i++) {
		e = send_rcpt(q, n, &n->rcpts[i]);
	}
	if (e != ERR_OK) {
		service_fail(q->service, "a notice could not be encoded");
	}
	return e == ERR_OK;
}

static void delay(struct qmgr *q, struct notice *n)
{
	n->not_before_ms = clock_mono_ms() + AGAIN_MS;
	list_append(&q->notices_delayed, &n->link);
}

/* Sends what may go. */
static void pump(struct qmgr *q)
{
	struct list *l;

	while (q->bounce != NULL && q->notices_sent_count < SENT_MAX &&
		channel_unsent(q->bounce) < CHANNEL_HIGH &&
		(l = list_first(&q->notices_waiting)) != NULL) {
		struct notice *n = CONTAINER_OF(l, struct notice, link);

		list_remove(l);
		if (send_notice(q, n)) {
			n->sent = true;
			q->notices_sent_count++;
			list_append(&q->notices_sent, l);
		} else {
			delay(q, n); /* the others need not wait for it */
		}
	}
}

void notice_tick(struct qmgr *q)
{
	int64_t now = clock_mono_ms();
	struct list *l;

	while ((l = list_first(&q->notices_delayed)) != NULL &&
		CONTAINER_OF(l, struct notice, link)->not_before_ms <= now) {
		list_remove(l);
		list_append(&q->notices_waiting, l);
	}
	pump(q);
}

void notice_submit(struct qmgr *q, struct notice **np)
{
	struct notice *n = *np;

	*np = NULL;
	if (n != NULL) {
		list_append(&q->notices_waiting, &n->link);
		pump(q);
	}
}

static void settle(struct qmgr *q, const struct notice *n)
{
	struct store_segment *seg = n->message->segment;

	for (uint32_t i = 0; i < n->count; i++) {
		uint32_t number = message_slot(n->message, n->rcpts[i].index);
		struct slot slot = store_slot(seg, number);

		if (slot_is_final(&slot)) {
			continue;
		}
		slot.state = n->kind == NOTICE_EXPIRED ? SLOT_EXPIRED : SLOT_FAILED;
		slot.flags &= (uint8_t)~SLOT_ACTIVE;
		struct event_final e = {.qid = slice_make(n->message->queue_id, QUEUE_ID_BYTES),
			.rcpt = n->rcpts[i].rcpt.address,
			.state = slot.state,
			.text = slice_from_cstr(n->rcpts[i].text)};

		journal_final(q->journal, clock_wall_us(), &e);
		store_set_slot(q->store, seg, number, &slot);
	}
}

/* bounce has it no longer. */
static void unsend(struct qmgr *q, struct notice *n)
{
	n->sent = false;
	q->notices_sent_count--;
	list_remove(&n->link);
}

static enum err on_notice_done(struct qmgr *q, const struct msg_notice_done *m)
{
	struct hash_id_link *l = hash_id_table_find(&q->notices, m->notice);
	struct notice *n = l == NULL ? NULL : CONTAINER_OF(l, struct notice, by_id);

	if (n == NULL || !n->sent) {
		return ERR_PROTO;
	}
	if (m->ok == 0) {
		unsend(q, n);
		delay(q, n);
		pump(q);
		return ERR_OK;
	}
	if (n->kind == NOTICE_FAILED || n->kind == NOTICE_EXPIRED) {
		settle(q, n);
	}
	notice_free(q, n);
	pump(q);
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct qmgr *q = arg;
	struct msg_hello hello;
	struct msg_notice_done done;
	enum err e = ERR_PROTO;

	(void)fd;
	if (q->bounce_greeted == (type == MSG_ID_hello)) {
		return ERR_PROTO; /* first of all, and once */
	}
	q->bounce_greeted = true;
	if (type == MSG_ID_hello) {
		e = msg_hello_decode(body, &hello);
		if (e == ERR_OK && hello.role != ROLE_BOUNCE) {
			e = ERR_PROTO;
		}
	} else if (type == MSG_ID_notice_done) {
		e = msg_notice_done_decode(body, &done);
		if (e == ERR_OK) {
			e = on_notice_done(q, &done);
		}
	}
	return e;
}

/* What it had is asked again of the next one. */
static void take_back(struct qmgr *q)
{
	struct list *l;

	while ((l = list_first(&q->notices_sent)) != NULL) {
		struct notice *n = CONTAINER_OF(l, struct notice, link);

		unsend(q, n);
		list_append(&q->notices_waiting, l);
	}
	while ((l = list_first(&q->notices_delayed)) != NULL) {
		list_remove(l);
		list_append(&q->notices_waiting, l);
	}
}

static void on_gone(void *arg, enum err why)
{
	struct qmgr *q = arg;

	if (why != ERR_CLOSED) {
		log_error("event=peer_broke role=bounce err=\"%s\"", err_str(why));
	}
	channel_close(&q->bounce);
	take_back(q);
}

static void on_writable(void *arg)
{
	pump(arg);
}

void notice_peer(struct qmgr *q, int *fd)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_writable = on_writable,
		.on_gone = on_gone};
	struct msg_hello hello = {.role = ROLE_QMGR, .index = 0};

	channel_close(&q->bounce);
	take_back(q);
	q->bounce_greeted = false;
	q->bounce = channel_new(q->loop, fd, &handler, q);
	if (msg_hello_send(q->bounce, &hello) != ERR_OK) {
		log_error("event=hello_failed role=bounce");
	}
	pump(q);
}
