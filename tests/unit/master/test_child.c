/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "master/child.h"

static char scratch[] = "/tmp/ekiden-child.XXXXXX";
static struct settings settings;

static void write_file(const char *name, const char *text, mode_t mode)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", scratch, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int set_up(void **state)
{
	(void)state;
	if (mkdtemp(scratch) == NULL) {
		return -1;
	}
	write_file("main.cf",
		"myhostname = relay.example.net\ndns_trust_anchor =\nsmtp_tls_CAfile =\n",
		0600);
	write_file("master.cf", "127.0.0.1:2525 inet n - n - - smtpd\n", 0600);
	/* A program that says nothing, and one that ends. */
	write_file("resolve", "#!/bin/sh\nexec sleep 600\n", 0700);
	write_file("smtpd", "#!/bin/sh\nexit 7\n", 0700);
	return settings_read(&settings, scratch, 1) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	static const char *const names[] = {"main.cf", "master.cf", "resolve", "smtpd"};

	(void)state;
	settings_clear(&settings);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%s", scratch, names[i]);
		(void)unlink(path);
	}
	return rmdir(scratch);
}

static void on_checked(void *arg, struct child *c, uint64_t epoch, struct slice text)
{
	(void)arg;
	(void)c;
	(void)epoch;
	(void)text;
	fail();
}

static void on_child(void *arg, struct child *c)
{
	(void)arg;
	(void)c;
	fail();
}

static const struct child_events events = {.on_checked = on_checked,
	.on_ready = on_child,
	.on_pong = on_child};

struct world {
	struct loop *loop;
	struct users users;
	struct child child;
};

static void be_born(struct world *w, enum role role)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	memset(w, 0, sizeof(*w));
	assert_int_equal(loop_new(&w->loop), ERR_OK);
	child_init(&w->child, topology_program(role), 0, &events, NULL);
	const struct birth b = {.loop = w->loop,
		.libexec = scratch,
		.users = &w->users,
		.settings = &settings,
		.jail = "/",
		.lock_fd = null};
	assert_int_equal(child_spawn(&w->child, &b), ERR_OK);
	assert_int_equal(w->child.state, CHILD_CHECKING);
	close(null);
}

static int await_end(struct world *w)
{
	int status = 0;

	assert_int_equal(waitpid(w->child.pid, &status, 0), w->child.pid);
	return status;
}

static void leave(struct world *w)
{
	child_clear(&w->child);
	loop_free(&w->loop);
}

static void kills_who_does_not_become_ready(void **state)
{
	struct world w;

	(void)state;
	be_born(&w, ROLE_RESOLVE);
	int64_t born = w.child.born_ms;
	child_tick(&w.child, born + w.child.program->start_ms, true);
	assert_int_equal(w.child.state, CHILD_CHECKING);
	child_tick(&w.child, born + w.child.program->start_ms + 1, true);
	assert_int_equal(w.child.state, CHILD_ENDING);
	int status = await_end(&w);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	child_reaped(&w.child, status, born + 100000);
	assert_int_equal(w.child.state, CHILD_DOWN);
	assert_int_equal(w.child.failures, 1);
	assert_int_equal(w.child.again_ms, born + 100000);
	leave(&w);
}

static void kills_who_is_silent_for_too_long_and_not_before(void **state)
{
	struct world w;

	(void)state;
	be_born(&w, ROLE_RESOLVE);
	w.child.state = CHILD_UP;
	w.child.ready_ms = w.child.born_ms;
	int64_t ticks = w.child.program->silent_ms / CHILD_ASK_MS;
	for (int64_t i = 0; i <= ticks; i++) {
		/* The clock leaps, as when the machine slept: only unanswered questions count.
		 */
		child_tick(&w.child, w.child.born_ms + i * 1000000, true);
		child_tick(&w.child, w.child.born_ms + i * 1000000, false);
		assert_int_equal(w.child.state, CHILD_UP);
	}
	child_tick(&w.child, w.child.born_ms, true);
	assert_int_equal(w.child.state, CHILD_ENDING);
	child_reaped(&w.child, await_end(&w), clock_mono_ms());
	leave(&w);
}

static void kills_who_does_not_end_in_time(void **state)
{
	struct world w;

	(void)state;
	be_born(&w, ROLE_RESOLVE);
	child_drain(&w.child, 100);
	assert_int_equal(w.child.state, CHILD_ENDING);
	child_tick(&w.child, w.child.kill_ms - 1, false);
	assert_true(w.child.kill_ms != 0);
	child_tick(&w.child, w.child.kill_ms, false);
	int status = await_end(&w);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	child_reaped(&w.child, status, clock_mono_ms());
	leave(&w);
}

static void remembers_how_it_ended(void **state)
{
	struct world w;

	(void)state;
	be_born(&w, ROLE_SMTPD);
	int status = await_end(&w);
	child_reaped(&w.child, status, clock_mono_ms());
	assert_string_equal(w.child.last_end, "exit 7");
	assert_int_equal(w.child.failures, 1);
	/* Harmless to one that is not there. */
	child_kill(&w.child, "nothing");
	child_drain(&w.child, 5);
	child_tick(&w.child, clock_mono_ms(), true);
	child_offer(&w.child, &settings);
	child_apply(&w.child, 1);
	child_forget(&w.child, 1);
	child_ping(&w.child);
	assert_int_equal(w.child.state, CHILD_DOWN);
	leave(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kills_who_does_not_become_ready),
		cmocka_unit_test(kills_who_is_silent_for_too_long_and_not_before),
		cmocka_unit_test(kills_who_does_not_end_in_time),
		cmocka_unit_test(remembers_how_it_ended),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
