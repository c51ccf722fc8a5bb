/* SPDX-License-Identifier: Apache-2.0 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/conf/lines.h"
#include "common/conf/master_cf.h"
#include "common/conf/problems.h"
#include "common/io/endpoint.h"

enum {
	COLUMN_NAME,
	COLUMN_TYPE,
	COLUMN_PRIVATE,
	COLUMN_UNPRIV,
	COLUMN_CHROOT,
	COLUMN_WAKEUP,
	COLUMN_MAXPROC,
	COLUMN_COMMAND,
	COLUMN_COUNT
};

struct parse {
	struct conf_source *problems;
	const char *file;
	unsigned line;
	struct master_cf *out;
};

static void service_clear(struct master_cf_service *s)
{
	for (size_t i = 0; i < s->option_count; i++) {
		free(s->options[i].name);
		free(s->options[i].value);
	}
	free(s->options);
	free(s->name);
	free(s->host);
	*s = (struct master_cf_service){.name = NULL};
}

void master_cf_clear(struct master_cf *m)
{
	for (size_t i = 0; i < m->count; i++) {
		service_clear(&m->services[i]);
	}
	ALLOC_FREE(m->services);
	m->count = 0;
}

/* The next word; braces keep blanks together. */
static bool take_word(struct slice *rest, struct slice *word)
{
	return lines_word(rest, " \t\n\v\f\r", word);
}

static bool is_among(struct slice word, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (slice_eq(word, slice_from_cstr(list[i]))) {
			return true;
		}
	}
	return false;
}

static bool is_flag(struct slice word)
{
	static const char *const words[] = {"y", "n", "-"};

	return is_among(word, words, ARRAY_LEN(words));
}

static bool wakeup_is_valid(struct slice word)
{
	uint32_t n;

	if (slice_eq(word, SLICE("-"))) {
		return true;
	}
	if (word.n > 1 && word.p[word.n - 1] == '?') {
		word.n--;
	}
	return num_parse_u32(word, UINT32_MAX, &n) == ERR_OK;
}

/* What each column may hold; the first that is wrong is told. */
static bool columns_are_valid(const struct parse *p, const struct slice *column,
	uint32_t *processes)
{
	static const char *const types[] = {"inet", "unix", "fifo", "pass", "unix-dgram"};
	static const char *const names[] = {"private", "unpriv", "chroot"};

	if (!is_among(column[COLUMN_TYPE], types, ARRAY_LEN(types))) {
		problems_add(p->problems, true, p->file, p->line,
			"type must be inet, unix, fifo, pass or unix-dgram (got \"%.*s\")",
			SLICE_ARG(slice_head(column[COLUMN_TYPE], 100)));
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!is_flag(column[COLUMN_PRIVATE + i])) {
			problems_add(p->problems, true, p->file, p->line,
				"%s must be y, n or - (got \"%.*s\")", names[i],
				SLICE_ARG(slice_head(column[COLUMN_PRIVATE + i], 100)));
			return false;
		}
	}
	if (!wakeup_is_valid(column[COLUMN_WAKEUP])) {
		problems_add(p->problems, true, p->file, p->line,
			"wakeup must be a number, perhaps with ?, or - (got \"%.*s\")",
			SLICE_ARG(slice_head(column[COLUMN_WAKEUP], 100)));
		return false;
	}
	*processes = 0;
	if (!slice_eq(column[COLUMN_MAXPROC], SLICE("-")) &&
		num_parse_u32(column[COLUMN_MAXPROC], 100000, processes) != ERR_OK) {
		problems_add(p->problems, true, p->file, p->line,
			"maxproc must be a number or - (got \"%.*s\")",
			SLICE_ARG(slice_head(column[COLUMN_MAXPROC], 100)));
		return false;
	}
	return true;
}

static bool port_by_name(struct slice text, uint16_t *port)
{
	static const struct {
		const char *name;
		uint16_t port;
	} known[] = {{"smtp", 25}, {"submission", 587}, {"submissions", 465}, {"smtps", 465},
		{"ssmtp", 465}, {"urd", 465}};
	struct servent entry;
	struct servent *found = NULL;
	char name[64];
	char room[4096];

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (slice_eq(text, slice_from_cstr(known[i].name))) {
			*port = known[i].port;
			return true;
		}
	}
	if (text.n == 0 || str_copy(name, sizeof(name), text) != ERR_OK ||
		getservbyname_r(name, "tcp", &entry, room, sizeof(room), &found) != 0 ||
		found == NULL) {
		return false;
	}
	*port = ntohs((uint16_t)found->s_port);
	return true;
}

/* "2525", "smtp", "127.0.0.1:2525", "[::1]:smtp". */
static bool parse_address(struct slice text, struct master_cf_service *s)
{
	struct slice host = SLICE_EMPTY;
	struct slice port = text;
	struct endpoint e;
	uint32_t number;

	size_t colon = slice_find_last(text, ':');
	if (colon != text.n) {
		host = slice_head(text, colon);
		port = slice_skip(text, colon + 1);
		bool has_brackets = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
		if (has_brackets) {
			host = slice_skip(slice_head(host, host.n - 1), 1);
		} else if (slice_find(host, ':') != host.n) {
			return false;
		}
		if (slice_eq_nocase(host, SLICE("localhost"))) {
			host = SLICE("127.0.0.1");
		}
		if (endpoint_parse_addr(host, 0, &e) != ERR_OK) {
			return false;
		}
	}
	if (num_parse_u32(port, 65535, &number) == ERR_OK) {
		s->port = (uint16_t)number;
	} else if (!port_by_name(port, &s->port)) {
		return false;
	}
	s->host = host.n == 0 ? NULL : alloc_slice(host);
	return s->port != 0;
}

static bool add_option(const struct parse *p, struct master_cf_service *s, struct slice text)
{
	if (text.n >= 2 && text.p[0] == '{' && text.p[text.n - 1] == '}') {
		text = slice_skip(slice_head(text, text.n - 1), 1);
	}
	size_t n = slice_find(text, '=');
	struct slice name = slice_trim(slice_head(text, n));
	struct slice value = slice_trim(slice_skip(text, n + 1));
	if (n == text.n || name.n == 0 || name.n > LIMIT_PARAM_NAME) {
		problems_add(p->problems, true, p->file, p->line,
			"-o must be followed by name=value or { name = value } (got \"%.*s\")",
			SLICE_ARG(slice_head(text, 100)));
		return false;
	}
	if (s->option_count == MASTER_CF_OPTIONS_MAX) {
		problems_add(p->problems, true, p->file, p->line, "more than %u -o options",
			MASTER_CF_OPTIONS_MAX);
		return false;
	}
	s->options = alloc_resize(s->options, s->option_count + 1, sizeof(*s->options));
	s->options[s->option_count++] = (struct master_cf_option){.name = alloc_slice(name),
		.value = alloc_slice(value)};
	return true;
}

static bool parse_arguments(const struct parse *p, struct master_cf_service *s,
	struct slice rest)
{
	struct slice word;

	while (take_word(&rest, &word)) {
		if (slice_eq(word, SLICE("-v"))) {
			problems_add(p->problems, false, p->file, p->line,
				"-v is without effect; see log_level");
		} else if (slice_eq(word, SLICE("-o"))) {
			if (!take_word(&rest, &word)) {
				word = SLICE_EMPTY;
			}
			if (!add_option(p, s, word)) {
				return false;
			}
		} else if (slice_starts(word, SLICE("-o"))) {
			if (!add_option(p, s, slice_skip(word, 2))) {
				return false;
			}
		} else {
			problems_add(p->problems, true, p->file, p->line,
				"smtpd takes only -o name=value (got \"%.*s\")",
				SLICE_ARG(slice_head(word, 100)));
			return false;
		}
	}
	return true;
}

static bool is_doubled(const struct parse *p, const struct master_cf_service *s)
{
	for (size_t i = 0; i < p->out->count; i++) {
		const struct master_cf_service *o = &p->out->services[i];
		bool same_host = o->host == NULL
					 ? s->host == NULL
					 : s->host != NULL && slice_eq(slice_from_cstr(o->host),
								      slice_from_cstr(s->host));
		if (same_host && o->port == s->port) {
			problems_add(p->problems, true, p->file, p->line,
				"%s listens where line %u does already", s->name, o->line);
			return true;
		}
	}
	return false;
}

static void add_listener(const struct parse *p, const struct slice *column, uint32_t processes,
	struct slice arguments)
{
	struct master_cf_service s = {.processes = processes, .line = p->line};

	s.name = alloc_slice(column[COLUMN_NAME]);
	if (column[COLUMN_NAME].n > LIMIT_NAME || !parse_address(column[COLUMN_NAME], &s)) {
		problems_add(p->problems, true, p->file, p->line,
			"an inet service must be named port, ADDRESS:port or [ADDRESS]:port, the "
			"address an IP address (got \"%.*s\")",
			SLICE_ARG(slice_head(column[COLUMN_NAME], 100)));
		service_clear(&s);
		return;
	}
	if (!parse_arguments(p, &s, arguments) || is_doubled(p, &s)) {
		service_clear(&s);
		return;
	}
	struct master_cf *m = p->out;
	m->services = alloc_resize(m->services, m->count + 1, sizeof(*m->services));
	m->services[m->count++] = s;
}

/* What Postfix itself runs: its lines are left as they are. */
static bool is_known_command(struct slice command)
{
	static const char *const commands[] = {"anvil", "bounce", "cleanup", "discard",
		"dnsblog", "error", "flush", "lmtp", "local", "master", "oqmgr", "nqmgr",
		"pickup", "pipe", "postlogd", "postscreen", "proxymap", "qmgr", "qmqpd",
		"scache", "showq", "smtp", "smtpd", "spawn", "tlsmgr", "tlsproxy",
		"trivial-rewrite", "verify", "virtual"};

	return is_among(command, commands, ARRAY_LEN(commands));
}

/* Options of a way out (smtp -o smtp_bind_address=...) would be missed; names for logs not. */
static void warn_of_options(const struct parse *p, struct slice command, struct slice arguments)
{
	struct slice word;

	if (!slice_eq(command, SLICE("smtp"))) {
		return;
	}
	while (take_word(&arguments, &word)) {
		if (!slice_eq(word, SLICE("-o"))) {
			continue;
		}
		if (take_word(&arguments, &word) &&
			!slice_starts(word, SLICE("syslog_name=")) &&
			!slice_starts(word, SLICE("fallback_relay="))) {
			problems_add(p->problems, false, p->file, p->line,
				"options of a transport are without effect: %.*s",
				SLICE_ARG(slice_head(word, 100)));
		}
	}
}

static void parse_service(const struct parse *p, struct slice line)
{
	struct slice column[COLUMN_COUNT];
	uint32_t processes;
	struct slice rest = line;

	for (size_t i = 0; i < COLUMN_COUNT; i++) {
		if (!take_word(&rest, &column[i])) {
			problems_add(p->problems, true, p->file, p->line,
				"expected eight columns: service type private unpriv chroot wakeup "
				"maxproc command");
			return;
		}
	}
	if (!columns_are_valid(p, column, &processes)) {
		return;
	}
	struct slice command = column[COLUMN_COMMAND];
	bool is_inet = slice_eq(column[COLUMN_TYPE], SLICE("inet"));
	if (is_inet && slice_eq(command, SLICE("smtpd"))) {
		if (p->out->count == MASTER_CF_SERVICES_MAX) {
			problems_add(p->problems, true, p->file, p->line,
				"more than %u listeners", MASTER_CF_SERVICES_MAX);
			return;
		}
		add_listener(p, column, processes, rest);
	} else if (is_inet) {
		problems_add(p->problems, false, p->file, p->line,
			"%.*s: nothing listens there; only smtpd does here (got \"%.*s\")",
			SLICE_ARG(slice_head(column[COLUMN_NAME], 100)),
			SLICE_ARG(slice_head(command, 100)));
	} else if (!is_known_command(command)) {
		problems_add(p->problems, false, p->file, p->line,
			"%.*s: \"%.*s\" is no program of Postfix; the line is without effect",
			SLICE_ARG(slice_head(column[COLUMN_NAME], 100)),
			SLICE_ARG(slice_head(command, 100)));
	} else {
		warn_of_options(p, command, rest);
	}
}

void master_cf_parse(struct slice text, const char *file, struct conf_source *problems,
	struct master_cf *out)
{
	struct parse p = {.problems = problems, .file = file, .out = out};
	struct lines lines;
	struct slice line;

	*out = (struct master_cf){.services = NULL};
	if (slice_find(text, '\0') != text.n) {
		problems_add(problems, true, file, 0,
			"holds a NUL byte: this is not a text file");
		return;
	}
	lines_init(&lines, text);
	while (lines_next(&lines, &line, &p.line)) {
		parse_service(&p, line);
	}
	if (lines.orphan != 0) {
		problems_add(problems, false, file, lines.orphan,
			"begins with a blank but continues nothing; it is ignored");
	}
	lines_clear(&lines);
}
