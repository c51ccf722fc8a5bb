/* SPDX-License-Identifier: Apache-2.0 */
/*
 * submitter: gives notices to cleanup, as smtpd gives it mail.
 */
#ifndef BOUNCE_SUBMITTER_H
#define BOUNCE_SUBMITTER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/io/loop.h"
#include "common/proc/service.h"

struct submitter;

struct submission {
	struct slice rcpt; /* the sender is the null reverse-path */
	uint32_t flags;    /* TX_ */
	struct slice tenant;
	struct slice content; /* wire form */
};

/* code 250: durable, text is the queue id; else a refusal, or 0: the cleanup that had it is
 * gone, nobody knows what became of it. */
typedef void submitter_done(void *arg, uint16_t code, struct slice text);

/* on_room: submitter_has_room() may have become true. */
struct submitter *submitter_new(struct service *service, void (*on_room)(void *arg), void *arg);
/* Nothing is told any more. */
void submitter_free(struct submitter **s);

/* A channel to that cleanup, in place of an earlier one. */
void submitter_peer(struct submitter *s, unsigned index, int *fd);
/* Some cleanup can take a notice now. */
bool submitter_has_room(const struct submitter *s);
/* Only while there is room. done is never called from within. Content is copied. */
void submitter_send(struct submitter *s, const struct submission *what, submitter_done *done,
	void *arg);
/* Nobody waits for that answer any more. */
void submitter_forget(struct submitter *s, const void *arg);

#endif
