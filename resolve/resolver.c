/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"
#include "resolve/cache.h"
#include "resolve/dns.h"
#include "resolve/finder.h"
#include "resolve/settings.h"

#define CACHE_BYTES_MAX ((size_t)32 * 1024 * 1024)
/* Questions that wait for an answer. qmgr holds one for each destination that is due. */
#define WAITERS_MAX 200000u
#define SYSTEM_SERVERS_MAX 8u
#define RESOLV_CONF "/etc/resolv.conf"
#define RESOLV_CONF_MAX 65536u

/* One name that is being looked up, with all who asked for it meanwhile. */
struct search {
	struct hash_link by_key;
	struct list link;
	struct resolver *resolver;
	struct list waiters;
	uint64_t epoch; /* of the configuration under which it began */
	size_t key_bytes;
	uint8_t key[];
};

struct waiter {
	struct list link;
	uint64_t request;
	uint16_t port;
};

struct resolver {
	struct service *service;
	struct channel *qmgr;
	struct endpoint system[SYSTEM_SERVERS_MAX];
	size_t system_count;

	struct settings settings;
	struct settings pending;
	struct dns *pending_dns; /* null: the one in force stays */
	struct dns *dns;
	struct finder *finder;
	struct cache cache;
	struct hash_table searches;
	struct list all_searches;
	size_t waiter_count;
	uint64_t epoch;

	uint64_t asked;
	uint64_t from_cache;
	uint64_t merged;
	uint64_t results[ROUTE_NEVER + 1];
};

/* ---- answers ---- */

/*
 * Leaves out our own doors and all that is no better (RFC 5321 section 5.1); by the port, which
 * only the one who asks knows. Returns how many are left at the front of order[].
 */
static size_t leave_out_ourselves(const struct resolver *r, const struct route *route,
	uint16_t port, uint16_t *order, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct endpoint to = route->addrs[order[i]].to;
		uint16_t preference = route->addrs[order[i]].preference;
		to.port = port;
		if (!settings_is_own_door(&r->settings, &to)) {
			continue;
		}
		while (i > 0 && route->addrs[order[i - 1]].preference == preference) {
			i--;
		}
		return i;
	}
	return n;
}

static enum err send_route(struct resolver *r, const struct route *route, uint32_t ttl_s,
	uint64_t request, uint16_t port)
{
	uint16_t order[LIMIT_ROUTE_ADDRS];
	size_t all = route_order(route, r->settings.first, order);
	size_t n = leave_out_ourselves(r, route, port, order, all);
	struct msg_route m = {.request = request,
		.result = route->result,
		.dnssec = route->dnssec,
		.ttl_s = ttl_s < DNS_TTL_MAX_S ? ttl_s : DNS_TTL_MAX_S,
		.addr_count = (uint32_t)n,
		.code = slice_from_cstr(route->code),
		.text = route->text};
	if (n == 0 && all != 0) {
		m.result = ROUTE_NEVER;
		m.code = SLICE("5.4.6");
		m.text = SLICE("mail would loop back to us: its server is ourselves");
	}
	r->results[m.result]++;
	enum err e = msg_route_send(r->qmgr, &m);

	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		const struct route_addr *a = &route->addrs[order[i]];
		struct msg_route_addr addr = {.request = request,
			.preference = a->preference,
			.host = a->host,
			.dnssec = a->dnssec,
			.family = a->to.family,
			.addr = slice_make(a->to.addr, a->to.family == 4 ? 4 : 16),
			.port = port};
		e = msg_route_addr_send(r->qmgr, &addr);
	}
	return e;
}

static void answer(struct resolver *r, const struct route *route, uint32_t ttl_s,
	uint64_t request, uint16_t port)
{
	if (r->qmgr != NULL && send_route(r, route, ttl_s, request, port) != ERR_OK) {
		/* Each text and name was bounded when the route was made. */
		service_fail(r->service, "a route could not be encoded");
	}
}

static void search_free(struct search *s)
{
	struct list *l;

	while ((l = list_first(&s->waiters)) != NULL) {
		list_remove(l);
		s->resolver->waiter_count--;
		free(CONTAINER_OF(l, struct waiter, link));
	}
	list_remove(&s->link);
	hash_table_remove(&s->resolver->searches, &s->by_key);
	free(s);
}

static void on_found(void *arg, struct route *route)
{
	struct search *s = arg;
	struct resolver *r = s->resolver;

	for (struct list *l = s->waiters.next; l != &s->waiters; l = l->next) {
		const struct waiter *w = CONTAINER_OF(l, struct waiter, link);
		answer(r, route, route->ttl_s, w->request, w->port);
	}
	/* What was found under other settings answers those who waited, nobody else. */
	if (s->epoch == r->epoch) {
		(void)cache_take(&r->cache, slice_make(s->key, s->key_bytes), route,
			loop_now_ms(r->service->loop));
	} else {
		route_free(&route);
	}
	search_free(s);
}

/* ---- questions ---- */

static void wait_for(struct search *s, const struct msg_route_ask *m)
{
	struct waiter *w = alloc_zero(1, sizeof(*w));

	w->request = m->request;
	w->port = m->port;
	list_append(&s->waiters, &w->link);
	s->resolver->waiter_count++;
}

static void search_begin(struct resolver *r, const struct msg_route_ask *m, struct slice key)
{
	struct search *s = alloc_zero(1, sizeof(*s) + key.n);

	s->resolver = r;
	s->epoch = r->epoch;
	s->key_bytes = key.n;
	memcpy(s->key, key.p, key.n);
	list_init(&s->waiters);
	list_append(&r->all_searches, &s->link);
	hash_table_insert(&r->searches, &s->by_key, slice_make(s->key, key.n));
	wait_for(s, m);
	finder_find(r->finder, m->kind, m->name, on_found, s);
}

static void ask(struct resolver *r, const struct msg_route_ask *m)
{
	uint8_t key[LIMIT_HOSTNAME + 1];
	struct hash_link *l;
	uint32_t ttl_s = 0;

	r->asked++;
	key[0] = m->kind;
	for (size_t i = 0; i < m->name.n; i++) {
		key[i + 1] = ascii_lower(m->name.p[i]);
	}
	struct slice key_view = slice_make(key, m->name.n + 1);
	const struct route *route =
		cache_find(&r->cache, key_view, loop_now_ms(r->service->loop), &ttl_s);
	if (route != NULL) {
		r->from_cache++;
		answer(r, route, ttl_s, m->request, m->port);
		return;
	}
	if (r->waiter_count >= WAITERS_MAX) {
		struct route *busy = route_failure(ROUTE_LATER, DNSSEC_INSECURE, 5, "4.3.2",
			SLICE("too many DNS look-ups are waiting"));
		answer(r, busy, busy->ttl_s, m->request, m->port);
		route_free(&busy);
		return;
	}
	l = hash_table_find(&r->searches, key_view);
	struct search *s = l == NULL ? NULL : CONTAINER_OF(l, struct search, by_key);
	if (s != NULL) {
		r->merged++;
		wait_for(s, m);
		return;
	}
	search_begin(r, m, key_view);
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct resolver *r = arg;
	struct msg_hello hello;
	struct msg_route_ask m;
	enum err e = ERR_PROTO;

	(void)fd;
	if (type == MSG_ID_hello) {
		e = msg_hello_decode(body, &hello);
		return e == ERR_OK && hello.role != ROLE_QMGR ? ERR_PROTO : e;
	}
	if (type == MSG_ID_route_ask) {
		e = msg_route_ask_decode(body, &m);
		if (e == ERR_OK) {
			ask(r, &m);
		}
	}
	return e;
}

/* Whoever comes next asks again; what is being looked up goes on, into the cache. */
static void forget_waiters(struct resolver *r)
{
	for (struct list *l = r->all_searches.next; l != &r->all_searches; l = l->next) {
		struct search *s = CONTAINER_OF(l, struct search, link);
		struct list *w;
		while ((w = list_first(&s->waiters)) != NULL) {
			list_remove(w);
			r->waiter_count--;
			free(CONTAINER_OF(w, struct waiter, link));
		}
	}
}

static void on_gone(void *arg, enum err why)
{
	struct resolver *r = arg;

	channel_close(&r->qmgr);
	forget_waiters(r);
	if (why != ERR_CLOSED) {
		/* It is trusted more than we are; a master that starts us anew heals both. */
		service_fail(r->service, "qmgr sent what is no message for us");
	}
}

static const struct channel_handler qmgr_handler = {.on_frame = on_frame, .on_gone = on_gone};

static void on_peer(struct service *s, void *arg, enum role role, unsigned index, int *fd)
{
	struct resolver *r = arg;
	struct msg_hello hello = {.role = ROLE_RESOLVE, .index = s->index};

	(void)index;
	if (role != ROLE_QMGR) {
		service_fail(s, "a peer that is not ours");
		return;
	}
	if (r->qmgr != NULL) {
		channel_close(&r->qmgr);
		forget_waiters(r);
	}
	r->qmgr = channel_new(s->loop, fd, &qmgr_handler, r);
	if (msg_hello_send(r->qmgr, &hello) != ERR_OK) {
		service_fail(s, "a greeting could not be encoded");
	}
}

/* ---- life ---- */

static void lookup(void *arg, struct slice name, uint16_t type, dns_done *done, void *done_arg)
{
	struct resolver *r = arg;

	dns_lookup(r->dns, name, type, done, done_arg);
}

/* The machine's name servers: there is no such file in the jail. */
static void read_system_servers(struct resolver *r)
{
	static uint8_t text[RESOLV_CONF_MAX];
	int fd = open(RESOLV_CONF, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

	if (n > 0) {
		r->system_count = settings_system_servers(slice_make(text, (size_t)n),
			r->system, SYSTEM_SERVERS_MAX);
	}
	fd_close(&fd);
	if (r->system_count == 0) {
		log_info("event=no_system_dns what=\"without dns_servers the root servers are "
			 "asked\"");
	}
}

static enum err on_open(struct service *s, void *arg, const struct conf *c)
{
	struct resolver *r = arg;

	(void)c;
	r->service = s;
	read_system_servers(r);
	struct finder_source source = {.lookup = lookup, .arg = r};
	r->finder = finder_new(s->loop, &r->settings.rules, &source);
	return ERR_OK;
}

static enum err on_conf(struct service *s, void *arg, const struct conf *c, struct buf *why)
{
	struct resolver *r = arg;

	settings_read(c, r->system, r->system_count, &r->pending);
	if (r->dns != NULL && !settings_differ_in_dns(&r->settings, &r->pending)) {
		return ERR_OK;
	}
	struct dns_setup setup = {.servers = r->pending.servers,
		.server_count = r->pending.server_count,
		.anchors = r->pending.anchors};
	return dns_new(s->loop, &setup, why, &r->pending_dns);
}

static void on_apply(struct service *s, void *arg)
{
	struct resolver *r = arg;

	(void)s;
	r->settings = r->pending;
	if (r->pending_dns != NULL) {
		dns_retire(&r->dns);
		r->dns = r->pending_dns;
		r->pending_dns = NULL;
	}
	cache_clear(&r->cache);
	r->epoch++;
}

static void on_forget(struct service *s, void *arg)
{
	struct resolver *r = arg;

	(void)s;
	dns_free(&r->pending_dns);
}

static void on_status(struct service *s, void *arg, struct json *to)
{
	struct resolver *r = arg;
	struct dns_counts d = dns_counts(r->dns);

	(void)s;
	json_member_u64(to, "asked", r->asked);
	json_member_u64(to, "from_cache", r->from_cache);
	json_member_u64(to, "merged", r->merged);
	json_member_u64(to, "ok", r->results[ROUTE_OK]);
	json_member_u64(to, "later", r->results[ROUTE_LATER]);
	json_member_u64(to, "never", r->results[ROUTE_NEVER]);
	json_member_u64(to, "searches", r->searches.count);
	json_member_u64(to, "cached_routes", r->cache.entries.count);
	json_member_u64(to, "cached_bytes", r->cache.bytes);
	json_member_u64(to, "dns_queries", d.asked);
	json_member_u64(to, "dns_failed", d.failed);
	json_member_u64(to, "dns_bogus", d.bogus);
	json_member_u64(to, "dns_running", d.running);
	json_member_u64(to, "dns_waiting", d.waiting);
}

static void on_close(struct service *s, void *arg)
{
	struct resolver *r = arg;
	struct list *l;

	(void)s;
	channel_close(&r->qmgr);
	/* First what could answer, then those it would answer. */
	dns_free(&r->pending_dns);
	dns_free(&r->dns);
	finder_free(&r->finder);
	while ((l = list_first(&r->all_searches)) != NULL) {
		search_free(CONTAINER_OF(l, struct search, link));
	}
	cache_clear(&r->cache);
	hash_table_clear(&r->searches);
}

struct resolver *resolver_new(void)
{
	struct resolver *r = alloc_zero(1, sizeof(*r));

	cache_init(&r->cache, CACHE_BYTES_MAX);
	hash_table_init(&r->searches);
	list_init(&r->all_searches);
	return r;
}

void resolver_free(struct resolver **r)
{
	free(*r);
	*r = NULL;
}

static const struct jail_rules rules = {.may = JAIL_CONNECT};

const struct service_hooks resolver_hooks = {
	.program = "resolve",
	.role = ROLE_RESOLVE,
	.jail = &rules,
	.on_open = on_open,
	.on_conf = on_conf,
	.on_apply = on_apply,
	.on_forget = on_forget,
	.on_peer = on_peer,
	.on_status = on_status,
	.on_close = on_close,
};
