/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=service_fail -Wl,--wrap=service_end */
/* What is shared among sites, and that no site, however dead, takes the share of another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/attr.h"
#include "common/base/clock.h"
#include "qmgr/daemon.h"
#include "tests/unit/qmgr/bench.h"

#define DEFAULTS                                                                               \
	"minimal_backoff_time=300s\nmaximal_backoff_time=4000s\nmaximal_queue_lifetime=5d\n"

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

/* A job with that recipient is at smtp-out. */
static bool is_out(struct bench *b, uint32_t number)
{
	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		struct list *jobs = &b->agents[i].jobs;

		for (struct list *l = jobs->next; l != jobs; l = l->next) {
			struct bench_job *j = CONTAINER_OF(l, struct bench_job, link);

			for (uint32_t k = 0; k < j->rcpt_count; k++) {
				if (j->numbers[k] == number) {
					return true;
				}
			}
		}
	}
	return false;
}

static struct site *site_named(struct bench *b, const char *key)
{
	struct hash_link *l = hash_table_find(&b->q.sites, slice_from_cstr(key));

	return l == NULL ? NULL : CONTAINER_OF(l, struct site, by_key);
}

static void drain(struct bench *b)
{
	for (unsigned i = 0; i < 500 && store_live(b->q.store) > 0; i++) {
		bench_deliver_all(b);
		bench_advance(b, i < 50 ? 1 : 400);
	}
	bench_check_empty(b);
}

/* ---- dead ones ---- */

static void mail_for_many_dead_sites_does_not_delay_a_good_one(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "qmgr_active_limit=5000\nsmtp_connection_total_limit=1000\n");
	b->spread = 10;
	for (unsigned i = 0; i < 40; i++) {
		bench_put(b, "dead.example", 500); /* tarpits: their jobs stay out */
		bench_settle(b);
	}
	b->spread = 0;
	bench_check(b);
	assert_in_range(b->q.unproven_in_flight, 200, 500);
	assert_in_range(b->q.unproven_held, 2000,
		2550); /* half of the memory, by whole messages */
	assert_true(b->q.active < 4000);
	/* One that has never been seen, and one that is known to be good. */
	uint32_t fresh = bench_put(b, "good.example", 1);
	bench_settle(b);
	assert_false(
		is_out(b, fresh)); /* nobody knows that it is no tarpit: it waits its turn */
	for (unsigned i = 0; i < 4000 && !is_out(b, fresh); i++) {
		bench_answer(b, bench_job(b), &bench_down);
		bench_settle(b);
		if (i % 200 == 0) {
			bench_check(b);
		}
	}
	assert_true(is_out(b, fresh));
	for (unsigned n = 0; n < 20; n++) {
		while (is_out(b, fresh)) {
			struct bench_job *j = bench_job(b);

			while (j->numbers[0] != fresh) {
				struct bench_agent *a = bench_agent_of(b, j);

				list_remove(&j->link);
				list_append(&a->jobs, &j->link);
				j = bench_job(b);
			}
			bench_connect(b, j);
			bench_answer(b, j, &bench_done);
			bench_settle(b);
		}
		fresh = bench_put(b, "good.example", 1);
		bench_settle(b);
		assert_true(is_out(b, fresh)); /* at once, from now on */
	}
	bench_check(b);
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	while (bench_job(b) != NULL) {
		bench_answer(b, bench_job(b), &bench_down);
		bench_settle(b);
	}
	bench_check_empty(b);
}

static void names_that_nobody_answers_for_do_not_delay_a_good_one(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "qmgr_active_limit=1000\n");
	bench_put(b, "good.example", 1);
	bench_deliver_all(b);
	b->spread = 1;
	bench_put(b, "silent.example", 2000);
	b->spread = 0;
	bench_settle(b);
	bench_check(b);
	assert_in_range(b->q.pending_rcpts, 250, 252);
	uint32_t first = bench_put(b, "good.example", 50);
	bench_settle(b);
	for (uint32_t i = 0; i < 50; i++) {
		assert_true(is_out(b, first + i));
	}
	for (unsigned i = 0; i < 20; i++) {
		bench_advance(b, 1);
		bench_check(b);
	}
	assert_in_range(b->q.pending_rcpts, 250, 252);
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	bench_advance(b, 301);
	bench_answer(b, bench_job(b), &bench_done);
	bench_check_empty(b);
}

/* Proven, and then they take no end: their backlogs must leave room. */
static void slow_sites_leave_room_in_memory(void **state)
{
	struct bench *b = *state;
	char domain[64];

	bench_reload(b, DEFAULTS "qmgr_active_limit=2000\n");
	for (unsigned i = 0; i < 30; i++) {
		assert_true(snprintf(domain, sizeof(domain), "slow%u.example", i) > 0);
		bench_put(b, domain, 1);
	}
	bench_deliver_all(b);
	for (unsigned n = 0; n < 400; n++) {
		assert_true(snprintf(domain, sizeof(domain), "slow%u.example", n % 30) > 0);
		bench_put(b, domain, 40);
	}
	bench_settle(b);
	bench_check(b);
	assert_true(b->q.active < 1950);
	uint32_t r = bench_put(b, "good.example", 1);
	bench_settle(b);
	assert_true(is_out(b, r));
	drain(b);
	each_is_delivered_once(b, 0, b->next_number);
}

static void tries_unproven_sites_even_with_one_connection_in_all(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "smtp_connection_total_limit=1\n");
	for (unsigned i = 0; i < 10; i++) {
		bench_put(b, i % 2 == 0 ? "one.example" : "two.example", 1);
	}
	bench_settle(b);
	bench_check(b);
	assert_int_equal(bench_jobs(b), 1);
	drain(b);
	each_is_delivered_once(b, 0, 10);
}

static void a_site_that_is_down_is_probed_by_one_job(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < 100; i++) {
		bench_put(b, "dead.example", 1);
	}
	bench_settle(b);
	assert_int_equal(bench_jobs(b), 2); /* not proven */
	bench_answer(b, bench_job(b), &bench_down);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(site_named(b, "mx.dead.example")->state, SITE_DOWN);
	assert_int_equal(b->q.active, 1);
	bench_answer(b, bench_job(b), &bench_down); /* of the same round */
	bench_settle(b);
	assert_int_equal(site_named(b, "mx.dead.example")->failures, 1);
	bench_put(b, "dead.example", 1); /* new mail waits with the rest */
	bench_settle(b);
	assert_int_equal(bench_jobs(b), 0);
	for (unsigned s = 0; bench_job(b) == NULL && s < 500; s++) {
		bench_advance(b, 1);
	}
	bench_advance(b, 40);
	bench_check(b);
	assert_int_equal(bench_jobs(b), 1);
	bench_answer(b, bench_job(b), &bench_down);
	bench_settle(b);
	assert_int_equal(site_named(b, "mx.dead.example")->failures, 2);
	bench_check(b);
	drain(b);
	each_is_delivered_once(b, 0, 101);
}

/* ---- shares of one site ---- */

static void a_site_gets_more_as_it_delivers(void **state)
{
	struct bench *b = *state;
	uint32_t most = 0;

	for (unsigned i = 0; i < 300; i++) {
		bench_put(b, "good.example", 1);
	}
	bench_settle(b);
	assert_int_equal(bench_jobs(b), 2);
	while (bench_job(b) != NULL) {
		bench_connect(b, bench_job(b));
		bench_answer(b, bench_job(b), &bench_done);
		bench_settle(b);
		most = bench_jobs(b) > most ? bench_jobs(b) : most;
	}
	/* default_destination_concurrency_limit is 20: a job on each connection, one behind. */
	assert_int_equal(most, 40);
	bench_check_empty(b);
}

static void smtp_out_processes_share_the_connections_of_a_site(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "default_destination_concurrency_limit=3\n");
	for (unsigned i = 0; i < 20; i++) {
		bench_put(b, "good.example", 1);
	}
	bench_settle(b);
	assert_int_equal(b->agents[0].sites_told, 1);
	assert_int_equal(b->agents[1].sites_told, 1);
	assert_int_equal(b->agents[0].last_connections + b->agents[1].last_connections, 3);
	bench_agent_gone(b, 1);
	bench_settle(b);
	assert_int_equal(b->agents[0].last_connections, 3);
	bench_check(b);
	/* One connection for two processes: one of them has it. */
	bench_reload(b, DEFAULTS "default_destination_concurrency_limit=1\n"
				 "smtp_tls_security_level=encrypt\n");
	bench_agent_come(b, 1);
	drain(b);
	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		if (b->agents[i].sites_told > 0 && b->agents[i].last_tls_level == TLS_ENCRYPT) {
			assert_int_equal(b->agents[i].last_connections, 1);
			each_is_delivered_once(b, 0, 20);
			return;
		}
	}
	fail_msg("nobody was told of the new settings");
}

static void keeps_the_pace_of_a_rate_delay(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "default_destination_rate_delay=10s\n");
	for (unsigned i = 0; i < 5; i++) {
		bench_put(b, "good.example", 1);
	}
	for (unsigned i = 0; i < 5; i++) {
		bench_settle(b);
		assert_int_equal(bench_jobs(b), 1);
		bench_connect(b, bench_job(b));
		bench_answer(b, bench_job(b), &bench_done);
		bench_settle(b);
		assert_int_equal(bench_jobs(b), 0);
		bench_advance(b, 9);
		assert_int_equal(bench_jobs(b), 0);
		bench_check(b);
		bench_advance(b, 2);
	}
	bench_check_empty(b);
	/* Taken away while one waits for it. */
	bench_put(b, "good.example", 1);
	bench_put(b, "good.example", 1);
	bench_settle(b);
	bench_answer(b, bench_job(b), &bench_done);
	bench_settle(b);
	bench_reload(b, DEFAULTS);
	assert_int_equal(bench_jobs(b), 1);
	drain(b);
}

/* ---- parked ones ---- */

/* One site has far more than memory may hold of it. */
static void park_many(struct bench *b)
{
	bench_reload(b, DEFAULTS "qmgr_active_limit=640\n");
	bench_put(b, "good.example", 1);
	bench_deliver_all(b);
	bench_advance(b, 20);
	for (unsigned i = 0; i < 20; i++) {
		bench_put(b, "good.example", 100);
	}
	bench_settle(b);
	bench_check(b);
	struct site *s = site_named(b, "mx.good.example");
	assert_true(s->parked_count - s->parked_from > 500);
}

static void parked_recipients_come_back_in_turn(void **state)
{
	struct bench *b = *state;

	park_many(b);
	drain(b);
	each_is_delivered_once(b, 0, 2001);
}

static void parked_recipients_go_to_the_heap_when_their_site_goes_down(void **state)
{
	struct bench *b = *state;

	park_many(b);
	bench_answer(b, bench_job(b), &bench_down);
	bench_settle(b);
	bench_check(b);
	assert_int_equal(site_named(b, "mx.good.example")->parked_count, 0);
	while (bench_job(b) != NULL) {
		bench_answer(b, bench_job(b), &bench_down);
		bench_settle(b);
	}
	bench_advance(b, 400);
	drain(b);
	each_is_delivered_once(b, 0, 2001);
}

static void parked_recipients_obey_orders(void **state)
{
	struct bench *b = *state;

	park_many(b);
	assert_int_equal(bench_order(b, CTL_QUEUE_DELETE, b->last_id), 0);
	bench_check(b);
	bench_order(b, CTL_QUEUE_HOLD, "ALL");
	bench_check(b);
	while (bench_job(b) != NULL) {
		bench_answer(b, bench_job(b), &bench_cancelled);
		bench_settle(b);
	}
	bench_check(b);
	bench_order(b, CTL_QUEUE_REQUEUE, "ALL");
	bench_order(b, CTL_QUEUE_FLUSH, "ALL");
	bench_check(b);
	assert_null(bench_job(b));
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	bench_check(b);
	drain(b);
	each_is_delivered_once(b, 0, 1901);
}

static void parked_recipients_follow_a_new_route(void **state)
{
	struct bench *b = *state;

	b->ttl_s = 25;
	park_many(b);
	b->moved = true;
	bench_advance(b, 30);
	bench_put(b, "good.example", 1);
	bench_settle(b);
	bench_check(b);
	assert_non_null(site_named(b, "new.good.example"));
	drain(b);
	each_is_delivered_once(b, 0, 2002);
	/* The old one goes when nothing has used it for a while, and nobody hears of it twice.
	 */
	bench_advance(b, 1000);
	bench_advance(b, 1);
	assert_null(site_named(b, "mx.good.example"));
	bench_check_empty(b);
}

/* Memory is full of others' mail: whose turn it is must come all the same. */
static void parked_recipients_get_their_turn_when_memory_was_full(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "qmgr_active_limit=100\nsmtp_connection_total_limit=10\n");
	for (unsigned i = 0; i < 40; i++) {
		bench_put(b, i % 2 == 0 ? "one.example" : "two.example", 20);
	}
	bench_settle(b);
	bench_check(b);
	drain(b);
	each_is_delivered_once(b, 0, 800);
}

/* A segment of which little is alive is copied forward; not while parked recipients name it. */
static void parked_recipients_are_not_moved(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "qmgr_active_limit=640\n");
	b->filling = 5000000;
	bench_put(b, "other.example", 1);
	b->filling = 0;
	bench_deliver_all(b);
	park_many(b);
	bench_cleanup_gone(b);
	bench_advance(b, 20);
	bench_check(b);
	bench_advance(b, 20);
	bench_check(b);
	drain(b);
	each_is_delivered_once(b, 0, 2002);
}

static void waiting_recipients_are_copied_forward(void **state)
{
	struct bench *b = *state;

	b->filling = 5000000;
	bench_put(b, "good.example", 1);
	b->filling = 0;
	bench_put(b, "later.example", 3);
	bench_put(b, "good.example", 1);
	bench_settle(b);
	bench_deliver_all(b);
	bench_order(b, CTL_QUEUE_HOLD, b->last_id);
	uint64_t before = b->last_segment;
	bench_cleanup_gone(b);
	for (unsigned i = 0; i < 30 && store_find(b->q.store, before) != NULL; i++) {
		bench_advance(b, 5);
		bench_check(b);
	}
	assert_null(store_find(b->q.store, before));
	assert_int_equal(store_live(b->q.store), 3);
	bench_restart(b, DEFAULTS);
	bench_check(b);
	assert_int_equal(store_live(b->q.store), 3);
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	bench_check_empty(b);
}

/* Power was cut when only a part of the old slots said "moved": nobody may be lost with the
 * copy.
 */
static void a_half_moved_record_is_whole_again(void **state)
{
	struct bench *b = *state;
	struct segment_writer *copier;
	struct segment_record copy;
	uint64_t segment;
	struct envelope_rcpt rcpts[] = {{.address = SLICE_INIT("r0@later.example")},
		{.address = SLICE_INIT("r1@later.example")}};
	struct envelope e = {.sender = SLICE("s@sender.example"),
		.rcpt_count = 2,
		.rcpts = rcpts};

	bench_put(b, "later.example", 2);
	bench_settle(b);
	struct store_segment *seg = store_find(b->q.store, b->last_segment);
	struct slot slot = store_slot(seg, 0);
	slot.state = SLOT_MOVED;
	store_set_slot(b->q.store, seg, 0, &slot);
	bench_settle(b);
	clock_advance_ms(1);
	assert_int_equal(segment_writer_new(b->q.queue_dir, 51, NULL, NULL, &copier), ERR_OK);
	segment_writer_use_id(copier, b->last_record.queue_id);
	assert_int_equal(segment_writer_add(copier, &e, SLICE("Received: x\r\n"),
				 SLICE("Subject: y\r\n\r\n"), clock_wall_us(), &copy, &segment),
		ERR_OK);
	assert_int_equal(segment_writer_commit(copier), ERR_OK);
	segment_writer_free(&copier);
	bench_cleanup_gone(b); /* the original's segment is nobody's either */
	bench_settle(b);
	bench_cleanup_come(b);
	bench_restart(b, DEFAULTS);
	bench_check(b);
	assert_int_equal(store_live(b->q.store), 2);
	assert_null(store_find(b->q.store, segment));
	bench_order(b, CTL_QUEUE_DELETE, "ALL");
	bench_check_empty(b);
}

/* ---- many ---- */

static void what_is_known_of_many_domains_is_bounded(void **state)
{
	struct bench *b = *state;

	b->spread = 1;
	for (unsigned i = 0; i < 30; i++) {
		bench_put(b, "many.example", 1000);
		bench_deliver_all(b);
	}
	drain(b);
	bench_advance(b, 2);
	bench_advance(b, 2);
	assert_true(b->q.destinations.count <= 10000);
	assert_true(b->q.sites.count <= 10000);
	each_is_delivered_once(b, 0, 30000);
}

/* smtp-out ends itself when it is told to drop what it does not know: the bench asserts that.
 */
static void sites_are_dropped_where_they_were_told(void **state)
{
	struct bench *b = *state;

	bench_reload(b, DEFAULTS "default_destination_concurrency_limit=20\n");
	bench_put(b, "good.example", 1);
	bench_deliver_all(b);
	assert_int_equal(b->agents[0].sites_told + b->agents[1].sites_told, 1);
	b->ttl_s = 5;
	bench_advance(b, 3601); /* the route is out of date */
	bench_advance(b, 901);
	bench_advance(b, 1);
	assert_int_equal(b->q.sites.count, 0);
	assert_int_equal(b->agents[0].sites_dropped + b->agents[1].sites_dropped, 1);
	bench_check_empty(b);
}

static void ends_when_drained(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < 5; i++) {
		bench_put(b, "good.example", 1);
	}
	bench_settle(b);
	b->q.service->draining = true;
	daemon_hooks.on_drain(&b->service, &b->q, 1000);
	assert_int_equal(b->ended, 0);
	while (bench_job(b) != NULL) {
		bench_answer(b, bench_job(b), &bench_done);
		bench_settle(b);
	}
	assert_int_equal(b->ended, 1);
	assert_int_equal(store_live(b->q.store), 3); /* nothing new was begun */
	bench_restart(b, DEFAULTS);
	drain(b);
	each_is_delivered_once(b, 0, 5);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(mail_for_many_dead_sites_does_not_delay_a_good_one),
		CASE(names_that_nobody_answers_for_do_not_delay_a_good_one),
		CASE(slow_sites_leave_room_in_memory),
		CASE(tries_unproven_sites_even_with_one_connection_in_all),
		CASE(a_site_that_is_down_is_probed_by_one_job),
		CASE(a_site_gets_more_as_it_delivers),
		CASE(smtp_out_processes_share_the_connections_of_a_site),
		CASE(keeps_the_pace_of_a_rate_delay),
		CASE(parked_recipients_come_back_in_turn),
		CASE(parked_recipients_go_to_the_heap_when_their_site_goes_down),
		CASE(parked_recipients_obey_orders),
		CASE(parked_recipients_follow_a_new_route),
		CASE(parked_recipients_get_their_turn_when_memory_was_full),
		CASE(parked_recipients_are_not_moved),
		CASE(waiting_recipients_are_copied_forward),
		CASE(a_half_moved_record_is_whole_again),
		CASE(what_is_known_of_many_domains_is_bounded),
		CASE(sites_are_dropped_where_they_were_told),
		CASE(ends_when_drained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
