/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/orders.h"

#include <stdlib.h>
#include <sysexits.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/proc/control.h"
#include "qmgr/agent.h"
#include "qmgr/due.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

/* Records looked at before mail has its turn again. */
#define RECORDS_PER_STEP 400u

struct orders {
	struct qmgr *q;
	struct control *control;
	struct list all;
};

/* What one operator asked for: a walk through the queue. */
struct order {
	struct list link;
	struct qmgr *q;
	struct ask *ask;
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

static void order_free(struct order *o)
{
	loop_timer_stop(&o->step);
	list_remove(&o->link);
	free(o);
}

/* The order is done with. */
static void answer(struct order *o, unsigned exit_code, struct slice text)
{
	ask_done(&o->ask, exit_code, o->count, text);
	order_free(o);
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

/* Jobs that an operator's order may concern come back if they have not begun. */
static void cancel_jobs(struct order *o)
{
	struct qmgr *q = o->q;

	for (struct hash_id_link *l = hash_id_table_next(&q->jobs, NULL); l != NULL;
		l = hash_id_table_next(&q->jobs, l)) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, job);

		if (o->all || memcmp(p->message->queue_id, o->queue_id, QUEUE_ID_BYTES) == 0) {
			agent_cancel(p);
		}
	}
}

static void finish(struct order *o)
{
	struct event_operated e = {.operator_name = slice_from_cstr(o->operator_name),
		.verb = slice_from_cstr(verb_name(o->verb)),
		.operand = slice_from_cstr(o->operand),
		.count = o->count};

	if (o->count == 0 && !o->all) {
		answer(o, EX_UNAVAILABLE, SLICE("no such message in the queue"));
		return;
	}
	if (o->verb == CTL_QUEUE_HOLD || o->verb == CTL_QUEUE_DELETE) {
		/* Those too that came back and went out again while the walk was on its way. */
		cancel_jobs(o);
	}
	journal_operated(o->q->journal, clock_wall_us(), &e);
	answer(o, EX_OK, SLICE_EMPTY);
}

/* True when the slot was concerned. */
static bool act_on_slot(struct order *o, struct store_segment *seg, uint32_t number)
{
	struct qmgr *q = o->q;
	struct slot slot = store_slot(seg, number);
	bool active = (slot.flags & SLOT_ACTIVE) != 0;

	if (slot_is_final(&slot)) {
		return false;
	}
	switch (o->verb) {
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
			due_wait(q, seg, number, slot.next_at_s);
		}
		break;
	case CTL_QUEUE_DELETE:
		slot.state = SLOT_DELETED;
		slot.flags = 0;
		store_set_slot(q->store, seg, number, &slot);
		break;
	default: /* requeue, flush */
		slot.next_at_s = 0;
		if (o->verb == CTL_QUEUE_REQUEUE) {
			slot.attempts = 0;
		}
		store_set_slot(q->store, seg, number, &slot);
		if (!active && (slot.flags & SLOT_HELD) == 0) {
			due_wait(q, seg, number, 0);
		}
		break;
	}
	return true;
}

static void write_deleted(struct order *o, struct store_segment *seg,
	const struct record_ref *r)
{
	struct qmgr *q = o->q;
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
				.text = slice_from_cstr(o->operator_name)};

			journal_final(q->journal, clock_wall_us(), &e);
		}
	}
	message_unref(q->store, &m);
}

static bool record_matches(struct order *o, struct store_segment *seg,
	const struct record_ref *r)
{
	struct segment_record rec;
	int fd = o->all ? -1 : store_fd(o->q->store, seg);

	return o->all ||
	       (fd >= 0 && segment_read_record(fd, &seg->info, r->offset, &rec) == ERR_OK &&
		       memcmp(rec.queue_id, o->queue_id, QUEUE_ID_BYTES) == 0);
}

/* Held against removal by the caller. */
static bool act_on_record(struct order *o, struct store_segment *seg,
	const struct record_ref *r)
{
	bool any = false;

	if (!record_matches(o, seg, r)) {
		return false;
	}
	if (o->verb == CTL_QUEUE_DELETE) {
		write_deleted(o, seg, r);
	}
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
		any = act_on_slot(o, seg, i) || any;
	}
	o->count += any ? 1 : 0;
	return !o->all;
}

static void on_step(void *arg)
{
	struct order *o = arg;
	struct store *store = o->q->store;

	for (unsigned looked = 0; looked < RECORDS_PER_STEP;) {
		struct store_segment *seg = store_at(store, o->segment);

		if (o->segment >= store_size(store)) {
			finish(o);
			return;
		}
		if (seg == NULL || seg->live == 0 || o->record >= seg->record_count) {
			o->segment++;
			o->record = 0;
			continue;
		}
		struct record_ref r = seg->records[o->record++];

		looked++;
		store_pin(seg);
		bool found = act_on_record(o, seg, &r);
		store_unpin(store, seg);
		if (found) {
			finish(o);
			return;
		}
	}
	loop_timer_start(&o->step, 0);
}

static void list_sites(struct order *o)
{
	struct qmgr *q = o->q;
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
		if (json_end(&j) == ERR_OK) {
			ask_line(o->ask, buf_view(&text));
			o->count++;
		}
	}
	buf_clear(&text);
	answer(o, EX_OK, SLICE_EMPTY);
}

static void on_ask(void *arg, struct ask *ask, const struct msg_ctl_ask *m)
{
	struct orders *all = arg;
	struct qmgr *q = all->q;
	struct order *o = alloc_zero(1, sizeof(*o));

	o->q = q;
	o->ask = ask;
	o->verb = m->verb;
	list_append(&all->all, &o->link);
	loop_timer_init(&o->step, q->loop, on_step, o);
	o->all = slice_eq_nocase(m->operand, SLICE("ALL")) || m->operand.n == 0;
	str_printable(o->operand, sizeof(o->operand), m->operand);
	str_printable(o->operator_name, sizeof(o->operator_name), m->operator_name);
	if (!o->all && queue_id_is_valid(m->operand)) {
		memcpy(o->queue_id, m->operand.p, QUEUE_ID_BYTES);
	}
	switch (m->verb) {
	case CTL_QUEUE_SITES:
		list_sites(o);
		break;
	case CTL_QUEUE_FLUSH:
		if (o->all) {
			o->count = store_live(q->store);
			scheduler_flush_all(q);
			finish(o);
			break;
		}
		/* fall through */
	case CTL_QUEUE_HOLD:
	case CTL_QUEUE_RELEASE:
	case CTL_QUEUE_DELETE:
	case CTL_QUEUE_REQUEUE:
		if (!o->all && !queue_id_is_valid(m->operand)) {
			answer(o, EX_USAGE, SLICE("that is not a queue id (nor ALL)"));
			break;
		}
		if (m->operand.n == 0 && m->verb != CTL_QUEUE_FLUSH) {
			answer(o, EX_USAGE, SLICE("a queue id or ALL is needed"));
			break;
		}
		if (m->verb == CTL_QUEUE_HOLD || m->verb == CTL_QUEUE_DELETE) {
			cancel_jobs(o);
		}
		loop_timer_start(&o->step, 0);
		break;
	default:
		answer(o, EX_USAGE, SLICE("not a request for the queue manager"));
		break;
	}
}

void orders_listen(struct qmgr *q, int *fd)
{
	orders_close(q);
	struct orders *o = alloc_zero(1, sizeof(*o));

	o->q = q;
	list_init(&o->all);
	o->control = control_new(q->loop, ROLE_QMGR, 0, fd, on_ask, o);
	q->orders = o;
}

void orders_close(struct qmgr *q)
{
	struct orders *o = q->orders;
	struct list *l;

	if (o == NULL) {
		return;
	}
	while ((l = list_first(&o->all)) != NULL) {
		order_free(CONTAINER_OF(l, struct order, link));
	}
	control_free(&o->control);
	ALLOC_FREE(q->orders);
}
