/* SPDX-License-Identifier: Apache-2.0 */
#include "master/settings.h"

#define DOORS_MAX ((size_t)1024 * 1024)
/* Who connects out, or decides where to. */
#define SEES_DOORS (SEES_QMGR | SEES_RESOLVE | SEES_OUT)

enum err settings_read(struct settings *s, const char *dir, uint64_t epoch)
{
	*s = (struct settings){.epoch = epoch};
	buf_init(&s->doors, DOORS_MAX);
	conf_source_read(dir, &s->source);
	return conf_source_conf(&s->source, &s->conf);
}

void settings_clear(struct settings *s)
{
	conf_free(&s->conf);
	conf_source_clear(&s->source);
	buf_clear(&s->doors);
}

static enum err send_params(const struct settings *s, unsigned sees, struct channel *c)
{
	enum err e = ERR_OK;

	for (unsigned i = 0; i < CONF_COUNT && e == ERR_OK; i++) {
		enum conf_param p = (enum conf_param)i;
		const struct conf_param_info *info = conf_param_info(p);
		if ((info->sees & sees) == 0) {
			continue;
		}
		struct msg_conf_param m = {.name = slice_from_cstr(info->name),
			.value = conf_value_text(s->conf, p)};
		e = msg_conf_param_send(c, &m);
	}
	return e;
}

/* In pieces; an empty file is one empty piece. */
static enum err send_file(struct slice name, struct slice bytes, struct channel *c)
{
	enum err e;

	do {
		struct msg_conf_file m = {.name = name,
			.bytes = slice_head(bytes, LIMIT_CHUNK_BYTES)};
		bytes = slice_skip(bytes, LIMIT_CHUNK_BYTES);
		e = msg_conf_file_send(c, &m);
	} while (e == ERR_OK && bytes.n != 0);
	return e;
}

static enum err send_files(const struct settings *s, unsigned sees, struct channel *c)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < conf_source_file_count(&s->source) && e == ERR_OK; i++) {
		struct conf_source_file f = conf_source_file_at(&s->source, i);
		if ((f.sees & sees) != 0) {
			e = send_file(f.name, f.bytes, c);
		}
	}
	if (e == ERR_OK && (sees & SEES_DOORS) != 0) {
		e = send_file(SLICE(CONF_FILE_LISTENERS), buf_view(&s->doors), c);
	}
	return e;
}

enum err settings_send(const struct settings *s, const struct program *to, struct channel *c)
{
	struct msg_conf_begin begin = {.epoch = s->epoch};
	struct msg_conf_end end = {.epoch = s->epoch};
	enum err e = msg_conf_begin_send(c, &begin);

	if (e == ERR_OK) {
		e = send_params(s, to->sees, c);
	}
	if (e == ERR_OK) {
		e = send_files(s, to->sees, c);
	}
	return e == ERR_OK ? msg_conf_end_send(c, &end) : e;
}
