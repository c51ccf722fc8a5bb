/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/mail/queue_id.h"

static void ids_follow_time_and_never_repeat(void **state)
{
	struct queue_id_source s;
	char before[QUEUE_ID_BYTES + 1] = "";
	char id[QUEUE_ID_BYTES + 1];
	int64_t now = INT64_C(1700000000000000);

	(void)state;
	queue_id_source_init(&s, 51);
	for (int i = 0; i < 100000; i++) {
		/* It stands still, steps back and goes on. */
		now += i % 3 - 1;
		queue_id_next(&s, now, id);
		assert_int_equal(strlen(id), QUEUE_ID_BYTES);
		assert_true(queue_id_is_valid(slice_from_cstr(id)));
		assert_true(strcmp(before, id) < 0);
		assert_int_equal(id[9], 'z');
		memcpy(before, id, sizeof(id));
	}
}

static void writers_and_starts_tell_ids_of_one_microsecond_apart(void **state)
{
	struct queue_id_source a;
	struct queue_id_source b;
	char of_a[QUEUE_ID_BYTES + 1];
	char of_b[QUEUE_ID_BYTES + 1];
	unsigned same_salt = 0;

	(void)state;
	queue_id_source_init(&a, 0);
	queue_id_source_init(&b, 1);
	queue_id_next(&a, 1, of_a);
	queue_id_next(&b, 1, of_b);
	assert_memory_equal(of_a, of_b, 9);
	assert_int_equal(of_a[9], '0');
	assert_int_equal(of_b[9], '1');
	for (int i = 0; i < 100; i++) {
		queue_id_source_init(&b, 0);
		assert_true(b.salt < 52 * 52);
		same_salt += a.salt == b.salt ? 1 : 0;
	}
	assert_true(same_salt < 20);
}

static void any_time_has_an_id(void **state)
{
	static const int64_t times[] = {INT64_MIN, -1, 0, INT64_C(2779905883635711),
		INT64_C(2779905883635712), INT64_MAX - 1};
	char id[QUEUE_ID_BYTES + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		struct queue_id_source s;
		queue_id_source_init(&s, 3);
		queue_id_next(&s, times[i], id);
		assert_true(queue_id_is_valid(slice_from_cstr(id)));
	}
	assert_int_equal(memcmp(id, "000000000", 9) == 0, 0);
}

static void only_the_alphabet_in_its_length_is_valid(void **state)
{
	static const struct {
		struct slice id;
		bool is_valid;
	} cases[] = {
		{SLICE_INIT("4XyZ00000000"), true},
		{SLICE_INIT("zzzzzzzzzzzz"), true},
		{SLICE_INIT("4XyZ0000000"), false},
		{SLICE_INIT("4XyZ000000000"), false},
		{SLICE_INIT(""), false},
		{SLICE_INIT("aXyZ00000000"), false},
		{SLICE_INIT("4XyZ0000000E"), false},
		{SLICE_INIT("4XyZ0000000i"), false},
		{SLICE_INIT("4XyZ0000000o"), false},
		{SLICE_INIT("4XyZ0000000U"), false},
		{SLICE_INIT("4XyZ0000000\0"), false},
		{SLICE_INIT("4XyZ0000000/"), false},
		{SLICE_INIT("4XyZ0000000:"), false},
		{SLICE_INIT("4XyZ0000000@"), false},
		{SLICE_INIT("4XyZ0000000["), false},
		{SLICE_INIT("4XyZ0000000`"), false},
		{SLICE_INIT("4XyZ0000000{"), false},
		{SLICE_INIT("../../../etc"), false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(queue_id_is_valid(cases[i].id), cases[i].is_valid);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_follow_time_and_never_repeat),
		cmocka_unit_test(writers_and_starts_tell_ids_of_one_microsecond_apart),
		cmocka_unit_test(any_time_has_an_id),
		cmocka_unit_test(only_the_alphabet_in_its_length_is_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
