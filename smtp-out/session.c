/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/session.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/str.h"
#include "smtp-out/command.h"
#include "smtp-out/ehlo.h"
#include "smtp-out/phase.h"

/* Commands in flight at most: some 4 KiB of replies, which any socket buffer holds. */
#define WINDOW 50u
#define RING 64u
static_assert(WINDOW < RING && (RING & (RING - 1)) == 0, "the ring is too small");

/* Behind a longer content no next envelope waits: another connection may be quicker. */
#define BEHIND_MAX_BYTES ((uint64_t)512 * 1024)

/* A message that is being sent. */
struct tx {
	struct job *job; /* null: free */
	struct command_needs needs;
	uint32_t rcpts_sent;
	uint32_t rcpts_answered;
	uint32_t accepted;
	uint16_t flying; /* its commands in flight */
	bool mail_sent;
	bool mail_failed;
	bool rcpts_over; /* the server takes no more recipients */
	bool data_sent;
	bool dot_sent;
	bool void_dot; /* a lone dot: there is nobody to deliver to */
	bool behind;   /* its envelope followed the content of another */
};

struct entry {
	uint64_t end; /* of the command in all that was written */
	uint16_t rcpt;
	uint8_t phase;
	uint8_t tx;
};

struct session {
	const struct session_owner *owner;
	void *arg;
	const struct settings *settings;
	struct buf *scratch;
	struct reply reply;
	struct ehlo ehlo;
	struct entry ring[RING];
	uint64_t head;  /* entries taken off the ring since the beginning */
	uint64_t tail;  /* entries put on it */
	uint64_t timed; /* 1 + the entry that the deadline is for; 0: none */
	uint64_t written;
	uint64_t stall_sent; /* bytes that had left when the deadline was set */
	struct tx txs[2];
	uint8_t front; /* index of the older tx */
	uint8_t tx_count;
	int64_t began_ms;
	uint32_t jobs_begun;
	uint32_t jobs_done;
	enum tls_level level;
	bool in_clear;
	bool is_tls;
	bool is_ready;
	bool is_idle;
	bool is_closed;
	bool is_quitting;
	bool pipelines;
	bool was_idle;
	bool needs_rset;
};

struct session *session_new(const struct session_owner *owner, void *arg,
	const struct settings *settings, struct buf *scratch)
{
	struct session *s = alloc_zero(1, sizeof(*s));

	s->owner = owner;
	s->arg = arg;
	s->settings = settings;
	s->scratch = scratch;
	s->is_closed = true;
	reply_init(&s->reply);
	return s;
}

void session_free(struct session **s)
{
	if (*s != NULL) {
		reply_clear(&(*s)->reply);
		ALLOC_FREE(*s);
	}
}

bool session_is_tls(const struct session *s)
{
	return s->is_tls;
}

uint32_t session_jobs_done(const struct session *s)
{
	return s->jobs_done;
}

/* ---- the queue of commands in flight ---- */

static size_t flying(const struct session *s)
{
	return (size_t)(s->tail - s->head);
}

static struct entry *head_entry(struct session *s)
{
	return &s->ring[s->head & (RING - 1)];
}

/* Behind the command, which stands in the scratch or has been written. */
static void fly(struct session *s, enum phase phase, uint8_t tx, uint32_t rcpt)
{
	struct entry *e = &s->ring[s->tail & (RING - 1)];

	assert(flying(s) < RING);
	*e = (struct entry){.end = s->written + buf_len(s->scratch),
		.rcpt = (uint16_t)rcpt,
		.phase = (uint8_t)phase,
		.tx = tx};
	s->tail++;
	if (phase >= PHASE_RSET) {
		s->txs[tx].flying++;
	}
}

static void put(struct session *s, struct slice bytes)
{
	enum err e = buf_append(s->scratch, bytes);

	assert(e == ERR_OK); /* a window of lines is far below its maximum */
}

static void flush(struct session *s)
{
	struct slice bytes = buf_view(s->scratch);

	if (bytes.n > 0) {
		s->written += bytes.n;
		s->owner->write(s->arg, bytes);
		buf_reset(s->scratch);
	}
}

static uint64_t sent(const struct session *s)
{
	return s->owner->sent(s->arg);
}

static int64_t now_ms(const struct session *s)
{
	return s->owner->now_ms(s->arg);
}

/* The oldest command's time runs from when it became the oldest; bytes that are no complete
 * reply do not prolong it. */
static void set_deadline(struct session *s)
{
	if (s->is_closed || flying(s) == 0 || s->timed == s->head + 1) {
		return;
	}
	const struct entry *e = head_entry(s);
	enum time_limit limit = phase_time_limit((enum phase)e->phase);

	s->timed = s->head + 1;
	s->stall_sent = sent(s);
	if (e->phase == PHASE_DOT && s->stall_sent < e->end) {
		limit = WAIT_DATA_XFER;
	}
	s->owner->set_deadline(s->arg, now_ms(s) + s->settings->limit_ms[limit]);
}

/* ---- ends ---- */

static struct outcome ours(enum smtp_stage stage, uint16_t subject, uint16_t detail,
	const char *text)
{
	return outcome_of_ours(VERDICT_LATER, stage, (struct enhanced_code){4, subject, detail},
		text);
}

static void shut(struct session *s)
{
	s->is_closed = true;
	s->is_idle = false;
	buf_reset(s->scratch);
	s->owner->set_deadline(s->arg, 0);
}

/* Before it was ready. */
static void fail(struct session *s, const struct outcome *why, bool in_clear)
{
	assert(!s->is_ready);
	shut(s);
	s->owner->on_failed(s->arg, why, in_clear);
}

static struct tx *front(struct session *s)
{
	return &s->txs[s->front];
}

static struct tx *back(struct session *s)
{
	return s->tx_count == 2 ? &s->txs[s->front ^ 1u] : &s->txs[s->front];
}

static uint8_t index_of(const struct session *s, const struct tx *tx)
{
	return (uint8_t)(tx - s->txs);
}

static void tx_done(struct session *s, struct tx *tx)
{
	static const char unsettled[] = "internal error: a recipient was left without a result";
	struct outcome o = ours(STAGE_LOCAL, 3, 0, unsettled);
	struct job *j = tx->job;

	job_settle_rest(j, &o);
	tx->job = NULL;
	s->owner->job_done(s->arg, j);
}

static bool tx_back(struct session *s, struct tx *tx, bool was_refused)
{
	struct job *j = tx->job;

	if (!was_refused) {
		if (j->backs >= 5) {
			return false;
		}
		j->backs++;
	}
	job_restart(j);
	if (!s->owner->job_back(s->arg, j, was_refused)) {
		return false;
	}
	tx->job = NULL;
	return true;
}

/*
 * The connection is of no use any more. Jobs whose content has not been sent go back when
 * they may; all others earn why.
 */
enum fate {
	FATE_SETTLE,
	FATE_BACK,   /* the front job has not begun for the server */
	FATE_REFUSED /* the server would not have it: another may */
};

static void break_off(struct session *s, const struct outcome *why, enum fate fate)
{
	enum session_end how = fate == FATE_REFUSED ? SESSION_REFUSED : SESSION_BROKEN;
	struct tx *first = s->tx_count > 0 ? front(s) : NULL;
	struct tx *second = s->tx_count > 1 ? back(s) : NULL;

	assert(s->is_ready);
	shut(s);
	/* The second goes back first, so that the first ends up in front of it. */
	if (second != NULL && !tx_back(s, second, false)) {
		job_settle_rest(second->job, why);
		tx_done(s, second);
	}
	if (first != NULL &&
		(fate == FATE_SETTLE || !tx_back(s, first, fate == FATE_REFUSED))) {
		job_settle_rest(first->job, why);
		tx_done(s, first);
	}
	s->tx_count = 0;
	s->owner->on_closed(s->arg, how);
}

/* The outcome for the front job when the connection breaks now, with that cause. */
static struct outcome lost(struct session *s, uint16_t subject, uint16_t detail, char *text,
	size_t size, const char *what)
{
	const struct entry *e = flying(s) > 0 ? head_entry(s) : NULL;
	enum smtp_stage stage = STAGE_NONE;
	const char *where = "";
	uint8_t flags = 0;

	if (e != NULL) {
		stage = phase_stage((enum phase)e->phase);
		where = phase_name((enum phase)e->phase);
	}
	if (e != NULL && e->phase == PHASE_DOT) {
		if (sent(s) < e->end) {
			stage = STAGE_CONTENT;
			where = "the content, not all of it sent";
		} else if (!s->txs[e->tx].void_dot) {
			flags = OUTCOME_MAYBE_DUPLICATE;
		}
	}
	if (str_format(text, size, "%s%s%s", what, where[0] == '\0' ? "" : " at ", where) !=
		ERR_OK) {
		text[0] = '\0';
	}
	struct outcome o = ours(stage, subject, detail, text);
	o.flags = flags;
	return o;
}

/* The server broke the protocol: nothing that it says from here on can be trusted. */
static void nonsense(struct session *s, const char *what)
{
	char text[512];
	struct outcome o = lost(s, 5, 0, text, sizeof(text), what);

	if (s->is_ready) {
		break_off(s, &o, FATE_SETTLE);
	} else {
		fail(s, &o, false);
	}
}

static void quit(struct session *s)
{
	assert(s->tx_count == 0 && flying(s) == 0);
	put(s, SLICE("QUIT\r\n"));
	flush(s);
	shut(s);
	s->owner->on_closed(s->arg, SESSION_ORDERLY);
}

/* ---- transactions ---- */

static bool has_8bit(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] >= 0x80) {
			return true;
		}
	}
	return false;
}

static bool addresses_have_8bit(const struct job *j)
{
	if (has_8bit(j->sender)) {
		return true;
	}
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		if (has_8bit(j->rcpts[i].address)) {
			return true;
		}
	}
	return false;
}

/* Whether the server can take that job at all, and what it must be told. Else *o says why not.
 */
static bool admit(const struct session *s, const struct job *j, struct command_needs *needs,
	struct outcome *o)
{
	struct job_bytes_seen seen = {.in_header = false};
	bool offers_8bit = (s->ehlo.offers & OFFER_8BITMIME) != 0;
	bool offers_utf8 = (s->ehlo.offers & OFFER_SMTPUTF8) != 0;
	bool said_8bit = (j->flags & TX_8BIT) != 0;
	bool said_utf8 = (j->flags & TX_SMTPUTF8) != 0;

	*needs = (struct command_needs){
		.body_8bit = said_8bit && offers_8bit,
		.smtputf8 = said_utf8 && offers_utf8,
	};
	if (s->ehlo.size > 0 && job_bytes(j) > s->ehlo.size) {
		*o = outcome_of_ours(VERDICT_NEVER, STAGE_MAIL, (struct enhanced_code){5, 3, 4},
			"the message is larger than the server takes (SIZE)");
		return false;
	}
	if ((said_8bit && !offers_8bit) || (said_utf8 && !offers_utf8)) {
		/* What the client said may be more than what the message needs. */
		if (job_look_for_8bit(j, &seen) != ERR_OK) {
			*o = ours(STAGE_LOCAL, 3, 0, "the queue file could not be read");
			return false;
		}
	}
	if (!offers_utf8 && (seen.in_header || addresses_have_8bit(j)) &&
		(said_utf8 || addresses_have_8bit(j))) {
		*o = outcome_of_ours(VERDICT_NEVER, STAGE_MAIL, (struct enhanced_code){5, 6, 7},
			"the server does not offer SMTPUTF8, which the message needs");
		return false;
	}
	if (said_8bit && !offers_8bit && seen.anywhere) {
		*o = outcome_of_ours(VERDICT_NEVER, STAGE_MAIL, (struct enhanced_code){5, 6, 3},
			"the server does not offer 8BITMIME, which the message needs");
		return false;
	}
	return true;
}

/* RCPT commands that this job may send. */
static uint32_t rcpt_limit(const struct session *s, const struct job *j)
{
	uint32_t most = s->ehlo.rcpt_max;

	return most != 0 && most < j->rcpt_count ? most : j->rcpt_count;
}

static bool may_begin(const struct session *s)
{
	uint32_t most = s->settings->reuse_count;

	if (s->ehlo.mail_max != 0 && (most == 0 || s->ehlo.mail_max < most)) {
		most = s->ehlo.mail_max;
	}
	if (s->is_quitting || (most != 0 && s->jobs_begun >= most)) {
		return false;
	}
	return s->jobs_begun == 0 ||
	       now_ms(s) - s->began_ms < s->settings->limit_ms[WAIT_REUSE];
}

/* Takes the next job that this server can take. */
static bool begin(struct session *s, bool behind)
{
	struct job *j;

	while (may_begin(s) && (j = s->owner->next_job(s->arg, behind)) != NULL) {
		struct tx *tx = &s->txs[s->tx_count == 0 ? s->front : s->front ^ 1u];
		struct outcome o;

		*tx = (struct tx){.job = j, .behind = behind};
		j->began_ms = now_ms(s);
		if (!admit(s, j, &tx->needs, &o)) {
			job_settle_rest(j, &o);
			tx_done(s, tx);
			continue;
		}
		s->tx_count++;
		s->jobs_begun++;
		s->is_idle = false;
		return true;
	}
	return false;
}

/* The job of a tx is over; the server is ready for the next after RSET or as it is. */
static void end_tx(struct session *s, struct tx *tx, bool needs_rset)
{
	assert(tx == front(s) && tx->flying == 0);
	if (s->tx_count == 2) {
		s->front ^= 1u;
	}
	s->tx_count--;
	s->needs_rset = s->needs_rset || needs_rset;
	s->jobs_done++;
	tx_done(s, tx);
}

/* A line of the envelope could not be written: nothing of it has been sent. */
static void settle_unspeakable(struct job *j, uint32_t from, uint32_t to)
{
	struct outcome o = ours(STAGE_LOCAL, 3, 0,
		"internal error: the envelope holds what no "
		"SMTP command can say");

	for (uint32_t i = from; i < to; i++) {
		job_settle(j, i, &o);
	}
}

static bool can_send(const struct session *s)
{
	return s->pipelines ? flying(s) < WINDOW : flying(s) == 0;
}

static void send_mail(struct session *s, struct tx *tx)
{
	enum err e = command_mail(s->scratch, tx->job, &s->ehlo, tx->needs);

	tx->mail_sent = true;
	if (e != ERR_OK) {
		settle_unspeakable(tx->job, 0, tx->job->rcpt_count);
		tx->mail_failed = true;
		return;
	}
	fly(s, PHASE_MAIL, index_of(s, tx), 0);
}

static void send_rcpt(struct session *s, struct tx *tx)
{
	uint32_t i = tx->rcpts_sent++;

	if (command_rcpt(s->scratch, tx->job, i, &s->ehlo, tx->needs.smtputf8) != ERR_OK) {
		settle_unspeakable(tx->job, i, i + 1);
		tx->rcpts_answered++;
		return;
	}
	fly(s, PHASE_RCPT, index_of(s, tx), i);
}

/* Recipients that were never told to the server, because it takes no more in one message. */
static void settle_untold(struct tx *tx)
{
	struct outcome o = {
		.kind = VERDICT_LATER,
		.stage = STAGE_RCPT,
		.smtp_code = 452,
		.status = {4, 5, 3},
		.text = SLICE("the server takes no more recipients in one message"),
	};

	for (uint32_t i = tx->rcpts_sent; i < tx->job->rcpt_count; i++) {
		job_settle(tx->job, i, &o);
	}
	tx->rcpts_over = true;
}

/* Sends of a transaction what can be sent. True when it is over. */
static bool advance(struct session *s, struct tx *tx)
{
	if (!tx->mail_sent) {
		if (s->needs_rset) {
			if (!can_send(s)) {
				return false;
			}
			put(s, SLICE("RSET\r\n"));
			fly(s, PHASE_RSET, index_of(s, tx), 0);
			s->needs_rset = false;
		}
		if (!can_send(s)) {
			return false;
		}
		send_mail(s, tx);
	}
	while (!tx->mail_failed && !tx->rcpts_over && can_send(s)) {
		if (tx->rcpts_sent == tx->job->rcpt_count) {
			tx->rcpts_over = true;
		} else if (tx->rcpts_sent == rcpt_limit(s, tx->job)) {
			settle_untold(tx);
		} else {
			send_rcpt(s, tx);
		}
	}
	bool may_be_somebody = tx->accepted + (tx->rcpts_sent - tx->rcpts_answered) > 0;
	if (!tx->mail_failed && tx->rcpts_over && !tx->data_sent && may_be_somebody &&
		can_send(s)) {
		put(s, SLICE("DATA\r\n"));
		fly(s, PHASE_DATA, index_of(s, tx), 0);
		tx->data_sent = true;
	}
	return tx->flying == 0 && !tx->data_sent &&
	       (tx->mail_failed || (tx->rcpts_over && !may_be_somebody));
}

/* Behind the content of the front transaction: the envelope of the next. */
static bool begin_behind(struct session *s)
{
	const struct tx *tx = front(s);

	return s->tx_count == 1 && tx->dot_sent && s->pipelines && s->settings->pipeline_next &&
	       job_bytes(tx->job) <= BEHIND_MAX_BYTES && begin(s, true);
}

/* Sends whatever can be sent now. */
static void pump(struct session *s)
{
	while (s->is_ready && !s->is_closed) {
		if (s->tx_count == 0 && !begin(s, false)) {
			break;
		}
		struct tx *tx = back(s);
		if (!tx->dot_sent && advance(s, tx)) {
			/* The envelope of the back one can be over while the front one still
			 * waits. */
			if (s->tx_count == 2) {
				break;
			}
			end_tx(s, tx, !tx->mail_failed);
			continue;
		}
		if (!begin_behind(s)) {
			break;
		}
	}
	if (s->is_closed || !s->is_ready) {
		return;
	}
	if (s->tx_count > 0) {
		flush(s);
		set_deadline(s);
	} else if (!may_begin(s)) {
		quit(s);
	} else if (!s->is_idle) {
		s->is_idle = true;
		s->was_idle = true;
		s->timed = 0;
		s->owner->set_deadline(s->arg, now_ms(s) + s->settings->limit_ms[WAIT_IDLE]);
		s->owner->on_idle(s->arg);
	}
}

static void send_content(struct session *s, struct tx *tx)
{
	const struct job *j = tx->job;

	flush(s);
	if (j->head_bytes > 0 && j->head_at + j->head_bytes == j->content_at) {
		s->owner->write_file(s->arg, j->fd, j->head_at, job_bytes(j));
	} else {
		if (j->head_bytes > 0) {
			s->owner->write_file(s->arg, j->fd, j->head_at, j->head_bytes);
		}
		if (j->content_bytes > 0) {
			s->owner->write_file(s->arg, j->fd, j->content_at, j->content_bytes);
		}
	}
	s->written += job_bytes(j);
	put(s, SLICE(".\r\n"));
	fly(s, PHASE_DOT, index_of(s, tx), 0);
	tx->dot_sent = true;
}

/* ---- replies, one function a phase ---- */

static void send_ehlo(struct session *s, bool helo)
{
	put(s, helo ? SLICE("HELO ") : SLICE("EHLO "));
	put(s, slice_from_cstr(s->settings->helo_name));
	put(s, SLICE("\r\n"));
	fly(s, helo ? PHASE_HELO : PHASE_EHLO, 0, 0);
}

static void become_ready(struct session *s)
{
	s->is_ready = true;
	s->pipelines = (s->ehlo.offers & OFFER_PIPELINING) != 0 && s->pipelines;
	s->owner->on_ready(s->arg);
}

static void fail_tls(struct session *s, uint16_t detail, const char *text)
{
	struct outcome o = ours(STAGE_STARTTLS, 7, detail, text);

	fail(s, &o, false);
}

/* After EHLO in clear. */
static void decide_tls(struct session *s)
{
	bool offered = (s->ehlo.offers & OFFER_STARTTLS) != 0;

	switch (s->level) {
	case TLS_NONE:
		become_ready(s);
		return;
	case TLS_DANE:
	case TLS_DANE_ONLY:
		fail_tls(s, 5, "DANE is asked for, and not available yet");
		return;
	case TLS_MAY:
		if (!offered || s->in_clear) {
			become_ready(s);
			return;
		}
		break;
	case TLS_ENCRYPT:
	case TLS_VERIFY:
	case TLS_SECURE:
		if (!offered) {
			fail_tls(s, 4,
				"TLS is required, and the server does not offer STARTTLS");
			return;
		}
		break;
	}
	put(s, SLICE("STARTTLS\r\n"));
	fly(s, PHASE_STARTTLS, 0, 0);
}

static void on_greeting(struct session *s, const struct entry *e)
{
	struct outcome o;

	(void)e;
	if (s->reply.code / 100 == 2) {
		send_ehlo(s, false);
		return;
	}
	o = outcome_of_reply(STAGE_GREETING, &s->reply);
	fail(s, &o, false);
}

static void on_ehlo(struct session *s, const struct entry *e)
{
	struct outcome o;

	if (s->reply.code / 100 == 2) {
		s->ehlo = (struct ehlo){0};
		if (e->phase == PHASE_EHLO) {
			s->ehlo = ehlo_parse(buf_view(&s->reply.text));
		}
		if (s->is_tls) {
			become_ready(s);
		} else {
			decide_tls(s);
		}
		return;
	}
	if (e->phase == PHASE_EHLO && !s->is_tls &&
		(s->reply.code == 500 || s->reply.code == 502 || s->reply.code == 504)) {
		send_ehlo(s, true);
		return;
	}
	o = outcome_of_reply(STAGE_EHLO, &s->reply);
	fail(s, &o, false);
}

static void on_starttls(struct session *s, const struct entry *e)
{
	struct outcome o;

	(void)e;
	if (s->reply.code / 100 == 2) {
		fly(s, PHASE_HANDSHAKE, 0, 0);
		return; /* session_input() looks whether more bytes came in clear */
	}
	if (s->level == TLS_MAY) {
		become_ready(s);
		return;
	}
	o = outcome_of_reply(STAGE_STARTTLS, &s->reply);
	o.kind = VERDICT_LATER; /* it may have TLS again tomorrow */
	fail(s, &o, false);
}

static void on_rset(struct session *s, const struct entry *e)
{
	struct outcome o;

	(void)e;
	if (s->reply.code / 100 != 2) {
		o = ours(STAGE_RSET, 5, 0, "the server refused RSET");
		break_off(s, &o, FATE_BACK);
	}
}

static void on_mail(struct session *s, const struct entry *e)
{
	struct tx *tx = &s->txs[e->tx];
	struct outcome o;

	if (s->reply.code / 100 == 2) {
		return;
	}
	o = outcome_of_reply(STAGE_MAIL, &s->reply);
	tx->mail_failed = true;
	job_settle_rest(tx->job, &o);
}

static bool text_has(struct slice text, struct slice word)
{
	for (size_t i = 0; i + word.n <= text.n; i++) {
		if (slice_eq_nocase(slice_make(text.p + i, word.n), word)) {
			return true;
		}
	}
	return false;
}

/*
 * RFC 5321 section 4.5.3.1.10: servers of the old school say 552 when they mean 452, too many
 * recipients. A full mailbox is 552 too, so it takes more than the code.
 */
static bool is_too_many(const struct session *s, const struct tx *tx)
{
	const struct reply *r = &s->reply;

	if (r->code != 452 && r->code != 552) {
		return false;
	}
	if (r->status.class != 0) {
		return r->status.subject == 5 && r->status.detail == 3;
	}
	if (text_has(buf_view(&r->text), SLICE("too many recipients"))) {
		return true;
	}
	return tx->accepted > 0 && r->code == 452;
}

static void on_rcpt(struct session *s, const struct entry *e)
{
	struct tx *tx = &s->txs[e->tx];
	struct outcome o;

	tx->rcpts_answered++;
	if (tx->mail_failed) {
		return;
	}
	if (s->reply.code / 100 == 2) {
		tx->accepted++;
		tx->job->rcpts[e->rcpt].state = RCPT_ACCEPTED;
		return;
	}
	o = outcome_of_reply(STAGE_RCPT, &s->reply);
	if (is_too_many(s, tx)) {
		o.kind = VERDICT_LATER;
		o.status = (struct enhanced_code){4, 5, 3};
		job_settle(tx->job, e->rcpt, &o);
		if (!tx->rcpts_over) {
			settle_untold(tx);
		}
		return;
	}
	job_settle(tx->job, e->rcpt, &o);
}

static void on_data(struct session *s, const struct entry *e)
{
	struct tx *tx = &s->txs[e->tx];
	struct outcome o;

	if (s->reply.code / 100 == 3) {
		if (tx->accepted > 0 && !tx->mail_failed) {
			send_content(s, tx);
			return;
		}
		/* RFC 2920 section 3.1: nobody to deliver to, so an empty message. */
		put(s, SLICE(".\r\n"));
		fly(s, PHASE_DOT, e->tx, 0);
		tx->dot_sent = true;
		tx->void_dot = true;
		return;
	}
	o = outcome_of_reply(STAGE_DATA, &s->reply);
	job_settle_rest(tx->job, &o);
	end_tx(s, tx, !tx->mail_failed);
}

static void on_dot(struct session *s, const struct entry *e)
{
	struct tx *tx = &s->txs[e->tx];
	struct outcome o;

	if (!tx->void_dot) {
		o = outcome_of_reply(STAGE_END_OF_DATA, &s->reply);
		if (o.kind == VERDICT_DONE && (s->ehlo.offers & OFFER_DSN) == 0) {
			o.flags |= OUTCOME_NO_DSN_PEER;
		}
		job_settle_rest(tx->job, &o);
	}
	end_tx(s, tx, false);
}

static void (*const reply_handlers[])(struct session *s, const struct entry *e) = {
	[PHASE_GREETING] = on_greeting,
	[PHASE_EHLO] = on_ehlo,
	[PHASE_HELO] = on_ehlo,
	[PHASE_STARTTLS] = on_starttls,
	[PHASE_HANDSHAKE] = NULL,
	[PHASE_RSET] = on_rset,
	[PHASE_MAIL] = on_mail,
	[PHASE_RCPT] = on_rcpt,
	[PHASE_DATA] = on_data,
	[PHASE_DOT] = on_dot,
};
static_assert(ARRAY_LEN(reply_handlers) == PHASE_COUNT, "a phase without a handler");

/* The connection was there before this job came. */
static bool has_worked(const struct session *s)
{
	return s->jobs_done > 0 || s->was_idle;
}

/* 421 anywhere: the server is about to close (RFC 5321 section 3.8). */
static void on_421(struct session *s, const struct entry *e)
{
	struct outcome o = outcome_of_reply(phase_stage((enum phase)e->phase), &s->reply);
	enum fate fate = FATE_SETTLE;

	if (!s->is_ready) {
		fail(s, &o, false);
		return;
	}
	if (e->phase == PHASE_MAIL || e->phase == PHASE_RSET) {
		fate = has_worked(s) ? FATE_BACK : FATE_REFUSED;
	}
	break_off(s, &o, fate);
}

/* A reply to a command that has not left yet. Only while content is on its way may a server
 * have its say before the end, and only against it. */
static void on_early(struct session *s, const struct entry *e)
{
	unsigned class = s->reply.code / 100u;
	struct outcome o;

	if (e->phase == PHASE_DOT && (class == 4 || class == 5)) {
		o = outcome_of_reply(STAGE_CONTENT, &s->reply);
		break_off(s, &o, FATE_SETTLE);
		return;
	}
	nonsense(s, "the server sent a reply before its time");
}

static void on_reply(struct session *s)
{
	const struct entry e = *head_entry(s);
	unsigned class = s->reply.code / 100u;

	if (s->reply.bare_lf) {
		s->pipelines = false; /* who cannot end lines is not to be trusted with more */
	}
	if (sent(s) < e.end) {
		on_early(s, &e);
		return;
	}
	if (class < 2 || class > 5 || (class == 3 && e.phase != PHASE_DATA) ||
		(class == 2 && e.phase == PHASE_DATA)) {
		nonsense(s, "the server sent an impossible reply");
		return;
	}
	if (s->reply.code == 421) {
		on_421(s, &e);
		return;
	}
	s->head++;
	if (e.phase >= PHASE_RSET) {
		s->txs[e.tx].flying--;
	}
	reply_handlers[e.phase](s, &e);
}

/* ---- what happens to a session ---- */

void session_begin(struct session *s, enum tls_level level, bool in_clear)
{
	struct reply reply = s->reply;
	struct session fresh = {.owner = s->owner,
		.arg = s->arg,
		.settings = s->settings,
		.scratch = s->scratch,
		.level = level,
		.in_clear = in_clear,
		.pipelines = true,
		.began_ms = now_ms(s)};

	assert(s->is_closed);
	reply_reset(&reply);
	*s = fresh;
	s->reply = reply;
	fly(s, PHASE_GREETING, 0, 0);
	set_deadline(s);
}

/* Bytes that answer nothing. */
static void on_unasked(struct session *s)
{
	if (!s->is_ready) {
		nonsense(s, "the server spoke without being asked");
		return;
	}
	struct outcome o = ours(STAGE_NONE, 5, 0, "the server spoke without being asked");
	break_off(s, &o, FATE_SETTLE);
}

/* The reply to STARTTLS has come; whatever else came with it came in clear. */
static void enter_tls(struct session *s, size_t left)
{
	if (left > 0) {
		nonsense(s, "the server sent more than the reply to STARTTLS in clear");
		return;
	}
	set_deadline(s);
	s->owner->start_tls(s->arg);
}

void session_input(struct session *s, struct slice bytes)
{
	bool entered_tls = false;

	while (!s->is_closed && !entered_tls && bytes.n > 0) {
		size_t used = 0;

		if (flying(s) == 0 || head_entry(s)->phase == PHASE_HANDSHAKE) {
			on_unasked(s);
			return;
		}
		enum err e = reply_feed(&s->reply, bytes, &used);
		bytes = slice_skip(bytes, used);
		if (e == ERR_AGAIN) {
			break;
		}
		if (e != ERR_OK) {
			nonsense(s, e == ERR_TOOBIG ? "the server sent a reply without end"
						    : "the server sent what is no SMTP reply");
			return;
		}
		on_reply(s);
		reply_reset(&s->reply);
		entered_tls = !s->is_closed && flying(s) > 0 &&
			      head_entry(s)->phase == PHASE_HANDSHAKE;
	}
	if (s->is_closed) {
		return;
	}
	if (entered_tls) {
		enter_tls(s, bytes.n);
		return;
	}
	pump(s);
	if (!s->is_closed) {
		flush(s);
		set_deadline(s);
	}
}

void session_drained(struct session *s)
{
	if (!s->is_closed && flying(s) > 0 && head_entry(s)->phase == PHASE_DOT &&
		s->timed == s->head + 1) {
		s->timed = 0;
		set_deadline(s);
	}
}

void session_tls_up(struct session *s, enum tls_trust trust, const char *why_untrusted)
{
	char text[512];

	if (s->is_closed || flying(s) == 0 || head_entry(s)->phase != PHASE_HANDSHAKE) {
		return;
	}
	s->head++;
	if ((s->level == TLS_VERIFY || s->level == TLS_SECURE) && trust != TRUST_VERIFIED) {
		if (str_format(text, sizeof(text),
			    "the server's certificate is not trusted: %s",
			    why_untrusted) != ERR_OK) {
			text[0] = '\0';
		}
		fail_tls(s, 5, text);
		return;
	}
	s->is_tls = true;
	s->ehlo = (struct ehlo){0}; /* RFC 3207 section 4.2: nothing said in clear counts */
	send_ehlo(s, false);
	flush(s);
	set_deadline(s);
}

static const struct {
	const char *what;
	struct {
		uint16_t subject;
		uint16_t detail;
	} status;
} end_texts[] = {
	[STREAM_END_EOF] = {"the server closed the connection", {4, 2}},
	[STREAM_END_RESET] = {"the server reset the connection", {4, 2}},
	[STREAM_END_REFUSED] = {"connection refused", {4, 1}},
	[STREAM_END_TIMEOUT] = {"the connection timed out", {4, 2}},
	[STREAM_END_UNREACHED] = {"the host cannot be reached", {4, 1}},
	[STREAM_END_BIND] = {"the source address cannot be used", {3, 5}},
	[STREAM_END_TLS] = {"TLS failed", {7, 5}},
	[STREAM_END_TRUNCATED] = {"the connection was cut under TLS", {4, 2}},
	[STREAM_END_ERROR] = {"a local error broke the connection", {3, 0}},
};
static_assert(ARRAY_LEN(end_texts) == STREAM_END_ERROR + 1, "an end without a text");

void session_ended(struct session *s, enum stream_end why, const char *detail)
{
	char what[384];
	char text[512];
	enum fate fate = FATE_SETTLE;
	bool in_clear;

	if (s->is_closed) {
		return;
	}
	if (str_format(what, sizeof(what), "%s%s%.256s", end_texts[why].what,
		    detail[0] == '\0' ? "" : ": ", detail) != ERR_OK) {
		what[0] = '\0';
	}
	struct outcome o = lost(s, end_texts[why].status.subject, end_texts[why].status.detail,
		text, sizeof(text), what);
	if (why == STREAM_END_ERROR || why == STREAM_END_BIND) {
		o.stage = STAGE_LOCAL;
	}
	if (!s->is_ready) {
		/* A handshake that fails leads to clear text where that is allowed at all. */
		in_clear = flying(s) > 0 && head_entry(s)->phase == PHASE_HANDSHAKE &&
			   s->level == TLS_MAY &&
			   (why == STREAM_END_TLS || why == STREAM_END_EOF ||
				   why == STREAM_END_RESET);
		fail(s, &o, in_clear);
		return;
	}
	/*
	 * A job that this connection has not begun to answer, on a connection that had worked:
	 * the server closed it while it was idle or after its last message. And whatever
	 * follows behind the content of another has done no harm.
	 */
	if (s->tx_count > 0 && !front(s)->dot_sent && has_worked(s)) {
		uint8_t phase = flying(s) > 0 ? head_entry(s)->phase : (uint8_t)PHASE_COUNT;
		if (phase == PHASE_MAIL || phase == PHASE_RSET || front(s)->behind) {
			fate = FATE_BACK;
		}
	}
	break_off(s, &o, fate);
}

void session_late(struct session *s)
{
	char text[512];

	if (s->is_closed) {
		return;
	}
	if (s->is_ready && s->tx_count == 0 && flying(s) == 0) {
		quit(s);
		return;
	}
	if (flying(s) > 0 && head_entry(s)->phase == PHASE_DOT &&
		sent(s) < head_entry(s)->end && sent(s) > s->stall_sent) {
		/* The peer takes the content, slowly. */
		s->timed = 0;
		set_deadline(s);
		return;
	}
	struct outcome o =
		lost(s, 4, 2, text, sizeof(text), "the server did not answer in time");
	if (s->is_ready) {
		break_off(s, &o, FATE_SETTLE);
	} else {
		fail(s, &o, false);
	}
}

void session_work(struct session *s)
{
	if (!s->is_closed && s->is_ready) {
		pump(s);
	}
}

void session_quit(struct session *s)
{
	s->is_quitting = true;
	if (!s->is_closed && s->is_ready && s->tx_count == 0) {
		pump(s);
	}
}
