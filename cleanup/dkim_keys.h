/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dkim_keys: which keys sign for which domain of the From field.
 *
 * Made whole from the table of dkim_keys and the key files that travel with the configuration;
 * never changed afterwards. A domain that has no entry is covered by its nearest parent that
 * has one, and the signature's d= is then that parent. A key file is parsed once, however many
 * entries name it, and tried out, so that a key that cannot sign is found at the reload and
 * not at the first message.
 */
#ifndef CLEANUP_DKIM_KEYS_H
#define CLEANUP_DKIM_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/table.h"

#define DKIM_KEYS_PER_DOMAIN 4u
#define DKIM_RSA_BITS_MIN 1024u  /* RFC 8301 section 3.2: verifiers need not accept less */
#define DKIM_RSA_BITS_WEAK 2048u /* the same: signers should use at least this */
#define DKIM_RSA_BITS_MAX 8192u

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */

/* The parsed content of a key file. */
struct dkim_secret {
	struct evp_pkey_st *pkey;
	bool is_ed25519;
	unsigned bits;
};

struct dkim_key {
	const char *selector;
	struct dkim_secret *secret; /* may be shared by several keys */
};

struct dkim_domain {
	const char *name; /* lower case */
	size_t key_count; /* at least 1 */
	struct dkim_key keys[DKIM_KEYS_PER_DOMAIN];
};

struct dkim_keys;

/* Where the content of a key file comes from, by the name that the table gives it. */
struct dkim_key_files {
	enum err (*find)(const void *arg, struct slice name, struct slice *content);
	const void *arg;
};

/* ERR_CONFIG with why: which entry is wrong, and what would be right. */
MUST_CHECK enum err dkim_keys_new(const struct table *entries,
	const struct dkim_key_files *files, struct buf *why, struct dkim_keys **out);
void dkim_keys_free(struct dkim_keys **k);

size_t dkim_keys_count(const struct dkim_keys *k);
/* The entry that covers a domain (any case, a final dot is tolerated); null: none does. */
const struct dkim_domain *dkim_keys_find(const struct dkim_keys *k, struct slice domain);

#endif
