/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/str.h"
#include "smtpd/tx.h"

static enum err add(struct tx *tx, const char *text)
{
	struct address a;

	assert_int_equal(address_parse(slice_from_cstr(text), ADDRESS_LAX_DOTS, &a),
		ADDRESS_FINE);
	return tx_add_rcpt(tx, &a, SLICE_EMPTY, 0);
}

static void keeps_each_recipient_once(void **state)
{
	struct tx_pool pool = {0};
	struct tx *tx = tx_new(&pool, 100);

	(void)state;
	assert_int_equal(add(tx, "a@b.example"), ERR_OK);
	assert_int_equal(add(tx, "a@B.Example"), ERR_EXISTS);
	assert_int_equal(add(tx, "A@b.example"), ERR_OK);
	assert_int_equal(add(tx, "\"a\"@b.example"), ERR_OK);
	assert_int_equal(add(tx, "ab@x.example"), ERR_OK);
	assert_int_equal(add(tx, "a@bx.example"), ERR_OK);
	assert_int_equal(tx->rcpt_count, 5);
	assert_true(slice_eq(tx->rcpts[0].address, SLICE("a@b.example")));
	tx_free(&pool, &tx);
	assert_null(tx);
	tx_pool_clear(&pool);
}

static void finds_one_among_a_hundred_thousand(void **state)
{
	struct tx_pool pool = {0};
	struct tx *tx = tx_new(&pool, 100000);
	struct address a;
	char text[64];

	(void)state;
	for (int i = 0; i < 100000; i++) {
		assert_int_equal(str_format(text, sizeof(text), "user%d@d.example", i), ERR_OK);
		assert_int_equal(add(tx, text), ERR_OK);
	}
	for (int i = 0; i < 100000; i += 7) {
		assert_int_equal(str_format(text, sizeof(text), "user%d@D.EXAMPLE", i), ERR_OK);
		assert_int_equal(address_parse(slice_from_cstr(text), 0, &a), ADDRESS_FINE);
		assert_true(tx_has_rcpt(tx, &a));
		assert_int_equal(add(tx, text), ERR_EXISTS);
	}
	assert_int_equal(address_parse(SLICE("user100000@d.example"), 0, &a), ADDRESS_FINE);
	assert_false(tx_has_rcpt(tx, &a));
	assert_int_equal(tx->rcpt_count, 100000);
	assert_true(slice_eq(tx->rcpts[99999].address, SLICE("user99999@d.example")));
	tx_free(&pool, &tx);
	tx_pool_clear(&pool);
}

static void a_used_one_comes_back_empty(void **state)
{
	struct tx_pool pool = {0};
	struct tx *tx = tx_new(&pool, 10);
	const struct tx *first = tx;

	(void)state;
	assert_int_equal(add(tx, "a@b"), ERR_OK);
	tx->flags = 7;
	tx_free(&pool, &tx);
	tx_free(&pool, &tx); /* null is fine */
	tx = tx_new(&pool, 10);
	assert_ptr_equal(tx, first);
	assert_int_equal(tx->rcpt_count, 0);
	assert_int_equal(tx->flags, 0);
	assert_int_equal(add(tx, "a@b"), ERR_OK);
	tx_free(&pool, &tx);
	tx_pool_clear(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_each_recipient_once),
		cmocka_unit_test(finds_one_among_a_hundred_thousand),
		cmocka_unit_test(a_used_one_comes_back_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
