/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cleanup/committer.h"
#include "common/base/attr.h"
#include "common/base/log.h"
#include "common/io/fd.h"
#include "common/ipc/messages.h"
#include "tests/support/lib/scratch.h"

static unsigned syncs;
static int sync_errno;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
	syncs++;
	if (sync_errno != 0) {
		errno = sync_errno;
		return -1;
	}
	return __real_fdatasync(fd);
}

/* ---- what happens, as a text: "+1" parcel 1 is durable, "-1" it is not, "S" segment_open, "e"
 * enqueue, "r" enqueue_rcpt, "Z" segment_sealed, "!" the store has failed ---- */

static char story[4096];

static void tell(const char *word)
{
	size_t n = strlen(story);

	(void)snprintf(story + n, sizeof(story) - n, "%s", word);
}

struct message {
	struct parcel parcel;
	struct envelope envelope;
	struct envelope_rcpt rcpts[100];
	unsigned number;
};
static struct message messages[8];

static void on_settled(void *arg, enum err e)
{
	struct message *m = arg;
	char word[32];

	(void)snprintf(word, sizeof(word), "%c%u", e == ERR_OK ? '+' : '-', m->number);
	tell(word);
}

static void on_failure(void *arg, enum err e)
{
	(void)arg;
	assert_int_not_equal(e, ERR_OK);
	tell("!");
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	(void)arg;
	(void)body;
	(void)fd;
	tell(type == MSG_ID_segment_open        ? "S"
		: type == MSG_ID_enqueue        ? "e"
		: type == MSG_ID_enqueue_rcpt   ? "r"
		: type == MSG_ID_segment_sealed ? "Z"
						: "?");
	return ERR_OK;
}

static void on_gone(void *arg, enum err why)
{
	(void)arg;
	(void)why;
	tell("gone");
}

static const struct channel_handler handler = {.on_frame = on_frame, .on_gone = on_gone};

static struct loop *loop;
static struct scratch scratch;
static struct committer *committer;
static struct channel *ours;   /* the committer's */
static struct channel *theirs; /* qmgr's end */

static int begin(void **state)
{
	int pair[2];

	(void)state;
	log_open("test");
	log_set_level(LOG_LEVEL_ERROR);
	sync_errno = 0;
	scratch_make(&scratch);
	if (loop_new(&loop) != ERR_OK || fd_socketpair(pair) != ERR_OK ||
		committer_new(loop, scratch.dir, 1, on_failure, NULL, &committer) != ERR_OK) {
		return -1;
	}
	ours = channel_new(loop, &pair[0], &handler, NULL);
	theirs = channel_new(loop, &pair[1], &handler, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(messages); i++) {
		struct message *m = &messages[i];
		*m = (struct message){.number = i};
		list_init(&m->parcel.link);
		m->parcel.envelope = &m->envelope;
		m->parcel.accepted_us = 1795727982000000;
		m->parcel.on_settled = on_settled;
		m->parcel.arg = m;
		m->envelope.rcpt_count = 1;
		m->envelope.rcpts = m->rcpts;
		for (size_t k = 0; k < ARRAY_LEN(m->rcpts); k++) {
			m->rcpts[k].address = SLICE("x@example.net");
		}
	}
	story[0] = '\0';
	syncs = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	committer_free(&committer);
	if (ours != NULL) {
		channel_close(&ours);
	}
	channel_close(&theirs);
	loop_turn(loop, false);
	loop_free(&loop);
	scratch_remove(&scratch);
	return 0;
}

static void add(unsigned number)
{
	assert_int_equal(committer_add(committer, &messages[number].parcel,
				 SLICE("Received: x\r\n"), SLICE("From: a@b\r\n\r\nhi\r\n")),
		ERR_OK);
}

/* Until qmgr's end has read all that was sent. */
static void turn(void)
{
	for (int i = 0; i < 4; i++) {
		loop_turn(loop, false);
	}
}

static void expect(const char *want)
{
	assert_string_equal(story, want);
	story[0] = '\0';
}

static void commits_what_one_turn_brought_with_one_sync(void **state)
{
	(void)state;
	committer_set_qmgr(committer, ours);
	turn();
	assert_int_equal(syncs, 0);
	for (unsigned i = 0; i < 5; i++) {
		add(i);
	}
	expect("");
	turn();
	expect("+0+1+2+3+4Sererererer");
}

static void syncs_nothing_while_nothing_is_there(void **state)
{
	(void)state;
	add(0);
	turn();
	expect("+0");
	unsigned before = syncs;
	for (int i = 0; i < 10; i++) {
		turn();
		committer_flush(committer);
	}
	assert_int_equal(syncs, before);
	add(1);
	add(2);
	turn();
	expect("+1+2");
	assert_int_equal(syncs, before + 1);
}

static void fails_the_whole_group_and_goes_on_in_another_segment(void **state)
{
	(void)state;
	committer_set_qmgr(committer, ours);
	add(0);
	turn();
	expect("+0Ser");
	sync_errno = EIO;
	add(1);
	add(2);
	turn();
	expect("!-1-2");
	sync_errno = 0;
	add(3);
	turn();
	/* The abandoned segment is sealed, with what was committed in it before. */
	expect("+3ZSer");
	struct committer_counts n = committer_count(committer);
	assert_int_equal(n.messages, 2);
	assert_int_equal(n.failures, 1);
}

static void tells_full_from_sick(void **state)
{
	(void)state;
	sync_errno = ENOSPC;
	/* The first segment cannot even be made. */
	enum err e = committer_add(committer, &messages[0].parcel, SLICE_EMPTY,
		SLICE("From: a@b\r\n\r\n"));
	if (e == ERR_OK) {
		turn();
		expect("!-0");
	} else {
		assert_int_equal(e, ERR_FULL);
		expect("!");
	}
}

static void tells_of_up_to_64_recipients(void **state)
{
	(void)state;
	committer_set_qmgr(committer, ours);
	messages[0].envelope.rcpt_count = 64;
	messages[1].envelope.rcpt_count = 65;
	add(0);
	add(1);
	turn();
	char want[200] = "+0+1Se";
	memset(want + 6, 'r', 64);
	want[70] = 'e';
	expect(want);
}

static void does_without_qmgr_and_says_where_it_is(void **state)
{
	(void)state;
	add(0);
	turn();
	expect("+0");
	committer_set_qmgr(committer, ours);
	turn();
	expect("S");
	committer_set_qmgr(committer, NULL);
	add(1);
	turn();
	expect("+1");
	committer_set_qmgr(committer, ours);
	add(2);
	turn();
	expect("+2Ser");
}

static void seals_on_request_and_at_the_end(void **state)
{
	(void)state;
	committer_set_qmgr(committer, ours);
	add(0);
	turn();
	expect("+0Ser");
	/* Another one: nothing happens. */
	committer_rotate(committer, 1);
	turn();
	expect("");
	/* What waits is told before the seal. */
	add(1);
	committer_rotate(committer, messages[0].parcel.segment);
	turn();
	expect("+1erZ");
	add(2);
	committer_free(&committer);
	turn();
	expect("+2SerZ");
}

static void commits_large_messages_behind_the_group(void **state)
{
	struct parcel *big = &messages[0].parcel;

	(void)state;
	committer_set_qmgr(committer, ours);
	assert_int_equal(committer_begin_big(committer, big), ERR_OK);
	add(1);
	turn();
	expect("+1Ser");
	for (int i = 0; i < 100; i++) {
		assert_int_equal(segment_big_content(big->big, SLICE("a line\r\n")), ERR_OK);
	}
	big->head = SLICE("Received: x\r\n");
	committer_add_big(committer, big);
	add(2);
	turn();
	expect("+2+0erSer");
	assert_int_equal(big->record.content_bytes, 800);
	assert_int_not_equal(big->segment, messages[1].parcel.segment);
	/* It is sealed when the writer is used again. */
	add(3);
	turn();
	expect("+3Zer");
}

static void a_large_message_fails_alone(void **state)
{
	struct parcel *big = &messages[0].parcel;

	(void)state;
	add(1);
	turn();
	expect("+1");
	assert_int_equal(committer_begin_big(committer, big), ERR_OK);
	assert_int_equal(segment_big_content(big->big, SLICE("a line\r\n")), ERR_OK);
	committer_add_big(committer, big);
	sync_errno = EIO;
	turn();
	expect("!-0");
	assert_null(big->big);
	sync_errno = 0;
	add(2);
	turn();
	expect("+2");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(commits_what_one_turn_brought_with_one_sync),
		TEST(syncs_nothing_while_nothing_is_there),
		TEST(fails_the_whole_group_and_goes_on_in_another_segment),
		TEST(tells_full_from_sick),
		TEST(tells_of_up_to_64_recipients),
		TEST(does_without_qmgr_and_says_where_it_is),
		TEST(seals_on_request_and_at_the_end),
		TEST(commits_large_messages_behind_the_group),
		TEST(a_large_message_fails_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
