/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdalign.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/arena.h"

static void hands_out_clear_and_aligned_memory(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	for (size_t n = 0; n < 600; n++) {
		uint8_t *p = arena_alloc(&a, n);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % alignof(max_align_t), 0);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(p[i], 0);
		}
		memset(p, 0xff, n);
	}
	arena_clear(&a);
}

static void clears_memory_that_is_used_again(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1 << 20);
	for (int round = 0; round < 3; round++) {
		uint8_t *p = arena_alloc(&a, 500);
		for (size_t i = 0; i < 500; i++) {
			assert_int_equal(p[i], 0);
		}
		memset(p, 0xff, 500);
		arena_reset(&a);
		assert_int_equal(a.used, 0);
	}
	arena_clear(&a);
}

static void stops_at_its_maximum(void **state)
{
	struct arena a;
	struct slice copy = SLICE_EMPTY;

	(void)state;
	arena_init(&a, 100);
	assert_null(arena_alloc(&a, 101));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_non_null(arena_alloc(&a, 90));
	assert_true(arena_copy(&a, SLICE("0123456789"), &copy));
	assert_true(slice_eq(copy, SLICE("0123456789")));
	assert_int_equal(a.used, 100);
	assert_false(arena_copy(&a, SLICE("x"), &copy));
	assert_null(arena_alloc(&a, 1));
	assert_null(arena_cstr(&a, SLICE_EMPTY));
	assert_true(arena_copy(&a, SLICE_EMPTY, &copy));
	assert_int_equal(copy.n, 0);
	arena_clear(&a);
	assert_non_null(arena_alloc(&a, 100));
	arena_clear(&a);
}

static void keeps_large_things_and_small_things_apart(void **state)
{
	struct arena a;
	char *small[64];

	(void)state;
	arena_init(&a, 1 << 24);
	for (size_t i = 0; i < 64; i++) {
		small[i] = arena_cstr(&a, slice_make("small one", 9));
		uint8_t *large = arena_alloc(&a, 100000 + i);
		memset(large, 'x', 100000 + i);
	}
	for (size_t i = 0; i < 64; i++) {
		assert_string_equal(small[i], "small one");
	}
	arena_reset(&a);
	arena_clear(&a);
	arena_clear(&a);
}

static void makes_text_only_of_what_has_no_nul(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a, 1000);
	assert_string_equal(arena_cstr(&a, SLICE("mx.example.net")), "mx.example.net");
	assert_string_equal(arena_cstr(&a, SLICE_EMPTY), "");
	assert_null(arena_cstr(&a, SLICE("a\0b")));
	assert_null(arena_cstr(&a, SLICE("a\0")));
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hands_out_clear_and_aligned_memory),
		cmocka_unit_test(clears_memory_that_is_used_again),
		cmocka_unit_test(stops_at_its_maximum),
		cmocka_unit_test(keeps_large_things_and_small_things_apart),
		cmocka_unit_test(makes_text_only_of_what_has_no_nul),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
