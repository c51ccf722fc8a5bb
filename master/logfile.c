/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/str.h"
#include "common/conf/why.h"
#include "common/io/fd.h"
#include "master/logfile.h"

/* The file, or a file in the folder. */
static bool is_below(struct slice path, struct slice prefix)
{
	return slice_starts(path, prefix) &&
	       (path.n == prefix.n || path.p[prefix.n] == '/' || prefix.p[prefix.n - 1] == '/');
}

static bool is_allowed(const struct conf *c, struct slice path)
{
	for (size_t i = 0; i < conf_list_count(c, CONF_maillog_file_prefixes); i++) {
		struct slice prefix = conf_list_at(c, CONF_maillog_file_prefixes, i);
		if (prefix.n != 0 && is_below(path, prefix)) {
			return true;
		}
	}
	return false;
}

/* Never through a symbolic link: it may be in a folder where others can write. */
static int open_append(const char *path, int more)
{
	return open(path,
		O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | more, 0640);
}

/* The file that nobody has named: what somebody else has put there is not written to. */
static int open_our_own(const char *path)
{
	struct stat st;
	int fd = open_append(path, O_NONBLOCK);

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
		st.st_nlink == 1) {
		return fd;
	}
	if (fd >= 0) {
		errno = EPERM;
	}
	fd_close(&fd);
	return -1;
}

enum err logfile_open(const struct conf *c, bool background, int *fd, char **path,
	struct buf *why)
{
	struct slice named = conf_text(c, CONF_maillog_file);
	char *name = NULL;
	int file = -1;

	*fd = -1;
	*path = NULL;
	if (named.n == 0 && !background) {
		return ERR_OK;
	}
	if (named.n != 0 && (named.p[0] != '/' || !is_allowed(c, named))) {
		why_add(why, "maillog_file = %s is not below any of maillog_file_prefixes",
			conf_cstr(c, CONF_maillog_file));
		return ERR_CONFIG;
	}
	if (named.n != 0) {
		name = alloc_cstr(conf_cstr(c, CONF_maillog_file));
	} else {
		size_t size = conf_text(c, CONF_data_directory).n + sizeof("/ekiden.log");
		name = alloc_bytes(size);
		enum err e = str_format(name, size, "%s/ekiden.log",
			conf_cstr(c, CONF_data_directory));
		assert(e == ERR_OK);
	}
	if (named.n == 0) {
		file = open_our_own(name);
	} else if (strcmp(name, "/dev/stdout") == 0) {
		file = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	} else {
		file = open_append(name, 0);
	}
	if (file < 0) {
		why_add(why, "cannot log to %s: %s", name, strerror(errno));
		free(name);
		return ERR_CONFIG;
	}
	*fd = file;
	*path = name;
	return ERR_OK;
}
