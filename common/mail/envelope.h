/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envelope: who a message is from and to, with what was asked about it; and its form on disk.
 */
#ifndef COMMON_MAIL_ENVELOPE_H
#define COMMON_MAIL_ENVELOPE_H

#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct envelope_rcpt {
	struct slice address;
	struct slice orcpt; /* "rfc822;..." or empty */
	uint8_t notify;     /* NOTIFY_ bits of ipc/messages.h */
};

struct envelope {
	struct slice sender; /* empty: the null reverse-path */
	struct slice envid;
	struct slice client_name;
	struct slice client_addr;
	struct slice helo;
	struct slice protocol;
	struct slice login;
	struct slice tenant;
	uint8_t ret;
	uint8_t stream_class;
	uint8_t priority;
	int64_t deadline_s;
	uint32_t flags; /* TX_ bits of ipc/messages.h */
	uint32_t rcpt_count;
	struct envelope_rcpt *rcpts;
};

/* Appends the form on disk: a version byte, the fields, then each recipient. ERR_SYNTAX: no
 * recipient, or one without an address; ERR_TOOBIG: a field beyond its limit, or the buffer is
 * full. */
MUST_CHECK enum err envelope_encode(const struct envelope *e, struct buf *to);
/* Everything in *out lives in the arena or points into bytes. ERR_CORRUPT, ERR_TOOBIG (arena).
 */
MUST_CHECK enum err envelope_decode(struct slice bytes, struct arena *a, struct envelope *out);

#endif
