/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands: the table of SMTP commands and what each does to a session.
 *
 * A handler returns its reply; only the session writes it and counts errors.
 */
#ifndef SMTPD_COMMANDS_H
#define SMTPD_COMMANDS_H

#include <stdbool.h>

#include "common/base/slice.h"
#include "smtpd/session.h"

/* line: without its end. has_more: further input stands behind it. */
struct answer commands_run(struct session *s, struct slice line, bool has_more);

#endif
