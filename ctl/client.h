/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client: asks a running relay, and waits for the answer.
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/ipc/messages.h"
#include "ctl/command.h"

struct client;

/* Connects to QUEUE_DIRECTORY/run/NAME. ERR_NOTFOUND, ERR_CLOSED: no relay runs; ERR_DENIED. */
MUST_CHECK enum err client_open(const char *queue_directory, const char *name,
	struct client **out);
void client_close(struct client **c);

struct client_answer {
	unsigned exit_code;
	uint64_t count;
	char text[LIMIT_TEXT + 1];
};
/* on_line may be null. ERR_TIMEOUT: nothing was heard for so long; ERR_CLOSED: the relay went
 * away. */
MUST_CHECK enum err client_ask(struct client *c, const struct msg_ctl_ask *ask,
	void (*on_line)(void *arg, struct slice json), void *arg, int64_t patience_ms,
	struct client_answer *out);
/* Until the other side has closed: for stop. */
MUST_CHECK enum err client_wait_closed(struct client *c, int64_t patience_ms);

/* All of it, with what goes wrong told on standard error: the exit status. *count may be null.
 * operand and text may be empty. */
int client_order(const struct command *c, const char *socket, enum ctl_verb verb,
	const char *operand, const char *text, void (*on_line)(void *arg, struct slice json),
	void *arg, uint64_t *count);
/* Tells that no relay runs; EX_UNAVAILABLE. */
int client_absent(const char *queue_directory, enum err e);

#endif
