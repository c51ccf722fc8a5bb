/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/mail/envelope.h"

static struct envelope_rcpt rcpts[] = {
	{.address = SLICE_INIT("a@example.net"),
		.orcpt = SLICE_INIT("rfc822;b@example.com"),
		.notify = 6},
	{.address = SLICE_INIT("\"quo ted\"@example.net"), .notify = 0},
	{.address = SLICE_INIT("x"), .notify = 1},
};
static const struct envelope sample = {
	.sender = SLICE_INIT("s@example.org"),
	.envid = SLICE_INIT("id\0with nul"),
	.client_name = SLICE_INIT("client.example"),
	.client_addr = SLICE_INIT("2001:db8::1"),
	.helo = SLICE_INIT("helo"),
	.protocol = SLICE_INIT("ESMTPS"),
	.login = SLICE_INIT("user"),
	.tenant = SLICE_INIT("shop"),
	.ret = 2,
	.stream_class = 255,
	.priority = 7,
	.deadline_s = INT64_C(1700000000),
	.flags = UINT32_MAX,
	.rcpt_count = ARRAY_LEN(rcpts),
	.rcpts = rcpts,
};

static struct buf encoded;
static struct arena arena;

static int set_up(void **state)
{
	(void)state;
	buf_init(&encoded, 100000);
	arena_init(&arena, 100000);
	assert_int_equal(envelope_encode(&sample, &encoded), ERR_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_clear(&encoded);
	arena_clear(&arena);
	return 0;
}

static void comes_back_as_it_was(void **state)
{
	struct envelope e;

	(void)state;
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &e), ERR_OK);
	assert_true(slice_eq(e.sender, sample.sender));
	assert_true(slice_eq(e.envid, sample.envid));
	assert_true(slice_eq(e.client_name, sample.client_name));
	assert_true(slice_eq(e.client_addr, sample.client_addr));
	assert_true(slice_eq(e.helo, sample.helo));
	assert_true(slice_eq(e.protocol, sample.protocol));
	assert_true(slice_eq(e.login, sample.login));
	assert_true(slice_eq(e.tenant, sample.tenant));
	assert_int_equal(e.ret, sample.ret);
	assert_int_equal(e.stream_class, sample.stream_class);
	assert_int_equal(e.priority, sample.priority);
	assert_true(e.deadline_s == sample.deadline_s);
	assert_true(e.flags == sample.flags);
	assert_int_equal(e.rcpt_count, sample.rcpt_count);
	for (uint32_t i = 0; i < e.rcpt_count; i++) {
		assert_true(slice_eq(e.rcpts[i].address, rcpts[i].address));
		assert_true(slice_eq(e.rcpts[i].orcpt, rcpts[i].orcpt));
		assert_int_equal(e.rcpts[i].notify, rcpts[i].notify);
	}
}

static void the_null_sender_is_a_value(void **state)
{
	struct envelope e = sample;
	struct envelope back;

	(void)state;
	e.sender = SLICE_EMPTY;
	buf_reset(&encoded);
	assert_int_equal(envelope_encode(&e, &encoded), ERR_OK);
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &back), ERR_OK);
	assert_int_equal(back.sender.n, 0);
}

static void refuses_every_truncation_and_what_is_left_over(void **state)
{
	struct envelope e = {.flags = 42};

	(void)state;
	for (size_t n = 0; n < buf_len(&encoded); n++) {
		assert_int_equal(envelope_decode(slice_head(buf_view(&encoded), n), &arena, &e),
			ERR_CORRUPT);
		assert_int_equal(e.flags, 42);
	}
	assert_int_equal(buf_append_byte(&encoded, 0), ERR_OK);
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &e), ERR_CORRUPT);
}

static void refuses_an_unknown_version(void **state)
{
	struct envelope e;

	(void)state;
	encoded.data[encoded.start]++;
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &e), ERR_CORRUPT);
}

static void a_count_asks_for_no_more_memory_than_its_bytes_earn(void **state)
{
	struct envelope e = sample;
	struct envelope back;

	(void)state;
	e.rcpt_count = 1;
	e.rcpts = &rcpts[2];
	buf_reset(&encoded);
	assert_int_equal(envelope_encode(&e, &encoded), ERR_OK);
	/* The count stands before the one recipient of ten bytes. */
	uint8_t *count = encoded.data + encoded.end - 10 - 4;
	assert_int_equal(count[3], 1);
	for (unsigned n = 2; n < 256; n++) {
		count[3] = (uint8_t)n;
		assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &back),
			ERR_CORRUPT);
	}
	memcpy(count, "\x00\x0f\x42\x40", 4); /* a million */
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &back), ERR_CORRUPT);
	memset(count, 0xff, 4);
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &back), ERR_CORRUPT);
	memset(count, 0, 4);
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &back), ERR_CORRUPT);
	assert_int_equal(arena.used, 0);
}

static void a_small_arena_is_a_refusal(void **state)
{
	struct envelope e;

	(void)state;
	arena_clear(&arena);
	arena_init(&arena, 3 * sizeof(struct envelope_rcpt) - 1);
	assert_int_equal(envelope_decode(buf_view(&encoded), &arena, &e), ERR_TOOBIG);
}

static void refuses_to_write_what_it_could_not_read(void **state)
{
	static uint8_t bytes[LIMIT_ORCPT + 1];
	struct envelope_rcpt r = rcpts[0];
	struct envelope e = sample;
	struct buf b;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	buf_init(&b, 10000);
	e.rcpt_count = 0;
	assert_int_equal(envelope_encode(&e, &b), ERR_SYNTAX);
	e.rcpt_count = 1;
	e.rcpts = &r;
	r.address = SLICE_EMPTY;
	assert_int_equal(envelope_encode(&e, &b), ERR_SYNTAX);
	r.address = slice_make(bytes, LIMIT_ADDRESS + 1);
	assert_int_equal(envelope_encode(&e, &b), ERR_TOOBIG);
	r.address.n--;
	r.orcpt = slice_make(bytes, LIMIT_ORCPT + 1);
	assert_int_equal(envelope_encode(&e, &b), ERR_TOOBIG);
	r.orcpt.n--;
	r.notify = 16;
	assert_int_equal(envelope_encode(&e, &b), ERR_TOOBIG);
	r.notify = 15;
	e.ret = 3;
	assert_int_equal(envelope_encode(&e, &b), ERR_TOOBIG);
	e.ret = 0;
	e.rcpt_count = LIMIT_RCPTS + 1;
	assert_int_equal(envelope_encode(&e, &b), ERR_TOOBIG);
	e.rcpt_count = 1;
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(envelope_encode(&e, &b), ERR_OK);
	buf_clear(&b);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(comes_back_as_it_was),
		CASE(the_null_sender_is_a_value),
		CASE(refuses_every_truncation_and_what_is_left_over),
		CASE(refuses_an_unknown_version),
		CASE(a_count_asks_for_no_more_memory_than_its_bytes_earn),
		CASE(a_small_arena_is_a_refusal),
		CASE(refuses_to_write_what_it_could_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
