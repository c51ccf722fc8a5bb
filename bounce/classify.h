/* SPDX-License-Identifier: Apache-2.0 */
/*
 * classify: does a permanent failure say that the address is dead?
 *
 * Only then is it put on the suppression list, and a living address on it costs a customer:
 * in doubt the answer is no. What a reply means depends on the stage at which it came. The
 * same words are a dead address after RCPT and the recipient's own filter after the content
 * (docomo), or a filter when the address is missing from them (au).
 */
#ifndef BOUNCE_CLASSIFY_H
#define BOUNCE_CLASSIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/mail/verdict.h"

struct failure {
	uint8_t stage; /* enum smtp_stage */
	uint16_t smtp_code;
	struct enhanced_code status;
	struct slice text; /* the reply without its code; lines joined by '\n' */
	bool is_shared;    /* other recipients of the message got the very same answer */
};

bool classify_is_dead_address(const struct failure *f);

#endif
