/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/io/fd.h"
#include "common/io/loop.h"

#define START_US INT64_C(5000000000)

static struct loop *loop;

/* What happened, in order, as letters. */
static char story[64];
static size_t story_n;

static void tell(char c)
{
	assert_true(story_n < sizeof(story) - 1);
	story[story_n++] = c;
	story[story_n] = '\0';
}

static int set_up(void **state)
{
	(void)state;
	memset(story, 0, sizeof(story));
	story_n = 0;
	assert_int_equal(loop_new(&loop), ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clock_release();
	loop_free(&loop);
	loop_free(&loop);
	return 0;
}

/* ---- readiness ---- */

struct watched {
	struct loop_watch watch;
	unsigned seen;
	size_t calls;
};

static void on_ready(void *arg, unsigned what)
{
	struct watched *w = arg;

	w->seen |= what;
	w->calls++;
}

static void a_watch_is_persistent_and_level_triggered(void **state)
{
	struct watched w = {.seen = 0};
	int pair[2];

	(void)state;
	assert_int_equal(fd_socketpair(pair), ERR_OK);
	loop_watch_init(&w.watch, loop, pair[0], on_ready, &w);
	loop_watch_set(&w.watch, LOOP_READ);
	loop_turn(loop, false);
	assert_int_equal(w.calls, 0);
	assert_int_equal(fd_write_all(pair[1], SLICE("x")), ERR_OK);
	loop_turn(loop, true);
	loop_turn(loop, true);
	assert_int_equal(w.calls, 2);
	assert_int_equal(w.seen, LOOP_READ);
	loop_watch_set(&w.watch, LOOP_READ | LOOP_WRITE);
	loop_turn(loop, true);
	assert_int_equal(w.calls, 3);
	assert_int_equal(w.seen, LOOP_READ | LOOP_WRITE);
	loop_watch_set(&w.watch, LOOP_WRITE);
	w.seen = 0;
	loop_turn(loop, true);
	assert_int_equal(w.seen, LOOP_WRITE);
	loop_watch_set(&w.watch, 0);
	loop_watch_set(&w.watch, 0);
	w.calls = 0;
	loop_turn(loop, false);
	assert_int_equal(w.calls, 0);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
}

static void a_descriptor_number_may_be_used_again_at_once(void **state)
{
	(void)state;
	/* Stopped, closed, opened and watched again between two waits: the library only
	 * learns of the changes when it waits next. */
	for (int i = 0; i < 20; i++) {
		struct watched w = {.seen = 0};
		int pair[2];
		assert_int_equal(fd_socketpair(pair), ERR_OK);
		loop_watch_init(&w.watch, loop, pair[0], on_ready, &w);
		loop_watch_set(&w.watch, i % 2 == 0 ? LOOP_READ : LOOP_READ | LOOP_WRITE);
		if (i % 3 == 0) {
			loop_turn(loop, false);
		}
		loop_watch_set(&w.watch, 0);
		fd_close(&pair[0]);
		fd_close(&pair[1]);

		struct watched v = {.seen = 0};
		assert_int_equal(fd_socketpair(pair), ERR_OK);
		loop_watch_init(&v.watch, loop, pair[0], on_ready, &v);
		loop_watch_set(&v.watch, LOOP_READ);
		w.calls = 0;
		loop_turn(loop, false);
		assert_int_equal(v.calls, 0);
		assert_int_equal(fd_write_all(pair[1], SLICE("x")), ERR_OK);
		loop_turn(loop, true);
		assert_int_equal(v.calls, 1);
		assert_int_equal(w.calls, 0);
		loop_watch_set(&v.watch, 0);
		fd_close(&pair[0]);
		fd_close(&pair[1]);
	}
}

/* ---- flushes and the bin ---- */

struct flusher {
	struct loop_flush flush;
	char name;
	struct flusher *marks;
	size_t times;
	bool removes_itself;
};

static void on_flush(void *arg)
{
	struct flusher *f = arg;

	tell(f->name);
	if (f->marks != NULL && f->times != 0) {
		f->times--;
		loop_flush_mark(&f->marks->flush);
	}
	if (f->removes_itself) {
		loop_flush_remove(&f->flush);
	}
}

static void add(struct flusher *f, char name)
{
	f->name = name;
	loop_flush_add(&f->flush, loop, on_flush, f);
}

static void release(void *object)
{
	const char *name = object;

	tell(*name);
}

static void flushes_run_once_in_the_order_of_adding_then_the_bin(void **state)
{
	struct flusher a = {.times = 0};
	struct flusher b = {.times = 0};
	struct flusher c = {.times = 0};
	static char x = 'x';

	(void)state;
	add(&a, 'a');
	add(&b, 'b');
	add(&c, 'c');
	loop_flush_mark(&c.flush);
	loop_flush_mark(&a.flush);
	loop_flush_mark(&a.flush);
	loop_discard(loop, release, &x);
	loop_turn(loop, true);
	assert_string_equal(story, "acx");
	loop_turn(loop, false);
	assert_string_equal(story, "acx");
	loop_flush_mark(&b.flush);
	loop_flush_remove(&b.flush);
	loop_turn(loop, false);
	assert_string_equal(story, "acx");
	loop_flush_remove(&a.flush);
	loop_flush_remove(&c.flush);
}

static void a_flush_may_mark_earlier_ones_and_itself_and_be_removed(void **state)
{
	struct flusher a = {.times = 0};
	struct flusher b = {.marks = &a, .times = 1};
	struct flusher c = {.times = 0, .removes_itself = true};

	(void)state;
	add(&a, 'a');
	add(&b, 'b');
	add(&c, 'c');
	loop_flush_mark(&b.flush);
	loop_flush_mark(&c.flush);
	loop_turn(loop, true);
	assert_string_equal(story, "bca"); /* in the same turn */
	/* One that marks itself for ever neither hangs the turn nor is forgotten. */
	a.marks = &a;
	a.times = 6;
	loop_flush_mark(&a.flush);
	loop_turn(loop, true);
	loop_turn(loop, true);
	assert_string_equal(story, "bcaaaaaaaa");
	loop_flush_remove(&a.flush);
	loop_flush_remove(&b.flush);
}

static void discards_more(void *object)
{
	static char z = 'z';

	(void)object;
	tell('y');
	for (int i = 0; i < 20; i++) {
		loop_discard(loop, release, &z);
	}
}

static void what_a_release_discards_is_released_too(void **state)
{
	(void)state;
	loop_discard(loop, discards_more, NULL);
	loop_turn(loop, true);
	assert_string_equal(story, "yzzzzzzzzzzzzzzzzzzzz");
}

/* ---- timers ---- */

static void on_time(void *arg)
{
	const char *name = arg;

	tell(*name);
}

static void timers_ring_once_in_order(void **state)
{
	static char a = 'a';
	static char b = 'b';
	static char c = 'c';
	struct loop_timer first;
	struct loop_timer second;
	struct loop_timer stopped;

	(void)state;
	loop_timer_init(&first, loop, on_time, &a);
	loop_timer_init(&second, loop, on_time, &b);
	loop_timer_init(&stopped, loop, on_time, &c);
	int64_t began_ms = clock_mono_ms();
	loop_timer_start(&second, 60);
	loop_timer_start(&first, 10000);
	loop_timer_start(&first, 20); /* restarts */
	loop_timer_start(&stopped, 1);
	loop_timer_stop(&stopped);
	assert_true(first.armed);
	assert_false(stopped.armed);
	while (story_n < 2) {
		loop_turn(loop, true);
	}
	assert_string_equal(story, "ab");
	assert_true(clock_mono_ms() - began_ms >= 50);
	assert_false(first.armed);
	loop_timer_start(&first, -5); /* at once */
	loop_turn(loop, true);
	assert_string_equal(story, "aba");
}

static void stops(void *arg)
{
	loop_stop(arg);
}

static void running_ends_after_the_turn_that_stopped_it(void **state)
{
	struct loop_timer t;
	struct flusher a = {.times = 0};

	(void)state;
	add(&a, 'a');
	loop_timer_init(&t, loop, stops, loop);
	loop_timer_start(&t, 1);
	loop_flush_mark(&a.flush);
	loop_run(loop);
	assert_string_equal(story, "a");
	loop_stop(loop);
	loop_run(loop); /* ends at once: it had been stopped before */
	loop_flush_remove(&a.flush);
}

/* ---- deadlines, with the clock standing still ---- */

struct session {
	struct loop_deadline deadline;
	size_t late;
	struct session *next; /* what on_late does: unset that, */
	int64_t again_ms;     /* set itself again */
};

static void on_late(void *arg)
{
	struct session *s = arg;

	s->late++;
	if (s->next != NULL) {
		loop_deadline_unset(&s->next->deadline);
	}
	if (s->again_ms != 0) {
		loop_deadline_set(&s->deadline, clock_mono_ms() + s->again_ms);
	}
}

static void start(struct session *s, int64_t in_ms)
{
	loop_deadline_init(&s->deadline, loop, on_late, s);
	loop_deadline_set(&s->deadline, clock_mono_ms() + in_ms);
}

static void advance(int64_t ms)
{
	clock_advance_ms(ms);
	loop_turn(loop, false);
}

static void a_deadline_comes_within_a_second_and_never_early(void **state)
{
	static const int64_t delays_ms[] = {1, 500, 999, 1000, 1001, 30000, 300000, 511000,
		512000, 513000, 3600000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(delays_ms); i++) {
		struct session s = {.late = 0};
		clock_hold(START_US, START_US + (int64_t)i * 123457);
		start(&s, delays_ms[i]);
		loop_turn(loop, false);
		for (int64_t at_ms = 0; at_ms + 250 < delays_ms[i]; at_ms += 250) {
			advance(250);
			assert_int_equal(s.late, 0);
		}
		advance(1250);
		assert_int_equal(s.late, 1);
		advance(4000000);
		assert_int_equal(s.late, 1);
	}
}

static void a_later_deadline_only_replaces_an_earlier_one(void **state)
{
	struct session s = {.late = 0};

	(void)state;
	clock_hold(START_US, START_US);
	start(&s, 2000);
	for (int i = 0; i < 100; i++) {
		advance(1000);
		loop_deadline_set(&s.deadline, clock_mono_ms() + 2000);
	}
	assert_int_equal(s.late, 0);
	advance(1900);
	assert_int_equal(s.late, 0);
	advance(1000);
	assert_int_equal(s.late, 1);
}

static void an_earlier_deadline_is_kept_too(void **state)
{
	struct session s = {.late = 0};

	(void)state;
	clock_hold(START_US, START_US);
	start(&s, 300000);
	loop_turn(loop, false);
	loop_deadline_set(&s.deadline, clock_mono_ms() + 1000);
	advance(2000);
	assert_int_equal(s.late, 1);
	loop_deadline_set(&s.deadline, clock_mono_ms() - 50000); /* already past */
	advance(1000);
	assert_int_equal(s.late, 2);
}

static void an_unset_deadline_never_comes(void **state)
{
	struct session s = {.late = 0};

	(void)state;
	clock_hold(START_US, START_US);
	start(&s, 1000);
	loop_deadline_unset(&s.deadline);
	loop_deadline_unset(&s.deadline);
	advance(10000);
	assert_int_equal(s.late, 0);
}

static void many_deadlines_may_act_on_each_other(void **state)
{
	static struct session all[1000];

	(void)state;
	clock_hold(START_US, START_US);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		memset(&all[i], 0, sizeof(all[i]));
		start(&all[i], 5000);
	}
	/* Each that comes unsets its neighbour; some set themselves again. */
	for (size_t i = 0; i < ARRAY_LEN(all); i += 2) {
		all[i].next = &all[i + 1];
		all[i].again_ms = i % 10 == 0 ? 5000 : 0;
	}
	advance(6000);
	size_t late = 0;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		late += all[i].late;
		assert_int_equal(all[i].late, i % 2 == 0 ? 1 : 0);
		all[i].next = NULL;
		all[i].again_ms = 0;
	}
	assert_int_equal(late, 500);
	advance(6000);
	late = 0;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		late += all[i].late;
	}
	assert_int_equal(late, 600);
}

static void a_deadline_ends_a_wait_by_itself(void **state)
{
	struct session s = {.late = 0};

	(void)state;
	int64_t began_ms = clock_mono_ms();
	start(&s, 300);
	while (s.late == 0) {
		loop_turn(loop, true);
	}
	assert_true(clock_mono_ms() - began_ms >= 300);
}

static void the_time_of_a_turn_stands_still(void **state)
{
	(void)state;
	clock_hold(START_US, START_US);
	loop_turn(loop, false);
	int64_t now_ms = loop_now_ms(loop);
	clock_advance_ms(5);
	assert_int_equal(loop_now_ms(loop), now_ms);
	loop_turn(loop, false);
	assert_int_equal(loop_now_ms(loop), now_ms + 5);
}

/* ---- what modules own ---- */

static const char key_a;
static const char key_b;

static void *make(struct loop *of)
{
	assert_ptr_equal(of, loop);
	tell('m');
	return alloc_bytes(1);
}

static void unmake(void *object)
{
	tell('r');
	free(object);
}

static void a_module_owns_one_object_per_key_and_loop(void **state)
{
	(void)state;
	void *a = loop_own(loop, &key_a, make, unmake);
	void *b = loop_own(loop, &key_b, make, unmake);
	assert_ptr_not_equal(a, b);
	assert_ptr_equal(loop_own(loop, &key_a, make, unmake), a);
	assert_string_equal(story, "mm");
	loop_free(&loop);
	assert_string_equal(story, "mmrr");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_watch_is_persistent_and_level_triggered),
		TEST(a_descriptor_number_may_be_used_again_at_once),
		TEST(flushes_run_once_in_the_order_of_adding_then_the_bin),
		TEST(a_flush_may_mark_earlier_ones_and_itself_and_be_removed),
		TEST(what_a_release_discards_is_released_too),
		TEST(timers_ring_once_in_order),
		TEST(running_ends_after_the_turn_that_stopped_it),
		TEST(a_deadline_comes_within_a_second_and_never_early),
		TEST(a_later_deadline_only_replaces_an_earlier_one),
		TEST(an_earlier_deadline_is_kept_too),
		TEST(an_unset_deadline_never_comes),
		TEST(many_deadlines_may_act_on_each_other),
		TEST(a_deadline_ends_a_wait_by_itself),
		TEST(the_time_of_a_turn_stands_still),
		TEST(a_module_owns_one_object_per_key_and_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
