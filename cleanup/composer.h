/* SPDX-License-Identifier: Apache-2.0 */
/*
 * composer: makes a message whole: what is put in front of it, what is taken out of its header.
 *
 * In front go Received (RFC 5321 section 4.4) and, where they are missing, Date and Message-ID.
 * Bcc, Resent-Bcc and Return-Path go out, and so does a line of a mailbox file ("From a@b Thu
 * ...") at the very beginning. Between header and body there is an empty line afterwards,
 * always. Everything else stays byte for byte.
 *
 * Knows no file, no socket and no clock: text in, text out.
 */
#ifndef CLEANUP_COMPOSER_H
#define CLEANUP_COMPOSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct composer_rules {
	struct slice hostname;
	struct slice mail_name;
	bool add_missing; /* Date and Message-ID */
	bool show_tls;    /* in Received */
	unsigned hopcount_limit;
};

/* Where a message came from; any slice may be empty. */
struct composer_origin {
	struct slice helo;
	struct slice client_name;
	struct slice client_addr;
	struct slice protocol;
	struct slice tls;
	struct slice queue_id;
	struct slice rcpt; /* named in Received; empty when there are several */
	int64_t wall_s;
};

/* What is to be done; slices are views into the content. */
struct composed {
	/* What is stored is `kept`, then the content from rest_at on. When nothing has to be
	 * changed, kept is empty and rest_at where the message begins. */
	struct buf kept;
	size_t rest_at;
	struct slice fields; /* the header block, whole fields; what went out is still in it */
	size_t body_at;

	unsigned received; /* fields of that name */
	bool has_date;
	bool has_message_id;
	struct slice message_id;   /* its value */
	struct slice from_address; /* of the first From; empty: none that can be read */
	struct slice from_domain;
	unsigned from_fields;
	unsigned from_addresses;
};

/* Why a message is refused: reply code and "x.y.z text". */
struct composer_refusal {
	uint16_t smtp_code;
	const char *text;
};

/*
 * Reads the header at the beginning of content. ERR_AGAIN: it goes on, more content is needed;
 * never when at_end. ERR_SYNTAX: the message is refused, *why says how. Only after ERR_OK is
 * there something to clear.
 */
MUST_CHECK enum err composer_read(struct slice content, bool at_end,
	const struct composer_rules *rules, struct composed *out, struct composer_refusal *why);
void composed_clear(struct composed *c);

/* Appends what goes in front: Received, then what is missing. ERR_TOOBIG: no room in `to`. */
MUST_CHECK enum err composer_front(const struct composed *c, const struct composer_rules *rules,
	const struct composer_origin *origin, struct buf *to);
#define COMPOSER_FRONT_MAX 4096u

#endif
