/* SPDX-License-Identifier: Apache-2.0 */
/* relay_parts: what the sources of relay share: relay.c (start, keep, stop), reload.c,
 * status.c. */
#ifndef MASTER_RELAY_PARTS_H
#define MASTER_RELAY_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/io/loop.h"
#include "common/proc/control.h"
#include "master/child.h"
#include "master/listeners.h"
#include "master/notify.h"
#include "master/relay.h"
#include "master/settings.h"
#include "master/spool.h"
#include "master/users.h"

#define ASKS_MAX 16u

enum relay_phase {
	RELAY_STARTING,
	RELAY_RUNNING,
	RELAY_STOPPING
};

/* A change of settings under way. */
struct reload {
	struct settings *next; /* null: none is */
	struct listeners listeners;
	bool listeners_wait; /* some can be bound only when old ones are gone */
	struct ask *asker;   /* null: SIGHUP */
	unsigned awaited;    /* children that have not answered */
	bool *asked;         /* one a child: was offered the settings and has them */
	bool *agreed;        /* one a child: has found them good */
	int log_fd;          /* -1: the log stays where it is */
	char *log_path;
	struct loop_timer timer;  /* an answer is due */
	bool is_binding;          /* in force; the last listeners are being bound */
	struct listeners leaving; /* the old ones, until then */
	int64_t give_up_ms;
};

struct relay {
	const struct relay_start *start;
	struct loop *loop;
	enum relay_phase phase;
	bool is_ready;
	int exit_status;
	int64_t born_ms;

	char libexec[4096];
	struct users users;
	struct spool spool;
	struct notify notify;
	struct settings *settings;
	struct listeners listeners;
	char *log_path;     /* null: standard error */
	int console_fd;     /* standard error as we found it, until we are ready; -1 */
	int filter_fd;      /* the filter of suppressed addresses, to write */
	int filter_read_fd; /* the same, for who only reads it */

	struct child *children;
	size_t child_count;
	int *ctl_fds;   /* one a child: its listening control socket, or -1 */
	unsigned stage; /* of starting, of stopping */

	struct control *control;
	struct ask *stop_asks[ASKS_MAX];
	size_t stop_ask_count;
	struct ask *status_asks[ASKS_MAX];
	size_t status_ask_count;
	struct loop_timer status_timer;

	struct reload reload;

	struct loop_watch signal_watch;
	int signal_fd;
	struct loop_timer chore_timer;
	struct loop_timer again_timer;
	struct loop_timer watchdog_timer;
	int64_t asked_ms; /* when the children were last asked for a sign of life */
};

/* ---- relay.c ---- */

/* Tells people: in the log, and while we start also on standard error. */
void relay_tell(struct relay *r, const char *format, ...) PRINTF_LIKE(2, 3);
/* A listening socket for one child. */
void relay_give_listener(struct child *c, const struct listener *l);
/* Ends in order. Harmless when repeated. */
void relay_stop(struct relay *r);

/* ---- reload.c ---- */

/* Takes the ask, which may be null. */
void reload_begin(struct relay *r, struct ask *asker);
/* A child has answered to settings that are not in force. */
void reload_on_checked(struct relay *r, struct child *c, uint64_t epoch, struct slice text);
/* A child is gone: what it was asked, it does not answer. */
void reload_on_death(struct relay *r, struct child *c);
/* The relay stops. */
void reload_cancel(struct relay *r);
void reload_init(struct relay *r);

/* ---- status.c ---- */

/* Takes the ask; answers when the children have told of themselves, or a second later. */
void status_begin(struct relay *r, struct ask *asker);
void status_on_pong(struct relay *r);
void status_init(struct relay *r);
/* Answers those who still wait. */
void status_finish(struct relay *r);

#endif
