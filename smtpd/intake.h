/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake: the one place that judges the line ends of a message's content.
 *
 * Takes what a client sends behind DATA, in pieces of any size, and hands it on in wire form:
 * every line ends in CR LF and begins with two dots when it begins with one. Only CR LF . CR LF
 * ends it (RFC 5321 section 4.1.1.4). A lone CR or LF is seen, told, and made a CR LF.
 *
 * What follows a lone line end is not covered by the client's transparency rule, or is, when
 * the client takes LF for a line end: a single dot there is text and is doubled, two dots stay
 * two. Nothing that stands behind a lone line end can end the message.
 */
#ifndef SMTPD_INTAKE_H
#define SMTPD_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

/* Room that a struct buf for edited content must offer. */
#define INTAKE_EDITED_MAX ((size_t)256 * 1024)

enum intake_place {
	INTAKE_LINE,   /* at the beginning, or behind CR LF */
	INTAKE_DOT,    /* a dot stands there, and has not been passed on */
	INTAKE_DOT_CR, /* and a CR behind it */
	INTAKE_MIDDLE,
	INTAKE_CR,        /* behind a CR, which has been passed on */
	INTAKE_BARE_LINE, /* behind a lone CR or LF */
	INTAKE_BARE_DOT,  /* and a dot, passed on as two */
	INTAKE_ENDED
};

struct intake {
	enum intake_place place;
	bool has_bare; /* a lone CR or LF came */
	bool has_nul;
	bool has_8bit;
	bool is_discarding; /* set by the owner: nothing is passed on any more */
	uint64_t size;      /* octets so far, as RFC 1870 counts them: dots not doubled */
};

struct intake_sink {
	void (*content)(void *arg, struct slice bytes);
	void *arg;
	struct buf *edited; /* scratch, INTAKE_EDITED_MAX */
};

void intake_init(struct intake *in);
/*
 * Takes bytes until the end of the message; returns how many. in->place is INTAKE_ENDED when it
 * was found; what is left then belongs to the next command.
 */
size_t intake_feed(struct intake *in, struct slice bytes, const struct intake_sink *to);

#endif
