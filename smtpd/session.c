/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "smtpd/commands.h"
#include "smtpd/envelope_commands.h"
#include "smtpd/policy.h"
#include "smtpd/session.h"
#include "smtpd/session_parts.h"

/* One limit for all commands: RFC 5321 has 512, extensions to MAIL and RCPT add to it. */
#define LINE_MOST ((size_t)2048)
/* So much of a line that is too long is dropped before the connection is. */
#define SKIP_MOST 32768u
/* RFC 5321 section 4.5.3.1.5. */
#define REPLY_MOST ((size_t)512)
/* What the store may take to answer. */
#define LOOKUP_MS ((int64_t)30 * 1000)
/* How long a lack of room may last. */
#define ROOM_MS ((int64_t)600 * 1000)

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

/* ---- small things ---- */

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

/* ---- replies ---- */

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

void session_close_with(struct session *s, const char *code, const char *why)
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

void session_wait(struct session *s, enum hold hold, int64_t ms)
{
	s->hold = hold;
	s->io->deadline(s->io_arg, clock_mono_ms() + ms);
}

/* Behind each reply: what ends the dialogue. */
static void after_reply(struct session *s)
{
	if (is_worn_out(s)) {
		session_log_reject(s, "error_limit", SLICE_EMPTY);
		session_close_with(s, "421 4.7.0", "Too many errors");
	} else if (s->env->is_draining && !s->in_data) {
		session_close_with(s, "421 4.3.2", "System shutting down, try again later");
	}
}

/* The one place where replies to commands and content leave, and errors are counted. */
void session_reply(struct session *s, struct answer a)
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
		session_wait(s, HOLD_DELAY, s->settings->error_delay_ms);
		return;
	}
	write_out(s, a.text);
	if ((a.flags & ANSWER_CLOSE) != 0) {
		close_now(s);
		return;
	}
	if ((a.flags & ANSWER_TLS) != 0) {
		session_wait(s, HOLD_TLS, s->settings->tls_ms);
		s->io->start_tls(s->io_arg);
		return;
	}
	after_reply(s);
}

/* ---- waiting ---- */

void session_idle_deadline(struct session *s)
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

void session_pause_input(struct session *s)
{
	if (!s->is_paused) {
		s->is_paused = true;
		s->io->pause(s->io_arg);
	}
}

void session_resume_input(struct session *s)
{
	if (s->is_paused) {
		s->is_paused = false;
		s->io->resume(s->io_arg);
	}
}

/* What was waited for has come, and its reply has been written or held back. */
void session_go_on(struct session *s)
{
	if (s->is_closed || s->hold != HOLD_NONE || s->is_stuck) {
		return;
	}
	if (s->has_ended && !s->is_paused) {
		close_now(s);
		return;
	}
	session_resume_input(s);
	session_idle_deadline(s);
}

/* ---- questions to the store ---- */

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
	session_wait(s, HOLD_LOOKUP, LOOKUP_MS);
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
	session_reply(s, envelope_finish_rcpt(s, &a, r->orcpt, r->notify, result, text));
	free(r);
	session_go_on(s);
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

/* ---- commands ---- */

static void bad_line(struct session *s, struct answer a, size_t dropped)
{
	s->is_skipping = true;
	s->skipped = (uint32_t)dropped;
	s->line_since_ms = clock_mono_ms(); /* its end has a deadline, as a good one's has */
	session_reply(s, a);
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
	if (!s->is_skipping) {
		s->line_since_ms = 0;
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
	session_reply(s, a);
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

/* ---- events ---- */

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
	session_idle_deadline(s);
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
		size_t n = s->in_data ? session_take_content(s, rest) : take_line(s, rest);
		if (n == 0) {
			break;
		}
		used += n;
		if (!s->is_closed && !s->io->has_room(s->io_arg)) {
			/* Whoever does not read is not read either: replies would pile up. */
			s->is_stuck = true;
			session_pause_input(s);
		}
	}
	if (s->is_closed) {
		return bytes.n;
	}
	if (s->hold != HOLD_NONE) {
		if (used < bytes.n) {
			session_pause_input(s);
		}
	} else if (s->is_paused && !s->is_stuck) {
		s->io->deadline(s->io_arg, clock_mono_ms() + ROOM_MS);
	} else {
		session_idle_deadline(s);
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
		session_go_on(s);
		break;
	case HOLD_LOOKUP:
		ops_of(s)->forget(s->env->store.arg, &s->rcpt->ticket);
		finish_lookup(s, LOOKUP_FAILED, SLICE_EMPTY);
		break;
	case HOLD_DONE:
		/* It may yet be stored; the client is told to send it again. */
		s->hold = HOLD_NONE;
		session_end_tx(s, session_lost_answer());
		session_go_on(s);
		break;
	case HOLD_TLS:
		session_log_reject(s, "tls_timeout", SLICE_EMPTY);
		close_now(s);
		break;
	case HOLD_NONE:
		session_log_reject(s, "timeout",
			s->in_data ? SLICE("content") : SLICE("command"));
		session_close_with(s, "421 4.4.2", "Timeout exceeded");
		break;
	}
}

void session_on_drained(struct session *s)
{
	if (s->is_closed || !s->is_stuck) {
		return;
	}
	s->is_stuck = false;
	session_go_on(s);
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
	/* All that was said in clear has been read, or there would be no TLS. */
	s->is_stuck = false;
	session_resume_input(s);
	session_idle_deadline(s);
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
	session_close_with(s, "421 4.3.2", "System shutting down, try again later");
}
