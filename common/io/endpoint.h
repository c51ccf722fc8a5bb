/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint: an IP address with a port, as a value; and networks to match it against. */
#ifndef COMMON_IO_ENDPOINT_H
#define COMMON_IO_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct endpoint {
	uint8_t family; /* 4 or 6; 0: none */
	uint8_t addr[16];
	uint16_t port;
};

#define ENDPOINT_TEXT_MAX 64u

/* "192.0.2.1" or "2001:db8::1", also in brackets. No names, no zone ids. */
MUST_CHECK enum err endpoint_parse_addr(struct slice text, uint16_t port, struct endpoint *out);
/* "ADDRESS@PORT" as in dns_servers, "[ADDRESS]:PORT", "ADDRESS:PORT" (IPv4 only). */
MUST_CHECK enum err endpoint_parse(struct slice text, uint16_t default_port,
	struct endpoint *out);
/* The address alone, no brackets. */
void endpoint_format_addr(const struct endpoint *e, char to[ENDPOINT_TEXT_MAX]);
/* "[ADDRESS]:PORT". */
void endpoint_format(const struct endpoint *e, char to[ENDPOINT_TEXT_MAX]);
bool endpoint_eq(const struct endpoint *a, const struct endpoint *b);
bool endpoint_eq_addr(const struct endpoint *a, const struct endpoint *b);
/* An IPv4-mapped IPv6 address becomes IPv4; others stay. */
void endpoint_unmap(struct endpoint *e);

socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *out);
/* ERR_SYNTAX for a family other than IPv4 and IPv6. */
MUST_CHECK enum err endpoint_from_sockaddr(const struct sockaddr_storage *sa,
	struct endpoint *out);

/* A list of networks: "127.0.0.0/8 [::1]/128, 192.0.2.7 !10.1.0.0/16"; the first match decides.
 */
struct cidr {
	uint8_t family;
	uint8_t bits;
	bool negated;
	uint8_t addr[16];
};
struct cidr_list {
	struct cidr *items;
	size_t count;
};
/* On ERR_SYNTAX *bad is the word that is wrong (also: host bits set). At most 4096 entries. */
MUST_CHECK enum err cidr_list_parse(struct slice text, struct cidr_list *out,
	struct slice *bad);
void cidr_list_clear(struct cidr_list *l);
bool cidr_list_has(const struct cidr_list *l, const struct endpoint *e);

#endif
