/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/session.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/str.h"
#include "smtp-out/session_parts.h"

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

uint32_t session_jobs_done(const struct session *s)
{
	return s->jobs_done;
}

/* ---- for the other parts ---- */

void session_put(struct session *s, struct slice bytes)
{
	enum err e = buf_append(s->scratch, bytes);

	assert(e == ERR_OK); /* a window of lines is far below its maximum */
}

void session_fly(struct session *s, enum phase phase, struct tx *tx, uint32_t rcpt)
{
	struct flight_entry e = {.end = s->written + buf_len(s->scratch),
		.rcpt = (uint16_t)rcpt,
		.phase = (uint8_t)phase};

	if (tx != NULL) {
		e.tx = (uint8_t)(tx - s->txs);
		tx->flying++;
	}
	flight_put(&s->flight, e);
}

void session_job_done(struct session *s, struct tx *tx)
{
	struct outcome o = ending_ours(STAGE_LOCAL, 3, 0,
		"internal error: a recipient was left without a result");
	struct job *j = tx->job;

	job_settle_rest(j, &o);
	tx->job = NULL;
	s->owner->job_done(s->arg, j);
}

void session_flush(struct session *s)
{
	struct slice bytes = buf_view(s->scratch);

	if (bytes.n > 0) {
		s->written += bytes.n;
		s->owner->write(s->arg, bytes);
		buf_reset(s->scratch);
	}
}

void session_set_deadline(struct session *s)
{
	if (s->is_closed || flight_count(&s->flight) == 0 || s->timed == s->flight.head + 1) {
		return;
	}
	const struct flight_entry *e = flight_head(&s->flight);
	enum time_limit limit = phase_time_limit((enum phase)e->phase);

	s->timed = s->flight.head + 1;
	s->stall_sent = session_sent(s);
	s->times_transfer = e->phase == PHASE_DOT && s->stall_sent < e->end;
	if (s->times_transfer) {
		limit = WAIT_DATA_XFER;
	}
	s->owner->set_deadline(s->arg, session_now_ms(s) + s->settings->limit_ms[limit]);
}

/* ---- replies ---- */

static void (*const reply_handlers[])(struct session *s, const struct flight_entry *e) = {
	[PHASE_GREETING] = opening_on_greeting,
	[PHASE_EHLO] = opening_on_ehlo,
	[PHASE_HELO] = opening_on_ehlo,
	[PHASE_STARTTLS] = opening_on_starttls,
	[PHASE_HANDSHAKE] = NULL, /* nothing is read then */
	[PHASE_RSET] = transfer_on_rset,
	[PHASE_MAIL] = transfer_on_mail,
	[PHASE_RCPT] = transfer_on_rcpt,
	[PHASE_DATA] = transfer_on_data,
	[PHASE_DOT] = transfer_on_dot,
};
static_assert(ARRAY_LEN(reply_handlers) == PHASE_COUNT, "a phase without a handler");

/* 421 anywhere: the server is about to close (RFC 5321 section 3.8). */
static void on_421(struct session *s, const struct flight_entry *e)
{
	struct outcome o = outcome_of_reply(phase_stage((enum phase)e->phase), &s->reply);
	enum fate fate = FATE_SETTLE;

	if (!s->is_ready) {
		ending_fail(s, &o, SESSION_USELESS);
		return;
	}
	if (ending_is_untouched(s)) {
		fate = ending_has_worked(s) ? FATE_BACK : FATE_REFUSED;
	}
	ending_break_off(s, &o, fate);
}

/* Bytes that answer nothing. */
static void on_unasked(struct session *s)
{
	static const char what[] = "the server spoke without being asked";
	struct outcome o = ending_ours(STAGE_NONE, 5, 0, what);

	if (!s->is_ready) {
		ending_nonsense(s, what);
	} else if (ending_is_untouched(s) && ending_has_worked(s)) {
		ending_break_off(s, &o, FATE_BACK);
	} else {
		ending_break_off(s, &o, FATE_SETTLE);
	}
}

/* A reply to a command that has not left yet. Only while content is on its way may a server
 * have its say before the end, and only against it. */
static void on_early(struct session *s, const struct flight_entry *e)
{
	unsigned class = s->reply.code / 100u;

	if (e->phase == PHASE_DOT && (class == 4 || class == 5)) {
		struct outcome o = outcome_of_reply(STAGE_CONTENT, &s->reply);
		ending_break_off(s, &o, FATE_SETTLE);
	} else if (e->phase == PHASE_MAIL || e->phase == PHASE_RSET) {
		on_unasked(s);
	} else {
		ending_nonsense(s, "the server sent a reply before its time");
	}
}

static void on_reply(struct session *s)
{
	const struct flight_entry e = *flight_head(&s->flight);
	unsigned class = s->reply.code / 100u;

	if (s->reply.bare_lf) {
		s->pipelines = false; /* who cannot end lines is not to be trusted with more */
	}
	if (session_sent(s) < e.end) {
		on_early(s, &e);
		return;
	}
	if (class < 2 || class > 5 || (class == 3 && e.phase != PHASE_DATA) ||
		(class == 2 && e.phase == PHASE_DATA)) {
		ending_nonsense(s, "the server sent an impossible reply");
		return;
	}
	if (s->reply.code == 421) {
		on_421(s, &e);
		return;
	}
	flight_take(&s->flight);
	if (e.phase >= PHASE_RSET) {
		s->txs[e.tx].flying--;
	}
	reply_handlers[e.phase](s, &e);
}

/* The reply to STARTTLS has come; whatever else came with it came in clear. */
static void enter_tls(struct session *s, size_t left)
{
	if (left > 0) {
		ending_nonsense(s, "the server sent more than the reply to STARTTLS in clear");
		return;
	}
	session_set_deadline(s);
	s->owner->start_tls(s->arg);
}

/* Takes one reply off the bytes, or all of them when it is not complete. */
static void take_reply(struct session *s, struct slice *bytes)
{
	size_t used = 0;
	enum err e = reply_feed(&s->reply, *bytes, &used);

	*bytes = slice_skip(*bytes, used);
	if (e == ERR_OK) {
		on_reply(s);
		reply_reset(&s->reply);
	} else if (e != ERR_AGAIN) {
		ending_nonsense(s, e == ERR_TOOBIG ? "the server sent a reply without end"
						   : "the server sent what is no SMTP reply");
	}
}

void session_input(struct session *s, struct slice bytes)
{
	if (flight_waits_for(&s->flight, PHASE_HANDSHAKE) && !s->is_closed && bytes.n > 0) {
		on_unasked(s);
	}
	while (!s->is_closed && bytes.n > 0) {
		if (flight_count(&s->flight) == 0) {
			on_unasked(s);
			return;
		}
		take_reply(s, &bytes);
		if (!s->is_closed && flight_waits_for(&s->flight, PHASE_HANDSHAKE)) {
			enter_tls(s, bytes.n);
			return;
		}
	}
	if (!s->is_closed && s->is_ready) {
		transfer_pump(s);
	}
	if (!s->is_closed) {
		session_flush(s);
		session_set_deadline(s);
	}
}

/* ---- what else happens to a session ---- */

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
		.began_ms = session_now_ms(s)};

	assert(s->is_closed);
	reply_reset(&reply);
	*s = fresh;
	s->reply = reply;
	opening_begin(s);
}

void session_drained(struct session *s)
{
	if (!s->is_closed && s->times_transfer && flight_waits_for(&s->flight, PHASE_DOT)) {
		s->timed = 0;
		session_set_deadline(s);
	}
}

void session_tls_up(struct session *s, enum tls_trust trust, const char *why_untrusted)
{
	if (s->is_closed || !flight_waits_for(&s->flight, PHASE_HANDSHAKE)) {
		return;
	}
	flight_take(&s->flight);
	opening_on_tls(s, trust, why_untrusted);
	if (!s->is_closed) {
		session_flush(s);
		session_set_deadline(s);
	}
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

/* A handshake that fails leads to clear text where that is allowed at all. */
static enum session_failure failure_of_opening(const struct session *s)
{
	return s->level == TLS_MAY && flight_waits_for(&s->flight, PHASE_HANDSHAKE)
		       ? SESSION_NO_TLS
		       : SESSION_USELESS;
}

/*
 * A job that this connection has not begun to answer, on a connection that had worked: the
 * server closed it while it was idle or after its last message. One that followed behind the
 * content of another has done no harm before its own content. On a fresh connection another
 * server may be better.
 */
static enum fate fate_of_lost(struct session *s)
{
	if (s->tx_count == 0 || session_front(s)->dot_sent) {
		return FATE_SETTLE;
	}
	if (session_front(s)->behind) {
		return FATE_BACK;
	}
	if (!ending_is_untouched(s)) {
		return FATE_SETTLE;
	}
	return ending_has_worked(s) ? FATE_BACK : FATE_REFUSED;
}

void session_ended(struct session *s, enum stream_end why, const char *detail)
{
	char what[384];
	char text[ENDING_TEXT_MAX];

	if (s->is_closed) {
		return;
	}
	if (str_format(what, sizeof(what), "%s%s%.256s", end_texts[why].what,
		    detail[0] == '\0' ? "" : ": ", detail) != ERR_OK) {
		what[0] = '\0';
	}
	struct outcome o = ending_lost(s, end_texts[why].status.subject,
		end_texts[why].status.detail, what, text);
	if (why == STREAM_END_ERROR || why == STREAM_END_BIND) {
		o.stage = STAGE_LOCAL;
	}
	if (s->is_ready) {
		ending_break_off(s, &o, fate_of_lost(s));
	} else {
		ending_fail(s, &o, failure_of_opening(s));
	}
}

/* The peer takes the content, slowly, or has taken all of it and is to answer now. */
static bool is_moving(const struct session *s)
{
	return s->times_transfer && flight_waits_for(&s->flight, PHASE_DOT) &&
	       (session_sent(s) > s->stall_sent ||
		       session_sent(s) >= flight_head(&s->flight)->end);
}

void session_late(struct session *s)
{
	char text[ENDING_TEXT_MAX];

	if (s->is_closed) {
		return;
	}
	if (s->is_ready && s->tx_count == 0 && flight_count(&s->flight) == 0) {
		ending_quit(s);
		return;
	}
	if (is_moving(s)) {
		s->timed = 0;
		session_set_deadline(s);
		return;
	}
	struct outcome o = ending_lost(s, 4, 2, "the server did not answer in time", text);
	if (!s->is_ready) {
		ending_fail(s, &o, failure_of_opening(s));
	} else if (s->tx_count > 0 && session_front(s)->behind && ending_is_untouched(s)) {
		/* It may not know that commands can stand behind a content. */
		ending_break_off(s, &o, FATE_BACK);
	} else {
		ending_break_off(s, &o, FATE_SETTLE);
	}
}

void session_work(struct session *s)
{
	if (!s->is_closed && s->is_ready) {
		transfer_pump(s);
	}
}

void session_quit(struct session *s)
{
	s->is_quitting = true;
	if (!s->is_closed && s->is_ready && s->tx_count == 0) {
		transfer_pump(s);
	}
}
