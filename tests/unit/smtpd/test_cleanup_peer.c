/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/io/fd.h"
#include "smtpd/cleanup_peer.h"

#define PEERS 2

/* A cleanup of the test: what it was told, and its end of the channel. */
struct fake {
	struct channel *channel;
	unsigned hellos, begins, rcpts, ends, aborts, asks;
	size_t content;
	uint64_t last_id;
	bool is_gone;
};

struct client {
	struct store_ticket ticket;
	unsigned done, answered, lost, room;
	unsigned code;
	char text[64];
};

static struct {
	struct loop *loop;
	struct cleanup_peers *peers;
	struct store store;
	struct fake fakes[PEERS];
	unsigned known;
	unsigned broken;
} t;

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct fake *f = arg;
	struct msg_tx_begin begin;
	struct msg_tx_content content;
	struct msg_lookup lookup;

	(void)fd;
	switch (type) {
	case MSG_ID_hello:
		f->hellos++;
		return ERR_OK;
	case MSG_ID_tx_begin:
		f->begins++;
		assert_int_equal(msg_tx_begin_decode(body, &begin), ERR_OK);
		f->last_id = begin.tx;
		return ERR_OK;
	case MSG_ID_tx_rcpt:
		f->rcpts++;
		return ERR_OK;
	case MSG_ID_tx_content:
		assert_int_equal(msg_tx_content_decode(body, &content), ERR_OK);
		f->content += content.bytes.n;
		return ERR_OK;
	case MSG_ID_tx_end:
		f->ends++;
		return ERR_OK;
	case MSG_ID_tx_abort:
		f->aborts++;
		return ERR_OK;
	case MSG_ID_lookup:
		f->asks++;
		assert_int_equal(msg_lookup_decode(body, &lookup), ERR_OK);
		f->last_id = lookup.request;
		return ERR_OK;
	default:
		return ERR_PROTO;
	}
}

static void on_gone(void *arg, enum err why)
{
	struct fake *f = arg;

	(void)why;
	f->is_gone = true;
	channel_close(&f->channel);
}

static const struct channel_handler fake_handler = {.on_frame = on_frame, .on_gone = on_gone};

static void on_done(void *arg, unsigned code, struct slice text)
{
	struct client *c = arg;

	assert_null(c->ticket.peer);
	c->done++;
	c->code = code;
	memcpy(c->text, text.p, text.n < 63 ? text.n : 63);
}

static void on_answer(void *arg, unsigned result, struct slice text)
{
	struct client *c = arg;

	(void)text;
	c->answered++;
	c->code = result;
}

static void on_lost(void *arg)
{
	struct client *c = arg;

	c->lost++;
}

static void on_room(void *arg)
{
	struct client *c = arg;

	c->room++;
}

static const struct store_events events = {.on_done = on_done,
	.on_answer = on_answer,
	.on_lost = on_lost,
	.on_room = on_room};

static void on_known(void *arg)
{
	(void)arg;
	t.known++;
}

static void on_broken(void *arg)
{
	(void)arg;
	t.broken++;
}

/* Turns until the condition holds; everything here happens within a few turns. */
#define UNTIL(condition)                                                                       \
	for (int turn_ = 0; turn_ < 10000 && !(condition); turn_++) {                          \
		loop_turn(t.loop, false);                                                      \
	}                                                                                      \
	assert_true(condition)

static void settle(void)
{
	for (int i = 0; i < 20; i++) {
		loop_turn(t.loop, false);
	}
}

/* The fake of that slot becomes the cleanup of that number. */
static void connect_slot(unsigned slot, unsigned index, bool with_state, unsigned state)
{
	struct fake *f = &t.fakes[slot];
	int pair[2];

	*f = (struct fake){0};
	assert_int_equal(fd_socketpair(pair), ERR_OK);
	f->channel = channel_new(t.loop, &pair[0], &fake_handler, f);
	struct msg_hello hello = {.role = ROLE_CLEANUP, .index = index};
	assert_int_equal(msg_hello_send(f->channel, &hello), ERR_OK);
	if (with_state) {
		struct msg_store_state m = {.state = (uint8_t)state};
		assert_int_equal(msg_store_state_send(f->channel, &m), ERR_OK);
	}
	cleanup_peers_set(t.peers, index, &pair[1]);
	UNTIL(f->hellos == 1);
	settle();
}

static void connect_fake(unsigned index, bool with_state, unsigned state)
{
	connect_slot(index, index, with_state, state);
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	assert_int_equal(loop_new(&t.loop), ERR_OK);
	t.peers = cleanup_peers_new(t.loop, 1, on_known, on_broken, NULL);
	t.store = cleanup_peers_store(t.peers);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PEERS; i++) {
		channel_close(&t.fakes[i].channel);
	}
	cleanup_peers_free(&t.peers);
	settle();
	loop_free(&t.loop);
	return 0;
}

static unsigned state_now(void)
{
	return t.store.ops->state(t.store.arg);
}

static bool begin(struct client *c, uint32_t rcpts)
{
	struct store_rcpt list[3] = {{.address = SLICE("a@b")}, {.address = SLICE("c@d")},
		{.address = SLICE("e@f")}};
	struct msg_tx_begin facts = {.rcpt_count = rcpts, .sender = SLICE("s@t")};

	*c = (struct client){.done = 0};
	store_ticket_init(&c->ticket, &events, c);
	return t.store.ops->begin(t.store.arg, &c->ticket, &facts, list);
}

static void tell_done(struct fake *f, uint64_t id, uint16_t code, const char *text)
{
	struct msg_tx_done m = {.tx = id, .smtp_code = code, .text = slice_from_cstr(text)};

	assert_int_equal(msg_tx_done_send(f->channel, &m), ERR_OK);
}

static void nothing_can_be_stored_before_a_cleanup_has_spoken(void **state)
{
	struct client c;

	(void)state;
	assert_int_equal(state_now(), STORE_SICK);
	connect_fake(0, false, 0);
	assert_int_equal(state_now(), STORE_SICK);
	assert_int_equal(t.known, 0);
	assert_false(begin(&c, 1));
	struct msg_store_state m = {.state = STORE_OK};
	assert_int_equal(msg_store_state_send(t.fakes[0].channel, &m), ERR_OK);
	UNTIL(state_now() == STORE_OK);
	assert_int_equal(t.known, 1);
	assert_int_equal(cleanup_peers_count(t.peers), 1);
}

static void a_transaction_travels_and_its_fate_comes_back(void **state)
{
	struct client c;
	struct fake *f = &t.fakes[1];

	(void)state;
	connect_fake(1, true, STORE_OK);
	assert_true(begin(&c, 3));
	t.store.ops->content(t.store.arg, &c.ticket, SLICE("x\r\n"));
	t.store.ops->end(t.store.arg, &c.ticket);
	UNTIL(f->ends == 1);
	assert_int_equal(f->rcpts, 3);
	assert_int_equal(f->content, 3);
	tell_done(f, f->last_id, 250, "QID");
	UNTIL(c.done == 1);
	assert_int_equal(c.code, 250);
	assert_string_equal(c.text, "QID");
	tell_done(f, f->last_id, 250, "QID"); /* of a number that is over: nobody's */
	settle();
	assert_int_equal(c.done, 1);
	assert_int_equal(cleanup_peers_count(t.peers), 1);
}

static void its_own_number_is_preferred_and_others_stand_in(void **state)
{
	struct client c;

	(void)state;
	connect_fake(0, true, STORE_OK);
	connect_fake(1, true, STORE_OK);
	assert_true(begin(&c, 1));
	t.store.ops->forget(t.store.arg, &c.ticket);
	UNTIL(t.fakes[1].aborts == 1);
	assert_int_equal(t.fakes[0].begins, 0);

	struct msg_store_state full = {.state = STORE_FULL};
	assert_int_equal(msg_store_state_send(t.fakes[1].channel, &full), ERR_OK);
	settle();
	assert_int_equal(state_now(), STORE_OK);
	assert_true(begin(&c, 1));
	t.store.ops->forget(t.store.arg, &c.ticket);
	UNTIL(t.fakes[0].aborts == 1);

	struct msg_store_state sick = {.state = STORE_SICK};
	assert_int_equal(msg_store_state_send(t.fakes[0].channel, &sick), ERR_OK);
	UNTIL(state_now() == STORE_FULL);
	assert_false(begin(&c, 1));
	channel_close(&t.fakes[1].channel);
	UNTIL(state_now() == STORE_SICK);
	assert_int_equal(cleanup_peers_count(t.peers), 1);
}

static void a_cleanup_that_ends_loses_what_it_had(void **state)
{
	struct client a, b;

	(void)state;
	connect_fake(1, true, STORE_OK);
	assert_true(begin(&a, 1));
	assert_true(begin(&b, 1));
	t.store.ops->end(t.store.arg, &a.ticket);
	settle();
	channel_close(&t.fakes[1].channel);
	UNTIL(a.lost == 1 && b.lost == 1);
	assert_false(store_has_ticket(&a.ticket));
	assert_int_equal(state_now(), STORE_SICK);
	connect_fake(1, true, STORE_OK);
	assert_true(begin(&a, 1));
	t.store.ops->end(t.store.arg, &a.ticket);
	UNTIL(t.fakes[1].ends == 1);
	tell_done(&t.fakes[1], t.fakes[1].last_id, 250, "Q2");
	UNTIL(a.done == 1);
}

static void a_new_channel_in_place_of_a_living_one_loses_what_that_had(void **state)
{
	struct client a;

	(void)state;
	connect_slot(0, 1, true, STORE_OK);
	assert_true(begin(&a, 1));
	connect_slot(1, 1, true, STORE_OK);
	assert_int_equal(a.lost, 1);
	UNTIL(t.fakes[0].is_gone);
	assert_int_equal(state_now(), STORE_OK);
}

static void nonsense_ends_the_channel(void **state)
{
	static const char *const kinds[] = {"250 too early", "second hello", "foreign message",
		"state before hello"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct client c = {0};
		connect_fake(1, true, STORE_OK);
		struct fake *f = &t.fakes[1];
		if (i != 3) {
			assert_true(begin(&c, 1));
			settle();
		}
		if (i == 0) {
			tell_done(f, f->last_id, 250, "Q");
		} else if (i == 1) {
			struct msg_hello hello = {.role = ROLE_CLEANUP, .index = 1};
			assert_int_equal(msg_hello_send(f->channel, &hello), ERR_OK);
		} else if (i == 2) {
			struct msg_tx_end m = {.tx = 1};
			assert_int_equal(msg_tx_end_send(f->channel, &m), ERR_OK);
		} else {
			int pair[2];
			channel_close(&f->channel);
			assert_int_equal(fd_socketpair(pair), ERR_OK);
			*f = (struct fake){0};
			f->channel = channel_new(t.loop, &pair[0], &fake_handler, f);
			struct msg_store_state m = {.state = STORE_OK};
			assert_int_equal(msg_store_state_send(f->channel, &m), ERR_OK);
			cleanup_peers_set(t.peers, 1, &pair[1]);
		}
		UNTIL(f->is_gone);
		if (i != 3) {
			assert_int_equal(c.lost, 1);
		}
		assert_int_equal(state_now(), STORE_SICK);
		assert_int_equal(t.broken, i + 1);
	}
}

static void a_refusal_may_come_early(void **state)
{
	struct client c;

	(void)state;
	connect_fake(1, true, STORE_OK);
	assert_true(begin(&c, 1));
	settle();
	tell_done(&t.fakes[1], t.fakes[1].last_id, 554, "5.6.0 no");
	UNTIL(c.done == 1);
	assert_int_equal(c.code, 554);
	t.store.ops->forget(t.store.arg, &c.ticket); /* harmless */
	settle();
	assert_int_equal(t.fakes[1].aborts, 0);
}

static void what_has_ended_is_not_aborted_when_it_is_forgotten(void **state)
{
	struct client c;

	(void)state;
	connect_fake(1, true, STORE_OK);
	assert_true(begin(&c, 1));
	t.store.ops->end(t.store.arg, &c.ticket);
	t.store.ops->forget(t.store.arg, &c.ticket);
	UNTIL(t.fakes[1].ends == 1);
	settle();
	assert_int_equal(t.fakes[1].aborts, 0);
	tell_done(&t.fakes[1], t.fakes[1].last_id, 250, "Q");
	settle();
	assert_int_equal(c.done, 0);
	assert_int_equal(cleanup_peers_count(t.peers), 1);
}

static void questions_are_answered(void **state)
{
	struct client c = {0};

	(void)state;
	store_ticket_init(&c.ticket, &events, &c);
	c.ticket.is_question = true;
	assert_false(t.store.ops->ask(t.store.arg, &c.ticket, SLICE("a@b")));
	connect_fake(1, true, STORE_FULL); /* a full queue has a list all the same */
	assert_true(t.store.ops->ask(t.store.arg, &c.ticket, SLICE("a@b")));
	UNTIL(t.fakes[1].asks == 1);
	struct msg_lookup_done m = {.request = t.fakes[1].last_id, .result = LOOKUP_SUPPRESSED};
	tell_done(&t.fakes[1], m.request, 451, "not a transaction");
	assert_int_equal(msg_lookup_done_send(t.fakes[1].channel, &m), ERR_OK);
	UNTIL(c.answered == 1);
	assert_int_equal(c.code, LOOKUP_SUPPRESSED);
	assert_int_equal(c.done, 0);
}

static void senders_wait_while_too_much_is_unsent(void **state)
{
	struct client c;
	uint8_t *bytes = alloc_zero(1, LIMIT_CHUNK_BYTES);

	(void)state;
	connect_fake(1, true, STORE_OK);
	channel_pause(t.fakes[1].channel);
	assert_true(begin(&c, 1));
	for (int i = 0; i < 400 && t.store.ops->has_room(t.store.arg, &c.ticket); i++) {
		t.store.ops->content(t.store.arg, &c.ticket,
			slice_make(bytes, LIMIT_CHUNK_BYTES));
		loop_turn(t.loop, false);
	}
	assert_false(t.store.ops->has_room(t.store.arg, &c.ticket));
	assert_int_equal(c.room, 0);
	channel_resume(t.fakes[1].channel);
	UNTIL(c.room == 1);
	assert_true(t.store.ops->has_room(t.store.arg, &c.ticket));
	t.store.ops->forget(t.store.arg, &c.ticket);
	UNTIL(t.fakes[1].aborts == 1);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		CASE(nothing_can_be_stored_before_a_cleanup_has_spoken),
		CASE(a_transaction_travels_and_its_fate_comes_back),
		CASE(its_own_number_is_preferred_and_others_stand_in),
		CASE(a_cleanup_that_ends_loses_what_it_had),
		CASE(a_new_channel_in_place_of_a_living_one_loses_what_that_had),
		CASE(nonsense_ends_the_channel),
		CASE(a_refusal_may_come_early),
		CASE(what_has_ended_is_not_aborted_when_it_is_forgotten),
		CASE(questions_are_answered),
		CASE(senders_wait_while_too_much_is_unsent),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
