/* SPDX-License-Identifier: Apache-2.0 */
/* fd: descriptors and whole reads and writes. Everything is close-on-exec from birth. */
#ifndef COMMON_IO_FD_H
#define COMMON_IO_FD_H

#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* Closes *fd unless it is negative and sets it to -1. Keeps errno. */
void fd_close(int *fd);
MUST_CHECK enum err fd_set_nonblock(int fd);

/* For blocking descriptors: all of s, however many calls it takes. */
MUST_CHECK enum err fd_write_all(int fd, struct slice s);
MUST_CHECK enum err fd_pwrite_all(int fd, struct slice s, off_t at);
/* Exactly n bytes; ERR_CORRUPT when the file ends before. */
MUST_CHECK enum err fd_pread_all(int fd, void *to, size_t n, off_t at);

/* A pair of connected, non-blocking, close-on-exec UNIX stream sockets. */
MUST_CHECK enum err fd_socketpair(int pair[2]);

#endif
