/* SPDX-License-Identifier: Apache-2.0 */
/* A small file system of one's own, which only root can have; skipped otherwise. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/queue/segment_reader.h"
#include "common/queue/segment_writer.h"
#include "tests/support/lib/scratch.h"

static struct scratch scratch;
static int dir = -1;
static struct segment_writer *w;
static bool is_possible;

static void mount_small(const char *options)
{
	is_possible = getuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
		      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		      mount("tmpfs", scratch.path, "tmpfs", 0, options) == 0;
	if (!is_possible) {
		skip();
	}
	dir = open(scratch.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	assert_int_equal(segment_writer_new(dir, 0, NULL, NULL, &w), ERR_OK);
}

static int set_up(void **state)
{
	(void)state;
	scratch_make(&scratch);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clock_release();
	segment_writer_free(&w);
	if (dir >= 0) {
		close(dir);
		dir = -1;
	}
	if (is_possible) {
		(void)umount2(scratch.path, MNT_DETACH);
	}
	scratch_remove(&scratch);
	return 0;
}

static enum err put(struct segment_record *r, uint64_t *segment)
{
	static uint8_t content[3000];
	static struct envelope_rcpt rcpt = {.address = SLICE_INIT("a@example.net")};
	struct envelope e = {.rcpt_count = 1, .rcpts = &rcpt};
	enum err err = segment_writer_add(w, &e, SLICE_EMPTY,
		slice_make(content, sizeof(content)), 1, r, segment);

	return err == ERR_OK ? segment_writer_commit(w) : err;
}

static void assert_is_there(uint64_t segment, const struct segment_record *r)
{
	struct segment_record back;
	struct segment_info info;
	struct envelope e;
	struct arena a;
	int fd = -1;

	arena_init(&a, 10000);
	assert_int_equal(segment_open(dir, segment, false, &fd, &info), ERR_OK);
	assert_int_equal(segment_read_record(fd, &info, r->offset, &back), ERR_OK);
	assert_int_equal(segment_read_envelope(fd, &back, true, &a, &e), ERR_OK);
	arena_clear(&a);
	close(fd);
}

/* Fills the disk message by message; what was acknowledged stays, and mail is taken again when
 * there is room. */
static void fill_and_recover(void)
{
	static struct segment_record records[4000];
	static uint64_t of[4000];
	struct segment_record r;
	uint64_t segment = 0;
	size_t n = 0;
	enum err e = ERR_OK;

	while (n < 4000 && (e = put(&records[n], &of[n])) == ERR_OK) {
		n++;
	}
	assert_true(n > 10 && n < 4000);
	assert_int_equal(e, ERR_FULL);
	for (int i = 0; i < 20; i++) {
		segment_writer_prepare(w);
		assert_int_equal(put(&r, &segment), ERR_FULL);
	}
	for (size_t i = 0; i < n; i++) {
		assert_is_there(of[i], &records[i]);
	}
	assert_int_equal(unlinkat(dir, "balloon", 0), 0);
	assert_int_equal(put(&r, &segment), ERR_OK);
	assert_is_there(segment, &r);
	assert_is_there(of[n - 1], &records[n - 1]);
}

static void a_full_disk_refuses_and_recovers_without_a_restart(void **state)
{
	static uint8_t page[4096];

	(void)state;
	mount_small("size=2m");
	int fd = openat(dir, "balloon", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	}
	close(fd);
	fill_and_recover();
}

static void a_disk_that_was_always_full_can_be_opened(void **state)
{
	static uint8_t page[4096];
	struct segment_record r;
	struct segment_big *b = NULL;
	struct envelope_rcpt rcpt = {.address = SLICE("a@example.net")};
	struct envelope e = {.rcpt_count = 1, .rcpts = &rcpt};
	uint64_t segment = 0;

	(void)state;
	mount_small("size=1m");
	int fd = openat(dir, "balloon", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (write(fd, page, sizeof(page)) == sizeof(page)) {
	}
	close(fd);
	assert_int_equal(put(&r, &segment), ERR_FULL);
	assert_int_equal(segment_big_begin(w, &e, &b), ERR_FULL);
	assert_int_equal(unlinkat(dir, "balloon", 0), 0);
	assert_int_equal(put(&r, &segment), ERR_OK);
}

static void no_inode_left_is_a_full_disk_too(void **state)
{
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	mount_small("size=8m,nr_inodes=3");
	int fd = openat(dir, "balloon", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(put(&r, &segment), ERR_OK);
	segment_writer_rotate(w, segment);
	assert_int_equal(put(&r, &segment), ERR_FULL);
	assert_int_equal(unlinkat(dir, "balloon", 0), 0);
	assert_int_equal(put(&r, &segment), ERR_OK);
}

static void a_read_only_disk_refuses(void **state)
{
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	mount_small("size=8m");
	assert_int_equal(mount(NULL, scratch.path, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_int_equal(put(&r, &segment), ERR_SYS);
	assert_int_equal(errno, EROFS);
	assert_int_equal(mount(NULL, scratch.path, NULL, MS_REMOUNT, NULL), 0);
	assert_int_equal(put(&r, &segment), ERR_OK);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(a_full_disk_refuses_and_recovers_without_a_restart),
		CASE(a_disk_that_was_always_full_can_be_opened),
		CASE(no_inode_left_is_a_full_disk_too),
		CASE(a_read_only_disk_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
