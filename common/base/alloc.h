/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc: memory, or the end of the process.
 *
 * Every size that a peer influences has passed a stated maximum before it comes
 * here, so running out means that the machine is in trouble: the process logs one
 * line and ends with status 71 (EX_OSERR), the master starts another, and the queue
 * is durable. No caller has an out-of-memory path.
 */
#ifndef COMMON_BASE_ALLOC_H
#define COMMON_BASE_ALLOC_H

#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/slice.h"

void *alloc_bytes(size_t n) RETURNS_NONNULL;                 /* not cleared; n may be 0 */
void *alloc_zero(size_t count, size_t size) RETURNS_NONNULL; /* cleared; checks the product */
void *alloc_resize(void *p, size_t count, size_t size) RETURNS_NONNULL;
char *alloc_cstr(const char *text) RETURNS_NONNULL;
/* A terminated copy; who cares about a NUL in it has looked before. */
char *alloc_slice(struct slice s) RETURNS_NONNULL;
/* free() for any pointer variable; nulls it. */
#define ALLOC_FREE(pointer) (free(pointer), (pointer) = NULL)

#endif
