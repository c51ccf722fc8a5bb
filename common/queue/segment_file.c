/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/queue/layout.h"
#include "common/queue/planted.h"
#include "common/queue/segment_file.h"

#define MODE 0660
#define TMP_PREFIX "tmp-"
/*
 * An id is a microsecond rounded down to a multiple of this plus the writer's number: writers
 * at work at the same time cannot draw the same.
 */
#define ID_STEP 64u
#define ID_TRIES 1000u
/* Space is reserved ahead only while this many times as much is free: on a small disk the
 * reserve would be what fills it. */
#define RESERVE_SHARE 16u
#define ZEROS_BYTES 0x40000u
/* A temporary file of another writer is left alone for so long: it may be about to be locked.
 */
#define FOREIGN_TMP_S 600

static void tmp_name(const struct segment_maker *m, uint64_t id, char to[SEGMENT_NAME_MAX])
{
	enum err e =
		str_format(to, SEGMENT_NAME_MAX, TMP_PREFIX "%02u-%016" PRIx64, m->writer, id);

	assert(e == ERR_OK);
}

static bool name_is_taken(const struct segment_maker *m, uint64_t id)
{
	char name[SEGMENT_NAME_MAX];
	struct stat st;

	segment_name(id, name);
	return fstatat(m->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Opens a new file under a temporary name and locks it. */
static enum err open_tmp(struct segment_maker *m, uint64_t *id, int *out)
{
	uint64_t now = (uint64_t)clock_wall_us() / ID_STEP * ID_STEP + m->writer;
	uint64_t n = now > m->last_id ? now : m->last_id + ID_STEP;
	char tmp[SEGMENT_NAME_MAX];
	int fd = -1;

	for (unsigned tries = 0; fd < 0 && tries < ID_TRIES; tries++, n += ID_STEP) {
		m->last_id = n;
		/* Only a clock that stepped back leads to one that exists. */
		if (name_is_taken(m, n)) {
			continue;
		}
		tmp_name(m, n, tmp);
		fd = openat(m->dir, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			MODE);
		if (fd < 0 && errno != EEXIST) {
			return err_from_errno();
		}
	}
	if (fd < 0) {
		return ERR_EXISTS;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		enum err e = err_from_errno();
		(void)unlinkat(m->dir, tmp, 0);
		fd_close(&fd);
		return e;
	}
	*id = m->last_id;
	*out = fd;
	return ERR_OK;
}

static enum err write_head(int fd, const struct segment_info *info)
{
	uint8_t *zeros = alloc_zero(ZEROS_BYTES, 1);
	uint8_t page[SEGMENT_PAGE];
	enum err e = ERR_OK;

	/* Slots are written out, not left as a hole: to mark a delivery must not need space. */
	for (uint64_t at = SEGMENT_PAGE; e == ERR_OK && at < info->data_at; at += ZEROS_BYTES) {
		uint64_t n = info->data_at - at;
		e = fd_pwrite_all(fd, slice_make(zeros, n < ZEROS_BYTES ? n : ZEROS_BYTES),
			(off_t)at);
	}
	if (e == ERR_OK) {
		layout_file_encode(info, clock_wall_us(), page);
		e = fd_pwrite_all(fd, slice_make(page, sizeof(page)), 0);
	}
	free(zeros);
	return e;
}

/*
 * Blocks that are there already make a commit cheaper (a quarter less CPU on ext4) and cannot
 * be missing in it. The size of the file stays what was written.
 */
static void reserve(int fd, uint64_t from, uint64_t to)
{
	struct statfs fs;

	if (to > from && fstatfs(fd, &fs) == 0 &&
		(uint64_t)fs.f_bavail / RESERVE_SHARE > (to - from) / (uint64_t)fs.f_bsize) {
		(void)fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
	}
}

/*
 * Whether the disk is still there. When ext4 is shut down while a sync waits for its journal,
 * the sync may succeed though the journal was given up (seen with Linux 6.18). The file system
 * is marked before that, and from then on reads fail.
 */
static bool is_readable(int fd)
{
	uint8_t byte;

	return pread(fd, &byte, 1, 0) == 1;
}

enum err segment_file_sync(int fd)
{
	if (PLANTED_NO_FSYNC || (fdatasync(fd) == 0 && is_readable(fd))) {
		return ERR_OK;
	}
	if (PLANTED_RETRY_FSYNC && fdatasync(fd) == 0) {
		return ERR_OK;
	}
	return err_from_errno();
}

static enum err fill(struct segment_file *f)
{
	ssize_t n = getrandom(&f->info.mark, sizeof(f->info.mark), 0);

	/* The mode that was asked for, whatever the umask. */
	if (n != (ssize_t)sizeof(f->info.mark) || fchmod(f->fd, MODE) != 0) {
		return err_from_errno();
	}
	enum err e = write_head(f->fd, &f->info);
	if (e != ERR_OK) {
		return e;
	}
	reserve(f->fd, f->info.data_at, f->limit);
	return PLANTED_NO_FSYNC || fsync(f->fd) == 0 ? ERR_OK : err_from_errno();
}

enum err segment_file_new(struct segment_maker *m, uint32_t slot_capacity, uint64_t limit,
	struct segment_file **out)
{
	struct segment_file *f = alloc_zero(1, sizeof(*f));

	assert(slot_capacity != 0 && slot_capacity <= SEGMENT_SLOTS_MAX);
	f->fd = -1;
	f->info.slot_capacity = slot_capacity;
	f->info.data_at = layout_data_at(slot_capacity);
	f->limit = limit;
	f->end = f->info.data_at;
	enum err e = open_tmp(m, &f->info.id, &f->fd);
	if (e == ERR_OK) {
		e = fill(f);
	}
	if (e != ERR_OK) {
		int saved = errno;
		segment_file_close(m, &f);
		errno = saved;
		return e;
	}
	*out = f;
	return ERR_OK;
}

static bool rename_new(int dir, const char *from, const char *to)
{
	if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0) {
		return true;
	}
	/* A file system that cannot promise it; ids are unique anyway, this was the belt. */
	return errno == EINVAL && renameat(dir, from, dir, to) == 0;
}

enum err segment_file_publish(struct segment_maker *m, struct segment_file *f)
{
	char tmp[SEGMENT_NAME_MAX];
	char name[SEGMENT_NAME_MAX];

	tmp_name(m, f->info.id, tmp);
	segment_name(f->info.id, name);
	if (!rename_new(m->dir, tmp, name)) {
		return err_from_errno();
	}
	f->is_named = true;
	return PLANTED_NO_DIRSYNC || fsync(m->dir) == 0 ? ERR_OK : err_from_errno();
}

void segment_file_close(struct segment_maker *m, struct segment_file **f)
{
	char tmp[SEGMENT_NAME_MAX];

	if (*f == NULL) {
		return;
	}
	if (!(*f)->is_named && (*f)->fd >= 0) {
		tmp_name(m, (*f)->info.id, tmp);
		(void)unlinkat(m->dir, tmp, 0);
	}
	/* The lock goes with the descriptor. */
	fd_close(&(*f)->fd);
	ALLOC_FREE(*f);
}

void segment_file_abandon(struct segment_maker *m, struct segment_file **f)
{
	char name[SEGMENT_NAME_MAX];
	int saved = errno;

	if (*f == NULL) {
		return;
	}
	/*
	 * What was refused may have reached the disk whole; recovery would deliver it, and the
	 * client, told to come again, will bring it a second time. That is allowed but not
	 * wanted.
	 */
	if ((*f)->is_named) {
		bool is_empty = (*f)->end == (*f)->info.data_at;

		segment_name((*f)->info.id, name);
		if (is_empty) {
			(void)unlinkat(m->dir, name, 0);
		} else if (ftruncate((*f)->fd, (off_t)num_round_up((*f)->end, SEGMENT_PAGE)) !=
			   0) {
			/* The reader has checksums; a failing disk can be told nothing more. */
		}
	}
	segment_file_close(m, f);
	errno = saved;
}

static bool is_stale(const struct segment_maker *m, const char *name)
{
	struct stat st;
	uint32_t writer = 0;
	bool is_stale = false;

	if (num_parse_u32(slice_head(slice_from_cstr(name + sizeof(TMP_PREFIX) - 1), 2), 99,
		    &writer) != ERR_OK) {
		return false;
	}
	int fd = openat(m->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		return false;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_SH | LOCK_NB) == 0) {
		is_stale = writer == m->writer || clock_wall_s() - st.st_mtime > FOREIGN_TMP_S;
	}
	fd_close(&fd);
	return is_stale;
}

void segment_file_sweep(const struct segment_maker *m)
{
	int fd = openat(m->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL) {
		fd_close(&fd);
		return;
	}
	/* One process, one thread: readdir's buffer is nobody else's.
	 * NOLINTNEXTLINE(concurrency-mt-unsafe) */
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		if (slice_starts(slice_from_cstr(e->d_name), SLICE(TMP_PREFIX)) &&
			is_stale(m, e->d_name)) {
			(void)unlinkat(m->dir, e->d_name, 0);
		}
	}
	(void)closedir(d);
}
