/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "build_paths.h"
#include "common/base/alloc.h"
#include "common/base/str.h"
#include "ctl/command.h"
#include "ctl/output.h"

static const struct verb verbs[] = {
	{"start", "", "start the relay; returns when it accepts mail",
		"Checks the configuration, starts the relay in the background and waits until it\n"
		"accepts mail. When it returns with status 0, it does.\n",
		verb_start},
	{"start-fg", "", "run the relay in the foreground",
		"Checks the configuration and becomes the relay. For service managers and\n"
		"containers. Ends with SIGTERM.\n",
		verb_start_fg},
	{"stop", "", "stop the relay; running transactions finish",
		"Takes nothing new, lets running transactions and deliveries finish, and returns\n"
		"when all programs have ended. Queued mail stays queued.\n",
		verb_stop},
	{"reload", "", "take up a changed configuration",
		"Checks the configuration, has every program check it, and puts it into force in all\n"
		"of them or in none. No connection and no message is dropped.\n",
		verb_reload},
	{"status", "[--json]", "is the relay running, and how is it",
		"Status 0: it runs. 69: it does not.\n", verb_status},
	{"check", "[--json]", "check the configuration, its files, keys and certificates",
		"Tells every problem with file and line. Status 0: the relay would start with it\n"
		"(there may be warnings). 78: it would not.\n",
		verb_check},
	{"conf", "[-n | -d] [-x] [-h] [--json] [NAME...]", "show settings",
		"  -n  only what main.cf sets\n"
		"  -d  the defaults\n"
		"  -x  values with $name and ${name...} expanded\n"
		"  -h  values without names\n",
		verb_conf},
	{"queue", "list|show|hold|release|delete|requeue|flush|sites ...",
		"look at queued mail and act on it",
		"  list [--held] [--sender A] [--rcpt A] [--limit N]   messages with live recipients\n"
		"  show ID [--content]      one message: envelope, header, history; also when it is done\n"
		"  hold ID...|ALL           deliver no more until released\n"
		"  release ID...|ALL        undo hold\n"
		"  delete ID...|ALL         remove; nobody is told\n"
		"  requeue ID...|ALL        forget earlier attempts and try at once\n"
		"  flush [ID...|ALL]        try at once\n"
		"  sites                    where mail goes: state, connections, queue\n"
		"ID may be -: ids are then read from standard input, one a line.\n"
		"list and show work while the relay is stopped; the others need it running.\n",
		verb_queue},
	{"suppress", "list|show|add|remove ...",
		"the list of addresses that are not written to",
		"  list [--limit N]\n"
		"  show ADDRESS             status 0: on the list, 69: not on it\n"
		"  add ADDRESS [REASON...]  words that are kept as evidence\n"
		"  remove ADDRESS\n"
		"All work while the relay is stopped, too.\n",
		verb_suppress},
	{"log", "[--follow] [--since TIME] [--qid ID] [--rcpt A] [--event E] [--text]",
		"the journal of all that happened, as JSON lines",
		"  --follow      go on as events happen\n"
		"  --since TIME  2026-11-26T21:00:00Z, 2026-11-26, or 90s, 10m, 2h, 3d ago\n"
		"  --qid ID      of one message\n"
		"  --rcpt A      of one recipient\n"
		"  --event E     accepted, refused, attempt, final, notice, connection, route,\n"
		"                suppress, operated, damage, gap\n"
		"  --text        lines for people instead of JSON\n",
		verb_log},
	{"dkim", "create DOMAIN [SELECTOR] [--bits N] [--out DIR] [--json]",
		"make a DKIM key and the DNS record for it",
		"Makes DIR/SELECTOR.DOMAIN.pem (RSA, 2048 bits unless said otherwise, mode 0600) and\n"
		"prints the TXT record in zone-file form and the line for dkim_keys. The default\n"
		"SELECTOR is ekiden, the default DIR is dkim in the configuration's directory.\n",
		verb_dkim},
	{"help", "[VERB]", "explain a verb", "", verb_help},
};

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
	}
	return NULL;
}

const struct verb *verb_at(size_t i)
{
	return i < ARRAY_LEN(verbs) ? &verbs[i] : NULL;
}

static void PRINTF_LIKE(1, 0) say(const char *format, va_list args)
{
	(void)fputs("ekiden: ", stderr);
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
}

int usage_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	return EX_USAGE;
}

int complain(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(format, args);
	va_end(args);
	return status;
}

/* ---- arguments ---- */

static void drop_arg(struct command *c, size_t i)
{
	memmove(&c->args[i], &c->args[i + 1], (c->count - i - 1) * sizeof(c->args[0]));
	c->count--;
}

bool args_take_word(struct command *c, const char *word)
{
	if (c->count == 0 || strcmp(c->args[0], word) != 0) {
		return false;
	}
	drop_arg(c, 0);
	return true;
}

/* The option that arg is, and its value when it is glued on: "--since=1h". */
static const struct option *option_find(const struct option *options, size_t count,
	const char *arg, const char **glued)
{
	for (size_t i = 0; i < count; i++) {
		size_t n = strlen(options[i].name);
		if (strncmp(arg, options[i].name, n) != 0) {
			continue;
		}
		if (arg[n] == '\0') {
			*glued = NULL;
			return &options[i];
		}
		if (arg[n] == '=' && options[i].value != NULL) {
			*glued = arg + n + 1;
			return &options[i];
		}
	}
	return NULL;
}

/* Takes the option at i, and its value behind it. */
static bool take_option(struct command *c, size_t i, const struct option *o, const char *glued)
{
	const char *name = c->args[i];

	drop_arg(c, i);
	if (o->flag != NULL) {
		*o->flag = true;
		return true;
	}
	if (glued != NULL) {
		*o->value = glued;
		return true;
	}
	if (i == c->count) {
		(void)usage_error("%s needs a value", name);
		return false;
	}
	*o->value = c->args[i];
	drop_arg(c, i);
	return true;
}

bool args_take(struct command *c, const struct option *options, size_t count)
{
	const struct option common[] = {{"--json", NULL, &c->json}, {"--help", NULL, &c->help}};
	size_t i = 0;

	while (i < c->count) {
		const char *arg = c->args[i];
		const char *glued = NULL;
		if (strcmp(arg, "--") == 0) {
			drop_arg(c, i);
			return true;
		}
		if (arg[0] != '-' || arg[1] == '\0') {
			i++;
			continue;
		}
		const struct option *o = option_find(options, count, arg, &glued);
		if (o == NULL) {
			o = option_find(common, ARRAY_LEN(common), arg, &glued);
		}
		if (o == NULL && strcmp(arg, "-c") == 0) {
			(void)usage_error("-c DIR stands before the verb: ekiden -c DIR VERB");
			return false;
		}
		if (o == NULL) {
			(void)usage_error("unknown option %s; see ekiden help", arg);
			return false;
		}
		if (!take_option(c, i, o, glued)) {
			return false;
		}
	}
	return true;
}

/* ---- what verbs share ---- */

bool places_find(const struct command *c, struct places *out)
{
	struct conf_source s;
	struct slice text;
	char *found[2] = {NULL, NULL};
	static const struct slice names[2] = {SLICE_INIT("queue_directory"),
		SLICE_INIT("data_directory")};

	*out = (struct places){.queue_directory = NULL};
	conf_source_read(c->dir, &s);
	if (conf_main_count(s.main) == 0) {
		bool is_told = false;
		for (size_t i = 0; i < s.problem_count && !is_told; i++) {
			if (s.problems[i].fatal) {
				(void)complain(EX_CONFIG, "%s: %s", s.problems[i].file,
					s.problems[i].text);
				is_told = true;
			}
		}
		if (is_told) {
			conf_source_clear(&s);
			return false;
		}
	}
	for (size_t i = 0; i < 2; i++) {
		if (conf_main_get(s.main, names[i], &text) && text.n != 0 && text.p[0] == '/') {
			found[i] = alloc_zero(text.n + 1, 1);
			memcpy(found[i], text.p, text.n);
		}
	}
	conf_source_clear(&s);
	*out = (struct places){.queue_directory = found[0], .data_directory = found[1]};
	if (found[0] == NULL || found[1] == NULL) {
		(void)complain(EX_CONFIG,
			"%s/main.cf: queue_directory and data_directory must be paths", c->dir);
		places_clear(out);
		return false;
	}
	return true;
}

void places_clear(struct places *p)
{
	ALLOC_FREE(p->queue_directory);
	ALLOC_FREE(p->data_directory);
}

void operator_name(char *to, size_t size)
{
	const char *name = secure_getenv("SUDO_USER");

	if (name == NULL || name[0] == '\0') {
		name = secure_getenv("LOGNAME");
	}
	if (name == NULL || name[0] == '\0') {
		(void)snprintf(to, size, "uid %ld", (long)getuid());
		return;
	}
	str_printable(to, size, slice_from_cstr(name));
}

/* ---- main ---- */

static const char *default_dir(void)
{
	const char *dir = secure_getenv("MAIL_CONFIG");

	return dir != NULL && dir[0] != '\0' ? dir : PATH_SYSCONFDIR "/ekiden";
}

static void print_version(void)
{
	(void)printf("ekiden %s\n", conf_param_info(CONF_mail_version)->preset);
}

int command_run(int argc, char **argv)
{
	static char resolved[PATH_MAX];
	struct command c = {.dir = default_dir()};
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
			c.dir = argv[++i];
		} else if (strcmp(argv[i], "--json") == 0) {
			c.json = true;
		} else if (strcmp(argv[i], "--version") == 0) {
			print_version();
			return out_end(EX_OK);
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			return out_end(verb_help(&c));
		} else if (strcmp(argv[i], "-c") == 0) {
			return usage_error("-c needs the directory of main.cf and master.cf");
		} else {
			return usage_error("unknown option %s; see ekiden help", argv[i]);
		}
	}
	if (i == argc) {
		return usage_error("what is to be done? See ekiden help");
	}
	const struct verb *v = verb_find(argv[i]);
	if (v == NULL) {
		return usage_error("no verb is called %s; see ekiden help", argv[i]);
	}
	/* Master changes its directory; names in messages are better whole, too. */
	if (realpath(c.dir, resolved) != NULL) {
		c.dir = resolved;
	}
	c.args = argv + i + 1;
	c.count = (size_t)(argc - i - 1);
	for (size_t k = 0; k < c.count && strcmp(c.args[k], "--") != 0; k++) {
		if (strcmp(c.args[k], "--help") == 0) {
			c.args = argv + i;
			c.count = 1;
			return out_end(verb_help(&c));
		}
	}
	/* A reader that goes away is found by the write that fails. */
	(void)signal(SIGPIPE, SIG_IGN);
	return out_end(v->run(&c));
}
