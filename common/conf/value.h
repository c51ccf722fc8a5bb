/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value: one setting, from its expanded text to its type.
 */
#ifndef COMMON_CONF_VALUE_H
#define COMMON_CONF_VALUE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/schema.h"
#include "common/io/endpoint.h"

enum conf_type {
	CONF_TYPE_STR,
	CONF_TYPE_BOOL,
	CONF_TYPE_COUNT,
	CONF_TYPE_BYTES,
	CONF_TYPE_TIME,
	CONF_TYPE_LIST,
	CONF_TYPE_CIDR,
	CONF_TYPE_ENUM,
	CONF_TYPE_FILE,
	CONF_TYPE_TABLE,
	CONF_TYPE_ENDPOINTS
};
enum conf_type conf_param_type(enum conf_param p);

/* Words of one LIST or ENDPOINTS. */
#define CONF_WORDS_MAX 4096u

struct conf_value {
	char *text; /* terminated; null: not set */
	size_t text_bytes;
	uint64_t number; /* BOOL, COUNT, BYTES; TIME in seconds */
	struct cidr_list networks;
	struct slice *words; /* into text */
	size_t word_count;
	struct endpoint *endpoints;
	size_t endpoint_count;
};

/* On ERR_CONFIG why says what would be right, and *out is not touched. */
MUST_CHECK enum err conf_value_parse(enum conf_param p, struct slice text, struct buf *why,
	struct conf_value *out);
void conf_value_clear(struct conf_value *v);
/* Drops word i. */
void conf_value_drop_word(struct conf_value *v, size_t i);

/* "90", "30s", "5m", "1h", "2d", "1w" in seconds; unit is for a number without one. ERR_SYNTAX,
 * ERR_TOOBIG. */
MUST_CHECK enum err conf_time_parse(struct slice text, uint8_t unit, int64_t *seconds);

#endif
