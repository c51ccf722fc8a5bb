/* SPDX-License-Identifier: Apache-2.0 */
/* settings: what the configuration says about delivery, as plain values. */
#ifndef SMTP_OUT_SETTINGS_H
#define SMTP_OUT_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/conf/conf.h"
#include "common/io/endpoint.h"

enum time_limit {
	WAIT_CONNECT,
	WAIT_HELO,
	WAIT_STARTTLS,
	WAIT_MAIL,
	WAIT_RCPT,
	WAIT_DATA_INIT,
	WAIT_DATA_XFER,
	WAIT_DATA_DONE,
	WAIT_RSET,
	WAIT_QUIT,
	WAIT_IDLE,  /* an idle connection is kept so long */
	WAIT_REUSE, /* no message begins on an older connection */
	WAIT_COUNT
};

struct settings {
	char helo_name[LIMIT_HOSTNAME + 1];
	int64_t limit_ms[WAIT_COUNT];
	uint32_t reuse_count; /* messages of one connection; 0: any */
	uint32_t address_limit;
	uint32_t total_limit;
	bool pipeline_next;
	bool skip_5xx_greeting;
	bool use_ipv4;
	bool use_ipv6;
	struct endpoint bind4; /* family 0: any */
	struct endpoint bind6;
	const struct cidr_list *forbidden; /* of the configuration they came from; null: none */
	struct slice own_doors;            /* CONF_FILE_LISTENERS, of the same */
};

/* ERR_CONFIG, and why says what would be right. */
MUST_CHECK enum err settings_read(const struct conf *c, struct settings *out, struct buf *why);

#endif
