/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intake_reference: what smtpd/intake.c must do with content, written to be plain and slow, in
 * two passes over the whole: first where each line ends and how, then what becomes of it.
 */
#ifndef TESTS_DIALOG_INTAKE_REFERENCE_H
#define TESTS_DIALOG_INTAKE_REFERENCE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/slice.h"

struct reference {
	bool has_end;
	size_t used; /* up to the end, with it */
	bool has_bare;
	bool has_nul;
	bool has_8bit;
	uint64_t size;
};

static inline void reference_put(struct buf *to, struct slice s)
{
	enum err e = buf_append(to, s);
	assert(e == ERR_OK);
}

/* Index behind the line that starts at i; *n is how many bytes its end has: 2, 1 (a lone CR or
 * LF), 0 (the input ends). */
static inline size_t reference_line(struct slice s, size_t i, size_t *n)
{
	for (; i < s.n; i++) {
		if (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n') {
			*n = 2;
			return i + 2;
		}
		if (s.p[i] == '\r' && i + 1 == s.n) {
			break; /* nobody knows yet */
		}
		if (s.p[i] == '\r' || s.p[i] == '\n') {
			*n = 1;
			return i + 1;
		}
	}
	*n = 0;
	return s.n;
}

/* Only for input whose end is there: without it the outcome depends on what follows. */
static inline struct reference reference_run(struct slice s, struct buf *out)
{
	struct reference r = {.has_end = false};
	bool behind_bare = false;
	size_t i = 0;

	while (i < s.n) {
		size_t ending = 0;
		size_t next = reference_line(s, i, &ending);
		struct slice line = {s.p + i, next - i - ending};
		bool is_dot = line.n == 1 && line.p[0] == '.';
		if (ending == 2 && is_dot && !behind_bare) {
			r.has_end = true;
			r.used = next;
			return r;
		}
		for (size_t k = i; k < next; k++) {
			r.has_nul = r.has_nul || s.p[k] == 0;
			r.has_8bit = r.has_8bit || s.p[k] >= 0x80;
		}
		bool is_doubled = line.n >= 2 && line.p[0] == '.' && line.p[1] == '.';
		uint64_t text = line.n;
		if (line.n != 0 && line.p[0] == '.') {
			if (is_doubled) {
				reference_put(out, line);
				text--;
			} else if (behind_bare || (is_dot && ending == 1)) {
				/* A dot that stands for itself. */
				reference_put(out, SLICE("."));
				reference_put(out, line);
			} else {
				reference_put(out, slice_skip(line, 1));
				text--;
			}
		} else {
			reference_put(out, line);
		}
		if (ending != 0) {
			reference_put(out, SLICE("\r\n"));
			text += 2;
		}
		r.size += text;
		r.has_bare = r.has_bare || ending == 1;
		behind_bare = ending == 1;
		i = next;
	}
	return r;
}

#endif
