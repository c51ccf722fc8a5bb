/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/log.h"
#include "common/ipc/channel.h"
#include "smtpd/cleanup_peer.h"

#define PEERS_MOST 64u

struct peer {
	struct cleanup_peers *all;
	struct channel *channel; /* null: gone */
	struct list tickets;
	struct list waiting; /* tickets that wait for room */
	unsigned index;
	unsigned state;
	bool is_greeted;
	bool has_state;
};

struct cleanup_peers {
	struct loop *loop;
	struct hash_id_table tickets;
	struct peer *peers[PEERS_MOST]; /* by index; null: never came */
	unsigned count;                 /* one more than the highest index */
	unsigned own_index;
	uint64_t next_id;
	bool is_known;
	void (*on_known)(void *arg);
	void (*on_broken)(void *arg);
	void *arg;
};

/* ---- tickets ---- */

static void ticket_open(struct peer *p, struct store_ticket *t)
{
	t->peer = p;
	list_append(&p->tickets, &t->all);
	hash_id_table_insert(&p->all->tickets, &t->link, p->all->next_id++);
}

static void ticket_close(struct store_ticket *t)
{
	struct peer *p = t->peer;

	assert(p != NULL);
	hash_id_table_remove(&p->all->tickets, &t->link);
	list_remove(&t->all);
	list_remove(&t->waiting);
	t->peer = NULL;
}

/* The open ticket of that number with that peer; null when it has been given up. */
static struct store_ticket *ticket_find(struct peer *p, uint64_t id, bool is_question)
{
	struct hash_id_link *l = hash_id_table_find(&p->all->tickets, id);
	struct store_ticket *t = l == NULL ? NULL : CONTAINER_OF(l, struct store_ticket, link);

	return t != NULL && t->peer == p && t->is_question == is_question ? t : NULL;
}

/* ---- what a cleanup says ---- */

static enum err on_hello(struct peer *p, struct slice body)
{
	struct msg_hello m;
	enum err e = msg_hello_decode(body, &m);

	if (e != ERR_OK || m.role != ROLE_CLEANUP || p->is_greeted) {
		return ERR_PROTO;
	}
	p->is_greeted = true;
	return ERR_OK;
}

static enum err on_state(struct peer *p, struct slice body)
{
	struct msg_store_state m;
	enum err e = msg_store_state_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	p->state = m.state;
	p->has_state = true;
	if (!p->all->is_known) {
		p->all->is_known = true;
		p->all->on_known(p->all->arg);
	}
	return ERR_OK;
}

static enum err on_done(struct peer *p, struct slice body)
{
	struct msg_tx_done m;
	enum err e = msg_tx_done_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	struct store_ticket *t = ticket_find(p, m.tx, false);
	if (t != NULL) {
		if (m.smtp_code == 250 && !t->has_ended) {
			return ERR_PROTO; /* stored before it was whole */
		}
		ticket_close(t);
		t->events->on_done(t->arg, m.smtp_code, m.text);
	}
	return ERR_OK;
}

static enum err on_lookup_done(struct peer *p, struct slice body)
{
	struct msg_lookup_done m;
	enum err e = msg_lookup_done_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	struct store_ticket *t = ticket_find(p, m.request, true);
	if (t != NULL) {
		ticket_close(t);
		t->events->on_answer(t->arg, m.result, m.text);
	}
	return ERR_OK;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct peer *p = arg;

	(void)fd;
	if (type == MSG_ID_hello) {
		return on_hello(p, body);
	}
	if (!p->is_greeted) {
		return ERR_PROTO;
	}
	switch (type) {
	case MSG_ID_tx_done:
		return on_done(p, body);
	case MSG_ID_lookup_done:
		return on_lookup_done(p, body);
	case MSG_ID_store_state:
		return on_state(p, body);
	default:
		return ERR_PROTO;
	}
}

static void on_writable(void *arg)
{
	struct peer *p = arg;
	struct list *entry;

	while ((entry = list_first(&p->waiting)) != NULL) {
		struct store_ticket *t = CONTAINER_OF(entry, struct store_ticket, waiting);
		list_remove(entry);
		t->events->on_room(t->arg);
	}
}

static void lose_tickets(struct peer *p)
{
	struct list *entry;

	while ((entry = list_first(&p->tickets)) != NULL) {
		struct store_ticket *t = CONTAINER_OF(entry, struct store_ticket, all);
		ticket_close(t);
		t->events->on_lost(t->arg);
	}
}

static void peer_end(struct peer *p)
{
	channel_close(&p->channel);
	p->is_greeted = false;
	p->has_state = false;
	lose_tickets(p);
}

static void on_gone(void *arg, enum err why)
{
	struct peer *p = arg;

	log_warn("event=peer_gone role=cleanup index=%u err=\"%s\"", p->index, err_str(why));
	peer_end(p);
	if (why != ERR_CLOSED) {
		p->all->on_broken(p->all->arg);
	}
}

static const struct channel_handler handler = {.on_frame = on_frame,
	.on_writable = on_writable,
	.on_gone = on_gone};

/* A frame that does not fit its own limits is a defect of ours: its ticket is lost. */
static bool sent(enum err e, const char *what)
{
	if (e != ERR_OK) {
		log_error("event=send message=%s err=\"%s\"", what, err_str(e));
	}
	return e == ERR_OK;
}

/* ---- choice ---- */

static bool is_usable(const struct peer *p)
{
	return p != NULL && p->channel != NULL && p->has_state;
}

/* The one to use: our own when it can store, else another that can, else the best there is. */
static struct peer *choose(const struct cleanup_peers *all)
{
	struct peer *best = NULL;

	for (unsigned i = 0; i < all->count; i++) {
		struct peer *p = all->peers[(all->own_index + i) % all->count];
		if (!is_usable(p)) {
			continue;
		}
		if (p->state == STORE_OK) {
			return p;
		}
		if (best == NULL || p->state < best->state) {
			best = p;
		}
	}
	return best;
}

/* ---- the store ---- */

static unsigned store_state(void *arg)
{
	const struct peer *p = choose(arg);

	return p == NULL ? STORE_SICK : p->state;
}

static bool store_begin(void *arg, struct store_ticket *t, struct msg_tx_begin *facts,
	const struct store_rcpt *rcpts)
{
	struct peer *p = choose(arg);

	if (p == NULL || p->state != STORE_OK) {
		return false;
	}
	ticket_open(p, t);
	t->has_ended = false;
	facts->tx = t->link.id;
	bool ok = sent(msg_tx_begin_send(p->channel, facts), "tx_begin");
	for (uint32_t i = 0; i < facts->rcpt_count && ok; i++) {
		struct msg_tx_rcpt m = {
			.tx = t->link.id,
			.address = rcpts[i].address,
			.orcpt = rcpts[i].orcpt,
			.notify = rcpts[i].notify,
		};
		ok = sent(msg_tx_rcpt_send(p->channel, &m), "tx_rcpt");
	}
	if (!ok) {
		struct msg_tx_abort m = {.tx = t->link.id};
		(void)sent(msg_tx_abort_send(p->channel, &m), "tx_abort");
		ticket_close(t);
	}
	return ok;
}

static void store_content(void *arg, struct store_ticket *t, struct slice bytes)
{
	const struct peer *p = t->peer;
	struct msg_tx_content m = {.tx = t->link.id, .bytes = bytes};

	(void)arg;
	(void)sent(msg_tx_content_send(p->channel, &m), "tx_content");
}

static void store_end(void *arg, struct store_ticket *t)
{
	const struct peer *p = t->peer;
	struct msg_tx_end m = {.tx = t->link.id};

	(void)arg;
	t->has_ended = true;
	(void)sent(msg_tx_end_send(p->channel, &m), "tx_end");
}

static bool store_ask(void *arg, struct store_ticket *t, struct slice address)
{
	struct peer *p = choose(arg);

	if (p == NULL) {
		return false;
	}
	ticket_open(p, t);
	struct msg_lookup m = {.request = t->link.id, .address = address};
	if (!sent(msg_lookup_send(p->channel, &m), "lookup")) {
		ticket_close(t);
		return false;
	}
	return true;
}

static void store_forget(void *arg, struct store_ticket *t)
{
	const struct peer *p = t->peer;

	(void)arg;
	if (p == NULL) {
		return;
	}
	if (!t->is_question && !t->has_ended) {
		struct msg_tx_abort m = {.tx = t->link.id};
		(void)sent(msg_tx_abort_send(p->channel, &m), "tx_abort");
	}
	ticket_close(t);
}

static bool store_has_room(void *arg, struct store_ticket *t)
{
	struct peer *p = t->peer;

	(void)arg;
	if (channel_unsent(p->channel) <= CHANNEL_HIGH) {
		return true;
	}
	list_remove(&t->waiting);
	list_append(&p->waiting, &t->waiting);
	return false;
}

static const struct store_ops ops = {
	.state = store_state,
	.begin = store_begin,
	.content = store_content,
	.end = store_end,
	.ask = store_ask,
	.forget = store_forget,
	.has_room = store_has_room,
};

/* ---- life ---- */

struct cleanup_peers *cleanup_peers_new(struct loop *loop, unsigned own_index,
	void (*on_known)(void *arg), void (*on_broken)(void *arg), void *arg)
{
	struct cleanup_peers *all = alloc_zero(1, sizeof(*all));

	all->loop = loop;
	all->own_index = own_index;
	all->next_id = 1;
	all->on_known = on_known;
	all->on_broken = on_broken;
	all->arg = arg;
	hash_id_table_init(&all->tickets);
	return all;
}

void cleanup_peers_free(struct cleanup_peers **p)
{
	struct cleanup_peers *all = *p;

	*p = NULL;
	if (all == NULL) {
		return;
	}
	assert(all->tickets.count == 0);
	for (unsigned i = 0; i < all->count; i++) {
		if (all->peers[i] != NULL) {
			channel_close(&all->peers[i]->channel);
			free(all->peers[i]);
		}
	}
	hash_id_table_clear(&all->tickets);
	free(all);
}

void cleanup_peers_set(struct cleanup_peers *all, unsigned index, int *fd)
{
	if (index >= PEERS_MOST) {
		log_error("event=peer role=cleanup index=%u what=\"too many\"", index);
		return;
	}
	struct peer *p = all->peers[index];
	if (p == NULL) {
		p = alloc_zero(1, sizeof(*p));
		p->all = all;
		p->index = index;
		list_init(&p->tickets);
		list_init(&p->waiting);
		all->peers[index] = p;
		all->count = index < all->count ? all->count : index + 1;
	} else {
		peer_end(p);
	}
	p->channel = channel_new(all->loop, fd, &handler, p);
	struct msg_hello hello = {.role = ROLE_SMTPD, .index = all->own_index};
	(void)sent(msg_hello_send(p->channel, &hello), "hello");
}

struct store cleanup_peers_store(struct cleanup_peers *p)
{
	return (struct store){.ops = &ops, .arg = p};
}

size_t cleanup_peers_count(const struct cleanup_peers *p)
{
	size_t count = 0;

	for (unsigned i = 0; i < p->count; i++) {
		count += is_usable(p->peers[i]) ? 1u : 0u;
	}
	return count;
}
