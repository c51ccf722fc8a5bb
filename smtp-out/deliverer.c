/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/deliverer.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "smtp-out/job.h"
#include "smtp-out/office.h"
#include "smtp-out/site.h"

/* A queue file that jobs name. */
struct segment {
	struct hash_id_link by_id;
	int fd;
	uint32_t jobs;
	bool is_dropped; /* closed with its last job */
};

/* A site message whose servers are still coming. */
struct site_draft {
	struct site *site; /* null: none */
	struct site_server *servers;
	uint32_t max_connections;
	uint32_t count;
	uint32_t got;
};

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
	bool is_closing;
	struct hash_id_table segments;
	struct hash_id_table sites;
	struct hash_id_table jobs;
	struct job_pool pool;
	struct job *incoming; /* its recipients are still coming */
	struct site_draft draft;
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

static void segment_free(struct deliverer *d, struct segment *g)
{
	hash_id_table_remove(&d->segments, &g->by_id);
	fd_close(&g->fd);
	free(g);
}

static void site_forget(struct deliverer *d, struct site *s)
{
	hash_id_table_remove(&d->sites, &s->by_id);
	site_free(&s);
}

static void end_if_drained(struct deliverer *d)
{
	if (d->office.draining && d->jobs.count == 0) {
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

static void job_end(struct deliverer *d, struct job *j)
{
	struct segment *g = j->segment;

	hash_id_table_remove(&d->jobs, &j->by_id);
	job_free(&d->pool, &j);
	g->jobs--;
	if (g->jobs == 0 && g->is_dropped) {
		segment_free(d, g);
	}
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
	job_end(d, j);
	end_if_drained(d);
}

static const struct office_reports reports = {
	.on_up = report_up,
	.on_gone = report_gone,
	.on_job = report_job,
};

/* It has not begun and never will. */
static void job_cancel(struct deliverer *d, struct job *j)
{
	struct outcome o = outcome_of_ours(VERDICT_LATER, STAGE_CANCELLED,
		(struct enhanced_code){4, 3, 0}, "given back before it began");

	job_settle_rest(j, &o);
	report_job(d, j, NULL, "", "");
}

static void cancel_waiting(struct deliverer *d, struct site *s)
{
	struct list *entry;

	while ((entry = list_first(&s->jobs)) != NULL) {
		struct job *j = CONTAINER_OF(entry, struct job, slot);
		site_remove_job(s, j);
		job_cancel(d, j);
	}
}

/* ---- messages from qmgr ---- */

static struct site *site_find(const struct deliverer *d, uint64_t id)
{
	struct hash_id_link *link = hash_id_table_find(&d->sites, id);

	return link == NULL ? NULL : CONTAINER_OF(link, struct site, by_id);
}

static struct segment *segment_find(const struct deliverer *d, uint64_t id)
{
	struct hash_id_link *link = hash_id_table_find(&d->segments, id);

	return link == NULL ? NULL : CONTAINER_OF(link, struct segment, by_id);
}

static struct job *job_find(const struct deliverer *d, uint64_t id)
{
	struct hash_id_link *link = hash_id_table_find(&d->jobs, id);

	return link == NULL ? NULL : CONTAINER_OF(link, struct job, by_id);
}

static enum err on_hello(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_hello m;
	enum err e = msg_hello_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || d->greeted || m.role != ROLE_QMGR) {
		return ERR_PROTO;
	}
	d->greeted = true;
	return ERR_OK;
}

static void draft_end(struct deliverer *d)
{
	site_update(d->draft.site, d->draft.max_connections, &d->draft.servers, d->draft.count);
	d->draft = (struct site_draft){0};
}

static enum err on_site(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_site m;
	enum err e = msg_site_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || d->draft.site != NULL || d->incoming != NULL) {
		return ERR_PROTO;
	}
	struct site *s = site_find(d, m.site);
	if (s == NULL) {
		s = site_new(&d->office, m.site);
		hash_id_table_insert(&d->sites, &s->by_id, m.site);
	}
	d->draft = (struct site_draft){.site = s,
		.servers = alloc_zero(m.addr_count, sizeof(*d->draft.servers)),
		.max_connections = m.max_connections,
		.count = m.addr_count};
	if (m.addr_count == 0) {
		draft_end(d);
	}
	return ERR_OK;
}

static enum err on_site_addr(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_site_addr m;
	enum err e = msg_site_addr_decode(body, &m);
	struct site_draft *draft = &d->draft;

	(void)fd;
	if (e != ERR_OK || draft->site == NULL || draft->site->id != m.site ||
		(m.family == 4 ? m.addr.n != 4 : m.family != 6 || m.addr.n != 16)) {
		return ERR_PROTO;
	}
	struct site_server *server = &draft->servers[draft->got];
	server->to.family = m.family;
	memcpy(server->to.addr, m.addr.p, m.addr.n);
	server->to.port = m.port;
	server->preference = m.preference;
	server->level = (enum tls_level)m.tls_level;
	if (str_copy(server->host, sizeof(server->host), m.host) != ERR_OK) {
		return ERR_PROTO;
	}
	draft->got++;
	if (draft->got == draft->count) {
		draft_end(d);
	}
	return ERR_OK;
}

static enum err on_site_drop(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_site_drop m;
	enum err e = msg_site_drop_decode(body, &m);
	struct site *s = e == ERR_OK ? site_find(d, m.site) : NULL;

	(void)fd;
	if (s == NULL || s == d->draft.site ||
		(d->incoming != NULL && d->incoming->site == s) || s->waiting > 0 ||
		s->running > 0) {
		return ERR_PROTO; /* job_done comes first */
	}
	site_quiet(s);
	site_forget(d, s);
	return ERR_OK;
}

static enum err on_segment(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_segment m;
	enum err e = msg_segment_decode(body, &m);

	if (e != ERR_OK || *fd < 0) {
		return ERR_PROTO;
	}
	struct segment *g = segment_find(d, m.segment);
	if (g != NULL) {
		/* Dropped, and named again before its last job ended: the same file. */
		g->is_dropped = false;
		return ERR_OK;
	}
	g = alloc_zero(1, sizeof(*g));
	g->fd = *fd;
	*fd = -1;
	hash_id_table_insert(&d->segments, &g->by_id, m.segment);
	return ERR_OK;
}

static enum err on_segment_drop(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_segment_drop m;
	enum err e = msg_segment_drop_decode(body, &m);
	struct segment *g = e == ERR_OK ? segment_find(d, m.segment) : NULL;

	(void)fd;
	if (g == NULL || (d->incoming != NULL && d->incoming->segment == g)) {
		return ERR_PROTO;
	}
	g->is_dropped = true;
	if (g->jobs == 0) {
		segment_free(d, g);
	}
	return ERR_OK;
}

static enum err on_job(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_job m;
	enum err e = msg_job_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || d->incoming != NULL || d->draft.site != NULL || m.rcpt_count == 0 ||
		job_find(d, m.job) != NULL || m.content_bytes > (uint64_t)INT64_MAX / 2 ||
		m.head_offset > (uint64_t)INT64_MAX / 2 ||
		m.content_offset > (uint64_t)INT64_MAX / 2) {
		return ERR_PROTO;
	}
	struct site *s = site_find(d, m.site);
	struct segment *g = segment_find(d, m.segment);
	if (s == NULL || g == NULL || g->is_dropped) {
		return ERR_PROTO;
	}
	struct job *j = job_new(&d->pool, m.rcpt_count);
	j->id = m.job;
	j->site = s;
	j->segment = g;
	j->fd = g->fd;
	j->head_at = m.head_offset;
	j->head_bytes = m.head_bytes;
	j->content_at = m.content_offset;
	j->content_bytes = m.content_bytes;
	j->flags = m.flags;
	j->ret = m.ret;
	j->queue_id = job_copy(j, m.queue_id);
	j->sender = job_copy(j, m.sender);
	j->envid = job_copy(j, m.envid);
	d->incoming = j;
	return ERR_OK;
}

static enum err on_job_rcpt(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_job_rcpt m;
	enum err e = msg_job_rcpt_decode(body, &m);
	struct job *j = d->incoming;

	(void)fd;
	if (e != ERR_OK || j == NULL || m.job != j->id) {
		return ERR_PROTO;
	}
	struct job_rcpt *r = &j->rcpts[j->rcpts_got++];
	r->address = job_copy(j, m.address);
	r->orcpt = job_copy(j, m.orcpt);
	r->notify = m.notify;
	if (j->rcpts_got < j->rcpt_count) {
		return ERR_OK;
	}
	d->incoming = NULL;
	hash_id_table_insert(&d->jobs, &j->by_id, j->id);
	j->segment->jobs++;
	if (d->office.draining) {
		j->arrived_ms = loop_now_ms(d->office.loop);
		job_cancel(d, j);
	} else {
		site_add_job(j->site, j);
	}
	return ERR_OK;
}

static enum err on_job_cancel(struct deliverer *d, struct slice body, int *fd)
{
	struct msg_job_cancel m;
	enum err e = msg_job_cancel_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return ERR_PROTO;
	}
	struct job *j = job_find(d, m.job);
	/* One that is done already, or under way: its outcomes tell. */
	if (j != NULL && !list_is_empty(&j->slot)) {
		site_remove_job(j->site, j);
		job_cancel(d, j);
	}
	return ERR_OK;
}

static const struct {
	uint16_t type;
	enum err (*run)(struct deliverer *d, struct slice body, int *fd);
} orders[] = {
	/* The frequent ones first. */
	{MSG_ID_job, on_job},
	{MSG_ID_job_rcpt, on_job_rcpt},
	{MSG_ID_job_cancel, on_job_cancel},
	{MSG_ID_segment, on_segment},
	{MSG_ID_segment_drop, on_segment_drop},
	{MSG_ID_site, on_site},
	{MSG_ID_site_addr, on_site_addr},
	{MSG_ID_site_drop, on_site_drop},
	{MSG_ID_hello, on_hello},
};

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct deliverer *d = arg;

	if (!d->greeted && type != MSG_ID_hello) {
		return ERR_PROTO;
	}
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		if (orders[i].type == type) {
			enum err e = orders[i].run(d, body, fd);
			if (e != ERR_OK) {
				log_error("event=nonsense from=qmgr message=%s",
					msg_name(type));
			}
			return e;
		}
	}
	log_error("event=nonsense from=qmgr message=%s type=%u", msg_name(type), type);
	return ERR_PROTO;
}

/* Nobody is there to hear how it goes: everything as before the first message. */
static void forget_all(struct deliverer *d)
{
	struct hash_id_link *link;

	if (d->qmgr != NULL) {
		channel_close(&d->qmgr);
	}
	d->greeted = false;
	job_free(&d->pool, &d->incoming);
	ALLOC_FREE(d->draft.servers);
	d->draft = (struct site_draft){0};
	/* Jobs before the sites whose queues they stand in. */
	while ((link = hash_id_table_next(&d->jobs, NULL)) != NULL) {
		struct job *j = CONTAINER_OF(link, struct job, by_id);
		hash_id_table_remove(&d->jobs, link);
		job_free(&d->pool, &j);
	}
	while ((link = hash_id_table_next(&d->sites, NULL)) != NULL) {
		site_forget(d, CONTAINER_OF(link, struct site, by_id));
	}
	while ((link = hash_id_table_next(&d->segments, NULL)) != NULL) {
		segment_free(d, CONTAINER_OF(link, struct segment, by_id));
	}
}

static void on_qmgr_gone(void *arg, enum err why)
{
	struct deliverer *d = arg;

	if (why == ERR_CLOSED) {
		log_info("event=qmgr_gone jobs=%zu", d->jobs.count);
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
	struct hash_id_link *link = NULL;

	(void)s;
	(void)within_ms;
	d->office.draining = true;
	while ((link = hash_id_table_next(&d->sites, link)) != NULL) {
		struct site *site = CONTAINER_OF(link, struct site, by_id);
		cancel_waiting(d, site);
		site_quiet(site);
	}
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
	while ((link = hash_id_table_next(&d->sites, link)) != NULL) {
		const struct site *site = CONTAINER_OF(link, struct site, by_id);
		up += site->up;
		waiting += site->waiting;
		running += site->running;
	}
	json_member_u64(to, "sites", d->sites.count);
	json_member_u64(to, "segments", d->segments.count);
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
	d->is_closing = true;
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

	hash_id_table_init(&d->segments);
	hash_id_table_init(&d->sites);
	hash_id_table_init(&d->jobs);
	job_pool_init(&d->pool);
	d->site_down_gate = (struct log_gate){.burst = 20, .period_s = 10};
	return d;
}

void deliverer_free(struct deliverer **d)
{
	struct deliverer *it = *d;

	if (it == NULL) {
		return;
	}
	hash_id_table_clear(&it->segments);
	hash_id_table_clear(&it->sites);
	hash_id_table_clear(&it->jobs);
	job_pool_clear(&it->pool);
	ALLOC_FREE(*d);
}
