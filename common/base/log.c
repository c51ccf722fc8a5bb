/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"

/* What a pipe takes in one piece, so lines of several programs never mix. */
#define LINE_MAX_BYTES ((size_t)PIPE_BUF)
#define TEXT_MAX_BYTES ((size_t)200)

static const char *const level_names[] = {
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};
static_assert(ARRAY_LEN(level_names) == LOG_LEVEL_DEBUG + 1, "one name a level");

static struct {
	const char *program;
	enum log_level level;
} logger = {.program = "ekiden", .level = LOG_LEVEL_INFO};

void log_open(const char *program)
{
	logger.program = program;
}

void log_set_level(enum log_level level)
{
	logger.level = level;
}

static size_t put_prefix(char *line, size_t size, enum log_level level)
{
	int64_t us = clock_wall_us();
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	size_t n = 0;

	if (gmtime_r(&s, &tm) != NULL) {
		n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
	}
	int m = snprintf(line + n, size - n, ".%03dZ %s[%ld]: %s: ", (int)(us / 1000 % 1000),
		logger.program, (long)getpid(), level_names[level]);
	if (m < 0) {
		return n;
	}
	return (size_t)m < size - n ? n + (size_t)m : size - 1;
}

static PRINTF_LIKE(2, 0) void put_line(enum log_level level, const char *format, va_list args)
{
	char line[LINE_MAX_BYTES];
	int saved = errno;
	size_t n = put_prefix(line, sizeof(line) / 2, level);

	errno = saved; /* for %m */
	int m = vsnprintf(line + n, sizeof(line) - n, format, args);
	size_t end = n;
	if (m > 0) {
		end = (size_t)m < sizeof(line) - n ? n + (size_t)m : sizeof(line) - 1;
	}
	/* A library's error text may hold a line end; a log line is one line. */
	for (size_t i = n; i < end; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
			line[i] = ' ';
		}
	}
	line[end] = '\n';
	/* A log that nobody reads must not stop the mail: a line that cannot be written is
	 * lost. */
	while (write(STDERR_FILENO, line, end + 1) < 0 && errno == EINTR) {
	}
	errno = saved;
}

void log_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	put_line(LOG_LEVEL_ERROR, format, args);
	va_end(args);
}

void log_warn(const char *format, ...)
{
	va_list args;

	if (logger.level >= LOG_LEVEL_WARN) {
		va_start(args, format);
		put_line(LOG_LEVEL_WARN, format, args);
		va_end(args);
	}
}

void log_info(const char *format, ...)
{
	va_list args;

	if (logger.level >= LOG_LEVEL_INFO) {
		va_start(args, format);
		put_line(LOG_LEVEL_INFO, format, args);
		va_end(args);
	}
}

void log_debug(const char *format, ...)
{
	va_list args;

	if (logger.level >= LOG_LEVEL_DEBUG) {
		va_start(args, format);
		put_line(LOG_LEVEL_DEBUG, format, args);
		va_end(args);
	}
}

bool log_may(struct log_gate *gate)
{
	int64_t now_ms = clock_mono_ms();

	if (gate->used == 0 || now_ms - gate->since_ms >= (int64_t)gate->period_s * 1000) {
		gate->since_ms = now_ms;
		gate->used = 0;
	}
	if (gate->used >= gate->burst) {
		gate->held++;
		return false;
	}
	gate->used++;
	return true;
}

const char *log_text(struct log_text *to, struct slice s)
{
	static const char hex[] = "0123456789abcdef";
	bool is_cut = s.n > TEXT_MAX_BYTES;
	size_t n = 0;

	static_assert(sizeof(to->s) >= 4 * TEXT_MAX_BYTES + sizeof("\"\"..."), "room for all");
	s = slice_head(s, TEXT_MAX_BYTES);
	to->s[n++] = '"';
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		if (c == '"' || c == '\\') {
			to->s[n++] = '\\';
			to->s[n++] = (char)c;
		} else if (c >= 0x20 && c < 0x7f) {
			to->s[n++] = (char)c;
		} else {
			to->s[n++] = '\\';
			to->s[n++] = 'x';
			to->s[n++] = hex[c >> 4];
			to->s[n++] = hex[c & 15];
		}
	}
	to->s[n++] = '"';
	for (int i = 0; is_cut && i < 3; i++) {
		to->s[n++] = '.';
	}
	to->s[n] = 0;
	return to->s;
}
