/* SPDX-License-Identifier: Apache-2.0 */
/* logfile: where descriptor 2 of all programs leads. */
#ifndef MASTER_LOGFILE_H
#define MASTER_LOGFILE_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/conf.h"

/*
 * Opens what the settings name: maillog_file; without one, data_directory/ekiden.log in the
 * background, and *fd stays -1 in the foreground: leave standard error as it is. *path (to be
 * freed) is null then. ERR_CONFIG: why says what is wrong with it.
 */
MUST_CHECK enum err logfile_open(const struct conf *c, bool background, int *fd, char **path,
	struct buf *why);

#endif
