/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=fsync -Wl,--wrap=pwrite -Wl,--wrap=renameat2 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/queue/segment_reader.h"
#include "common/queue/segment_writer.h"
#include "tests/support/lib/scratch.h"

/* ---- system calls that fail when told ---- */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
int __real_renameat2(int from, const char *name, int to, const char *new_name, unsigned flags);
int __wrap_renameat2(int from, const char *name, int to, const char *new_name, unsigned flags);

/* Fails once after so many calls; -1: never. */
static int fdatasync_fails_in = -1;
static int fsync_fails_in = -1;
static int pwrite_fails_in = -1;
static int rename_fails_in = -1;
static int failed_with = EIO;
static int last_failed_fd;
static int syncs_after_failure;

static bool is_due(int *in)
{
	if (*in < 0) {
		return false;
	}
	(*in)--;
	if (*in >= 0) {
		return false;
	}
	errno = failed_with;
	return true;
}

int __wrap_fdatasync(int fd)
{
	if (fd == last_failed_fd) {
		syncs_after_failure++;
	}
	if (is_due(&fdatasync_fails_in)) {
		last_failed_fd = fd;
		return -1;
	}
	return __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
	return is_due(&fsync_fails_in) ? -1 : __real_fsync(fd);
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (is_due(&pwrite_fails_in)) {
		/* Half of it arrives, as when the disk gets full. */
		ssize_t half = n > 1 ? __real_pwrite(fd, p, n / 2, at) : 0;
		errno = failed_with;
		return half < 0 ? half : -1;
	}
	return __real_pwrite(fd, p, n, at);
}

int __wrap_renameat2(int from, const char *name, int to, const char *new_name, unsigned flags)
{
	return is_due(&rename_fails_in) ? -1
					: __real_renameat2(from, name, to, new_name, flags);
}

/* ---- a queue directory and a writer that tells ---- */

#define TOLD_MAX 64

static struct {
	struct scratch scratch;
	int dir;
	struct segment_writer *w;
	uint64_t opened[TOLD_MAX];
	size_t opened_count;
	uint64_t sealed[TOLD_MAX];
	uint64_t sealed_end[TOLD_MAX];
	size_t sealed_count;
} q;

static void note_open(void *arg, uint64_t segment)
{
	assert_ptr_equal(arg, &q);
	assert_true(q.opened_count < TOLD_MAX);
	q.opened[q.opened_count++] = segment;
}

static void note_sealed(void *arg, uint64_t segment, uint64_t end)
{
	assert_ptr_equal(arg, &q);
	assert_true(q.sealed_count < TOLD_MAX);
	q.sealed[q.sealed_count] = segment;
	q.sealed_end[q.sealed_count++] = end;
}

static const struct segment_writer_events events = {note_open, note_sealed};

static int set_up(void **state)
{
	(void)state;
	fdatasync_fails_in = fsync_fails_in = pwrite_fails_in = rename_fails_in = -1;
	failed_with = EIO;
	last_failed_fd = -2;
	syncs_after_failure = 0;
	memset(&q, 0, sizeof(q));
	scratch_make(&q.scratch);
	q.dir = q.scratch.dir;
	assert_int_equal(segment_writer_new(q.dir, 7, &events, &q, &q.w), ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	clock_release();
	segment_writer_free(&q.w);
	scratch_remove(&q.scratch);
	return 0;
}

static size_t count_files(const char *prefix, const char *suffix)
{
	DIR *d = opendir(q.scratch.path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		struct slice name = slice_from_cstr(e->d_name);
		if (name.p[0] != '.' && slice_starts(name, slice_from_cstr(prefix)) &&
			slice_ends_nocase(name, slice_from_cstr(suffix))) {
			n++;
		}
	}
	closedir(d);
	return n;
}

static struct envelope_rcpt one_rcpt[] = {
	{.address = SLICE_INIT("rcpt@example.net"), .notify = 0}};

static struct envelope sample(void)
{
	return (struct envelope){
		.sender = SLICE("sender@example.org"),
		.client_name = SLICE("client.example"),
		.client_addr = SLICE("192.0.2.1"),
		.helo = SLICE("client"),
		.protocol = SLICE("ESMTP"),
		.flags = 3,
		.rcpt_count = 1,
		.rcpts = one_rcpt,
	};
}

static enum err add(struct slice content, struct segment_record *out, uint64_t *segment)
{
	struct envelope e = sample();

	return segment_writer_add(q.w, &e, SLICE("Received: x\r\n"), content,
		INT64_C(1700000000000000), out, segment);
}

static void add_ok(struct slice content, struct segment_record *out, uint64_t *segment)
{
	assert_int_equal(add(content, out, segment), ERR_OK);
}

static struct slice filled(size_t n, uint8_t with)
{
	uint8_t *p = alloc_bytes(n);

	memset(p, with, n);
	return slice_make(p, n);
}

static void drop(struct slice s)
{
	free((void *)(uintptr_t)s.p);
}

/* All records of a segment; fails on damage. */
static size_t read_all(uint64_t segment, struct segment_record *out, size_t max, uint64_t *torn)
{
	struct segment_info info;
	enum segment_found found;
	uint64_t at = 0;
	uint64_t all_torn = 0;
	size_t n = 0;
	int fd = -1;

	assert_int_equal(segment_open(q.dir, segment, false, &fd, &info), ERR_OK);
	for (;;) {
		struct segment_record r;
		uint64_t some = 0;
		assert_int_equal(
			segment_next(fd, &info, &at, UINT64_MAX, true, &found, &r, &some),
			ERR_OK);
		all_torn += some;
		if (found == SEGMENT_END) {
			break;
		}
		assert_int_equal(found, SEGMENT_RECORD);
		assert_true(n < max);
		out[n++] = r;
	}
	close(fd);
	if (torn != NULL) {
		*torn = all_torn;
	}
	return n;
}

static void assert_same_record(const struct segment_record *a, const struct segment_record *b)
{
	assert_int_equal(a->offset, b->offset);
	assert_int_equal(a->length, b->length);
	assert_int_equal(a->first_slot, b->first_slot);
	assert_int_equal(a->rcpt_count, b->rcpt_count);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->envelope_at, b->envelope_at);
	assert_int_equal(a->envelope_bytes, b->envelope_bytes);
	assert_int_equal(a->head_at, b->head_at);
	assert_int_equal(a->head_bytes, b->head_bytes);
	assert_int_equal(a->content_at, b->content_at);
	assert_int_equal(a->content_bytes, b->content_bytes);
	assert_int_equal(a->accepted_us, b->accepted_us);
	assert_int_equal(a->payload_crc, b->payload_crc);
	assert_string_equal(a->queue_id, b->queue_id);
}

static void assert_content(uint64_t segment, const struct segment_record *r, struct slice want)
{
	struct segment_info info;
	uint8_t *bytes = alloc_bytes(want.n);
	int fd = -1;

	assert_int_equal(r->content_bytes, want.n);
	assert_int_equal(segment_open(q.dir, segment, false, &fd, &info), ERR_OK);
	assert_int_equal(pread(fd, bytes, want.n, (off_t)r->content_at), want.n);
	assert_memory_equal(bytes, want.p, want.n);
	close(fd);
	free(bytes);
}

/* ---- the tests ---- */

static void what_is_committed_is_found_again(void **state)
{
	struct segment_record want[5];
	struct segment_record got[5];
	uint64_t segment = 0;
	uint64_t current = 0;
	uint64_t end = 0;
	char id[QUEUE_ID_BYTES + 1];

	(void)state;
	assert_false(segment_writer_current(q.w, &current, &end));
	memcpy(id, segment_writer_next_id(q.w), sizeof(id));
	add_ok(SLICE("one\r\n"), &want[0], &segment);
	assert_string_equal(want[0].queue_id, id);
	add_ok(SLICE(""), &want[1], &segment);
	assert_true(segment_writer_pending(q.w) > 0);
	assert_int_equal(count_files("", ".seg"), 0);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_int_equal(segment_writer_pending(q.w), 0);
	assert_int_equal(q.opened_count, 1);
	assert_int_equal(q.opened[0], segment);
	for (size_t i = 2; i < 5; i++) {
		add_ok(SLICE("more\r\n"), &want[i], &segment);
		if (i == 3) {
			assert_int_equal(segment_writer_commit(q.w), ERR_OK);
		}
	}
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK); /* nothing to do */
	assert_int_equal(q.opened_count, 1);
	assert_int_equal(read_all(segment, got, 5, NULL), 5);
	for (size_t i = 0; i < 5; i++) {
		assert_same_record(&want[i], &got[i]);
		assert_int_equal(got[i].first_slot, i);
	}
	assert_content(segment, &got[0], SLICE("one\r\n"));
	assert_true(segment_writer_current(q.w, &current, &end));
	assert_int_equal(current, segment);
	assert_int_equal(end, want[4].offset + want[4].length);
	assert_int_equal(q.sealed_count, 0);
}

static void a_group_that_is_not_committed_leaves_nothing(void **state)
{
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	add_ok(SLICE("x\r\n"), &r, &segment);
	segment_writer_free(&q.w);
	assert_int_equal(count_files("", ""), 0);
	assert_int_equal(q.opened_count, 0);
	assert_int_equal(q.sealed_count, 0);
}

static void a_group_never_touches_a_page_of_an_earlier_one(void **state)
{
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		add_ok(SLICE("x\r\n"), &r, &segment);
		assert_int_equal(r.offset % SEGMENT_PAGE, 0);
		add_ok(SLICE("x\r\n"), &r, &segment);
		assert_int_equal(r.offset % SEGMENT_ALIGN, 0);
		assert_true(r.offset % SEGMENT_PAGE != 0);
		assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	}
}

static void the_file_is_for_the_group_and_locked(void **state)
{
	struct segment_record r;
	struct segment_info info;
	struct stat st;
	uint64_t segment = 0;
	int fd = -1;

	(void)state;
	mode_t old = umask(077);
	add_ok(SLICE("x\r\n"), &r, &segment);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	umask(old);
	assert_int_equal(segment_open(q.dir, segment, true, &fd, &info), ERR_OK);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
	segment_writer_rotate(q.w, segment);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), 0);
	close(fd);
}

static void full_segments_follow_one_another(void **state)
{
	struct slice content = filled((size_t)7 * 1024 * 1024, 'x');
	struct segment_record all[20];
	struct segment_record got[20];
	uint64_t of[20];
	size_t found = 0;

	(void)state;
	segment_writer_prepare(q.w);
	assert_int_equal(count_files("tmp-07-", ""), 1);
	for (size_t i = 0; i < 20; i++) {
		add_ok(content, &all[i], &of[i]);
		/* Four to a group: groups lie across the ends of segments. */
		if (i % 4 == 3) {
			assert_int_equal(segment_writer_commit(q.w), ERR_OK);
			segment_writer_prepare(q.w);
		}
	}
	assert_int_equal(q.opened_count, 3);
	assert_int_equal(q.sealed_count, 2);
	for (size_t s = 0; s < q.opened_count; s++) {
		size_t n = read_all(q.opened[s], got, 20, NULL);
		assert_true(n > 0);
		for (size_t i = 0; i < n; i++, found++) {
			assert_int_equal(of[found], q.opened[s]);
			assert_same_record(&all[found], &got[i]);
		}
		if (s < 2) {
			assert_int_equal(q.sealed[s], q.opened[s]);
			assert_int_equal(q.sealed_end[s],
				got[n - 1].offset + got[n - 1].length);
		}
	}
	assert_int_equal(found, 20);
	assert_content(of[19], &all[19], content);
	drop(content);
}

static void many_slots_end_a_segment_too(void **state)
{
	static struct envelope_rcpt many[6000];
	struct envelope e = sample();
	struct segment_record r;
	uint64_t of[4];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i].address = SLICE("someone@example.com");
	}
	e.rcpts = many;
	e.rcpt_count = ARRAY_LEN(many);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(
			segment_writer_add(q.w, &e, SLICE_EMPTY, SLICE("x\r\n"), 1, &r, &of[i]),
			ERR_OK);
	}
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_true(of[0] == of[1] && of[1] != of[2] && of[2] == of[3]);
	assert_int_equal(q.opened_count, 2);
	/* Told with the next call. */
	assert_int_equal(q.sealed_count, 0);
	segment_writer_prepare(q.w);
	assert_int_equal(q.sealed_count, 1);
}

static void a_record_larger_than_a_segment_gets_its_own(void **state)
{
	struct slice content = filled(SEGMENT_BYTES, 'y');
	struct segment_record r[3];
	struct segment_record got[3];
	uint64_t of[3];

	(void)state;
	add_ok(SLICE("a"), &r[0], &of[0]);
	add_ok(content, &r[1], &of[1]);
	add_ok(slice_head(content, SEGMENT_PAGE), &r[2], &of[2]);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_true(of[0] != of[1] && of[1] != of[2]);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(read_all(of[i], got, 3, NULL), 1);
		assert_same_record(&got[0], &r[i]);
	}
	drop(content);
}

static void a_group_has_its_ceiling(void **state)
{
	struct slice content = filled((size_t)100 * 1024 * 1024, 'z');
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	add_ok(content, &r, &segment);
	add_ok(content, &r, &segment);
	assert_int_equal(add(content, &r, &segment), ERR_TOOBIG);
	/* What was there before remains. */
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_int_equal(q.opened_count, 2);
	drop(content);
}

static void a_failed_sync_abandons_the_segment(void **state)
{
	struct segment_record r[2];
	struct segment_record got[2];
	uint64_t first = 0;
	uint64_t second = 0;
	uint64_t torn = 0;

	(void)state;
	add_ok(SLICE("kept\r\n"), &r[0], &first);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	add_ok(SLICE("refused\r\n"), &r[1], &second);
	fdatasync_fails_in = 0;
	errno = 0;
	assert_int_equal(segment_writer_commit(q.w), ERR_SYS);
	assert_int_equal(errno, EIO);
	assert_int_equal(syncs_after_failure, 0);
	last_failed_fd = -2; /* its number may be used again */
	assert_int_equal(segment_writer_pending(q.w), 0);
	assert_false(segment_writer_current(q.w, &second, &torn));
	assert_int_equal(read_all(first, got, 2, &torn), 1);
	assert_int_equal(torn, 0);
	assert_same_record(&r[0], &got[0]);
	/* The next group lies elsewhere. */
	add_ok(SLICE("again\r\n"), &r[1], &second);
	assert_true(first != second);
	assert_int_equal(q.sealed_count, 1);
	assert_int_equal(q.sealed[0], first);
	assert_int_equal(q.sealed_end[0], r[0].offset + r[0].length);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_int_equal(read_all(second, got, 2, NULL), 1);
}

/* Groups of one to four records, some across segments, while the n-th of some call fails. */
static void run_with_failure(void **state, int *call, int n)
{
	static struct envelope_rcpt many[6000]; /* fewer than three to a segment */
	struct envelope e = sample();
	static const size_t ends[] = {0, 1, 5, 7}; /* last records of the groups */
	struct segment_record r[8];
	struct segment_record got[8];
	uint64_t of[8];
	bool ok[8] = {false};
	size_t kept = 0;
	size_t found = 0;
	size_t i = 0;

	for (size_t k = 0; k < ARRAY_LEN(many); k++) {
		many[k].address = SLICE("s@example.com");
	}
	e.rcpts = many;
	tear_down(state);
	set_up(state);
	failed_with = n % 2 == 0 ? EIO : ENOSPC;
	*call = n;
	for (size_t g = 0; g < ARRAY_LEN(ends); g++) {
		size_t first = i;
		for (; i <= ends[g]; i++) {
			e.rcpt_count = i < 2 ? 1 : ARRAY_LEN(many);
			ok[i] = segment_writer_add(q.w, &e, SLICE("h"), SLICE("c"), 1, &r[i],
					&of[i]) == ERR_OK;
		}
		bool is_durable = segment_writer_commit(q.w) == ERR_OK;
		for (size_t k = first; k < i; k++) {
			ok[k] = ok[k] && is_durable;
			kept += ok[k] ? 1 : 0;
		}
	}
	assert_true(kept >= 4);
	for (size_t s = 0; s < q.opened_count; s++) {
		size_t m = read_all(q.opened[s], got, 8, NULL);
		assert_true(m > 0);
		for (i = 0; i < m; i++, found++) {
			size_t k = 0;
			while (k < 8 && (!ok[k] || of[k] != q.opened[s] ||
						r[k].offset != got[i].offset)) {
				k++;
			}
			assert_true(k < 8);
			assert_same_record(&r[k], &got[i]);
		}
	}
	assert_int_equal(found, kept);
	assert_int_equal(count_files("", ".seg"), q.opened_count);
	segment_writer_free(&q.w);
	assert_int_equal(q.sealed_count, q.opened_count);
	assert_int_equal(count_files("tmp-", ""), 0);
}

static void any_failing_call_leaves_all_or_nothing(void **state)
{
	static int *const calls[] = {&fdatasync_fails_in, &fsync_fails_in, &pwrite_fails_in,
		&rename_fails_in};
	unsigned failures = 0;

	for (size_t call = 0; call < ARRAY_LEN(calls); call++) {
		int n = 0;
		/* Until the call is not reached any more. */
		do {
			run_with_failure(state, calls[call], n);
			failures += *calls[call] < 0 ? 1 : 0;
		} while (*calls[call] < 0 && ++n < 30);
		assert_true(n < 30);
	}
	assert_true(failures >= 15);
}

static void a_file_system_without_noreplace_will_do(void **state)
{
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	failed_with = EINVAL;
	rename_fails_in = 0;
	add_ok(SLICE("x\r\n"), &r, &segment);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_int_equal(read_all(segment, &r, 1, NULL), 1);
}

static void a_dead_writers_leftovers_are_swept(void **state)
{
	/* One of our number, a fresh one of another, an old one of another, something else. */
	static const char *const names[] = {"tmp-07-0000000000000001",
		"tmp-08-0000000000000002", "tmp-09-0000000000000003", "tmp-note"};
	struct segment_writer *other = NULL;
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	/* And one that lives. */
	add_ok(SLICE("x\r\n"), &r, &segment);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int fd = openat(q.dir, names[i], O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		struct timespec times[2] = {{.tv_sec = 1},
			{.tv_sec = i == 2 ? 1 : clock_wall_s()}};
		assert_int_equal(futimens(fd, times), 0);
		close(fd);
	}
	assert_int_equal(segment_writer_new(q.dir, 7, NULL, NULL, &other), ERR_OK);
	assert_int_equal(faccessat(q.dir, names[0], F_OK, 0), -1);
	assert_int_equal(faccessat(q.dir, names[1], F_OK, 0), 0);
	assert_int_equal(faccessat(q.dir, names[2], F_OK, 0), -1);
	assert_int_equal(faccessat(q.dir, names[3], F_OK, 0), 0);
	segment_writer_free(&other);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_int_equal(read_all(segment, &r, 1, NULL), 1);
}

static void ids_of_segments_go_on_when_the_clock_steps_back(void **state)
{
	struct segment_record r;
	uint64_t first = 0;
	uint64_t second = 0;
	uint64_t third = 0;

	(void)state;
	clock_hold(INT64_C(1700000000000000), 1000000);
	add_ok(SLICE("x"), &r, &first);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	segment_writer_rotate(q.w, first);
	clock_hold(INT64_C(1600000000000000), 2000000);
	add_ok(SLICE("x"), &r, &second);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_true(second > first);
	/* A writer that was started anew does not take what is there. */
	segment_writer_free(&q.w);
	clock_hold(INT64_C(1700000000000000), 1000000);
	assert_int_equal(segment_writer_new(q.dir, 7, &events, &q, &q.w), ERR_OK);
	add_ok(SLICE("x"), &r, &third);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_true(third != first && third != second);
}

static void rotation_waits_for_what_is_pending(void **state)
{
	struct segment_record r;
	uint64_t first = 0;
	uint64_t second = 0;
	uint64_t third = 0;

	(void)state;
	add_ok(SLICE("a"), &r, &first);
	segment_writer_rotate(q.w, first); /* not in use yet: nobody can mean it */
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	add_ok(SLICE("b"), &r, &second);
	assert_int_equal(first, second);
	segment_writer_rotate(q.w, first);
	assert_int_equal(q.sealed_count, 0);
	add_ok(SLICE("c"), &r, &third);
	assert_true(third != first);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	segment_writer_rotate(q.w, 12345);
	assert_int_equal(q.sealed_count, 1);
	assert_int_equal(q.sealed[0], first);
	segment_writer_rotate(q.w, third);
	assert_int_equal(q.sealed_count, 2);
	assert_int_equal(count_files("", ".seg"), 2);
}

static void refuses_an_envelope_without_recipients(void **state)
{
	struct envelope e = sample();
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	e.rcpt_count = 0;
	assert_int_equal(segment_writer_add(q.w, &e, SLICE_EMPTY, SLICE("x"), 1, &r, &segment),
		ERR_SYNTAX);
	assert_int_equal(segment_writer_pending(q.w), 0);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
}

static void a_big_message_is_a_segment_of_its_own(void **state)
{
	struct envelope e = sample();
	struct segment_big *b = NULL;
	struct segment_record r;
	struct segment_record got;
	struct slice piece = filled((size_t)700 * 1024, 'p');
	struct slice all = filled((size_t)700 * 1024 * 12 + 6, 'p');
	uint64_t segment = 0;
	char id[QUEUE_ID_BYTES + 1];

	(void)state;
	memcpy((void *)(uintptr_t)(all.p + all.n - 6), "tail\r\n", 6);
	memcpy(id, segment_writer_next_id(q.w), sizeof(id));
	assert_int_equal(segment_big_begin(q.w, &e, &b), ERR_OK);
	assert_int_equal(count_files("", ".seg"), 0);
	for (size_t i = 0; i < 12; i++) {
		/* In pieces of several sizes. */
		size_t cut = i * 50000;
		assert_int_equal(segment_big_content(b, slice_head(piece, cut)), ERR_OK);
		assert_int_equal(segment_big_content(b, slice_skip(piece, cut)), ERR_OK);
	}
	assert_int_equal(segment_big_content(b, SLICE("tail\r\n")), ERR_OK);
	assert_int_equal(segment_big_bytes(b), all.n);
	assert_int_equal(segment_big_commit(&b, SLICE("Received: big\r\n"), 99, &r, &segment),
		ERR_OK);
	assert_null(b);
	assert_string_equal(r.queue_id, id);
	assert_int_equal(q.opened_count, 1);
	assert_int_equal(q.opened[0], segment);
	assert_int_equal(q.sealed_count, 0);
	segment_writer_prepare(q.w);
	assert_int_equal(q.sealed_count, 1);
	assert_int_equal(q.sealed_end[0], r.offset + r.length);
	assert_int_equal(read_all(segment, &got, 1, NULL), 1);
	assert_same_record(&r, &got);
	assert_content(segment, &r, all);
	drop(piece);
	drop(all);
}

static void a_big_message_that_fails_leaves_nothing(void **state)
{
	static int *const calls[] = {&fdatasync_fails_in, &fsync_fails_in, &pwrite_fails_in,
		&rename_fails_in};
	struct envelope e = sample();
	struct segment_big *b = NULL;
	struct segment_record r;
	uint64_t segment = 0;

	(void)state;
	assert_int_equal(segment_big_begin(q.w, &e, &b), ERR_OK);
	assert_int_equal(segment_big_content(b, SLICE("x\r\n")), ERR_OK);
	segment_big_abort(&b);
	segment_big_abort(&b);
	assert_null(b);
	assert_int_equal(count_files("", ""), 0);
	for (size_t n = 0; n < ARRAY_LEN(calls); n++) {
		assert_int_equal(segment_big_begin(q.w, &e, &b), ERR_OK);
		assert_int_equal(segment_big_content(b, SLICE("x\r\n")), ERR_OK);
		*calls[n] = 0;
		assert_int_equal(segment_big_commit(&b, SLICE("h"), 1, &r, &segment), ERR_SYS);
		assert_null(b);
		assert_int_equal(count_files("", ""), 0);
	}
	assert_int_equal(q.opened_count, 0);
}

static void a_million_recipients_are_one_message(void **state)
{
	struct envelope e = sample();
	struct envelope back;
	struct segment_big *b = NULL;
	struct segment_record r;
	struct segment_record got;
	struct segment_info info;
	struct slot slot;
	uint8_t bytes[SEGMENT_SLOT_BYTES];
	uint64_t segment = 0;
	struct arena a;
	int fd = -1;

	(void)state;
	e.rcpt_count = 1000000;
	e.rcpts = alloc_zero(e.rcpt_count, sizeof(*e.rcpts));
	for (uint32_t i = 0; i < e.rcpt_count; i++) {
		e.rcpts[i].address = SLICE("somebody@example.net");
	}
	assert_int_equal(segment_big_begin(q.w, &e, &b), ERR_OK);
	assert_int_equal(segment_big_content(b, SLICE("x\r\n")), ERR_OK);
	assert_int_equal(segment_big_commit(&b, SLICE("h"), 1, &r, &segment), ERR_OK);
	assert_int_equal(read_all(segment, &got, 1, NULL), 1);
	assert_int_equal(got.rcpt_count, 1000000);
	assert_int_equal(segment_open(q.dir, segment, true, &fd, &info), ERR_OK);
	slot_encode(&(struct slot){.state = SLOT_DELIVERED, .attempts = 1}, bytes);
	assert_int_equal(segment_write_slots(fd, 999999, 1, bytes), ERR_OK);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(segment_read_slots(fd, 999999, 1, bytes), ERR_OK);
	slot_decode(bytes, &slot);
	assert_int_equal(slot.state, SLOT_DELIVERED);
	assert_int_equal(segment_read_slots(fd, UINT32_MAX, 1, bytes), ERR_TOOBIG);
	arena_init(&a, (size_t)256 * 1024 * 1024);
	assert_int_equal(segment_read_envelope(fd, &got, true, &a, &back), ERR_OK);
	assert_int_equal(back.rcpt_count, 1000000);
	assert_true(slice_eq(back.rcpts[999999].address, SLICE("somebody@example.net")));
	arena_clear(&a);
	/* A small arena is a refusal, not an accident. */
	arena_init(&a, 1024);
	assert_int_equal(segment_read_envelope(fd, &got, false, &a, &back), ERR_TOOBIG);
	arena_clear(&a);
	close(fd);
	/* The same by add, in a group with others. */
	uint64_t of[2];
	struct segment_record two[2];
	add_ok(SLICE("small"), &two[0], &of[0]);
	assert_int_equal(
		segment_writer_add(q.w, &e, SLICE_EMPTY, SLICE("x"), 1, &two[1], &of[1]),
		ERR_OK);
	assert_int_equal(segment_writer_commit(q.w), ERR_OK);
	assert_true(of[0] != of[1]);
	assert_int_equal(read_all(of[1], &got, 1, NULL), 1);
	assert_same_record(&got, &two[1]);
	free(e.rcpts);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(what_is_committed_is_found_again),
		CASE(a_group_that_is_not_committed_leaves_nothing),
		CASE(a_group_never_touches_a_page_of_an_earlier_one),
		CASE(the_file_is_for_the_group_and_locked),
		CASE(full_segments_follow_one_another),
		CASE(many_slots_end_a_segment_too),
		CASE(a_record_larger_than_a_segment_gets_its_own),
		CASE(a_group_has_its_ceiling),
		CASE(a_failed_sync_abandons_the_segment),
		CASE(any_failing_call_leaves_all_or_nothing),
		CASE(a_file_system_without_noreplace_will_do),
		CASE(a_dead_writers_leftovers_are_swept),
		CASE(ids_of_segments_go_on_when_the_clock_steps_back),
		CASE(rotation_waits_for_what_is_pending),
		CASE(refuses_an_envelope_without_recipients),
		CASE(a_big_message_is_a_segment_of_its_own),
		CASE(a_big_message_that_fails_leaves_nothing),
		CASE(a_million_recipients_are_one_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
