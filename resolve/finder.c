/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/finder.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <idn2.h>

#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/guard.h"
#include "common/mail/address.h"

#define HOSTS_AT_ONCE 8u
#define JOB_ARENA_MAX ((size_t)4 * 1024 * 1024)
/* A storm for a name that cannot be looked up asks once in so many seconds. */
#define LATER_LEAST_S 5u
#define LATER_SPREAD_S 6u

struct host {
	struct job *job;
	struct slice name; /* in the arena */
	uint16_t preference;
};

struct job {
	struct list link;
	struct finder *finder;
	finder_done *done;
	void *arg;
	uint8_t kind;
	struct slice name; /* folded, for the DNS */
	struct arena arena;
	struct loop_deadline deadline;
	int64_t until_ms; /* then it ends, whatever is known */
	unsigned pending; /* look-ups that have not answered; and one while it begins */
	bool is_told;

	uint8_t dnssec; /* of the MX answer */
	uint32_t ttl_s;
	bool is_implicit; /* no MX records: the name itself */
	struct host *hosts;
	size_t host_count;
	size_t host_next;
	struct route_addr *addrs;
	size_t addr_count;

	/* What stood in the way. */
	bool has_failed;
	bool has_bogus;
	char why[256];
	char why_host[DNS_NAME_MAX + 1];
	size_t forbidden_count;
	struct endpoint forbidden;
};

struct finder {
	struct loop *loop;
	const struct finder_rules *rules;
	struct finder_source source;
	struct list jobs;
};

/* ---- telling ---- */

static void job_free(struct job *j)
{
	list_remove(&j->link);
	loop_deadline_unset(&j->deadline);
	arena_clear(&j->arena);
	free(j);
}

static void tell(struct job *j, struct route *route)
{
	j->is_told = true;
	loop_deadline_unset(&j->deadline);
	j->done(j->arg, route);
}

static PRINTF_LIKE(5, 6) void tell_failure(struct job *j, uint8_t result, uint32_t ttl_s,
	const char *code, const char *format, ...)
{
	char text[LIMIT_TEXT];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
	tell(j, route_failure(result, j->dnssec, ttl_s, code, slice_make(text, len)));
}

static uint32_t later_s(void)
{
	return LATER_LEAST_S + route_random(LATER_SPREAD_S);
}

static uint32_t never_s(uint32_t ttl_s)
{
	return ttl_s == 0 ? 1 : ttl_s < FINDER_NEGATIVE_MAX_S ? ttl_s : FINDER_NEGATIVE_MAX_S;
}

static void least_ttl(struct job *j, uint32_t ttl_s)
{
	j->ttl_s = ttl_s < j->ttl_s ? ttl_s : j->ttl_s;
}

static void note_failure(struct job *j, struct slice name, const struct dns_reply *reply)
{
	/* Bogus says more than silence: it stays. */
	if (j->has_bogus) {
		return;
	}
	if (reply->status == DNS_BOGUS) {
		j->has_bogus = true;
	} else if (j->has_failed) {
		return;
	}
	j->has_failed = true;
	str_printable(j->why, sizeof(j->why), slice_from_cstr(reply->why));
	str_printable(j->why_host, sizeof(j->why_host), name);
}

static void tell_temporary(struct job *j)
{
	if (j->has_bogus) {
		j->dnssec = DNSSEC_BOGUS;
		tell_failure(j, ROUTE_LATER, later_s(), "4.7.0",
			"DNSSEC validation failed for %s: %s", j->why_host, j->why);
	} else {
		tell_failure(j, ROUTE_LATER, later_s(), "4.4.3",
			"DNS look-up of %s failed for now: %s", j->why_host, j->why);
	}
}

/* ---- judging ---- */

static bool is_me(const struct job *j, struct slice host)
{
	struct slice me = j->finder->rules->myhostname;

	return me.n != 0 && slice_eq_nocase(host, me);
}

static void tell_found(struct job *j)
{
	struct route head = {.result = ROUTE_OK, .dnssec = j->dnssec};

	if (j->has_failed || j->pending != 0) {
		least_ttl(j, FINDER_PARTIAL_MAX_S);
	}
	head.ttl_s = j->ttl_s == 0 ? 1 : j->ttl_s;
	tell(j, route_new(&head, j->addrs, j->addr_count));
}

/* Nothing is pending and there is no address. */
static void tell_none(struct job *j)
{
	char addr[ENDPOINT_TEXT_MAX];

	if (j->has_failed) {
		tell_temporary(j);
	} else if (j->forbidden_count != 0) {
		endpoint_format_addr(&j->forbidden, addr);
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.4",
			"every address of %.*s is one that mail is never sent to (%s)",
			SLICE_ARG(j->name), addr);
	} else if (j->kind == ROUTE_HOST) {
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.4",
			"the host %.*s has no address", SLICE_ARG(j->name));
	} else if (j->is_implicit) {
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.4",
			"the domain %.*s has neither a mail server nor an address",
			SLICE_ARG(j->name));
	} else {
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.4",
			"no mail server of %.*s has an address", SLICE_ARG(j->name));
	}
}

/* ---- addresses ---- */

/* An address stands once, at its best preference. False: it stands there already. */
static bool make_way(struct job *j, const struct endpoint *to, uint16_t preference)
{
	for (size_t i = 0; i < j->addr_count; i++) {
		if (!endpoint_eq_addr(&j->addrs[i].to, to)) {
			continue;
		}
		if (j->addrs[i].preference <= preference) {
			return false;
		}
		j->addr_count--;
		memmove(&j->addrs[i], &j->addrs[i + 1],
			(j->addr_count - i) * sizeof(*j->addrs));
		return true;
	}
	return true;
}

/* Kept together by host, so that a route names each host once. */
static void add_addr(struct job *j, const struct route_addr *a)
{
	size_t at = j->addr_count++;

	while (at > 0 && (j->addrs[at - 1].preference > a->preference ||
				 (j->addrs[at - 1].preference == a->preference &&
					 slice_cmp(j->addrs[at - 1].host, a->host) > 0))) {
		j->addrs[at] = j->addrs[at - 1];
		at--;
	}
	j->addrs[at] = *a;
}

static void consider(struct job *j, struct slice host, uint16_t preference, uint8_t dnssec,
	struct endpoint to)
{
	if (guard_forbids(j->finder->rules->forbidden, &to)) {
		j->forbidden_count++;
		j->forbidden = to;
		return;
	}
	endpoint_unmap(&to);
	if (!make_way(j, &to, preference)) {
		return;
	}
	struct route_addr a = {.to = to,
		.host = host,
		.preference = preference,
		.dnssec = dnssec};
	add_addr(j, &a);
}

static void take_addrs(struct host *h, const struct dns_reply *reply)
{
	struct job *j = h->job;
	size_t n = reply->count;
	/* Of very many a run of them, from anywhere. */
	size_t first = n > FINDER_HOST_ADDRS_MAX ? route_random((uint32_t)n) : 0;

	for (size_t i = 0; i < n && i < FINDER_HOST_ADDRS_MAX; i++) {
		const struct dns_record *r = &reply->records[(first + i) % n];
		struct endpoint to = {.family = r->family};
		memcpy(to.addr, r->addr, sizeof(to.addr));
		consider(j, h->name, h->preference,
			reply->is_secure ? DNSSEC_SECURE : DNSSEC_INSECURE, to);
	}
}

static void step(struct job *j);

static void drop_pending(struct job *j)
{
	j->pending--;
	if (j->pending == 0 && !j->is_told) {
		step(j);
	}
	if (j->pending == 0 && j->is_told) {
		job_free(j);
	}
}

static void on_addrs(void *arg, const struct dns_reply *reply)
{
	struct host *h = arg;
	struct job *j = h->job;

	if (!j->is_told) {
		switch (reply->status) {
		case DNS_FOUND:
			least_ttl(j, reply->ttl_s);
			take_addrs(h, reply);
			break;
		case DNS_NODATA:
			if (reply->unusable != 0) {
				struct dns_reply bad = {
					.why = "its address records are broken"};
				note_failure(j, h->name, &bad);
			}
			least_ttl(j, never_s(reply->ttl_s));
			break;
		case DNS_NXDOMAIN:
			least_ttl(j, never_s(reply->ttl_s));
			break;
		case DNS_FAILED:
		case DNS_BOGUS:
			note_failure(j, h->name, reply);
			break;
		}
	}
	drop_pending(j);
}

/* Asks for the addresses of the next hosts, in order of preference: one round at once. */
static void ask_hosts(struct job *j)
{
	const struct finder_rules *rules = j->finder->rules;
	const struct finder_source *source = &j->finder->source;

	for (size_t i = 0; i < HOSTS_AT_ONCE && j->host_next < j->host_count; i++) {
		struct host *h = &j->hosts[j->host_next++];
		if (rules->ipv4) {
			j->pending++;
			source->lookup(source->arg, h->name, DNS_TYPE_A, on_addrs, h);
		}
		if (rules->ipv6) {
			j->pending++;
			source->lookup(source->arg, h->name, DNS_TYPE_AAAA, on_addrs, h);
		}
	}
}

/* All that was asked has been answered. */
static void step(struct job *j)
{
	if (j->addr_count < FINDER_ENOUGH_ADDRS && j->host_next < j->host_count) {
		ask_hosts(j);
	} else if (j->addr_count != 0) {
		tell_found(j);
	} else {
		tell_none(j);
	}
}

static void ask_first_hosts(struct job *j)
{
	j->addrs = arena_alloc(&j->arena,
		(size_t)FINDER_HOSTS_MAX * 2 * FINDER_HOST_ADDRS_MAX * sizeof(*j->addrs));
	assert(j->addrs != NULL && j->host_count <= FINDER_HOSTS_MAX);
	/* A server that does not answer must not keep us from one that did. */
	loop_deadline_unset(&j->deadline);
	loop_deadline_set(&j->deadline, loop_now_ms(j->finder->loop) + FINDER_GRACE_MS);
	ask_hosts(j);
}

static void ask_name_itself(struct job *j)
{
	j->hosts = arena_alloc(&j->arena, sizeof(*j->hosts));
	assert(j->hosts != NULL);
	j->hosts[0] = (struct host){.job = j, .name = j->name};
	j->host_count = 1;
	ask_first_hosts(j);
}

/* ---- MX ---- */

static int by_preference(const void *a, const void *b)
{
	const struct dns_record *x = a;
	const struct dns_record *y = b;

	return x->preference < y->preference ? -1 : x->preference > y->preference;
}

/* Sorted, and in an order of its own each time where preferences are equal. */
static void sort_mx(struct dns_record *mx, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = route_random((uint32_t)i);
		struct dns_record swapped = mx[i - 1];
		mx[i - 1] = mx[k];
		mx[k] = swapped;
	}
	/* A stable order is not needed: what is equal has just been shuffled. */
	qsort(mx, n, sizeof(*mx), by_preference);
}

/* A host that is written as an address is not one (RFC 5321 section 5.1). */
static bool mx_is_usable(struct slice host)
{
	struct endpoint e;

	return domain_is_valid(host, 0) && endpoint_parse_addr(host, 0, &e) != ERR_OK;
}

/*
 * Takes the hosts to ask for. Where we are among them, we and all that are not better than we
 * are left out, or mail would go in circles (RFC 5321 section 5.1).
 */
static void choose_hosts(struct job *j, const struct dns_record *mx, size_t n, bool *is_mine)
{
	uint32_t below = UINT32_MAX;

	for (size_t i = 0; i < n; i++) {
		if (is_me(j, mx[i].host) && mx[i].preference < below) {
			below = mx[i].preference;
			*is_mine = true;
		}
	}
	j->hosts = arena_alloc(&j->arena, FINDER_HOSTS_MAX * sizeof(*j->hosts));
	assert(j->hosts != NULL);
	for (size_t i = 0; i < n && j->host_count < FINDER_HOSTS_MAX; i++) {
		if (mx[i].preference >= below || !mx_is_usable(mx[i].host)) {
			continue;
		}
		struct host *h = &j->hosts[j->host_count];
		*h = (struct host){.job = j, .preference = mx[i].preference};
		bool copied = arena_copy(&j->arena, mx[i].host, &h->name);
		assert(copied);
		bool twice = false;
		for (size_t k = 0; k < j->host_count && !twice; k++) {
			twice = slice_eq_nocase(j->hosts[k].name, h->name);
		}
		j->host_count += twice ? 0 : 1;
	}
}

static void on_mx_found(struct job *j, const struct dns_reply *reply)
{
	bool is_mine = false;
	size_t n = 0;
	struct dns_record *mx = arena_alloc(&j->arena, reply->count * sizeof(*mx));

	assert(mx != NULL);
	j->dnssec = reply->is_secure ? DNSSEC_SECURE : DNSSEC_INSECURE;
	least_ttl(j, reply->ttl_s);
	for (size_t i = 0; i < reply->count; i++) {
		if (reply->records[i].host.n != 0) {
			mx[n++] = reply->records[i];
		}
	}
	if (n == 0) {
		/* RFC 7505 section 3. */
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.1.10",
			"the domain %.*s does not accept mail", SLICE_ARG(j->name));
		return;
	}
	sort_mx(mx, n);
	choose_hosts(j, mx, n, &is_mine);
	if (j->host_count != 0) {
		ask_first_hosts(j);
	} else if (is_mine) {
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.6",
			"mail for %.*s loops back to us: we are its best mail server",
			SLICE_ARG(j->name));
	} else {
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.4",
			"no mail server of %.*s has a usable name", SLICE_ARG(j->name));
	}
}

static void on_mx_none(struct job *j, const struct dns_reply *reply)
{
	j->dnssec = reply->is_secure ? DNSSEC_SECURE : DNSSEC_INSECURE;
	least_ttl(j, never_s(reply->ttl_s));
	if (reply->unusable != 0) {
		/* There are MX records, but broken ones: the domain's address is not meant. */
		struct dns_reply bad = {.why = "its MX records are broken"};
		note_failure(j, j->name, &bad);
		tell_temporary(j);
	} else if (is_me(j, j->name)) {
		tell_failure(j, ROUTE_NEVER, never_s(j->ttl_s), "5.4.6",
			"mail for %.*s loops back to us: it is our own name",
			SLICE_ARG(j->name));
	} else {
		j->is_implicit = true;
		ask_name_itself(j);
	}
}

static void on_mx(void *arg, const struct dns_reply *reply)
{
	struct job *j = arg;

	if (j->is_told) {
		drop_pending(j);
		return;
	}
	switch (reply->status) {
	case DNS_FOUND:
		on_mx_found(j, reply);
		break;
	case DNS_NODATA:
		on_mx_none(j, reply);
		break;
	case DNS_NXDOMAIN:
		tell_failure(j, ROUTE_NEVER, never_s(reply->ttl_s), "5.1.2",
			"the domain %.*s does not exist", SLICE_ARG(j->name));
		break;
	case DNS_FAILED:
	case DNS_BOGUS:
		note_failure(j, j->name, reply);
		tell_temporary(j);
		break;
	}
	drop_pending(j);
}

/* ---- life ---- */

static void on_late(void *arg)
{
	struct job *j = arg;

	if (j->addr_count != 0) {
		tell_found(j);
	} else if (loop_now_ms(j->finder->loop) < j->until_ms) {
		loop_deadline_set(&j->deadline, j->until_ms);
	} else {
		struct dns_reply late = {.why = "no answer in time"};
		note_failure(j, j->name, &late);
		tell_temporary(j);
	}
	/* Look-ups that run still point at the job. */
}

/* "1.2.3.4", "[1.2.3.4]", "[IPv6:::1]", "::1". */
static bool is_address(struct slice name, struct endpoint *out)
{
	if (name.n >= 2 && name.p[0] == '[' && name.p[name.n - 1] == ']') {
		name = slice_make(name.p + 1, name.n - 2);
	}
	if (slice_starts_nocase(name, SLICE("IPv6:"))) {
		name = slice_skip(name, 5);
	}
	return endpoint_parse_addr(name, 0, out) == ERR_OK;
}

/* Letters folded; what is beyond ASCII as the DNS has it (RFC 5891). */
static bool fold_name(struct arena *a, struct slice name, struct slice *out)
{
	char *text;
	char *ascii = NULL;
	bool is_ascii = true;

	if (name.n != 0 && name.p[name.n - 1] == '.') {
		name.n--;
	}
	text = name.n > LIMIT_HOSTNAME ? NULL : arena_cstr(a, name);
	if (text == NULL) {
		return false;
	}
	for (size_t i = 0; i < name.n; i++) {
		is_ascii = is_ascii && (text[i] & 0x80) == 0;
		text[i] = (char)ascii_lower((uint8_t)text[i]);
	}
	*out = slice_make(text, name.n);
	if (!is_ascii) {
		if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) !=
			IDN2_OK) {
			return false;
		}
		bool copied = arena_copy(a, slice_from_cstr(ascii), out);
		idn2_free(ascii);
		if (!copied) {
			return false;
		}
	}
	return out->n <= DNS_NAME_MAX && domain_is_valid(*out, 0);
}

static void find_address(struct job *j, const struct endpoint *to)
{
	char text[ENDPOINT_TEXT_MAX];

	endpoint_format_addr(to, text);
	j->ttl_s = 3600;
	j->addrs = arena_alloc(&j->arena, sizeof(*j->addrs));
	assert(j->addrs != NULL);
	consider(j, slice_from_cstr(text), 0, DNSSEC_INSECURE, *to);
	if (j->addr_count != 0) {
		tell_found(j);
	} else {
		tell_failure(j, ROUTE_NEVER, FINDER_NEGATIVE_MAX_S, "5.4.4",
			"%s is an address that mail is never sent to", text);
	}
}

static void find_name(struct job *j)
{
	const struct finder_source *source = &j->finder->source;

	if (j->kind == ROUTE_HOST) {
		ask_name_itself(j);
		return;
	}
	loop_deadline_set(&j->deadline, j->until_ms);
	j->pending++;
	source->lookup(source->arg, j->name, DNS_TYPE_MX, on_mx, j);
}

void finder_find(struct finder *f, uint8_t kind, struct slice name, finder_done *done,
	void *arg)
{
	struct job *j = alloc_zero(1, sizeof(*j));
	struct endpoint to;

	*j = (struct job){.finder = f,
		.done = done,
		.arg = arg,
		.kind = kind,
		.ttl_s = DNS_TTL_MAX_S,
		.until_ms = loop_now_ms(f->loop) + FINDER_DEADLINE_MS,
		.pending = 1};
	arena_init(&j->arena, JOB_ARENA_MAX);
	loop_deadline_init(&j->deadline, f->loop, on_late, j);
	list_append(&f->jobs, &j->link);
	if (is_address(name, &to)) {
		find_address(j, &to);
	} else if (fold_name(&j->arena, name, &j->name)) {
		find_name(j);
	} else {
		tell_failure(j, ROUTE_NEVER, FINDER_NEGATIVE_MAX_S, "5.1.2",
			"the domain is no name that the DNS can have");
	}
	drop_pending(j);
}

struct finder *finder_new(struct loop *loop, const struct finder_rules *rules,
	const struct finder_source *source)
{
	struct finder *f = alloc_zero(1, sizeof(*f));

	f->loop = loop;
	f->rules = rules;
	f->source = *source;
	list_init(&f->jobs);
	return f;
}

void finder_free(struct finder **f)
{
	struct list *l;

	if (*f == NULL) {
		return;
	}
	while ((l = list_first(&(*f)->jobs)) != NULL) {
		job_free(CONTAINER_OF(l, struct job, link));
	}
	ALLOC_FREE(*f);
}
