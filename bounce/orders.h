/* SPDX-License-Identifier: Apache-2.0 */
/*
 * orders: what operators ask by `ekiden suppress add` and `remove`, over run/bounce.sock.
 */
#ifndef BOUNCE_ORDERS_H
#define BOUNCE_ORDERS_H

#include "bounce/suppressor.h"
#include "common/journal/journal_writer.h"
#include "common/proc/service.h"

struct orders;

/* Takes *fd, a listening socket. The others are borrowed and outlive it. */
struct orders *orders_new(struct service *service, struct suppressor *suppressor,
	struct journal_writer *journal, int *fd);
/* What is under way is done without an answer. */
void orders_free(struct orders **o);

#endif
