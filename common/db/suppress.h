/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suppress: the list of addresses that are not written to, in LMDB (data_directory/suppress).
 *
 * One process writes (bounce, or the command while the relay is stopped); others read. The key
 * is the address with ASCII letters folded. The map is reserved large and sparse once, never
 * resized. Opened before the jail; works inside it.
 */
#ifndef COMMON_DB_SUPPRESS_H
#define COMMON_DB_SUPPRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"

struct suppress;

enum suppress_reason {
	SUPPRESS_UNKNOWN_USER = 1,
	SUPPRESS_MANUAL = 2,
	SUPPRESS_COMPLAINT = 3,
	SUPPRESS_UNSUBSCRIBE = 4
};
const char *suppress_reason_name(enum suppress_reason r); /* "unknown-user" ... */

struct suppress_entry {
	struct slice address; /* as first seen */
	uint8_t reason;
	int64_t first_us;
	int64_t last_us;
	uint32_t count; /* how often it earned its place */
	uint8_t stage;
	uint16_t smtp_code;
	struct slice text; /* the evidence: the server's words, or the operator's */
	struct slice host;
	struct slice queue_id;
	struct slice tenant; /* "" : for all */
};

/* path is the directory, which exists. ERR_NOTFOUND: a reader found no list yet. */
MUST_CHECK enum err suppress_open(const char *path, bool writer, struct suppress **out);
void suppress_close(struct suppress **s);

/* Slices point into the map until suppress_read_end() or the next call. ERR_NOTFOUND: not on
 * the list. Anything else: it cannot be known (the caller must not treat it as "not on the
 * list"). */
MUST_CHECK enum err suppress_find(struct suppress *s, struct slice address,
	struct suppress_entry *out);
void suppress_read_end(struct suppress *s);

/* Writer. Many puts and removals, then one durable commit (fsync). An entry replaces that of
 * the same key. After an error other than ERR_NOTFOUND, ERR_SYNTAX (no address) and ERR_TOOBIG
 * all changes since the last commit are forgotten. */
MUST_CHECK enum err suppress_put(struct suppress *s, const struct suppress_entry *e);
/* ERR_NOTFOUND. */
MUST_CHECK enum err suppress_remove(struct suppress *s, struct slice address);
MUST_CHECK enum err suppress_commit(struct suppress *s);

/* In key order from after on ("" : from the start). ERR_NOTFOUND at the end. */
MUST_CHECK enum err suppress_next(struct suppress *s, struct slice after, struct arena *a,
	struct suppress_entry *out);
uint64_t suppress_count(struct suppress *s);

#endif
