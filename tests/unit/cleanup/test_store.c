/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fstatvfs -Wl,--wrap=fdatasync */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include <cmocka.h>

#include "cleanup/store.h"
#include "common/base/attr.h"
#include "common/base/log.h"
#include "common/ipc/messages.h"
#include "tests/support/lib/scratch.h"

#define MIB (UINT64_C(1024) * 1024)

static struct statvfs disk;
static int statvfs_errno;
static int sync_errno;

int __wrap_fstatvfs(int fd, struct statvfs *to);
int __wrap_fdatasync(int fd);

int __wrap_fstatvfs(int fd, struct statvfs *to)
{
	(void)fd;
	*to = disk;
	errno = statvfs_errno;
	return statvfs_errno == 0 ? 0 : -1;
}

int __wrap_fdatasync(int fd)
{
	(void)fd;
	errno = sync_errno;
	return sync_errno == 0 ? 0 : -1;
}

static unsigned changes;
static uint8_t last;

static void on_change(void *arg, uint8_t state)
{
	(void)arg;
	changes++;
	last = state;
}

static void set_disk(uint64_t total, uint64_t available)
{
	disk = (struct statvfs){.f_frsize = 4096,
		.f_blocks = total / 4096,
		.f_bavail = available / 4096,
		.f_files = 1000,
		.f_favail = 1000};
}

static struct loop *loop;
static struct scratch scratch;

static int set_up(void **state)
{
	(void)state;
	log_open("test");
	log_set_level(LOG_LEVEL_ERROR);
	scratch_make(&scratch);
	return loop_new(&loop) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(&loop);
	scratch_remove(&scratch);
	return 0;
}

static struct store *fresh(void)
{
	statvfs_errno = 0;
	sync_errno = 0;
	changes = 0;
	last = 77;
	return store_new(loop, scratch.dir, on_change, NULL);
}

static void keeps_a_minimum_free(void **state)
{
	static const struct {
		uint64_t minfree;
		uint64_t message_size_limit;
		uint64_t total;
		uint64_t least;
	} cases[] = {
		{0, 10240000, 100000 * MIB, 32 * MIB},
		{0, 100 * MIB, 100000 * MIB, 150 * MIB},
		{0, 100 * MIB, 100 * MIB, 10 * MIB},
		{4096, 100 * MIB, 100 * MIB, 4096},
		{50 * MIB, 10240000, 100 * MIB, 50 * MIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct store *s = fresh();
		set_disk(cases[i].total, cases[i].least + 4096);
		store_set_minimum(s, cases[i].minfree, cases[i].message_size_limit);
		assert_int_equal(store_state(s), STORE_OK);
		assert_int_equal(store_room(s), 4096);
		assert_int_equal(changes, 0);
		set_disk(cases[i].total, cases[i].least);
		store_check(s);
		assert_int_equal(store_state(s), STORE_FULL);
		assert_int_equal(store_room(s), 0);
		assert_int_equal(last, STORE_FULL);
		set_disk(cases[i].total, cases[i].total);
		store_check(s);
		assert_int_equal(last, STORE_OK);
		assert_int_equal(changes, 2);
		store_free(&s);
	}
}

static void counts_files_where_the_file_system_does(void **state)
{
	struct store *s = fresh();

	(void)state;
	set_disk(1000 * MIB, 1000 * MIB);
	disk.f_favail = 2;
	store_set_minimum(s, 4096, 0);
	assert_int_equal(store_state(s), STORE_FULL);
	disk.f_files = 0;
	disk.f_favail = 0;
	store_check(s);
	assert_int_equal(store_state(s), STORE_OK);
	store_free(&s);
	store_free(&s);
}

static void is_sick_until_a_write_works_again(void **state)
{
	struct store *s = fresh();

	(void)state;
	set_disk(1000 * MIB, 900 * MIB);
	store_set_minimum(s, 0, 10240000);
	sync_errno = EIO;
	store_note_failure(s, ERR_SYS);
	assert_int_equal(last, STORE_SICK);
	for (int i = 0; i < 3; i++) {
		store_check(s);
		assert_int_equal(store_state(s), STORE_SICK);
	}
	assert_int_equal(changes, 1);
	sync_errno = 0;
	store_check(s);
	assert_int_equal(store_state(s), STORE_OK);
	assert_int_equal(changes, 2);
	/* Full, says the write, whatever the file system says of itself (a quota). */
	sync_errno = EDQUOT;
	store_note_failure(s, ERR_FULL);
	assert_int_equal(last, STORE_FULL);
	store_check(s);
	assert_int_equal(store_state(s), STORE_FULL);
	sync_errno = 0;
	store_check(s);
	assert_int_equal(store_state(s), STORE_OK);
	/* A file system that cannot be asked. */
	statvfs_errno = EIO;
	store_check(s);
	assert_int_equal(store_state(s), STORE_SICK);
	statvfs_errno = 0;
	store_check(s);
	assert_int_equal(store_state(s), STORE_OK);
	store_free(&s);
}

static void looks_again_by_itself(void **state)
{
	struct store *s = fresh();

	(void)state;
	set_disk(1000 * MIB, 0);
	store_set_minimum(s, 0, 10240000);
	assert_int_equal(store_state(s), STORE_FULL);
	set_disk(1000 * MIB, 900 * MIB);
	while (store_state(s) != STORE_OK) {
		loop_turn(loop, true); /* the timer is all that can wake it */
	}
	assert_int_equal(last, STORE_OK);
	store_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_a_minimum_free),
		cmocka_unit_test(counts_files_where_the_file_system_does),
		cmocka_unit_test(is_sick_until_a_write_works_again),
		cmocka_unit_test(looks_again_by_itself),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
