/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stub_program: a child of master that does nothing but keep the rules; for tests of master.
 *
 * Copied under the name of a program, it takes that program's role. It accepts connections,
 * answers "220 stub INDEX PID" and closes; tells in its status what it was given; and
 * misbehaves as mail_version asks: words "PROGRAM:refuse" (finds the settings bad),
 * "PROGRAM:die" (ends while it starts), "PROGRAM:linger" (takes a second to drain),
 * "PROGRAM:deaf" (never ends when drained), "PROGRAM:slow" (takes its time to look at the
 * settings), "PROGRAM:babble" (says of the second ones ten times that they are fine).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/proc/service.h"

#define HELD_MAX 64u

struct held {
	uint32_t id;
	int fd;
	char name[LIMIT_NAME + 1];
	char options[256];
	struct loop_watch watch;
};

struct stub {
	struct service *service;
	char program[32];
	struct held listeners[HELD_MAX];
	unsigned peers[ROLE_COUNT];
	int peer_fds[ROLE_COUNT][16];
	unsigned shared;
	unsigned offered;
	unsigned applied;
	unsigned forgotten;
	struct loop_timer timer;
};

static bool should(const struct stub *s, const struct conf *c, const char *what)
{
	char word[64];
	struct slice rest = conf_text(c, CONF_mail_version);
	struct slice part;

	if (str_format(word, sizeof(word), "%s:%s", s->program, what) != ERR_OK) {
		return false;
	}
	while (slice_word(&rest, " ", &part)) {
		if (slice_eq(part, slice_from_cstr(word))) {
			return true;
		}
	}
	return false;
}

/* Past the channel, whose frames are whole: what a captured program could send. */
static void babble(uint64_t epoch)
{
	const struct msg_conf_checked m = {.epoch = epoch};
	uint8_t header[CHANNEL_HEADER_BYTES] = {[5] = MSG_ID_conf_checked, [6] = IPC_VERSION};
	struct buf body;
	struct buf frame;

	buf_init(&body, 64);
	buf_init(&frame, 128);
	if (msg_conf_checked_encode(&m, &body) == ERR_OK) {
		header[3] = (uint8_t)buf_len(&body);
		if (buf_append(&frame, slice_make(header, sizeof(header))) == ERR_OK &&
			buf_append(&frame, buf_view(&body)) == ERR_OK) {
			for (int i = 0; i < 10; i++) {
				struct slice all = buf_view(&frame);
				(void)!write(3, all.p, all.n);
			}
		}
	}
	buf_clear(&frame);
	buf_clear(&body);
}

static enum err on_conf(struct service *svc, void *arg, const struct conf *c, struct buf *why)
{
	struct stub *s = arg;
	const struct timespec half_a_second = {.tv_nsec = 500000000};

	s->service = svc;
	s->offered++;
	if (s->offered == 2 && should(s, c, "babble")) {
		babble(s->offered);
	}
	if (should(s, c, "slow")) {
		(void)nanosleep(&half_a_second, NULL);
	}
	if (should(s, c, "refuse")) {
		enum err e = buf_printf(why, "the stub says no");
		return e == ERR_OK ? ERR_CONFIG : e;
	}
	return ERR_OK;
}

static void on_apply(struct service *svc, void *arg)
{
	struct stub *s = arg;

	(void)svc;
	s->applied++;
}

static void on_forget(struct service *svc, void *arg)
{
	struct stub *s = arg;

	(void)svc;
	s->forgotten++;
}

static void on_time(void *arg)
{
	struct stub *s = arg;

	service_end(s->service);
}

static enum err on_start(struct service *svc, void *arg)
{
	struct stub *s = arg;

	loop_timer_init(&s->timer, svc->loop, on_time, s);
	return should(s, svc->conf, "die") ? ERR_LIB : ERR_OK;
}

static void on_ready(void *arg, unsigned what)
{
	struct held *h = arg;
	char text[64];

	(void)what;
	int fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0) {
		return;
	}
	int n = snprintf(text, sizeof(text), "220 stub %s %ld\r\n", h->name, (long)getpid());
	(void)!write(fd, text, (size_t)n);
	fd_close(&fd);
}

static void on_listen(struct service *svc, void *arg, const struct msg_listen *l, int *fd)
{
	struct stub *s = arg;

	for (size_t i = 0; i < HELD_MAX; i++) {
		struct held *h = &s->listeners[i];
		if (h->fd >= 0) {
			continue;
		}
		h->id = l->id;
		h->fd = *fd;
		*fd = -1;
		if (str_copy(h->name, sizeof(h->name), l->name) != ERR_OK ||
			str_copy(h->options, sizeof(h->options), slice_head(l->options, 255)) !=
				ERR_OK) {
			h->name[0] = '\0';
		}
		loop_watch_init(&h->watch, svc->loop, h->fd, on_ready, h);
		loop_watch_set(&h->watch, LOOP_READ);
		return;
	}
}

static void let_go(struct held *h)
{
	if (h->fd >= 0) {
		loop_watch_set(&h->watch, 0);
		fd_close(&h->fd);
	}
}

static void on_unlisten(struct service *svc, void *arg, uint32_t id)
{
	struct stub *s = arg;

	(void)svc;
	for (size_t i = 0; i < HELD_MAX; i++) {
		if (s->listeners[i].fd >= 0 && s->listeners[i].id == id) {
			let_go(&s->listeners[i]);
		}
	}
}

static void on_peer(struct service *svc, void *arg, enum role role, unsigned index, int *fd)
{
	struct stub *s = arg;

	(void)svc;
	if (index < 16) {
		fd_close(&s->peer_fds[role][index]);
		s->peer_fds[role][index] = *fd;
		*fd = -1;
		s->peers[role]++;
	}
}

static void on_shared(struct service *svc, void *arg, unsigned kind, int *fd)
{
	struct stub *s = arg;

	(void)svc;
	(void)fd;
	s->shared += kind;
}

static void on_drain(struct service *svc, void *arg, int64_t within_ms)
{
	struct stub *s = arg;

	(void)within_ms;
	for (size_t i = 0; i < HELD_MAX; i++) {
		let_go(&s->listeners[i]);
	}
	if (should(s, svc->conf, "linger")) {
		loop_timer_start(&s->timer, 700);
	} else if (!should(s, svc->conf, "deaf")) {
		service_end(svc);
	}
}

static void on_status(struct service *svc, void *arg, struct json *to)
{
	const struct stub *s = arg;

	json_member_u64(to, "applied", s->applied);
	json_member_u64(to, "forgotten", s->forgotten);
	json_member_u64(to, "shared", s->shared);
	json_member_str(to, "hostname", conf_text(svc->conf, CONF_myhostname));
	json_member_i64(to, "uid", getuid());
	json_member_i64(to, "gid", getgid());
	json_key(to, "peers");
	json_object(to);
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		if (s->peers[i] != 0) {
			json_member_u64(to, role_name((enum role)i), s->peers[i]);
		}
	}
	json_object_end(to);
	json_key(to, "listeners");
	json_array(to);
	for (size_t i = 0; i < HELD_MAX; i++) {
		if (s->listeners[i].fd >= 0) {
			json_object(to);
			json_member_u64(to, "id", s->listeners[i].id);
			json_member_str(to, "name", slice_from_cstr(s->listeners[i].name));
			json_member_str(to, "options",
				slice_from_cstr(s->listeners[i].options));
			json_object_end(to);
		}
	}
	json_array_end(to);
}

static void on_close(struct service *svc, void *arg)
{
	struct stub *s = arg;

	if (svc->conf != NULL) {
		loop_timer_stop(&s->timer);
	}
	for (size_t i = 0; i < HELD_MAX; i++) {
		let_go(&s->listeners[i]);
	}
	for (unsigned r = 0; r < ROLE_COUNT; r++) {
		for (unsigned i = 0; i < 16; i++) {
			fd_close(&s->peer_fds[r][i]);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct jail_rules jail = {.may = JAIL_ACCEPT};
	static struct stub s;
	struct service_hooks hooks = {.jail = &jail,
		.on_conf = on_conf,
		.on_apply = on_apply,
		.on_forget = on_forget,
		.on_start = on_start,
		.on_listen = on_listen,
		.on_unlisten = on_unlisten,
		.on_peer = on_peer,
		.on_shared = on_shared,
		.on_drain = on_drain,
		.on_status = on_status,
		.on_close = on_close};
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;

	name = name == NULL ? argv[0] : name + 1;
	name = strncmp(name, "ekiden-", 7) == 0 ? name + 7 : name;
	if (str_copy(s.program, sizeof(s.program), slice_from_cstr(name)) != ERR_OK) {
		return EXIT_FAILURE;
	}
	for (size_t i = 0; i < HELD_MAX; i++) {
		s.listeners[i].fd = -1;
	}
	memset(s.peer_fds, 0xff, sizeof(s.peer_fds));
	hooks.program = s.program;
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		if (strcmp(role_name((enum role)i), s.program) == 0) {
			hooks.role = (enum role)i;
		}
	}
	return service_main(argc, argv, &hooks, &s);
}
