/* SPDX-License-Identifier: Apache-2.0 */
/*
 * params: the esmtp-parameters behind MAIL and RCPT (RFC 5321 section 4.1.2), and xtext (RFC
 * 3461).
 */
#ifndef COMMON_MAIL_PARAMS_H
#define COMMON_MAIL_PARAMS_H

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct param {
	struct slice keyword;
	struct slice value; /* p is null when there was no '=' */
};

/* Takes the next parameter off *rest (which starts at a blank or is empty). ERR_NOTFOUND at the
 * end. */
MUST_CHECK enum err param_next(struct slice *rest, struct param *out);

/* RFC 3461 section 4: "+2B" to '+'. ERR_SYNTAX for bad hexchars, bare '+' or '=', controls;
 * decoded CR, LF and NUL are ERR_SYNTAX too. */
MUST_CHECK enum err xtext_decode(struct slice s, struct arena *a, struct slice *out);
/* Into to (up to size bytes, no terminator); *n is the length. */
MUST_CHECK enum err xtext_encode(struct slice s, char *to, size_t size, size_t *n);

/* "SUCCESS,FAILURE" in any case to the NOTIFY_ bits of ipc/messages.h: 1 never, 2 success, 4
 * failure, 8 delay. */
MUST_CHECK enum err notify_parse(struct slice s, uint8_t *out);

/* "rfc822;xtext" or "utf-8;..." (RFC 6533); out is "type;address" decoded. */
MUST_CHECK enum err orcpt_parse(struct slice s, struct arena *a, struct slice *out);

#endif
