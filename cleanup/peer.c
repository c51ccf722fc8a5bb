/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/peer.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/mail/date.h"

/* One transaction a connection; a peer that has more at once is out of its mind. */
#define TXS_MAX 65536u
/* News for qmgr that wait in memory; beyond it the submitters wait. */
#define QMGR_UNSENT_MAX ((size_t)32 * 1024 * 1024)

struct peer {
	struct list link;
	struct peer_hub *hub;
	struct channel *channel;
	enum role role;
	unsigned index;
	bool greeted;
	bool is_deaf; /* does not read our answers: it is not read either */
	struct hash_id_table txs;
};

/* ---- transactions ---- */

static struct tx *find_tx(const struct peer *p, uint64_t number)
{
	struct hash_id_link *link = hash_id_table_find(&p->txs, number);

	return link == NULL ? NULL : CONTAINER_OF(link, struct tx, link);
}

static enum err send_fate(struct peer *p, uint64_t number, struct tx_fate fate)
{
	struct msg_tx_done m = {.tx = number,
		.smtp_code = fate.smtp_code,
		.text = slice_from_cstr(fate.text)};

	return msg_tx_done_send(p->channel, &m);
}

static void end_tx(struct peer *p, struct tx *tx)
{
	hash_id_table_remove(&p->txs, &tx->link);
	tx_drop(&tx);
}

/* After a call that may have decided early. */
static enum err settle_early(struct peer *p, struct tx *tx, enum err e, struct tx_fate fate)
{
	if (e != ERR_OK || fate.smtp_code == 0) {
		return e;
	}
	e = send_fate(p, tx->link.id, fate);
	end_tx(p, tx);
	return e;
}

static void on_fate(struct tx *tx, struct tx_fate fate)
{
	struct peer *p = tx->owner;
	enum err e = send_fate(p, tx->link.id, fate);

	if (e != ERR_OK) {
		log_error("event=tx_done err=\"%s\"", err_str(e));
	}
	end_tx(p, tx);
}

static enum err on_tx_begin(struct peer *p, struct slice body)
{
	struct msg_tx_begin m;
	struct tx_fate fate = {0};
	struct tx *tx = NULL;
	enum err e = msg_tx_begin_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	if (find_tx(p, m.tx) != NULL || p->txs.count >= TXS_MAX) {
		return ERR_PROTO;
	}
	if (p->hub->draining) {
		return send_fate(p, m.tx,
			(struct tx_fate){451, "4.3.2 Shutting down; try again later"});
	}
	e = tx_new(p->hub->works, &m, p->role == ROLE_BOUNCE, &fate, &tx);
	if (e != ERR_OK) {
		return e;
	}
	if (tx == NULL) {
		return send_fate(p, m.tx, fate);
	}
	tx->on_fate = on_fate;
	tx->owner = p;
	hash_id_table_insert(&p->txs, &tx->link, m.tx);
	return ERR_OK;
}

/* What belongs to a transaction that is not there is the rest of one that was refused early. */

static enum err on_tx_rcpt(struct peer *p, struct slice body)
{
	struct msg_tx_rcpt m;
	struct tx_fate fate = {0};
	enum err e = msg_tx_rcpt_decode(body, &m);
	struct tx *tx = e == ERR_OK ? find_tx(p, m.tx) : NULL;

	return tx == NULL ? e : settle_early(p, tx, tx_rcpt(tx, &m, &fate), fate);
}

static enum err on_tx_content(struct peer *p, struct slice body)
{
	struct msg_tx_content m;
	struct tx_fate fate = {0};
	enum err e = msg_tx_content_decode(body, &m);
	struct tx *tx = e == ERR_OK ? find_tx(p, m.tx) : NULL;

	if (tx == NULL) {
		return e;
	}
	e = tx_content(tx, m.bytes, &fate);
	return settle_early(p, tx, e, fate);
}

static enum err on_tx_end(struct peer *p, struct slice body)
{
	struct msg_tx_end m;
	struct tx_fate fate = {0};
	enum err e = msg_tx_end_decode(body, &m);
	struct tx *tx = e == ERR_OK ? find_tx(p, m.tx) : NULL;

	if (tx == NULL) {
		return e;
	}
	e = tx_end(tx, &fate);
	return settle_early(p, tx, e, fate);
}

static enum err on_tx_abort(struct peer *p, struct slice body)
{
	struct msg_tx_abort m;
	enum err e = msg_tx_abort_decode(body, &m);
	struct tx *tx = e == ERR_OK ? find_tx(p, m.tx) : NULL;

	/* One that has ended is as good as on the disk; nobody is told of its fate. */
	if (tx != NULL) {
		end_tx(p, tx);
	}
	return e;
}

/* ---- look-ups ---- */

/* "unknown-user since 2026-11-26: 550 5.1.1 no such user", printable. */
static void explain(const struct suppress_entry *s, char *to, size_t size)
{
	char date[DATE_TEXT_MAX];
	char words[LIMIT_TEXT / 2];
	enum err e;

	date_format_iso(s->last_us, date);
	date[10] = '\0';
	str_printable(words, sizeof(words), s->text);
	e = str_format(to, size, "%s since %s%s%s",
		suppress_reason_name((enum suppress_reason)s->reason), date,
		words[0] == '\0' ? "" : ": ", words);
	(void)e; /* empty when it does not fit, which these lengths exclude */
}

static enum err on_lookup(struct peer *p, struct slice body)
{
	struct msg_lookup m;
	struct suppress_entry entry;
	char text[LIMIT_TEXT];
	struct suppress *s = NULL;
	enum err e = msg_lookup_decode(body, &m);

	if (e != ERR_OK) {
		return e;
	}
	struct msg_lookup_done done = {.request = m.request, .result = LOOKUP_CLEAR};
	if (p->hub->works->settings->suppression) {
		s = p->hub->find_list(p->hub->arg);
		e = s == NULL ? ERR_NOTFOUND : suppress_find(s, m.address, &entry);
		if (s == NULL || (e != ERR_OK && e != ERR_NOTFOUND)) {
			/* Never taken for "not on the list". */
			done.result = LOOKUP_FAILED;
		} else if (e == ERR_OK) {
			explain(&entry, text, sizeof(text));
			done.result = LOOKUP_SUPPRESSED;
			done.text = slice_from_cstr(text);
		}
		if (s != NULL) {
			suppress_read_end(s);
		}
	}
	return msg_lookup_done_send(p->channel, &done);
}

/* ---- channels ---- */

static enum err on_rotate(struct peer *p, struct slice body)
{
	struct msg_segment_rotate m;
	enum err e = msg_segment_rotate_decode(body, &m);

	if (e == ERR_OK) {
		committer_rotate(p->hub->works->committer, m.segment);
	}
	return e;
}

static enum err on_hello(struct peer *p, struct slice body)
{
	struct msg_hello m;
	enum err e = msg_hello_decode(body, &m);

	if (e != ERR_OK || p->greeted || m.role != (uint8_t)p->role) {
		return ERR_PROTO;
	}
	p->greeted = true;
	return ERR_OK;
}

#define BY_SUBMITTERS ((1u << ROLE_SMTPD) | (1u << ROLE_BOUNCE))
#define BY_ALL (BY_SUBMITTERS | (1u << ROLE_QMGR))

static const struct {
	uint16_t type;
	unsigned from; /* bit per role */
	enum err (*run)(struct peer *p, struct slice body);
} orders[] = {
	{MSG_ID_tx_content, BY_SUBMITTERS, on_tx_content},
	{MSG_ID_tx_begin, BY_SUBMITTERS, on_tx_begin},
	{MSG_ID_tx_rcpt, BY_SUBMITTERS, on_tx_rcpt},
	{MSG_ID_tx_end, BY_SUBMITTERS, on_tx_end},
	{MSG_ID_tx_abort, BY_SUBMITTERS, on_tx_abort},
	{MSG_ID_lookup, 1u << ROLE_SMTPD, on_lookup},
	{MSG_ID_segment_rotate, 1u << ROLE_QMGR, on_rotate},
	{MSG_ID_hello, BY_ALL, on_hello},
};

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct peer *p = arg;

	(void)fd;
	if (!p->greeted && type != MSG_ID_hello) {
		return ERR_PROTO;
	}
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		if (orders[i].type == type && (orders[i].from & (1u << p->role)) != 0) {
			return orders[i].run(p, body);
		}
	}
	return ERR_PROTO;
}

static struct peer *find_peer(struct peer_hub *hub, enum role role, unsigned index)
{
	for (struct list *l = hub->peers.next; l != &hub->peers; l = l->next) {
		struct peer *p = CONTAINER_OF(l, struct peer, link);
		if (p->role == role && p->index == index) {
			return p;
		}
	}
	return NULL;
}

/* A submitter is read while qmgr reads what follows from that, and it reads our answers. */
static void reading_update(struct peer *p)
{
	if (p->hub->is_held || p->is_deaf) {
		channel_pause(p->channel);
	} else {
		channel_resume(p->channel);
	}
}

static void submitters_hold(struct peer_hub *hub, bool hold)
{
	hub->is_held = hold;
	for (struct list *l = hub->peers.next; l != &hub->peers; l = l->next) {
		struct peer *p = CONTAINER_OF(l, struct peer, link);
		if (p->role != ROLE_QMGR) {
			reading_update(p);
		}
	}
}

static void peer_free(struct peer *p)
{
	struct hash_id_link *link;

	if (p->role == ROLE_QMGR) {
		if (p->hub->works->committer != NULL) {
			committer_set_qmgr(p->hub->works->committer, NULL);
		}
		submitters_hold(p->hub, false);
	}
	while ((link = hash_id_table_next(&p->txs, NULL)) != NULL) {
		end_tx(p, CONTAINER_OF(link, struct tx, link));
	}
	hash_id_table_clear(&p->txs);
	list_remove(&p->link);
	channel_close(&p->channel);
	free(p);
}

static void on_gone(void *arg, enum err why)
{
	struct peer *p = arg;
	struct peer_hub *hub = p->hub;
	bool broken = p->role == ROLE_QMGR && why != ERR_CLOSED;

	if (why == ERR_CLOSED) {
		/* It ends, as every stop and restart has it; master says which. */
		log_info("event=peer_gone program=%s index=%u txs=%zu", role_name(p->role),
			p->index, p->txs.count);
	} else {
		log_warn("event=peer_gone program=%s index=%u why=\"%s\" txs=%zu",
			role_name(p->role), p->index, err_str(why), p->txs.count);
	}
	peer_free(p);
	if (broken) {
		hub->on_broken(hub->arg, "qmgr sent what is no message for us");
	}
}

/* All frames of a read of a submitter have been handled: has qmgr, or it, too much to read? */
static void on_batch(void *arg)
{
	struct peer *p = arg;
	struct peer *qmgr = find_peer(p->hub, ROLE_QMGR, 0);

	if (p->role == ROLE_QMGR) {
		return;
	}
	if (qmgr != NULL && channel_unsent(qmgr->channel) > QMGR_UNSENT_MAX) {
		submitters_hold(p->hub, true);
	}
	if (channel_unsent(p->channel) > CHANNEL_HIGH) {
		p->is_deaf = true;
		reading_update(p);
	}
}

static void on_writable(void *arg)
{
	struct peer *p = arg;

	if (p->role == ROLE_QMGR) {
		submitters_hold(p->hub, false);
	} else {
		p->is_deaf = false;
		reading_update(p);
	}
}

void peer_new(struct peer_hub *hub, enum role role, unsigned index, int *fd)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_batch = on_batch,
		.on_writable = on_writable,
		.on_gone = on_gone};
	struct msg_hello hello = {.role = ROLE_CLEANUP, .index = hub->index};

	if (role >= ROLE_COUNT || ((1u << role) & BY_ALL) == 0) {
		return;
	}
	struct peer *old = find_peer(hub, role, index);
	if (old != NULL) {
		peer_free(old);
	}
	struct peer *p = alloc_zero(1, sizeof(*p));
	p->hub = hub;
	p->role = role;
	p->index = index;
	hash_id_table_init(&p->txs);
	p->channel = channel_new(hub->loop, fd, &handler, p);
	list_append(&hub->peers, &p->link);
	enum err e = msg_hello_send(p->channel, &hello);
	if (e == ERR_OK && role == ROLE_SMTPD) {
		struct msg_store_state m = {.state = store_state(hub->works->store)};
		e = msg_store_state_send(p->channel, &m);
	}
	if (e != ERR_OK) {
		log_error("event=peer_new role=%u err=\"%s\"", (unsigned)role, err_str(e));
	}
	if (role == ROLE_QMGR) {
		committer_set_qmgr(hub->works->committer, p->channel);
	}
}

void peer_close_submitters(struct peer_hub *hub)
{
	for (struct list *l = hub->peers.next; l != &hub->peers;) {
		struct peer *p = CONTAINER_OF(l, struct peer, link);

		l = l->next;
		if (p->role != ROLE_QMGR) {
			peer_free(p);
		}
	}
}

void peer_close_all(struct peer_hub *hub)
{
	for (struct list *l = hub->peers.next; l != &hub->peers;) {
		struct peer *p = CONTAINER_OF(l, struct peer, link);

		l = l->next;
		peer_free(p);
	}
}

void peer_tell_store_state(struct peer_hub *hub, uint8_t state)
{
	for (struct list *l = hub->peers.next; l != &hub->peers; l = l->next) {
		struct peer *p = CONTAINER_OF(l, struct peer, link);
		struct msg_store_state m = {.state = state};

		if (p->role == ROLE_SMTPD && msg_store_state_send(p->channel, &m) != ERR_OK) {
			log_error("event=store_state index=%u", p->index);
		}
	}
}
