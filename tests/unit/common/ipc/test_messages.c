/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/wire.h"
#include "common/ipc/messages.h"

/* Longer than the longest field, so that there is always one byte more to take. */
static uint8_t filler[LIMIT_FRAME_BYTES + 16];

/* ---- the smallest, the largest and one too large, for each type of field ---- */

#define LARGEST_NUMBER(name, ctype, type_max)                                                  \
	static ctype largest_##name(uint64_t max)                                              \
	{                                                                                      \
		return (ctype)max;                                                             \
	}                                                                                      \
	static bool exceed_##name(ctype *v, uint64_t max)                                      \
	{                                                                                      \
		if (max == (uint64_t)(type_max)) {                                             \
			return false;                                                          \
		}                                                                              \
		*v = (ctype)(max + 1);                                                         \
		return true;                                                                   \
	}                                                                                      \
	static bool same_##name(ctype a, ctype b)                                              \
	{                                                                                      \
		return a == b;                                                                 \
	}
LARGEST_NUMBER(u8, uint8_t, UINT8_MAX)
LARGEST_NUMBER(u16, uint16_t, UINT16_MAX)
LARGEST_NUMBER(u32, uint32_t, UINT32_MAX)
LARGEST_NUMBER(u64, uint64_t, UINT64_MAX)
LARGEST_NUMBER(i64, int64_t, INT64_MAX)

static struct slice largest_str(uint64_t max)
{
	return slice_make(filler, (size_t)max);
}

static bool exceed_str(struct slice *v, uint64_t max)
{
	*v = slice_make(filler, (size_t)max + 1);
	return true;
}

static bool same_str(struct slice a, struct slice b)
{
	return slice_eq(a, b);
}

/* ---- for each message: a largest one, and what our encoder would refuse to write ---- */

#define AS_LARGEST(type, field, max) m.field = largest_##type(max);
#define AS_SAME(type, field, max) same = same && same_##type(a->field, b->field);
#define LOOSE_u8 UINT8_MAX
#define LOOSE_u16 UINT16_MAX
#define LOOSE_u32 UINT32_MAX
#define LOOSE_u64 UINT64_MAX
#define LOOSE_i64 INT64_MAX
#define LOOSE_str UINT32_MAX
#define AS_LOOSE_PUT(type, field, max) wire_put_##type(&w, m->field, LOOSE_##type);
#define AS_TOOLS(id, name, FIELDS)                                                             \
	static struct msg_##name largest_of_##name(void)                                       \
	{                                                                                      \
		struct msg_##name m;                                                           \
		FIELDS(AS_LARGEST)                                                             \
		return m;                                                                      \
	}                                                                                      \
	static bool same_##name(const struct msg_##name *a, const struct msg_##name *b)        \
	{                                                                                      \
		bool same = true;                                                              \
		FIELDS(AS_SAME)                                                                \
		return same;                                                                   \
	}                                                                                      \
	static void put_loosely_##name(const struct msg_##name *m, struct buf *to)             \
	{                                                                                      \
		struct wire_writer w = wire_begin(to);                                         \
		FIELDS(AS_LOOSE_PUT)                                                           \
		assert_int_equal(wire_end(&w), ERR_OK);                                        \
	}
MSG_ALL(AS_TOOLS)

static void decodes_what_it_encodes_at_both_extremes(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, (size_t)1 << 20);
#define ROUND_TRIP(name, first)                                                                \
	do {                                                                                   \
		struct msg_##name in = first;                                                  \
		struct msg_##name out;                                                         \
		memset(&out, 0x5a, sizeof(out));                                               \
		buf_reset(&b);                                                                 \
		assert_int_equal(msg_##name##_encode(&in, &b), ERR_OK);                        \
		assert_int_equal(msg_##name##_decode(buf_view(&b), &out), ERR_OK);             \
		assert_true(same_##name(&in, &out));                                           \
	} while (0);
#define AS_ROUND_TRIP(id, name, FIELDS)                                                        \
	ROUND_TRIP(name, largest_of_##name())                                                  \
	{                                                                                      \
		static const struct msg_##name empty;                                          \
		ROUND_TRIP(name, empty)                                                        \
	}
	MSG_ALL(AS_ROUND_TRIP)
	buf_clear(&b);
}

static void refuses_every_truncation_and_every_byte_left_over(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, (size_t)1 << 20);
#define AS_CUT(id, name, FIELDS)                                                               \
	{                                                                                      \
		struct msg_##name in = largest_of_##name();                                    \
		struct msg_##name out;                                                         \
		struct msg_##name untouched;                                                   \
		memset(&out, 0x5a, sizeof(out));                                               \
		memset(&untouched, 0x5a, sizeof(untouched));                                   \
		buf_reset(&b);                                                                 \
		assert_int_equal(msg_##name##_encode(&in, &b), ERR_OK);                        \
		struct slice whole = buf_view(&b);                                             \
		for (size_t n = 0; n < whole.n; n++) {                                         \
			assert_int_equal(msg_##name##_decode(slice_head(whole, n), &out),      \
				ERR_PROTO);                                                    \
		}                                                                              \
		assert_memory_equal(&out, &untouched, sizeof(out));                            \
		assert_int_equal(buf_append_byte(&b, 0), ERR_OK);                              \
		assert_int_equal(msg_##name##_decode(buf_view(&b), &out), ERR_PROTO);          \
		assert_memory_equal(&out, &untouched, sizeof(out));                            \
	}
	MSG_ALL(AS_CUT)
	buf_clear(&b);
}

static void refuses_every_field_above_its_maximum_both_ways(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, (size_t)1 << 20);
#define AS_EXCEED(type, field, max)                                                            \
	{                                                                                      \
		m = good;                                                                      \
		if (exceed_##type(&m.field, max)) {                                            \
			buf_reset(&b);                                                         \
			assert_int_equal(buf_append_byte(&b, 0x77), ERR_OK);                   \
			assert_int_equal(encode(&m, &b), ERR_TOOBIG);                          \
			assert_int_equal(buf_len(&b), 1);                                      \
			buf_reset(&b);                                                         \
			put_loosely(&m, &b);                                                   \
			if (decode(buf_view(&b), &m) != ERR_PROTO) {                           \
				fail_msg("%s: too large a %s was accepted", what, #field);     \
			}                                                                      \
		}                                                                              \
	}
#define AS_EXCEEDS(id, name, FIELDS)                                                           \
	{                                                                                      \
		const char *what = #name;                                                      \
		struct msg_##name good = largest_of_##name();                                  \
		struct msg_##name m;                                                           \
		enum err (*encode)(const struct msg_##name *, struct buf *) =                  \
			msg_##name##_encode;                                                   \
		enum err (*decode)(struct slice, struct msg_##name *) = msg_##name##_decode;   \
		void (*put_loosely)(const struct msg_##name *, struct buf *) =                 \
			put_loosely_##name;                                                    \
		FIELDS(AS_EXCEED)                                                              \
	}
	MSG_ALL(AS_EXCEEDS)
	buf_clear(&b);
}

static void refuses_lengths_that_wrap_around(void **state)
{
	/* tx_rcpt: u64 tx, then the length of a string. */
	static const uint8_t lengths[][4] = {
		{0xff, 0xff, 0xff, 0xff},
		{0xff, 0xff, 0xff, 0xf0},
		{0x80, 0, 0, 0},
		{0x7f, 0xff, 0xff, 0xff},
	};
	struct msg_tx_rcpt out;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		uint8_t body[64] = {0};
		memcpy(body + 8, lengths[i], 4);
		assert_int_equal(msg_tx_rcpt_decode(slice_make(body, sizeof(body)), &out),
			ERR_PROTO);
	}
}

static void largest_messages_fit_into_a_frame(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, (size_t)1 << 20);
#define AS_FITS(id, name, FIELDS)                                                              \
	{                                                                                      \
		struct msg_##name in = largest_of_##name();                                    \
		buf_reset(&b);                                                                 \
		assert_int_equal(msg_##name##_encode(&in, &b), ERR_OK);                        \
		if (buf_len(&b) > LIMIT_FRAME_BYTES - CHANNEL_HEADER_BYTES) {                  \
			fail_msg("%s takes %zu bytes", #name, buf_len(&b));                    \
		}                                                                              \
	}
	MSG_ALL(AS_FITS)
	buf_clear(&b);
}

static void names_messages_and_roles(void **state)
{
	(void)state;
	assert_string_equal(msg_name(MSG_ID_tx_begin), "tx_begin");
	assert_string_equal(msg_name(MSG_ID_ctl_done), "ctl_done");
	assert_string_equal(msg_name(0), "unknown");
	assert_string_equal(msg_name(29), "unknown"); /* a gap between two groups */
	assert_string_equal(msg_name(UINT16_MAX), "unknown");
	assert_string_equal(role_name(ROLE_SMTP_OUT), "smtp-out");
	assert_string_equal(role_name(ROLE_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_what_it_encodes_at_both_extremes),
		cmocka_unit_test(refuses_every_truncation_and_every_byte_left_over),
		cmocka_unit_test(refuses_every_field_above_its_maximum_both_ways),
		cmocka_unit_test(refuses_lengths_that_wrap_around),
		cmocka_unit_test(largest_messages_fit_into_a_frame),
		cmocka_unit_test(names_messages_and_roles),
	};

	for (size_t i = 0; i < sizeof(filler); i++) {
		filler[i] = (uint8_t)(i * 7 + i / 256);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
