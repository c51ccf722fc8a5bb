/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy: what the configuration says about routes, limits and times, ready for use.
 */
#ifndef QMGR_POLICY_H
#define QMGR_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "common/conf/table.h"

/* Where a recipient goes, or why it goes nowhere. */
enum nexthop_kind {
	NEXTHOP_MX,      /* name is a domain whose MX are asked for */
	NEXTHOP_HOST,    /* name is a host or an address */
	NEXTHOP_DISCARD, /* transport discard: taken and dropped */
	NEXTHOP_ERROR,   /* transport error: permanent failure, text says why */
	NEXTHOP_RETRY    /* transport retry, or an entry that cannot be obeyed: temporary */
};
struct nexthop {
	enum nexthop_kind kind;
	char name[LIMIT_HOSTNAME + 1]; /* lower case, no brackets */
	char key[LIMIT_HOSTNAME +
		 16]; /* "[name]:port" or "name:port": the same for the same next hop */
	uint16_t port;
	char text[LIMIT_HOSTNAME + 64];
};

struct policy {
	int64_t lifetime_s;
	int64_t notice_lifetime_s;
	int64_t delay_warning_s; /* 0: never */
	int64_t least_backoff_s;
	int64_t most_backoff_s;
	int64_t rate_delay_ms;
	uint32_t concurrency;
	uint32_t initial_concurrency;
	uint32_t rcpts_per_job;
	uint32_t active_limit;
	uint32_t connections_total;
	uint8_t tls_level; /* enum tls_level */
	bool soft_bounce;
	bool has_relayhost;
	struct nexthop relayhost;
	struct table *transports;
};

/* ERR_CONFIG with why. */
MUST_CHECK enum err policy_new(const struct conf *c, struct buf *why, struct policy **out);
void policy_free(struct policy **p);

/* "[host]:port", "[host]", "domain:port", "domain", "" is ERR_SYNTAX. */
MUST_CHECK enum err nexthop_parse(struct slice text, struct nexthop *out);

/* transport_maps (address, domain, its parents, "*"), then relayhost, then the domain itself.
 * address is local@domain. */
void policy_route(const struct policy *p, struct slice address, struct nexthop *out);

#endif
