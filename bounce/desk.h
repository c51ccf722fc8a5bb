/* SPDX-License-Identifier: Apache-2.0 */
/*
 * desk: what qmgr hands over, and what follows from it.
 *
 * First the suppression list, then the notice to the sender, then the answer to qmgr: it says
 * that all of it is on the disk. Whoever dies on the way, qmgr asks again.
 */
#ifndef BOUNCE_DESK_H
#define BOUNCE_DESK_H

#include <stdbool.h>
#include <stdint.h>

#include "bounce/submitter.h"
#include "bounce/suppressor.h"
#include "common/journal/journal_writer.h"
#include "common/proc/service.h"

struct desk;

/* Both are borrowed and outlive it. */
struct desk *desk_new(struct service *service, struct suppressor *suppressor,
	struct journal_writer *journal);
void desk_free(struct desk **d);

void desk_peer_qmgr(struct desk *d, int *fd);
void desk_peer_cleanup(struct desk *d, unsigned index, int *fd);
/* Ends the service when nothing is at hand any more. */
void desk_drain(struct desk *d);

struct desk_counts {
	uint64_t asked;
	uint64_t sent;
	uint64_t not_due;
	uint64_t failed;
	size_t at_hand;
	size_t waiting; /* for a cleanup that takes them */
};
struct desk_counts desk_counts(const struct desk *d);

#endif
