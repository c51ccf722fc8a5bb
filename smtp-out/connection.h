/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: a place in a site's share: tries the site's servers one after another until one
 * can be used, then carries jobs to it until it ends.
 */
#ifndef SMTP_OUT_CONNECTION_H
#define SMTP_OUT_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/io/endpoint.h"
#include "common/io/loop.h"
#include "common/io/stream.h"
#include "smtp-out/office.h"
#include "smtp-out/outcome.h"
#include "smtp-out/session.h"

struct site;

/* A server, as a connection keeps it: the site's list may change meanwhile. */
struct target {
	struct endpoint to;
	char host[LIMIT_HOSTNAME + 1];
	enum tls_level level;
	bool in_clear; /* TLS failed there lately */
};

/* What came of a round of trying servers, for the jobs that waited for it. */
struct grievance {
	struct outcome outcome; /* its text is below */
	char text[LIMIT_REPLY_TEXT];
	char host[LIMIT_HOSTNAME + 1];
	char addr[ENDPOINT_TEXT_MAX];
};

struct connection {
	struct list slot;      /* in its site's list */
	struct list idle_slot; /* in the office's, when it has no work */
	struct list idle_here; /* in its site's, the same */
	struct office *office;
	struct site *site;
	struct stream *stream;
	struct session *session;
	struct loop_deadline deadline;
	uint64_t id; /* told to qmgr when it is up; 0 before */
	struct target target;
	char addr[ENDPOINT_TEXT_MAX];
	uint64_t tried;   /* bits of the site's servers */
	uint32_t changes; /* of the site's list when tried was begun */
	unsigned tries;
	bool is_up;
	bool is_connecting; /* TCP is not up yet */
	bool is_idle;
	struct grievance *grievance; /* what this round earned so far, or null */
	int64_t began_ms;            /* of the attempt at this server */
	int64_t connected_ms;        /* TCP is up */
	int64_t ready_ms;
	enum tls_trust trust;
	char tls_text[TLS_TEXT_MAX];
};

/* Begins to look for a server at once. */
void connection_new(struct office *o, struct site *site);
/* Closes it without ceremony; its jobs are the caller's business. */
void connection_drop(struct connection *c);
/* There may be a job for it. */
void connection_work(struct connection *c);
/* Ends as soon as nothing runs. */
void connection_quit(struct connection *c);

#endif
