/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/settings.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/conf/table.h"

#define SIZE_UNLIMITED (UINT64_C(16) * 1024 * 1024 * 1024)

static enum err find_file(const void *arg, struct slice name, struct slice *content)
{
	return conf_file(arg, name, content);
}

static enum err read_keys(const struct conf *c, struct buf *why, struct dkim_keys **out)
{
	struct dkim_key_files files = {.find = find_file, .arg = c};
	struct table *table = NULL;
	enum err e = table_from_conf(c, CONF_dkim_keys, why, &table);

	if (e != ERR_OK) {
		return e;
	}
	e = dkim_keys_new(table, &files, why, out);
	table_free(&table);
	return e;
}

enum err settings_new(const struct conf *c, struct buf *why, struct settings **out)
{
	struct settings *s = alloc_zero(1, sizeof(*s));
	enum err e = read_keys(c, why, &s->keys);

	if (e != ERR_OK) {
		free(s);
		return e;
	}
	s->hostname = alloc_cstr(conf_cstr(c, CONF_myhostname));
	s->mail_name = alloc_cstr(conf_cstr(c, CONF_mail_name));
	s->canonicalization = alloc_cstr(conf_cstr(c, CONF_dkim_canonicalization));
	s->composer = (struct composer_rules){
		.hostname = slice_from_cstr(s->hostname),
		.mail_name = slice_from_cstr(s->mail_name),
		.add_missing = conf_bool(c, CONF_always_add_missing_headers),
		.show_tls = conf_bool(c, CONF_smtpd_tls_received_header),
		.hopcount_limit = (unsigned)conf_count(c, CONF_hopcount_limit),
	};
	s->dkim_required = conf_bool(c, CONF_dkim_required);
	s->suppression = !conf_is(c, CONF_suppression_action, "off");
	s->message_size_limit = conf_count(c, CONF_message_size_limit);
	if (s->message_size_limit == 0) {
		s->message_size_limit = SIZE_UNLIMITED;
	}
	s->queue_minfree = conf_count(c, CONF_queue_minfree);
	*out = s;
	return ERR_OK;
}

void settings_free(struct settings **settings)
{
	struct settings *s = *settings;

	if (s == NULL) {
		return;
	}
	dkim_keys_free(&s->keys);
	free(s->hostname);
	free(s->mail_name);
	free(s->canonicalization);
	ALLOC_FREE(*settings);
}
