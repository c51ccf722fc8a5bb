/* SPDX-License-Identifier: Apache-2.0 */
/* date: stamps for header fields and for people. */
#ifndef COMMON_MAIL_DATE_H
#define COMMON_MAIL_DATE_H

#include <stdint.h>

#include "common/base/slice.h"

#define DATE_TEXT_MAX 48u

/* "Thu, 26 Nov 2026 21:19:42 +0000" (RFC 5322 section 3.3), always in UTC: a jail has no zone
 * files. */
void date_format_rfc5322(int64_t wall_s, char to[DATE_TEXT_MAX]);
/* "2026-11-26T21:19:42.123456Z". */
void date_format_iso(int64_t wall_us, char to[DATE_TEXT_MAX]);

#endif
