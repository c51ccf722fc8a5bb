/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: a whole queue manager in a test, between neighbours that the test plays.
 *
 * One process, one loop: struct qmgr stands on a scratch queue; cleanup, resolve, two smtp-out
 * and bounce are the other ends of its channels. The clocks stand still and move when the test
 * says so. bench_check() counts, for every recipient that is not final, the places that it is
 * in: it must be exactly one; and compares every counter with what it counts.
 *
 * A test that uses it wraps service_end() and service_fail() (see its "link:" line): their
 * calls come here and are counted.
 */
#ifndef TESTS_UNIT_QMGR_BENCH_H
#define TESTS_UNIT_QMGR_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "common/queue/segment_writer.h"
#include "qmgr/qmgr.h"
#include "tests/support/lib/scratch.h"

#define BENCH_AGENTS 2u
#define BENCH_LEDGER 262144u

/* A job that an smtp-out has. */
struct bench_job {
	struct list link; /* oldest first */
	uint64_t id;
	uint64_t site;
	uint64_t segment;
	bool cancelled; /* job_cancel came */
	uint32_t rcpt_count;
	uint32_t got;
	char queue_id[QUEUE_ID_BYTES + 1];
	uint32_t *numbers; /* of the recipients: those of "r17@..." */
};

struct bench_agent {
	struct bench *b;
	unsigned index;
	struct channel *channel; /* null: not there */
	struct list jobs;
	struct bench_job *incoming;
	uint32_t job_count;
	uint32_t sites_told;
	uint32_t sites_dropped;
	uint32_t segments;         /* it has a descriptor of */
	uint32_t last_connections; /* of the last site that it was told of */
	uint8_t last_tls_level;
	uint64_t next_connection;
};

struct bench_notice {
	struct list link;
	uint64_t id;
	uint8_t kind;
	uint32_t rcpt_count;
	uint32_t got;
	uint16_t smtp_code; /* of the last recipient */
	uint32_t *numbers;
};

struct bench {
	struct scratch dir;
	struct service service;
	struct conf *conf;
	struct loop *loop;
	struct qmgr q;
	bool runs;
	unsigned ended;  /* service_end() */
	unsigned failed; /* service_fail() */
	uint64_t frames; /* that the neighbours have got */

	struct channel *cleanup;
	struct segment_writer *writer;
	uint32_t next_number; /* of a recipient */
	char last_id[QUEUE_ID_BYTES + 1];
	struct segment_record last_record;
	uint64_t last_segment;
	bool tells_nobody; /* what becomes durable is not told of */
	bool tells_half;   /* the last recipient of a record is not told of */
	uint32_t rotates;  /* that were asked for */
	size_t filling;    /* bytes that messages are longer */
	uint32_t spread;   /* recipients of one domain, then comes the next; 0: all of one */

	struct channel *resolve;
	bool resolve_holds; /* questions are kept, not answered */
	bool moved;         /* all MX have other names now */
	uint32_t ttl_s;
	uint32_t asked;
	uint32_t asked_and_held;
	struct msg_route_ask held_asks[64];
	char held_names[64][LIMIT_HOSTNAME + 1];

	struct bench_agent agents[BENCH_AGENTS];

	struct channel *bounce;
	struct list notices;
	uint32_t notice_count;
	uint32_t notices_seen;

	uint8_t delivered[BENCH_LEDGER]; /* how often, by number */
	uint8_t told[BENCH_LEDGER];      /* as final to a sender */
};

/* Starts qmgr with these settings ("name=value\n" ...) and all neighbours. The clocks stand at
 * 2001-09-09 01:46:40 UTC, one million seconds after boot. */
void bench_open(struct bench *b, const char *settings);
/* Everything is forgotten; what must not be left open is asserted. */
void bench_close(struct bench *b);
/* qmgr ends (as if killed, but for its memory) and another one starts on the same queue. */
void bench_restart(struct bench *b, const char *settings);
void bench_reload(struct bench *b, const char *settings);

/* A neighbour's process is gone / comes (again). */
void bench_agent_gone(struct bench *b, unsigned index);
void bench_agent_come(struct bench *b, unsigned index);
void bench_bounce_gone(struct bench *b);
void bench_bounce_come(struct bench *b);
void bench_resolve_gone(struct bench *b);
void bench_resolve_come(struct bench *b);
void bench_cleanup_gone(struct bench *b);
void bench_cleanup_come(struct bench *b);

/* Turns the loop until nothing happens any more. */
void bench_settle(struct bench *b);
/* Moves the clocks, and has the ticks of a second and what is due happen. */
void bench_advance(struct bench *b, int64_t seconds);
/* The day's clock alone. */
void bench_step_clock(struct bench *b, int64_t seconds);

/*
 * A message from s@sender.example to count recipients r<number>@domain, numbered on; returns
 * the first number. Durable, and told to qmgr. Does not settle. With b->spread, "x.example"
 * stands for x0.example, x1.example ...
 */
uint32_t bench_put(struct bench *b, const char *domain, uint32_t count);
uint32_t bench_put_from(struct bench *b, const char *sender, const char *domain, uint32_t count,
	uint8_t notify);

/* The oldest job that is at any smtp-out, or null; and one after it. */
struct bench_job *bench_job(struct bench *b);
struct bench_agent *bench_agent_of(struct bench *b, const struct bench_job *j);
uint32_t bench_jobs(const struct bench *b);
/* A connection comes up for the site of the job. */
uint64_t bench_connect(struct bench *b, const struct bench_job *j);
struct bench_answer {
	enum verdict_kind kind;
	uint8_t stage;
	uint16_t code;
	uint8_t flags;
	uint64_t connection;
};
void bench_outcome(struct bench *b, struct bench_job *j, uint32_t rcpt,
	const struct bench_answer *a);
/* Ends the job: j is gone. */
void bench_job_done(struct bench *b, struct bench_job *j);
/* All recipients alike, and the end. */
void bench_answer(struct bench *b, struct bench_job *j, const struct bench_answer *a);
extern const struct bench_answer bench_done;
extern const struct bench_answer bench_later;
extern const struct bench_answer bench_never;
extern const struct bench_answer bench_down;
extern const struct bench_answer bench_cancelled;
/* Connects and delivers until no job is left. Returns how many recipients. */
uint32_t bench_deliver_all(struct bench *b);

/* Bounce has done the oldest notice, or could not. */
void bench_notice_done(struct bench *b, bool ok);
void bench_all_notices_done(struct bench *b);

/* What resolve kept is answered. */
void bench_answer_held(struct bench *b);

/* An operator's order over the control socket; returns the exit code. */
int bench_order(struct bench *b, uint8_t verb, const char *operand);

/* Every recipient is in one place, every counter is right. */
void bench_check(struct bench *b);
/* The queue is empty and every counter zero. */
void bench_check_empty(struct bench *b);

/* The state of a recipient of the last message that was put. */
struct slot bench_slot(struct bench *b, uint32_t number);

void __wrap_service_fail(struct service *s, const char *what);
void __wrap_service_end(struct service *s);

#endif
