/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/io/fd.h"
#include "common/proc/control.h"

#define WAIT_MS 20000

static struct loop *loop;
static struct control *control;
static struct sockaddr_un place;
static struct ask *asked; /* the last one; null: answered, or none came */
static bool answers_at_once;

struct client {
	struct channel *channel;
	unsigned hellos;
	unsigned lines;
	unsigned dones;
	uint8_t exit_code;
	enum err gone; /* ERR_OK: not */
};

static void on_ask(void *arg, struct ask *a, const struct msg_ctl_ask *m)
{
	(void)arg;
	assert_int_equal(m->verb, CTL_STATUS);
	asked = a;
	if (answers_at_once) {
		ask_line(a, SLICE("{}"));
		ask_done(&asked, 0, 1, SLICE("fine"));
	}
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct client *c = arg;
	struct msg_ctl_done done;
	struct msg_hello hello;

	(void)fd;
	if (type == MSG_ID_hello) {
		assert_int_equal(msg_hello_decode(body, &hello), ERR_OK);
		assert_int_equal(hello.role, ROLE_QMGR);
		assert_int_equal(hello.index, 3);
		c->hellos++;
	} else if (type == MSG_ID_ctl_line) {
		c->lines++;
	} else {
		assert_int_equal(type, MSG_ID_ctl_done);
		assert_int_equal(msg_ctl_done_decode(body, &done), ERR_OK);
		c->exit_code = done.exit_code;
		c->dones++;
	}
	return ERR_OK;
}

static void on_gone(void *arg, enum err why)
{
	struct client *c = arg;

	c->gone = why;
	channel_close(&c->channel);
}

static void client_connect(struct client *c)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_gone = on_gone};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*c = (struct client){.gone = ERR_OK};
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&place, sizeof(place)), 0);
	assert_int_equal(fd_set_nonblock(fd), ERR_OK);
	c->channel = channel_new(loop, &fd, &handler, c);
}

static void say_hello(struct client *c)
{
	struct msg_hello m = {.role = ROLE_CTL};

	assert_int_equal(msg_hello_send(c->channel, &m), ERR_OK);
}

static void ask(struct client *c)
{
	struct msg_ctl_ask m = {.verb = CTL_STATUS};

	assert_int_equal(msg_ctl_ask_send(c->channel, &m), ERR_OK);
}

#define TURN_UNTIL(condition)                                                                  \
	for (int64_t end = clock_mono_ms() + WAIT_MS; !(condition);) {                         \
		assert_true(clock_mono_ms() < end);                                            \
		loop_turn(loop, true);                                                         \
	}

static int set_up(void **state)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t n = sizeof(place);

	(void)state;
	/* A name of the kernel's choice that no file has. */
	place = (struct sockaddr_un){.sun_family = AF_UNIX};
	assert_int_equal(bind(fd, (struct sockaddr *)&place, sizeof(place.sun_family)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&place, &n), 0);
	assert_int_equal(close(fd), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&place, sizeof(place)), 0);
	assert_int_equal(listen(fd, 100), 0);
	assert_int_equal(loop_new(&loop), ERR_OK);
	control = control_new(loop, ROLE_QMGR, 3, &fd, on_ask, NULL);
	assert_int_equal(fd, -1);
	asked = NULL;
	answers_at_once = true;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	control_free(&control);
	control_free(&control);
	loop_turn(loop, false);
	loop_free(&loop);
	return 0;
}

static void answers_one_question_after_the_other(void **state)
{
	struct client c;

	(void)state;
	client_connect(&c);
	say_hello(&c);
	for (unsigned i = 1; i <= 3; i++) {
		ask(&c);
		TURN_UNTIL(c.dones == i);
		assert_int_equal(c.lines, i);
	}
	assert_int_equal(c.hellos, 1);
	channel_close(&c.channel);
}

static void lets_go_who_asks_before_hello_or_says_it_twice(void **state)
{
	struct client c;
	struct client d;

	(void)state;
	client_connect(&c);
	ask(&c);
	client_connect(&d);
	say_hello(&d);
	say_hello(&d);
	TURN_UNTIL(c.gone != ERR_OK && d.gone != ERR_OK);
	assert_int_equal(c.dones + d.dones, 0);
}

static void lets_go_who_asks_while_a_question_is_open(void **state)
{
	struct client c;

	(void)state;
	answers_at_once = false;
	client_connect(&c);
	say_hello(&c);
	ask(&c);
	ask(&c);
	TURN_UNTIL(c.gone != ERR_OK);
	assert_non_null(asked);
	/* The one who holds the question need not know. */
	ask_line(asked, SLICE("{}"));
	ask_done(&asked, 0, 0, SLICE_EMPTY);
	assert_null(asked);
	ask_done(&asked, 0, 0, SLICE_EMPTY);
}

static void a_client_that_went_is_no_trouble(void **state)
{
	struct client c;
	struct client d;

	(void)state;
	answers_at_once = false;
	client_connect(&c);
	say_hello(&c);
	ask(&c);
	TURN_UNTIL(asked != NULL);
	struct ask *first = asked;
	channel_close(&c.channel);
	answers_at_once = true;
	client_connect(&d);
	say_hello(&d);
	ask(&d);
	TURN_UNTIL(d.dones == 1);
	ask_done(&first, 7, 0, SLICE("late"));
	channel_close(&d.channel);
}

static void turns_away_more_than_it_may_have(void **state)
{
	static struct client many[CONTROL_CLIENTS_MAX];
	struct client late;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		client_connect(&many[i]);
		TURN_UNTIL(many[i].hellos == 1);
	}
	client_connect(&late);
	TURN_UNTIL(late.gone != ERR_OK);
	assert_int_equal(late.hellos, 0);
	channel_close(&many[0].channel);
	/* The place is free once the end has been seen. */
	for (bool is_in = false; !is_in;) {
		client_connect(&late);
		TURN_UNTIL(late.gone != ERR_OK || late.hellos == 1);
		is_in = late.hellos == 1;
	}
	channel_close(&late.channel);
	for (size_t i = 1; i < ARRAY_LEN(many); i++) {
		channel_close(&many[i].channel);
	}
}

static void the_end_leaves_nobody_waiting(void **state)
{
	struct client c;

	(void)state;
	answers_at_once = false;
	client_connect(&c);
	say_hello(&c);
	ask(&c);
	TURN_UNTIL(asked != NULL);
	control_free(&control);
	TURN_UNTIL(c.gone != ERR_OK);
	assert_int_equal(c.dones, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers_one_question_after_the_other, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(lets_go_who_asks_before_hello_or_says_it_twice,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(lets_go_who_asks_while_a_question_is_open,
			set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_client_that_went_is_no_trouble, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(turns_away_more_than_it_may_have, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(the_end_leaves_nobody_waiting, set_up,
			tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
