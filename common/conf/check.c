/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/check.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/conf/why.h"

static enum err refuse(struct buf *why, struct slice text, const char *what)
{
	why_add(why, "must be %s (got \"%.*s\")", what, SLICE_ARG(slice_head(text, 200)));
	return ERR_CONFIG;
}

static struct slice value_text(const struct conf_value *v)
{
	return slice_make(v->text, v->text_bytes);
}

static bool is_alnum(uint8_t c)
{
	return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

bool conf_hostname_is_valid(struct slice name)
{
	struct slice rest = name;
	struct slice label;

	if (name.n == 0 || name.n > LIMIT_HOSTNAME || name.p[name.n - 1] == '.') {
		return false;
	}
	while (slice_cut(&rest, '.', &label)) {
		if (label.n == 0 || label.n > 63 || label.p[0] == '-' ||
			label.p[label.n - 1] == '-') {
			return false;
		}
		for (size_t i = 0; i < label.n; i++) {
			if (!is_alnum(label.p[i]) && label.p[i] != '-' && label.p[i] != '_') {
				return false;
			}
		}
	}
	return true;
}

static enum err check_hostname(struct conf_value *v, struct buf *why)
{
	struct slice text = value_text(v);

	/* Empty: conf_builder_end() asks the system. */
	if (text.n == 0 || conf_hostname_is_valid(text)) {
		return ERR_OK;
	}
	return refuse(why, text, "a host name such as relay.example.com");
}

static enum err check_helo(struct conf_value *v, struct buf *why)
{
	struct slice text = value_text(v);

	if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']') {
		return ERR_OK;
	}
	return check_hostname(v, why);
}

static enum err check_path(struct conf_value *v, struct buf *why)
{
	struct slice text = value_text(v);

	return text.n != 0 && text.p[0] == '/' && text.n < 4000
		       ? ERR_OK
		       : refuse(why, text, "a path, from / on");
}

static enum err check_log_path(struct conf_value *v, struct buf *why)
{
	return v->text_bytes == 0 ? ERR_OK : check_path(v, why);
}

static enum err check_protocols(struct conf_value *v, struct buf *why)
{
	for (size_t i = 0; i < v->word_count; i++) {
		struct slice w = v->words[i];
		if (!slice_eq_nocase(w, SLICE("all")) && !slice_eq_nocase(w, SLICE("ipv4")) &&
			!slice_eq_nocase(w, SLICE("ipv6"))) {
			return refuse(why, w, "all, ipv4, ipv6, or both of these");
		}
	}
	return v->word_count == 0 ? refuse(why, value_text(v), "all, ipv4 or ipv6") : ERR_OK;
}

static enum err check_interfaces(struct conf_value *v, struct buf *why)
{
	struct endpoint e;

	for (size_t i = 0; i < v->word_count; i++) {
		struct slice w = v->words[i];
		if (!slice_eq_nocase(w, SLICE("all")) &&
			!slice_eq_nocase(w, SLICE("loopback-only")) &&
			!slice_eq_nocase(w, SLICE("localhost")) &&
			endpoint_parse_addr(w, 0, &e) != ERR_OK) {
			return refuse(why, w,
				"all, loopback-only, localhost or a list of IP addresses (names "
				"are not looked up)");
		}
	}
	return v->word_count == 0
		       ? refuse(why, value_text(v), "all, loopback-only or a list of addresses")
		       : ERR_OK;
}

static enum err check_bind(struct conf_value *v, struct buf *why, uint8_t family,
	const char *what)
{
	struct slice text = value_text(v);
	struct endpoint e;

	if (text.n == 0 || (endpoint_parse_addr(text, 0, &e) == ERR_OK && e.family == family)) {
		return ERR_OK;
	}
	return refuse(why, text, what);
}

static enum err check_bind4(struct conf_value *v, struct buf *why)
{
	return check_bind(v, why, 4, "an IPv4 address of this host");
}

static enum err check_bind6(struct conf_value *v, struct buf *why)
{
	return check_bind(v, why, 6, "an IPv6 address of this host");
}

static bool port_is_valid(struct slice port)
{
	uint32_t n;

	if (num_parse_u32(port, 65535, &n) == ERR_OK) {
		return n != 0;
	}
	return slice_eq_nocase(port, SLICE("smtp")) ||
	       slice_eq_nocase(port, SLICE("submission"));
}

bool conf_nexthop_is_valid(struct slice text)
{
	struct slice rest = text;
	struct slice host;
	struct endpoint e;

	if (rest.n != 0 && rest.p[0] == '[') {
		size_t n = slice_find(rest, ']');
		if (n == rest.n) {
			return false;
		}
		host = slice_skip(slice_head(rest, n), 1);
		rest = slice_skip(rest, n + 1);
		if (slice_starts_nocase(host, SLICE("ipv6:"))) {
			host = slice_skip(host, 5);
		}
		if (!conf_hostname_is_valid(host) &&
			endpoint_parse_addr(host, 0, &e) != ERR_OK) {
			return false;
		}
	} else {
		size_t n = slice_find(rest, ':');
		host = slice_head(rest, n);
		rest = slice_skip(rest, n);
		if (!conf_hostname_is_valid(host)) {
			return false;
		}
	}
	return rest.n == 0 || (rest.p[0] == ':' && port_is_valid(slice_skip(rest, 1)));
}

static enum err check_relayhost(struct conf_value *v, struct buf *why)
{
	struct slice text = value_text(v);

	/* Postfix allows to say the transport too; there is one. */
	bool has_transport =
		slice_starts(text, SLICE("smtp:")) && !port_is_valid(slice_skip(text, 5));
	if (text.n == 0 || (!has_transport && conf_nexthop_is_valid(text))) {
		return ERR_OK;
	}
	return refuse(why, text,
		"one next hop: domain, domain:port, [host] or [host]:port, the port a number, smtp or "
		"submission");
}

bool conf_transport_is_valid(struct slice value)
{
	size_t colon = slice_find(value, ':');
	struct slice transport = slice_head(value, colon);
	struct slice rest = slice_trim(slice_skip(value, colon + 1));

	if (slice_eq(transport, SLICE("error")) || slice_eq(transport, SLICE("retry")) ||
		slice_eq(transport, SLICE("discard"))) {
		return true;
	}
	if (transport.n != 0 && !slice_eq(transport, SLICE("smtp")) &&
		!slice_eq(transport, SLICE("relay"))) {
		return false;
	}
	return rest.n == 0 || conf_nexthop_is_valid(rest);
}

bool conf_restriction_is_idle(struct slice word)
{
	/* Nobody can log in and there are no domains of ours: these never permit anybody. */
	static const char *const idle[] = {"permit_sasl_authenticated",
		"permit_tls_clientcerts", "permit_tls_all_clientcerts",
		"permit_auth_destination", "permit_mx_backup"};

	for (size_t i = 0; i < ARRAY_LEN(idle); i++) {
		if (slice_eq_nocase(word, slice_from_cstr(idle[i]))) {
			return true;
		}
	}
	return false;
}

static enum err check_restrictions(struct conf_value *v, struct buf *why)
{
	static const char *const known[] = {"permit_mynetworks", "permit", "reject", "defer",
		"reject_unauth_destination", "defer_unauth_destination"};
	bool has_end = false;

	for (size_t i = 0; i < v->word_count;) {
		struct slice w = v->words[i];
		size_t k = 0;
		if (conf_restriction_is_idle(w)) {
			conf_value_drop_word(v, i);
			continue;
		}
		while (k < ARRAY_LEN(known) && !slice_eq_nocase(w, slice_from_cstr(known[k]))) {
			k++;
		}
		if (k == ARRAY_LEN(known)) {
			return refuse(why, w,
				"a list of permit_mynetworks, permit, reject, defer, "
				"reject_unauth_destination, defer_unauth_destination");
		}
		has_end = has_end || k >= 2;
		i++;
	}
	if (!has_end) {
		return refuse(why, value_text(v),
			"a list that holds reject_unauth_destination, defer_unauth_destination, "
			"reject or defer, or everybody could relay");
	}
	return ERR_OK;
}

static bool tls_version_is_valid(struct slice w)
{
	static const char *const names[] = {"SSLv2", "SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1",
		"TLSv1.2", "TLSv1.3"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (slice_eq_nocase(w, slice_from_cstr(names[i]))) {
			return true;
		}
	}
	return false;
}

static enum err check_tls_versions(struct conf_value *v, struct buf *why)
{
	struct slice rest = value_text(v);
	struct slice word;

	while (slice_word(&rest, " \t\r\n,:", &word)) {
		struct slice name = word;
		if (name.n > 2 && (name.p[0] == '<' || name.p[0] == '>') && name.p[1] == '=') {
			name = slice_skip(name, 2);
		} else if (name.p[0] == '!') {
			name = slice_skip(name, 1);
		}
		if (!tls_version_is_valid(name)) {
			return refuse(why, word,
				"a list such as >=TLSv1.2, or >=TLSv1.2, <=TLSv1.3, or !SSLv2, !SSLv3");
		}
	}
	return ERR_OK;
}

static enum err check_level(struct conf_value *v, struct buf *why)
{
	struct slice rest = value_text(v);
	struct slice part;
	uint32_t n;
	size_t count = 0;

	while (slice_cut(&rest, '.', &part)) {
		if (++count > 3 || num_parse_u32(part, UINT32_MAX, &n) != ERR_OK) {
			return refuse(why, value_text(v), "a level such as 3.6");
		}
	}
	return count == 0 ? refuse(why, value_text(v), "a level such as 3.6") : ERR_OK;
}

static enum err check_banner(struct conf_value *v, struct buf *why)
{
	struct slice text = value_text(v);

	for (size_t i = 0; i < text.n; i++) {
		if ((text.p[i] < 0x20 && text.p[i] != '\t') || text.p[i] > 0x7e) {
			return refuse(why, text, "printable ASCII text");
		}
	}
	return text.n > 400 ? refuse(why, text, "at most 400 bytes of text") : ERR_OK;
}

static const struct {
	enum conf_param param;
	enum err (*check)(struct conf_value *v, struct buf *why);
} checks[] = {
	{CONF_compatibility_level, check_level},
	{CONF_myhostname, check_hostname},
	{CONF_mydomain, check_hostname},
	{CONF_myorigin, check_hostname},
	{CONF_smtp_helo_name, check_helo},
	{CONF_mail_name, check_banner},
	{CONF_smtpd_banner, check_banner},
	{CONF_inet_protocols, check_protocols},
	{CONF_inet_interfaces, check_interfaces},
	{CONF_smtp_bind_address, check_bind4},
	{CONF_smtp_bind_address6, check_bind6},
	{CONF_relayhost, check_relayhost},
	{CONF_smtpd_relay_restrictions, check_restrictions},
	{CONF_smtpd_tls_protocols, check_tls_versions},
	{CONF_smtp_tls_protocols, check_tls_versions},
	{CONF_queue_directory, check_path},
	{CONF_data_directory, check_path},
	{CONF_maillog_file, check_log_path},
};

enum err conf_check_value(enum conf_param p, struct conf_value *v, struct buf *why)
{
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		if (checks[i].param == p) {
			return checks[i].check(v, why);
		}
	}
	return ERR_OK;
}

static enum err disagree(struct buf *why, const char *text)
{
	why_add(why, "%s", text);
	return ERR_CONFIG;
}

static bool log_file_is_allowed(const struct conf *c)
{
	struct slice path = conf_text(c, CONF_maillog_file);

	if (path.n == 0) {
		return true;
	}
	for (size_t i = 0; i < conf_list_count(c, CONF_maillog_file_prefixes); i++) {
		struct slice prefix = conf_list_at(c, CONF_maillog_file_prefixes, i);
		while (prefix.n > 1 && prefix.p[prefix.n - 1] == '/') {
			prefix.n--;
		}
		if (slice_starts(path, prefix) &&
			(path.n == prefix.n || prefix.n == 1 || path.p[prefix.n] == '/')) {
			return true;
		}
	}
	return false;
}

enum err conf_check_together(const struct conf *c, struct buf *why)
{
	if (conf_time_s(c, CONF_minimal_backoff_time) >
		conf_time_s(c, CONF_maximal_backoff_time)) {
		return disagree(why,
			"minimal_backoff_time must not be larger than maximal_backoff_time");
	}
	if (conf_count(c, CONF_smtpd_soft_error_limit) >
		conf_count(c, CONF_smtpd_hard_error_limit)) {
		return disagree(why,
			"smtpd_soft_error_limit must not be larger than smtpd_hard_error_limit");
	}
	if (conf_is(c, CONF_smtpd_tls_security_level, "encrypt") &&
		conf_text(c, CONF_smtpd_tls_cert_file).n == 0) {
		return disagree(why,
			"smtpd_tls_security_level = encrypt needs smtpd_tls_cert_file");
	}
	if (!log_file_is_allowed(c)) {
		return disagree(why, "maillog_file must be in one of maillog_file_prefixes");
	}
	if (slice_eq(conf_text(c, CONF_queue_directory), conf_text(c, CONF_data_directory))) {
		return disagree(why, "queue_directory and data_directory must not be the same");
	}
	return ERR_OK;
}
