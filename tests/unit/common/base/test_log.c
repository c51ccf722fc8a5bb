/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"

/* What was written to descriptor 2 between begin() and taken(). */
static struct {
	int saved;
	int pipe[2];
	char text[70000];
} capture;

static void begin(void)
{
	assert_int_equal(pipe(capture.pipe), 0);
	capture.saved = dup(STDERR_FILENO);
	assert_true(capture.saved >= 0);
	assert_true(dup2(capture.pipe[1], STDERR_FILENO) >= 0);
	clock_hold(INT64_C(1767323045123456), 0);
}

static const char *taken(void)
{
	size_t n = 0;

	clock_release();
	assert_true(dup2(capture.saved, STDERR_FILENO) >= 0);
	(void)close(capture.saved);
	(void)close(capture.pipe[1]);
	for (;;) {
		ssize_t got =
			read(capture.pipe[0], capture.text + n, sizeof(capture.text) - n - 1);
		assert_true(got >= 0);
		if (got == 0) {
			break;
		}
		n += (size_t)got;
	}
	(void)close(capture.pipe[0]);
	capture.text[n] = 0;
	return capture.text;
}

static void writes_time_program_process_and_level(void **state)
{
	char want[200];

	(void)state;
	log_open("smtpd");
	begin();
	errno = ENOSPC;
	log_info("event=%s n=%d", "ready", 3);
	assert_int_equal(errno, ENOSPC);
	(void)snprintf(want, sizeof(want),
		"2026-01-02T03:04:05.123Z smtpd[%ld]: info: event=ready n=3\n", (long)getpid());
	assert_string_equal(taken(), want);
}

static void writes_what_its_level_admits(void **state)
{
	static const struct {
		enum log_level level;
		int lines;
	} cases[] = {
		{LOG_LEVEL_ERROR, 1},
		{LOG_LEVEL_WARN, 2},
		{LOG_LEVEL_INFO, 3},
		{LOG_LEVEL_DEBUG, 4},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		log_set_level(cases[i].level);
		begin();
		log_error("a");
		log_warn("b");
		log_info("c");
		log_debug("d");
		const char *text = taken();
		int lines = 0;
		for (; *text != 0; text++) {
			lines += *text == '\n';
		}
		assert_int_equal(lines, cases[i].lines);
	}
	log_set_level(LOG_LEVEL_INFO);
}

static void writes_one_line_whatever_the_text(void **state)
{
	char text[9000];

	(void)state;
	begin();
	log_error("a\nb\rc\x1b[2J\x7f");
	const char *line = taken();
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	assert_non_null(strstr(line, ": a b c [2J \n"));

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	begin();
	log_error("%s", text);
	line = taken();
	assert_int_equal(strlen(line), 4096);
	assert_ptr_equal(strchr(line, '\n'), line + 4095);
}

static void survives_a_log_that_nobody_reads(void **state)
{
	(void)state;
	begin();
	int copy = dup(STDERR_FILENO);
	assert_true(copy >= 0);
	(void)close(STDERR_FILENO);
	log_error("lost");
	assert_true(dup2(copy, STDERR_FILENO) >= 0);
	(void)close(copy);
	assert_string_equal(taken(), "");
}

static void escapes_text_from_outside(void **state)
{
	uint8_t bytes[300];
	struct log_text t;

	(void)state;
	assert_string_equal(log_text(&t, SLICE("plain <a@b.example>")),
		"\"plain <a@b.example>\"");
	assert_string_equal(log_text(&t, SLICE_EMPTY), "\"\"");
	assert_string_equal(log_text(&t, SLICE("a\"b\\c\r\n\0\xff\x7f")),
		"\"a\\\"b\\\\c\\x0d\\x0a\\x00\\xff\\x7f\"");
	memset(bytes, 0xee, sizeof(bytes));
	log_text(&t, slice_make(bytes, 200));
	assert_int_equal(strlen(t.s), 802);
	log_text(&t, slice_make(bytes, 201));
	assert_int_equal(strlen(t.s), 805);
	assert_string_equal(t.s + 797, "\\xee\"...");
	assert_string_equal(LOG_TEXT(SLICE("x")), "\"x\"");
}

static void holds_back_what_comes_too_often(void **state)
{
	struct log_gate gate = {.burst = 2, .period_s = 10};

	(void)state;
	clock_hold(0, 1000000);
	assert_true(log_may(&gate));
	clock_advance_ms(5000);
	assert_true(log_may(&gate));
	assert_false(log_may(&gate));
	assert_false(log_may(&gate));
	assert_int_equal(gate.held, 2);
	clock_advance_ms(4999);
	assert_false(log_may(&gate));
	clock_advance_ms(1);
	assert_true(log_may(&gate));
	assert_true(log_may(&gate));
	assert_false(log_may(&gate));
	assert_int_equal(gate.held, 4);
	clock_release();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_time_program_process_and_level),
		cmocka_unit_test(writes_what_its_level_admits),
		cmocka_unit_test(writes_one_line_whatever_the_text),
		cmocka_unit_test(survives_a_log_that_nobody_reads),
		cmocka_unit_test(escapes_text_from_outside),
		cmocka_unit_test(holds_back_what_comes_too_often),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
