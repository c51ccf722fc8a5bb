/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/classify.h"

#include <string.h>

#include "common/base/attr.h"
#include "common/base/limits.h"

/*
 * Words by which a server speaks of us, of the message, of its own state or of a mailbox that
 * is there. One of them is enough to say no, whatever else the reply says.
 */
static const char *const living[] = {
	/* reputation, lists, content */
	"spam",
	"blocked",
	"block list",
	"blocklist",
	"blacklist",
	"black list",
	"blackhole",
	" rbl",
	"dnsbl",
	"listed",
	"banned",
	"reputation",
	"policy",
	"policies",
	"unsolicited",
	"virus",
	"malware",
	"phish",
	"content",
	"filter",
	"suspicious",
	"abuse",
	"whitelist",
	"allowlist",
	"confirm",
	"greylist",
	"graylist",
	"http://",
	"https://",
	/* who we are, or the sender is */
	"spf",
	"dkim",
	"dmarc",
	"authentic",
	"authoriz",
	"authoris",
	"relay",
	"client host",
	"your host",
	"your ip",
	"your server",
	"ip address",
	"sender",
	"verif",
	"callout",
	"callback",
	"envelope from",
	"mail from",
	"reverse dns",
	"helo",
	" tls",
	/* the state of a mailbox or of the server */
	"quota",
	" full",
	"storage",
	"over limit",
	"exceed",
	"too large",
	"too big",
	" size",
	"suspend",
	"disabled",
	"inactive",
	"locked",
	"expired",
	"temporar",
	"try again",
	"try later",
	"too many",
	" rate",
	"rate limit",
	"busy",
	"unavailable for",
	"not available",
	"maintenance",
	/* domains and routes: what is wrong there is not the mailbox */
	"such domain",
	"domain does",
	"domain not",
	"domain is",
	"unknown domain",
	"domain unknown",
	"host unknown",
	"unknown host",
	"invalid domain",
	"recipient domain",
	"rcpthosts",
	"routing",
	"user reject",
	"rejected by user",
	"does not want",
};

/* Words that say so, at RCPT. */
static const char *const dead[] = {
	"user unknown",
	"unknown user",
	"unknown local",
	"user not found",
	"no such user",
	"user does not exist",
	"user doesn't exist",
	"user not exist",
	"user doesn't have",
	"not a valid user",
	"invalid user",
	"unknown recipient",
	"recipient unknown",
	"recipient not found",
	"no such recipient",
	"invalid recipient",
	"recipient no longer",
	"recipient does not exist",
	"recipient doesn't exist",
	"recipient is not exist",
	"recipnotfound",
	"recipientnotfound",
	"unknown address",
	"address unknown",
	"address does not exist",
	"address doesn't exist",
	"invalid address",
	"no such address",
	"account does not exist",
	"account doesn't exist",
	"no such account",
	"account that you tried to reach does not exist",
	"no mailbox",
	"no mail box",
	"no such mailbox",
	"mailbox not found",
	"mail-box not found",
	"mailbox does not exist",
	"mailbox doesn't exist",
	"invalid mailbox",
	"unknown mailbox",
	"unknown or illegal alias",
	"not our customer",
	"no such person",
	"has been replaced",
	"no longer on server",
};

/* These say it only where nothing else is spoken of: names, hosts and records of the DNS, ours
 * among them, do not exist in the same words. */
static const char *const absent[] = {"does not exist", "doesn't exist", "has moved"};
static const char *const places[] = {"domain", "host", "dns", "record", "ptr", "lookup",
	"look up", "reverse", "server", "name", "mx ", " ip"};

/*
 * An enhanced code that speaks of something else (policy, the state of the mailbox, the
 * sender's address) says no, whatever the words say.
 */
static bool is_of_recipient(struct enhanced_code s)
{
	switch (s.subject) {
	case 0:
		return true;
	case 1:
		return s.detail == 0 || s.detail == 1 || s.detail == 3 || s.detail == 6 ||
		       s.detail == 10;
	default:
		return false;
	}
}

/* Enhanced codes that say so, at RCPT and, for one recipient alone, after the content. */
static bool is_dead_status(struct enhanced_code s)
{
	return s.class == 5 && s.subject == 1 &&
	       (s.detail == 1 || s.detail == 6 || s.detail == 10);
}

#define FOLDED_MAX (LIMIT_REPLY_TEXT + 1)

/*
 * Lower case, controls as blanks, a blank in front. Addresses are blanked out: what somebody is
 * called says nothing about him.
 */
static struct slice fold(struct slice text, char to[FOLDED_MAX])
{
	size_t n = text.n < LIMIT_REPLY_TEXT ? text.n : LIMIT_REPLY_TEXT;
	size_t word = 1; /* where the word began */
	bool is_address = false;

	to[0] = ' ';
	for (size_t i = 0; i < n; i++) {
		uint8_t c = ascii_lower(text.p[i]);
		to[i + 1] = (char)(c < 0x20 ? (uint8_t)' ' : c);
		is_address = is_address || c == '@';
		if (to[i + 1] == ' ' || i + 1 == n) {
			if (is_address) {
				memset(&to[word], ' ', i + 2 - word);
			}
			word = i + 2;
			is_address = false;
		}
	}
	return slice_make(to, n + 1);
}

static bool has(struct slice text, const char *words)
{
	struct slice w = slice_from_cstr(words);

	return w.n <= text.n && memmem(text.p, text.n, w.p, w.n) != NULL;
}

static bool has_any(struct slice text, const char *const *table, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (has(text, table[i])) {
			return true;
		}
	}
	return false;
}

/* Behind an enhanced code at the beginning, if there is one. */
static struct slice words_of(struct slice text)
{
	struct enhanced_code code;
	struct slice rest = slice_trim(text);

	(void)enhanced_parse(rest, &code, &rest);
	return slice_trim(rest);
}

/* Microsoft's edge answers this for addresses that are not in the directory, and only at RCPT.
 */
static bool is_edge_reject(const struct failure *f, struct slice text)
{
	return f->status.class == 5 && f->status.subject == 4 && f->status.detail == 1 &&
	       has(text, "recipient address rejected: access denied");
}

static bool says_dead(struct slice text)
{
	return has_any(text, dead, ARRAY_LEN(dead)) ||
	       (has_any(text, absent, ARRAY_LEN(absent)) &&
		       !has_any(text, places, ARRAY_LEN(places)));
}

bool classify_is_dead_address(const struct failure *f)
{
	char folded[FOLDED_MAX];

	if (f->smtp_code < 500 || f->smtp_code > 599) {
		return false;
	}
	if (f->stage != STAGE_RCPT && f->stage != STAGE_END_OF_DATA) {
		return false;
	}
	struct slice text = fold(f->text, folded);
	struct slice words = words_of(f->text);
	if (has_any(text, living, ARRAY_LEN(living))) {
		return false;
	}
	/* au: ": User unknown", without the address, is the user's filter. */
	if (words.n != 0 && words.p[0] == ':') {
		return false;
	}
	if (f->stage == STAGE_END_OF_DATA) {
		/* One answer for all recipients says nothing about one of them. */
		return !f->is_shared && is_dead_status(f->status);
	}
	if (is_dead_status(f->status)) {
		return true;
	}
	if (f->smtp_code != 550 && f->smtp_code != 551 && f->smtp_code != 553) {
		return false;
	}
	return (is_of_recipient(f->status) && says_dead(text)) || is_edge_reject(f, text);
}
