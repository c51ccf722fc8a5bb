/* SPDX-License-Identifier: Apache-2.0 */
/* parts-of: cleanup */
/*
 * dkim_rate [SECONDS]: signatures a second on one core, as cleanup makes them, beside what
 * OpenSSL does with the same key and nothing around it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "cleanup/composer.h"
#include "cleanup/signer.h"
#include "common/base/log.h"
#include "common/base/num.h"

static struct buf key_text;
static uint32_t seconds = 2;

static void require(bool good, const char *what)
{
	if (!good) {
		(void)fprintf(stderr, "dkim_rate: %s\n", what);
		exit(1);
	}
}

/* Of this process, so that what else runs on the machine does not count. */
static double cpu_s(void)
{
	struct timespec t;

	require(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0, "clock");
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static enum err find_file(const void *arg, struct slice name, struct slice *content)
{
	(void)arg;
	(void)name;
	*content = buf_view(&key_text);
	return ERR_OK;
}

static EVP_PKEY *make_key(bool is_ed25519)
{
	EVP_PKEY *key = is_ed25519 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
				   : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;

	require(key != NULL && bio != NULL &&
			PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1,
		"key");
	long n = BIO_get_mem_data(bio, &text);
	buf_reset(&key_text);
	require(buf_append(&key_text, slice_make(text, (size_t)n)) == ERR_OK, "key");
	BIO_free(bio);
	return key;
}

static double raw_rate(EVP_PKEY *key, bool is_ed25519)
{
	static uint8_t text[32];
	uint8_t signature[512];
	unsigned long n = 0;
	double begin = cpu_s();
	double now = begin;

	while (now - begin < seconds) {
		size_t len = sizeof(signature);
		EVP_MD_CTX *ctx = EVP_MD_CTX_new();
		require(EVP_DigestSignInit(ctx, NULL, is_ed25519 ? NULL : EVP_sha256(), NULL,
				key) == 1 &&
				EVP_DigestSign(ctx, signature, &len, text, sizeof(text)) == 1,
			"sign");
		EVP_MD_CTX_free(ctx);
		n++;
		now = cpu_s();
	}
	return (double)n / (now - begin);
}

static double cleanup_rate(struct signer *signer, size_t body_bytes)
{
	static const char header[] =
		"From: Newsletter <news@example.com>\r\nTo: someone@example.net\r\n"
		"Subject: The things of this week, and some of the last\r\n"
		"Date: Thu, 26 Nov 2026 21:19:42 +0000\r\nMessage-ID: <1@example.com>\r\n"
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
		"Content-Transfer-Encoding: 8bit\r\nReply-To: help@example.com\r\n"
		"List-Unsubscribe: <https://example.com/u/1>\r\n"
		"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nX-Mailer: none\r\n";
	static const char line[] =
		"A line of text as one finds it in mail, some seventy bytes of it.\r\n";
	struct dkim_key_files files = {.find = find_file};
	struct dkim_keys *keys = NULL;
	struct table *table = NULL;
	struct buf why;
	struct buf body;
	struct buf head;
	unsigned long n = 0;

	buf_init(&why, 4096);
	buf_init(&body, 1u << 20);
	buf_init(&head, 65536);
	while (buf_len(&body) < body_bytes) {
		require(buf_append(&body, SLICE(line)) == ERR_OK, "body");
	}
	require(table_parse(SLICE("texthash:keys"), SLICE("example.com s:key\n"), &why,
			&table) == ERR_OK &&
			dkim_keys_new(table, &files, &why, &keys) == ERR_OK,
		"keys");
	const struct dkim_domain *domain = dkim_keys_find(keys, SLICE("example.com"));
	struct slice fields = SLICE(header);
	double begin = cpu_s();
	double now = begin;
	while (now - begin < seconds) {
		struct signing *signing = NULL;
		buf_reset(&head);
		require(signing_begin(signer, domain, &fields, 1, &signing) == ERR_OK &&
				signing_body(signing, buf_view(&body)) == ERR_OK &&
				signing_end(&signing, &head) == ERR_OK,
			"signing");
		n++;
		now = cpu_s();
	}
	dkim_keys_free(&keys);
	table_free(&table);
	buf_clear(&why);
	buf_clear(&body);
	buf_clear(&head);
	return (double)n / (now - begin);
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = {4096, 32768, 102400};
	struct signer *signer = NULL;

	log_open("dkim_rate");
	require(argc < 3 && (argc < 2 || num_parse_u32(slice_from_cstr(argv[1]), 60,
						 &seconds) == ERR_OK),
		"usage: dkim_rate [SECONDS]");
	buf_init(&key_text, 65536);
	require(signer_new(&signer) == ERR_OK, "libopendkim");
	for (int kind = 0; kind < 2; kind++) {
		EVP_PKEY *key = make_key(kind == 1);
		double raw = raw_rate(key, kind == 1);

		(void)printf("%-8s OpenSSL alone %29.0f /s\n",
			kind == 1 ? "ed25519" : "rsa2048", raw);
		for (int c = 0; c < 2; c++) {
			const char *canon = c == 0 ? "relaxed/simple" : "relaxed/relaxed";
			signer_set_canonicalization(signer, slice_from_cstr(canon));
			for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
				double rate = cleanup_rate(signer, sizes[i]);
				(void)printf("%-8s %-16s %7zu bytes %10.0f /s  %.2f of it\n",
					kind == 1 ? "ed25519" : "rsa2048", canon, sizes[i],
					rate, rate / raw);
			}
		}
		EVP_PKEY_free(key);
	}
	signer_free(&signer);
	return 0;
}
