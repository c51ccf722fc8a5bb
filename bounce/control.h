/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: the command `ekiden suppress add` and `remove`, by a socket that only operators can
 * open.
 */
#ifndef BOUNCE_CONTROL_H
#define BOUNCE_CONTROL_H

#include "bounce/suppressor.h"
#include "common/journal/journal_writer.h"
#include "common/proc/service.h"

struct control;

/* Takes *fd, a listening socket. The others are borrowed and outlive it. */
struct control *control_new(struct service *service, struct suppressor *suppressor,
	struct journal_writer *journal, int *fd);
void control_free(struct control **c);

#endif
