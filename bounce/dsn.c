/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/dsn.h"

#include <assert.h>
#include <string.h>

#include "bounce/wording.h"
#include "bounce/writer.h"
#include "common/ipc/messages.h"
#include "common/mail/date.h"
#include "common/mail/header.h"

/* The text for people: openings and so many recipients with their replies. */
#define TEXT_MAX ((size_t)DSN_TEXT_RCPTS_MAX * 2 * 8192)
#define MESSAGE_ID_MAX 250u

struct composer {
	const struct dsn *d;
	struct writer w;
	bool is_utf8; /* in the sense of RFC 6533 */
};

/* ---- header ---- */

static bool is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] >= 0x80) {
			return false;
		}
	}
	return true;
}

/* "<id@host>" without blanks or controls: what may be repeated as it is. */
static bool id_is_plain(struct slice id)
{
	if (id.n < 5 || id.n > MESSAGE_ID_MAX || id.p[0] != '<' || id.p[id.n - 1] != '>') {
		return false;
	}
	for (size_t i = 1; i + 1 < id.n; i++) {
		if (id.p[i] <= ' ' || id.p[i] >= 0x7f || id.p[i] == '<' || id.p[i] == '>') {
			return false;
		}
	}
	return true;
}

/* So that mail programs show the notice together with what it is about. */
static void put_references(struct composer *c)
{
	struct slice message = c->d->message;
	struct header_field f;
	size_t head_bytes = 0;
	size_t body_at = 0;

	if (header_split(message, true, &head_bytes, &body_at) != ERR_OK) {
		return;
	}
	struct slice rest = slice_head(message, head_bytes);
	while (header_next(&rest, &f)) {
		struct slice id = slice_trim(f.value);
		if (header_is(&f, "Message-ID") && id_is_plain(id)) {
			writer_text(&c->w, "In-Reply-To: ");
			writer_clean(&c->w, id, false);
			writer_text(&c->w, "\nReferences: ");
			writer_clean(&c->w, id, false);
			writer_text(&c->w, "\n");
			return;
		}
	}
}

static void put_subject(struct composer *c)
{
	uint8_t kind = c->d->kind;

	switch (c->d->language) {
	case DSN_ENGLISH:
		writer_format(&c->w, "Subject: %s\n", wording_english(kind)->subject);
		break;
	case DSN_JAPANESE:
		writer_format(&c->w, "Subject: %s\n", wording_japanese(kind)->subject);
		break;
	case DSN_BOTH:
		writer_format(&c->w, "Subject: %s\n %s\n", wording_english(kind)->subject,
			wording_japanese(kind)->subject);
		break;
	}
}

static void put_header(struct composer *c)
{
	const struct dsn *d = c->d;
	char date[DATE_TEXT_MAX];

	date_format_rfc5322(d->now_s, date);
	writer_format(&c->w, "Date: %s\n", date);
	writer_text(&c->w, "From: Mail Delivery System <MAILER-DAEMON@");
	writer_clean(&c->w, d->hostname, false);
	writer_text(&c->w, ">\nTo: <");
	writer_clean(&c->w, d->sender, c->is_utf8);
	writer_text(&c->w, ">\n");
	put_subject(c);
	writer_format(&c->w, "Message-ID: <%s.notice@", d->token);
	writer_clean(&c->w, d->hostname, false);
	writer_text(&c->w, ">\n");
	put_references(c);
	writer_format(&c->w,
		"Auto-Submitted: auto-replied\n"
		"MIME-Version: 1.0\n"
		"Content-Type: multipart/report; report-type=delivery-status;\n"
		"\tboundary=\"=_%s\"\n\n",
		d->token);
	writer_text(&c->w, "This is a message in MIME format.\n");
}

static void put_boundary(struct composer *c, bool is_last)
{
	writer_format(&c->w, "\n--=_%s%s\n", c->d->token, is_last ? "--" : "");
}

/* ---- for people ---- */

static void say_rcpt(struct writer *w, const struct dsn_rcpt *r, bool utf8)
{
	writer_text(w, "\n<");
	writer_clean(w, r->address, utf8);
	writer_text(w, ">:\n   ");
	if (r->host.n != 0) {
		writer_text(w, " ");
		writer_clean(w, r->host, false);
		if (r->addr.n != 0 && !slice_eq(r->addr, r->host)) {
			writer_text(w, " [");
			writer_clean(w, r->addr, false);
			writer_text(w, "]");
		}
		writer_text(w, ":");
	}
	if (r->smtp_code != 0) {
		writer_format(w, " %u", r->smtp_code);
	}
	writer_text(w, " ");
	writer_folded(w, r->text.n == 0 ? SLICE("(no text)") : r->text, utf8);
	if (r->smtp_code != 0) {
		writer_format(w, "\n    (%s)", smtp_stage_name((enum smtp_stage)r->stage));
	}
	writer_text(w, "\n");
}

static void say(struct writer *w, const struct dsn *d, const struct wording *words, bool utf8)
{
	writer_text(w, words->opening);
	for (size_t i = 0; i < d->rcpt_count && i < DSN_TEXT_RCPTS_MAX; i++) {
		say_rcpt(w, &d->rcpts[i], utf8);
	}
	if (d->rcpt_count > DSN_TEXT_RCPTS_MAX) {
		writer_format(w, "\n(+ %zu)\n", d->rcpt_count - DSN_TEXT_RCPTS_MAX);
	}
	writer_text(w, "\n");
	writer_text(w, words->closing);
}

static void put_text(struct composer *c)
{
	const struct dsn *d = c->d;
	struct buf text;

	if (d->language == DSN_ENGLISH && !c->is_utf8) {
		writer_text(&c->w, "Content-Type: text/plain; charset=us-ascii\n\n");
		say(&c->w, d, wording_english(d->kind), false);
		return;
	}
	/* The lines of the text are told apart by CR LF within the base64 as well. */
	buf_init(&text, TEXT_MAX);
	struct writer w = writer_begin(&text);
	if (d->language != DSN_ENGLISH) {
		say(&w, d, wording_japanese(d->kind), c->is_utf8);
	}
	if (d->language == DSN_BOTH) {
		writer_text(&w, "\n----\n\n");
	}
	if (d->language != DSN_JAPANESE) {
		say(&w, d, wording_english(d->kind), c->is_utf8);
	}
	if (c->w.err == ERR_OK) {
		c->w.err = w.err;
	}
	writer_text(&c->w, "Content-Type: text/plain; charset=utf-8\n"
			   "Content-Transfer-Encoding: base64\n\n");
	writer_base64(&c->w, buf_view(&text));
	buf_clear(&text);
}

/* ---- for programs ---- */

static const char *action_of(uint8_t kind)
{
	static const char *const actions[] = {
		[NOTICE_FAILED] = "failed",
		[NOTICE_EXPIRED] = "failed",
		[NOTICE_DELAYED] = "delayed",
		[NOTICE_RELAYED] = "relayed",
	};

	return actions[kind];
}

/* The class must fit the action (RFC 3464 section 2.3.4); a server's slip is mended. */
static struct enhanced_code status_of(uint8_t kind, const struct dsn_rcpt *r)
{
	struct enhanced_code s = r->status;

	switch (kind) {
	case NOTICE_FAILED:
		s.class = 5;
		break;
	case NOTICE_EXPIRED:
		if (s.class != 4 && s.class != 5) {
			s = (struct enhanced_code){4, 4, 7};
		}
		break;
	case NOTICE_DELAYED:
		s.class = 4;
		break;
	default:
		s.class = 2;
		break;
	}
	return s;
}

/* "rfc822;a@b" has its type in front; it may be anything that the client wrote. */
static void put_original_rcpt(struct composer *c, struct slice orcpt)
{
	size_t n = slice_find(orcpt, ';');

	if (n == 0 || n + 1 >= orcpt.n) {
		return;
	}
	writer_text(&c->w, "Original-Recipient: ");
	writer_clean(&c->w, slice_head(orcpt, n), false);
	writer_text(&c->w, "; ");
	writer_clean(&c->w, slice_skip(orcpt, n + 1), c->is_utf8);
	writer_text(&c->w, "\n");
}

static void put_rcpt(struct composer *c, const struct dsn_rcpt *r)
{
	char status[ENHANCED_TEXT_MAX];
	char date[DATE_TEXT_MAX];

	enhanced_format(status_of(c->d->kind, r), status);
	writer_text(&c->w, "\n");
	put_original_rcpt(c, r->orcpt);
	writer_text(&c->w, is_ascii(r->address) ? "Final-Recipient: rfc822; "
						: "Final-Recipient: utf-8; ");
	writer_clean(&c->w, r->address, c->is_utf8);
	writer_format(&c->w, "\nAction: %s\nStatus: %s\n", action_of(c->d->kind), status);
	if (r->host.n != 0) {
		writer_text(&c->w, "Remote-MTA: dns; ");
		writer_clean(&c->w, r->host, false);
		writer_text(&c->w, "\n");
	}
	if (r->text.n != 0 || r->smtp_code != 0) {
		if (r->smtp_code != 0) {
			writer_format(&c->w, "Diagnostic-Code: smtp; %u ", r->smtp_code);
		} else {
			writer_text(&c->w, "Diagnostic-Code: x-ekiden; ");
		}
		writer_folded(&c->w, r->text.n == 0 ? SLICE("(no text)") : r->text, c->is_utf8);
		writer_text(&c->w, "\n");
	}
	if (r->last_attempt_us != 0) {
		date_format_rfc5322(r->last_attempt_us / 1000000, date);
		writer_format(&c->w, "Last-Attempt-Date: %s\n", date);
	}
}

static void put_status(struct composer *c)
{
	const struct dsn *d = c->d;
	char date[DATE_TEXT_MAX];

	writer_text(&c->w, c->is_utf8 ? "Content-Type: message/global-delivery-status\n"
					"Content-Transfer-Encoding: 8bit\n\n"
				      : "Content-Type: message/delivery-status\n\n");
	if (d->envid.n != 0) {
		writer_text(&c->w, "Original-Envelope-Id: ");
		writer_clean(&c->w, d->envid, false);
		writer_text(&c->w, "\n");
	}
	writer_text(&c->w, "Reporting-MTA: dns; ");
	writer_clean(&c->w, d->hostname, false);
	date_format_rfc5322(d->accepted_us / 1000000, date);
	writer_format(&c->w, "\nArrival-Date: %s\nX-Queue-ID: ", date);
	writer_clean(&c->w, d->queue_id, false);
	writer_text(&c->w, "\n");
	for (size_t i = 0; i < d->rcpt_count; i++) {
		put_rcpt(c, &d->rcpts[i]);
	}
}

/* ---- what is sent back ---- */

/* Takes a line off *rest, without its end and without the dot that was put in front. The last
 * line of what was cut has no end. */
static struct slice take_line(struct slice *rest)
{
	size_t n = 0;

	while (n < rest->n &&
		!(rest->p[n] == '\r' && rest->n - n > 1 && rest->p[n + 1] == '\n')) {
		const uint8_t *cr = memchr(rest->p + n + 1, '\r', rest->n - n - 1);
		n = cr == NULL ? rest->n : (size_t)(cr - rest->p);
	}
	struct slice line = slice_head(*rest, n);
	*rest = slice_skip(*rest, n + 2);
	return line.n != 0 && line.p[0] == '.' ? slice_skip(line, 1) : line;
}

/* What of the message is sent back. */
static struct slice original_of(const struct dsn *d, bool *is_whole)
{
	size_t head_bytes = 0;
	size_t body_at = 0;
	struct slice part = d->message;

	*is_whole = d->original == DSN_ORIGINAL_FULL && part.n <= d->original_max;
	if (!*is_whole) {
		/* Without an end that can be found it is all header. */
		if (header_split(part, true, &head_bytes, &body_at) == ERR_OK) {
			part = slice_head(part, head_bytes);
		}
		part = slice_head(part, d->original_max);
		/* Cut between lines. */
		size_t n = slice_find_last(part, '\n');
		part = slice_head(part, n == part.n ? 0 : n + 1);
	}
	return part;
}

static void put_original(struct composer *c, struct dsn_needs *needs)
{
	bool is_whole = false;
	struct slice rest = original_of(c->d, &is_whole);
	bool in_header = true;
	const char *type;

	if (c->d->original == DSN_ORIGINAL_NONE || rest.n == 0) {
		return;
	}
	bool is_8bit = !is_ascii(rest);
	if (is_whole) {
		type = c->is_utf8 ? "message/global" : "message/rfc822";
	} else {
		type = c->is_utf8 ? "message/global-headers" : "text/rfc822-headers";
	}
	needs->is_8bit = needs->is_8bit || is_8bit;
	put_boundary(c, false);
	writer_format(&c->w, "Content-Type: %s\n%s\n", type,
		is_8bit ? "Content-Transfer-Encoding: 8bit\n" : "");
	while (rest.n != 0) {
		struct slice line = take_line(&rest);
		in_header = in_header && line.n != 0;
		writer_line(&c->w, line, in_header);
	}
}

enum err dsn_compose(const struct dsn *d, struct buf *to, struct dsn_needs *needs)
{
	struct composer c = {.d = d, .w = writer_begin(to)};
	size_t start = buf_len(to);

	assert(d->kind <= NOTICE_RELAYED && d->sender.n != 0);
	c.is_utf8 = d->is_utf8 || !is_ascii(d->sender);
	*needs = (struct dsn_needs){.is_8bit = c.is_utf8, .is_utf8 = c.is_utf8};
	put_header(&c);
	put_boundary(&c, false);
	put_text(&c);
	put_boundary(&c, false);
	put_status(&c);
	put_original(&c, needs);
	put_boundary(&c, true);
	if (c.w.err != ERR_OK) {
		buf_truncate(to, start);
	}
	return c.w.err;
}
