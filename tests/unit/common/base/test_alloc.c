/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"

/* The sanitizers' own allocator would end the process in its own way. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void gives_memory_that_can_be_written(void **state)
{
	(void)state;
	char *p = alloc_bytes(10);
	memset(p, 'x', 10);
	p = alloc_resize(p, 20, 2);
	assert_memory_equal(p, "xxxxxxxxxx", 10);
	ALLOC_FREE(p);
	assert_null(p);
	ALLOC_FREE(p);
}

static void gives_something_for_nothing(void **state)
{
	(void)state;
	void *a = alloc_bytes(0);
	void *b = alloc_zero(0, 8);
	void *c = alloc_resize(NULL, 0, 0);
	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
	ALLOC_FREE(a);
	ALLOC_FREE(b);
	ALLOC_FREE(c);
}

static void clears_what_was_asked_to_be_clear(void **state)
{
	(void)state;
	unsigned char *p = alloc_zero(100, 3);
	for (size_t i = 0; i < 300; i++) {
		assert_int_equal(p[i], 0);
	}
	ALLOC_FREE(p);
}

static void copies_a_text_with_its_end(void **state)
{
	(void)state;
	char *p = alloc_cstr("relay");
	assert_string_equal(p, "relay");
	ALLOC_FREE(p);
	p = alloc_cstr("");
	assert_string_equal(p, "");
	ALLOC_FREE(p);
}

static int status_of(void (*run)(void))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(STDERR_FILENO);
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Larger than any address space; through a variable, or the compiler warns of it. */
static volatile size_t too_much = SIZE_MAX / 4;

static void ask_for_too_much(void)
{
	(void)alloc_bytes(too_much);
}

static void ask_for_too_many(void)
{
	(void)alloc_zero(too_much, 1);
}

static void ask_for_a_product_that_wraps(void)
{
	(void)alloc_zero(too_much, 5);
}

static void resize_to_a_product_that_wraps(void)
{
	(void)alloc_resize(NULL, too_much, 5);
}

static void ends_the_process_when_memory_is_gone(void **state)
{
	(void)state;
	assert_int_equal(status_of(ask_for_too_much), 71);
	assert_int_equal(status_of(ask_for_too_many), 71);
	assert_int_equal(status_of(ask_for_a_product_that_wraps), 71);
	assert_int_equal(status_of(resize_to_a_product_that_wraps), 71);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_memory_that_can_be_written),
		cmocka_unit_test(gives_something_for_nothing),
		cmocka_unit_test(clears_what_was_asked_to_be_clear),
		cmocka_unit_test(copies_a_text_with_its_end),
		cmocka_unit_test(ends_the_process_when_memory_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
