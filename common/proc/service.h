/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service: the life of a child of master, the same for every program.
 *
 * service_main() takes the control channel (descriptor 3, argv: PROGRAM INDEX), shakes hands,
 * receives identity (who to become, which jail) and configuration, calls the hooks, goes to
 * jail (jail.h), tells master that it is ready, and turns the loop until master drains it or is
 * gone. Everything that needs a path or privilege happens in on_open; nothing above that line
 * has read a byte that a stranger chose.
 */
#ifndef COMMON_PROC_SERVICE_H
#define COMMON_PROC_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "common/io/loop.h"
#include "common/ipc/messages.h"
#include "common/proc/jail.h"

struct service {
	struct loop *loop;
	enum role role;
	unsigned index;
	const struct conf *conf; /* the one in force; null before the first on_apply */
	bool draining;
};

/* Any hook may be null. arg is what service_main() was given. */
struct service_hooks {
	const char *program; /* "smtpd", for logs */
	enum role role;
	const struct jail_rules *jail;
	/* Privileged, once: open directories, databases. */
	enum err (*on_open)(struct service *s, void *arg, const struct conf *c);
	/* A configuration is offered: build from it whatever can fail (tables, keys, TLS
	 * contexts), keep it as pending, explain in why what is wrong. Never touches what is in
	 * force. */
	enum err (
		*on_conf)(struct service *s, void *arg, const struct conf *c, struct buf *why);
	/* The pending one is in force from now on (after on_conf, in the jail) and is s->conf;
	 * the one before it dies when this returns. / Forget it. */
	void (*on_apply)(struct service *s, void *arg);
	void (*on_forget)(struct service *s, void *arg);
	/* In the jail, configuration applied, before READY. */
	enum err (*on_start)(struct service *s, void *arg);
	/* All of these come after on_start. Take *fd (set to -1) or it is closed. A peer with
	 * the same role and index takes the place of an earlier one, which is gone or about to
	 * be. */
	void (*on_listen)(struct service *s, void *arg, const struct msg_listen *l, int *fd);
	void (*on_unlisten)(struct service *s, void *arg, uint32_t id);
	void (*on_peer)(struct service *s, void *arg, enum role role, unsigned index, int *fd);
	void (*on_shared)(struct service *s, void *arg, unsigned kind, int *fd);
	/* Take nothing new; call service_end() when nothing runs any more (at the latest
	 * within_ms later it ends by itself). Null: ends at once. */
	void (*on_drain)(struct service *s, void *arg, int64_t within_ms);
	/* What status shows of this process: members of a JSON object, appended. */
	void (*on_status)(struct service *s, void *arg, struct json *to);
	/* The loop has ended: release everything. Called exactly if on_open was reached, also
	 * when that failed. */
	void (*on_close)(struct service *s, void *arg);
};

/* The whole of a program's main(). Returns its exit status. */
int service_main(int argc, char **argv, const struct service_hooks *hooks, void *arg);

/* Ends the loop after this turn; the process ends with status 0. */
void service_end(struct service *s);
/* A peer that this process trusts sent nonsense, or something that cannot go on: logs, ends
 * with status 1. */
void service_fail(struct service *s, const char *what);

#endif
