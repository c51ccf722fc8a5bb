/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: a program's socket below run/, where the command asks.
 *
 * A client says hello and asks one thing at a time. The program answers with lines and one end,
 * at once or when the thing is done. A client that has gone away meanwhile is no trouble: what
 * it would have been told is dropped. Only root and the user that the program runs as may ask;
 * who does not ask, or does not go, within CONTROL_ASK_WITHIN_MS is let go.
 */
#ifndef COMMON_PROC_CONTROL_H
#define COMMON_PROC_CONTROL_H

#include "common/base/attr.h"
#include "common/base/slice.h"
#include "common/io/loop.h"
#include "common/ipc/messages.h"

/* More at once are turned away. */
#define CONTROL_CLIENTS_MAX 64u
#define CONTROL_ASK_WITHIN_MS 10000

struct control;
struct ask;

/* Must end in ask_done(), now or later. */
typedef void control_on_ask(void *arg, struct ask *a, const struct msg_ctl_ask *m);

/* Takes *fd, a listening socket. role and index are who answers. */
struct control *control_new(struct loop *loop, enum role role, unsigned index, int *fd,
	control_on_ask *on_ask, void *arg);
/* Ends all conversations; blocks until what has been answered is sent. No ask is valid any
 * more. */
void control_free(struct control **c);

/* One line of the answer: a JSON object. Dropped when a is null or the client has gone. */
void ask_line(struct ask *a, struct slice json);
/* Takes the ask: nulls *a. text is cut when it is too long. Does nothing when *a is null. */
void ask_done(struct ask **a, unsigned exit_code, uint64_t count, struct slice text);

#endif
