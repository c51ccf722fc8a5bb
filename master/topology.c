/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "master/topology.h"

#define SECOND_MS INT64_C(1000)

/*
 * qmgr and bounce come before cleanup, whose reader needs bounce's list, and both before
 * smtpd, so that nobody is greeted whose mail cannot be taken. At the end the producers go
 * first. qmgr ends together with smtp-out: it takes the last outcomes, and bounce and
 * cleanup are still there for the notices that follow from them.
 *
 * Who writes to the disk may be silent for longer: killing does not mend a disk that hangs.
 */
static const struct program programs[ROLE_COUNT] = {
	[ROLE_SMTPD] = {.role = ROLE_SMTPD,
		.name = "smtpd",
		.user = "ekiden-smtpd",
		.sees = SEES_SMTPD,
		.count = CONF_smtpd_processes,
		.listens = true,
		.filter = FILTER_READS,
		.start_stage = 2,
		.stop_stage = 0,
		.drain_ms = -1,
		.silent_ms = 60 * SECOND_MS,
		.start_ms = 60 * SECOND_MS},
	[ROLE_CLEANUP] = {.role = ROLE_CLEANUP,
		.name = "cleanup",
		.user = "ekiden-cleanup",
		.queue_group = true,
		.sees = SEES_CLEANUP,
		.count = CONF_cleanup_processes,
		.start_stage = 1,
		.stop_stage = 3,
		.drain_ms = 5 * SECOND_MS,
		.silent_ms = 120 * SECOND_MS,
		.start_ms = 600 * SECOND_MS},
	[ROLE_QMGR] = {.role = ROLE_QMGR,
		.name = "qmgr",
		.user = "ekiden-qmgr",
		.queue_group = true,
		.sees = SEES_QMGR,
		.count = CONF_COUNT,
		.socket = "qmgr.sock",
		.start_stage = 0,
		.stop_stage = 1,
		.drain_ms = 8 * SECOND_MS,
		.silent_ms = 120 * SECOND_MS,
		.start_ms = 600 * SECOND_MS},
	[ROLE_RESOLVE] = {.role = ROLE_RESOLVE,
		.name = "resolve",
		.user = "ekiden-resolve",
		.sees = SEES_RESOLVE,
		.count = CONF_COUNT,
		.start_stage = 0,
		.stop_stage = 2,
		.drain_ms = 1 * SECOND_MS,
		.silent_ms = 60 * SECOND_MS,
		.start_ms = 60 * SECOND_MS},
	[ROLE_SMTP_OUT] = {.role = ROLE_SMTP_OUT,
		.name = "smtp-out",
		.user = "ekiden-smtp",
		.sees = SEES_OUT,
		.count = CONF_smtp_processes,
		.start_stage = 0,
		.stop_stage = 1,
		.drain_ms = 8 * SECOND_MS,
		.silent_ms = 60 * SECOND_MS,
		.start_ms = 60 * SECOND_MS},
	[ROLE_BOUNCE] = {.role = ROLE_BOUNCE,
		.name = "bounce",
		.user = "ekiden-bounce",
		.queue_group = true,
		.sees = SEES_BOUNCE,
		.count = CONF_COUNT,
		.filter = FILTER_WRITES,
		.socket = "bounce.sock",
		.start_stage = 0,
		.stop_stage = 2,
		.drain_ms = 3 * SECOND_MS,
		.silent_ms = 120 * SECOND_MS,
		.start_ms = 600 * SECOND_MS},
};

/* Every socket between two children. */
static const enum role pairs[][2] = {
	{ROLE_SMTPD, ROLE_CLEANUP},  /* transactions, look-ups; fates */
	{ROLE_BOUNCE, ROLE_CLEANUP}, /* notices; fates */
	{ROLE_CLEANUP, ROLE_QMGR},   /* what is on disk; please seal */
	{ROLE_QMGR, ROLE_RESOLVE},   /* which way; routes */
	{ROLE_QMGR, ROLE_SMTP_OUT},  /* jobs; outcomes */
	{ROLE_QMGR, ROLE_BOUNCE},    /* what became of mail; consequences are durable */
};

const struct program *topology_program(enum role role)
{
	assert(role < ROLE_COUNT);
	return programs[role].name == NULL ? NULL : &programs[role];
}

bool topology_may_talk(enum role a, enum role b)
{
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		if ((pairs[i][0] == a && pairs[i][1] == b) ||
			(pairs[i][0] == b && pairs[i][1] == a)) {
			return true;
		}
	}
	return false;
}

unsigned topology_count(const struct program *p, const struct conf *c, unsigned cpus,
	unsigned wish)
{
	if (p->count == CONF_COUNT) {
		return 1;
	}
	unsigned n = (unsigned)conf_count(c, p->count);
	if (n == 0) {
		/*
		 * Event loops gather more in a turn the fewer they are: half as many as
		 * processors move more mail than one for each. Signing is what keeps a
		 * processor busy.
		 */
		bool signs = p->role == ROLE_CLEANUP && conf_text(c, CONF_dkim_keys).n > 0;
		n = signs || cpus < 2 ? cpus : cpus / 2;
		n = n < 1 ? 1 : n;
		n = n > TOPOLOGY_AUTO_MAX ? TOPOLOGY_AUTO_MAX : n;
	}
	return p->listens && wish != 0 && wish < n ? wish : n;
}
