/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx: one mail transaction, from MAIL to the reply behind its content.
 *
 * All that it holds lives in one arena and ends with tx_free(): after RSET, EHLO, a refused or
 * accepted message and a lost connection there is nothing else to reset. Transactions that
 * have ended are kept for reuse, so a busy session allocates nothing.
 */
#ifndef SMTPD_TX_H
#define SMTPD_TX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/mail/address.h"
#include "smtpd/intake.h"
#include "smtpd/store.h"

struct tx {
	struct arena arena;
	struct tx *next_free;

	struct slice sender; /* empty: the null reverse-path */
	struct slice envid;
	uint64_t declared_bytes;
	uint32_t flags; /* TX_ */
	uint8_t ret;

	struct store_rcpt *rcpts; /* those that are kept, each once */
	size_t rcpt_count;
	size_t rcpt_room;
	uint32_t *index; /* hash table over rcpts, for many of them; 0: free */
	size_t index_size;
	uint32_t accepted; /* recipients answered with 250, also those not kept */
	bool has_refused;  /* some recipient was refused */

	struct intake intake;
	struct store_ticket ticket;
	bool is_open;  /* the store has been asked to take it */
	bool is_lost;  /* the store's program died with it, or none took it */
	bool has_fate; /* the store has answered before the end */
	uint16_t fate_code;
	struct slice fate_text;

	int64_t data_since_ms;
	int64_t window_since_ms; /* for the least rate */
	uint64_t window_bytes;
};

struct tx_pool {
	struct tx *free;
	size_t count;
};

/* rcpt_limit bounds the memory of its arena. */
struct tx *tx_new(struct tx_pool *pool, uint32_t rcpt_limit);
/* The ticket must have been given back or answered. Nulls *tx; harmless when null. */
void tx_free(struct tx_pool *pool, struct tx **tx);
void tx_pool_clear(struct tx_pool *pool);

/* Keeps a recipient, once: local parts differ in case, domains do not. ERR_EXISTS: it is there
 * already; ERR_TOOBIG: the arena is full. */
MUST_CHECK enum err tx_add_rcpt(struct tx *tx, const struct address *a, struct slice orcpt,
	uint8_t notify);
bool tx_has_rcpt(const struct tx *tx, const struct address *a);

#endif
