/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/suppressor.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/db/filter.h"

/* Entries read into the filter before mail has its turn again. */
#define FILL_SLICE 2000u
#define FILL_AGAIN_MS 10000
#define CHANGE_ARENA_MAX ((size_t)16384)

struct change {
	struct list link;
	struct arena arena;
	struct suppress_change what;
	enum err result;
	suppressor_done *done; /* null: nobody waits */
	void *arg;
};

struct suppressor {
	struct suppress *list;
	struct journal_writer *journal;
	struct list changes;
	struct loop_flush flush;
	struct suppressor_counts counts;
	struct log_gate gate;

	struct filter *filter;
	struct loop_timer fill_timer;
	char filled_to[LIMIT_ADDRESS + 1];
};

/* ---- the filter ---- */

static enum err fill_slice(struct suppressor *s)
{
	struct suppress_entry entry;
	struct arena a;
	enum err e = ERR_OK;

	arena_init(&a, CHANGE_ARENA_MAX);
	for (unsigned i = 0; i < FILL_SLICE && e == ERR_OK; i++) {
		arena_reset(&a);
		e = suppress_next(s->list, slice_from_cstr(s->filled_to), &a, &entry);
		if (e == ERR_OK) {
			filter_add(s->filter, entry.address);
			e = str_copy(s->filled_to, sizeof(s->filled_to), entry.address);
		}
	}
	arena_clear(&a);
	return e;
}

static void on_fill(void *arg)
{
	struct suppressor *s = arg;
	enum err e = fill_slice(s);

	if (e == ERR_OK) {
		loop_timer_start(&s->fill_timer, 0);
	} else if (e == ERR_NOTFOUND) {
		filter_set_ready(s->filter);
		s->counts.filter_is_ready = true;
	} else {
		/* Not ready means "perhaps": every recipient is looked up in the list itself.
		 */
		log_error("event=filter_fill err=\"%s\"", err_str(e));
		loop_timer_start(&s->fill_timer, FILL_AGAIN_MS);
	}
}

enum err suppressor_share(struct suppressor *s, int fd)
{
	struct filter *filter = NULL;
	enum err e = filter_map(fd, true, &filter);

	if (e != ERR_OK) {
		return e;
	}
	filter_unmap(&s->filter);
	s->filter = filter;
	s->filled_to[0] = '\0';
	s->counts.filter_is_ready = false;
	loop_timer_start(&s->fill_timer, 0);
	return ERR_OK;
}

/* ---- changes ---- */

/* What somebody wanted weighs more than what a server says of the address. */
static void keep_reason(struct suppress_entry *entry, const struct suppress_entry *old)
{
	if (entry->reason != SUPPRESS_UNKNOWN_USER || old->reason == SUPPRESS_UNKNOWN_USER) {
		return;
	}
	entry->reason = old->reason;
	entry->stage = old->stage;
	entry->smtp_code = old->smtp_code;
	entry->text = old->text;
	entry->host = old->host;
	entry->queue_id = old->queue_id;
}

/* An entry that cannot be read is written anew: else every change of that address would fail
 * for ever, and with it what is changed in the same turn. */
static enum err put(struct suppressor *s, struct suppress_entry *entry)
{
	struct suppress_entry old;
	int64_t now_us = clock_wall_us();

	entry->first_us = now_us;
	entry->last_us = now_us;
	entry->count = 1;
	enum err e = suppress_find(s->list, entry->address, &old);
	if (e == ERR_OK) {
		entry->first_us = old.first_us;
		entry->count = old.count == UINT32_MAX ? old.count : old.count + 1;
		keep_reason(entry, &old);
	} else if (e != ERR_NOTFOUND && e != ERR_CORRUPT) {
		return e;
	}
	return suppress_put(s->list, entry);
}

static enum err make(struct suppressor *s, struct change *c)
{
	c->result = c->what.is_removal ? suppress_remove(s->list, c->what.entry.address)
				       : put(s, &c->what.entry);
	return c->result == ERR_NOTFOUND && c->what.is_removal ? ERR_OK : c->result;
}

static enum err make_all(struct suppressor *s)
{
	enum err e = ERR_OK;

	for (struct list *l = s->changes.next; l != &s->changes && e == ERR_OK; l = l->next) {
		struct change *c = CONTAINER_OF(l, struct change, link);
		if (!c->what.is_removal && s->filter != NULL) {
			filter_add(s->filter, c->what.entry.address);
		}
		e = make(s, c);
	}
	enum err committed = suppress_commit(s->list);
	return e != ERR_OK ? e : committed;
}

static void tell_journal(struct suppressor *s, const struct change *c)
{
	const struct suppress_entry *entry = &c->what.entry;
	const char *reason = suppress_reason_name((enum suppress_reason)entry->reason);
	struct event_suppress event = {.address = entry->address,
		.added = c->what.is_removal ? 0 : 1,
		.reason = c->what.is_removal ? SLICE_EMPTY : slice_from_cstr(reason),
		.evidence = entry->text,
		.qid = entry->queue_id,
		.host = entry->host,
		.operator_name = c->what.operator_name};

	journal_suppress(s->journal, clock_wall_us(), &event);
}

static void change_free(struct change *c)
{
	list_remove(&c->link);
	arena_clear(&c->arena);
	free(c);
}

static void on_flush(void *arg)
{
	struct suppressor *s = arg;
	struct list *l;
	enum err e;

	if (list_is_empty(&s->changes)) {
		return;
	}
	e = make_all(s);
	if (e != ERR_OK) {
		s->counts.failed++;
		if (log_may(&s->gate)) {
			log_error("event=suppress_commit err=\"%s\"", err_str(e));
		}
	}
	/* What is asked for meanwhile waits for the next turn's commit. */
	struct list told;
	list_init(&told);
	while ((l = list_first(&s->changes)) != NULL) {
		list_remove(l);
		list_append(&told, l);
	}
	while ((l = list_first(&told)) != NULL) {
		struct change *c = CONTAINER_OF(l, struct change, link);
		enum err result = e != ERR_OK ? e : c->result;
		if (result == ERR_OK) {
			s->counts.added += c->what.is_removal ? 0 : 1;
			s->counts.removed += c->what.is_removal ? 1 : 0;
			tell_journal(s, c);
		}
		if (c->done != NULL) {
			c->done(c->arg, result);
		}
		change_free(c);
	}
}

static struct slice keep(struct arena *a, struct slice s, size_t max)
{
	struct slice kept = SLICE_EMPTY;

	/* The arena is larger than all the maxima together. */
	return arena_copy(a, slice_head(s, max), &kept) ? kept : SLICE_EMPTY;
}

void suppressor_change(struct suppressor *s, const struct suppress_change *change,
	suppressor_done *done, void *arg)
{
	struct change *c = alloc_zero(1, sizeof(*c));

	arena_init(&c->arena, CHANGE_ARENA_MAX);
	c->what = *change;
	c->done = done;
	c->arg = arg;
	struct suppress_entry *entry = &c->what.entry;
	entry->address = keep(&c->arena, entry->address, LIMIT_ADDRESS);
	entry->text = keep(&c->arena, entry->text, LIMIT_REPLY_TEXT);
	entry->host = keep(&c->arena, entry->host, LIMIT_HOSTNAME);
	entry->queue_id = keep(&c->arena, entry->queue_id, LIMIT_QUEUE_ID);
	entry->tenant = keep(&c->arena, entry->tenant, LIMIT_TENANT);
	c->what.operator_name = keep(&c->arena, c->what.operator_name, LIMIT_NAME);
	list_append(&s->changes, &c->link);
	loop_flush_mark(&s->flush);
}

void suppressor_forget(struct suppressor *s, const void *arg)
{
	for (struct list *l = s->changes.next; l != &s->changes; l = l->next) {
		struct change *c = CONTAINER_OF(l, struct change, link);
		if (c->arg == arg) {
			c->done = NULL;
		}
	}
}

/* ---- life ---- */

struct suppressor *suppressor_new(struct loop *loop, struct suppress **list,
	struct journal_writer *journal)
{
	struct suppressor *s = alloc_zero(1, sizeof(*s));

	s->list = *list;
	*list = NULL;
	s->journal = journal;
	s->gate = (struct log_gate){.burst = 5, .period_s = 60};
	list_init(&s->changes);
	loop_flush_add(&s->flush, loop, on_flush, s);
	loop_timer_init(&s->fill_timer, loop, on_fill, s);
	return s;
}

void suppressor_free(struct suppressor **sp)
{
	struct suppressor *s = *sp;
	struct list *l;

	if (s == NULL) {
		return;
	}
	*sp = NULL;
	loop_timer_stop(&s->fill_timer);
	loop_flush_remove(&s->flush);
	while ((l = list_first(&s->changes)) != NULL) {
		change_free(CONTAINER_OF(l, struct change, link));
	}
	filter_unmap(&s->filter);
	suppress_close(&s->list);
	free(s);
}

struct suppressor_counts suppressor_counts(struct suppressor *s)
{
	s->counts.listed = suppress_count(s->list);
	return s->counts;
}
