/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool: the directories of a relay, and the locks that make it the only one.
 *
 * Below queue_directory: queue/, corrupt/, journal/, run/ and the empty run/empty/; below
 * data_directory: suppress/. They are made when missing and checked when there: real
 * directories, of the right owner and mode.
 *
 * Two locks. run/master.pid belongs to the living master: a second start on the same queue
 * fails. run/children.lock is held, shared, by every child: when a master was killed, the next
 * one waits until the children of the first, which end by themselves, are gone. So there are
 * never two queue managers on one queue. data_directory/master.lock does for that directory
 * what master.pid does for the queue.
 */
#ifndef MASTER_SPOOL_H
#define MASTER_SPOOL_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/conf.h"
#include "master/users.h"

struct spool {
	int run;      /* run/, for sockets */
	int pid_file; /* locked */
	int data_lock;
	char jail[4000]; /* path of run/empty */
};

/*
 * Makes, checks, locks. Waits up to patience_ms for the children of an earlier master.
 * ERR_EXISTS: a relay runs here; ERR_TIMEOUT: the children do not end; ERR_CONFIG and others: a
 * directory is not fit. why tells people.
 */
MUST_CHECK enum err spool_open(struct spool *s, const struct conf *c, const struct users *u,
	int64_t patience_ms, struct buf *why);
/* Writes our pid into run/master.pid. After a fork that changed it, again. */
MUST_CHECK enum err spool_write_pid(const struct spool *s);
/* A descriptor of run/children.lock, locked, for one child to hold. */
MUST_CHECK enum err spool_child_lock(const struct spool *s, int *fd);
/* A listening UNIX socket run/NAME that only its owner may use. Replaces what an earlier relay
 * left. */
MUST_CHECK enum err spool_listen(const struct spool *s, const char *name, int *fd);
void spool_unlink(const struct spool *s, const char *name);
/* Unlocks, empties master.pid. Harmless when repeated. */
void spool_close(struct spool *s);

#endif
