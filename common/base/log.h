/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: one line an event, key=value, event= first, then ids (sid, qid, job, site).
 *
 * A line goes to descriptor 2 in one write; the master decides where that leads.
 * error: someone must act. warn: we go on, degraded. info: a fact about one message,
 * connection or process. debug: off in production. common/ below proc/ does not log.
 */
#ifndef COMMON_BASE_LOG_H
#define COMMON_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/slice.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* program is a literal, as it stands in front of every line. */
void log_open(const char *program);
void log_set_level(enum log_level level);

void log_error(const char *format, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *format, ...) PRINTF_LIKE(1, 2);
void log_info(const char *format, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *format, ...) PRINTF_LIKE(1, 2);

/*
 * For what a client can repeat at will: true at most burst times in any period_s, so
 * "if (log_may(&gate)) log_warn(...)". Counts what it held back; the next line that is
 * let through may print and reset held.
 */
struct log_gate {
	unsigned burst;
	unsigned period_s;
	int64_t since_ms;
	unsigned used;
	uint64_t held;
};
bool log_may(struct log_gate *gate);

struct log_text {
	char s[4 * 200 + 8];
};

/* Bytes from outside for a "%s": quoted, controls and 8-bit as \xNN, 200 bytes at most. */
#define LOG_TEXT(slice) log_text(&(struct log_text){{0}}, slice)
const char *log_text(struct log_text *to, struct slice s);

#endif
