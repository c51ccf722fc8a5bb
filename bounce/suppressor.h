/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suppressor: the one who writes the suppression list.
 *
 * Changes of one turn share one durable commit. Each address is in the shared filter before it
 * is in the list, so that nobody is told "certainly not" about one that is.
 */
#ifndef BOUNCE_SUPPRESSOR_H
#define BOUNCE_SUPPRESSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/db/suppress.h"
#include "common/io/loop.h"
#include "common/journal/journal_writer.h"

struct suppressor;

/* What is to become of the list; all slices are copied. */
struct suppress_change {
	bool is_removal;
	struct suppress_entry entry; /* of a removal: the address; times and count are ours */
	struct slice operator_name;
};

/* ERR_NOTFOUND: a removal of what is not on the list. Anything else but ERR_OK: nothing of that
 * turn is on the disk. Never called from within suppressor_change(). */
typedef void suppressor_done(void *arg, enum err e);

/* Takes the list. journal is borrowed and outlives it. */
struct suppressor *suppressor_new(struct loop *loop, struct suppress **list,
	struct journal_writer *journal);
/* Changes that have not been committed are dropped without an answer. */
void suppressor_free(struct suppressor **s);

void suppressor_change(struct suppressor *s, const struct suppress_change *change,
	suppressor_done *done, void *arg);
/* Nobody waits for that answer any more: calls nothing for changes with this arg. */
void suppressor_forget(struct suppressor *s, const void *arg);

/* Fills the filter behind fd, a part in each turn, and says when it is complete. */
MUST_CHECK enum err suppressor_share(struct suppressor *s, int fd);

struct suppressor_counts {
	uint64_t listed;
	uint64_t added;
	uint64_t removed;
	uint64_t failed; /* commits */
	bool filter_is_ready;
};
struct suppressor_counts suppressor_counts(struct suppressor *s);

#endif
