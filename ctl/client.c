/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/io/loop.h"
#include "ctl/client.h"

#define PATIENCE_MS 60000

struct client {
	struct loop *loop;
	struct channel *channel;
	struct loop_timer patience;
	int64_t patience_ms;
	void (*on_line)(void *arg, struct slice json);
	void *arg;
	struct client_answer answer;
	bool is_answered;
	enum err err; /* why the loop ended without an answer */
};

static void on_late(void *arg)
{
	struct client *c = arg;

	c->err = ERR_TIMEOUT;
	loop_stop(c->loop);
}

static enum err on_done(struct client *c, struct slice body)
{
	struct msg_ctl_done done;
	enum err e = msg_ctl_done_decode(body, &done);

	if (e == ERR_OK) {
		c->answer = (struct client_answer){.exit_code = done.exit_code,
			.count = done.count};
		str_printable(c->answer.text, sizeof(c->answer.text), done.text);
		c->is_answered = true;
		loop_stop(c->loop);
	}
	return e;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct client *c = arg;
	struct msg_hello hello;
	struct msg_ctl_line line;
	enum err e = ERR_PROTO;

	(void)fd;
	loop_timer_start(&c->patience, c->patience_ms);
	if (type == MSG_ID_hello) {
		e = msg_hello_decode(body, &hello);
	} else if (type == MSG_ID_ctl_line) {
		e = msg_ctl_line_decode(body, &line);
		if (e == ERR_OK && c->on_line != NULL) {
			c->on_line(c->arg, line.json);
		}
	} else if (type == MSG_ID_ctl_done) {
		e = on_done(c, body);
	}
	return e;
}

static void on_gone(void *arg, enum err why)
{
	struct client *c = arg;

	c->err = why;
	channel_close(&c->channel);
	loop_stop(c->loop);
}

static enum err connect_to(const char *path, int *out)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct slice name = slice_from_cstr(path);
	char short_path[64];
	int dir = -1;
	enum err e;

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return err_from_errno();
	}
	if (name.n >= sizeof(to.sun_path)) {
		/* A socket address holds 108 bytes; a queue directory may be longer. */
		char folder[PATH_MAX];
		size_t slash = slice_find_last(name, '/');
		e = str_copy(folder, sizeof(folder), slice_head(name, slash));
		if (e == ERR_OK) {
			dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
			e = dir < 0 ? err_from_errno()
				    : str_format(short_path, sizeof(short_path),
					      "/proc/self/fd/%d/%.*s", dir,
					      SLICE_ARG(slice_skip(name, slash + 1)));
		}
		if (e != ERR_OK) {
			goto out;
		}
		name = slice_from_cstr(short_path);
	}
	memcpy(to.sun_path, name.p, name.n);
	e = ERR_OK;
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
		e = errno == ECONNREFUSED ? ERR_CLOSED : err_from_errno();
	}
out:
	fd_close(&dir);
	if (e != ERR_OK) {
		fd_close(&fd);
		return e;
	}
	*out = fd;
	return ERR_OK;
}

enum err client_open(const char *queue_directory, const char *name, struct client **out)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_gone = on_gone};
	const struct msg_hello hello = {.role = ROLE_CTL};
	char path[PATH_MAX];
	struct client *c = NULL;
	int fd = -1;

	enum err e = str_format(path, sizeof(path), "%s/run/%s", queue_directory, name);
	if (e == ERR_OK) {
		e = connect_to(path, &fd);
	}
	if (e != ERR_OK) {
		return e;
	}
	c = alloc_zero(1, sizeof(*c));
	e = loop_new(&c->loop);
	if (e != ERR_OK) {
		fd_close(&fd);
		free(c);
		return e;
	}
	loop_timer_init(&c->patience, c->loop, on_late, c);
	c->channel = channel_new(c->loop, &fd, &handler, c);
	e = msg_hello_send(c->channel, &hello);
	if (e != ERR_OK) {
		client_close(&c);
		return e;
	}
	*out = c;
	return ERR_OK;
}

void client_close(struct client **c)
{
	if (*c != NULL) {
		loop_timer_stop(&(*c)->patience);
		channel_close(&(*c)->channel);
		loop_turn((*c)->loop, false); /* what was closed goes at the end of a turn */
		loop_free(&(*c)->loop);
		ALLOC_FREE(*c);
	}
}

/* Until something ends the loop. */
static void run(struct client *c, int64_t patience_ms)
{
	c->err = ERR_OK;
	c->patience_ms = patience_ms;
	loop_timer_start(&c->patience, patience_ms);
	loop_run(c->loop);
	loop_timer_stop(&c->patience);
}

enum err client_ask(struct client *c, const struct msg_ctl_ask *ask,
	void (*on_line)(void *arg, struct slice json), void *arg, int64_t patience_ms,
	struct client_answer *out)
{
	if (c->channel == NULL) {
		return ERR_CLOSED;
	}
	enum err e = msg_ctl_ask_send(c->channel, ask);
	if (e != ERR_OK) {
		return e;
	}
	c->on_line = on_line;
	c->arg = arg;
	c->is_answered = false;
	run(c, patience_ms);
	if (!c->is_answered) {
		return c->err == ERR_OK ? ERR_CLOSED : c->err;
	}
	*out = c->answer;
	return ERR_OK;
}

enum err client_wait_closed(struct client *c, int64_t patience_ms)
{
	while (c->channel != NULL) {
		run(c, patience_ms);
		if (c->err == ERR_TIMEOUT) {
			return ERR_TIMEOUT;
		}
	}
	return ERR_OK;
}

int client_absent(const char *queue_directory, enum err e)
{
	if (e == ERR_NOTFOUND || e == ERR_CLOSED) {
		return complain(EX_UNAVAILABLE, "no relay runs here (queue_directory %s)",
			queue_directory);
	}
	if (e == ERR_DENIED) {
		return complain(EX_NOPERM,
			"the relay's sockets in %s/run may not be used by this user",
			queue_directory);
	}
	return complain(EX_OSERR, "the relay in %s cannot be reached: %s", queue_directory,
		e == ERR_SYS ? strerrordesc_np(errno) : err_str(e));
}

int client_order(const struct command *c, const char *socket, enum ctl_verb verb,
	const char *operand, const char *text, void (*on_line)(void *arg, struct slice json),
	void *arg, uint64_t *count)
{
	struct places places;
	struct client *client = NULL;
	struct client_answer answer = {.exit_code = EX_OK};
	char name[LIMIT_NAME + 1];
	int status;

	if (strlen(operand) > LIMIT_TEXT || strlen(text) > LIMIT_TEXT) {
		return usage_error("an argument is longer than %u bytes", LIMIT_TEXT);
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	operator_name(name, sizeof(name));
	const struct msg_ctl_ask ask = {.verb = (uint8_t)verb,
		.operand = slice_from_cstr(operand),
		.text = slice_from_cstr(text),
		.operator_name = slice_from_cstr(name)};
	enum err e = client_open(places.queue_directory, socket, &client);
	if (e != ERR_OK) {
		status = client_absent(places.queue_directory, e);
		goto out;
	}
	e = client_ask(client, &ask, on_line, arg, PATIENCE_MS, &answer);
	if (e != ERR_OK) {
		status = e == ERR_TIMEOUT ? complain(EX_TEMPFAIL, "the relay does not answer")
					  : complain(EX_UNAVAILABLE,
						    "the relay went away before it answered");
		goto out;
	}
	status = (int)answer.exit_code;
	if (status != EX_OK) {
		(void)complain(status, "%s",
			answer.text[0] == '\0' ? "the relay refused" : answer.text);
	}
	if (count != NULL) {
		*count = answer.count;
	}
out:
	client_close(&client);
	places_clear(&places);
	return status;
}
