/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/messages.h"
#include "master/backoff.h"
#include "master/child.h"

#define CONTROL_FD 3
#define LOCK_FD 4
#define FIRST_FREE_FD 5

/* How long a process may take to end after it closed its channel. */
#define FAREWELL_MS 3000
#define STATUS_MAX 32768u

static const char *const state_names[] = {
	[CHILD_DOWN] = "down",
	[CHILD_CHECKING] = "checking",
	[CHILD_CHECKED] = "checked",
	[CHILD_STARTING] = "starting",
	[CHILD_UP] = "up",
	[CHILD_ENDING] = "ending",
};
static_assert(ARRAY_LEN(state_names) == CHILD_ENDING + 1, "one name a state");

const char *child_state_name(enum child_state s)
{
	return state_names[s];
}

void child_init(struct child *c, const struct program *p, unsigned index,
	const struct child_events *events, void *arg)
{
	*c = (struct child){.program = p,
		.index = index,
		.events = events,
		.arg = arg,
		.again_ms = 0};
	buf_init(&c->status, STATUS_MAX);
}

void child_clear(struct child *c)
{
	if (c->control != NULL) {
		channel_close(&c->control);
	}
	buf_clear(&c->status);
}

bool child_is_working(const struct child *c)
{
	return c->state != CHILD_DOWN && c->state != CHILD_ENDING;
}

/* ---- birth ---- */

/* What a program may see of our environment: nothing that changes what it does to mail. */
static const char *const environment_names[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS",
	"LD_LIBRARY_PATH", "LD_PRELOAD", "OPENSSL_CONF"};

static void make_environment(char **to)
{
	size_t n = 0;

	for (char **e = environ; *e != NULL; e++) {
		for (size_t i = 0; i < ARRAY_LEN(environment_names); i++) {
			size_t len = strlen(environment_names[i]);
			if (strncmp(*e, environment_names[i], len) == 0 && (*e)[len] == '=' &&
				n < ARRAY_LEN(environment_names)) {
				to[n++] = *e;
			}
		}
	}
	to[n] = NULL;
}

/* A copy out of the way of the numbers that we are about to use. */
static bool move_up(int *fd)
{
	*fd = fcntl(*fd, F_DUPFD_CLOEXEC, 16);
	return *fd >= 0;
}

/* In the new process: nothing is open but what it needs, then the program. Never returns. */
static NORETURN void become_program(const char *path, char *index, int control, int lock)
{
	char name[64];
	char *const argv[] = {name, index, NULL};
	char *environment[ARRAY_LEN(environment_names) + 1];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	make_environment(environment);
	const char *slash = strrchr(path, '/');
	if (str_format(name, sizeof(name), "ekiden-%s", slash == NULL ? path : slash + 1) !=
		ERR_OK) {
		name[0] = '\0';
	}
	(void)umask(0007);
	if (null < 0 || !move_up(&null) || !move_up(&control) || !move_up(&lock) ||
		dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
		dup2(control, CONTROL_FD) < 0 || dup2(lock, LOCK_FD) < 0 ||
		close_range(FIRST_FREE_FD, ~0U, 0) != 0 || sigemptyset(&none) != 0 ||
		sigprocmask(SIG_SETMASK, &none, NULL) != 0) {
		_exit(126);
	}
	(void)execve(path, argv, environment);
	log_error("event=exec path=%s errno=\"%s\"", path, strerror(errno));
	_exit(127);
}

static enum err send_first(struct child *c, const struct birth *b)
{
	struct msg_hello hello = {.role = ROLE_MASTER};
	struct msg_identity identity = {.uid = b->users->of[c->program->role].uid,
		.gid = b->users->of[c->program->role].gid,
		.jail = slice_from_cstr(b->jail)};
	enum err e = msg_hello_send(c->control, &hello);

	if (e == ERR_OK) {
		e = msg_identity_send(c->control, &identity);
	}
	return e == ERR_OK ? settings_send(b->settings, c->program, c->control) : e;
}

static const struct channel_handler control_handler;

enum err child_spawn(struct child *c, const struct birth *b)
{
	char path[4096];
	char index[16];
	int pair[2] = {-1, -1};
	enum err e = str_format(path, sizeof(path), "%s/%s", b->libexec, c->program->name);

	assert(c->state == CHILD_DOWN);
	if (e == ERR_OK) {
		e = str_format(index, sizeof(index), "%u", c->index);
	}
	if (e == ERR_OK) {
		e = fd_socketpair(pair);
	}
	if (e != ERR_OK) {
		return e;
	}
	pid_t pid = fork();
	if (pid == 0) {
		become_program(path, index, pair[1], b->lock_fd);
	}
	fd_close(&pair[1]);
	if (pid < 0) {
		e = ERR_SYS;
		fd_close(&pair[0]);
		return e;
	}
	c->pid = pid;
	c->state = CHILD_CHECKING;
	c->takes = false;
	c->greeted = false;
	c->starts++;
	c->born_ms = clock_mono_ms();
	c->ready_ms = 0;
	c->again_ms = 0;
	c->unanswered = 0;
	c->pong_seq = c->ping_seq;
	c->kill_ms = 0;
	buf_reset(&c->status);
	c->control = channel_new(b->loop, &pair[0], &control_handler, c);
	return send_first(c, b);
}

/* ---- end ---- */

void child_kill(struct child *c, const char *why)
{
	if (c->state == CHILD_DOWN) {
		return;
	}
	log_warn("event=kill program=%s index=%u pid=%ld why=\"%s\"", c->program->name,
		c->index, (long)c->pid, why);
	(void)kill(c->pid, SIGKILL);
	c->state = CHILD_ENDING;
	c->kill_ms = 0;
	c->takes = false;
}

static void send_failed(struct child *c, enum err e)
{
	if (e != ERR_OK) {
		child_kill(c, err_str(e));
	}
}

void child_drain(struct child *c, int64_t within_ms)
{
	struct msg_drain m = {.within_ms = (uint32_t)within_ms};

	if (c->state == CHILD_DOWN || c->state == CHILD_ENDING) {
		return;
	}
	c->state = CHILD_ENDING;
	c->takes = false;
	c->kill_ms = clock_mono_ms() + within_ms + FAREWELL_MS;
	if (c->control != NULL) {
		send_failed(c, msg_drain_send(c->control, &m));
	}
}

static void describe_end(struct child *c, int status)
{
	enum err e = ERR_OK;

	if (WIFSIGNALED(status)) {
		e = str_format(c->last_end, sizeof(c->last_end), "signal %d (%s)%s",
			WTERMSIG(status),
			sigabbrev_np(WTERMSIG(status)) == NULL ? "?"
							       : sigabbrev_np(WTERMSIG(status)),
			WTERMSIG(status) == SIGSYS ? ": a system call that it must not make"
						   : "");
	} else {
		e = str_format(c->last_end, sizeof(c->last_end), "exit %d",
			WEXITSTATUS(status));
	}
	if (e != ERR_OK) {
		c->last_end[0] = '\0';
	}
}

void child_reaped(struct child *c, int status, int64_t now_ms)
{
	int64_t lived_ms = c->ready_ms == 0 ? 0 : now_ms - c->ready_ms;

	describe_end(c, status);
	c->failures = backoff_failures(c->failures, lived_ms);
	c->state = CHILD_DOWN;
	c->pid = 0;
	c->takes = false;
	c->kill_ms = 0;
	c->again_ms = now_ms + backoff_ms(c->failures);
	if (c->control != NULL) {
		channel_close(&c->control);
	}
}

/* ---- orders ---- */

void child_offer(struct child *c, const struct settings *s)
{
	if (c->control != NULL && child_is_working(c)) {
		send_failed(c, settings_send(s, c->program, c->control));
	}
}

void child_apply(struct child *c, uint64_t epoch)
{
	struct msg_conf_apply m = {.epoch = epoch};

	if (c->control == NULL || !child_is_working(c)) {
		return;
	}
	if (c->state == CHILD_CHECKED) {
		c->state = CHILD_STARTING;
		c->takes = true;
	}
	send_failed(c, msg_conf_apply_send(c->control, &m));
}

void child_forget(struct child *c, uint64_t epoch)
{
	struct msg_conf_forget m = {.epoch = epoch};

	if (c->control != NULL && child_is_working(c)) {
		send_failed(c, msg_conf_forget_send(c->control, &m));
	}
}

void child_ping(struct child *c)
{
	struct msg_ping m = {.seq = ++c->ping_seq};

	if (c->control != NULL && c->state == CHILD_UP) {
		send_failed(c, msg_ping_send(c->control, &m));
	}
}

void child_tick(struct child *c, int64_t now_ms, bool ask)
{
	switch (c->state) {
	case CHILD_DOWN:
		break;
	case CHILD_CHECKING:
	case CHILD_CHECKED:
	case CHILD_STARTING:
		if (now_ms - c->born_ms > c->program->start_ms) {
			child_kill(c, "it does not become ready");
		}
		break;
	case CHILD_UP:
		if (!ask) {
			break;
		}
		/* Ticks and not time: when the machine itself stood still, nobody is to blame.
		 */
		if (c->pong_seq != c->ping_seq) {
			c->unanswered++;
		}
		if ((int64_t)c->unanswered * CHILD_ASK_MS > c->program->silent_ms) {
			child_kill(c, "it does not answer");
			break;
		}
		child_ping(c);
		break;
	case CHILD_ENDING:
		if (c->kill_ms != 0 && now_ms >= c->kill_ms) {
			child_kill(c, "it does not end");
		}
		break;
	}
}

/* ---- answers ---- */

static enum err take_hello(struct child *c, struct slice body)
{
	struct msg_hello m;

	if (msg_hello_decode(body, &m) != ERR_OK || c->greeted || m.role != c->program->role ||
		m.index != c->index) {
		return ERR_PROTO;
	}
	c->greeted = true;
	return ERR_OK;
}

static enum err take_checked(struct child *c, struct slice body)
{
	struct msg_conf_checked m;

	if (msg_conf_checked_decode(body, &m) != ERR_OK) {
		return ERR_PROTO;
	}
	if (child_is_working(c)) {
		c->events->on_checked(c->arg, c, m.epoch, m.text);
	}
	return ERR_OK;
}

static enum err take_ready(struct child *c, struct slice body)
{
	struct msg_ready m;

	if (msg_ready_decode(body, &m) != ERR_OK) {
		return ERR_PROTO;
	}
	if (c->state == CHILD_ENDING) {
		return ERR_OK;
	}
	if (c->state != CHILD_STARTING) {
		return ERR_PROTO;
	}
	c->state = CHILD_UP;
	c->ready_ms = clock_mono_ms();
	c->events->on_ready(c->arg, c);
	return ERR_OK;
}

static enum err take_pong(struct child *c, struct slice body)
{
	struct msg_pong m;

	if (msg_pong_decode(body, &m) != ERR_OK || m.seq > c->ping_seq) {
		return ERR_PROTO;
	}
	c->pong_seq = m.seq;
	c->unanswered = 0;
	buf_reset(&c->status);
	enum err e = buf_append(&c->status, m.status);
	if (e == ERR_OK) {
		c->events->on_pong(c->arg, c);
	}
	return e;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct child *c = arg;

	(void)fd;
	if (!c->greeted) {
		return type == MSG_ID_hello ? take_hello(c, body) : ERR_PROTO;
	}
	switch (type) {
	case MSG_ID_conf_checked:
		return take_checked(c, body);
	case MSG_ID_ready:
		return take_ready(c, body);
	case MSG_ID_pong:
		return take_pong(c, body);
	default: /* any number that a child may make up */
		return ERR_PROTO;
	}
}

static void on_gone(void *arg, enum err why)
{
	struct child *c = arg;

	channel_close(&c->control);
	if (why != ERR_CLOSED) {
		child_kill(c, "it sent what is no message for us");
		return;
	}
	/* It is ending, or has died and waits to be reaped. */
	c->takes = false;
	if (c->state != CHILD_DOWN && c->state != CHILD_ENDING) {
		c->state = CHILD_ENDING;
		c->kill_ms = clock_mono_ms() + FAREWELL_MS;
	}
}

static const struct channel_handler control_handler = {.on_frame = on_frame,
	.on_gone = on_gone};
