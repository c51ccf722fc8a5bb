/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json: writes JSON text, append only.
 *
 * The caller opens and closes objects and arrays in order; commas come by themselves.
 * Strings are escaped; bytes that are not UTF-8 come out as U+FFFD. The first
 * ERR_TOOBIG of the buffer stays and later calls do nothing.
 */
#ifndef COMMON_BASE_JSON_H
#define COMMON_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct json {
	struct buf *to;
	enum err err;
	bool need_comma;
};

struct json json_begin(struct buf *to);
MUST_CHECK enum err json_end(const struct json *j);

void json_object(struct json *j); /* { */
void json_object_end(struct json *j);
void json_array(struct json *j); /* [ */
void json_array_end(struct json *j);
void json_key(struct json *j, const char *name);
void json_str(struct json *j, struct slice s);
void json_i64(struct json *j, int64_t n);
void json_u64(struct json *j, uint64_t n);
void json_bool(struct json *j, bool b);
void json_null(struct json *j);
/* A whole value that is JSON already. */
void json_raw(struct json *j, struct slice value);
/* Microseconds since 1970 as "2026-01-02T03:04:05.678901Z". */
void json_time_us(struct json *j, int64_t us);

/* json_key() and the value in one call. */
void json_member_str(struct json *j, const char *name, struct slice s);
void json_member_i64(struct json *j, const char *name, int64_t n);
void json_member_u64(struct json *j, const char *name, uint64_t n);
void json_member_bool(struct json *j, const char *name, bool b);

#endif
