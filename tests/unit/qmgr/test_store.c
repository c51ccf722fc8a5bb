/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=segment_read_slots -Wl,--wrap=fdatasync -Wl,--wrap=unlinkat */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/io/fd.h"
#include "common/queue/segment_writer.h"
#include "qmgr/message.h"
#include "qmgr/store.h"

/* The disk's faults: so many calls from the next one on fail, after so many that work. */
static struct {
	unsigned reads_good;
	unsigned reads_bad;
	unsigned syncs_bad;
	unsigned removals_bad;
} faults;

enum err __real_segment_read_slots(int fd, uint32_t first, uint32_t count, uint8_t *to);
enum err __wrap_segment_read_slots(int fd, uint32_t first, uint32_t count, uint8_t *to);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags);

enum err __wrap_segment_read_slots(int fd, uint32_t first, uint32_t count, uint8_t *to)
{
	if (faults.reads_good == 0 && faults.reads_bad > 0) {
		faults.reads_bad--;
		errno = EIO;
		return ERR_SYS;
	}
	faults.reads_good -= faults.reads_good > 0 ? 1 : 0;
	return __real_segment_read_slots(fd, first, count, to);
}

int __wrap_fdatasync(int fd)
{
	if (faults.syncs_bad > 0) {
		faults.syncs_bad--;
		errno = EIO;
		return -1;
	}
	return __real_fdatasync(fd);
}

int __wrap_unlinkat(int dir, const char *name, int flags)
{
	if (faults.removals_bad > 0) {
		faults.removals_bad--;
		errno = EIO;
		return -1;
	}
	return __real_unlinkat(dir, name, flags);
}

/* A queue in a scratch folder, and what the store said of it. */
struct bench {
	char path[64];
	int queue;
	int corrupt;
	int journal_dir;
	struct loop *loop;
	struct journal_writer *journal;
	struct store *store;
	struct segment_writer *writer;
	unsigned records;
	unsigned removed;
	unsigned sick_times;
	bool sick;
	struct store_segment *last;
	struct record_ref last_ref;
};

static void on_record(void *arg, struct store_segment *s, const struct record_ref *r)
{
	struct bench *b = arg;

	b->records++;
	b->last = s;
	b->last_ref = *r;
}

static void on_remove(void *arg, struct store_segment *s)
{
	(void)s;
	((struct bench *)arg)->removed++;
}

static void on_sick(void *arg, bool sick)
{
	struct bench *b = arg;

	b->sick = sick;
	b->sick_times += sick ? 1 : 0;
}

static const struct store_events events = {on_record, on_remove, on_sick};

static int make_dir(const char *path, const char *name)
{
	char full[96];

	assert_true(snprintf(full, sizeof(full), "%s/%s", path, name) < (int)sizeof(full));
	assert_int_equal(mkdir(full, 0700), 0);
	int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void open_store(struct bench *b)
{
	assert_int_equal(
		store_new(b->loop, b->queue, b->corrupt, b->journal, &events, b, &b->store),
		ERR_OK);
}

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	memset(&faults, 0, sizeof(faults));
	assert_non_null(b);
	memcpy(b->path, "/tmp/store-XXXXXX", sizeof("/tmp/store-XXXXXX"));
	assert_non_null(mkdtemp(b->path));
	b->queue = make_dir(b->path, "queue");
	b->corrupt = make_dir(b->path, "corrupt");
	b->journal_dir = make_dir(b->path, "journal");
	assert_int_equal(loop_new(&b->loop), ERR_OK);
	assert_int_equal(journal_writer_new(b->loop, b->journal_dir, "t", 0, 1u << 30, 3600,
				 &b->journal),
		ERR_OK);
	assert_int_equal(segment_writer_new(b->queue, 3, NULL, NULL, &b->writer), ERR_OK);
	open_store(b);
	*state = b;
	return 0;
}

static void empty_dir(int dir)
{
	DIR *d = fdopendir(dir);

	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		if (e->d_name[0] != '.') {
			(void)unlinkat(dir, e->d_name, 0);
		}
	}
	(void)closedir(d);
}

static int tear_down(void **state)
{
	static const char *const names[] = {"queue", "corrupt", "journal"};
	struct bench *b = *state;

	store_free(&b->store);
	segment_writer_free(&b->writer);
	journal_writer_free(&b->journal);
	loop_free(&b->loop);
	empty_dir(b->queue);
	empty_dir(b->corrupt);
	empty_dir(b->journal_dir);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char full[96];

		assert_true(snprintf(full, sizeof(full), "%s/%s", b->path, names[i]) > 0);
		(void)rmdir(full);
	}
	(void)rmdir(b->path);
	free(b);
	return 0;
}

/* One durable message to two recipients. */
static struct segment_record put(struct bench *b, uint64_t *segment)
{
	struct envelope_rcpt rcpts[] = {{.address = SLICE_INIT("one@example.com")},
		{.address = SLICE_INIT("two@example.com")}};
	struct envelope e = {.sender = SLICE("s@example.net"), .rcpt_count = 2, .rcpts = rcpts};
	struct segment_record r;

	assert_int_equal(segment_writer_add(b->writer, &e, SLICE("Received: x\r\n"),
				 SLICE("Subject: y\r\n\r\nbody\r\n"), clock_wall_us(), &r,
				 segment),
		ERR_OK);
	assert_int_equal(segment_writer_commit(b->writer), ERR_OK);
	return r;
}

static void finish(struct bench *b, struct store_segment *seg, uint32_t slot)
{
	struct slot s = store_slot(seg, slot);

	s.state = SLOT_DELIVERED;
	store_set_slot(b->store, seg, slot, &s);
}

static void leaves_what_a_live_writer_has_alone(void **state)
{
	struct bench *b = *state;
	uint64_t id;

	put(b, &id);
	assert_int_equal(store_sweep(b->store), 0);
	assert_null(store_find(b->store, id));
}

static void finds_what_a_dead_writer_left(void **state)
{
	struct bench *b = *state;
	struct message *m = NULL;
	uint64_t id;

	put(b, &id);
	put(b, &id);
	segment_writer_free(&b->writer);
	assert_int_equal(store_sweep(b->store), 2);
	assert_int_equal(b->records, 2);
	assert_int_equal(store_live(b->store), 4);
	assert_int_equal(store_sweep(b->store), 0);
	assert_int_equal(message_load(b->store, b->last, &b->last_ref, &m), ERR_OK);
	assert_int_equal(m->rcpt_count, 2);
	assert_true(slice_eq(m->rcpts[1].address, SLICE("two@example.com")));
	message_unref(b->store, &m);
}

static void keeps_states_over_a_restart(void **state)
{
	struct bench *b = *state;
	struct slot s;
	uint64_t id;

	put(b, &id);
	segment_writer_free(&b->writer);
	store_sweep(b->store);
	struct store_segment *seg = store_find(b->store, id);
	finish(b, seg, 0);
	s = store_slot(seg, 1);
	s.attempts = 7;
	s.next_at_s = 12345;
	s.flags = SLOT_ACTIVE;
	store_set_slot(b->store, seg, 1, &s);
	loop_turn(b->loop, false);
	store_free(&b->store);
	open_store(b);
	assert_int_equal(store_sweep(b->store), 1);
	seg = store_find(b->store, id);
	assert_int_equal(seg->live, 1);
	s = store_slot(seg, 1);
	assert_int_equal(s.attempts, 7);
	assert_int_equal(s.next_at_s, 12345);
	assert_int_equal(s.flags, 0);
	s = store_slot(seg, 0);
	assert_int_equal(s.state, SLOT_DELIVERED);
}

static void removes_a_segment_when_all_is_final_and_nobody_uses_it(void **state)
{
	struct bench *b = *state;
	struct store_segment *seg;
	struct segment_record r;
	struct record_ref ref;
	char name[SEGMENT_NAME_MAX];
	struct stat st;
	uint64_t id;

	r = put(b, &id);
	assert_int_equal(store_announce(b->store, 3, id, r.offset, &seg), ERR_OK);
	ref = (struct record_ref){r.offset, r.first_slot, r.rcpt_count};
	assert_int_equal(store_add_record(b->store, seg, &ref, r.length), ERR_OK);
	assert_int_equal(store_add_record(b->store, seg, &ref, r.length), ERR_EXISTS);
	store_pin(seg);
	finish(b, seg, 0);
	finish(b, seg, 1);
	loop_turn(b->loop, false);
	assert_int_equal(b->removed, 0); /* its writer still appends */
	store_sealed(b->store, 4, id);
	assert_true(seg->announced); /* another one has no say in it */
	store_sealed(b->store, 3, id);
	assert_int_equal(b->removed, 0); /* a message in memory refers to it */
	store_unpin(b->store, seg);
	assert_int_equal(b->removed, 1);
	segment_name(id, name);
	assert_int_equal(fstatat(b->queue, name, &st, 0), -1);
	assert_int_equal(store_live(b->store), 0);
}

static void knows_a_record_once_whether_told_or_scanned(void **state)
{
	struct bench *b = *state;
	struct store_segment *seg;
	struct segment_record first;
	struct segment_record second;
	struct record_ref ref;
	uint64_t id;

	first = put(b, &id);
	second = put(b, &id);
	/* A new qmgr hears of the segment with two records, then of the second by a late
	 * notice. */
	assert_int_equal(store_announce(b->store, 3, id, second.offset + second.length, &seg),
		ERR_OK);
	assert_int_equal(b->records, 2);
	ref = (struct record_ref){second.offset, second.first_slot, second.rcpt_count};
	assert_int_equal(store_add_record(b->store, seg, &ref, second.length), ERR_EXISTS);
	assert_int_equal(store_record_of(seg, 0)->offset, first.offset);
	assert_int_equal(store_record_of(seg, 3)->offset, second.offset);
	assert_null(store_record_of(seg, 4));
	/* Its writer dies with a third that was never told. */
	put(b, &id);
	store_writer_gone(b->store, 3);
	segment_writer_free(&b->writer);
	assert_int_equal(store_sweep(b->store), 1);
	assert_int_equal(b->records, 3);
	assert_true(seg->sealed);
}

static void refuses_records_whose_slots_cannot_be(void **state)
{
	struct bench *b = *state;
	struct store_segment *seg;
	struct segment_record r;
	uint64_t id;

	r = put(b, &id);
	assert_int_equal(store_announce(b->store, 3, id, 0, &seg), ERR_OK);
	const struct record_ref bad[] = {
		{r.offset, 0, 0},
		{r.offset, UINT32_MAX, 2},
		{r.offset, 0, UINT32_MAX},
		{r.offset, seg->info.slot_capacity, 1},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(store_add_record(b->store, seg, &bad[i], r.length),
			ERR_CORRUPT);
	}
	struct record_ref good = {r.offset, r.first_slot, r.rcpt_count};
	assert_int_equal(store_add_record(b->store, seg, &good, UINT64_MAX - 10), ERR_CORRUPT);
}

static void sets_a_damaged_record_aside_and_goes_on(void **state)
{
	struct bench *b = *state;
	struct message *m = NULL;
	struct segment_record r;
	char name[SEGMENT_NAME_MAX];
	uint64_t id;

	r = put(b, &id);
	put(b, &id);
	segment_writer_free(&b->writer);
	store_sweep(b->store);
	struct store_segment *seg = store_find(b->store, id);
	segment_name(id, name);
	int fd = openat(b->queue, name, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "XX", 2, (off_t)r.content_at), 2);
	fd_close(&fd);
	const struct record_ref *ref = store_record_of(seg, 0);
	assert_int_equal(message_load(b->store, seg, ref, &m), ERR_CORRUPT);
	assert_true(store_quarantine(b->store, seg, ref, "test"));
	assert_int_equal(store_live(b->store), 2);
	assert_int_equal(message_load(b->store, seg, store_record_of(seg, 2), &m), ERR_OK);
	message_unref(b->store, &m);
}

static void moves_files_that_are_no_segments_away(void **state)
{
	struct bench *b = *state;
	struct stat st;
	uint64_t id;

	int fd = openat(b->queue, "0000000000000abc.seg", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "junk", 4), 4);
	fd_close(&fd);
	put(b, &id);
	segment_writer_free(&b->writer);
	assert_int_equal(store_sweep(b->store), 1);
	assert_int_equal(fstatat(b->corrupt, "0000000000000abc.seg", &st, 0), 0);
}

static void keeps_waits_over_a_step_of_the_clock(void **state)
{
	struct bench *b = *state;
	struct slot s;
	uint64_t id;

	put(b, &id);
	segment_writer_free(&b->writer);
	store_sweep(b->store);
	struct store_segment *seg = store_find(b->store, id);
	s = store_slot(seg, 0);
	s.next_at_s = 5000;
	store_note_slot(seg, 0, &s);
	store_shift_times(b->store, 3600);
	s = store_slot(seg, 0);
	assert_int_equal(s.next_at_s, 8600);
	s = store_slot(seg, 1);
	assert_int_equal(s.next_at_s, 0);
}

static int count_files(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	int n = 0;

	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		n += e->d_name[0] != '.' ? 1 : 0;
	}
	(void)closedir(d);
	return n;
}

/* What could not be read once is no damage, and what comes behind it must not hide it. */
static void finds_later_what_could_not_be_read(void **state)
{
	struct bench *b = *state;
	struct store_segment *seg;
	struct segment_record second;
	struct segment_record third;
	uint64_t id;

	put(b, &id);
	second = put(b, &id);
	faults.reads_good = 1;
	faults.reads_bad = 1;
	assert_int_equal(store_announce(b->store, 3, id, second.offset + second.length, &seg),
		ERR_SYS);
	assert_int_equal(b->records, 1);
	third = put(b, &id);
	struct record_ref ref = {third.offset, third.first_slot, third.rcpt_count};
	seg = store_find(b->store, id);
	assert_int_equal(store_add_record(b->store, seg, &ref, third.length), ERR_AGAIN);
	assert_int_equal(store_sweep(b->store), 2);
	assert_int_equal(b->records, 3);
	assert_int_equal(store_live(b->store), 6);
	assert_int_equal(store_record_of(seg, 2)->offset, second.offset);
	assert_int_equal(store_add_record(b->store, seg, &ref, third.length), ERR_EXISTS);
	assert_int_equal(count_files(b->corrupt), 0);
	/* It goes on as if nothing had been. */
	third = put(b, &id);
	ref = (struct record_ref){third.offset, third.first_slot, third.rcpt_count};
	assert_int_equal(store_add_record(b->store, seg, &ref, third.length), ERR_OK);
}

static void finds_later_what_could_not_be_read_of_a_dead_writer(void **state)
{
	struct bench *b = *state;
	uint64_t id;

	put(b, &id);
	put(b, &id);
	segment_writer_free(&b->writer);
	faults.reads_good = 1;
	faults.reads_bad = 1;
	assert_int_equal(store_sweep(b->store), 1);
	struct store_segment *seg = store_find(b->store, id);
	/* The first one's end must not take the file away. */
	finish(b, seg, 0);
	finish(b, seg, 1);
	loop_turn(b->loop, false);
	assert_int_equal(b->removed, 0);
	assert_int_equal(store_sweep(b->store), 1);
	assert_int_equal(store_live(b->store), 2);
	assert_int_equal(count_files(b->corrupt), 0);
	finish(b, seg, 2);
	finish(b, seg, 3);
	loop_turn(b->loop, false);
	assert_int_equal(b->removed, 1);
}

/* Turns until the store has tried again, within some seconds of real time. */
static void wait_for(struct bench *b, const bool *flag, bool value)
{
	for (unsigned i = 0; i < 1000 && *flag != value; i++) {
		loop_turn(b->loop, true);
	}
	assert_int_equal(*flag, value);
}

static void stays_sick_until_a_sync_works(void **state)
{
	struct bench *b = *state;
	uint64_t id;

	put(b, &id);
	put(b, &id);
	segment_writer_free(&b->writer);
	store_sweep(b->store);
	struct store_segment *seg = store_find(b->store, id);
	faults.syncs_bad = 2;
	finish(b, seg, 0);
	loop_turn(b->loop, false);
	assert_false(b->sick);
	wait_for(b, &b->sick, true);
	/* That something can be written does not make it well. */
	finish(b, seg, 1);
	loop_turn(b->loop, false);
	assert_true(b->sick);
	wait_for(b, &b->sick, false);
	assert_int_equal(faults.syncs_bad, 0);
	assert_int_equal(b->sick_times, 1);
}

/* A file that cannot be removed costs space, and nothing else. */
static void tries_again_to_remove_a_file(void **state)
{
	struct bench *b = *state;
	uint64_t id;

	put(b, &id);
	segment_writer_free(&b->writer);
	store_sweep(b->store);
	struct store_segment *seg = store_find(b->store, id);
	faults.removals_bad = 1;
	finish(b, seg, 0);
	finish(b, seg, 1);
	loop_turn(b->loop, false);
	assert_int_equal(b->removed, 0); /* nobody has been told yet that it is gone */
	for (unsigned i = 0; i < 1000 && b->removed == 0; i++) {
		loop_turn(b->loop, true);
	}
	assert_int_equal(b->removed, 1);
	assert_int_equal(b->sick_times, 0);
	assert_int_equal(count_files(b->queue), 0);
}

static void keeps_a_damaged_segment_that_cannot_be_set_aside(void **state)
{
	struct bench *b = *state;
	uint64_t id;

	put(b, &id);
	segment_writer_free(&b->writer);
	store_sweep(b->store);
	struct store_segment *seg = store_find(b->store, id);
	int corrupt = dup(b->corrupt);
	int nowhere = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(dup2(nowhere, b->corrupt), b->corrupt);
	assert_true(store_quarantine(b->store, seg, store_record_of(seg, 0), "test"));
	loop_turn(b->loop, false);
	assert_int_equal(store_live(b->store), 0);
	assert_int_equal(b->removed, 0);
	assert_int_equal(count_files(b->queue), 1);
	assert_int_equal(dup2(corrupt, b->corrupt), b->corrupt);
	(void)close(corrupt);
	(void)close(nowhere);
}

static void takes_indexes_again(void **state)
{
	struct bench *b = *state;
	uint64_t first;
	uint64_t id;

	put(b, &first); /* stays: the table never is empty */
	segment_writer_rotate(b->writer, first);
	for (unsigned i = 0; i < 100; i++) {
		put(b, &id);
		segment_writer_rotate(b->writer, id);
		store_sweep(b->store);
		struct store_segment *seg = store_find(b->store, id);
		assert_ptr_equal(store_at(b->store, seg->index), seg);
		finish(b, seg, 0);
		finish(b, seg, 1);
		loop_turn(b->loop, false);
		assert_null(store_find(b->store, id));
	}
	assert_int_equal(store_segment_count(b->store), 1);
	assert_non_null(store_find(b->store, first));
	assert_true(store_size(b->store) <= 4);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(leaves_what_a_live_writer_has_alone),
		CASE(finds_what_a_dead_writer_left),
		CASE(keeps_states_over_a_restart),
		CASE(removes_a_segment_when_all_is_final_and_nobody_uses_it),
		CASE(knows_a_record_once_whether_told_or_scanned),
		CASE(refuses_records_whose_slots_cannot_be),
		CASE(sets_a_damaged_record_aside_and_goes_on),
		CASE(moves_files_that_are_no_segments_away),
		CASE(keeps_waits_over_a_step_of_the_clock),
		CASE(finds_later_what_could_not_be_read),
		CASE(finds_later_what_could_not_be_read_of_a_dead_writer),
		CASE(stays_sick_until_a_sync_works),
		CASE(tries_again_to_remove_a_file),
		CASE(keeps_a_damaged_segment_that_cannot_be_set_aside),
		CASE(takes_indexes_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
