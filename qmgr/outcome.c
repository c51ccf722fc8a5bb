/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/outcome.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "qmgr/agent.h"
#include "qmgr/due.h"
#include "qmgr/notice.h"
#include "qmgr/parcel.h"
#include "qmgr/retry.h"
#include "qmgr/router.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

/* An attempt as the rest of this file sees it, wherever it came from. */
struct attempt {
	struct message *message;
	uint32_t index;
	enum verdict_kind kind;
	uint8_t stage;
	uint16_t smtp_code;
	struct enhanced_code status;
	struct slice text;
	struct slice host;
	struct slice addr;
	const struct connection *connection;
	uint64_t connection_id;
	struct slice site;
	uint32_t transfer_ms;
	bool maybe_duplicate;
	int64_t not_before_s; /* the site's next probe; 0: none */
};

static int64_t lifetime_end_s(const struct qmgr *q, const struct message *m)
{
	int64_t lifetime =
		m->sender.n == 0 ? q->policy->notice_lifetime_s : q->policy->lifetime_s;
	int64_t end = m->accepted_us / 1000000 + lifetime;

	return m->deadline_s > 0 && m->deadline_s < end ? m->deadline_s : end;
}

static void write_attempt(struct qmgr *q, const struct attempt *a, uint32_t number,
	int64_t next_at_s)
{
	const struct message *m = a->message;
	const struct connection *c = a->connection;
	char status[ENHANCED_TEXT_MAX] = "";
	int64_t now_us = clock_wall_us();

	if (a->status.class != 0) {
		enhanced_format(a->status, status);
	}
	struct event_attempt e = {.qid = slice_make(m->queue_id, QUEUE_ID_BYTES),
		.rcpt = m->rcpts[a->index].address,
		.sender = m->sender,
		.result = (uint8_t)a->kind,
		.stage = a->stage,
		.code = a->smtp_code,
		.status = slice_from_cstr(status),
		.reply = a->text,
		.site = a->site,
		.host = c != NULL ? slice_from_cstr(c->host) : a->host,
		.addr = c != NULL ? slice_from_cstr(c->addr) : a->addr,
		.local = c != NULL ? slice_from_cstr(c->local) : SLICE_EMPTY,
		.tls = c != NULL ? slice_from_cstr(c->tls) : SLICE_EMPTY,
		.connection = a->connection_id,
		.attempt = number,
		.next_at_s = next_at_s,
		.delay_us = now_us > m->accepted_us ? (uint64_t)(now_us - m->accepted_us) : 0,
		.transfer_ms = a->transfer_ms,
		.maybe_duplicate = a->maybe_duplicate ? 1 : 0,
		.tenant = m->tenant};
	journal_attempt(q->journal, now_us, &e);
}

static void note_last(struct slot *slot, const struct attempt *a)
{
	slot->smtp_code = a->smtp_code;
	slot->stage = a->stage;
	slot->status_class = a->status.class;
	slot->status_subject = a->status.subject;
	slot->status_detail = a->status.detail;
	slot->flags &= (uint8_t)~SLOT_ACTIVE;
	if (slot->attempts < UINT16_MAX) {
		slot->attempts++;
	}
}

static void tell(struct qmgr *q, struct notice **n, const struct attempt *a, uint8_t kind)
{
	const struct connection *c = a->connection;
	struct notice_rcpt r = {.rcpt = a->message->rcpts[a->index],
		.index = a->index,
		.stage = a->stage,
		.smtp_code = a->smtp_code,
		.status = a->status,
		.attempt_us = clock_wall_us()};
	char text[LIMIT_REPLY_TEXT + 1];
	char host[LIMIT_HOSTNAME + 1];
	char addr[65];

	/* The text keeps its lines; str_printable() would not. */
	size_t length = a->text.n < LIMIT_REPLY_TEXT ? a->text.n : LIMIT_REPLY_TEXT;
	size_t kept = 0;
	for (size_t i = 0; i < length; i++) {
		text[kept++] = a->text.p[i] == '\0' ? '?' : (char)a->text.p[i];
	}
	text[kept] = '\0';
	str_printable(host, sizeof(host), c != NULL ? slice_from_cstr(c->host) : a->host);
	str_printable(addr, sizeof(addr), c != NULL ? slice_from_cstr(c->addr) : a->addr);
	r.text = text;
	r.host = host;
	r.addr = addr;
	notice_add(q, n, a->message, kind, &r);
}

static void settle_done(struct qmgr *q, struct notice **n, const struct attempt *a,
	uint8_t flags)
{
	struct store_segment *seg = a->message->segment;
	uint32_t number = message_slot(a->message, a->index);
	struct slot slot = store_slot(seg, number);

	note_last(&slot, a);
	slot.state = SLOT_DELIVERED;
	write_attempt(q, a, slot.attempts, 0);
	store_set_slot(q->store, seg, number, &slot);
	q->count_delivered++;
	/* When bounce does not keep up it is delivered none the less; only nobody is told. */
	if ((flags & OUTCOME_NO_DSN_PEER) != 0 && !notice_is_full(q) &&
		(a->message->rcpts[a->index].notify & NOTIFY_SUCCESS) != 0) {
		tell(q, n, a, NOTICE_RELAYED);
	}
}

/* Once, to a sender that asked for it (RFC 3461 section 4.1). */
static bool is_delay_to_tell(const struct qmgr *q, const struct attempt *a,
	const struct slot *slot, int64_t now_s)
{
	const struct message *m = a->message;

	return q->policy->delay_warning_s > 0 && (slot->flags & SLOT_DELAY_TOLD) == 0 &&
	       (m->rcpts[a->index].notify & NOTIFY_DELAY) != 0 &&
	       now_s - m->accepted_us / 1000000 >= q->policy->delay_warning_s &&
	       !notice_is_full(q);
}

static void settle_later(struct qmgr *q, struct notice **n, const struct attempt *a)
{
	struct store_segment *seg = a->message->segment;
	uint32_t number = message_slot(a->message, a->index);
	struct slot slot = store_slot(seg, number);
	int64_t now_s = clock_wall_s();
	int64_t end_s = lifetime_end_s(q, a->message);

	note_last(&slot, a);
	if (now_s >= end_s && !notice_is_full(q)) {
		write_attempt(q, a, slot.attempts, 0);
		slot.flags |= SLOT_ACTIVE;
		store_note_slot(seg, number, &slot);
		q->count_expired++;
		tell(q, n, a, NOTICE_EXPIRED);
		return;
	}
	uint64_t seed = hash_bytes(slice_make(a->message->queue_id, QUEUE_ID_BYTES)) +
			slot.attempts + a->index;
	int64_t next_s = now_s + retry_wait_s(slot.attempts, q->policy->least_backoff_s,
					 q->policy->most_backoff_s, seed);

	if (next_s < a->not_before_s) {
		next_s = a->not_before_s + (int64_t)(seed % 8);
	}
	/* The last attempt is made at the end of the lifetime, not up to a whole wait behind
	 * it. */
	if (next_s > end_s && now_s < end_s) {
		next_s = end_s;
	}
	bool tells = is_delay_to_tell(q, a, &slot, now_s);
	if (tells) {
		slot.flags |= SLOT_DELAY_TOLD;
	}
	slot.next_at_s = (uint32_t)next_s;
	write_attempt(q, a, slot.attempts, next_s);
	store_set_slot(q->store, seg, number, &slot);
	q->count_deferred++;
	due_wait(q, seg, number, next_s);
	if (tells) {
		tell(q, n, a, NOTICE_DELAYED);
	}
}

static void settle(struct qmgr *q, struct notice **n, struct attempt *a, uint8_t flags)
{
	struct store_segment *seg = a->message->segment;
	uint32_t number = message_slot(a->message, a->index);
	struct slot slot = store_slot(seg, number);

	if (slot_is_final(&slot)) {
		write_attempt(q, a, slot.attempts + 1u, 0); /* deleted while it was in work */
		return;
	}
	if (a->kind == VERDICT_NEVER && (q->policy->soft_bounce || notice_is_full(q))) {
		a->kind = VERDICT_LATER;
	}
	switch (a->kind) {
	case VERDICT_DONE:
		settle_done(q, n, a, flags);
		break;
	case VERDICT_LATER:
		settle_later(q, n, a);
		break;
	case VERDICT_NEVER:
		note_last(&slot, a);
		write_attempt(q, a, slot.attempts, 0);
		slot.flags |= SLOT_ACTIVE;
		store_note_slot(seg, number, &slot);
		q->count_failed++;
		tell(q, n, a, NOTICE_FAILED);
		break;
	}
}

/* ---- jobs ---- */

/* "Too many recipients" says nothing about this one when others of the transaction went
 * through. */
static bool is_split_signal(const struct parcel *p, const struct msg_outcome *m)
{
	return m->stage == STAGE_RCPT && (m->smtp_code == 452 || m->smtp_code == 552) &&
	       m->kind == VERDICT_LATER && p->delivered > 0;
}

void outcome_take(struct qmgr *q, struct parcel *p, const struct msg_outcome *m)
{
	struct site *s = p->site;
	uint32_t index = p->rcpts[m->rcpt].index;

	if (m->stage == STAGE_CANCELLED || is_split_signal(p, m)) {
		return; /* not settled: outcome_finish() sends it on */
	}
	p->rcpts[m->rcpt].settled = true;
	struct attempt a = {.message = p->message,
		.index = index,
		.kind = (enum verdict_kind)m->kind,
		.stage = m->stage,
		.smtp_code = m->smtp_code,
		.status = {m->status_class, m->status_subject, m->status_detail},
		.text = m->text,
		.host = m->host,
		.addr = m->addr,
		.site = slice_from_cstr(s->key),
		.transfer_ms = (uint32_t)(loop_now_ms(q->loop) - p->sent_ms),
		.maybe_duplicate = (m->flags & OUTCOME_MAYBE_DUPLICATE) != 0 || p->lost > 0};

	if (m->connection != 0) {
		a.connection_id = m->connection;
		a.connection = agent_connection(p->agent, m->connection);
	}
	if ((m->flags & OUTCOME_SITE_DOWN) != 0) {
		if (!p->down) {
			p->down = true;
			site_on_down(q, s, m->text);
		}
		if (s->state == SITE_DOWN) {
			a.not_before_s = site_probe_wall_s(s);
		}
	} else if (m->kind == VERDICT_DONE) {
		p->delivered++;
		s->delivered++;
		site_on_success(q, s);
	} else if (m->kind == VERDICT_LATER) {
		s->deferred++;
		str_printable(s->last_error, sizeof(s->last_error), m->text);
	} else {
		s->failed++;
	}
	settle(q, &p->notice, &a, m->flags);
}

void outcome_parcel_end(struct qmgr *q, struct parcel **p)
{
	notice_submit(q, &(*p)->notice);
	parcel_free(q, p);
}

void outcome_finish(struct qmgr *q, struct parcel *p)
{
	notice_submit(q, &p->notice);
	scheduler_return(q, p);
}

/* ---- without smtp-out ---- */

void outcome_unroutable(struct qmgr *q, struct destination *d, enum verdict_kind kind,
	struct slice code, struct slice text)
{
	struct enhanced_code status = {(uint8_t)(kind == VERDICT_NEVER ? 5 : 4), 4, 4};
	struct list *l;
	struct slice rest;

	if (!enhanced_parse(code, &status, &rest)) {
		status = (struct enhanced_code){(uint8_t)(kind == VERDICT_NEVER ? 5 : 4), 4, 4};
	}
	d->parcels++;
	while ((l = list_first(&d->pending)) != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, link);

		parcel_lift(q, p);
		for (uint32_t i = 0; i < p->count; i++) {
			struct attempt a = {.message = p->message,
				.index = p->rcpts[i].index,
				.kind = kind,
				.stage = STAGE_DNS,
				.status = status,
				.text = text,
				.site = slice_from_cstr(d->name)};

			p->rcpts[i].settled = true;
			settle(q, &p->notice, &a, 0);
		}
		outcome_parcel_end(q, &p);
	}
	d->parcels--;
	router_release(q, d);
}

void outcome_lost(struct qmgr *q, struct parcel *p)
{
	for (uint32_t i = 0; i < p->count; i++) {
		struct attempt a = {.message = p->message,
			.index = p->rcpts[i].index,
			.kind = VERDICT_LATER,
			.stage = STAGE_LOCAL,
			.status = {4, 3, 0},
			.text = SLICE("the processes that were to deliver it have died"),
			.site = slice_from_cstr(p->site->key),
			.maybe_duplicate = true};

		if (!p->rcpts[i].settled) {
			p->rcpts[i].settled = true;
			settle(q, &p->notice, &a, 0);
		}
	}
}

void outcome_local(struct qmgr *q, struct message *m, uint32_t index, const struct nexthop *hop,
	struct notice **n)
{
	struct slice text = slice_from_cstr(hop->text);
	struct attempt a = {.message = m,
		.index = index,
		.stage = STAGE_LOCAL,
		.kind = VERDICT_LATER,
		.status = {4, 3, 5},
		.text = text,
		.site = SLICE("local")};

	if (hop->kind == NEXTHOP_DISCARD) {
		a.kind = VERDICT_DONE;
		a.status = (struct enhanced_code){2, 0, 0};
	} else if (hop->kind == NEXTHOP_ERROR) {
		struct slice rest;

		a.kind = VERDICT_NEVER;
		a.status = (struct enhanced_code){5, 0, 0};
		if (enhanced_parse(text, &a.status, &rest)) {
			a.text = rest;
		}
	}
	settle(q, n, &a, 0);
}

bool outcome_expire(struct qmgr *q, struct parcel *p, uint32_t index)
{
	struct message *m = p->message;
	uint32_t number = message_slot(m, index);
	struct slot slot = store_slot(m->segment, number);

	/* Nobody is given up without a try; where the whole site is down, that was tried. */
	bool tried = slot.attempts > 0 || (p->site != NULL && p->site->state == SITE_DOWN);

	if (!tried || clock_wall_s() < lifetime_end_s(q, m) || notice_is_full(q)) {
		return false;
	}
	struct attempt a = {.message = m,
		.index = index,
		.kind = VERDICT_LATER,
		.stage = STAGE_EXPIRED,
		.smtp_code = slot.smtp_code,
		.status = {slot.status_class, slot.status_subject, slot.status_detail},
		.text = p->site != NULL ? slice_from_cstr(p->site->last_error) : SLICE_EMPTY,
		.site = p->site != NULL ? slice_from_cstr(p->site->key) : SLICE_EMPTY};

	q->count_expired++;
	slot.flags |= SLOT_ACTIVE;
	store_note_slot(m->segment, number, &slot);
	tell(q, &p->notice, &a, NOTICE_EXPIRED);
	return true;
}
