/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: the server's side of TLS, made from what master sent: certificates travel as bytes.
 *
 * Nothing older than TLS 1.2 unless the configuration says so, no compression, no
 * renegotiation; sessions resume by tickets, whose key lives and dies with the context. There
 * is one certificate, whatever name a client asks for.
 */
#ifndef SMTPD_TLS_H
#define SMTPD_TLS_H

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/conf/conf.h"

struct ssl_st;
struct ssl_ctx_st;

/* From smtpd_tls_*. *out is null when TLS is not to be offered. ERR_CONFIG: why says what is
 * wrong with certificate or key. */
MUST_CHECK enum err tls_context_new(const struct conf *c, struct buf *why,
	struct ssl_ctx_st **out);
void tls_context_free(struct ssl_ctx_st **context);

/* A connection's side; null when the library cannot. */
struct ssl_st *tls_new(struct ssl_ctx_st *context);

#define TLS_FACTS_MAX 128u
/* "TLSv1.3 TLS_AES_256_GCM_SHA384", at most size - 1 bytes. */
void tls_facts(const struct ssl_st *tls, char *to, size_t size);

#endif
