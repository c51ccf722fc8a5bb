/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/hash.h"
#include "common/base/list.h"

struct entry {
	struct hash_link link;
	char name[24];
	int seen;
};

struct id_entry {
	uint64_t before; /* so that the link is not the first member */
	struct hash_id_link link;
	int seen;
};

static void folds_letters_and_nothing_else(void **state)
{
	(void)state;
	assert_int_equal(hash_bytes_nocase(SLICE("MX.Example.NET")),
		hash_bytes_nocase(SLICE("mx.eXample.net")));
	assert_int_equal(hash_bytes_nocase(SLICE("mx.example.net")),
		hash_bytes(SLICE("mx.example.net")));
	assert_true(hash_bytes(SLICE("MX")) != hash_bytes(SLICE("mx")));
	for (unsigned c = 0; c < 256; c++) {
		uint8_t bytes[9] = {(uint8_t)c, (uint8_t)c, (uint8_t)c, (uint8_t)c, (uint8_t)c,
			(uint8_t)c, (uint8_t)c, (uint8_t)c, (uint8_t)c};
		uint8_t low[9];
		for (size_t i = 0; i < sizeof(low); i++) {
			low[i] = ascii_lower(bytes[i]);
		}
		assert_int_equal(hash_bytes_nocase(slice_make(bytes, 9)),
			hash_bytes(slice_make(low, 9)));
		assert_int_equal(hash_stable_nocase(slice_make(bytes, 9)),
			hash_stable_nocase(slice_make(low, 9)));
	}
}

static void folds_each_byte_by_itself(void **state)
{
	/* A carry from one byte of a word into the next would show here. */
	static const uint8_t edges[] = {0x00, 0x40, 0x41, 0x5a, 0x5b, 0x7f, 0x80, 0xc1, 0xff};

	(void)state;
	for (size_t i = 0; i < 9 * 9 * 9; i++) {
		uint8_t bytes[8] = {edges[i % 9], edges[i / 9 % 9], edges[i / 81], edges[i % 9],
			edges[i / 81], edges[i / 9 % 9], edges[i % 9], edges[i / 81]};
		uint8_t low[8];
		for (size_t j = 0; j < 8; j++) {
			low[j] = ascii_lower(bytes[j]);
		}
		assert_int_equal(hash_bytes_nocase(slice_make(bytes, 8)),
			hash_bytes(slice_make(low, 8)));
	}
}

static void tells_every_length_apart(void **state)
{
	static const uint8_t zeros[40];

	(void)state;
	for (size_t a = 0; a < sizeof(zeros); a++) {
		for (size_t b = 0; b < a; b++) {
			assert_true(hash_bytes(slice_make(zeros, a)) !=
				    hash_bytes(slice_make(zeros, b)));
		}
	}
}

static void has_a_stable_hash_that_never_changes(void **state)
{
	(void)state;
	/* Stored or compared between processes: the published FNV-1a values. */
	assert_int_equal(hash_stable_nocase(SLICE_EMPTY), UINT64_C(0xcbf29ce484222325));
	assert_int_equal(hash_stable_nocase(SLICE("a")), UINT64_C(0xaf63dc4c8601ec8c));
	assert_int_equal(hash_stable_nocase(SLICE("FOOBAR")), UINT64_C(0x85944171f73967e8));
}

static void finds_what_was_inserted_and_nothing_else(void **state)
{
	enum {
		COUNT = 3000
	};
	struct hash_table t;
	struct entry *all = alloc_zero(COUNT, sizeof(*all));

	(void)state;
	hash_table_init(&t);
	assert_null(hash_table_find(&t, SLICE("x")));
	assert_null(hash_table_next(&t, NULL));
	for (size_t i = 0; i < COUNT; i++) {
		(void)snprintf(all[i].name, sizeof(all[i].name), "host%zu", i);
		hash_table_insert(&t, &all[i].link, slice_from_cstr(all[i].name));
	}
	assert_int_equal(t.count, COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		struct hash_link *l = hash_table_find(&t, slice_from_cstr(all[i].name));
		assert_ptr_equal(CONTAINER_OF(l, struct entry, link), &all[i]);
	}
	assert_null(hash_table_find(&t, SLICE("host3000")));
	assert_null(hash_table_find(&t, SLICE_EMPTY));
	for (size_t i = 0; i < COUNT; i += 2) {
		hash_table_remove(&t, &all[i].link);
	}
	for (size_t i = 0; i < COUNT; i++) {
		bool is_there = hash_table_find(&t, slice_from_cstr(all[i].name)) != NULL;
		assert_int_equal(is_there, i % 2 == 1);
	}
	hash_table_clear(&t);
	assert_null(hash_table_find(&t, slice_from_cstr(all[1].name)));
	hash_table_clear(&t);
	ALLOC_FREE(all);
}

static void visits_each_once_even_while_removing(void **state)
{
	enum {
		COUNT = 500
	};
	struct hash_table t;
	struct entry *all = alloc_zero(COUNT, sizeof(*all));

	(void)state;
	hash_table_init(&t);
	for (size_t i = 0; i < COUNT; i++) {
		(void)snprintf(all[i].name, sizeof(all[i].name), "%zu", i);
		hash_table_insert(&t, &all[i].link, slice_from_cstr(all[i].name));
	}
	size_t n = 0;
	for (struct hash_link *l = hash_table_next(&t, NULL); l != NULL;
		l = hash_table_next(&t, l)) {
		struct entry *e = CONTAINER_OF(l, struct entry, link);
		assert_int_equal(e->seen++, 0);
		if (n++ % 3 != 0) {
			hash_table_remove(&t, l);
		}
	}
	assert_int_equal(n, COUNT);
	assert_int_equal(t.count, (COUNT + 2) / 3);
	hash_table_clear(&t);
	ALLOC_FREE(all);
}

static void keeps_numbers_the_same_way(void **state)
{
	enum {
		COUNT = 3000
	};
	struct hash_id_table t;
	struct id_entry *all = alloc_zero(COUNT, sizeof(*all));

	(void)state;
	hash_id_table_init(&t);
	assert_null(hash_id_table_find(&t, 0));
	assert_null(hash_id_table_next(&t, NULL));
	for (size_t i = 0; i < COUNT; i++) {
		hash_id_table_insert(&t, &all[i].link, i << 20);
	}
	for (size_t i = 0; i < COUNT; i++) {
		struct hash_id_link *l = hash_id_table_find(&t, i << 20);
		assert_ptr_equal(CONTAINER_OF(l, struct id_entry, link), &all[i]);
	}
	assert_null(hash_id_table_find(&t, 1));
	size_t n = 0;
	for (struct hash_id_link *l = hash_id_table_next(&t, NULL); l != NULL;
		l = hash_id_table_next(&t, l)) {
		assert_int_equal(CONTAINER_OF(l, struct id_entry, link)->seen++, 0);
		n++;
		if (l->id != 0) {
			hash_id_table_remove(&t, l);
		}
	}
	assert_int_equal(n, COUNT);
	assert_int_equal(t.count, 1);
	assert_non_null(hash_id_table_find(&t, 0));
	hash_id_table_clear(&t);
	ALLOC_FREE(all);
}

static void spreads_numbers_that_follow_each_other(void **state)
{
	enum {
		COUNT = 4096
	};
	struct hash_id_table t;
	struct id_entry *all = alloc_zero(COUNT, sizeof(*all));

	(void)state;
	for (unsigned shift = 0; shift < 50; shift += 7) {
		size_t longest = 0;
		hash_id_table_init(&t);
		for (size_t i = 0; i < COUNT; i++) {
			hash_id_table_insert(&t, &all[i].link, (uint64_t)i << shift);
		}
		for (size_t i = 0; i < t.size; i++) {
			size_t n = 0;
			for (struct hash_id_link *l = t.buckets[i]; l != NULL; l = l->next) {
				n++;
			}
			longest = n > longest ? n : longest;
		}
		assert_true(longest < 16);
		hash_id_table_clear(&t);
	}
	ALLOC_FREE(all);
}

struct ring_entry {
	int n;
	struct list link;
};

static void links_a_ring_in_order(void **state)
{
	struct list head;
	struct ring_entry e[3] = {{.n = 0}, {.n = 1}, {.n = 2}};

	(void)state;
	list_init(&head);
	assert_true(list_is_empty(&head));
	assert_null(list_first(&head));
	list_append(&head, &e[1].link);
	list_append(&head, &e[2].link);
	list_prepend(&head, &e[0].link);
	int n = 0;
	for (struct list *l = head.next; l != &head; l = l->next) {
		assert_int_equal(CONTAINER_OF(l, struct ring_entry, link)->n, n);
		n++;
	}
	assert_int_equal(n, 3);
	list_remove(&e[1].link);
	list_remove(&e[1].link);
	assert_ptr_equal(list_first(&head), &e[0].link);
	assert_ptr_equal(e[0].link.next, &e[2].link);
	list_remove(&e[0].link);
	list_remove(&e[2].link);
	assert_true(list_is_empty(&head));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(folds_letters_and_nothing_else),
		cmocka_unit_test(folds_each_byte_by_itself),
		cmocka_unit_test(tells_every_length_apart),
		cmocka_unit_test(has_a_stable_hash_that_never_changes),
		cmocka_unit_test(finds_what_was_inserted_and_nothing_else),
		cmocka_unit_test(visits_each_once_even_while_removing),
		cmocka_unit_test(keeps_numbers_the_same_way),
		cmocka_unit_test(spreads_numbers_that_follow_each_other),
		cmocka_unit_test(links_a_ring_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
