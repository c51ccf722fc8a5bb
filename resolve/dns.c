/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/dns.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <unbound-event.h>
#include <unbound.h>

#include "common/base/alloc.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/str.h"

/* Look-ups that the library works on at once. Each costs some 13 KiB in it, and a socket. */
#define RUNNING_MAX 2000u
/* Descriptors left for all else. */
#define SPARE_FDS 64u

/* A message is at most 64 KiB; its names unfold to more. */
#define ANSWER_ARENA_MAX ((size_t)4 * 1024 * 1024)

struct query {
	struct list link; /* in waiting or running */
	struct dns *dns;
	dns_done *done;
	void *arg;
	uint16_t type;
	char name[DNS_NAME_MAX + 1];
};

struct dns {
	struct loop *loop;
	struct ub_ctx *ub;
	struct list waiting;
	struct list running;
	struct loop_flush flush;
	struct arena arena; /* of the answer that is being told */
	size_t running_max;
	bool retired;
	struct dns_counts counts;
};

/* ---- setting up ---- */

/* The library takes sockets from a pool of its own; never more than the process may have. */
static size_t sockets_allowed(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur / 2 >= RUNNING_MAX) {
		return RUNNING_MAX;
	}
	return r.rlim_cur / 4 > SPARE_FDS ? (size_t)r.rlim_cur / 2 : SPARE_FDS;
}

static bool set_options(struct ub_ctx *ub, size_t sockets)
{
	static const char *const options[][2] = {
		/* A name server on this machine is an ordinary thing. */
		{"do-not-query-localhost:", "no"},
		{"msg-cache-size:", "16m"},
		{"rrset-cache-size:", "32m"},
		{"key-cache-size:", "4m"},
		{"outgoing-num-tcp:", "64"},
		{"cache-max-negative-ttl:", "300"},
		/* After an outage the servers must be found alive soon, not in 15 minutes. */
		{"infra-keep-probing:", "yes"},
		{"infra-cache-max-rtt:", "10000"},
		{"infra-host-ttl:", "120"},
	};
	char number[24];

	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (ub_ctx_set_option(ub, options[i][0], options[i][1]) != 0) {
			log_warn("event=dns_option what=\"unknown to libunbound\" option=%s",
				options[i][0]);
		}
	}
	return str_format(number, sizeof(number), "%zu", sockets) == ERR_OK &&
	       ub_ctx_set_option(ub, "outgoing-range:", number) == 0 &&
	       ub_ctx_set_option(ub, "num-queries-per-thread:", number) == 0;
}

static bool set_servers(struct ub_ctx *ub, const struct dns_setup *setup)
{
	for (size_t i = 0; i < setup->server_count; i++) {
		char addr[ENDPOINT_TEXT_MAX];
		char text[ENDPOINT_TEXT_MAX + 8];
		endpoint_format_addr(&setup->servers[i], addr);
		if (str_format(text, sizeof(text), "%s@%u", addr, setup->servers[i].port) !=
				ERR_OK ||
			ub_ctx_set_fwd(ub, text) != 0) {
			return false;
		}
	}
	return true;
}

/*
 * One record a line (RFC 1035 section 5.1: ';' begins a comment, parentheses join lines). The
 * library would read the file itself, but a reload happens where there are no files.
 */
static bool set_anchors(struct ub_ctx *ub, struct slice text, struct buf *record)
{
	unsigned depth = 0;
	bool in_comment = false;
	bool has_text = false;

	buf_reset(record);
	for (size_t i = 0; i <= text.n; i++) {
		uint8_t c = i < text.n ? text.p[i] : '\n';
		if (c == '\n') {
			in_comment = false;
		}
		if (in_comment) {
			continue;
		}
		if (c == '\0') {
			return false;
		}
		if (c == '\n' && (depth == 0 || i == text.n)) {
			if (has_text &&
				(depth != 0 || buf_append_byte(record, '\0') != ERR_OK ||
					ub_ctx_add_ta(ub, (const char *)buf_view(record).p) !=
						0)) {
				return false;
			}
			has_text = false;
			buf_reset(record);
			continue;
		}
		if (c == ';') {
			in_comment = true;
			continue;
		}
		depth += c == '(' ? 1 : 0;
		depth -= c == ')' && depth != 0 ? 1 : 0;
		if (c == '\n' || c == '\r' || c == '\t' || c == '(' || c == ')') {
			c = ' ';
		}
		has_text = has_text || c != ' ';
		if (buf_append_byte(record, c) != ERR_OK) {
			return false;
		}
	}
	return true;
}

static void on_trial(void *arg, int rcode, void *packet, int n, int sec, char *why,
	int was_limited)
{
	(void)rcode;
	(void)packet;
	(void)n;
	(void)sec;
	(void)why;
	(void)was_limited;
	*(bool *)arg = true;
}

/* What is wrong with its settings the library only tells at the first look-up; "localhost" is
 * one that it answers by itself, at once. */
static bool has_sense(struct ub_ctx *ub)
{
	bool answered = false;
	int id = 0;

	return ub_resolve_event(ub, "localhost", DNS_TYPE_A, 1, &answered, on_trial, &id) ==
		       0 &&
	       answered;
}

static enum err explain(struct buf *why, const char *text)
{
	/* Cut short when there is no room. */
	(void)!buf_append(why, slice_from_cstr(text));
	return ERR_CONFIG;
}

static enum err set_up(struct dns *d, const struct dns_setup *setup, struct buf *why)
{
	struct buf record;
	bool ok;

	if (!set_options(d->ub, d->running_max)) {
		return explain(why, "libunbound does not take its settings");
	}
	if (!set_servers(d->ub, setup)) {
		return explain(why, "dns_servers: libunbound does not take them");
	}
	buf_init(&record, 65536);
	ok = set_anchors(d->ub, setup->anchors, &record);
	buf_clear(&record);
	if (!ok || !has_sense(d->ub)) {
		return explain(why,
			"dns_trust_anchor: must hold DNSKEY or DS records, one a line");
	}
	return ERR_OK;
}

/* ---- answers ---- */

static void tell(struct query *q, const struct dns_reply *reply)
{
	struct dns *d = q->dns;

	list_remove(&q->link);
	d->counts.running--;
	d->counts.failed += reply->status == DNS_FAILED ? 1 : 0;
	d->counts.bogus += reply->status == DNS_BOGUS ? 1 : 0;
	q->done(q->arg, reply);
	free(q);
	if (d->counts.waiting != 0 || d->retired) {
		loop_flush_mark(&d->flush);
	}
}

static void tell_failure(struct query *q, enum dns_status status, const char *why)
{
	struct dns_reply reply = {.status = status, .why = why};

	tell(q, &reply);
}

static const char *rcode_text(unsigned rcode)
{
	switch (rcode) {
	case DNS_RCODE_SERVFAIL:
		return "the name servers failed or did not answer (SERVFAIL)";
	case 5:
		return "the name server refused to answer";
	default:
		return "the name servers gave no usable answer";
	}
}

static void on_packet(struct query *q, struct slice packet, bool is_secure)
{
	struct dns *d = q->dns;
	struct dns_answer answer;
	struct dns_reply reply = {.is_secure = is_secure, .why = ""};

	arena_reset(&d->arena);
	if (dns_packet_parse(packet, q->type, &d->arena, &answer) != ERR_OK) {
		tell_failure(q, DNS_FAILED, "the answer is malformed");
		return;
	}
	if (answer.rcode == DNS_RCODE_NXDOMAIN) {
		reply.status = DNS_NXDOMAIN;
	} else if (answer.rcode != DNS_RCODE_OK) {
		tell_failure(q, DNS_FAILED, rcode_text(answer.rcode));
		return;
	} else if (answer.is_truncated && answer.count == 0) {
		tell_failure(q, DNS_FAILED, "the answer is cut off");
		return;
	} else {
		reply.status = answer.count != 0 ? DNS_FOUND : DNS_NODATA;
		reply.records = answer.records;
		reply.count = answer.count;
		reply.unusable = answer.unusable;
	}
	reply.ttl_s = answer.ttl_s;
	tell(q, &reply);
}

static void on_answer(void *arg, int rcode, void *packet, int n, int sec, char *why_bogus,
	int was_limited)
{
	struct query *q = arg;

	(void)was_limited;
	if (sec == 1) {
		char why[256];
		str_printable(why, sizeof(why), slice_from_cstr(why_bogus));
		tell_failure(q, DNS_BOGUS, why);
	} else if (rcode != DNS_RCODE_OK && rcode != DNS_RCODE_NXDOMAIN) {
		tell_failure(q, DNS_FAILED, rcode_text((unsigned)rcode));
	} else if (packet == NULL || n <= 0) {
		tell_failure(q, DNS_FAILED, rcode_text(DNS_RCODE_SERVFAIL));
	} else {
		on_packet(q, slice_make(packet, (size_t)n), sec == 2);
	}
}

static void start(struct dns *d, struct query *q)
{
	int id = 0;

	list_remove(&q->link);
	list_append(&d->running, &q->link);
	d->counts.waiting--;
	d->counts.running++;
	d->counts.asked++;
	/* May answer before it returns; q is then gone. */
	if (ub_resolve_event(d->ub, q->name, q->type, 1, q, on_answer, &id) != 0) {
		tell_failure(q, DNS_FAILED, "libunbound does not take the name");
	}
}

static void release(void *object)
{
	struct dns *d = object;

	dns_free(&d);
}

/* Outside of the library's callbacks: there, nothing is asked of it and it is not deleted. */
static void on_flush(void *arg)
{
	struct dns *d = arg;
	struct list *l;

	while (d->counts.running < d->running_max && (l = list_first(&d->waiting)) != NULL) {
		start(d, CONTAINER_OF(l, struct query, link));
	}
	if (d->retired && d->counts.running == 0 && d->counts.waiting == 0) {
		d->retired = false;
		loop_discard(d->loop, release, d);
	}
}

/* ---- life ---- */

enum err dns_new(struct loop *loop, const struct dns_setup *setup, struct buf *why,
	struct dns **out)
{
	struct dns *d = alloc_zero(1, sizeof(*d));

	d->loop = loop;
	d->running_max = sockets_allowed();
	list_init(&d->waiting);
	list_init(&d->running);
	arena_init(&d->arena, ANSWER_ARENA_MAX);
	loop_flush_add(&d->flush, loop, on_flush, d);
	d->ub = ub_ctx_create_event(loop_base(loop));
	enum err e = d->ub == NULL ? explain(why, "libunbound cannot be set up")
				   : set_up(d, setup, why);
	if (e != ERR_OK) {
		dns_free(&d);
		return e;
	}
	*out = d;
	return ERR_OK;
}

void dns_retire(struct dns **dns)
{
	struct dns *d = *dns;

	*dns = NULL;
	if (d != NULL) {
		d->retired = true;
		loop_flush_mark(&d->flush);
	}
}

static void drop_all(struct list *queries)
{
	struct list *l;

	while ((l = list_first(queries)) != NULL) {
		list_remove(l);
		free(CONTAINER_OF(l, struct query, link));
	}
}

void dns_free(struct dns **dns)
{
	struct dns *d = *dns;

	if (d == NULL) {
		return;
	}
	*dns = NULL;
	/* First the library: it still knows the queries that run. */
	if (d->ub != NULL) {
		ub_ctx_delete(d->ub);
	}
	loop_flush_remove(&d->flush);
	drop_all(&d->waiting);
	drop_all(&d->running);
	arena_clear(&d->arena);
	free(d);
}

void dns_lookup(struct dns *dns, struct slice name, uint16_t type, dns_done *done, void *arg)
{
	struct query *q = alloc_zero(1, sizeof(*q));

	assert(name.n <= DNS_NAME_MAX);
	q->dns = dns;
	q->done = done;
	q->arg = arg;
	q->type = type;
	if (str_copy(q->name, sizeof(q->name), name) != ERR_OK) {
		q->name[0] = '\0'; /* the root has none of these records */
	}
	list_append(&dns->waiting, &q->link);
	dns->counts.waiting++;
	loop_flush_mark(&dns->flush);
}

struct dns_counts dns_counts(const struct dns *dns)
{
	return dns->counts;
}
