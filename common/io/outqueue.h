/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outqueue: bytes and file ranges that wait to be sent, in order.
 *
 * Small writes gather in one piece of memory. A small file range is read when it is
 * queued, so that it leaves together with the bytes around it; a large one stays a
 * range. What the queue holds is the caller's to bound.
 */
#ifndef COMMON_IO_OUTQUEUE_H
#define COMMON_IO_OUTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* A file range up to this size is copied. */
#define OUTQUEUE_COPY_MAX 32768u

struct outpiece {
	struct outpiece *next;
	int fd;     /* -1: bytes */
	off_t at;   /* file: where the range starts */
	uint64_t n; /* what is left: of the range, or of the bytes */
	size_t start;
	size_t cap;
	uint8_t bytes[];
};

struct outqueue {
	struct outpiece *head;
	struct outpiece *tail;
	uint64_t n; /* bytes of all pieces */
};

void outqueue_init(struct outqueue *q);
void outqueue_clear(struct outqueue *q);
void outqueue_put(struct outqueue *q, struct slice bytes);
/* The errors of reading: ERR_CORRUPT when the file is too short, ERR_SYS and its kin. */
MUST_CHECK enum err outqueue_put_file(struct outqueue *q, int fd, off_t at, uint64_t n);
/* Copies up to max bytes from the front without taking them; errors as above. */
MUST_CHECK enum err outqueue_peek(const struct outqueue *q, uint8_t *to, size_t max,
	size_t *got);
/* Drops the first n bytes; n is at most q->n. */
void outqueue_take(struct outqueue *q, uint64_t n);

/* The bytes of a piece that is not a file range. */
static inline struct slice outpiece_view(const struct outpiece *p)
{
	return (struct slice){p->bytes + p->start, (size_t)p->n};
}

#endif
