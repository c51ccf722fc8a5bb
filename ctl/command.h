/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command: what one call of `ekiden` is asked, and the verbs.
 */
#ifndef CTL_COMMAND_H
#define CTL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/parser.h"

struct command {
	const char *dir; /* of the configuration; absolute when it exists */
	bool json;
	bool help;   /* --help behind the verb */
	char **args; /* behind the verb; args_take() leaves the operands */
	size_t count;
};

struct verb {
	const char *name;
	const char *synopsis;          /* behind the name */
	const char *summary;           /* one line */
	const char *help;              /* the rest */
	int (*run)(struct command *c); /* returns the exit status */
};

/* The whole of main(). */
int command_run(int argc, char **argv);

/* Null when there is none of that name. */
const struct verb *verb_find(const char *name);
const struct verb *verb_at(size_t i); /* null behind the last */

/* An option of a verb: with a value, or a flag. */
struct option {
	const char *name; /* "--since" */
	const char **value;
	bool *flag;
};
/* Takes the options out of the arguments. False: something is wrong, and has been told. "--"
 * ends the options. */
bool args_take(struct command *c, const struct option *options, size_t count);
/* Tells what is wrong with the call; the exit status. */
int usage_error(const char *format, ...) PRINTF_LIKE(1, 2);
/* Tells what went wrong; returns status. */
int complain(int status, const char *format, ...) PRINTF_LIKE(2, 3);
/* A sub-verb: takes the first argument if it is that word. */
bool args_take_word(struct command *c, const char *word);

/* The directories that main.cf names, also when other settings are bad. Needs a main.cf; false:
 * told. Free with places_clear(). */
struct places {
	char *queue_directory;
	char *data_directory;
};
bool places_find(const struct command *c, struct places *out);
void places_clear(struct places *p);
/* "user", from SUDO_USER, LOGNAME or the number. */
void operator_name(char *to, size_t size);

int verb_start(struct command *c);
int verb_start_fg(struct command *c);
int verb_stop(struct command *c);
int verb_reload(struct command *c);
int verb_status(struct command *c);
int verb_check(struct command *c);
int verb_conf(struct command *c);
int verb_queue(struct command *c);
int verb_suppress(struct command *c);
int verb_log(struct command *c);
int verb_dkim(struct command *c);
int verb_help(struct command *c);

enum check_tell {
	CHECK_TELL_ALL,   /* every problem, on standard error */
	CHECK_TELL_FATAL, /* every problem if one is fatal; else only those that master does not
			     find */
	CHECK_TELL_JSON   /* all, as one object on standard output */
};
/* Reads the configuration, looks into keys and certificates, and tells problems. True: nothing
 * is fatal. The caller clears the source. */
bool check_configuration(const struct command *c, struct conf_source *s, enum check_tell tell);

#endif
