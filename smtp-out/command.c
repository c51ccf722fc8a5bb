/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/command.h"

#include "common/base/utf8.h"
#include "common/ipc/messages.h"
#include "common/mail/params.h"

/* A line that is being written: keeps its first error, is taken back whole. */
struct line {
	struct buf *to;
	size_t start;
	enum err err;
};

static void put(struct line *l, struct slice s)
{
	if (l->err == ERR_OK && s.n > 0) {
		l->err = buf_append(l->to, s);
	}
}

/* No controls (RFC 5321 section 4.1.2), so no line end either; what would end the path only
 * between quotes. */
static void put_address(struct line *l, struct slice s)
{
	bool quoted = false;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		if (c < 0x20 || c == 0x7f || (!quoted && (c == ' ' || c == '<' || c == '>'))) {
			l->err = ERR_SYNTAX;
			return;
		}
		if (c == '"') {
			quoted = !quoted;
		} else if (quoted && c == '\\') {
			i++;
			if (i == s.n || s.p[i] < 0x20 || s.p[i] == 0x7f) {
				l->err = ERR_SYNTAX;
				return;
			}
		}
	}
	if (quoted) {
		l->err = ERR_SYNTAX;
		return;
	}
	put(l, s);
}

static void put_xtext(struct line *l, struct slice s)
{
	char text[3 * LIMIT_ORCPT];
	size_t n = 0;

	if (l->err == ERR_OK) {
		l->err = xtext_encode(s, text, sizeof(text), &n);
	}
	put(l, slice_make(text, n));
}

static enum err line_end(struct line *l)
{
	put(l, SLICE("\r\n"));
	if (l->err != ERR_OK) {
		buf_truncate(l->to, l->start);
	}
	return l->err;
}

static void put_number(struct line *l, uint64_t n)
{
	uint8_t digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (uint8_t)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	put(l, slice_make(digits + at, sizeof(digits) - at));
}

enum err command_mail(struct buf *to, const struct job *j, const struct ehlo *e,
	struct command_needs needs)
{
	struct line l = {.to = to, .start = buf_len(to), .err = ERR_OK};

	put(&l, SLICE("MAIL FROM:<"));
	put_address(&l, j->sender);
	put(&l, SLICE(">"));
	if ((e->offers & OFFER_SIZE) != 0) {
		put(&l, SLICE(" SIZE="));
		put_number(&l, needs.bytes);
	}
	if (needs.body_8bit) {
		put(&l, SLICE(" BODY=8BITMIME"));
	}
	if (needs.smtputf8) {
		put(&l, SLICE(" SMTPUTF8"));
	}
	if ((e->offers & OFFER_DSN) != 0) {
		if (j->ret != RET_DEFAULT) {
			put(&l, j->ret == RET_FULL ? SLICE(" RET=FULL") : SLICE(" RET=HDRS"));
		}
		if (j->envid.n > 0) {
			put(&l, SLICE(" ENVID="));
			put_xtext(&l, j->envid);
		}
	}
	return line_end(&l);
}

static void put_notify(struct line *l, uint8_t notify)
{
	static const struct {
		uint8_t bit;
		struct slice word;
	} words[] = {
		{NOTIFY_SUCCESS, SLICE_INIT("SUCCESS")},
		{NOTIFY_FAILURE, SLICE_INIT("FAILURE")},
		{NOTIFY_DELAY, SLICE_INIT("DELAY")},
	};
	bool is_first = true;

	put(l, SLICE(" NOTIFY="));
	if ((notify & NOTIFY_NEVER) != 0) {
		put(l, SLICE("NEVER"));
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if ((notify & words[i].bit) != 0) {
			put(l, is_first ? SLICE_EMPTY : SLICE(","));
			put(l, words[i].word);
			is_first = false;
		}
	}
}

/* "\x{1F600}" (RFC 6533 section 3), of two digits at least. */
static void put_code(struct line *l, uint32_t code)
{
	static const char hex[] = "0123456789ABCDEF";
	char text[16] = "\\x{";
	size_t n = 3;
	int shift = 20;

	while (shift > 4 && code >> shift == 0) {
		shift -= 4;
	}
	for (; shift >= 0; shift -= 4) {
		text[n++] = hex[code >> shift & 15];
	}
	text[n++] = '}';
	put(l, slice_make(text, n));
}

/*
 * The address of an ORCPT of type utf-8 (RFC 6533 section 3): beyond ASCII as it is where
 * SMTPUTF8 is spoken, else as its code; what ASCII must be quoted always so.
 */
static void put_utf8_address(struct line *l, struct slice s, bool smtputf8)
{
	while (s.n > 0 && l->err == ERR_OK) {
		uint32_t c = 0;
		size_t n = utf8_take(s, &c);

		if (n == 0 || utf8_is_control(c)) {
			l->err = ERR_SYNTAX;
		} else if (n == 1 ? c != ' ' && c != '+' && c != '=' && c != '\\' : smtputf8) {
			put(l, slice_head(s, n));
		} else {
			put_code(l, c);
		}
		s = slice_skip(s, n);
	}
}

/* An ORCPT that cannot be told is left out: the message matters more. */
static void put_orcpt(struct line *l, struct slice orcpt, bool smtputf8)
{
	size_t n = slice_find(orcpt, ';');
	struct slice type = slice_head(orcpt, n);
	struct slice address = slice_skip(orcpt, n + 1);
	size_t before = buf_len(l->to);

	if (l->err != ERR_OK || n == 0 || address.n == 0) {
		return;
	}
	put(l, SLICE(" ORCPT="));
	for (size_t i = 0; i < type.n; i++) {
		uint8_t c = type.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '=' || c == '+') {
			l->err = ERR_SYNTAX;
		}
	}
	put(l, type);
	put(l, SLICE(";"));
	if (slice_eq_nocase(type, SLICE("utf-8"))) {
		put_utf8_address(l, address, smtputf8);
	} else {
		put_xtext(l, address);
	}
	if (l->err != ERR_OK) {
		l->err = ERR_OK;
		buf_truncate(l->to, before);
	}
}

enum err command_rcpt(struct buf *to, const struct job *j, uint32_t rcpt, const struct ehlo *e,
	bool smtputf8)
{
	const struct job_rcpt *r = &j->rcpts[rcpt];
	struct line l = {.to = to, .start = buf_len(to), .err = ERR_OK};

	put(&l, SLICE("RCPT TO:<"));
	put_address(&l, r->address);
	put(&l, SLICE(">"));
	if ((e->offers & OFFER_DSN) != 0) {
		if (r->notify != 0) {
			put_notify(&l, r->notify);
		}
		if (r->orcpt.n > 0) {
			put_orcpt(&l, r->orcpt, smtputf8);
		}
	}
	return line_end(&l);
}
