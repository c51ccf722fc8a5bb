/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/settings.h"

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

void settings_read(const struct conf *c, const struct endpoint *system, size_t system_count,
	struct settings *out)
{
	struct settings s = {.first = ROUTE_FAMILY_ANY};
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
