/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"

static NORETURN void out_of_memory(size_t n)
{
	/* No exit handlers: they might allocate, and whatever they would save is durable. */
	log_error("event=out_of_memory bytes=%zu", n);
	_exit(EX_OSERR);
}

void *alloc_bytes(size_t n)
{
	void *p = malloc(n == 0 ? 1 : n);

	if (p == NULL) {
		out_of_memory(n);
	}
	return p;
}

void *alloc_zero(size_t count, size_t size)
{
	void *p = count == 0 || size == 0 ? calloc(1, 1) : calloc(count, size);

	if (p == NULL) {
		out_of_memory(size);
	}
	return p;
}

void *alloc_resize(void *p, size_t count, size_t size)
{
	size_t n = 0;

	if (__builtin_mul_overflow(count, size, &n)) {
		out_of_memory(SIZE_MAX);
	}
	void *q = realloc(p, n == 0 ? 1 : n);
	if (q == NULL) {
		out_of_memory(n);
	}
	return q;
}

char *alloc_cstr(const char *text)
{
	size_t n = strlen(text) + 1;
	char *copy = alloc_bytes(n);

	memcpy(copy, text, n);
	return copy;
}

char *alloc_slice(struct slice s)
{
	char *copy = alloc_bytes(s.n + 1);

	if (s.n != 0) {
		memcpy(copy, s.p, s.n);
	}
	copy[s.n] = '\0';
	return copy;
}
