/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/str.h"
#include "common/db/filter.h"

static struct filter *writer;
static struct filter *reader;

static int set_up(void **state)
{
	int fd = -1;

	(void)state;
	assert_int_equal(filter_create(&fd), ERR_OK);
	assert_int_equal(filter_map(fd, true, &writer), ERR_OK);
	assert_int_equal(filter_map(fd, false, &reader), ERR_OK);
	close(fd);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	filter_unmap(&writer);
	filter_unmap(&reader);
	filter_unmap(&reader);
	assert_null(reader);
	return 0;
}

static void says_perhaps_until_it_is_ready(void **state)
{
	(void)state;
	assert_true(filter_may_have(reader, SLICE("a@example.net")));
	filter_set_ready(writer);
	assert_false(filter_may_have(reader, SLICE("a@example.net")));
	assert_false(filter_may_have(reader, SLICE_EMPTY));
}

static void never_denies_what_was_added_in_any_case(void **state)
{
	(void)state;
	filter_set_ready(writer);
	filter_add(writer, SLICE("User@Example.NET"));
	assert_true(filter_may_have(reader, SLICE("User@Example.NET")));
	assert_true(filter_may_have(reader, SLICE("user@example.net")));
	assert_true(filter_may_have(writer, SLICE("USER@EXAMPLE.NET")));
	assert_false(filter_may_have(reader, SLICE("user@example.ne")));
}

static void seldom_takes_a_stranger_for_one_of_many(void **state)
{
	char address[64];
	unsigned wrong = 0;

	(void)state;
	filter_set_ready(writer);
	for (unsigned i = 0; i < 200000; i++) {
		assert_int_equal(str_format(address, sizeof(address), "user%u@example.net", i),
			ERR_OK);
		filter_add(writer, slice_from_cstr(address));
	}
	for (unsigned i = 0; i < 200000; i++) {
		assert_int_equal(str_format(address, sizeof(address), "user%u@example.net", i),
			ERR_OK);
		assert_true(filter_may_have(reader, slice_from_cstr(address)));
		assert_int_equal(str_format(address, sizeof(address), "user%u@example.com", i),
			ERR_OK);
		wrong += filter_may_have(reader, slice_from_cstr(address)) ? 1 : 0;
	}
	assert_true(wrong < 20);
}

static void cannot_be_resized_and_refuses_another_size(void **state)
{
	struct filter *f = NULL;
	int fd = -1;

	(void)state;
	assert_int_equal(filter_create(&fd), ERR_OK);
	assert_int_equal(ftruncate(fd, 1), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 2 * (off_t)FILTER_BYTES), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	close(fd);
	fd = memfd_create("other", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, FILTER_BYTES - 1), 0);
	assert_int_equal(filter_map(fd, false, &f), ERR_CORRUPT);
	assert_null(f);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(says_perhaps_until_it_is_ready, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(never_denies_what_was_added_in_any_case, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(seldom_takes_a_stranger_for_one_of_many, set_up,
			tear_down),
		cmocka_unit_test(cannot_be_resized_and_refuses_another_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
