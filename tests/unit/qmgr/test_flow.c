/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=service_fail -Wl,--wrap=service_end */
/* A recipient's ways through the queue manager, with all neighbours played by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/attr.h"
#include "common/base/clock.h"
#include "tests/unit/qmgr/bench.h"

#define DEFAULTS                                                                               \
	"minimal_backoff_time=300s\nmaximal_backoff_time=4000s\nmaximal_queue_lifetime=5d\n"   \
	"bounce_queue_lifetime=1d\n"

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	bench_open(b, DEFAULTS);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	bench_close(b);
	free(b);
	return 0;
}

static void each_is_delivered_once(struct bench *b, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++) {
		if (b->delivered[i] != 1) {
			fail_msg("r%u was delivered %u times", i, b->delivered[i]);
		}
	}
}

/* ---- the straight way ---- */

static void delivers_a_message(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 3);

	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_jobs(b), 1);
	assert_int_equal(bench_job(b)->rcpt_count, 3);
	assert_int_equal(bench_deliver_all(b), 3);
	each_is_delivered_once(b, first, 3);
	bench_check_empty(b);
}

static void delivers_many_recipients_of_one_message(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 100000);

	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_job(b)->rcpt_count, 50); /* no crumbs */
	for (unsigned i = 0; i < 60 && store_live(b->q.store) > 0; i++) {
		bench_deliver_all(b);
		bench_check(b);
		bench_advance(b, 1);
	}
	each_is_delivered_once(b, first, 100000);
	bench_check_empty(b);
	bench_advance(b, 10);
	bench_advance(b, 10);
	assert_int_equal(b->rotates, 1);
	assert_int_equal(store_segment_count(b->q.store), 0);
}

static void sends_recipients_to_their_own_sites(void **state)
{
	struct bench *b = *state;
	uint32_t first = b->next_number;

	bench_put(b, "one.example", 2);
	bench_put(b, "two.example", 2);
	bench_put(b, "shared-a.example", 1);
	bench_put(b, "shared-b.example", 1);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->q.sites.count, 3);
	assert_int_equal(b->q.destinations.count, 4);
	assert_int_equal(bench_deliver_all(b), 6);
	each_is_delivered_once(b, first, 6);
	bench_check_empty(b);
}

/* ---- what servers say ---- */

static void waits_after_a_temporary_failure_and_longer_each_time(void **state)
{
	struct bench *b = *state;
	uint32_t r = bench_put(b, "good.example", 1);
	int64_t wait = 300;

	for (unsigned attempt = 1; attempt < 5; attempt++) {
		bench_settle(b);
		assert_non_null(bench_job(b));
		bench_connect(b, bench_job(b));
		bench_answer(b, bench_job(b), &bench_later);
		bench_settle(b);
		bench_check(b);
		struct slot s = bench_slot(b, r);
		assert_int_equal(s.attempts, attempt);
		assert_int_equal(s.smtp_code, 450);
		assert_in_range(s.next_at_s - (uint32_t)clock_wall_s(), wait * 7 / 8 - 1,
			wait * 9 / 8 + 1);
		bench_advance(b, wait * 7 / 8 - 2);
		assert_null(bench_job(b));
		bench_advance(b, wait / 4 + 4);
		wait = wait * 2 < 4000 ? wait * 2 : 4000;
	}
	assert_int_equal(bench_deliver_all(b), 1);
	bench_check_empty(b);
}

static void tells_the_sender_before_a_failure_is_final(void **state)
{
	struct bench *b = *state;
	uint32_t r = bench_put(b, "good.example", 2);

	bench_settle(b);
	bench_connect(b, bench_job(b));
	bench_outcome(b, bench_job(b), 0, &bench_never);
	bench_outcome(b, bench_job(b), 1, &bench_done);
	bench_job_done(b, bench_job(b));
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->notice_count, 1);
	assert_int_equal(bench_slot(b, r).state, SLOT_WAITING);
	assert_int_equal(bench_slot(b, r + 1).state, SLOT_DELIVERED);
	bench_notice_done(b, true);
	bench_settle(b);
	assert_int_equal(bench_slot(b, r).state, SLOT_FAILED);
	bench_check_empty(b);
}

static void sends_on_what_was_given_back(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 3);

	bench_settle(b);
	bench_connect(b, bench_job(b));
	bench_outcome(b, bench_job(b), 0, &bench_done);
	bench_outcome(b, bench_job(b), 1, &bench_cancelled);
	bench_outcome(b, bench_job(b), 2, &bench_cancelled);
	bench_job_done(b, bench_job(b));
	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_job(b)->rcpt_count, 2);
	assert_int_equal(bench_slot(b, first + 1).attempts, 0);
	assert_int_equal(bench_deliver_all(b), 2);
	each_is_delivered_once(b, first, 3);
	bench_check_empty(b);
}

static void splits_when_the_server_has_too_many_recipients(void **state)
{
	struct bench *b = *state;
	const struct bench_answer too_many = {VERDICT_LATER, STAGE_RCPT, 452, 0, 0};
	uint32_t first = bench_put(b, "good.example", 3);

	bench_settle(b);
	bench_connect(b, bench_job(b));
	bench_outcome(b, bench_job(b), 0, &bench_done);
	bench_outcome(b, bench_job(b), 1, &bench_done);
	bench_outcome(b, bench_job(b), 2, &too_many);
	bench_job_done(b, bench_job(b));
	bench_settle(b);
	assert_int_equal(bench_deliver_all(b), 1); /* at once */
	each_is_delivered_once(b, first, 3);
	/* When it takes none at all, that is an attempt. */
	bench_put(b, "good.example", 1);
	bench_settle(b);
	bench_answer(b, bench_job(b), &too_many);
	bench_settle(b);
	assert_null(bench_job(b));
	bench_check(b);
	bench_advance(b, 400);
	bench_deliver_all(b);
	bench_check_empty(b);
}

/* An smtp-out that ends gives everything back; asking it again at once would go round for ever.
 */
static void does_not_play_ping_pong_with_an_agent_that_ends(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 1);
	unsigned rounds = 0;

	for (bench_settle(b); bench_job(b) != NULL && rounds < 50; rounds++) {
		bench_answer(b, bench_job(b), &bench_cancelled);
		bench_settle(b);
		bench_check(b);
	}
	assert_in_range(rounds, 1, BENCH_AGENTS);
	bench_advance(b, 2);
	assert_int_equal(bench_deliver_all(b), 1);
	each_is_delivered_once(b, first, 1);
	bench_check_empty(b);
}

static void takes_failures_for_temporary_with_soft_bounce(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "soft_bounce=yes\n");
	bench_put(b, "good.example", 1);
	bench_settle(b);
	bench_answer(b, bench_job(b), &bench_never);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->notice_count, 0);
	bench_advance(b, 400);
	assert_int_equal(bench_deliver_all(b), 1);
	bench_check_empty(b);
}

static void tells_of_a_relay_to_a_server_without_dsn(void **state)
{
	struct bench *b = *state;
	const struct bench_answer relayed = {VERDICT_DONE, STAGE_END_OF_DATA, 250,
		OUTCOME_NO_DSN_PEER, 0};
	uint32_t r = bench_put_from(b, "s@sender.example", "good.example", 1, NOTIFY_SUCCESS);

	bench_settle(b);
	bench_answer(b, bench_job(b), &relayed);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_slot(b, r).state, SLOT_DELIVERED);
	assert_int_equal(b->notice_count, 1);
	bench_all_notices_done(b);
	bench_check_empty(b);
}

/* What a captured smtp-out may say must not get into a slot that nobody can read any more. */
static void cuts_off_an_agent_that_lies_beyond_the_rules(void **state)
{
	const struct bench_answer no_such_stage = {VERDICT_LATER, STAGE_COUNT, 450, 0, 0};
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 1);

	bench_settle(b);
	struct bench_agent *a = bench_agent_of(b, bench_job(b));
	unsigned index = a->index;

	bench_outcome(b, bench_job(b), 0, &no_such_stage);
	bench_settle(b);
	assert_null(b->q.agents[index]);
	bench_agent_gone(b, index);
	bench_check(b);
	assert_int_equal(bench_slot(b, first).attempts, 0);
	assert_int_equal(bench_deliver_all(b), 1);
	bench_check_empty(b);
}

/* ---- no way there ---- */

static void settles_what_has_no_route(void **state)
{
	struct bench *b = *state;

	bench_put(b, "nowhere.example", 2);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->notice_count, 1);
	bench_all_notices_done(b);
	bench_check_empty(b);
	bench_put(b, "later.example", 2);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->notice_count, 0);
	assert_int_equal(store_live(b->q.store), 2);
	assert_int_equal(b->q.destinations.count, 0);
	bench_advance(b, 86400 * 5 + 4001);
	bench_advance(b, 1);
	bench_all_notices_done(b);
	bench_check_empty(b);
}

static void asks_the_next_resolver_when_one_dies(void **state)
{
	struct bench *b = *state;
	uint32_t first;

	b->resolve_holds = true;
	first = bench_put(b, "good.example", 2);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->q.pending_rcpts, 2);
	bench_resolve_gone(b);
	bench_settle(b);
	bench_put(b, "other.example", 1);
	bench_settle(b);
	bench_check(b);
	b->resolve_holds = false;
	bench_resolve_come(b);
	assert_int_equal(bench_deliver_all(b), 3);
	each_is_delivered_once(b, first, 3);
	bench_check_empty(b);
}

/* A question whose answer got lost must not hold a recipient for ever. */
static void gives_up_a_question_that_nobody_answers(void **state)
{
	struct bench *b = *state;
	uint32_t r = bench_put(b, "silent.example", 2);

	bench_settle(b);
	bench_check(b);
	bench_advance(b, 301);
	bench_check(b);
	assert_int_equal(b->q.pending_rcpts, 0);
	assert_int_equal(bench_slot(b, r).attempts, 1);
	bench_advance(b, 400);
	assert_int_equal(b->q.pending_rcpts, 2); /* asked again */
	bench_advance(b, 301);
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	bench_check_empty(b);
}

/* ---- death ---- */

static void sends_again_what_an_agent_died_with(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 4);

	bench_put(b, "good.example", 1);
	bench_put(b, "other.example", 1);
	bench_settle(b);
	bench_outcome(b, bench_job(b), 0, &bench_done);
	bench_outcome(b, bench_job(b), 1, &bench_never);
	bench_settle(b);
	bench_agent_gone(b, 0);
	bench_agent_gone(b, 1);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->q.in_flight, 0);
	bench_agent_come(b, 1);
	assert_int_equal(bench_deliver_all(b), 4);
	assert_int_equal(b->delivered[first + 1], 0);
	bench_all_notices_done(b);
	b->delivered[first + 1] = 1;
	each_is_delivered_once(b, first, 6);
	bench_check_empty(b);
}

/* Otherwise one message that smtp-out dies of stops the relay. */
static void puts_a_message_off_that_agents_die_of(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 1);
	unsigned deaths = 0;

	for (bench_settle(b); bench_job(b) != NULL && deaths < 50; deaths++) {
		unsigned index = bench_agent_of(b, bench_job(b))->index;

		bench_agent_gone(b, index);
		bench_settle(b);
		bench_check(b);
		bench_agent_come(b, index);
		bench_settle(b);
	}
	assert_in_range(deaths, 2, 5);
	bench_check(b);
	assert_int_equal(bench_slot(b, first).attempts, 1);
	bench_advance(b, 400);
	assert_int_equal(bench_deliver_all(b), 1);
	bench_check_empty(b);
}

static void asks_the_next_bounce_when_one_dies(void **state)
{
	struct bench *b = *state;
	uint32_t first = b->next_number;

	for (unsigned i = 0; i < 300; i++) {
		bench_put(b, "good.example", 1);
	}
	bench_settle(b);
	bench_connect(b, bench_job(b));
	while (bench_job(b) != NULL) {
		bench_answer(b, bench_job(b), &bench_never);
		bench_settle(b);
	}
	bench_check(b);
	assert_int_equal(b->notice_count, 200);
	bench_notice_done(b, true);
	bench_settle(b);
	bench_bounce_gone(b);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(b->q.notices_out, 299);
	bench_bounce_come(b);
	bench_all_notices_done(b);
	assert_int_equal(b->delivered[first], 0);
	bench_check_empty(b);
}

/* One notice that bounce cannot do must not hold up the others. */
static void asks_again_for_a_notice_that_could_not_be_done(void **state)
{
	struct bench *b = *state;

	bench_put(b, "nowhere.example", 1);
	bench_settle(b);
	bench_notice_done(b, false);
	bench_settle(b);
	bench_check(b);
	bench_put(b, "nowhere.example", 1);
	bench_settle(b);
	assert_int_equal(b->notice_count, 1);
	bench_notice_done(b, true);
	bench_settle(b);
	assert_int_equal(store_live(b->q.store), 1);
	assert_int_equal(b->notice_count, 0);
	bench_advance(b, 31);
	assert_int_equal(b->notice_count, 1);
	bench_all_notices_done(b);
	bench_check_empty(b);
}

static void starts_again_where_it_was(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 5);

	bench_put(b, "nowhere.example", 1);
	bench_settle(b);
	bench_outcome(b, bench_job(b), 0, &bench_done);
	bench_settle(b);
	bench_restart(b, DEFAULTS);
	bench_check(b);
	assert_int_equal(store_live(b->q.store), 5); /* the notice was not done */
	assert_int_equal(bench_deliver_all(b), 4);
	bench_all_notices_done(b);
	each_is_delivered_once(b, first, 5);
	bench_check_empty(b);
}

static void takes_what_a_cleanup_left_that_died(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 1);

	b->tells_nobody = true;
	bench_put(b, "good.example", 2);
	b->tells_nobody = false;
	bench_settle(b);
	assert_int_equal(store_live(b->q.store), 1);
	bench_cleanup_gone(b);
	bench_settle(b);
	bench_advance(b, 1);
	assert_int_equal(bench_deliver_all(b), 3);
	each_is_delivered_once(b, first, 3);
	bench_check_empty(b);
	bench_advance(b, 1);
	assert_int_equal(store_segment_count(b->q.store), 0);
}

/* It dies between the news of a record and the last recipient of it. */
static void takes_a_record_of_which_half_was_told(void **state)
{
	struct bench *b = *state;
	uint32_t first;

	b->tells_half = true;
	first = bench_put(b, "good.example", 3);
	bench_settle(b);
	bench_check(b);
	assert_null(bench_job(b));
	bench_cleanup_gone(b);
	bench_settle(b);
	bench_check(b);
	bench_advance(b, 1);
	assert_int_equal(bench_deliver_all(b), 3);
	each_is_delivered_once(b, first, 3);
	bench_check_empty(b);
}

/* ---- operators ---- */

static void deletes_what_is_anywhere(void **state)
{
	struct bench *b = *state;

	b->resolve_holds = true;
	bench_put(b, "good.example", 2); /* waits for its route */
	bench_settle(b);
	assert_int_equal(bench_order(b, CTL_QUEUE_DELETE, b->last_id), 0);
	assert_int_equal(store_live(b->q.store), 0);
	bench_check(b);
	bench_answer_held(b);
	bench_settle(b);
	bench_check_empty(b);
	b->resolve_holds = false;

	for (unsigned i = 0; i < 5; i++) {
		bench_put(b, "good.example", 1); /* two in flight, three in the backlog */
	}
	bench_settle(b);
	assert_int_equal(bench_jobs(b), 2);
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	bench_check(b);
	assert_true(bench_job(b)->cancelled);
	/* Down: what lies in the backlog is put off, and some of it is no more. */
	bench_answer(b, bench_job(b), &bench_down);
	bench_settle(b);
	bench_check(b);
	bench_answer(b, bench_job(b), &bench_done);
	bench_settle(b);
	bench_check_empty(b);

	bench_put(b, "nowhere.example", 1);
	bench_settle(b);
	bench_order(b, CTL_QUEUE_DELETE, "ALL"); /* while bounce is at it */
	bench_all_notices_done(b);
	bench_check_empty(b);
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	assert_int_equal(bench_order(b, CTL_QUEUE_DELETE, b->last_id), 69);
}

static void holds_and_releases_what_is_anywhere(void **state)
{
	struct bench *b = *state;
	uint32_t first = b->next_number;

	b->resolve_holds = true;
	bench_put(b, "good.example", 2);
	bench_settle(b);
	bench_order(b, CTL_QUEUE_HOLD, "ALL");
	bench_answer_held(b);
	bench_settle(b);
	bench_check(b);
	assert_null(bench_job(b));
	b->resolve_holds = false;
	bench_advance(b, 86400 * 6); /* nothing that is held expires */
	bench_check(b);
	assert_int_equal(b->notices_seen, 0);
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	bench_check(b);
	assert_int_equal(bench_deliver_all(b), 2);

	for (unsigned i = 0; i < 5; i++) {
		bench_put(b, "fresh.example", 1);
	}
	bench_settle(b);
	bench_order(b, CTL_QUEUE_HOLD, "ALL");
	bench_check(b);
	while (bench_job(b) != NULL) {
		assert_true(bench_job(b)->cancelled);
		bench_answer(b, bench_job(b), &bench_cancelled);
		bench_settle(b);
		bench_check(b);
	}
	assert_int_equal(b->q.active, 0);
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	bench_check(b);
	/* Held and released while it is under way: nothing happens. */
	bench_order(b, CTL_QUEUE_HOLD, "ALL");
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	bench_check(b);
	bench_answer(b, bench_job(b), &bench_later);
	bench_order(b, CTL_QUEUE_HOLD, "ALL");
	bench_answer(b, bench_job(b), &bench_later);
	bench_settle(b);
	bench_check(b);
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	bench_advance(b, 400);
	assert_int_equal(bench_deliver_all(b), 5);
	each_is_delivered_once(b, first, 7);
	bench_check_empty(b);
}

static void puts_off_what_is_held_when_its_site_goes_down(void **state)
{
	struct bench *b = *state;
	uint32_t first = b->next_number;

	for (unsigned i = 0; i < 5; i++) {
		bench_put(b, "good.example", 1);
	}
	bench_settle(b);
	bench_order(b, CTL_QUEUE_HOLD, "ALL");
	while (bench_job(b) != NULL) {
		bench_answer(b, bench_job(b), &bench_down);
		bench_settle(b);
		bench_check(b);
	}
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	bench_check(b);
	bench_advance(b, 400);
	bench_advance(b, 400);
	bench_deliver_all(b);
	bench_advance(b, 400);
	bench_deliver_all(b);
	each_is_delivered_once(b, first, 5);
	bench_check_empty(b);
}

static void requeues_and_flushes(void **state)
{
	struct bench *b = *state;
	uint32_t r = bench_put(b, "good.example", 1);

	bench_settle(b);
	bench_answer(b, bench_job(b), &bench_later);
	bench_settle(b);
	assert_null(bench_job(b));
	bench_order(b, CTL_QUEUE_FLUSH, b->last_id);
	bench_check(b);
	assert_non_null(bench_job(b));
	assert_int_equal(bench_slot(b, r).attempts, 1);
	bench_order(b, CTL_QUEUE_FLUSH, "ALL"); /* while it is in flight */
	bench_order(b, CTL_QUEUE_REQUEUE, "ALL");
	bench_check(b);
	bench_answer(b, bench_job(b), &bench_down);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_slot(b, r).attempts, 1);
	assert_null(bench_job(b));
	bench_order(b, CTL_QUEUE_FLUSH, "ALL"); /* the site is tried as well */
	bench_check(b);
	assert_int_equal(bench_deliver_all(b), 1);
	bench_check_empty(b);
}

/* ---- expiry ---- */

static void expires_after_the_last_attempt(void **state)
{
	struct bench *b = *state;
	unsigned attempts = 0;

	bench_put(b, "good.example", 1);
	for (bench_settle(b); b->notice_count == 0 && attempts < 1000; attempts++) {
		while (bench_job(b) == NULL) {
			bench_advance(b, 600);
		}
		bench_answer(b, bench_job(b), &bench_later);
		bench_settle(b);
		bench_check(b);
	}
	/* Five days of some 4000 seconds. */
	assert_in_range(attempts, 90, 140);
	assert_int_equal(CONTAINER_OF(list_first(&b->notices), struct bench_notice, link)->kind,
		NOTICE_EXPIRED);
	bench_all_notices_done(b);
	bench_check_empty(b);
}

static void expires_notices_sooner(void **state)
{
	struct bench *b = *state;

	bench_put_from(b, "", "good.example", 1, 0);
	bench_settle(b);
	bench_answer(b, bench_job(b), &bench_later);
	bench_settle(b);
	bench_advance(b, 86401);
	bench_answer(b, bench_job(b), &bench_later);
	bench_settle(b);
	assert_int_equal(b->notice_count, 1); /* bounce knows that nobody is to be told */
	bench_all_notices_done(b);
	bench_check_empty(b);
}

/* Only one recipient at a time probes a site that is down: the others grow old without a try.
 */
static void expires_what_waits_for_a_site_that_stays_down(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < 50; i++) {
		bench_put(b, "dead.example", 1);
	}
	bench_settle(b);
	for (unsigned i = 0; i < 200 && store_live(b->q.store) > 0; i++) {
		while (bench_job(b) != NULL) {
			bench_answer(b, bench_job(b), &bench_down);
			bench_settle(b);
		}
		if (i % 20 == 0) {
			bench_check(b);
		}
		bench_all_notices_done(b);
		bench_advance(b, 4000);
	}
	bench_all_notices_done(b);
	bench_check_empty(b);
}

static void waits_with_a_failure_when_bounce_has_too_many(void **state)
{
	struct bench *b = *state;

	bench_bounce_gone(b);
	bench_settle(b);
	for (unsigned i = 0; i < 22; i++) {
		bench_put(b, "nowhere.example", 1000);
		bench_settle(b);
	}
	bench_check(b);
	assert_in_range(b->q.notices_out, 20000, 21000);
	assert_true(b->q.waiting.count >= 1000);
	bench_bounce_come(b);
	bench_all_notices_done(b);
	bench_advance(b, 400);
	bench_all_notices_done(b);
	bench_check_empty(b);
}

/* ---- clocks ---- */

static void keeps_waits_when_the_clock_is_stepped(void **state)
{
	struct bench *b = *state;

	bench_put(b, "good.example", 1);
	bench_settle(b);
	bench_answer(b, bench_job(b), &bench_later);
	bench_settle(b);
	bench_step_clock(b, 7200);
	bench_check(b);
	assert_null(bench_job(b));
	bench_step_clock(b, -86400);
	bench_check(b);
	bench_advance(b, 250);
	assert_null(bench_job(b));
	bench_advance(b, 100);
	assert_int_equal(bench_deliver_all(b), 1);
	bench_check_empty(b);
}

/* ---- the disk ---- */

/* Slots that cannot be written: nothing goes out, and nobody spins. */
static void rests_while_slots_cannot_be_written(void **state)
{
	struct bench *b = *state;
	uint32_t first = bench_put(b, "good.example", 1);
	struct store_segment *seg;
	char name[SEGMENT_NAME_MAX];
	int writable;

	bench_settle(b);
	seg = store_find(b->q.store, b->last_segment);
	segment_name(seg->info.id, name);
	writable = dup(seg->fd);
	int readable = openat(b->q.queue_dir, name, O_RDONLY | O_CLOEXEC);
	assert_int_equal(dup2(readable, seg->fd), seg->fd);
	bench_answer(b, bench_job(b), &bench_later);
	bench_settle(b);
	assert_true(b->q.sick);
	bench_put(b, "good.example", 1);
	bench_advance(b, 400); /* the first is due, the second waits in memory */
	assert_null(bench_job(b));
	bench_check(b);
	assert_false(b->q.due.armed);
	assert_int_equal(dup2(writable, seg->fd), seg->fd);
	(void)close(readable);
	(void)close(writable);
	/* The store tries again within a second of real time. */
	for (unsigned i = 0; i < 100 && b->q.sick; i++) {
		loop_turn(b->loop, true);
	}
	assert_false(b->q.sick);
	assert_int_equal(bench_deliver_all(b), 2);
	each_is_delivered_once(b, first, 2);
	bench_check_empty(b);
}

/* A segment that somebody removed takes its own mail along, and nothing else. */
static void goes_on_when_a_segment_has_vanished(void **state)
{
	struct bench *b = *state;
	char name[SEGMENT_NAME_MAX];
	uint32_t first;

	bench_agent_gone(b, 0);
	bench_agent_gone(b, 1);
	bench_put(b, "good.example", 1);
	bench_put(b, "nowhere.example", 1);
	bench_settle(b);
	segment_name(b->last_segment, name);
	assert_int_equal(unlinkat(b->q.queue_dir, name, 0), 0);
	bench_cleanup_gone(b);
	bench_advance(b, 1);
	bench_cleanup_come(b);
	first = bench_put(b, "good.example", 1);
	bench_put(b, "nowhere.example", 1);
	bench_agent_come(b, 0);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_deliver_all(b), 1);
	each_is_delivered_once(b, first, 1);
	bench_all_notices_done(b);
	bench_check(b);
	assert_false(b->q.sick);
}

static void sets_a_damaged_message_aside(void **state)
{
	struct bench *b = *state;
	char name[SEGMENT_NAME_MAX];
	uint32_t first = bench_put(b, "good.example", 70); /* is read from the disk */

	segment_name(b->last_segment, name);
	int fd = openat(b->q.queue_dir, name, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "X", 1, (off_t)b->last_record.content_at), 1);
	(void)close(fd);
	first = bench_put(b, "good.example", 70);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_deliver_all(b), 70);
	each_is_delivered_once(b, first, 70);
	bench_check_empty(b);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(delivers_a_message),
		CASE(delivers_many_recipients_of_one_message),
		CASE(sends_recipients_to_their_own_sites),
		CASE(waits_after_a_temporary_failure_and_longer_each_time),
		CASE(tells_the_sender_before_a_failure_is_final),
		CASE(sends_on_what_was_given_back),
		CASE(splits_when_the_server_has_too_many_recipients),
		CASE(does_not_play_ping_pong_with_an_agent_that_ends),
		CASE(takes_failures_for_temporary_with_soft_bounce),
		CASE(tells_of_a_relay_to_a_server_without_dsn),
		CASE(cuts_off_an_agent_that_lies_beyond_the_rules),
		CASE(settles_what_has_no_route),
		CASE(asks_the_next_resolver_when_one_dies),
		CASE(gives_up_a_question_that_nobody_answers),
		CASE(sends_again_what_an_agent_died_with),
		CASE(puts_a_message_off_that_agents_die_of),
		CASE(asks_the_next_bounce_when_one_dies),
		CASE(asks_again_for_a_notice_that_could_not_be_done),
		CASE(starts_again_where_it_was),
		CASE(takes_what_a_cleanup_left_that_died),
		CASE(takes_a_record_of_which_half_was_told),
		CASE(deletes_what_is_anywhere),
		CASE(holds_and_releases_what_is_anywhere),
		CASE(puts_off_what_is_held_when_its_site_goes_down),
		CASE(requeues_and_flushes),
		CASE(expires_after_the_last_attempt),
		CASE(expires_notices_sooner),
		CASE(expires_what_waits_for_a_site_that_stays_down),
		CASE(waits_with_a_failure_when_bounce_has_too_many),
		CASE(keeps_waits_when_the_clock_is_stepped),
		CASE(rests_while_slots_cannot_be_written),
		CASE(goes_on_when_a_segment_has_vanished),
		CASE(sets_a_damaged_message_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
