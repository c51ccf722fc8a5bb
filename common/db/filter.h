/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter: a set of addresses in shared memory that answers "certainly not" or "perhaps".
 *
 * So that smtpd, which holds no database, asks cleanup about a recipient only when that one may
 * be suppressed. Made empty and not ready by master (a sealed memfd), written by bounce, read
 * by smtpd. Bits are only ever set, with atomic stores, so a reader needs no lock; a removed
 * address stays "perhaps" until the filter is made anew. Before bounce has filled it, every
 * answer is "perhaps".
 */
#ifndef COMMON_DB_FILTER_H
#define COMMON_DB_FILTER_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

#define FILTER_BYTES 0x400000u /* 4 MiB */

struct filter;

/* A memfd of the right size, sealed against growing and shrinking. */
MUST_CHECK enum err filter_create(int *fd);
/* Maps it; fd stays the caller's. ERR_CORRUPT: wrong size. */
MUST_CHECK enum err filter_map(int fd, bool writer, struct filter **out);
void filter_unmap(struct filter **f);
void filter_add(struct filter *f, struct slice address);
void filter_set_ready(struct filter *f);
/* ASCII case is folded. */
bool filter_may_have(const struct filter *f, struct slice address);

#endif
