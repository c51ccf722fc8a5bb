/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/io/fd.h"
#include "smtpd/listener.h"
#include "smtpd/settings.h"

/* Of one socket in one turn. */
#define ACCEPTS_PER_TURN 16
#define REST_MS ((int64_t)1000)

struct listener {
	struct list all;
	struct listeners *owner;
	struct loop_watch watch;
	int fd;
	uint32_t id;
	char *name;
	char *options;
	struct settings *settings;
	struct settings *pending; /* null: none */
};

static void watch_all(struct listeners *l)
{
	bool is_watching = l->is_open && !l->is_resting;

	for (struct list *e = l->all.next; e != &l->all; e = e->next) {
		struct listener *it = CONTAINER_OF(e, struct listener, all);
		loop_watch_set(&it->watch, is_watching ? LOOP_READ : 0u);
	}
}

static void on_rested(void *arg)
{
	struct listeners *l = arg;

	l->is_resting = false;
	watch_all(l);
}

/* Out of descriptors or memory: trying again at once would only burn the processor. */
static void rest(struct listeners *l, int number)
{
	l->accept_failures++;
	l->is_resting = true;
	log_warn("event=accept errno=\"%s\" what=\"no connections are taken for a second\"",
		strerror(number));
	watch_all(l);
	loop_timer_start(&l->rest, REST_MS);
}

static bool is_of_one_client(int number)
{
	return number == EINTR || number == ECONNABORTED || number == EPROTO ||
	       number == EPERM || number == ENETDOWN || number == ENOPROTOOPT ||
	       number == EHOSTDOWN || number == ENONET || number == EHOSTUNREACH ||
	       number == EOPNOTSUPP || number == ENETUNREACH || number == ETIMEDOUT;
}

static void on_ready(void *arg, unsigned what)
{
	struct listener *it = arg;
	struct listeners *l = it->owner;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN && !l->is_resting; i++) {
		struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
		socklen_t n = sizeof(sa);
		struct endpoint client;
		int fd = accept4(it->fd, (struct sockaddr *)&sa, &n,
			SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && errno == EAGAIN) {
			return;
		}
		if (fd < 0 && errno == EINVAL) {
			/* Master has ended the listening (a reload), and is about to say so. */
			log_info("event=listener_shut name=%s",
				LOG_TEXT(slice_from_cstr(it->name)));
			loop_watch_set(&it->watch, 0);
			return;
		}
		if (fd < 0) {
			if (!is_of_one_client(errno)) {
				rest(l, errno);
			}
			continue;
		}
		if (endpoint_from_sockaddr(&sa, &client) != ERR_OK) {
			fd_close(&fd);
			continue;
		}
		endpoint_unmap(&client);
		connection_begin(l->connections, &fd, client, it->settings);
		fd_close(&fd);
	}
}

void listeners_init(struct listeners *l, struct loop *loop, struct connections *connections)
{
	*l = (struct listeners){.loop = loop, .connections = connections};
	list_init(&l->all);
	loop_timer_init(&l->rest, loop, on_rested, l);
}

static void release(void *object)
{
	free(object);
}

static void listener_close(struct listener *it)
{
	loop_watch_set(&it->watch, 0);
	list_remove(&it->all);
	fd_close(&it->fd);
	settings_free(&it->settings);
	settings_free(&it->pending);
	free(it->name);
	free(it->options);
	loop_discard(it->owner->loop, release, it);
}

void listeners_clear(struct listeners *l)
{
	struct list *entry;

	while ((entry = list_first(&l->all)) != NULL) {
		listener_close(CONTAINER_OF(entry, struct listener, all));
	}
	loop_timer_stop(&l->rest);
}

static enum err make_settings(const struct conf *c, const struct listener *it, struct buf *why,
	struct settings **out)
{
	return settings_new(c, slice_from_cstr(it->name), slice_from_cstr(it->options), why,
		out);
}

void listeners_add(struct listeners *l, const struct conf *c, const struct msg_listen *m,
	int *fd)
{
	struct listener *it = alloc_zero(1, sizeof(*it));
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	it->owner = l;
	it->id = m->id;
	it->name = alloc_slice(m->name);
	it->options = alloc_slice(m->options);
	it->fd = *fd;
	*fd = -1;
	list_init(&it->all);
	loop_watch_init(&it->watch, l->loop, it->fd, on_ready, it);
	enum err e = fd_set_nonblock(it->fd);
	if (e == ERR_OK) {
		e = make_settings(c, it, &why, &it->settings);
	}
	if (e != ERR_OK) {
		log_error("event=listen name=%s err=\"%s\" what=%s",
			LOG_TEXT(slice_from_cstr(it->name)), err_str(e),
			LOG_TEXT(buf_view(&why)));
		listener_close(it);
	} else {
		list_append(&l->all, &it->all);
		watch_all(l);
	}
	buf_clear(&why);
}

void listeners_remove(struct listeners *l, uint32_t id)
{
	struct list *next;

	for (struct list *e = l->all.next; e != &l->all; e = next) {
		struct listener *it = CONTAINER_OF(e, struct listener, all);
		next = e->next;
		if (it->id == id) {
			listener_close(it);
		}
	}
}

void listeners_open(struct listeners *l)
{
	l->is_open = true;
	watch_all(l);
}

enum err listeners_prepare(struct listeners *l, const struct conf *c, struct buf *why)
{
	enum err e = ERR_OK;

	for (struct list *n = l->all.next; n != &l->all && e == ERR_OK; n = n->next) {
		struct listener *it = CONTAINER_OF(n, struct listener, all);
		settings_free(&it->pending);
		e = make_settings(c, it, why, &it->pending);
	}
	return e;
}

void listeners_apply(struct listeners *l)
{
	for (struct list *n = l->all.next; n != &l->all; n = n->next) {
		struct listener *it = CONTAINER_OF(n, struct listener, all);
		if (it->pending != NULL) {
			settings_free(&it->settings);
			it->settings = it->pending;
			it->pending = NULL;
		}
	}
	watch_all(l); /* also what was shut: master has mended it */
}

void listeners_forget(struct listeners *l)
{
	for (struct list *n = l->all.next; n != &l->all; n = n->next) {
		settings_free(&CONTAINER_OF(n, struct listener, all)->pending);
	}
}
