/* SPDX-License-Identifier: Apache-2.0 */
/*
 * book: what qmgr has told this process: sites, segments (queue files) and jobs, by their
 * numbers.
 *
 * qmgr is trusted more than this program: a message that makes no sense is ERR_PROTO, and the
 * caller ends the process.
 */
#ifndef SMTP_OUT_BOOK_H
#define SMTP_OUT_BOOK_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/slice.h"
#include "smtp-out/job.h"
#include "smtp-out/office.h"
#include "smtp-out/site.h"

/* A site message whose servers are still coming. */
struct site_draft {
	struct site *site; /* null: none */
	struct site_server *servers;
	uint32_t max_connections;
	uint32_t count;
	uint32_t got;
};

struct book {
	struct office *office;
	struct hash_id_table segments;
	struct hash_id_table sites;
	struct hash_id_table jobs; /* complete and not done */
	struct job_pool pool;
	struct job *incoming; /* its recipients are still coming */
	struct site_draft draft;
};

/* The office must be there before the first message comes. */
void book_init(struct book *b, struct office *office);
/* book_forget() must come first. */
void book_clear(struct book *b);

/* A message from qmgr, its hello excepted. *fd is -1 when it was taken. */
MUST_CHECK enum err book_take(struct book *b, uint16_t type, struct slice body, int *fd);
/* A job is over: it and what was kept only for it. */
void book_end_job(struct book *b, struct job **j);
/* Reports every job that waits as cancelled (office_reports.on_unbegun), and ends what is
 * idle. */
void book_drain(struct book *b);
/* Everything as before the first message. Connections are dropped, nothing is reported. */
void book_forget(struct book *b);

#endif
