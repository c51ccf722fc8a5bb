/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "qmgr/daemon.h"
#include "tests/unit/qmgr/bench.h"

#define START_WALL_US (INT64_C(1000000000) * 1000000)
#define START_MONO_US (INT64_C(1000000) * 1000000)
/* Turns without a frame after which nothing more will come. */
#define QUIET_TURNS 8

const struct bench_answer bench_done = {VERDICT_DONE, STAGE_END_OF_DATA, 250, 0, 0};
const struct bench_answer bench_later = {VERDICT_LATER, STAGE_RCPT, 450, 0, 0};
const struct bench_answer bench_never = {VERDICT_NEVER, STAGE_RCPT, 550, 0, 0};
const struct bench_answer bench_down = {VERDICT_LATER, STAGE_CONNECT, 0, OUTCOME_SITE_DOWN, 0};
const struct bench_answer bench_cancelled = {VERDICT_LATER, STAGE_CANCELLED, 0, 0, 0};

static struct bench *running;

void __wrap_service_fail(struct service *s, const char *what)
{
	(void)s;
	(void)what;
	running->failed++;
}

void __wrap_service_end(struct service *s)
{
	(void)s;
	running->ended++;
}

static void must(enum err e)
{
	assert_string_equal(err_str(e), err_str(ERR_OK));
}

/* ---- cleanup ---- */

static void on_open(void *arg, uint64_t segment)
{
	struct bench *b = arg;
	struct msg_segment_open m = {.segment = segment, .end = 0};

	if (b->cleanup != NULL && !b->tells_nobody) {
		must(msg_segment_open_send(b->cleanup, &m));
	}
}

static void on_sealed(void *arg, uint64_t segment, uint64_t end)
{
	struct bench *b = arg;
	struct msg_segment_sealed m = {.segment = segment, .end = end};

	if (b->cleanup != NULL && !b->tells_nobody) {
		must(msg_segment_sealed_send(b->cleanup, &m));
	}
}

static void tell(struct bench *b, const struct envelope *e)
{
	const struct segment_record *r = &b->last_record;
	uint32_t along = e->rcpt_count <= 64 ? e->rcpt_count : 0;
	struct msg_enqueue m = {.segment = b->last_segment,
		.offset = r->offset,
		.length = r->length,
		.first_slot = r->first_slot,
		.rcpt_count = r->rcpt_count,
		.rcpts_follow = along,
		.head_offset = r->head_at,
		.head_bytes = r->head_bytes,
		.content_offset = r->content_at,
		.content_bytes = r->content_bytes,
		.accepted_us = r->accepted_us,
		.queue_id = slice_from_cstr(r->queue_id),
		.sender = e->sender};

	must(msg_enqueue_send(b->cleanup, &m));
	for (uint32_t i = 0; i + (b->tells_half ? 1 : 0) < along; i++) {
		struct msg_enqueue_rcpt rcpt = {.address = e->rcpts[i].address,
			.notify = e->rcpts[i].notify};

		must(msg_enqueue_rcpt_send(b->cleanup, &rcpt));
	}
}

static enum err format_address(struct bench *b, const char *domain, char to[64])
{
	uint32_t number = b->next_number++;
	int head = (int)strcspn(domain, ".");

	if (b->spread == 0) {
		return str_format(to, 64, "r%u@%s", number, domain);
	}
	return str_format(to, 64, "r%u@%.*s%u%s", number, head, domain, number / b->spread,
		domain + head);
}

uint32_t bench_put_from(struct bench *b, const char *sender, const char *domain, uint32_t count,
	uint8_t notify)
{
	struct envelope e = {.sender = slice_from_cstr(sender), .rcpt_count = count};
	char *texts = alloc_bytes((size_t)count * 64);
	uint32_t first = b->next_number;

	e.rcpts = alloc_zero(count, sizeof(*e.rcpts));
	for (uint32_t i = 0; i < count; i++) {
		char *at = texts + (size_t)i * 64;

		must(format_address(b, domain, at));
		e.rcpts[i] = (struct envelope_rcpt){.address = slice_from_cstr(at),
			.notify = notify};
	}
	char *content = alloc_zero(1, b->filling + 1);

	memset(content, 'x', b->filling);
	must(segment_writer_add(b->writer, &e, SLICE("Received: x\r\n"),
		slice_make(content, b->filling + 1), clock_wall_us(), &b->last_record,
		&b->last_segment));
	free(content);
	must(segment_writer_commit(b->writer));
	memcpy(b->last_id, b->last_record.queue_id, sizeof(b->last_id));
	if (b->cleanup != NULL && !b->tells_nobody) {
		tell(b, &e);
	}
	free(e.rcpts);
	free(texts);
	return first;
}

uint32_t bench_put(struct bench *b, const char *domain, uint32_t count)
{
	return bench_put_from(b, "s@sender.example", domain, count, 0);
}

static enum err on_cleanup_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct bench *b = arg;
	struct msg_segment_rotate m;

	(void)fd;
	b->frames++;
	if (type == MSG_ID_segment_rotate) {
		must(msg_segment_rotate_decode(body, &m));
		b->rotates++;
		segment_writer_rotate(b->writer, m.segment);
	}
	return ERR_OK;
}

/* ---- resolve ---- */

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void answer_route(struct bench *b, const struct msg_route_ask *ask, const char *name)
{
	struct msg_route m = {.request = ask->request,
		.result = ROUTE_OK,
		.ttl_s = b->ttl_s,
		.addr_count = 1};
	char host[LIMIT_HOSTNAME + 1];

	if (starts(name, "nowhere") || starts(name, "later")) {
		m.result = starts(name, "later") ? ROUTE_LATER : ROUTE_NEVER;
		m.addr_count = 0;
		m.code = m.result == ROUTE_LATER ? SLICE("4.4.3") : SLICE("5.4.4");
		m.text = SLICE("no such way");
	}
	must(msg_route_send(b->resolve, &m));
	if (m.addr_count == 0) {
		return;
	}
	must(str_format(host, sizeof(host), b->moved ? "new.%s" : "mx.%s",
		starts(name, "shared") ? "shared.example" : name));
	struct msg_route_addr addr = {.request = ask->request,
		.preference = 10,
		.host = slice_from_cstr(host),
		.family = 4,
		.addr = slice_make("\x0a\x00\x00\x01", 4),
		.port = 25};
	must(msg_route_addr_send(b->resolve, &addr));
}

static enum err on_resolve_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct bench *b = arg;
	struct msg_route_ask ask;
	char name[LIMIT_HOSTNAME + 1];

	(void)fd;
	b->frames++;
	if (type != MSG_ID_route_ask) {
		return ERR_OK;
	}
	must(msg_route_ask_decode(body, &ask));
	must(str_copy(name, sizeof(name), ask.name));
	b->asked++;
	if (starts(name, "silent") || (b->resolve_holds && b->asked_and_held == 64)) {
		return ERR_OK;
	}
	if (b->resolve_holds) {
		memcpy(b->held_names[b->asked_and_held], name, sizeof(name));
		b->held_asks[b->asked_and_held++] = ask;
	} else {
		answer_route(b, &ask, name);
	}
	return ERR_OK;
}

void bench_answer_held(struct bench *b)
{
	for (uint32_t i = 0; i < b->asked_and_held && b->resolve != NULL; i++) {
		answer_route(b, &b->held_asks[i], b->held_names[i]);
	}
	b->asked_and_held = 0;
}

/* ---- smtp-out ---- */

static void job_free(struct bench_job *j)
{
	list_remove(&j->link);
	free(j->numbers);
	free(j);
}

static void take_job(struct bench_agent *a, const struct msg_job *m)
{
	struct bench_job *j = alloc_zero(1, sizeof(*j));

	assert_null(a->incoming);
	list_init(&j->link);
	j->id = m->job;
	j->site = m->site;
	j->segment = m->segment;
	j->rcpt_count = m->rcpt_count;
	j->numbers = alloc_zero(m->rcpt_count, sizeof(*j->numbers));
	must(str_copy(j->queue_id, sizeof(j->queue_id), m->queue_id));
	a->incoming = j;
}

/* 17 of "r17@good.example". */
static uint32_t number_of(struct slice address, uint32_t most)
{
	uint32_t number = 0;

	must(num_parse_u32(slice_head(slice_skip(address, 1), slice_find(address, '@') - 1),
		most, &number));
	return number;
}

static void take_rcpt(struct bench_agent *a, const struct msg_job_rcpt *m)
{
	struct bench_job *j = a->incoming;

	assert_non_null(j);
	assert_int_equal(j->id, m->job);
	j->numbers[j->got++] = number_of(m->address, UINT32_MAX);
	if (j->got == j->rcpt_count) {
		list_append(&a->jobs, &j->link);
		a->job_count++;
		a->incoming = NULL;
	}
}

static void take_cancel(struct bench_agent *a, uint64_t id)
{
	for (struct list *l = a->jobs.next; l != &a->jobs; l = l->next) {
		struct bench_job *j = CONTAINER_OF(l, struct bench_job, link);

		j->cancelled = j->cancelled || j->id == id;
	}
}

static enum err on_agent_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct bench_agent *a = arg;
	union {
		struct msg_job job;
		struct msg_job_rcpt rcpt;
		struct msg_job_cancel cancel;
		struct msg_site site;
	} m;

	a->b->frames++;
	switch (type) {
	case MSG_ID_job:
		must(msg_job_decode(body, &m.job));
		take_job(a, &m.job);
		break;
	case MSG_ID_job_rcpt:
		must(msg_job_rcpt_decode(body, &m.rcpt));
		take_rcpt(a, &m.rcpt);
		break;
	case MSG_ID_job_cancel:
		must(msg_job_cancel_decode(body, &m.cancel));
		take_cancel(a, m.cancel.job);
		break;
	case MSG_ID_site:
		must(msg_site_decode(body, &m.site));
		a->sites_told++;
		a->last_connections = m.site.max_connections;
		a->last_tls_level = m.site.tls_level;
		break;
	case MSG_ID_site_drop:
		a->sites_dropped++;
		assert_true(a->sites_dropped <= a->sites_told);
		break;
	case MSG_ID_segment:
		assert_true(*fd >= 0);
		a->segments++;
		break;
	case MSG_ID_segment_drop:
		assert_true(a->segments > 0);
		a->segments--;
		break;
	default:
		break;
	}
	return ERR_OK;
}

struct bench_agent *bench_agent_of(struct bench *b, const struct bench_job *j)
{
	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		struct list *jobs = &b->agents[i].jobs;

		for (struct list *l = jobs->next; l != jobs; l = l->next) {
			if (CONTAINER_OF(l, struct bench_job, link) == j) {
				return &b->agents[i];
			}
		}
	}
	fail_msg("the job is at no smtp-out");
	return NULL;
}

struct bench_job *bench_job(struct bench *b)
{
	struct bench_job *best = NULL;

	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		struct list *l = list_first(&b->agents[i].jobs);
		struct bench_job *j =
			l == NULL ? NULL : CONTAINER_OF(l, struct bench_job, link);

		if (j != NULL && (best == NULL || j->id < best->id)) {
			best = j;
		}
	}
	return best;
}

uint32_t bench_jobs(const struct bench *b)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		n += b->agents[i].job_count;
	}
	return n;
}

uint64_t bench_connect(struct bench *b, const struct bench_job *j)
{
	struct bench_agent *a = bench_agent_of(b, j);
	struct msg_connection m = {.connection = ++a->next_connection,
		.site = j->site,
		.host = SLICE("mx.example"),
		.addr = SLICE("10.0.0.1"),
		.port = 25};

	must(msg_connection_send(a->channel, &m));
	return m.connection;
}

void bench_outcome(struct bench *b, struct bench_job *j, uint32_t rcpt,
	const struct bench_answer *r)
{
	struct msg_outcome m = {.job = j->id,
		.rcpt = rcpt,
		.kind = (uint8_t)r->kind,
		.stage = r->stage,
		.smtp_code = r->code,
		.flags = r->flags,
		.connection = r->connection,
		.text = SLICE("so it is")};

	assert_true(rcpt < j->rcpt_count);
	if (r->kind == VERDICT_DONE && r->stage != STAGE_CANCELLED) {
		assert_true(j->numbers[rcpt] < BENCH_LEDGER);
		b->delivered[j->numbers[rcpt]]++;
	}
	must(msg_outcome_send(bench_agent_of(b, j)->channel, &m));
}

void bench_job_done(struct bench *b, struct bench_job *j)
{
	struct bench_agent *a = bench_agent_of(b, j);
	struct msg_job_done m = {.job = j->id};

	must(msg_job_done_send(a->channel, &m));
	a->job_count--;
	job_free(j);
}

void bench_answer(struct bench *b, struct bench_job *j, const struct bench_answer *r)
{
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		bench_outcome(b, j, i, r);
	}
	bench_job_done(b, j);
}

uint32_t bench_deliver_all(struct bench *b)
{
	struct bench_job *j;
	uint32_t n = 0;

	bench_settle(b);
	while ((j = bench_job(b)) != NULL) {
		for (; j != NULL; j = bench_job(b)) {
			struct bench_answer r = bench_done;
			struct msg_connection_gone gone = {.jobs = 1};
			struct bench_agent *a = bench_agent_of(b, j);

			gone.connection = r.connection = bench_connect(b, j);
			n += j->rcpt_count;
			bench_answer(b, j, &r);
			must(msg_connection_gone_send(a->channel, &gone));
		}
		bench_settle(b);
	}
	return n;
}

/* ---- bounce ---- */

static void notice_free(struct bench_notice *n)
{
	list_remove(&n->link);
	free(n->numbers);
	free(n);
}

static enum err on_bounce_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct bench *b = arg;
	struct msg_notice m;
	struct msg_notice_rcpt r;

	b->frames++;
	if (type == MSG_ID_notice) {
		struct bench_notice *n = alloc_zero(1, sizeof(*n));

		must(msg_notice_decode(body, &m));
		assert_true(*fd >= 0 && m.rcpt_count > 0);
		n->id = m.notice;
		n->kind = m.kind;
		n->rcpt_count = m.rcpt_count;
		n->numbers = alloc_zero(m.rcpt_count, sizeof(*n->numbers));
		list_append(&b->notices, &n->link);
		b->notice_count++;
		b->notices_seen++;
	} else if (type == MSG_ID_notice_rcpt) {
		struct bench_notice *n =
			CONTAINER_OF(b->notices.prev, struct bench_notice, link);

		must(msg_notice_rcpt_decode(body, &r));
		assert_int_equal(r.notice, n->id);
		assert_true(n->got < n->rcpt_count);
		n->smtp_code = r.smtp_code;
		n->numbers[n->got++] = number_of(r.address, BENCH_LEDGER - 1);
	}
	return ERR_OK;
}

void bench_notice_done(struct bench *b, bool ok)
{
	struct list *l = list_first(&b->notices);

	assert_non_null(l);
	struct bench_notice *n = CONTAINER_OF(l, struct bench_notice, link);
	struct msg_notice_done m = {.notice = n->id, .ok = ok ? 1 : 0};

	assert_int_equal(n->got, n->rcpt_count);
	must(msg_notice_done_send(b->bounce, &m));
	for (uint32_t i = 0; i < n->got && ok && n->kind != NOTICE_RELAYED; i++) {
		b->told[n->numbers[i]]++;
	}
	notice_free(n);
	b->notice_count--;
}

void bench_all_notices_done(struct bench *b)
{
	bench_settle(b);
	while (b->notice_count > 0) {
		while (b->notice_count > 0) {
			bench_notice_done(b, true);
		}
		bench_settle(b);
	}
}

/* ---- neighbours come and go ---- */

static void on_gone(void *arg, enum err why)
{
	(void)arg;
	(void)why; /* the test sees it by what does not come any more */
}

/* A pair: one end for a new channel of ours, the other for qmgr. */
static struct channel *neighbour(struct bench *b, const struct channel_handler *handler,
	void *arg, enum role role, unsigned index)
{
	struct msg_hello hello = {.role = (uint8_t)role, .index = index};
	int pair[2];

	must(fd_socketpair(pair));
	struct channel *c = channel_new(b->loop, &pair[0], handler, arg);

	must(msg_hello_send(c, &hello));
	daemon_hooks.on_peer(&b->service, &b->q, role, index, &pair[1]);
	assert_int_equal(pair[1], -1);
	return c;
}

void bench_agent_come(struct bench *b, unsigned index)
{
	static const struct channel_handler handler = {.on_frame = on_agent_frame,
		.on_gone = on_gone};
	struct bench_agent *a = &b->agents[index];

	*a = (struct bench_agent){.b = b, .index = index};
	list_init(&a->jobs);
	a->channel = neighbour(b, &handler, a, ROLE_SMTP_OUT, index);
}

void bench_agent_gone(struct bench *b, unsigned index)
{
	struct bench_agent *a = &b->agents[index];
	struct list *l;

	channel_close(&a->channel);
	while ((l = list_first(&a->jobs)) != NULL) {
		job_free(CONTAINER_OF(l, struct bench_job, link));
	}
	if (a->incoming != NULL) {
		job_free(a->incoming);
	}
	a->incoming = NULL;
	a->job_count = 0;
}

void bench_bounce_come(struct bench *b)
{
	static const struct channel_handler handler = {.on_frame = on_bounce_frame,
		.on_gone = on_gone};

	b->bounce = neighbour(b, &handler, b, ROLE_BOUNCE, 0);
}

void bench_bounce_gone(struct bench *b)
{
	struct list *l;

	channel_close(&b->bounce);
	while ((l = list_first(&b->notices)) != NULL) {
		notice_free(CONTAINER_OF(l, struct bench_notice, link));
	}
	b->notice_count = 0;
}

void bench_resolve_come(struct bench *b)
{
	static const struct channel_handler handler = {.on_frame = on_resolve_frame,
		.on_gone = on_gone};

	b->asked_and_held = 0;
	b->resolve = neighbour(b, &handler, b, ROLE_RESOLVE, 0);
}

void bench_resolve_gone(struct bench *b)
{
	channel_close(&b->resolve);
}

void bench_cleanup_come(struct bench *b)
{
	static const struct channel_handler handler = {.on_frame = on_cleanup_frame,
		.on_gone = on_gone};
	static const struct segment_writer_events events = {.on_open = on_open,
		.on_sealed = on_sealed};
	struct msg_segment_open m;

	b->cleanup = neighbour(b, &handler, b, ROLE_CLEANUP, 0);
	if (b->writer == NULL) {
		must(segment_writer_new(b->q.queue_dir, 0, &events, b, &b->writer));
	} else if (segment_writer_current(b->writer, &m.segment, &m.end)) {
		must(msg_segment_open_send(b->cleanup, &m));
	}
}

void bench_cleanup_gone(struct bench *b)
{
	channel_close(&b->cleanup);
	segment_writer_free(&b->writer);
}

/* ---- time ---- */

static void ring(struct loop_timer *t)
{
	loop_timer_stop(t);
	t->on_time(t->arg);
}

/* Timers of the loop follow the real clock: these are rung by the held one. */
static bool ring_what_is_due(struct bench *b)
{
	int64_t now = clock_mono_ms();

	if (b->q.due.armed && b->q.due_at_ms <= now) {
		ring(&b->q.due);
		return true;
	}
	for (struct hash_link *l = hash_table_next(&b->q.sites, NULL); l != NULL;
		l = hash_table_next(&b->q.sites, l)) {
		struct site *s = CONTAINER_OF(l, struct site, by_key);

		if (s->send_timer != NULL && s->send_timer->armed && s->next_send_ms <= now) {
			ring(s->send_timer);
			return true;
		}
	}
	return false;
}

void bench_settle(struct bench *b)
{
	for (int quiet = 0; quiet < QUIET_TURNS; quiet++) {
		uint64_t before = b->frames;

		loop_turn(b->loop, false);
		if (b->frames != before || (b->runs && ring_what_is_due(b))) {
			quiet = -1;
		}
	}
}

static void tick(struct bench *b)
{
	ring(&b->q.tick);
	loop_timer_stop(&b->q.tick);
	bench_settle(b);
}

void bench_advance(struct bench *b, int64_t seconds)
{
	clock_advance_ms(seconds * 1000);
	loop_turn(b->loop, false);
	tick(b);
}

void bench_step_clock(struct bench *b, int64_t seconds)
{
	clock_hold(clock_wall_us() + seconds * 1000000, clock_mono_us());
	loop_turn(b->loop, false);
	tick(b);
}

/* ---- operators ---- */

struct asker {
	struct bench *b;
	bool answered;
	int exit_code;
};

static enum err on_answer(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct asker *a = arg;
	struct msg_ctl_done m;

	(void)fd;
	a->b->frames++;
	if (type == MSG_ID_ctl_done) {
		must(msg_ctl_done_decode(body, &m));
		a->answered = true;
		a->exit_code = m.exit_code;
	}
	return ERR_OK;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	must(str_format(addr.sun_path, sizeof(addr.sun_path), "%s/qmgr.sock", path));
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void listen_for_orders(struct bench *b)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct msg_listen m = {.name = SLICE("ctl")};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	must(str_format(addr.sun_path, sizeof(addr.sun_path), "%s/qmgr.sock", b->dir.path));
	(void)unlink(addr.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 5), 0);
	daemon_hooks.on_listen(&b->service, &b->q, &m, &fd);
	assert_int_equal(fd, -1);
}

int bench_order(struct bench *b, uint8_t verb, const char *operand)
{
	static const struct channel_handler handler = {.on_frame = on_answer,
		.on_gone = on_gone};
	struct asker a = {.b = b};
	struct msg_hello hello = {.role = ROLE_CTL};
	struct msg_ctl_ask ask = {.verb = verb, .operand = slice_from_cstr(operand)};
	int fd = connect_to(b->dir.path);
	struct channel *c = channel_new(b->loop, &fd, &handler, &a);

	must(msg_hello_send(c, &hello));
	must(msg_ctl_ask_send(c, &ask));
	for (int i = 0; i < 100000 && !a.answered; i++) {
		loop_turn(b->loop, false);
	}
	assert_true(a.answered);
	channel_close(&c);
	bench_settle(b);
	return a.exit_code;
}

/* ---- life ---- */

static struct conf *conf_of(struct bench *b, const char *settings)
{
	struct conf_builder *builder = conf_builder_new();
	struct slice rest = slice_from_cstr(settings);
	struct conf *c = NULL;
	struct slice line;
	struct buf why;

	buf_init(&why, 4096);
	must(conf_builder_set(builder, SLICE("queue_directory"), slice_from_cstr(b->dir.path),
		&why));
	while (slice_cut(&rest, '\n', &line)) {
		size_t at = slice_find(line, '=');

		must(conf_builder_set(builder, slice_head(line, at), slice_skip(line, at + 1),
			&why));
	}
	must(conf_builder_end(&builder, &why, &c));
	conf_builder_free(&builder);
	buf_clear(&why);
	return c;
}

static void start(struct bench *b, const char *settings)
{
	struct buf why;

	buf_init(&why, 4096);
	b->conf = conf_of(b, settings);
	memset(&b->q, 0, sizeof(b->q));
	must(daemon_hooks.on_open(&b->service, &b->q, b->conf));
	must(daemon_hooks.on_conf(&b->service, &b->q, b->conf, &why));
	b->service.conf = b->conf;
	daemon_hooks.on_apply(&b->service, &b->q);
	must(daemon_hooks.on_start(&b->service, &b->q));
	loop_timer_stop(&b->q.tick);
	buf_clear(&why);
	b->runs = true;
	listen_for_orders(b);
	bench_cleanup_come(b);
	bench_resolve_come(b);
	bench_bounce_come(b);
	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		bench_agent_come(b, i);
	}
	bench_settle(b);
}

static void stop(struct bench *b, bool is_killed)
{
	b->runs = false;
	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		bench_agent_gone(b, i);
	}
	bench_bounce_gone(b);
	bench_resolve_gone(b);
	if (is_killed) {
		/* cleanup lives on, and tells the next one. */
		channel_close(&b->cleanup);
	} else {
		bench_cleanup_gone(b);
	}
	daemon_hooks.on_close(&b->service, &b->q);
	for (int i = 0; i < QUIET_TURNS; i++) {
		loop_turn(b->loop, false);
	}
	b->service.conf = NULL;
	conf_free(&b->conf);
}

void bench_open(struct bench *b, const char *settings)
{
	static const char *const names[] = {"queue", "corrupt", "journal"};

	memset(b, 0, sizeof(*b));
	running = b;
	clock_hold(START_WALL_US, START_MONO_US);
	scratch_make(&b->dir);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(mkdirat(b->dir.dir, names[i], 0700), 0);
	}
	b->ttl_s = 3600;
	list_init(&b->notices);
	must(loop_new(&b->loop));
	b->service.loop = b->loop;
	start(b, settings);
}

void bench_close(struct bench *b)
{
	stop(b, false);
	loop_free(&b->loop);
	scratch_remove(&b->dir);
	clock_release();
	running = NULL;
}

void bench_restart(struct bench *b, const char *settings)
{
	stop(b, true);
	start(b, settings);
}

void bench_reload(struct bench *b, const char *settings)
{
	struct conf *old = b->conf;
	struct buf why;

	buf_init(&why, 4096);
	b->conf = conf_of(b, settings);
	must(daemon_hooks.on_conf(&b->service, &b->q, b->conf, &why));
	b->service.conf = b->conf;
	daemon_hooks.on_apply(&b->service, &b->q);
	conf_free(&old);
	buf_clear(&why);
	bench_settle(b);
}

struct slot bench_slot(struct bench *b, uint32_t number)
{
	struct store_segment *seg = store_find(b->q.store, b->last_segment);

	/* Gone is what became final. */
	if (seg == NULL) {
		return (struct slot){.state = SLOT_MOVED};
	}
	return store_slot(seg, b->last_record.first_slot + number -
				       (b->next_number - b->last_record.rcpt_count));
}
