/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <time.h>

#include "common/base/json.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

struct json json_begin(struct buf *to)
{
	return (struct json){.to = to, .err = ERR_OK, .need_comma = false};
}

enum err json_end(const struct json *j)
{
	return j->err;
}

static void put(struct json *j, struct slice s)
{
	if (j->err == ERR_OK) {
		j->err = buf_append(j->to, s);
	}
}

static void put_cstr(struct json *j, const char *text)
{
	put(j, slice_from_cstr(text));
}

/* What stands in front of a value: a comma when one stands before it in the same place. */
static void begin_value(struct json *j)
{
	if (j->need_comma) {
		put(j, SLICE(","));
	}
	j->need_comma = true;
}

void json_raw(struct json *j, struct slice value)
{
	begin_value(j);
	put(j, value);
}

void json_object(struct json *j)
{
	begin_value(j);
	put(j, SLICE("{"));
	j->need_comma = false;
}

void json_object_end(struct json *j)
{
	put(j, SLICE("}"));
	j->need_comma = true;
}

void json_array(struct json *j)
{
	begin_value(j);
	put(j, SLICE("["));
	j->need_comma = false;
}

void json_array_end(struct json *j)
{
	put(j, SLICE("]"));
	j->need_comma = true;
}

static void put_escaped(struct json *j, uint8_t c)
{
	static const char hex[] = "0123456789abcdef";
	char text[7] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0};

	switch (c) {
	case '"':
		put(j, SLICE("\\\""));
		break;
	case '\\':
		put(j, SLICE("\\\\"));
		break;
	case '\n':
		put(j, SLICE("\\n"));
		break;
	case '\r':
		put(j, SLICE("\\r"));
		break;
	case '\t':
		put(j, SLICE("\\t"));
		break;
	default:
		put_cstr(j, text);
		break;
	}
}

static bool is_plain(uint8_t c)
{
	return c >= 0x20 && c != '"' && c != '\\' && c < 0x7f;
}

static void put_string(struct json *j, struct slice s)
{
	uint32_t code = 0;

	put(j, SLICE("\""));
	while (s.n != 0) {
		size_t n = 0;
		while (n < s.n && is_plain(s.p[n])) {
			n++;
		}
		put(j, slice_head(s, n));
		s = slice_skip(s, n);
		if (s.n == 0) {
			break;
		}
		n = utf8_take(s, &code);
		if (n == 0) {
			put(j, SLICE("\xef\xbf\xbd"));
			n = 1;
		} else if (n == 1) {
			put_escaped(j, s.p[0]);
		} else {
			put(j, slice_head(s, n));
		}
		s = slice_skip(s, n);
	}
	put(j, SLICE("\""));
}

void json_key(struct json *j, const char *name)
{
	begin_value(j);
	put_string(j, slice_from_cstr(name));
	put(j, SLICE(":"));
	j->need_comma = false;
}

void json_str(struct json *j, struct slice s)
{
	begin_value(j);
	put_string(j, s);
}

/* buf_printf() would do, but numbers are most of what a report holds. */
static void put_digits(struct json *j, uint64_t n, bool negative)
{
	char text[21];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	if (negative) {
		text[--at] = '-';
	}
	put(j, slice_make(text + at, sizeof(text) - at));
}

void json_i64(struct json *j, int64_t n)
{
	begin_value(j);
	put_digits(j, n < 0 ? 0 - (uint64_t)n : (uint64_t)n, n < 0);
}

void json_u64(struct json *j, uint64_t n)
{
	begin_value(j);
	put_digits(j, n, false);
}

void json_bool(struct json *j, bool b)
{
	begin_value(j);
	put_cstr(j, b ? "true" : "false");
}

void json_null(struct json *j)
{
	begin_value(j);
	put(j, SLICE("null"));
}

void json_time_us(struct json *j, int64_t us)
{
	struct tm tm;
	char day[48];
	char whole[64];
	int64_t part = us % 1000000;
	time_t s = (time_t)(us / 1000000);

	if (part < 0) {
		part += 1000000;
		s--;
	}
	begin_value(j);
	if (gmtime_r(&s, &tm) == NULL ||
		strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) == 0 ||
		str_format(whole, sizeof(whole), "\"%s.%06" PRId64 "Z\"", day, part) !=
			ERR_OK) {
		put(j, SLICE("null"));
		return;
	}
	put_cstr(j, whole);
}

void json_member_str(struct json *j, const char *name, struct slice s)
{
	json_key(j, name);
	json_str(j, s);
}

void json_member_i64(struct json *j, const char *name, int64_t n)
{
	json_key(j, name);
	json_i64(j, n);
}

void json_member_u64(struct json *j, const char *name, uint64_t n)
{
	json_key(j, name);
	json_u64(j, n);
}

void json_member_bool(struct json *j, const char *name, bool b)
{
	json_key(j, name);
	json_bool(j, b);
}
