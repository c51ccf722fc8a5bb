/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/parcel.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "qmgr/due.h"
#include "qmgr/router.h"

struct parcel *parcel_new(struct qmgr *q, struct message *m, struct destination *d)
{
	struct parcel *p = alloc_zero(1, sizeof(*p) + sizeof(p->rcpts[0]));

	(void)q;
	list_init(&p->link);
	p->message = m;
	p->destination = d;
	p->room = 1;
	d->parcels++;
	message_ref(m);
	return p;
}

struct parcel *parcel_add(struct qmgr *q, struct parcel *p, uint32_t index)
{
	assert(p->place == PARCEL_LOOSE);
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
	q->active++;
	return p;
}

/* All counters that go with a place, once up and once down. */
static void tally(struct qmgr *q, const struct parcel *p, bool comes)
{
	struct site *s = p->site;
	uint32_t rcpts = comes ? p->count : 0 - p->count;
	uint32_t one = comes ? 1 : UINT32_MAX;

	if (p->place == PARCEL_PENDING) {
		q->pending_rcpts += rcpts;
	}
	if (p->place == PARCEL_BACKLOG) {
		s->backlog_rcpts += rcpts;
	}
	if (p->place == PARCEL_FLIGHT) {
		s->in_flight += one;
		q->in_flight += one;
		q->unproven_in_flight += s->proven ? 0 : one;
	}
	if (p->place == PARCEL_BACKLOG || p->place == PARCEL_FLIGHT) {
		s->held += rcpts;
		q->unproven_held += s->proven ? 0 : rcpts;
	}
}

static void put(struct qmgr *q, struct parcel *p, enum parcel_place place)
{
	assert(p->place == PARCEL_LOOSE && p->count > 0);
	p->place = place;
	tally(q, p, true);
}

void parcel_pend(struct qmgr *q, struct parcel *p)
{
	put(q, p, PARCEL_PENDING);
	list_append(&p->destination->pending, &p->link);
}

void parcel_queue(struct qmgr *q, struct parcel *p, bool first)
{
	put(q, p, PARCEL_BACKLOG);
	if (first) {
		list_prepend(&p->site->backlog, &p->link);
	} else {
		list_append(&p->site->backlog, &p->link);
	}
}

void parcel_launch(struct qmgr *q, struct parcel *p)
{
	put(q, p, PARCEL_FLIGHT);
}

void parcel_lift(struct qmgr *q, struct parcel *p)
{
	tally(q, p, false);
	p->place = PARCEL_LOOSE;
	list_remove(&p->link);
}

bool parcel_prune(struct qmgr *q, struct parcel *p)
{
	uint32_t kept = 0;

	assert(p->place == PARCEL_LOOSE);
	for (uint32_t i = 0; i < p->count; i++) {
		uint32_t number = message_slot(p->message, p->rcpts[i].index);
		struct slot slot = store_slot(p->message->segment, number);

		if (p->rcpts[i].settled || slot_is_final(&slot)) {
			continue;
		}
		if ((slot.flags & SLOT_HELD) != 0) {
			/* Its release brings it back. */
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

static void end(struct qmgr *q, struct parcel *p)
{
	assert(p->place == PARCEL_LOOSE && p->agent == NULL);
	list_remove(&p->link);
	q->active -= p->count;
	p->destination->parcels--;
	message_unref(q->store, &p->message);
	free(p);
}

void parcel_free(struct qmgr *q, struct parcel **pp)
{
	struct parcel *p = *pp;
	struct destination *d = p->destination;

	*pp = NULL;
	assert(p->notice == NULL);
	end(q, p);
	router_release(q, d);
	due_arm(q);
}

void parcel_discard(struct qmgr *q, struct parcel *p)
{
	parcel_lift(q, p);
	end(q, p);
}
