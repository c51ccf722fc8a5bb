/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/control.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "qmgr/agent.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

#define CLIENTS_MAX 32u
/* Records looked at before mail has its turn again. */
#define RECORDS_PER_STEP 400u

struct control {
	struct qmgr *q;
	int fd;
	struct loop_watch watch;
	struct list clients;
	unsigned client_count;
};

/* One operator's connection, and the walk through the queue that it asked for. */
struct client {
	struct list link;
	struct control *control;
	struct channel *channel;
	bool busy;
	uint8_t verb;
	bool all;
	char queue_id[QUEUE_ID_BYTES + 1];
	char operand[LIMIT_TEXT + 1];
	char operator_name[LIMIT_NAME + 1];
	uint32_t segment; /* where the walk is */
	uint32_t record;
	uint64_t count;
	struct loop_timer step;
};

static void client_free(struct client *c)
{
	loop_timer_stop(&c->step);
	list_remove(&c->link);
	c->control->client_count--;
	channel_close(&c->channel);
	free(c);
}

static void answer(struct client *c, int exit_code, const char *text)
{
	struct msg_ctl_done m = {.exit_code = (uint8_t)exit_code,
		.count = c->count,
		.text = slice_from_cstr(text)};

	c->busy = false;
	if (msg_ctl_done_send(c->channel, &m) != ERR_OK) {
		log_error("event=ctl_answer_failed");
	}
}

static const char *verb_name(uint8_t verb)
{
	static const char *const names[CTL_VERB_COUNT] = {
		[CTL_QUEUE_HOLD] = "queue hold",
		[CTL_QUEUE_RELEASE] = "queue release",
		[CTL_QUEUE_DELETE] = "queue delete",
		[CTL_QUEUE_REQUEUE] = "queue requeue",
		[CTL_QUEUE_FLUSH] = "queue flush",
	};

	return verb < CTL_VERB_COUNT && names[verb] != NULL ? names[verb] : "?";
}

static void finish(struct client *c)
{
	struct event_operated e = {.operator_name = slice_from_cstr(c->operator_name),
		.verb = slice_from_cstr(verb_name(c->verb)),
		.operand = slice_from_cstr(c->operand),
		.count = c->count};

	if (c->count == 0 && !c->all) {
		answer(c, EX_UNAVAILABLE, "no such message in the queue");
		return;
	}
	journal_operated(c->control->q->journal, clock_wall_us(), &e);
	answer(c, EX_OK, "");
}

/* True when the slot was concerned. */
static bool act_on_slot(struct client *c, struct store_segment *seg, uint32_t number)
{
	struct qmgr *q = c->control->q;
	struct slot slot = store_slot(seg, number);
	bool active = (slot.flags & SLOT_ACTIVE) != 0;

	if (slot_is_final(&slot)) {
		return false;
	}
	switch (c->verb) {
	case CTL_QUEUE_HOLD:
		if ((slot.flags & SLOT_HELD) != 0) {
			return false;
		}
		slot.flags |= SLOT_HELD;
		store_set_slot(q->store, seg, number, &slot);
		break;
	case CTL_QUEUE_RELEASE:
		if ((slot.flags & SLOT_HELD) == 0) {
			return false;
		}
		slot.flags &= (uint8_t)~SLOT_HELD;
		store_set_slot(q->store, seg, number, &slot);
		if (!active) {
			scheduler_wait(q, seg, number, slot.next_at_s);
		}
		break;
	case CTL_QUEUE_DELETE:
		slot.state = SLOT_DELETED;
		slot.flags = 0;
		store_set_slot(q->store, seg, number, &slot);
		break;
	default: /* requeue, flush */
		slot.next_at_s = 0;
		if (c->verb == CTL_QUEUE_REQUEUE) {
			slot.attempts = 0;
		}
		store_set_slot(q->store, seg, number, &slot);
		if (!active && (slot.flags & SLOT_HELD) == 0) {
			scheduler_wait(q, seg, number, 0);
		}
		break;
	}
	return true;
}

static void write_deleted(struct client *c, struct store_segment *seg,
	const struct record_ref *r)
{
	struct qmgr *q = c->control->q;
	struct message *m = NULL;

	if (message_load(q->store, seg, r, &m) != ERR_OK) {
		return;
	}
	for (uint32_t i = 0; i < m->rcpt_count; i++) {
		struct slot slot = store_slot(seg, message_slot(m, i));

		if (!slot_is_final(&slot)) {
			struct event_final e = {.qid = slice_make(m->queue_id, QUEUE_ID_BYTES),
				.rcpt = m->rcpts[i].address,
				.state = SLOT_DELETED,
				.text = slice_from_cstr(c->operator_name)};

			journal_final(q->journal, clock_wall_us(), &e);
		}
	}
	message_unref(q->store, &m);
}

static bool record_matches(struct client *c, struct store_segment *seg,
	const struct record_ref *r)
{
	struct segment_record rec;
	int fd = c->all ? -1 : store_fd(c->control->q->store, seg);

	return c->all ||
	       (fd >= 0 && segment_read_record(fd, &seg->info, r->offset, &rec) == ERR_OK &&
		       memcmp(rec.queue_id, c->queue_id, QUEUE_ID_BYTES) == 0);
}

/* Held against removal by the caller. */
static bool act_on_record(struct client *c, struct store_segment *seg,
	const struct record_ref *r)
{
	bool any = false;

	if (!record_matches(c, seg, r)) {
		return false;
	}
	if (c->verb == CTL_QUEUE_DELETE) {
		write_deleted(c, seg, r);
	}
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
		any = act_on_slot(c, seg, i) || any;
	}
	c->count += any ? 1 : 0;
	return !c->all;
}

static void on_step(void *arg)
{
	struct client *c = arg;
	struct store *store = c->control->q->store;

	for (unsigned looked = 0; looked < RECORDS_PER_STEP;) {
		struct store_segment *seg = store_at(store, c->segment);

		if (c->segment >= store_size(store)) {
			finish(c);
			return;
		}
		if (seg == NULL || seg->live == 0 || c->record >= seg->record_count) {
			c->segment++;
			c->record = 0;
			continue;
		}
		struct record_ref r = seg->records[c->record++];

		looked++;
		store_pin(seg);
		bool found = act_on_record(c, seg, &r);
		store_unpin(store, seg);
		if (found) {
			finish(c);
			return;
		}
	}
	loop_timer_start(&c->step, 0);
}

/* Jobs that an operator's order may concern come back if they have not begun. */
static void cancel_jobs(struct client *c)
{
	struct qmgr *q = c->control->q;

	for (struct hash_id_link *l = hash_id_table_next(&q->jobs, NULL); l != NULL;
		l = hash_id_table_next(&q->jobs, l)) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, job);

		if (c->all || memcmp(p->message->queue_id, c->queue_id, QUEUE_ID_BYTES) == 0) {
			agent_cancel(p);
		}
	}
}

static void list_sites(struct client *c)
{
	struct qmgr *q = c->control->q;
	struct buf text;

	buf_init(&text, LIMIT_CHUNK_BYTES);
	for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
		l = hash_table_next(&q->sites, l)) {
		struct site *s = CONTAINER_OF(l, struct site, by_key);
		struct json j;

		buf_reset(&text);
		j = json_begin(&text);
		json_object(&j);
		json_member_str(&j, "site", slice_from_cstr(s->key));
		json_member_str(&j, "state",
			slice_from_cstr(s->state == SITE_DOWN ? "down" : "ready"));
		json_member_u64(&j, "queued",
			s->backlog_rcpts + (s->parked_count - s->parked_from));
		json_member_u64(&j, "jobs", s->in_flight);
		json_member_u64(&j, "concurrency", s->window);
		json_member_u64(&j, "limit", q->policy->concurrency);
		json_member_u64(&j, "delivered", s->delivered);
		json_member_u64(&j, "deferred", s->deferred);
		json_member_u64(&j, "failed", s->failed);
		if (s->state == SITE_DOWN) {
			json_key(&j, "next_probe");
			json_time_us(&j, site_probe_wall_s(s) * 1000000);
		}
		if (s->last_error[0] != '\0') {
			json_member_str(&j, "last_error", slice_from_cstr(s->last_error));
		}
		json_object_end(&j);
		struct msg_ctl_line m = {.json = buf_view(&text)};

		if (json_end(&j) == ERR_OK && msg_ctl_line_send(c->channel, &m) == ERR_OK) {
			c->count++;
		}
	}
	buf_clear(&text);
	answer(c, EX_OK, "");
}

static enum err on_ask(struct client *c, const struct msg_ctl_ask *m)
{
	struct qmgr *q = c->control->q;

	if (c->busy) {
		return ERR_PROTO;
	}
	c->busy = true;
	c->verb = m->verb;
	c->count = 0;
	c->segment = 0;
	c->record = 0;
	c->all = slice_eq_nocase(m->operand, SLICE("ALL")) || m->operand.n == 0;
	str_printable(c->operand, sizeof(c->operand), m->operand);
	str_printable(c->operator_name, sizeof(c->operator_name), m->operator_name);
	if (!c->all && queue_id_is_valid(m->operand)) {
		memcpy(c->queue_id, m->operand.p, QUEUE_ID_BYTES);
	}
	switch (m->verb) {
	case CTL_QUEUE_SITES:
		list_sites(c);
		break;
	case CTL_QUEUE_FLUSH:
		if (c->all) {
			c->count = store_live(q->store);
			scheduler_flush_all(q);
			finish(c);
			break;
		}
		/* fall through */
	case CTL_QUEUE_HOLD:
	case CTL_QUEUE_RELEASE:
	case CTL_QUEUE_DELETE:
	case CTL_QUEUE_REQUEUE:
		if (!c->all && !queue_id_is_valid(m->operand)) {
			answer(c, EX_USAGE, "that is not a queue id (nor ALL)");
			break;
		}
		if (m->operand.n == 0 && m->verb != CTL_QUEUE_FLUSH) {
			answer(c, EX_USAGE, "a queue id or ALL is needed");
			break;
		}
		if (m->verb == CTL_QUEUE_HOLD || m->verb == CTL_QUEUE_DELETE) {
			cancel_jobs(c);
		}
		loop_timer_start(&c->step, 0);
		break;
	default:
		answer(c, EX_USAGE, "not a request for the queue manager");
		break;
	}
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct client *c = arg;
	struct msg_hello hello;
	struct msg_ctl_ask ask;
	enum err e = ERR_PROTO;

	(void)fd;
	if (type == MSG_ID_hello) {
		e = msg_hello_decode(body, &hello);
	} else if (type == MSG_ID_ctl_ask) {
		e = msg_ctl_ask_decode(body, &ask);
		if (e == ERR_OK) {
			e = on_ask(c, &ask);
		}
	}
	return e;
}

static void on_gone(void *arg, enum err why)
{
	(void)why;
	client_free(arg);
}

static void on_ready(void *arg, unsigned what)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_gone = on_gone};
	struct control *k = arg;
	struct msg_hello hello = {.role = ROLE_QMGR, .index = 0};

	(void)what;
	int fd = accept4(k->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		return;
	}
	if (k->client_count >= CLIENTS_MAX) {
		fd_close(&fd);
		return;
	}
	struct client *c = alloc_zero(1, sizeof(*c));

	c->control = k;
	loop_timer_init(&c->step, k->q->loop, on_step, c);
	c->channel = channel_new(k->q->loop, &fd, &handler, c);
	list_append(&k->clients, &c->link);
	k->client_count++;
	if (msg_hello_send(c->channel, &hello) != ERR_OK) {
		log_error("event=hello_failed role=ctl");
	}
}

void control_listen(struct qmgr *q, int *fd)
{
	control_close(q);
	struct control *k = alloc_zero(1, sizeof(*k));

	k->q = q;
	k->fd = *fd;
	*fd = -1;
	list_init(&k->clients);
	loop_watch_init(&k->watch, q->loop, k->fd, on_ready, k);
	loop_watch_set(&k->watch, LOOP_READ);
	q->control = k;
}

void control_close(struct qmgr *q)
{
	struct control *k = q->control;

	if (k == NULL) {
		return;
	}
	while (!list_is_empty(&k->clients)) {
		client_free(CONTAINER_OF(list_first(&k->clients), struct client, link));
	}
	loop_watch_set(&k->watch, 0);
	fd_close(&k->fd);
	free(k);
	q->control = NULL;
}
