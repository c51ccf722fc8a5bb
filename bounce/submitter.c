/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/submitter.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"

/* Notices that one cleanup has at once. */
#define RUNNING_MAX 64u

struct station {
	struct list link;
	struct submitter *owner;
	struct channel *channel;
	unsigned index;
	struct list runs;
	unsigned running;
};

struct run {
	struct list link;
	uint64_t tx;
	submitter_done *done; /* null: nobody waits */
	void *arg;
};

struct submitter {
	struct service *service;
	struct list stations; /* the one used last comes last */
	uint64_t last_tx;
	void (*on_room)(void *arg);
	void *arg;
};

static bool has_room(const struct station *t)
{
	return t->running < RUNNING_MAX && channel_unsent(t->channel) < CHANNEL_HIGH;
}

static void finish(struct station *t, struct run *r, uint16_t code, struct slice text)
{
	list_remove(&r->link);
	t->running--;
	if (r->done != NULL) {
		r->done(r->arg, code, text);
	}
	free(r);
}

/* Its station is gone: whatever it had is nobody's any more. */
static void station_free(struct station *t)
{
	struct list *l;

	list_remove(&t->link);
	channel_close(&t->channel);
	while ((l = list_first(&t->runs)) != NULL) {
		finish(t, CONTAINER_OF(l, struct run, link), 0, SLICE_EMPTY);
	}
	free(t);
}

static enum err on_done(struct station *t, struct slice body)
{
	struct msg_tx_done m;
	enum err e = msg_tx_done_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	for (struct list *l = t->runs.next; l != &t->runs; l = l->next) {
		struct run *r = CONTAINER_OF(l, struct run, link);
		if (r->tx == m.tx) {
			finish(t, r, m.smtp_code, m.text);
			return ERR_OK;
		}
	}
	return ERR_PROTO;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct station *t = arg;
	struct msg_hello hello;
	struct msg_store_state state;
	enum err e;

	(void)fd;
	switch (type) {
	case MSG_ID_hello:
		e = msg_hello_decode(body, &hello);
		return e == ERR_OK && hello.role != ROLE_CLEANUP ? ERR_PROTO : e;
	case MSG_ID_store_state:
		/* Each refusal tells it again, and is answered by trying later. */
		return msg_store_state_decode(body, &state);
	case MSG_ID_tx_done:
		return on_done(t, body);
	default:
		return ERR_PROTO;
	}
}

static void on_batch(void *arg)
{
	struct station *t = arg;

	t->owner->on_room(t->owner->arg);
}

static void on_gone(void *arg, enum err why)
{
	struct station *t = arg;
	struct submitter *s = t->owner;

	if (why != ERR_CLOSED) {
		log_error("event=peer_broke role=cleanup err=\"%s\"", err_str(why));
	}
	station_free(t);
	s->on_room(s->arg);
	if (why != ERR_CLOSED) {
		/* Most likely the fault is ours: a fresh process gets fresh channels. */
		service_fail(s->service, "what cleanup and we sent each other is no message");
	}
}

static const struct channel_handler handler = {.on_frame = on_frame,
	.on_batch = on_batch,
	.on_writable = on_batch,
	.on_gone = on_gone};

void submitter_peer(struct submitter *s, unsigned index, int *fd)
{
	struct msg_hello hello = {.role = ROLE_BOUNCE, .index = s->service->index};

	for (struct list *l = s->stations.next; l != &s->stations; l = l->next) {
		struct station *t = CONTAINER_OF(l, struct station, link);
		if (t->index == index) {
			station_free(t);
			break;
		}
	}
	struct station *t = alloc_zero(1, sizeof(*t));
	t->owner = s;
	t->index = index;
	list_init(&t->runs);
	t->channel = channel_new(s->service->loop, fd, &handler, t);
	list_append(&s->stations, &t->link);
	if (msg_hello_send(t->channel, &hello) != ERR_OK) {
		service_fail(s->service, "a greeting could not be encoded");
	}
	s->on_room(s->arg);
}

static struct station *find_station(const struct submitter *s)
{
	for (struct list *l = s->stations.next; l != &s->stations; l = l->next) {
		struct station *t = CONTAINER_OF(l, struct station, link);
		if (has_room(t)) {
			return t;
		}
	}
	return NULL;
}

bool submitter_has_room(const struct submitter *s)
{
	return find_station(s) != NULL;
}

static enum err send_all(struct station *t, uint64_t tx, const struct submission *what)
{
	struct msg_tx_begin begin = {.tx = tx,
		.flags = what->flags,
		.rcpt_count = 1,
		.ret = RET_HDRS,
		.client_name = SLICE("localhost"),
		.tenant = what->tenant,
		.declared_bytes = what->content.n};
	struct msg_tx_rcpt rcpt = {.tx = tx, .address = what->rcpt, .notify = NOTIFY_NEVER};
	struct msg_tx_end end = {.tx = tx};
	struct slice rest = what->content;
	enum err e = msg_tx_begin_send(t->channel, &begin);

	if (e == ERR_OK) {
		e = msg_tx_rcpt_send(t->channel, &rcpt);
	}
	while (e == ERR_OK && rest.n != 0) {
		struct msg_tx_content piece = {.tx = tx,
			.bytes = slice_head(rest, LIMIT_CHUNK_BYTES)};
		e = msg_tx_content_send(t->channel, &piece);
		rest = slice_skip(rest, LIMIT_CHUNK_BYTES);
	}
	return e == ERR_OK ? msg_tx_end_send(t->channel, &end) : e;
}

void submitter_send(struct submitter *s, const struct submission *what, submitter_done *done,
	void *arg)
{
	struct station *t = find_station(s);
	struct run *r = alloc_zero(1, sizeof(*r));

	r->tx = ++s->last_tx;
	r->done = done;
	r->arg = arg;
	list_append(&t->runs, &r->link);
	t->running++;
	list_remove(&t->link);
	list_append(&s->stations, &t->link);
	if (send_all(t, r->tx, what) != ERR_OK) {
		/* Everything in it came through a decoder with the same limits. */
		service_fail(s->service, "a notice could not be encoded");
	}
}

void submitter_forget(struct submitter *s, const void *arg)
{
	for (struct list *l = s->stations.next; l != &s->stations; l = l->next) {
		struct station *t = CONTAINER_OF(l, struct station, link);
		for (struct list *k = t->runs.next; k != &t->runs; k = k->next) {
			struct run *r = CONTAINER_OF(k, struct run, link);
			if (r->arg == arg) {
				r->done = NULL;
			}
		}
	}
}

struct submitter *submitter_new(struct service *service, void (*on_room)(void *arg), void *arg)
{
	struct submitter *s = alloc_zero(1, sizeof(*s));

	s->service = service;
	s->on_room = on_room;
	s->arg = arg;
	list_init(&s->stations);
	return s;
}

void submitter_free(struct submitter **sp)
{
	struct submitter *s = *sp;
	struct list *l;

	if (s == NULL) {
		return;
	}
	*sp = NULL;
	while ((l = list_first(&s->stations)) != NULL) {
		struct station *t = CONTAINER_OF(l, struct station, link);
		for (struct list *k = t->runs.next; k != &t->runs; k = k->next) {
			CONTAINER_OF(k, struct run, link)->done = NULL;
		}
		station_free(t);
	}
	free(s);
}
