/* SPDX-License-Identifier: Apache-2.0 */
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "master/topology.h"
#include "master/users.h"

#define REMEDY                                                                                 \
	"; as root run `systemd-sysusers' with etc/sysusers.d/ekiden.conf, or `make users'"

/* NOLINTBEGIN(concurrency-mt-unsafe): one thread. */

static enum err user_find(const struct program *p, struct users *u, struct buf *why)
{
	const struct passwd *pw = getpwnam(p->user);

	if (pw == NULL) {
		enum err e = buf_printf(why, "there is no user %s" REMEDY, p->user);
		return e == ERR_OK ? ERR_CONFIG : e;
	}
	if (pw->pw_uid == 0 || pw->pw_gid == 0 ||
		(p->queue_group && pw->pw_gid != u->queue_group)) {
		enum err e = buf_printf(why,
			"the user %s must not be root, and its group must be %s", p->user,
			p->queue_group ? TOPOLOGY_QUEUE_GROUP : "one of its own");
		return e == ERR_OK ? ERR_CONFIG : e;
	}
	u->of[p->role] = (struct user){pw->pw_uid, pw->pw_gid};
	return ERR_OK;
}

/* Two programs that share a user can reach into each other. */
static enum err users_differ(const struct users *u, struct buf *why)
{
	for (unsigned a = 0; a < ROLE_COUNT; a++) {
		for (unsigned b = a + 1; b < ROLE_COUNT; b++) {
			if (u->of[a].uid != 0 && u->of[a].uid == u->of[b].uid) {
				enum err e = buf_printf(why, "the users %s and %s are the same",
					topology_program((enum role)a)->user,
					topology_program((enum role)b)->user);
				return e == ERR_OK ? ERR_CONFIG : e;
			}
		}
	}
	return ERR_OK;
}

enum err users_find(struct users *out, struct buf *why)
{
	struct users u = {.is_root = geteuid() == 0};
	enum err e = ERR_OK;

	if (!u.is_root) {
		*out = u;
		return ERR_OK;
	}
	const struct group *gr = getgrnam(TOPOLOGY_QUEUE_GROUP);
	if (gr == NULL) {
		e = buf_printf(why, "there is no group %s" REMEDY, TOPOLOGY_QUEUE_GROUP);
		return e == ERR_OK ? ERR_CONFIG : e;
	}
	u.queue_group = gr->gr_gid;
	for (unsigned r = 0; r < ROLE_COUNT && e == ERR_OK; r++) {
		const struct program *p = topology_program((enum role)r);
		if (p != NULL) {
			e = user_find(p, &u, why);
		}
	}
	if (e == ERR_OK) {
		e = users_differ(&u, why);
	}
	if (e == ERR_OK) {
		*out = u;
	}
	return e;
}

/* NOLINTEND(concurrency-mt-unsafe) */
