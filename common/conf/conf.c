/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/conf/check.h"
#include "common/conf/conf.h"
#include "common/conf/expand.h"
#include "common/conf/value.h"
#include "common/conf/why.h"

/* The same content serves a configuration and those made from it. */
struct blob {
	unsigned users;
	struct buf bytes;
};

struct file {
	uint8_t *name;
	size_t name_bytes;
	struct blob *blob;
};

struct conf {
	struct conf_value values[CONF_COUNT];
	struct file *files;
	size_t file_count;
	uint64_t file_bytes;
};

struct conf_builder {
	struct conf *conf;
};

static void blob_release(struct blob *b)
{
	if (--b->users == 0) {
		buf_clear(&b->bytes);
		free(b);
	}
}

void conf_free(struct conf **c)
{
	if (*c == NULL) {
		return;
	}
	for (size_t i = 0; i < CONF_COUNT; i++) {
		conf_value_clear(&(*c)->values[i]);
	}
	for (size_t i = 0; i < (*c)->file_count; i++) {
		struct file *f = &(*c)->files[i];
		free(f->name);
		blob_release(f->blob);
	}
	free((*c)->files);
	ALLOC_FREE(*c);
}

/* ---- getters ---- */

static const struct conf_value *value_of(const struct conf *c, enum conf_param p,
	unsigned types)
{
	assert(p < CONF_COUNT);
	assert((types & (1u << conf_param_type(p))) != 0);
	return &c->values[p];
}

#define TYPE_BIT(type) (1u << CONF_TYPE_##type)
#define TEXT_TYPES (TYPE_BIT(STR) | TYPE_BIT(ENUM) | TYPE_BIT(FILE) | TYPE_BIT(TABLE))

struct slice conf_value_text(const struct conf *c, enum conf_param p)
{
	assert(p < CONF_COUNT);
	return slice_make(c->values[p].text, c->values[p].text_bytes);
}

struct slice conf_text(const struct conf *c, enum conf_param p)
{
	const struct conf_value *v = value_of(c, p, TEXT_TYPES);

	return slice_make(v->text, v->text_bytes);
}

const char *conf_cstr(const struct conf *c, enum conf_param p)
{
	return value_of(c, p, TEXT_TYPES)->text;
}

bool conf_bool(const struct conf *c, enum conf_param p)
{
	return value_of(c, p, TYPE_BIT(BOOL))->number != 0;
}

uint64_t conf_count(const struct conf *c, enum conf_param p)
{
	return value_of(c, p, TYPE_BIT(COUNT) | TYPE_BIT(BYTES))->number;
}

int64_t conf_time_s(const struct conf *c, enum conf_param p)
{
	return (int64_t)value_of(c, p, TYPE_BIT(TIME))->number;
}

int64_t conf_time_ms(const struct conf *c, enum conf_param p)
{
	return conf_time_s(c, p) * 1000;
}

const struct cidr_list *conf_cidr(const struct conf *c, enum conf_param p)
{
	return &value_of(c, p, TYPE_BIT(CIDR))->networks;
}

size_t conf_list_count(const struct conf *c, enum conf_param p)
{
	return value_of(c, p, TYPE_BIT(LIST))->word_count;
}

struct slice conf_list_at(const struct conf *c, enum conf_param p, size_t i)
{
	const struct conf_value *v = value_of(c, p, TYPE_BIT(LIST));

	assert(i < v->word_count);
	return v->words[i];
}

size_t conf_endpoint_count(const struct conf *c, enum conf_param p)
{
	return value_of(c, p, TYPE_BIT(ENDPOINTS))->endpoint_count;
}

struct endpoint conf_endpoint_at(const struct conf *c, enum conf_param p, size_t i)
{
	const struct conf_value *v = value_of(c, p, TYPE_BIT(ENDPOINTS));

	assert(i < v->endpoint_count);
	return v->endpoints[i];
}

bool conf_is(const struct conf *c, enum conf_param p, const char *word)
{
	(void)value_of(c, p, TYPE_BIT(ENUM));
	return slice_eq(conf_value_text(c, p), slice_from_cstr(word));
}

static struct slice file_name(const struct file *f)
{
	return slice_make(f->name, f->name_bytes);
}

static struct file *file_find(const struct conf *c, struct slice name)
{
	for (size_t i = 0; i < c->file_count; i++) {
		if (slice_eq(file_name(&c->files[i]), name)) {
			return &c->files[i];
		}
	}
	return NULL;
}

enum err conf_file(const struct conf *c, struct slice name, struct slice *out)
{
	const struct file *f = file_find(c, name);

	if (f == NULL) {
		return ERR_NOTFOUND;
	}
	*out = buf_view(&f->blob->bytes);
	return ERR_OK;
}

/* ---- building ---- */

struct conf_builder *conf_builder_new(void)
{
	struct conf_builder *b = alloc_zero(1, sizeof(*b));

	b->conf = alloc_zero(1, sizeof(*b->conf));
	return b;
}

void conf_builder_free(struct conf_builder **b)
{
	if (*b != NULL) {
		conf_free(&(*b)->conf);
		ALLOC_FREE(*b);
	}
}

static struct file *file_add(struct conf *c, struct slice name, struct blob *blob)
{
	uint8_t *copy = alloc_bytes(name.n);

	if (name.n != 0) {
		memcpy(copy, name.p, name.n);
	}
	c->files = alloc_resize(c->files, c->file_count + 1, sizeof(*c->files));
	struct file *f = &c->files[c->file_count++];
	*f = (struct file){.name = copy, .name_bytes = name.n, .blob = blob};
	return f;
}

static enum err builder_parse(struct conf_builder *b, enum conf_param p, struct slice value,
	struct buf *why)
{
	struct conf_value v;
	enum err e = conf_value_parse(p, value, why, &v);

	if (e != ERR_OK) {
		return e;
	}
	e = conf_check_value(p, &v, why);
	if (e != ERR_OK) {
		conf_value_clear(&v);
		return e;
	}
	conf_value_clear(&b->conf->values[p]);
	b->conf->values[p] = v;
	return ERR_OK;
}

struct conf_builder *conf_builder_copy(const struct conf *c)
{
	struct conf_builder *b = conf_builder_new();
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	for (unsigned p = 0; p < CONF_COUNT; p++) {
		/* It has been parsed before. */
		enum err e = builder_parse(b, (enum conf_param)p,
			conf_value_text(c, (enum conf_param)p), &why);
		assert(e == ERR_OK);
		(void)e;
	}
	for (size_t i = 0; i < c->file_count; i++) {
		c->files[i].blob->users++;
		(void)file_add(b->conf, file_name(&c->files[i]), c->files[i].blob);
	}
	b->conf->file_bytes = c->file_bytes;
	buf_clear(&why);
	return b;
}

enum err conf_builder_set(struct conf_builder *b, struct slice name, struct slice value,
	struct buf *why)
{
	enum conf_param p = conf_param_find(name);

	if (p == CONF_COUNT) {
		why_add(why, "is no parameter");
		return ERR_NOTFOUND;
	}
	return builder_parse(b, p, value, why);
}

enum err conf_builder_set_line(struct conf_builder *b, struct slice line, struct buf *why)
{
	size_t n = slice_find(line, '=');

	if (n == line.n) {
		why_add(why, "must be name=value");
		return ERR_CONFIG;
	}
	return conf_builder_set(b, slice_trim(slice_head(line, n)),
		slice_trim(slice_skip(line, n + 1)), why);
}

enum err conf_builder_file(struct conf_builder *b, struct slice name, struct slice bytes)
{
	struct conf *c = b->conf;
	struct file *f = file_find(c, name);

	if (name.n > PATH_MAX || bytes.n > CONF_FILES_MAX - c->file_bytes) {
		return ERR_TOOBIG;
	}
	if (f == NULL) {
		struct blob *blob = alloc_zero(1, sizeof(*blob));
		blob->users = 1;
		buf_init(&blob->bytes, CONF_FILES_MAX);
		f = file_add(c, name, blob);
	}
	/* What others read is never changed. */
	assert(f->blob->users == 1);
	enum err e = buf_append(&f->blob->bytes, bytes);
	if (e == ERR_OK) {
		c->file_bytes += bytes.n;
	}
	return e;
}

/* For the defaults of what is not set: other values as they are, other defaults as they stand
 * in the schema. */
static bool find_in_builder(const void *arg, struct slice name, struct slice *raw)
{
	const struct conf *c = arg;
	enum conf_param p = conf_param_find(name);

	if (p == CONF_COUNT) {
		return false;
	}
	if (c->values[p].text == NULL) {
		*raw = slice_from_cstr(conf_param_info(p)->preset);
		return true;
	}
	*raw = conf_value_text(c, p);
	return true;
}

static void set_names(struct conf_builder *b)
{
	char host[LIMIT_HOSTNAME + 1] = "";
	struct conf *c = b->conf;
	struct buf why;

	buf_init(&why, LIMIT_TEXT);
	if (c->values[CONF_myhostname].text_bytes == 0) {
		if (gethostname(host, sizeof(host) - 1) != 0 ||
			builder_parse(b, CONF_myhostname, slice_from_cstr(host), &why) !=
				ERR_OK ||
			c->values[CONF_myhostname].text_bytes == 0) {
			/* A system without a usable name. */
			enum err e =
				builder_parse(b, CONF_myhostname, SLICE("localhost"), &why);
			assert(e == ERR_OK);
			(void)e;
		}
	}
	if (c->values[CONF_mydomain].text_bytes == 0) {
		struct slice name = conf_value_text(c, CONF_myhostname);
		struct slice domain = slice_skip(name, slice_find(name, '.') + 1);
		enum err e = builder_parse(b, CONF_mydomain,
			domain.n == 0 ? SLICE("localdomain") : domain, &why);
		assert(e == ERR_OK);
		(void)e;
	}
	buf_clear(&why);
}

static enum err set_default(struct conf_builder *b, enum conf_param p, struct buf *why)
{
	const struct expand_source from = {.find = find_in_builder, .arg = b->conf};
	struct buf text;
	struct buf reason;

	buf_init(&text, LIMIT_PARAM_VALUE);
	buf_init(&reason, LIMIT_TEXT);
	enum err e =
		expand_text(slice_from_cstr(conf_param_info(p)->preset), &from, &text, &reason);
	if (e == ERR_OK) {
		e = builder_parse(b, p, buf_view(&text), &reason);
	}
	if (e != ERR_OK) {
		why_add(why, "%s: its default %s does not fit: %.*s", conf_param_info(p)->name,
			conf_param_info(p)->preset, SLICE_ARG(buf_view(&reason)));
		e = ERR_CONFIG;
	}
	buf_clear(&text);
	buf_clear(&reason);
	return e;
}

enum err conf_builder_end(struct conf_builder **b, struct buf *why, struct conf **out)
{
	enum err e = ERR_OK;

	set_names(*b);
	for (unsigned p = 0; p < CONF_COUNT && e == ERR_OK; p++) {
		if ((*b)->conf->values[p].text == NULL) {
			e = set_default(*b, (enum conf_param)p, why);
		}
	}
	if (e == ERR_OK) {
		e = conf_check_together((*b)->conf, why);
	}
	if (e == ERR_OK) {
		*out = (*b)->conf;
		(*b)->conf = NULL;
	}
	conf_builder_free(b);
	return e;
}
