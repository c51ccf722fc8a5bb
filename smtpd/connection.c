/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/socket.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/io/stream.h"
#include "smtpd/connection.h"
#include "smtpd/policy.h"
#include "smtpd/tls.h"

/* How long the last reply may take to be read. */
#define LINGER_MS ((int64_t)5 * 1000)

/* So much may wait for a client that does not read. */
#define UNSENT_MOST ((uint64_t)64 * 1024)

/* Connections of one client that is not exempt from the limit. */
struct client {
	struct hash_link link;
	uint32_t count;
	uint8_t key[17]; /* family, address; of IPv6 the /64 that one customer has */
};

struct connection {
	struct list all;
	struct connections *owner;
	struct client *counted; /* null: exempt */
	struct stream *stream;
	struct loop_deadline deadline;
	bool wants_tls;
	struct session session;
};

/* ---- counting ---- */

static struct client *client_of(struct connections *c, const struct endpoint *e)
{
	uint8_t key[17] = {e->family};

	memcpy(key + 1, e->addr, e->family == 4 ? 4 : 8);
	struct hash_link *l = hash_table_find(&c->clients, slice_make(key, sizeof(key)));
	if (l != NULL) {
		return CONTAINER_OF(l, struct client, link);
	}
	struct client *it = alloc_zero(1, sizeof(*it));
	memcpy(it->key, key, sizeof(key));
	hash_table_insert(&c->clients, &it->link, slice_make(it->key, sizeof(it->key)));
	return it;
}

static void client_leave(struct connections *c, struct client *it)
{
	if (it != NULL && --it->count == 0) {
		hash_table_remove(&c->clients, &it->link);
		free(it);
	}
}

/* ---- the end ---- */

static void release(void *object)
{
	free(object);
}

/* The stream is closed, or is going to be by itself. */
static void end(struct connection *x)
{
	struct connections *c = x->owner;

	loop_deadline_unset(&x->deadline);
	session_clear(&x->session);
	client_leave(c, x->counted);
	list_remove(&x->all);
	c->count--;
	loop_discard(c->loop, release, x);
	if (c->count == 0) {
		c->on_empty(c->arg);
	}
}

/* ---- what the session wants ---- */

static void io_write(void *arg, struct slice bytes)
{
	struct connection *x = arg;

	stream_write(x->stream, bytes);
}

static bool io_has_room(void *arg)
{
	struct connection *x = arg;

	return stream_unsent(x->stream) <= UNSENT_MOST;
}

static void io_pause(void *arg)
{
	struct connection *x = arg;

	stream_pause(x->stream);
}

static void io_resume(void *arg)
{
	struct connection *x = arg;

	stream_resume(x->stream);
}

static void io_deadline(void *arg, int64_t at_ms)
{
	struct connection *x = arg;

	loop_deadline_set(&x->deadline, at_ms);
}

static void io_start_tls(void *arg)
{
	struct connection *x = arg;

	x->wants_tls = true; /* when the 220 has left: on_drained() */
}

static void io_close(void *arg)
{
	struct connection *x = arg;

	stream_finish(&x->stream, x->session.has_quit ? 0 : LINGER_MS);
	end(x);
}

static const struct session_io session_io = {
	.write = io_write,
	.has_room = io_has_room,
	.pause = io_pause,
	.resume = io_resume,
	.deadline = io_deadline,
	.start_tls = io_start_tls,
	.close = io_close,
};

/* ---- what the stream tells ---- */

static size_t on_input(void *arg, struct slice bytes)
{
	struct connection *x = arg;

	return session_input(&x->session, bytes);
}

static void give_up(struct connection *x)
{
	stream_close(&x->stream);
	end(x);
}

static void on_drained(void *arg)
{
	struct connection *x = arg;

	if (!x->wants_tls) {
		session_on_drained(&x->session);
		return;
	}
	x->wants_tls = false;
	/* Clear text that came meanwhile is refused before anything is made for it. */
	struct ssl_st *tls =
		stream_has_input(x->stream) ? NULL : tls_new(x->session.settings->tls);
	if (tls == NULL) {
		session_log_reject(&x->session, "starttls_refused", SLICE_EMPTY);
		give_up(x);
		return;
	}
	stream_start_tls(x->stream, &tls, true);
}

static void on_tls(void *arg)
{
	struct connection *x = arg;
	char facts[TLS_FACTS_MAX];

	tls_facts(stream_tls(x->stream), facts, sizeof(facts));
	session_on_tls(&x->session, facts);
}

static void on_end(void *arg, enum stream_end why)
{
	struct connection *x = arg;

	if (why == STREAM_END_EOF) {
		session_on_end(&x->session);
		return;
	}
	if (why == STREAM_END_TLS) {
		session_log_reject(&x->session, "tls_failed",
			slice_from_cstr(stream_tls_error(x->stream)));
	}
	give_up(x);
}

static const struct stream_handler stream_handler = {.on_input = on_input,
	.on_drained = on_drained,
	.on_tls = on_tls,
	.on_end = on_end};

static void on_late(void *arg)
{
	struct connection *x = arg;

	session_on_late(&x->session);
}

/* ---- the beginning ---- */

/* No session is made for one too many. */
static void turn_away(struct connections *c, int *fd, const struct settings *settings,
	const char *code, const char *why)
{
	char line[400];

	c->turned_away++;
	if (str_format(line, sizeof(line), "421 %s %.*s %s\r\n", code,
		    SLICE_ARG(settings->hostname), why) == ERR_OK) {
		ssize_t n = send(*fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)n; /* it may be gone */
	}
	fd_close(fd);
}

/* Whether bytes are there before we have greeted. */
static bool talks_early(int fd)
{
	uint8_t byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void connection_begin(struct connections *c, int *fd, struct endpoint client,
	struct settings *settings)
{
	struct client *counted = NULL;

	c->total++;
	if (c->count >= settings->connection_limit) {
		turn_away(c, fd, settings, "4.3.2", "All connections are in use");
		return;
	}
	if (settings->client_limit != 0 && !cidr_list_has(&settings->uncounted, &client)) {
		counted = client_of(c, &client);
		counted->count++;
		if (counted->count > settings->client_limit) {
			client_leave(c, counted);
			turn_away(c, fd, settings, "4.7.0", "Too many connections");
			return;
		}
	}
	struct connection *x = alloc_zero(1, sizeof(*x));
	bool is_early = settings->forbids_pipelining && !policy_is_trusted(settings, &client) &&
			talks_early(*fd);
	x->owner = c;
	x->counted = counted;
	list_append(&c->all, &x->all);
	c->count++;
	loop_deadline_init(&x->deadline, c->loop, on_late, x);
	x->stream = stream_accepted(c->loop, fd, &stream_handler, x);
	session_start(&x->session, c->env, &session_io, x, settings_share(settings), &client,
		is_early);
}

void connections_init(struct connections *c, struct loop *loop, struct session_env *env,
	void (*on_empty)(void *arg), void *arg)
{
	*c = (struct connections){.loop = loop, .env = env, .on_empty = on_empty, .arg = arg};
	list_init(&c->all);
	hash_table_init(&c->clients);
}

void connections_drain(struct connections *c)
{
	struct list *next;

	for (struct list *l = c->all.next; l != &c->all; l = next) {
		struct connection *x = CONTAINER_OF(l, struct connection, all);
		next = l->next;
		session_drain(&x->session);
	}
}

void connections_clear(struct connections *c)
{
	struct list *entry;

	while ((entry = list_first(&c->all)) != NULL) {
		give_up(CONTAINER_OF(entry, struct connection, all));
	}
	hash_table_clear(&c->clients);
}
