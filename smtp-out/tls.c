/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/tls.h"

#include <limits.h>
#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/base/alloc.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/list.h"
#include "common/base/str.h"
#include "common/io/endpoint.h"

#define SESSIONS_MAX 1000u

/* What a server gave us to come back with. */
struct memory {
	struct hash_link by_host;
	struct list lru;
	SSL_SESSION *session;
	char *host;
};

struct tls {
	SSL_CTX *ctx;
	struct hash_table memories;
	struct list lru; /* the least lately used first */
};

/* ---- versions ---- */

static const struct {
	struct slice name;
	int version;
} versions[] = {
	{SLICE_INIT("SSLv3"), SSL3_VERSION},
	{SLICE_INIT("TLSv1"), TLS1_VERSION},
	{SLICE_INIT("TLSv1.0"), TLS1_VERSION},
	{SLICE_INIT("TLSv1.1"), TLS1_1_VERSION},
	{SLICE_INIT("TLSv1.2"), TLS1_2_VERSION},
	{SLICE_INIT("TLSv1.3"), TLS1_3_VERSION},
};

static int version_find(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		if (slice_eq_nocase(name, versions[i].name)) {
			return versions[i].version;
		}
	}
	return 0;
}

/* SSLv3 is never spoken, whatever is asked. */
enum err tls_versions_parse(struct slice text, int *lowest, int *highest)
{
	bool excluded[TLS1_3_VERSION + 1 - SSL3_VERSION] = {true};
	int low = 0;
	int high = 0;
	bool has_list = false;
	struct slice word;

	while (slice_word(&text, " \t,:", &word)) {
		struct slice name = word;
		char how = '\0';
		if (slice_starts(word, SLICE(">=")) || slice_starts(word, SLICE("<="))) {
			how = (char)word.p[0];
			name = slice_skip(word, 2);
		} else if (slice_starts(word, SLICE("!"))) {
			how = '!';
			name = slice_skip(word, 1);
		}
		int version = version_find(name);
		if (version == 0 && how == '!' && slice_eq_nocase(name, SLICE("SSLv2"))) {
			continue;
		}
		if (version == 0) {
			return ERR_SYNTAX;
		}
		if (how == '>') {
			low = version;
		} else if (how == '<') {
			high = version;
		} else if (how == '!') {
			excluded[version - SSL3_VERSION] = true;
		} else {
			/* A plain list: from its lowest to its highest. */
			low = !has_list || version < low ? version : low;
			high = !has_list || version > high ? version : high;
			has_list = true;
		}
	}
	low = low == 0 ? SSL3_VERSION : low;
	high = high == 0 ? TLS1_3_VERSION : high;
	while (low <= TLS1_3_VERSION && excluded[low - SSL3_VERSION]) {
		low++;
	}
	while (high >= SSL3_VERSION && excluded[high - SSL3_VERSION]) {
		high--;
	}
	if (low > high) {
		return ERR_SYNTAX;
	}
	*lowest = low;
	*highest = high;
	return ERR_OK;
}

/* ---- remembered sessions ---- */

static void memory_free(struct tls *t, struct memory *m)
{
	hash_table_remove(&t->memories, &m->by_host);
	list_remove(&m->lru);
	SSL_SESSION_free(m->session);
	free(m->host);
	free(m);
}

static struct memory *memory_find(const struct tls *t, const char *host)
{
	struct hash_link *link = hash_table_find(&t->memories, slice_from_cstr(host));

	return link == NULL ? NULL : CONTAINER_OF(link, struct memory, by_host);
}

/* OpenSSL has a session to remember; 1: it is ours from here on. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	if (host == NULL) {
		return 0; /* known by its address only: not worth it */
	}
	struct memory *m = memory_find(t, host);
	if (m == NULL) {
		if (t->memories.count >= SESSIONS_MAX) {
			memory_free(t, CONTAINER_OF(list_first(&t->lru), struct memory, lru));
		}
		m = alloc_zero(1, sizeof(*m));
		m->host = alloc_cstr(host);
		list_init(&m->lru);
		hash_table_insert(&t->memories, &m->by_host, slice_from_cstr(m->host));
	}
	SSL_SESSION_free(m->session);
	m->session = session;
	list_remove(&m->lru);
	list_append(&t->lru, &m->lru);
	return 1;
}

/* ---- the context ---- */

static enum err complain(struct buf *why, const char *text)
{
	enum err e = buf_printf(why, "%s", text);

	ERR_clear_error();
	return e == ERR_OK ? ERR_CONFIG : e;
}

/* As many certificates as the text holds; one that cannot be read ends them. */
static enum err add_anchors(SSL_CTX *ctx, struct slice pem, struct buf *why)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509 *certificate;
	size_t count = 0;

	if (pem.n == 0) {
		return ERR_OK;
	}
	BIO *bio = pem.n > INT_MAX ? NULL : BIO_new_mem_buf(pem.p, (int)pem.n);
	if (bio == NULL) {
		return complain(why, "smtp_tls_CAfile is too large");
	}
	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		count += X509_STORE_add_cert(store, certificate) == 1 ? 1 : 0;
		X509_free(certificate);
	}
	BIO_free(bio);
	unsigned long code = ERR_peek_last_error();
	bool at_end =
		ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	if (!at_end || count == 0) {
		return complain(why, "smtp_tls_CAfile must hold certificates in PEM");
	}
	return ERR_OK;
}

static const char *cipher_list(struct slice grade)
{
	static const struct {
		struct slice grade;
		const char *ciphers;
	} grades[] = {
		{SLICE_INIT("high"), "HIGH:!aNULL:!eNULL:!MD5"},
		{SLICE_INIT("medium"), "HIGH:MEDIUM:!aNULL:!eNULL:!MD5"},
	};

	for (size_t i = 0; i < ARRAY_LEN(grades); i++) {
		if (slice_eq_nocase(grade, grades[i].grade)) {
			return grades[i].ciphers;
		}
	}
	/* low, export, null: what OpenSSL still has of them, and never no encryption. */
	return "ALL:!aNULL:!eNULL";
}

static enum err set_up(struct tls *t, struct slice protocols, struct slice grade,
	struct slice anchors, struct buf *why)
{
	int lowest = 0;
	int highest = 0;

	t->ctx = SSL_CTX_new(TLS_client_method());
	if (t->ctx == NULL) {
		return complain(why, "OpenSSL gives no context");
	}
	if (tls_versions_parse(protocols, &lowest, &highest) != ERR_OK) {
		return complain(why,
			"smtp_tls_protocols must be like >=TLSv1.2, <=TLSv1.3 or !SSLv3 !TLSv1");
	}
	if (SSL_CTX_set_min_proto_version(t->ctx, lowest) != 1 ||
		SSL_CTX_set_max_proto_version(t->ctx, highest) != 1) {
		return complain(why, "smtp_tls_protocols names versions that OpenSSL lacks");
	}
	if (SSL_CTX_set_cipher_list(t->ctx, cipher_list(grade)) != 1) {
		return complain(why, "smtp_tls_ciphers names a grade that OpenSSL lacks");
	}
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_NONE, NULL);
	(void)SSL_CTX_set_app_data(t->ctx, t);
	(void)SSL_CTX_set_session_cache_mode(t->ctx,
		SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(t->ctx, on_session);
	return add_anchors(t->ctx, anchors, why);
}

enum err tls_new(struct slice protocols, struct slice grade, struct slice anchors,
	struct buf *why, struct tls **out)
{
	struct tls *t = alloc_zero(1, sizeof(*t));

	hash_table_init(&t->memories);
	list_init(&t->lru);
	enum err e = set_up(t, protocols, grade, anchors, why);
	if (e != ERR_OK) {
		tls_free(&t);
		return e;
	}
	*out = t;
	return ERR_OK;
}

void tls_free(struct tls **t)
{
	struct tls *it = *t;
	struct list *entry;

	if (it == NULL) {
		return;
	}
	*t = NULL;
	while ((entry = list_first(&it->lru)) != NULL) {
		memory_free(it, CONTAINER_OF(entry, struct memory, lru));
	}
	hash_table_clear(&it->memories);
	if (it->ctx != NULL) {
		/* Streams may still hold it for a while: they must not find us any more. */
		SSL_CTX_sess_set_new_cb(it->ctx, NULL);
		SSL_CTX_free(it->ctx);
	}
	free(it);
}

/* ---- one connection ---- */

static bool set_host(SSL *ssl, const char *host)
{
	struct endpoint literal;
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	char name[LIMIT_HOSTNAME + 1]; /* the macro wants what is not const */

	if (endpoint_parse_addr(slice_from_cstr(host), 0, &literal) == ERR_OK) {
		return X509_VERIFY_PARAM_set1_ip(param, literal.addr,
			       literal.family == 4 ? 4 : 16) == 1;
	}
	/* RFC 9525: names stand in subjectAltName, and a wildcard is a whole label. */
	SSL_set_hostflags(ssl,
		X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return str_copy(name, sizeof(name), slice_from_cstr(host)) == ERR_OK &&
	       SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, host) == 1;
}

struct ssl_st *tls_client(struct tls *t, const char *host, enum tls_level level)
{
	SSL *ssl = SSL_new(t->ctx);

	if (ssl == NULL) {
		return NULL;
	}
	/* Where clear text would be the alternative, weak keys are welcome. */
	if (level == TLS_MAY || level == TLS_ENCRYPT) {
		SSL_set_security_level(ssl, 1);
	}
	if (host[0] != '\0' && !set_host(ssl, host)) {
		SSL_free(ssl);
		return NULL;
	}
	struct memory *m = memory_find(t, host);
	if (m != NULL && SSL_SESSION_is_resumable(m->session) == 1) {
		(void)SSL_set_session(ssl, m->session);
	}
	ERR_clear_error();
	return ssl;
}

enum tls_trust tls_judge(const struct ssl_st *ssl, char why[TLS_TEXT_MAX])
{
	long result = SSL_get_verify_result(ssl);
	enum tls_trust trust = TRUST_VERIFIED;
	const char *text = "";

	if (SSL_get0_peer_certificate(ssl) == NULL) {
		trust = TRUST_ANONYMOUS;
		text = "it has no certificate";
	} else if (result != X509_V_OK) {
		trust = TRUST_UNTRUSTED;
		text = X509_verify_cert_error_string(result);
	}
	str_printable(why, TLS_TEXT_MAX, slice_from_cstr(text));
	return trust;
}

void tls_describe(const struct ssl_st *ssl, char to[TLS_TEXT_MAX])
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);

	if (str_format(to, TLS_TEXT_MAX, "%s %s", SSL_get_version(ssl),
		    cipher == NULL ? "?" : SSL_CIPHER_get_name(cipher)) != ERR_OK) {
		to[0] = '\0';
	}
}
