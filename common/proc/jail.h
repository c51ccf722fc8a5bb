/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail: giving up power, in the one order that is final.
 *
 * As root: chroot into an empty directory, own user and group, no supplementary groups. Always,
 * also when not started as root (a developer's machine): no_new_privs, no core, not dumpable,
 * no file beyond the directories that are held open (Landlock, where the kernel has it),
 * seccomp allow-list. Then asks the kernel whether it worked. A system call outside the list
 * ends the process. Sanitizer builds go without seccomp.
 */
#ifndef COMMON_PROC_JAIL_H
#define COMMON_PROC_JAIL_H

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/err.h"

/* What a program may do beyond reading and writing descriptors that it has, memory, time and
 * its loop. */
enum {
	JAIL_FILES = 1, /* openat, unlinkat, renameat, fsync ... beneath directories it holds */
	JAIL_CONNECT = 2, /* socket, connect, bind to IPv4 and IPv6 */
	JAIL_ACCEPT = 4   /* accept4 on sockets it was given */
};
struct jail_rules {
	unsigned may;
};

/* Who to become; uid 0 means: not started as root, stay. */
struct jail_identity {
	uid_t uid;
	gid_t gid;
	char path[4096]; /* empty directory to chroot into; it belongs to root */
};

/*
 * ERR_CONFIG: the directory is not fit, or uid and gid do not go together; ERR_DENIED: the
 * kernel says that it did not work; ERR_SYS, ERR_LIB. After an error the process is in an
 * undefined state between: it must end.
 */
MUST_CHECK enum err jail_enter(const struct jail_rules *rules, const struct jail_identity *who);

#endif
