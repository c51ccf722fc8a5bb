/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "common/base/alloc.h"
#include "ctl/command.h"
#include "ctl/output.h"

struct show {
	const struct conf_main *main;
	bool only_set;
	bool defaults;
	bool expanded;
	bool bare;
	bool json;
};

static int by_name(const void *a, const void *b)
{
	return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* False: there is no such name. */
static bool value_of(const struct show *s, struct slice name, struct slice *value)
{
	enum conf_param p = conf_param_find(name);
	unsigned line;

	if (s->defaults) {
		if (p == CONF_COUNT) {
			return false;
		}
		*value = slice_from_cstr(conf_param_info(p)->preset);
		return true;
	}
	return s->expanded ? conf_main_get(s->main, name, value)
			   : conf_main_raw(s->main, name, value, &line);
}

static void show_json(const struct show *s, struct slice name, struct slice value)
{
	enum conf_param p = conf_param_find(name);
	struct slice expanded = SLICE_EMPTY;
	struct slice raw;
	struct buf text;
	unsigned line = 0;

	buf_init(&text, OUT_LINE_MAX);
	struct json j = json_begin(&text);
	json_object(&j);
	json_member_str(&j, "name", name);
	json_member_str(&j, "value", value);
	if (!s->defaults && conf_main_get(s->main, name, &expanded)) {
		json_member_str(&j, "expanded", expanded);
	}
	json_member_bool(&j, "set", conf_main_is_set(s->main, name));
	if (conf_main_raw(s->main, name, &raw, &line) && line != 0) {
		json_member_u64(&j, "line", line);
	}
	if (p != CONF_COUNT) {
		const struct conf_param_info *info = conf_param_info(p);
		json_member_str(&j, "type", slice_from_cstr(info->type));
		json_member_str(&j, "default", slice_from_cstr(info->preset));
		json_member_str(&j, "range", slice_from_cstr(info->range));
		json_member_str(&j, "meaning", slice_from_cstr(info->meaning));
	}
	json_object_end(&j);
	out_json_line(&j);
	buf_clear(&text);
}

static void show_one(const struct show *s, struct slice name, struct slice value)
{
	if (s->json) {
		show_json(s, name, value);
		return;
	}
	if (!s->bare) {
		out_text(name);
		out_printf(" =%s", value.n == 0 ? "" : " ");
	}
	out_text(value);
	out_printf("\n");
}

static int show_named(const struct show *s, char **names, size_t count)
{
	int status = EX_OK;

	for (size_t i = 0; i < count; i++) {
		struct slice name = slice_from_cstr(names[i]);
		struct slice value = SLICE_EMPTY;
		if (!value_of(s, name, &value)) {
			status = complain(EX_DATAERR, "%s: no such parameter", names[i]);
		} else if (!s->only_set || conf_main_is_set(s->main, name)) {
			show_one(s, name, value);
		}
	}
	return status;
}

static void show_all(const struct show *s)
{
	size_t set = conf_main_count(s->main);
	struct slice *names = alloc_zero(set + CONF_COUNT, sizeof(*names));
	size_t count = 0;

	for (size_t i = 0; i < set && !s->defaults; i++) {
		names[count++] = conf_main_name_at(s->main, i);
	}
	for (unsigned p = 0; p < CONF_COUNT && !s->only_set; p++) {
		struct slice name = slice_from_cstr(conf_param_info((enum conf_param)p)->name);
		if (s->defaults || !conf_main_is_set(s->main, name)) {
			names[count++] = name;
		}
	}
	qsort(names, count, sizeof(*names), by_name);
	for (size_t i = 0; i < count; i++) {
		struct slice value = SLICE_EMPTY;
		if (value_of(s, names[i], &value)) {
			show_one(s, names[i], value);
		}
	}
	free(names);
}

int verb_conf(struct command *c)
{
	struct show s = {.main = NULL};
	const struct option options[] = {{"-n", NULL, &s.only_set}, {"-d", NULL, &s.defaults},
		{"-x", NULL, &s.expanded}, {"-h", NULL, &s.bare}};
	struct conf_source source;
	int status = EX_OK;

	if (!args_take(c, options, ARRAY_LEN(options))) {
		return EX_USAGE;
	}
	if (s.only_set && s.defaults) {
		return usage_error("-n and -d exclude each other");
	}
	s.json = c->json;
	conf_source_read(c->dir, &source);
	s.main = source.main;
	for (size_t i = 0; i < source.problem_count && !s.defaults; i++) {
		const struct conf_problem *p = &source.problems[i];
		if (p->fatal && p->line == 0 && conf_main_count(source.main) == 0) {
			status = complain(EX_CONFIG, "%s: %s", p->file, p->text);
			break;
		}
	}
	if (status == EX_OK) {
		if (c->count != 0) {
			status = show_named(&s, c->args, c->count);
		} else {
			show_all(&s);
		}
	}
	conf_source_clear(&source);
	return status;
}
