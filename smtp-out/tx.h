/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx: a message that is being sent: how far its envelope has got, and what replies to it mean
 * for its recipients. Nothing here writes to a server.
 */
#ifndef SMTP_OUT_TX_H
#define SMTP_OUT_TX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mail/reply.h"
#include "smtp-out/command.h"
#include "smtp-out/ehlo.h"
#include "smtp-out/job.h"

struct tx {
	struct job *job; /* null: free */
	struct command_needs needs;
	uint32_t rcpts_sent;
	uint32_t rcpts_answered;
	uint32_t accepted;
	uint16_t flying; /* its commands in flight */
	bool mail_sent;
	bool mail_failed;
	bool rcpts_over; /* no more RCPT is going to be sent */
	bool data_sent;
	bool dot_sent;
	bool void_dot; /* a lone dot: there is nobody to deliver to */
	bool behind;   /* its envelope followed the content of another */
};

/* Whether the server can take the job at all, and what MAIL must say. Else every recipient is
 * settled. May read the queue file. */
bool tx_admit(struct tx *tx, const struct ehlo *e);
/* RCPT commands that it may send in all. */
uint32_t tx_rcpt_limit(const struct tx *tx, const struct ehlo *e);
/* Recipients that were never told to the server, because it takes no more in one message. */
void tx_settle_untold(struct tx *tx);
/* The recipients from..to-1 cannot be said in SMTP: nothing of them has been sent. */
void tx_settle_unspeakable(struct tx *tx, uint32_t from, uint32_t to);
/* Somebody has been accepted, or may yet be. */
bool tx_may_deliver(const struct tx *tx);

/* The replies have 2yz, 4yz or 5yz. */
void tx_on_mail(struct tx *tx, const struct reply *r);
void tx_on_rcpt(struct tx *tx, uint32_t rcpt, const struct reply *r);
/* DATA was refused. */
void tx_on_refused(struct tx *tx, const struct reply *r);
void tx_on_dot(struct tx *tx, const struct reply *r, bool peer_has_dsn);

#endif
