/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topology: which programs there are, and who may talk to whom. Nothing else decides that: a
 * socket pair exists for each pair named here and for no other.
 */
#ifndef MASTER_TOPOLOGY_H
#define MASTER_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf/conf.h"
#include "common/ipc/messages.h"

/* Processes of one program at most; more do not make an event-driven relay faster. */
#define TOPOLOGY_AUTO_MAX 8u

enum program_filter {
	FILTER_NONE,
	FILTER_READS,
	FILTER_WRITES
};

struct program {
	const char *name;   /* of the file below libexec, and in logs */
	const char *user;   /* who it is when the relay is started as root */
	const char *socket; /* its control socket below run/, or null */
	int64_t drain_ms;   /* for what runs; -1: smtpd_drain_time */
	int64_t silent_ms;  /* without an answer so long: killed */
	int64_t start_ms;   /* not ready after so long: killed */
	enum role role;
	unsigned sees;         /* its part of the configuration */
	enum conf_param count; /* parameter with the number of processes; CONF_COUNT: one */
	enum program_filter filter; /* what it may do with the filter of suppressed addresses */
	unsigned start_stage; /* started when all of the lower stages have checked the settings
			       */
	unsigned stop_stage;  /* drained when all of the lower stages are gone */
	bool queue_group;     /* its primary group is TOPOLOGY_QUEUE_GROUP */
	bool listens;         /* gets the listeners of master.cf */
};

#define TOPOLOGY_QUEUE_GROUP "ekiden-queue"
#define TOPOLOGY_START_STAGES 3u
#define TOPOLOGY_STOP_STAGES 4u

/* Null for roles that are no children of master. */
const struct program *topology_program(enum role role);
bool topology_may_talk(enum role a, enum role b);
/* How many processes of it; wish is the largest maxproc of all listeners, 0: none given. */
unsigned topology_count(const struct program *p, const struct conf *c, unsigned cpus,
	unsigned wish);

#endif
