/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"
#include "common/proc/service.h"

#define CONTROL_FD 3
/* Holds a lock for as long as the process lives (master/spool.h); nothing is done with it. */
#define LOCK_FD 4

#define STATUS_MAX 32768u
/* For what runs when the master is gone: a new one waits for us to end. */
#define ORPHAN_DRAIN_MS 1000
/* For what runs when somebody sends this process SIGTERM. */
#define SIGNAL_DRAIN_MS 10000

struct life {
	struct service svc;
	const struct service_hooks *hooks;
	void *arg;
	struct channel *control;
	struct jail_identity identity;
	bool greeted;
	bool identified;
	bool opened;  /* on_open has been called */
	bool started; /* jailed, on_start has been called */
	bool ended;
	int status;

	struct conf_builder *builder; /* between conf_begin and conf_end */
	uint64_t builder_epoch;
	struct buf builder_why; /* the first thing wrong with what has come so far */
	struct conf *pending;   /* checked, waits for its fate */
	uint64_t pending_epoch;
	struct conf *current;

	int64_t drain_until_ms;
	struct loop_timer drain_timer;
	struct loop_watch signal_watch;
	int signal_fd;
};

static struct life *life_of(struct service *s)
{
	return CONTAINER_OF(s, struct life, svc);
}

void service_end(struct service *s)
{
	struct life *l = life_of(s);

	l->ended = true;
	loop_stop(s->loop);
}

void service_fail(struct service *s, const char *what)
{
	struct life *l = life_of(s);

	log_error("event=fail what=%s", LOG_TEXT(slice_from_cstr(what)));
	l->ended = true;
	l->status = EXIT_FAILURE;
	loop_stop(s->loop);
}

static void apply_log_level(const struct conf *c)
{
	static const char *const words[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARN] = "warn",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (conf_is(c, CONF_log_level, words[i])) {
			log_set_level((enum log_level)i);
		}
	}
}

/* ---- configuration ---- */

/* Says why, in place of what it said; what is too long is cut. The buffer holds LIMIT_TEXT. */
static PRINTF_LIKE(2, 3) void say(struct buf *why, const char *format, ...)
{
	char text[LIMIT_TEXT];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	buf_reset(why);
	enum err e = n < 0 ? ERR_OK : buf_append(why, slice_from_cstr(text));
	assert(e == ERR_OK);
}

static void forget_pending(struct life *l)
{
	if (l->pending == NULL) {
		return;
	}
	if (l->hooks->on_forget != NULL) {
		l->hooks->on_forget(&l->svc, l->arg);
	}
	conf_free(&l->pending);
}

static enum err on_conf_begin(struct life *l, struct slice body, int *fd)
{
	struct msg_conf_begin m;
	enum err e = msg_conf_begin_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return e;
	}
	if (!l->identified) {
		return ERR_PROTO;
	}
	conf_builder_free(&l->builder);
	forget_pending(l);
	l->builder = conf_builder_new();
	l->builder_epoch = m.epoch;
	buf_reset(&l->builder_why);
	return ERR_OK;
}

/* Only the first complaint is kept; it says which parameter. */
static void complain(struct life *l, struct slice name, enum err e, const struct buf *why)
{
	if (buf_len(&l->builder_why) != 0) {
		return;
	}
	struct slice text = buf_view(why);
	if (text.n == 0) {
		text = slice_from_cstr(err_str(e));
	}
	say(&l->builder_why, "%.*s: %.*s", SLICE_ARG(slice_head(name, 200)),
		SLICE_ARG(slice_head(text, 500)));
}

static enum err on_conf_param(struct life *l, struct slice body, int *fd)
{
	struct msg_conf_param m;
	struct buf why;
	enum err e = msg_conf_param_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return e;
	}
	if (l->builder == NULL) {
		return ERR_PROTO;
	}
	buf_init(&why, LIMIT_TEXT);
	e = conf_builder_set(l->builder, m.name, m.value, &why);
	if (e != ERR_OK) {
		complain(l, m.name, e, &why);
	}
	buf_clear(&why);
	return ERR_OK;
}

static enum err on_conf_file(struct life *l, struct slice body, int *fd)
{
	struct msg_conf_file m;
	struct buf none;
	enum err e = msg_conf_file_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return e;
	}
	if (l->builder == NULL) {
		return ERR_PROTO;
	}
	e = conf_builder_file(l->builder, m.name, m.bytes);
	if (e != ERR_OK) {
		buf_init(&none, 1);
		complain(l, m.name, e, &none);
	}
	return ERR_OK;
}

/* The hooks' opinion of l->pending. why stays empty when it is fine. */
static void consult(struct life *l, struct buf *why)
{
	enum err e = ERR_OK;

	if (!l->opened && l->hooks->on_open != NULL) {
		l->opened = true;
		e = l->hooks->on_open(&l->svc, l->arg, l->pending);
		if (e != ERR_OK) {
			say(why, "cannot open what it needs: %s%s%s", err_str(e),
				e == ERR_SYS ? ": " : "", e == ERR_SYS ? strerror(errno) : "");
			return;
		}
	}
	l->opened = true;
	if (l->hooks->on_conf != NULL) {
		e = l->hooks->on_conf(&l->svc, l->arg, l->pending, why);
	}
	if (e != ERR_OK && buf_len(why) == 0) {
		say(why, "%s", err_str(e));
	}
	if (e == ERR_OK) {
		buf_reset(why);
	}
}

static enum err on_conf_end(struct life *l, struct slice body, int *fd)
{
	struct msg_conf_end m;
	struct buf why;
	enum err e = msg_conf_end_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return e;
	}
	if (l->builder == NULL || m.epoch != l->builder_epoch) {
		return ERR_PROTO;
	}
	buf_init(&why, (size_t)4 * LIMIT_TEXT);
	if (buf_len(&l->builder_why) != 0) {
		conf_builder_free(&l->builder);
		say(&why, "%.*s", SLICE_ARG(buf_view(&l->builder_why)));
	} else {
		e = conf_builder_end(&l->builder, &why, &l->pending);
		if (e != ERR_OK && buf_len(&why) == 0) {
			say(&why, "%s", err_str(e));
		}
		if (e == ERR_OK) {
			buf_reset(&why);
			l->pending_epoch = m.epoch;
			consult(l, &why);
		}
	}
	struct msg_conf_checked answer = {.epoch = m.epoch,
		.text = slice_head(buf_view(&why), LIMIT_TEXT)};
	e = msg_conf_checked_send(l->control, &answer);
	buf_clear(&why);
	return e;
}

/* The way into the jail, once. */
static enum err start(struct life *l)
{
	/* Reads the time zone's file now, for the first log line after the jail. */
	tzset();
	enum err e = jail_enter(l->hooks->jail, &l->identity);
	if (e != ERR_OK) {
		log_error("event=jail err=\"%s\" errno=\"%s\"", err_str(e), strerror(errno));
		service_fail(&l->svc, "cannot enter the jail");
	}
	return e;
}

static enum err on_conf_apply(struct life *l, struct slice body, int *fd)
{
	struct msg_conf_apply m;
	enum err e = msg_conf_apply_decode(body, &m);
	struct conf *old;

	(void)fd;
	if (e != ERR_OK) {
		return e;
	}
	if (l->pending == NULL || m.epoch != l->pending_epoch) {
		return ERR_PROTO;
	}
	if (!l->started && start(l) != ERR_OK) {
		return ERR_OK; /* ends with this turn */
	}
	old = l->current;
	l->current = l->pending;
	l->pending = NULL;
	l->svc.conf = l->current;
	apply_log_level(l->current);
	if (l->hooks->on_apply != NULL) {
		l->hooks->on_apply(&l->svc, l->arg);
	}
	conf_free(&old);
	if (l->started || l->ended) {
		return ERR_OK;
	}
	l->started = true;
	if (l->hooks->on_start != NULL) {
		e = l->hooks->on_start(&l->svc, l->arg);
		if (e != ERR_OK) {
			log_error("event=start err=\"%s\" errno=\"%s\"", err_str(e),
				strerror(errno));
			service_fail(&l->svc, "cannot start");
			return ERR_OK;
		}
	}
	if (l->ended) {
		return ERR_OK;
	}
	struct msg_ready ready = {.pid = (uint32_t)getpid()};
	return msg_ready_send(l->control, &ready);
}

static enum err on_conf_forget(struct life *l, struct slice body, int *fd)
{
	struct msg_conf_forget m;
	enum err e = msg_conf_forget_decode(body, &m);

	(void)fd;
	if (e == ERR_OK && l->pending != NULL && m.epoch == l->pending_epoch) {
		forget_pending(l);
	}
	return e;
}

/* ---- what the master gives ---- */

static enum err on_hello(struct life *l, struct slice body, int *fd)
{
	struct msg_hello m;
	enum err e = msg_hello_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || m.role != ROLE_MASTER || l->greeted) {
		return ERR_PROTO;
	}
	l->greeted = true;
	return ERR_OK;
}

static enum err on_identity(struct life *l, struct slice body, int *fd)
{
	struct msg_identity m;
	enum err e = msg_identity_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || l->identified) {
		return ERR_PROTO;
	}
	l->identity.uid = m.uid;
	l->identity.gid = m.gid;
	e = str_copy(l->identity.path, sizeof(l->identity.path), m.jail);
	l->identified = e == ERR_OK;
	return e == ERR_OK ? ERR_OK : ERR_PROTO;
}

/* Sockets come when the program is in its jail, never before. */
static bool may_take(const struct life *l, const int *fd)
{
	return l->started && *fd >= 0;
}

static enum err on_listen(struct life *l, struct slice body, int *fd)
{
	struct msg_listen m;
	enum err e = msg_listen_decode(body, &m);

	if (e != ERR_OK || !may_take(l, fd)) {
		return ERR_PROTO;
	}
	if (l->hooks->on_listen != NULL && !l->svc.draining) {
		l->hooks->on_listen(&l->svc, l->arg, &m, fd);
	}
	return ERR_OK;
}

static enum err on_unlisten(struct life *l, struct slice body, int *fd)
{
	struct msg_unlisten m;
	enum err e = msg_unlisten_decode(body, &m);

	(void)fd;
	if (e == ERR_OK && l->started && l->hooks->on_unlisten != NULL) {
		l->hooks->on_unlisten(&l->svc, l->arg, m.id);
	}
	return e;
}

static enum err on_peer(struct life *l, struct slice body, int *fd)
{
	struct msg_peer m;
	enum err e = msg_peer_decode(body, &m);

	if (e != ERR_OK || !may_take(l, fd)) {
		return ERR_PROTO;
	}
	if (l->hooks->on_peer != NULL) {
		l->hooks->on_peer(&l->svc, l->arg, (enum role)m.role, m.index, fd);
	}
	return ERR_OK;
}

static enum err on_shared(struct life *l, struct slice body, int *fd)
{
	struct msg_shared m;
	enum err e = msg_shared_decode(body, &m);

	if (e != ERR_OK || !may_take(l, fd)) {
		return ERR_PROTO;
	}
	if (l->hooks->on_shared != NULL) {
		l->hooks->on_shared(&l->svc, l->arg, m.kind, fd);
	}
	return ERR_OK;
}

static enum err on_log_to(struct life *l, struct slice body, int *fd)
{
	struct msg_log_to m;
	enum err e = msg_log_to_decode(body, &m);

	(void)l;
	if (e != ERR_OK || *fd < 0) {
		return ERR_PROTO;
	}
	/* Stays open over exec, as descriptors 0 to 2 do; there is no exec. */
	if (dup2(*fd, STDERR_FILENO) < 0) {
		log_error("event=log_to errno=\"%s\"", strerror(errno));
	}
	log_set_level((enum log_level)m.level);
	return ERR_OK;
}

/* ---- life and end ---- */

static void drain(struct life *l, int64_t within_ms)
{
	if (!l->started || l->hooks->on_drain == NULL) {
		service_end(&l->svc);
		return;
	}
	int64_t until_ms = clock_mono_ms() + within_ms;

	/* Told twice, the earlier end holds. */
	if (!l->svc.draining || until_ms < l->drain_until_ms) {
		l->drain_until_ms = until_ms;
		loop_timer_start(&l->drain_timer, within_ms);
	}
	if (!l->svc.draining) {
		l->svc.draining = true;
		l->hooks->on_drain(&l->svc, l->arg, within_ms);
	}
}

static void on_drain_time(void *arg)
{
	struct life *l = arg;

	log_info("event=drain_ends what=\"time is up\"");
	service_end(&l->svc);
}

static enum err on_drain(struct life *l, struct slice body, int *fd)
{
	struct msg_drain m;
	enum err e = msg_drain_decode(body, &m);

	(void)fd;
	if (e == ERR_OK) {
		drain(l, m.within_ms);
	}
	return e;
}

static enum err on_ping(struct life *l, struct slice body, int *fd)
{
	struct msg_ping m;
	struct buf text;
	enum err e = msg_ping_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return e;
	}
	buf_init(&text, STATUS_MAX);
	struct json j = json_begin(&text);
	json_object(&j);
	if (l->started && l->hooks->on_status != NULL) {
		l->hooks->on_status(&l->svc, l->arg, &j);
	}
	json_object_end(&j);
	struct msg_pong pong = {.seq = m.seq, .status = SLICE("{}")};
	if (json_end(&j) == ERR_OK) {
		pong.status = buf_view(&text);
	}
	e = msg_pong_send(l->control, &pong);
	buf_clear(&text);
	return e;
}

static const struct {
	uint16_t type;
	enum err (*run)(struct life *l, struct slice body, int *fd);
} orders[] = {
	{MSG_ID_hello, on_hello},
	{MSG_ID_identity, on_identity},
	{MSG_ID_conf_begin, on_conf_begin},
	{MSG_ID_conf_param, on_conf_param},
	{MSG_ID_conf_file, on_conf_file},
	{MSG_ID_conf_end, on_conf_end},
	{MSG_ID_conf_apply, on_conf_apply},
	{MSG_ID_conf_forget, on_conf_forget},
	{MSG_ID_listen, on_listen},
	{MSG_ID_unlisten, on_unlisten},
	{MSG_ID_peer, on_peer},
	{MSG_ID_shared, on_shared},
	{MSG_ID_log_to, on_log_to},
	{MSG_ID_drain, on_drain},
	{MSG_ID_ping, on_ping},
};

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct life *l = arg;

	if (l->ended) {
		return ERR_OK;
	}
	if (!l->greeted && type != MSG_ID_hello) {
		return ERR_PROTO;
	}
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		if (orders[i].type == type) {
			return orders[i].run(l, body, fd);
		}
	}
	return ERR_PROTO;
}

static void on_gone(void *arg, enum err why)
{
	struct life *l = arg;

	channel_close(&l->control);
	if (why != ERR_CLOSED) {
		service_fail(&l->svc, "the master sent what is no message for us");
		return;
	}
	if (!l->ended) {
		log_warn("event=orphan what=\"the master is gone\"");
		l->status = EXIT_FAILURE;
		drain(l, ORPHAN_DRAIN_MS);
	}
}

static const struct channel_handler control_handler = {.on_frame = on_frame,
	.on_gone = on_gone};

static void on_signal(void *arg, unsigned what)
{
	struct life *l = arg;
	struct signalfd_siginfo info;

	(void)what;
	if (read(l->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		log_info("event=signal number=%u pid=%u", info.ssi_signo, info.ssi_pid);
		drain(l, SIGNAL_DRAIN_MS);
	}
}

/*
 * SIGTERM means: finish and end. The keyboard's SIGINT and a terminal's SIGHUP reach the
 * whole process group; the master alone acts on them.
 */
static enum err signals_init(struct life *l)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;

	if (sigaction(SIGPIPE, &ignore, NULL) != 0 || sigaction(SIGINT, &ignore, NULL) != 0 ||
		sigaction(SIGHUP, &ignore, NULL) != 0 || sigemptyset(&set) != 0 ||
		sigaddset(&set, SIGTERM) != 0 || sigprocmask(SIG_SETMASK, &set, NULL) != 0) {
		return ERR_SYS;
	}
	l->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (l->signal_fd < 0) {
		return ERR_SYS;
	}
	loop_watch_init(&l->signal_watch, l->svc.loop, l->signal_fd, on_signal, l);
	loop_watch_set(&l->signal_watch, LOOP_READ);
	return ERR_OK;
}

static void descriptors_raise(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* Takes descriptor 3; it must be a socket, or nobody has started us as they should. */
static enum err control_take(struct life *l)
{
	struct stat st;
	int fd = CONTROL_FD;

	if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode)) {
		return ERR_PROTO;
	}
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
		return ERR_SYS;
	}
	(void)fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC);
	enum err e = fd_set_nonblock(fd);
	if (e != ERR_OK) {
		return e;
	}
	l->control = channel_new(l->svc.loop, &fd, &control_handler, l);
	struct msg_hello hello = {.role = (uint8_t)l->svc.role, .index = l->svc.index};
	return msg_hello_send(l->control, &hello);
}

static void life_clear(struct life *l)
{
	if (l->opened && l->hooks->on_close != NULL) {
		l->hooks->on_close(&l->svc, l->arg);
	}
	if (l->control != NULL) {
		channel_close(&l->control);
	}
	conf_builder_free(&l->builder);
	buf_clear(&l->builder_why);
	conf_free(&l->pending);
	conf_free(&l->current);
	if (l->signal_fd >= 0) {
		loop_watch_set(&l->signal_watch, 0);
		fd_close(&l->signal_fd);
	}
	if (l->svc.loop != NULL) {
		loop_timer_stop(&l->drain_timer);
		loop_free(&l->svc.loop);
	}
}

int service_main(int argc, char **argv, const struct service_hooks *hooks, void *arg)
{
	struct life l = {.svc = {.role = hooks->role},
		.hooks = hooks,
		.arg = arg,
		.signal_fd = -1};
	uint32_t index = 0;
	enum err e;

	log_open(hooks->program);
	buf_init(&l.builder_why, LIMIT_TEXT);
	if (argc != 2 || num_parse_u32(slice_from_cstr(argv[1]), 1023, &index) != ERR_OK) {
		log_error("event=start what=\"started by the master only; see ekiden(8)\"");
		return 64; /* EX_USAGE */
	}
	l.svc.index = index;
	descriptors_raise();
	e = loop_new(&l.svc.loop);
	if (e != ERR_OK) {
		log_error("event=start err=\"%s\"", err_str(e));
		return EXIT_FAILURE;
	}
	loop_timer_init(&l.drain_timer, l.svc.loop, on_drain_time, &l);
	e = signals_init(&l);
	if (e == ERR_OK) {
		e = control_take(&l);
	}
	if (e == ERR_OK) {
		loop_run(l.svc.loop);
	} else {
		log_error("event=start err=\"%s\" what=\"started by the master only\"",
			err_str(e));
		l.status = EXIT_FAILURE;
	}
	life_clear(&l);
	return l.status;
}
