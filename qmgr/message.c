/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/message.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/arena.h"

/* A payload up to this size is checked whole before it is sent after having lain on disk. */
#define CHECK_MAX (4u * 1024 * 1024)
#define ENVELOPE_ARENA_MAX (512u * 1024 * 1024)

static struct slice keep(char **at, struct slice s)
{
	struct slice kept = {(const uint8_t *)*at, s.n};

	if (s.n > 0) {
		memcpy(*at, s.p, s.n);
		*at += s.n;
	}
	return kept;
}

struct message *message_new(struct store_segment *seg, const struct segment_record *r,
	const struct envelope *e)
{
	size_t texts = e->sender.n + e->envid.n + e->tenant.n;

	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		texts += e->rcpts[i].address.n + e->rcpts[i].orcpt.n;
	}
	struct message *m =
		alloc_bytes(sizeof(*m) + e->rcpt_count * sizeof(m->rcpts[0]) + texts);
	char *at = (char *)&m->rcpts[e->rcpt_count];

	m->segment = seg;
	m->refs = 1;
	m->first_slot = r->first_slot;
	m->head_at = r->head_at;
	m->head_bytes = r->head_bytes;
	m->content_at = r->content_at;
	m->content_bytes = r->content_bytes;
	m->flags = r->flags;
	m->accepted_us = r->accepted_us;
	m->deadline_s = e->deadline_s;
	m->ret = e->ret;
	m->stream_class = e->stream_class;
	m->priority = e->priority;
	memcpy(m->queue_id, r->queue_id, sizeof(m->queue_id));
	m->sender = keep(&at, e->sender);
	m->envid = keep(&at, e->envid);
	m->tenant = keep(&at, e->tenant);
	m->rcpt_count = e->rcpt_count;
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		m->rcpts[i].address = keep(&at, e->rcpts[i].address);
		m->rcpts[i].orcpt = keep(&at, e->rcpts[i].orcpt);
		m->rcpts[i].notify = e->rcpts[i].notify;
	}
	store_pin(seg);
	return m;
}

enum err message_load(struct store *s, struct store_segment *seg, const struct record_ref *ref,
	struct message **out)
{
	struct segment_record r;
	struct envelope env;
	struct arena a;
	int fd = store_fd(s, seg);
	enum err e;

	arena_init(&a, ENVELOPE_ARENA_MAX);
	if (fd < 0) {
		e = err_from_errno();
		goto out;
	}
	e = segment_read_record(fd, &seg->info, ref->offset, &r);
	if (e == ERR_OK &&
		(r.first_slot != ref->first_slot || r.rcpt_count != ref->rcpt_count)) {
		e = ERR_CORRUPT;
	}
	if (e == ERR_OK) {
		e = segment_read_envelope(fd, &r, r.length <= CHECK_MAX, &a, &env);
	}
	if (e == ERR_OK && env.rcpt_count != r.rcpt_count) {
		e = ERR_CORRUPT;
	}
	if (e == ERR_OK) {
		*out = message_new(seg, &r, &env);
	}
out:
	arena_clear(&a);
	return e;
}

enum err message_recall(struct store *s, struct message **recent, struct store_segment *seg,
	const struct record_ref *ref, struct message **out)
{
	struct message *m = *recent;
	enum err e;

	if (m == NULL || m->segment != seg || m->first_slot != ref->first_slot) {
		message_unref(s, recent);
		e = message_load(s, seg, ref, &m);
		if (e != ERR_OK) {
			return e;
		}
		*recent = m;
	}
	message_ref(m);
	*out = m;
	return ERR_OK;
}

void message_ref(struct message *m)
{
	m->refs++;
}

void message_unref(struct store *s, struct message **m)
{
	struct message *gone = *m;

	*m = NULL;
	if (gone != NULL && --gone->refs == 0) {
		store_unpin(s, gone->segment);
		free(gone);
	}
}
