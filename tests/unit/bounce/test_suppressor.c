/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lmdb.h>

#include "bounce/suppressor.h"
#include "common/base/attr.h"
#include "tests/support/lib/scratch.h"

struct world {
	struct scratch scratch;
	struct loop *loop;
	struct journal_writer *journal;
	struct suppressor *suppressor;
};

struct answer {
	unsigned count;
	enum err result;
};

static void on_done(void *arg, enum err e)
{
	struct answer *a = arg;

	a->count++;
	a->result = e;
}

static void begin(struct world *w)
{
	struct suppress *list = NULL;

	assert_int_equal(loop_new(&w->loop), ERR_OK);
	assert_int_equal(
		journal_writer_new(w->loop, w->scratch.dir, "bounce", 0, 0, 0, &w->journal),
		ERR_OK);
	assert_int_equal(suppress_open(w->scratch.path, true, &list), ERR_OK);
	w->suppressor = suppressor_new(w->loop, &list, w->journal);
}

static void end(struct world *w)
{
	suppressor_free(&w->suppressor);
	journal_writer_free(&w->journal);
	loop_free(&w->loop);
}

static void change(struct world *w, const char *address, enum suppress_reason reason,
	const char *text, struct answer *to)
{
	struct suppress_change c = {.entry = {.address = slice_from_cstr(address),
					    .reason = (uint8_t)reason,
					    .smtp_code = reason == SUPPRESS_MANUAL ? 0 : 550,
					    .text = slice_from_cstr(text)}};

	suppressor_change(w->suppressor, &c, on_done, to);
}

/* What stands in the list on the disk; LMDB wants one opening a process. */
static void assert_listed(struct world *w, const char *address, enum suppress_reason reason,
	const char *text, uint32_t count)
{
	struct suppress *list = NULL;
	struct suppress_entry e;

	assert_int_equal(suppress_open(w->scratch.path, false, &list), ERR_OK);
	assert_int_equal(suppress_find(list, slice_from_cstr(address), &e), ERR_OK);
	assert_int_equal(e.reason, reason);
	assert_true(slice_eq(e.text, slice_from_cstr(text)));
	assert_int_equal(e.count, count);
	suppress_read_end(list);
	suppress_close(&list);
}

/* An entry as damage, or a later version, may leave it. */
static void put_nonsense(struct world *w, const char *address)
{
	char bytes[] = "\x07nonsense";
	MDB_val value = {.mv_size = sizeof(bytes), .mv_data = bytes};
	char name[64];
	MDB_env *env = NULL;
	MDB_txn *txn = NULL;
	MDB_dbi list;
	size_t n = strlen(address);

	memcpy(name, address, n);
	MDB_val key = {.mv_size = n, .mv_data = name};
	assert_int_equal(mdb_env_create(&env), MDB_SUCCESS);
	assert_int_equal(mdb_env_open(env, w->scratch.path, 0, 0600), MDB_SUCCESS);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), MDB_SUCCESS);
	assert_int_equal(mdb_dbi_open(txn, NULL, 0, &list), MDB_SUCCESS);
	assert_int_equal(mdb_put(txn, list, &key, &value, 0), MDB_SUCCESS);
	assert_int_equal(mdb_txn_commit(txn), MDB_SUCCESS);
	mdb_env_close(env);
}

static void an_entry_that_cannot_be_read_is_written_anew(void **state)
{
	struct world w;
	struct answer first = {0};
	struct answer second = {0};

	(void)state;
	scratch_make(&w.scratch);
	put_nonsense(&w, "gone@example.net");
	begin(&w);
	change(&w, "other@example.net", SUPPRESS_UNKNOWN_USER, "no such user", &first);
	change(&w, "Gone@example.net", SUPPRESS_UNKNOWN_USER, "no such user", &second);
	loop_turn(w.loop, false);
	assert_int_equal(first.count, 1);
	assert_int_equal(first.result, ERR_OK);
	assert_int_equal(second.count, 1);
	assert_int_equal(second.result, ERR_OK);
	end(&w);
	assert_listed(&w, "gone@example.net", SUPPRESS_UNKNOWN_USER, "no such user", 1);
	assert_listed(&w, "other@example.net", SUPPRESS_UNKNOWN_USER, "no such user", 1);
	scratch_remove(&w.scratch);
}

static void what_somebody_wanted_outweighs_what_a_server_says(void **state)
{
	struct world w;
	struct answer a = {0};

	(void)state;
	scratch_make(&w.scratch);
	begin(&w);
	change(&w, "x@example.net", SUPPRESS_UNKNOWN_USER, "gone", &a);
	loop_turn(w.loop, false);
	change(&w, "x@example.net", SUPPRESS_MANUAL, "asked by phone", &a);
	loop_turn(w.loop, false);
	end(&w);
	assert_listed(&w, "x@example.net", SUPPRESS_MANUAL, "asked by phone", 2);
	begin(&w);
	change(&w, "x@example.net", SUPPRESS_UNKNOWN_USER, "gone", &a);
	loop_turn(w.loop, false);
	assert_int_equal(a.count, 3);
	assert_int_equal(a.result, ERR_OK);
	end(&w);
	assert_listed(&w, "x@example.net", SUPPRESS_MANUAL, "asked by phone", 3);
	scratch_remove(&w.scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_that_cannot_be_read_is_written_anew),
		cmocka_unit_test(what_somebody_wanted_outweighs_what_a_server_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
