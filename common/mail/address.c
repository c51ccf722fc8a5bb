/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/mail/address.h"

#define LABEL_MAX ((size_t)63)
/* RFC 5321 section 4.5.3.1.3, brackets included. */
#define PATH_MAX_BYTES ((size_t)256)

/* ---- characters ---- */

enum {
	IS_ATEXT = 1, /* RFC 5322 section 3.2.3 */
	IS_LDH = 2,   /* letters, digits, hyphen; and the underscore, which names in use have */
	IS_QTEXT = 4  /* qtextSMTP of RFC 5321 section 4.1.2 */
};

static unsigned kind_of(uint8_t c)
{
	unsigned kind = 0;

	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
		return IS_ATEXT | IS_LDH | IS_QTEXT;
	}
	if (c < 0x20 || c > 0x7e) {
		return 0;
	}
	if (c == '-' || c == '_') {
		kind |= IS_LDH;
	}
	if (c != '"' && c != '\\') {
		kind |= IS_QTEXT;
	}
	switch (c) {
	case '!':
	case '#':
	case '$':
	case '%':
	case '&':
	case '\'':
	case '*':
	case '+':
	case '-':
	case '/':
	case '=':
	case '?':
	case '^':
	case '_':
	case '`':
	case '{':
	case '|':
	case '}':
	case '~':
		kind |= IS_ATEXT;
		break;
	default:
		break;
	}
	return kind;
}

/*
 * Characters that no mailbox needs and that deceive whoever looks at a list of addresses: C1
 * controls, invisible ones, line and paragraph separators, changes of writing direction.
 */
static bool is_deceptive(uint32_t c)
{
	return c <= 0x9f || c == 0xad || c == 0x200b || c == 0x200e || c == 0x200f ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
	       (c >= 0xfff0 && c <= 0xfffb) || (c & 0xfffe) == 0xfffe ||
	       (c >= 0xe0000 && c <= 0xe007f);
}

/* Also what looks like a letter, digit, dot or at sign of ASCII and would be folded to one. */
static bool is_unfit_for_domain(uint32_t c)
{
	return is_deceptive(c) || c == 0x3002 || (c >= 0xff01 && c <= 0xff61) || c == 0x3000 ||
	       c == 0xa0 || (c >= 0x2000 && c <= 0x200a) || c == 0x2024 || c == 0xfe52 ||
	       c == 0xfe6b;
}

/* The character beyond ASCII at the front of s: its length, or 0 and *fault. */
static size_t take_utf8(struct slice s, unsigned allowed, bool is_domain,
	enum address_fault *fault)
{
	uint32_t code = 0;
	size_t n = utf8_take(s, &code);

	if ((allowed & ADDRESS_UTF8) == 0 || n == 0 ||
		(is_domain ? is_unfit_for_domain(code) : is_deceptive(code))) {
		*fault = ADDRESS_NEEDS_UTF8;
		return 0;
	}
	return n;
}

/* ---- parts of an address ---- */

/* A quoted string at the front of s; *n is its length with both quotes. */
static enum address_fault take_quoted(struct slice s, unsigned allowed, size_t *n)
{
	enum address_fault fault = ADDRESS_BAD_LOCAL;
	size_t i = 1;

	while (i < s.n && s.p[i] != '"') {
		if (s.p[i] >= 0x80) {
			size_t k = take_utf8(slice_skip(s, i), allowed, false, &fault);
			if (k == 0) {
				return fault;
			}
			i += k;
			continue;
		}
		if (s.p[i] == '\\') {
			i++;
			if (i == s.n || s.p[i] < 0x20 || s.p[i] > 0x7e) {
				return ADDRESS_BAD_LOCAL;
			}
		} else if ((kind_of(s.p[i]) & IS_QTEXT) == 0) {
			return ADDRESS_BAD_LOCAL;
		}
		i++;
	}
	/* An empty quoted string is grammar, but no mailbox. */
	if (i == s.n || i == 1) {
		return ADDRESS_BAD_LOCAL;
	}
	*n = i + 1;
	return ADDRESS_FINE;
}

/* Atoms with dots between them, as far as they go. */
static enum address_fault take_dot_string(struct slice s, unsigned allowed, size_t *n)
{
	enum address_fault fault = ADDRESS_BAD_LOCAL;
	bool is_lax = (allowed & ADDRESS_LAX_DOTS) != 0;
	bool has_atom = false;
	bool after_dot = true; /* or at the beginning */
	size_t i = 0;

	while (i < s.n) {
		uint8_t c = s.p[i];
		size_t k = 1;
		if (c == '.') {
			if (after_dot && !is_lax) {
				return ADDRESS_BAD_LOCAL;
			}
			after_dot = true;
			i++;
			continue;
		}
		if (c >= 0x80) {
			k = take_utf8(slice_skip(s, i), allowed, false, &fault);
			if (k == 0) {
				return fault;
			}
		} else if ((kind_of(c) & IS_ATEXT) == 0) {
			break;
		}
		after_dot = false;
		has_atom = true;
		i += k;
	}
	if (!has_atom || (after_dot && !is_lax)) {
		return ADDRESS_BAD_LOCAL;
	}
	*n = i;
	return ADDRESS_FINE;
}

/* A domain name at the front of s, as far as its characters go. */
static enum address_fault take_name(struct slice s, unsigned allowed, size_t *n)
{
	enum address_fault fault = ADDRESS_BAD_DOMAIN;
	bool is_too_long = false;
	size_t label = 0; /* characters of it so far */
	size_t i = 0;

	while (i < s.n) {
		uint8_t c = s.p[i];
		size_t k = 1;
		if (c == '.') {
			if (label == 0 || s.p[i - 1] == '-') {
				return ADDRESS_BAD_DOMAIN;
			}
			label = 0;
			i++;
			continue;
		}
		if (c >= 0x80) {
			/* A U-label is counted in characters: its A-label has yet to be made.
			 */
			k = take_utf8(slice_skip(s, i), allowed, true, &fault);
			if (k == 0) {
				return fault;
			}
		} else if ((kind_of(c) & IS_LDH) == 0) {
			break;
		}
		if (c == '-' && label == 0) {
			return ADDRESS_BAD_DOMAIN;
		}
		label++;
		is_too_long = is_too_long || label > LABEL_MAX;
		i += k;
	}
	if (label == 0 || s.p[i - 1] == '-') {
		return ADDRESS_BAD_DOMAIN;
	}
	*n = i;
	return is_too_long || i > LIMIT_HOSTNAME ? ADDRESS_TOO_LONG : ADDRESS_FINE;
}

/* Whether text, without brackets and tag, is an address of the family. */
static bool is_ip(int family, struct slice text)
{
	char copy[INET6_ADDRSTRLEN + 1];
	struct in6_addr addr;

	return text.n < sizeof(copy) && str_copy(copy, sizeof(copy), text) == ERR_OK &&
	       inet_pton(family, copy, &addr) == 1;
}

bool domain_is_literal(struct slice domain)
{
	if (domain.n < 3 || domain.p[0] != '[' || domain.p[domain.n - 1] != ']') {
		return false;
	}
	struct slice inner = {domain.p + 1, domain.n - 2};
	if (slice_starts_nocase(inner, SLICE("IPv6:"))) {
		return is_ip(AF_INET6, slice_skip(inner, 5));
	}
	return is_ip(AF_INET, inner);
}

static enum address_fault take_domain(struct slice s, unsigned allowed, size_t *n)
{
	if (s.n == 0 || s.p[0] != '[') {
		return take_name(s, allowed, n);
	}
	/* Longer than any literal is none, however far the bracket is. */
	size_t end = slice_find(slice_head(s, 64), ']');
	if (end >= s.n || s.p[end] != ']' || !domain_is_literal(slice_head(s, end + 1))) {
		return ADDRESS_BAD_DOMAIN;
	}
	*n = end + 1;
	return ADDRESS_FINE;
}

bool domain_is_valid(struct slice domain, unsigned allowed)
{
	size_t n = 0;

	return take_name(domain, allowed, &n) == ADDRESS_FINE && n == domain.n;
}

bool helo_is_valid(struct slice name)
{
	if (name.n == 0 || name.n > LIMIT_HOSTNAME) {
		return false;
	}
	if (name.p[0] == '[') {
		struct slice inner = slice_head(slice_skip(name, 1), name.n - 2);
		/* Many clients forget the tag of an IPv6 literal. */
		return domain_is_literal(name) ||
		       (name.p[name.n - 1] == ']' && is_ip(AF_INET6, inner));
	}
	bool is_ldh = true;
	for (size_t i = 0; i < name.n && is_ldh; i++) {
		is_ldh = name.p[i] == '.' || (kind_of(name.p[i]) & IS_LDH) != 0;
	}
	return is_ldh || domain_is_valid(name, ADDRESS_UTF8);
}

/* ---- whole addresses ---- */

/* A mailbox at the front of s: as far as its grammar goes. */
static enum address_fault take_mailbox(struct slice s, unsigned allowed, struct address *out)
{
	enum address_fault fault;
	size_t local = 0;
	size_t domain = 0;

	if (s.n != 0 && s.p[0] == '"') {
		fault = take_quoted(s, allowed, &local);
	} else {
		fault = take_dot_string(s, allowed, &local);
	}
	if (fault != ADDRESS_FINE) {
		return fault;
	}
	if (local == s.n || s.p[local] != '@') {
		if ((allowed & ADDRESS_NO_DOMAIN) == 0) {
			/* An end in the middle of it, or a character that a local part cannot
			 * hold. */
			return local == s.n || s.p[local] == '>' ? ADDRESS_BAD_SYNTAX
								 : ADDRESS_BAD_LOCAL;
		}
		*out = (struct address){.text = slice_head(s, local),
			.local = slice_head(s, local),
			.domain = SLICE_EMPTY};
		return local > LIMIT_LOCAL_PART ? ADDRESS_TOO_LONG : ADDRESS_FINE;
	}
	fault = take_domain(slice_skip(s, local + 1), allowed, &domain);
	if (fault != ADDRESS_FINE) {
		return fault;
	}
	*out = (struct address){
		.text = slice_head(s, local + 1 + domain),
		.local = slice_head(s, local),
		.domain = slice_head(slice_skip(s, local + 1), domain),
	};
	return local > LIMIT_LOCAL_PART ? ADDRESS_TOO_LONG : ADDRESS_FINE;
}

/* "@x,@y:" at the front of s, which begins with an at sign. */
static enum address_fault take_route(struct slice s, unsigned allowed, size_t *n)
{
	size_t i = 0;

	for (;;) {
		size_t domain = 0;
		if (i == s.n || s.p[i] != '@') {
			return ADDRESS_BAD_SYNTAX;
		}
		i++;
		enum address_fault fault = take_domain(slice_skip(s, i), allowed, &domain);
		if (fault != ADDRESS_FINE) {
			return fault;
		}
		i += domain;
		if (i == s.n || (s.p[i] != ',' && s.p[i] != ':')) {
			return ADDRESS_BAD_SYNTAX;
		}
		i++;
		if (s.p[i - 1] == ':') {
			*n = i;
			return ADDRESS_FINE;
		}
	}
}

enum address_fault address_parse_path(struct slice s, unsigned allowed, struct address *out,
	struct slice *rest)
{
	struct address found;
	enum address_fault fault;
	size_t i = 1;

	if (s.n < 2 || s.p[0] != '<') {
		return ADDRESS_BAD_SYNTAX;
	}
	if (s.p[1] == '>') {
		if ((allowed & ADDRESS_NULL) == 0) {
			return ADDRESS_BAD_SYNTAX;
		}
		*out = (struct address){.text = SLICE_EMPTY};
		*rest = slice_skip(s, 2);
		return ADDRESS_FINE;
	}
	if (s.p[1] == '@') {
		size_t route = 0;
		fault = take_route(slice_skip(s, 1), allowed, &route);
		if (fault != ADDRESS_FINE) {
			return fault;
		}
		i += route;
		allowed &= ~(unsigned)ADDRESS_NO_DOMAIN;
	}
	fault = take_mailbox(slice_skip(s, i), allowed, &found);
	if (fault != ADDRESS_FINE) {
		return fault;
	}
	i += found.text.n;
	if (i == s.n) {
		return ADDRESS_BAD_SYNTAX;
	}
	if (s.p[i] != '>') {
		return found.domain.n == 0 ? ADDRESS_BAD_LOCAL : ADDRESS_BAD_DOMAIN;
	}
	if (i + 1 > PATH_MAX_BYTES) {
		return ADDRESS_TOO_LONG;
	}
	*out = found;
	*rest = slice_skip(s, i + 1);
	return ADDRESS_FINE;
}

enum address_fault address_parse(struct slice s, unsigned allowed, struct address *out)
{
	struct address found;

	if (s.n == 0 && (allowed & ADDRESS_NULL) != 0) {
		*out = (struct address){.text = SLICE_EMPTY};
		return ADDRESS_FINE;
	}
	enum address_fault fault = take_mailbox(s, allowed, &found);
	if (fault != ADDRESS_FINE) {
		return fault;
	}
	if (found.text.n != s.n) {
		return found.domain.n == 0 ? ADDRESS_BAD_LOCAL : ADDRESS_BAD_DOMAIN;
	}
	if (s.n + 2 > PATH_MAX_BYTES) {
		return ADDRESS_TOO_LONG;
	}
	*out = found;
	return ADDRESS_FINE;
}
