/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/conf/why.h"
#include "common/io/fd.h"
#include "master/listeners.h"

#define BACKLOG 4096
#define LISTENERS_MAX 1024u

/* ---- which addresses ---- */

struct gather {
	struct listeners *to;
	const struct conf *conf;
	const struct conf_listener *from;
	struct buf *why;
};

static bool family_wanted(const struct conf *c, uint8_t family)
{
	bool any = false;

	for (size_t i = 0; i < conf_list_count(c, CONF_inet_protocols); i++) {
		struct slice word = conf_list_at(c, CONF_inet_protocols, i);
		any = true;
		if (slice_eq_nocase(word, SLICE("all")) ||
			slice_eq_nocase(word, family == 4 ? SLICE("ipv4") : SLICE("ipv6"))) {
			return true;
		}
	}
	return !any;
}

static enum err add(struct gather *g, const struct endpoint *at, bool may_miss)
{
	struct listeners *l = g->to;

	if (!family_wanted(g->conf, at->family)) {
		return ERR_OK;
	}
	for (size_t i = 0; i < l->count; i++) {
		if (at->port != 0 && endpoint_eq(&l->items[i].at, at)) {
			if (may_miss) {
				return ERR_OK;
			}
			char text[ENDPOINT_TEXT_MAX];
			endpoint_format(at, text);
			why_add(g->why, "two services listen on %s", text);
			return ERR_CONFIG;
		}
	}
	if (l->count == LISTENERS_MAX) {
		why_add(g->why, "too many addresses to listen on");
		return ERR_CONFIG;
	}
	l->items = alloc_resize(l->items, l->count + 1, sizeof(l->items[0]));
	l->items[l->count++] = (struct listener){.name = alloc_cstr(g->from->name),
		.options = alloc_cstr(g->from->options == NULL ? "" : g->from->options),
		.at = *at,
		.may_miss = may_miss,
		.fd = -1};
	return ERR_OK;
}

static enum err add_text(struct gather *g, const char *addr, bool may_miss)
{
	struct endpoint at;
	enum err e = endpoint_parse_addr(slice_from_cstr(addr), g->from->port, &at);

	return e == ERR_OK ? add(g, &at, may_miss) : e;
}

/* A name, by what this system knows of it: /etc/hosts, or the DNS. Before the relay runs. */
static enum err add_name(struct gather *g, const char *name)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	enum err e = ERR_OK;
	int why = getaddrinfo(name, NULL, &hints, &found);

	if (why != 0) {
		why_add(g->why, "cannot listen on \"%s\": %s", name, gai_strerror(why));
		return ERR_CONFIG;
	}
	for (const struct addrinfo *a = found; a != NULL && e == ERR_OK; a = a->ai_next) {
		struct sockaddr_storage sa = {0};
		struct endpoint at;
		memcpy(&sa, a->ai_addr, a->ai_addrlen);
		if (endpoint_from_sockaddr(&sa, &at) == ERR_OK) {
			at.port = g->from->port;
			e = add(g, &at, true);
		}
	}
	freeaddrinfo(found);
	return e;
}

static enum err add_host(struct gather *g, const char *host)
{
	struct slice text = slice_from_cstr(host);
	struct endpoint at;
	enum err e = ERR_OK;

	if (slice_eq_nocase(text, SLICE("all")) || slice_eq(text, SLICE("*"))) {
		e = add_text(g, "0.0.0.0", true);
		return e == ERR_OK ? add_text(g, "::", true) : e;
	}
	if (slice_eq_nocase(text, SLICE("loopback-only")) ||
		slice_eq_nocase(text, SLICE("localhost"))) {
		e = add_text(g, "127.0.0.1", true);
		return e == ERR_OK ? add_text(g, "::1", true) : e;
	}
	if (endpoint_parse_addr(text, g->from->port, &at) == ERR_OK) {
		return add(g, &at, false);
	}
	return add_name(g, host);
}

static enum err add_interfaces(struct gather *g)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < conf_list_count(g->conf, CONF_inet_interfaces) && e == ERR_OK;
		i++) {
		struct slice word = conf_list_at(g->conf, CONF_inet_interfaces, i);
		char *host = alloc_slice(word);
		e = add_host(g, host);
		free(host);
	}
	return e;
}

static enum err gather_all(const struct conf_source *source, struct gather *g)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < source->listener_count && e == ERR_OK; i++) {
		g->from = &source->listeners[i];
		e = g->from->host == NULL || g->from->host[0] == '\0'
			    ? add_interfaces(g)
			    : add_host(g, g->from->host);
		if (e != ERR_OK) {
			why_add(g->why, " (master.cf, line %u)", g->from->line);
		}
	}
	return e;
}

unsigned listeners_wish(const struct conf_source *source)
{
	unsigned wish = 0;

	for (size_t i = 0; i < source->listener_count; i++) {
		unsigned n = source->listeners[i].processes;
		if (n == 0) {
			return 0;
		}
		wish = n > wish ? n : wish;
	}
	return wish;
}

/* ---- binding ---- */

static bool socket_set(int fd, int level, int option)
{
	const int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

static enum err bind_one(struct listener *l)
{
	struct sockaddr_storage sa;
	socklen_t n = endpoint_to_sockaddr(&l->at, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) {
		return ERR_SYS;
	}
	if (!socket_set(fd, SOL_SOCKET, SO_REUSEADDR) ||
		!socket_set(fd, IPPROTO_TCP, TCP_NODELAY) ||
		(l->at.family == 6 && !socket_set(fd, IPPROTO_IPV6, IPV6_V6ONLY)) ||
		bind(fd, (const struct sockaddr *)&sa, n) != 0 || listen(fd, BACKLOG) != 0) {
		goto fail;
	}
	n = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &n) != 0) {
		goto fail;
	}
	if (endpoint_from_sockaddr(&sa, &l->bound) != ERR_OK) {
		l->bound = l->at;
	}
	l->fd = fd;
	return ERR_OK;
fail:
	fd_close(&fd);
	return ERR_SYS;
}

/* This machine has no such address, or no such family at all. */
static bool is_missing(int number)
{
	return number == EADDRNOTAVAIL || number == EAFNOSUPPORT || number == EPROTONOSUPPORT ||
	       number == ENETUNREACH;
}

static void tell_unbound(const struct listener *l, struct buf *why)
{
	char text[ENDPOINT_TEXT_MAX];
	int number = errno;

	endpoint_format(&l->at, text);
	why_add(why, "cannot listen on %s (%s in master.cf): %s%s", text, l->name,
		strerror(number),
		number == EACCES ? "; ports below 1024 are for relays that root starts" : "");
}

static void forget(struct listeners *l, size_t i)
{
	free(l->items[i].name);
	free(l->items[i].options);
	fd_close(&l->items[i].fd);
	memmove(&l->items[i], &l->items[i + 1], (l->count - i - 1) * sizeof(l->items[0]));
	l->count--;
}

/* The socket of the old set at the same place, or null. */
static const struct listener *find_place(const struct listeners *l, const struct endpoint *at)
{
	for (size_t i = 0; l != NULL && i < l->count; i++) {
		if (l->items[i].fd >= 0 && endpoint_eq(&l->items[i].at, at)) {
			return &l->items[i];
		}
	}
	return NULL;
}

static bool same_text(const struct listener *a, const struct listener *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->options, b->options) == 0;
}

static enum err take_over(const struct listener *old, struct listener *l)
{
	l->fd = fcntl(old->fd, F_DUPFD_CLOEXEC, 0);
	if (l->fd < 0) {
		return ERR_SYS;
	}
	/* A captured smtpd could have ended the listening, for all who share the socket. */
	(void)listen(l->fd, BACKLOG);
	l->bound = old->bound;
	l->is_kept = same_text(old, l);
	if (l->is_kept) {
		l->id = old->id;
	}
	return ERR_OK;
}

/* Whether an old socket that will go holds that port. */
static bool old_is_in_the_way(const struct listeners *old, const struct listener *l)
{
	for (size_t i = 0; old != NULL && i < old->count; i++) {
		if (old->items[i].at.port == l->at.port &&
			old->items[i].at.family == l->at.family) {
			return true;
		}
	}
	return false;
}

static enum err bind_all(struct listeners *l, const struct listeners *old, bool *waits,
	struct buf *why)
{
	size_t i = 0;

	while (i < l->count) {
		struct listener *one = &l->items[i];
		const struct listener *before = find_place(old, &one->at);
		one->id = l->next_id++;
		enum err e = before != NULL ? take_over(before, one) : bind_one(one);
		int number = errno;
		if (e == ERR_OK) {
			i++;
		} else if (number == EADDRINUSE && old_is_in_the_way(old, one)) {
			*waits = true;
			i++;
		} else if (one->may_miss && is_missing(number)) {
			char text[ENDPOINT_TEXT_MAX];
			endpoint_format(&one->at, text);
			log_info("event=listen_skip at=%s why=\"%s\"", text, strerror(number));
			forget(l, i);
		} else {
			errno = number;
			tell_unbound(one, why);
			return ERR_CONFIG;
		}
	}
	return ERR_OK;
}

enum err listeners_prepare(const struct conf_source *source, const struct conf *c,
	const struct listeners *old, struct listeners *out, bool *waits, struct buf *why)
{
	struct listeners l = {.next_id = old == NULL ? 1 : old->next_id};
	struct gather g = {.to = &l, .conf = c, .why = why};
	enum err e = gather_all(source, &g);

	*waits = false;
	if (e == ERR_OK) {
		e = bind_all(&l, old, waits, why);
	}
	if (e == ERR_OK && l.count == 0) {
		why_add(why,
			"master.cf has no smtpd service to listen with (such as \"smtp inet n - y - - smtpd\")");
		e = ERR_CONFIG;
	}
	if (e != ERR_OK) {
		listeners_clear(&l);
	}
	*out = l;
	return e;
}

bool listeners_bind_rest(struct listeners *l, struct buf *why)
{
	bool done = true;

	buf_reset(why);
	for (size_t i = 0; i < l->count; i++) {
		if (l->items[i].fd < 0 && bind_one(&l->items[i]) != ERR_OK) {
			buf_reset(why);
			tell_unbound(&l->items[i], why);
			done = false;
		}
	}
	return done;
}

bool listeners_have(const struct listeners *l, const struct listener *which)
{
	for (size_t i = 0; i < l->count; i++) {
		if (l->items[i].id == which->id) {
			return true;
		}
	}
	return false;
}

void listener_shut(struct listener *l)
{
	if (l->fd >= 0) {
		(void)shutdown(l->fd, SHUT_RD);
	}
}

/* ---- what they are ---- */

static bool is_wildcard(const struct endpoint *e)
{
	static const uint8_t zero[16];

	return memcmp(e->addr, zero, e->family == 4 ? 4 : 16) == 0;
}

static void describe_one(const struct endpoint *e, struct buf *out)
{
	char text[ENDPOINT_TEXT_MAX];

	endpoint_format(e, text);
	why_add(out, "%s\n", text);
}

static void describe_machine(const struct listener *l, struct buf *out)
{
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) != 0) {
		return;
	}
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		struct sockaddr_storage sa = {0};
		struct endpoint at;
		if (i->ifa_addr == NULL || (i->ifa_addr->sa_family != AF_INET &&
						   i->ifa_addr->sa_family != AF_INET6)) {
			continue;
		}
		memcpy(&sa, i->ifa_addr,
			i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
							  : sizeof(struct sockaddr_in6));
		if (endpoint_from_sockaddr(&sa, &at) == ERR_OK && at.family == l->at.family) {
			at.port = l->bound.port;
			describe_one(&at, out);
		}
	}
	freeifaddrs(all);
}

void listeners_describe(const struct listeners *l, struct buf *out)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct listener *one = &l->items[i];
		struct endpoint at = one->fd >= 0 ? one->bound : one->at;
		describe_one(&at, out);
		if (is_wildcard(&at)) {
			describe_machine(one, out);
		}
	}
}

void listeners_clear(struct listeners *l)
{
	while (l->count != 0) {
		forget(l, l->count - 1);
	}
	free(l->items);
	l->items = NULL;
}
