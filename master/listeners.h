/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listeners: the listening sockets of master.cf.
 *
 * A set is made from the settings and bound with the help of the set in force: a socket that
 * stays is shared by both. What cannot be bound while an old socket covers the same port is
 * bound when that one is gone (listeners_bind_rest).
 */
#ifndef MASTER_LISTENERS_H
#define MASTER_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/parser.h"
#include "common/io/endpoint.h"

struct listener {
	uint32_t id; /* never used twice */
	char *name;
	char *options;
	struct endpoint at;
	struct endpoint bound; /* with the port that the kernel chose, when at has none */
	bool may_miss;         /* of a list such as "all": this machine need not have it */
	int fd;                /* -1: not bound (yet) */
	bool is_kept;          /* the socket and its options are those of the set before */
};

struct listeners {
	struct listener *items;
	size_t count;
	uint32_t next_id;
};

/*
 * old may be null. ERR_CONFIG: why says which address cannot be listened on, and out is empty.
 * waits is whether sockets remain for listeners_bind_rest().
 */
MUST_CHECK enum err listeners_prepare(const struct conf_source *source, const struct conf *c,
	const struct listeners *old, struct listeners *out, bool *waits, struct buf *why);
/* Tries those again that wait. True when none is left. *why: what the last one failed with. */
bool listeners_bind_rest(struct listeners *l, struct buf *why);
/* Whether the set has that socket, with the same options. */
bool listeners_have(const struct listeners *l, const struct listener *which);
/* Ends listening on that socket, for all processes that hold it. */
void listener_shut(struct listener *l);
/* "ADDRESS:PORT\n" lines of all that is listened on, wildcards resolved to this machine's
 * addresses: the relay's own doors, where it must not deliver. */
void listeners_describe(const struct listeners *l, struct buf *out);
/* The largest wish of master.cf's maxproc column; 0 when a listener has none. */
unsigned listeners_wish(const struct conf_source *source);
/* Closes our descriptors; the programs have theirs. */
void listeners_clear(struct listeners *l);

#endif
