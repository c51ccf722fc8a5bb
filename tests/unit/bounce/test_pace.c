/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "bounce/pace.h"
#include "common/base/attr.h"

static const struct slice ann = SLICE_INIT("Ann@example.lab");
static const struct slice ann_too = SLICE_INIT("ann@EXAMPLE.lab");

static void use_up(struct pace *p, int64_t now_ms)
{
	for (unsigned i = 0; i < PACE_NOTICES_MAX; i++) {
		assert_true(pace_allows(p, i % 2 == 0 ? ann : ann_too, now_ms));
	}
	assert_false(pace_allows(p, ann, now_ms));
}

static void counts_each_sender_for_an_hour(void **state)
{
	struct pace p;

	(void)state;
	pace_init(&p);
	use_up(&p, PACE_PERIOD_MS);
	assert_true(pace_allows(&p, SLICE("bob@example.lab"), PACE_PERIOD_MS));
	assert_false(pace_allows(&p, ann, 2 * PACE_PERIOD_MS - 1));
	use_up(&p, 2 * PACE_PERIOD_MS);
	pace_clear(&p);
}

static void what_was_not_sent_does_not_count(void **state)
{
	struct pace p;

	(void)state;
	pace_init(&p);
	for (unsigned i = 0; i < 3 * PACE_NOTICES_MAX; i++) {
		assert_true(pace_allows(&p, ann, 1000));
		pace_give_back(&p, ann_too);
	}
	use_up(&p, 1000);
	pace_give_back(&p, ann);
	assert_true(pace_allows(&p, ann, 1000));
	assert_false(pace_allows(&p, ann, 1000));
	pace_clear(&p);
	pace_give_back(&p, ann); /* nobody is known any more */
	pace_clear(&p);
}

static void holds_and_forgets_very_many(void **state)
{
	struct pace p;
	char name[32];

	(void)state;
	pace_init(&p);
	for (unsigned i = 0; i < PACE_SENDERS_MAX + 10; i++) {
		(void)snprintf(name, sizeof(name), "%u@example.lab", i);
		assert_true(pace_allows(&p, slice_from_cstr(name), 1000));
	}
	assert_int_equal(p.senders.count, PACE_SENDERS_MAX);
	pace_clear(&p);
	assert_int_equal(p.senders.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_each_sender_for_an_hour),
		cmocka_unit_test(what_was_not_sent_does_not_count),
		cmocka_unit_test(holds_and_forgets_very_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
