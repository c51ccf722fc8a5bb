/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/router.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "qmgr/outcome.h"
#include "qmgr/scheduler.h"
#include "qmgr/site.h"

#define TTL_LEAST_S 5u
#define TTL_MOST_S 86400u
/* Longer than resolve ever takes: an answer that has not come by then never will. */
#define ANSWER_MS (5 * 60 * 1000)
/* Routes that are kept for as long as they hold; of more, those that nothing uses go at once
 * (resolve has them still). */
#define DESTINATIONS_KEPT 10000u

void router_init(struct qmgr *q)
{
	hash_table_init(&q->destinations);
	hash_id_table_init(&q->requests);
}

static void destination_free(struct qmgr *q, struct destination *d)
{
	if (d->state == DEST_ASKED) {
		hash_id_table_remove(&q->requests, &d->by_request);
	}
	if (d->site != NULL) {
		d->site->destinations--;
	}
	hash_table_remove(&q->destinations, &d->by_key);
	free(d->key);
	free(d->name);
	free(d);
}

void router_close(struct qmgr *q)
{
	struct hash_link *l;

	while ((l = hash_table_next(&q->destinations, NULL)) != NULL) {
		destination_free(q, CONTAINER_OF(l, struct destination, by_key));
	}
	hash_table_clear(&q->destinations);
	hash_id_table_clear(&q->requests);
	channel_close(&q->resolver);
}

struct destination *router_destination(struct qmgr *q, const struct nexthop *hop)
{
	struct hash_link *l = hash_table_find(&q->destinations, slice_from_cstr(hop->key));

	if (l != NULL) {
		return CONTAINER_OF(l, struct destination, by_key);
	}
	struct destination *d = alloc_zero(1, sizeof(*d));

	d->key = alloc_cstr(hop->key);
	d->name = alloc_cstr(hop->name);
	d->is_host = hop->kind == NEXTHOP_HOST;
	d->port = hop->port;
	list_init(&d->pending);
	hash_table_insert(&q->destinations, &d->by_key, slice_from_cstr(d->key));
	return d;
}

static void ask(struct qmgr *q, struct destination *d)
{
	struct msg_route_ask m = {.request = d->request,
		.kind = d->is_host ? ROUTE_HOST : ROUTE_MX,
		.name = slice_from_cstr(d->name),
		.port = d->port};

	if (q->resolver != NULL && msg_route_ask_send(q->resolver, &m) != ERR_OK) {
		log_error("event=route_ask_failed name=%s", LOG_TEXT(m.name));
	}
}

void router_want(struct qmgr *q, struct destination *d)
{
	if (d->state == DEST_ASKED) {
		return;
	}
	d->state = DEST_ASKED;
	d->asked_ms = loop_now_ms(q->loop);
	d->request = qmgr_next_id(q);
	hash_id_table_insert(&q->requests, &d->by_request, d->request);
	ask(q, d);
}

void router_release(struct qmgr *q, struct destination *d)
{
	if (d->parcels == 0 && d->state != DEST_ASKED &&
		(d->state == DEST_UNKNOWN || loop_now_ms(q->loop) >= d->expires_ms ||
			q->destinations.count > DESTINATIONS_KEPT)) {
		destination_free(q, d);
	}
}

static void give_up_asking(struct qmgr *q, struct destination *d)
{
	log_warn("event=route_missing name=%s", LOG_TEXT(slice_from_cstr(d->name)));
	hash_id_table_remove(&q->requests, &d->by_request);
	d->state = DEST_UNKNOWN;
	outcome_unroutable(q, d, VERDICT_LATER, SLICE("4.4.3"),
		SLICE("no answer from the resolver"));
}

void router_expire(struct qmgr *q)
{
	int64_t now = loop_now_ms(q->loop);
	struct hash_link *l = hash_table_next(&q->destinations, NULL);

	while (l != NULL) {
		struct destination *d = CONTAINER_OF(l, struct destination, by_key);

		l = hash_table_next(&q->destinations, l);
		if (d->state == DEST_ASKED && now - d->asked_ms > ANSWER_MS) {
			give_up_asking(q, d); /* and most likely the destination is gone */
		} else {
			router_release(q, d);
		}
	}
}

static void set_site(struct destination *d, struct site *s)
{
	if (d->site != s) {
		if (d->site != NULL) {
			d->site->destinations--;
		}
		s->destinations++;
		d->site = s;
	}
}

/* The whole answer is here. */
static void on_answer(struct qmgr *q)
{
	struct hash_id_link *l = hash_id_table_find(&q->requests, q->route.request);
	struct destination *d;
	int64_t now_us = clock_wall_us();
	uint32_t ttl_s = q->route.ttl_s;

	if (l == NULL) {
		return; /* asked twice around a restart of resolve */
	}
	d = CONTAINER_OF(l, struct destination, by_request);
	hash_id_table_remove(&q->requests, l);

	struct event_route e = {.name = slice_from_cstr(d->name),
		.result = q->route.result,
		.dnssec = q->route.dnssec,
		.addrs = q->route_addr_count,
		.ttl_s = ttl_s,
		.text = slice_from_cstr(q->route_text)};
	journal_route(q->journal, now_us, &e);

	if (q->route.result == ROUTE_OK && q->route_addr_count > 0) {
		ttl_s = ttl_s < TTL_LEAST_S  ? TTL_LEAST_S
			: ttl_s > TTL_MOST_S ? TTL_MOST_S
					     : ttl_s;
		d->state = DEST_ROUTED;
		d->expires_ms = loop_now_ms(q->loop) + (int64_t)ttl_s * 1000;
		set_site(d, site_of(q, q->route_addrs, q->route_addr_count));
		scheduler_routed(q, d);
		return;
	}
	d->state = DEST_UNKNOWN;
	outcome_unroutable(q, d, q->route.result == ROUTE_NEVER ? VERDICT_NEVER : VERDICT_LATER,
		slice_from_cstr(q->route_code), slice_from_cstr(q->route_text));
}

static enum err on_route(struct qmgr *q, const struct msg_route *m)
{
	if (q->route_missing > 0) {
		return ERR_PROTO;
	}
	q->route = *m;
	q->route_missing = m->addr_count;
	q->route_addr_count = 0;
	str_printable(q->route_code, sizeof(q->route_code), m->code);
	str_printable(q->route_text, sizeof(q->route_text), m->text);
	if (m->addr_count == 0) {
		on_answer(q);
	}
	return ERR_OK;
}

static enum err on_route_addr(struct qmgr *q, const struct msg_route_addr *m)
{
	if (q->route_missing == 0 || m->request != q->route.request ||
		!((m->family == 4 && m->addr.n == 4) || (m->family == 6 && m->addr.n == 16))) {
		return ERR_PROTO;
	}
	struct site_addr *a = &q->route_addrs[q->route_addr_count++];

	*a = (struct site_addr){.preference = m->preference,
		.port = m->port,
		.dnssec = m->dnssec,
		.family = m->family};
	memcpy(a->addr, m->addr.p, m->addr.n);
	if (str_copy(a->host, sizeof(a->host), m->host) != ERR_OK) {
		return ERR_PROTO;
	}
	q->route_missing--;
	if (q->route_missing == 0) {
		on_answer(q);
	}
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct qmgr *q = arg;
	struct msg_hello hello;
	struct msg_route route;
	struct msg_route_addr addr;
	enum err e;

	(void)fd;
	if (q->resolver_greeted == (type == MSG_ID_hello)) {
		return ERR_PROTO; /* first of all, and once */
	}
	switch (type) {
	case MSG_ID_hello:
		q->resolver_greeted = true;
		e = msg_hello_decode(body, &hello);
		return e == ERR_OK && hello.role != ROLE_RESOLVE ? ERR_PROTO : e;
	case MSG_ID_route:
		e = msg_route_decode(body, &route);
		return e == ERR_OK ? on_route(q, &route) : e;
	case MSG_ID_route_addr:
		e = msg_route_addr_decode(body, &addr);
		return e == ERR_OK ? on_route_addr(q, &addr) : e;
	default:
		return ERR_PROTO;
	}
}

static void on_gone(void *arg, enum err why)
{
	struct qmgr *q = arg;

	if (why != ERR_CLOSED) {
		log_error("event=peer_broke role=resolve err=\"%s\"", err_str(why));
	}
	channel_close(&q->resolver);
	q->route_missing = 0;
}

void router_peer(struct qmgr *q, int *fd)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_gone = on_gone};
	struct msg_hello hello = {.role = ROLE_QMGR, .index = 0};

	channel_close(&q->resolver);
	q->route_missing = 0;
	q->resolver_greeted = false;
	q->resolver = channel_new(q->loop, fd, &handler, q);
	if (msg_hello_send(q->resolver, &hello) != ERR_OK) {
		log_error("event=hello_failed role=resolve");
	}
	for (struct hash_id_link *l = hash_id_table_next(&q->requests, NULL); l != NULL;
		l = hash_id_table_next(&q->requests, l)) {
		ask(q, CONTAINER_OF(l, struct destination, by_request));
	}
}
