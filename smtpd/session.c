/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "smtpd/commands.h"
#include "smtpd/policy.h"
#include "smtpd/session.h"

/* One limit for all commands: RFC 5321 has 512, extensions to MAIL and RCPT add to it. */
#define LINE_MOST ((size_t)2048)
/* So much of a line that is too long is dropped before the connection is. */
#define SKIP_MOST 32768u
/* RFC 5321 section 4.5.3.1.5. */
#define REPLY_MOST ((size_t)512)
/* What the store may take to answer. */
#define DONE_MS ((int64_t)300 * 1000)
#define LOOKUP_MS ((int64_t)30 * 1000)
/* How long a lack of room may last. */
#define ROOM_MS ((int64_t)600 * 1000)
/* The least rate is judged over so much time. */
#define WINDOW_MS ((int64_t)60 * 1000)

static const struct store_events tx_events;
static const struct store_events rcpt_events;

void session_env_init(struct session_env *env, struct store store)
{
	*env = (struct session_env){
		.store = store,
		.gate = {.burst = 50, .period_s = 10},
		.next_id = 1,
	};
	buf_init(&env->edited, INTAKE_EDITED_MAX);
	buf_init(&env->text, 2 * REPLY_MOST);
}

void session_env_clear(struct session_env *env)
{
	tx_pool_clear(&env->txs);
	buf_clear(&env->edited);
	buf_clear(&env->text);
}

/* ---- small things
 * ------------------------------------------------------------------------------ */

static const struct store_ops *ops_of(const struct session *s)
{
	return s->env->store.ops;
}

enum phase session_phase(const struct session *s)
{
	if (s->tx != NULL) {
		return s->tx->accepted == 0 ? PHASE_MAIL : PHASE_RCPT;
	}
	return s->helo == NULL ? PHASE_NEW : PHASE_READY;
}

void session_drop_tx(struct session *s)
{
	if (s->tx != NULL) {
		ops_of(s)->forget(s->env->store.arg, &s->tx->ticket);
		tx_free(&s->env->txs, &s->tx);
	}
	s->in_data = false;
}

static void drop_rcpt(struct session *s)
{
	if (s->rcpt != NULL) {
		ops_of(s)->forget(s->env->store.arg, &s->rcpt->ticket);
		ALLOC_FREE(s->rcpt);
	}
}

static void drop_delayed(struct session *s)
{
	ALLOC_FREE(s->delayed);
	s->delayed_bytes = 0;
}

void session_log_reject(struct session *s, const char *event, struct slice what)
{
	char client[ENDPOINT_TEXT_MAX];

	if (!log_may(&s->env->gate)) {
		return;
	}
	endpoint_format_addr(&s->client, client);
	log_info("event=%s sid=%llx client=%s helo=%s what=%s held=%llu", event,
		(unsigned long long)s->id, client, LOG_TEXT(slice_from_cstr(s->helo)),
		LOG_TEXT(what), (unsigned long long)s->env->gate.held);
	s->env->gate.held = 0;
}

/* ---- replies
 * ------------------------------------------------------------------------------------- */

struct answer answer_format(struct session *s, unsigned flags, const char *format, ...)
{
	char line[REPLY_MOST];
	char printable[REPLY_MOST - 1];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	str_printable(printable, sizeof(printable), slice_from_cstr(n < 0 ? "" : line));
	buf_reset(&s->env->text);
	enum err e = buf_printf(&s->env->text, "%s\r\n", printable);
	assert(e == ERR_OK);
	return (struct answer){.text = buf_view(&s->env->text), .flags = flags};
}

static void write_out(struct session *s, struct slice text)
{
	s->io->write(s->io_arg, text);
}

static void close_now(struct session *s)
{
	s->is_closed = true;
	drop_rcpt(s);
	session_drop_tx(s);
	drop_delayed(s);
	s->hold = HOLD_NONE;
	s->io->close(s->io_arg);
}

static void close_with(struct session *s, const char *code, const char *why)
{
	struct answer a = answer_format(s, 0, "%s %.*s %s", code,
		SLICE_ARG(slice_head(s->settings->hostname, 255)), why);

	write_out(s, a.text);
	close_now(s);
}

static bool is_error(struct slice reply)
{
	return reply.n != 0 && (reply.p[0] == '4' || reply.p[0] == '5');
}

static bool is_worn_out(const struct session *s)
{
	return s->errors >= s->settings->hard_error_limit;
}

static void wait_for(struct session *s, enum hold hold, int64_t ms)
{
	s->hold = hold;
	s->io->deadline(s->io_arg, clock_mono_ms() + ms);
}

/* Behind each reply: what ends the dialogue. */
static void after_reply(struct session *s)
{
	if (is_worn_out(s)) {
		session_log_reject(s, "error_limit", SLICE_EMPTY);
		close_with(s, "421 4.7.0", "Too many errors");
	} else if (s->env->is_draining && !s->in_data) {
		close_with(s, "421 4.3.2", "System shutting down, try again later");
	}
}

/* The one place where replies to commands and content leave, and errors are counted. */
static void answer(struct session *s, struct answer a)
{
	bool is_slow = false;

	if (is_error(a.text)) {
		s->env->rejected++;
		s->errors += (a.flags & ANSWER_OURS) == 0 ? 1u : 0u;
		is_slow = s->errors > s->settings->soft_error_limit;
	}
	if ((a.flags & ANSWER_LATER) != 0) {
		return;
	}
	if (is_slow && s->settings->error_delay_ms != 0 && !is_worn_out(s) &&
		(a.flags & ANSWER_CLOSE) == 0) {
		s->delayed = alloc_bytes(a.text.n);
		s->delayed_bytes = a.text.n;
		memcpy(s->delayed, a.text.p, a.text.n);
		wait_for(s, HOLD_DELAY, s->settings->error_delay_ms);
		return;
	}
	write_out(s, a.text);
	if ((a.flags & ANSWER_CLOSE) != 0) {
		close_now(s);
		return;
	}
	if ((a.flags & ANSWER_TLS) != 0) {
		wait_for(s, HOLD_TLS, s->settings->tls_ms);
		s->io->start_tls(s->io_arg);
		return;
	}
	after_reply(s);
}

/* ---- waiting
 * ---------------------------------------------------------------------------------------- */

static void idle_deadline(struct session *s)
{
	int64_t now_ms = clock_mono_ms();
	int64_t at_ms = now_ms + s->settings->idle_ms;
	int64_t end_ms = INT64_MAX;

	if (s->in_data) {
		end_ms = s->tx->data_since_ms + s->settings->data_ms;
	} else if (s->line_since_ms != 0) {
		end_ms = s->line_since_ms + s->settings->command_ms;
	}
	s->io->deadline(s->io_arg, at_ms < end_ms ? at_ms : end_ms);
}

static void pause_input(struct session *s)
{
	if (!s->is_paused) {
		s->is_paused = true;
		s->io->pause(s->io_arg);
	}
}

static void resume_input(struct session *s)
{
	if (s->is_paused) {
		s->is_paused = false;
		s->io->resume(s->io_arg);
	}
}

/* What was waited for has come, and its reply has been written or held back. */
static void go_on(struct session *s)
{
	if (s->is_closed || s->hold != HOLD_NONE) {
		return;
	}
	if (s->has_ended && !s->is_paused) {
		close_now(s);
		return;
	}
	resume_input(s);
	idle_deadline(s);
}

/* ---- content
 * ------------------------------------------------------------------------------------------ */

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
static void end_tx(struct session *s, struct answer a)
{
	session_drop_tx(s);
	answer(s, a);
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
		SLICE_ARG(slice_head(text, REPLY_MOST - 16)));
}

static struct answer lost_answer(void)
{
	return ANSWER_WITH("451 4.3.0 Queue is not available, try again later", ANSWER_OURS);
}

/* The message is whole. */
static void end_data(struct session *s)
{
	struct tx *tx = s->tx;

	s->in_data = false;
	if (tx->intake.size > s->settings->size_limit) {
		end_tx(s, ANSWER("552 5.3.4 Message size exceeds fixed limit"));
	} else if (tx->intake.has_bare && s->settings->rejects_bare) {
		session_log_reject(s, "bare_line_end", tx->sender);
		end_tx(s, ANSWER_WITH("550 5.5.2 Lines must end in CR LF, nothing else",
				  ANSWER_CLOSE));
	} else if (tx->intake.has_nul) {
		end_tx(s, ANSWER("554 5.6.0 Message contains NUL octets"));
	} else if (tx->has_fate) {
		end_tx(s, fate_answer(s, tx->fate_code, tx->fate_text));
	} else if (tx->rcpt_count == 0) {
		session_log_reject(s, "discard", tx->sender);
		s->env->discarded++;
		s->messages++;
		end_tx(s, ANSWER("250 2.0.0 Ok: discarded, all recipients are suppressed"));
	} else {
		if (!tx->is_open) {
			open_tx(s);
		}
		if (tx->is_lost) {
			end_tx(s, lost_answer());
			return;
		}
		ops_of(s)->end(s->env->store.arg, &tx->ticket);
		wait_for(s, HOLD_DONE, DONE_MS);
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

static size_t take_content(struct session *s, struct slice bytes)
{
	struct tx *tx = s->tx;
	const struct intake_sink sink = {.content = on_content,
		.arg = s,
		.edited = &s->env->edited};

	if (!is_fast_enough(s)) {
		session_log_reject(s, "slow_content", tx->sender);
		close_with(s, "421 4.4.2", "Content comes too slowly");
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
		close_with(s, "421 4.7.0", "Message is far too large");
	} else if (store_has_ticket(&tx->ticket) &&
		   !ops_of(s)->has_room(s->env->store.arg, &tx->ticket)) {
		pause_input(s);
	}
	return used;
}

/* ---- what the store says
 * ----------------------------------------------------------------------------- */

static void on_tx_done(void *arg, unsigned code, struct slice text)
{
	struct session *s = arg;
	struct tx *tx = s->tx;

	if (s->hold == HOLD_DONE) {
		s->hold = HOLD_NONE;
		end_tx(s, fate_answer(s, code, text));
		go_on(s);
		return;
	}
	/* Refused before its end: told when that has come. */
	tx->has_fate = true;
	tx->fate_code = (uint16_t)code;
	tx->intake.is_discarding = true;
	if (!arena_copy(&tx->arena, text, &tx->fate_text)) {
		tx->fate_text = SLICE("5.6.0 Message refused");
	}
	resume_input(s);
}

static void on_tx_lost(void *arg)
{
	struct session *s = arg;

	if (s->hold == HOLD_DONE) {
		s->hold = HOLD_NONE;
		end_tx(s, lost_answer());
		go_on(s);
		return;
	}
	s->tx->is_lost = true;
	s->tx->intake.is_discarding = true;
	resume_input(s);
}

static void on_tx_room(void *arg)
{
	struct session *s = arg;

	s->tx->window_since_ms = clock_mono_ms();
	s->tx->window_bytes = 0;
	resume_input(s);
	idle_deadline(s);
}

static const struct store_events tx_events = {.on_done = on_tx_done,
	.on_lost = on_tx_lost,
	.on_room = on_tx_room};

bool session_look_up(struct session *s, const struct address *a, struct slice orcpt,
	uint8_t notify)
{
	struct waiting_rcpt *r = alloc_bytes(sizeof(*r));
	enum err e = str_copy(r->address, sizeof(r->address), a->text);

	assert(e == ERR_OK);
	r->orcpt = orcpt;
	r->notify = notify;
	store_ticket_init(&r->ticket, &rcpt_events, s);
	r->ticket.is_question = true;
	if (!ops_of(s)->ask(s->env->store.arg, &r->ticket, a->text)) {
		free(r);
		return false;
	}
	s->rcpt = r;
	wait_for(s, HOLD_LOOKUP, LOOKUP_MS);
	return true;
}

static void finish_lookup(struct session *s, unsigned result, struct slice text)
{
	struct waiting_rcpt *r = s->rcpt;
	struct address a;

	s->rcpt = NULL;
	s->hold = HOLD_NONE;
	enum address_fault fault =
		address_parse(slice_from_cstr(r->address), ADDRESS_UTF8 | ADDRESS_LAX_DOTS, &a);
	assert(fault == ADDRESS_FINE);
	answer(s, commands_finish_rcpt(s, &a, r->orcpt, r->notify, result, text));
	free(r);
	go_on(s);
}

static void on_rcpt_answer(void *arg, unsigned result, struct slice text)
{
	finish_lookup(arg, result, text);
}

static void on_rcpt_lost(void *arg)
{
	finish_lookup(arg, LOOKUP_FAILED, SLICE_EMPTY);
}

static const struct store_events rcpt_events = {.on_answer = on_rcpt_answer,
	.on_lost = on_rcpt_lost};

/* ---- commands
 * -------------------------------------------------------------------------------------------
 */

static void bad_line(struct session *s, struct answer a, size_t dropped)
{
	s->is_skipping = true;
	s->skipped = (uint32_t)dropped;
	answer(s, a);
}

/* Drops what belongs to a bad line. A CR at the end is left: what follows decides. */
static size_t skip_line(struct session *s, struct slice bytes)
{
	size_t used = 0;

	while (s->is_skipping && used < bytes.n) {
		struct slice rest = slice_skip(bytes, used);
		size_t at = slice_find(rest, '\n');
		if (at < rest.n) {
			s->is_skipping = at == 0 || rest.p[at - 1] != '\r';
			used += at + 1;
		} else {
			used = bytes.p[bytes.n - 1] == '\r' ? bytes.n - 1 : bytes.n;
			break;
		}
	}
	s->skipped += (uint32_t)used;
	if (s->skipped > SKIP_MOST) {
		session_log_reject(s, "endless_line", SLICE_EMPTY);
		close_now(s);
	}
	return used;
}

static void run_line(struct session *s, struct slice line, bool has_more)
{
	uint32_t junk = s->junk;
	struct answer a = commands_run(s, line, has_more);

	if (s->junk != junk && s->junk > s->settings->junk_limit) {
		s->errors++;
	}
	answer(s, a);
}

/* One line, as far as it is there; returns what was used of it. */
static size_t take_line(struct session *s, struct slice bytes)
{
	struct slice window = slice_head(bytes, LINE_MOST);
	size_t at = slice_find(window, '\n');

	if (s->is_skipping) {
		return skip_line(s, bytes);
	}
	if (at == window.n && window.n < LINE_MOST) {
		if (s->line_since_ms == 0) {
			s->line_since_ms = clock_mono_ms();
		}
		return 0;
	}
	s->line_since_ms = 0;
	if (at == window.n) {
		size_t dropped = window.p[at - 1] == '\r' ? at - 1 : at;
		bad_line(s, ANSWER("500 5.5.6 Line too long"), dropped);
		return dropped;
	}
	if (at == 0 || window.p[at - 1] != '\r') {
		/* Nothing that stands behind a lone LF is taken for a command. */
		bad_line(s, ANSWER("500 5.5.2 Lines must end in CR LF"), at + 1);
		return at + 1;
	}
	run_line(s, slice_head(window, at - 1), bytes.n > at + 1);
	return at + 1;
}

/* ---- events
 * -----------------------------------------------------------------------------------------------
 */

void session_start(struct session *s, struct session_env *env, const struct session_io *io,
	void *io_arg, struct settings *settings, const struct endpoint *client, bool is_early)
{
	*s = (struct session){
		.io = io,
		.io_arg = io_arg,
		.env = env,
		.settings = settings,
		.client = *client,
		.id = env->next_id++,
		.is_trusted = policy_is_trusted(settings, client),
	};
	if (is_early && !s->is_trusted && settings->forbids_pipelining) {
		session_log_reject(s, "early_talker", SLICE_EMPTY);
		write_out(s, SLICE("554 5.5.0 Wait for the greeting\r\n"));
		close_now(s);
		return;
	}
	write_out(s, settings->greeting);
	idle_deadline(s);
}

void session_clear(struct session *s)
{
	drop_rcpt(s);
	session_drop_tx(s);
	drop_delayed(s);
	ALLOC_FREE(s->helo);
	ALLOC_FREE(s->tls);
	settings_free(&s->settings);
	s->is_closed = true;
}

/* The first octets of another protocol. */
static bool is_foreign(struct session *s, uint8_t first)
{
	bool is_first = !s->has_input;

	s->has_input = true;
	if (!is_first || first != 0x16) {
		return false;
	}
	session_log_reject(s, "foreign_protocol", SLICE("tls"));
	write_out(s, SLICE("521 5.7.0 This is an SMTP server; use STARTTLS\r\n"));
	close_now(s);
	return true;
}

size_t session_input(struct session *s, struct slice bytes)
{
	size_t used = 0;

	if (s->is_closed || bytes.n == 0) {
		return bytes.n;
	}
	if (s->hold == HOLD_TLS) {
		/* RFC 3207 section 6: sent in clear behind STARTTLS; never looked at. */
		session_log_reject(s, "starttls_injection", SLICE_EMPTY);
		close_now(s);
		return bytes.n;
	}
	if (is_foreign(s, bytes.p[0])) {
		return bytes.n;
	}
	while (used < bytes.n && s->hold == HOLD_NONE && !s->is_closed && !s->is_paused) {
		struct slice rest = slice_skip(bytes, used);
		size_t n = s->in_data ? take_content(s, rest) : take_line(s, rest);
		if (n == 0) {
			break;
		}
		used += n;
	}
	if (s->is_closed) {
		return bytes.n;
	}
	if (s->hold != HOLD_NONE) {
		if (used < bytes.n) {
			pause_input(s);
		}
	} else if (s->is_paused) {
		s->io->deadline(s->io_arg, clock_mono_ms() + ROOM_MS);
	} else {
		idle_deadline(s);
	}
	return used;
}

void session_on_late(struct session *s)
{
	if (s->is_closed) {
		return;
	}
	switch (s->hold) {
	case HOLD_DELAY:
		write_out(s, slice_make(s->delayed, s->delayed_bytes));
		drop_delayed(s);
		s->hold = HOLD_NONE;
		after_reply(s);
		go_on(s);
		break;
	case HOLD_LOOKUP:
		ops_of(s)->forget(s->env->store.arg, &s->rcpt->ticket);
		finish_lookup(s, LOOKUP_FAILED, SLICE_EMPTY);
		break;
	case HOLD_DONE:
		/* It may yet be stored; the client is told to send it again. */
		s->hold = HOLD_NONE;
		end_tx(s, lost_answer());
		go_on(s);
		break;
	case HOLD_TLS:
		session_log_reject(s, "tls_timeout", SLICE_EMPTY);
		close_now(s);
		break;
	case HOLD_NONE:
		session_log_reject(s, "timeout",
			s->in_data ? SLICE("content") : SLICE("command"));
		close_with(s, "421 4.4.2", "Timeout exceeded");
		break;
	}
}

void session_on_tls(struct session *s, const char *facts)
{
	if (s->is_closed) {
		return;
	}
	assert(s->hold == HOLD_TLS);
	s->tls = alloc_cstr(facts);
	ALLOC_FREE(s->helo);
	s->is_esmtp = false;
	s->hold = HOLD_NONE;
	s->line_since_ms = 0;
	idle_deadline(s);
}

void session_on_end(struct session *s)
{
	if (s->is_closed) {
		return;
	}
	s->has_ended = true;
	if (s->hold == HOLD_NONE || s->hold == HOLD_TLS) {
		close_now(s);
	}
}

void session_drain(struct session *s)
{
	if (s->is_closed || s->in_data || s->hold == HOLD_DONE) {
		return;
	}
	if (s->hold == HOLD_TLS) {
		close_now(s);
		return;
	}
	close_with(s, "421 4.3.2", "System shutting down, try again later");
}
