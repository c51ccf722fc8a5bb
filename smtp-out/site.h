/* SPDX-License-Identifier: Apache-2.0 */
/*
 * site: the servers of one destination, the jobs that wait for it, the connections to it.
 *
 * Jobs wait in one queue; a connection that is free takes the first. New connections are made
 * while jobs wait, up to the share that qmgr grants; only one at a time while nothing tells
 * that the site lives. When a round of trying its servers fails and no connection is up, all
 * jobs that wait fail with it.
 */
#ifndef SMTP_OUT_SITE_H
#define SMTP_OUT_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "smtp-out/connection.h"
#include "smtp-out/office.h"

struct site_server {
	struct endpoint to;
	char host[LIMIT_HOSTNAME + 1];
	uint16_t preference;
	enum tls_level level;
	int64_t bad_until_ms;      /* others are tried first until then */
	int64_t in_clear_until_ms; /* TLS failed there, and need not be used */
};

struct site {
	struct hash_id_link by_id;
	struct list restless;
	struct list
		patient; /* in the office's list while its jobs wait for a busy connection */
	struct list starved;
	struct office *office;
	uint64_t id;
	uint32_t max_connections;
	uint32_t changes; /* of the list of servers */
	uint32_t server_count;
	struct site_server *servers;
	struct list jobs;
	uint32_t waiting;
	struct list connections;
	struct list idle; /* the latest idle first */
	uint32_t open;
	uint32_t up;
	uint32_t running;       /* jobs with connections */
	int64_t pace_ms;        /* what a job takes lately, about */
	int64_t alive_until_ms; /* a connection came up not long ago */
	int64_t hold_until_ms;  /* no new connections: the server has said no to more */
};

struct site *site_new(struct office *o, uint64_t id);
/* Drops its connections; its jobs are the caller's business. */
void site_free(struct site **s);
/* Takes servers (an allocated array). What is known of those that stay is kept. */
void site_update(struct site *s, uint32_t max_connections, struct site_server **servers,
	uint32_t count);

void site_add_job(struct site *s, struct job *j);
/* It waits no longer. */
void site_remove_job(struct site *s, struct job *j);
/* Ends what is idle. */
void site_quiet(struct site *s);
void site_look_for_work(struct site *s);
struct site *site_of_restless(struct list *entry);
/* Its patience has ended; entry is of the office's list of patient ones. */
void site_wake(struct list *patient);

/* ---- for its connections ---- */

struct job *site_next_job(struct site *s, bool behind);
bool site_job_back(struct site *s, struct job *j, bool was_refused);
void site_job_done(struct site *s, struct job *j, const struct connection *c);
/* The next server for c, which has not tried it, as c->target. */
enum site_pick {
	SITE_PICKED,
	SITE_EXHAUSTED,
	SITE_FORBIDDEN /* there are servers, and none may be connected to */
};
enum site_pick site_pick(struct site *s, struct connection *c);
void site_server_failed(struct site *s, const struct target *t, bool in_clear);
void site_connection_up(struct site *s);
void site_connection_idle(struct site *s, struct connection *c);
void site_connection_busy(struct connection *c);
/* c has tried what it may; c->grievance says what came of it. */
void site_round_failed(struct site *s, struct connection *c);
void site_connection_gone(struct site *s, struct connection *c);

#endif
