/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/desk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "bounce/classify.h"
#include "bounce/dsn.h"
#include "bounce/pace.h"
#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"

/* One notice: a thousand recipients with everything they can have. */
#define NOTICE_ARENA_MAX ((size_t)8 * 1024 * 1024)
/* What is sent back, its text for people and its fields. */
#define DSN_MAX ((size_t)32 * 1024 * 1024)
/* What cleanup puts in front of a message; more is no record of ours. */
#define HEAD_MAX ((size_t)1024 * 1024)
/* Notices written before everybody else has a turn. */
#define COMPOSE_AT_ONCE 16u

enum phase {
	PHASE_COLLECTING, /* recipients still come */
	PHASE_SUPPRESSING,
	PHASE_WAITING, /* for a cleanup */
	PHASE_SENT
};

struct notice_rcpt {
	struct dsn_rcpt said;
	uint8_t notify;
};

struct notice {
	struct hash_id_link by_id;
	struct list link; /* in waiting */
	struct desk *desk;
	struct arena arena;
	struct msg_notice msg; /* slices in the arena */
	int fd;                /* of the segment */
	struct notice_rcpt *rcpts;
	uint32_t got;
	enum phase phase;
	uint32_t changes; /* of the suppression list, that are not on the disk yet */
	bool has_failed;
	bool is_counted; /* with the sender's pace, and not sent yet */
	enum dsn_original original;
};

struct desk {
	struct service *service;
	struct suppressor *suppressor;
	struct submitter *submitter;
	struct journal_writer *journal;
	struct channel *qmgr;
	struct hash_id_table notices;
	struct list waiting;
	struct loop_flush flush;
	struct pace pace;
	struct buf scratch; /* the notice that is being written */
	struct desk_counts counts;
	struct log_gate gate;
	bool draining;
};

/* ---- the end of a notice ---- */

static void notice_free(struct notice *n)
{
	struct desk *d = n->desk;

	/* It is asked for again: what we could not do now is none of the sender's notices. */
	if (n->is_counted) {
		pace_give_back(&d->pace, n->msg.sender);
	}
	list_remove(&n->link);
	hash_id_table_remove(&d->notices, &n->by_id);
	suppressor_forget(d->suppressor, n);
	submitter_forget(d->submitter, n);
	fd_close(&n->fd);
	arena_clear(&n->arena);
	free(n);
	if (d->draining) {
		loop_flush_mark(&d->flush);
	}
}

static void answer(struct notice *n, bool ok, struct slice notice_queue_id)
{
	struct desk *d = n->desk;
	struct msg_notice_done m = {.notice = n->by_id.id,
		.ok = ok ? 1 : 0,
		.notice_queue_id = notice_queue_id};

	if (d->qmgr != NULL && msg_notice_done_send(d->qmgr, &m) != ERR_OK) {
		service_fail(d->service, "an answer could not be encoded");
	}
	notice_free(n);
}

/* Everything that follows is on the disk. */
static void finish(struct notice *n, struct slice notice_queue_id, struct slice why_not)
{
	struct desk *d = n->desk;
	struct event_notice e = {.qid = n->msg.queue_id,
		.notice_qid = notice_queue_id,
		.kind = n->msg.kind,
		.sender = n->msg.sender,
		.rcpts = n->msg.rcpt_count,
		.why_not = slice_head(why_not, LIMIT_TEXT)};

	journal_notice(d->journal, clock_wall_us(), &e);
	n->is_counted = n->is_counted && notice_queue_id.n == 0;
	d->counts.sent += notice_queue_id.n != 0 ? 1 : 0;
	d->counts.not_due += notice_queue_id.n != 0 ? 0 : 1;
	answer(n, true, notice_queue_id);
}

static void fail(struct notice *n, const char *what, struct slice text)
{
	struct desk *d = n->desk;

	d->counts.failed++;
	if (log_may(&d->gate)) {
		log_warn("event=notice_delayed qid=%.*s what=\"%s\" text=%s",
			SLICE_ARG(n->msg.queue_id), what, LOG_TEXT(text));
	}
	answer(n, false, SLICE_EMPTY);
}

/* ---- is it due? ---- */

static bool rcpt_is_due(uint8_t kind, uint8_t notify)
{
	switch (kind) {
	case NOTICE_FAILED:
	case NOTICE_EXPIRED:
		return notify == 0 || (notify & NOTIFY_FAILURE) != 0;
	case NOTICE_DELAYED:
		return (notify & NOTIFY_DELAY) != 0;
	case NOTICE_RELAYED:
		return (notify & NOTIFY_SUCCESS) != 0;
	default:
		return false;
	}
}

static uint32_t count_due(const struct notice *n)
{
	uint32_t due = 0;

	for (uint32_t i = 0; i < n->got; i++) {
		due += rcpt_is_due(n->msg.kind, n->rcpts[i].notify) ? 1 : 0;
	}
	return due;
}

/* Null: it is due. */
static const char *why_not(struct notice *n)
{
	if (n->msg.sender.n == 0 || (n->msg.flags & TX_DSN) != 0) {
		return "the message has the null sender"; /* RFC 5321 section 6.1 */
	}
	if (count_due(n) == 0) {
		return "the sender asked for none";
	}
	if (!pace_allows(&n->desk->pace, n->msg.sender, clock_mono_ms())) {
		return "the sender has had too many notices in this hour";
	}
	n->is_counted = true;
	return NULL;
}

/* ---- writing it ---- */

/* The first bytes of the message: what cleanup put in front, then what came. */
static bool read_message(const struct notice *n, size_t most, struct buf *to)
{
	const struct msg_notice *m = &n->msg;
	size_t content = m->content_bytes < most ? (size_t)m->content_bytes : most;
	size_t bytes = m->head_bytes + content;
	uint8_t *at;

	if (m->head_bytes > HEAD_MAX || m->head_offset > INT64_MAX ||
		m->content_offset > INT64_MAX) {
		return false;
	}
	at = buf_reserve(to, bytes);
	if (at == NULL) {
		return false;
	}
	if (fd_pread_all(n->fd, at, m->head_bytes, (off_t)m->head_offset) != ERR_OK ||
		fd_pread_all(n->fd, at + m->head_bytes, content, (off_t)m->content_offset) !=
			ERR_OK) {
		return false;
	}
	buf_commit(to, bytes);
	return true;
}

static enum dsn_language language_of(const struct conf *c)
{
	if (conf_is(c, CONF_bounce_notice_language, "en")) {
		return DSN_ENGLISH;
	}
	return conf_is(c, CONF_bounce_notice_language, "ja") ? DSN_JAPANESE : DSN_BOTH;
}

static bool draw_token(char to[DSN_TOKEN_BYTES + 1])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t drawn[DSN_TOKEN_BYTES / 2];

	if (getrandom(drawn, sizeof(drawn), 0) != (ssize_t)sizeof(drawn)) {
		return false;
	}
	for (size_t i = 0; i < sizeof(drawn); i++) {
		to[2 * i] = digits[drawn[i] >> 4];
		to[2 * i + 1] = digits[drawn[i] & 15];
	}
	to[DSN_TOKEN_BYTES] = '\0';
	return true;
}

/* A notice about success or delay sends back no more than the header (RFC 3461 section 4.3). */
static enum dsn_original first_original(const struct msg_notice *m)
{
	bool is_failure = m->kind == NOTICE_FAILED || m->kind == NOTICE_EXPIRED;

	return is_failure && m->ret != RET_HDRS ? DSN_ORIGINAL_FULL : DSN_ORIGINAL_HEADERS;
}

static enum err compose(struct notice *n, struct buf *to, struct dsn_needs *needs)
{
	const struct conf *c = n->desk->service->conf;
	const struct msg_notice *m = &n->msg;
	uint64_t limit = conf_count(c, CONF_bounce_size_limit);
	struct dsn_rcpt *rcpts = alloc_zero(n->got, sizeof(*rcpts));
	struct buf message;
	struct dsn d = {.kind = m->kind,
		.language = language_of(c),
		.is_utf8 = (m->flags & TX_SMTPUTF8) != 0,
		.hostname = conf_text(c, CONF_myhostname),
		.queue_id = m->queue_id,
		.sender = m->sender,
		.envid = m->envid,
		.accepted_us = m->accepted_us,
		.now_s = clock_wall_s(),
		.rcpts = rcpts,
		.original = n->original,
		.original_max = (size_t)limit};
	enum err e = ERR_SYS;

	buf_init(&message, HEAD_MAX + DSN_MAX);
	for (uint32_t i = 0; i < n->got; i++) {
		if (rcpt_is_due(m->kind, n->rcpts[i].notify)) {
			rcpts[d.rcpt_count++] = n->rcpts[i].said;
		}
	}
	/* What is too long to be sent back whole is read as far as a header can reach. */
	size_t most = limit < LIMIT_HEADER_BLOCK ? LIMIT_HEADER_BLOCK : (size_t)limit;
	if (d.original != DSN_ORIGINAL_NONE) {
		if (read_message(n, most + 1, &message)) {
			d.message = buf_view(&message);
		} else if (log_may(&n->desk->gate)) {
			log_warn("event=notice_without_original qid=%.*s",
				SLICE_ARG(m->queue_id));
		}
	}
	if (draw_token(d.token)) {
		e = dsn_compose(&d, to, needs);
	}
	buf_clear(&message);
	free(rcpts);
	return e;
}

/* Sends back less of the message. False: there is nothing less. */
static bool shrink(struct notice *n)
{
	switch (n->original) {
	case DSN_ORIGINAL_FULL:
		n->original = DSN_ORIGINAL_HEADERS;
		return true;
	case DSN_ORIGINAL_HEADERS:
		n->original = DSN_ORIGINAL_NONE;
		return true;
	case DSN_ORIGINAL_NONE:
		break;
	}
	return false;
}

static void wait_for_cleanup(struct notice *n)
{
	struct desk *d = n->desk;

	n->phase = PHASE_WAITING;
	list_append(&d->waiting, &n->link);
	loop_flush_mark(&d->flush);
}

static void on_submitted(void *arg, uint16_t code, struct slice text)
{
	struct notice *n = arg;
	char why[LIMIT_TEXT];

	if (code == 250) {
		finish(n, slice_head(text, LIMIT_QUEUE_ID), SLICE_EMPTY);
	} else if (code == 0 || (code >= 500 && shrink(n))) {
		wait_for_cleanup(n);
	} else if (code < 500) {
		fail(n, "cleanup cannot take it now", text);
	} else {
		/* It will never be taken: that is told, and the mail comes to its end. */
		char said[LIMIT_TEXT / 2];
		str_printable(said, sizeof(said), text);
		log_error("event=notice_refused qid=%.*s code=%u text=%s",
			SLICE_ARG(n->msg.queue_id), code, LOG_TEXT(text));
		enum err e = str_format(why, sizeof(why), "refused: %u %s", code, said);
		finish(n, SLICE_EMPTY, e == ERR_OK ? slice_from_cstr(why) : SLICE("refused"));
	}
}

static void submit(struct notice *n)
{
	struct desk *d = n->desk;
	struct dsn_needs needs;
	enum err e;

	list_remove(&n->link);
	buf_shrink(&d->scratch, (size_t)256 * 1024);
	do {
		e = compose(n, &d->scratch, &needs);
	} while (e == ERR_TOOBIG && shrink(n));
	if (e != ERR_OK) {
		fail(n, err_str(e), SLICE_EMPTY);
		return;
	}
	struct submission s = {.rcpt = n->msg.sender,
		.flags = TX_DSN | (needs.is_8bit ? (uint32_t)TX_8BIT : 0u) |
			 (needs.is_utf8 ? (uint32_t)TX_SMTPUTF8 : 0u),
		.tenant = n->msg.tenant,
		.content = buf_view(&d->scratch)};
	n->phase = PHASE_SENT;
	submitter_send(d->submitter, &s, on_submitted, n);
}

static void on_flush(void *arg)
{
	struct desk *d = arg;
	struct list *l;

	for (unsigned i = 0; i < COMPOSE_AT_ONCE; i++) {
		l = list_first(&d->waiting);
		if (l == NULL || !submitter_has_room(d->submitter)) {
			break;
		}
		submit(CONTAINER_OF(l, struct notice, link));
	}
	if (!list_is_empty(&d->waiting) && submitter_has_room(d->submitter)) {
		loop_flush_mark(&d->flush);
	}
	if (d->draining && d->notices.count == 0) {
		service_end(d->service);
	}
}

static void on_room(void *arg)
{
	struct desk *d = arg;

	if (!list_is_empty(&d->waiting)) {
		loop_flush_mark(&d->flush);
	}
}

/* ---- consequences ---- */

static void tell_sender(struct notice *n)
{
	const char *reason = why_not(n);

	if (reason != NULL) {
		finish(n, SLICE_EMPTY, slice_from_cstr(reason));
	} else {
		wait_for_cleanup(n);
	}
}

static void on_suppressed(void *arg, enum err e)
{
	struct notice *n = arg;

	n->has_failed = n->has_failed || e != ERR_OK;
	n->changes--;
	if (n->changes != 0) {
		return;
	}
	if (n->has_failed) {
		fail(n, "the suppression list cannot be written", slice_from_cstr(err_str(e)));
	} else {
		tell_sender(n);
	}
}

static void suppress(struct notice *n, const struct dsn_rcpt *r)
{
	struct suppress_change change = {.entry = {.address = r->address,
						 .reason = SUPPRESS_UNKNOWN_USER,
						 .stage = r->stage,
						 .smtp_code = r->smtp_code,
						 .text = r->text,
						 .host = r->host,
						 .queue_id = n->msg.queue_id}};

	n->changes++;
	suppressor_change(n->desk->suppressor, &change, on_suppressed, n);
}

static void suppress_the_dead(struct notice *n)
{
	uint32_t after_content = 0;

	for (uint32_t i = 0; i < n->got; i++) {
		after_content += n->rcpts[i].said.stage == STAGE_END_OF_DATA ? 1 : 0;
	}
	for (uint32_t i = 0; i < n->got; i++) {
		const struct dsn_rcpt *r = &n->rcpts[i].said;
		struct failure f = {.stage = r->stage,
			.smtp_code = r->smtp_code,
			.status = r->status,
			.text = r->text,
			.is_shared = after_content > 1};
		if (r->address.n != 0 && classify_is_dead_address(&f)) {
			suppress(n, r);
		}
	}
}

static void on_complete(struct notice *n)
{
	const struct conf *c = n->desk->service->conf;

	n->phase = PHASE_SUPPRESSING;
	if (n->msg.kind == NOTICE_FAILED && !conf_is(c, CONF_suppression_action, "off")) {
		suppress_the_dead(n);
	}
	if (n->changes == 0) {
		tell_sender(n);
	}
}

/* ---- qmgr ---- */

/* False: more than one notice may be. */
static bool keep(struct notice *n, struct slice *s)
{
	return arena_copy(&n->arena, *s, s);
}

static enum err on_notice(struct desk *d, struct slice body, int *fd)
{
	struct msg_notice m;
	enum err e = msg_notice_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	if (*fd < 0 || m.rcpt_count == 0 || hash_id_table_find(&d->notices, m.notice) != NULL) {
		return ERR_PROTO;
	}
	struct notice *n = alloc_zero(1, sizeof(*n));
	n->desk = d;
	n->msg = m;
	n->fd = *fd;
	*fd = -1;
	n->original = first_original(&m);
	arena_init(&n->arena, NOTICE_ARENA_MAX);
	list_init(&n->link);
	hash_id_table_insert(&d->notices, &n->by_id, m.notice);
	n->rcpts = arena_alloc(&n->arena, m.rcpt_count * sizeof(*n->rcpts));
	if (n->rcpts == NULL || !keep(n, &n->msg.queue_id) || !keep(n, &n->msg.sender) ||
		!keep(n, &n->msg.envid) || !keep(n, &n->msg.tenant)) {
		return ERR_PROTO;
	}
	d->counts.asked++;
	return ERR_OK;
}

static enum err on_notice_rcpt(struct desk *d, struct slice body)
{
	struct msg_notice_rcpt m;
	enum err e = msg_notice_rcpt_decode(body, &m);
	struct hash_id_link *l = e == ERR_OK ? hash_id_table_find(&d->notices, m.notice) : NULL;
	struct notice *n = l == NULL ? NULL : CONTAINER_OF(l, struct notice, by_id);

	if (n == NULL || n->phase != PHASE_COLLECTING) {
		return ERR_PROTO;
	}
	struct notice_rcpt *r = &n->rcpts[n->got];
	*r = (struct notice_rcpt){.notify = m.notify,
		.said = {.address = m.address,
			.orcpt = m.orcpt,
			.stage = m.stage,
			.smtp_code = m.smtp_code,
			.status = {m.status_class, m.status_subject, m.status_detail},
			.text = m.text,
			.host = m.host,
			.addr = m.addr,
			.last_attempt_us = m.last_attempt_us}};
	if (!keep(n, &r->said.address) || !keep(n, &r->said.orcpt) || !keep(n, &r->said.text) ||
		!keep(n, &r->said.host) || !keep(n, &r->said.addr)) {
		return ERR_PROTO;
	}
	n->got++;
	if (n->got == n->msg.rcpt_count) {
		on_complete(n);
	}
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct desk *d = arg;
	struct msg_hello hello;
	enum err e;

	switch (type) {
	case MSG_ID_hello:
		e = msg_hello_decode(body, &hello);
		return e == ERR_OK && hello.role != ROLE_QMGR ? ERR_PROTO : e;
	case MSG_ID_notice:
		return on_notice(d, body, fd);
	case MSG_ID_notice_rcpt:
		return on_notice_rcpt(d, body);
	default:
		return ERR_PROTO;
	}
}

/* Whoever comes next asks for all of it again. */
static void forget_all(struct desk *d)
{
	struct hash_id_link *l;

	while ((l = hash_id_table_next(&d->notices, NULL)) != NULL) {
		notice_free(CONTAINER_OF(l, struct notice, by_id));
	}
}

static void on_gone(void *arg, enum err why)
{
	struct desk *d = arg;

	channel_close(&d->qmgr);
	forget_all(d);
	if (why != ERR_CLOSED) {
		service_fail(d->service, "qmgr sent what is no message for us");
	}
}

static const struct channel_handler qmgr_handler = {.on_frame = on_frame, .on_gone = on_gone};

void desk_peer_qmgr(struct desk *d, int *fd)
{
	struct msg_hello hello = {.role = ROLE_BOUNCE, .index = d->service->index};

	if (d->qmgr != NULL) {
		channel_close(&d->qmgr);
		forget_all(d);
	}
	d->qmgr = channel_new(d->service->loop, fd, &qmgr_handler, d);
	if (msg_hello_send(d->qmgr, &hello) != ERR_OK) {
		service_fail(d->service, "a greeting could not be encoded");
	}
}

void desk_peer_cleanup(struct desk *d, unsigned index, int *fd)
{
	submitter_peer(d->submitter, index, fd);
}

void desk_drain(struct desk *d)
{
	d->draining = true;
	loop_flush_mark(&d->flush);
}

/* ---- life ---- */

struct desk *desk_new(struct service *service, struct suppressor *suppressor,
	struct journal_writer *journal)
{
	struct desk *d = alloc_zero(1, sizeof(*d));

	d->service = service;
	d->suppressor = suppressor;
	d->journal = journal;
	d->submitter = submitter_new(service, on_room, d);
	d->gate = (struct log_gate){.burst = 10, .period_s = 60};
	hash_id_table_init(&d->notices);
	list_init(&d->waiting);
	pace_init(&d->pace);
	buf_init(&d->scratch, DSN_MAX);
	loop_flush_add(&d->flush, service->loop, on_flush, d);
	return d;
}

void desk_free(struct desk **dp)
{
	struct desk *d = *dp;

	if (d == NULL) {
		return;
	}
	*dp = NULL;
	channel_close(&d->qmgr);
	forget_all(d);
	submitter_free(&d->submitter);
	hash_id_table_clear(&d->notices);
	loop_flush_remove(&d->flush);
	pace_clear(&d->pace);
	buf_clear(&d->scratch);
	free(d);
}

struct desk_counts desk_counts(const struct desk *d)
{
	struct desk_counts c = d->counts;

	c.at_hand = d->notices.count;
	for (struct list *l = d->waiting.next; l != &d->waiting; l = l->next) {
		c.waiting++;
	}
	return c;
}
