/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_stage: everything around one session of smtpd, in memory: the connection, the store and
 * the clock. Used by the dialogue player and by a fuzz target.
 *
 * The connection behaves as a stream does (common/io/stream.h): what the session leaves is
 * offered again with more behind it, a pause is obeyed, too much left is an error. The store
 * answers by itself after each call, or waits to be told.
 */
#ifndef TESTS_DIALOG_SMTPD_STAGE_H
#define TESTS_DIALOG_SMTPD_STAGE_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/conf/conf.h"
#include "smtpd/session.h"
#include "tests/dialog/smtpd_cert.h"

#define STAGE_KEPT_MAX 65536u
#define STAGE_START_MS ((int64_t)1000000)

struct stage {
	struct session_env env;
	struct session session;
	struct conf_builder *builder;
	struct endpoint client;
	struct settings *settings;

	struct buf kept;
	struct buf out;
	int64_t deadline_ms;
	bool has_deadline;
	bool is_early;
	bool is_paused;
	bool is_closed;
	bool wants_tls;
	bool is_started;
	bool overflowed;
	bool reads_nothing; /* the client leaves its replies in the socket */

	struct store_ticket *tickets[4]; /* open ones, oldest first */
	size_t ticket_count;
	uint64_t last_id;
	char asked[LIMIT_ADDRESS + 1]; /* the last question */
	struct buf content;            /* of the transaction under way */
	struct buf events;             /* what the store was told, a line each */
	unsigned state;
	unsigned queued;
	bool answers; /* by itself */
	bool has_room;
	bool store_is_gone;
};

/* ---- what happened ---- */

static inline void stage_event(struct stage *s, const char *line)
{
	enum err e = buf_printf(&s->events, "%s\n", line);
	assert(e == ERR_OK);
}

/* Printable, one line: \r \n \\ and \xNN. */
static inline void stage_escape(struct buf *to, struct slice s)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < s.n && e == ERR_OK; i++) {
		uint8_t c = s.p[i];
		if (c == '\r') {
			e = buf_append(to, SLICE("\\r"));
		} else if (c == '\n') {
			e = buf_append(to, SLICE("\\n"));
		} else if (c == '\\') {
			e = buf_append(to, SLICE("\\\\"));
		} else if (c >= 0x20 && c < 0x7f) {
			e = buf_append_byte(to, c);
		} else {
			e = buf_printf(to, "\\x%02x", c);
		}
	}
	assert(e == ERR_OK);
}

/* ---- the store ---- */

static inline void stage_ticket_open(struct stage *s, struct store_ticket *t)
{
	assert(s->ticket_count < ARRAY_LEN(s->tickets));
	assert(t->peer == NULL);
	t->peer = s;
	t->has_ended = false;
	t->link.id = ++s->last_id;
	s->tickets[s->ticket_count++] = t;
}

static inline void stage_ticket_close(struct stage *s, struct store_ticket *t)
{
	size_t i = 0;

	while (i < s->ticket_count && s->tickets[i] != t) {
		i++;
	}
	assert(i < s->ticket_count);
	for (s->ticket_count--; i < s->ticket_count; i++) {
		s->tickets[i] = s->tickets[i + 1];
	}
	t->peer = NULL;
}

static inline unsigned stage_state(void *arg)
{
	struct stage *s = arg;

	return s->store_is_gone ? STORE_SICK : s->state;
}

static inline bool stage_begin(void *arg, struct store_ticket *t, struct msg_tx_begin *m,
	const struct store_rcpt *rcpts)
{
	struct stage *s = arg;
	struct buf line;

	if (s->store_is_gone || s->state != STORE_OK) {
		return false;
	}
	stage_ticket_open(s, t);
	m->tx = t->link.id;
	buf_reset(&s->content);
	buf_init(&line, 8192);
	enum err e = buf_printf(&line,
		"begin sender=<%.*s> rcpts=%u proto=%.*s helo=%.*s client=%.*s[%.*s]",
		SLICE_ARG(m->sender), m->rcpt_count, SLICE_ARG(m->protocol), SLICE_ARG(m->helo),
		SLICE_ARG(m->client_name), SLICE_ARG(m->client_addr));
	assert(e == ERR_OK);
	static const char *const names[] = {"8bit", "utf8"};
	for (unsigned i = 0; i < 2; i++) {
		e = (m->flags & (1u << i)) != 0 ? buf_printf(&line, " %s", names[i]) : ERR_OK;
		assert(e == ERR_OK);
	}
	e = buf_printf(&line, " ret=%u size=%llu envid=%.*s tls=%.*s", m->ret,
		(unsigned long long)m->declared_bytes, SLICE_ARG(m->envid), SLICE_ARG(m->tls));
	assert(e == ERR_OK && buf_append_byte(&line, 0) == ERR_OK);
	stage_event(s, (const char *)buf_view(&line).p);
	for (uint32_t i = 0; i < m->rcpt_count; i++) {
		buf_reset(&line);
		e = buf_printf(&line, "rcpt <%.*s> notify=%u orcpt=%.*s",
			SLICE_ARG(rcpts[i].address), rcpts[i].notify,
			SLICE_ARG(rcpts[i].orcpt));
		assert(e == ERR_OK && buf_append_byte(&line, 0) == ERR_OK);
		stage_event(s, (const char *)buf_view(&line).p);
	}
	buf_clear(&line);
	return true;
}

static inline void stage_content(void *arg, struct store_ticket *t, struct slice bytes)
{
	struct stage *s = arg;

	assert(t->peer == s && !t->has_ended && !t->is_question);
	assert(bytes.n != 0 && bytes.n <= LIMIT_CHUNK_BYTES);
	enum err e = buf_append(&s->content, bytes);
	assert(e == ERR_OK);
}

/* Long content is told by its length. */
static inline void stage_end(void *arg, struct store_ticket *t)
{
	struct stage *s = arg;
	struct slice content = buf_view(&s->content);
	enum err e = ERR_OK;

	assert(t->peer == s && !t->has_ended && !t->is_question);
	t->has_ended = true;
	if (content.n > 4096) {
		e = buf_printf(&s->events, "content of %zu octets", content.n);
	} else {
		e = buf_append(&s->events, SLICE("content "));
		stage_escape(&s->events, content);
	}
	assert(e == ERR_OK);
	stage_event(s, "");
	stage_event(s, "end");
}

static inline bool stage_ask(void *arg, struct store_ticket *t, struct slice address)
{
	struct stage *s = arg;
	enum err e = buf_printf(&s->events, "ask <%.*s>\n", SLICE_ARG(address));

	assert(e == ERR_OK && t->is_question);
	e = str_copy(s->asked, sizeof(s->asked), address);
	assert(e == ERR_OK);
	if (s->store_is_gone) {
		return false;
	}
	stage_ticket_open(s, t);
	return true;
}

static inline void stage_forget(void *arg, struct store_ticket *t)
{
	struct stage *s = arg;

	if (t->peer == NULL) {
		return;
	}
	if (!t->is_question && !t->has_ended) {
		stage_event(s, "abort");
	}
	stage_ticket_close(s, t);
}

static inline bool stage_room(void *arg, struct store_ticket *t)
{
	struct stage *s = arg;

	assert(t->peer == s);
	return s->has_room;
}

static const struct store_ops stage_ops = {
	.state = stage_state,
	.begin = stage_begin,
	.content = stage_content,
	.end = stage_end,
	.ask = stage_ask,
	.forget = stage_forget,
	.has_room = stage_room,
};

/* The filter of the tests: what begins with "perhaps" or "suppressed". */
static inline bool stage_may_be_suppressed(void *arg, struct slice address)
{
	(void)arg;
	return slice_starts_nocase(address, SLICE("perhaps")) ||
	       slice_starts_nocase(address, SLICE("suppressed"));
}

static inline struct store_ticket *stage_oldest(struct stage *s, bool is_question)
{
	for (size_t i = 0; i < s->ticket_count; i++) {
		struct store_ticket *t = s->tickets[i];
		if (t->is_question == is_question &&
			(is_question || !s->answers || t->has_ended)) {
			return t;
		}
	}
	return NULL;
}

static inline void stage_done(struct stage *s, unsigned code, struct slice text)
{
	struct store_ticket *t = stage_oldest(s, false);

	assert(t != NULL);
	stage_ticket_close(s, t);
	t->events->on_done(t->arg, code, text);
}

static inline void stage_answer(struct stage *s, unsigned result, struct slice text)
{
	struct store_ticket *t = stage_oldest(s, true);

	assert(t != NULL);
	stage_ticket_close(s, t);
	t->events->on_answer(t->arg, result, text);
}

static inline void stage_die(struct stage *s)
{
	s->store_is_gone = true;
	while (s->ticket_count != 0) {
		struct store_ticket *t = s->tickets[0];
		stage_ticket_close(s, t);
		t->events->on_lost(t->arg);
	}
}

static inline void stage_set_room(struct stage *s, bool has_room)
{
	s->has_room = has_room;
	for (size_t i = 0; i < s->ticket_count && has_room; i++) {
		if (!s->tickets[i]->is_question) {
			s->tickets[i]->events->on_room(s->tickets[i]->arg);
		}
	}
}

/* ---- the connection ---- */

static inline void stage_write(void *arg, struct slice bytes)
{
	struct stage *s = arg;

	assert(!s->is_closed);
	enum err e = buf_append(&s->out, bytes);
	assert(e == ERR_OK);
}

static inline bool stage_has_output_room(void *arg)
{
	const struct stage *s = arg;

	return !s->reads_nothing;
}

static inline void stage_pause(void *arg)
{
	struct stage *s = arg;

	assert(!s->is_closed && !s->is_paused);
	s->is_paused = true;
}

static inline void stage_resume(void *arg)
{
	struct stage *s = arg;

	assert(!s->is_closed && s->is_paused);
	s->is_paused = false;
}

static inline void stage_deadline(void *arg, int64_t at_ms)
{
	struct stage *s = arg;

	assert(!s->is_closed);
	s->deadline_ms = at_ms;
	s->has_deadline = true;
}

static inline void stage_start_tls(void *arg)
{
	struct stage *s = arg;

	assert(!s->is_closed && !s->wants_tls);
	s->wants_tls = true;
}

static inline void stage_close(void *arg)
{
	struct stage *s = arg;

	assert(!s->is_closed);
	s->is_closed = true;
	session_clear(&s->session);
}

static const struct session_io stage_io = {
	.write = stage_write,
	.has_room = stage_has_output_room,
	.pause = stage_pause,
	.resume = stage_resume,
	.deadline = stage_deadline,
	.start_tls = stage_start_tls,
	.close = stage_close,
};

/* ---- for the player ---- */

static inline void stage_init_bare(struct stage *s)
{
	*s = (struct stage){.state = STORE_OK, .answers = true, .has_room = true};
	clock_hold(INT64_C(1790000000000000), STAGE_START_MS * 1000);
	session_env_init(&s->env, (struct store){.ops = &stage_ops, .arg = s});
	s->env.may_be_suppressed = stage_may_be_suppressed;
	s->env.gate.burst = 0;
	buf_init(&s->kept, STAGE_KEPT_MAX * 2);
	buf_init(&s->out, (size_t)64 << 20);
	buf_init(&s->content, (size_t)64 << 20);
	buf_init(&s->events, (size_t)64 << 20);
	s->client = (struct endpoint){.family = 4, .addr = {127, 0, 0, 1}, .port = 12345};
}

static inline void stage_init(struct stage *s)
{
	struct buf why;

	stage_init_bare(s);
	buf_init(&why, 1024);
	s->builder = conf_builder_new();
	static const char *const preset[][2] = {
		{"myhostname", "relay.example"},
		{"myorigin", "origin.example"},
		{"smtpd_helo_required", "yes"},
	};
	for (size_t i = 0; i < ARRAY_LEN(preset); i++) {
		enum err e = conf_builder_set(s->builder, slice_from_cstr(preset[i][0]),
			slice_from_cstr(preset[i][1]), &why);
		assert(e == ERR_OK);
	}
	buf_clear(&why);
}

/* A parameter of main.cf; "tls on" stands for a certificate. False: refused. */
static inline bool stage_set(struct stage *s, struct slice name, struct slice value)
{
	struct buf why;
	enum err e = ERR_OK;

	buf_init(&why, 1024);
	if (slice_eq(name, SLICE("tls"))) {
		e = conf_builder_set(s->builder, SLICE("smtpd_tls_security_level"), value,
			&why);
		name = SLICE("smtpd_tls_cert_file");
		value = SLICE("/cert.pem");
		if (e == ERR_OK) {
			e = conf_builder_file(s->builder, value,
				SLICE(SMTPD_CERT SMTPD_CERT_KEY));
		}
	}
	if (e == ERR_OK) {
		e = conf_builder_set(s->builder, name, value, &why);
	}
	buf_clear(&why);
	return e == ERR_OK;
}

/* With settings that are there already; takes one use of them. */
static inline void stage_start_with(struct stage *s)
{
	s->is_started = true;
	session_start(&s->session, &s->env, &stage_io, s, s->settings, &s->client, s->is_early);
}

/* False: the configuration is not good. */
static inline bool stage_start(struct stage *s)
{
	struct conf *conf = NULL;
	struct buf why;

	buf_init(&why, 4096);
	enum err e = conf_builder_end(&s->builder, &why, &conf);
	if (e == ERR_OK) {
		e = settings_new(conf, SLICE("test"), SLICE_EMPTY, &why, &s->settings);
	}
	if (e != ERR_OK) {
		printf("# %.*s\n", SLICE_ARG(buf_view(&why)));
	}
	conf_free(&conf);
	buf_clear(&why);
	if (e != ERR_OK) {
		return false;
	}
	stage_start_with(s);
	return true;
}

/* Offers what is kept, as a stream does after new bytes and after a pause. */
static inline void stage_offer(struct stage *s)
{
	while (!s->is_closed && !s->is_paused && buf_len(&s->kept) != 0) {
		size_t had = buf_len(&s->kept);
		size_t used = session_input(&s->session, buf_view(&s->kept));
		assert(used <= had);
		buf_consume(&s->kept, used);
		if (used < had && !s->is_paused && !s->is_closed) {
			s->overflowed = s->overflowed || buf_len(&s->kept) >= STAGE_KEPT_MAX;
			return;
		}
	}
}

/* The store's answers and what they let go on, until nothing moves any more. */
static inline void stage_settle(struct stage *s)
{
	char id[24];

	stage_offer(s);
	while (s->answers && s->ticket_count != 0) {
		struct store_ticket *t = s->tickets[0];
		if (t->is_question) {
			struct slice asked = slice_from_cstr(s->asked);
			stage_answer(s,
				slice_starts_nocase(asked, SLICE("suppressed"))
					? LOOKUP_SUPPRESSED
				: slice_starts_nocase(asked, SLICE("perhaps-lost"))
					? LOOKUP_FAILED
					: LOOKUP_CLEAR,
				SLICE("user unknown"));
		} else if (t->has_ended) {
			(void)snprintf(id, sizeof(id), "QUEUED%u", ++s->queued);
			stage_done(s, 250, slice_from_cstr(id));
		} else {
			break;
		}
		stage_offer(s);
	}
}

/* Bytes come, in one piece. */
static inline void stage_feed(struct stage *s, struct slice bytes)
{
	while (bytes.n != 0 && !s->is_closed) {
		struct slice piece = slice_head(bytes, STAGE_KEPT_MAX - buf_len(&s->kept));
		enum err e = buf_append(&s->kept, piece);
		assert(e == ERR_OK);
		bytes = slice_skip(bytes, piece.n);
		stage_settle(s);
		if (piece.n == 0 && bytes.n != 0) {
			/* Full while paused: the rest would wait in the socket, and is lost
			 * here. */
			s->overflowed = s->overflowed || !s->is_paused;
			return;
		}
	}
}

/* Time goes by; what is late is told at its moment. */
static inline void stage_wait(struct stage *s, int64_t ms)
{
	int64_t end_ms = clock_mono_ms() + ms;

	while (!s->is_closed && s->has_deadline && s->deadline_ms <= end_ms) {
		if (s->deadline_ms > clock_mono_ms()) {
			clock_advance_ms(s->deadline_ms - clock_mono_ms());
		}
		s->has_deadline = false;
		session_on_late(&s->session);
		stage_settle(s);
	}
	clock_advance_ms(end_ms - clock_mono_ms());
}

static inline void stage_set_reading(struct stage *s, bool reads)
{
	s->reads_nothing = !reads;
	if (reads && !s->is_closed) {
		session_on_drained(&s->session);
		stage_settle(s);
	}
}

static inline void stage_tls(struct stage *s, bool works)
{
	assert(s->wants_tls);
	s->wants_tls = false;
	if (works) {
		session_on_tls(&s->session, "TLSv1.3 TLS_AES_256_GCM_SHA384");
	} else {
		s->is_closed = true;
		session_clear(&s->session);
	}
}

/* The client is gone without an orderly end. */
static inline void stage_reset(struct stage *s)
{
	if (!s->is_closed) {
		s->is_closed = true;
		session_clear(&s->session);
	}
}

static inline void stage_clear(struct stage *s)
{
	if (s->is_started && !s->is_closed) {
		stage_reset(s);
	}
	assert(s->ticket_count == 0);
	conf_builder_free(&s->builder);
	session_env_clear(&s->env);
	buf_clear(&s->kept);
	buf_clear(&s->out);
	buf_clear(&s->content);
	buf_clear(&s->events);
	clock_release();
}

#endif
