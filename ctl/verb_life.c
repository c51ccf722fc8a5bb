/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the relay: start, start-fg, stop, reload, status. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/jsonview.h"
#include "ctl/output.h"

#define READY_VARIABLE "EKIDEN_READY_FD"
#define START_PATIENCE_MS 120000
#define STOP_PATIENCE_MS 600000

/* The programs are found from where the command itself is: PREFIX/bin beside PREFIX/libexec. */
static bool find_master(char to[PATH_MAX])
{
	static const char *const places[] = {"../libexec/ekiden/master", "../libexec/master"};
	char self[PATH_MAX];

	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0) {
		return false;
	}
	struct slice dir = slice_make(self, (size_t)n);
	dir = slice_head(dir, slice_find_last(dir, '/'));
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		if (str_format(to, PATH_MAX, "%.*s/%s", SLICE_ARG(dir), places[i]) == ERR_OK &&
			access(to, X_OK) == 0) {
			return true;
		}
	}
	return false;
}

/* In the child: becomes master, with nothing of ours but the pipe. */
static void become_master(const char *master, const char *dir, int ready_fd)
{
	char number[16];
	int null = open("/dev/null", O_RDWR | O_NOCTTY);

	(void)setsid();
	/* Standard error stays ours until master logs elsewhere: it tells people why it cannot
	 * start. */
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
		fcntl(ready_fd, F_SETFD, 0) != 0 ||
		str_format(number, sizeof(number), "%d", ready_fd) != ERR_OK ||
		setenv(READY_VARIABLE, number, 1) != 0) {
		_exit(EX_OSERR);
	}
	if (null > 2) {
		(void)close(null);
	}
	(void)signal(SIGPIPE, SIG_DFL);
	(void)execl(master, "master", "-c", dir, "-b", (char *)NULL);
	_exit(EX_OSERR);
}

/* Reads the pipe until master says something whole, closes it, or takes too long. */
static size_t hear(int fd, char *to, size_t size, bool *is_late)
{
	int64_t until = clock_mono_ms() + START_PATIENCE_MS;
	size_t used = 0;

	*is_late = false;
	while (used < size - 1 && memchr(to, '\n', used) == NULL) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = until - clock_mono_ms();
		if (left <= 0) {
			*is_late = true;
			break;
		}
		if (poll(&p, 1, (int)left) <= 0) {
			continue;
		}
		ssize_t n = read(fd, to + used, size - 1 - used);
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
			break;
		}
		used += n > 0 ? (size_t)n : 0;
	}
	to[used] = '\0';
	return used;
}

/* How master ended, when it has to be said why there is no relay. */
static int end_of(pid_t pid)
{
	int state = 0;

	while (waitpid(pid, &state, 0) < 0) {
		if (errno != EINTR) {
			return EX_UNAVAILABLE;
		}
	}
	return WIFEXITED(state) && WEXITSTATUS(state) != EX_OK ? WEXITSTATUS(state)
							       : EX_UNAVAILABLE;
}

static int judge_start(const struct command *c, pid_t pid, struct slice said, bool is_late)
{
	struct slice line = slice_trim(slice_head(said, slice_find(said, '\n')));

	if (slice_eq(line, SLICE("READY"))) {
		if (geteuid() != 0) {
			(void)fprintf(stderr,
				"ekiden: not started as root: the programs run without jails and "
				"without users of their own\n");
		}
		return EX_OK;
	}
	if (is_late) {
		return complain(EX_TEMPFAIL,
			"the relay does not accept mail after %d seconds; it is still starting",
			START_PATIENCE_MS / 1000);
	}
	int status = end_of(pid);
	if (slice_starts(line, SLICE("FAILED"))) {
		char text[LIMIT_TEXT];
		struct slice why = slice_trim(slice_skip(line, 6));
		if (slice_starts(why, SLICE("not started:"))) {
			why = slice_trim(slice_skip(why, strlen("not started:")));
		}
		str_printable(text, sizeof(text), why);
		return complain(status, "the relay did not start: %s", text);
	}
	return complain(status,
		"the relay did not start; see its log (ekiden -c %s conf -x maillog_file)",
		c->dir);
}

/* Checks what is checked before anything is started. */
static int prepare(struct command *c, char master[PATH_MAX])
{
	struct conf_source s;

	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("\"%s\": no operands are taken here", c->args[0]);
	}
	bool is_good = check_configuration(c, &s, CHECK_TELL_FATAL);
	conf_source_clear(&s);
	if (!is_good) {
		return complain(EX_CONFIG, "the configuration has errors; nothing was started");
	}
	if (!find_master(master)) {
		return complain(EX_OSFILE,
			"the program master is not where it should be: "
			"../libexec/ekiden beside the folder of this command");
	}
	return EX_OK;
}

int verb_start(struct command *c)
{
	char master[PATH_MAX];
	char said[LIMIT_TEXT];
	int pipe_fds[2];
	bool is_late;

	int status = prepare(c, master);
	if (status != EX_OK) {
		return status;
	}
	if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
		return complain(EX_OSERR, "no pipe: %s", strerrordesc_np(errno));
	}
	(void)fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		status = complain(EX_OSERR, "no process: %s", strerrordesc_np(errno));
		fd_close(&pipe_fds[0]);
		fd_close(&pipe_fds[1]);
		return status;
	}
	if (pid == 0) {
		become_master(master, c->dir, pipe_fds[1]);
	}
	fd_close(&pipe_fds[1]);
	size_t n = hear(pipe_fds[0], said, sizeof(said), &is_late);
	fd_close(&pipe_fds[0]);
	return judge_start(c, pid, slice_make(said, n), is_late);
}

int verb_start_fg(struct command *c)
{
	char master[PATH_MAX];

	int status = prepare(c, master);
	if (status != EX_OK) {
		return status;
	}
	(void)fflush(NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)execl(master, "master", "-c", c->dir, (char *)NULL);
	return complain(EX_OSERR, "%s: %s", master, strerrordesc_np(errno));
}

int verb_stop(struct command *c)
{
	struct places places;
	struct client *client = NULL;
	struct client_answer answer;
	char name[LIMIT_NAME + 1];
	int status = EX_OK;

	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("stop takes no operands");
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	operator_name(name, sizeof(name));
	const struct msg_ctl_ask ask = {.verb = CTL_STOP,
		.operator_name = slice_from_cstr(name)};
	enum err e = client_open(places.queue_directory, "master.sock", &client);
	if (e != ERR_OK) {
		status = client_absent(places.queue_directory, e);
		goto out;
	}
	e = client_ask(client, &ask, NULL, NULL, STOP_PATIENCE_MS, &answer);
	if (e == ERR_OK && answer.exit_code != EX_OK) {
		status = complain((int)answer.exit_code, "%s", answer.text);
	} else if (e == ERR_OK) {
		/* It answers when it begins to stop or when it has; it is gone when the socket
		 * closes. */
		e = client_wait_closed(client, STOP_PATIENCE_MS);
	} else if (e == ERR_CLOSED) {
		e = ERR_OK; /* gone is what was asked for */
	}
	if (status == EX_OK && e != ERR_OK) {
		status = complain(EX_TEMPFAIL, "the relay has not stopped yet");
	}
out:
	client_close(&client);
	places_clear(&places);
	return status;
}

int verb_reload(struct command *c)
{
	struct conf_source s;

	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("reload takes no operands");
	}
	bool is_good = check_configuration(c, &s, CHECK_TELL_ALL);
	conf_source_clear(&s);
	if (!is_good) {
		return complain(EX_CONFIG,
			"the configuration has errors; the old one stays in force");
	}
	return client_order(c, "master.sock", CTL_RELOAD, "", "", NULL, NULL, NULL);
}

/* ---- status ---- */

struct status {
	const struct command *command;
	struct columns programs;
};

/* A member as plain text, "" when there is none. */
static void member_text(struct slice object, const char *name, struct buf *to)
{
	struct jsonview_value value;

	buf_reset(to);
	if (jsonview_find(object, name, &value)) {
		jsonview_plain(&value, to);
	}
}

static void print_member(struct slice object, const char *before, const char *name)
{
	struct buf text;

	buf_init(&text, OUT_LINE_MAX);
	member_text(object, name, &text);
	if (buf_len(&text) != 0) {
		out_printf("%s", before);
		out_text(buf_view(&text));
	}
	buf_clear(&text);
}

static void format_uptime(struct slice object, char to[OUT_SHORT_MAX])
{
	struct buf text;
	uint64_t n = 0;

	buf_init(&text, OUT_LINE_MAX);
	member_text(object, "uptime_s", &text);
	if (num_parse_u64(buf_view(&text), INT64_MAX, &n) != ERR_OK) {
		n = 0;
	}
	out_format_age((int64_t)n, to);
	buf_clear(&text);
}

/* The line of master: the relay as a whole. */
static void show_relay(struct slice json)
{
	struct jsonview_value value;
	struct jsonview list;
	struct slice name;
	char up[OUT_SHORT_MAX];

	format_uptime(json, up);
	print_member(json, "", "hostname");
	print_member(json, ": ", "state");
	out_printf(" for %s", up);
	print_member(json, ", version ", "version");
	print_member(json, ", settings ", "settings");
	print_member(json, " of ", "config_directory");
	print_member(json, "\nqueue ", "queue_directory");
	print_member(json, ", data ", "data_directory");
	print_member(json, ", log ", "log");
	out_printf("\n");
	if (!jsonview_find(json, "listeners", &value)) {
		return;
	}
	list = jsonview_open(value.text);
	while (jsonview_next(&list, &name, &value)) {
		print_member(value.text, "listens on ", "address");
		print_member(value.text, " port ", "port");
		print_member(value.text, " (", "name");
		out_printf(")\n");
	}
}

/* What a program tells of itself: "sessions=1 messages=5". */
static void add_detail(struct columns *to, struct slice json)
{
	struct jsonview_value value;
	struct jsonview detail;
	struct slice name;
	struct buf text;
	enum err e = ERR_OK;

	buf_init(&text, OUT_LINE_MAX);
	if (jsonview_find(json, "detail", &value)) {
		detail = jsonview_open(value.text);
		while (e == ERR_OK && jsonview_next(&detail, &name, &value)) {
			if (value.kind == JSONVIEW_OBJECT || value.kind == JSONVIEW_ARRAY) {
				continue;
			}
			e = buf_printf(&text, "%s%.*s=", buf_len(&text) == 0 ? "" : " ",
				SLICE_ARG(name));
			jsonview_plain(&value, &text);
		}
	}
	columns_add(to, buf_view(&text));
	buf_clear(&text);
}

static void add_program(struct status *s, struct slice json)
{
	char up[OUT_SHORT_MAX];
	struct buf text;
	struct buf index;

	buf_init(&text, OUT_LINE_MAX);
	buf_init(&index, OUT_LINE_MAX);
	member_text(json, "role", &text);
	member_text(json, "index", &index);
	columns_printf(&s->programs, "%.*s-%.*s", SLICE_ARG(buf_view(&text)),
		SLICE_ARG(buf_view(&index)));
	static const char *const members[] = {"pid", "state"};
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		member_text(json, members[i], &text);
		columns_add(&s->programs, buf_view(&text));
	}
	format_uptime(json, up);
	columns_add(&s->programs, slice_from_cstr(up));
	member_text(json, "restarts", &text);
	columns_add(&s->programs, buf_view(&text));
	add_detail(&s->programs, json);
	buf_clear(&text);
	buf_clear(&index);
}

static void on_status_line(void *arg, struct slice json)
{
	struct status *s = arg;
	struct jsonview_value value;

	if (s->command->json) {
		out_bytes(json);
		(void)putchar('\n');
	} else if (jsonview_find(json, "role", &value) &&
		   slice_eq(value.text, SLICE("master"))) {
		show_relay(json);
	} else {
		add_program(s, json);
	}
}

int verb_status(struct command *c)
{
	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("status takes no operands");
	}
	static const char *const heads[] = {"PROGRAM", "PID", "STATE", "UP", "RESTARTS",
		"DETAIL"};
	struct status s = {.command = c};
	columns_init(&s.programs, ARRAY_LEN(heads));
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		columns_add(&s.programs, slice_from_cstr(heads[i]));
	}
	int status =
		client_order(c, "master.sock", CTL_STATUS, "", "", on_status_line, &s, NULL);
	if (status == EX_OK && !c->json) {
		columns_print(&s.programs);
	}
	if (status == EX_UNAVAILABLE && c->json) {
		out_printf("{\"running\":false}\n");
	}
	columns_clear(&s.programs);
	return status;
}
