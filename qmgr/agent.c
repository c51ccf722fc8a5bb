/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/agent.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/queue/planted.h"
#include "qmgr/outcome.h"
#include "qmgr/parcel.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

/* A connection that is up counts against an agent that leaks them. */
#define CONNECTIONS_MAX 65536u
/* An agent that gives jobs back unasked gets no new ones for so long. */
#define REST_MS 1000
/* A message that so many agents died with is not sent again at once. */
#define LOST_MAX 3u

struct connection *agent_connection(const struct agent *a, uint64_t id)
{
	struct hash_id_link *l = id == 0 ? NULL : hash_id_table_find(&a->connections, id);

	return l == NULL ? NULL : CONTAINER_OF(l, struct connection, by_id);
}

/* ---- jobs out ---- */

unsigned agent_count(const struct qmgr *q)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->agent_count; i++) {
		n += q->agents[i] != NULL ? 1 : 0;
	}
	return n;
}

/* The limit of a site, split over the processes; which of them get one more differs from site
 * to site. */
static uint32_t share_of(const struct qmgr *q, const struct site *s, unsigned rank,
	unsigned alive)
{
	uint32_t limit = q->policy->rate_delay_ms > 0 ? 1 : q->policy->concurrency;

	return limit / alive + ((rank + s->id) % alive < limit % alive ? 1 : 0);
}

static struct agent_site *agent_site_of(struct agent *a, struct site *s)
{
	struct hash_id_link *l = hash_id_table_find(&a->sites, s->id);

	if (l == NULL) {
		struct agent_site *known = alloc_zero(1, sizeof(*known));

		hash_id_table_insert(&a->sites, &known->by_id, s->id);
		return known;
	}
	return CONTAINER_OF(l, struct agent_site, by_id);
}

static bool tell_site(struct qmgr *q, struct agent *a, struct agent_site *known, struct site *s,
	uint32_t connections)
{
	struct msg_site m = {.site = s->id,
		.name = slice_from_cstr(s->key),
		.max_connections = connections,
		.tls_level = q->policy->tls_level,
		.addr_count = s->addr_count};

	if (msg_site_send(a->channel, &m) != ERR_OK) {
		return false;
	}
	for (uint32_t i = 0; i < s->addr_count; i++) {
		struct msg_site_addr addr = {.site = s->id,
			.preference = s->addrs[i].preference,
			.host = slice_from_cstr(s->addrs[i].host),
			.dnssec = s->addrs[i].dnssec,
			.family = s->addrs[i].family,
			.addr = slice_make(s->addrs[i].addr, s->addrs[i].family == 4 ? 4 : 16),
			.port = s->addrs[i].port,
			.tls_level = q->policy->tls_level};

		if (msg_site_addr_send(a->channel, &addr) != ERR_OK) {
			return false;
		}
	}
	known->epoch = s->epoch;
	known->connections = connections;
	return true;
}

/* A descriptor that can only read, in a file description of its own. */
static bool tell_segment(struct qmgr *q, struct agent *a, struct store_segment *seg)
{
	struct msg_segment m = {.segment = seg->info.id};
	char name[SEGMENT_NAME_MAX];

	segment_name(seg->info.id, name);
	int fd = openat(q->queue_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		log_error("event=open_failed segment=%s", name);
		return false;
	}
	enum err e = msg_segment_send_fd(a->channel, &m, fd);

	fd_close(&fd);
	if (e == ERR_OK) {
		seg->live_agents |= UINT64_C(1) << a->index;
	}
	return e == ERR_OK;
}

static struct agent *choose(struct qmgr *q, struct site *s, struct agent_site **known,
	uint32_t *connections)
{
	unsigned alive = agent_count(q);
	int64_t now = loop_now_ms(q->loop);
	unsigned rank = 0;
	struct agent *best = NULL;

	for (unsigned i = 0; i < q->agent_count; i++) {
		struct agent *a = q->agents[i];

		if (a == NULL) {
			continue;
		}
		uint32_t share = share_of(q, s, rank++, alive);

		if (share == 0 || channel_unsent(a->channel) > CHANNEL_HIGH ||
			now < a->rest_until_ms) {
			continue;
		}
		struct agent_site *here = agent_site_of(a, s);

		if (best == NULL || here->jobs < (*known)->jobs) {
			best = a;
			*known = here;
			*connections = share;
		}
	}
	return best;
}

static bool put_job(struct agent *a, struct site *s, struct parcel *p, uint64_t id)
{
	const struct message *m = p->message;
	struct msg_job job = {.job = id,
		.site = s->id,
		.segment = m->segment->info.id,
		.head_offset = m->head_at,
		.head_bytes = m->head_bytes,
		.content_offset = m->content_at,
		.content_bytes = m->content_bytes,
		.flags = m->flags,
		.queue_id = slice_make(m->queue_id, QUEUE_ID_BYTES),
		.sender = m->sender,
		.envid = m->envid,
		.ret = m->ret,
		.rcpt_count = p->count};
	enum err e = msg_job_send(a->channel, &job);

	for (uint32_t i = 0; e == ERR_OK && i < p->count; i++) {
		const struct envelope_rcpt *r = &m->rcpts[p->rcpts[i].index];
		struct msg_job_rcpt rcpt = {.job = id,
			.address = r->address,
			.orcpt = r->orcpt,
			.notify = r->notify};

		e = msg_job_rcpt_send(a->channel, &rcpt);
	}
	return e == ERR_OK;
}

/* The planted fault: nothing has been delivered yet. */
static void settle_all(struct qmgr *q, struct parcel *p)
{
	for (uint32_t i = 0; i < p->count; i++) {
		uint32_t number = message_slot(p->message, p->rcpts[i].index);
		struct slot slot = store_slot(p->message->segment, number);

		slot.state = SLOT_DELIVERED;
		store_set_slot(q->store, p->message->segment, number, &slot);
	}
}

enum agent_sent agent_send(struct qmgr *q, struct site *s, struct parcel *p)
{
	struct agent_site *known = NULL;
	uint32_t connections = 0;
	struct agent *a = choose(q, s, &known, &connections);
	struct store_segment *seg = p->message->segment;

	if (a == NULL) {
		return AGENT_NONE;
	}
	if ((seg->live_agents & (UINT64_C(1) << a->index)) == 0 && !tell_segment(q, a, seg)) {
		return AGENT_UNREADABLE;
	}
	uint64_t id = qmgr_next_id(q);

	if (((known->epoch != s->epoch || known->connections != connections) &&
		    !tell_site(q, a, known, s, connections)) ||
		!put_job(a, s, p, id)) {
		service_fail(q->service, "a job could not be encoded");
		return AGENT_NONE;
	}
	p->site = s;
	p->agent = a;
	p->delivered = 0;
	p->down = false;
	p->cancelled = false;
	p->sent_ms = loop_now_ms(q->loop);
	parcel_launch(q, p);
	a->jobs++;
	known->jobs++;
	hash_id_table_insert(&q->jobs, &p->job, id);
	if (PLANTED_SETTLE_EARLY) {
		settle_all(q, p);
	}
	return AGENT_SENT;
}

void agent_cancel(struct parcel *p)
{
	struct msg_job_cancel m = {.job = p->job.id};

	p->cancelled = true;
	if (p->agent != NULL && msg_job_cancel_send(p->agent->channel, &m) != ERR_OK) {
		log_error("event=cancel_failed");
	}
}

void agent_drop_segment(struct qmgr *q, const struct store_segment *seg)
{
	struct msg_segment_drop m = {.segment = seg->info.id};

	for (unsigned i = 0; i < q->agent_count; i++) {
		if (q->agents[i] != NULL && (seg->live_agents & (UINT64_C(1) << i)) != 0 &&
			msg_segment_drop_send(q->agents[i]->channel, &m) != ERR_OK) {
			log_error("event=segment_drop_failed");
		}
	}
}

/* ---- reports in ---- */

/* The job is no longer at its agent: the parcel is loose. */
static void take_back(struct qmgr *q, struct parcel *p)
{
	struct site *s = p->site;
	struct hash_id_link *l = hash_id_table_find(&p->agent->sites, s->id);

	hash_id_table_remove(&q->jobs, &p->job);
	p->agent->jobs--;
	if (l != NULL) {
		CONTAINER_OF(l, struct agent_site, by_id)->jobs--;
	}
	p->agent = NULL;
	parcel_lift(q, p);
	scheduler_wake_capped(q);
	scheduler_rouse(q, s);
	if (q->draining && q->in_flight == 0) {
		service_end(q->service);
	}
}

static enum err on_connection(struct agent *a, const struct msg_connection *m)
{
	struct qmgr *q = a->q;
	struct site *s = site_find_id(q, m->site);

	if (agent_connection(a, m->connection) != NULL ||
		a->connections.count >= CONNECTIONS_MAX) {
		return ERR_PROTO;
	}
	struct connection *c = alloc_zero(1, sizeof(*c));

	str_printable(c->host, sizeof(c->host), m->host);
	str_printable(c->addr, sizeof(c->addr), m->addr);
	str_printable(c->local, sizeof(c->local), m->local);
	str_printable(c->tls, sizeof(c->tls), m->tls);
	c->port = m->port;
	hash_id_table_insert(&a->connections, &c->by_id, m->connection);
	struct event_connection e = {.connection = m->connection,
		.site = s == NULL ? SLICE_EMPTY : slice_from_cstr(s->key),
		.host = slice_from_cstr(c->host),
		.addr = slice_from_cstr(c->addr),
		.port = c->port,
		.local = slice_from_cstr(c->local),
		.tls = slice_from_cstr(c->tls),
		.tls_trust = m->tls_trust,
		.connect_ms = m->connect_ms,
		.ready_ms = m->ready_ms};
	journal_connection(q->journal, clock_wall_us(), &e);
	if (s != NULL) {
		site_on_connection(q, s);
	}
	return ERR_OK;
}

static enum err on_connection_gone(struct agent *a, const struct msg_connection_gone *m)
{
	struct connection *c = agent_connection(a, m->connection);

	if (c == NULL) {
		return ERR_PROTO;
	}
	hash_id_table_remove(&a->connections, &c->by_id);
	free(c);
	return ERR_OK;
}

static struct parcel *job_of(struct agent *a, uint64_t id)
{
	struct hash_id_link *l = hash_id_table_find(&a->q->jobs, id);
	struct parcel *p = l == NULL ? NULL : CONTAINER_OF(l, struct parcel, job);

	return p != NULL && p->agent == a ? p : NULL;
}

static enum err on_outcome(struct agent *a, const struct msg_outcome *m)
{
	struct parcel *p = job_of(a, m->job);

	if (p == NULL || m->rcpt >= p->count || p->rcpts[m->rcpt].settled ||
		m->stage >= STAGE_COUNT) {
		return ERR_PROTO;
	}
	outcome_take(a->q, p, m);
	return ERR_OK;
}

static enum err on_job_done(struct agent *a, const struct msg_job_done *m)
{
	struct parcel *p = job_of(a, m->job);

	if (p == NULL) {
		return ERR_PROTO;
	}
	for (uint32_t i = 0; i < p->count && !p->cancelled && p->delivered == 0; i++) {
		if (!p->rcpts[i].settled) {
			/* Given back unasked, as by one that is about to end: it would come
			 * back from there for as long as that takes. */
			a->rest_until_ms = loop_now_ms(a->q->loop) + REST_MS;
		}
	}
	take_back(a->q, p);
	outcome_finish(a->q, p);
	return ERR_OK;
}

/* Decodes, then acts; a body that is not the message's is the agent's fault. */
#define ON(name, call)                                                                         \
	case MSG_ID_##name: {                                                                  \
		struct msg_##name m;                                                           \
		e = msg_##name##_decode(body, &m);                                             \
		if (e == ERR_OK) {                                                             \
			e = call;                                                              \
		}                                                                              \
		break;                                                                         \
	}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct agent *a = arg;
	enum err e = ERR_PROTO;

	(void)fd;
	if (a->greeted == (type == MSG_ID_hello)) {
		return ERR_PROTO; /* first of all, and once */
	}
	switch (type) {
		ON(hello, m.role == ROLE_SMTP_OUT ? ERR_OK : ERR_PROTO)
		ON(outcome, on_outcome(a, &m))
		ON(job_done, on_job_done(a, &m))
		ON(connection, on_connection(a, &m))
		ON(connection_gone, on_connection_gone(a, &m))
	default:
		break;
	}
	a->greeted = true;
	return e;
}
#undef ON

/* What it had in flight may have been delivered without our knowing: tried again, at once. */
static void take_all_back(struct agent *a)
{
	struct qmgr *q = a->q;
	struct hash_id_link *l = hash_id_table_next(&q->jobs, NULL);
	struct list back;

	list_init(&back);
	while (l != NULL) {
		struct parcel *p = CONTAINER_OF(l, struct parcel, job);

		l = hash_id_table_next(&q->jobs, l);
		if (p->agent == a) {
			take_back(q, p);
			list_append(&back, &p->link);
		}
	}
	while (!list_is_empty(&back)) {
		struct parcel *p = CONTAINER_OF(list_first(&back), struct parcel, link);

		list_remove(&p->link);
		if (!q->draining && ++p->lost >= LOST_MAX) {
			/* It may be this message that they die of. */
			outcome_lost(q, p);
		}
		outcome_finish(q, p);
	}
}

static void agent_free(struct agent *a)
{
	struct qmgr *q = a->q;
	struct hash_id_link *l;

	q->agents[a->index] = NULL;
	channel_close(&a->channel);
	take_all_back(a);
	while ((l = hash_id_table_next(&a->connections, NULL)) != NULL) {
		hash_id_table_remove(&a->connections, l);
		free(CONTAINER_OF(l, struct connection, by_id));
	}
	while ((l = hash_id_table_next(&a->sites, NULL)) != NULL) {
		hash_id_table_remove(&a->sites, l);
		free(CONTAINER_OF(l, struct agent_site, by_id));
	}
	hash_id_table_clear(&a->connections);
	hash_id_table_clear(&a->sites);
	for (uint32_t i = 0; i < store_size(q->store); i++) {
		struct store_segment *seg = store_at(q->store, i);

		if (seg != NULL) {
			seg->live_agents &= ~(UINT64_C(1) << a->index);
		}
	}
	free(a);
	scheduler_rouse_all(q);
}

static void on_gone(void *arg, enum err why)
{
	struct agent *a = arg;

	if (why != ERR_CLOSED) {
		log_error("event=peer_broke role=smtp-out index=%u err=\"%s\"", a->index,
			err_str(why));
	} else {
		log_warn("event=peer_gone role=smtp-out index=%u jobs=%u", a->index, a->jobs);
	}
	agent_free(a);
}

static void on_writable(void *arg)
{
	scheduler_rouse_all(((struct agent *)arg)->q);
}

void agent_peer(struct qmgr *q, unsigned index, int *fd)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_writable = on_writable,
		.on_gone = on_gone};
	struct msg_hello hello = {.role = ROLE_QMGR, .index = 0};

	if (index >= AGENTS_MAX) {
		return;
	}
	if (q->agents[index] != NULL) {
		agent_free(q->agents[index]);
	}
	struct agent *a = alloc_zero(1, sizeof(*a));

	a->q = q;
	a->index = index;
	hash_id_table_init(&a->connections);
	hash_id_table_init(&a->sites);
	a->channel = channel_new(q->loop, fd, &handler, a);
	q->agents[index] = a;
	q->agent_count = index >= q->agent_count ? index + 1 : q->agent_count;
	if (msg_hello_send(a->channel, &hello) != ERR_OK) {
		log_error("event=hello_failed role=smtp-out");
	}
	scheduler_rouse_all(q);
}

void agent_close_all(struct qmgr *q)
{
	for (unsigned i = 0; i < q->agent_count; i++) {
		if (q->agents[i] != NULL) {
			agent_free(q->agents[i]);
		}
	}
}
