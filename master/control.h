/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: run/master.sock, where the command asks.
 *
 * A client says hello and asks one thing. The relay answers with lines and one end, at once or
 * when the thing is done. A client that has gone away meanwhile is no trouble: what it would
 * have been told is dropped.
 */
#ifndef MASTER_CONTROL_H
#define MASTER_CONTROL_H

#include "common/base/attr.h"
#include "common/base/slice.h"
#include "common/io/loop.h"
#include "common/ipc/messages.h"

struct control;
struct ask;

/* Must end in ask_done(), now or later. */
typedef void control_on_ask(void *arg, struct ask *a, const struct msg_ctl_ask *m);

/* Takes *fd, a listening socket. */
struct control *control_new(struct loop *loop, int *fd, control_on_ask *on_ask, void *arg);
/* Ends all conversations; blocks until what has been answered is sent. */
void control_free(struct control **c);

void ask_line(struct ask *a, struct slice json);
/* Takes the ask: nulls *a. text is cut when it is too long. Does nothing when *a is null. */
void ask_done(struct ask **a, unsigned exit_code, uint64_t count, struct slice text);

#endif
