/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: can mail be taken?
 *
 * Watches the free space of the queue's file system and remembers failed writes. Full or sick,
 * it tries again every second and mends itself, whether or not anybody sends mail. The states
 * are STORE_OK, STORE_FULL and STORE_SICK of ipc/messages.h.
 */
#ifndef CLEANUP_STORE_H
#define CLEANUP_STORE_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/io/loop.h"

struct store;

/* dir (borrowed): the directory of the segments. on_change: the state is another one now. */
struct store *store_new(struct loop *loop, int dir, void (*on_change)(void *arg, uint8_t state),
	void *arg);
void store_free(struct store **s);

/* queue_minfree and message_size_limit as configured. Measures at once. */
void store_set_minimum(struct store *s, uint64_t minfree, uint64_t message_size_limit);
uint8_t store_state(const struct store *s);
/* Bytes that may still be written, as of the last look. */
uint64_t store_room(const struct store *s);
/* A write to the queue failed. ERR_FULL: for want of room. */
void store_note_failure(struct store *s, enum err e);
/* A look now, as the timer does it every second. */
void store_check(struct store *s);

#endif
