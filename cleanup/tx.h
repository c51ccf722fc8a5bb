/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tx: one transaction: an envelope, then content in pieces, then its fate.
 *
 * Content is held in memory up to TX_MEMORY bytes (less when all transactions together hold
 * too much) and is streamed to a segment of its own from there on. A transaction that is
 * refused early has its fate at once.
 */
#ifndef CLEANUP_TX_H
#define CLEANUP_TX_H

#include <stdbool.h>
#include <stdint.h>

#include "cleanup/committer.h"
#include "cleanup/settings.h"
#include "cleanup/signer.h"
#include "cleanup/store.h"
#include "cleanup/wireform.h"
#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/hash.h"
#include "common/ipc/messages.h"
#include "common/journal/journal_writer.h"

#define TX_MEMORY ((size_t)256 * 1024)
/* Of all transactions of the process: from here on their content goes to the disk earlier ...
 */
#define TX_ALL_MEMORY ((size_t)64 * 1024 * 1024)
/* ... and from here on what has to stay in memory (headers, recipients) is refused. */
#define TX_ALL_MEMORY_MAX ((size_t)256 * 1024 * 1024)

/* What transactions work with; one for the process. Everything is borrowed. */
struct tx_works {
	const struct settings *settings;
	struct signer *signer;
	struct committer *committer;
	struct store *store;
	struct journal_writer *journal; /* null: none */

	size_t held;    /* bytes that all transactions hold in memory */
	unsigned count; /* transactions */
	unsigned bigs;  /* of which so many are on the disk already */
	uint64_t signatures;
	uint64_t refused;
	/* A transaction has ended. May be null. */
	void (*on_ended)(void *arg);
	void *arg;
	/* Scratch, for the length of a call. */
	struct buf front;
	struct buf head;
	struct buf content;
};
void tx_works_init(struct tx_works *w);
void tx_works_clear(struct tx_works *w);

/* smtp_code 0: undecided. text: the queue id with 250, else "x.y.z explanation"; static or the
 * transaction's. */
struct tx_fate {
	uint16_t smtp_code;
	const char *text;
};

struct tx {
	struct hash_id_link link; /* for its owner: by the number that the peer gave it */
	struct tx_works *works;
	/* Its fate came after tx_end(). The owner frees it then. Null owner: nobody wants to
	 * know. */
	void (*on_fate)(struct tx *tx, struct tx_fate fate);
	void *owner;

	struct parcel parcel;
	struct arena arena; /* texts of the envelope */
	struct envelope envelope;
	uint32_t rcpts_missing;
	uint32_t rcpt_room;
	size_t held; /* its part of works->held */
	struct wireform wireform;
	struct buf content;      /* as long as it is in memory */
	struct buf front;        /* of a message on the disk */
	struct signing *signing; /* of a message on the disk */
	bool ended;              /* tx_end() has been called and succeeded */
	bool is_big;             /* its content goes to a segment of its own */

	/* For the journal. */
	struct slice tls;
	struct slice listener;
	struct slice message_id;
	struct slice from;
	struct slice dkim;
};

/*
 * Begins one. ERR_PROTO: the peer must not say that. trusted: it may send notices of ours
 * (TX_DSN). In *fate, when refused at once; *out is null then.
 */
MUST_CHECK enum err tx_new(struct tx_works *w, const struct msg_tx_begin *m, bool trusted,
	struct tx_fate *fate, struct tx **out);
/* The same; after a fate the owner frees the transaction. */
MUST_CHECK enum err tx_rcpt(struct tx *tx, const struct msg_tx_rcpt *m, struct tx_fate *fate);
MUST_CHECK enum err tx_content(struct tx *tx, struct slice bytes, struct tx_fate *fate);
/* Without a fate it is on its way to the disk, and on_fate follows. */
MUST_CHECK enum err tx_end(struct tx *tx, struct tx_fate *fate);
/* Before its fate; one that is on its way to the disk gets there, and frees itself. */
void tx_drop(struct tx **tx);

#endif
