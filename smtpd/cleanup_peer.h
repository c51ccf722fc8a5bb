/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_peer: the channels to the cleanup programs, as the store that sessions use.
 *
 * Each smtpd keeps to the cleanup of its own number, so that their queue segments fill in
 * groups; when that one is gone, or cannot store, any other that can takes the mail. A cleanup
 * that ends or sends nonsense loses the transactions that it had; their sessions are told.
 */
#ifndef SMTPD_CLEANUP_PEER_H
#define SMTPD_CLEANUP_PEER_H

#include <stdbool.h>

#include "common/io/loop.h"
#include "smtpd/store.h"

struct cleanup_peers;

/* on_known is called once, when the first cleanup has said whether it can store; on_broken
 * when one sent nonsense, or cut us off: then most likely the fault is ours. */
struct cleanup_peers *cleanup_peers_new(struct loop *loop, unsigned own_index,
	void (*on_known)(void *arg), void (*on_broken)(void *arg), void *arg);
/* Sessions must have given up their tickets. */
void cleanup_peers_free(struct cleanup_peers **p);

/* Takes *fd: the channel to the cleanup of that number, in place of an earlier one. */
void cleanup_peers_set(struct cleanup_peers *all, unsigned index, int *fd);
struct store cleanup_peers_store(struct cleanup_peers *p);
size_t cleanup_peers_count(const struct cleanup_peers *p);

#endif
