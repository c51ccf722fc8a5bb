/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_scan: every message of a queue, one after the other.
 *
 * Reads while the relay writes: a segment that goes away in between is passed over, and so is a
 * record that is being written.
 */
#ifndef CTL_QUEUE_SCAN_H
#define CTL_QUEUE_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/mail/envelope.h"
#include "common/queue/segment.h"

/* All of it is the scan's, until on_message returns. */
struct queue_message {
	int fd;
	uint64_t segment;
	struct segment_record record;
	struct envelope envelope;
	const struct slot *slots; /* envelope.rcpt_count of them */
	uint32_t live;            /* slots that are not final */
};

struct queue_scan {
	/* Only the message of that id; empty: all. */
	struct slice queue_id;
	bool with_final; /* also messages that have no live recipient any more */
	/* False ends the scan. */
	bool (*on_message)(void *arg, const struct queue_message *m);
	void *arg;
	uint64_t damaged; /* out: stretches of bytes that were no records */
};
/* ERR_NOTFOUND, ERR_DENIED, ERR_SYS: the queue cannot be read. */
MUST_CHECK enum err queue_scan_run(const char *queue_directory, struct queue_scan *s);

#endif
