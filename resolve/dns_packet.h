/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_packet: reads an answer as it comes from the wire (RFC 1035 section 4): MX, A and AAAA
 * records behind a chain of aliases, and how long a "no" holds.
 *
 * The bytes are a stranger's. A record whose contents are not what its type demands (too short,
 * too long, a host that can be no host name) is counted as unusable and otherwise passed over;
 * a message whose frame does not hold is ERR_SYNTAX as a whole.
 */
#ifndef RESOLVE_DNS_PACKET_H
#define RESOLVE_DNS_PACKET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

enum {
	DNS_TYPE_A = 1,
	DNS_TYPE_CNAME = 5,
	DNS_TYPE_SOA = 6,
	DNS_TYPE_MX = 15,
	DNS_TYPE_AAAA = 28
};

enum {
	DNS_RCODE_OK = 0,
	DNS_RCODE_SERVFAIL = 2,
	DNS_RCODE_NXDOMAIN = 3
};

#define DNS_NAME_MAX 253u   /* characters of a name as text, without the last dot */
#define DNS_ALIASES_MAX 16u /* CNAME records followed */
#define DNS_TTL_MAX_S 604800u
#define DNS_TTL_NO_SOA_S 60u /* of a "no" that does not say for how long */
/* What an answer can take from the arena: a message holds at most so many records. */
#define DNS_RECORDS_MAX 4096u

struct dns_record {
	struct slice host;   /* MX; empty: the root, "no mail here" */
	uint16_t preference; /* MX */
	uint8_t family;      /* A: 4, AAAA: 6 */
	uint8_t addr[16];
};

struct dns_answer {
	unsigned rcode;
	bool is_truncated;
	uint32_t ttl_s; /* least of all that led here; for a "no": of the zone's SOA */
	unsigned aliases;
	size_t count;
	struct dns_record *records; /* of the type asked for */
	size_t unusable;
};

/* Everything in *out lives in the arena. ERR_SYNTAX: no answer to one question, or malformed;
 * ERR_TOOBIG: does not fit into the arena. */
MUST_CHECK enum err dns_packet_parse(struct slice packet, uint16_t type, struct arena *a,
	struct dns_answer *out);

#endif
