/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/due.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "qmgr/scheduler.h"

/* Messages read, and entries looked at, in one turn of the loop. */
#define LOADS_PER_TURN 500u
#define LOOKS_PER_TURN 20000u
/* Recipients of one record that are looked at together with the one that is due. */
#define BLOCK_RCPTS 1024u
/* After a message could not be read. */
#define UNREADABLE_S 60
/* A step of the day's clock that is no mere drift. */
#define CLOCK_STEP_S 30

void due_arm(struct qmgr *q)
{
	uint32_t next = waiting_next_s(&q->waiting);

	if (next == UINT32_MAX || q->sick || q->draining ||
		q->active >= q->policy->active_limit) {
		return;
	}
	int64_t delay_ms = ((int64_t)next - clock_wall_s()) * 1000;

	delay_ms = delay_ms < 0 ? 0 : delay_ms;
	/* The tick of every second looks as well; this is for what is due within it. */
	if (delay_ms > 1000) {
		return;
	}
	int64_t at_ms = loop_now_ms(q->loop) + delay_ms;

	if (!q->due.armed || at_ms < q->due_at_ms) {
		q->due_at_ms = at_ms;
		loop_timer_start(&q->due, delay_ms);
	}
}

void due_wait(struct qmgr *q, struct store_segment *seg, uint32_t slot, int64_t at_s)
{
	uint32_t at = at_s < 0 ? 0 : at_s >= UINT32_MAX ? UINT32_MAX - 1 : (uint32_t)at_s;

	waiting_push(&q->waiting,
		(struct waiting_entry){.at_s = at, .segment = seg->index, .slot = slot});
	due_arm(q);
}

void due_found(struct qmgr *q, struct store_segment *seg, const struct record_ref *r)
{
	for (uint32_t i = r->first_slot; i < r->first_slot + r->rcpt_count; i++) {
		struct slot slot = store_slot(seg, i);

		if (due_is_takeable(&slot)) {
			due_wait(q, seg, i, slot.next_at_s);
		}
	}
}

void due_flush(struct qmgr *q)
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
	due_arm(q);
}

/* Those of a block of a record's recipients that are due: the one that was popped, which no
 * entry stands for any more, before its neighbours. */
static uint32_t find_due(const struct store_segment *seg, const struct record_ref *r,
	uint32_t popped, uint32_t room, int64_t now_s, uint32_t indexes[BLOCK_RCPTS])
{
	uint32_t index = popped - r->first_slot;
	uint32_t begin = index - index % BLOCK_RCPTS;
	uint32_t length = r->rcpt_count - begin;
	uint32_t count = 0;

	length = length < BLOCK_RCPTS ? length : BLOCK_RCPTS;
	for (uint32_t i = 0; i < length && count < room; i++) {
		uint32_t at = begin + (index - begin + i) % length;
		struct slot slot = store_slot(seg, r->first_slot + at);

		if (due_is_takeable(&slot) && (int64_t)slot.next_at_s <= now_s) {
			indexes[count++] = at;
		}
	}
	return count;
}

static void put_off(struct qmgr *q, struct store_segment *seg, const struct record_ref *r,
	const uint32_t *indexes, uint32_t count, int64_t at_s)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = r->first_slot + indexes[i];
		struct slot slot = store_slot(seg, number);

		slot.next_at_s = (uint32_t)at_s;
		store_note_slot(seg, number, &slot);
		due_wait(q, seg, number, at_s);
	}
}

static void take(struct qmgr *q, struct store_segment *seg, const struct record_ref *r,
	uint32_t popped, int64_t now_s)
{
	uint32_t indexes[BLOCK_RCPTS];
	struct record_ref ref = *r;
	struct message *m = NULL;
	uint32_t count = find_due(seg, &ref, popped, q->policy->active_limit - q->active, now_s,
		indexes);
	enum err e = message_recall(q->store, &q->recent, seg, &ref, &m);

	if (e == ERR_OK) {
		scheduler_take(q, m, indexes, count);
		message_unref(q->store, &m);
		return;
	}
	if ((e == ERR_CORRUPT || e == ERR_TOOBIG) &&
		store_quarantine(q->store, seg, &ref, "payload does not match its checksum")) {
		return;
	}
	log_warn("event=load_failed segment=%016llx offset=%llu err=\"%s\"",
		(unsigned long long)seg->info.id, (unsigned long long)ref.offset, err_str(e));
	put_off(q, seg, &ref, indexes, count, now_s + UNREADABLE_S);
}

static bool may_take(const struct qmgr *q)
{
	return !q->sick && !q->draining && q->active < q->policy->active_limit;
}

static void on_due(void *arg)
{
	struct qmgr *q = arg;
	struct waiting_entry e;
	uint32_t loads = 0;
	uint32_t looks = 0;

	due_watch_clock(q);
	int64_t now_s = clock_wall_s();
	while (may_take(q) && loads < LOADS_PER_TURN && looks < LOOKS_PER_TURN &&
		waiting_pop_due(&q->waiting, now_s, &e)) {
		struct store_segment *seg = store_at(q->store, e.segment);
		const struct record_ref *r = seg == NULL ? NULL : store_record_of(seg, e.slot);

		looks++;
		if (r == NULL) {
			continue;
		}
		struct slot slot = store_slot(seg, e.slot);

		/* Entries of slots that went another way meanwhile are passed over. */
		if (due_is_takeable(&slot) && (int64_t)slot.next_at_s <= now_s) {
			take(q, seg, r, e.slot, now_s);
			loads++;
		}
	}
	due_arm(q);
}

void due_watch_clock(struct qmgr *q)
{
	int64_t difference_s = clock_wall_s() - clock_mono_ms() / 1000;
	int64_t step_s = difference_s - q->wall_minus_mono_s;

	if (step_s > CLOCK_STEP_S || step_s < -CLOCK_STEP_S) {
		log_warn("event=clock_step seconds=%lld", (long long)step_s);
		waiting_shift(&q->waiting, step_s);
		store_shift_times(q->store, step_s);
		q->wall_minus_mono_s = difference_s;
	}
}

void due_init(struct qmgr *q)
{
	waiting_init(&q->waiting);
	loop_timer_init(&q->due, q->loop, on_due, q);
	q->wall_minus_mono_s = clock_wall_s() - clock_mono_ms() / 1000;
}

void due_close(struct qmgr *q)
{
	loop_timer_stop(&q->due);
	waiting_clear(&q->waiting);
	message_unref(q->store, &q->recent);
}
