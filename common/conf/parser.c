/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/conf/check.h"
#include "common/conf/expand.h"
#include "common/conf/lines.h"
#include "common/conf/main_cf.h"
#include "common/conf/master_cf.h"
#include "common/conf/parser.h"
#include "common/conf/postfix_names.h"
#include "common/conf/problems.h"
#include "common/conf/table.h"
#include "common/conf/value.h"
#include "common/conf/why.h"
#include "common/io/fd.h"

#define TABLE_BYTES_MAX ((size_t)64 * 1024 * 1024)
#define FILE_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define KEY_BYTES_MAX ((size_t)64 * 1024)
#define NAME_FILE_BYTES_MAX 4096u
#define READ_BYTES ((size_t)65536)

/* Everything about one reading. */
struct reading {
	struct conf_source *s;
	struct conf_main *main;
	struct conf_builder *builder;
	char *main_file;
	char *master_file;
};

/* ---- files ---- */

/*
 * All of a regular file. On failure why says what is wrong with it. Links are followed:
 * certificates are often kept behind one. Blocks on nothing: a FIFO or device is not waited
 * for.
 */
static enum err read_file(const char *path, size_t max, struct buf *to, struct stat *st,
	struct buf *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	enum err e = ERR_OK;

	buf_init(to, max);
	if (fd < 0) {
		e = err_from_errno();
		why_add(why, "%s: %s", path, strerrordesc_np(errno));
		return e;
	}
	if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
		why_add(why, "%s: not a regular file", path);
		e = ERR_CONFIG;
	} else if ((uint64_t)st->st_size > max) {
		why_add(why, "%s: larger than %zu bytes", path, max);
		e = ERR_TOOBIG;
	}
	while (e == ERR_OK && buf_len(to) < max) {
		size_t room = max - buf_len(to) < READ_BYTES ? max - buf_len(to) : READ_BYTES;
		uint8_t *at = buf_reserve(to, room);
		ssize_t n = read(fd, at, room);
		if (n < 0 && errno != EINTR) {
			e = err_from_errno();
			why_add(why, "%s: %s", path, strerrordesc_np(errno));
		} else if (n == 0) {
			break;
		} else if (n > 0) {
			buf_commit(to, (size_t)n);
		}
	}
	if (e != ERR_OK) {
		buf_clear(to);
	}
	fd_close(&fd);
	return e;
}

static void file_note(struct reading *r, struct slice name, unsigned sees)
{
	struct conf_source *s = r->s;

	for (size_t i = 0; i < s->file_count; i++) {
		if (slice_eq(s->files[i].name, name)) {
			s->files[i].sees |= sees;
			return;
		}
	}
	uint8_t *copy = alloc_bytes(name.n + 1);
	memcpy(copy, name.p, name.n);
	s->files = alloc_resize(s->files, s->file_count + 1, sizeof(*s->files));
	s->files[s->file_count++] = (struct conf_source_file){.name = slice_make(copy, name.n),
		.name_memory = copy,
		.sees = sees};
}

static bool file_is_noted(const struct reading *r, struct slice name)
{
	for (size_t i = 0; i < r->s->file_count; i++) {
		if (slice_eq(r->s->files[i].name, name)) {
			return true;
		}
	}
	return false;
}

/* Reads path and keeps its content under name for the programs of sees. content, when not null,
 * is the caller's to clear, whatever happens. */
static enum err file_take(struct reading *r, struct slice name, struct slice path, size_t max,
	unsigned sees, struct stat *st, struct buf *content, struct buf *why)
{
	char at[PATH_MAX];
	struct buf own;
	enum err e;

	buf_init(&own, max);
	*st = (struct stat){.st_mode = 0};
	if (path.n == 0 || path.p[0] != '/' || str_copy(at, sizeof(at), path) != ERR_OK) {
		why_add(why, "\"%.*s\" must be a path, from / on",
			SLICE_ARG(slice_head(path, 200)));
		return ERR_CONFIG;
	}
	e = read_file(at, max, content == NULL ? &own : content, st, why);
	if (e == ERR_OK && !file_is_noted(r, name)) {
		e = conf_builder_file(r->builder, name,
			buf_view(content == NULL ? &own : content));
		if (e != ERR_OK) {
			why_add(why, "%s: all files together are larger than %zu bytes", at,
				CONF_FILES_MAX);
		}
	}
	if (e == ERR_OK) {
		file_note(r, name, sees);
	}
	buf_clear(&own);
	return e;
}

/* ---- names of this host ---- */

/* Debian's way: a value that is a path stands for the first line of that file. */
static void resolve_path_form(struct reading *r, enum conf_param p, struct slice *text,
	struct buf *line)
{
	const char *name = conf_param_info(p)->name;
	char path[PATH_MAX];
	struct stat st;
	struct buf why;
	struct buf bytes;

	buf_init(&why, LIMIT_TEXT);
	if (str_copy(path, sizeof(path), *text) != ERR_OK ||
		read_file(path, NAME_FILE_BYTES_MAX, &bytes, &st, &why) != ERR_OK) {
		problems_add(r->s, true, r->main_file,
			main_cf_line(r->main, slice_from_cstr(name)),
			"%s: cannot read its first line: %.*s", name,
			SLICE_ARG(buf_view(&why)));
		*text = SLICE_EMPTY;
	} else {
		struct slice all = buf_view(&bytes);
		struct slice first = slice_trim(slice_head(all, slice_find(all, '\n')));
		if (buf_append(line, first) != ERR_OK) {
			buf_reset(line);
		}
		*text = buf_view(line);
		buf_clear(&bytes);
	}
	buf_clear(&why);
}

/* The text of a name as far as it can be had before the names of this host are known. */
static void expand_early(const struct reading *r, const char *name, struct buf *out)
{
	const struct expand_source from = {.find = main_cf_find, .arg = r->main};
	struct slice raw;
	struct buf why;
	unsigned line;

	buf_init(&why, LIMIT_TEXT);
	if (conf_main_raw(r->main, slice_from_cstr(name), &raw, &line) && line != 0 &&
		expand_text(raw, &from, out, &why) != ERR_OK) {
		/* Told when everything is expanded. */
		buf_reset(out);
	}
	buf_clear(&why);
}

static void find_names(struct reading *r)
{
	char system[LIMIT_HOSTNAME + 1] = "";
	struct buf host;
	struct buf domain;
	struct buf origin;
	struct buf line;

	buf_init(&host, LIMIT_PARAM_VALUE);
	buf_init(&domain, LIMIT_PARAM_VALUE);
	buf_init(&origin, LIMIT_PARAM_VALUE);
	buf_init(&line, LIMIT_PARAM_VALUE);

	/* So that mydomain = $myhostname and the other way round end here. */
	if (gethostname(system, sizeof(system) - 1) != 0 || system[0] == '\0') {
		(void)memcpy(system, "localhost", sizeof("localhost"));
	}
	if (!conf_main_is_set(r->main, SLICE("myhostname"))) {
		main_cf_override(r->main, SLICE("myhostname"), slice_from_cstr(system));
	}
	expand_early(r, "mydomain", &domain);
	expand_early(r, "myhostname", &host);
	struct slice name = slice_trim(buf_view(&host));
	if (name.n != 0 && name.p[0] == '/') {
		resolve_path_form(r, CONF_myhostname, &name, &line);
		main_cf_override(r->main, SLICE("myhostname"), name);
	} else if (name.n == 0) {
		name = slice_from_cstr(system);
		if (slice_find(name, '.') == name.n) {
			struct slice tail = buf_len(&domain) != 0 ? buf_view(&domain)
								  : SLICE("localdomain");
			if (buf_append(&line, name) != ERR_OK ||
				buf_append_byte(&line, '.') != ERR_OK ||
				buf_append(&line, tail) != ERR_OK) {
				buf_reset(&line);
			}
			name = buf_view(&line);
		}
		main_cf_override(r->main, SLICE("myhostname"), name);
	}
	if (buf_len(&domain) == 0) {
		struct slice tail = slice_skip(name, slice_find(name, '.') + 1);
		main_cf_override(r->main, SLICE("mydomain"),
			tail.n == 0 ? SLICE("localdomain") : tail);
	}
	expand_early(r, "myorigin", &origin);
	struct slice first = slice_trim(buf_view(&origin));
	buf_reset(&line);
	if (first.n != 0 && first.p[0] == '/') {
		resolve_path_form(r, CONF_myorigin, &first, &line);
		main_cf_override(r->main, SLICE("myorigin"), first);
	}
	buf_clear(&host);
	buf_clear(&domain);
	buf_clear(&origin);
	buf_clear(&line);
}

/* ---- settings ---- */

/* Where a setting stands, for problems. */
struct place {
	const char *file;
	unsigned line;
	const char *name;
};

/* "/file" in a list of networks stands for what is in the file. */
static bool splice_networks(struct reading *r, const struct place *at, struct slice text,
	struct buf *out)
{
	struct slice rest = text;
	struct slice word;
	bool is_good = true;

	while (is_good && slice_word(&rest, " \t\r\n,", &word)) {
		char path[PATH_MAX];
		struct stat st;
		struct buf bytes;
		struct buf why;
		if (word.p[0] != '/') {
			is_good = buf_append(out, word) == ERR_OK &&
				  buf_append_byte(out, ' ') == ERR_OK;
			continue;
		}
		buf_init(&why, LIMIT_TEXT);
		if (str_copy(path, sizeof(path), word) != ERR_OK ||
			read_file(path, LIMIT_PARAM_VALUE, &bytes, &st, &why) != ERR_OK) {
			problems_add(r->s, true, at->file, at->line, "%s: %.*s", at->name,
				SLICE_ARG(buf_view(&why)));
			buf_clear(&why);
			return false;
		}
		struct lines lines;
		struct slice line;
		unsigned number;
		lines_init(&lines, buf_view(&bytes));
		while (is_good && lines_next(&lines, &line, &number)) {
			is_good = buf_append(out, line) == ERR_OK &&
				  buf_append_byte(out, ' ') == ERR_OK;
		}
		lines_clear(&lines);
		buf_clear(&bytes);
		buf_clear(&why);
	}
	if (!is_good) {
		problems_add(r->s, true, at->file, at->line, "%s: longer than %u bytes",
			at->name, LIMIT_PARAM_VALUE);
	}
	return is_good;
}

static void take_dkim_key_list(struct reading *r, const struct place *at, struct slice key,
	struct slice list)
{
	struct slice rest = list;
	struct slice word;
	struct stat st;
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	while (slice_word(&rest, " \t\r\n,", &word)) {
		size_t n = slice_find(word, ':');
		struct slice selector = slice_head(word, n);
		struct slice path = slice_skip(word, n + 1);
		if (n == word.n || !conf_hostname_is_valid(selector)) {
			problems_add(r->s, true, at->file, at->line,
				"%s: %.*s: must be selector:/path/of/key, or several (got \"%.*s\")",
				at->name, SLICE_ARG(slice_head(key, 100)),
				SLICE_ARG(slice_head(word, 200)));
			continue;
		}
		buf_reset(&why);
		if (file_take(r, path, path, KEY_BYTES_MAX, SEES_CLEANUP, &st, NULL, &why) !=
			ERR_OK) {
			problems_add(r->s, true, at->file, at->line, "%s: %.*s: %.*s", at->name,
				SLICE_ARG(slice_head(key, 100)), SLICE_ARG(buf_view(&why)));
		} else if ((st.st_mode & (S_IROTH | S_IWOTH)) != 0) {
			problems_add(r->s, false, at->file, at->line,
				"%s: everybody can read the private key %.*s", at->name,
				SLICE_ARG(slice_head(path, 200)));
		}
	}
	buf_clear(&why);
}

static void take_table(struct reading *r, const struct place *at, enum conf_param p,
	struct slice spec)
{
	struct slice path = SLICE_EMPTY;
	struct slice content = SLICE_EMPTY;
	struct table *t = NULL;
	struct stat st;
	struct buf bytes;
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	buf_init(&bytes, TABLE_BYTES_MAX);
	if (table_spec_file(spec, &path)) {
		if (file_take(r, spec, path, TABLE_BYTES_MAX, conf_param_info(p)->sees, &st,
			    &bytes, &why) != ERR_OK) {
			problems_add(r->s, true, at->file, at->line, "%s: %.*s", at->name,
				SLICE_ARG(buf_view(&why)));
			goto out;
		}
		content = buf_view(&bytes);
	}
	if (table_parse(spec, content, &why, &t) != ERR_OK) {
		problems_add(r->s, true, at->file, at->line, "%s: %.*s%s%.*s", at->name,
			SLICE_ARG(slice_head(path, 200)), path.n == 0 ? "" : ": ",
			SLICE_ARG(buf_view(&why)));
		goto out;
	}
	for (size_t i = 0; i < table_count(t); i++) {
		struct slice key;
		struct slice value;
		table_at(t, i, &key, &value);
		if (p == CONF_dkim_keys) {
			take_dkim_key_list(r, at, key, value);
		} else if (p == CONF_transport_maps && !conf_transport_is_valid(value)) {
			problems_add(r->s, true, at->file, at->line,
				"%s: %.*s: must be smtp:NEXTHOP, relay:NEXTHOP, error:TEXT, "
				"retry:TEXT or discard: (got \"%.*s\")",
				at->name, SLICE_ARG(slice_head(key, 100)),
				SLICE_ARG(slice_head(value, 200)));
		}
	}
out:
	table_free(&t);
	buf_clear(&bytes);
	buf_clear(&why);
}

/* A default that is not there is no error: it is a default of Debian's, and other systems
 * differ. */
static bool file_may_be_missing(const struct place *at, enum conf_param p,
	bool *is_worth_telling)
{
	*is_worth_telling = p == CONF_dns_trust_anchor || at->line != 0;
	return at->line == 0 || p == CONF_smtp_tls_CAfile;
}

static void take_file(struct reading *r, const struct place *at, enum conf_param p,
	struct slice path)
{
	struct stat st;
	struct buf why;
	bool is_worth_telling;

	buf_init(&why, LIMIT_TEXT);
	if (file_take(r, path, path, FILE_BYTES_MAX, conf_param_info(p)->sees, &st, NULL,
		    &why) != ERR_OK) {
		bool is_fatal = !file_may_be_missing(at, p, &is_worth_telling);
		if (is_fatal || is_worth_telling) {
			problems_add(r->s, is_fatal, at->file, at->line, "%s: %.*s", at->name,
				SLICE_ARG(buf_view(&why)));
		}
	} else if (p == CONF_smtpd_tls_key_file && (st.st_mode & S_IROTH) != 0) {
		problems_add(r->s, false, at->file, at->line,
			"%s: everybody can read the private key %.*s", at->name,
			SLICE_ARG(slice_head(path, 200)));
	}
	buf_clear(&why);
}

/* The files that a setting names. */
static void take_files(struct reading *r, const struct place *at, enum conf_param p,
	struct slice text)
{
	struct slice rest = slice_trim(text);
	struct slice spec;

	if (conf_param_type(p) == CONF_TYPE_TABLE) {
		while (table_spec_next(&rest, &spec)) {
			take_table(r, at, p, spec);
		}
	} else if (conf_param_type(p) == CONF_TYPE_FILE && rest.n != 0 && rest.p[0] == '/') {
		take_file(r, at, p, rest);
	}
}

/* What is right and yet not what one may think. */
static void warn_of_value(struct reading *r, const struct place *at, enum conf_param p,
	struct slice text)
{
	struct slice rest = text;
	struct slice word;

	if (p == CONF_mydestination && slice_trim(text).n != 0) {
		problems_add(r->s, false, at->file, at->line,
			"%s: nothing is delivered locally; mail for these domains is relayed like any "
			"other",
			at->name);
	}
	if (p == CONF_smtpd_relay_restrictions) {
		while (slice_word(&rest, " \t\r\n,", &word)) {
			if (conf_restriction_is_idle(word)) {
				problems_add(r->s, false, at->file, at->line,
					"%s: %.*s permits nobody: there is no login yet and no domain of ours",
					at->name, SLICE_ARG(word));
			}
		}
	}
}

/* One setting: its value is checked by set(), its files are read. */
static void take_setting(struct reading *r, const struct place *at, enum conf_param p,
	struct slice text, struct buf *spliced)
{
	struct slice name = slice_from_cstr(conf_param_info(p)->name);
	struct buf why;

	buf_reset(spliced);
	if (conf_param_type(p) == CONF_TYPE_CIDR && slice_find(text, '/') != text.n) {
		if (!splice_networks(r, at, text, spliced)) {
			return;
		}
		/* Only when there was a file in it is the text another. */
		text = buf_view(spliced);
	}
	buf_init(&why, LIMIT_TEXT);
	if (conf_builder_set(r->builder, name, text, &why) != ERR_OK) {
		problems_add(r->s, true, at->file, at->line, "%s: %.*s", at->name,
			SLICE_ARG(buf_view(&why)));
	} else {
		take_files(r, at, p, text);
		warn_of_value(r, at, p, text);
	}
	buf_clear(&why);
}

static void take_main(struct reading *r)
{
	struct buf spliced;

	buf_init(&spliced, LIMIT_PARAM_VALUE);
	for (unsigned i = 0; i < CONF_COUNT; i++) {
		enum conf_param p = (enum conf_param)i;
		struct slice name = slice_from_cstr(conf_param_info(p)->name);
		struct place at = {.file = r->main_file,
			.line = main_cf_line(r->main, name),
			.name = conf_param_info(p)->name};
		struct slice text = SLICE_EMPTY;
		(void)conf_main_get(r->main, name, &text);
		take_setting(r, &at, p, text, &spliced);
	}
	buf_clear(&spliced);
}

/* ---- names that are no parameters ---- */

struct referring {
	struct reading *r;
	const char *file;
	unsigned line;
	struct slice from;
};

static void on_reference(void *arg, struct slice name)
{
	const struct referring *f = arg;

	if (main_cf_mark(f->r->main, name) || conf_param_find(name) != CONF_COUNT ||
		postfix_name_find(name) != POSTFIX_NAME_NONE) {
		return;
	}
	problems_add(f->r->s, false, f->file, f->line,
		"%.*s: $%.*s is set nowhere; it is empty", SLICE_ARG(slice_head(f->from, 100)),
		SLICE_ARG(slice_head(name, 100)));
}

static void mark_main(struct reading *r)
{
	for (size_t i = 0; i < conf_main_count(r->main); i++) {
		struct slice name = conf_main_name_at(r->main, i);
		struct referring f = {.r = r, .file = r->main_file, .from = name};
		struct slice raw;
		if (!conf_main_raw(r->main, name, &raw, &f.line)) {
			continue;
		}
		expand_references(raw, on_reference, &f);
		if (slice_eq(name, SLICE("smtpd_restriction_classes"))) {
			struct slice word;
			while (slice_word(&raw, " \t\r\n,", &word)) {
				(void)main_cf_mark(r->main, word);
			}
		}
	}
}

/* How many letters have to change, at most three told apart. */
static unsigned distance(struct slice a, struct slice b)
{
	unsigned row[LIMIT_PARAM_NAME + 1];

	if (a.n > LIMIT_PARAM_NAME || b.n > LIMIT_PARAM_NAME) {
		return UINT_MAX;
	}
	for (unsigned j = 0; j <= b.n; j++) {
		row[j] = j;
	}
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned corner = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			unsigned best = corner + (a.p[i - 1] != b.p[j - 1]);
			corner = row[j];
			best = row[j] + 1 < best ? row[j] + 1 : best;
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			row[j] = best;
		}
	}
	return row[b.n];
}

/* Null when nothing is near. */
static const char *nearest(struct slice name)
{
	const char *best = NULL;
	unsigned least = 3;

	for (unsigned p = 0; p < CONF_COUNT; p++) {
		const char *candidate = conf_param_info((enum conf_param)p)->name;
		unsigned d = distance(name, slice_from_cstr(candidate));
		if (d < least) {
			least = d;
			best = candidate;
		}
	}
	return best;
}

static void warn_of_name(struct reading *r, const char *file, unsigned line, struct slice name)
{
	const char *near;

	switch (postfix_name_find(name)) {
	case POSTFIX_NAME_IDLE:
		break;
	case POSTFIX_NAME_KNOWN:
		problems_add(r->s, false, file, line, "%.*s: accepted, without effect",
			SLICE_ARG(slice_head(name, 100)));
		break;
	case POSTFIX_NAME_NONE:
		near = nearest(name);
		problems_add(r->s, false, file, line, "%.*s: unknown parameter%s%s%s",
			SLICE_ARG(slice_head(name, 100)), near == NULL ? "" : "; did you mean ",
			near == NULL ? "" : near, near == NULL ? "" : "?");
		break;
	}
}

static void warn_of_names(struct reading *r)
{
	for (size_t i = 0; i < conf_main_count(r->main); i++) {
		struct slice name = conf_main_name_at(r->main, i);
		struct slice value = SLICE_EMPTY;
		if (conf_param_find(name) != CONF_COUNT || main_cf_is_marked(r->main, i)) {
			continue;
		}
		/* "alias_maps =" asks for nothing. */
		(void)conf_main_get(r->main, name, &value);
		if (value.n == 0 && postfix_name_find(name) != POSTFIX_NAME_NONE) {
			continue;
		}
		warn_of_name(r, r->main_file, main_cf_line(r->main, name), name);
	}
}

/* ---- listeners ---- */

/* What a listener's options and main.cf say together. */
struct overlay {
	const struct conf_main *main;
	const struct master_cf_service *service;
};

static bool find_in_overlay(const void *arg, struct slice name, struct slice *raw)
{
	const struct overlay *o = arg;

	/* As on a command line, the last one counts. */
	for (size_t i = o->service->option_count; i > 0; i--) {
		if (slice_eq(slice_from_cstr(o->service->options[i - 1].name), name)) {
			*raw = slice_from_cstr(o->service->options[i - 1].value);
			return true;
		}
	}
	return main_cf_find(o->main, name, raw);
}

static bool is_option(const struct master_cf_service *s, const char *name)
{
	for (size_t i = 0; i < s->option_count; i++) {
		if (strcmp(s->options[i].name, name) == 0) {
			return true;
		}
	}
	return false;
}

static void check_option_names(struct reading *r, const struct master_cf_service *s)
{
	for (size_t i = 0; i < s->option_count; i++) {
		struct slice name = slice_from_cstr(s->options[i].name);
		struct referring f = {.r = r,
			.file = r->master_file,
			.line = s->line,
			.from = name};
		enum conf_param p = conf_param_find(name);
		expand_references(slice_from_cstr(s->options[i].value), on_reference, &f);
		if (p == CONF_COUNT) {
			bool is_own = conf_main_is_set(r->main, name) &&
				      postfix_name_find(name) == POSTFIX_NAME_NONE;
			if (!is_own) {
				warn_of_name(r, r->master_file, s->line, name);
			}
		} else if ((conf_param_info(p)->sees & SEES_SMTPD) == 0) {
			problems_add(r->s, false, r->master_file, s->line,
				"%s: not a matter of one listener; without effect here",
				s->options[i].name);
		}
	}
}

/* One setting as the listener has it; differences are appended to options. */
static void take_listener_setting(struct reading *r, const struct master_cf_service *s,
	enum conf_param p, struct conf_builder *apart, struct buf *options)
{
	const struct overlay o = {.main = r->main, .service = s};
	const struct expand_source from = {.find = find_in_overlay, .arg = &o};
	const char *name = conf_param_info(p)->name;
	const struct place at = {.file = r->master_file, .line = s->line, .name = name};
	struct slice raw = SLICE_EMPTY;
	struct slice common = SLICE_EMPTY;
	struct buf text;
	struct buf spliced;
	struct buf why;

	buf_init(&text, LIMIT_PARAM_VALUE);
	buf_init(&spliced, LIMIT_PARAM_VALUE);
	buf_init(&why, LIMIT_TEXT);
	(void)find_in_overlay(&o, slice_from_cstr(name), &raw);
	(void)conf_main_get(r->main, slice_from_cstr(name), &common);
	if (expand_text(raw, &from, &text, &why) != ERR_OK) {
		/* Without the listener's doing it has been told already. */
		if (is_option(s, name)) {
			problems_add(r->s, true, at.file, at.line, "%s: %.*s", name,
				SLICE_ARG(buf_view(&why)));
		}
		goto out;
	}
	if (slice_eq(slice_trim(buf_view(&text)), slice_trim(common))) {
		goto out;
	}
	struct slice value = slice_trim(buf_view(&text));
	if (conf_param_type(p) == CONF_TYPE_CIDR && slice_find(value, '/') != value.n) {
		if (!splice_networks(r, &at, value, &spliced)) {
			goto out;
		}
		value = slice_trim(buf_view(&spliced));
	}
	if (conf_builder_set(apart, slice_from_cstr(name), value, &why) != ERR_OK) {
		problems_add(r->s, true, at.file, at.line, "%s: %.*s", name,
			SLICE_ARG(buf_view(&why)));
		goto out;
	}
	take_files(r, &at, p, value);
	warn_of_value(r, &at, p, value);
	if (buf_len(options) + strlen(name) + value.n + 2 > options->max) {
		problems_add(r->s, true, at.file, at.line,
			"its options are longer than %u bytes", LIMIT_PARAM_VALUE);
	} else if (buf_printf(options, "%s=%.*s\n", name, SLICE_ARG(value)) != ERR_OK) {
		buf_reset(options);
	}
out:
	buf_clear(&text);
	buf_clear(&spliced);
	buf_clear(&why);
}

static void take_listener(struct reading *r, const struct master_cf_service *s)
{
	struct conf_builder *apart = conf_builder_new();
	struct buf options;

	buf_init(&options, LIMIT_PARAM_VALUE);
	check_option_names(r, s);
	if (s->option_count != 0) {
		for (unsigned p = 0; p < CONF_COUNT; p++) {
			if ((conf_param_info((enum conf_param)p)->sees & SEES_SMTPD) != 0) {
				take_listener_setting(r, s, (enum conf_param)p, apart,
					&options);
			}
		}
	}
	struct conf_source *to = r->s;
	to->listeners =
		alloc_resize(to->listeners, to->listener_count + 1, sizeof(*to->listeners));
	struct conf_listener *l = &to->listeners[to->listener_count++];
	*l = (struct conf_listener){.port = s->port,
		.processes = s->processes,
		.line = s->line};
	l->name = alloc_cstr(s->name);
	l->host = s->host == NULL ? NULL : alloc_cstr(s->host);
	l->options = alloc_zero(buf_len(&options) + 1, 1);
	struct slice text = buf_view(&options);
	if (text.p != NULL) {
		memcpy(l->options, text.p, text.n);
	}
	buf_clear(&options);
	conf_builder_free(&apart);
}

/* ---- all of it ---- */

static bool read_text(struct reading *r, const char *path, size_t max, struct buf *to)
{
	struct stat st = {.st_mode = 0};
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	enum err e = read_file(path, max, to, &st, &why);
	if (e != ERR_OK) {
		/* The reason begins with the path, as this problem does. */
		struct slice reason = buf_view(&why);
		if (slice_starts(reason, slice_from_cstr(path))) {
			reason = slice_trim(slice_skip(reason, strlen(path) + 1));
		}
		problems_add(r->s, true, path, 0, "cannot be read: %.*s", SLICE_ARG(reason));
		buf_init(to, max);
	} else if ((st.st_mode & S_IWOTH) != 0) {
		problems_add(r->s, false, path, 0, "everybody can write to it");
	}
	buf_clear(&why);
	return e == ERR_OK;
}

static void check_together(struct reading *r)
{
	struct buf why;
	struct conf *c = NULL;

	buf_init(&why, LIMIT_TEXT);
	if (conf_builder_end(&r->builder, &why, &c) != ERR_OK) {
		/* The explanation begins with the name of a parameter. */
		struct slice text = buf_view(&why);
		struct slice rest = text;
		struct slice word = SLICE_EMPTY;
		unsigned line = 0;
		while (line == 0 && slice_word(&rest, " :,", &word)) {
			line = main_cf_line(r->main, word);
		}
		problems_add(r->s, true, r->main_file, line, "%.*s", SLICE_ARG(text));
	} else if (conf_is(c, CONF_smtpd_tls_security_level, "may") &&
		   conf_text(c, CONF_smtpd_tls_cert_file).n == 0) {
		problems_add(r->s, false, r->main_file,
			main_cf_line(r->main, SLICE("smtpd_tls_security_level")),
			"smtpd_tls_security_level: without smtpd_tls_cert_file STARTTLS is not offered");
	}
	r->s->checked = c;
	buf_clear(&why);
}

/* The same for what a listener's options make of it, as smtpd will. */
static void check_listener_together(struct reading *r, const struct conf_listener *l)
{
	struct conf_builder *b = conf_builder_copy(r->s->checked);
	struct slice rest = slice_from_cstr(l->options);
	struct conf *c = NULL;
	struct slice line;
	struct buf why;
	enum err e = ERR_OK;

	buf_init(&why, LIMIT_TEXT);
	while (e == ERR_OK && slice_cut(&rest, '\n', &line)) {
		e = conf_builder_set_line(b, line, &why);
	}
	if (e == ERR_OK) {
		e = conf_builder_end(&b, &why, &c);
	}
	if (e != ERR_OK) {
		problems_add(r->s, true, r->master_file, l->line, "%.*s",
			SLICE_ARG(buf_view(&why)));
	}
	conf_builder_free(&b);
	conf_free(&c);
	buf_clear(&why);
}

static void drop_files(struct conf_source *s)
{
	for (size_t i = 0; i < s->file_count; i++) {
		free(s->files[i].name_memory);
	}
	ALLOC_FREE(s->files);
	s->file_count = 0;
}

static char *join(const char *dir, const char *name)
{
	size_t n = strlen(dir);

	while (n > 1 && dir[n - 1] == '/') {
		n--;
	}
	size_t size = n + strlen(name) + 2;
	char *path = alloc_bytes(size);
	(void)snprintf(path, size, "%.*s/%s", (int)n, dir, name);
	return path;
}

void conf_source_read(const char *dir, struct conf_source *out)
{
	struct reading r = {.s = out};
	struct master_cf master = {.services = NULL};
	struct buf text = {.data = NULL};

	*out = (struct conf_source){.main = NULL};
	r.main_file = join(dir == NULL ? "" : dir, "main.cf");
	r.master_file = join(dir == NULL ? "" : dir, "master.cf");
	r.builder = conf_builder_new();
	if (dir == NULL) {
		problems_add(out, true, "main.cf", 0, "no configuration directory was named");
		buf_init(&text, 0);
		r.main = main_cf_parse(SLICE_EMPTY, r.main_file, out);
	} else {
		(void)read_text(&r, r.main_file, MAIN_CF_BYTES_MAX, &text);
		r.main = main_cf_parse(buf_view(&text), r.main_file, out);
		main_cf_override(r.main, SLICE("config_directory"), slice_from_cstr(dir));
	}
	buf_clear(&text);
	out->main = r.main;
	find_names(&r);
	main_cf_expand(r.main, out);
	take_main(&r);
	mark_main(&r);
	if (dir != NULL && read_text(&r, r.master_file, MASTER_CF_BYTES_MAX, &text)) {
		master_cf_parse(buf_view(&text), r.master_file, out, &master);
		buf_clear(&text);
		for (size_t i = 0; i < master.count; i++) {
			take_listener(&r, &master.services[i]);
		}
		if (master.count == 0 && !out->has_fatal) {
			problems_add(out, false, r.master_file, 0,
				"has no inet service with smtpd: nothing listens, no mail is taken");
		}
	}
	warn_of_names(&r);
	if (!out->has_fatal) {
		check_together(&r);
	}
	for (size_t i = 0; out->checked != NULL && i < out->listener_count; i++) {
		check_listener_together(&r, &out->listeners[i]);
	}
	for (size_t i = 0; out->checked != NULL && i < out->file_count; i++) {
		enum err e = conf_file(out->checked, out->files[i].name, &out->files[i].bytes);
		assert(e == ERR_OK);
		(void)e;
	}
	if (out->has_fatal) {
		drop_files(out);
		conf_free(&out->checked);
	}
	conf_builder_free(&r.builder);
	master_cf_clear(&master);
	free(r.main_file);
	free(r.master_file);
}

void conf_source_clear(struct conf_source *s)
{
	for (size_t i = 0; i < s->listener_count; i++) {
		free(s->listeners[i].name);
		free(s->listeners[i].host);
		free(s->listeners[i].options);
	}
	free(s->listeners);
	drop_files(s);
	problems_clear(s);
	conf_free(&s->checked);
	main_cf_free(&s->main);
	*s = (struct conf_source){.main = NULL};
}

size_t conf_source_file_count(const struct conf_source *s)
{
	return s->file_count;
}

struct conf_source_file conf_source_file_at(const struct conf_source *s, size_t i)
{
	assert(i < s->file_count);
	return s->files[i];
}

enum err conf_source_conf(const struct conf_source *s, struct conf **out)
{
	struct buf why;

	if (s->has_fatal || s->checked == NULL) {
		return ERR_CONFIG;
	}
	struct conf_builder *b = conf_builder_copy(s->checked);
	buf_init(&why, LIMIT_TEXT);
	enum err e = conf_builder_end(&b, &why, out);
	buf_clear(&why);
	return e;
}
