/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "master/topology.h"

static void knows_six_programs_each_with_a_user_of_its_own(void **state)
{
	unsigned n = 0;

	(void)state;
	assert_null(topology_program(ROLE_MASTER));
	assert_null(topology_program(ROLE_CTL));
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		const struct program *p = topology_program((enum role)i);
		if (p == NULL) {
			continue;
		}
		n++;
		assert_int_equal(p->role, i);
		assert_string_equal(p->name, role_name(p->role));
		assert_true(strncmp(p->user, "ekiden-", 7) == 0);
		assert_true(p->start_stage < TOPOLOGY_START_STAGES);
		assert_true(p->stop_stage < TOPOLOGY_STOP_STAGES);
		assert_true(p->silent_ms >= 60000 && p->start_ms >= 60000);
		for (unsigned k = 0; k < i; k++) {
			const struct program *other = topology_program((enum role)k);
			assert_true(other == NULL || strcmp(other->user, p->user) != 0);
		}
	}
	assert_int_equal(n, 6);
}

/* The whole matrix: what is not named here must not be there. */
static void lets_exactly_these_pairs_talk(void **state)
{
	static const char *const table[ROLE_COUNT] = {
		/*                    m s c q r o b t */
		[ROLE_MASTER] = "- - - - - - - -",
		[ROLE_SMTPD] = "- - x - - - - -",
		[ROLE_CLEANUP] = "- x - x - - x -",
		[ROLE_QMGR] = "- - x - x x x -",
		[ROLE_RESOLVE] = "- - - x - - - -",
		[ROLE_SMTP_OUT] = "- - - x - - - -",
		[ROLE_BOUNCE] = "- - x x - - - -",
		[ROLE_CTL] = "- - - - - - - -",
	};

	(void)state;
	for (unsigned a = 0; a < ROLE_COUNT; a++) {
		for (size_t b = 0; b < ROLE_COUNT; b++) {
			assert_int_equal(topology_may_talk((enum role)a, (enum role)b),
				table[a][2 * b] == 'x');
		}
	}
}

static void only_who_talks_to_strangers_starts_last_and_stops_first(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		const struct program *p = topology_program((enum role)i);
		if (p == NULL) {
			continue;
		}
		assert_int_equal(p->listens, p->role == ROLE_SMTPD);
		assert_int_equal(p->start_stage == TOPOLOGY_START_STAGES - 1, p->listens);
		assert_int_equal(p->stop_stage == 0, p->listens);
		assert_int_equal(p->queue_group, p->role == ROLE_CLEANUP ||
							 p->role == ROLE_QMGR ||
							 p->role == ROLE_BOUNCE);
	}
}

static struct conf *conf_with(const char *smtpd, const char *cleanup)
{
	struct conf_builder *b = conf_builder_new();
	struct conf *c = NULL;
	struct buf why;

	buf_init(&why, 1024);
	assert_int_equal(
		conf_builder_set(b, SLICE("smtpd_processes"), slice_from_cstr(smtpd), &why),
		ERR_OK);
	assert_int_equal(
		conf_builder_set(b, SLICE("cleanup_processes"), slice_from_cstr(cleanup), &why),
		ERR_OK);
	assert_int_equal(conf_builder_end(&b, &why, &c), ERR_OK);
	buf_clear(&why);
	return c;
}

static void counts_processes(void **state)
{
	static const struct {
		const char *setting;
		unsigned cpus;
		unsigned wish;
		unsigned smtpd;
		unsigned cleanup;
	} cases[] = {
		{"0", 1, 0, 1, 1},
		{"0", 2, 0, 1, 1},
		{"0", 6, 0, 3, 3},
		{"0", 64, 0, 8, 8},
		{"0", 0, 0, 1, 1},
		{"7", 2, 0, 7, 7},
		/* maxproc of master.cf is a wish that only smtpd hears. */
		{"0", 8, 2, 2, 4},
		{"0", 4, 100, 2, 2},
		{"3", 2, 1, 1, 3},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf *c = conf_with(cases[i].setting, cases[i].setting);
		assert_int_equal(topology_count(topology_program(ROLE_SMTPD), c, cases[i].cpus,
					 cases[i].wish),
			cases[i].smtpd);
		assert_int_equal(topology_count(topology_program(ROLE_CLEANUP), c,
					 cases[i].cpus, cases[i].wish),
			cases[i].cleanup);
		assert_int_equal(topology_count(topology_program(ROLE_QMGR), c, cases[i].cpus,
					 cases[i].wish),
			1);
		conf_free(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_six_programs_each_with_a_user_of_its_own),
		cmocka_unit_test(lets_exactly_these_pairs_talk),
		cmocka_unit_test(only_who_talks_to_strangers_starts_last_and_stops_first),
		cmocka_unit_test(counts_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
