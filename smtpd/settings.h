/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings: what one listener's sessions go by, made from the configuration and the listener's
 * own "-o name=value" options.
 *
 * Nothing of the configuration is borrowed. A session keeps the settings that it began with
 * when a reload brings new ones: they are counted for that, and go with their last user.
 */
#ifndef SMTPD_SETTINGS_H
#define SMTPD_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "common/io/endpoint.h"

struct ssl_ctx_st;

enum relay_rule {
	RELAY_PERMIT_MYNETWORKS,
	RELAY_PERMIT,
	RELAY_REJECT,
	RELAY_DEFER,
	RELAY_REJECT_UNAUTH,
	RELAY_DEFER_UNAUTH,
	RELAY_RULE_COUNT
};
#define RELAY_RULES_MOST 16u

enum suppression_action {
	SUPPRESSION_REJECT,
	SUPPRESSION_DISCARD,
	SUPPRESSION_OFF
};

struct settings {
	unsigned users;
	struct arena arena; /* of the texts below */

	struct slice hostname;
	struct slice origin;   /* the domain of <postmaster> */
	struct slice greeting; /* whole replies */
	struct slice helo;
	struct slice ehlo;     /* with STARTTLS, when that is offered */
	struct slice ehlo_tls; /* without */
	struct slice listener; /* its name */

	struct cidr_list mynetworks;
	struct cidr_list uncounted; /* clients without a limit of connections */
	struct slice *destinations; /* mydestination */
	size_t destination_count;
	enum relay_rule relay[RELAY_RULES_MOST];
	size_t relay_count;
	enum suppression_action suppression;

	bool needs_helo;
	bool rejects_bare; /* lone CR and LF in content */
	bool forbids_pipelining;
	bool has_vrfy;
	bool needs_tls;         /* before MAIL */
	struct ssl_ctx_st *tls; /* null: not offered */

	uint32_t rcpt_limit;
	uint32_t soft_error_limit;
	uint32_t hard_error_limit;
	uint32_t junk_limit;
	uint32_t message_limit;    /* of one connection; 0: none */
	uint32_t client_limit;     /* connections of one client; 0: none */
	uint32_t connection_limit; /* in all */
	uint64_t size_limit;
	uint64_t min_rate; /* bytes a second in DATA; 0: any */
	int64_t idle_ms;
	int64_t command_ms;
	int64_t data_ms;
	int64_t tls_ms;
	int64_t error_delay_ms;
};

/* options: "name=value\n" lines; a name that no parameter has is logged and passed over.
 * ERR_CONFIG: why says what is wrong. One user. */
MUST_CHECK enum err settings_new(const struct conf *c, struct slice listener,
	struct slice options, struct buf *why, struct settings **out);
struct settings *settings_share(struct settings *s);
void settings_free(struct settings **s);

#endif
