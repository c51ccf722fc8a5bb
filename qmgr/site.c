/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/site.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "qmgr/retry.h"
#include "qmgr/scheduler.h"

#define SITE_KEEP_MS (15 * 60 * 1000)
/* So many are kept for as long; of more, those that nothing uses go at once. */
#define SITES_KEPT 10000u
/* Share of everything that sites may take which are not proven: dead ones never take all. */
#define UNPROVEN_SHARE 2u
/* A site may hold so much of the memory in any case. */
#define LEAST_SHARE 64u
/* A failed round says little while other connections to the site still deliver. */
#define RECENT_SUCCESS_MS 10000
#define KEY_MAX 1000u

void site_init_tables(struct qmgr *q)
{
	hash_table_init(&q->sites);
	hash_id_table_init(&q->sites_by_id);
	list_init(&q->ready_sites);
	list_init(&q->capped_sites);
}

static void site_free(struct qmgr *q, struct site *s)
{
	hash_table_remove(&q->sites, &s->by_key);
	hash_id_table_remove(&q->sites_by_id, &s->by_id);
	list_remove(&s->ready);
	if (s->send_timer != NULL) {
		loop_timer_stop(s->send_timer);
		free(s->send_timer);
	}
	free(s->parked);
	free(s->addrs);
	free(s->key);
	free(s);
}

void site_clear_tables(struct qmgr *q)
{
	struct hash_link *l;

	while ((l = hash_table_next(&q->sites, NULL)) != NULL) {
		site_free(q, CONTAINER_OF(l, struct site, by_key));
	}
	hash_table_clear(&q->sites);
	hash_id_table_clear(&q->sites_by_id);
}

struct site *site_find_id(struct qmgr *q, uint64_t id)
{
	struct hash_id_link *l = hash_id_table_find(&q->sites_by_id, id);

	return l == NULL ? NULL : CONTAINER_OF(l, struct site, by_id);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "mx1.example.net mx2.example.net", each name once, in order; ":port" when it is not 25. */
static void make_key(const struct site_addr *addrs, uint32_t count, char key[KEY_MAX])
{
	const char *names[LIMIT_ROUTE_ADDRS];
	char texts[LIMIT_ROUTE_ADDRS][LIMIT_HOSTNAME + 8];
	uint32_t n = 0;
	struct buf b;

	for (uint32_t i = 0; i < count && i < LIMIT_ROUTE_ADDRS; i++) {
		enum err e =
			addrs[i].port == 25
				? str_format(texts[n], sizeof(texts[n]), "%s", addrs[i].host)
				: str_format(texts[n], sizeof(texts[n]), "%s:%u", addrs[i].host,
					  (unsigned)addrs[i].port);
		if (e == ERR_OK) {
			names[n] = texts[n];
			n++;
		}
	}
	qsort(names, n, sizeof(names[0]), compare_names);
	buf_init(&b, KEY_MAX - 32);
	uint64_t all = 0;
	bool cut = false;
	for (uint32_t i = 0; i < n; i++) {
		if (i > 0 && strcmp(names[i], names[i - 1]) == 0) {
			continue;
		}
		all = all * 31 + hash_stable_nocase(slice_from_cstr(names[i]));
		cut = cut ||
		      buf_printf(&b, "%s%s", buf_len(&b) == 0 ? "" : " ", names[i]) != ERR_OK;
	}
	/* A set too large to be spelled out is told apart by its hash. */
	if (str_format(key, KEY_MAX, cut ? "%.*s+%016llx" : "%.*s", SLICE_ARG(buf_view(&b)),
		    (unsigned long long)all) != ERR_OK) {
		key[0] = '\0';
	}
	buf_clear(&b);
}

static bool same_addrs(const struct site *s, const struct site_addr *addrs, uint32_t count)
{
	if (s->addr_count != count) {
		return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct site_addr *a = &s->addrs[i];
		const struct site_addr *b = &addrs[i];

		if (a->preference != b->preference || a->port != b->port ||
			a->family != b->family || a->dnssec != b->dnssec ||
			memcmp(a->addr, b->addr, sizeof(a->addr)) != 0 ||
			strcmp(a->host, b->host) != 0) {
			return false;
		}
	}
	return true;
}

struct site *site_of(struct qmgr *q, const struct site_addr *addrs, uint32_t count)
{
	char key[KEY_MAX];

	make_key(addrs, count, key);
	struct hash_link *l = hash_table_find(&q->sites, slice_from_cstr(key));
	struct site *s = l == NULL ? NULL : CONTAINER_OF(l, struct site, by_key);

	if (s == NULL) {
		s = alloc_zero(1, sizeof(*s));
		s->key = alloc_cstr(key);
		s->id = qmgr_next_id(q);
		s->q = q;
		s->window = q->policy->initial_concurrency;
		list_init(&s->ready);
		list_init(&s->backlog);
		hash_table_insert(&q->sites, &s->by_key, slice_from_cstr(s->key));
		hash_id_table_insert(&q->sites_by_id, &s->by_id, s->id);
	}
	if (!same_addrs(s, addrs, count)) {
		free(s->addrs);
		s->addrs = alloc_zero(count, sizeof(*addrs));
		memcpy(s->addrs, addrs, count * sizeof(*addrs));
		s->addr_count = count;
		s->epoch++;
	}
	s->idle_since_ms = loop_now_ms(q->loop);
	return s;
}

uint32_t site_job_limit(const struct qmgr *q, const struct site *s)
{
	uint32_t window = s->window;

	if (window > q->policy->concurrency) {
		window = q->policy->concurrency;
	}
	if (q->policy->rate_delay_ms > 0 || s->state == SITE_DOWN) {
		return 1;
	}
	/* A site that has never answered shows first that it does, with a few connections. */
	if (!s->proven) {
		return window < 2 ? window : 2;
	}
	/* One job on each connection and one behind it, so that none waits for us. */
	return window * 2;
}

bool site_may_try(const struct qmgr *q, const struct site *s)
{
	uint32_t jobs = q->policy->connections_total / UNPROVEN_SHARE;

	/* What has been tried in vain leaves room for what has not been tried. */
	jobs = s->failures > 0 ? jobs / 2 : jobs;
	return s->proven || q->unproven_in_flight < (jobs > 0 ? jobs : 1);
}

/*
 * Half of what is free (a quarter, of the part that is for sites which are not proven): however
 * many sites want all they can get, something stays free for the next one.
 */
bool site_may_hold(const struct qmgr *q, const struct site *s, uint32_t count)
{
	uint32_t limit = q->policy->active_limit;

	if (!s->proven) {
		uint32_t most = limit / UNPROVEN_SHARE;
		uint32_t left = most > q->unproven_held ? most - q->unproven_held : 0;

		return left > 0 && (s->held == 0 || s->held + count <= left / 4);
	}
	uint32_t left = limit > q->active ? limit - q->active : 0;
	uint32_t least = limit / LEAST_SHARE;

	return s->held == 0 || s->held + count <= (left / 2 > least ? left / 2 : least);
}

static void set_proven(struct qmgr *q, struct site *s, bool proven)
{
	if (s->proven == proven) {
		return;
	}
	s->proven = proven;
	if (proven) {
		q->unproven_in_flight -= s->in_flight;
		q->unproven_held -= s->held;
	} else {
		q->unproven_in_flight += s->in_flight;
		q->unproven_held += s->held;
	}
}

void site_on_connection(struct qmgr *q, struct site *s)
{
	if (!s->proven) {
		set_proven(q, s, true);
		scheduler_wake_capped(q);
	}
	s->failures = 0;
	if (s->state == SITE_DOWN) {
		s->state = SITE_READY;
		s->window = q->policy->initial_concurrency;
		log_info("event=site_up site=\"%s\"", s->key);
	}
	scheduler_rouse(q, s);
}

void site_on_success(struct qmgr *q, struct site *s)
{
	s->last_success_ms = loop_now_ms(q->loop);
	if (s->window < q->policy->concurrency) {
		s->window++;
	}
}

void site_on_down(struct qmgr *q, struct site *s, struct slice why)
{
	int64_t now = loop_now_ms(q->loop);

	str_printable(s->last_error, sizeof(s->last_error), why);
	if (s->last_success_ms > 0 && now - s->last_success_ms < RECENT_SUCCESS_MS) {
		s->window = s->window > 1 ? s->window / 2 : 1;
		return;
	}
	if (s->state == SITE_DOWN && now < s->probe_at_ms) {
		return; /* the other jobs of the round that failed */
	}
	s->failures++;
	s->window = q->policy->initial_concurrency;
	uint32_t wait = retry_wait_s(s->failures, q->policy->least_backoff_s,
		q->policy->most_backoff_s, hash_bytes(slice_from_cstr(s->key)) + s->failures);
	s->probe_at_ms = now + (int64_t)wait * 1000;
	if (s->state == SITE_READY) {
		log_info("event=site_down site=\"%s\" wait_s=%u why=\"%s\"", s->key, wait,
			s->last_error);
	}
	s->state = SITE_DOWN;
	set_proven(q, s, false); /* its probes are tries like those of any dead site */
	scheduler_disperse(q, s);
}

int64_t site_probe_wall_s(const struct site *s)
{
	int64_t left_ms = s->probe_at_ms - clock_mono_ms();

	return clock_wall_s() + (left_ms < 0 ? 0 : (left_ms + 999) / 1000);
}

/* The agents forget it too. */
static void drop(struct qmgr *q, struct site *s)
{
	for (unsigned i = 0; i < q->agent_count; i++) {
		struct agent *a = q->agents[i];
		struct hash_id_link *known =
			a == NULL ? NULL : hash_id_table_find(&a->sites, s->id);

		if (known == NULL) {
			continue;
		}
		struct agent_site *here = CONTAINER_OF(known, struct agent_site, by_id);
		struct msg_site_drop m = {.site = s->id};

		/* It was told of the site with its first job there. */
		if (here->epoch != 0 && msg_site_drop_send(a->channel, &m) != ERR_OK) {
			log_error("event=site_drop_failed");
		}
		hash_id_table_remove(&a->sites, known);
		free(here);
	}
	site_free(q, s);
}

void site_expire(struct qmgr *q)
{
	int64_t now = loop_now_ms(q->loop);
	int64_t keep_ms = q->sites.count > SITES_KEPT ? 0 : SITE_KEEP_MS;
	struct hash_link *l = hash_table_next(&q->sites, NULL);

	while (l != NULL) {
		struct site *s = CONTAINER_OF(l, struct site, by_key);

		l = hash_table_next(&q->sites, l);
		if (s->destinations > 0 || s->held > 0 || s->parked_count > 0) {
			s->idle_since_ms = now;
		} else if (now - s->idle_since_ms > keep_ms &&
			   (s->state == SITE_READY || now > s->probe_at_ms)) {
			drop(q, s);
		}
	}
}
