/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/io/loop.h"

/* Passes over the marked flushes in one turn: what a flush hands to another leaves in the
 * same turn, and two that keep waking each other cannot keep the sockets waiting. */
#define FLUSH_PASSES 4

#define WHEEL_SLOTS 512u /* seconds ahead; farther deadlines go round again */
#define NEVER_S INT64_MAX

/* The time of this turn; apart, so that loop_now_ms() can note it on a const loop. */
struct now {
	int64_t ms;
	bool known;
};

struct trash {
	void (*release)(void *object);
	void *object;
};

struct owned {
	struct owned *next;
	const void *key;
	void *object;
	void (*release)(void *object);
};

struct loop {
	struct event_base *base;
	struct now *now;
	struct list flushes;
	size_t marked; /* how many of flushes are */
	struct trash *bin;
	size_t bin_count;
	size_t bin_room;
	struct owned *owned;
	bool stopped;

	/* Deadlines: slot s % WHEEL_SLOTS holds what is looked at when second s begins. */
	struct list wheel[WHEEL_SLOTS];
	size_t wheel_count;
	int64_t wheel_s; /* slots up to this second have been looked at */
	int64_t next_s;  /* no slot before this second holds anything */
	struct event tick;
};

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg; /* it only ends the wait: every turn looks at the wheel */
}

enum err loop_new(struct loop **out)
{
	struct event_config *conf = event_config_new();
	struct event_base *base = NULL;

	/* sendfile() has no MSG_NOSIGNAL. */
	(void)signal(SIGPIPE, SIG_IGN);

	/*
	 * Not EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST: it deletes at the next wait, when a
	 * descriptor that was stopped and closed is no longer there to be deleted. Where
	 * another process holds the same socket (a listener), epoll would report it for ever.
	 */
	if (conf != NULL && event_config_set_flag(conf, EVENT_BASE_FLAG_NOLOCK) == 0) {
		base = event_base_new_with_config(conf);
	}
	if (conf != NULL) {
		event_config_free(conf);
	}
	if (base == NULL) {
		return ERR_SYS;
	}
	struct loop *loop = alloc_zero(1, sizeof(*loop));
	loop->base = base;
	loop->now = alloc_zero(1, sizeof(*loop->now));
	list_init(&loop->flushes);
	for (size_t i = 0; i < WHEEL_SLOTS; i++) {
		list_init(&loop->wheel[i]);
	}
	loop->next_s = NEVER_S;
	(void)event_assign(&loop->tick, base, -1, 0, on_tick, NULL);
	*out = loop;
	return ERR_OK;
}

static void empty_bin(struct loop *loop)
{
	/* A release may discard more; the array may move meanwhile. */
	for (size_t i = 0; i < loop->bin_count; i++) {
		struct trash t = loop->bin[i];
		t.release(t.object);
	}
	loop->bin_count = 0;
}

void loop_free(struct loop **loop)
{
	struct loop *l = *loop;

	if (l == NULL) {
		return;
	}
	*loop = NULL;
	while (l->owned != NULL) {
		struct owned *o = l->owned;
		l->owned = o->next;
		o->release(o->object);
		free(o);
	}
	empty_bin(l);
	free(l->bin);
	(void)event_del(&l->tick);
	event_base_free(l->base);
	free(l->now);
	free(l);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

int64_t loop_now_ms(const struct loop *loop)
{
	if (!loop->now->known) {
		loop->now->ms = clock_mono_ms();
		loop->now->known = true;
	}
	return loop->now->ms;
}

/* ---- deadlines ---- */

/* Ends the wait when second s begins. */
static void wheel_arm(struct loop *loop, int64_t s)
{
	int64_t wait_ms = s * 1000 - clock_mono_ms();

	/* One millisecond more: the library's clock may lag behind ours. */
	wait_ms = wait_ms < 1 ? 1 : wait_ms + 1;
	struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};
	loop->next_s = s;
	(void)event_add(&loop->tick, &tv);
}

static void wheel_put(struct loop *loop, struct loop_deadline *d)
{
	/* Rounded up, so that a deadline comes late by up to a second and never early. */
	int64_t s = d->at_ms / 1000 + (d->at_ms % 1000 > 0 ? 1 : 0);

	if (s <= loop->wheel_s) {
		s = loop->wheel_s + 1;
	}
	if (s > loop->wheel_s + (int64_t)WHEEL_SLOTS - 1) {
		s = loop->wheel_s + (int64_t)WHEEL_SLOTS - 1;
	}
	list_append(&loop->wheel[(uint64_t)s % WHEEL_SLOTS], &d->slot);
	loop->wheel_count++;
	if (s < loop->next_s) {
		wheel_arm(loop, s);
	}
}

static void wheel_take(struct loop *loop, struct loop_deadline *d)
{
	list_remove(&d->slot);
	loop->wheel_count--;
}

/* Arms the tick for the next slot that holds something. */
static void wheel_rearm(struct loop *loop)
{
	loop->next_s = NEVER_S;
	if (loop->wheel_count == 0) {
		(void)event_del(&loop->tick);
		return;
	}
	for (int64_t s = loop->wheel_s + 1; s < loop->wheel_s + (int64_t)WHEEL_SLOTS; s++) {
		if (!list_is_empty(&loop->wheel[(uint64_t)s % WHEEL_SLOTS])) {
			wheel_arm(loop, s);
			return;
		}
	}
}

static void wheel_turn(struct loop *loop)
{
	int64_t now_ms = loop_now_ms(loop);
	int64_t now_s = now_ms / 1000;
	struct list due;

	if (loop->wheel_count == 0 || now_s < loop->next_s) {
		if (loop->next_s != NEVER_S && !event_pending(&loop->tick, EV_TIMEOUT, NULL)) {
			wheel_rearm(
				loop); /* it rang early, or the clock of a test stands still */
		}
		return;
	}
	list_init(&due);
	for (int64_t i = 0; i < (int64_t)WHEEL_SLOTS && loop->wheel_s < now_s; i++) {
		loop->wheel_s++;
		struct list *slot = &loop->wheel[(uint64_t)loop->wheel_s % WHEEL_SLOTS];
		struct list *d;
		while ((d = list_first(slot)) != NULL) {
			list_remove(d);
			list_append(&due, d);
		}
	}
	loop->wheel_s = now_s;
	struct list *entry;
	while ((entry = list_first(&due)) != NULL) {
		struct loop_deadline *d = CONTAINER_OF(entry, struct loop_deadline, slot);
		wheel_take(loop, d);
		if (d->at_ms > now_ms) {
			wheel_put(loop, d);
		} else {
			d->on_late(d->arg);
		}
	}
	wheel_rearm(loop);
}

void loop_deadline_init(struct loop_deadline *d, struct loop *loop, void (*on_late)(void *arg),
	void *arg)
{
	*d = (struct loop_deadline){.on_late = on_late, .arg = arg, .loop = loop};
	list_init(&d->slot);
}

void loop_deadline_set(struct loop_deadline *d, int64_t at_ms)
{
	struct loop *loop = d->loop;
	bool is_set = !list_is_empty(&d->slot);

	if (is_set && at_ms >= d->at_ms) {
		d->at_ms = at_ms; /* its slot comes first and finds the new time */
		return;
	}
	if (is_set) {
		wheel_take(loop, d);
	}
	if (loop->wheel_count == 0) {
		loop->wheel_s = clock_mono_ms() / 1000;
		loop->next_s = NEVER_S;
	}
	d->at_ms = at_ms;
	wheel_put(loop, d);
}

void loop_deadline_unset(struct loop_deadline *d)
{
	if (!list_is_empty(&d->slot)) {
		wheel_take(d->loop, d);
	}
}

/* ---- turns ---- */

static void run_flushes(struct loop *loop)
{
	for (int pass = 0; pass < FLUSH_PASSES && loop->marked != 0; pass++) {
		/* The place in the list is kept by an entry of our own: any may be removed. */
		struct list here;
		list_prepend(&loop->flushes, &here);
		while (here.next != &loop->flushes && loop->marked != 0) {
			struct list *at = here.next;
			list_remove(&here);
			list_prepend(at, &here);
			struct loop_flush *f = CONTAINER_OF(at, struct loop_flush, all);
			if (f->marked) {
				f->marked = false;
				loop->marked--;
				f->on_flush(f->arg);
			}
		}
		list_remove(&here);
	}
}

void loop_turn(struct loop *loop, bool block)
{
	bool waits = block && loop->marked == 0 && loop->bin_count == 0 && !loop->stopped;

	loop->now->known = false;
	/* EVLOOP_NONBLOCK alone would go on until nothing is ready any more. */
	(void)event_base_loop(loop->base,
		EVLOOP_ONCE | (waits ? EVLOOP_NO_EXIT_ON_EMPTY : EVLOOP_NONBLOCK));
	wheel_turn(loop);
	run_flushes(loop);
	empty_bin(loop);
}

void loop_run(struct loop *loop)
{
	while (!loop->stopped) {
		loop_turn(loop, true);
	}
	loop->stopped = false;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}

/* ---- readiness ---- */

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct loop_watch *w = arg;
	unsigned ready = ((what & EV_READ) != 0 ? LOOP_READ : 0u) |
			 ((what & EV_WRITE) != 0 ? LOOP_WRITE : 0u);

	(void)fd;
	w->on_ready(w->arg, ready);
}

void loop_watch_init(struct loop_watch *w, struct loop *loop, int fd,
	void (*on_ready)(void *arg, unsigned what), void *arg)
{
	*w = (struct loop_watch){.loop = loop,
		.on_ready = on_ready,
		.arg = arg,
		.fd = fd,
		.what = 0};
}

void loop_watch_set(struct loop_watch *w, unsigned what)
{
	if (w->what == what) {
		return;
	}
	if (w->what != 0) {
		(void)event_del(&w->event);
	}
	w->what = what;
	if (what == 0) {
		return;
	}
	short events = EV_PERSIST;
	if ((what & LOOP_READ) != 0) {
		events |= EV_READ;
	}
	if ((what & LOOP_WRITE) != 0) {
		events |= EV_WRITE;
	}
	(void)event_assign(&w->event, w->loop->base, w->fd, events, on_event, w);
	(void)event_add(&w->event, NULL);
}

/* ---- timers ---- */

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct loop_timer *t = arg;

	(void)fd;
	(void)what;
	t->armed = false;
	t->on_time(t->arg);
}

void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*on_time)(void *arg),
	void *arg)
{
	*t = (struct loop_timer){.loop = loop, .on_time = on_time, .arg = arg, .armed = false};
	(void)event_assign(&t->event, loop->base, -1, 0, on_timeout, t);
}

void loop_timer_start(struct loop_timer *t, int64_t delay_ms)
{
	if (delay_ms < 0) {
		delay_ms = 0;
	}
	struct timeval tv = {delay_ms / 1000, delay_ms % 1000 * 1000};

	t->armed = true;
	(void)event_add(&t->event, &tv);
}

void loop_timer_stop(struct loop_timer *t)
{
	if (t->armed) {
		t->armed = false;
		(void)event_del(&t->event);
	}
}

/* ---- flushes, the bin, what modules own ---- */

void loop_flush_add(struct loop_flush *f, struct loop *loop, void (*on_flush)(void *arg),
	void *arg)
{
	*f = (struct loop_flush){.on_flush = on_flush, .arg = arg, .loop = loop};
	list_append(&loop->flushes, &f->all);
}

void loop_flush_remove(struct loop_flush *f)
{
	if (f->marked) {
		f->marked = false;
		f->loop->marked--;
	}
	list_remove(&f->all);
}

void loop_flush_mark(struct loop_flush *f)
{
	if (!f->marked) {
		f->marked = true;
		f->loop->marked++;
	}
}

void loop_discard(struct loop *loop, void (*release)(void *object), void *object)
{
	if (loop->bin_count == loop->bin_room) {
		loop->bin_room = loop->bin_room == 0 ? 16 : loop->bin_room * 2;
		loop->bin = alloc_resize(loop->bin, loop->bin_room, sizeof(*loop->bin));
	}
	loop->bin[loop->bin_count++] = (struct trash){release, object};
}

void *loop_own(struct loop *loop, const void *key, void *(*make)(struct loop *loop),
	void (*release)(void *object))
{
	struct owned *o = loop->owned;

	while (o != NULL && o->key != key) {
		o = o->next;
	}
	if (o == NULL) {
		o = alloc_zero(1, sizeof(*o));
		o->key = key;
		o->object = make(loop);
		o->release = release;
		o->next = loop->owned;
		loop->owned = o;
	}
	return o->object;
}
