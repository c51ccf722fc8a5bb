/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

#include "common/io/fd.h"
#include "common/proc/jail.h"
#include "common/proc/jail_build.h"

/* What no program needs and the filter answers by itself; asking for it shows that it is there.
 */
#define FILTER_ERRNO EPERM

/* Directories are opened before the jail, when a process holds few descriptors. */
#define DIRECTORY_FD_MAX 1024

/* ---- the list of system calls ---- */

/* Descriptors that one has, memory, time, signals to oneself, the loop, the end. */
static const int calls_always[] = {SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64),
	SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(write), SCMP_SYS(writev),
	SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(sendto),
	SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
	SCMP_SYS(recvmmsg), SCMP_SYS(sendfile), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2),
	SCMP_SYS(dup3), SCMP_SYS(fcntl), SCMP_SYS(lseek), SCMP_SYS(shutdown),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx),
	SCMP_SYS(pipe2), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
	SCMP_SYS(msync), SCMP_SYS(futex), SCMP_SYS(membarrier), SCMP_SYS(rseq),
	SCMP_SYS(set_robust_list), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getcpu), SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	SCMP_SYS(times), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(getppid),
	SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getegid), SCMP_SYS(getrusage), SCMP_SYS(getrlimit), SCMP_SYS(uname),
	SCMP_SYS(sysinfo), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall),
	SCMP_SYS(signalfd4), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(poll), SCMP_SYS(ppoll),
	SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(eventfd2), SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime), SCMP_SYS(exit),
	SCMP_SYS(exit_group)};

static const int calls_files[] = {SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(unlinkat),
	SCMP_SYS(unlink), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(rename),
	SCMP_SYS(linkat), SCMP_SYS(mkdirat), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range), SCMP_SYS(syncfs), SCMP_SYS(ftruncate), SCMP_SYS(fallocate),
	SCMP_SYS(fadvise64), SCMP_SYS(readahead), SCMP_SYS(copy_file_range),
	SCMP_SYS(getdents64), SCMP_SYS(flock), SCMP_SYS(fchmod), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(access), SCMP_SYS(readlinkat), SCMP_SYS(readlink),
	SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstatfs), SCMP_SYS(statfs),
	/* LMDB opens by name: in the directory that is held. */
	SCMP_SYS(fchdir), SCMP_SYS(umask)};

/* Without JAIL_FILES libraries may still look whether a file is there; it is not. */
static const int calls_no_files[] = {SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(access),
	SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
	SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(statfs)};

static const int calls_connect[] = {SCMP_SYS(connect), SCMP_SYS(bind)};

static const int calls_accept[] = {SCMP_SYS(accept4), SCMP_SYS(accept)};

/* Asked for by libraries in passing; to be refused is harmless to them. */
static const int calls_refused[] = {SCMP_SYS(prctl), SCMP_SYS(sched_setaffinity),
	SCMP_SYS(ioctl)};

/* A call that is allowed, or refused with an errno, when one argument is right. */
struct call_if {
	int call;
	unsigned may; /* needed, 0: always */
	uint32_t action;
	struct scmp_arg_cmp arg;
};
#define DO_REFUSE(number) (SCMP_ACT_ERRNO(number))
#define IF_ARG(at, how, ...)                                                                   \
	{                                                                                      \
		(at), (how), __VA_ARGS__                                                       \
	}
static const struct call_if calls_if[] = {
	/* What is writable is never run. */
	{SCMP_SYS(mmap), 0, SCMP_ACT_ALLOW, IF_ARG(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{SCMP_SYS(mprotect), 0, SCMP_ACT_ALLOW, IF_ARG(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	/* Limits may be asked for, not set. */
	{SCMP_SYS(prlimit64), 0, SCMP_ACT_ALLOW, IF_ARG(2, SCMP_CMP_EQ, 0, 0)},
	{SCMP_SYS(socket), JAIL_CONNECT, SCMP_ACT_ALLOW, IF_ARG(0, SCMP_CMP_EQ, AF_INET, 0)},
	{SCMP_SYS(socket), JAIL_CONNECT, SCMP_ACT_ALLOW, IF_ARG(0, SCMP_CMP_EQ, AF_INET6, 0)},
	{SCMP_SYS(socket), JAIL_CONNECT, DO_REFUSE(EACCES), IF_ARG(0, SCMP_CMP_EQ, AF_UNIX, 0)},
	{SCMP_SYS(socket), JAIL_CONNECT, DO_REFUSE(EACCES),
		IF_ARG(0, SCMP_CMP_EQ, AF_NETLINK, 0)},
};

static enum err add_calls(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (seccomp_rule_add(filter, action, calls[i], 0) != 0) {
			return ERR_LIB;
		}
	}
	return ERR_OK;
}

static enum err add_conditional_calls(scmp_filter_ctx filter, unsigned may)
{
	for (size_t i = 0; i < ARRAY_LEN(calls_if); i++) {
		const struct call_if *c = &calls_if[i];
		if ((c->may & may) == c->may &&
			seccomp_rule_add_array(filter, c->action, c->call, 1, &c->arg) != 0) {
			return ERR_LIB;
		}
	}
	/* abort() and raise(): a signal to oneself. */
	struct scmp_arg_cmp self = {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0};
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self) == 0
		       ? ERR_OK
		       : ERR_LIB;
}

static enum err add_all(scmp_filter_ctx filter, unsigned may)
{
	uint32_t no = SCMP_ACT_ERRNO(EACCES);
	enum err e = add_calls(filter, SCMP_ACT_ALLOW, calls_always, ARRAY_LEN(calls_always));

	if (e == ERR_OK && (may & JAIL_FILES) != 0) {
		e = add_calls(filter, SCMP_ACT_ALLOW, calls_files, ARRAY_LEN(calls_files));
	} else if (e == ERR_OK) {
		e = add_calls(filter, no, calls_no_files, ARRAY_LEN(calls_no_files));
	}
	if (e == ERR_OK && (may & JAIL_CONNECT) != 0) {
		e = add_calls(filter, SCMP_ACT_ALLOW, calls_connect, ARRAY_LEN(calls_connect));
	}
	if (e == ERR_OK && (may & JAIL_ACCEPT) != 0) {
		e = add_calls(filter, SCMP_ACT_ALLOW, calls_accept, ARRAY_LEN(calls_accept));
	}
	if (e == ERR_OK) {
		e = add_calls(filter, SCMP_ACT_ERRNO(FILTER_ERRNO), calls_refused,
			ARRAY_LEN(calls_refused));
	}
	return e == ERR_OK ? add_conditional_calls(filter, may) : e;
}

static enum err filter_load(unsigned may)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	enum err e = ERR_LIB;

	if (filter == NULL) {
		return ERR_LIB;
	}
	/* A search tree instead of a chain: the calls of the hot path come first nowhere. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	e = add_all(filter, may);
	if (e == ERR_OK && seccomp_load(filter) != 0) {
		e = ERR_LIB;
	}
	seccomp_release(filter);
	if (e != ERR_OK) {
		return e;
	}
	/* The kernel would answer this one. */
	errno = 0;
	return prctl(PR_GET_SECCOMP) == -1 && errno == FILTER_ERRNO ? ERR_OK : ERR_DENIED;
}

/* ---- files ---- */

#define LANDLOCK_ABI_NEEDED 2 /* moving a file between directories can be allowed */
#define LANDLOCK_ABI2_ALL                                                                      \
	(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |                          \
		LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |                   \
		LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |               \
		LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |                   \
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |                   \
		LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                 \
		LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
/* What a program may do beneath a directory that it holds. */
#define LANDLOCK_BENEATH                                                                       \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |                        \
		LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                 \
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |                    \
		LANDLOCK_ACCESS_FS_REFER)

static enum err allow_held_directories(int ruleset)
{
	for (int fd = 3; fd < DIRECTORY_FD_MAX; fd++) {
		struct stat st;
		struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_BENEATH,
			.parent_fd = fd};
		if (fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode)) {
			continue;
		}
		if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule,
			    0) != 0) {
			return ERR_SYS;
		}
	}
	return ERR_OK;
}

/*
 * A held directory leads upwards, out of the chroot ("..": the kernel stops only at the
 * root of the process, which lies elsewhere). This keeps a program beneath it. A kernel
 * that has no Landlock leaves the ordinary file permissions of the program's own user.
 */
static enum err files_confine(unsigned may)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ABI2_ALL};
	long abi =
		syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < LANDLOCK_ABI_NEEDED) {
		return ERR_OK;
	}
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0) {
		return ERR_SYS;
	}
	enum err e = (may & JAIL_FILES) != 0 ? allow_held_directories(ruleset) : ERR_OK;
	if (e == ERR_OK && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
		e = ERR_SYS;
	}
	fd_close(&ruleset);
	return e;
}

static bool directory_is_empty(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	bool empty = true;

	if (dir == NULL) {
		fd_close(&copy);
		return false;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread. */
	for (struct dirent *d = readdir(dir); d != NULL; d = readdir(dir)) {
		empty = empty && (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0);
	}
	(void)closedir(dir);
	return empty;
}

static enum err root_change(const char *path)
{
	struct stat st;
	enum err e = ERR_SYS;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0) {
		goto out;
	}
	e = ERR_CONFIG;
	if (st.st_uid != 0 || (st.st_mode & 022) != 0 || !directory_is_empty(fd)) {
		goto out;
	}
	e = fchdir(fd) == 0 && chroot(".") == 0 && chdir("/") == 0 ? ERR_OK : ERR_SYS;
out:
	fd_close(&fd);
	return e;
}

/* ---- power ---- */

static enum err become(const struct jail_identity *who)
{
	if (setgroups(0, NULL) != 0 || setresgid(who->gid, who->gid, who->gid) != 0 ||
		setresuid(who->uid, who->uid, who->uid) != 0) {
		return ERR_SYS;
	}
	return ERR_OK;
}

static bool has_no_capability(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2];

	memset(caps, 0xff, sizeof(caps));
	return syscall(SYS_capget, &header, caps) == 0 &&
	       (caps[0].effective | caps[0].permitted | caps[1].effective |
		       caps[1].permitted) == 0;
}

/* The order of jail_enter() is what makes it final; asking is how we know that it was. */
static bool is_powerless(const struct jail_identity *who)
{
	uid_t u[3];
	gid_t g[3];

	if (getresuid(&u[0], &u[1], &u[2]) != 0 || getresgid(&g[0], &g[1], &g[2]) != 0) {
		return false;
	}
	for (int i = 0; i < 3; i++) {
		if (u[i] != who->uid || g[i] != who->gid) {
			return false;
		}
	}
	return getgroups(0, NULL) == 0 && has_no_capability() && setresuid(0, 0, 0) != 0 &&
	       setresgid(0, 0, 0) != 0 && access("/proc", F_OK) != 0;
}

enum err jail_enter(const struct jail_rules *rules, const struct jail_identity *who)
{
	const struct rlimit none = {0, 0};
	enum err e = ERR_OK;

	if ((who->uid == 0) != (who->gid == 0)) {
		return ERR_CONFIG;
	}
	if (who->uid != 0) {
		e = root_change(who->path);
		if (e == ERR_OK) {
			e = become(who);
		}
		if (e != ERR_OK) {
			return e;
		}
	}
	if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		return ERR_SYS;
	}
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
		(who->uid != 0 && !is_powerless(who))) {
		return ERR_DENIED;
	}
	e = files_confine(rules->may);
	if (e == ERR_OK && JAIL_HAS_SECCOMP) {
		e = filter_load(rules->may);
	}
	return e;
}
