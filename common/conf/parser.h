/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parser: main.cf and master.cf in Postfix's syntax, read by master and the command only.
 */
#ifndef COMMON_CONF_PARSER_H
#define COMMON_CONF_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"

/* What is to be told about a configuration. */
struct conf_problem {
	bool fatal; /* an error: nothing starts with it; else a warning */
	char *file;
	unsigned line; /* 0: the file as a whole */
	char *text;
};

/* A network listener of master.cf, or one of our own settings. */
struct conf_listener {
	char *name; /* as the first column spells it */
	char *host; /* null: inet_interfaces */
	uint16_t port;
	unsigned processes; /* maxproc column: 0 default; for smtpd it is a wish that the number
			       of processes honours at most */
	char *options;      /* "name=value\n" lines, expanded: what is different here, by -o or
			       because it refers to what an -o sets */
	unsigned line;
};

struct conf_main; /* the parsed main.cf: names, raw and expanded values, where they stand */

/* The files that parameters name: what travels to the programs, and to which (sees: SEES_ bits
 * of the parameter). name is how conf_file() finds it. */
struct conf_source_file {
	struct slice name;
	struct slice bytes;
	unsigned sees;
	uint8_t *name_memory;
};

struct conf_source {
	struct conf_main *main;
	struct conf *checked; /* null when has_fatal; conf_source_conf() copies it */
	struct conf_source_file *files;
	size_t file_count;
	struct conf_listener *listeners;
	size_t listener_count;
	struct conf_problem *problems;
	size_t problem_count;
	bool has_fatal;
};

/* Reads DIR/main.cf and DIR/master.cf and checks everything, files and tables included. dir may
 * be null: the embedded defaults of "start" without a configuration are an error there. Always
 * yields a source (with its problems). */
void conf_source_read(const char *dir, struct conf_source *out);
void conf_source_clear(struct conf_source *s);

/* The value of a parameter after expansion of $name, ${name}, ${name?text}, ${name:text},
 * ${name?{..}:{..}}, and whether main.cf sets it. Any name, also of no parameter of ours. */
bool conf_main_get(const struct conf_main *m, struct slice name, struct slice *value);
bool conf_main_is_set(const struct conf_main *m, struct slice name);
/* Names that main.cf sets, in order. */
size_t conf_main_count(const struct conf_main *m);
struct slice conf_main_name_at(const struct conf_main *m, size_t i);

/* The text of a name as main.cf has it, or the schema's default, not expanded; *line is 0 when
 * it is not set. */
bool conf_main_raw(const struct conf_main *m, struct slice name, struct slice *raw,
	unsigned *line);

/* None when has_fatal. */
size_t conf_source_file_count(const struct conf_source *s);
struct conf_source_file conf_source_file_at(const struct conf_source *s, size_t i);

/* The checked configuration as master's own struct conf (all parameters). ERR_CONFIG when the
 * source has a fatal problem. */
MUST_CHECK enum err conf_source_conf(const struct conf_source *s, struct conf **out);

#endif
