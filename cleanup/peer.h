/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer: the channel to one smtpd, to bounce or to qmgr, and what goes on over it.
 *
 * smtpd and bounce submit; both are trusted less than this process: whoever breaks the order of
 * messages or their form loses its channel and all transactions that are not on their way to
 * the disk. qmgr is trusted more: nonsense from it ends this process.
 */
#ifndef CLEANUP_PEER_H
#define CLEANUP_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "cleanup/tx.h"
#include "common/base/list.h"
#include "common/db/suppress.h"
#include "common/io/loop.h"
#include "common/ipc/messages.h"

/* What all peers share; one for the process. */
struct peer_hub {
	struct loop *loop;
	struct tx_works *works;
	/* The suppression list, opened now if it was not there before; null: it cannot be read.
	 */
	struct suppress *(*find_list)(void *arg);
	unsigned index; /* of this process */
	struct list peers;
	bool draining; /* nothing new is taken */
	bool is_held;  /* qmgr has too much to read: submitters are not read */
	/* qmgr sent nonsense. */
	void (*on_broken)(void *arg, const char *what);
	void *arg;
};

/* Takes *fd; ends an earlier peer of the same role and index. */
void peer_new(struct peer_hub *hub, enum role role, unsigned index, int *fd);
/* Those whose transactions need the committer; then, when that is gone, all. */
void peer_close_submitters(struct peer_hub *hub);
void peer_close_all(struct peer_hub *hub);
/* To every smtpd: can mail be taken? */
void peer_tell_store_state(struct peer_hub *hub, uint8_t state);

#endif
