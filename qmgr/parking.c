/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/parking.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "qmgr/due.h"
#include "qmgr/outcome.h"
#include "qmgr/parcel.h"
#include "qmgr/router.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

#define ROOM_FIRST 4u
#define ROOM_KEPT 1024u
/* What one refill brings back, and the messages that it reads for it. */
#define REFILL_RCPTS 1000u
#define REFILL_LOADS 200u

static void push(struct site *s, struct store_segment *seg, uint32_t slot)
{
	if (s->parked_from > 0 && s->parked_count == s->parked_room) {
		memmove(s->parked, s->parked + s->parked_from,
			parking_count(s) * sizeof(*s->parked));
		s->parked_count -= s->parked_from;
		s->parked_from = 0;
	}
	if (s->parked_count == s->parked_room) {
		s->parked_room = s->parked_room == 0 ? ROOM_FIRST : s->parked_room * 2;
		s->parked = alloc_resize(s->parked, s->parked_room, sizeof(*s->parked));
	}
	s->parked[s->parked_count++] =
		(struct parked_slot){.segment = seg->index, .slot = slot};
	store_pin(seg);
}

void parking_add(struct qmgr *q, struct site *s, struct parcel **pp)
{
	struct parcel *p = *pp;

	if (parcel_prune(q, p)) {
		for (uint32_t i = 0; i < p->count; i++) {
			push(s, p->message->segment,
				message_slot(p->message, p->rcpts[i].index));
			p->rcpts[i].settled = true;
		}
	}
	parcel_free(q, pp);
	scheduler_poke(q, s);
}

/* Takes the first one off. Its segment is no longer pinned by it. */
static void pop(struct qmgr *q, struct site *s)
{
	struct store_segment *seg = store_at(q->store, s->parked[s->parked_from].segment);

	s->parked_from++;
	store_unpin(q->store, seg);
}

static void trim(struct site *s)
{
	if (parking_count(s) == 0) {
		s->parked_from = 0;
		s->parked_count = 0;
		if (s->parked_room > ROOM_KEPT) {
			ALLOC_FREE(s->parked);
			s->parked_room = 0;
		}
	}
}

/* Inactive from here on. False: an operator deleted or holds it, it has no place any more. */
static bool wake(struct store_segment *seg, uint32_t number, struct slot *slot)
{
	*slot = store_slot(seg, number);
	if (slot_is_final(slot)) {
		return false;
	}
	slot->flags &= (uint8_t)~SLOT_ACTIVE;
	store_note_slot(seg, number, slot);
	return (slot->flags & SLOT_HELD) == 0;
}

static void first_to_heap(struct qmgr *q, struct site *s, struct store_segment *seg)
{
	uint32_t number = s->parked[s->parked_from].slot;
	struct slot slot;

	if (wake(seg, number, &slot)) {
		due_wait(q, seg, number, slot.next_at_s);
	}
	pop(q, s);
}

static bool may_refill(const struct qmgr *q, const struct site *s, uint32_t more)
{
	return q->active < q->policy->active_limit && s->backlog_rcpts + more < REFILL_RCPTS &&
	       site_may_hold(q, s, more + 1);
}

/* The parked ones of a message that stand first, as far as there is room. */
static void refill_from(struct qmgr *q, struct site *s, struct message *m)
{
	struct store_segment *seg = m->segment;
	struct parcel *p = NULL;

	while (parking_count(s) > 0 && may_refill(q, s, p == NULL ? 0 : p->count)) {
		struct parked_slot k = s->parked[s->parked_from];
		uint32_t index = k.slot - m->first_slot;
		struct nexthop hop;
		struct slot slot;

		if (k.segment != seg->index || k.slot < m->first_slot ||
			index >= m->rcpt_count) {
			break;
		}
		pop(q, s);
		if (!wake(seg, k.slot, &slot)) {
			continue;
		}
		policy_route(q->policy, m->rcpts[index].address, &hop);
		struct destination *d = hop.kind == NEXTHOP_MX || hop.kind == NEXTHOP_HOST
						? router_destination(q, &hop)
						: NULL;
		if (d == NULL || d->site != s) {
			scheduler_take(q, m, &index, 1); /* it has another way now */
			continue;
		}
		if (p != NULL &&
			(p->destination != d || p->count >= q->policy->rcpts_per_job)) {
			parcel_queue(q, p, false);
			p = NULL;
		}
		if (p == NULL) {
			p = parcel_new(q, m, d);
			p->site = s;
		}
		slot.flags |= SLOT_ACTIVE;
		store_note_slot(seg, k.slot, &slot);
		p = parcel_add(q, p, index);
	}
	if (p != NULL) {
		parcel_queue(q, p, false);
	}
}

void parking_refill(struct qmgr *q, struct site *s)
{
	for (uint32_t loads = 0;
		loads < REFILL_LOADS && parking_count(s) > 0 && may_refill(q, s, 0); loads++) {
		struct parked_slot k = s->parked[s->parked_from];
		struct store_segment *seg = store_at(q->store, k.segment);
		struct record_ref ref = *store_record_of(seg, k.slot);
		struct message *m = NULL;

		if (message_recall(q->store, &q->recent, seg, &ref, &m) == ERR_OK) {
			refill_from(q, s, m);
			message_unref(q->store, &m);
		} else {
			/* The heap's way deals with damage and with disks that cannot be read.
			 */
			first_to_heap(q, s, seg);
		}
	}
	trim(s);
}

void parking_disperse(struct qmgr *q, struct site *s, int64_t at_s, uint32_t spread_s)
{
	while (parking_count(s) > 0) {
		const struct parked_slot *k = &s->parked[s->parked_from];
		struct store_segment *seg = store_at(q->store, k->segment);
		struct slot slot;

		if (wake(seg, k->slot, &slot)) {
			int64_t at = at_s + scheduler_spread(k->slot, spread_s);

			slot.next_at_s = (uint32_t)at;
			store_note_slot(seg, k->slot, &slot);
			due_wait(q, seg, k->slot, at);
		}
		pop(q, s);
	}
	trim(s);
}

void parking_discard(struct qmgr *q, struct site *s)
{
	while (parking_count(s) > 0) {
		pop(q, s);
	}
	trim(s);
}
