/* SPDX-License-Identifier: Apache-2.0 */
/* The half of a session that has to do with content: from DATA to the reply behind its end. */
#include "common/base/clock.h"
#include "smtpd/session.h"
#include "smtpd/session_parts.h"

/* The least rate is judged over so much time. */
#define WINDOW_MS ((int64_t)60 * 1000)
/* What the store may take to answer. */
#define DONE_MS ((int64_t)300 * 1000)
/* So much of a refusal of the store's is told. */
#define FATE_TEXT_MOST ((size_t)480)

static const struct store_events tx_events;

static const struct store_ops *ops_of(const struct session *s)
{
	return s->env->store.ops;
}

void session_begin_data(struct session *s)
{
	struct tx *tx = s->tx;

	intake_init(&tx->intake);
	store_ticket_init(&tx->ticket, &tx_events, s);
	tx->data_since_ms = clock_mono_ms();
	tx->window_since_ms = tx->data_since_ms;
	tx->window_bytes = 0;
	s->in_data = true;
}

static struct slice protocol(const struct session *s)
{
	bool utf8 = (s->tx->flags & TX_SMTPUTF8) != 0;

	if (!s->is_esmtp) {
		return SLICE("SMTP");
	}
	if (s->tls != NULL) {
		return utf8 ? SLICE("UTF8SMTPS") : SLICE("ESMTPS");
	}
	return utf8 ? SLICE("UTF8SMTP") : SLICE("ESMTP");
}

static bool is_loopback(const struct endpoint *e)
{
	static const uint8_t six[16] = {[15] = 1};

	return e->family == 4 ? e->addr[0] == 127 : memcmp(e->addr, six, sizeof(six)) == 0;
}

/* Hands the envelope over. From here on there may be content. */
static void open_tx(struct session *s)
{
	struct tx *tx = s->tx;
	char client[ENDPOINT_TEXT_MAX];

	endpoint_format_addr(&s->client, client);
	tx->flags |= tx->intake.has_8bit ? TX_8BIT : 0u;
	tx->flags |= s->tls != NULL ? TX_TLS : 0u;
	struct msg_tx_begin facts = {
		.flags = tx->flags,
		.rcpt_count = (uint32_t)tx->rcpt_count,
		.sender = tx->sender,
		.envid = tx->envid,
		.ret = tx->ret,
		.declared_bytes = tx->declared_bytes,
		.client_name = is_loopback(&s->client) ? SLICE("localhost") : SLICE("unknown"),
		.client_addr = slice_from_cstr(client),
		.helo = slice_from_cstr(s->helo),
		.protocol = protocol(s),
		.tls = slice_from_cstr(s->tls),
		.listener = s->settings->listener,
	};
	tx->is_open = true;
	if (!ops_of(s)->begin(s->env->store.arg, &tx->ticket, &facts, tx->rcpts)) {
		tx->is_lost = true;
	}
}

/* Nothing more of the content is of use; its end is still waited for. */
static void discard_rest(struct session *s)
{
	if (!s->tx->intake.is_discarding) {
		s->tx->intake.is_discarding = true;
		ops_of(s)->forget(s->env->store.arg, &s->tx->ticket);
	}
}

static void on_content(void *arg, struct slice bytes)
{
	struct session *s = arg;
	struct tx *tx = s->tx;

	if (tx->rcpt_count == 0) {
		tx->intake.is_discarding = true;
		return;
	}
	if (!tx->is_open) {
		open_tx(s);
	}
	if (tx->is_lost || tx->has_fate) {
		tx->intake.is_discarding = true;
		return;
	}
	while (bytes.n != 0) {
		ops_of(s)->content(s->env->store.arg, &tx->ticket,
			slice_head(bytes, LIMIT_CHUNK_BYTES));
		bytes = slice_skip(bytes, LIMIT_CHUNK_BYTES);
	}
}

/* The message is with the store, or never will be; the session is ready for the next. */
void session_end_tx(struct session *s, struct answer a)
{
	session_drop_tx(s);
	session_reply(s, a);
}

static struct answer fate_answer(struct session *s, unsigned code, struct slice text)
{
	if (code == 250) {
		s->env->accepted++;
		s->messages++;
		s->errors = 0;
		s->junk = 0;
		return answer_format(s, 0, "250 2.0.0 Ok: queued as %.*s",
			SLICE_ARG(slice_head(text, LIMIT_QUEUE_ID)));
	}
	if (code < 400 || code > 599) {
		return ANSWER_WITH("451 4.3.0 Queue file write error", ANSWER_OURS);
	}
	return answer_format(s, code < 500 ? ANSWER_OURS : 0, "%u %.*s", code,
		SLICE_ARG(slice_head(text, FATE_TEXT_MOST)));
}

struct answer session_lost_answer(void)
{
	return ANSWER_WITH("451 4.3.0 Queue is not available, try again later", ANSWER_OURS);
}

/* The message is whole. */
static void end_data(struct session *s)
{
	struct tx *tx = s->tx;

	s->in_data = false;
	if (tx->intake.size > s->settings->size_limit) {
		session_end_tx(s, ANSWER("552 5.3.4 Message size exceeds fixed limit"));
	} else if (tx->intake.has_bare && s->settings->rejects_bare) {
		session_log_reject(s, "bare_line_end", tx->sender);
		session_end_tx(s, ANSWER_WITH("550 5.5.2 Lines must end in CR LF, nothing else",
					  ANSWER_CLOSE));
	} else if (tx->intake.has_nul) {
		session_end_tx(s, ANSWER("554 5.6.0 Message contains NUL octets"));
	} else if (tx->has_fate) {
		session_end_tx(s, fate_answer(s, tx->fate_code, tx->fate_text));
	} else if (tx->rcpt_count == 0) {
		session_log_reject(s, "discard", tx->sender);
		s->env->discarded++;
		s->messages++;
		session_end_tx(s,
			ANSWER("250 2.0.0 Ok: discarded, all recipients are suppressed"));
	} else {
		if (!tx->is_open) {
			open_tx(s);
		}
		if (tx->is_lost) {
			session_end_tx(s, session_lost_answer());
			return;
		}
		ops_of(s)->end(s->env->store.arg, &tx->ticket);
		session_wait(s, HOLD_DONE, DONE_MS);
	}
}

/* Whether the client keeps the least rate. A silence is judged by the idle time alone. */
static bool is_fast_enough(struct session *s)
{
	struct tx *tx = s->tx;
	int64_t past_ms = clock_mono_ms() - tx->window_since_ms;

	if (past_ms < WINDOW_MS) {
		return true;
	}
	bool is_fast = past_ms >= 2 * WINDOW_MS ||
		       tx->window_bytes >= s->settings->min_rate * (uint64_t)past_ms / 1000;
	tx->window_since_ms += past_ms;
	tx->window_bytes = 0;
	return is_fast;
}

size_t session_take_content(struct session *s, struct slice bytes)
{
	struct tx *tx = s->tx;
	const struct intake_sink sink = {.content = on_content,
		.arg = s,
		.edited = &s->env->edited};

	if (!is_fast_enough(s)) {
		session_log_reject(s, "slow_content", tx->sender);
		session_close_with(s, "421 4.4.2", "Content comes too slowly");
		return bytes.n;
	}
	size_t used = intake_feed(&tx->intake, bytes, &sink);
	tx->window_bytes += used;
	if (tx->intake.size > s->settings->size_limit || tx->intake.has_nul ||
		(tx->intake.has_bare && s->settings->rejects_bare)) {
		discard_rest(s);
	}
	if (tx->intake.place == INTAKE_ENDED) {
		end_data(s);
	} else if (tx->intake.size / 2 > s->settings->size_limit) {
		session_log_reject(s, "oversize", tx->sender);
		session_close_with(s, "421 4.7.0", "Message is far too large");
	} else if (store_has_ticket(&tx->ticket) &&
		   !ops_of(s)->has_room(s->env->store.arg, &tx->ticket)) {
		session_pause_input(s);
	}
	return used;
}

/* ---- what the store says ---- */

static void on_tx_done(void *arg, unsigned code, struct slice text)
{
	struct session *s = arg;
	struct tx *tx = s->tx;

	if (s->hold == HOLD_DONE) {
		s->hold = HOLD_NONE;
		session_end_tx(s, fate_answer(s, code, text));
		session_go_on(s);
		return;
	}
	/* Refused before its end: told when that has come. */
	tx->has_fate = true;
	tx->fate_code = (uint16_t)code;
	tx->intake.is_discarding = true;
	if (!arena_copy(&tx->arena, text, &tx->fate_text)) {
		tx->fate_text = SLICE("5.6.0 Message refused");
	}
	session_resume_input(s);
}

static void on_tx_lost(void *arg)
{
	struct session *s = arg;

	if (s->hold == HOLD_DONE) {
		s->hold = HOLD_NONE;
		session_end_tx(s, session_lost_answer());
		session_go_on(s);
		return;
	}
	s->tx->is_lost = true;
	s->tx->intake.is_discarding = true;
	session_resume_input(s);
}

static void on_tx_room(void *arg)
{
	struct session *s = arg;

	s->tx->window_since_ms = clock_mono_ms();
	s->tx->window_bytes = 0;
	session_resume_input(s);
	session_idle_deadline(s);
}

static const struct store_events tx_events = {.on_done = on_tx_done,
	.on_lost = on_tx_lost,
	.on_room = on_tx_room};
