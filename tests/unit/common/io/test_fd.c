/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/fd.h"

static void closes_once_and_keeps_errno(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	int same = fd;

	(void)state;
	errno = ENOSPC;
	fd_close(&fd);
	assert_int_equal(fd, -1);
	fd_close(&fd);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(fcntl(same, F_GETFD), -1);
}

static void writes_and_reads_whole(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	char got[12];

	(void)state;
	assert_int_equal(fd_write_all(fd, SLICE("hello ")), ERR_OK);
	assert_int_equal(fd_write_all(fd, SLICE_EMPTY), ERR_OK);
	assert_int_equal(fd_pwrite_all(fd, SLICE("world"), 6), ERR_OK);
	assert_int_equal(fd_pread_all(fd, got, 11, 0), ERR_OK);
	assert_memory_equal(got, "hello world", 11);
	assert_int_equal(fd_pread_all(fd, got, 0, 100), ERR_OK);
	assert_int_equal(fd_pread_all(fd, got, 12, 0), ERR_CORRUPT);
	assert_int_equal(fd_pread_all(fd, got, 1, 11), ERR_CORRUPT);
	fd_close(&fd);
	assert_int_equal(fd_write_all(fd, SLICE("x")), ERR_SYS);
	assert_int_equal(errno, EBADF);
	assert_int_equal(fd_pread_all(fd, got, 1, 0), ERR_SYS);
}

static void says_that_a_device_is_full(void **state)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	if (fd < 0) {
		skip();
	}
	assert_int_equal(fd_write_all(fd, SLICE("x")), ERR_FULL);
	assert_int_equal(fd_pwrite_all(fd, SLICE("x"), 0), ERR_FULL);
	fd_close(&fd);
}

static void a_pair_is_connected_nonblocking_and_closed_on_exec(void **state)
{
	int pair[2];
	char c = 0;

	(void)state;
	assert_int_equal(fd_socketpair(pair), ERR_OK);
	for (int i = 0; i < 2; i++) {
		assert_true((fcntl(pair[i], F_GETFD) & FD_CLOEXEC) != 0);
		assert_int_equal(read(pair[i], &c, 1), -1);
		assert_int_equal(errno, EAGAIN);
	}
	assert_int_equal(fd_write_all(pair[0], SLICE("x")), ERR_OK);
	assert_int_equal(read(pair[1], &c, 1), 1);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
}

static void sets_a_descriptor_nonblocking(void **state)
{
	int pipes[2];

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(fd_set_nonblock(pipes[0]), ERR_OK);
	assert_int_equal(fd_set_nonblock(pipes[0]), ERR_OK);
	assert_true((fcntl(pipes[0], F_GETFL) & O_NONBLOCK) != 0);
	fd_close(&pipes[0]);
	fd_close(&pipes[1]);
	assert_int_equal(fd_set_nonblock(-1), ERR_SYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(closes_once_and_keeps_errno),
		cmocka_unit_test(writes_and_reads_whole),
		cmocka_unit_test(says_that_a_device_is_full),
		cmocka_unit_test(a_pair_is_connected_nonblocking_and_closed_on_exec),
		cmocka_unit_test(sets_a_descriptor_nonblocking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
