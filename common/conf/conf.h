/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf: the settings, typed and unchangeable, as a program sees them.
 *
 * Master makes one from main.cf (parser.h), checks it and sends each program its part; the
 * program makes its own from the messages (conf_builder) and swaps it in whole. A getter for a
 * parameter of another type is a bug (assert).
 */
#ifndef COMMON_CONF_CONF_H
#define COMMON_CONF_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/schema.h"
#include "common/io/endpoint.h"

struct conf;

void conf_free(struct conf **c);

/* STR, ENUM, FILE, TABLE: the expanded text, terminated by a NUL that is not counted. */
struct slice conf_text(const struct conf *c, enum conf_param p);
const char *conf_cstr(const struct conf *c, enum conf_param p);
bool conf_bool(const struct conf *c, enum conf_param p);
uint64_t conf_count(const struct conf *c, enum conf_param p); /* COUNT, BYTES */
int64_t conf_time_s(const struct conf *c, enum conf_param p);
int64_t conf_time_ms(const struct conf *c, enum conf_param p);
const struct cidr_list *conf_cidr(const struct conf *c, enum conf_param p);
/* LIST: words separated by blanks and commas. */
size_t conf_list_count(const struct conf *c, enum conf_param p);
struct slice conf_list_at(const struct conf *c, enum conf_param p, size_t i);
/* ENDPOINTS, parsed. */
size_t conf_endpoint_count(const struct conf *c, enum conf_param p);
struct endpoint conf_endpoint_at(const struct conf *c, enum conf_param p, size_t i);
/* ENUM compared with one of its words. */
bool conf_is(const struct conf *c, enum conf_param p, const char *word);

/* The expanded text of a parameter of any type, terminated like conf_text(): what master sends.
 */
struct slice conf_value_text(const struct conf *c, enum conf_param p);

/* The content of a file that travelled along (a FILE parameter's path, "texthash:/path", a key
 * file of dkim_keys). ERR_NOTFOUND. */
MUST_CHECK enum err conf_file(const struct conf *c, struct slice name, struct slice *out);
/* A file that is none: the relay's own listeners, one "[ADDRESS]:PORT" (endpoint_format()) a
 * line, every address of this machine for a listener on all of them. Master sends it to who
 * connects out or decides where to. */
#define CONF_FILE_LISTENERS "ekiden:listeners"

/* Building one, by name and expanded value, in any order; unset parameters get their (expanded)
 * defaults. */
struct conf_builder;
struct conf_builder *conf_builder_new(void);
/* One that begins with all values and files of c: for the options of a listener. */
struct conf_builder *conf_builder_copy(const struct conf *c);
void conf_builder_free(struct conf_builder **b);
/* why explains what would be right: "must be a time such as 30s, 5m, 1h (got \"x\")". Unknown
 * names: ERR_NOTFOUND. */
MUST_CHECK enum err conf_builder_set(struct conf_builder *b, struct slice name,
	struct slice value, struct buf *why);
/* Appends to the file's content; at most CONF_FILES_MAX bytes over all files. */
#define CONF_FILES_MAX ((size_t)256 * 1024 * 1024)
MUST_CHECK enum err conf_builder_file(struct conf_builder *b, struct slice name,
	struct slice bytes);
/* A line "name=value", as in the options of a listener. ERR_NOTFOUND, ERR_CONFIG like
 * conf_builder_set(). */
MUST_CHECK enum err conf_builder_set_line(struct conf_builder *b, struct slice line,
	struct buf *why);
/* Takes the builder. Cross-checks between parameters; on ERR_CONFIG why says what is wrong. */
MUST_CHECK enum err conf_builder_end(struct conf_builder **b, struct buf *why,
	struct conf **out);

/* For the command and the tests. */
struct conf_param_info {
	const char *name;
	const char *type;
	const char *preset;
	const char *range;
	unsigned sees;
	const char *meaning;
};
const struct conf_param_info *conf_param_info(enum conf_param p);
/* CONF_COUNT when there is none of that name. */
enum conf_param conf_param_find(struct slice name);

#endif
