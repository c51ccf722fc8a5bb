/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns: look-ups by libunbound on our loop.
 *
 * libunbound resolves, validates and caches records; here its many ways to answer become one
 * struct dns_reply. No more than so many look-ups run at once, the others wait their turn.
 * Answers never come from within dns_lookup() but later in the turn, or in another one.
 */
#ifndef RESOLVE_DNS_H
#define RESOLVE_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/io/endpoint.h"
#include "common/io/loop.h"
#include "resolve/dns_packet.h"

enum dns_status {
	DNS_FOUND,
	DNS_NODATA,   /* the name is there, no (usable) record of the type is */
	DNS_NXDOMAIN, /* there is no such name */
	DNS_FAILED,   /* no answer, or a server's failure: it cannot be known now */
	DNS_BOGUS     /* the answer does not validate */
};

struct dns_reply {
	enum dns_status status;
	bool is_secure; /* validated */
	uint32_t ttl_s; /* not for DNS_FAILED and DNS_BOGUS */
	size_t count;
	const struct dns_record *records; /* until the callback returns */
	size_t unusable;                  /* records passed over */
	const char *why;                  /* of a failure, for people; never null */
};

typedef void dns_done(void *arg, const struct dns_reply *reply);

/* What the library is set up with; copied. */
struct dns_setup {
	const struct endpoint *servers; /* none: from the root servers downwards */
	size_t server_count;
	struct slice anchors; /* text of a trust anchor file; empty: no validation */
};

struct dns;

/* Calls nothing that opens a file, so a reload inside the jail works like the start. why is for
 * people. */
MUST_CHECK enum err dns_new(struct loop *loop, const struct dns_setup *setup, struct buf *why,
	struct dns **out);
/* Nothing new will be asked: it goes when the last look-up has been answered. Nulls *dns. */
void dns_retire(struct dns **dns);
/* At once, forgetting what runs; not from within a dns_done. Nulls *dns. */
void dns_free(struct dns **dns);

/* name is at most DNS_NAME_MAX bytes; what is no name for the DNS gets DNS_FAILED. */
void dns_lookup(struct dns *dns, struct slice name, uint16_t type, dns_done *done, void *arg);

struct dns_counts {
	uint64_t asked; /* of the library */
	uint64_t failed;
	uint64_t bogus;
	size_t running;
	size_t waiting;
};
struct dns_counts dns_counts(const struct dns *dns);

#endif
