/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/conf/expand.h"
#include "common/conf/lines.h"
#include "common/conf/main_cf.h"
#include "common/conf/problems.h"

struct entry {
	struct hash_link link;
	struct slice name;
	struct slice raw;
	struct slice value; /* expanded */
	unsigned line;
	bool is_marked;
};

struct override {
	struct slice name;
	struct slice text;
};

struct conf_main {
	struct arena texts; /* all names and texts */
	char *file;
	struct entry **entries;
	size_t count;
	struct hash_table by_name;
	struct override overrides[8];
	size_t override_count;
	struct slice values[CONF_COUNT]; /* expanded */
};

/* The texts of a file of 4 MiB, each expanded to its maximum, stay far below it. */
#define TEXTS_MAX ((size_t)4 << 30)

static struct slice copy(struct conf_main *m, struct slice s)
{
	struct slice kept = SLICE_EMPTY;
	bool fits = arena_copy(&m->texts, s, &kept);

	assert(fits);
	(void)fits;
	return kept;
}

void main_cf_free(struct conf_main **m)
{
	if (*m == NULL) {
		return;
	}
	for (size_t i = 0; i < (*m)->count; i++) {
		free((*m)->entries[i]);
	}
	arena_clear(&(*m)->texts);
	hash_table_clear(&(*m)->by_name);
	free((*m)->entries);
	free((*m)->file);
	ALLOC_FREE(*m);
}

static struct entry *entry_find(const struct conf_main *m, struct slice name)
{
	struct hash_link *link = hash_table_find(&m->by_name, name);

	return link == NULL ? NULL : CONTAINER_OF(link, struct entry, link);
}

static void entry_set(struct conf_main *m, struct slice name, struct slice raw, unsigned line,
	struct conf_source *problems)
{
	struct entry *e = entry_find(m, name);

	if (e != NULL) {
		problems_add(problems, false, m->file, line, "%.*s: overrides line %u",
			SLICE_ARG(name), e->line);
		e->raw = copy(m, raw);
		e->line = line;
		return;
	}
	if (m->count == MAIN_CF_NAMES_MAX) {
		problems_add(problems, true, m->file, line, "more than %u names",
			MAIN_CF_NAMES_MAX);
		return;
	}
	e = alloc_zero(1, sizeof(*e));
	e->name = copy(m, name);
	e->raw = copy(m, raw);
	e->line = line;
	m->entries = alloc_resize(m->entries, m->count + 1, sizeof(struct entry *));
	m->entries[m->count++] = e;
	hash_table_insert(&m->by_name, &e->link, e->name);
}

static bool name_is_valid(struct slice name)
{
	for (size_t i = 0; i < name.n; i++) {
		uint8_t c = ascii_lower(name.p[i]);
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) {
			return false;
		}
	}
	return name.n != 0 && name.n <= LIMIT_PARAM_NAME;
}

struct conf_main *main_cf_parse(struct slice text, const char *file,
	struct conf_source *problems)
{
	struct conf_main *m = alloc_zero(1, sizeof(*m));
	struct lines lines;
	struct slice line;
	unsigned number;

	m->file = alloc_cstr(file);
	arena_init(&m->texts, TEXTS_MAX);
	hash_table_init(&m->by_name);
	if (slice_find(text, '\0') != text.n) {
		problems_add(problems, true, file, 0,
			"holds a NUL byte: this is not a text file");
		return m;
	}
	lines_init(&lines, text);
	while (lines_next(&lines, &line, &number)) {
		size_t n = slice_find(line, '=');
		struct slice name = slice_trim(slice_head(line, n));
		struct slice raw = slice_trim(slice_skip(line, n + 1));
		if (n == line.n) {
			problems_add(problems, true, file, number,
				"expected \"name = value\", found \"%.*s\"",
				SLICE_ARG(slice_head(line, 100)));
		} else if (!name_is_valid(name)) {
			problems_add(problems, true, file, number,
				"\"%.*s\" cannot be a name: letters, digits and _ only",
				SLICE_ARG(slice_head(name, 100)));
		} else if (raw.n > LIMIT_PARAM_VALUE) {
			problems_add(problems, true, file, number, "%.*s: longer than %u bytes",
				SLICE_ARG(name), LIMIT_PARAM_VALUE);
		} else {
			entry_set(m, name, raw, number, problems);
		}
	}
	if (lines.orphan != 0) {
		problems_add(problems, false, file, lines.orphan,
			"begins with a blank but continues nothing; it is ignored");
	}
	lines_clear(&lines);
	return m;
}

void main_cf_override(struct conf_main *m, struct slice name, struct slice text)
{
	struct override *o = NULL;

	for (size_t i = 0; i < m->override_count && o == NULL; i++) {
		if (slice_eq(m->overrides[i].name, name)) {
			o = &m->overrides[i];
		}
	}
	if (o == NULL && m->override_count < ARRAY_LEN(m->overrides)) {
		o = &m->overrides[m->override_count++];
		o->name = copy(m, name);
	}
	if (o != NULL) {
		o->text = copy(m, text);
	}
}

static bool override_find(const struct conf_main *m, struct slice name, struct slice *text)
{
	for (size_t i = 0; i < m->override_count; i++) {
		if (slice_eq(m->overrides[i].name, name)) {
			*text = m->overrides[i].text;
			return true;
		}
	}
	return false;
}

bool main_cf_find(const void *arg, struct slice name, struct slice *raw)
{
	const struct conf_main *m = arg;
	unsigned line;

	return override_find(m, name, raw) || conf_main_raw(m, name, raw, &line);
}

static void expand_one(struct conf_main *m, struct slice name, struct slice raw, bool is_ours,
	struct slice *value, struct conf_source *problems)
{
	const struct expand_source from = {.find = main_cf_find, .arg = m};
	struct slice fixed;
	struct buf text;
	struct buf why;

	buf_init(&text, LIMIT_PARAM_VALUE);
	buf_init(&why, LIMIT_TEXT);
	enum err e = ERR_OK;
	if (override_find(m, name, &fixed)) {
		e = buf_append(&text, fixed);
	} else {
		e = expand_text(raw, &from, &text, &why);
	}
	if (e != ERR_OK) {
		problems_add(problems, is_ours, m->file, main_cf_line(m, name), "%.*s: %.*s",
			SLICE_ARG(name), SLICE_ARG(buf_view(&why)));
		buf_reset(&text);
	}
	*value = copy(m, buf_view(&text));
	buf_clear(&text);
	buf_clear(&why);
}

void main_cf_expand(struct conf_main *m, struct conf_source *problems)
{
	for (unsigned p = 0; p < CONF_COUNT; p++) {
		struct slice name = slice_from_cstr(conf_param_info((enum conf_param)p)->name);
		struct slice raw = SLICE_EMPTY;
		unsigned line;
		if (conf_main_raw(m, name, &raw, &line)) {
			expand_one(m, name, raw, true, &m->values[p], problems);
		}
	}
	for (size_t i = 0; i < m->count; i++) {
		struct entry *e = m->entries[i];
		if (conf_param_find(e->name) == CONF_COUNT) {
			expand_one(m, e->name, e->raw, false, &e->value, problems);
		}
	}
}

bool main_cf_mark(struct conf_main *m, struct slice name)
{
	struct entry *e = entry_find(m, name);

	if (e != NULL) {
		e->is_marked = true;
	}
	return e != NULL;
}

bool main_cf_is_marked(const struct conf_main *m, size_t i)
{
	return m->entries[i]->is_marked;
}

unsigned main_cf_line(const struct conf_main *m, struct slice name)
{
	const struct entry *e = entry_find(m, name);

	return e == NULL ? 0 : e->line;
}

/* ---- parser.h ---- */

bool conf_main_get(const struct conf_main *m, struct slice name, struct slice *value)
{
	enum conf_param p = conf_param_find(name);
	const struct entry *e = entry_find(m, name);

	if (p != CONF_COUNT) {
		*value = m->values[p];
		return true;
	}
	if (e != NULL) {
		*value = e->value;
		return true;
	}
	return false;
}

bool conf_main_is_set(const struct conf_main *m, struct slice name)
{
	return entry_find(m, name) != NULL;
}

size_t conf_main_count(const struct conf_main *m)
{
	return m->count;
}

struct slice conf_main_name_at(const struct conf_main *m, size_t i)
{
	return m->entries[i]->name;
}

bool conf_main_raw(const struct conf_main *m, struct slice name, struct slice *raw,
	unsigned *line)
{
	const struct entry *e = entry_find(m, name);
	enum conf_param p = conf_param_find(name);

	*line = 0;
	if (e != NULL) {
		*raw = e->raw;
		*line = e->line;
		return true;
	}
	if (p != CONF_COUNT) {
		*raw = slice_from_cstr(conf_param_info(p)->preset);
		return true;
	}
	return false;
}
