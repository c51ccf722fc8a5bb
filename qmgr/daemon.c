/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/daemon.h"

#include <errno.h>
#include <fcntl.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "qmgr/agent.h"
#include "qmgr/compact.h"
#include "qmgr/due.h"
#include "qmgr/intake.h"
#include "qmgr/notice.h"
#include "qmgr/orders.h"
#include "qmgr/qmgr.h"
#include "qmgr/router.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

#define TICK_MS 1000
#define SWEEP_EVERY_MS 5000

static enum err open_dir(const struct conf *c, const char *name, int *fd)
{
	char path[4096];
	enum err e = str_format(path, sizeof(path), "%s/%s", conf_cstr(c, CONF_queue_directory),
		name);

	if (e != ERR_OK) {
		return e;
	}
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0) {
		log_error("event=open_failed path=%s err=\"%s\"", path, strerror(errno));
		return ERR_SYS;
	}
	return ERR_OK;
}

static enum err on_open(struct service *s, void *arg, const struct conf *c)
{
	struct qmgr *q = arg;
	enum err e;

	q->service = s;
	q->loop = s->loop;
	q->queue_dir = q->corrupt_dir = q->journal_dir = -1;
	e = open_dir(c, "queue", &q->queue_dir);
	if (e == ERR_OK) {
		e = open_dir(c, "corrupt", &q->corrupt_dir);
	}
	if (e == ERR_OK) {
		e = open_dir(c, "journal", &q->journal_dir);
	}
	return e;
}

static enum err on_conf(struct service *s, void *arg, const struct conf *c, struct buf *why)
{
	struct qmgr *q = arg;

	(void)s;
	policy_free(&q->pending_policy);
	return policy_new(c, why, &q->pending_policy);
}

static void on_apply(struct service *s, void *arg)
{
	struct qmgr *q = arg;

	(void)s;
	policy_free(&q->policy);
	q->policy = q->pending_policy;
	q->pending_policy = NULL;
	if (q->store != NULL) {
		/* Limits and TLS levels travel with the next job of each site. */
		for (struct hash_link *l = hash_table_next(&q->sites, NULL); l != NULL;
			l = hash_table_next(&q->sites, l)) {
			CONTAINER_OF(l, struct site, by_key)->epoch++;
		}
		scheduler_rouse_all(q);
	}
}

static void on_forget(struct service *s, void *arg)
{
	(void)s;
	policy_free(&((struct qmgr *)arg)->pending_policy);
}

static void on_record(void *arg, struct store_segment *seg, const struct record_ref *r)
{
	due_found(arg, seg, r);
}

static void on_remove(void *arg, struct store_segment *seg)
{
	agent_drop_segment(arg, seg);
}

static void on_sick(void *arg, bool sick)
{
	struct qmgr *q = arg;

	q->sick = sick;
	if (!sick) {
		due_arm(q);
		scheduler_rouse_all(q);
	}
}

static void sweep(struct qmgr *q)
{
	uint64_t found = store_sweep(q->store);

	if (found > 0) {
		compact_reconcile(q);
		log_info("event=found messages=%llu", (unsigned long long)found);
	}
	q->next_sweep_ms = clock_mono_ms() + SWEEP_EVERY_MS;
}

static void on_tick(void *arg)
{
	struct qmgr *q = arg;

	due_watch_clock(q);
	if (clock_mono_ms() >= q->next_sweep_ms) {
		sweep(q);
	}
	intake_rotate_finished(q);
	compact_tick(q);
	notice_tick(q);
	router_expire(q);
	site_expire(q);
	scheduler_tick(q);
	loop_timer_start(&q->tick, TICK_MS);
}

static enum err on_start(struct service *s, void *arg)
{
	static const struct store_events events = {.on_record = on_record,
		.on_remove = on_remove,
		.on_sick = on_sick};
	struct qmgr *q = arg;
	int64_t began = clock_mono_ms();

	/* Flushes run in this order at the end of a turn: the journal before the slots, jobs
	 * last. */
	enum err e = journal_writer_new(q->loop, q->journal_dir, "qmgr", 0,
		conf_count(s->conf, CONF_journal_keep_bytes),
		conf_time_s(s->conf, CONF_journal_keep_time), &q->journal);
	if (e == ERR_OK) {
		e = store_new(q->loop, q->queue_dir, q->corrupt_dir, q->journal, &events, q,
			&q->store);
	}
	if (e != ERR_OK) {
		log_error("event=start_failed err=\"%s\"", err_str(e));
		return e;
	}
	site_init_tables(q);
	router_init(q);
	notice_init(q);
	scheduler_init(q);
	loop_timer_init(&q->tick, q->loop, on_tick, q);
	sweep(q);
	e = compact_new(q);
	if (e != ERR_OK) {
		log_error("event=start_failed err=\"%s\"", err_str(e));
		return e;
	}
	log_info("event=queue_read recipients=%llu segments=%u ms=%lld",
		(unsigned long long)store_live(q->store), store_segment_count(q->store),
		(long long)(clock_mono_ms() - began));
	loop_timer_start(&q->tick, TICK_MS);
	return ERR_OK;
}

static void on_listen(struct service *s, void *arg, const struct msg_listen *l, int *fd)
{
	(void)s;
	if (slice_eq(l->name, SLICE("ctl"))) {
		orders_listen(arg, fd);
	}
}

static void on_peer(struct service *s, void *arg, enum role role, unsigned index, int *fd)
{
	struct qmgr *q = arg;

	(void)s;
	if (role == ROLE_CLEANUP) {
		intake_peer(q, index, fd);
	} else if (role == ROLE_SMTP_OUT) {
		agent_peer(q, index, fd);
	} else if (role == ROLE_RESOLVE) {
		router_peer(q, fd);
	} else if (role == ROLE_BOUNCE) {
		notice_peer(q, fd);
	}
}

static void on_drain(struct service *s, void *arg, int64_t within_ms)
{
	struct qmgr *q = arg;

	(void)within_ms;
	q->draining = true;
	if (q->in_flight == 0) {
		service_end(s);
	}
}

static void on_status(struct service *s, void *arg, struct json *to)
{
	struct qmgr *q = arg;

	(void)s;
	if (q->store == NULL) {
		return;
	}
	json_member_u64(to, "queued", store_live(q->store));
	json_member_u64(to, "active", q->active);
	json_member_u64(to, "waiting", q->waiting.count);
	json_member_u64(to, "in_flight", q->in_flight);
	json_member_u64(to, "notices", q->notices_out);
	json_member_u64(to, "sites", q->sites.count);
	json_member_u64(to, "segments", store_segment_count(q->store));
	json_member_u64(to, "delivered", q->count_delivered);
	json_member_u64(to, "deferred", q->count_deferred);
	json_member_u64(to, "failed", q->count_failed);
	json_member_u64(to, "expired", q->count_expired);
	json_member_bool(to, "sick", q->sick);
}

static void on_close(struct service *s, void *arg)
{
	struct qmgr *q = arg;

	(void)s;
	if (q->store == NULL) {
		return;
	}
	loop_timer_stop(&q->tick);
	q->draining = true; /* nothing goes out any more while the agents' jobs come back */
	orders_close(q);
	compact_free(q);
	intake_close_all(q);
	agent_close_all(q);
	notice_close(q);
	scheduler_close(q);
	router_close(q);
	site_clear_tables(q);
	store_free(&q->store);
	journal_writer_free(&q->journal);
	policy_free(&q->policy);
	policy_free(&q->pending_policy);
	fd_close(&q->queue_dir);
	fd_close(&q->corrupt_dir);
	fd_close(&q->journal_dir);
}

static const struct jail_rules rules = {.may = JAIL_FILES | JAIL_ACCEPT};

const struct service_hooks daemon_hooks = {
	.program = "qmgr",
	.role = ROLE_QMGR,
	.jail = &rules,
	.on_open = on_open,
	.on_conf = on_conf,
	.on_apply = on_apply,
	.on_forget = on_forget,
	.on_start = on_start,
	.on_listen = on_listen,
	.on_peer = on_peer,
	.on_drain = on_drain,
	.on_status = on_status,
	.on_close = on_close,
};
