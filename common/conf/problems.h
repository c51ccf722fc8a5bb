/* SPDX-License-Identifier: Apache-2.0 */
/* problems: what is to be told about a configuration, gathered in a conf_source. */
#ifndef COMMON_CONF_PROBLEMS_H
#define COMMON_CONF_PROBLEMS_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/json.h"
#include "common/conf/parser.h"

/* More than these are counted in the last one. */
#define PROBLEMS_MAX 1000u

/* Bytes that are not printable become '?'. */
void problems_add(struct conf_source *s, bool fatal, const char *file, unsigned line,
	const char *format, ...) PRINTF_LIKE(5, 6);
void problems_clear(struct conf_source *s);

/* As an object: "level" (error, warning), "file", "line" (0: the file as a whole), "text". */
void problems_put_json(struct json *j, const struct conf_problem *p);

#endif
