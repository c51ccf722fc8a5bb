/* SPDX-License-Identifier: Apache-2.0 */
/* settings: what cleanup has made of its configuration; whole, and never changed. */
#ifndef CLEANUP_SETTINGS_H
#define CLEANUP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "cleanup/composer.h"
#include "cleanup/dkim_keys.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/conf.h"

struct settings {
	char *hostname;
	char *mail_name;
	char *canonicalization;
	struct composer_rules composer; /* its slices point at the above */
	struct dkim_keys *keys;
	bool dkim_required;
	bool suppression;            /* looked up at all */
	uint64_t message_size_limit; /* UINT64_MAX: none but what the disk sets */
	uint64_t queue_minfree;      /* as configured */
};

/* ERR_CONFIG with why. */
MUST_CHECK enum err settings_new(const struct conf *c, struct buf *why, struct settings **out);
void settings_free(struct settings **s);

#endif
