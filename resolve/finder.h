/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finder: from a domain or host to a route (RFC 5321 section 5.1, RFC 7505).
 *
 * It asks for MX records, then for the addresses of the hosts in their order, and judges: what
 * is temporary stays temporary (a failed look-up is never taken for "there is none"), what the
 * DNS says for sure is final. The work for one name is bounded however much the DNS answers.
 * Knows nothing of libunbound: the look-ups come from whoever made it.
 */
#ifndef RESOLVE_FINDER_H
#define RESOLVE_FINDER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/io/loop.h"
#include "resolve/dns.h"
#include "resolve/route.h"

#define FINDER_DEADLINE_MS 60000
/* When addresses are there and others are still waited for. */
#define FINDER_GRACE_MS 4000
#define FINDER_HOSTS_MAX 24u      /* whose addresses are asked for */
#define FINDER_HOST_ADDRS_MAX 16u /* taken of one host and family */
#define FINDER_ENOUGH_ADDRS 16u   /* no further hosts are asked for */
#define FINDER_NEGATIVE_MAX_S 300u
#define FINDER_PARTIAL_MAX_S 60u /* of a route that lacks what could not be looked up */

/* As the configuration has it. */
struct finder_rules {
	struct slice myhostname;
	bool ipv4;
	bool ipv6;
	const struct cidr_list *forbidden;
};

struct finder_source {
	/* Must not answer before it returns; must answer in the end. */
	void (*lookup)(void *arg, struct slice name, uint16_t type, dns_done *done,
		void *done_arg);
	void *arg;
};

struct finder;
typedef void finder_done(void *arg, struct route *route); /* the route is arg's to free */

/* rules is borrowed and may change between turns. */
struct finder *finder_new(struct loop *loop, const struct finder_rules *rules,
	const struct finder_source *source);
/* Nothing is told any more. No look-up may answer afterwards. */
void finder_free(struct finder **f);
/* kind: ROUTE_MX or ROUTE_HOST. Calls done exactly once, perhaps before it returns. */
void finder_find(struct finder *f, uint8_t kind, struct slice name, finder_done *done,
	void *arg);

#endif
