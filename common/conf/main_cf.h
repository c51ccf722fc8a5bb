/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main_cf: main.cf as names and texts, before anything is known about their meaning.
 *
 * The readers of parser.h (conf_main_get() and its kin) are here too.
 */
#ifndef COMMON_CONF_MAIN_CF_H
#define COMMON_CONF_MAIN_CF_H

#include <stdbool.h>

#include "common/base/slice.h"
#include "common/conf/parser.h"

#define MAIN_CF_BYTES_MAX ((size_t)4 * 1024 * 1024)
#define MAIN_CF_NAMES_MAX 20000u

/* Reads text; what is wrong with its form goes to the problems. */
struct conf_main *main_cf_parse(struct slice text, const char *file,
	struct conf_source *problems);
void main_cf_free(struct conf_main **m);

/* The text that name has, whatever main.cf says; it is not expanded again. */
void main_cf_override(struct conf_main *m, struct slice name, struct slice text);
/* For expand_source: arg is a struct conf_main. */
bool main_cf_find(const void *arg, struct slice name, struct slice *raw);
/* Expands every name that main.cf sets and every parameter, for conf_main_get(). */
void main_cf_expand(struct conf_main *m, struct conf_source *problems);
/* Something refers to name. False: main.cf does not set it. */
bool main_cf_mark(struct conf_main *m, struct slice name);
/* Names that main.cf sets and that nothing has marked. */
bool main_cf_is_marked(const struct conf_main *m, size_t i);
/* Where name stands in main.cf; 0: nowhere. */
unsigned main_cf_line(const struct conf_main *m, struct slice name);

#endif
