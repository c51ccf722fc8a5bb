/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/journal/event.h"

static const struct event_attempt sample = {
	.qid = SLICE_INIT("4XyZ00000000"),
	.rcpt = SLICE_INIT("a@example.net"),
	.result = 2,
	.stage = 8,
	.code = 550,
	.status = SLICE_INIT("5.1.1"),
	.reply = SLICE_INIT("no \"such\" user\x01\xff"),
	.connection = UINT64_C(0x0102030405060708),
	.attempt = 3,
	.next_at_s = -1,
	.delay_us = UINT64_MAX,
	.maybe_duplicate = 1,
};

static void comes_back_as_it_was(void **state)
{
	struct event_attempt back;
	struct buf b;

	(void)state;
	buf_init(&b, 10000);
	assert_int_equal(event_attempt_encode(&sample, &b), ERR_OK);
	assert_int_equal(event_attempt_decode(buf_view(&b), &back), ERR_OK);
	assert_true(slice_eq(back.qid, sample.qid));
	assert_true(slice_eq(back.reply, sample.reply));
	assert_true(slice_eq(back.sender, SLICE_EMPTY));
	assert_int_equal(back.code, 550);
	assert_int_equal(back.stage, 8);
	assert_true(back.connection == sample.connection);
	assert_true(back.next_at_s == -1);
	assert_true(back.delay_us == UINT64_MAX);
	assert_int_equal(back.maybe_duplicate, 1);
	buf_clear(&b);
}

/* Of each event: its empty form comes back, no truncation does, nor anything left over. */
#define AS_CASE(id, name, FIELDS)                                                              \
	static void every_truncation_of_##name##_is_refused(void **state)                      \
	{                                                                                      \
		struct event_##name e;                                                         \
		struct event_##name back;                                                      \
		struct buf b;                                                                  \
		(void)state;                                                                   \
		memset(&e, 0, sizeof(e));                                                      \
		buf_init(&b, 100000);                                                          \
		assert_int_equal(event_##name##_encode(&e, &b), ERR_OK);                       \
		assert_int_equal(event_##name##_decode(buf_view(&b), &back), ERR_OK);          \
		for (size_t n = 0; n < buf_len(&b); n++) {                                     \
			assert_int_equal(                                                      \
				event_##name##_decode(slice_head(buf_view(&b), n), &back),     \
				ERR_CORRUPT);                                                  \
		}                                                                              \
		assert_int_equal(buf_append_byte(&b, 0), ERR_OK);                              \
		assert_int_equal(event_##name##_decode(buf_view(&b), &back), ERR_CORRUPT);     \
		b.data[b.start] = 9;                                                           \
		assert_int_equal(event_##name##_decode(buf_view(&b), &back), ERR_CORRUPT);     \
		buf_clear(&b);                                                                 \
	}
EVENT_ALL(AS_CASE)

static void refuses_what_is_beyond_its_limit(void **state)
{
	static uint8_t bytes[LIMIT_REPLY_TEXT + 1];
	struct event_attempt e = sample;
	struct buf b;

	(void)state;
	buf_init(&b, 10000);
	e.reply = slice_make(bytes, sizeof(bytes));
	assert_int_equal(event_attempt_encode(&e, &b), ERR_TOOBIG);
	assert_int_equal(buf_len(&b), 0);
	e.reply.n--;
	assert_int_equal(event_attempt_encode(&e, &b), ERR_OK);
	e = sample;
	e.result = 3;
	assert_int_equal(event_attempt_encode(&e, &b), ERR_TOOBIG);
	e = sample;
	e.code = 1000;
	assert_int_equal(event_attempt_encode(&e, &b), ERR_TOOBIG);
	buf_clear(&b);
	buf_init(&b, 10);
	assert_int_equal(event_attempt_encode(&sample, &b), ERR_TOOBIG);
	buf_clear(&b);
}

static void becomes_json_with_words(void **state)
{
	static const char want[] =
		"{\"time\":\"2023-11-14T22:13:20.000001Z\",\"by\":\"qmgr-0\",\"event\":\"attempt\","
		"\"qid\":\"4XyZ00000000\",\"rcpt\":\"a@example.net\",\"sender\":\"\","
		"\"result\":\"failed\",\"stage\":\"rcpt\",\"code\":550,\"status\":\"5.1.1\","
		"\"reply\":\"no \\\"such\\\" user\\u0001\xef\xbf\xbd\",\"site\":\"\",\"host\":\"\","
		"\"addr\":\"\",\"local\":\"\",\"tls\":\"\",\"connection\":72623859790382856,"
		"\"attempt\":3,\"next_at_s\":-1,\"delay_us\":18446744073709551615,"
		"\"transfer_ms\":0,\"maybe_duplicate\":true,\"tenant\":\"\"}";
	struct buf body;
	struct buf json;

	(void)state;
	buf_init(&body, 10000);
	buf_init(&json, 10000);
	assert_int_equal(event_attempt_encode(&sample, &body), ERR_OK);
	assert_int_equal(event_to_json(EVENT_ID_attempt, INT64_C(1700000000000001),
				 SLICE("qmgr-0"), buf_view(&body), &json),
		ERR_OK);
	assert_true(slice_eq(buf_view(&json), SLICE(want)));
	buf_clear(&json);
	/* No room: nothing half. */
	buf_init(&json, 100);
	assert_int_equal(buf_append(&json, SLICE("x")), ERR_OK);
	assert_int_equal(
		event_to_json(EVENT_ID_attempt, 1, SLICE("q-0"), buf_view(&body), &json),
		ERR_TOOBIG);
	assert_true(slice_eq(buf_view(&json), SLICE("x")));
	assert_int_equal(event_to_json(EVENT_ID_final, 1, SLICE("q-0"), buf_view(&body), &json),
		ERR_CORRUPT);
	assert_int_equal(event_to_json(0, 1, SLICE("q-0"), buf_view(&body), &json),
		ERR_CORRUPT);
	assert_int_equal(event_to_json(999, 1, SLICE("q-0"), buf_view(&body), &json),
		ERR_CORRUPT);
	buf_clear(&json);
	buf_clear(&body);
}

static void other_words_are_told_too(void **state)
{
	struct buf body;
	struct buf json;
	struct event_final f = {.state = 5};
	struct event_notice n = {.kind = 2};
	struct event_suppress s = {.added = 0};

	(void)state;
	buf_init(&body, 10000);
	buf_init(&json, 10000);
	assert_int_equal(event_final_encode(&f, &body), ERR_OK);
	assert_int_equal(event_to_json(EVENT_ID_final, 0, SLICE("q-0"), buf_view(&body), &json),
		ERR_OK);
	assert_non_null(memmem(json.data, buf_len(&json), "\"state\":\"suppressed\"", 20));
	buf_reset(&body);
	assert_int_equal(event_notice_encode(&n, &body), ERR_OK);
	assert_int_equal(
		event_to_json(EVENT_ID_notice, 0, SLICE("q-0"), buf_view(&body), &json),
		ERR_OK);
	assert_non_null(memmem(json.data, buf_len(&json), "\"kind\":\"delayed\"", 16));
	buf_reset(&body);
	assert_int_equal(event_suppress_encode(&s, &body), ERR_OK);
	assert_int_equal(
		event_to_json(EVENT_ID_suppress, 0, SLICE("q-0"), buf_view(&body), &json),
		ERR_OK);
	assert_non_null(memmem(json.data, buf_len(&json), "\"added\":false", 13));
	/* A value without a word is told as a number. */
	f.state = 15;
	buf_reset(&body);
	buf_reset(&json);
	assert_int_equal(event_final_encode(&f, &body), ERR_OK);
	assert_int_equal(event_to_json(EVENT_ID_final, 0, SLICE("q-0"), buf_view(&body), &json),
		ERR_OK);
	assert_non_null(memmem(json.data, buf_len(&json), "\"state\":15", 10));
	buf_clear(&body);
	buf_clear(&json);
}

#define AS_TEST(id, name, FIELDS) cmocka_unit_test(every_truncation_of_##name##_is_refused),

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENT_ALL(AS_TEST) cmocka_unit_test(comes_back_as_it_was),
		cmocka_unit_test(refuses_what_is_beyond_its_limit),
		cmocka_unit_test(becomes_json_with_words),
		cmocka_unit_test(other_words_are_told_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
