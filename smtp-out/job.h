/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: one message for recipients of one site, on its way.
 *
 * A job and all that it names live in its arena and end together. Jobs come from a pool that
 * keeps the memory of some that have ended. Each recipient is settled exactly once.
 */
#ifndef SMTP_OUT_JOB_H
#define SMTP_OUT_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/base/slice.h"
#include "smtp-out/outcome.h"

#define JOB_RCPTS_MAX 1000u

struct segment;
struct site;

enum job_rcpt_state {
	RCPT_PENDING,
	RCPT_ACCEPTED, /* the server said 2yz to RCPT */
	RCPT_SETTLED
};

struct job_rcpt {
	struct slice address;
	struct slice orcpt; /* "rfc822;user@x", decoded; or empty */
	uint8_t notify;
	enum job_rcpt_state state;
	struct outcome outcome;
};

struct job {
	struct list slot; /* in its site's queue, or unlinked */
	struct hash_id_link by_id;
	struct arena arena;
	uint64_t id;
	struct site *site;       /* outlives the job */
	struct segment *segment; /* the same */
	int fd;                  /* of the segment */
	uint64_t head_at;
	uint64_t content_at;
	uint64_t content_bytes;
	uint32_t head_bytes;
	uint32_t flags; /* TX_ bits */
	struct slice queue_id;
	struct slice sender;
	struct slice envid;
	uint8_t ret;
	uint8_t tries; /* servers that refused before the message was theirs */
	uint8_t backs; /* how often it was put back because of others */
	uint32_t rcpt_count;
	uint32_t rcpts_got; /* while it is being put together */
	struct job_rcpt *rcpts;
	int64_t arrived_ms;
	int64_t began_ms; /* 0: not */
};

struct job_pool {
	struct list free;
	size_t count;
};

void job_pool_init(struct job_pool *p);
void job_pool_clear(struct job_pool *p);
/* Cleared, with room for rcpt_count recipients (1 to JOB_RCPTS_MAX). */
struct job *job_new(struct job_pool *p, uint32_t rcpt_count);
void job_free(struct job_pool *p, struct job **j);
/* A copy that lives as long as the job. The arena holds every job that messages.h allows. */
struct slice job_copy(struct job *j, struct slice s);

static inline uint64_t job_bytes(const struct job *j)
{
	return j->head_bytes + j->content_bytes;
}

/* Nothing happens to a recipient that is settled already. The text is copied. */
void job_settle(struct job *j, uint32_t rcpt, const struct outcome *o);
/* All that are not settled. */
void job_settle_rest(struct job *j, const struct outcome *o);
/* No recipient is settled any more: what was said of them cannot be trusted. */
void job_unsettle(struct job *j);
/* All as when it came, for another connection. */
void job_restart(struct job *j);

/* What can be known of a message only by reading it. */
struct job_content {
	bool header_8bit;
	bool any_8bit;
	uint64_t stuffed; /* dots that stand there for the wire only */
};
MUST_CHECK enum err job_look(const struct job *j, struct job_content *out);

#endif
