/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: one process of one program, from its birth to the moment it may be born again.
 *
 * What it is told and what it answers travels on its control channel. A child that breaks the
 * protocol or falls silent is killed. It counts as dead only when the kernel has handed it over
 * (child_reaped): until then no other takes its place.
 */
#ifndef MASTER_CHILD_H
#define MASTER_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/io/loop.h"
#include "common/ipc/channel.h"
#include "master/settings.h"
#include "master/topology.h"
#include "master/users.h"

enum child_state {
	CHILD_DOWN,     /* no process */
	CHILD_CHECKING, /* looks at its first settings */
	CHILD_CHECKED,  /* has found them good, waits for the word */
	CHILD_STARTING, /* has the word: jail, start */
	CHILD_UP,
	CHILD_ENDING /* told to end, or killed */
};
const char *child_state_name(enum child_state s);

struct child;
/* What the relay is told. A handler may not free the child. */
struct child_events {
	/* text is empty when the settings are fine. */
	void (*on_checked)(void *arg, struct child *c, uint64_t epoch, struct slice text);
	void (*on_ready)(void *arg, struct child *c);
	void (*on_pong)(void *arg, struct child *c);
};

struct child {
	const struct program *program;
	unsigned index;
	enum child_state state;
	pid_t pid;
	struct channel *control;
	bool takes; /* has the word: peers and listeners may be given */

	unsigned failures; /* for the back-off */
	uint64_t starts;
	int64_t born_ms;
	int64_t ready_ms;  /* 0: not since it was born */
	int64_t again_ms;  /* when CHILD_DOWN: next birth; 0: none is due */
	char last_end[96]; /* how the last process ended, for people */

	uint64_t ping_seq;
	uint64_t pong_seq;
	unsigned unanswered; /* ticks since the last answer */
	int64_t kill_ms;     /* when CHILD_ENDING: patience ends; 0: killed already */
	bool greeted;
	struct buf status; /* what it told of itself: a JSON object */

	const struct child_events *events;
	void *arg;
};

struct birth {
	struct loop *loop;
	const char *libexec; /* directory of the programs */
	const struct users *users;
	const struct settings *settings;
	const char *jail;
	int lock_fd; /* held by the child for as long as it lives; stays the caller's */
};

void child_init(struct child *c, const struct program *p, unsigned index,
	const struct child_events *events, void *arg);
void child_clear(struct child *c);

/* Forks, and sends greeting, identity and settings. From CHILD_DOWN only. */
MUST_CHECK enum err child_spawn(struct child *c, const struct birth *b);
/* Offers other settings. */
void child_offer(struct child *c, const struct settings *s);
/* The word: use them, forget them. The first one starts the program. */
void child_apply(struct child *c, uint64_t epoch);
void child_forget(struct child *c, uint64_t epoch);
/* Asks it to end within so many ms; later it is killed. */
void child_drain(struct child *c, int64_t within_ms);
void child_kill(struct child *c, const char *why);
/* Called often: kills who is late to start or to end. With ask, every CHILD_ASK_MS, also asks
 * for a sign of life and kills who has given none for too long. */
void child_tick(struct child *c, int64_t now_ms, bool ask);
/* A ping out of turn, for status. */
void child_ping(struct child *c);
/* waitpid() gave it. When it comes back is then in again_ms. */
void child_reaped(struct child *c, int status, int64_t now_ms);
/* Whether it runs with nobody having asked it to end. */
bool child_is_working(const struct child *c);

#define CHILD_ASK_MS 5000

#endif
