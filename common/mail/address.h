/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address: the one parser of mail addresses and SMTP paths (RFC 5321 section 4.1.2, 6531).
 *
 * An address is kept as its text, local part as written (quotes included), '@', domain as
 * written. Nothing is folded, unquoted or expanded: it is delivered as it came.
 */
#ifndef COMMON_MAIL_ADDRESS_H
#define COMMON_MAIL_ADDRESS_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

enum {
	ADDRESS_UTF8 = 1,     /* UTF-8 beyond ASCII is allowed (SMTPUTF8) */
	ADDRESS_LAX_DOTS = 2, /* dots at the ends of and doubled in the local part (old Japanese
				 carrier addresses) */
	ADDRESS_NO_DOMAIN = 4, /* a lone local part is allowed (<Postmaster>) */
	ADDRESS_NULL = 8       /* "<>" is allowed; the address is then empty */
};

/* Views into the text that was parsed. */
struct address {
	struct slice text;   /* local@domain; empty for the null reverse-path */
	struct slice local;  /* quotes included */
	struct slice domain; /* may be an address literal with its brackets */
};

/* What was wrong, so that the reply can tell it. */
enum address_fault {
	ADDRESS_FINE,
	ADDRESS_BAD_SYNTAX,
	ADDRESS_BAD_LOCAL,
	ADDRESS_BAD_DOMAIN,
	ADDRESS_TOO_LONG,  /* local part over 64, domain over 255, a label over 63 octets, path
			      over 256 */
	ADDRESS_NEEDS_UTF8 /* 8-bit without ADDRESS_UTF8; or with it, what is no UTF-8 or a
			      character that deceives */
};

/*
 * A path in angle brackets at the beginning of s: "<a@b>", "<@x,@y:a@b>" (the source route is
 * dropped). *rest is what follows the '>'.
 */
MUST_CHECK enum address_fault address_parse_path(struct slice s, unsigned allowed,
	struct address *out, struct slice *rest);
/* An address without brackets, all of s. */
MUST_CHECK enum address_fault address_parse(struct slice s, unsigned allowed,
	struct address *out);

/* A domain name (LDH labels, underscores tolerated, U-labels with ADDRESS_UTF8), no trailing
 * dot. */
bool domain_is_valid(struct slice domain, unsigned allowed);
/* "[192.0.2.1]", "[IPv6:2001:db8::1]". */
bool domain_is_literal(struct slice domain);
/* A name that may stand in EHLO: a domain, an address literal, or (lax) any run of LDH, '_' and
 * dots. */
bool helo_is_valid(struct slice name);

#endif
