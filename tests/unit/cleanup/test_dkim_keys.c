/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "cleanup/dkim_keys.h"
#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/base/log.h"

enum {
	KEY_RSA,
	KEY_WEAK,
	KEY_SHORT,
	KEY_ED,
	KEY_EC,
	KINDS
};
static struct buf texts[KINDS];
static const char *const names[KINDS] = {"/k/rsa", "/k/weak", "/k/short", "/k/ed", "/k/ec"};

static void write_key(EVP_PKEY *key, const EVP_CIPHER *cipher, struct buf *to)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;
	char secret[] = "secret";

	assert_non_null(key);
	assert_int_equal(PEM_write_bio_PrivateKey(bio, key, cipher, NULL, 0, NULL,
				 cipher == NULL ? NULL : secret),
		1);
	long n = BIO_get_mem_data(bio, &text);
	assert_int_equal(buf_append(to, slice_make(text, (size_t)n)), ERR_OK);
	BIO_free(bio);
}

static int make_keys(void **state)
{
	EVP_PKEY *keys[KINDS] = {
		EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048),
		EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024),
		EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)768),
		EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
		EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"),
	};

	(void)state;
	log_open("test");
	log_set_level(LOG_LEVEL_ERROR);
	for (size_t i = 0; i < KINDS; i++) {
		buf_init(&texts[i], 65536);
		write_key(keys[i], NULL, &texts[i]);
		EVP_PKEY_free(keys[i]);
	}
	return 0;
}

static int drop_keys(void **state)
{
	(void)state;
	for (size_t i = 0; i < KINDS; i++) {
		buf_clear(&texts[i]);
	}
	return 0;
}

static struct slice special; /* the content of /k/special */
static unsigned found;

static enum err find_file(const void *arg, struct slice name, struct slice *content)
{
	(void)arg;
	found++;
	for (size_t i = 0; i < KINDS; i++) {
		if (slice_eq(name, slice_from_cstr(names[i]))) {
			*content = buf_view(&texts[i]);
			return ERR_OK;
		}
	}
	if (slice_eq(name, SLICE("/k/special"))) {
		*content = special;
		return ERR_OK;
	}
	return ERR_NOTFOUND;
}

static const struct dkim_key_files files = {.find = find_file};

/* The keys of a table; null when it is refused, *why says how. */
static struct dkim_keys *parse(const char *table_text, struct buf *why)
{
	struct dkim_keys *keys = NULL;
	struct table *table = NULL;

	buf_reset(why);
	found = 0;
	assert_int_equal(
		table_parse(SLICE("texthash:keys"), slice_from_cstr(table_text), why, &table),
		ERR_OK);
	enum err e = dkim_keys_new(table, &files, why, &keys);
	table_free(&table);
	assert_int_equal(e, keys == NULL ? ERR_CONFIG : ERR_OK);
	return keys;
}

static void finds_the_nearest_domain_that_has_keys(void **state)
{
	static const struct {
		const char *from;
		const char *domain;
	} cases[] = {
		{"example.com", "example.com"},
		{"EXAMPLE.Com", "example.com"},
		{"example.com.", "example.com"},
		{"news.example.com", "example.com"},
		{"a.b.c.example.com", "example.com"},
		{"mail.example.com", "mail.example.com"},
		{"x.mail.example.com", "mail.example.com"},
		{"xmail.example.com", "example.com"},
		{"xexample.com", NULL},
		{"com", NULL},
		{"example.org", NULL},
		{"", NULL},
		{".", NULL},
		{"..", NULL},
		{".example.com", "example.com"},
		{"[192.0.2.1]", NULL},
	};
	struct buf why;

	(void)state;
	buf_init(&why, 4096);
	struct dkim_keys *keys = parse("Example.com s1:/k/rsa\n"
				       "mail.example.com S2:/k/rsa, s3:/k/ed\n",
		&why);
	assert_non_null(keys);
	assert_int_equal(dkim_keys_count(keys), 2);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct dkim_domain *d =
			dkim_keys_find(keys, slice_from_cstr(cases[i].from));
		if (cases[i].domain == NULL) {
			assert_null(d);
		} else {
			assert_non_null(d);
			assert_string_equal(d->name, cases[i].domain);
		}
	}
	char longest[LIMIT_HOSTNAME + 2];
	memset(longest, 'a', sizeof(longest));
	assert_null(dkim_keys_find(keys, slice_make(longest, sizeof(longest))));
	dkim_keys_free(&keys);
	dkim_keys_free(&keys);
	buf_clear(&why);
}

static void parses_each_file_once(void **state)
{
	struct buf why;

	(void)state;
	buf_init(&why, 4096);
	struct dkim_keys *keys = parse("a.example s1:/k/rsa\nb.example s1:/k/rsa s2:/k/ed\n"
				       "c.example s9:/k/ed,s8:/k/weak\n",
		&why);
	assert_non_null(keys);
	assert_int_equal(found, 3);
	const struct dkim_domain *a = dkim_keys_find(keys, SLICE("a.example"));
	const struct dkim_domain *b = dkim_keys_find(keys, SLICE("b.example"));
	const struct dkim_domain *c = dkim_keys_find(keys, SLICE("c.example"));
	assert_int_equal(a->key_count, 1);
	assert_int_equal(b->key_count, 2);
	assert_ptr_equal(a->keys[0].secret, b->keys[0].secret);
	assert_ptr_equal(b->keys[1].secret, c->keys[0].secret);
	assert_string_equal(c->keys[0].selector, "s9");
	assert_false(a->keys[0].secret->is_ed25519);
	assert_int_equal(a->keys[0].secret->bits, 2048);
	assert_true(c->keys[0].secret->is_ed25519);
	assert_int_equal(c->keys[1].secret->bits, 1024); /* warned of, not refused */
	dkim_keys_free(&keys);
	buf_clear(&why);
}

static void explains_what_is_wrong(void **state)
{
	static const struct {
		const char *table;
		const char *why; /* a part of it */
	} cases[] = {
		{"a.example rsa\n", "must be SELECTOR:KEYFILE"},
		{"a.example s1:\n", "must be SELECTOR:KEYFILE"},
		{"a.example :/k/rsa\n", "must be SELECTOR:KEYFILE"},
		{"a.example s_1-:/k/rsa ,\n", NULL},
		{"a.example s;1:/k/rsa\n", "must be SELECTOR:KEYFILE"},
		{"a.example -s:/k/rsa\n", "must be SELECTOR:KEYFILE"},
		{"a.example s1..x:/k/rsa\n", "must be SELECTOR:KEYFILE"},
		{"a.example s1.x:/k/rsa\n", NULL},
		{"a.example s1:/k/none\n", "/k/none: no such file"},
		{"a.example s1:/k/short\n", "under 1024 bits"},
		{"a.example s1:/k/ec\n", "RSA or Ed25519"},
		{"a.example s1:/k/rsa s1:/k/ed\n", "twice"},
		{"a.example a:/k/rsa b:/k/rsa c:/k/rsa d:/k/rsa e:/k/rsa\n", "at most 4"},
		{"* s1:/k/rsa\n", "such as example.com"},
		{".a.example s1:/k/rsa\n", "such as example.com"},
		{"a@b.example s1:/k/rsa\n", "such as example.com"},
		{"a;b.example s1:/k/rsa\n", "such as example.com"},
	};
	struct buf why;

	(void)state;
	buf_init(&why, 4096);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct dkim_keys *keys = parse(cases[i].table, &why);
		if ((keys == NULL) != (cases[i].why != NULL)) {
			fail_msg("%s", cases[i].table);
		}
		if (keys == NULL && memmem(buf_view(&why).p, buf_len(&why), cases[i].why,
					    strlen(cases[i].why)) == NULL) {
			fail_msg("%s: %.*s", cases[i].table, SLICE_ARG(buf_view(&why)));
		}
		dkim_keys_free(&keys);
	}
	struct dkim_keys *keys = parse("", &why);
	assert_int_equal(dkim_keys_count(keys), 0);
	assert_null(dkim_keys_find(keys, SLICE("example.com")));
	dkim_keys_free(&keys);
	buf_clear(&why);
}

static void refuses_files_that_hold_no_usable_key(void **state)
{
	struct buf encrypted;
	struct buf public;
	struct buf why;
	char *text = NULL;

	(void)state;
	buf_init(&why, 4096);
	buf_init(&encrypted, 65536);
	buf_init(&public, 65536);
	/* Nobody may be asked for a passphrase. */
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	write_key(key, EVP_aes_256_cbc(), &encrypted);
	BIO *bio = BIO_new(BIO_s_mem());
	assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
	long n = BIO_get_mem_data(bio, &text);
	assert_int_equal(buf_append(&public, slice_make(text, (size_t)n)), ERR_OK);
	BIO_free(bio);
	EVP_PKEY_free(key);

	const struct slice bad[] = {SLICE_EMPTY, SLICE("garbage"), SLICE("\0\0\0"),
		SLICE("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		buf_view(&encrypted), buf_view(&public)};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		special = bad[i];
		assert_null(parse("a.example s1:/k/special\n", &why));
		assert_non_null(memmem(buf_view(&why).p, buf_len(&why), "PEM", 3));
	}
	/* Cut anywhere, it is none, but for what follows the last line. */
	struct slice whole = buf_view(&texts[KEY_ED]);
	for (size_t i = 0; i + 2 < whole.n; i++) {
		special = slice_head(whole, i);
		assert_null(parse("a.example s1:/k/special\n", &why));
	}
	buf_clear(&encrypted);
	buf_clear(&public);
	buf_clear(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_nearest_domain_that_has_keys),
		cmocka_unit_test(parses_each_file_once),
		cmocka_unit_test(explains_what_is_wrong),
		cmocka_unit_test(refuses_files_that_hold_no_usable_key),
	};

	return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
