/* SPDX-License-Identifier: Apache-2.0 */
/* site: the table of sites and how each takes success and failure. */
#ifndef QMGR_SITE_H
#define QMGR_SITE_H

#include "qmgr/qmgr.h"

void site_init_tables(struct qmgr *q);
void site_clear_tables(struct qmgr *q);

/* The site of these addresses (its key is their set of hosts and ports), made if there is none;
 * its addresses are replaced when they differ. */
struct site *site_of(struct qmgr *q, const struct site_addr *addrs, uint32_t count);
struct site *site_find_id(struct qmgr *q, uint64_t id);

/* Jobs that may be at smtp-out at once. */
uint32_t site_job_limit(const struct qmgr *q, const struct site *s);

/* Whether one more job may be under way to it, for all that goes to sites that are not proven.
 */
bool site_may_try(const struct qmgr *q, const struct site *s);
/* Whether memory may hold so many more recipients of it. */
bool site_may_hold(const struct qmgr *q, const struct site *s, uint32_t count);

/* A connection came up; a job ended with something said by a server. */
void site_on_connection(struct qmgr *q, struct site *s);
void site_on_success(struct qmgr *q, struct site *s);
/* A round failed: no server could be spoken to. */
void site_on_down(struct qmgr *q, struct site *s, struct slice why);
/* When a recipient may try again that was kept from a site that is down. */
int64_t site_probe_wall_s(const struct site *s);

/* Forgets sites that nothing has used for a while. */
void site_expire(struct qmgr *q);

#endif
