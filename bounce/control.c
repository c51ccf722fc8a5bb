/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/control.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"
#include "common/mail/address.h"
#include "common/mail/verdict.h"

#define CLIENTS_MAX 32u

struct control {
	struct service *service;
	struct suppressor *suppressor;
	struct journal_writer *journal;
	int fd;
	struct loop_watch watch;
	struct list clients;
	unsigned client_count;
};

struct client {
	struct list link;
	struct control *control;
	struct channel *channel;
	bool is_greeted;
	bool is_busy; /* one question at a time */
	uint8_t verb;
	char address[LIMIT_ADDRESS + 1];
	char operator_name[LIMIT_NAME + 1];
};

static void client_free(struct client *c)
{
	suppressor_forget(c->control->suppressor, c);
	list_remove(&c->link);
	c->control->client_count--;
	channel_close(&c->channel);
	free(c);
}

static void answer(struct client *c, uint8_t exit_code, uint64_t count, const char *text)
{
	struct msg_ctl_done m = {.exit_code = exit_code,
		.count = count,
		.text = slice_from_cstr(text)};

	c->is_busy = false;
	if (msg_ctl_done_send(c->channel, &m) != ERR_OK) {
		log_error("event=ctl_answer_failed");
	}
}

static void on_changed(void *arg, enum err e)
{
	struct client *c = arg;
	struct event_operated event = {.operator_name = slice_from_cstr(c->operator_name),
		.verb = c->verb == CTL_SUPPRESS_ADD ? SLICE("suppress add")
						    : SLICE("suppress remove"),
		.operand = slice_from_cstr(c->address),
		.count = 1};

	if (e == ERR_OK) {
		journal_operated(c->control->journal, clock_wall_us(), &event);
		answer(c, EX_OK, 1, "");
	} else if (e == ERR_NOTFOUND) {
		answer(c, EX_UNAVAILABLE, 0, "the address is not on the list");
	} else {
		answer(c, EX_IOERR, 0, "the list cannot be written");
	}
}

static void on_ask(struct client *c, const struct msg_ctl_ask *m)
{
	struct address address;

	c->is_busy = true;
	c->verb = m->verb;
	if (m->verb != CTL_SUPPRESS_ADD && m->verb != CTL_SUPPRESS_REMOVE) {
		answer(c, EX_USAGE, 0, "no command for this program");
		return;
	}
	/* What is on the list already can be taken off it, whatever it is. */
	if (m->operand.n > LIMIT_ADDRESS ||
		(m->verb == CTL_SUPPRESS_ADD &&
			address_parse(m->operand, ADDRESS_UTF8 | ADDRESS_LAX_DOTS, &address) !=
				ADDRESS_FINE)) {
		answer(c, EX_DATAERR, 0, "this is no mail address");
		return;
	}
	if (str_copy(c->address, sizeof(c->address), m->operand) != ERR_OK) {
		answer(c, EX_DATAERR, 0, "this is no mail address");
		return;
	}
	str_printable(c->operator_name, sizeof(c->operator_name), m->operator_name);
	struct suppress_change change = {.is_removal = m->verb == CTL_SUPPRESS_REMOVE,
		.entry = {.address = slice_from_cstr(c->address),
			.reason = SUPPRESS_MANUAL,
			.stage = STAGE_OPERATOR,
			.text = m->text},
		.operator_name = slice_from_cstr(c->operator_name)};
	suppressor_change(c->control->suppressor, &change, on_changed, c);
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct client *c = arg;
	struct msg_hello hello;
	struct msg_ctl_ask ask;
	enum err e;

	(void)fd;
	if (type == MSG_ID_hello && !c->is_greeted) {
		c->is_greeted = true;
		return msg_hello_decode(body, &hello);
	}
	if (type != MSG_ID_ctl_ask || !c->is_greeted || c->is_busy) {
		return ERR_PROTO;
	}
	e = msg_ctl_ask_decode(body, &ask);
	if (e == ERR_OK) {
		on_ask(c, &ask);
	}
	return e;
}

static void on_gone(void *arg, enum err why)
{
	(void)why;
	client_free(arg);
}

static const struct channel_handler handler = {.on_frame = on_frame, .on_gone = on_gone};

static void on_ready(void *arg, unsigned what)
{
	struct control *k = arg;
	struct msg_hello hello = {.role = ROLE_BOUNCE, .index = k->service->index};

	(void)what;
	int fd = accept4(k->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		return;
	}
	if (k->client_count >= CLIENTS_MAX) {
		fd_close(&fd);
		return;
	}
	struct client *c = alloc_zero(1, sizeof(*c));
	c->control = k;
	c->channel = channel_new(k->service->loop, &fd, &handler, c);
	list_append(&k->clients, &c->link);
	k->client_count++;
	if (msg_hello_send(c->channel, &hello) != ERR_OK) {
		log_error("event=hello_failed role=ctl");
	}
}

struct control *control_new(struct service *service, struct suppressor *suppressor,
	struct journal_writer *journal, int *fd)
{
	struct control *k = alloc_zero(1, sizeof(*k));

	k->service = service;
	k->suppressor = suppressor;
	k->journal = journal;
	k->fd = *fd;
	*fd = -1;
	list_init(&k->clients);
	loop_watch_init(&k->watch, service->loop, k->fd, on_ready, k);
	loop_watch_set(&k->watch, LOOP_READ);
	return k;
}

void control_free(struct control **c)
{
	struct control *k = *c;
	struct list *l;

	if (k == NULL) {
		return;
	}
	*c = NULL;
	while ((l = list_first(&k->clients)) != NULL) {
		client_free(CONTAINER_OF(l, struct client, link));
	}
	loop_watch_set(&k->watch, 0);
	fd_close(&k->fd);
	free(k);
}
