/* SPDX-License-Identifier: Apache-2.0 */
/*
 * office: what the sites and connections of one process share, and how they report.
 */
#ifndef SMTP_OUT_OFFICE_H
#define SMTP_OUT_OFFICE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/io/loop.h"
#include "smtp-out/job.h"
#include "smtp-out/settings.h"
#include "smtp-out/tls.h"

struct connection;

struct office_reports {
	/* A connection is up. */
	void (*on_up)(void *arg, const struct connection *c);
	/* One that had been up is gone. */
	void (*on_gone)(void *arg, const struct connection *c);
	/* It came back from a connection when nothing new is to begin; the receiver's too. */
	void (*on_unbegun)(void *arg, struct job *j);
	/* Every recipient is settled; the job is the receiver's now. connection may be null;
	 * host and addr say where when there is none. */
	void (*on_job)(void *arg, struct job *j, const struct connection *c, const char *host,
		const char *addr);
};

struct office {
	struct loop *loop;
	const struct settings *settings;
	struct tls *tls;
	const struct office_reports *reports;
	void *arg;
	struct buf scratch;   /* of sessions */
	struct list idle;     /* connections without work, the longest idle first */
	struct list restless; /* sites that are to look for work at the end of the turn */
	struct list patient;  /* sites that let jobs wait a moment for a busy connection */
	struct loop_timer patience;
	struct list starved; /* sites that wait for another site's connection to go */
	struct loop_flush flush;
	uint64_t last_connection;
	uint64_t random; /* state of a generator that needs no secrecy */
	uint32_t open;   /* connections, those that are being made too */
	bool draining;
};

void office_init(struct office *o, struct loop *loop, const struct office_reports *reports,
	void *arg);
void office_clear(struct office *o);
/* Evenly below n, which is not 0. */
uint32_t office_random(struct office *o, uint32_t n);

#endif
