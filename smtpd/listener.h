/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: the listening sockets, and who comes in by them.
 *
 * A turn of the loop takes a few connections of each, so that processes that share a socket
 * share the clients too. When descriptors run out, all of them rest for a second. Nobody is let
 * in before listeners_open(), and nobody after listeners_clear().
 */
#ifndef SMTPD_LISTENER_H
#define SMTPD_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/list.h"
#include "common/conf/conf.h"
#include "common/io/loop.h"
#include "common/ipc/messages.h"
#include "smtpd/connection.h"

struct listeners {
	struct loop *loop;
	struct connections *connections;
	struct list all;
	struct loop_timer rest;
	bool is_open;
	bool is_resting;
	uint64_t accept_failures;
};

void listeners_init(struct listeners *l, struct loop *loop, struct connections *connections);
/* Closes all sockets. */
void listeners_clear(struct listeners *l);
/* Takes *fd. A socket whose options cannot be obeyed is closed, with a line in the log. */
void listeners_add(struct listeners *l, const struct conf *c, const struct msg_listen *m,
	int *fd);
void listeners_remove(struct listeners *l, uint32_t id);
/* Clients come in from now on. */
void listeners_open(struct listeners *l);

/* New settings for all: made beside those in force, then taken or dropped. */
MUST_CHECK enum err listeners_prepare(struct listeners *l, const struct conf *c,
	struct buf *why);
void listeners_apply(struct listeners *l);
void listeners_forget(struct listeners *l);

#endif
