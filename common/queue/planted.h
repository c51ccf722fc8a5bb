/* SPDX-License-Identifier: Apache-2.0 */
/*
 * planted: faults of the commit protocol that a build may be given on purpose.
 *
 * A harness that claims to find lost mail has to show that it finds these. Compile with, say,
 * -DBUG_NO_FSYNC. In every other build all of them are false and the compiler drops their code.
 */
#ifndef COMMON_QUEUE_PLANTED_H
#define COMMON_QUEUE_PLANTED_H

#include <stdbool.h>

/* File contents are never synced. */
#ifdef BUG_NO_FSYNC
#define PLANTED_NO_FSYNC true
#else
#define PLANTED_NO_FSYNC false
#endif

/* A commit answers before the sync, which is done by the next one. */
#ifdef BUG_ACK_EARLY
#define PLANTED_ACK_EARLY true
#else
#define PLANTED_ACK_EARLY false
#endif

/* The directory is never synced. */
#ifdef BUG_NO_DIRSYNC
#define PLANTED_NO_DIRSYNC true
#else
#define PLANTED_NO_DIRSYNC false
#endif

/* The reader believes a record whose payload it has not compared with its checksum. */
#ifdef BUG_NO_TORN_CHECK
#define PLANTED_NO_TORN_CHECK true
#else
#define PLANTED_NO_TORN_CHECK false
#endif

/* A failed sync is tried again on the same descriptor, and believed. */
#ifdef BUG_RETRY_FSYNC
#define PLANTED_RETRY_FSYNC true
#else
#define PLANTED_RETRY_FSYNC false
#endif

/* Every other commit answers and leaves its group in memory. */
#ifdef BUG_COMMIT_LATE
#define PLANTED_COMMIT_LATE true
#else
#define PLANTED_COMMIT_LATE false
#endif

/* qmgr takes a recipient for delivered when it hands it to smtp-out. */
#ifdef BUG_SETTLE_EARLY
#define PLANTED_SETTLE_EARLY true
#else
#define PLANTED_SETTLE_EARLY false
#endif

#endif
