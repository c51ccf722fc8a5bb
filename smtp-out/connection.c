/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/connection.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "smtp-out/site.h"

static void next_server(struct connection *c);
static void attempt(struct connection *c);

static void release(void *object)
{
	struct connection *c = object;

	session_free(&c->session);
	free(c->grievance);
	free(c);
}

/* The memory goes when the turn is over: the session may be in the middle of a call. */
static void leave(struct connection *c)
{
	loop_deadline_unset(&c->deadline);
	stream_close(&c->stream);
	list_remove(&c->idle_slot);
	list_remove(&c->idle_here);
	loop_discard(c->office->loop, release, c);
}

/* Remembers why a server could not be used. A temporary reason outweighs permanent ones. */
static void note(struct connection *c, const struct outcome *why)
{
	struct grievance *g = c->grievance;

	if (g != NULL && why->kind == VERDICT_NEVER && g->outcome.kind != VERDICT_NEVER) {
		return;
	}
	if (g == NULL) {
		g = alloc_zero(1, sizeof(*g));
		c->grievance = g;
	}
	struct slice text = slice_head(why->text, sizeof(g->text));
	g->outcome = *why;
	if (text.n > 0) {
		memcpy(g->text, text.p, text.n);
	}
	g->outcome.text = slice_make(g->text, text.n);
	memcpy(g->host, c->target.host, sizeof(g->host));
	memcpy(g->addr, c->addr, sizeof(g->addr));
}

static void note_ours(struct connection *c, enum verdict_kind kind, enum smtp_stage stage,
	struct enhanced_code status, const char *text)
{
	struct outcome o = outcome_of_ours(kind, stage, status, text);

	note(c, &o);
}

static void round_failed(struct connection *c)
{
	site_round_failed(c->site, c);
	leave(c);
}

static void next_server(struct connection *c)
{
	enum site_pick picked = SITE_EXHAUSTED;

	if (c->tries < c->office->settings->address_limit) {
		picked = site_pick(c->site, c);
	}
	if (picked == SITE_PICKED) {
		c->tries++;
		attempt(c);
		return;
	}
	if (c->grievance == NULL) {
		c->target.host[0] = '\0';
		c->addr[0] = '\0';
		if (picked == SITE_FORBIDDEN) {
			note_ours(c, VERDICT_NEVER, STAGE_CONNECT,
				(struct enhanced_code){5, 4, 4},
				"every address of the destination is forbidden "
				"(smtp_forbidden_destinations)");
		} else {
			note_ours(c, VERDICT_LATER, STAGE_LOCAL,
				(struct enhanced_code){4, 4, 4},
				"the destination has no address that can be used");
		}
	}
	round_failed(c);
}

/* ---- what the session asks ---- */

static struct job *owner_next_job(void *arg, bool behind)
{
	struct connection *c = arg;
	struct job *j = site_next_job(c->site, behind);

	if (j != NULL && c->is_idle) {
		site_connection_busy(c);
	}
	return j;
}

static bool owner_job_back(void *arg, struct job *j, bool was_refused)
{
	struct connection *c = arg;

	return site_job_back(c->site, j, was_refused);
}

static void owner_job_done(void *arg, struct job *j)
{
	struct connection *c = arg;

	site_job_done(c->site, j, c);
}

static void owner_ready(void *arg)
{
	struct connection *c = arg;

	c->is_up = true;
	c->id = ++c->office->last_connection;
	c->ready_ms = loop_now_ms(c->office->loop);
	site_connection_up(c->site);
	c->office->reports->on_up(c->office->arg, c);
}

static void owner_idle(void *arg)
{
	struct connection *c = arg;

	site_connection_idle(c->site, c);
}

static void owner_failed(void *arg, const struct outcome *why, enum session_failure how)
{
	struct connection *c = arg;

	if (how == SESSION_DISMISSED) {
		stream_finish(&c->stream, c->office->settings->limit_ms[WAIT_QUIT]);
	} else {
		stream_close(&c->stream);
	}
	if (how == SESSION_NO_TLS) {
		log_debug("event=tls_failed host=%s addr=%s text=%s",
			LOG_TEXT(slice_from_cstr(c->target.host)), c->addr,
			LOG_TEXT(why->text));
		site_server_failed(c->site, &c->target, true);
		c->target.in_clear = true;
		attempt(c);
		return;
	}
	note(c, why);
	site_server_failed(c->site, &c->target, false);
	if (why->kind == VERDICT_NEVER && why->stage == STAGE_GREETING &&
		!c->office->settings->skip_5xx_greeting) {
		ALLOC_FREE(c->grievance); /* this one has the last word */
		note(c, why);
		round_failed(c);
		return;
	}
	next_server(c);
}

static void owner_closed(void *arg, enum session_end how)
{
	struct connection *c = arg;

	if (how == SESSION_ORDERLY) {
		stream_finish(&c->stream, c->office->settings->limit_ms[WAIT_QUIT]);
	}
	if (how == SESSION_REFUSED) {
		site_server_failed(c->site, &c->target, false);
	}
	c->office->reports->on_gone(c->office->arg, c);
	site_connection_gone(c->site, c);
	leave(c);
}

static void owner_write(void *arg, struct slice bytes)
{
	struct connection *c = arg;

	stream_write(c->stream, bytes);
}

static void owner_write_file(void *arg, int fd, uint64_t at, uint64_t n)
{
	struct connection *c = arg;

	stream_write_file(c->stream, fd, (off_t)at, n);
}

static uint64_t owner_sent(void *arg)
{
	struct connection *c = arg;

	return stream_sent_total(c->stream);
}

/* The name that a certificate must have: of the host, or the address where there is none. */
static const char *tls_name(const struct connection *c)
{
	return c->target.host[0] == '\0' || c->target.host[0] == '[' ? c->addr : c->target.host;
}

static void owner_start_tls(void *arg)
{
	struct connection *c = arg;
	struct ssl_st *ssl = tls_client(c->office->tls, tls_name(c), c->target.level);

	if (ssl == NULL) {
		session_ended(c->session, STREAM_END_ERROR, "OpenSSL gives no connection");
		return;
	}
	stream_start_tls(c->stream, &ssl, false);
}

static int64_t owner_now_ms(void *arg)
{
	struct connection *c = arg;

	return loop_now_ms(c->office->loop);
}

static void owner_set_deadline(void *arg, int64_t at_ms)
{
	struct connection *c = arg;

	if (at_ms == 0) {
		loop_deadline_unset(&c->deadline);
	} else {
		loop_deadline_set(&c->deadline, at_ms);
	}
}

static const struct session_owner owner = {
	.next_job = owner_next_job,
	.job_back = owner_job_back,
	.job_done = owner_job_done,
	.on_ready = owner_ready,
	.on_idle = owner_idle,
	.on_failed = owner_failed,
	.on_closed = owner_closed,
	.write = owner_write,
	.write_file = owner_write_file,
	.sent = owner_sent,
	.start_tls = owner_start_tls,
	.now_ms = owner_now_ms,
	.set_deadline = owner_set_deadline,
};

/* ---- what the stream and the clock tell ---- */

static void on_connected(void *arg)
{
	struct connection *c = arg;

	c->is_connecting = false;
	c->connected_ms = loop_now_ms(c->office->loop);
	session_begin(c->session, c->target.level, c->target.in_clear);
}

static size_t on_input(void *arg, struct slice bytes)
{
	struct connection *c = arg;

	session_input(c->session, bytes);
	return bytes.n;
}

static void on_drained(void *arg)
{
	struct connection *c = arg;

	session_drained(c->session);
}

static void on_tls(void *arg)
{
	struct connection *c = arg;
	char why[TLS_TEXT_MAX];

	c->trust = tls_judge(stream_tls(c->stream), why);
	tls_describe(stream_tls(c->stream), c->tls_text);
	session_tls_up(c->session, c->trust, why);
}

static void connect_failed(struct connection *c, enum stream_end why)
{
	enum smtp_stage stage = STAGE_CONNECT;
	struct enhanced_code status = {4, 4, 1};
	const char *text = "connection refused";

	switch (why) {
	case STREAM_END_REFUSED:
		break;
	case STREAM_END_TIMEOUT:
		text = "connection timed out";
		break;
	case STREAM_END_EOF:
	case STREAM_END_RESET:
		text = "connection reset";
		break;
	case STREAM_END_UNREACHED:
		text = "the host cannot be reached";
		break;
	case STREAM_END_BIND:
		stage = STAGE_LOCAL;
		status = (struct enhanced_code){4, 3, 5};
		text = "the source address (smtp_bind_address) cannot be used";
		break;
	case STREAM_END_TLS:
	case STREAM_END_TRUNCATED:
	case STREAM_END_ERROR:
		stage = STAGE_LOCAL;
		status = (struct enhanced_code){4, 3, 0};
		text = "a local error prevented the connection";
		break;
	}
	stream_close(&c->stream);
	note_ours(c, VERDICT_LATER, stage, status, text);
	if (stage == STAGE_CONNECT) {
		site_server_failed(c->site, &c->target, false);
	}
	next_server(c);
}

static void on_end(void *arg, enum stream_end why)
{
	struct connection *c = arg;
	bool of_tls = why == STREAM_END_TLS || why == STREAM_END_TRUNCATED;

	if (c->is_connecting) {
		connect_failed(c, why);
		return;
	}
	session_ended(c->session, why, of_tls ? stream_tls_error(c->stream) : "");
}

static void on_late(void *arg)
{
	struct connection *c = arg;

	if (c->is_connecting) {
		connect_failed(c, STREAM_END_TIMEOUT);
	} else {
		session_late(c->session);
	}
}

static const struct stream_handler handler = {
	.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_tls = on_tls,
	.on_end = on_end,
};

/* ---- making and ending ---- */

static void attempt(struct connection *c)
{
	const struct settings *set = c->office->settings;
	const struct endpoint *from = c->target.to.family == 4 ? &set->bind4 : &set->bind6;

	endpoint_format_addr(&c->target.to, c->addr);
	c->is_connecting = true;
	c->trust = TRUST_NONE;
	c->tls_text[0] = '\0';
	c->began_ms = loop_now_ms(c->office->loop);
	loop_deadline_set(&c->deadline, c->began_ms + set->limit_ms[WAIT_CONNECT]);
	c->stream = stream_connect(c->office->loop, &c->target.to, from, &handler, c);
}

void connection_new(struct office *o, struct site *site)
{
	struct connection *c = alloc_zero(1, sizeof(*c));

	c->office = o;
	c->site = site;
	list_init(&c->slot);
	list_init(&c->idle_slot);
	list_init(&c->idle_here);
	loop_deadline_init(&c->deadline, o->loop, on_late, c);
	c->session = session_new(&owner, c, o->settings, &o->scratch);
	c->changes = site->changes;
	list_append(&site->connections, &c->slot);
	site->open++;
	o->open++;
	next_server(c);
}

void connection_drop(struct connection *c)
{
	if (c->is_up) {
		c->office->reports->on_gone(c->office->arg, c);
	}
	site_connection_gone(c->site, c);
	leave(c);
}

void connection_work(struct connection *c)
{
	session_work(c->session);
}

void connection_quit(struct connection *c)
{
	session_quit(c->session);
}
