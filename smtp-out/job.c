/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/job.h"

#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/io/fd.h"

#define POOL_KEEPS 4096u
/* The envelope, and a text for each recipient. */
#define ARENA_MAX                                                                              \
	((size_t)4096 + (size_t)JOB_RCPTS_MAX * (sizeof(struct job_rcpt) + LIMIT_ADDRESS +     \
							LIMIT_ORCPT + LIMIT_REPLY_TEXT + 64))

void job_pool_init(struct job_pool *p)
{
	list_init(&p->free);
	p->count = 0;
}

static void release(struct job *j)
{
	arena_clear(&j->arena);
	free(j);
}

void job_pool_clear(struct job_pool *p)
{
	struct list *entry;

	while ((entry = list_first(&p->free)) != NULL) {
		list_remove(entry);
		release(CONTAINER_OF(entry, struct job, slot));
	}
	p->count = 0;
}

struct job *job_new(struct job_pool *p, uint32_t rcpt_count)
{
	struct list *entry = list_first(&p->free);
	struct arena arena;
	struct job *j;

	assert(rcpt_count >= 1 && rcpt_count <= JOB_RCPTS_MAX);
	if (entry != NULL) {
		list_remove(entry);
		p->count--;
		j = CONTAINER_OF(entry, struct job, slot);
		arena = j->arena;
	} else {
		j = alloc_bytes(sizeof(*j));
		arena_init(&arena, ARENA_MAX);
	}
	*j = (struct job){.fd = -1, .arena = arena, .rcpt_count = rcpt_count};
	list_init(&j->slot);
	j->rcpts = arena_alloc(&j->arena, rcpt_count * sizeof(*j->rcpts));
	assert(j->rcpts != NULL);
	return j;
}

void job_free(struct job_pool *p, struct job **j)
{
	struct job *it = *j;

	if (it == NULL) {
		return;
	}
	*j = NULL;
	list_remove(&it->slot);
	if (p->count >= POOL_KEEPS) {
		release(it);
		return;
	}
	arena_reset(&it->arena);
	list_prepend(&p->free, &it->slot);
	p->count++;
}

struct slice job_copy(struct job *j, struct slice s)
{
	struct slice kept = SLICE_EMPTY;
	bool fits = s.n == 0 || arena_copy(&j->arena, s, &kept);

	assert(fits);
	return kept;
}

/* text is in the arena already. */
static void settle_kept(struct job *j, uint32_t rcpt, const struct outcome *o,
	struct slice text)
{
	struct job_rcpt *r = &j->rcpts[rcpt];

	if (r->state == RCPT_SETTLED) {
		return;
	}
	r->state = RCPT_SETTLED;
	r->outcome = *o;
	r->outcome.text = text;
}

void job_settle(struct job *j, uint32_t rcpt, const struct outcome *o)
{
	assert(rcpt < j->rcpt_count);
	if (j->rcpts[rcpt].state != RCPT_SETTLED) {
		settle_kept(j, rcpt, o, outcome_keep_text(&j->arena, o->text));
	}
}

void job_settle_rest(struct job *j, const struct outcome *o)
{
	struct slice text = SLICE_EMPTY;
	bool is_kept = false;

	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].state == RCPT_SETTLED) {
			continue;
		}
		if (!is_kept) {
			text = outcome_keep_text(&j->arena, o->text);
			is_kept = true;
		}
		settle_kept(j, i, o, text);
	}
}

void job_unsettle(struct job *j)
{
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		j->rcpts[i].state = RCPT_PENDING;
		j->rcpts[i].outcome = (struct outcome){0};
	}
}

void job_restart(struct job *j)
{
	job_unsettle(j);
	j->began_ms = 0;
}

/* The header ends with an empty line. */
struct look {
	struct job_content seen;
	size_t column; /* in the current line */
	bool in_body;
};

static void look_at(struct look *l, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c >= 0x80) {
			l->seen.any_8bit = true;
			l->seen.header_8bit = l->seen.header_8bit || !l->in_body;
		}
		if (c == '\n') {
			l->in_body = l->in_body || l->column == 0;
			l->column = 0;
		} else if (c != '\r') {
			l->seen.stuffed += l->column == 0 && c == '.' ? 1 : 0;
			l->column++;
		}
	}
}

static enum err look_at_range(const struct job *j, struct look *l, uint64_t at, uint64_t n)
{
	uint8_t some[16384];

	while (n > 0) {
		size_t part = n < sizeof(some) ? (size_t)n : sizeof(some);
		enum err e = fd_pread_all(j->fd, some, part, (off_t)at);

		if (e != ERR_OK) {
			return e;
		}
		look_at(l, slice_make(some, part));
		at += part;
		n -= part;
	}
	return ERR_OK;
}

enum err job_look(const struct job *j, struct job_content *out)
{
	struct look l = {.in_body = false};
	enum err e = look_at_range(j, &l, j->head_at, j->head_bytes);

	if (e == ERR_OK) {
		e = look_at_range(j, &l, j->content_at, j->content_bytes);
	}
	if (e == ERR_OK) {
		*out = l.seen;
	}
	return e;
}
