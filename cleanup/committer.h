/* SPDX-License-Identifier: Apache-2.0 */
/*
 * committer: makes messages durable in groups, and tells qmgr.
 *
 * Whatever has been added when the turn of the loop ends is one group: one write, one sync.
 * Then every parcel of it is told its fate, and qmgr hears of those that are durable. Nothing
 * waits for company: on an idle relay a group is one message. Nothing is synced while nothing
 * is there.
 *
 * qmgr may be away; what it has not heard of it finds in the segments.
 */
#ifndef CLEANUP_COMMITTER_H
#define CLEANUP_COMMITTER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/io/loop.h"
#include "common/ipc/channel.h"
#include "common/mail/envelope.h"
#include "common/queue/segment_writer.h"

struct committer;

/* A message on its way to the disk; embedded in its owner, who keeps it until on_settled. */
struct parcel {
	struct list link; /* initialise with list_init() */
	const struct envelope *envelope;
	int64_t accepted_us;
	struct segment_big *big; /* content that is in a segment of its own */
	struct slice head;       /* of big; borrowed until on_settled */
	struct segment_record record;
	uint64_t segment;
	/* ERR_OK: durable, record says where. ERR_FULL, ERR_SYS ...: it is not, and never will
	 * be. */
	void (*on_settled)(void *arg, enum err e);
	void *arg;
};

/* dir is borrowed. on_failure: a commit or an addition failed (for store.h). */
MUST_CHECK enum err committer_new(struct loop *loop, int dir, unsigned writer,
	void (*on_failure)(void *arg, enum err e), void *arg, struct committer **out);
/* Commits what is there, seals. */
void committer_free(struct committer **c);

/* Draws the queue id of the next message that is added or begun. */
const char *committer_next_id(struct committer *c);
/* Puts a message into the group; head and content are copied. On failure the parcel is not
 * taken. May first commit a group that has become large, and so settle other parcels, never
 * this one. */
MUST_CHECK enum err committer_add(struct committer *c, struct parcel *p, struct slice head,
	struct slice content);
/* Begins a message that is too large for memory: p->big. Abort it with segment_big_abort(). */
MUST_CHECK enum err committer_begin_big(struct committer *c, struct parcel *p);
/* Its content is complete, p->head set: it becomes durable with the group. */
void committer_add_big(struct committer *c, struct parcel *p);
/* Commits now, in the middle of a turn. */
void committer_flush(struct committer *c);

/* The channel to qmgr, which has said hello; null: it is gone. Says at once which segment is in
 * use. */
void committer_set_qmgr(struct committer *c, struct channel *qmgr);
void committer_rotate(struct committer *c, uint64_t segment);

struct committer_counts {
	uint64_t messages;
	uint64_t groups;
	uint64_t failures;
};
struct committer_counts committer_count(const struct committer *c);

#endif
