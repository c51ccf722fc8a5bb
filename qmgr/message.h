/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message: the envelope of a record while some of its recipients are being worked on.
 *
 * One block of memory; counted by the parcels and notices that refer to it (they come and go
 * with jobs, routes and notices, and none outlives the others in any order, hence the count).
 * Keeps its segment pinned.
 */
#ifndef QMGR_MESSAGE_H
#define QMGR_MESSAGE_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/ipc/messages.h"
#include "common/mail/envelope.h"
#include "common/queue/segment.h"
#include "qmgr/store.h"

struct message {
	struct store_segment *segment;
	uint32_t refs;
	uint32_t first_slot;
	uint64_t head_at;
	uint64_t content_at;
	uint64_t content_bytes;
	uint32_t head_bytes;
	uint32_t flags;
	int64_t accepted_us;
	int64_t deadline_s;
	struct slice sender;
	struct slice envid;
	struct slice tenant;
	uint8_t ret;
	uint8_t stream_class;
	uint8_t priority;
	char queue_id[QUEUE_ID_BYTES + 1];
	uint32_t rcpt_count;
	struct envelope_rcpt rcpts[]; /* the texts follow behind them */
};

/* With one reference, for the caller. */
struct message *message_new(struct store_segment *seg, const struct segment_record *r,
	const struct envelope *e);
/* Reads it from the segment. ERR_CORRUPT: the record is damaged. */
MUST_CHECK enum err message_load(struct store *s, struct store_segment *seg,
	const struct record_ref *ref, struct message **out);
/* The same, unless *recent is it; what was loaded takes the place of *recent, which has a
 * reference of its own. A message of a million recipients comes in turns of some hundred. */
MUST_CHECK enum err message_recall(struct store *s, struct message **recent,
	struct store_segment *seg, const struct record_ref *ref, struct message **out);
void message_ref(struct message *m);
void message_unref(struct store *s, struct message **m);

static inline uint32_t message_slot(const struct message *m, uint32_t rcpt)
{
	return m->first_slot + rcpt;
}

#endif
