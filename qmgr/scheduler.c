/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/scheduler.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "qmgr/agent.h"
#include "qmgr/outcome.h"
#include "qmgr/router.h"
#include "qmgr/site.h"

/* Jobs of one site before the next site has its turn. */
#define TURN_JOBS 16u
/* Recipients of one site in memory; what is beyond is parked at eight bytes each. */
#define SITE_HOLD_LEAST 1000u
/* Due recipients taken from the heap in one turn of the loop. */
#define DUE_PER_TURN 500u
/* Share of all connections that sites may take which have never answered. */
#define UNPROVEN_SHARE 2u

static void on_dispatch(void *arg);
static void on_due(void *arg);

void scheduler_init(struct qmgr *q)
{
	waiting_init(&q->waiting);
	hash_id_table_init(&q->jobs);
	loop_flush_add(&q->dispatch, q->loop, on_dispatch, q);
	loop_timer_init(&q->due, q->loop, on_due, q);
}

void scheduler_close(struct qmgr *q)
{
	loop_timer_stop(&q->due);
	loop_flush_remove(&q->dispatch);
	waiting_clear(&q->waiting);
	hash_id_table_clear(&q->jobs);
}

/* ---- the waiting ones ---- */

static void arm_due(struct qmgr *q)
{
	uint32_t next = waiting_next_s(&q->waiting);
	int64_t delay_ms;

	if (next == UINT32_MAX || q->active >= q->policy->active_limit) {
		return;
	}
	delay_ms = ((int64_t)next - clock_wall_s()) * 1000;
	if (delay_ms < 0) {
		delay_ms = 0;
	}
	/* The tick of every second looks as well; this is for what is due within it. */
	if (delay_ms <= 1000 && !q->due.armed) {
		loop_timer_start(&q->due, delay_ms);
	}
}

void scheduler_wait(struct qmgr *q, struct store_segment *seg, uint32_t slot, int64_t at_s)
{
	uint32_t at = at_s < 0 ? 0 : at_s > UINT32_MAX ? UINT32_MAX - 1 : (uint32_t)at_s;

	waiting_push(&q->waiting,
		(struct waiting_entry){.at_s = at, .segment = seg->index, .slot = slot});
	arm_due(q);
}

void scheduler_found(struct qmgr *q, struct store_segment *seg, const struct record_ref *r)
{
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
		struct slot slot = store_slot(seg, i);

		if (!slot_is_final(&slot) && (slot.flags & SLOT_HELD) == 0) {
			scheduler_wait(q, seg, i, slot.next_at_s);
		}
	}
}

static bool slot_is_takeable(const struct slot *slot)
{
	return !slot_is_final(slot) && (slot->flags & (SLOT_HELD | SLOT_ACTIVE)) == 0;
}

/* Takes all that is due of the record that the slot belongs to: its envelope is read once. */
static void take_due_record(struct qmgr *q, struct store_segment *seg,
	const struct record_ref *r, int64_t now_s)
{
	struct message *m = NULL;
	uint32_t *indexes = NULL;
	uint32_t count = 0;
	uint32_t room = q->policy->active_limit - q->active;
	enum err e;

	e = message_load(q->store, seg, r, &m);
	if (e == ERR_CORRUPT || e == ERR_TOOBIG) {
		struct record_ref bad = *r;

		store_quarantine(q->store, seg, &bad, "payload does not match its checksum");
		return;
	}
	if (e != ERR_OK) {
		log_warn("event=load_failed segment=%016llx offset=%llu err=\"%s\"",
			(unsigned long long)seg->info.id, (unsigned long long)r->offset,
			err_str(e));
		for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
			struct slot slot = store_slot(seg, i);

			if (slot_is_takeable(&slot) && (int64_t)slot.next_at_s <= now_s) {
				slot.next_at_s = (uint32_t)(now_s + 60);
				store_note_slot(seg, i, &slot);
				scheduler_wait(q, seg, i, now_s + 60);
			}
		}
		return;
	}
	indexes = alloc_bytes((size_t)m->rcpt_count * sizeof(*indexes));
	for (uint32_t i = 0; i < m->rcpt_count && count < room; i++) {
		struct slot slot = store_slot(seg, message_slot(m, i));

		if (slot_is_takeable(&slot) && (int64_t)slot.next_at_s <= now_s) {
			indexes[count++] = i;
		}
	}
	scheduler_take(q, m, indexes, count);
	free(indexes);
	message_unref(q->store, &m);
}

static void on_due(void *arg)
{
	struct qmgr *q = arg;
	int64_t now_s = clock_wall_s();
	struct waiting_entry e;
	uint32_t taken = 0;

	while (!q->sick && !q->draining && taken < DUE_PER_TURN &&
		q->active < q->policy->active_limit &&
		waiting_pop_due(&q->waiting, now_s, &e)) {
		struct store_segment *seg = store_at(q->store, e.segment);
		const struct record_ref *r = seg == NULL ? NULL : store_record_of(seg, e.slot);

		if (r == NULL) {
			continue;
		}
		struct slot slot = store_slot(seg, e.slot);

		/* Entries of slots that went another way meanwhile are passed over. */
		if (slot_is_takeable(&slot) && (int64_t)slot.next_at_s <= now_s) {
			take_due_record(q, seg, r, now_s);
			taken++;
		}
	}
	arm_due(q);
}

void scheduler_tick(struct qmgr *q)
{
	arm_due(q);
}

void scheduler_flush_all(struct qmgr *q)
{
	for (uint32_t i = 0; i < store_size(q->store); i++) {
		struct store_segment *seg = store_at(q->store, i);

		for (uint32_t k = 0; seg != NULL && seg->live > 0 && k < seg->slots_used; k++) {
			struct slot slot = store_slot(seg, k);

			if (!slot_is_final(&slot) && slot.next_at_s != 0) {
				slot.next_at_s = 0;
				store_note_slot(seg, k, &slot);
			}
		}
	}
	waiting_flush(&q->waiting);
	for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
		l = hash_table_next(&q->sites, l)) {
		struct site *s = CONTAINER_OF(l, struct site, by_key);

		s->probe_at_ms = 0;
		scheduler_poke(q, s);
	}
	arm_due(q);
}

/* ---- parcels ---- */

static struct parcel *parcel_new(struct qmgr *q, struct message *m, struct destination *d)
{
	struct parcel *p = alloc_zero(1, sizeof(*p) + sizeof(p->rcpts[0]));

	list_init(&p->link);
	p->message = m;
	p->destination = d;
	p->room = 1;
	d->parcels++;
	message_ref(m);
	(void)q;
	return p;
}

static struct parcel *parcel_add(struct parcel *p, uint32_t index)
{
	if (p->count == p->room) {
		/* It moves: out of its list, and back in before the same neighbour. */
		struct list *next = list_is_empty(&p->link) ? NULL : p->link.next;

		list_remove(&p->link);
		p->room *= 2;
		p = alloc_resize(p, 1, sizeof(*p) + p->room * sizeof(p->rcpts[0]));
		list_init(&p->link);
		if (next != NULL) {
			list_append(next, &p->link);
		}
	}
	p->rcpts[p->count++] = (struct parcel_rcpt){.index = index, .settled = false};
	return p;
}

void scheduler_parcel_free(struct qmgr *q, struct parcel **pp)
{
	struct parcel *p = *pp;

	*pp = NULL;
	assert(p->agent == NULL && p->notice == NULL);
	list_remove(&p->link);
	q->active -= p->count;
	p->destination->parcels--;
	router_release(q, p->destination);
	message_unref(q->store, &p->message);
	free(p);
	arm_due(q);
}

/* Recipients that cannot go now, though nothing was tried: back to the heap. */
static void wait_untried(struct qmgr *q, struct parcel **pp, int64_t at_s, uint32_t spread_s)
{
	struct parcel *p = *pp;
	struct store_segment *seg = p->message->segment;

	for (uint32_t i = 0; i < p->count; i++) {
		uint32_t number = message_slot(p->message, p->rcpts[i].index);
		struct slot slot = store_slot(seg, number);
		int64_t at = at_s;

		if (p->rcpts[i].settled) {
			continue;
		}
		p->rcpts[i].settled = true;
		if (outcome_expire(q, p, p->rcpts[i].index)) {
			continue;
		}
		if (spread_s > 0) {
			at += (int64_t)(((uint64_t)number * 2654435761u) % (spread_s + 1));
		}
		slot.flags &= (uint8_t)~SLOT_ACTIVE;
		slot.next_at_s = (uint32_t)at;
		store_note_slot(seg, number, &slot);
		scheduler_wait(q, seg, number, at);
	}
	outcome_parcel_end(q, pp);
}

static uint32_t hold_limit(const struct qmgr *q)
{
	uint32_t share = q->policy->active_limit / 8;

	return share < SITE_HOLD_LEAST ? SITE_HOLD_LEAST : share;
}

static void park(struct qmgr *q, struct site *s, struct parcel **pp)
{
	struct parcel *p = *pp;
	struct store_segment *seg = p->message->segment;

	for (uint32_t i = 0; i < p->count; i++) {
		if (p->rcpts[i].settled) {
			continue;
		}
		if (s->parked_from > 0 && s->parked_count == s->parked_room) {
			memmove(s->parked, s->parked + s->parked_from,
				(s->parked_count - s->parked_from) * sizeof(*s->parked));
			s->parked_count -= s->parked_from;
			s->parked_from = 0;
		}
		if (s->parked_count == s->parked_room) {
			s->parked_room = s->parked_room == 0 ? 256 : s->parked_room * 2;
			s->parked = alloc_resize(s->parked, s->parked_room, sizeof(*s->parked));
		}
		s->parked[s->parked_count++] = (struct parked_slot){.segment = seg->index,
			.slot = message_slot(p->message, p->rcpts[i].index)};
		p->rcpts[i].settled = true;
	}
	outcome_parcel_end(q, pp);
}

static void to_site(struct qmgr *q, struct parcel *p, bool first)
{
	struct site *s = p->destination->site;

	p->site = s;
	s->idle_since_ms = loop_now_ms(q->loop);
	if (s->state == SITE_DOWN && clock_mono_ms() < s->probe_at_ms) {
		wait_untried(q, &p, site_probe_wall_s(s),
			(uint32_t)(q->policy->least_backoff_s / 8) + 1);
		return;
	}
	if (!first && (s->parked_count > s->parked_from ||
			      s->backlog_rcpts + p->count > hold_limit(q))) {
		park(q, s, &p);
		return;
	}
	if (first) {
		list_prepend(&s->backlog, &p->link);
	} else {
		list_append(&s->backlog, &p->link);
	}
	s->backlog_rcpts += p->count;
	scheduler_poke(q, s);
}

static void submit(struct qmgr *q, struct parcel *p)
{
	struct destination *d = p->destination;

	if (d->state == DEST_ROUTED && loop_now_ms(q->loop) < d->expires_ms) {
		to_site(q, p, false);
		return;
	}
	list_append(&d->pending, &p->link);
	router_want(q, d);
}

void scheduler_routed(struct qmgr *q, struct destination *d)
{
	struct list pending;
	struct list *l;

	/* to_site() may give the last parcel back: the destination is held until the end. */
	d->parcels++;
	list_init(&pending);
	while ((l = list_first(&d->pending)) != NULL) {
		list_remove(l);
		list_append(&pending, l);
	}
	while ((l = list_first(&pending)) != NULL) {
		list_remove(l);
		to_site(q, CONTAINER_OF(l, struct parcel, link), false);
	}
	d->parcels--;
	router_release(q, d);
}

/* False when no recipient is left that is to be sent. */
static bool prune(struct qmgr *q, struct parcel *p)
{
	uint32_t kept = 0;

	/* What is settled has gone its own way, and so has what an operator deleted or holds.
	 */
	for (uint32_t i = 0; i < p->count; i++) {
		uint32_t number = message_slot(p->message, p->rcpts[i].index);
		struct slot slot = store_slot(p->message->segment, number);

		if (p->rcpts[i].settled || slot_is_final(&slot)) {
			continue;
		}
		if ((slot.flags & SLOT_HELD) != 0) {
			slot.flags &= (uint8_t)~SLOT_ACTIVE;
			store_note_slot(p->message->segment, number, &slot);
			continue;
		}
		p->rcpts[kept++] = p->rcpts[i];
	}
	q->active -= p->count - kept;
	p->count = kept;
	return kept > 0;
}

void scheduler_return(struct qmgr *q, struct parcel *p)
{
	if (!prune(q, p)) {
		scheduler_parcel_free(q, &p);
	} else {
		to_site(q, p, true);
	}
}

void scheduler_take(struct qmgr *q, struct message *m, const uint32_t *indexes, uint32_t count)
{
	struct store_segment *seg = m->segment;
	struct list opened;
	struct list *l;
	struct nexthop hop;

	list_init(&opened);
	for (uint32_t k = 0; k < count; k++) {
		uint32_t index = indexes == NULL ? k : indexes[k];
		uint32_t number = message_slot(m, index);
		struct slot slot = store_slot(seg, number);

		if (!slot_is_takeable(&slot)) {
			continue;
		}
		if (q->active >= q->policy->active_limit) {
			scheduler_wait(q, seg, number, slot.next_at_s);
			continue;
		}
		slot.flags |= SLOT_ACTIVE;
		store_note_slot(seg, number, &slot);
		policy_route(q->policy, m->rcpts[index].address, &hop);
		if (hop.kind != NEXTHOP_MX && hop.kind != NEXTHOP_HOST) {
			outcome_local(q, m, index, &hop);
			continue;
		}
		struct destination *d = router_destination(q, &hop);

		if (d->open == NULL) {
			d->open = parcel_new(q, m, d);
			list_append(&opened, &d->open->link);
		}
		d->open = parcel_add(d->open, index);
		q->active++;
		if (d->open->count == q->policy->rcpts_per_job) {
			d->open = NULL;
		}
	}
	while ((l = list_first(&opened)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		list_remove(l);
		p->destination->open = NULL;
		submit(q, p);
	}
}

/* ---- sites ---- */

void scheduler_poke(struct qmgr *q, struct site *s)
{
	if ((!list_is_empty(&s->backlog) || s->parked_count > s->parked_from) &&
		list_is_empty(&s->ready)) {
		list_append(&q->ready_sites, &s->ready);
	}
	loop_flush_mark(&q->dispatch);
}

void scheduler_poke_all(struct qmgr *q)
{
	for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
		l = hash_table_next(&q->sites, l)) {
		scheduler_poke(q, CONTAINER_OF(l, struct site, by_key));
	}
}

void scheduler_park_all(struct qmgr *q, struct site *s)
{
	int64_t at_s = site_probe_wall_s(s);
	uint32_t spread_s = (uint32_t)(q->policy->least_backoff_s / 8) + 1;
	struct list *l;

	while ((l = list_first(&s->backlog)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		list_remove(l);
		s->backlog_rcpts -= p->count;
		wait_untried(q, &p, at_s, spread_s);
	}
	for (; s->parked_from < s->parked_count; s->parked_from++) {
		const struct parked_slot *k = &s->parked[s->parked_from];
		struct store_segment *seg = store_at(q->store, k->segment);
		struct slot slot = {.state = SLOT_DELETED};

		if (seg != NULL) {
			slot = store_slot(seg, k->slot);
		}
		if (slot_is_final(&slot)) {
			continue;
		}
		/* Its age is looked at when it is due: it is due soon, then. */
		int64_t at =
			at_s + (int64_t)(((uint64_t)k->slot * 2654435761u) % (spread_s + 1));

		slot.flags &= (uint8_t)~SLOT_ACTIVE;
		slot.next_at_s = (uint32_t)at;
		store_note_slot(seg, k->slot, &slot);
		scheduler_wait(q, seg, k->slot, at);
	}
	s->parked_count = 0;
	s->parked_from = 0;
}

/* Brings parked recipients back into memory while there is room. */
static void refill(struct qmgr *q, struct site *s)
{
	uint32_t room = hold_limit(q) / 2;
	uint32_t loads = 0;

	while (s->parked_from < s->parked_count && s->backlog_rcpts < room && loads < 200 &&
		q->active < q->policy->active_limit) {
		struct parked_slot k = s->parked[s->parked_from];
		struct store_segment *seg = store_at(q->store, k.segment);
		const struct record_ref *r = seg == NULL ? NULL : store_record_of(seg, k.slot);
		struct message *m = NULL;

		if (r == NULL || message_load(q->store, seg, r, &m) != ERR_OK) {
			/* The heap's way deals with damage and with disks that cannot be read.
			 */
			s->parked_from++;
			if (r != NULL) {
				struct slot slot = store_slot(seg, k.slot);

				if (!slot_is_final(&slot)) {
					slot.flags &= (uint8_t)~SLOT_ACTIVE;
					store_note_slot(seg, k.slot, &slot);
					scheduler_wait(q, seg, k.slot, 0);
				}
			}
			continue;
		}
		loads++;
		struct parcel *p = NULL;
		/* Neighbours of the same message go together. */
		while (s->parked_from < s->parked_count) {
			struct parked_slot n = s->parked[s->parked_from];

			if (n.segment != k.segment || n.slot < m->first_slot ||
				n.slot - m->first_slot >= m->rcpt_count ||
				(p != NULL && p->count >= q->policy->rcpts_per_job)) {
				break;
			}
			s->parked_from++;
			struct slot slot = store_slot(seg, n.slot);
			struct nexthop hop;

			if (slot_is_final(&slot)) {
				continue;
			}
			slot.flags &= (uint8_t)~SLOT_ACTIVE;
			store_note_slot(seg, n.slot, &slot);
			if ((slot.flags & SLOT_HELD) != 0) {
				continue;
			}
			uint32_t index = n.slot - m->first_slot;

			policy_route(q->policy, m->rcpts[index].address, &hop);
			struct destination *d =
				hop.kind == NEXTHOP_MX || hop.kind == NEXTHOP_HOST
					? router_destination(q, &hop)
					: NULL;
			if (d == NULL || d->site != s || (p != NULL && p->destination != d)) {
				/* Routed otherwise now, or another domain of the site. */
				scheduler_take(q, m, &index, 1);
				continue;
			}
			slot.flags |= SLOT_ACTIVE;
			store_note_slot(seg, n.slot, &slot);
			if (p == NULL) {
				p = parcel_new(q, m, d);
				p->site = s;
			}
			p = parcel_add(p, index);
			q->active++;
		}
		if (p != NULL) {
			list_append(&s->backlog, &p->link);
			s->backlog_rcpts += p->count;
		}
		message_unref(q->store, &m);
	}
	if (s->parked_from == s->parked_count) {
		s->parked_from = 0;
		s->parked_count = 0;
		if (s->parked_room > 1024) {
			ALLOC_FREE(s->parked);
			s->parked_room = 0;
		}
	}
}

static void on_send_time(void *arg)
{
	struct site *s = arg;

	scheduler_poke(s->q, s);
}

enum may_send {
	SEND_YES,
	SEND_LATER, /* something else will poke the site */
	SEND_CAPPED,
	SEND_STOP /* nothing can be sent to anybody now */
};

static enum may_send may_send(struct qmgr *q, struct site *s)
{
	int64_t now = loop_now_ms(q->loop);

	if (q->sick || q->draining || q->in_flight >= q->policy->connections_total * 2) {
		return SEND_STOP;
	}
	if (list_is_empty(&s->backlog)) {
		refill(q, s);
	}
	if (list_is_empty(&s->backlog) || s->in_flight >= site_job_limit(q, s)) {
		return SEND_LATER;
	}
	if (!s->proven &&
		q->unproven_in_flight >= q->policy->connections_total / UNPROVEN_SHARE) {
		return SEND_CAPPED;
	}
	if (q->policy->rate_delay_ms > 0 && now < s->next_send_ms) {
		if (s->send_timer == NULL) {
			s->send_timer = alloc_zero(1, sizeof(*s->send_timer));
			loop_timer_init(s->send_timer, q->loop, on_send_time, s);
		}
		if (!s->send_timer->armed) {
			loop_timer_start(s->send_timer, s->next_send_ms - now);
		}
		return SEND_LATER;
	}
	return SEND_YES;
}

static void on_dispatch(void *arg)
{
	struct qmgr *q = arg;
	struct list *l;

	while ((l = list_first(&q->ready_sites)) != NULL) {
		struct site *s = CONTAINER_OF(l, struct site, ready);
		enum may_send may = SEND_YES;
		uint32_t sent = 0;

		while (sent < TURN_JOBS && (may = may_send(q, s)) == SEND_YES) {
			struct parcel *p =
				CONTAINER_OF(list_first(&s->backlog), struct parcel, link);

			s->backlog_rcpts -= p->count;
			if (!prune(q, p)) {
				scheduler_parcel_free(q, &p);
				continue;
			}
			s->backlog_rcpts += p->count;
			if (!agent_send(q, s, p)) {
				may = SEND_STOP;
				break;
			}
			sent++;
			s->next_send_ms = loop_now_ms(q->loop) + q->policy->rate_delay_ms;
		}
		if (may == SEND_STOP) {
			return; /* a job's end, an agent's coming or the disk's recovery goes on
				 */
		}
		list_remove(&s->ready);
		if (may == SEND_YES) {
			list_append(&q->ready_sites, &s->ready);
		} else if (may == SEND_CAPPED) {
			list_append(&q->capped_sites, &s->ready);
		}
	}
}
