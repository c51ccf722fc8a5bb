/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=pwrite */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/journal/journal_reader.h"
#include "common/journal/journal_writer.h"
#include "common/journal/part.h"
#include "tests/support/lib/scratch.h"

#define BEGIN_US INT64_C(1700000000000000)

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);

static unsigned syncs;
static int pwrite_fails_with;
static bool sync_fails;

int __wrap_fdatasync(int fd)
{
	syncs++;
	if (sync_fails) {
		errno = EIO;
		return -1;
	}
	return __real_fdatasync(fd);
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (pwrite_fails_with != 0) {
		ssize_t half = n > 1 ? __real_pwrite(fd, p, n / 2, at) : 0;
		errno = pwrite_fails_with;
		return half < 0 ? half : -1;
	}
	return __real_pwrite(fd, p, n, at);
}

static struct scratch scratch;
static struct loop *loop;
static struct journal_writer *writer;
static struct journal_reader *reader;

static int set_up(void **state)
{
	(void)state;
	syncs = 0;
	pwrite_fails_with = 0;
	sync_fails = false;
	scratch_make(&scratch);
	assert_int_equal(loop_new(&loop), ERR_OK);
	assert_int_equal(journal_writer_new(loop, scratch.dir, "qmgr", 0, 0, 0, &writer),
		ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clock_release();
	pwrite_fails_with = 0;
	journal_writer_free(&writer);
	journal_reader_free(&reader);
	loop_free(&loop);
	scratch_remove(&scratch);
	return 0;
}

static void tell(struct journal_writer *j, int64_t time_us, const char *qid)
{
	struct event_final e = {.qid = slice_from_cstr(qid), .rcpt = SLICE("a@example.net")};

	journal_final(j, time_us, &e);
}

static void turn(void)
{
	loop_turn(loop, false);
}

static void open_reader(int64_t from_us)
{
	journal_reader_free(&reader);
	assert_int_equal(journal_reader_new(scratch.dir, from_us, &reader), ERR_OK);
}

static void expect(int64_t time_us, const char *by, const char *qid)
{
	struct journal_record r;
	struct event_final e;

	assert_int_equal(journal_reader_next(reader, &r), ERR_OK);
	assert_int_equal(r.type, EVENT_ID_final);
	assert_true(r.time_us == time_us);
	assert_true(slice_eq(r.by, slice_from_cstr(by)));
	assert_int_equal(event_final_decode(r.body, &e), ERR_OK);
	assert_true(slice_eq(e.qid, slice_from_cstr(qid)));
}

static void expect_no_more(void)
{
	struct journal_record r;

	assert_int_equal(journal_reader_next(reader, &r), ERR_AGAIN);
}

static size_t find_files(char names[][PART_NAME_MAX], size_t max)
{
	DIR *d = opendir(scratch.path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		if (e->d_name[0] != '.') {
			if (n < max) {
				assert_int_equal(str_copy(names[n], PART_NAME_MAX,
							 slice_from_cstr(e->d_name)),
					ERR_OK);
			}
			n++;
		}
	}
	closedir(d);
	return n;
}

static void events_leave_at_the_end_of_the_turn(void **state)
{
	char name[1][PART_NAME_MAX];
	struct stat st;

	(void)state;
	open_reader(0);
	expect_no_more();
	tell(writer, BEGIN_US, "one");
	tell(writer, BEGIN_US + 1, "two");
	assert_int_equal(find_files(name, 1), 0);
	turn();
	expect(BEGIN_US, "qmgr-0", "one");
	expect(BEGIN_US + 1, "qmgr-0", "two");
	expect_no_more();
	tell(writer, BEGIN_US + 2, "three");
	turn();
	expect(BEGIN_US + 2, "qmgr-0", "three");
	expect_no_more();
	assert_int_equal(find_files(name, 1), 1);
	assert_int_equal(fstatat(scratch.dir, name[0], &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(journal_reader_damaged(reader), 0);
}

static void the_disk_is_asked_at_most_once_a_second(void **state)
{
	(void)state;
	for (int i = 0; i < 50; i++) {
		tell(writer, BEGIN_US + i, "x");
		turn();
	}
	assert_true(syncs <= 1);
	int64_t deadline = clock_mono_ms() + 20000;
	while (syncs == 0 && clock_mono_ms() < deadline) {
		loop_turn(loop, true);
	}
	assert_int_equal(syncs, 1);
	/* And not at all when nothing was written. */
	journal_writer_free(&writer);
	assert_int_equal(syncs, 1);
}

static void several_programs_are_merged_by_time(void **state)
{
	struct journal_writer *other = NULL;

	(void)state;
	assert_int_equal(journal_writer_new(loop, scratch.dir, "smtp-out", 11, 0, 0, &other),
		ERR_OK);
	tell(writer, BEGIN_US + 1, "b");
	tell(other, BEGIN_US, "a");
	tell(writer, BEGIN_US + 3, "d");
	tell(other, BEGIN_US + 2, "c");
	turn();
	open_reader(0);
	expect(BEGIN_US, "smtp-out-11", "a");
	expect(BEGIN_US + 1, "qmgr-0", "b");
	expect(BEGIN_US + 2, "smtp-out-11", "c");
	expect(BEGIN_US + 3, "qmgr-0", "d");
	expect_no_more();
	open_reader(BEGIN_US + 2);
	expect(BEGIN_US + 2, "smtp-out-11", "c");
	expect(BEGIN_US + 3, "qmgr-0", "d");
	expect_no_more();
	journal_writer_free(&other);
}

static void a_reader_follows_into_the_next_file(void **state)
{
	char names[4][PART_NAME_MAX];

	(void)state;
	tell(writer, BEGIN_US, "one");
	turn();
	open_reader(0);
	expect(BEGIN_US, "qmgr-0", "one");
	expect_no_more();
	/* A restart, with a clock that went back. */
	tell(writer, BEGIN_US + 1, "two");
	journal_writer_free(&writer);
	clock_hold(1000, 1000);
	assert_int_equal(journal_writer_new(loop, scratch.dir, "qmgr", 0, 0, 0, &writer),
		ERR_OK);
	tell(writer, BEGIN_US + 2, "three");
	turn();
	expect(BEGIN_US + 1, "qmgr-0", "two");
	expect(BEGIN_US + 2, "qmgr-0", "three");
	expect_no_more();
	assert_int_equal(find_files(names, 4), 2);
	assert_int_equal(journal_reader_damaged(reader), 0);
}

static void files_end_and_old_ones_go(void **state)
{
	static uint8_t text[LIMIT_REPLY_TEXT];
	char names[8][PART_NAME_MAX];
	struct event_final e = {.text = slice_make(text, sizeof(text))};
	struct journal_record r;
	struct stat st;
	uint64_t bytes = 0;

	(void)state;
	journal_writer_free(&writer);
	assert_int_equal(journal_writer_new(loop, scratch.dir, "qmgr", 0, 5u << 20, 0, &writer),
		ERR_OK);
	for (int i = 0; i < 8000; i++) {
		journal_final(writer, BEGIN_US + i, &e);
		if (i % 100 == 0) {
			turn();
		}
	}
	turn();
	size_t n = find_files(names, 8);
	assert_true(n >= 3 && n <= 6);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(fstatat(scratch.dir, names[i], &st, 0), 0);
		bytes += (uint64_t)st.st_size;
	}
	assert_true(bytes > 3u << 20 && bytes < 7u << 20);
	/* What is left is the newest, without a hole. */
	open_reader(0);
	assert_int_equal(journal_reader_next(reader, &r), ERR_OK);
	int64_t at = r.time_us;
	while (journal_reader_next(reader, &r) == ERR_OK) {
		assert_true(r.time_us == at + 1);
		at++;
	}
	assert_true(at == BEGIN_US + 7999);
	assert_int_equal(journal_reader_damaged(reader), 0);
}

static void what_is_older_than_the_setting_goes(void **state)
{
	char names[4][PART_NAME_MAX];

	(void)state;
	journal_writer_free(&writer);
	for (int day = 0; day < 4; day++) {
		clock_hold(BEGIN_US + day * INT64_C(86400000000), 1000);
		assert_int_equal(journal_writer_new(loop, scratch.dir, "qmgr", 0, 0,
					 86400 + 3600, &writer),
			ERR_OK);
		tell(writer, clock_wall_us(), "x");
		journal_writer_free(&writer);
	}
	/* Today's, yesterday's, and the one of the day before that yesterday's ended. */
	assert_int_equal(find_files(names, 4), 3);
	/* A file that is a day old ends though there is room in it. */
	clock_hold(BEGIN_US, 1000);
	assert_int_equal(journal_writer_new(loop, scratch.dir, "bounce", 0, 0, 0, &writer),
		ERR_OK);
	tell(writer, clock_wall_us(), "x");
	turn();
	assert_int_equal(find_files(names, 4), 4);
	clock_advance_ms(86401000);
	tell(writer, clock_wall_us(), "x");
	turn();
	assert_int_equal(find_files(names, 4), 5);
}

static void lost_events_are_told_when_writing_works_again(void **state)
{
	static uint8_t text[LIMIT_REPLY_TEXT];
	struct event_final e = {.text = slice_make(text, sizeof(text))};
	struct journal_record r;
	struct event_gap gap = {.lost = 0};
	uint64_t seen = 0;

	(void)state;
	clock_hold(BEGIN_US, 1000000);
	tell(writer, BEGIN_US, "before");
	turn();
	pwrite_fails_with = ENOSPC;
	for (int i = 0; i < 3000; i++) {
		journal_final(writer, BEGIN_US + 1, &e);
		turn();
	}
	pwrite_fails_with = 0;
	clock_advance_ms(2000);
	tell(writer, BEGIN_US + 2, "after"); /* no room for it, but the attempt is made */
	turn();
	tell(writer, BEGIN_US + 3, "at last");
	turn();
	open_reader(0);
	expect(BEGIN_US, "qmgr-0", "before");
	assert_int_equal(journal_reader_next(reader, &r), ERR_OK);
	assert_int_equal(r.type, EVENT_ID_gap);
	assert_int_equal(event_gap_decode(r.body, &gap), ERR_OK);
	while (journal_reader_next(reader, &r) == ERR_OK) {
		seen++;
	}
	assert_true(gap.lost > 0);
	assert_int_equal(seen + gap.lost, 3002);
	assert_int_equal(journal_reader_damaged(reader), 0);
}

static void a_failed_descriptor_is_left(void **state)
{
	char names[8][PART_NAME_MAX];

	(void)state;
	clock_hold(BEGIN_US, 1000000);
	tell(writer, BEGIN_US, "one");
	turn();
	pwrite_fails_with = EIO;
	tell(writer, BEGIN_US + 1, "two");
	turn();
	pwrite_fails_with = 0;
	clock_advance_ms(2000);
	tell(writer, BEGIN_US + 2, "three");
	turn();
	assert_int_equal(find_files(names, 8), 2);
	/* A sync that fails, too. */
	sync_fails = true;
	journal_writer_free(&writer);
	sync_fails = false;
	open_reader(0);
	expect(BEGIN_US, "qmgr-0", "one");
	expect(BEGIN_US + 1, "qmgr-0", "two");
	expect(BEGIN_US + 2, "qmgr-0", "three");
	expect_no_more();
	assert_int_equal(journal_reader_damaged(reader), 0);
}

static void an_event_that_does_not_fit_its_limits_is_counted(void **state)
{
	static uint8_t text[LIMIT_REPLY_TEXT + 1];
	struct event_final e = {.text = slice_make(text, sizeof(text))};
	struct journal_record r;
	struct event_gap gap = {.lost = 0};

	(void)state;
	journal_final(writer, BEGIN_US, &e);
	tell(writer, BEGIN_US + 1, "next");
	turn();
	open_reader(0);
	assert_int_equal(journal_reader_next(reader, &r), ERR_OK);
	assert_int_equal(event_gap_decode(r.body, &gap), ERR_OK);
	assert_int_equal(gap.lost, 1);
	expect(BEGIN_US + 1, "qmgr-0", "next");
}

/* A file of three events, as bytes. */
static size_t make_bytes(uint8_t *to, size_t max, size_t ends[3])
{
	struct buf b;
	size_t n = 0;

	buf_init(&b, max);
	for (int i = 0; i < 3; i++) {
		static const char *const qids[] = {"one", "two", "three"};
		struct event_final e = {.qid = slice_from_cstr(qids[i])};
		size_t at = buf_len(&b);
		assert_non_null(buf_reserve(&b, PART_FRAME_BYTES));
		buf_commit(&b, PART_FRAME_BYTES);
		assert_int_equal(event_final_encode(&e, &b), ERR_OK);
		part_frame_encode(b.data + b.start + at, BEGIN_US + i, EVENT_ID_final,
			buf_len(&b) - at - PART_FRAME_BYTES);
		ends[i] = buf_len(&b);
	}
	n = buf_len(&b);
	memcpy(to, b.data + b.start, n);
	buf_clear(&b);
	return n;
}

static void put_file(const char *name, const uint8_t *bytes, size_t n)
{
	int fd = openat(scratch.dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

static void a_growing_file_is_read_at_every_length(void **state)
{
	uint8_t bytes[1000];
	size_t ends[3];
	size_t n = make_bytes(bytes, sizeof(bytes), ends);
	size_t seen = 0;

	(void)state;
	put_file("qmgr-1-0000000000000001.log", bytes, 0);
	open_reader(0);
	for (size_t i = 1; i <= n; i++) {
		static const char *const qids[] = {"one", "two", "three"};
		put_file("qmgr-1-0000000000000001.log", bytes, i);
		if (i == ends[seen]) {
			expect(BEGIN_US + (int64_t)seen, "qmgr-1", qids[seen]);
			seen++;
		}
		expect_no_more();
	}
	assert_int_equal(seen, 3);
	assert_int_equal(journal_reader_damaged(reader), 0);
}

static void every_truncation_of_a_closed_file_is_told(void **state)
{
	uint8_t bytes[1000];
	size_t ends[3];
	size_t n = make_bytes(bytes, sizeof(bytes), ends);

	(void)state;
	put_file("qmgr-1-0000000000000002.log", bytes, n);
	for (size_t i = 0; i <= n; i++) {
		size_t whole = (i >= ends[0] ? 1u : 0u) + (i >= ends[1] ? 1u : 0u) +
			       (i >= ends[2] ? 1u : 0u);
		bool is_cut = i != 0 && i != ends[0] && i != ends[1] && i != ends[2];
		struct journal_record r;
		size_t seen = 0;

		put_file("qmgr-1-0000000000000001.log", bytes, i);
		open_reader(0);
		while (journal_reader_next(reader, &r) == ERR_OK) {
			seen++;
		}
		assert_int_equal(seen, whole + 3);
		assert_int_equal(journal_reader_damaged(reader), is_cut ? 1 : 0);
	}
}

static void every_flipped_bit_costs_one_event(void **state)
{
	uint8_t bytes[1000];
	size_t ends[3];
	size_t n = make_bytes(bytes, sizeof(bytes), ends);

	(void)state;
	put_file("qmgr-1-0000000000000002.log", bytes, n);
	for (size_t bit = 0; bit < n * 8; bit++) {
		struct journal_record r;
		size_t seen = 0;

		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		put_file("qmgr-1-0000000000000001.log", bytes, n);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		open_reader(0);
		while (journal_reader_next(reader, &r) == ERR_OK) {
			seen++;
		}
		assert_int_equal(seen, 2 + 3);
		assert_int_equal(journal_reader_damaged(reader), 1);
	}
}

static void only_names_of_parts_are_read(void **state)
{
	static const struct {
		const char *name;
		bool is_one;
	} cases[] = {
		{"qmgr-0-0000000000000001.log", true},
		{"smtp-out-12-1700000000000000.log", true},
		{"qmgr-0-1700000000000000.lo", false},
		{"qmgr-0-1700000000000000.log.gz", false},
		{"qmgr-0-170000000000000.log", false},
		{"qmgr-0-17000000000000000.log", false},
		{"qmgr-1700000000000000.log", false},
		{"-0-1700000000000000.log", false},
		{"Q-0-1700000000000000.log", false},
		{"a/b-0-1700000000000000.log", false},
		{"qmgr-x-1700000000000000.log", false},
		{".log", false},
		{"", false},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0-1700000000000000.log", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice by;
		uint64_t stamp = 0;
		assert_int_equal(part_name_parse(slice_from_cstr(cases[i].name), &by, &stamp) ==
					 ERR_OK,
			cases[i].is_one);
	}
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(events_leave_at_the_end_of_the_turn),
		CASE(the_disk_is_asked_at_most_once_a_second),
		CASE(several_programs_are_merged_by_time),
		CASE(a_reader_follows_into_the_next_file),
		CASE(files_end_and_old_ones_go),
		CASE(what_is_older_than_the_setting_goes),
		CASE(lost_events_are_told_when_writing_works_again),
		CASE(a_failed_descriptor_is_left),
		CASE(an_event_that_does_not_fit_its_limits_is_counted),
		CASE(a_growing_file_is_read_at_every_length),
		CASE(every_truncation_of_a_closed_file_is_told),
		CASE(every_flipped_bit_costs_one_event),
		CASE(only_names_of_parts_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
