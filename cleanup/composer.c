/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/composer.h"

#include <string.h>

#include "common/base/limits.h"
#include "common/mail/date.h"
#include "common/mail/header.h"

#define ORIGIN_TEXT_MAX 256u

/* ---- reading ---- */

static enum err refuse(struct composer_refusal *why, uint16_t smtp_code, const char *text)
{
	why->smtp_code = smtp_code;
	why->text = text;
	return ERR_SYNTAX;
}

/* ERR_OK: *n is the length of the mailbox file's separator at the beginning of s, 0 when there
 * is none. */
static enum err measure_separator(struct slice s, bool at_end, size_t *n)
{
	static const struct slice words[] = {SLICE_INIT("From "), SLICE_INIT(">From ")};

	*n = 0;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		struct slice word = words[i];

		if (s.n < word.n && !at_end && slice_starts(word, s)) {
			return ERR_AGAIN;
		}
		if (!slice_starts(s, word)) {
			continue;
		}
		/* "From : a@b" is a field, in an old manner of writing. */
		size_t at = word.n;
		while (at < s.n && (s.p[at] == ' ' || s.p[at] == '\t')) {
			at++;
		}
		if (at == s.n) {
			return at_end ? ERR_OK : ERR_AGAIN;
		}
		if (s.p[at] == ':') {
			return ERR_OK;
		}
		const uint8_t *end = memmem(s.p, s.n, "\r\n", 2);
		if (end == NULL) {
			return at_end ? ERR_OK : ERR_AGAIN;
		}
		*n = (size_t)(end - s.p) + 2;
		return ERR_OK;
	}
	return ERR_OK;
}

static enum err skip_separators(struct slice content, bool at_end, size_t *skipped)
{
	size_t n = 0;

	*skipped = 0;
	do {
		enum err e = measure_separator(slice_skip(content, *skipped), at_end, &n);
		*skipped += n;
		if (e == ERR_AGAIN && content.n >= LIMIT_HEADER_BLOCK) {
			return ERR_TOOBIG;
		}
		if (e != ERR_OK) {
			return e;
		}
	} while (n > 0 && *skipped <= LIMIT_HEADER_BLOCK);
	return n > 0 ? ERR_TOOBIG : ERR_OK;
}

/* Fields that must not leave: who else got it, and what only the last server may write. */
static bool goes_out(const struct header_field *f)
{
	return header_is(f, "Bcc") || header_is(f, "Resent-Bcc") || header_is(f, "Return-Path");
}

static enum err read_from(struct composed *c, struct slice value, struct composer_refusal *why)
{
	struct slice address;
	struct slice domain;
	unsigned count = 0;
	enum err e = header_first_address(value, &address, &domain, &count);

	c->from_fields++;
	if (e == ERR_TOOBIG) {
		return refuse(why, 554, "5.6.0 From field too long");
	}
	c->from_addresses += count;
	if (e == ERR_OK && c->from_address.n == 0) {
		c->from_address = address;
		c->from_domain = domain;
	}
	return ERR_OK;
}

static enum err read_field(struct composed *c, const struct header_field *f,
	struct composer_refusal *why)
{
	switch (f->name.n) {
	case 4:
		if (header_is(f, "From")) {
			return read_from(c, f->value, why);
		}
		if (header_is(f, "Date")) {
			c->has_date = true;
		}
		break;
	case 8:
		if (header_is(f, "Received")) {
			c->received++;
		}
		break;
	case 10:
		if (header_is(f, "Message-ID") && !c->has_message_id) {
			c->has_message_id = true;
			c->message_id = slice_trim(f->value);
		}
		break;
	default:
		break;
	}
	return ERR_OK;
}

static enum err keep(struct composed *c, struct slice s, struct composer_refusal *why)
{
	return buf_append(&c->kept, s) == ERR_OK
		       ? ERR_OK
		       : refuse(why, 554, "5.6.0 Message header too long");
}

/* The fields that stay, and the empty line. */
static enum err keep_fields(struct composed *c, struct composer_refusal *why)
{
	struct slice rest = c->fields;
	struct header_field f;
	enum err e = ERR_OK;

	while (e == ERR_OK && header_next(&rest, &f)) {
		if (!goes_out(&f)) {
			e = keep(c, f.raw, why);
		}
	}
	/* The last field of a message without a body may lack its end. */
	struct slice so_far = buf_view(&c->kept);
	if (e == ERR_OK && so_far.n > 0 && !slice_ends_nocase(so_far, SLICE("\r\n"))) {
		e = keep(c, SLICE("\r\n"), why);
	}
	return e == ERR_OK ? keep(c, SLICE("\r\n"), why) : e;
}

enum err composer_read(struct slice content, bool at_end, const struct composer_rules *rules,
	struct composed *out, struct composer_refusal *why)
{
	struct composed c = {0};
	size_t start = 0;
	size_t head_bytes = 0;
	size_t body_at = 0;
	struct header_field f;
	bool changed = false;

	enum err e = skip_separators(content, at_end, &start);
	if (e == ERR_OK) {
		e = header_split(slice_skip(content, start), at_end, &head_bytes, &body_at);
	}
	if (e == ERR_AGAIN) {
		return e;
	}
	if (e != ERR_OK) {
		return refuse(why, 554, "5.6.0 Message header too long");
	}
	c.fields = slice_make(content.p + start, head_bytes);
	c.body_at = start + body_at;
	if (head_bytes > 0 && memchr(c.fields.p, '\0', c.fields.n) != NULL) {
		return refuse(why, 554, "5.6.0 NUL byte in message header");
	}
	struct slice rest = c.fields;
	while (header_next(&rest, &f)) {
		changed = changed || goes_out(&f);
		e = read_field(&c, &f, why);
		if (e != ERR_OK) {
			return e;
		}
	}
	if (c.received > rules->hopcount_limit) {
		return refuse(why, 554, "5.4.6 Too many hops: mail loop?");
	}
	/* Room for a field end and an empty line that the content lacks. */
	buf_init(&c.kept, LIMIT_HEADER_BLOCK + 4);
	c.rest_at = start;
	if (changed || body_at == head_bytes) {
		c.rest_at = c.body_at;
		e = keep_fields(&c, why);
		if (e != ERR_OK) {
			buf_clear(&c.kept);
			return e;
		}
	}
	*out = c;
	return ERR_OK;
}

void composed_clear(struct composed *c)
{
	buf_clear(&c->kept);
}

/* ---- what goes in front ---- */

/* Keeps the first error, so that it is asked for once. */
struct writer {
	struct buf *to;
	enum err err;
};

static void put(struct writer *w, struct slice s)
{
	if (w->err == ERR_OK) {
		w->err = buf_append(w->to, s);
	}
}

static void put_text(struct writer *w, const char *text)
{
	put(w, slice_from_cstr(text));
}

/*
 * What a client said, as part of a field of ours: nothing that could end a line, a comment or
 * the field. keep_8bit: for addresses, which may be UTF-8 (RFC 6531 section 3.7.3).
 */
static void put_clean(struct writer *w, struct slice s, bool keep_8bit)
{
	uint8_t clean[LIMIT_ADDRESS];

	s = slice_head(s, sizeof(clean));
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		bool harmless =
			c > 32 && c < 127 && c != '(' && c != ')' && c != '\\' && c != ';';

		/* In an address those are part of a quoted string; within <> they end nothing.
		 */
		if (keep_8bit) {
			harmless = c >= 32 && c != 127 && c != '<' && c != '>';
		}
		clean[i] = harmless ? c : '?';
	}
	put(w, slice_make(clean, s.n));
}

/* The TLS facts are ours (smtpd's), words with blanks between. */
static void put_words(struct writer *w, struct slice s)
{
	struct slice word;
	bool first = true;

	while (slice_word(&s, " ", &word)) {
		put_text(w, first ? "" : " ");
		put_clean(w, word, false);
		first = false;
	}
}

static void put_received(struct writer *w, const struct composer_rules *rules,
	const struct composer_origin *o, const char *date)
{
	put_text(w, "Received: ");
	if (o->client_addr.n > 0) {
		put_text(w, "from ");
		if (o->helo.n > 0) {
			put_clean(w, o->helo, false);
		} else {
			put_text(w, "unknown");
		}
		put_text(w, " (");
		if (o->client_name.n > 0) {
			put_clean(w, o->client_name, false);
		} else {
			put_text(w, "unknown");
		}
		/* RFC 5321 section 4.1.3. */
		bool is_v6 = slice_find(o->client_addr, ':') < o->client_addr.n &&
			     !slice_starts_nocase(o->client_addr, SLICE("IPv6:"));
		put_text(w, is_v6 ? " [IPv6:" : " [");
		put_clean(w, o->client_addr, false);
		put_text(w, "])\r\n\t");
	}
	put_text(w, "by ");
	put_clean(w, rules->hostname, false);
	put_text(w, " (");
	put_words(w, slice_head(rules->mail_name, ORIGIN_TEXT_MAX));
	put_text(w, ")");
	if (o->protocol.n > 0) {
		put_text(w, " with ");
		put_clean(w, o->protocol, false);
	}
	put_text(w, " id ");
	put_clean(w, o->queue_id, false);
	if (rules->show_tls && o->tls.n > 0) {
		put_text(w, "\r\n\t(");
		put_words(w, o->tls);
		put_text(w, ")");
	}
	if (o->rcpt.n > 0) {
		put_text(w, "\r\n\tfor <");
		put_clean(w, o->rcpt, true);
		put_text(w, ">");
	}
	put_text(w, ";\r\n\t");
	put_text(w, date);
	put_text(w, "\r\n");
}

/* The second of acceptance as digits, then the queue id: unique as that is (RFC 5322
 * section 3.6.4). */
static void put_message_id(struct writer *w, const struct composer_rules *rules,
	const struct composer_origin *o)
{
	char iso[DATE_TEXT_MAX];
	char digits[DATE_TEXT_MAX];
	size_t n = 0;

	date_format_iso(o->wall_s * 1000000, iso);
	for (const char *c = iso; *c != '\0' && *c != '.'; c++) {
		if (*c >= '0' && *c <= '9') {
			digits[n++] = *c;
		}
	}
	put_text(w, "Message-ID: <");
	put(w, slice_make(digits, n));
	put_text(w, ".");
	put_clean(w, o->queue_id, false);
	put_text(w, "@");
	put_clean(w, rules->hostname, false);
	put_text(w, ">\r\n");
}

enum err composer_front(const struct composed *c, const struct composer_rules *rules,
	const struct composer_origin *origin, struct buf *to)
{
	struct writer w = {.to = to, .err = ERR_OK};
	char date[DATE_TEXT_MAX];
	size_t before = buf_len(to);

	date_format_rfc5322(origin->wall_s, date);
	put_received(&w, rules, origin, date);
	if (rules->add_missing && !c->has_message_id) {
		put_message_id(&w, rules, origin);
	}
	if (rules->add_missing && !c->has_date) {
		put_text(&w, "Date: ");
		put_text(&w, date);
		put_text(&w, "\r\n");
	}
	if (w.err != ERR_OK) {
		buf_truncate(to, before);
	}
	return w.err;
}
