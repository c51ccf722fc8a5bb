/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: one dialogue with one server, from its greeting on.
 *
 * Commands in flight are a queue of (phase, job, recipient); PIPELINING is that queue being
 * longer than one, and nothing else. While the content of one job is on its way, the
 * envelope of the next may follow behind its final dot (RFC 2920 section 3.1), so that in
 * steady state a message costs one write and one read.
 *
 * The session knows no socket: it asks its owner to write and to hand out jobs, and tells
 * what became of them. Every job that it took is given back exactly once, by job_done or
 * by job_back. After on_failed or on_closed it does nothing any more.
 */
#ifndef SMTP_OUT_SESSION_H
#define SMTP_OUT_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/io/stream.h"
#include "common/ipc/messages.h"
#include "smtp-out/job.h"
#include "smtp-out/outcome.h"
#include "smtp-out/settings.h"

struct session;

/* How a session that had been ready ended. */
enum session_end {
	SESSION_ORDERLY, /* QUIT has been written: finish the stream */
	SESSION_BROKEN,  /* lost, or of no use any more: close it */
	SESSION_REFUSED  /* the server said 421 to a message on a fresh connection */
};

/* How one ended before it was ready. */
enum session_failure {
	SESSION_USELESS,   /* close it */
	SESSION_DISMISSED, /* QUIT has been written: finish the stream */
	SESSION_NO_TLS     /* close it; without TLS this server may be used */
};

struct session_owner {
	/* The next job, or null; it belongs to the session until it comes back. behind: its
	 * envelope is to follow the content of another. */
	struct job *(*next_job)(void *arg, bool behind);
	/* The job has not begun: the owner restarts it. was_refused: this server would not have
	 * it now. False when no other is to be tried: the session keeps and settles it. */
	bool (*job_back)(void *arg, struct job *j, bool was_refused);
	/* Every recipient is settled. */
	void (*job_done)(void *arg, struct job *j);
	/* Greeted, EHLO done, TLS decided. */
	void (*on_ready)(void *arg);
	/* Nothing to do: session_work() when a job is there. */
	void (*on_idle)(void *arg);
	/* This server cannot be used. The text is borrowed. */
	void (*on_failed)(void *arg, const struct outcome *why, enum session_failure how);
	void (*on_closed)(void *arg, enum session_end how);

	void (*write)(void *arg, struct slice bytes);
	void (*write_file)(void *arg, int fd, uint64_t at, uint64_t n);
	/* How many of all bytes that were written have left. */
	uint64_t (*sent)(void *arg);
	/* session_tls_up() or session_ended() follows. */
	void (*start_tls)(void *arg);
	int64_t (*now_ms)(void *arg);
	/* session_late() is called then; 0: never. Replaces the one before. */
	void (*set_deadline)(void *arg, int64_t at_ms);
};

/* scratch is shared by all sessions of a process and empty between calls; max at least 512 KiB.
 */
struct session *session_new(const struct session_owner *owner, void *arg,
	const struct settings *settings, struct buf *scratch);
/* Its jobs must have come back, or nobody wants them any more. */
void session_free(struct session **s);

/* The connection is up; as new. in_clear: TLS has failed with this server before. */
void session_begin(struct session *s, enum tls_level level, bool in_clear);
void session_input(struct session *s, struct slice bytes);
/* All output has been handed to the kernel. */
void session_drained(struct session *s);
void session_tls_up(struct session *s, enum tls_trust trust, const char *why_untrusted);
/* The stream has ended; detail may say more (TLS). */
void session_ended(struct session *s, enum stream_end why, const char *detail);
/* The deadline has passed. */
void session_late(struct session *s);
/* There may be a job. */
void session_work(struct session *s);
/* QUIT as soon as nothing runs. */
void session_quit(struct session *s);

uint32_t session_jobs_done(const struct session *s);

#endif
