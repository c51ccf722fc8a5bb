/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/conf/conf.h"
#include "common/conf/value.h"
#include "common/conf/why.h"

#define SEPARATORS " \t\r\n,"
#define DNS_PORT 53u

#define AS_TYPE(name, type, preset, range, sees, meaning) [CONF_##name] = CONF_TYPE_##type,
static const uint8_t types[] = {CONF_SCHEMA(AS_TYPE)};
#undef AS_TYPE
static_assert(ARRAY_LEN(types) == CONF_COUNT, "every parameter once");

enum conf_type conf_param_type(enum conf_param p)
{
	assert(p < CONF_COUNT);
	return (enum conf_type)types[p];
}

static enum err refuse(struct buf *why, struct slice text, const char *what)
{
	why_add(why, "must be %s (got \"%.*s\")", what, SLICE_ARG(slice_head(text, 200)));
	return ERR_CONFIG;
}

static int64_t unit_seconds(uint8_t unit)
{
	switch (ascii_lower(unit)) {
	case 's':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return 86400;
	case 'w':
		return INT64_C(7) * 86400;
	default:
		return 0;
	}
}

enum err conf_time_parse(struct slice text, uint8_t unit, int64_t *seconds)
{
	uint64_t n;

	if (text.n != 0 && unit_seconds(text.p[text.n - 1]) != 0) {
		unit = text.p[text.n - 1];
		text.n--;
	}
	int64_t each = unit_seconds(unit);
	if (each == 0) {
		return ERR_SYNTAX;
	}
	enum err e = num_parse_u64(text, (uint64_t)(INT64_MAX / 1000 / each), &n);
	if (e == ERR_OK) {
		*seconds = (int64_t)n * each;
	}
	return e;
}

/*
 * A number without a unit means what Postfix makes it mean: the unit of the parameter's
 * default. "maximal_queue_lifetime = 5" is five days.
 */
static uint8_t default_unit(enum conf_param p)
{
	struct slice preset = slice_from_cstr(conf_param_info(p)->preset);

	if (preset.n != 0 && unit_seconds(preset.p[preset.n - 1]) != 0) {
		return preset.p[preset.n - 1];
	}
	return 's';
}

static enum err bytes_parse(struct slice text, uint64_t *out)
{
	unsigned shift = 0;

	if (text.n != 0) {
		uint8_t last = ascii_lower(text.p[text.n - 1]);
		shift = last == 'k' ? 10 : last == 'm' ? 20 : last == 'g' ? 30 : 0;
		text.n -= shift != 0;
	}
	uint64_t n;
	enum err e = num_parse_u64(text, (uint64_t)INT64_MAX >> shift, &n);
	if (e == ERR_OK) {
		*out = n << shift;
	}
	return e;
}

static enum err number_parse(enum conf_type type, struct slice text, uint8_t unit,
	uint64_t *out)
{
	int64_t seconds = 0;
	enum err e;

	if (type == CONF_TYPE_TIME) {
		e = conf_time_parse(text, unit, &seconds);
		if (e == ERR_OK) {
			*out = (uint64_t)seconds;
		}
		return e;
	}
	return type == CONF_TYPE_BYTES ? bytes_parse(text, out)
				       : num_parse_u64(text, UINT64_MAX >> 1, out);
}

static enum err parse_number(enum conf_param p, struct slice text, struct buf *why,
	struct conf_value *v)
{
	enum conf_type type = conf_param_type(p);
	struct slice range = slice_from_cstr(conf_param_info(p)->range);
	uint64_t least = 0;
	uint64_t most = UINT64_MAX >> 1;
	const char *what = type == CONF_TYPE_TIME ? "a time such as 30s, 5m, 1h, 2d"
			   : type == CONF_TYPE_BYTES
				   ? "a number of bytes, such as 10240000, 64k or 20m"
				   : "a number";

	enum err e = number_parse(type, text, default_unit(p), &v->number);
	if (e == ERR_SYNTAX) {
		return refuse(why, text, what);
	}
	if (range.n != 0) {
		size_t dots = slice_find(range, '.');
		e = e != ERR_OK ? e : number_parse(type, slice_head(range, dots), 's', &least);
		e = e != ERR_OK ? e
				: number_parse(type, slice_skip(range, dots + 2), 's', &most);
	}
	if (e != ERR_OK || v->number < least || v->number > most) {
		why_add(why, "must be %s in %s (got \"%.*s\")", what,
			range.n == 0 ? "64 bits" : conf_param_info(p)->range,
			SLICE_ARG(slice_head(text, 200)));
		return ERR_CONFIG;
	}
	return ERR_OK;
}

static enum err parse_bool(struct slice text, struct buf *why, struct conf_value *v)
{
	if (slice_eq_nocase(text, SLICE("yes"))) {
		v->number = 1;
		return ERR_OK;
	}
	if (slice_eq_nocase(text, SLICE("no"))) {
		v->number = 0;
		return ERR_OK;
	}
	return refuse(why, text, "yes or no");
}

/* The text becomes the word as the schema spells it. */
static enum err parse_enum(enum conf_param p, struct slice text, struct buf *why,
	struct conf_value *v)
{
	struct slice rest = slice_from_cstr(conf_param_info(p)->range);
	struct slice word;

	if (text.n == 0 && rest.n != 0 && rest.p[0] == '|') {
		return ERR_OK;
	}
	while (slice_cut(&rest, '|', &word)) {
		if (word.n != 0 && slice_eq_nocase(word, text)) {
			memcpy(v->text, word.p, word.n);
			return ERR_OK;
		}
	}
	why_add(why, "must be one of");
	rest = slice_from_cstr(conf_param_info(p)->range);
	while (slice_cut(&rest, '|', &word)) {
		why_add(why, " %.*s%s", SLICE_ARG(word.n == 0 ? SLICE("(empty)") : word),
			rest.n == 0 ? "" : ",");
	}
	why_add(why, " (got \"%.*s\")", SLICE_ARG(slice_head(text, 200)));
	return ERR_CONFIG;
}

static enum err split_words(struct slice text, struct buf *why, struct conf_value *v)
{
	struct slice rest = text;
	struct slice word;
	size_t n = 0;

	while (slice_word(&rest, SEPARATORS, &word)) {
		n++;
	}
	if (n > CONF_WORDS_MAX) {
		why_add(why, "must have at most %u words", CONF_WORDS_MAX);
		return ERR_CONFIG;
	}
	v->words = alloc_zero(n == 0 ? 1 : n, sizeof(*v->words));
	rest = slice_make(v->text, v->text_bytes);
	while (slice_word(&rest, SEPARATORS, &word)) {
		v->words[v->word_count++] = word;
	}
	return ERR_OK;
}

static enum err parse_endpoints(struct slice text, struct buf *why, struct conf_value *v)
{
	enum err e = split_words(text, why, v);

	if (e != ERR_OK) {
		return e;
	}
	v->endpoints =
		alloc_zero(v->word_count == 0 ? 1 : v->word_count, sizeof(*v->endpoints));
	for (size_t i = 0; i < v->word_count; i++) {
		if (endpoint_parse(v->words[i], DNS_PORT, &v->endpoints[i]) != ERR_OK ||
			v->endpoints[i].port == 0) {
			return refuse(why, v->words[i],
				"a list of ADDRESS or ADDRESS@PORT, such as 192.0.2.1@53");
		}
		v->endpoint_count++;
	}
	return ERR_OK;
}

static enum err parse_networks(struct slice text, struct buf *why, struct conf_value *v)
{
	struct slice bad = SLICE_EMPTY;

	if (cidr_list_parse(text, &v->networks, &bad) == ERR_OK) {
		return ERR_OK;
	}
	if (bad.n == 0) {
		bad = text;
	}
	if (slice_find(bad, ':') != bad.n && slice_find(bad, '[') == bad.n) {
		return refuse(why, bad,
			"a list of networks such as 192.0.2.0/24 [2001:db8::]/32; tables are not "
			"understood here and IPv6 stands in brackets");
	}
	return refuse(why, bad,
		"a list of networks such as 192.0.2.0/24 [2001:db8::]/32, host bits zero");
}

static enum err parse_by_type(enum conf_param p, struct slice text, struct buf *why,
	struct conf_value *v)
{
	switch (conf_param_type(p)) {
	case CONF_TYPE_STR:
	case CONF_TYPE_TABLE:
		return ERR_OK;
	case CONF_TYPE_FILE:
		if (text.n != 0 && text.p[0] != '/') {
			return refuse(why, text, "the path of a file, from / on");
		}
		return ERR_OK;
	case CONF_TYPE_BOOL:
		return parse_bool(text, why, v);
	case CONF_TYPE_COUNT:
	case CONF_TYPE_BYTES:
	case CONF_TYPE_TIME:
		return parse_number(p, text, why, v);
	case CONF_TYPE_LIST:
		return split_words(text, why, v);
	case CONF_TYPE_CIDR:
		return parse_networks(text, why, v);
	case CONF_TYPE_ENUM:
		return parse_enum(p, text, why, v);
	case CONF_TYPE_ENDPOINTS:
		return parse_endpoints(text, why, v);
	}
	return ERR_CONFIG;
}

enum err conf_value_parse(enum conf_param p, struct slice text, struct buf *why,
	struct conf_value *out)
{
	struct conf_value v = {.text = NULL};

	text = slice_trim(text);
	if (text.n > LIMIT_PARAM_VALUE) {
		why_add(why, "must be at most %u bytes long", LIMIT_PARAM_VALUE);
		return ERR_CONFIG;
	}
	if (slice_find(text, '\0') != text.n || slice_find(text, '\n') != text.n) {
		why_add(why, "must not hold NUL bytes or line ends");
		return ERR_CONFIG;
	}
	v.text = alloc_zero(text.n + 1, 1);
	if (text.n != 0) {
		memcpy(v.text, text.p, text.n);
	}
	v.text_bytes = text.n;
	enum err e = parse_by_type(p, text, why, &v);
	if (e != ERR_OK) {
		conf_value_clear(&v);
		return e;
	}
	*out = v;
	return ERR_OK;
}

void conf_value_clear(struct conf_value *v)
{
	ALLOC_FREE(v->text);
	ALLOC_FREE(v->words);
	ALLOC_FREE(v->endpoints);
	cidr_list_clear(&v->networks);
	*v = (struct conf_value){.text = NULL};
}

void conf_value_drop_word(struct conf_value *v, size_t i)
{
	assert(i < v->word_count);
	memmove(&v->words[i], &v->words[i + 1], (v->word_count - i - 1) * sizeof(*v->words));
	v->word_count--;
}
