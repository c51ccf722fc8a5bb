/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/conf/conf.h"
#include "common/conf/lines.h"
#include "common/conf/table.h"
#include "common/conf/why.h"

#define KEY_MAX 1024u
#define ENTRIES_MAX 4000000u
#define TABLES_MAX 32u

struct entry {
	struct hash_link link;
	struct slice key; /* folded */
	struct slice value;
};

struct table {
	struct table *next; /* asked when this one has nothing */
	uint8_t *text;      /* what keys and values point into */
	size_t text_bytes;
	struct entry *entries;
	size_t count;
	size_t room;
	struct hash_table by_key;
	bool is_static;
};

void table_free(struct table **t)
{
	while (*t != NULL) {
		struct table *next = (*t)->next;
		hash_table_clear(&(*t)->by_key);
		free((*t)->entries);
		free((*t)->text);
		free(*t);
		*t = next;
	}
}

/* ---- specs ---- */

bool table_spec_next(struct slice *rest, struct slice *spec)
{
	return lines_word(rest, " \t\r\n,", spec);
}

static void spec_split(struct slice spec, struct slice *type, struct slice *name)
{
	/* Here every table is in the program's own memory. */
	while (slice_starts(spec, SLICE("proxy:"))) {
		spec = slice_skip(spec, 6);
	}
	size_t n = slice_find(spec, ':');
	*type = slice_head(spec, n);
	*name = slice_skip(spec, n == spec.n ? n : n + 1);
}

bool table_spec_file(struct slice spec, struct slice *path)
{
	struct slice type;

	spec_split(slice_trim(spec), &type, path);
	return slice_eq(type, SLICE("texthash"));
}

/* ---- filling ---- */

static void table_add(struct table *t, struct slice key, struct slice value)
{
	if (t->count == t->room) {
		t->room = t->room == 0 ? 16 : t->room * 2;
		t->entries = alloc_resize(t->entries, t->room, sizeof(*t->entries));
	}
	t->entries[t->count++] = (struct entry){.key = key, .value = value};
}

/* When no entry moves any more. */
static void table_index(struct table *t)
{
	size_t kept = 0;

	/* Doubles go first, so that an entry's place is final when it is linked. */
	for (size_t i = 0; i < t->count; i++) {
		t->entries[kept] = t->entries[i];
		struct entry *e = &t->entries[kept];
		if (hash_table_find(&t->by_key, e->key) == NULL) {
			hash_table_insert(&t->by_key, &e->link, e->key);
			kept++;
		}
	}
	t->count = kept;
}

static void fold(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		p[i] = ascii_lower(p[i]);
	}
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A key may have a quoted part with blanks in it: "a b"@example.com. */
static size_t key_length(struct slice line)
{
	bool is_quoted = false;

	for (size_t i = 0; i < line.n; i++) {
		if (line.p[i] == '"') {
			is_quoted = !is_quoted;
		} else if (line.p[i] == '\\' && is_quoted && i + 1 < line.n) {
			i++;
		} else if (!is_quoted && is_blank(line.p[i])) {
			return i;
		}
	}
	return line.n;
}

/* Copies s behind what the table's text holds already; there is room. */
static struct slice keep(struct table *t, struct slice s)
{
	uint8_t *to = t->text + t->text_bytes;

	if (s.n != 0) {
		memcpy(to, s.p, s.n);
	}
	t->text_bytes += s.n;
	return slice_make(to, s.n);
}

static enum err add_pair(struct table *t, struct slice key, struct slice value,
	const char *where, unsigned line, struct buf *why)
{
	const char *what = NULL;

	if (key.n == 0 || value.n == 0) {
		what = "expected a key and a value";
	} else if (key.n > KEY_MAX) {
		what = "the key is too long";
	} else if (value.n > LIMIT_PARAM_VALUE) {
		what = "the value is too long";
	} else if (slice_find(key, '\0') != key.n || slice_find(value, '\0') != value.n) {
		what = "a NUL byte";
	} else if (t->count == ENTRIES_MAX) {
		what = "too many entries";
	}
	if (what != NULL) {
		why_add(why, "%s %u: %s", where, line, what);
		return ERR_SYNTAX;
	}
	struct slice kept = keep(t, key);
	fold(t->text + t->text_bytes - kept.n, kept.n);
	table_add(t, kept, keep(t, value));
	return ERR_OK;
}

static enum err parse_text(struct table *t, struct slice content, struct buf *why)
{
	struct lines lines;
	struct slice line;
	unsigned number;
	enum err e = ERR_OK;

	t->text = alloc_bytes(content.n);
	lines_init(&lines, content);
	while (e == ERR_OK && lines_next(&lines, &line, &number)) {
		size_t n = key_length(line);
		e = add_pair(t, slice_head(line, n), slice_trim(slice_skip(line, n)), "line",
			number, why);
	}
	if (e == ERR_OK && lines.orphan != 0) {
		why_add(why, "line %u: continues nothing", lines.orphan);
		e = ERR_SYNTAX;
	}
	lines_clear(&lines);
	return e;
}

/* "k=v, {k = v w}" with or without braces around all of it. */
static enum err parse_inline(struct table *t, struct slice name, struct buf *why)
{
	struct slice rest = slice_trim(name);
	struct slice item;
	unsigned number = 0;
	enum err e = ERR_OK;

	if (rest.n < 2 || rest.p[0] != '{' || rest.p[rest.n - 1] != '}') {
		why_add(why, "expected inline:{key=value, {key = value}}");
		return ERR_SYNTAX;
	}
	rest = slice_skip(slice_head(rest, rest.n - 1), 1);
	t->text = alloc_bytes(name.n);
	while (e == ERR_OK && table_spec_next(&rest, &item)) {
		number++;
		if (item.n >= 2 && item.p[0] == '{' && item.p[item.n - 1] == '}') {
			item = slice_skip(slice_head(item, item.n - 1), 1);
		}
		size_t n = slice_find(item, '=');
		e = add_pair(t, slice_trim(slice_head(item, n)),
			slice_trim(slice_skip(item, n + 1)), "entry", number, why);
	}
	return e;
}

static enum err parse_static(struct table *t, struct slice name, struct buf *why)
{
	struct slice value = slice_trim(name);

	if (value.n >= 2 && value.p[0] == '{' && value.p[value.n - 1] == '}') {
		value = slice_trim(slice_skip(slice_head(value, value.n - 1), 1));
	}
	t->text = alloc_bytes(name.n + 1);
	t->is_static = true;
	return add_pair(t, SLICE("*"), value, "entry", 1, why);
}

static enum err refuse_type(struct slice type, struct slice name, struct buf *why)
{
	static const char *const indexed[] = {"hash", "btree", "dbm", "sdbm", "lmdb", "cdb"};

	for (size_t i = 0; i < ARRAY_LEN(indexed); i++) {
		if (slice_eq(type, slice_from_cstr(indexed[i]))) {
			why_add(why,
				"%.*s: is not read here; write texthash:%.*s, which reads the text that "
				"postmap would index",
				SLICE_ARG(type), SLICE_ARG(slice_head(name, 200)));
			return ERR_CONFIG;
		}
	}
	why_add(why,
		"must be texthash:/path, inline:{key=value, ...} or static:value (got \"%.*s\")",
		SLICE_ARG(slice_head(type, 200)));
	return ERR_CONFIG;
}

enum err table_parse(struct slice spec, struct slice content, struct buf *why,
	struct table **out)
{
	struct table *t = alloc_zero(1, sizeof(*t));
	struct slice type;
	struct slice name;
	enum err e = ERR_OK;

	spec = slice_trim(spec);
	spec_split(spec, &type, &name);
	hash_table_init(&t->by_key);
	if (slice_eq(type, SLICE("texthash"))) {
		e = parse_text(t, content, why);
	} else if (slice_eq(type, SLICE("inline"))) {
		e = parse_inline(t, name, why);
	} else if (slice_eq(type, SLICE("static"))) {
		e = parse_static(t, name, why);
	} else if (spec.n != 0) {
		e = refuse_type(type, name, why);
	}
	if (e != ERR_OK) {
		table_free(&t);
		return e;
	}
	table_index(t);
	*out = t;
	return ERR_OK;
}

enum err table_from_conf(const struct conf *c, enum conf_param p, struct buf *why,
	struct table **out)
{
	struct slice rest = conf_text(c, p);
	struct slice spec;
	struct slice path;
	struct table *first = NULL;
	struct table **last = &first;
	size_t n = 0;
	enum err e = ERR_OK;

	while (e == ERR_OK && table_spec_next(&rest, &spec)) {
		struct slice content = SLICE_EMPTY;
		if (++n > TABLES_MAX) {
			why_add(why, "more than %u tables", TABLES_MAX);
			e = ERR_TOOBIG;
			break;
		}
		if (table_spec_file(spec, &path) && conf_file(c, spec, &content) != ERR_OK) {
			why_add(why, "%.*s: the file is missing",
				SLICE_ARG(slice_head(spec, 200)));
			e = ERR_CONFIG;
			break;
		}
		e = table_parse(spec, content, why, last);
		if (e == ERR_OK) {
			last = &(*last)->next;
		}
	}
	if (e == ERR_OK && first == NULL) {
		e = table_parse(SLICE_EMPTY, SLICE_EMPTY, why, &first);
	}
	if (e != ERR_OK) {
		table_free(&first);
		return e;
	}
	*out = first;
	return ERR_OK;
}

/* ---- asking ---- */

size_t table_count(const struct table *t)
{
	size_t n = 0;

	for (; t != NULL; t = t->next) {
		n += t->count;
	}
	return n;
}

void table_at(const struct table *t, size_t i, struct slice *key, struct slice *value)
{
	while (i >= t->count) {
		i -= t->count;
		t = t->next;
		assert(t != NULL);
	}
	*key = t->entries[i].key;
	*value = t->entries[i].value;
}

/* key is folded. */
static bool find_folded(const struct table *t, struct slice key, struct slice *value)
{
	for (; t != NULL; t = t->next) {
		if (t->is_static) {
			*value = t->entries[0].value;
			return true;
		}
		struct hash_link *link = hash_table_find(&t->by_key, key);
		if (link != NULL) {
			*value = CONTAINER_OF(link, struct entry, link)->value;
			return true;
		}
	}
	return false;
}

static bool fold_key(struct slice key, uint8_t to[KEY_MAX], struct slice *out)
{
	if (key.n > KEY_MAX) {
		return false;
	}
	for (size_t i = 0; i < key.n; i++) {
		to[i] = ascii_lower(key.p[i]);
	}
	*out = slice_make(to, key.n);
	return true;
}

bool table_find(const struct table *t, struct slice key, struct slice *value)
{
	uint8_t folded[KEY_MAX];
	struct slice k;

	return fold_key(key, folded, &k) && find_folded(t, k, value);
}

bool table_find_domain(const struct table *t, struct slice domain, bool parents,
	struct slice *value)
{
	uint8_t folded[KEY_MAX];
	struct slice k;

	if (domain.n != 0 && domain.p[domain.n - 1] == '.') {
		domain.n--;
	}
	if (!fold_key(domain, folded, &k)) {
		return find_folded(t, SLICE("*"), value);
	}
	if (k.n != 0 && find_folded(t, k, value)) {
		return true;
	}
	for (size_t n = slice_find(k, '.'); n != k.n; n = slice_find(k, '.')) {
		k = slice_skip(k, n); /* ".parent" */
		if (k.n > 1 && find_folded(t, k, value)) {
			return true;
		}
		k = slice_skip(k, 1);
		if (parents && k.n != 0 && find_folded(t, k, value)) {
			return true;
		}
	}
	return find_folded(t, SLICE("*"), value);
}
