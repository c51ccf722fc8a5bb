/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: what a type alone does not say about a setting.
 */
#ifndef COMMON_CONF_CHECK_H
#define COMMON_CONF_CHECK_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/conf.h"
#include "common/conf/value.h"

/* One value. Words that are known and mean nothing here (permit_sasl_authenticated) are dropped
 * from it. */
MUST_CHECK enum err conf_check_value(enum conf_param p, struct conf_value *v, struct buf *why);
/* A word of smtpd_relay_restrictions that conf_check_value() drops. */
bool conf_restriction_is_idle(struct slice word);
/* How values fit together. */
MUST_CHECK enum err conf_check_together(const struct conf *c, struct buf *why);
/* "domain", "domain:port", "[host]", "[host]:port", "[address]:port". */
bool conf_nexthop_is_valid(struct slice text);
/* A value of transport_maps. */
bool conf_transport_is_valid(struct slice value);
/* A host name, as far as a name of this host has to be one. */
bool conf_hostname_is_valid(struct slice name);

#endif
