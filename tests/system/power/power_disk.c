/* SPDX-License-Identifier: Apache-2.0 */
/* link: -lfuse3 */
/*
 * power_disk BASE LOG MOUNTPOINT: a disk that remembers.
 *
 * A FUSE file system with two files. "disk" begins as the image BASE, which stays as it is, and
 * is put under a loop device. "mark" takes lines. LOG gets, in the order of their completion,
 * every write and flush of the disk and every line: what a power cut could have left at any
 * moment can be made of it afterwards.
 *
 * A write to the disk that holds the text POISON fails with EIO, always.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/system/power/power_log.h"

static struct {
	uint8_t *bytes;
	size_t size;
	FILE *log;
} disk;

static void note(uint32_t type, const char *data, size_t n, uint64_t offset)
{
	struct power_entry e = {.type = type, .bytes = (uint32_t)n, .offset = offset};

	if (fwrite(&e, sizeof(e), 1, disk.log) != 1 ||
		(n != 0 && data != NULL && fwrite(data, n, 1, disk.log) != 1)) {
		perror("power_disk: log");
		exit(1);
	}
}

static int on_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0700;
		st->st_nlink = 2;
	} else if (strcmp(path, "/disk") == 0) {
		st->st_mode = S_IFREG | 0600;
		st->st_nlink = 1;
		st->st_size = (off_t)disk.size;
	} else if (strcmp(path, "/mark") == 0) {
		st->st_mode = S_IFREG | 0600;
		st->st_nlink = 1;
	} else {
		return -ENOENT;
	}
	return 0;
}

static int on_open(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	fi->direct_io = 1;
	return 0;
}

static int on_read(const char *path, char *to, size_t n, off_t at, struct fuse_file_info *fi)
{
	(void)fi;
	if (strcmp(path, "/disk") != 0 || at < 0 || (size_t)at >= disk.size) {
		return 0;
	}
	n = n < disk.size - (size_t)at ? n : disk.size - (size_t)at;
	memcpy(to, disk.bytes + at, n);
	return (int)n;
}

static int on_write(const char *path, const char *from, size_t n, off_t at,
	struct fuse_file_info *fi)
{
	(void)fi;
	if (strcmp(path, "/mark") == 0) {
		note(POWER_MARK, from, n, 0);
		return (int)n;
	}
	if (at < 0 || (size_t)at > disk.size || n > disk.size - (size_t)at) {
		return -ENOSPC;
	}
	if (memmem(from, n, POWER_POISON, strlen(POWER_POISON)) != NULL) {
		return -EIO;
	}
	memcpy(disk.bytes + at, from, n);
	note(POWER_WRITE, from, n, (uint64_t)at);
	return (int)n;
}

static int on_fsync(const char *path, int is_data, struct fuse_file_info *fi)
{
	(void)is_data;
	(void)fi;
	if (strcmp(path, "/disk") == 0) {
		note(POWER_FLUSH, NULL, 0, 0);
	}
	return 0;
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	(void)path;
	(void)size;
	(void)fi;
	return 0;
}

static int on_fallocate(const char *path, int mode, off_t at, off_t n,
	struct fuse_file_info *fi)
{
	(void)path;
	(void)mode;
	(void)at;
	(void)n;
	(void)fi;
	return -EOPNOTSUPP; /* a disk without discard */
}

int main(int argc, char **argv)
{
	static const struct fuse_operations operations = {
		.getattr = on_getattr,
		.open = on_open,
		.read = on_read,
		.write = on_write,
		.fsync = on_fsync,
		.truncate = on_truncate,
		.fallocate = on_fallocate,
	};
	struct stat st;

	if (argc != 4) {
		fprintf(stderr, "usage: power_disk BASE LOG MOUNTPOINT\n");
		return 64;
	}
	int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		perror(argv[1]);
		return 1;
	}
	disk.size = (size_t)st.st_size;
	disk.bytes = mmap(NULL, disk.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
		fd, 0);
	disk.log = fopen(argv[2], "we");
	if (disk.bytes == MAP_FAILED || disk.log == NULL) {
		perror("power_disk");
		return 1;
	}
	/* One thread: the order of the log is that of completion. In the foreground. */
	char *args[] = {argv[0], argv[3], (char[]){"-s"}, (char[]){"-f"}, NULL};
	int status = fuse_main(4, args, &operations, NULL);
	if (fclose(disk.log) != 0) {
		perror(argv[2]);
		return 1;
	}
	return status;
}
