/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/io/fd.h"

void fd_close(int *fd)
{
	int kept = errno;

	if (*fd >= 0) {
		/* EINTR too means closed on Linux: a second close() could hit another's. */
		(void)close(*fd);
		*fd = -1;
	}
	errno = kept;
}

enum err fd_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0) {
		return err_from_errno();
	}
	if ((flags & O_NONBLOCK) != 0) {
		return ERR_OK;
	}
	return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? err_from_errno() : ERR_OK;
}

enum err fd_write_all(int fd, struct slice s)
{
	while (s.n != 0) {
		ssize_t n = write(fd, s.p, s.n);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return err_from_errno();
		}
		s = slice_skip(s, (size_t)n);
	}
	return ERR_OK;
}

enum err fd_pwrite_all(int fd, struct slice s, off_t at)
{
	while (s.n != 0) {
		ssize_t n = pwrite(fd, s.p, s.n, at);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return err_from_errno();
		}
		s = slice_skip(s, (size_t)n);
		at += n;
	}
	return ERR_OK;
}

enum err fd_pread_all(int fd, void *to, size_t n, off_t at)
{
	uint8_t *p = to;

	while (n != 0) {
		ssize_t got = pread(fd, p, n, at);
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got < 0) {
			return err_from_errno();
		}
		if (got == 0) {
			return ERR_CORRUPT;
		}
		p += got;
		n -= (size_t)got;
		at += got;
	}
	return ERR_OK;
}

enum err fd_socketpair(int pair[2])
{
	int made[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, made) != 0) {
		return err_from_errno();
	}
	pair[0] = made[0];
	pair[1] = made[1];
	return ERR_OK;
}
