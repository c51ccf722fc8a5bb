/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_view: queued mail as people and scripts see it, read from the segments themselves, so
 * that it works while the relay is stopped.
 */
#ifndef CTL_QUEUE_VIEW_H
#define CTL_QUEUE_VIEW_H

#include "ctl/command.h"

int queue_view_list(struct command *c);
int queue_view_show(struct command *c);

#endif
