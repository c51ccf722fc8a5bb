/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/book.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/messages.h"

/* A queue file that jobs name. */
struct segment {
	struct hash_id_link by_id;
	int fd;
	uint32_t jobs;
	bool is_dropped; /* closed with its last job */
};

void book_init(struct book *b, struct office *office)
{
	*b = (struct book){.office = office};
	hash_id_table_init(&b->segments);
	hash_id_table_init(&b->sites);
	hash_id_table_init(&b->jobs);
	job_pool_init(&b->pool);
}

void book_clear(struct book *b)
{
	hash_id_table_clear(&b->segments);
	hash_id_table_clear(&b->sites);
	hash_id_table_clear(&b->jobs);
	job_pool_clear(&b->pool);
}

static struct site *site_find(const struct book *b, uint64_t id)
{
	struct hash_id_link *link = hash_id_table_find(&b->sites, id);

	return link == NULL ? NULL : CONTAINER_OF(link, struct site, by_id);
}

static struct segment *segment_find(const struct book *b, uint64_t id)
{
	struct hash_id_link *link = hash_id_table_find(&b->segments, id);

	return link == NULL ? NULL : CONTAINER_OF(link, struct segment, by_id);
}

static struct job *job_find(const struct book *b, uint64_t id)
{
	struct hash_id_link *link = hash_id_table_find(&b->jobs, id);

	return link == NULL ? NULL : CONTAINER_OF(link, struct job, by_id);
}

static void segment_free(struct book *b, struct segment *g)
{
	hash_id_table_remove(&b->segments, &g->by_id);
	fd_close(&g->fd);
	free(g);
}

static void site_forget(struct book *b, struct site *s)
{
	hash_id_table_remove(&b->sites, &s->by_id);
	site_free(&s);
}

void book_end_job(struct book *b, struct job **j)
{
	struct segment *g = (*j)->segment;

	hash_id_table_remove(&b->jobs, &(*j)->by_id);
	job_free(&b->pool, j);
	g->jobs--;
	if (g->jobs == 0 && g->is_dropped) {
		segment_free(b, g);
	}
}

static void unbegun(struct book *b, struct job *j)
{
	b->office->reports->on_unbegun(b->office->arg, j);
}

/* ---- messages ---- */

static void draft_end(struct book *b)
{
	site_update(b->draft.site, b->draft.max_connections, &b->draft.servers, b->draft.count);
	b->draft = (struct site_draft){0};
}

static enum err on_site(struct book *b, struct slice body, int *fd)
{
	struct msg_site m;
	enum err e = msg_site_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || b->draft.site != NULL || b->incoming != NULL) {
		return ERR_PROTO;
	}
	struct site *s = site_find(b, m.site);
	if (s == NULL) {
		s = site_new(b->office, m.site);
		hash_id_table_insert(&b->sites, &s->by_id, m.site);
	}
	b->draft = (struct site_draft){.site = s,
		.servers = alloc_zero(m.addr_count, sizeof(*b->draft.servers)),
		.max_connections = m.max_connections,
		.count = m.addr_count};
	if (m.addr_count == 0) {
		draft_end(b);
	}
	return ERR_OK;
}

static enum err on_site_addr(struct book *b, struct slice body, int *fd)
{
	struct msg_site_addr m;
	enum err e = msg_site_addr_decode(body, &m);
	struct site_draft *draft = &b->draft;

	(void)fd;
	if (e != ERR_OK || draft->site == NULL || draft->site->id != m.site ||
		(m.family == 4 ? m.addr.n != 4 : m.family != 6 || m.addr.n != 16)) {
		return ERR_PROTO;
	}
	struct site_server *server = &draft->servers[draft->got];
	server->to.family = m.family;
	memcpy(server->to.addr, m.addr.p, m.addr.n);
	server->to.port = m.port;
	server->preference = m.preference;
	server->level = (enum tls_level)m.tls_level;
	if (str_copy(server->host, sizeof(server->host), m.host) != ERR_OK) {
		return ERR_PROTO;
	}
	draft->got++;
	if (draft->got == draft->count) {
		draft_end(b);
	}
	return ERR_OK;
}

static enum err on_site_drop(struct book *b, struct slice body, int *fd)
{
	struct msg_site_drop m;
	enum err e = msg_site_drop_decode(body, &m);
	struct site *s = e == ERR_OK ? site_find(b, m.site) : NULL;

	(void)fd;
	if (s == NULL || s == b->draft.site ||
		(b->incoming != NULL && b->incoming->site == s) || s->waiting > 0 ||
		s->running > 0) {
		return ERR_PROTO; /* job_done comes first */
	}
	site_quiet(s);
	site_forget(b, s);
	return ERR_OK;
}

static enum err on_segment(struct book *b, struct slice body, int *fd)
{
	struct msg_segment m;
	enum err e = msg_segment_decode(body, &m);

	if (e != ERR_OK || *fd < 0) {
		return ERR_PROTO;
	}
	struct segment *g = segment_find(b, m.segment);
	if (g != NULL) {
		/* Dropped, and named again before its last job ended: the same file. */
		g->is_dropped = false;
		return ERR_OK;
	}
	g = alloc_zero(1, sizeof(*g));
	g->fd = *fd;
	*fd = -1;
	hash_id_table_insert(&b->segments, &g->by_id, m.segment);
	return ERR_OK;
}

static enum err on_segment_drop(struct book *b, struct slice body, int *fd)
{
	struct msg_segment_drop m;
	enum err e = msg_segment_drop_decode(body, &m);
	struct segment *g = e == ERR_OK ? segment_find(b, m.segment) : NULL;

	(void)fd;
	if (g == NULL || (b->incoming != NULL && b->incoming->segment == g)) {
		return ERR_PROTO;
	}
	g->is_dropped = true;
	if (g->jobs == 0) {
		segment_free(b, g);
	}
	return ERR_OK;
}

static enum err on_job(struct book *b, struct slice body, int *fd)
{
	struct msg_job m;
	enum err e = msg_job_decode(body, &m);

	(void)fd;
	if (e != ERR_OK || b->incoming != NULL || b->draft.site != NULL || m.rcpt_count == 0 ||
		job_find(b, m.job) != NULL || m.content_bytes > (uint64_t)INT64_MAX / 2 ||
		m.head_offset > (uint64_t)INT64_MAX / 2 ||
		m.content_offset > (uint64_t)INT64_MAX / 2) {
		return ERR_PROTO;
	}
	struct site *s = site_find(b, m.site);
	struct segment *g = segment_find(b, m.segment);
	if (s == NULL || g == NULL || g->is_dropped) {
		return ERR_PROTO;
	}
	struct job *j = job_new(&b->pool, m.rcpt_count);
	j->id = m.job;
	j->site = s;
	j->segment = g;
	j->fd = g->fd;
	j->head_at = m.head_offset;
	j->head_bytes = m.head_bytes;
	j->content_at = m.content_offset;
	j->content_bytes = m.content_bytes;
	j->flags = m.flags;
	j->ret = m.ret;
	j->queue_id = job_copy(j, m.queue_id);
	j->sender = job_copy(j, m.sender);
	j->envid = job_copy(j, m.envid);
	b->incoming = j;
	return ERR_OK;
}

static enum err on_job_rcpt(struct book *b, struct slice body, int *fd)
{
	struct msg_job_rcpt m;
	enum err e = msg_job_rcpt_decode(body, &m);
	struct job *j = b->incoming;

	(void)fd;
	if (e != ERR_OK || j == NULL || m.job != j->id) {
		return ERR_PROTO;
	}
	struct job_rcpt *r = &j->rcpts[j->rcpts_got++];
	r->address = job_copy(j, m.address);
	r->orcpt = job_copy(j, m.orcpt);
	r->notify = m.notify;
	if (j->rcpts_got < j->rcpt_count) {
		return ERR_OK;
	}
	b->incoming = NULL;
	hash_id_table_insert(&b->jobs, &j->by_id, j->id);
	j->segment->jobs++;
	if (b->office->draining) {
		j->arrived_ms = loop_now_ms(b->office->loop);
		unbegun(b, j);
	} else {
		site_add_job(j->site, j);
	}
	return ERR_OK;
}

static enum err on_job_cancel(struct book *b, struct slice body, int *fd)
{
	struct msg_job_cancel m;
	enum err e = msg_job_cancel_decode(body, &m);

	(void)fd;
	if (e != ERR_OK) {
		return ERR_PROTO;
	}
	struct job *j = job_find(b, m.job);
	/* One that is done already, or under way: its outcomes tell. */
	if (j != NULL && !list_is_empty(&j->slot)) {
		site_remove_job(j->site, j);
		unbegun(b, j);
	}
	return ERR_OK;
}

static const struct {
	uint16_t type;
	enum err (*run)(struct book *b, struct slice body, int *fd);
} orders[] = {
	/* The frequent ones first. */
	{MSG_ID_job, on_job},
	{MSG_ID_job_rcpt, on_job_rcpt},
	{MSG_ID_job_cancel, on_job_cancel},
	{MSG_ID_segment, on_segment},
	{MSG_ID_segment_drop, on_segment_drop},
	{MSG_ID_site, on_site},
	{MSG_ID_site_addr, on_site_addr},
	{MSG_ID_site_drop, on_site_drop},
};

enum err book_take(struct book *b, uint16_t type, struct slice body, int *fd)
{
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		if (orders[i].type == type) {
			return orders[i].run(b, body, fd);
		}
	}
	return ERR_PROTO;
}

void book_drain(struct book *b)
{
	struct hash_id_link *link = NULL;
	struct list *entry;

	while ((link = hash_id_table_next(&b->sites, link)) != NULL) {
		struct site *s = CONTAINER_OF(link, struct site, by_id);

		while ((entry = list_first(&s->jobs)) != NULL) {
			struct job *j = CONTAINER_OF(entry, struct job, slot);

			site_remove_job(s, j);
			unbegun(b, j);
		}
		site_quiet(s);
	}
}

void book_forget(struct book *b)
{
	struct hash_id_link *link;

	job_free(&b->pool, &b->incoming);
	ALLOC_FREE(b->draft.servers);
	b->draft = (struct site_draft){0};
	/* Jobs before the sites whose queues they stand in. */
	while ((link = hash_id_table_next(&b->jobs, NULL)) != NULL) {
		struct job *j = CONTAINER_OF(link, struct job, by_id);
		hash_id_table_remove(&b->jobs, link);
		job_free(&b->pool, &j);
	}
	while ((link = hash_id_table_next(&b->sites, NULL)) != NULL) {
		site_forget(b, CONTAINER_OF(link, struct site, by_id));
	}
	while ((link = hash_id_table_next(&b->segments, NULL)) != NULL) {
		segment_free(b, CONTAINER_OF(link, struct segment, by_id));
	}
}
