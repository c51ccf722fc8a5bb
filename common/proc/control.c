/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/io/fd.h"
#include "common/proc/control.h"

#define ACCEPT_AGAIN_MS 1000

struct control {
	struct loop *loop;
	struct loop_watch watch;
	struct loop_timer again; /* after no descriptor was left for a client */
	enum role role;
	unsigned index;
	int fd;
	control_on_ask *on_ask;
	void *arg;
	struct list clients;
	unsigned count;
};

struct ask {
	struct list all;
	struct control *owner;
	struct channel *channel; /* null: the client has gone */
	struct loop_timer timer; /* for the client to ask, and to go */
	bool greeted;
	bool pending; /* the program holds this ask */
};

static void client_release(void *object)
{
	free(object);
}

static void client_end(struct ask *a)
{
	if (a->channel != NULL) {
		channel_close(&a->channel);
	}
	loop_timer_stop(&a->timer);
	if (a->pending) {
		return;
	}
	list_remove(&a->all);
	a->owner->count--;
	loop_discard(a->owner->loop, client_release, a);
}

static void on_late(void *arg)
{
	client_end(arg);
}

static enum err take_ask(struct ask *a, struct slice body)
{
	struct msg_ctl_ask m;

	if (msg_ctl_ask_decode(body, &m) != ERR_OK || a->pending) {
		return ERR_PROTO;
	}
	loop_timer_stop(&a->timer);
	a->pending = true;
	a->owner->on_ask(a->owner->arg, a, &m);
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct ask *a = arg;
	struct msg_hello hello;

	(void)fd;
	if (!a->greeted) {
		if (type != MSG_ID_hello || msg_hello_decode(body, &hello) != ERR_OK ||
			hello.role != ROLE_CTL) {
			return ERR_PROTO;
		}
		a->greeted = true;
		return ERR_OK;
	}
	return type == MSG_ID_ctl_ask ? take_ask(a, body) : ERR_PROTO;
}

static void on_gone(void *arg, enum err why)
{
	(void)why;
	client_end(arg);
}

static const struct channel_handler client_handler = {.on_frame = on_frame, .on_gone = on_gone};

/* The socket's mode lets nobody else in; the kernel's word is asked for all the same. */
static bool may_ask(int fd)
{
	struct ucred who;
	socklen_t n = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 &&
	       (who.uid == 0 || who.uid == geteuid());
}

static void client_new(struct control *c, int *fd)
{
	struct ask *a = alloc_zero(1, sizeof(*a));
	struct msg_hello hello = {.role = (uint8_t)c->role, .index = c->index};

	a->owner = c;
	list_append(&c->clients, &a->all);
	c->count++;
	loop_timer_init(&a->timer, c->loop, on_late, a);
	loop_timer_start(&a->timer, CONTROL_ASK_WITHIN_MS);
	a->channel = channel_new(c->loop, fd, &client_handler, a);
	if (msg_hello_send(a->channel, &hello) != ERR_OK) {
		client_end(a);
	}
}

static void on_client(void *arg, unsigned what)
{
	struct control *c = arg;

	(void)what;
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE) {
			/* The client stays in the socket's queue, which stays readable. */
			loop_watch_set(&c->watch, 0);
			loop_timer_start(&c->again, ACCEPT_AGAIN_MS);
		}
		return;
	}
	if (c->count < CONTROL_CLIENTS_MAX && may_ask(fd)) {
		client_new(c, &fd);
	}
	fd_close(&fd);
}

static void on_again(void *arg)
{
	loop_watch_set(&((struct control *)arg)->watch, LOOP_READ);
}

struct control *control_new(struct loop *loop, enum role role, unsigned index, int *fd,
	control_on_ask *on_ask, void *arg)
{
	struct control *c = alloc_zero(1, sizeof(*c));

	c->loop = loop;
	c->role = role;
	c->index = index;
	c->fd = *fd;
	*fd = -1;
	c->on_ask = on_ask;
	c->arg = arg;
	list_init(&c->clients);
	loop_timer_init(&c->again, loop, on_again, c);
	loop_watch_init(&c->watch, loop, c->fd, on_client, c);
	loop_watch_set(&c->watch, LOOP_READ);
	return c;
}

void control_free(struct control **c)
{
	struct control *o = *c;

	if (o == NULL) {
		return;
	}
	while (!list_is_empty(&o->clients)) {
		struct ask *a = CONTAINER_OF(list_first(&o->clients), struct ask, all);
		a->pending = false;
		if (a->channel != NULL && channel_flush(a->channel, true) != ERR_OK) {
			log_info("event=ctl what=\"the command did not wait for its answer\"");
		}
		client_end(a);
	}
	loop_watch_set(&o->watch, 0);
	loop_timer_stop(&o->again);
	fd_close(&o->fd);
	ALLOC_FREE(*c);
}

void ask_line(struct ask *a, struct slice json)
{
	struct msg_ctl_line m = {.json = json};

	if (a != NULL && a->channel != NULL && msg_ctl_line_send(a->channel, &m) != ERR_OK) {
		log_warn("event=ctl_line what=\"a line was too long\"");
	}
}

void ask_done(struct ask **a, unsigned exit_code, uint64_t count, struct slice text)
{
	struct ask *o = *a;
	struct msg_ctl_done m = {.exit_code = (uint8_t)exit_code,
		.count = count,
		.text = slice_head(text, LIMIT_TEXT)};

	*a = NULL;
	if (o == NULL) {
		return;
	}
	o->pending = false;
	if (o->channel == NULL || msg_ctl_done_send(o->channel, &m) != ERR_OK) {
		client_end(o);
		return;
	}
	/* It reads the answer, then goes, or asks again. */
	loop_timer_start(&o->timer, CONTROL_ASK_WITHIN_MS);
}
