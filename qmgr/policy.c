/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/ipc/messages.h"

#define SMTP_PORT 25u

static enum err lower_copy(char *to, size_t size, struct slice s)
{
	enum err e = str_copy(to, size, s);

	for (char *p = to; *p != '\0'; p++) {
		*p = (char)ascii_lower((uint8_t)*p);
	}
	return e;
}

enum err nexthop_parse(struct slice text, struct nexthop *out)
{
	struct nexthop n = {.kind = NEXTHOP_MX, .port = SMTP_PORT};
	struct slice name = slice_trim(text);
	struct slice port = SLICE_EMPTY;

	if (name.n > 0 && name.p[0] == '[') {
		size_t close = slice_find(name, ']');
		struct slice behind = slice_skip(name, close + 1);

		if (close == name.n || (behind.n > 0 && behind.p[0] != ':')) {
			return ERR_SYNTAX;
		}
		n.kind = NEXTHOP_HOST;
		port = slice_skip(behind, 1);
		if (behind.n == 1) {
			return ERR_SYNTAX;
		}
		name = slice_skip(slice_head(name, close), 1);
		if (slice_starts_nocase(name, SLICE("ipv6:"))) {
			name = slice_skip(name, 5);
		}
	} else {
		size_t colon = slice_find_last(name, ':');

		if (colon < name.n) {
			port = slice_skip(name, colon + 1);
			name = slice_head(name, colon);
			if (port.n == 0) {
				return ERR_SYNTAX;
			}
		}
	}
	if (port.n > 0) {
		uint32_t number;

		if (slice_eq_nocase(port, SLICE("smtp"))) {
			number = SMTP_PORT;
		} else if (slice_eq_nocase(port, SLICE("submission"))) {
			number = 587;
		} else if (num_parse_u32(port, UINT16_MAX, &number) != ERR_OK || number == 0) {
			return ERR_SYNTAX;
		}
		n.port = (uint16_t)number;
	}
	if (name.n == 0 || lower_copy(n.name, sizeof(n.name), name) != ERR_OK ||
		str_format(n.key, sizeof(n.key), n.kind == NEXTHOP_HOST ? "[%s]:%u" : "%s:%u",
			n.name, (unsigned)n.port) != ERR_OK) {
		return ERR_SYNTAX;
	}
	*out = n;
	return ERR_OK;
}

static uint8_t tls_level_of(const struct conf *c)
{
	static const struct {
		const char *word;
		uint8_t level;
	} levels[] = {
		{"", TLS_NONE},
		{"none", TLS_NONE},
		{"may", TLS_MAY},
		{"encrypt", TLS_ENCRYPT},
		{"verify", TLS_VERIFY},
		{"secure", TLS_SECURE},
	};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (conf_is(c, CONF_smtp_tls_security_level, levels[i].word)) {
			return levels[i].level;
		}
	}
	return TLS_MAY;
}

static void PRINTF_LIKE(2, 3) explain(struct buf *why, const char *format, ...)
{
	char text[LIMIT_TEXT];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n > 0 && buf_append(why, slice_from_cstr(text)) != ERR_OK) {
		return; /* full of explanations already */
	}
}

static enum err check_transports(const struct table *t, struct buf *why)
{
	for (size_t i = 0; i < table_count(t); i++) {
		struct slice key;
		struct slice value;
		struct nexthop hop;

		table_at(t, i, &key, &value);
		size_t colon = slice_find(value, ':');
		struct slice transport = slice_head(value, colon);
		struct slice rest = slice_skip(value, colon + 1);

		if (transport.n > 0 && !slice_eq(transport, SLICE("smtp")) &&
			!slice_eq(transport, SLICE("relay"))) {
			if (slice_eq(transport, SLICE("error")) ||
				slice_eq(transport, SLICE("retry")) ||
				slice_eq(transport, SLICE("discard"))) {
				continue;
			}
		} else if (rest.n == 0 || nexthop_parse(rest, &hop) == ERR_OK) {
			continue;
		}
		explain(why,
			"transport_maps: \"%.*s %.*s\": must be smtp:NEXTHOP, relay:NEXTHOP, "
			"error:TEXT, retry:TEXT or discard:",
			SLICE_ARG(slice_head(key, 200)), SLICE_ARG(slice_head(value, 200)));
		return ERR_CONFIG;
	}
	return ERR_OK;
}

enum err policy_new(const struct conf *c, struct buf *why, struct policy **out)
{
	struct policy *p = alloc_zero(1, sizeof(*p));
	struct slice relayhost = slice_trim(conf_text(c, CONF_relayhost));
	enum err e;

	p->lifetime_s = conf_time_s(c, CONF_maximal_queue_lifetime);
	p->notice_lifetime_s = conf_time_s(c, CONF_bounce_queue_lifetime);
	p->delay_warning_s = conf_time_s(c, CONF_delay_warning_time);
	p->least_backoff_s = conf_time_s(c, CONF_minimal_backoff_time);
	p->most_backoff_s = conf_time_s(c, CONF_maximal_backoff_time);
	p->rate_delay_ms = conf_time_ms(c, CONF_default_destination_rate_delay);
	p->concurrency = (uint32_t)conf_count(c, CONF_default_destination_concurrency_limit);
	p->initial_concurrency = (uint32_t)conf_count(c, CONF_initial_destination_concurrency);
	p->rcpts_per_job = (uint32_t)conf_count(c, CONF_default_destination_recipient_limit);
	p->active_limit = (uint32_t)conf_count(c, CONF_qmgr_active_limit);
	p->connections_total = (uint32_t)conf_count(c, CONF_smtp_connection_total_limit);
	p->tls_level = tls_level_of(c);
	p->soft_bounce = conf_bool(c, CONF_soft_bounce);

	if (relayhost.n > 0) {
		p->has_relayhost = true;
		e = nexthop_parse(relayhost, &p->relayhost);
		if (e != ERR_OK) {
			explain(why,
				"relayhost must be domain, domain:port, [host] or [host]:port");
			e = ERR_CONFIG;
			goto out;
		}
	}
	e = table_from_conf(c, CONF_transport_maps, why, &p->transports);
	if (e != ERR_OK) {
		goto out;
	}
	e = check_transports(p->transports, why);
out:
	if (e == ERR_OK) {
		*out = p;
	} else {
		policy_free(&p);
	}
	return e;
}

void policy_free(struct policy **p)
{
	if (*p != NULL) {
		table_free(&(*p)->transports);
		ALLOC_FREE(*p);
	}
}

/* A domain of its own: literal addresses are hosts, names have MX. */
static void route_to_domain(struct slice domain, struct nexthop *out)
{
	if (nexthop_parse(domain, out) != ERR_OK) {
		*out = (struct nexthop){.kind = NEXTHOP_ERROR, .port = SMTP_PORT};
		str_printable(out->text, sizeof(out->text),
			SLICE("5.1.2 Bad destination domain"));
	}
}

static void route_by_transport(struct slice value, struct slice domain, struct nexthop *out)
{
	size_t colon = slice_find(value, ':');
	struct slice transport = slice_head(value, colon);
	struct slice rest = slice_trim(slice_skip(value, colon + 1));

	*out = (struct nexthop){.kind = NEXTHOP_RETRY, .port = SMTP_PORT};
	str_printable(out->text, sizeof(out->text), rest);
	if (slice_eq(transport, SLICE("error"))) {
		out->kind = NEXTHOP_ERROR;
	} else if (slice_eq(transport, SLICE("discard"))) {
		out->kind = NEXTHOP_DISCARD;
	} else if (!slice_eq(transport, SLICE("retry"))) {
		if (rest.n == 0) {
			route_to_domain(domain, out);
		} else if (nexthop_parse(rest, out) != ERR_OK) {
			out->kind = NEXTHOP_RETRY;
		}
	}
}

void policy_route(const struct policy *p, struct slice address, struct nexthop *out)
{
	size_t at = slice_find_last(address, '@');
	struct slice domain = slice_skip(address, at + 1);
	struct slice value;

	if (table_count(p->transports) > 0 &&
		(table_find(p->transports, address, &value) ||
			table_find_domain(p->transports, domain, false, &value))) {
		route_by_transport(value, domain, out);
		return;
	}
	if (p->has_relayhost) {
		*out = p->relayhost;
		return;
	}
	route_to_domain(domain, out);
}
