/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/db/filter.h"
#include "common/io/fd.h"
#include "master/backoff.h"
#include "master/logfile.h"
#include "master/relay_parts.h"

#define CHORE_IDLE_MS 1000
#define CHORE_BUSY_MS 50
/* Children of a killed master end within a second, unless a disk holds them. */
#define ORPHAN_PATIENCE_MS 30000
#define NOTIFY_PATIENCE_MS 60000
#define FILES_WANTED 65536

/* ---- telling people ---- */

void relay_tell(struct relay *r, const char *format, ...)
{
	char text[2 * LIMIT_TEXT];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* The command that waits for us tells it by itself. */
	if (!r->is_ready && !notify_failed(&r->notify, text) && r->console_fd >= 0) {
		(void)dprintf(r->console_fd, "ekiden: %s\n", text);
	}
	/* Before there is a log, standard error is both. */
	if (r->console_fd < 0 || r->log_path != NULL) {
		log_error("event=fatal what=%s", LOG_TEXT(slice_from_cstr(text)));
	}
}

static void tell_problems(struct relay *r, const struct conf_source *s)
{
	for (size_t i = 0; i < s->problem_count; i++) {
		const struct conf_problem *p = &s->problems[i];
		if (p->line != 0) {
			(void)dprintf(r->console_fd, "%s:%u: %s: %s\n", p->file, p->line,
				p->fatal ? "error" : "warning", p->text);
		} else {
			(void)dprintf(r->console_fd, "%s: %s: %s\n", p->file,
				p->fatal ? "error" : "warning", p->text);
		}
	}
}

/* ---- giving ---- */

static void failed_to_give(struct child *c, enum err e)
{
	if (e != ERR_OK) {
		child_kill(c, err_str(e));
	}
}

static void give_peer(struct child *to, const struct child *other, int fd)
{
	struct msg_peer m = {.role = (uint8_t)other->program->role, .index = other->index};

	if (to->takes) {
		failed_to_give(to, msg_peer_send_fd(to->control, &m, fd));
	}
}

static void connect_pair(struct child *a, struct child *b)
{
	int pair[2];

	if (fd_socketpair(pair) != ERR_OK) {
		/* Without its peer neither can work; the younger tries again. */
		child_kill(a, "no descriptors left for its peers");
		return;
	}
	give_peer(a, b, pair[0]);
	give_peer(b, a, pair[1]);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
}

static void give_peers(struct relay *r, struct child *c)
{
	for (size_t i = 0; i < r->child_count && c->takes; i++) {
		struct child *other = &r->children[i];
		if (other != c && other->takes &&
			topology_may_talk(c->program->role, other->program->role)) {
			connect_pair(c, other);
		}
	}
}

void relay_give_listener(struct child *c, const struct listener *l)
{
	struct msg_listen m = {.id = l->id,
		.name = slice_from_cstr(l->name),
		.options = slice_from_cstr(l->options)};

	if (c->takes && l->fd >= 0) {
		failed_to_give(c, msg_listen_send_fd(c->control, &m, l->fd));
	}
}

static void give_all(struct relay *r, struct child *c)
{
	struct msg_shared shared = {.kind = SHARED_SUPPRESS_FILTER};
	struct msg_listen ctl = {.id = 0, .name = SLICE("ctl")};

	if (c->takes && c->program->filter != FILTER_NONE) {
		failed_to_give(c,
			msg_shared_send_fd(c->control, &shared,
				c->program->filter == FILTER_WRITES ? r->filter_fd
								    : r->filter_read_fd));
	}
	give_peers(r, c);
	if (c->takes && r->ctl_fds[c - r->children] >= 0) {
		failed_to_give(c,
			msg_listen_send_fd(c->control, &ctl, r->ctl_fds[c - r->children]));
	}
	for (size_t i = 0; c->program->listens && i < r->listeners.count; i++) {
		relay_give_listener(c, &r->listeners.items[i]);
	}
}

static void let_start(struct relay *r, struct child *c)
{
	child_apply(c, r->settings->epoch);
	give_all(r, c);
}

/* ---- starting ---- */

static void plan_restarts(struct relay *r);

/* An operator may want programs back sooner than the ladder has it. */
static void limit_wait(const struct relay *r, struct child *c)
{
	int64_t latest_ms =
		clock_mono_ms() + conf_time_ms(r->settings->conf, CONF_restart_delay_limit);

	c->again_ms = c->again_ms < latest_ms ? c->again_ms : latest_ms;
}

static void spawn(struct relay *r, struct child *c)
{
	struct birth b = {.loop = r->loop,
		.libexec = r->libexec,
		.users = &r->users,
		.settings = r->settings,
		.jail = r->spool.jail,
		.lock_fd = -1};
	enum err e = spool_child_lock(&r->spool, &b.lock_fd);

	if (e == ERR_OK) {
		e = child_spawn(c, &b);
	}
	fd_close(&b.lock_fd);
	if (e != ERR_OK) {
		log_error("event=spawn program=%s index=%u err=\"%s\" errno=\"%s\"",
			c->program->name, c->index, err_str(e), strerror(errno));
		if (r->phase == RELAY_STARTING) {
			relay_tell(r, "cannot start %s: %s", c->program->name, err_str(e));
			r->exit_status = EX_OSERR; /* on_chore() sees to the rest */
		}
		c->failures = backoff_failures(c->failures, 0);
		c->again_ms = clock_mono_ms() + backoff_ms(c->failures) + 1;
		limit_wait(r, c);
	}
}

static void spawn_stage(struct relay *r)
{
	for (size_t i = 0; i < r->child_count; i++) {
		if (r->children[i].program->start_stage == r->stage) {
			spawn(r, &r->children[i]);
		}
	}
}

static void fail_start(struct relay *r)
{
	if (r->exit_status == EX_OK) {
		r->exit_status = EX_UNAVAILABLE;
	}
	relay_stop(r);
}

/* Whether all children that (listens) says have come as far as state. */
static bool all_are(const struct relay *r, unsigned stages, enum child_state state)
{
	for (size_t i = 0; i < r->child_count; i++) {
		const struct child *c = &r->children[i];
		if (c->program->start_stage < stages &&
			(c->state < state || c->state == CHILD_ENDING)) {
			return false;
		}
	}
	return true;
}

static void become_ready(struct relay *r)
{
	r->phase = RELAY_RUNNING;
	r->is_ready = true;
	fd_close(&r->console_fd);
	log_info("event=ready programs=%zu listeners=%zu ms=%lld", r->child_count,
		r->listeners.count, (long long)(clock_mono_ms() - r->born_ms));
	notify_ready(&r->notify);
	loop_timer_start(&r->chore_timer, CHORE_IDLE_MS);
}

/*
 * Stage by stage all children look at the settings. When every one has found them good, those
 * that take no mail from outside begin; when they are at work, those that do.
 */
static void start_advance(struct relay *r)
{
	if (r->phase != RELAY_STARTING) {
		return;
	}
	while (r->stage + 1 < TOPOLOGY_START_STAGES &&
		all_are(r, r->stage + 1, CHILD_CHECKED)) {
		r->stage++;
		spawn_stage(r);
	}
	if (!all_are(r, TOPOLOGY_START_STAGES, CHILD_CHECKED)) {
		return;
	}
	bool inner_up = all_are(r, TOPOLOGY_START_STAGES - 1, CHILD_UP);
	for (size_t i = 0; i < r->child_count; i++) {
		struct child *c = &r->children[i];
		if (c->state == CHILD_CHECKED && (inner_up || !c->program->listens)) {
			let_start(r, c);
		}
	}
	if (all_are(r, TOPOLOGY_START_STAGES, CHILD_UP)) {
		become_ready(r);
	}
}

/* ---- what children say ---- */

static void on_first_check(struct relay *r, struct child *c, uint64_t epoch, struct slice text)
{
	if (epoch != r->settings->epoch) {
		/* A reload overtook its birth. */
		child_offer(c, r->settings);
		return;
	}
	if (text.n == 0) {
		c->state = CHILD_CHECKED;
		if (r->phase == RELAY_STARTING) {
			start_advance(r);
		} else if (r->phase == RELAY_RUNNING) {
			let_start(r, c);
		}
		return;
	}
	if (r->phase == RELAY_STARTING) {
		char shown[LIMIT_TEXT + 1];
		str_printable(shown, sizeof(shown), text);
		relay_tell(r, "%s: %s", c->program->name, shown);
		r->exit_status = EX_CONFIG;
		fail_start(r);
		return;
	}
	log_error("event=refused program=%s index=%u why=%s", c->program->name, c->index,
		LOG_TEXT(text));
	child_kill(c, "it cannot work with its settings");
}

static void on_checked(void *arg, struct child *c, uint64_t epoch, struct slice text)
{
	struct relay *r = arg;

	if (c->state == CHILD_CHECKING) {
		on_first_check(r, c, epoch, text);
	} else {
		reload_on_checked(r, c, epoch, text);
	}
}

static void on_ready(void *arg, struct child *c)
{
	struct relay *r = arg;

	log_info("event=up program=%s index=%u pid=%ld ms=%lld", c->program->name, c->index,
		(long)c->pid, (long long)(c->ready_ms - c->born_ms));
	child_ping(c);
	start_advance(r);
}

static void on_pong(void *arg, struct child *c)
{
	(void)c;
	status_on_pong(arg);
}

static const struct child_events child_events = {.on_checked = on_checked,
	.on_ready = on_ready,
	.on_pong = on_pong};

/* ---- restarting ---- */

static void on_again(void *arg)
{
	struct relay *r = arg;
	int64_t now_ms = clock_mono_ms();

	for (size_t i = 0; i < r->child_count && r->phase == RELAY_RUNNING; i++) {
		struct child *c = &r->children[i];
		if (c->state == CHILD_DOWN && c->again_ms != 0 && c->again_ms <= now_ms) {
			spawn(r, c);
		}
	}
	plan_restarts(r);
}

static void plan_restarts(struct relay *r)
{
	int64_t first_ms = INT64_MAX;

	for (size_t i = 0; i < r->child_count; i++) {
		const struct child *c = &r->children[i];
		if (c->state == CHILD_DOWN && c->again_ms != 0 && c->again_ms < first_ms) {
			first_ms = c->again_ms;
		}
	}
	loop_timer_stop(&r->again_timer);
	if (first_ms != INT64_MAX && r->phase == RELAY_RUNNING) {
		int64_t wait_ms = first_ms - clock_mono_ms();
		loop_timer_start(&r->again_timer, wait_ms > 0 ? wait_ms : 0);
	}
}

static void stop_advance(struct relay *r);

static void on_death(struct relay *r, struct child *c, int status)
{
	long pid = (long)c->pid;
	bool expected = r->phase == RELAY_STOPPING;

	child_reaped(c, status, clock_mono_ms());
	limit_wait(r, c);
	if (expected) {
		log_info("event=ended program=%s index=%u pid=%ld how=\"%s\"", c->program->name,
			c->index, pid, c->last_end);
		return;
	}
	log_warn("event=died program=%s index=%u pid=%ld how=\"%s\" failures=%u again_ms=%lld",
		c->program->name, c->index, pid, c->last_end, c->failures,
		(long long)backoff_ms(c->failures));
	if (r->phase == RELAY_STARTING) {
		relay_tell(r, "%s ended while it started (%s)%s%s", c->program->name,
			c->last_end, r->log_path == NULL ? "" : "; see ",
			r->log_path == NULL ? "" : r->log_path);
		fail_start(r);
		return;
	}
	reload_on_death(r, c);
}

static void reap(struct relay *r)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < r->child_count; i++) {
			if (r->children[i].state != CHILD_DOWN && r->children[i].pid == pid) {
				on_death(r, &r->children[i], status);
			}
		}
	}
	if (r->phase == RELAY_STOPPING) {
		stop_advance(r);
	} else {
		plan_restarts(r);
	}
}

/* ---- stopping ---- */

static int64_t drain_time_ms(const struct relay *r, const struct program *p)
{
	return p->drain_ms >= 0 ? p->drain_ms
				: conf_time_ms(r->settings->conf, CONF_smtpd_drain_time);
}

static bool stage_is_gone(const struct relay *r, unsigned stage)
{
	for (size_t i = 0; i < r->child_count; i++) {
		if (r->children[i].program->stop_stage == stage &&
			r->children[i].state != CHILD_DOWN) {
			return false;
		}
	}
	return true;
}

static void stop_advance(struct relay *r)
{
	while (r->stage < TOPOLOGY_STOP_STAGES && stage_is_gone(r, r->stage)) {
		r->stage++;
		for (size_t i = 0; i < r->child_count; i++) {
			struct child *c = &r->children[i];
			if (c->program->stop_stage == r->stage) {
				child_drain(c, drain_time_ms(r, c->program));
			}
		}
	}
	if (r->stage == TOPOLOGY_STOP_STAGES) {
		loop_stop(r->loop);
	}
}

void relay_stop(struct relay *r)
{
	if (r->phase == RELAY_STOPPING) {
		return;
	}
	log_info("event=stopping");
	notify_stopping();
	reload_cancel(r);
	/* A relay that never was at work has nothing to finish. */
	bool at_once = r->phase == RELAY_STARTING;
	r->phase = RELAY_STOPPING;
	r->stage = 0;
	listeners_clear(&r->listeners);
	for (size_t i = 0; i < r->child_count; i++) {
		struct child *c = &r->children[i];
		if (at_once || c->program->stop_stage == 0) {
			child_drain(c, at_once ? 0 : drain_time_ms(r, c->program));
		}
	}
	loop_timer_start(&r->chore_timer, CHORE_BUSY_MS);
	stop_advance(r);
}

/* ---- time ---- */

static void on_chore(void *arg)
{
	struct relay *r = arg;
	int64_t now_ms = clock_mono_ms();
	bool ask = now_ms - r->asked_ms >= CHILD_ASK_MS;

	if (ask) {
		r->asked_ms = now_ms;
		if (r->phase != RELAY_RUNNING) {
			notify_patience(NOTIFY_PATIENCE_MS);
		}
	}
	for (size_t i = 0; i < r->child_count; i++) {
		child_tick(&r->children[i], now_ms, ask);
	}
	if (r->phase == RELAY_STARTING && r->exit_status != EX_OK) {
		fail_start(r);
	}
	loop_timer_start(&r->chore_timer,
		r->phase == RELAY_RUNNING ? CHORE_IDLE_MS : CHORE_BUSY_MS);
}

static void on_watchdog(void *arg)
{
	struct relay *r = arg;

	notify_alive(&r->notify);
	loop_timer_start(&r->watchdog_timer, r->notify.watchdog_ms);
}

static void on_signal(void *arg, unsigned what)
{
	struct relay *r = arg;
	struct signalfd_siginfo info;

	(void)what;
	while (read(r->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGCHLD:
			reap(r);
			break;
		case SIGHUP:
			reload_begin(r, NULL);
			break;
		default: /* SIGTERM, SIGINT */
			if (r->phase != RELAY_STOPPING) {
				log_info("event=signal number=%u pid=%u", info.ssi_signo,
					info.ssi_pid);
				relay_stop(r);
			}
			break;
		}
	}
}

/* ---- the command ---- */

static void on_ask(void *arg, struct ask *a, const struct msg_ctl_ask *m)
{
	struct relay *r = arg;

	if (m->verb == CTL_STATUS) {
		status_begin(r, a);
	} else if (m->verb == CTL_RELOAD) {
		reload_begin(r, a);
	} else if (m->verb == CTL_STOP && r->stop_ask_count < ASKS_MAX) {
		r->stop_asks[r->stop_ask_count++] = a;
		relay_stop(r);
	} else {
		ask_done(&a, EX_USAGE, 0, SLICE("this is no question for master"));
	}
}

/* ---- setting up ---- */

/* The programs are where this one is. */
static bool find_libexec(struct relay *r)
{
	r->exit_status = EX_OSFILE; /* unless all is found */
	ssize_t n = readlink("/proc/self/exe", r->libexec, sizeof(r->libexec) - 1);

	if (n <= 0) {
		relay_tell(r, "cannot find the programs: /proc is not there");
		return false;
	}
	r->libexec[n] = '\0';
	char *slash = strrchr(r->libexec, '/');
	*slash = '\0';
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		const struct program *p = topology_program((enum role)i);
		char path[sizeof(r->libexec) + 64];
		if (p == NULL) {
			continue;
		}
		if (str_format(path, sizeof(path), "%s/%s", r->libexec, p->name) != ERR_OK ||
			access(path, X_OK) != 0) {
			relay_tell(r, "cannot run %s/%s: %s", r->libexec, p->name,
				strerror(errno));
			return false;
		}
	}
	r->exit_status = EX_OK;
	return true;
}

static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
		return;
	}
	if (limit.rlim_max < FILES_WANTED) {
		const struct rlimit wanted = {FILES_WANTED, FILES_WANTED};
		if (setrlimit(RLIMIT_NOFILE, &wanted) == 0) {
			return;
		}
	}
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static unsigned cpu_count(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static bool read_settings(struct relay *r)
{
	struct buf why;
	bool good = false;

	r->settings = alloc_zero(1, sizeof(*r->settings));
	enum err e = settings_read(r->settings, r->start->config_dir, 1);
	tell_problems(r, &r->settings->source);
	if (e != ERR_OK) {
		relay_tell(r, "not started: the settings in %s cannot be used",
			r->start->config_dir);
		r->exit_status = EX_CONFIG;
		return false;
	}
	buf_init(&why, LIMIT_TEXT);
	if (users_find(&r->users, &why) != ERR_OK) {
		relay_tell(r, "not started: %.*s", SLICE_ARG(buf_view(&why)));
		r->exit_status = EX_NOUSER;
	} else {
		good = true;
	}
	buf_clear(&why);
	return good;
}

static bool open_places(struct relay *r)
{
	struct buf why;
	int log_fd = -1;

	buf_init(&why, LIMIT_TEXT);
	enum err e =
		spool_open(&r->spool, r->settings->conf, &r->users, ORPHAN_PATIENCE_MS, &why);
	if (e == ERR_OK) {
		e = logfile_open(r->settings->conf, r->start->background, &log_fd, &r->log_path,
			&why);
	}
	if (e == ERR_OK && log_fd >= 0 && dup2(log_fd, STDERR_FILENO) < 0) {
		e = ERR_SYS;
	}
	fd_close(&log_fd);
	if (e != ERR_OK) {
		relay_tell(r, "not started: %.*s", SLICE_ARG(buf_view(&why)));
		r->exit_status = e == ERR_EXISTS || e == ERR_TIMEOUT ? EX_TEMPFAIL : EX_CONFIG;
	}
	buf_clear(&why);
	return e == ERR_OK;
}

static bool open_listeners(struct relay *r)
{
	struct buf why;
	bool waits;

	buf_init(&why, LIMIT_TEXT);
	enum err e = listeners_prepare(&r->settings->source, r->settings->conf, NULL,
		&r->listeners, &waits, &why);
	if (e != ERR_OK) {
		relay_tell(r, "not started: %.*s", SLICE_ARG(buf_view(&why)));
		r->exit_status = EX_CONFIG;
	} else {
		listeners_describe(&r->listeners, &r->settings->doors);
	}
	buf_clear(&why);
	return e == ERR_OK;
}

/* A descriptor that cannot be written to, of the same memory. */
static enum err open_reader(int fd, int *out)
{
	char path[64];
	enum err e = str_format(path, sizeof(path), "/proc/self/fd/%d", fd);

	if (e == ERR_OK) {
		*out = open(path, O_RDONLY | O_CLOEXEC);
		e = *out < 0 ? ERR_SYS : ERR_OK;
	}
	return e;
}

static bool open_shared(struct relay *r)
{
	int fd = -1;

	if (filter_create(&r->filter_fd) != ERR_OK ||
		open_reader(r->filter_fd, &r->filter_read_fd) != ERR_OK) {
		relay_tell(r, "not started: cannot make shared memory: %s", strerror(errno));
		r->exit_status = EX_OSERR;
		return false;
	}
	if (spool_listen(&r->spool, "master.sock", &fd) != ERR_OK) {
		relay_tell(r, "not started: cannot make the control socket: %s",
			strerror(errno));
		r->exit_status = EX_OSERR;
		return false;
	}
	r->control = control_new(r->loop, ROLE_MASTER, 0, &fd, on_ask, r);
	return true;
}

static bool make_children(struct relay *r)
{
	unsigned cpus = cpu_count();
	unsigned wish = listeners_wish(&r->settings->source);

	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		const struct program *p = topology_program((enum role)i);
		unsigned n = p == NULL ? 0 : topology_count(p, r->settings->conf, cpus, wish);
		r->children =
			alloc_resize(r->children, r->child_count + n, sizeof(r->children[0]));
		r->ctl_fds =
			alloc_resize(r->ctl_fds, r->child_count + n, sizeof(r->ctl_fds[0]));
		for (unsigned k = 0; k < n; k++) {
			child_init(&r->children[r->child_count], p, k, &child_events, r);
			r->ctl_fds[r->child_count++] = -1;
		}
	}
	for (size_t i = 0; i < r->child_count; i++) {
		const char *name = r->children[i].program->socket;
		if (name != NULL && spool_listen(&r->spool, name, &r->ctl_fds[i]) != ERR_OK) {
			relay_tell(r, "not started: cannot make the control socket %s: %s",
				name, strerror(errno));
			r->exit_status = EX_OSERR;
			return false;
		}
	}
	return true;
}

static bool take_signals(struct relay *r)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;

	if (sigaction(SIGPIPE, &ignore, NULL) != 0 || sigemptyset(&set) != 0 ||
		sigaddset(&set, SIGCHLD) != 0 || sigaddset(&set, SIGTERM) != 0 ||
		sigaddset(&set, SIGINT) != 0 || sigaddset(&set, SIGHUP) != 0 ||
		sigprocmask(SIG_SETMASK, &set, NULL) != 0) {
		return false;
	}
	r->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (r->signal_fd < 0) {
		return false;
	}
	loop_watch_init(&r->signal_watch, r->loop, r->signal_fd, on_signal, r);
	loop_watch_set(&r->signal_watch, LOOP_READ);
	return true;
}

static void start_log_level(const struct conf *c)
{
	static const char *const words[] = {"error", "warn", "info", "debug"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (conf_is(c, CONF_log_level, words[i])) {
			log_set_level((enum log_level)i);
		}
	}
}

static bool set_up(struct relay *r)
{
	if (!find_libexec(r) || !read_settings(r) || !open_places(r)) {
		return false;
	}
	start_log_level(r->settings->conf);
	if (!r->users.is_root) {
		log_warn(
			"event=unprivileged what=\"not started as root: all programs run as user %u, "
			"without users of their own and without chroot\"",
			geteuid());
	}
	if (loop_new(&r->loop) != ERR_OK || !take_signals(r)) {
		relay_tell(r, "not started: no event loop: %s", strerror(errno));
		r->exit_status = EX_OSERR;
		return false;
	}
	loop_timer_init(&r->chore_timer, r->loop, on_chore, r);
	loop_timer_init(&r->again_timer, r->loop, on_again, r);
	loop_timer_init(&r->watchdog_timer, r->loop, on_watchdog, r);
	reload_init(r);
	status_init(r);
	return open_listeners(r) && open_shared(r) && make_children(r);
}

static void run(struct relay *r)
{
	r->asked_ms = clock_mono_ms();
	loop_timer_start(&r->chore_timer, CHORE_BUSY_MS);
	if (r->notify.watchdog_ms != 0) {
		loop_timer_start(&r->watchdog_timer, r->notify.watchdog_ms);
	}
	spawn_stage(r);
	loop_run(r->loop);
	log_info("event=stopped");
}

static void tear_down(struct relay *r)
{
	if (r->spool.run >= 0) {
		spool_unlink(&r->spool, "master.sock");
		for (size_t i = 0; i < r->child_count; i++) {
			if (r->ctl_fds[i] >= 0) {
				spool_unlink(&r->spool, r->children[i].program->socket);
			}
		}
	}
	/* Who is told that we are gone may start us again at once. */
	spool_close(&r->spool);
	for (size_t i = 0; i < r->stop_ask_count; i++) {
		ask_done(&r->stop_asks[i], EX_OK, r->child_count, SLICE_EMPTY);
	}
	status_finish(r);
	control_free(&r->control);
	for (size_t i = 0; i < r->child_count; i++) {
		child_clear(&r->children[i]);
		fd_close(&r->ctl_fds[i]);
	}
	free(r->children);
	free(r->ctl_fds);
	listeners_clear(&r->listeners);
	fd_close(&r->filter_fd);
	fd_close(&r->filter_read_fd);
	if (r->loop != NULL) {
		loop_timer_stop(&r->chore_timer);
		loop_timer_stop(&r->again_timer);
		loop_timer_stop(&r->watchdog_timer);
		loop_timer_stop(&r->status_timer);
		if (r->signal_fd >= 0) {
			loop_watch_set(&r->signal_watch, 0);
		}
		loop_free(&r->loop);
	}
	fd_close(&r->signal_fd);
	if (r->settings != NULL) {
		settings_clear(r->settings);
	}
	free(r->settings);
	free(r->reload.asked);
	free(r->reload.agreed);
	free(r->log_path);
	notify_clear(&r->notify);
	fd_close(&r->console_fd);
}

int relay_run(const struct relay_start *start)
{
	struct relay r = {.start = start,
		.spool = {.run = -1, .pid_file = -1, .data_lock = -1},
		.console_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3),
		.filter_fd = -1,
		.filter_read_fd = -1,
		.signal_fd = -1,
		.born_ms = clock_mono_ms()};

	(void)umask(0027);
	notify_init(&r.notify);
	raise_limits();
	if (set_up(&r)) {
		run(&r);
	}
	tear_down(&r);
	return r.exit_status;
}
