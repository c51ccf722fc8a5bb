/* SPDX-License-Identifier: Apache-2.0 */
/* settings: one reading of the configuration, and what each program is sent of it. */
#ifndef MASTER_SETTINGS_H
#define MASTER_SETTINGS_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/parser.h"
#include "common/ipc/channel.h"
#include "master/topology.h"

struct settings {
	uint64_t epoch;
	struct conf_source source;
	struct conf *conf;
	struct buf doors; /* content of CONF_FILE_LISTENERS */
};

/* Reads DIR. ERR_CONFIG: source.problems has something fatal; conf is then null. */
MUST_CHECK enum err settings_read(struct settings *s, const char *dir, uint64_t epoch);
void settings_clear(struct settings *s);
/* Sends the program its part. */
MUST_CHECK enum err settings_send(const struct settings *s, const struct program *to,
	struct channel *c);

#endif
