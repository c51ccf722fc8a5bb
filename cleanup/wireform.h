/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wireform: is that content in wire form? Checked again at this hop, whoever sent it (a line
 * end that one reader sees and another does not is how mail is smuggled).
 *
 * Wire form: every line ends in CR LF, CR and LF stand nowhere else, a line that begins with a
 * dot begins with two.
 */
#ifndef CLEANUP_WIREFORM_H
#define CLEANUP_WIREFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* Zero it before the first piece. */
struct wireform {
	uint64_t bytes;
	uint64_t dots; /* that stuffing put there */
	bool has_nul;
	bool has_8bit;
	bool in_line;   /* the last piece ended inside a line ... */
	bool after_cr;  /* ... between its CR and LF ... */
	bool after_dot; /* ... behind the dot with which it began */
};

/* The next piece, cut anywhere. ERR_PROTO: it is not in wire form. */
MUST_CHECK enum err wireform_feed(struct wireform *w, struct slice s);
/* Nothing is half done: what came consists of whole lines. */
bool wireform_is_whole(const struct wireform *w);
/* Bytes of the message without stuffing. */
static inline uint64_t wireform_message_bytes(const struct wireform *w)
{
	return w->bytes - w->dots;
}

#endif
