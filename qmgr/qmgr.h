/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr: what the modules of the queue manager share.
 *
 * A recipient's way through here: intake (or a sweep of the store, or the waiting heap when its
 * time comes) yields a message; scheduler_take() cuts it into parcels, one for each
 * destination; router finds the site of a destination; the scheduler hands a site's parcels to
 * smtp-out as jobs, as far as the site's limits go; outcome settles each recipient: delivered,
 * back to the heap, or on to bounce as part of a notice. Whatever happens, a recipient is in
 * exactly one of these places, and its slot says "waiting" until it is settled: losing all
 * memory loses nothing. SLOT_ACTIVE of a slot in memory says that it is in a parcel, parked or
 * in a notice; without it, it is in the heap, or held.
 */
#ifndef QMGR_QMGR_H
#define QMGR_QMGR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/list.h"
#include "common/io/loop.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"
#include "common/journal/journal_writer.h"
#include "common/mail/verdict.h"
#include "common/proc/service.h"
#include "qmgr/message.h"
#include "qmgr/policy.h"
#include "qmgr/store.h"
#include "qmgr/waiting.h"

#define AGENTS_MAX 64u
#define INTAKES_MAX 64u

/* A server group that shares limits: the set of hosts that some destinations' routes name. */
enum site_state {
	SITE_READY,
	SITE_DOWN /* nothing but a probe goes there before probe_at_ms */
};

struct site_addr {
	uint16_t preference;
	uint16_t port;
	uint8_t dnssec;
	uint8_t family;
	uint8_t addr[16];
	char host[LIMIT_HOSTNAME + 1];
};

struct parked_slot {
	uint32_t segment;
	uint32_t slot;
};

struct site {
	struct hash_link by_key;
	struct hash_id_link by_id;
	struct list ready;   /* in the scheduler's ring while something can be sent */
	bool capped;         /* it is in the list of the capped ones instead */
	struct list backlog; /* parcels to be sent */
	struct parked_slot
		*parked; /* recipients beyond what a site may hold in memory: a FIFO */
	size_t parked_count;
	size_t parked_from;
	size_t parked_room;
	uint64_t id;
	char *key;
	struct site_addr *addrs;
	uint32_t addr_count;
	uint32_t epoch; /* of the addresses: agents are told when it moves */
	enum site_state state;
	bool proven;        /* a connection has come up, and it has not been down since */
	uint32_t window;    /* connections that it may have now */
	uint32_t in_flight; /* jobs */
	uint32_t backlog_rcpts;
	uint32_t held;         /* recipients in the backlog and in flight */
	uint32_t failures;     /* rounds in a row in which no server could be spoken to */
	uint32_t destinations; /* that route here */
	int64_t probe_at_ms;
	int64_t last_success_ms;
	int64_t next_send_ms;          /* default_destination_rate_delay */
	struct loop_timer *send_timer; /* only where that delay is set */
	struct qmgr *q;
	int64_t idle_since_ms;
	uint64_t delivered;
	uint64_t deferred;
	uint64_t failed;
	char last_error[256];
};

/* What a recipient's domain (or a transport table, or relayhost) names as the next hop. */
enum destination_state {
	DEST_UNKNOWN,
	DEST_ASKED, /* resolve is at it */
	DEST_ROUTED
};
struct destination {
	struct hash_link by_key;
	struct hash_id_link by_request;
	struct list pending; /* parcels that wait for the route */
	char *key;           /* "[name]:port" or "name:port" */
	char *name;          /* host or domain */
	bool is_host;
	uint16_t port;
	enum destination_state state;
	uint64_t request;
	int64_t asked_ms;
	struct site *site;
	int64_t expires_ms;
	uint32_t parcels; /* pending, in the backlog, in flight: it lives as long as there are
			     any */
	struct parcel *open; /* the one that scheduler_take() fills at the moment */
};

struct parcel_rcpt {
	uint32_t index; /* in the message */
	bool settled;
};

/* Where a parcel stands. parcel.c alone changes it, and the counters with it. */
enum parcel_place {
	PARCEL_LOOSE,   /* in somebody's hands, within one call */
	PARCEL_PENDING, /* its destination has no route yet */
	PARCEL_BACKLOG, /* of its site */
	PARCEL_FLIGHT   /* a job at smtp-out */
};

/* Some recipients of one message that go the same way together: a job while it is at smtp-out.
 */
struct parcel {
	enum parcel_place place;
	struct list link; /* destination's pending, or site's backlog */
	struct hash_id_link job;
	struct message *message;
	struct destination *destination;
	struct site *site;
	struct agent *agent;
	struct notice *notice; /* gathers the recipients that failed for good */
	int64_t sent_ms;
	uint32_t count;
	uint32_t room;
	uint32_t delivered;
	uint32_t lost;  /* smtp-out processes that died with it */
	bool down;      /* the round failed before any server could be spoken to */
	bool cancelled; /* we have asked for it back */
	struct parcel_rcpt rcpts[];
};

/* Facts of a connection of smtp-out, for the journal. */
struct connection {
	struct hash_id_link by_id;
	char host[LIMIT_HOSTNAME + 1];
	char addr[65];
	char local[65];
	char tls[LIMIT_NAME + 1];
	uint16_t port;
};

/* One smtp-out process. */
struct agent {
	struct qmgr *q;
	struct channel *channel;
	unsigned index;
	bool greeted;
	uint32_t jobs;
	int64_t rest_until_ms; /* it gave jobs back unasked: it ends, most likely */
	struct hash_id_table connections;
	struct hash_id_table sites; /* struct agent_site */
};
struct agent_site {
	struct hash_id_link by_id;
	uint32_t epoch;
	uint32_t connections;
	uint32_t jobs;
};

struct notice_rcpt {
	struct envelope_rcpt rcpt; /* borrowed from the message */
	uint32_t index;
	uint8_t stage;
	uint16_t smtp_code;
	struct enhanced_code status;
	char *text;
	char *host;
	char *addr;
	int64_t attempt_us;
};
struct notice {
	struct hash_id_link by_id;
	struct list link; /* waiting to be sent, or sent */
	struct message *message;
	uint8_t kind;
	bool sent;
	uint32_t count;
	uint32_t room;
	struct notice_rcpt *rcpts;
	int64_t not_before_ms;
};

/* One cleanup process, and the envelope of which parts have come. */
struct intake {
	struct qmgr *q;
	struct channel *channel;
	unsigned index;
	bool greeted;
	struct store_segment *segment; /* pinned while recipients of a record are missing */
	struct segment_record record;
	struct envelope envelope;
	struct envelope_rcpt rcpts[64];
	struct buf texts; /* what the envelope's slices point into */
	uint32_t missing; /* enqueue_rcpt messages still to come */
};

struct qmgr {
	struct service *service;
	struct loop *loop;
	struct policy *policy;
	struct policy *pending_policy;
	struct store *store;
	struct journal_writer *journal;
	struct waiting waiting;
	int queue_dir;
	int corrupt_dir;
	int journal_dir;

	struct intake *intakes[INTAKES_MAX];
	struct agent *agents[AGENTS_MAX];
	unsigned agent_count; /* highest index + 1 */

	struct message *recent; /* the last one that was read from disk, for a second at most */

	struct channel *resolver;
	struct hash_table destinations;
	struct hash_id_table requests;
	struct msg_route route; /* the answer of which addresses still come */
	struct site_addr route_addrs[LIMIT_ROUTE_ADDRS];
	uint32_t route_missing;
	uint32_t route_addr_count;
	char route_code[17];
	char route_text[LIMIT_TEXT + 1];

	struct hash_table sites;
	struct hash_id_table sites_by_id;
	struct list ready_sites;
	struct list capped_sites; /* kept back: too much goes to sites that do not answer, or
				     memory is full */
	struct hash_id_table jobs;
	uint32_t in_flight;
	uint32_t unproven_in_flight; /* jobs of sites that are not proven */
	uint32_t unproven_held;      /* their recipients in backlogs and in flight */
	uint32_t active;             /* recipients in parcels */
	uint32_t pending_rcpts;      /* of these, those that wait for a route */
	uint64_t last_id;

	struct channel *bounce;
	struct hash_id_table notices;
	struct list notices_waiting;
	struct list notices_sent;
	struct list notices_delayed; /* bounce could not do them; in the order of their times */
	uint32_t notices_sent_count;
	uint32_t notices_out; /* recipients in notices */

	struct loop_flush dispatch;
	struct loop_timer tick; /* every second */
	struct loop_timer due;  /* when the first waiting recipient is due, within the second */
	int64_t due_at_ms;      /* when it rings */
	int64_t wall_minus_mono_s;
	int64_t next_sweep_ms;
	bool sick; /* slots cannot be written: nothing is dispatched */
	bool draining;
	bool resolver_greeted; /* its hello has come */
	bool bounce_greeted;
	struct orders *orders;
	struct compact *compact;

	uint64_t count_delivered;
	uint64_t count_deferred;
	uint64_t count_failed;
	uint64_t count_expired;
};

static inline uint64_t qmgr_next_id(struct qmgr *q)
{
	return ++q->last_id;
}

#endif
