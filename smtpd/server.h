/* SPDX-License-Identifier: Apache-2.0 */
/* server: what makes a service (common/proc/service.h) of the modules of smtpd. */
#ifndef SMTPD_SERVER_H
#define SMTPD_SERVER_H

#include "common/proc/service.h"

struct server;

struct server *server_new(void);
void server_free(struct server **s);
/* Their arg is a struct server. */
const struct service_hooks *server_hooks(void);

#endif
