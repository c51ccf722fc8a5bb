/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "smtp-out/session_parts.h"

/* Behind a longer content no next envelope waits: another connection may be quicker. */
#define BEHIND_MAX_BYTES ((uint64_t)512 * 1024)

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
	       session_now_ms(s) - s->began_ms < s->settings->limit_ms[WAIT_REUSE];
}

/* Takes the next job that this server can take. */
static bool begin(struct session *s, bool behind)
{
	struct job *j;

	while (may_begin(s) && (j = s->owner->next_job(s->arg, behind)) != NULL) {
		struct tx *tx = &s->txs[s->tx_count == 0 ? s->front : s->front ^ 1u];

		s->is_idle = false;
		*tx = (struct tx){.job = j, .behind = behind};
		j->began_ms = session_now_ms(s);
		if (tx_admit(tx, &s->ehlo)) {
			s->tx_count++;
			s->jobs_begun++;
			return true;
		}
		session_job_done(s, tx);
	}
	return false;
}

/* The job of the front tx is over; the server is ready for the next after RSET or as it is. */
static void end_tx(struct session *s, struct tx *tx, bool needs_rset)
{
	assert(tx == session_front(s) && tx->flying == 0);
	if (s->tx_count == 2) {
		s->front ^= 1u;
	}
	s->tx_count--;
	s->needs_rset = s->needs_rset || needs_rset;
	s->jobs_done++;
	session_job_done(s, tx);
}

static bool can_send(const struct session *s)
{
	size_t n = flight_count(&s->flight);

	return s->pipelines ? n < FLIGHT_WINDOW : n == 0;
}

static void send_mail(struct session *s, struct tx *tx)
{
	tx->mail_sent = true;
	if (command_mail(s->scratch, tx->job, &s->ehlo, tx->needs) == ERR_OK) {
		session_fly(s, PHASE_MAIL, tx, 0);
	} else {
		tx_settle_unspeakable(tx, 0, tx->job->rcpt_count);
		tx->mail_failed = true;
	}
}

static void send_rcpt(struct session *s, struct tx *tx)
{
	uint32_t i = tx->rcpts_sent++;

	if (command_rcpt(s->scratch, tx->job, i, &s->ehlo, tx->needs.smtputf8) == ERR_OK) {
		session_fly(s, PHASE_RCPT, tx, i);
	} else {
		tx_settle_unspeakable(tx, i, i + 1);
		tx->rcpts_answered++;
	}
}

/* Sends of a transaction what can be sent. True when it is over. */
static bool advance(struct session *s, struct tx *tx)
{
	if (!tx->mail_sent && s->needs_rset && can_send(s)) {
		session_put(s, SLICE("RSET\r\n"));
		session_fly(s, PHASE_RSET, tx, 0);
		s->needs_rset = false;
	}
	if (!tx->mail_sent) {
		if (!can_send(s)) {
			return false;
		}
		send_mail(s, tx);
	}
	while (!tx->mail_failed && !tx->rcpts_over && can_send(s)) {
		if (tx->rcpts_sent == tx->job->rcpt_count) {
			tx->rcpts_over = true;
		} else if (tx->rcpts_sent == tx_rcpt_limit(tx, &s->ehlo)) {
			tx_settle_untold(tx);
		} else {
			send_rcpt(s, tx);
		}
	}
	if (!tx->mail_failed && tx->rcpts_over && !tx->data_sent && tx_may_deliver(tx) &&
		can_send(s)) {
		session_put(s, SLICE("DATA\r\n"));
		session_fly(s, PHASE_DATA, tx, 0);
		tx->data_sent = true;
	}
	return tx->flying == 0 && !tx->data_sent &&
	       (tx->mail_failed || (tx->rcpts_over && !tx_may_deliver(tx)));
}

/* Behind the content of the front transaction: the envelope of the next. */
static bool begin_behind(struct session *s)
{
	const struct tx *tx = session_front(s);

	return s->tx_count == 1 && tx->dot_sent && s->pipelines && s->settings->pipeline_next &&
	       job_bytes(tx->job) <= BEHIND_MAX_BYTES && begin(s, true);
}

static void send_all(struct session *s)
{
	while (s->tx_count > 0 || begin(s, false)) {
		struct tx *tx = session_back(s);

		if (!tx->dot_sent && advance(s, tx)) {
			/* The envelope of the back one can be over while the front one still
			 * waits. */
			if (s->tx_count == 2) {
				return;
			}
			end_tx(s, tx, !tx->mail_failed);
		} else if (!begin_behind(s)) {
			return;
		}
	}
}

void transfer_pump(struct session *s)
{
	send_all(s);
	if (s->tx_count > 0) {
		session_flush(s);
		session_set_deadline(s);
	} else if (!may_begin(s)) {
		ending_quit(s);
	} else if (!s->is_idle) {
		s->is_idle = true;
		s->was_idle = true;
		s->timed = 0;
		s->owner->set_deadline(s->arg,
			session_now_ms(s) + s->settings->limit_ms[WAIT_IDLE]);
		s->owner->on_idle(s->arg);
	}
}

static void send_content(struct session *s, struct tx *tx)
{
	const struct job *j = tx->job;

	session_flush(s);
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
}

/* ---- replies ---- */

void transfer_on_rset(struct session *s, const struct flight_entry *e)
{
	struct outcome o = ending_ours(STAGE_RSET, 5, 0, "the server refused RSET");

	(void)e;
	if (s->reply.code / 100 != 2) {
		ending_break_off(s, &o, FATE_BACK);
	}
}

void transfer_on_mail(struct session *s, const struct flight_entry *e)
{
	tx_on_mail(&s->txs[e->tx], &s->reply);
}

void transfer_on_rcpt(struct session *s, const struct flight_entry *e)
{
	tx_on_rcpt(&s->txs[e->tx], e->rcpt, &s->reply);
}

void transfer_on_data(struct session *s, const struct flight_entry *e)
{
	struct tx *tx = &s->txs[e->tx];

	if (s->reply.code / 100 != 3) {
		tx_on_refused(tx, &s->reply);
		end_tx(s, tx, !tx->mail_failed);
		return;
	}
	if (tx->accepted > 0 && !tx->mail_failed) {
		send_content(s, tx);
	} else {
		tx->void_dot = true; /* RFC 2920 section 3.1: an empty message, for nobody */
	}
	session_put(s, SLICE(".\r\n"));
	session_fly(s, PHASE_DOT, tx, 0);
	tx->dot_sent = true;
}

void transfer_on_dot(struct session *s, const struct flight_entry *e)
{
	struct tx *tx = &s->txs[e->tx];

	tx_on_dot(tx, &s->reply, (s->ehlo.offers & OFFER_DSN) != 0);
	end_tx(s, tx, false);
}
