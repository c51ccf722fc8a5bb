/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_reader: merges the parts of all programs in order of time.
 *
 * Follows growing files and new ones; a half-written event at the end of a live file is waited
 * for, a damaged one is skipped to the next valid one and counted. Keeps one open file a
 * writer.
 */
#ifndef COMMON_JOURNAL_JOURNAL_READER_H
#define COMMON_JOURNAL_JOURNAL_READER_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct journal_reader;

/* from_us: skip what is older. dir is borrowed. */
MUST_CHECK enum err journal_reader_new(int dir, int64_t from_us, struct journal_reader **out);
void journal_reader_free(struct journal_reader **reader);

struct journal_record {
	int64_t time_us;
	uint16_t type;
	struct slice by;   /* "qmgr-0" */
	struct slice body; /* until the next call */
};
/* ERR_AGAIN: nothing more at the moment. */
MUST_CHECK enum err journal_reader_next(struct journal_reader *r, struct journal_record *out);
uint64_t journal_reader_damaged(const struct journal_reader *r);

#endif
