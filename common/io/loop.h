/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop: one event loop a process, over libevent.
 *
 * A turn is: wait, run the callbacks of everything that is ready, run the marked
 * flushes in the order in which they were added, empty the bin. Work gathered during a
 * turn (frames, acknowledgements, a group of records) leaves in a flush, so that it
 * leaves in one system call. Nothing frees the object whose callback is running:
 * loop_discard() does it at the end of the turn.
 */
#ifndef COMMON_IO_LOOP_H
#define COMMON_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/list.h"

struct loop;

MUST_CHECK enum err loop_new(struct loop **out);
void loop_free(struct loop **loop);
/* For libraries that bring their own events (libunbound). */
struct event_base *loop_base(struct loop *loop);
/* Until loop_stop(). */
void loop_run(struct loop *loop);
/* One turn; waits for an event unless block is false. For tests. */
void loop_turn(struct loop *loop, bool block);
/* Ends loop_run() after the current turn. */
void loop_stop(struct loop *loop);
/* Monotonic time as of the start of this turn. */
int64_t loop_now_ms(const struct loop *loop);

/* Readiness of a descriptor. Embedded in its owner; zero it before first use. */
enum {
	LOOP_READ = 1,
	LOOP_WRITE = 2
};
struct loop_watch {
	struct event event;
	struct loop *loop;
	void (*on_ready)(void *arg, unsigned what);
	void *arg;
	int fd;
	unsigned what; /* what is watched now; 0: nothing */
};
void loop_watch_init(struct loop_watch *w, struct loop *loop, int fd,
	void (*on_ready)(void *arg, unsigned what), void *arg);
/* Sets what is watched (level-triggered, persistent); cheap when unchanged; 0 stops. */
void loop_watch_set(struct loop_watch *w, unsigned what);

/* A one-shot timer, exact to about a millisecond. */
struct loop_timer {
	struct event event;
	struct loop *loop;
	void (*on_time)(void *arg);
	void *arg;
	bool armed;
};
void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*on_time)(void *arg),
	void *arg);
void loop_timer_start(struct loop_timer *t, int64_t delay_ms); /* restarts an armed one */
void loop_timer_stop(struct loop_timer *t);

/* A call at the end of the turn in which it was marked. May mark others, or itself again. */
struct loop_flush {
	struct list all;
	void (*on_flush)(void *arg);
	void *arg;
	struct loop *loop;
	bool marked;
};
void loop_flush_add(struct loop_flush *f, struct loop *loop, void (*on_flush)(void *arg),
	void *arg);
void loop_flush_remove(struct loop_flush *f);
void loop_flush_mark(struct loop_flush *f);

/* Calls release(object) when the turn is over. */
void loop_discard(struct loop *loop, void (*release)(void *object), void *object);

/*
 * What a module of common/ keeps once a loop (a scratch area, a list of its objects).
 * key is the address of something of the module's own; make() is called when it is first
 * asked for, release() by loop_free().
 */
void *loop_own(struct loop *loop, const void *key, void *(*make)(struct loop *loop),
	void (*release)(void *object));

/*
 * Deadlines of many sessions, exact to a second, that cost nothing while they move: an
 * event on a session only stores a later time. on_late is called once when the time
 * has passed; the deadline is then unset.
 */
struct loop_deadline {
	struct list slot;
	int64_t at_ms;
	void (*on_late)(void *arg);
	void *arg;
	struct loop *loop;
};
void loop_deadline_init(struct loop_deadline *d, struct loop *loop, void (*on_late)(void *arg),
	void *arg);
void loop_deadline_set(struct loop_deadline *d, int64_t at_ms); /* of clock_mono_ms() */
void loop_deadline_unset(struct loop_deadline *d);

#endif
