/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/proc/jail.h"
#include "common/proc/jail_build.h"

#define FAILED 99
#define NOBODY 65534

/* What a case does in the jail; its result is the exit status of the child. */
struct case_arg {
	int directory; /* held, beneath which the jail may work */
	int listener;
};

static char scratch[] = "/tmp/ekiden-jail.XXXXXX";
static char empty[64];

/* Runs step in a child that went to jail; answers the wait status. */
static int jailed(unsigned may, const char *path, uid_t uid, int (*step)(struct case_arg *a),
	struct case_arg *a)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct jail_rules rules = {.may = may};
		struct jail_identity who = {.uid = uid, .gid = uid};
		snprintf(who.path, sizeof(who.path), "%s", path);
		if (jail_enter(&rules, &who) != ERR_OK) {
			_exit(FAILED);
		}
		_exit(step(a));
	}
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int in_jail(unsigned may, int (*step)(struct case_arg *a), struct case_arg *a)
{
	return jailed(may, empty, geteuid() == 0 ? NOBODY : 0, step, a);
}

static bool exited(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static bool killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static int do_nothing(struct case_arg *a)
{
	(void)a;
	return 0;
}

static int do_state(struct case_arg *a)
{
	struct rlimit r;

	(void)a;
	if (getrlimit(RLIMIT_CORE, &r) != 0 || r.rlim_max != 0) {
		return 1;
	}
	/* The filter answers for the kernel. */
	return !JAIL_HAS_SECCOMP || prctl(PR_GET_DUMPABLE) == -1 ? 0 : 2;
}

static void enters(void **state)
{
	(void)state;
	assert_true(exited(in_jail(0, do_nothing, NULL), 0));
	assert_true(exited(in_jail(0, do_state, NULL), 0));
}

/* ---- what every program does ---- */

static int do_daily_work(struct case_arg *a)
{
	int pair[2] = {-1, -1};
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};
	char byte = 'x';

	(void)a;
	if (epoll < 0 || pipe2(pair, O_CLOEXEC) != 0 ||
		epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &ev) != 0 ||
		write(pair[1], &byte, 1) != 1 || epoll_wait(epoll, &ev, 1, 1000) != 1 ||
		read(pair[0], &byte, 1) != 1) {
		return 1;
	}
	size_t n = (size_t)8 << 20;
	char *p = malloc(n);
	if (p == NULL) {
		return 2;
	}
	memset(p, 1, n);
	char *q = realloc(p, 2 * n);
	if (q == NULL) {
		return 3;
	}
	free(q);
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static void leaves_what_daily_work_needs(void **state)
{
	(void)state;
	assert_true(exited(in_jail(0, do_daily_work, NULL), 0));
}

static int do_abort(struct case_arg *a)
{
	(void)a;
	abort();
}

static void lets_a_broken_invariant_end_the_process(void **state)
{
	(void)state;
	int status = in_jail(0, do_abort, NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- what is forbidden ---- */

static int do_fork(struct case_arg *a)
{
	(void)a;
	pid_t pid = fork();
	if (pid == 0) {
		_exit(0);
	}
	return 0;
}

static int do_exec(struct case_arg *a)
{
	char *const argv[] = {NULL};

	(void)a;
	(void)execve("/bin/true", argv, argv);
	return 0;
}

static int do_ptrace(struct case_arg *a)
{
	(void)a;
	(void)syscall(SYS_ptrace, 0, 0, 0, 0);
	return 0;
}

static int do_kill(struct case_arg *a)
{
	(void)a;
	(void)kill(getppid(), 0);
	return 0;
}

static int do_socket(struct case_arg *a)
{
	(void)a;
	(void)socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return 0;
}

static int do_unix_socketpair(struct case_arg *a)
{
	int pair[2];

	(void)a;
	(void)socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	return 0;
}

static int do_accept(struct case_arg *a)
{
	(void)accept4(a->listener, NULL, NULL, SOCK_NONBLOCK);
	return 0;
}

static int do_listen(struct case_arg *a)
{
	(void)listen(a->listener, 5);
	return 0;
}

static int do_unlink(struct case_arg *a)
{
	(void)unlinkat(a->directory, "x", 0);
	return 0;
}

static int do_executable_memory(struct case_arg *a)
{
	(void)a;
	(void)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	return 0;
}

static int do_setuid(struct case_arg *a)
{
	(void)a;
	(void)!setresuid(0, 0, 0);
	return 0;
}

static int do_chroot(struct case_arg *a)
{
	(void)a;
	(void)!chroot("/");
	return 0;
}

static int do_limit(struct case_arg *a)
{
	const struct rlimit r = {64, 64};

	(void)a;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	return 0;
}

static void kills_who_asks_for_what_is_not_on_the_list(void **state)
{
	static const struct {
		const char *what;
		unsigned may;
		int (*step)(struct case_arg *a);
	} cases[] = {
		{"fork", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_fork},
		{"exec", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_exec},
		{"ptrace", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_ptrace},
		{"a signal to others", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_kill},
		{"a socket without JAIL_CONNECT", JAIL_FILES | JAIL_ACCEPT, do_socket},
		{"socketpair", JAIL_CONNECT, do_unix_socketpair},
		{"accept without JAIL_ACCEPT", JAIL_FILES | JAIL_CONNECT, do_accept},
		{"listen", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_listen},
		{"unlink without JAIL_FILES", JAIL_CONNECT | JAIL_ACCEPT, do_unlink},
		{"memory to write and run", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT,
			do_executable_memory},
		{"another user", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_setuid},
		{"another root", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_chroot},
		{"other limits", JAIL_FILES | JAIL_CONNECT | JAIL_ACCEPT, do_limit},
	};
	struct case_arg a = {.directory = -1, .listener = -1};

	(void)state;
	if (!JAIL_HAS_SECCOMP) {
		skip();
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (!killed(in_jail(cases[i].may, cases[i].step, &a))) {
			fail_msg("survived: %s", cases[i].what);
		}
	}
}

static int do_open_anything(struct case_arg *a)
{
	static const char *const paths[] = {"/etc/passwd", "/proc/self/status", "/", ".",
		"/tmp"};

	(void)a;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			return 1;
		}
	}
	return 0;
}

static void refuses_every_file_without_killing(void **state)
{
	(void)state;
	if (!JAIL_HAS_SECCOMP) {
		skip();
	}
	assert_true(exited(in_jail(0, do_open_anything, NULL), 0));
	assert_true(exited(in_jail(JAIL_CONNECT | JAIL_ACCEPT, do_open_anything, NULL), 0));
}

/* ---- what each rule gives ---- */

static int do_files(struct case_arg *a)
{
	int fd = openat(a->directory, "made", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char back[4];

	if (fd < 0) {
		return 1;
	}
	if (pwrite(fd, "abcd", 4, 0) != 4 || fdatasync(fd) != 0 || fsync(a->directory) != 0) {
		return 2;
	}
	void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED || memcmp(p, "abcd", 4) != 0 || pread(fd, back, 4, 0) != 4) {
		return 3;
	}
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192) != 0 && errno != EOPNOTSUPP) {
		return 4;
	}
	if (mkdirat(a->directory, "sub", 0700) != 0 && errno != EEXIST) {
		return 5;
	}
	if (renameat(a->directory, "made", a->directory, "sub/made") != 0) {
		return 6;
	}
	struct stat st;
	if (fstatat(a->directory, "sub/made", &st, 0) != 0 || st.st_size != 4) {
		return 7;
	}
	return unlinkat(a->directory, "sub/made", 0) == 0 ? 0 : 8;
}

static int open_held(void)
{
	int fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void works_beneath_a_held_directory(void **state)
{
	struct case_arg a = {.directory = open_held()};

	(void)state;
	int status = in_jail(JAIL_FILES, do_files, &a);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(a.directory);
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* which version */) >= 2;
}

static int do_escape(struct case_arg *a)
{
	return openat(a->directory, "../../etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 ||
			       openat(a->directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) >=
				       0
		       ? 1
		       : 0;
}

static void does_not_leave_a_held_directory_upwards(void **state)
{
	struct case_arg a = {.directory = open_held()};

	(void)state;
	if (!has_landlock()) {
		skip();
	}
	assert_true(exited(in_jail(JAIL_FILES, do_escape, &a), 0));
	close(a.directory);
}

static int do_connect(struct case_arg *a)
{
	struct sockaddr_storage sa;
	socklen_t n = sizeof(sa);
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (tcp < 0 || udp < 0 || getsockname(a->listener, (struct sockaddr *)&sa, &n) != 0) {
		return 1;
	}
	if (connect(tcp, (struct sockaddr *)&sa, n) != 0) {
		return 2;
	}
	/* Port 0: any. */
	memset((char *)&sa + 2, 0, 2);
	if (bind(udp, (struct sockaddr *)&sa, n) != 0) {
		return 3;
	}
	if (JAIL_HAS_SECCOMP && socket(AF_UNIX, SOCK_STREAM, 0) >= 0) {
		return 4;
	}
	return 0;
}

static int do_accept_one(struct case_arg *a)
{
	int fd = accept4(a->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	return fd >= 0 ? 0 : 1;
}

static int listener_new(void)
{
	static const uint8_t loopback[16] = {[4] = 127, [7] = 1};
	struct sockaddr_storage sa;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(&sa, 0, sizeof(sa));
	memcpy(&sa, loopback, sizeof(loopback));
	sa.ss_family = AF_INET;
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, 16), 0);
	assert_int_equal(listen(fd, 5), 0);
	return fd;
}

static void connects_and_accepts_by_its_rules(void **state)
{
	struct case_arg a = {.listener = listener_new()};

	(void)state;
	int status = in_jail(JAIL_CONNECT, do_connect, &a);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	/* The connection waits in the backlog, its other end is gone. */
	assert_true(exited(in_jail(JAIL_ACCEPT, do_accept_one, &a), 0));
	close(a.listener);
}

static int do_sendfile(struct case_arg *a)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) != 0) {
		return 1;
	}
	off_t at = 0;
	return sendfile(pair[1], a->directory, &at, 1) == 1 ? 0 : 2;
}

static void reads_a_descriptor_that_it_was_given(void **state)
{
	struct case_arg a = {.directory = open("/etc/passwd", O_RDONLY | O_CLOEXEC)};

	(void)state;
	assert_true(exited(in_jail(JAIL_CONNECT, do_sendfile, &a), 0));
	close(a.directory);
}

/* ---- what is no jail ---- */

static void refuses_an_unfit_directory(void **state)
{
	char path[128];

	(void)state;
	if (geteuid() != 0) {
		skip();
	}
	assert_true(exited(jailed(0, "/nowhere/at/all", NOBODY, do_nothing, NULL), FAILED));
	assert_true(exited(jailed(0, "/", NOBODY, do_nothing, NULL), FAILED));
	assert_true(exited(jailed(0, "", NOBODY, do_nothing, NULL), FAILED));
	/* Writable by others. */
	assert_true(exited(jailed(0, "/tmp", NOBODY, do_nothing, NULL), FAILED));
	/* Not root's. */
	assert_true(exited(jailed(0, scratch, NOBODY, do_nothing, NULL), FAILED));
	/* By way of a symbolic link. */
	snprintf(path, sizeof(path), "%s-link", empty);
	assert_int_equal(symlink(empty, path), 0);
	assert_true(exited(jailed(0, path, NOBODY, do_nothing, NULL), FAILED));
	assert_int_equal(unlink(path), 0);
}

static int enter_with_group_zero(void)
{
	struct jail_rules rules = {0};
	struct jail_identity who = {.uid = NOBODY, .gid = 0};

	return jail_enter(&rules, &who) == ERR_CONFIG ? 0 : 1;
}

static void refuses_half_an_identity(void **state)
{
	(void)state;
	assert_int_equal(enter_with_group_zero(), 0);
}

static int make_directories(void **state)
{
	(void)state;
	if (mkdtemp(scratch) == NULL) {
		return -1;
	}
	snprintf(empty, sizeof(empty), "%s.empty", scratch);
	if (mkdir(empty, 0755) != 0) {
		return -1;
	}
	return geteuid() == 0 && chown(scratch, NOBODY, NOBODY) != 0 ? -1 : 0;
}

static int remove_directories(void **state)
{
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/sub", scratch);
	(void)rmdir(path);
	return rmdir(empty) != 0 || rmdir(scratch) != 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enters),
		cmocka_unit_test(leaves_what_daily_work_needs),
		cmocka_unit_test(lets_a_broken_invariant_end_the_process),
		cmocka_unit_test(kills_who_asks_for_what_is_not_on_the_list),
		cmocka_unit_test(refuses_every_file_without_killing),
		cmocka_unit_test(works_beneath_a_held_directory),
		cmocka_unit_test(does_not_leave_a_held_directory_upwards),
		cmocka_unit_test(connects_and_accepts_by_its_rules),
		cmocka_unit_test(reads_a_descriptor_that_it_was_given),
		cmocka_unit_test(refuses_an_unfit_directory),
		cmocka_unit_test(refuses_half_an_identity),
	};

	return cmocka_run_group_tests(tests, make_directories, remove_directories);
}
