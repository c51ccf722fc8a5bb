/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/site.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/guard.h"

#define BAD_MS 60000
#define IN_CLEAR_MS 600000
#define ALIVE_MS 60000
#define HOLD_MS 5000
#define QUICK_MS 50
/* So long a job waits for a connection that is at work with a quick server: behind another's
 * content it costs one turn of the dialogue instead of three, and the server one session less.
 */
#define PATIENCE_MS 8
/* And so many a connection, before another takes some. */
#define DEPTH 4u
#define BACKS_BEHIND 2u /* a job that came back so often follows no other's content */

static int64_t now_ms(const struct site *s)
{
	return loop_now_ms(s->office->loop);
}

static uint32_t most_connections(const struct site *s)
{
	return s->max_connections > 0 ? s->max_connections : 1;
}

struct site *site_of_restless(struct list *entry)
{
	return CONTAINER_OF(entry, struct site, restless);
}

static void rouse(struct site *s)
{
	if (list_is_empty(&s->restless)) {
		list_append(&s->office->restless, &s->restless);
	}
	loop_flush_mark(&s->office->flush);
}

void site_wake(struct list *patient)
{
	struct site *s = CONTAINER_OF(patient, struct site, patient);

	list_remove(&s->patient);
	rouse(s);
}

struct site *site_new(struct office *o, uint64_t id)
{
	struct site *s = alloc_zero(1, sizeof(*s));

	s->office = o;
	s->id = id;
	list_init(&s->restless);
	list_init(&s->patient);
	list_init(&s->starved);
	list_init(&s->jobs);
	list_init(&s->connections);
	list_init(&s->idle);
	return s;
}

void site_free(struct site **s)
{
	struct site *it = *s;
	struct list *entry;

	if (it == NULL) {
		return;
	}
	*s = NULL;
	while ((entry = list_first(&it->connections)) != NULL) {
		connection_drop(CONTAINER_OF(entry, struct connection, slot));
	}
	list_remove(&it->restless);
	list_remove(&it->patient);
	list_remove(&it->starved);
	free(it->servers);
	free(it);
}

/* ---- servers ---- */

static struct site_server *server_find(const struct site *s, const struct endpoint *to)
{
	for (uint32_t i = 0; i < s->server_count; i++) {
		if (endpoint_eq(&s->servers[i].to, to)) {
			return &s->servers[i];
		}
	}
	return NULL;
}

static bool leads_elsewhere(const struct site *s, const struct connection *c)
{
	const struct site_server *server = server_find(s, &c->target.to);

	return server == NULL || server->level != c->target.level;
}

void site_update(struct site *s, uint32_t max_connections, struct site_server **servers,
	uint32_t count)
{
	struct site_server *list = *servers;
	struct list *entry;
	struct list *next;

	*servers = NULL;
	for (uint32_t i = 0; i < count; i++) {
		const struct site_server *old = server_find(s, &list[i].to);
		if (old != NULL) {
			list[i].bad_until_ms = old->bad_until_ms;
			list[i].in_clear_until_ms = old->in_clear_until_ms;
		}
	}
	free(s->servers);
	s->servers = list;
	s->server_count = count;
	s->max_connections = max_connections;
	s->changes++;
	/* Idle connections to what is no longer asked for, or too many, end. */
	for (entry = s->idle.next; entry != &s->idle; entry = next) {
		struct connection *c = CONTAINER_OF(entry, struct connection, idle_here);
		next = entry->next;
		if (s->open > most_connections(s) || leads_elsewhere(s, c)) {
			connection_quit(c);
		}
	}
	rouse(s);
}

/* One of the relay's own listeners: mail that is sent there comes back for ever. */
static bool is_own_door(const struct settings *set, const struct endpoint *to)
{
	char text[ENDPOINT_TEXT_MAX];
	struct slice rest = set->own_doors;
	struct slice line;

	if (rest.n == 0) {
		return false;
	}
	endpoint_format(to, text);
	while (slice_cut(&rest, '\n', &line)) {
		if (slice_eq(line, slice_from_cstr(text))) {
			return true;
		}
	}
	return false;
}

static bool is_forbidden(const struct settings *set, struct endpoint to)
{
	if (guard_forbids(set->forbidden, &to)) {
		return true;
	}
	endpoint_unmap(&to);
	return is_own_door(set, &to);
}

static bool is_spoken(const struct settings *set, const struct endpoint *to)
{
	return to->family == 4 ? set->use_ipv4 : to->family == 6 && set->use_ipv6;
}

/* The best of those left: not bad lately, then by preference, then by chance. */
enum site_pick site_pick(struct site *s, struct connection *c)
{
	const struct settings *set = s->office->settings;
	int64_t now = now_ms(s);
	uint32_t best = 0;
	uint32_t equals = 0;
	uint32_t forbidden = 0;

	if (c->changes != s->changes) {
		c->changes = s->changes;
		c->tried = 0;
	}
	for (uint32_t i = 0; i < s->server_count; i++) {
		const struct site_server *a = &s->servers[i];
		const struct site_server *b = &s->servers[best];
		bool bad = a->bad_until_ms > now;
		bool best_bad = b->bad_until_ms > now;

		if (is_forbidden(set, a->to)) {
			forbidden++;
			continue;
		}
		if ((c->tried >> i & 1) != 0 || !is_spoken(set, &a->to)) {
			continue;
		}
		if (equals == 0 || (bad ? best_bad && a->preference < b->preference
					: best_bad || a->preference < b->preference)) {
			best = i;
			equals = 1;
		} else if (bad == best_bad && a->preference == b->preference) {
			equals++;
			if (office_random(s->office, equals) == 0) {
				best = i;
			}
		}
	}
	if (equals == 0) {
		return forbidden > 0 && forbidden == s->server_count ? SITE_FORBIDDEN
								     : SITE_EXHAUSTED;
	}
	c->tried |= UINT64_C(1) << best;
	c->target.to = s->servers[best].to;
	memcpy(c->target.host, s->servers[best].host, sizeof(c->target.host));
	c->target.level = s->servers[best].level;
	c->target.in_clear = s->servers[best].in_clear_until_ms > now;
	return SITE_PICKED;
}

void site_server_failed(struct site *s, const struct target *t, bool in_clear)
{
	struct site_server *server = server_find(s, &t->to);

	if (server == NULL) {
		return;
	}
	if (in_clear) {
		server->in_clear_until_ms = now_ms(s) + IN_CLEAR_MS;
	} else {
		server->bad_until_ms = now_ms(s) + BAD_MS;
	}
}

/* ---- jobs ---- */

void site_add_job(struct site *s, struct job *j)
{
	j->arrived_ms = now_ms(s);
	list_append(&s->jobs, &j->slot);
	s->waiting++;
	rouse(s);
}

void site_remove_job(struct site *s, struct job *j)
{
	list_remove(&j->slot);
	s->waiting--;
}

/*
 * Whether the job may wait behind the content of another: not what a connection that is being
 * made can have soon, or an idle one at once (unless the server is so quick that the saved turn
 * is worth more); nor what has been there in vain.
 */
static bool may_follow(const struct site *s, const struct job *j)
{
	return s->waiting > s->open - s->up && j->backs < BACKS_BEHIND &&
	       (list_is_empty(&s->idle) || s->pace_ms <= QUICK_MS);
}

struct job *site_next_job(struct site *s, bool behind)
{
	struct list *entry = list_first(&s->jobs);
	struct job *j;

	if (entry == NULL || s->open > most_connections(s)) {
		return NULL;
	}
	j = CONTAINER_OF(entry, struct job, slot);
	if (behind && !may_follow(s, j)) {
		return NULL;
	}
	list_remove(entry);
	s->waiting--;
	s->running++;
	return j;
}

bool site_job_back(struct site *s, struct job *j, bool was_refused)
{
	uint32_t most = s->office->settings->address_limit;

	most = s->server_count < most ? s->server_count : most;
	if (was_refused && ++j->tries >= most) {
		return false;
	}
	job_restart(j);
	s->running--;
	if (s->office->draining) {
		s->office->reports->on_unbegun(s->office->arg, j);
		return true;
	}
	list_prepend(&s->jobs, &j->slot);
	s->waiting++;
	rouse(s);
	return true;
}

void site_job_done(struct site *s, struct job *j, const struct connection *c)
{
	s->running--;
	s->pace_ms += (now_ms(s) - j->began_ms - s->pace_ms) / 8;
	s->office->reports->on_job(s->office->arg, j, c, "", "");
}

/* ---- connections ---- */

static bool may_open(const struct site *s)
{
	uint32_t being_made = s->open - s->up;
	int64_t now = now_ms(s);

	if (s->waiting <= being_made || s->open >= most_connections(s)) {
		return false;
	}
	if (s->up > 0) {
		/* With a quick server as many again at a time: the wait tells whether they
		 * help. */
		return now >= s->hold_until_ms && (s->pace_ms > QUICK_MS || being_made < s->up);
	}
	/* One scout at a time to a site of which nothing good is known. */
	return being_made == 0 || now < s->alive_until_ms;
}

/* Makes room under the limit of all connections; false: wait for somebody to go. */
static bool find_room(struct site *s)
{
	struct office *o = s->office;
	struct list *entry = list_first(&o->idle);

	if (o->open < o->settings->total_limit) {
		return true;
	}
	if (entry != NULL) {
		connection_quit(CONTAINER_OF(entry, struct connection, idle_slot));
	}
	if (o->open < o->settings->total_limit) {
		return true;
	}
	if (list_is_empty(&s->starved)) {
		list_append(&o->starved, &s->starved);
	}
	return false;
}

/* Whether the first job is better left to a connection that is at work. */
static bool may_wait(const struct site *s)
{
	struct list *entry = list_first(&s->jobs);

	return entry != NULL && s->running * DEPTH >= s->waiting && s->running > 0 &&
	       s->pace_ms <= QUICK_MS &&
	       now_ms(s) - CONTAINER_OF(entry, struct job, slot)->arrived_ms < PATIENCE_MS;
}

static void wait_patiently(struct site *s)
{
	struct office *o = s->office;

	if (list_is_empty(&s->patient)) {
		list_append(&o->patient, &s->patient);
	}
	if (!o->patience.armed) {
		loop_timer_start(&o->patience, PATIENCE_MS);
	}
}

void site_look_for_work(struct site *s)
{
	struct list *entry;

	while (s->waiting > 0 && (entry = list_first(&s->idle)) != NULL && !may_wait(s)) {
		connection_work(CONTAINER_OF(entry, struct connection, idle_here));
		if (list_first(&s->idle) == entry) {
			break;
		}
	}
	if (may_wait(s)) {
		wait_patiently(s);
		return;
	}
	while (!s->office->draining && may_open(s) && find_room(s)) {
		connection_new(s->office, s);
	}
}

void site_quiet(struct site *s)
{
	struct list *entry;
	struct list *next;

	for (entry = s->idle.next; entry != &s->idle; entry = next) {
		next = entry->next;
		connection_quit(CONTAINER_OF(entry, struct connection, idle_here));
	}
}

void site_connection_up(struct site *s)
{
	s->up++;
	s->alive_until_ms = now_ms(s) + ALIVE_MS;
	rouse(s); /* the scout is back: now for the others */
}

void site_connection_idle(struct site *s, struct connection *c)
{
	c->is_idle = true;
	list_append(&s->office->idle, &c->idle_slot);
	list_prepend(&s->idle, &c->idle_here);
	if (s->open > most_connections(s) || s->office->draining || leads_elsewhere(s, c)) {
		connection_quit(c);
	}
}

void site_connection_busy(struct connection *c)
{
	c->is_idle = false;
	list_remove(&c->idle_slot);
	list_remove(&c->idle_here);
}

/* Takes c out of all counts. */
static void uncount(struct site *s, struct connection *c)
{
	struct office *o = s->office;
	struct list *entry;

	list_remove(&c->slot);
	s->open--;
	o->open--;
	if (c->is_up) {
		s->up--;
		s->alive_until_ms = now_ms(s) + ALIVE_MS;
	}
	entry = list_first(&o->starved);
	if (entry != NULL) {
		list_remove(entry);
		rouse(CONTAINER_OF(entry, struct site, starved));
	}
}

void site_connection_gone(struct site *s, struct connection *c)
{
	uncount(s, c);
	if (s->waiting > 0) {
		rouse(s);
	}
}

static void fail_waiting(struct site *s, const struct grievance *g)
{
	struct outcome o = g->outcome;
	struct list *entry;

	if (o.stage != STAGE_LOCAL) {
		o.flags |= OUTCOME_SITE_DOWN;
	}
	while ((entry = list_first(&s->jobs)) != NULL) {
		struct job *j = CONTAINER_OF(entry, struct job, slot);
		site_remove_job(s, j);
		job_settle_rest(j, &o);
		s->office->reports->on_job(s->office->arg, j, NULL, g->host, g->addr);
	}
}

void site_round_failed(struct site *s, struct connection *c)
{
	const struct grievance *g = c->grievance;

	assert(g != NULL && !c->is_up);
	uncount(s, c);
	if (s->up > 0) {
		s->hold_until_ms = now_ms(s) + HOLD_MS;
	} else {
		s->alive_until_ms = 0;
		if (s->open == 0) {
			fail_waiting(s, g);
		}
	}
	rouse(s);
}
