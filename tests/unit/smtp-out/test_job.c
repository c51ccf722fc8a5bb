/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/io/fd.h"
#include "common/ipc/messages.h"
#include "smtp-out/job.h"
#include "smtp-out/tx.h"

static void a_recipient_is_settled_once(void **state)
{
	struct job_pool pool;
	struct outcome no = outcome_of_ours(VERDICT_NEVER, STAGE_RCPT,
		(struct enhanced_code){5, 1, 1}, "no");
	struct outcome later = outcome_of_ours(VERDICT_LATER, STAGE_DATA,
		(struct enhanced_code){4, 3, 0}, "later");

	(void)state;
	job_pool_init(&pool);
	struct job *j = job_new(&pool, 3);
	job_settle(j, 1, &no);
	job_settle(j, 1, &later);
	assert_int_equal(j->rcpts[1].outcome.kind, VERDICT_NEVER);
	job_settle_rest(j, &later);
	job_settle_rest(j, &no);
	assert_int_equal(j->rcpts[0].outcome.kind, VERDICT_LATER);
	assert_int_equal(j->rcpts[1].outcome.kind, VERDICT_NEVER);
	assert_int_equal(j->rcpts[2].outcome.kind, VERDICT_LATER);
	/* One copy of a text that many share. */
	assert_ptr_equal(j->rcpts[0].outcome.text.p, j->rcpts[2].outcome.text.p);
	job_restart(j);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(j->rcpts[i].state, RCPT_PENDING);
	}
	job_free(&pool, &j);
	assert_null(j);
	job_free(&pool, &j);
	job_pool_clear(&pool);
}

/* The arena holds the largest job that a message between programs can describe. */
static void the_largest_job_fits(void **state)
{
	static uint8_t bytes[LIMIT_REPLY_TEXT];
	struct job_pool pool;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	job_pool_init(&pool);
	for (int again = 0; again < 2; again++) {
		struct job *j = job_new(&pool, JOB_RCPTS_MAX);
		j->queue_id = job_copy(j, slice_make(bytes, LIMIT_QUEUE_ID));
		j->sender = job_copy(j, slice_make(bytes, LIMIT_ADDRESS));
		j->envid = job_copy(j, slice_make(bytes, LIMIT_ENVID));
		for (uint32_t i = 0; i < JOB_RCPTS_MAX; i++) {
			struct outcome o = {.text = slice_make(bytes, sizeof(bytes))};
			j->rcpts[i].address = job_copy(j, slice_make(bytes, LIMIT_ADDRESS));
			j->rcpts[i].orcpt = job_copy(j, slice_make(bytes, LIMIT_ORCPT));
			job_settle(j, i, &o);
			assert_int_equal(j->rcpts[i].outcome.text.n, LIMIT_REPLY_TEXT);
		}
		job_free(&pool, &j);
	}
	job_pool_clear(&pool);
}

static void looks_at_content(void **state)
{
	static const struct {
		const char *head;
		const char *content;
		struct job_content want;
	} cases[] = {
		{"", "", {0}},
		{"A: b\r\n", "\r\nbody\r\n", {0}},
		{"A: b\r\n",
			"\r\nb\xf6"
			"dy\r\n",
			{false, true, 0}},
		{"A: \xf6\r\n", "\r\nbody\r\n", {true, true, 0}},
		{"", "A: b\r\n\r\n\xf6\r\n", {false, true, 0}},
		{"", "A: b\r\nB:\xf6\r\n\r\n", {true, true, 0}},
		{"", "\r\n..\r\n..a\r\na.\r\n. b\r\n", {false, false, 3}},
		{"A: b\r\n", "\xf6", {true, true, 0}},
		{"A: b\r\n\r", "\n\xf6", {false, true, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int fd = memfd_create("job", MFD_CLOEXEC);
		struct job j = {.fd = fd,
			.head_at = 0,
			.head_bytes = (uint32_t)strlen(cases[i].head),
			.content_at = strlen(cases[i].head),
			.content_bytes = strlen(cases[i].content)};
		struct job_content seen = {.stuffed = 99};

		assert_int_equal(fd_write_all(fd, slice_from_cstr(cases[i].head)), ERR_OK);
		assert_int_equal(fd_write_all(fd, slice_from_cstr(cases[i].content)), ERR_OK);
		assert_int_equal(job_look(&j, &seen), ERR_OK);
		assert_int_equal(seen.header_8bit, cases[i].want.header_8bit);
		assert_int_equal(seen.any_8bit, cases[i].want.any_8bit);
		assert_int_equal(seen.stuffed, cases[i].want.stuffed);
		j.content_bytes++;
		assert_int_not_equal(job_look(&j, &seen), ERR_OK);
		fd_close(&fd);
	}
}

static void too_many_is_told_from_full(void **state)
{
	static const struct {
		const char *reply;
		uint32_t accepted;
		enum verdict_kind kind;
		bool rest_is_settled;
	} cases[] = {
		{"452 4.5.3 too many\r\n", 0, VERDICT_LATER, true},
		{"552 5.5.3 too many\r\n", 0, VERDICT_LATER, true},
		{"452 Too Many Recipients\r\n", 0, VERDICT_LATER, true},
		{"552 error: too many recipients.\r\n", 1, VERDICT_LATER, true},
		{"452 enough\r\n", 1, VERDICT_LATER, true},
		{"452 disk full\r\n", 0, VERDICT_LATER, false},
		{"452 4.3.1 disk full\r\n", 1, VERDICT_LATER, false},
		{"552 full\r\n", 1, VERDICT_NEVER, false},
		{"552 5.2.2 too many recipients of your mail\r\n", 1, VERDICT_NEVER, false},
		{"450 4.5.3 too many recipients\r\n", 1, VERDICT_LATER, false},
	};
	struct job_pool pool;
	struct reply r;

	(void)state;
	job_pool_init(&pool);
	reply_init(&r);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t used = 0;
		struct job *j = job_new(&pool, 3);
		struct tx tx = {.job = j, .rcpts_sent = 2, .accepted = cases[i].accepted};

		reply_reset(&r);
		assert_int_equal(reply_feed(&r, slice_from_cstr(cases[i].reply), &used),
			ERR_OK);
		tx_on_rcpt(&tx, 1, &r);
		assert_int_equal(j->rcpts[1].state, RCPT_SETTLED);
		assert_int_equal(j->rcpts[1].outcome.kind, cases[i].kind);
		assert_int_equal(j->rcpts[2].state == RCPT_SETTLED, cases[i].rest_is_settled);
		assert_int_equal(tx.rcpts_over, cases[i].rest_is_settled);
		assert_int_equal(j->rcpts[0].state, RCPT_PENDING);
		job_free(&pool, &j);
	}
	reply_clear(&r);
	job_pool_clear(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_recipient_is_settled_once),
		cmocka_unit_test(the_largest_job_fits),
		cmocka_unit_test(looks_at_content),
		cmocka_unit_test(too_many_is_told_from_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
