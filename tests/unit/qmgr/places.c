/* SPDX-License-Identifier: Apache-2.0 */
/* places: counts the places that each recipient is in, and what the counters should say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "tests/unit/qmgr/bench.h"

struct place {
	uint8_t parcels;
	uint8_t parked;
	uint8_t notices;
	bool has_entry;
	uint32_t entry_at_s; /* the latest */
};

struct view {
	struct qmgr *q;
	struct place **places; /* by segment index, then slot */
	uint32_t *pins;        /* by segment index */
	const struct message **messages;
	size_t message_count;
	size_t message_room;
	uint32_t active;
	uint32_t pending;
	uint32_t unproven_held;
	uint32_t unproven_in_flight;
	uint32_t in_flight;
	uint32_t notice_rcpts;
	uint32_t sent;
};

static struct place *place_of(struct view *v, const struct store_segment *seg, uint32_t slot)
{
	assert_ptr_equal(store_at(v->q->store, seg->index), seg);
	assert_true(slot < seg->slots_used);
	return &v->places[seg->index][slot];
}

static void note_message(struct view *v, const struct message *m)
{
	if (v->message_count == v->message_room) {
		v->message_room = v->message_room == 0 ? 64 : v->message_room * 2;
		v->messages = alloc_resize(v->messages, v->message_room,
			sizeof(const struct message *));
	}
	v->messages[v->message_count++] = m;
}

static void note_parcel(struct view *v, const struct parcel *p, enum parcel_place place)
{
	assert_int_equal(p->place, place);
	assert_true(p->count > 0 && p->count <= 1000);
	note_message(v, p->message);
	v->active += p->count;
	for (uint32_t i = 0; i < p->count; i++) {
		if (!p->rcpts[i].settled) {
			place_of(v, p->message->segment,
				message_slot(p->message, p->rcpts[i].index))
				->parcels++;
		} else {
			assert_int_equal(place, PARCEL_FLIGHT);
		}
	}
}

static uint32_t parcels_of(const struct qmgr *q, const struct destination *d)
{
	uint32_t n = 0;
	struct hash_id_link *job = NULL;

	for (struct list *l = d->pending.next; l != &d->pending; l = l->next) {
		n++;
	}
	for (struct hash_link *s = hash_table_next(&q->sites, NULL); s != NULL;
		s = hash_table_next(&q->sites, s)) {
		struct list *backlog = &CONTAINER_OF(s, struct site, by_key)->backlog;

		for (struct list *l = backlog->next; l != backlog; l = l->next) {
			n += CONTAINER_OF(l, struct parcel, link)->destination == d ? 1 : 0;
		}
	}
	while ((job = hash_id_table_next(&q->jobs, job)) != NULL) {
		n += CONTAINER_OF(job, struct parcel, job)->destination == d ? 1 : 0;
	}
	return n;
}

static void look_at_destinations(struct view *v)
{
	struct qmgr *q = v->q;

	for (struct hash_link *l = hash_table_next(&q->destinations, NULL); l != NULL;
		l = hash_table_next(&q->destinations, l)) {
		struct destination *d = CONTAINER_OF(l, struct destination, by_key);

		assert_null(d->open);
		for (struct list *p = d->pending.next; p != &d->pending; p = p->next) {
			struct parcel *parcel = CONTAINER_OF(p, struct parcel, link);

			note_parcel(v, parcel, PARCEL_PENDING);
			assert_ptr_equal(parcel->destination, d);
			assert_int_equal(d->state, DEST_ASKED);
			v->pending += parcel->count;
		}
		if (d->state == DEST_ASKED) {
			assert_ptr_equal(hash_id_table_find(&q->requests, d->request),
				&d->by_request);
		}
		if (q->destinations.count < 100) {
			assert_int_equal(d->parcels, parcels_of(q, d));
		}
	}
}

static void look_at_site(struct view *v, struct site *s)
{
	struct qmgr *q = v->q;
	uint32_t backlog = 0;
	uint32_t in_flight = 0;
	uint32_t held = 0;
	uint32_t at_agents = 0;
	struct hash_id_link *job = NULL;

	for (struct list *l = s->backlog.next; l != &s->backlog; l = l->next) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		note_parcel(v, p, PARCEL_BACKLOG);
		assert_ptr_equal(p->site, s);
		assert_null(p->agent);
		backlog += p->count;
	}
	while ((job = hash_id_table_next(&q->jobs, job)) != NULL) {
		struct parcel *p = CONTAINER_OF(job, struct parcel, job);

		in_flight += p->site == s ? 1 : 0;
		held += p->site == s ? p->count : 0;
	}
	for (size_t i = s->parked_from; i < s->parked_count; i++) {
		struct store_segment *seg = store_at(q->store, s->parked[i].segment);

		assert_non_null(seg);
		place_of(v, seg, s->parked[i].slot)->parked++;
		v->pins[seg->index]++;
	}
	for (unsigned i = 0; i < q->agent_count; i++) {
		struct hash_id_link *l =
			q->agents[i] == NULL ? NULL
					     : hash_id_table_find(&q->agents[i]->sites, s->id);

		at_agents += l == NULL ? 0 : CONTAINER_OF(l, struct agent_site, by_id)->jobs;
	}
	assert_int_equal(s->backlog_rcpts, backlog);
	assert_int_equal(s->in_flight, in_flight);
	assert_int_equal(s->held, held + backlog);
	assert_int_equal(at_agents, in_flight);
	v->in_flight += in_flight;
	v->unproven_in_flight += s->proven ? 0 : in_flight;
	v->unproven_held += s->proven ? 0 : s->held;
	if (s->state == SITE_DOWN) {
		assert_false(s->proven);
	}
}

static void look_at_work(struct view *v)
{
	struct qmgr *q = v->q;
	struct hash_id_link *l = NULL;
	uint32_t jobs = 0;

	look_at_destinations(v);
	for (struct hash_link *s = hash_table_next(&q->sites, NULL); s != NULL;
		s = hash_table_next(&q->sites, s)) {
		look_at_site(v, CONTAINER_OF(s, struct site, by_key));
	}
	while ((l = hash_id_table_next(&q->jobs, l)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, job);

		note_parcel(v, p, PARCEL_FLIGHT);
		assert_non_null(p->agent);
	}
	for (unsigned i = 0; i < q->agent_count; i++) {
		jobs += q->agents[i] == NULL ? 0 : q->agents[i]->jobs;
	}
	assert_int_equal(jobs, v->in_flight);
	if (q->recent != NULL) {
		note_message(v, q->recent);
	}
}

static void look_at_notices(struct view *v)
{
	struct hash_id_link *l = NULL;

	while ((l = hash_id_table_next(&v->q->notices, l)) != NULL) {
		struct notice *n = CONTAINER_OF(l, struct notice, by_id);

		note_message(v, n->message);
		v->notice_rcpts += n->count;
		v->sent += n->sent ? 1 : 0;
		for (uint32_t i = 0; i < n->count && n->kind != NOTICE_RELAYED; i++) {
			place_of(v, n->message->segment,
				message_slot(n->message, n->rcpts[i].index))
				->notices++;
		}
	}
}

static bool is_coming(const struct qmgr *q, const struct store_segment *seg, uint32_t slot)
{
	for (unsigned i = 0; i < INTAKES_MAX; i++) {
		const struct intake *in = q->intakes[i];

		if (in != NULL && in->segment == seg && slot >= in->record.first_slot &&
			slot - in->record.first_slot < in->record.rcpt_count) {
			return true;
		}
	}
	return false;
}

static void check_slot(struct view *v, const struct store_segment *seg, uint32_t number)
{
	struct slot slot = store_slot(seg, number);
	const struct place *p = &v->places[seg->index][number];
	unsigned places = (unsigned)p->parcels + p->parked + p->notices;

	if (slot_is_final(&slot) || store_record_of(seg, number) == NULL ||
		is_coming(v->q, seg, number)) {
		return;
	}
	if ((slot.flags & SLOT_ACTIVE) != 0) {
		if (places != 1) {
			fail_msg("slot %u is active and in %u parcels, %u parked, %u notices",
				number, p->parcels, p->parked, p->notices);
		}
		return;
	}
	if (places != 0) {
		fail_msg("slot %u is not active, but in %u parcels, %u parked, %u notices",
			number, p->parcels, p->parked, p->notices);
	}
	if ((slot.flags & SLOT_HELD) == 0 &&
		(!p->has_entry || p->entry_at_s < slot.next_at_s)) {
		fail_msg("slot %u waits until %u, and nothing will wake it (%d, %u)", number,
			slot.next_at_s, p->has_entry, p->entry_at_s);
	}
}

static int by_address(const void *a, const void *b)
{
	const struct message *const *x = a;
	const struct message *const *y = b;

	return *x < *y ? -1 : *x > *y ? 1 : 0;
}

/* As many references as there are parcels and notices; one pin for each message. */
static void check_messages(struct view *v)
{
	if (v->message_count > 0) {
		qsort(v->messages, v->message_count, sizeof(const struct message *),
			by_address);
	}
	for (size_t i = 0, next; i < v->message_count; i = next) {
		for (next = i;
			next < v->message_count && v->messages[next] == v->messages[i];) {
			next++;
		}
		assert_int_equal(v->messages[i]->refs, next - i);
		v->pins[v->messages[i]->segment->index]++;
	}
	for (unsigned i = 0; i < INTAKES_MAX; i++) {
		const struct intake *in = v->q->intakes[i];

		if (in != NULL && in->segment != NULL) {
			v->pins[in->segment->index]++;
		}
	}
}

static void check_counters(struct view *v)
{
	const struct qmgr *q = v->q;

	assert_int_equal(q->active, v->active);
	assert_int_equal(q->pending_rcpts, v->pending);
	assert_int_equal(q->in_flight, v->in_flight);
	assert_int_equal(q->jobs.count, v->in_flight);
	assert_int_equal(q->unproven_in_flight, v->unproven_in_flight);
	assert_int_equal(q->unproven_held, v->unproven_held);
	assert_int_equal(q->notices_out, v->notice_rcpts);
	assert_int_equal(q->notices_sent_count, v->sent);
}

void bench_check(struct bench *b)
{
	struct view v = {.q = &b->q};
	uint32_t size = store_size(b->q.store);
	uint64_t live = 0;

	v.places = alloc_zero(size + 1u, sizeof(struct place *));
	v.pins = alloc_zero(size + 1u, sizeof(*v.pins));
	for (uint32_t i = 0; i < size; i++) {
		struct store_segment *seg = store_at(b->q.store, i);

		if (seg != NULL) {
			v.places[i] = alloc_zero(seg->slots_used + 1u, sizeof(struct place));
		}
	}
	look_at_work(&v);
	look_at_notices(&v);
	for (size_t i = 0; i < b->q.waiting.count; i++) {
		const struct waiting_entry *e = &b->q.waiting.entries[i];
		struct store_segment *seg = store_at(b->q.store, e->segment);

		if (seg != NULL && e->slot < seg->slots_used) {
			struct place *p = place_of(&v, seg, e->slot);

			p->has_entry = true;
			p->entry_at_s = e->at_s > p->entry_at_s ? e->at_s : p->entry_at_s;
		}
	}
	check_messages(&v);
	for (uint32_t i = 0; i < size; i++) {
		struct store_segment *seg = store_at(b->q.store, i);
		uint32_t waits = 0;

		for (uint32_t k = 0; seg != NULL && k < seg->slots_used; k++) {
			struct slot slot = store_slot(seg, k);

			check_slot(&v, seg, k);
			waits +=
				slot_is_final(&slot) || store_record_of(seg, k) == NULL ? 0 : 1;
		}
		if (seg != NULL) {
			assert_int_equal(seg->live, waits);
			assert_int_equal(seg->pins, v.pins[i]);
			live += waits;
		}
		free(v.places[i]);
	}
	assert_int_equal(store_live(b->q.store), live);
	check_counters(&v);
	assert_int_equal(b->failed, 0);
	free(v.places);
	free(v.pins);
	free(v.messages);
}

void bench_check_empty(struct bench *b)
{
	struct qmgr *q = &b->q;

	bench_settle(b);
	bench_check(b);
	assert_int_equal(store_live(q->store), 0);
	assert_int_equal(q->active, 0);
	assert_int_equal(q->pending_rcpts, 0);
	assert_int_equal(q->in_flight, 0);
	assert_int_equal(q->unproven_in_flight, 0);
	assert_int_equal(q->unproven_held, 0);
	assert_int_equal(q->notices_out, 0);
	assert_int_equal(q->notices_sent_count, 0);
	assert_int_equal(q->jobs.count, 0);
	assert_int_equal(q->requests.count, 0);
	for (unsigned i = 0; i < q->agent_count; i++) {
		assert_int_equal(q->agents[i] == NULL ? 0 : q->agents[i]->jobs, 0);
	}
}
