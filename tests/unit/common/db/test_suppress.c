/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/str.h"
#include "common/db/suppress.h"
#include "tests/support/lib/scratch.h"

static struct scratch scratch;
static struct suppress *writer;

static int set_up(void **state)
{
	(void)state;
	scratch_make(&scratch);
	assert_int_equal(suppress_open(scratch.path, true, &writer), ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	suppress_close(&writer);
	scratch_remove(&scratch);
	return 0;
}

static struct suppress_entry sample(struct slice address)
{
	return (struct suppress_entry){
		.address = address,
		.reason = SUPPRESS_UNKNOWN_USER,
		.first_us = 1,
		.last_us = INT64_C(1700000000000000),
		.count = 2,
		.stage = 8,
		.smtp_code = 550,
		.text = SLICE("5.1.1 no such user"),
		.host = SLICE("mx.example.net"),
		.queue_id = SLICE("4XyZ00000000"),
		.tenant = SLICE("shop"),
	};
}

static void put(const char *address)
{
	struct suppress_entry e = sample(slice_from_cstr(address));

	assert_int_equal(suppress_put(writer, &e), ERR_OK);
}

static void assert_entry(const struct suppress_entry *got, struct slice address)
{
	struct suppress_entry want = sample(address);

	assert_true(slice_eq(got->address, want.address));
	assert_int_equal(got->reason, want.reason);
	assert_int_equal(got->first_us, want.first_us);
	assert_int_equal(got->last_us, want.last_us);
	assert_int_equal(got->count, want.count);
	assert_int_equal(got->stage, want.stage);
	assert_int_equal(got->smtp_code, want.smtp_code);
	assert_true(slice_eq(got->text, want.text));
	assert_true(slice_eq(got->host, want.host));
	assert_true(slice_eq(got->queue_id, want.queue_id));
	assert_true(slice_eq(got->tenant, want.tenant));
}

static void finds_what_was_put_in_any_case(void **state)
{
	struct suppress_entry got;

	(void)state;
	assert_int_equal(suppress_find(writer, SLICE("a@b"), &got), ERR_NOTFOUND);
	put("User@Example.NET");
	/* The writer sees what it has not committed yet. */
	assert_int_equal(suppress_find(writer, SLICE("user@example.net"), &got), ERR_OK);
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(suppress_find(writer, SLICE("USER@example.net"), &got), ERR_OK);
	assert_entry(&got, SLICE("User@Example.NET"));
	suppress_read_end(writer);
	assert_int_equal(suppress_find(writer, SLICE("user@example.ne"), &got), ERR_NOTFOUND);
	assert_int_equal(suppress_find(writer, SLICE_EMPTY, &got), ERR_NOTFOUND);
	assert_int_equal(suppress_count(writer), 1);
}

static void an_entry_found_can_be_put_again(void **state)
{
	struct suppress_entry got;

	(void)state;
	put("a@b");
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(suppress_find(writer, SLICE("a@b"), &got), ERR_OK);
	got.count++;
	assert_int_equal(suppress_put(writer, &got), ERR_OK);
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(suppress_find(writer, SLICE("a@b"), &got), ERR_OK);
	assert_int_equal(got.count, 3);
	assert_true(slice_eq(got.host, SLICE("mx.example.net")));
	assert_int_equal(suppress_count(writer), 1);
}

static void removes(void **state)
{
	struct suppress_entry got;

	(void)state;
	put("a@b");
	assert_int_equal(suppress_remove(writer, SLICE("A@B")), ERR_OK);
	assert_int_equal(suppress_remove(writer, SLICE("a@b")), ERR_NOTFOUND);
	assert_int_equal(suppress_remove(writer, SLICE_EMPTY), ERR_NOTFOUND);
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(suppress_find(writer, SLICE("a@b"), &got), ERR_NOTFOUND);
}

static void lists_in_order(void **state)
{
	static const char *const in[] = {"c@x", "A@x", "b@x", "a@w"};
	static const char *const order[] = {"a@w", "A@x", "b@x", "c@x"};
	struct suppress_entry got;
	struct slice after = SLICE_EMPTY;
	struct arena a;

	(void)state;
	arena_init(&a, 100000);
	assert_int_equal(suppress_next(writer, after, &a, &got), ERR_NOTFOUND);
	for (size_t i = 0; i < ARRAY_LEN(in); i++) {
		put(in[i]);
	}
	assert_int_equal(suppress_commit(writer), ERR_OK);
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		assert_int_equal(suppress_next(writer, after, &a, &got), ERR_OK);
		assert_entry(&got, slice_from_cstr(order[i]));
		after = got.address;
	}
	assert_int_equal(suppress_next(writer, after, &a, &got), ERR_NOTFOUND);
	/* From a place where nothing is. */
	assert_int_equal(suppress_next(writer, SLICE("b"), &a, &got), ERR_OK);
	assert_entry(&got, SLICE("b@x"));
	arena_clear(&a);
	arena_init(&a, 10);
	assert_int_equal(suppress_next(writer, SLICE_EMPTY, &a, &got), ERR_TOOBIG);
	arena_clear(&a);
}

static void refuses_what_is_too_long(void **state)
{
	static uint8_t bytes[LIMIT_REPLY_TEXT + 1];
	struct suppress_entry e = sample(slice_make(bytes, LIMIT_ADDRESS));
	struct suppress_entry got;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(suppress_put(writer, &e), ERR_OK);
	e.address.n++;
	assert_int_equal(suppress_put(writer, &e), ERR_TOOBIG);
	e.address.n = 0;
	assert_int_equal(suppress_put(writer, &e), ERR_SYNTAX);
	e.address = SLICE("a@b");
	e.text = slice_make(bytes, sizeof(bytes));
	assert_int_equal(suppress_put(writer, &e), ERR_TOOBIG);
	e.text.n--;
	assert_int_equal(suppress_put(writer, &e), ERR_OK);
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(suppress_count(writer), 2);
	assert_int_equal(suppress_find(writer, slice_make(bytes, sizeof(bytes)), &got),
		ERR_NOTFOUND);
}

/* LMDB wants one opening a process: readers of these tests are processes. */
static int in_child(int (*work)(void))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		_exit(work());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int read_a(void)
{
	struct suppress *s = NULL;
	struct suppress_entry got;
	enum err e = suppress_open(scratch.path, false, &s);

	if (e != ERR_OK) {
		return 10 + (int)e;
	}
	e = suppress_find(s, SLICE("a@b"), &got);
	if (e == ERR_OK && !slice_eq(got.address, SLICE("a@b"))) {
		return 99;
	}
	suppress_close(&s);
	return (int)e;
}

static void another_process_reads_what_is_committed(void **state)
{
	(void)state;
	put("a@b");
	assert_int_equal(in_child(read_a), ERR_NOTFOUND);
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(in_child(read_a), ERR_OK);
}

static int read_a_within_limits(void)
{
	struct rlimit limit = {.rlim_cur = (rlim_t)1 << 30, .rlim_max = (rlim_t)1 << 30};

	return setrlimit(RLIMIT_AS, &limit) == 0 ? read_a() : 98;
}

static void a_smaller_map_is_taken_where_address_space_is_short(void **state)
{
	(void)state;
#if defined(__SANITIZE_ADDRESS__)
	skip(); /* its shadow needs the address space itself */
#endif
	put("a@b");
	assert_int_equal(suppress_commit(writer), ERR_OK);
	suppress_close(&writer); /* its map would be the child's */
	assert_int_equal(in_child(read_a_within_limits), ERR_OK);
}

static int die_reading(void)
{
	struct suppress *s = NULL;
	struct suppress_entry got;

	if (suppress_open(scratch.path, false, &s) != ERR_OK ||
		suppress_find(s, SLICE("a@b"), &got) != ERR_OK) {
		return 1;
	}
	(void)raise(SIGKILL);
	return 2;
}

static void a_reader_that_is_killed_does_not_pin_the_file(void **state)
{
	char address[64];
	struct stat before;
	struct stat after;

	(void)state;
	put("a@b");
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(in_child(die_reading), 128 + SIGKILL);
	suppress_close(&writer);
	assert_int_equal(suppress_open(scratch.path, true, &writer), ERR_OK);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 100; i++) {
			assert_int_equal(str_format(address, sizeof(address), "user%d@b", i),
				ERR_OK);
			put(address);
		}
		assert_int_equal(suppress_commit(writer), ERR_OK);
		assert_int_equal(
			fstatat(scratch.dir, "data.mdb", round < 10 ? &before : &after, 0), 0);
	}
	assert_int_equal(before.st_size, after.st_size);
}

static int be_nobody(void)
{
	/* Of the same group, as cleanup is. */
	return setgid(54321) == 0 && setuid(54321) == 0 ? read_a() : 97;
}

static void a_reader_of_the_group_may_open_it_and_no_one_else(void **state)
{
	struct stat st;

	(void)state;
	if (getuid() != 0) {
		skip();
	}
	suppress_close(&writer);
	mode_t old = umask(077);
	assert_int_equal(unlinkat(scratch.dir, "data.mdb", 0), 0);
	assert_int_equal(unlinkat(scratch.dir, "lock.mdb", 0), 0);
	assert_int_equal(suppress_open(scratch.path, true, &writer), ERR_OK);
	umask(old);
	put("a@b");
	assert_int_equal(suppress_commit(writer), ERR_OK);
	assert_int_equal(fstatat(scratch.dir, "data.mdb", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(fstatat(scratch.dir, "lock.mdb", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(chmod(scratch.path, 0755), 0);
	assert_int_equal(in_child(be_nobody), 10 + ERR_DENIED);
	assert_int_equal(fchownat(scratch.dir, "data.mdb", (uid_t)-1, 54321, 0), 0);
	assert_int_equal(fchownat(scratch.dir, "lock.mdb", (uid_t)-1, 54321, 0), 0);
	assert_int_equal(in_child(be_nobody), ERR_OK);
}

static void a_reader_tells_that_there_is_no_list_yet(void **state)
{
	struct suppress *s = NULL;
	struct scratch empty;

	(void)state;
	scratch_make(&empty);
	assert_int_equal(suppress_open(empty.path, false, &s), ERR_NOTFOUND);
	assert_int_equal(faccessat(empty.dir, "lock.mdb", F_OK, 0), -1);
	scratch_remove(&empty);
	assert_int_equal(suppress_open("/nonexistent/x", true, &s), ERR_NOTFOUND);
}

static void refuses_a_damaged_file(void **state)
{
	struct stat st;
	char address[64];
	int fd = -1;

	(void)state;
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(str_format(address, sizeof(address), "user%d@b", i), ERR_OK);
		put(address);
	}
	assert_int_equal(suppress_commit(writer), ERR_OK);
	suppress_close(&writer);
	fd = openat(scratch.dir, "data.mdb", O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size - 8192), 0);
	assert_int_equal(suppress_open(scratch.path, true, &writer), ERR_CORRUPT);
	assert_int_equal(in_child(read_a), 10 + ERR_CORRUPT);
	assert_int_equal(ftruncate(fd, 8192), 0);
	assert_int_equal(pwrite(fd, "garbage", 7, 16), 7);
	assert_int_equal(pwrite(fd, "garbage", 7, 4096 + 16), 7);
	assert_int_equal(suppress_open(scratch.path, true, &writer), ERR_CORRUPT);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_not_equal(suppress_open(scratch.path, true, &writer), ERR_OK);
	close(fd);
}

static void reasons_have_names(void **state)
{
	(void)state;
	assert_string_equal(suppress_reason_name(SUPPRESS_UNKNOWN_USER), "unknown-user");
	assert_string_equal(suppress_reason_name(SUPPRESS_UNSUBSCRIBE), "unsubscribe");
	assert_string_equal(suppress_reason_name((enum suppress_reason)0), "unknown");
	assert_string_equal(suppress_reason_name((enum suppress_reason)77), "unknown");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(finds_what_was_put_in_any_case),
		CASE(an_entry_found_can_be_put_again),
		CASE(removes),
		CASE(lists_in_order),
		CASE(refuses_what_is_too_long),
		CASE(another_process_reads_what_is_committed),
		CASE(a_smaller_map_is_taken_where_address_space_is_short),
		CASE(a_reader_that_is_killed_does_not_pin_the_file),
		CASE(a_reader_of_the_group_may_open_it_and_no_one_else),
		CASE(a_reader_tells_that_there_is_no_list_yet),
		CASE(refuses_a_damaged_file),
		CASE(reasons_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
