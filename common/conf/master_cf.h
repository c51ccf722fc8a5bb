/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_cf: the services of master.cf as they stand there.
 */
#ifndef COMMON_CONF_MASTER_CF_H
#define COMMON_CONF_MASTER_CF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/conf/parser.h"

#define MASTER_CF_BYTES_MAX ((size_t)1024 * 1024)
#define MASTER_CF_SERVICES_MAX 1000u
#define MASTER_CF_OPTIONS_MAX 200u

/* Of a -o. Not expanded. */
struct master_cf_option {
	char *name;
	char *value;
};

/* An inet service whose command is smtpd. */
struct master_cf_service {
	char *name;
	char *host; /* null: inet_interfaces; else an IP address without brackets */
	uint16_t port;
	unsigned processes;
	unsigned line;
	struct master_cf_option *options;
	size_t option_count;
};

struct master_cf {
	struct master_cf_service *services;
	size_t count;
};

/* What is wrong goes to the problems; what is right is in *out. */
void master_cf_parse(struct slice text, const char *file, struct conf_source *problems,
	struct master_cf *out);
void master_cf_clear(struct master_cf *m);

#endif
