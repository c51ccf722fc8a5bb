/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/io/fd.h"
#include "common/io/stream.h"

#define GUARD_MS 60000

/* What a side does in a callback, once. */
enum act {
	ACT_NONE,
	ACT_CLOSE,
	ACT_FINISH
};

enum where {
	IN_NOTHING,
	IN_CONNECTED,
	IN_INPUT,
	IN_DRAINED,
	IN_TLS,
	IN_END
};

struct side {
	struct stream *s;
	struct buf got;
	size_t inputs;
	size_t largest_offer;
	size_t connecteds;
	size_t draineds;
	size_t tlss;
	size_t ends;
	enum stream_end why;
	size_t leaves;    /* bytes of each offer that are left, at most */
	bool whole_lines; /* uses up to the last CR LF only */
	bool pauses;      /* after each offer */
	bool echoes;
	enum where where;
	enum act act;
	SSL *start_tls; /* begun by the first input */
};

static struct loop *loop;
static struct loop_timer guard_timer;
static SSL_CTX *server_ctx;
static SSL_CTX *client_ctx;

static void guard(void *arg)
{
	(void)arg;
	fail_msg("nothing happened for %d ms", GUARD_MS);
}

static void act(struct side *s, enum where where)
{
	if (s->where != where) {
		return;
	}
	if (s->act == ACT_CLOSE) {
		stream_close(&s->s);
	} else if (s->act == ACT_FINISH) {
		stream_finish(&s->s, 5000);
	}
}

static void on_connected(void *arg)
{
	struct side *s = arg;

	s->connecteds++;
	act(s, IN_CONNECTED);
}

static size_t on_input(void *arg, struct slice bytes)
{
	struct side *s = arg;
	size_t used = bytes.n > s->leaves ? bytes.n - s->leaves : 0;

	assert_true(bytes.n != 0 && bytes.n <= STREAM_INPUT_MAX);
	s->inputs++;
	s->largest_offer = bytes.n > s->largest_offer ? bytes.n : s->largest_offer;
	if (s->whole_lines) {
		size_t end = slice_find_last(bytes, '\n');
		used = end == bytes.n ? 0 : end + 1;
	}
	assert_int_equal(buf_append(&s->got, slice_head(bytes, used)), ERR_OK);
	if (s->start_tls != NULL) {
		stream_start_tls(s->s, &s->start_tls, true);
		return used;
	}
	if (s->echoes) {
		stream_write(s->s, slice_head(bytes, used));
	}
	if (s->pauses) {
		stream_pause(s->s);
	}
	act(s, IN_INPUT);
	return used;
}

static void on_drained(void *arg)
{
	struct side *s = arg;

	s->draineds++;
	act(s, IN_DRAINED);
}

static void on_tls(void *arg)
{
	struct side *s = arg;

	s->tlss++;
	act(s, IN_TLS);
}

static void on_end(void *arg, enum stream_end why)
{
	struct side *s = arg;

	s->ends++;
	s->why = why;
	act(s, IN_END);
}

static const struct stream_handler handler = {.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_tls = on_tls,
	.on_end = on_end};
static const struct stream_handler bare_handler = {.on_input = on_input, .on_end = on_end};

/* Turns until the condition holds; the guard ends what hangs. */
#define UNTIL(condition)                                                                       \
	while (!(condition)) {                                                                 \
		loop_turn(loop, true);                                                         \
	}

static void settle(void)
{
	for (int i = 0; i < 20; i++) {
		loop_turn(loop, false);
	}
}

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

static struct side side(void)
{
	struct side s = {.s = NULL};

	buf_init(&s.got, (size_t)64 << 20);
	return s;
}

static void leave(struct side *s)
{
	stream_close(&s->s);
	buf_clear(&s->got);
}

static bool got(const struct side *s, const char *text)
{
	return slice_eq(buf_view(&s->got), slice_from_cstr(text));
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++) {
		n += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
	}
	return n;
}

static int listen_on(struct endpoint *at)
{
	struct sockaddr_storage sa;
	struct endpoint local = {.family = 4, .addr = {127, 0, 0, 1}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t n = endpoint_to_sockaddr(&local, &sa);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
	assert_int_equal(listen(fd, 10), 0);
	n = sizeof(sa);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
	assert_int_equal(endpoint_from_sockaddr(&sa, at), ERR_OK);
	return fd;
}

/* Two connected streams over loopback TCP; b may be null: its socket is returned. */
static int open_tcp(struct side *a, struct side *b)
{
	struct endpoint at;
	int listener = listen_on(&at);

	a->s = stream_connect(loop, &at, NULL, &handler, a);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	fd_close(&listener);
	if (b != NULL) {
		b->s = stream_new(loop, &fd, &handler, b);
		assert_int_equal(fd, -1);
	}
	if (a->where != IN_CONNECTED) {
		UNTIL(a->connecteds == 1)
	}
	return fd;
}

/* A stream on one end of a socket pair; the other end is returned. */
static int open_raw(struct side *a)
{
	int pair[2];

	assert_int_equal(fd_socketpair(pair), ERR_OK);
	a->s = stream_new(loop, &pair[0], &handler, a);
	return pair[1];
}

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 31 + i / 251);
}

static int file_of(size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t *bytes = alloc_bytes(n);

	assert_true(fd >= 0);
	for (size_t i = 0; i < n; i++) {
		bytes[i] = pattern(i);
	}
	assert_int_equal(fd_write_all(fd, slice_make(bytes, n)), ERR_OK);
	free(bytes);
	return fd;
}

/* ---- clear text ---- */

static void bytes_go_both_ways_and_small_writes_go_together(void **state)
{
	struct side a = side();
	struct side b = side();

	(void)state;
	(void)open_tcp(&a, &b);
	for (int i = 0; i < 500; i++) {
		stream_write(a.s, SLICE("NOOP\r\n"));
	}
	assert_int_equal(stream_unsent(a.s), 3000);
	UNTIL(buf_len(&b.got) == 3000)
	assert_int_equal(b.inputs, 1);
	assert_int_equal(a.draineds, 1);
	assert_int_equal(stream_sent_total(a.s), 3000);
	stream_write(b.s, SLICE("250 ok\r\n"));
	UNTIL(got(&a, "250 ok\r\n"))
	assert_true(stream_local(a.s).port != 0);
	assert_int_equal(stream_local(a.s).family, 4);
	leave(&a);
	leave(&b);
}

static void input_may_come_in_every_chunking(void **state)
{
	struct slice whole = SLICE("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nx");

	(void)state;
	for (size_t chunk = 1; chunk <= whole.n; chunk++) {
		struct side a = side();
		a.whole_lines = true;
		int raw = open_raw(&a);
		for (size_t at = 0; at < whole.n; at += chunk) {
			struct slice part = slice_head(slice_skip(whole, at), chunk);
			size_t before = a.inputs;
			assert_int_equal(fd_write_all(raw, part), ERR_OK);
			UNTIL(a.inputs > before)
		}
		assert_int_equal(a.ends, 0);
		assert_true(slice_eq(buf_view(&a.got), slice_head(whole, whole.n - 1)));
		assert_true(stream_has_input(a.s));
		leave(&a);
		fd_close(&raw);
	}
}

static void an_offer_is_everything_that_was_left_and_what_is_new(void **state)
{
	struct side a = side();
	int raw = open_raw(&a);

	(void)state;
	a.leaves = SIZE_MAX;
	for (size_t i = 1; i <= 100; i++) {
		assert_int_equal(fd_write_all(raw, SLICE("0123456789")), ERR_OK);
		UNTIL(a.inputs == i)
		assert_int_equal(a.largest_offer, i * 10);
	}
	a.leaves = 0;
	assert_int_equal(fd_write_all(raw, SLICE("end")), ERR_OK);
	UNTIL(buf_len(&a.got) == 1003)
	assert_false(stream_has_input(a.s));
	leave(&a);
	fd_close(&raw);
}

static void a_handler_that_never_uses_its_input_ends_the_stream(void **state)
{
	struct side a = side();
	int raw = open_raw(&a);
	static uint8_t junk[4096];

	(void)state;
	a.leaves = SIZE_MAX;
	while (a.ends == 0) {
		ssize_t n = send(raw, junk, sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL);
		assert_true(n > 0 || errno == EAGAIN);
		loop_turn(loop, true);
	}
	assert_int_equal(a.why, STREAM_END_ERROR);
	assert_int_equal(a.largest_offer, STREAM_INPUT_MAX);
	settle();
	assert_int_equal(a.ends, 1);
	leave(&a);
	fd_close(&raw);
}

static void a_paused_stream_offers_nothing_until_it_is_resumed(void **state)
{
	struct side a = side();
	int raw = open_raw(&a);

	(void)state;
	a.pauses = true;
	a.whole_lines = true;
	assert_int_equal(fd_write_all(raw, SLICE("one\r\nhalf a")), ERR_OK);
	UNTIL(a.inputs == 1)
	assert_int_equal(fd_write_all(raw, SLICE(" line\r\n")), ERR_OK);
	settle();
	assert_int_equal(a.inputs, 1);
	stream_resume(a.s); /* offers what was kept together with what has come */
	loop_turn(loop, true);
	assert_int_equal(a.inputs, 2);
	assert_true(got(&a, "one\r\nhalf a line\r\n"));
	/* Paused again by the handler; what is kept is offered even if nothing comes. */
	assert_int_equal(fd_write_all(raw, SLICE("rest")), ERR_OK);
	settle();
	assert_int_equal(a.inputs, 2);
	stream_resume(a.s);
	UNTIL(a.inputs == 3)
	stream_resume(a.s);
	UNTIL(a.inputs == 4)
	a.pauses = false;
	stream_resume(a.s);
	stream_pause(a.s);
	stream_resume(a.s);
	UNTIL(a.inputs == 5)
	/* The end is noticed after the pause too. */
	stream_pause(a.s);
	fd_close(&raw);
	settle();
	assert_int_equal(a.ends, 0);
	stream_resume(a.s);
	UNTIL(a.ends == 1)
	assert_int_equal(a.why, STREAM_END_EOF);
	leave(&a);
}

static void a_full_pause_is_no_error(void **state)
{
	struct side a = side();
	int raw = open_raw(&a);
	static uint8_t much[3 * STREAM_INPUT_MAX];

	(void)state;
	a.pauses = true;
	a.leaves = SIZE_MAX;
	size_t sent = 0;
	while (sent < sizeof(much)) {
		ssize_t n = send(raw, much + sent, sizeof(much) - sent, MSG_DONTWAIT);
		sent += n > 0 ? (size_t)n : 0;
		loop_turn(loop, false);
		stream_resume(a.s);
		if (a.largest_offer == STREAM_INPUT_MAX) {
			a.leaves = 0;
			a.pauses = false;
		}
	}
	UNTIL(buf_len(&a.got) == sizeof(much))
	assert_int_equal(a.ends, 0);
	leave(&a);
	fd_close(&raw);
}

static void output_works_after_the_peer_has_half_closed(void **state)
{
	struct side a = side();
	int raw = open_tcp(&a, NULL);
	char text[16] = {0};

	(void)state;
	assert_int_equal(fd_write_all(raw, SLICE("QUIT\r\n")), ERR_OK);
	assert_int_equal(shutdown(raw, SHUT_WR), 0);
	UNTIL(a.ends == 1)
	assert_int_equal(a.why, STREAM_END_EOF);
	assert_true(got(&a, "QUIT\r\n"));
	stream_write(a.s, SLICE("221 bye\r\n"));
	UNTIL(a.draineds == 1)
	assert_int_equal(recv(raw, text, sizeof(text), 0), 9);
	/* And when it breaks after that, the handler is told again. */
	struct linger hard = {.l_onoff = 1, .l_linger = 0};
	assert_int_equal(setsockopt(raw, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	fd_close(&raw);
	stream_write(a.s, SLICE("more\r\n"));
	UNTIL(a.ends == 2)
	assert_int_equal(a.why, STREAM_END_RESET);
	stream_write(a.s, SLICE("even more\r\n"));
	assert_int_equal(stream_unsent(a.s), 0);
	settle();
	assert_int_equal(a.ends, 2);
	leave(&a);
}

static void a_last_reply_is_read_before_the_broken_pipe_is_told(void **state)
{
	struct side a = side();
	int raw = open_tcp(&a, NULL);
	struct linger hard = {.l_onoff = 1, .l_linger = 0};
	static uint8_t much[1 << 20];

	(void)state;
	/* The server gives up in the middle of our message: reply, then reset. */
	stream_pause(a.s);
	loop_turn(loop, false);
	assert_int_equal(fd_write_all(raw, SLICE("552 too big\r\n")), ERR_OK);
	assert_int_equal(setsockopt(raw, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	fd_close(&raw);
	stream_write(a.s, slice_make(much, sizeof(much)));
	stream_resume(a.s);
	stream_flush(a.s);
	UNTIL(a.ends == 1)
	assert_int_equal(a.why, STREAM_END_RESET);
	assert_true(got(&a, "552 too big\r\n"));
	leave(&a);
}

static void a_slow_reader_gets_everything(void **state)
{
	struct side a = side();
	struct side b = side();
	static uint8_t much[8u << 20];

	(void)state;
	for (size_t i = 0; i < sizeof(much); i++) {
		much[i] = pattern(i);
	}
	(void)open_tcp(&a, &b);
	stream_pause(b.s);
	stream_write(a.s, slice_make(much, sizeof(much)));
	stream_write(a.s, SLICE("tail"));
	for (int i = 0; i < 50; i++) {
		loop_turn(loop, false);
	}
	assert_int_equal(a.draineds, 0);
	assert_int_equal(stream_sent_total(a.s) + stream_unsent(a.s), sizeof(much) + 4);
	stream_resume(b.s);
	UNTIL(buf_len(&b.got) == sizeof(much) + 4)
	assert_memory_equal(buf_view(&b.got).p, much, sizeof(much));
	assert_int_equal(a.draineds, 1);
	leave(&a);
	leave(&b);
}

/* ---- file ranges ---- */

static void expect_message(const struct side *b, size_t at, size_t n)
{
	struct slice all = buf_view(&b->got);

	assert_int_equal(all.n, 6 + n + 3);
	assert_memory_equal(all.p, "DATA\r\n", 6);
	for (size_t i = 0; i < n; i++) {
		if (all.p[6 + i] != pattern(at + i)) {
			fail_msg("byte %zu of %zu", i, n);
		}
	}
	assert_memory_equal(all.p + 6 + n, ".\r\n", 3);
}

static const size_t range_sizes[] = {0, 1, 500, 4096, 32767, 32768, 32769, 40000, 65536,
	1000000, 5000000};

static void file_ranges_go_between_bytes(void **state)
{
	int file = file_of(5000100);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(range_sizes); i++) {
		struct side a = side();
		struct side b = side();
		(void)open_tcp(&a, &b);
		stream_write(a.s, SLICE("DATA\r\n"));
		stream_write_file(a.s, file, 77, range_sizes[i]);
		stream_write(a.s, SLICE(".\r\n"));
		assert_int_equal(stream_unsent(a.s), range_sizes[i] + 9);
		UNTIL(buf_len(&b.got) == range_sizes[i] + 9 && a.draineds == 1)
		expect_message(&b, 77, range_sizes[i]);
		leave(&a);
		leave(&b);
	}
	fd_close(&file);
}

static void a_small_range_leaves_with_its_neighbours_in_one_write(void **state)
{
	struct side a = side();
	int file = file_of(4096);
	int raw = open_raw(&a);
	uint8_t all[8192];

	(void)state;
	stream_write(a.s, SLICE("DATA\r\n"));
	stream_write_file(a.s, file, 0, 4096);
	stream_write(a.s, SLICE(".\r\n"));
	loop_turn(loop, true);
	/* A UNIX socket hands out what one write brought. */
	assert_int_equal(recv(raw, all, sizeof(all), 0), 4096 + 9);
	assert_int_equal(a.draineds, 1);
	leave(&a);
	fd_close(&raw);
	fd_close(&file);
}

static void nothing_is_sent_behind_a_file_that_is_too_short(void **state)
{
	static const size_t sizes[] = {1000, 100000};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct side a = side();
		struct side b = side();
		int file = file_of(sizes[i] - 1);
		(void)open_tcp(&a, &b);
		stream_write(a.s, SLICE("DATA\r\n"));
		stream_write_file(a.s, file, 0, sizes[i]);
		stream_write(a.s, SLICE(".\r\n"));
		UNTIL(a.ends == 1)
		assert_int_equal(a.why, STREAM_END_ERROR);
		stream_close(&a.s);
		UNTIL(b.ends == 1)
		assert_true(buf_len(&b.got) <= 6 + sizes[i] - 1);
		assert_int_equal(a.draineds, 0);
		leave(&a);
		leave(&b);
		fd_close(&file);
	}
}

/* ---- connecting ---- */

static void says_why_a_connection_failed(void **state)
{
	struct endpoint at;
	struct endpoint from = {.family = 4, .addr = {192, 0, 2, 77}};
	int listener = listen_on(&at);
	struct side a = side();

	(void)state;
	a.s = stream_connect(loop, &at, &from, &handler, &a);
	assert_int_equal(a.ends, 0); /* told by the loop, not from within */
	UNTIL(a.ends == 1)
	assert_int_equal(a.why, STREAM_END_BIND);
	stream_close(&a.s);
	fd_close(&listener); /* nobody listens there now */
	a.s = stream_connect(loop, &at, NULL, &handler, &a);
	stream_write(a.s, SLICE("lost"));
	UNTIL(a.ends == 2)
	assert_int_equal(a.why, STREAM_END_REFUSED);
	assert_int_equal(a.connecteds, 0);
	assert_int_equal(a.draineds, 0);
	leave(&a);
}

static void connects_from_an_address_and_sends_what_was_queued(void **state)
{
	struct endpoint at;
	struct endpoint from = {.family = 4, .addr = {127, 0, 0, 9}};
	int listener = listen_on(&at);
	struct side a = side();
	struct side b = side();

	(void)state;
	a.s = stream_connect(loop, &at, &from, &handler, &a);
	stream_write(a.s, SLICE("early"));
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	b.s = stream_new(loop, &fd, &handler, &b);
	UNTIL(got(&b, "early"))
	struct endpoint local = stream_local(a.s);
	assert_true(endpoint_eq_addr(&local, &from));
	fd_close(&listener);
	leave(&a);
	leave(&b);
}

/* ---- closing ---- */

static void it_may_be_closed_in_every_callback(void **state)
{
	int before = open_fds();

	(void)state;
	for (enum act how = ACT_CLOSE; how <= ACT_FINISH; how++) {
		for (enum where where = IN_CONNECTED; where <= IN_END; where++) {
			struct side a = side();
			struct side b = side();
			SSL *ssl = NULL;
			a.where = where;
			a.act = how;
			(void)open_tcp(&a, &b);
			b.echoes = true;
			if (where != IN_CONNECTED) {
				stream_write(a.s, SLICE("hello"));
			}
			if (where == IN_TLS) {
				UNTIL(got(&a, "hello"))
				ssl = SSL_new(server_ctx);
				stream_start_tls(b.s, &ssl, true);
				ssl = SSL_new(client_ctx);
				stream_start_tls(a.s, &ssl, false);
				assert_null(ssl);
			}
			if (where == IN_END) {
				UNTIL(got(&a, "hello"))
				stream_close(&b.s);
			}
			UNTIL(a.s == NULL)
			size_t calls = a.connecteds + a.inputs + a.draineds + a.tlss + a.ends;
			if (where != IN_END) {
				UNTIL(b.ends == 1)
			}
			settle();
			assert_int_equal(calls,
				a.connecteds + a.inputs + a.draineds + a.tlss + a.ends);
			leave(&a);
			leave(&b);
		}
	}
	settle();
	/* The loop's own remain, and nothing else. */
	assert_int_equal(open_fds(), before);
}

static void finishing_sends_the_rest_and_waits_for_the_peer(void **state)
{
	struct side a = side();
	static uint8_t much[4u << 20];
	int raw = open_tcp(&a, NULL);
	int before = open_fds();
	size_t n = 0;

	(void)state;
	/* What the peer still says must not turn our last bytes into a reset. */
	assert_int_equal(fd_write_all(raw, SLICE("chatter")), ERR_OK);
	stream_write(a.s, slice_make(much, sizeof(much)));
	stream_write(a.s, SLICE("bye"));
	stream_finish(&a.s, 600000);
	assert_null(a.s);
	assert_int_equal(fd_set_nonblock(raw), ERR_OK);
	for (;;) {
		uint8_t some[65536];
		ssize_t r = recv(raw, some, sizeof(some), 0);
		assert_true(r >= 0 || errno == EAGAIN);
		if (r == 0) {
			break;
		}
		n += r > 0 ? (size_t)r : 0;
		loop_turn(loop, false);
	}
	assert_int_equal(n, sizeof(much) + 3);
	settle();
	assert_int_equal(open_fds(), before); /* it waits */
	assert_int_equal(fd_write_all(raw, SLICE("more chatter")), ERR_OK);
	settle();
	fd_close(&raw);
	while (open_fds() != before - 2) {
		loop_turn(loop, true);
	}
	assert_int_equal(a.ends, 0);
	assert_int_equal(a.inputs, 0);
	leave(&a);
}

static void a_finished_stream_is_closed_when_its_time_is_over(void **state)
{
	struct side a = side();
	int raw = open_tcp(&a, NULL);
	int before = open_fds();

	(void)state;
	clock_hold(1000000, INT64_C(9000000000));
	stream_write(a.s, SLICE("bye"));
	stream_finish(&a.s, 3000);
	settle();
	clock_advance_ms(2000);
	settle();
	assert_int_equal(open_fds(), before);
	clock_advance_ms(2000);
	loop_turn(loop, false);
	assert_int_equal(open_fds(), before - 1);
	clock_release();
	fd_close(&raw);
	leave(&a);
}

static void a_finished_stream_may_outlive_its_loop(void **state)
{
	struct side a = side();
	int raw = open_tcp(&a, NULL);

	(void)state;
	stream_finish(&a.s, 60000);
	loop_timer_stop(&guard_timer);
	loop_free(&loop);
	char c;
	assert_int_equal(recv(raw, &c, 1, 0), 0);
	fd_close(&raw);
	leave(&a);
	assert_int_equal(set_up(state), 0);
}

static void callbacks_that_are_not_needed_may_be_null(void **state)
{
	struct side a = side();
	int pair[2];

	(void)state;
	assert_int_equal(fd_socketpair(pair), ERR_OK);
	a.s = stream_new(loop, &pair[0], &bare_handler, &a);
	stream_write(a.s, SLICE("x"));
	assert_int_equal(fd_write_all(pair[1], SLICE("y")), ERR_OK);
	UNTIL(a.inputs == 1)
	assert_null(stream_tls(a.s));
	assert_string_equal(stream_tls_error(a.s), "");
	fd_close(&pair[1]);
	UNTIL(a.ends == 1)
	leave(&a);
	stream_finish(&a.s, 1); /* null: harmless */
}

/* ---- what it costs to wait ---- */

#define IDLE 100
/* Whether mallinfo2() knows: the allocator of a sanitizer does not tell it. */
#if defined(__SANITIZE_ADDRESS__)
#define COUNTS false
#else
#define COUNTS true
#endif

static size_t in_use(void)
{
	return mallinfo2().uordblks;
}

/* Bytes of memory for each of many streams that have talked and now wait. */
static size_t idle_cost(bool tls)
{
	static struct side all[IDLE];
	static int raws[IDLE];
	size_t before = 0;

	/* The first makes what all share. */
	struct side first = side();
	int raw = open_raw(&first);
	loop_turn(loop, false);
	before = in_use();
	for (size_t i = 0; i < IDLE; i++) {
		all[i] = side();
		raws[i] = open_raw(&all[i]);
		all[i].whole_lines = true;
		if (tls) {
			/* Half a pair: the other half is plain OpenSSL, gone when we count. */
			SSL *server = SSL_new(server_ctx);
			SSL *client = SSL_new(client_ctx);
			stream_start_tls(all[i].s, &server, true);
			(void)SSL_set_fd(client, raws[i]);
			while (SSL_connect(client) != 1) {
				loop_turn(loop, false);
			}
			(void)SSL_write(client, "EHLO a\r\n", 8);
			UNTIL(all[i].inputs == 1)
			(void)SSL_write(client, "NOOP\r\n", 6);
			UNTIL(all[i].inputs == 2)
			SSL_free(client);
		} else {
			assert_int_equal(fd_write_all(raws[i], SLICE("EHLO a\r\nNO")), ERR_OK);
			UNTIL(all[i].inputs == 1)
			assert_int_equal(fd_write_all(raws[i], SLICE("OP\r\n")), ERR_OK);
			UNTIL(all[i].inputs == 2)
		}
		stream_write(all[i].s, SLICE("250 ok\r\n"));
		UNTIL(all[i].draineds == 1)
		buf_clear(&all[i].got);
	}
	size_t cost = (in_use() - before) / IDLE;
	for (size_t i = 0; i < IDLE; i++) {
		leave(&all[i]);
		fd_close(&raws[i]);
	}
	leave(&first);
	fd_close(&raw);
	return cost;
}

static void an_idle_stream_costs_little_memory(void **state)
{
	(void)state;
	if (!COUNTS) {
		skip();
	}
	size_t clear = idle_cost(false);
	size_t tls = idle_cost(true);
	print_message("bytes for each idle stream: %zu, under TLS %zu\n", clear, tls);
	assert_in_range(clear, 1, 640);
	assert_in_range(tls, 1, 20000);
}

/* ---- TLS ---- */

/* A key and a certificate for the length of the test. */
static void make_contexts(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	assert_non_null(key);
	assert_non_null(cert);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	(void)X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	(void)X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	(void)X509_set_pubkey(cert, key);
	X509_NAME *name = X509_get_subject_name(cert);
	(void)X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
		(const unsigned char *)"mx.example.net", -1, -1, 0);
	(void)X509_set_issuer_name(cert, name);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	server_ctx = SSL_CTX_new(TLS_server_method());
	client_ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_use_certificate(server_ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(server_ctx, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/* The versions are those of SSL_set_max_proto_version(). */
static void start_tls(struct side *client, struct side *server, int version)
{
	SSL *c = SSL_new(client_ctx);
	SSL *s = SSL_new(server_ctx);

	assert_int_equal(SSL_set_max_proto_version(c, version), 1);
	stream_start_tls(client->s, &c, false);
	stream_start_tls(server->s, &s, true);
	assert_null(c);
	assert_null(s);
	UNTIL(client->tlss == 1 && server->tlss == 1)
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void tls_carries_bytes_and_file_ranges(void **state)
{
	int file = file_of(5000100);

	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
		for (size_t i = 0; i < ARRAY_LEN(range_sizes); i++) {
			struct side a = side();
			struct side b = side();
			(void)open_tcp(&a, &b);
			stream_write(a.s, SLICE("STARTTLS\r\n"));
			stream_flush(a.s);
			UNTIL(buf_len(&b.got) == 10)
			buf_reset(&b.got);
			start_tls(&a, &b, versions[v]);
			size_t drained = a.draineds;
			stream_write(a.s, SLICE("DATA\r\n"));
			stream_write_file(a.s, file, 77, range_sizes[i]);
			stream_write(a.s, SLICE(".\r\n"));
			UNTIL(buf_len(&b.got) == range_sizes[i] + 9 && a.draineds > drained)
			expect_message(&b, 77, range_sizes[i]);
			assert_int_equal(stream_sent_total(a.s), 10 + range_sizes[i] + 9);
			stream_write(b.s, SLICE("250 ok\r\n"));
			UNTIL(got(&a, "250 ok\r\n"))
			stream_close(&a.s);
			UNTIL(b.ends == 1)
			assert_int_equal(b.why, STREAM_END_EOF);
			leave(&a);
			leave(&b);
		}
	}
	fd_close(&file);
}

static void tls_pauses_and_resumes(void **state)
{
	static uint8_t much[3u << 20];
	struct side a = side();
	struct side b = side();

	(void)state;
	for (size_t i = 0; i < sizeof(much); i++) {
		much[i] = pattern(i);
	}
	(void)open_tcp(&a, &b);
	start_tls(&a, &b, TLS1_3_VERSION);
	b.pauses = true;
	b.leaves = 5;
	stream_write(a.s, slice_make(much, sizeof(much)));
	while (buf_len(&b.got) + 5 < sizeof(much)) {
		size_t inputs = b.inputs;
		UNTIL(b.inputs > inputs)
		settle();
		assert_int_equal(b.inputs, inputs + 1);
		stream_resume(b.s);
	}
	b.leaves = 0;
	stream_resume(b.s);
	UNTIL(buf_len(&b.got) == sizeof(much))
	assert_memory_equal(buf_view(&b.got).p, much, sizeof(much));
	leave(&a);
	leave(&b);
}

static void tls_finishes_with_close_notify(void **state)
{
	struct side a = side();
	struct side b = side();

	(void)state;
	(void)open_tcp(&a, &b);
	start_tls(&a, &b, TLS1_3_VERSION);
	stream_write(b.s, SLICE("221 bye\r\n"));
	stream_finish(&b.s, 10000);
	UNTIL(a.ends == 1)
	assert_true(got(&a, "221 bye\r\n"));
	assert_int_equal(a.why, STREAM_END_EOF);
	leave(&a);
	leave(&b);
	settle();
}

/* Passes bytes between the two raw sockets as they come. */
static void relay(int from, int to)
{
	uint8_t some[4096];
	ssize_t n = recv(from, some, sizeof(some), MSG_DONTWAIT);

	if (n > 0) {
		assert_int_equal(fd_write_all(to, slice_make(some, (size_t)n)), ERR_OK);
	}
}

static void tls_truncation_is_told_from_an_orderly_end(void **state)
{
	(void)state;
	for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
		struct side a = side();
		struct side b = side();
		int to_a = open_raw(&a);
		int to_b = open_raw(&b);
		SSL *c = SSL_new(client_ctx);
		SSL *s = SSL_new(server_ctx);
		assert_int_equal(SSL_set_max_proto_version(c, versions[v]), 1);
		stream_start_tls(a.s, &c, false);
		stream_start_tls(b.s, &s, true);
		while (a.tlss + b.tlss < 2) {
			loop_turn(loop, false);
			relay(to_a, to_b);
			relay(to_b, to_a);
		}
		stream_write(a.s, SLICE("half"));
		while (buf_len(&b.got) < 4) {
			loop_turn(loop, false);
			relay(to_a, to_b);
			relay(to_b, to_a);
		}
		fd_close(&to_b);
		UNTIL(b.ends == 1)
		assert_int_equal(b.why, STREAM_END_TRUNCATED);
		leave(&a);
		leave(&b);
		fd_close(&to_a);
	}
}

static void tls_works_byte_by_byte(void **state)
{
	struct side a = side();
	struct side b = side();
	int to_a = open_raw(&a);
	int to_b = open_raw(&b);
	SSL *c = SSL_new(client_ctx);
	SSL *s = SSL_new(server_ctx);
	uint8_t byte;

	(void)state;
	stream_start_tls(a.s, &c, false);
	stream_start_tls(b.s, &s, true);
	stream_write(a.s, SLICE("queued before the handshake was over"));
	while (buf_len(&b.got) < 36) {
		loop_turn(loop, false);
		if (recv(to_a, &byte, 1, MSG_DONTWAIT) == 1) {
			assert_int_equal(fd_write_all(to_b, slice_make(&byte, 1)), ERR_OK);
		}
		if (recv(to_b, &byte, 1, MSG_DONTWAIT) == 1) {
			assert_int_equal(fd_write_all(to_a, slice_make(&byte, 1)), ERR_OK);
		}
	}
	assert_true(got(&b, "queued before the handshake was over"));
	leave(&a);
	leave(&b);
	fd_close(&to_a);
	fd_close(&to_b);
}

static void tls_failures_are_explained(void **state)
{
	static const struct {
		const char *sends; /* null: closes at once */
		enum stream_end why;
		const char *text;
	} cases[] = {
		{"220 mx.example.net ESMTP\r\n", STREAM_END_TLS, "wrong version number"},
		{NULL, STREAM_END_TLS, "connection closed: during the handshake"},
		{"\x15\x03\x01\x00\x02\x02\x28", STREAM_END_TLS,
			"sslv3 alert handshake failure"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct side a = side();
		int raw = open_raw(&a);
		SSL *c = SSL_new(client_ctx);
		stream_start_tls(a.s, &c, false);
		if (cases[i].sends != NULL) {
			/* The alert has a NUL in it. */
			size_t n = i == 2 ? 7 : strlen(cases[i].sends);
			assert_int_equal(fd_write_all(raw, slice_make(cases[i].sends, n)),
				ERR_OK);
		} else {
			assert_int_equal(shutdown(raw, SHUT_WR), 0);
		}
		UNTIL(a.ends == 1)
		assert_int_equal(a.why, cases[i].why);
		assert_string_equal(stream_tls_error(a.s), cases[i].text);
		assert_int_equal(a.tlss, 0);
		settle();
		assert_int_equal(a.ends, 1);
		leave(&a);
		fd_close(&raw);
	}
}

static void an_untrusted_certificate_is_named(void **state)
{
	struct side a = side();
	struct side b = side();
	SSL *c = SSL_new(client_ctx);
	SSL *s = SSL_new(server_ctx);

	(void)state;
	(void)open_tcp(&a, &b);
	SSL_set_verify(c, SSL_VERIFY_PEER, NULL);
	stream_start_tls(a.s, &c, false);
	stream_start_tls(b.s, &s, true);
	UNTIL(a.ends == 1)
	assert_int_equal(a.why, STREAM_END_TLS);
	assert_non_null(strstr(stream_tls_error(a.s), "certificate verify failed: self"));
	UNTIL(b.ends == 1)
	assert_int_equal(b.why, STREAM_END_TLS);
	assert_non_null(strstr(stream_tls_error(b.s), "alert"));
	leave(&a);
	leave(&b);
}

static void garbage_after_the_handshake_ends_the_stream(void **state)
{
	struct side a = side();
	struct side b = side();
	int to_a = open_raw(&a);
	int to_b = open_raw(&b);
	SSL *c = SSL_new(client_ctx);
	SSL *s = SSL_new(server_ctx);

	(void)state;
	stream_start_tls(a.s, &c, false);
	stream_start_tls(b.s, &s, true);
	while (a.tlss + b.tlss < 2) {
		loop_turn(loop, false);
		relay(to_a, to_b);
		relay(to_b, to_a);
	}
	assert_int_equal(fd_write_all(to_b, SLICE("\x17\x03\x03\x00\x05hello")), ERR_OK);
	UNTIL(b.ends == 1)
	assert_int_equal(b.why, STREAM_END_TLS);
	assert_string_not_equal(stream_tls_error(b.s), "");
	assert_int_equal(b.inputs, 0);
	leave(&a);
	leave(&b);
	fd_close(&to_a);
	fd_close(&to_b);
}

static void clear_text_behind_starttls_is_dropped(void **state)
{
	struct side a = side();
	struct side b = side();

	(void)state;
	(void)open_tcp(&a, &b);
	b.whole_lines = true;
	b.start_tls = SSL_new(server_ctx);
	/* Injected in front of the handshake, whole and half lines. */
	stream_write(a.s, SLICE("STARTTLS\r\nhalf a com"));
	UNTIL(b.inputs == 1)
	assert_false(stream_has_input(b.s));
	SSL *c = SSL_new(client_ctx);
	stream_start_tls(a.s, &c, false);
	UNTIL(a.tlss == 1 && b.tlss == 1)
	stream_write(a.s, SLICE("mand\r\n"));
	UNTIL(b.inputs == 2)
	assert_true(got(&b, "STARTTLS\r\nmand\r\n"));
	leave(&a);
	leave(&b);
}

static void clear_text_that_waits_makes_starttls_fail(void **state)
{
	struct side a = side();
	static uint8_t much[16u << 20];
	int raw = open_tcp(&a, NULL);

	(void)state;
	stream_write(a.s, slice_make(much, sizeof(much)));
	loop_turn(loop, false);
	SSL *s = SSL_new(server_ctx);
	stream_start_tls(a.s, &s, true);
	UNTIL(a.ends == 1)
	assert_int_equal(a.why, STREAM_END_TLS);
	assert_string_not_equal(stream_tls_error(a.s), "");
	leave(&a);
	fd_close(&raw);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bytes_go_both_ways_and_small_writes_go_together),
		TEST(input_may_come_in_every_chunking),
		TEST(an_offer_is_everything_that_was_left_and_what_is_new),
		TEST(a_handler_that_never_uses_its_input_ends_the_stream),
		TEST(a_paused_stream_offers_nothing_until_it_is_resumed),
		TEST(a_full_pause_is_no_error),
		TEST(output_works_after_the_peer_has_half_closed),
		TEST(a_last_reply_is_read_before_the_broken_pipe_is_told),
		TEST(a_slow_reader_gets_everything),
		TEST(file_ranges_go_between_bytes),
		TEST(a_small_range_leaves_with_its_neighbours_in_one_write),
		TEST(nothing_is_sent_behind_a_file_that_is_too_short),
		TEST(says_why_a_connection_failed),
		TEST(connects_from_an_address_and_sends_what_was_queued),
		TEST(it_may_be_closed_in_every_callback),
		TEST(finishing_sends_the_rest_and_waits_for_the_peer),
		TEST(a_finished_stream_is_closed_when_its_time_is_over),
		TEST(a_finished_stream_may_outlive_its_loop),
		TEST(callbacks_that_are_not_needed_may_be_null),
		TEST(an_idle_stream_costs_little_memory),
		TEST(tls_carries_bytes_and_file_ranges),
		TEST(tls_pauses_and_resumes),
		TEST(tls_finishes_with_close_notify),
		TEST(tls_truncation_is_told_from_an_orderly_end),
		TEST(tls_works_byte_by_byte),
		TEST(tls_failures_are_explained),
		TEST(an_untrusted_certificate_is_named),
		TEST(garbage_after_the_handshake_ends_the_stream),
		TEST(clear_text_behind_starttls_is_dropped),
		TEST(clear_text_that_waits_makes_starttls_fail),
	};

	make_contexts();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	SSL_CTX_free(server_ctx);
	SSL_CTX_free(client_ctx);
	return failed;
}
