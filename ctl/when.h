/* SPDX-License-Identifier: Apache-2.0 */
/* when: a moment as an operator writes it. */
#ifndef CTL_WHEN_H
#define CTL_WHEN_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* "2026-11-26T21:19:42.123Z", "2026-11-26 21:19", "2026-11-26" (UTC), "10m", "2h", "3d" (before
 * now). Microseconds since 1970. ERR_SYNTAX. */
MUST_CHECK enum err when_parse(struct slice text, int64_t now_us, int64_t *out_us);

#endif
