/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=service_fail -Wl,--wrap=service_end */
/*
 * Everything that may happen, in any order, with small limits; after each thing every recipient
 * is in one place and every counter right, and in the end nothing is lost.
 *
 * FLOW_SEED=n FLOW_STEPS=n plays another game.
 */
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
#include "common/base/num.h"
#include "tests/unit/qmgr/bench.h"

#define LIMITS                                                                                 \
	"minimal_backoff_time=300s\nmaximal_backoff_time=1000s\nmaximal_queue_lifetime=1d\n"   \
	"bounce_queue_lifetime=1d\nqmgr_active_limit=100\n"                                    \
	"default_destination_recipient_limit=5\ninitial_destination_concurrency=2\n"

static const char *const settings[] = {
	LIMITS "smtp_connection_total_limit=8\ndefault_destination_concurrency_limit=3\n",
	LIMITS "smtp_connection_total_limit=1\ndefault_destination_concurrency_limit=1\n",
	LIMITS "smtp_connection_total_limit=30\ndefault_destination_rate_delay=2s\n",
	LIMITS "smtp_connection_total_limit=8\nsoft_bounce=yes\n",
	LIMITS "smtp_connection_total_limit=40\ndefault_destination_concurrency_limit=20\n"
	       "default_destination_recipient_limit=1\nsmtp_tls_security_level=encrypt\n",
};

static const char *const domains[] = {"one.example", "two.example", "three.example",
	"shared-a.example", "shared-b.example", "shared-c.example", "nowhere.example",
	"later.example", "silent.example", "five.example"};

struct game {
	struct bench b;
	uint64_t random;
	bool is_calm; /* nobody dies: then nothing may arrive twice */
	uint8_t deleted[BENCH_LEDGER];
	unsigned policy;
};

static uint32_t draw(struct game *g, uint32_t n)
{
	g->random = g->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((g->random >> 33) % n);
}

static void put(struct game *g)
{
	uint32_t count = draw(g, 8) == 0 ? 65 + draw(g, 100) : 1 + draw(g, 12);

	/* The ledger, and a test's time, are finite. */
	if (g->b.cleanup != NULL && store_live(g->b.q.store) < 1500 &&
		g->b.next_number + count < BENCH_LEDGER) {
		bench_put_from(&g->b, draw(g, 6) == 0 ? "" : "s@sender.example",
			domains[draw(g, ARRAY_LEN(domains))], count,
			draw(g, 4) == 0 ? NOTIFY_SUCCESS : 0);
	}
}

static struct bench_job *any_job(struct game *g)
{
	struct bench_agent *a = &g->b.agents[draw(g, BENCH_AGENTS)];
	uint32_t n = a->job_count == 0 ? 0 : draw(g, a->job_count);
	struct list *l = list_first(&a->jobs);

	for (; l != NULL && n > 0; n--) {
		l = l->next;
	}
	return l == NULL ? NULL : CONTAINER_OF(l, struct bench_job, link);
}

static void answer(struct game *g)
{
	static const struct bench_answer too_many = {VERDICT_LATER, STAGE_RCPT, 452, 0, 0};
	static const struct bench_answer relayed = {VERDICT_DONE, STAGE_END_OF_DATA, 250,
		OUTCOME_NO_DSN_PEER, 0};
	const struct bench_answer *const answers[] = {&bench_done, &bench_done, &bench_done,
		&bench_later, &bench_never, &bench_cancelled, &too_many, &relayed};
	struct bench_job *j = any_job(g);

	if (j == NULL) {
		return;
	}
	uint32_t way = draw(g, 10);

	if (way == 0) {
		bench_answer(&g->b, j, &bench_down);
		return;
	}
	if (way < 6) {
		bench_connect(&g->b, j);
	}
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		bench_outcome(&g->b, j, i,
			answers[way < 5 ? 0 : draw(g, (uint32_t)ARRAY_LEN(answers))]);
		if (draw(g, 40) == 0) {
			bench_settle(&g->b); /* what happens in the middle is looked at too */
			bench_check(&g->b);
		}
	}
	bench_job_done(&g->b, j);
}

static void answer_some(struct game *g)
{
	for (uint32_t n = draw(g, 20); n > 0; n--) {
		answer(g);
		if (draw(g, 3) == 0) {
			bench_settle(&g->b);
		}
	}
}

static void change_agent(struct game *g)
{
	unsigned index = draw(g, BENCH_AGENTS);

	if (g->is_calm) {
		return;
	}
	if (g->b.agents[index].channel == NULL) {
		bench_agent_come(&g->b, index);
	} else {
		bench_agent_gone(&g->b, index);
	}
}

static void change_bounce(struct game *g)
{
	if (g->b.bounce == NULL) {
		bench_bounce_come(&g->b);
	} else if (g->b.notice_count > 0 && draw(g, 10) != 0) {
		bench_notice_done(&g->b, draw(g, 4) != 0);
	} else {
		bench_bounce_gone(&g->b);
	}
}

static void change_resolve(struct game *g)
{
	if (g->b.resolve == NULL) {
		bench_resolve_come(&g->b);
		return;
	}
	switch (draw(g, 4)) {
	case 0:
		bench_resolve_gone(&g->b);
		break;
	case 1:
		g->b.resolve_holds = !g->b.resolve_holds;
		break;
	default:
		bench_answer_held(&g->b);
		break;
	}
	g->b.ttl_s = draw(g, 2) == 0 ? 5 : 3600;
}

static void change_cleanup(struct game *g)
{
	clock_advance_ms(1); /* no two segments with one id */
	if (g->b.cleanup == NULL) {
		g->b.tells_nobody = false;
		g->b.tells_half = false;
		bench_cleanup_come(&g->b);
	} else if (draw(g, 2) == 0) {
		/* It dies with something untold. */
		bench_settle(&g->b);
		g->b.tells_nobody = draw(g, 2) == 0;
		g->b.tells_half = true;
		put(g);
		bench_settle(&g->b);
		bench_check(&g->b);
		bench_cleanup_gone(&g->b);
	} else {
		bench_cleanup_gone(&g->b);
	}
}

static void order(struct game *g)
{
	static const uint8_t verbs[] = {CTL_QUEUE_HOLD, CTL_QUEUE_RELEASE, CTL_QUEUE_RELEASE,
		CTL_QUEUE_REQUEUE, CTL_QUEUE_FLUSH, CTL_QUEUE_DELETE, CTL_QUEUE_SITES};
	uint8_t verb = verbs[draw(g, (uint32_t)ARRAY_LEN(verbs))];
	bool all = draw(g, 2) == 0 || g->b.last_id[0] == '\0';

	if (verb == CTL_QUEUE_DELETE) {
		if (all && draw(g, 3) != 0) {
			return; /* a game of which nothing is left is dull */
		}
		memset(g->deleted, 1, g->b.next_number);
	}
	bench_order(&g->b, verb, all ? "ALL" : g->b.last_id);
}

static void pass_time(struct game *g)
{
	static const uint16_t steps[] = {1, 1, 1, 2, 10, 60, 320, 1100};

	if (draw(g, 30) == 0) {
		bench_step_clock(&g->b, (int64_t)draw(g, 20000) - 10000);
	} else {
		bench_advance(&g->b, steps[draw(g, (uint32_t)ARRAY_LEN(steps))]);
	}
}

static void one_step(struct game *g)
{
	switch (draw(g, 16)) {
	case 0:
	case 1:
	case 2:
		put(g);
		break;
	case 3:
		change_agent(g);
		break;
	case 4:
	case 5:
		change_bounce(g);
		break;
	case 6:
		change_resolve(g);
		break;
	case 7:
		if (draw(g, 4) == 0) {
			change_cleanup(g);
		}
		break;
	case 8:
		order(g);
		break;
	case 9:
		if (draw(g, 4) == 0) {
			g->policy = draw(g, (uint32_t)ARRAY_LEN(settings));
			bench_reload(&g->b, settings[g->policy]);
		} else if (draw(g, 8) == 0 && !g->is_calm && g->b.cleanup != NULL) {
			bench_restart(&g->b, settings[g->policy]);
		}
		break;
	case 10:
	case 11:
		pass_time(g);
		break;
	default:
		answer_some(g);
		break;
	}
	bench_settle(&g->b);
	bench_check(&g->b);
}

/* All is well again: what there is comes to its end. */
static void finish(struct game *g)
{
	struct bench *b = &g->b;

	for (unsigned i = 0; i < BENCH_AGENTS; i++) {
		if (b->agents[i].channel == NULL) {
			bench_agent_come(b, i);
		}
	}
	if (b->bounce == NULL) {
		bench_bounce_come(b);
	}
	if (b->resolve == NULL) {
		bench_resolve_come(b);
	}
	b->resolve_holds = false;
	bench_answer_held(b);
	bench_reload(b, settings[0]);
	bench_order(b, CTL_QUEUE_RELEASE, "ALL");
	/* Notices that were put off and questions that nobody answers may outlive their mail.
	 */
	for (unsigned i = 0; i < 2000 && (store_live(b->q.store) > 0 || b->q.active > 0 ||
						 b->q.notices_out > 0);
		i++) {
		bench_deliver_all(b);
		bench_all_notices_done(b);
		bench_advance(b, i < 100 ? 1 : 400);
	}
	bench_all_notices_done(b);
	bench_advance(b, 1);
	bench_check_empty(b);
}

static void judge(struct game *g)
{
	for (uint32_t i = 0; i < g->b.next_number; i++) {
		unsigned ends = (unsigned)g->b.delivered[i] + g->b.told[i];

		if (ends == 0 && g->deleted[i] == 0) {
			fail_msg("r%u is lost", i);
		}
		/* What was deleted while it was under way may have arrived. */
		if (g->is_calm && ends > 1 && g->deleted[i] == 0) {
			fail_msg("r%u: delivered %u times, its sender told %u times", i,
				g->b.delivered[i], g->b.told[i]);
		}
	}
}

static uint32_t number_from(const char *name, uint32_t otherwise)
{
	const char *text = getenv(name);
	uint32_t number = otherwise;

	if (text != NULL &&
		num_parse_u32(slice_from_cstr(text), UINT32_MAX, &number) != ERR_OK) {
		fail_msg("%s is no number", name);
	}
	return number;
}

static void play(uint32_t seed, bool is_calm, uint32_t steps)
{
	struct game *g = calloc(1, sizeof(*g));

	assert_non_null(g);
	print_message("seed %u\n", seed);
	g->random = seed;
	g->is_calm = is_calm;
	bench_open(&g->b, settings[0]);
	for (uint32_t i = 0; i < steps; i++) {
		one_step(g);
	}
	finish(g);
	judge(g);
	print_message("%u recipients\n", g->b.next_number);
	bench_close(&g->b);
	free(g);
}

static void loses_nothing_whatever_happens(void **state)
{
	uint32_t seed = number_from("FLOW_SEED", 1);

	(void)state;
	for (uint32_t i = 0; i < number_from("FLOW_GAMES", 4); i++) {
		play(seed + i, false, number_from("FLOW_STEPS", 400));
	}
}

static void delivers_nothing_twice_while_nobody_dies(void **state)
{
	uint32_t seed = number_from("FLOW_SEED", 1);

	(void)state;
	for (uint32_t i = 0; i < number_from("FLOW_GAMES", 4); i++) {
		play(seed + i, true, number_from("FLOW_STEPS", 400));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loses_nothing_whatever_happens),
		cmocka_unit_test(delivers_nothing_twice_while_nobody_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
