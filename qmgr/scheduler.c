/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/scheduler.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "qmgr/agent.h"
#include "qmgr/due.h"
#include "qmgr/notice.h"
#include "qmgr/outcome.h"
#include "qmgr/parcel.h"
#include "qmgr/parking.h"
#include "qmgr/router.h"
#include "qmgr/site.h"

/* Jobs of one site before the next site has its turn. */
#define TURN_JOBS 16u
/* Share of the recipients in memory that may wait for the DNS; the others wait in the heap, so
 * that names which nobody answers for do not keep out those that have a route. */
#define PENDING_SHARE 4u
#define PENDING_PAUSE_S 1
#define PENDING_SPREAD_S 4u
/* Capped sites that have their turn when a job ends. */
#define WAKE_MOST 16u
/* After a segment could not be handed to smtp-out. */
#define UNREADABLE_S 60

int64_t scheduler_spread(uint32_t slot, uint32_t spread_s)
{
	return (int64_t)(((uint64_t)slot * 2654435761u) % ((uint64_t)spread_s + 1));
}

/* So that all that a dead site has does not come back in one second. */
static uint32_t down_spread_s(const struct qmgr *q)
{
	return (uint32_t)(q->policy->least_backoff_s / 8) + 1;
}

/* ---- parcels ---- */

void scheduler_put_off(struct qmgr *q, struct parcel **pp, int64_t at_s, uint32_t spread_s)
{
	struct parcel *p = *pp;

	assert(p != NULL);
	(void)parcel_prune(q, p);
	for (uint32_t i = 0; i < p->count; i++) {
		struct store_segment *seg = p->message->segment;
		uint32_t number = message_slot(p->message, p->rcpts[i].index);
		int64_t at = at_s + scheduler_spread(number, spread_s);

		p->rcpts[i].settled = true;
		if (outcome_expire(q, p, p->rcpts[i].index)) {
			continue;
		}
		struct slot slot = store_slot(seg, number);

		slot.flags &= (uint8_t)~SLOT_ACTIVE;
		slot.next_at_s = (uint32_t)at;
		store_note_slot(seg, number, &slot);
		due_wait(q, seg, number, at);
	}
	outcome_parcel_end(q, pp);
}

static void to_site(struct qmgr *q, struct parcel *p, bool first)
{
	struct site *s = p->destination->site;

	p->site = s;
	s->idle_since_ms = loop_now_ms(q->loop);
	if (s->state == SITE_DOWN && clock_mono_ms() < s->probe_at_ms) {
		scheduler_put_off(q, &p, site_probe_wall_s(s), down_spread_s(q));
	} else if (!first && (parking_count(s) > 0 || !site_may_hold(q, s, p->count))) {
		parking_add(q, s, &p);
	} else {
		parcel_queue(q, p, first);
		scheduler_poke(q, s);
	}
}

static void submit(struct qmgr *q, struct parcel *p)
{
	struct destination *d = p->destination;

	if (d->state == DEST_ROUTED && loop_now_ms(q->loop) < d->expires_ms) {
		to_site(q, p, false);
	} else if (q->pending_rcpts > q->policy->active_limit / PENDING_SHARE) {
		scheduler_put_off(q, &p, clock_wall_s() + PENDING_PAUSE_S, PENDING_SPREAD_S);
	} else {
		parcel_pend(q, p);
		router_want(q, d);
	}
}

void scheduler_routed(struct qmgr *q, struct destination *d)
{
	struct list *l;

	/* to_site() may give the last parcel back: the destination is held until the end. */
	d->parcels++;
	while ((l = list_first(&d->pending)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		parcel_lift(q, p);
		to_site(q, p, false);
	}
	d->parcels--;
	router_release(q, d);
}

void scheduler_return(struct qmgr *q, struct parcel *p)
{
	if (parcel_prune(q, p)) {
		to_site(q, p, true);
	} else {
		parcel_free(q, &p);
	}
}

void scheduler_take(struct qmgr *q, struct message *m, const uint32_t *indexes, uint32_t count)
{
	struct store_segment *seg = m->segment;
	struct notice *notice = NULL;
	struct list opened;
	struct list *l;
	struct nexthop hop;

	list_init(&opened);
	for (uint32_t k = 0; k < count; k++) {
		uint32_t index = indexes == NULL ? k : indexes[k];
		uint32_t number = message_slot(m, index);
		struct slot slot = store_slot(seg, number);

		if (!due_is_takeable(&slot)) {
			continue;
		}
		if (q->active >= q->policy->active_limit) {
			due_wait(q, seg, number, slot.next_at_s);
			continue;
		}
		slot.flags |= SLOT_ACTIVE;
		store_note_slot(seg, number, &slot);
		policy_route(q->policy, m->rcpts[index].address, &hop);
		if (hop.kind != NEXTHOP_MX && hop.kind != NEXTHOP_HOST) {
			outcome_local(q, m, index, &hop, &notice);
			continue;
		}
		struct destination *d = router_destination(q, &hop);

		if (d->open == NULL) {
			d->open = parcel_new(q, m, d);
			list_append(&opened, &d->open->link);
		}
		d->open = parcel_add(q, d->open, index);
		if (d->open->count >= q->policy->rcpts_per_job) {
			d->open = NULL;
		}
	}
	while ((l = list_first(&opened)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		list_remove(l);
		p->destination->open = NULL;
		submit(q, p);
	}
	notice_submit(q, &notice);
}

/* ---- the ring of sites that have something to send ---- */

static bool has_work(const struct site *s)
{
	return !list_is_empty(&s->backlog) || parking_count(s) > 0;
}

void scheduler_poke(struct qmgr *q, struct site *s)
{
	if (has_work(s) && list_is_empty(&s->ready)) {
		list_append(&q->ready_sites, &s->ready);
	}
	loop_flush_mark(&q->dispatch);
}

void scheduler_rouse(struct qmgr *q, struct site *s)
{
	if (s->capped) {
		s->capped = false;
		list_remove(&s->ready);
	}
	scheduler_poke(q, s);
}

void scheduler_rouse_all(struct qmgr *q)
{
	for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
		l = hash_table_next(&q->sites, l)) {
		scheduler_rouse(q, CONTAINER_OF(l, struct site, by_key));
	}
}

void scheduler_wake_capped(struct qmgr *q)
{
	struct list *l;

	for (uint32_t n = 0; n < WAKE_MOST && (l = list_first(&q->capped_sites)) != NULL; n++) {
		scheduler_rouse(q, CONTAINER_OF(l, struct site, ready));
	}
}

void scheduler_disperse(struct qmgr *q, struct site *s)
{
	int64_t at_s = site_probe_wall_s(s);
	struct list *l;

	while ((l = list_first(&s->backlog)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		parcel_lift(q, p);
		scheduler_put_off(q, &p, at_s, down_spread_s(q));
	}
	/* How old these are is looked at when they are due: soon, then. */
	parking_disperse(q, s, at_s, down_spread_s(q));
}

static void on_send_time(void *arg)
{
	struct site *s = arg;

	scheduler_rouse(s->q, s);
}

/* True when default_destination_rate_delay lets the site send no more for now. */
static bool must_wait(struct qmgr *q, struct site *s)
{
	int64_t now = loop_now_ms(q->loop);

	if (q->policy->rate_delay_ms == 0 || now >= s->next_send_ms) {
		return false;
	}
	if (s->send_timer == NULL) {
		s->send_timer = alloc_zero(1, sizeof(*s->send_timer));
		loop_timer_init(s->send_timer, q->loop, on_send_time, s);
	}
	if (!s->send_timer->armed) {
		loop_timer_start(s->send_timer, s->next_send_ms - now);
	}
	return true;
}

enum may_send {
	SEND_YES,
	SEND_LATER,  /* something else will rouse the site */
	SEND_CAPPED, /* others have what it needs */
	SEND_STOP    /* nothing can be sent to anybody now */
};

static enum may_send may_send(struct qmgr *q, struct site *s)
{
	if (q->sick || q->draining || q->in_flight >= q->policy->connections_total * 2) {
		return SEND_STOP;
	}
	if (s->in_flight >= site_job_limit(q, s)) {
		return SEND_LATER;
	}
	if (list_is_empty(&s->backlog)) {
		parking_refill(q, s);
	}
	if (list_is_empty(&s->backlog)) {
		return parking_count(s) > 0 ? SEND_CAPPED : SEND_LATER;
	}
	if (!site_may_try(q, s)) {
		return SEND_CAPPED;
	}
	return must_wait(q, s) ? SEND_LATER : SEND_YES;
}

/* The first parcel of a backlog. False: no process can take it. */
static bool send_first(struct qmgr *q, struct site *s)
{
	struct list *l = list_first(&s->backlog);

	assert(l != NULL);
	struct parcel *p = CONTAINER_OF(l, struct parcel, link);

	parcel_lift(q, p);
	if (!parcel_prune(q, p)) {
		parcel_free(q, &p);
		return true;
	}
	switch (agent_send(q, s, p)) {
	case AGENT_SENT:
		s->next_send_ms = loop_now_ms(q->loop) + q->policy->rate_delay_ms;
		return true;
	case AGENT_UNREADABLE:
		/* This one message has to wait, not all that are behind it. */
		scheduler_put_off(q, &p, clock_wall_s() + UNREADABLE_S, 0);
		return true;
	case AGENT_NONE:
		break;
	}
	parcel_queue(q, p, true);
	return false;
}

static void on_dispatch(void *arg)
{
	struct qmgr *q = arg;
	struct list *l;

	if (agent_count(q) == 0) {
		return; /* the next one rouses all */
	}
	while ((l = list_first(&q->ready_sites)) != NULL) {
		struct site *s = CONTAINER_OF(l, struct site, ready);
		enum may_send may = SEND_YES;

		for (uint32_t n = 0; n < TURN_JOBS && (may = may_send(q, s)) == SEND_YES; n++) {
			if (!send_first(q, s)) {
				may = SEND_LATER;
				break;
			}
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
			s->capped = true;
		}
	}
}

void scheduler_flush_all(struct qmgr *q)
{
	due_flush(q);
	for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
		l = hash_table_next(&q->sites, l)) {
		struct site *s = CONTAINER_OF(l, struct site, by_key);

		s->probe_at_ms = 0;
		scheduler_rouse(q, s);
	}
}

void scheduler_tick(struct qmgr *q)
{
	/* It pins its segment; who needs it again soon has a reference, or reads it again. */
	message_unref(q->store, &q->recent);
	due_arm(q);
	scheduler_rouse_all(q);
}

void scheduler_init(struct qmgr *q)
{
	hash_id_table_init(&q->jobs);
	loop_flush_add(&q->dispatch, q->loop, on_dispatch, q);
	due_init(q);
}

static void discard_all(struct qmgr *q, struct list *parcels)
{
	struct list *l;

	while ((l = list_first(parcels)) != NULL) {
		parcel_discard(q, CONTAINER_OF(l, struct parcel, link));
	}
}

/* Agents and notices are gone. */
void scheduler_close(struct qmgr *q)
{
	for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
		l = hash_table_next(&q->sites, l)) {
		struct site *s = CONTAINER_OF(l, struct site, by_key);

		discard_all(q, &s->backlog);
		parking_discard(q, s);
	}
	for (struct hash_link *l = hash_table_next(&q->destinations, NULL); l != NULL;
		l = hash_table_next(&q->destinations, l)) {
		discard_all(q, &CONTAINER_OF(l, struct destination, by_key)->pending);
	}
	due_close(q);
	loop_flush_remove(&q->dispatch);
	hash_id_table_clear(&q->jobs);
}
