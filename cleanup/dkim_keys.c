/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/dkim_keys.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/log.h"

#define SELECTOR_MAX 63u

struct file {
	struct hash_link link; /* by name */
	char *name;
	struct dkim_secret secret;
};

struct entry {
	struct hash_link link; /* by domain */
	struct dkim_domain domain;
	char *name;
	char *selectors[DKIM_KEYS_PER_DOMAIN];
};

struct dkim_keys {
	struct hash_table files;
	struct hash_table entries;
};

static void explain(struct buf *why, struct slice domain, struct slice what, const char *right)
{
	/* A text that does not fit is cut by nobody: it is short of LIMIT_TEXT by these heads.
	 */
	enum err e =
		buf_printf(why, "dkim_keys: %.*s: %.*s%s%s", SLICE_ARG(slice_head(domain, 100)),
			SLICE_ARG(slice_head(what, 300)), what.n == 0 ? "" : ": ", right);
	(void)e;
}

static char *copy_lower(struct slice s)
{
	char *to = alloc_bytes(s.n + 1);

	for (size_t i = 0; i < s.n; i++) {
		to[i] = (char)ascii_lower(s.p[i]);
	}
	to[s.n] = '\0';
	return to;
}

/* ---- key files ---- */

/* An encrypted key must not make anybody wait for a passphrase at a terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return 0;
}

/* A signature made and verified: a damaged key fails here. Also does what OpenSSL puts off
 * until first use. */
static bool can_sign(EVP_PKEY *pkey, bool is_ed25519)
{
	static const uint8_t text[32] = "is this key of any use?";
	uint8_t signature[DKIM_RSA_BITS_MAX / 8];
	size_t n = sizeof(signature);
	const EVP_MD *md = is_ed25519 ? NULL : EVP_sha256();
	EVP_MD_CTX *sign = EVP_MD_CTX_new();
	EVP_MD_CTX *verify = EVP_MD_CTX_new();
	bool good = sign != NULL && verify != NULL &&
		    EVP_DigestSignInit(sign, NULL, md, NULL, pkey) == 1 &&
		    EVP_DigestSign(sign, signature, &n, text, sizeof(text)) == 1 &&
		    EVP_DigestVerifyInit(verify, NULL, md, NULL, pkey) == 1 &&
		    EVP_DigestVerify(verify, signature, n, text, sizeof(text)) == 1;

	EVP_MD_CTX_free(sign);
	EVP_MD_CTX_free(verify);
	ERR_clear_error();
	return good;
}

/* Null and *wrong, or a key that works. */
static EVP_PKEY *parse_key(struct slice content, const char **wrong)
{
	EVP_PKEY *pkey = NULL;
	BIO *bio = NULL;

	*wrong = "must hold a private key in PEM form, not encrypted";
	if (content.n == 0 || content.n > 65536) {
		return NULL;
	}
	bio = BIO_new_mem_buf(content.p, (int)content.n);
	if (bio != NULL) {
		pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (pkey == NULL) {
		return NULL;
	}
	int type = EVP_PKEY_get_base_id(pkey);
	int bits = EVP_PKEY_get_bits(pkey);
	if (type != EVP_PKEY_RSA && type != EVP_PKEY_ED25519) {
		*wrong = "must be an RSA or Ed25519 key";
	} else if (type == EVP_PKEY_RSA && bits < (int)DKIM_RSA_BITS_MIN) {
		*wrong = "RSA key under 1024 bits: verifiers refuse it; make one of 2048 bits";
	} else if (type == EVP_PKEY_RSA && bits > (int)DKIM_RSA_BITS_MAX) {
		*wrong = "RSA key over 8192 bits: verifiers refuse it; make one of 2048 bits";
	} else if (!can_sign(pkey, type == EVP_PKEY_ED25519)) {
		*wrong = "does not sign what it verifies: the key is damaged";
	} else {
		return pkey;
	}
	EVP_PKEY_free(pkey);
	return NULL;
}

static struct dkim_secret *find_secret(struct dkim_keys *k, const struct dkim_key_files *files,
	struct slice name, struct slice domain, struct buf *why)
{
	struct hash_link *known = hash_table_find(&k->files, name);
	struct slice content;
	const char *wrong = NULL;

	if (known != NULL) {
		return &CONTAINER_OF(known, struct file, link)->secret;
	}
	if (files->find(files->arg, name, &content) != ERR_OK) {
		explain(why, domain, name, "no such file, or it cannot be read");
		return NULL;
	}
	EVP_PKEY *pkey = parse_key(content, &wrong);
	if (pkey == NULL) {
		explain(why, domain, name, wrong);
		return NULL;
	}
	struct file *f = alloc_zero(1, sizeof(*f));
	f->name = alloc_slice(name);
	f->secret.pkey = pkey;
	f->secret.is_ed25519 = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519;
	f->secret.bits = (unsigned)EVP_PKEY_get_bits(pkey);
	hash_table_insert(&k->files, &f->link, slice_make(f->name, name.n));
	if (!f->secret.is_ed25519 && f->secret.bits < DKIM_RSA_BITS_WEAK) {
		log_warn("event=dkim_key file=%s bits=%u what=\"2048 bits are advised\"",
			LOG_TEXT(name), f->secret.bits);
	}
	return &f->secret;
}

static void file_free(struct file *f)
{
	EVP_PKEY_free(f->secret.pkey);
	free(f->name);
	free(f);
}

/* ---- entries ---- */

/* What may stand in d= and s=: names of the DNS, of which nothing needs quoting anywhere. */
static bool is_dns_name(struct slice s, size_t max)
{
	size_t label = 0;

	if (s.n == 0 || s.n > max) {
		return false;
	}
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = ascii_lower(s.p[i]);
		bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';

		if (c == '.') {
			if (label == 0) {
				return false;
			}
			label = 0;
		} else if (letter || (c == '-' && label > 0)) {
			label++;
		} else {
			return false;
		}
	}
	return label > 0;
}

static void entry_free(struct entry *e)
{
	for (size_t i = 0; i < DKIM_KEYS_PER_DOMAIN; i++) {
		free(e->selectors[i]);
	}
	free(e->name);
	free(e);
}

/* One "selector:keyfile". */
static enum err add_key(struct dkim_keys *k, const struct dkim_key_files *files,
	struct entry *e, struct slice word, struct buf *why)
{
	struct slice domain = slice_from_cstr(e->name);
	size_t colon = slice_find(word, ':');
	struct slice selector = slice_head(word, colon);
	struct slice name = slice_skip(word, colon + 1);

	if (colon == word.n || name.n == 0 || !is_dns_name(selector, SELECTOR_MAX)) {
		explain(why, domain, word, "must be SELECTOR:KEYFILE");
		return ERR_CONFIG;
	}
	if (e->domain.key_count == DKIM_KEYS_PER_DOMAIN) {
		explain(why, domain, word, "at most 4 keys can sign for one domain");
		return ERR_CONFIG;
	}
	size_t at = e->domain.key_count;
	e->selectors[at] = copy_lower(selector);
	e->domain.keys[at].selector = e->selectors[at];
	e->domain.keys[at].secret = find_secret(k, files, name, domain, why);
	if (e->domain.keys[at].secret == NULL) {
		return ERR_CONFIG;
	}
	for (size_t i = 0; i < at; i++) {
		if (strcmp(e->selectors[i], e->selectors[at]) == 0) {
			explain(why, domain, word, "the selector stands there twice");
			return ERR_CONFIG;
		}
	}
	e->domain.key_count++;
	return ERR_OK;
}

static enum err add_entry(struct dkim_keys *k, const struct dkim_key_files *files,
	struct slice domain, struct slice value, struct buf *why)
{
	struct slice word;

	if (!is_dns_name(domain, LIMIT_HOSTNAME)) {
		explain(why, domain, SLICE_EMPTY,
			"must be the domain of a From address, such as example.com");
		return ERR_CONFIG;
	}
	struct entry *e = alloc_zero(1, sizeof(*e));
	e->name = copy_lower(domain);
	e->domain.name = e->name;
	struct slice key = slice_from_cstr(e->name);
	if (hash_table_find(&k->entries, key) != NULL) {
		explain(why, domain, SLICE_EMPTY, "stands there twice");
		entry_free(e);
		return ERR_CONFIG;
	}
	hash_table_insert(&k->entries, &e->link, key);
	while (slice_word(&value, " \t,", &word)) {
		enum err err = add_key(k, files, e, word, why);
		if (err != ERR_OK) {
			return err;
		}
	}
	if (e->domain.key_count == 0) {
		explain(why, domain, SLICE_EMPTY, "must be followed by SELECTOR:KEYFILE");
		return ERR_CONFIG;
	}
	return ERR_OK;
}

enum err dkim_keys_new(const struct table *entries, const struct dkim_key_files *files,
	struct buf *why, struct dkim_keys **out)
{
	struct dkim_keys *k = alloc_zero(1, sizeof(*k));
	size_t count = table_count(entries);

	hash_table_init(&k->files);
	hash_table_init(&k->entries);
	for (size_t i = 0; i < count; i++) {
		struct slice domain;
		struct slice value;

		table_at(entries, i, &domain, &value);
		enum err e = add_entry(k, files, domain, value, why);
		if (e != ERR_OK) {
			dkim_keys_free(&k);
			return e;
		}
	}
	*out = k;
	return ERR_OK;
}

void dkim_keys_free(struct dkim_keys **k)
{
	struct hash_link *link;

	if (*k == NULL) {
		return;
	}
	while ((link = hash_table_next(&(*k)->entries, NULL)) != NULL) {
		hash_table_remove(&(*k)->entries, link);
		entry_free(CONTAINER_OF(link, struct entry, link));
	}
	while ((link = hash_table_next(&(*k)->files, NULL)) != NULL) {
		hash_table_remove(&(*k)->files, link);
		file_free(CONTAINER_OF(link, struct file, link));
	}
	hash_table_clear(&(*k)->entries);
	hash_table_clear(&(*k)->files);
	ALLOC_FREE(*k);
}

size_t dkim_keys_count(const struct dkim_keys *k)
{
	return k->entries.count;
}

const struct dkim_domain *dkim_keys_find(const struct dkim_keys *k, struct slice domain)
{
	char lower[LIMIT_HOSTNAME + 1];

	if (domain.n > 0 && domain.p[domain.n - 1] == '.') {
		domain.n--;
	}
	if (domain.n > LIMIT_HOSTNAME || k->entries.count == 0) {
		return NULL;
	}
	for (size_t i = 0; i < domain.n; i++) {
		lower[i] = (char)ascii_lower(domain.p[i]);
	}
	for (struct slice s = slice_make(lower, domain.n); s.n > 0;) {
		struct hash_link *link = hash_table_find(&k->entries, s);
		if (link != NULL) {
			return &CONTAINER_OF(link, struct entry, link)->domain;
		}
		s = slice_skip(s, slice_find(s, '.') + 1);
	}
	return NULL;
}
