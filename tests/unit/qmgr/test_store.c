/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
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
	(void)arg;
	(void)sick;
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
