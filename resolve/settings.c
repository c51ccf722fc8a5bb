/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/settings.h"

#include <string.h>

#include "common/base/log.h"

#define DNS_PORT 53u

size_t settings_system_servers(struct slice resolv_conf, struct endpoint *to, size_t max)
{
	struct slice rest = resolv_conf;
	struct slice line;
	struct slice word;
	size_t n = 0;

	while (n < max && slice_cut(&rest, '\n', &line)) {
		if (slice_word(&line, " \t\r", &word) && slice_eq(word, SLICE("nameserver")) &&
			slice_word(&line, " \t\r", &word) &&
			endpoint_parse_addr(word, DNS_PORT, &to[n]) == ERR_OK) {
			n++;
		}
	}
	return n;
}

static bool has_protocol(const struct conf *c, struct slice name)
{
	for (size_t i = 0; i < conf_list_count(c, CONF_inet_protocols); i++) {
		struct slice w = conf_list_at(c, CONF_inet_protocols, i);
		if (slice_eq_nocase(w, name) || slice_eq_nocase(w, SLICE("all"))) {
			return true;
		}
	}
	return false;
}

/* What master says that it listens on; what makes no sense is no door. */
static void read_doors(const struct conf *c, struct settings *s)
{
	struct slice rest;
	struct slice line;

	if (conf_file(c, SLICE(CONF_FILE_LISTENERS), &rest) != ERR_OK) {
		return; /* there are none where there is no master */
	}
	while (s->door_count < SETTINGS_DOORS_MAX && slice_cut(&rest, '\n', &line)) {
		if (endpoint_parse(line, 0, &s->doors[s->door_count]) == ERR_OK) {
			endpoint_unmap(&s->doors[s->door_count]);
			s->door_count++;
		}
	}
}

static bool is_wildcard(const struct endpoint *e)
{
	static const uint8_t zero[16];

	return memcmp(e->addr, zero, e->family == 4 ? 4 : 16) == 0;
}

bool settings_is_own_door(const struct settings *s, const struct endpoint *e)
{
	for (size_t i = 0; i < s->door_count; i++) {
		const struct endpoint *door = &s->doors[i];
		if (door->port != e->port) {
			continue;
		}
		/* All of 127.0.0.0/8 is this machine, though no interface lists it. */
		if (endpoint_eq_addr(door, e) ||
			(is_wildcard(door) && e->family == 4 && e->addr[0] == 127)) {
			return true;
		}
	}
	return false;
}

void settings_read(const struct conf *c, const struct endpoint *system, size_t system_count,
	struct settings *out)
{
	struct settings s = {.first = ROUTE_FAMILY_ANY};

	read_doors(c, &s);
	size_t n = conf_endpoint_count(c, CONF_dns_servers);
	struct slice anchor_file = conf_text(c, CONF_dns_trust_anchor);

	s.rules.myhostname = conf_text(c, CONF_myhostname);
	s.rules.ipv4 = has_protocol(c, SLICE("ipv4"));
	s.rules.ipv6 = has_protocol(c, SLICE("ipv6"));
	s.rules.forbidden = conf_cidr(c, CONF_smtp_forbidden_destinations);
	if (conf_is(c, CONF_smtp_address_preference, "ipv4")) {
		s.first = ROUTE_FAMILY_IPV4;
	} else if (conf_is(c, CONF_smtp_address_preference, "ipv6")) {
		s.first = ROUTE_FAMILY_IPV6;
	}
	for (size_t i = 0; i < n && s.server_count < SETTINGS_SERVERS_MAX; i++) {
		s.servers[s.server_count++] = conf_endpoint_at(c, CONF_dns_servers, i);
	}
	for (size_t i = 0; n == 0 && i < system_count && i < SETTINGS_SERVERS_MAX; i++) {
		s.servers[s.server_count++] = system[i];
	}
	if (anchor_file.n != 0 && conf_file(c, anchor_file, &s.anchors) != ERR_OK) {
		log_warn("event=no_trust_anchor what=\"DNSSEC is not validated\" file=%s",
			LOG_TEXT(anchor_file));
	}
	*out = s;
}

bool settings_differ_in_dns(const struct settings *a, const struct settings *b)
{
	if (a->server_count != b->server_count || !slice_eq(a->anchors, b->anchors)) {
		return true;
	}
	for (size_t i = 0; i < a->server_count; i++) {
		if (!endpoint_eq(&a->servers[i], &b->servers[i])) {
			return true;
		}
	}
	return false;
}
