/* SPDX-License-Identifier: Apache-2.0 */
/* ehlo: what a server offers in its reply to EHLO (RFC 5321 section 4.1.1.1). */
#ifndef SMTP_OUT_EHLO_H
#define SMTP_OUT_EHLO_H

#include <stdint.h>

#include "common/base/slice.h"

enum {
	OFFER_PIPELINING = 1,
	OFFER_SIZE = 2,
	OFFER_8BITMIME = 4,
	OFFER_SMTPUTF8 = 8,
	OFFER_DSN = 16,
	OFFER_STARTTLS = 32,
	OFFER_ENHANCED = 64,
	OFFER_CHUNKING = 128
};

struct ehlo {
	unsigned offers;
	uint64_t size;     /* largest message; 0: not said */
	uint32_t mail_max; /* LIMITS of RFC 9422: messages of one connection; 0: not said */
	uint32_t rcpt_max; /* recipients of one message; 0: not said */
};

/*
 * text as struct reply keeps it: lines joined by line feeds, the first with the server's name.
 * Case-insensitive; unknown keywords and nonsense behind known ones are passed over. A text of
 * LIMIT_REPLY_TEXT bytes was cut: its last line then counts for nothing.
 */
struct ehlo ehlo_parse(struct slice text);

#endif
