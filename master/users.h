/* SPDX-License-Identifier: Apache-2.0 */
/* users: who the programs become. Not started as root, everything stays who we are. */
#ifndef MASTER_USERS_H
#define MASTER_USERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/ipc/messages.h"

struct user {
	uid_t uid;
	gid_t gid;
};

struct users {
	bool is_root;
	struct user of[ROLE_COUNT]; /* of children; all zero when not root */
	gid_t queue_group;
};

/* ERR_CONFIG: an account is missing or unfit; why says which, and the remedy. */
MUST_CHECK enum err users_find(struct users *out, struct buf *why);

#endif
