/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/deliverer.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "smtp-out/book.h"
#include "smtp-out/job.h"
#include "smtp-out/office.h"
#include "smtp-out/site.h"

struct counts {
	uint64_t delivered; /* recipients */
	uint64_t deferred;
	uint64_t failed;
	uint64_t connections;
};

struct deliverer {
	struct service *service;
	struct office office;
	struct settings settings;
	struct settings pending_settings;
	struct tls *pending_tls;
	struct channel *qmgr;
	bool greeted;
	bool is_open; /* office and tables are set up */
	struct book book;
	struct counts counts;
	struct log_gate site_down_gate;
};

/* ---- reports to qmgr ---- */

/* A message that cannot be sent would be a recipient without an outcome: qmgr must know. */
static void must(struct deliverer *d, enum err e, const char *what)
{
	if (e != ERR_OK) {
		log_error("event=send what=%s err=\"%s\"", what, err_str(e));
		service_fail(d->service, "a report to qmgr could not be written");
	}
}

static void end_if_drained(struct deliverer *d)
{
	if (d->office.draining && d->book.jobs.count == 0) {
		service_end(d->service);
	}
}

static void report_up(void *arg, const struct connection *c)
{
	struct deliverer *d = arg;
	char local[ENDPOINT_TEXT_MAX] = "";
	struct endpoint from = stream_local(c->stream);

	d->counts.connections++;
	if (from.family != 0) {
		endpoint_format_addr(&from, local);
	}
	struct msg_connection m = {
		.connection = c->id,
		.site = c->site->id,
		.host = slice_from_cstr(c->target.host),
		.addr = slice_from_cstr(c->addr),
		.port = c->target.to.port,
		.local = slice_from_cstr(local),
		.tls = slice_head(slice_from_cstr(c->tls_text), LIMIT_NAME),
		.tls_trust = (uint8_t)c->trust,
		.connect_ms = (uint32_t)(c->connected_ms - c->began_ms),
		.ready_ms = (uint32_t)(c->ready_ms - c->began_ms),
	};
	log_debug("event=connected connection=%llu site=%llu host=%s addr=%s tls=%s trust=%d",
		(unsigned long long)c->id, (unsigned long long)c->site->id, LOG_TEXT(m.host),
		c->addr, LOG_TEXT(m.tls), (int)c->trust);
	if (d->qmgr != NULL) {
		must(d, msg_connection_send(d->qmgr, &m), "connection");
	}
}

static void report_gone(void *arg, const struct connection *c)
{
	struct deliverer *d = arg;
	struct msg_connection_gone m = {.connection = c->id,
		.jobs = session_jobs_done(c->session)};

	if (d->qmgr != NULL) {
		must(d, msg_connection_gone_send(d->qmgr, &m), "connection_gone");
	}
}

static void count(struct deliverer *d, enum verdict_kind kind)
{
	switch (kind) {
	case VERDICT_DONE:
		d->counts.delivered++;
		break;
	case VERDICT_LATER:
		d->counts.deferred++;
		break;
	case VERDICT_NEVER:
		d->counts.failed++;
		break;
	}
}

static void send_outcomes(struct deliverer *d, const struct job *j, const struct connection *c,
	const char *host, const char *addr)
{
	int64_t now = loop_now_ms(d->office.loop);
	int64_t began = j->began_ms == 0 ? now : j->began_ms;

	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		const struct outcome *o = &j->rcpts[i].outcome;
		struct msg_outcome m = {
			.job = j->id,
			.rcpt = i,
			.kind = (uint8_t)o->kind,
			.stage = (uint8_t)o->stage,
			.smtp_code = o->smtp_code,
			.status_class = o->status.class,
			.status_subject = o->status.subject,
			.status_detail = o->status.detail,
			.flags = o->flags,
			.connection = c == NULL ? 0 : c->id,
			.text = o->text,
			.host = c == NULL ? slice_from_cstr(host) : SLICE_EMPTY,
			.addr = c == NULL ? slice_from_cstr(addr) : SLICE_EMPTY,
		};
		count(d, o->kind);
		must(d, msg_outcome_send(d->qmgr, &m), "outcome");
	}
	struct msg_job_done done = {
		.job = j->id,
		.connection = c == NULL ? 0 : c->id,
		.wait_ms = (uint32_t)(began - j->arrived_ms),
		.transfer_ms = (uint32_t)(now - began),
	};
	must(d, msg_job_done_send(d->qmgr, &done), "job_done");
}

static void report_job(void *arg, struct job *j, const struct connection *c, const char *host,
	const char *addr)
{
	struct deliverer *d = arg;
	const struct outcome *o = &j->rcpts[0].outcome;

	if (c == NULL && (o->flags & OUTCOME_SITE_DOWN) != 0 && log_may(&d->site_down_gate)) {
		log_info("event=site_down site=%llu host=%s addr=%s stage=%s text=%s",
			(unsigned long long)j->site->id, LOG_TEXT(slice_from_cstr(host)), addr,
			smtp_stage_name(o->stage), LOG_TEXT(o->text));
	}
	if (d->qmgr != NULL) {
		send_outcomes(d, j, c, host, addr);
	}
	book_end_job(&d->book, &j);
	end_if_drained(d);
}

/* It has not begun and never will. */
static void report_unbegun(void *arg, struct job *j)
{
	struct outcome o = outcome_of_ours(VERDICT_LATER, STAGE_CANCELLED,
		(struct enhanced_code){4, 3, 0}, "given back before it began");

	job_settle_rest(j, &o);
	report_job(arg, j, NULL, "", "");
}

static const struct office_reports reports = {
	.on_up = report_up,
	.on_gone = report_gone,
	.on_unbegun = report_unbegun,
	.on_job = report_job,
};

/* ---- messages from qmgr ---- */

static enum err on_hello(struct deliverer *d, struct slice body)
{
	struct msg_hello m;
	enum err e = msg_hello_decode(body, &m);

	if (e != ERR_OK || d->greeted || m.role != ROLE_QMGR) {
		return ERR_PROTO;
	}
	d->greeted = true;
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct deliverer *d = arg;

	enum err e = ERR_PROTO;

	if (type == MSG_ID_hello) {
		e = on_hello(d, body);
	} else if (d->greeted) {
		e = book_take(&d->book, type, body, fd);
	}
	if (e != ERR_OK) {
		log_error("event=nonsense from=qmgr message=%s type=%u", msg_name(type), type);
	}
	return e;
}

/* Nobody is there to hear how it goes. */
static void forget_all(struct deliverer *d)
{
	if (d->qmgr != NULL) {
		channel_close(&d->qmgr);
	}
	d->greeted = false;
	book_forget(&d->book);
}

static void on_qmgr_gone(void *arg, enum err why)
{
	struct deliverer *d = arg;

	if (why == ERR_CLOSED) {
		log_info("event=qmgr_gone jobs=%zu", d->book.jobs.count);
	} else {
		log_error("event=qmgr_gone err=\"%s\"", err_str(why));
	}
	forget_all(d);
	if (why == ERR_PROTO) {
		service_fail(d->service, "qmgr sent what is no message for us");
	}
	end_if_drained(d);
}

static const struct channel_handler qmgr_handler = {
	.on_frame = on_frame,
	.on_gone = on_qmgr_gone,
};

/* ---- the life of the program ---- */

static enum err hook_conf(struct service *s, void *arg, const struct conf *c, struct buf *why)
{
	struct deliverer *d = arg;
	struct slice anchors = SLICE_EMPTY;
	struct slice path = conf_text(c, CONF_smtp_tls_CAfile);
	enum err e = settings_read(c, &d->pending_settings, why);

	(void)s;
	if (e != ERR_OK) {
		return e;
	}
	if (path.n > 0 && conf_file(c, path, &anchors) != ERR_OK) {
		anchors = SLICE_EMPTY; /* a missing file means none */
	}
	return tls_new(conf_text(c, CONF_smtp_tls_protocols),
		conf_text(c, CONF_smtp_tls_ciphers), anchors, why, &d->pending_tls);
}

static void hook_forget(struct service *s, void *arg)
{
	struct deliverer *d = arg;

	(void)s;
	tls_free(&d->pending_tls);
}

static void hook_apply(struct service *s, void *arg)
{
	struct deliverer *d = arg;

	(void)s;
	/* In place: sessions hold its address. */
	d->settings = d->pending_settings;
	tls_free(&d->office.tls);
	d->office.tls = d->pending_tls;
	d->pending_tls = NULL;
}

static enum err hook_open(struct service *s, void *arg, const struct conf *c)
{
	struct deliverer *d = arg;

	(void)c;
	d->service = s;
	office_init(&d->office, s->loop, &reports, d);
	d->office.settings = &d->settings;
	d->is_open = true;
	return ERR_OK;
}

static void hook_peer(struct service *s, void *arg, enum role role, unsigned index, int *fd)
{
	struct deliverer *d = arg;
	struct msg_hello hello = {.role = (uint8_t)s->role, .index = s->index};

	if (role != ROLE_QMGR || d->office.draining) {
		return;
	}
	forget_all(d);
	log_debug("event=peer role=%s index=%u", role_name(role), index);
	d->qmgr = channel_new(s->loop, fd, &qmgr_handler, d);
	must(d, msg_hello_send(d->qmgr, &hello), "hello");
}

static void hook_drain(struct service *s, void *arg, int64_t within_ms)
{
	struct deliverer *d = arg;

	(void)s;
	(void)within_ms;
	d->office.draining = true;
	book_drain(&d->book);
	end_if_drained(d);
}

static void hook_status(struct service *s, void *arg, struct json *to)
{
	const struct deliverer *d = arg;
	uint64_t up = 0;
	uint64_t waiting = 0;
	uint64_t running = 0;
	struct hash_id_link *link = NULL;

	(void)s;
	while ((link = hash_id_table_next(&d->book.sites, link)) != NULL) {
		const struct site *site = CONTAINER_OF(link, struct site, by_id);
		up += site->up;
		waiting += site->waiting;
		running += site->running;
	}
	json_member_u64(to, "sites", d->book.sites.count);
	json_member_u64(to, "segments", d->book.segments.count);
	json_member_u64(to, "connections", d->office.open);
	json_member_u64(to, "connections_up", up);
	json_member_u64(to, "jobs_waiting", waiting);
	json_member_u64(to, "jobs_running", running);
	json_member_u64(to, "connections_total", d->counts.connections);
	json_member_u64(to, "recipients_delivered_total", d->counts.delivered);
	json_member_u64(to, "recipients_deferred_total", d->counts.deferred);
	json_member_u64(to, "recipients_failed_total", d->counts.failed);
}

static void hook_close(struct service *s, void *arg)
{
	struct deliverer *d = arg;

	(void)s;
	if (d->qmgr != NULL && channel_flush(d->qmgr, d->office.draining) != ERR_OK) {
		log_warn("event=close what=\"the last reports did not reach qmgr\"");
	}
	if (d->is_open) {
		forget_all(d);
		office_clear(&d->office);
	}
	tls_free(&d->office.tls);
	tls_free(&d->pending_tls);
}

static const struct jail_rules jail = {.may = JAIL_CONNECT};

const struct service_hooks deliverer_hooks = {
	.program = "smtp-out",
	.role = ROLE_SMTP_OUT,
	.jail = &jail,
	.on_open = hook_open,
	.on_conf = hook_conf,
	.on_apply = hook_apply,
	.on_forget = hook_forget,
	.on_peer = hook_peer,
	.on_drain = hook_drain,
	.on_status = hook_status,
	.on_close = hook_close,
};

struct deliverer *deliverer_new(void)
{
	struct deliverer *d = alloc_zero(1, sizeof(*d));

	book_init(&d->book, &d->office);
	d->site_down_gate = (struct log_gate){.burst = 20, .period_s = 10};
	return d;
}

void deliverer_free(struct deliverer **d)
{
	struct deliverer *it = *d;

	if (it == NULL) {
		return;
	}
	book_clear(&it->book);
	ALLOC_FREE(*d);
}
