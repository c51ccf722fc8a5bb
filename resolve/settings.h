/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings: what the configuration says about looking up and about addresses.
 */
#ifndef RESOLVE_SETTINGS_H
#define RESOLVE_SETTINGS_H

#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "resolve/dns.h"
#include "resolve/finder.h"
#include "resolve/route.h"

/* Addresses and ports that the relay itself listens on. */
#define SETTINGS_DOORS_MAX 1024u
/* Name servers of one configuration; libunbound has no use for more than a few. */
#define SETTINGS_SERVERS_MAX 32u

struct settings {
	struct finder_rules rules; /* borrows from the conf */
	enum route_family first;
	struct endpoint servers[SETTINGS_SERVERS_MAX];
	size_t server_count;
	struct slice anchors; /* borrowed from the conf */
	struct endpoint doors[SETTINGS_DOORS_MAX];
	size_t door_count;
};

/* The servers of a resolv.conf(5), at most max of them; lines that make no sense are skipped.
 */
size_t settings_system_servers(struct slice resolv_conf, struct endpoint *to, size_t max);

/* system: asked when dns_servers is empty. */
void settings_read(const struct conf *c, const struct endpoint *system, size_t system_count,
	struct settings *out);
/* A connection there would reach ourselves. */
bool settings_is_own_door(const struct settings *s, const struct endpoint *e);
/* Another libunbound is needed to go from one to the other. */
bool settings_differ_in_dns(const struct settings *a, const struct settings *b);

#endif
