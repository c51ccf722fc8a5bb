/* SPDX-License-Identifier: Apache-2.0 */
/* connection: a session on a socket; and all of them, with their number by client. */
#ifndef SMTPD_CONNECTION_H
#define SMTPD_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/io/endpoint.h"
#include "common/io/loop.h"
#include "smtpd/session.h"
#include "smtpd/settings.h"

struct connections {
	struct loop *loop;
	struct session_env *env;
	struct list all;
	size_t count;
	struct hash_table clients; /* those whose connections are counted */
	uint64_t total;            /* ever begun */
	uint64_t turned_away;      /* by a limit */
	void (*on_empty)(void *arg);
	void *arg;
};

/* on_empty is called whenever the last one is gone. */
void connections_init(struct connections *c, struct loop *loop, struct session_env *env,
	void (*on_empty)(void *arg), void *arg);
/* Closes all at once. */
void connections_clear(struct connections *c);
void connections_drain(struct connections *c);

/* Takes *fd and begins a session on it, or says 421 when there are too many. */
void connection_begin(struct connections *c, int *fd, struct endpoint client,
	struct settings *settings);

#endif
