/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/fd.h"
#include "common/io/outqueue.h"

#define PIECE_LEAST ((size_t)960)
/* Room behind a file range that was read, for the end of the message and the next command. */
#define PIECE_SPARE ((size_t)512)

void outqueue_init(struct outqueue *q)
{
	*q = (struct outqueue){.head = NULL, .tail = NULL, .n = 0};
}

void outqueue_clear(struct outqueue *q)
{
	while (q->head != NULL) {
		struct outpiece *p = q->head;
		q->head = p->next;
		free(p);
	}
	outqueue_init(q);
}

static struct outpiece *append_piece(struct outqueue *q, size_t cap)
{
	struct outpiece *p = alloc_bytes(sizeof(*p) + cap);

	p->next = NULL;
	p->fd = -1;
	p->at = 0;
	p->n = 0;
	p->start = 0;
	p->cap = cap;
	if (q->tail == NULL) {
		q->head = p;
	} else {
		q->tail->next = p;
	}
	q->tail = p;
	return p;
}

static size_t room(const struct outpiece *p)
{
	return p == NULL || p->fd >= 0 ? 0 : p->cap - p->start - (size_t)p->n;
}

void outqueue_put(struct outqueue *q, struct slice bytes)
{
	size_t fits = room(q->tail);

	fits = bytes.n < fits ? bytes.n : fits;
	if (fits != 0) {
		memcpy(q->tail->bytes + q->tail->start + q->tail->n, bytes.p, fits);
		q->tail->n += fits;
		q->n += fits;
		bytes = slice_skip(bytes, fits);
	}
	if (bytes.n != 0) {
		struct outpiece *p =
			append_piece(q, bytes.n > PIECE_LEAST ? bytes.n : PIECE_LEAST);
		memcpy(p->bytes, bytes.p, bytes.n);
		p->n = bytes.n;
		q->n += bytes.n;
	}
}

static enum err put_copy(struct outqueue *q, int fd, off_t at, size_t n)
{
	struct outpiece *p = q->tail;

	if (room(p) < n) {
		p = append_piece(q, n + PIECE_SPARE);
	}
	enum err e = fd_pread_all(fd, p->bytes + p->start + p->n, n, at);
	if (e == ERR_OK) {
		p->n += n;
		q->n += n;
	}
	return e; /* an empty piece may stay behind: whoever sends skips it */
}

enum err outqueue_put_file(struct outqueue *q, int fd, off_t at, uint64_t n)
{
	if (n == 0) {
		return ERR_OK;
	}
	if (n <= OUTQUEUE_COPY_MAX) {
		return put_copy(q, fd, at, (size_t)n);
	}
	struct outpiece *p = append_piece(q, 0);
	p->fd = fd;
	p->at = at;
	p->n = n;
	q->n += n;
	return ERR_OK;
}

enum err outqueue_peek(const struct outqueue *q, uint8_t *to, size_t max, size_t *got)
{
	size_t have = 0;

	for (const struct outpiece *p = q->head; p != NULL && have < max; p = p->next) {
		size_t n = p->n < max - have ? (size_t)p->n : max - have;
		if (p->fd < 0) {
			memcpy(to + have, p->bytes + p->start, n);
		} else {
			enum err e = fd_pread_all(p->fd, to + have, n, p->at);
			if (e != ERR_OK) {
				return e;
			}
		}
		have += n;
	}
	*got = have;
	return ERR_OK;
}

void outqueue_take(struct outqueue *q, uint64_t n)
{
	assert(n <= q->n);
	q->n -= n;
	while (q->head != NULL) {
		struct outpiece *p = q->head;
		uint64_t some = n < p->n ? n : p->n;
		p->n -= some;
		n -= some;
		if (p->fd >= 0) {
			p->at += (off_t)some;
		} else {
			p->start += (size_t)some;
		}
		if (p->n != 0) {
			return;
		}
		q->head = p->next;
		if (q->head == NULL) {
			q->tail = NULL;
		}
		free(p);
	}
}
