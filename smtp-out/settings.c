/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/settings.h"

#include <sys/resource.h>

#include "common/base/str.h"
#include "common/mail/address.h"

static const struct {
	enum time_limit limit;
	enum conf_param param;
} times[] = {
	{WAIT_CONNECT, CONF_smtp_connect_timeout},
	{WAIT_HELO, CONF_smtp_helo_timeout},
	{WAIT_STARTTLS, CONF_smtp_starttls_timeout},
	{WAIT_MAIL, CONF_smtp_mail_timeout},
	{WAIT_RCPT, CONF_smtp_rcpt_timeout},
	{WAIT_DATA_INIT, CONF_smtp_data_init_timeout},
	{WAIT_DATA_XFER, CONF_smtp_data_xfer_timeout},
	{WAIT_DATA_DONE, CONF_smtp_data_done_timeout},
	{WAIT_RSET, CONF_smtp_rset_timeout},
	{WAIT_QUIT, CONF_smtp_quit_timeout},
	{WAIT_IDLE, CONF_smtp_connection_cache_time_limit},
	{WAIT_REUSE, CONF_smtp_connection_reuse_time_limit},
};
_Static_assert(ARRAY_LEN(times) == WAIT_COUNT, "a time limit without a parameter");

static enum err read_source(const struct conf *c, enum conf_param p, uint8_t family,
	struct endpoint *out, struct buf *why)
{
	struct slice text = conf_text(c, p);

	*out = (struct endpoint){.family = 0};
	if (text.n == 0) {
		return ERR_OK;
	}
	if (endpoint_parse_addr(text, 0, out) == ERR_OK && out->family == family) {
		return ERR_OK;
	}
	enum err e = buf_printf(why, "%s must be an IPv%u address of this host",
		conf_param_info(p)->name, (unsigned)family);
	return e == ERR_OK ? ERR_CONFIG : e;
}

/* Half of the descriptors at most: the queue files that qmgr hands over need theirs, and one
 * that finds no room on its way costs all that is being delivered. */
static uint32_t connections_allowed(uint64_t wanted)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && wanted > r.rlim_cur / 2) {
		wanted = r.rlim_cur / 2;
	}
	return wanted > 0 ? (uint32_t)wanted : 1;
}

enum err settings_read(const struct conf *c, struct settings *out, struct buf *why)
{
	struct settings s = {.forbidden = conf_cidr(c, CONF_smtp_forbidden_destinations)};
	struct slice name = conf_text(c, CONF_smtp_helo_name);
	enum err e = conf_file(c, SLICE(CONF_FILE_LISTENERS), &s.own_doors);

	if (e != ERR_OK) {
		s.own_doors = SLICE_EMPTY; /* there are none where there is no master */
	}

	if (!helo_is_valid(name) ||
		str_copy(s.helo_name, sizeof(s.helo_name), name) != ERR_OK) {
		e = buf_printf(why,
			"smtp_helo_name must be a host name or an address literal such as [192.0.2.1]");
		return e == ERR_OK ? ERR_CONFIG : e;
	}
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		s.limit_ms[times[i].limit] = conf_time_ms(c, times[i].param);
	}
	s.reuse_count = (uint32_t)conf_count(c, CONF_smtp_connection_reuse_count_limit);
	s.address_limit = (uint32_t)conf_count(c, CONF_smtp_mx_address_limit);
	s.total_limit = connections_allowed(conf_count(c, CONF_smtp_connection_total_limit));
	s.pipeline_next = conf_bool(c, CONF_smtp_pipeline_next);
	s.skip_5xx_greeting = conf_bool(c, CONF_smtp_skip_5xx_greeting);
	for (size_t i = 0; i < conf_list_count(c, CONF_inet_protocols); i++) {
		struct slice word = conf_list_at(c, CONF_inet_protocols, i);
		bool all = slice_eq_nocase(word, SLICE("all"));
		s.use_ipv4 = s.use_ipv4 || all || slice_eq_nocase(word, SLICE("ipv4"));
		s.use_ipv6 = s.use_ipv6 || all || slice_eq_nocase(word, SLICE("ipv6"));
	}
	if (!s.use_ipv4 && !s.use_ipv6) {
		e = buf_printf(why, "inet_protocols must be all, ipv4 or ipv6");
		return e == ERR_OK ? ERR_CONFIG : e;
	}
	e = read_source(c, CONF_smtp_bind_address, 4, &s.bind4, why);
	if (e == ERR_OK) {
		e = read_source(c, CONF_smtp_bind_address6, 6, &s.bind6, why);
	}
	if (e == ERR_OK) {
		*out = s;
	}
	return e;
}
