/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"

#define GUARD_MS 30000

enum closing {
	CLOSE_NEVER,
	CLOSE_IN_FRAME,
	CLOSE_IN_BATCH,
	CLOSE_IN_GONE,
	CLOSE_IN_WRITABLE
};

/* A channel of ours and what its callbacks saw. */
struct side {
	struct channel *c;
	size_t frames;
	size_t batches;
	size_t writables;
	size_t gones;
	size_t fds;
	size_t fd_errors;
	size_t bytes;
	uint64_t expect; /* pings come with rising numbers */
	size_t disorder;
	enum err why;
	enum err answer; /* of on_frame */
	enum closing closing;
	size_t pause_every;
	bool keep_fd;
	int kept_fd;
};

static void guard(void *arg)
{
	(void)arg;
	fail_msg("nothing happened for %d ms", GUARD_MS);
}

static struct loop *loop;
static struct loop_timer guard_timer;

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct side *s = arg;
	struct msg_ping ping;
	struct stat st;

	s->frames++;
	s->bytes += body.n;
	if (type == MSG_ID_ping) {
		assert_int_equal(msg_ping_decode(body, &ping), ERR_OK);
		s->disorder += ping.seq != s->expect ? 1 : 0;
		s->expect++;
	}
	if (*fd >= 0) {
		s->fds++;
		/* The size of the file says which frame it was sent with. */
		if (fstat(*fd, &st) != 0 ||
			(type == MSG_ID_ping && (uint64_t)st.st_size != ping.seq) ||
			(fcntl(*fd, F_GETFD) & FD_CLOEXEC) == 0) {
			s->fd_errors++;
		}
		if (s->keep_fd && s->kept_fd < 0) {
			s->kept_fd = *fd;
			*fd = -1;
		}
	}
	if (s->closing == CLOSE_IN_FRAME) {
		channel_close(&s->c);
		return ERR_OK;
	}
	if (s->pause_every != 0 && s->frames % s->pause_every == 0) {
		channel_pause(s->c);
	}
	return s->answer;
}

static void on_batch(void *arg)
{
	struct side *s = arg;

	s->batches++;
	if (s->closing == CLOSE_IN_BATCH) {
		channel_close(&s->c);
	}
}

static void on_writable(void *arg)
{
	struct side *s = arg;

	s->writables++;
	if (s->closing == CLOSE_IN_WRITABLE) {
		channel_close(&s->c);
	}
}

static void on_gone(void *arg, enum err why)
{
	struct side *s = arg;

	s->gones++;
	s->why = why;
	if (s->closing == CLOSE_IN_GONE) {
		channel_close(&s->c);
	}
}

static const struct channel_handler handler = {.on_frame = on_frame,
	.on_batch = on_batch,
	.on_writable = on_writable,
	.on_gone = on_gone};
static const struct channel_handler bare_handler = {.on_frame = on_frame, .on_gone = on_gone};

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(loop_new(&loop), ERR_OK);
	loop_timer_init(&guard_timer, loop, guard, NULL);
	loop_timer_start(&guard_timer, GUARD_MS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_timer_stop(&guard_timer);
	loop_free(&loop);
	return 0;
}

static void open_pair(struct side *a, struct side *b)
{
	int pair[2];

	assert_int_equal(fd_socketpair(pair), ERR_OK);
	a->c = channel_new(loop, &pair[0], &handler, a);
	b->c = channel_new(loop, &pair[1], &handler, b);
	assert_int_equal(pair[0], -1);
}

/* A channel on one end; the raw socket of the other is returned. */
static int open_raw(struct side *a)
{
	int pair[2];

	assert_int_equal(fd_socketpair(pair), ERR_OK);
	a->c = channel_new(loop, &pair[0], &handler, a);
	return pair[1];
}

static void send_ping(struct side *s, uint64_t seq)
{
	struct msg_ping m = {.seq = seq};

	assert_int_equal(msg_ping_send(s->c, &m), ERR_OK);
}

/* A file of n bytes. */
static int file_of(size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)n), 0);
	return fd;
}

static void send_ping_fd(struct side *s, uint64_t seq)
{
	struct msg_ping m = {.seq = seq};
	int fd = file_of((size_t)seq);

	assert_int_equal(msg_ping_send_fd(s->c, &m, fd), ERR_OK);
	fd_close(&fd);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++) {
		n += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
	}
	return n;
}

/* Turns without waiting until nothing changes for a while in one process: enough for
 * what must NOT happen. */
static void settle(void)
{
	for (int i = 0; i < 10; i++) {
		loop_turn(loop, false);
	}
}

static void frames_arrive_in_order_and_in_few_batches(void **state)
{
	struct side a = {0};
	struct side b = {0};

	(void)state;
	open_pair(&a, &b);
	for (uint64_t i = 0; i < 1000; i++) {
		send_ping(&a, i);
	}
	while (b.frames < 1000) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.disorder, 0);
	assert_int_equal(b.batches, 1);
	assert_int_equal(channel_unsent(a.c), 0);
	channel_close(&a.c);
	while (b.gones == 0) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.why, ERR_CLOSED);
	settle();
	assert_int_equal(b.gones, 1);
	channel_close(&b.c);
}

static void more_than_the_socket_holds_arrives_too(void **state)
{
	struct side a = {0};
	struct side b = {0};
	static uint8_t chunk[LIMIT_CHUNK_BYTES];
	struct msg_tx_content m = {.tx = 1, .bytes = {chunk, sizeof(chunk)}};

	(void)state;
	open_pair(&a, &b);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(msg_tx_content_send(a.c, &m), ERR_OK);
	}
	assert_true(channel_unsent(a.c) > CHANNEL_HIGH);
	assert_int_equal(a.writables, 0);
	while (b.frames < 200) {
		loop_turn(loop, true);
	}
	while (a.writables == 0) {
		loop_turn(loop, true);
	}
	settle();
	assert_int_equal(a.writables, 1);
	assert_int_equal(b.bytes, 200 * (8 + 4 + sizeof(chunk)));
	channel_close(&a.c);
	channel_close(&b.c);
}

static void descriptors_come_with_their_frames(void **state)
{
	struct side a = {0};
	struct side b = {.keep_fd = true, .kept_fd = -1};
	int before = open_fds();

	(void)state;
	open_pair(&a, &b);
	/* Neighbours, first, last and between plain ones; the file size tells which. */
	static const bool with_fd[] = {true, false, true, true, false, false, true};
	for (uint64_t i = 0; i < 700; i++) {
		if (with_fd[i % 7]) {
			send_ping_fd(&a, i);
		} else {
			send_ping(&a, i);
		}
		if (i % 50 == 49) {
			while (b.frames < i + 1) {
				loop_turn(loop, true);
			}
		}
	}
	assert_int_equal(b.fds, 400);
	assert_int_equal(b.fd_errors, 0);
	assert_int_equal(b.disorder, 0);
	channel_close(&a.c);
	channel_close(&b.c);
	settle();
	assert_int_equal(open_fds(), before + 1);
	fd_close(&b.kept_fd);
}

static void a_descriptor_nobody_takes_is_closed(void **state)
{
	struct side a = {0};
	struct side b = {0};
	int before = open_fds();

	(void)state;
	open_pair(&a, &b);
	for (uint64_t i = 0; i < 30; i++) {
		send_ping_fd(&a, i);
	}
	while (b.frames < 30) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.fds, 30);
	assert_int_equal(open_fds(), before + 2);
	/* Queued and never sent: closed with the channel. */
	send_ping_fd(&a, 30);
	channel_close(&a.c);
	channel_close(&b.c);
	settle();
	assert_int_equal(open_fds(), before);
}

static void a_descriptor_that_is_none_is_an_error_and_takes_the_frame_back(void **state)
{
	struct side a = {0};
	struct side b = {0};
	struct msg_ping m = {.seq = 7};

	(void)state;
	open_pair(&a, &b);
	assert_int_not_equal(msg_ping_send_fd(a.c, &m, 9999), ERR_OK);
	assert_int_equal(channel_unsent(a.c), 0);
	send_ping(&a, 0);
	while (b.frames < 1) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.disorder, 0);
	channel_close(&a.c);
	channel_close(&b.c);
}

static void a_message_that_cannot_be_encoded_leaves_no_trace(void **state)
{
	struct side a = {0};
	struct side b = {0};
	static uint8_t large[LIMIT_PARAM_VALUE + 1];
	struct msg_conf_param m = {.value = {large, sizeof(large)}};
	struct msg_conf_file f = {.name = {large, 4096}, .bytes = {large, 1}};
	static uint8_t chunk[LIMIT_CHUNK_BYTES];

	(void)state;
	open_pair(&a, &b);
	send_ping(&a, 0);
	size_t had = channel_unsent(a.c);
	assert_int_equal(msg_conf_param_send(a.c, &m), ERR_TOOBIG);
	f.bytes = slice_make(chunk, sizeof(chunk)); /* each field fits, the frame does not */
	assert_int_equal(msg_conf_file_send(a.c, &f), ERR_TOOBIG);
	assert_int_equal(channel_unsent(a.c), had);
	send_ping(&a, 1);
	while (b.frames < 2) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.disorder, 0);
	channel_close(&a.c);
	channel_close(&b.c);
}

/* Frames as bytes, by a channel whose peer is read by hand. */
static struct buf frames_as_bytes(size_t pings)
{
	struct side a = {0};
	int raw = open_raw(&a);
	struct buf all;

	buf_init(&all, 1u << 20);
	for (uint64_t i = 0; i < pings; i++) {
		send_ping(&a, i);
	}
	assert_int_equal(channel_flush(a.c, true), ERR_OK);
	channel_close(&a.c);
	for (;;) {
		uint8_t *to = buf_reserve(&all, 4096);
		ssize_t n = read(raw, to, 4096);
		assert_true(n >= 0);
		if (n == 0) {
			break;
		}
		buf_commit(&all, (size_t)n);
	}
	fd_close(&raw);
	return all;
}

static void frames_may_come_in_every_chunking(void **state)
{
	struct buf all = frames_as_bytes(3);
	struct slice whole = buf_view(&all);

	(void)state;
	assert_int_equal(whole.n, 3 * (CHANNEL_HEADER_BYTES + 8));
	for (size_t chunk = 1; chunk <= whole.n; chunk++) {
		struct side b = {0};
		int raw = open_raw(&b);
		for (size_t at = 0; at < whole.n; at += chunk) {
			struct slice part = slice_head(slice_skip(whole, at), chunk);
			assert_int_equal(fd_write_all(raw, part), ERR_OK);
			loop_turn(loop, true);
			assert_int_equal(b.frames, (at + part.n) / (CHANNEL_HEADER_BYTES + 8));
		}
		assert_int_equal(b.disorder, 0);
		assert_int_equal(b.gones, 0);
		channel_close(&b.c);
		fd_close(&raw);
	}
	buf_clear(&all);
}

static void every_truncation_ends_as_closed_after_the_whole_frames(void **state)
{
	struct buf all = frames_as_bytes(2);
	struct slice whole = buf_view(&all);

	(void)state;
	for (size_t n = 0; n <= whole.n; n++) {
		struct side b = {0};
		int raw = open_raw(&b);
		assert_int_equal(fd_write_all(raw, slice_head(whole, n)), ERR_OK);
		fd_close(&raw);
		while (b.gones == 0) {
			loop_turn(loop, true);
		}
		assert_int_equal(b.frames, n / (CHANNEL_HEADER_BYTES + 8));
		assert_int_equal(b.why, ERR_CLOSED);
		channel_close(&b.c);
	}
	buf_clear(&all);
}

static void hostile_frames_end_the_channel(void **state)
{
	static const struct {
		const char *why;
		uint8_t bytes[24];
		size_t n;
	} cases[] = {
		{"a body too long by one", {0, 0, 0xff, 0xf9, 0, 15, 1, 0}, 8},
		{"a length of 2^32 - 1", {0xff, 0xff, 0xff, 0xff, 0, 15, 1, 0}, 8},
		{"another version", {0, 0, 0, 8, 0, 15, 2, 0}, 16},
		{"version nought", {0, 0, 0, 8, 0, 15, 0, 0}, 16},
		{"an unknown flag", {0, 0, 0, 8, 0, 15, 1, 2}, 16},
		{"a promised descriptor that is not there", {0, 0, 0, 8, 0, 15, 1, 1}, 16},
		{"text", "GET / HTTP/1.1\r\n\r\n", 18},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct side b = {0};
		int raw = open_raw(&b);
		assert_int_equal(fd_write_all(raw, slice_make(cases[i].bytes, cases[i].n)),
			ERR_OK);
		while (b.gones == 0) {
			loop_turn(loop, true);
		}
		if (b.why != ERR_PROTO || b.frames != 0) {
			fail_msg("accepted: %s", cases[i].why);
		}
		/* Nothing is read from it any more, and sending to it harms nobody. */
		send_ping(&b, 0);
		assert_int_equal(channel_unsent(b.c), 0);
		settle();
		assert_int_equal(b.gones, 1);
		channel_close(&b.c);
		fd_close(&raw);
	}
}

/* Sends bytes with some descriptors attached. */
static void send_raw(int raw, struct slice bytes, size_t fds)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(64 * sizeof(int))];
	} control;
	uint8_t copy[64];
	struct iovec iov = {.iov_base = copy, .iov_len = bytes.n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	assert_true(bytes.n <= sizeof(copy));
	memcpy(copy, bytes.p, bytes.n);
	memset(&control, 0, sizeof(control));
	if (fds != 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(fds * sizeof(int));
		for (size_t i = 0; i < fds; i++) {
			int fd = STDIN_FILENO;
			memcpy(CMSG_DATA(h) + i * sizeof(int), &fd, sizeof(fd));
		}
	}
	assert_int_equal(sendmsg(raw, &m, MSG_NOSIGNAL), bytes.n);
}

static void surplus_descriptors_end_the_channel_and_are_closed(void **state)
{
	static const uint8_t plain[16] = {0, 0, 0, 8, 0, MSG_ID_drain, 1, 0};
	static const uint8_t flagged[16] = {0, 0, 0, 8, 0, MSG_ID_drain, 1, 1};
	static const struct {
		const char *why;
		const uint8_t *bytes;
		size_t n;
		size_t fds;
		bool good;
	} cases[] = {
		{"one with a frame that has it", flagged, 16, 1, true},
		{"one with a frame that has none", plain, 16, 1, false},
		{"one with the beginning of a frame that has none", plain, 10, 1, false},
		{"two for one", flagged, 16, 2, false},
		{"two at the beginning of a frame", flagged, 3, 2, false},
		{"more than one read takes", flagged, 16, 60, false},
	};
	int before = open_fds();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct side b = {0};
		int raw = open_raw(&b);
		send_raw(raw, slice_make(cases[i].bytes, cases[i].n), cases[i].fds);
		while (b.gones == 0 && b.frames == 0) {
			loop_turn(loop, true);
		}
		settle();
		if (cases[i].good != (b.gones == 0)) {
			fail_msg("%s", cases[i].why);
		}
		channel_close(&b.c);
		fd_close(&raw);
		settle();
		assert_int_equal(open_fds(), before);
	}
}

static void an_error_of_the_handler_ends_the_channel(void **state)
{
	struct side a = {0};
	struct side b = {.answer = ERR_DENIED};

	(void)state;
	open_pair(&a, &b);
	send_ping(&a, 0);
	send_ping(&a, 1);
	while (b.gones == 0) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.frames, 1);
	assert_int_equal(b.why, ERR_DENIED);
	/* The other end is told that it was cut off, not left to wait. */
	while (a.gones == 0) {
		loop_turn(loop, true);
	}
	assert_int_equal(a.why, ERR_PROTO);
	assert_int_equal(a.frames, 0);
	channel_close(&a.c);
	channel_close(&b.c);
}

static void it_may_be_closed_in_every_callback(void **state)
{
	(void)state;
	for (enum closing closing = CLOSE_IN_FRAME; closing <= CLOSE_IN_WRITABLE; closing++) {
		struct side a = {.closing = closing};
		struct side b = {0};
		static uint8_t chunk[LIMIT_CHUNK_BYTES];
		struct msg_tx_content m = {.tx = 1, .bytes = {chunk, sizeof(chunk)}};

		open_pair(&a, &b);
		for (int i = 0; i < 100; i++) {
			assert_int_equal(msg_tx_content_send(a.c, &m), ERR_OK);
		}
		send_ping(&b, 0);
		send_ping(&b, 1);
		if (closing == CLOSE_IN_GONE) {
			channel_close(&b.c);
		}
		while (a.c != NULL) {
			loop_turn(loop, true);
		}
		assert_in_range(a.frames, closing == CLOSE_IN_FRAME ? 1 : 0,
			closing == CLOSE_IN_FRAME ? 1 : 2);
		size_t frames = a.frames;
		settle();
		assert_int_equal(a.frames, frames);
		channel_close(&b.c);
		settle();
	}
}

static void a_paused_channel_keeps_its_frames_until_it_is_resumed(void **state)
{
	struct side a = {0};
	struct side b = {.pause_every = 3};

	(void)state;
	open_pair(&a, &b);
	for (uint64_t i = 0; i < 2000; i++) {
		if (i % 100 == 5) {
			send_ping_fd(&a, i);
		} else {
			send_ping(&a, i);
		}
	}
	size_t seen = 0;
	while (b.frames < 2000) {
		loop_turn(loop, false);
		assert_true(b.frames <= seen + 3);
		if (b.frames == seen + 3) {
			loop_turn(loop, false);
			assert_int_equal(b.frames, seen + 3);
			seen = b.frames;
			channel_resume(b.c);
		}
	}
	assert_int_equal(b.disorder, 0);
	assert_int_equal(b.fd_errors, 0);
	assert_int_equal(b.fds, 20);
	channel_close(&a.c);
	channel_close(&b.c);
}

static void what_a_peer_sent_before_it_died_is_still_read(void **state)
{
	struct side a = {0};
	struct side b = {0};

	(void)state;
	open_pair(&a, &b);
	send_ping(&a, 0);
	send_ping(&a, 1);
	channel_close(&a.c); /* sends what the socket takes */
	send_ping(&b, 0);    /* fails: nobody is there */
	assert_int_equal(channel_flush(b.c, false), ERR_CLOSED);
	while (b.gones == 0) {
		loop_turn(loop, true);
	}
	assert_int_equal(b.frames, 2);
	assert_int_equal(b.why, ERR_CLOSED);
	channel_close(&b.c);
}

static void a_waiting_flush_sends_all_to_a_slow_reader(void **state)
{
	struct side a = {0};
	static uint8_t chunk[LIMIT_CHUNK_BYTES];
	struct msg_tx_content m = {.tx = 1, .bytes = {chunk, sizeof(chunk)}};
	int raw = open_raw(&a);

	(void)state;
	pid_t child = fork();
	if (child == 0) {
		size_t total = 0;
		uint8_t *to = malloc(65536);
		while (to != NULL && total < 100 * (8 + 12 + sizeof(chunk))) {
			ssize_t n = recv(raw, to, 65536, 0);
			if (n < 0 && errno == EAGAIN) {
				continue;
			}
			total += n > 0 ? (size_t)n : 0;
			if (n <= 0) {
				break;
			}
		}
		_exit(total == 100 * (8 + 12 + sizeof(chunk)) ? 0 : 1);
	}
	for (int i = 0; i < 100; i++) {
		assert_int_equal(msg_tx_content_send(a.c, &m), ERR_OK);
	}
	assert_int_equal(channel_flush(a.c, true), ERR_OK);
	assert_int_equal(channel_unsent(a.c), 0);
	fd_close(&raw);
	channel_close(&a.c);
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void callbacks_that_are_not_needed_may_be_null(void **state)
{
	struct side a = {0};
	int pair[2];

	(void)state;
	assert_int_equal(fd_socketpair(pair), ERR_OK);
	a.c = channel_new(loop, &pair[0], &bare_handler, &a);
	struct buf all = frames_as_bytes(2);
	assert_int_equal(fd_write_all(pair[1], buf_view(&all)), ERR_OK);
	while (a.frames < 2) {
		loop_turn(loop, true);
	}
	fd_close(&pair[1]);
	channel_close(&a.c);
	channel_close(&a.c); /* null: harmless */
	buf_clear(&all);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(frames_arrive_in_order_and_in_few_batches),
		TEST(more_than_the_socket_holds_arrives_too),
		TEST(descriptors_come_with_their_frames),
		TEST(a_descriptor_nobody_takes_is_closed),
		TEST(a_descriptor_that_is_none_is_an_error_and_takes_the_frame_back),
		TEST(a_message_that_cannot_be_encoded_leaves_no_trace),
		TEST(frames_may_come_in_every_chunking),
		TEST(every_truncation_ends_as_closed_after_the_whole_frames),
		TEST(hostile_frames_end_the_channel),
		TEST(surplus_descriptors_end_the_channel_and_are_closed),
		TEST(an_error_of_the_handler_ends_the_channel),
		TEST(it_may_be_closed_in_every_callback),
		TEST(a_paused_channel_keeps_its_frames_until_it_is_resumed),
		TEST(what_a_peer_sent_before_it_died_is_still_read),
		TEST(a_waiting_flush_sends_all_to_a_slow_reader),
		TEST(callbacks_that_are_not_needed_may_be_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
