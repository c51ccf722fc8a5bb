/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "common/base/str.h"
#include "smtpd/tls.h"

#define CHAIN_MOST 20

static enum err complain(struct buf *why, const char *param, struct slice path,
	const char *what)
{
	enum err e =
		buf_printf(why, "%s: %.*s: %s", param, SLICE_ARG(slice_head(path, 400)), what);

	ERR_clear_error();
	(void)e; /* what does not fit is not said */
	return ERR_CONFIG;
}

/* The bytes of a file that a parameter names, as a BIO; null when they did not come. */
static BIO *file_bio(const struct conf *c, enum conf_param p)
{
	struct slice bytes;

	if (conf_file(c, conf_text(c, p), &bytes) != ERR_OK || bytes.n > INT_MAX) {
		return NULL;
	}
	return BIO_new_mem_buf(bytes.p, (int)bytes.n);
}

static int no_passphrase(char *to, int size, int writing, void *arg)
{
	(void)to;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

/* The first certificate is the server's, the others lead towards an anchor. */
static enum err use_chain(SSL_CTX *context, const struct conf *c, struct buf *why)
{
	static const char param[] = "smtpd_tls_cert_file";
	struct slice path = conf_text(c, CONF_smtpd_tls_cert_file);
	enum err e = ERR_OK;
	int count = 0;
	X509 *x = NULL;
	BIO *in = file_bio(c, CONF_smtpd_tls_cert_file);

	if (in == NULL) {
		return complain(why, param, path, "cannot be read");
	}
	while (e == ERR_OK && count < CHAIN_MOST &&
		(x = PEM_read_bio_X509(in, NULL, no_passphrase, NULL)) != NULL) {
		int ok = count == 0 ? SSL_CTX_use_certificate(context, x)
				    : (int)SSL_CTX_add1_chain_cert(context, x);
		if (ok != 1) {
			unsigned long code = ERR_peek_error();
			const char *reason = ERR_reason_error_string(code);
			e = complain(why, param, path,
				reason != NULL ? reason
					       : "holds a certificate that cannot be used");
		}
		X509_free(x);
		count++;
	}
	if (e == ERR_OK && count == 0) {
		e = complain(why, param, path, "holds no certificate in PEM form");
	}
	ERR_clear_error();
	BIO_free(in);
	return e;
}

static enum err use_key(SSL_CTX *context, const struct conf *c, struct buf *why)
{
	static const char param[] = "smtpd_tls_key_file";
	struct slice path = conf_text(c, CONF_smtpd_tls_key_file);
	BIO *in = file_bio(c, CONF_smtpd_tls_key_file);

	if (in == NULL) {
		return complain(why, param, path, "cannot be read");
	}
	EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL);
	BIO_free(in);
	if (key == NULL) {
		return complain(why, param, path,
			"holds no unencrypted private key in PEM form");
	}
	int ok = SSL_CTX_use_PrivateKey(context, key);
	EVP_PKEY_free(key);
	if (ok != 1 || SSL_CTX_check_private_key(context) != 1) {
		return complain(why, param, path, "is not the key of the certificate");
	}
	return ERR_OK;
}

static const struct {
	const char *name;
	int version;
	uint64_t off;
} versions[] = {
	{"SSLv3", SSL3_VERSION, SSL_OP_NO_SSLv3},
	{"TLSv1", TLS1_VERSION, SSL_OP_NO_TLSv1},
	{"TLSv1.0", TLS1_VERSION, SSL_OP_NO_TLSv1},
	{"TLSv1.1", TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
	{"TLSv1.2", TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
	{"TLSv1.3", TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

/* ">=TLSv1.2", "<=TLSv1.3", "!TLSv1"; plain names: these and no others. conf has checked it. */
static void use_versions(SSL_CTX *context, struct slice text)
{
	uint64_t off = 0;
	uint64_t named = 0;
	uint64_t all = 0;
	struct slice word;

	while (slice_word(&text, " \t\r\n,:", &word)) {
		bool is_least = slice_starts(word, SLICE(">="));
		bool is_most = slice_starts(word, SLICE("<="));
		bool is_not = slice_starts(word, SLICE("!"));
		struct slice name = slice_skip(word, is_least || is_most ? 2 : is_not ? 1 : 0);
		for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
			all |= versions[i].off;
			if (!slice_eq_nocase(name, slice_from_cstr(versions[i].name))) {
				continue;
			}
			if (is_least) {
				(void)SSL_CTX_set_min_proto_version(context,
					versions[i].version);
			} else if (is_most) {
				(void)SSL_CTX_set_max_proto_version(context,
					versions[i].version);
			} else if (is_not) {
				off |= versions[i].off;
			} else {
				named |= versions[i].off;
			}
		}
	}
	(void)SSL_CTX_set_options(context, off | (named != 0 ? all & ~named : 0));
}

static const char *cipher_list(const struct conf *c)
{
	if (conf_is(c, CONF_smtpd_tls_ciphers, "high")) {
		return "HIGH:!aNULL:!eNULL";
	}
	/* "export" and "null" are words of old configurations: nobody gets such ciphers. */
	return "HIGH:MEDIUM:!aNULL:!eNULL";
}

enum err tls_context_new(const struct conf *c, struct buf *why, SSL_CTX **out)
{
	static const unsigned char session_name[] = "ekiden smtpd";
	bool is_wanted = conf_is(c, CONF_smtpd_tls_security_level, "may") ||
			 conf_is(c, CONF_smtpd_tls_security_level, "encrypt");
	enum err e = ERR_LIB;

	if (!is_wanted || conf_text(c, CONF_smtpd_tls_cert_file).n == 0) {
		*out = NULL;
		return ERR_OK;
	}
	ERR_clear_error();
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	if (context == NULL || SSL_CTX_set_cipher_list(context, cipher_list(c)) != 1 ||
		SSL_CTX_set_session_id_context(context, session_name,
			sizeof(session_name) - 1) != 1) {
		(void)complain(why, "smtpd_tls_ciphers", SLICE("TLS"), "cannot be set up");
		goto out;
	}
	(void)SSL_CTX_set_options(context,
		SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_SSLv3);
	(void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(context, 1);
	use_versions(context, conf_text(c, CONF_smtpd_tls_protocols));
	e = use_chain(context, c, why);
	if (e == ERR_OK) {
		e = use_key(context, c, why);
	}
out:
	if (e != ERR_OK) {
		SSL_CTX_free(context);
		return ERR_CONFIG;
	}
	*out = context;
	return ERR_OK;
}

void tls_context_free(SSL_CTX **context)
{
	SSL_CTX_free(*context);
	*context = NULL;
}

SSL *tls_new(SSL_CTX *context)
{
	SSL *tls = SSL_new(context);

	ERR_clear_error();
	return tls;
}

void tls_facts(const SSL *tls, char *to, size_t size)
{
	if (str_format(to, size, "%s %s", SSL_get_version(tls), SSL_get_cipher_name(tls)) !=
		ERR_OK) {
		to[0] = '\0';
	}
}
