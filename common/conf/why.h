/* SPDX-License-Identifier: Apache-2.0 */
/* why: explanations for people in a buffer of theirs; what does not fit is cut off. */
#ifndef COMMON_CONF_WHY_H
#define COMMON_CONF_WHY_H

#include "common/base/attr.h"
#include "common/base/buf.h"

void why_add(struct buf *why, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
