/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header: the header block of a message (RFC 5322 section 2.2) in wire form: CR LF lines,
 * dot-stuffed. One splitter between header and body, used by everything that cares.
 */
#ifndef COMMON_MAIL_HEADER_H
#define COMMON_MAIL_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct header_field {
	struct slice name;  /* without the colon, blanks before the colon dropped */
	struct slice value; /* behind the colon, folding kept, without the final CR LF */
	struct slice raw;   /* the whole field with its final CR LF */
};

/*
 * Finds the end of the header block in content that may be cut anywhere: the offset behind the
 * empty line (then *body_at), or where the first line begins that can be no header field (no
 * colon, a name with blanks or controls; the block ends there without an empty line).
 * ERR_AGAIN: more bytes are needed. ERR_TOOBIG: over LIMIT_HEADER_BLOCK bytes or
 * LIMIT_HEADER_LINES lines. *head_bytes excludes the empty line. at_end: no more bytes will
 * come (a message without a body).
 */
MUST_CHECK enum err header_split(struct slice content, bool at_end, size_t *head_bytes,
	size_t *body_at);

/* Takes the next field off *rest, a block as found by header_split(). False at its end. */
bool header_next(struct slice *rest, struct header_field *out);

/* Case-insensitive comparison of a field's name. */
bool header_is(const struct header_field *f, const char *name);

/*
 * The first address of a From-like value: its address and domain, comments, display name,
 * groups and encoded words skipped. Views into value (unfolded only where there is no folding
 * inside the address). ERR_SYNTAX when there is none, ERR_TOOBIG beyond 64 KiB; linear in time.
 * *count, when not null, is how many addresses stand there.
 */
MUST_CHECK enum err header_first_address(struct slice value, struct slice *address,
	struct slice *domain, unsigned *count);

#endif
