/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "common/base/str.h"
#include "smtp-out/session_parts.h"

/* A job that was put back so often is not innocent any more. */
#define BACKS_MAX 5u

struct outcome ending_ours(enum smtp_stage stage, uint16_t subject, uint16_t detail,
	const char *text)
{
	return outcome_of_ours(VERDICT_LATER, stage, (struct enhanced_code){4, subject, detail},
		text);
}

bool ending_has_worked(const struct session *s)
{
	return s->jobs_done > 0 || s->was_idle;
}

bool ending_is_untouched(struct session *s)
{
	return s->tx_count > 0 && !session_front(s)->dot_sent &&
	       (flight_waits_for(&s->flight, PHASE_MAIL) ||
		       flight_waits_for(&s->flight, PHASE_RSET));
}

static void shut(struct session *s)
{
	s->is_closed = true;
	s->is_idle = false;
	buf_reset(s->scratch);
	s->owner->set_deadline(s->arg, 0);
}

static void say_quit(struct session *s)
{
	session_put(s, SLICE("QUIT\r\n"));
	session_flush(s);
}

void ending_fail(struct session *s, const struct outcome *why, enum session_failure how)
{
	assert(!s->is_ready);
	if (how == SESSION_DISMISSED) {
		say_quit(s);
	}
	shut(s);
	s->owner->on_failed(s->arg, why, how);
}

void ending_quit(struct session *s)
{
	assert(s->tx_count == 0 && flight_count(&s->flight) == 0);
	say_quit(s);
	shut(s);
	s->owner->on_closed(s->arg, SESSION_ORDERLY);
}

static bool give_back(struct session *s, struct tx *tx, bool was_refused)
{
	struct job *j = tx->job;

	if (!was_refused) {
		if (j->backs >= BACKS_MAX) {
			return false;
		}
		j->backs++;
	}
	if (!s->owner->job_back(s->arg, j, was_refused)) {
		return false;
	}
	tx->job = NULL;
	return true;
}

/* The job behind another has done no harm, and what the other earned is not its. */
static void give_back_second(struct session *s, struct tx *tx)
{
	struct outcome o = ending_ours(STAGE_NONE, 4, 2,
		"the connection broke before the message's turn had come, again and again");

	if (!give_back(s, tx, false)) {
		job_unsettle(tx->job);
		job_settle_rest(tx->job, &o);
		session_job_done(s, tx);
	}
}

void ending_break_off(struct session *s, const struct outcome *why, enum fate fate)
{
	enum session_end how = fate == FATE_REFUSED ? SESSION_REFUSED : SESSION_BROKEN;
	struct tx *first = session_front(s);

	assert(s->is_ready);
	shut(s);
	/* The second goes back first, so that the first ends up in front of it. */
	if (s->tx_count == 2) {
		give_back_second(s, session_back(s));
	}
	if (s->tx_count > 0 &&
		(fate == FATE_SETTLE || !give_back(s, first, fate == FATE_REFUSED))) {
		job_settle_rest(first->job, why);
		session_job_done(s, first);
	}
	s->tx_count = 0;
	s->owner->on_closed(s->arg, how);
}

struct outcome ending_lost(struct session *s, uint16_t subject, uint16_t detail,
	const char *what, char text[ENDING_TEXT_MAX])
{
	enum smtp_stage stage = STAGE_NONE;
	const char *where = "";
	uint8_t flags = 0;

	if (flight_count(&s->flight) > 0) {
		const struct flight_entry *e = flight_head(&s->flight);

		stage = phase_stage((enum phase)e->phase);
		where = phase_name((enum phase)e->phase);
		if (e->phase == PHASE_DOT && session_sent(s) < e->end) {
			stage = STAGE_CONTENT;
			where = "the content, not all of it sent";
		} else if (e->phase == PHASE_DOT && !s->txs[e->tx].void_dot) {
			flags = OUTCOME_MAYBE_DUPLICATE;
		}
	}
	if (str_format(text, ENDING_TEXT_MAX, "%s%s%s", what, where[0] == '\0' ? "" : " at ",
		    where) != ERR_OK) {
		text[0] = '\0';
	}
	struct outcome o = ending_ours(stage, subject, detail, text);
	o.flags = flags;
	return o;
}

void ending_nonsense(struct session *s, const char *what)
{
	char text[ENDING_TEXT_MAX];
	struct outcome o = ending_lost(s, 5, 0, what, text);

	if (!s->is_ready) {
		ending_fail(s, &o, SESSION_USELESS);
		return;
	}
	/* One reply too many, and RCPT has been credited with what was meant for another. Once
	 * there was a 354 in its place, all before it was in order. */
	if (s->tx_count > 0 && !session_front(s)->dot_sent) {
		job_unsettle(session_front(s)->job);
	}
	ending_break_off(s, &o, FATE_SETTLE);
}
