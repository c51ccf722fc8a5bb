/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/tx.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"

#define MESSAGE_ID_MAX 998u
/* Texts of one envelope: those of the largest number of recipients. */
#define ENVELOPE_MAX ((size_t)192 * 1024 * 1024)
/* Signatures of DKIM_KEYS_PER_DOMAIN keys of 8192 bits, and what the composer puts in front. */
#define HEAD_MAX 65536u

void tx_works_init(struct tx_works *w)
{
	buf_init(&w->front, COMPOSER_FRONT_MAX);
	buf_init(&w->head, HEAD_MAX);
	/* A message in memory, changed: its header without what went out, an empty line, its
	 * body. */
	buf_init(&w->content, 2 * TX_MEMORY + 4096);
}

void tx_works_clear(struct tx_works *w)
{
	buf_clear(&w->front);
	buf_clear(&w->head);
	buf_clear(&w->content);
}

/* ---- fates ---- */

static const struct tx_fate undecided = {0, NULL};

static struct tx_fate fate_of(enum err e)
{
	switch (e) {
	case ERR_FULL:
		return (struct tx_fate){452, "4.3.1 Insufficient system storage"};
	case ERR_TOOBIG:
	case ERR_SYNTAX:
		return (struct tx_fate){554,
			"5.6.0 Message cannot be signed or stored: too complex"};
	case ERR_OK:
	case ERR_SYS:
	case ERR_PROTO:
	case ERR_CONFIG:
	case ERR_DENIED:
	case ERR_NOTFOUND:
	case ERR_EXISTS:
	case ERR_CORRUPT:
	case ERR_AGAIN:
	case ERR_CLOSED:
	case ERR_TIMEOUT:
	case ERR_TLS:
	case ERR_LIB:
	case ERR_COUNT:
		break;
	}
	return (struct tx_fate){451, "4.3.0 Message could not be stored; try again later"};
}

static void tell_refused(struct tx_works *w, struct slice sender, struct slice client,
	struct tx_fate fate)
{
	w->refused++;
	if (w->journal != NULL) {
		struct event_refused e = {.sender = sender,
			.client = client,
			.code = fate.smtp_code,
			.text = slice_from_cstr(fate.text)};
		journal_refused(w->journal, clock_wall_us(), &e);
	}
}

static enum err refuse(struct tx *tx, struct tx_fate what, struct tx_fate *fate)
{
	*fate = what;
	tell_refused(tx->works, tx->envelope.sender, tx->envelope.client_addr, what);
	return ERR_OK;
}

/* ---- the envelope ---- */

/* What a peer says ends up in lines that we write: none of it may end one. */
static bool is_clean(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 32 || s.p[i] == 127) {
			return false;
		}
	}
	return true;
}

static bool begin_is_clean(const struct msg_tx_begin *m)
{
	return is_clean(m->sender) && is_clean(m->envid) && is_clean(m->client_name) &&
	       is_clean(m->client_addr) && is_clean(m->helo) && is_clean(m->protocol) &&
	       is_clean(m->tls) && is_clean(m->login) && is_clean(m->listener) &&
	       is_clean(m->tenant);
}

static void hold(struct tx *tx, size_t bytes)
{
	tx->held += bytes;
	tx->works->held += bytes;
}

static void release(struct tx *tx, size_t bytes)
{
	tx->held -= bytes;
	tx->works->held -= bytes;
}

static struct slice copy(struct tx *tx, struct slice s)
{
	struct slice to = SLICE_EMPTY;

	if (s.n > 0 && !arena_copy(&tx->arena, s, &to)) {
		return SLICE_EMPTY;
	}
	return to;
}

static enum err why_not_now(const struct tx_works *w, const struct msg_tx_begin *m,
	struct tx_fate *fate)
{
	switch (store_state(w->store)) {
	case STORE_OK:
		break;
	case STORE_FULL:
		*fate = fate_of(ERR_FULL);
		return ERR_FULL;
	default:
		*fate = fate_of(ERR_SYS);
		return ERR_SYS;
	}
	size_t held = w->held + w->bigs * SEGMENT_BIG_MEMORY;
	if (m->declared_bytes > store_room(w->store) || held > TX_ALL_MEMORY_MAX) {
		*fate = fate_of(ERR_FULL);
		return ERR_FULL;
	}
	return ERR_OK;
}

static void on_settled(void *arg, enum err e);

enum err tx_new(struct tx_works *w, const struct msg_tx_begin *m, bool trusted,
	struct tx_fate *fate, struct tx **out)
{
	*fate = undecided;
	*out = NULL;
	if (m->rcpt_count == 0 || !begin_is_clean(m) ||
		((m->flags & TX_DSN) != 0 && !trusted)) {
		return ERR_PROTO;
	}
	if (why_not_now(w, m, fate) != ERR_OK) {
		tell_refused(w, m->sender, m->client_addr, *fate);
		return ERR_OK;
	}
	struct tx *tx = alloc_zero(1, sizeof(*tx));
	tx->works = w;
	w->count++;
	list_init(&tx->parcel.link);
	tx->parcel.envelope = &tx->envelope;
	tx->parcel.on_settled = on_settled;
	tx->parcel.arg = tx;
	arena_init(&tx->arena, ENVELOPE_MAX);
	buf_init(&tx->content, TX_MEMORY + LIMIT_FRAME_BYTES);
	buf_init(&tx->front, HEAD_MAX);
	tx->rcpts_missing = m->rcpt_count;
	tx->envelope = (struct envelope){
		.sender = copy(tx, m->sender),
		.envid = copy(tx, m->envid),
		.client_name = copy(tx, m->client_name),
		.client_addr = copy(tx, m->client_addr),
		.helo = copy(tx, m->helo),
		.protocol = copy(tx, m->protocol),
		.login = copy(tx, m->login),
		.tenant = copy(tx, m->tenant),
		.ret = m->ret,
		.stream_class = m->stream_class,
		.priority = m->priority,
		.deadline_s = m->deadline_s,
		.flags = m->flags,
	};
	tx->tls = copy(tx, m->tls);
	tx->listener = copy(tx, m->listener);
	hold(tx, sizeof(*tx) + tx->arena.used);
	*out = tx;
	return ERR_OK;
}

enum err tx_rcpt(struct tx *tx, const struct msg_tx_rcpt *m, struct tx_fate *fate)
{
	struct envelope *e = &tx->envelope;

	*fate = undecided;
	if (tx->rcpts_missing == 0 || m->address.n == 0 || !is_clean(m->address) ||
		!is_clean(m->orcpt)) {
		return ERR_PROTO;
	}
	if (tx->works->held > TX_ALL_MEMORY_MAX) {
		return refuse(tx, fate_of(ERR_FULL), fate);
	}
	if (e->rcpt_count == tx->rcpt_room) {
		/* Grows with what has come, not with what was announced. */
		uint32_t room = tx->rcpt_room == 0 ? 1 : tx->rcpt_room * 2;
		e->rcpts = alloc_resize(e->rcpts, room, sizeof(*e->rcpts));
		hold(tx, (room - tx->rcpt_room) * sizeof(*e->rcpts));
		tx->rcpt_room = room;
	}
	size_t before = tx->arena.used;
	struct envelope_rcpt *r = &e->rcpts[e->rcpt_count];
	r->address = copy(tx, m->address);
	r->orcpt = copy(tx, m->orcpt);
	r->notify = m->notify;
	hold(tx, tx->arena.used - before);
	if (r->address.n == 0) {
		return refuse(tx, fate_of(ERR_FULL), fate);
	}
	e->rcpt_count++;
	tx->rcpts_missing--;
	return ERR_OK;
}

/* ---- composing ---- */

static struct composer_origin origin_of(const struct tx *tx, const char *queue_id)
{
	const struct envelope *e = &tx->envelope;

	return (struct composer_origin){
		.helo = e->helo,
		.client_name = e->client_name,
		.client_addr = e->client_addr,
		.protocol = e->protocol,
		.tls = tx->tls,
		.queue_id = slice_from_cstr(queue_id),
		.rcpt = e->rcpt_count == 1 ? e->rcpts[0].address : SLICE_EMPTY,
		.wall_s = tx->parcel.accepted_us / 1000000,
	};
}

/* "example.com:s1 example.com:s2", and the rest of what the journal tells of the message. */
static void note_message(struct tx *tx, const struct composed *c,
	const struct dkim_domain *domain)
{
	struct buf text;

	if (tx->works->journal == NULL) {
		return;
	}
	tx->message_id = copy(tx, slice_head(c->message_id, MESSAGE_ID_MAX));
	tx->from = copy(tx, slice_head(c->from_address, LIMIT_ADDRESS));
	if (domain == NULL) {
		return;
	}
	buf_init(&text, LIMIT_TEXT);
	for (size_t i = 0; i < domain->key_count; i++) {
		enum err e = buf_printf(&text, "%s%s:%s", i == 0 ? "" : " ", domain->name,
			domain->keys[i].selector);
		(void)e; /* what does not fit is left out */
	}
	tx->dkim = copy(tx, buf_view(&text));
	buf_clear(&text);
}

/*
 * Reads the header, writes what goes in front into `front`, and begins to sign if a key covers
 * the message (*signing stays null otherwise). ERR_AGAIN: the header is not complete. Otherwise
 * *fate is set, or *c is to be cleared.
 */
static enum err begin_message(struct tx *tx, bool at_end, struct buf *front, struct composed *c,
	struct signing **signing, struct tx_fate *fate)
{
	struct tx_works *w = tx->works;
	const struct settings *s = w->settings;
	struct composer_refusal why = {0};
	struct slice content = buf_view(&tx->content);
	enum err e = composer_read(content, at_end, &s->composer, c, &why);

	if (e == ERR_AGAIN) {
		return e;
	}
	if (e != ERR_OK) {
		return refuse(tx, (struct tx_fate){why.smtp_code, why.text}, fate);
	}
	tx->parcel.accepted_us = clock_wall_us();
	struct composer_origin origin = origin_of(tx, committer_next_id(w->committer));
	e = composer_front(c, &s->composer, &origin, front);
	const struct dkim_domain *domain = dkim_keys_find(s->keys, c->from_domain);
	if (e == ERR_OK && domain != NULL) {
		struct slice header[] = {buf_view(front), c->fields};
		e = signing_begin(w->signer, domain, header, ARRAY_LEN(header), signing);
	}
	if (e != ERR_OK) {
		composed_clear(c);
		return refuse(tx, fate_of(e), fate);
	}
	if (domain == NULL && s->dkim_required && (tx->envelope.flags & TX_DSN) == 0) {
		composed_clear(c);
		return refuse(tx,
			(struct tx_fate){550, "5.7.20 No DKIM key for the domain of From"},
			fate);
	}
	note_message(tx, c, domain);
	return ERR_OK;
}

/* ---- messages on the disk ---- */

static void forget_content(struct tx *tx)
{
	release(tx, buf_len(&tx->content));
	buf_clear(&tx->content);
}

static enum err write_big(struct tx *tx, struct slice kept, struct slice rest)
{
	enum err e = kept.n == 0 ? ERR_OK : segment_big_content(tx->parcel.big, kept);

	return e == ERR_OK && rest.n > 0 ? segment_big_content(tx->parcel.big, rest) : e;
}

/* A write to the queue failed for this transaction. */
static enum err refuse_write(struct tx *tx, enum err e, struct tx_fate *fate)
{
	store_note_failure(tx->works->store, e);
	return refuse(tx, fate_of(e), fate);
}

/* From memory to a segment of its own, as soon as the header is complete. */
static enum err spill(struct tx *tx, struct tx_fate *fate)
{
	struct composed c;
	enum err e = begin_message(tx, false, &tx->front, &c, &tx->signing, fate);

	if (e == ERR_AGAIN) {
		return tx->works->held > TX_ALL_MEMORY_MAX ? refuse(tx, fate_of(ERR_FULL), fate)
							   : ERR_OK;
	}
	if (e != ERR_OK || fate->smtp_code != 0) {
		return e;
	}
	if (tx->wireform.has_8bit) {
		tx->envelope.flags |= TX_8BIT;
	}
	struct slice content = buf_view(&tx->content);
	e = committer_begin_big(tx->works->committer, &tx->parcel);
	if (e == ERR_OK) {
		tx->is_big = true;
		tx->works->bigs++;
		e = write_big(tx, buf_view(&c.kept), slice_skip(content, c.rest_at));
		if (e != ERR_OK) {
			composed_clear(&c);
			return refuse_write(tx, e, fate);
		}
	}
	if (e == ERR_OK && tx->signing != NULL) {
		e = signing_body(tx->signing, slice_skip(content, c.body_at));
	}
	composed_clear(&c);
	if (e != ERR_OK) {
		return refuse(tx, fate_of(e), fate);
	}
	forget_content(tx);
	return ERR_OK;
}

static enum err stream(struct tx *tx, struct slice bytes, struct tx_fate *fate)
{
	enum err e = ERR_OK;

	if (store_state(tx->works->store) == STORE_FULL) {
		return refuse(tx, fate_of(ERR_FULL), fate);
	}
	if (tx->signing != NULL) {
		e = signing_body(tx->signing, bytes);
		if (e != ERR_OK) {
			return refuse(tx, fate_of(e), fate);
		}
	}
	e = write_big(tx, SLICE_EMPTY, bytes);
	return e == ERR_OK ? ERR_OK : refuse_write(tx, e, fate);
}

enum err tx_content(struct tx *tx, struct slice bytes, struct tx_fate *fate)
{
	struct tx_works *w = tx->works;

	*fate = undecided;
	if (tx->rcpts_missing > 0 || tx->ended ||
		wireform_feed(&tx->wireform, bytes) != ERR_OK) {
		return ERR_PROTO;
	}
	if (tx->wireform.has_nul) {
		return refuse(tx, (struct tx_fate){554, "5.6.0 NUL byte in message"}, fate);
	}
	if (wireform_message_bytes(&tx->wireform) > w->settings->message_size_limit) {
		return refuse(tx,
			(struct tx_fate){552, "5.3.4 Message size exceeds fixed limit"}, fate);
	}
	if (tx->parcel.big != NULL) {
		return stream(tx, bytes, fate);
	}
	/* Spilling never leaves more than TX_MEMORY behind, and a piece fits a frame. */
	if (buf_append(&tx->content, bytes) != ERR_OK) {
		return refuse(tx, fate_of(ERR_FULL), fate);
	}
	hold(tx, bytes.n);
	if (buf_len(&tx->content) > TX_MEMORY || w->held > TX_ALL_MEMORY) {
		return spill(tx, fate);
	}
	return ERR_OK;
}

/* ---- the end ---- */

/* What stands before the content: the signatures, then what the composer put in front. */
static enum err finish_head(struct tx *tx, struct signing **signing, const struct buf *front,
	struct buf *head)
{
	enum err e = ERR_OK;

	buf_reset(head);
	if (*signing != NULL) {
		e = signing_end(signing, head);
		tx->works->signatures++;
	}
	return e == ERR_OK ? buf_append(head, buf_view(front)) : e;
}

static enum err end_in_memory(struct tx *tx, struct tx_fate *fate)
{
	struct tx_works *w = tx->works;
	struct slice content = buf_view(&tx->content);
	struct signing *signing = NULL;
	struct composed c;

	buf_reset(&w->front);
	enum err e = begin_message(tx, true, &w->front, &c, &signing, fate);
	if (e != ERR_OK || fate->smtp_code != 0) {
		return e;
	}
	if (signing != NULL) {
		e = signing_body(signing, slice_skip(content, c.body_at));
	}
	if (e == ERR_OK) {
		e = finish_head(tx, &signing, &w->front, &w->head);
	}
	signing_abort(&signing);
	struct slice stored = slice_skip(content, c.rest_at);
	if (e == ERR_OK && buf_len(&c.kept) > 0) {
		buf_reset(&w->content);
		e = buf_append(&w->content, buf_view(&c.kept));
		if (e == ERR_OK) {
			e = buf_append(&w->content, stored);
		}
		stored = buf_view(&w->content);
	}
	if (tx->wireform.has_8bit) {
		tx->envelope.flags |= TX_8BIT;
	}
	if (e == ERR_OK) {
		e = committer_add(w->committer, &tx->parcel, buf_view(&w->head), stored);
	}
	composed_clear(&c);
	return e == ERR_OK ? ERR_OK : refuse(tx, fate_of(e), fate);
}

static enum err end_on_disk(struct tx *tx, struct tx_fate *fate)
{
	struct buf head;

	buf_init(&head, HEAD_MAX);
	enum err e = finish_head(tx, &tx->signing, &tx->front, &head);
	buf_clear(&tx->front);
	tx->front = head;
	if (e != ERR_OK) {
		return refuse(tx, fate_of(e), fate);
	}
	if (tx->wireform.has_8bit) {
		/* It may have come only after the envelope had been written. */
		tx->envelope.flags |= TX_8BIT;
		segment_big_add_flags(tx->parcel.big, TX_8BIT);
	}
	tx->parcel.head = buf_view(&tx->front);
	committer_add_big(tx->works->committer, &tx->parcel);
	return ERR_OK;
}

enum err tx_end(struct tx *tx, struct tx_fate *fate)
{
	enum err e = ERR_OK;

	*fate = undecided;
	if (tx->rcpts_missing > 0 || tx->ended || !wireform_is_whole(&tx->wireform)) {
		return ERR_PROTO;
	}
	if (tx->parcel.big != NULL) {
		e = end_on_disk(tx, fate);
	} else {
		e = end_in_memory(tx, fate);
		forget_content(tx);
	}
	tx->ended = e == ERR_OK && fate->smtp_code == 0;
	return e;
}

static void tell_accepted(struct tx *tx)
{
	const struct envelope *e = &tx->envelope;
	const struct segment_record *r = &tx->parcel.record;
	struct event_accepted a = {
		.qid = slice_from_cstr(r->queue_id),
		.sender = e->sender,
		.rcpts = e->rcpt_count,
		.bytes = r->head_bytes + r->content_bytes,
		.message_id = tx->message_id,
		.from_header = tx->from,
		.client = e->client_addr,
		.helo = e->helo,
		.protocol = e->protocol,
		.tls = tx->tls,
		.login = e->login,
		.tenant = e->tenant,
		.dkim = tx->dkim,
		.listener = tx->listener,
	};

	if (tx->works->journal != NULL) {
		journal_accepted(tx->works->journal, r->accepted_us, &a);
	}
}

static void tx_free(struct tx *tx)
{
	struct tx_works *w = tx->works;

	w->count--;
	w->bigs -= tx->is_big ? 1 : 0;
	w->held -= tx->held;
	signing_abort(&tx->signing);
	segment_big_abort(&tx->parcel.big);
	free(tx->envelope.rcpts);
	buf_clear(&tx->content);
	buf_clear(&tx->front);
	arena_clear(&tx->arena);
	free(tx);
	if (w->on_ended != NULL) {
		w->on_ended(w->arg);
	}
}

static void on_settled(void *arg, enum err e)
{
	struct tx *tx = arg;
	struct tx_fate fate = {250, tx->parcel.record.queue_id};

	tx->ended = false;
	if (e == ERR_OK) {
		tell_accepted(tx);
	} else {
		/* Whatever a whole group failed for, it is not this message. */
		fate = fate_of(e == ERR_FULL ? ERR_FULL : ERR_SYS);
		tell_refused(tx->works, tx->envelope.sender, tx->envelope.client_addr, fate);
	}
	if (tx->owner == NULL) {
		tx_free(tx);
		return;
	}
	tx->on_fate(tx, fate);
}

void tx_drop(struct tx **tx)
{
	if (*tx != NULL && (*tx)->ended) {
		(*tx)->owner = NULL;
	} else if (*tx != NULL) {
		tx_free(*tx);
	}
	*tx = NULL;
}
