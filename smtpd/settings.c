/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "smtpd/settings.h"
#include "smtpd/tls.h"

#define TEXT_MOST ((size_t)4 * 1024 * 1024)
/* message_size_limit = 0 */
#define SIZE_MOST ((uint64_t)16 * 1024 * 1024 * 1024)

static struct slice keep(struct settings *s, struct slice text)
{
	struct slice copy = SLICE_EMPTY;
	bool fits = arena_copy(&s->arena, text, &copy);

	assert(fits); /* parameter values are far below TEXT_MOST */
	return copy;
}

static void keep_cidr(const struct conf *c, enum conf_param p, struct cidr_list *to)
{
	const struct cidr_list *from = conf_cidr(c, p);

	to->count = from->count;
	to->items = alloc_zero(from->count == 0 ? 1 : from->count, sizeof(*to->items));
	if (from->count != 0) {
		memcpy(to->items, from->items, from->count * sizeof(*to->items));
	}
}

static uint32_t count32(const struct conf *c, enum conf_param p)
{
	uint64_t n = conf_count(c, p);

	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static void keep_destinations(struct settings *s, const struct conf *c)
{
	size_t count = conf_list_count(c, CONF_mydestination);

	s->destinations = alloc_zero(count == 0 ? 1 : count, sizeof(*s->destinations));
	s->destination_count = count;
	for (size_t i = 0; i < count; i++) {
		s->destinations[i] = keep(s, conf_list_at(c, CONF_mydestination, i));
	}
}

static const char *const rule_words[] = {
	[RELAY_PERMIT_MYNETWORKS] = "permit_mynetworks",
	[RELAY_PERMIT] = "permit",
	[RELAY_REJECT] = "reject",
	[RELAY_DEFER] = "defer",
	[RELAY_REJECT_UNAUTH] = "reject_unauth_destination",
	[RELAY_DEFER_UNAUTH] = "defer_unauth_destination",
};
static_assert(ARRAY_LEN(rule_words) == RELAY_RULE_COUNT, "one word a rule");

static enum err keep_relay_rules(struct settings *s, const struct conf *c, struct buf *why)
{
	for (size_t i = 0; i < conf_list_count(c, CONF_smtpd_relay_restrictions); i++) {
		struct slice word = conf_list_at(c, CONF_smtpd_relay_restrictions, i);
		size_t rule = 0;
		while (rule < RELAY_RULE_COUNT &&
			!slice_eq_nocase(word, slice_from_cstr(rule_words[rule]))) {
			rule++;
		}
		if (rule == RELAY_RULE_COUNT || s->relay_count == RELAY_RULES_MOST) {
			enum err e = buf_printf(why,
				"smtpd_relay_restrictions: \"%.*s\" is unknown or one too many",
				SLICE_ARG(slice_head(word, 100)));
			(void)e;
			return ERR_CONFIG;
		}
		s->relay[s->relay_count++] = (enum relay_rule)rule;
	}
	return ERR_OK;
}

static bool is_discarded(const struct conf *c, const char *keyword)
{
	for (size_t i = 0; i < conf_list_count(c, CONF_smtpd_discard_ehlo_keywords); i++) {
		if (slice_eq_nocase(conf_list_at(c, CONF_smtpd_discard_ehlo_keywords, i),
			    slice_from_cstr(keyword))) {
			return true;
		}
	}
	return false;
}

/* The whole reply to EHLO. */
static struct slice ehlo_reply(struct settings *s, const struct conf *c, bool with_tls)
{
	static const char *const keywords[] = {"PIPELINING", "SIZE", "STARTTLS",
		"ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8"};
	struct buf text;
	size_t last = 0;

	buf_init(&text, 4096);
	enum err e = buf_printf(&text, "250-%.*s\r\n", SLICE_ARG(s->hostname));
	for (size_t i = 0; i < ARRAY_LEN(keywords) && e == ERR_OK; i++) {
		bool is_tls = slice_eq(slice_from_cstr(keywords[i]), SLICE("STARTTLS"));
		bool is_size = slice_eq(slice_from_cstr(keywords[i]), SLICE("SIZE"));
		if (is_discarded(c, keywords[i]) || (is_tls && !with_tls)) {
			continue;
		}
		last = buf_len(&text);
		e = is_size ? buf_printf(&text, "250-SIZE %llu\r\n",
				      (unsigned long long)s->size_limit)
			    : buf_printf(&text, "250-%s\r\n", keywords[i]);
	}
	assert(e == ERR_OK);
	text.data[text.start + last + 3] = ' ';
	struct slice kept = keep(s, buf_view(&text));
	buf_clear(&text);
	return kept;
}

static void keep_replies(struct settings *s, const struct conf *c)
{
	struct buf text;

	buf_init(&text, 4096);
	enum err e = buf_printf(&text, "220 %.*s\r\n",
		SLICE_ARG(slice_head(conf_text(c, CONF_smtpd_banner), 500)));
	assert(e == ERR_OK);
	s->greeting = keep(s, buf_view(&text));
	buf_reset(&text);
	e = buf_printf(&text, "250 %.*s\r\n", SLICE_ARG(s->hostname));
	assert(e == ERR_OK);
	s->helo = keep(s, buf_view(&text));
	buf_clear(&text);
	s->ehlo = ehlo_reply(s, c, s->tls != NULL);
	s->ehlo_tls = ehlo_reply(s, c, false);
}

static void keep_limits(struct settings *s, const struct conf *c)
{
	s->rcpt_limit = count32(c, CONF_smtpd_recipient_limit);
	s->soft_error_limit = count32(c, CONF_smtpd_soft_error_limit);
	s->hard_error_limit = count32(c, CONF_smtpd_hard_error_limit);
	s->junk_limit = count32(c, CONF_smtpd_junk_command_limit);
	s->message_limit = count32(c, CONF_smtpd_transaction_limit);
	s->client_limit = count32(c, CONF_smtpd_client_connection_count_limit);
	s->connection_limit = count32(c, CONF_smtpd_connection_limit);
	s->size_limit = conf_count(c, CONF_message_size_limit);
	if (s->size_limit == 0) {
		s->size_limit = SIZE_MOST;
	}
	s->min_rate = conf_count(c, CONF_smtpd_min_data_rate);
	s->idle_ms = conf_time_ms(c, CONF_smtpd_timeout);
	s->command_ms = conf_time_ms(c, CONF_smtpd_command_time_limit);
	s->data_ms = conf_time_ms(c, CONF_smtpd_data_time_limit);
	s->tls_ms = conf_time_ms(c, CONF_smtpd_starttls_timeout);
	s->error_delay_ms = conf_time_ms(c, CONF_smtpd_error_sleep_time);
}

static enum err fill(struct settings *s, const struct conf *c, struct buf *why)
{
	struct slice origin = conf_text(c, CONF_myorigin);
	enum err e = keep_relay_rules(s, c, why);

	if (e == ERR_OK) {
		e = tls_context_new(c, why, &s->tls);
	}
	if (e != ERR_OK) {
		return e;
	}
	s->needs_tls = conf_is(c, CONF_smtpd_tls_security_level, "encrypt");
	s->hostname = keep(s, slice_head(conf_text(c, CONF_myhostname), LIMIT_HOSTNAME));
	if (origin.n == 0 || origin.p[0] == '/') {
		origin = s->hostname;
	}
	s->origin = keep(s, origin);
	keep_cidr(c, CONF_mynetworks, &s->mynetworks);
	keep_cidr(c, CONF_smtpd_client_event_limit_exceptions, &s->uncounted);
	keep_destinations(s, c);
	s->suppression = conf_is(c, CONF_suppression_action, "off")       ? SUPPRESSION_OFF
			 : conf_is(c, CONF_suppression_action, "discard") ? SUPPRESSION_DISCARD
									  : SUPPRESSION_REJECT;
	s->needs_helo = conf_bool(c, CONF_smtpd_helo_required);
	/* "no" is Postfix's word for passing them on as they are, which nobody here does. */
	s->rejects_bare = conf_is(c, CONF_smtpd_forbid_bare_newline, "reject");
	s->forbids_pipelining = conf_bool(c, CONF_smtpd_forbid_unauth_pipelining);
	s->has_vrfy = !conf_bool(c, CONF_disable_vrfy_command);
	keep_limits(s, c);
	keep_replies(s, c);
	return ERR_OK;
}

/* The configuration with the options in place of what it says; null: as it is. */
static enum err override(const struct conf *c, struct slice listener, struct slice options,
	struct buf *why, struct conf **out)
{
	struct conf_builder *b = NULL;
	struct slice line;
	enum err e = ERR_OK;

	*out = NULL;
	while (e == ERR_OK && slice_cut(&options, '\n', &line)) {
		size_t at = slice_find(line, '=');
		struct slice name = slice_trim(slice_head(line, at));
		if (name.n == 0) {
			continue;
		}
		if (b == NULL) {
			b = conf_builder_copy(c);
		}
		e = conf_builder_set(b, name, slice_trim(slice_skip(line, at + 1)), why);
		if (e == ERR_NOTFOUND) {
			log_warn("event=option listener=%s name=%s what=\"no such parameter\"",
				LOG_TEXT(listener), LOG_TEXT(name));
			buf_reset(why);
			e = ERR_OK;
		}
	}
	if (b != NULL && e == ERR_OK) {
		return conf_builder_end(&b, why, out);
	}
	conf_builder_free(&b);
	return e;
}

enum err settings_new(const struct conf *c, struct slice listener, struct slice options,
	struct buf *why, struct settings **out)
{
	struct conf *own = NULL;
	struct settings *s = NULL;
	enum err e = override(c, listener, options, why, &own);

	if (e != ERR_OK) {
		return e;
	}
	s = alloc_zero(1, sizeof(*s));
	s->users = 1;
	arena_init(&s->arena, TEXT_MOST);
	s->listener = keep(s, slice_head(listener, LIMIT_NAME));
	e = fill(s, own != NULL ? own : c, why);
	conf_free(&own);
	if (e != ERR_OK) {
		settings_free(&s);
		return e;
	}
	*out = s;
	return ERR_OK;
}

struct settings *settings_share(struct settings *s)
{
	s->users++;
	return s;
}

void settings_free(struct settings **s)
{
	struct settings *it = *s;

	*s = NULL;
	if (it == NULL || --it->users != 0) {
		return;
	}
	tls_context_free(&it->tls);
	free(it->mynetworks.items);
	free(it->uncounted.items);
	free(it->destinations);
	arena_clear(&it->arena);
	free(it);
}
