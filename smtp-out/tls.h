/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls: TLS towards servers: one context for the process, sessions remembered by host.
 *
 * A handshake never fails for the certificate's sake; whom it proved is asked afterwards
 * (tls_judge), before a byte of any message is sent. At level may an unproven server is still
 * better than clear text.
 */
#ifndef SMTP_OUT_TLS_H
#define SMTP_OUT_TLS_H

#include <stddef.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/conf/conf.h"
#include "common/ipc/messages.h"

struct ssl_st;
struct tls;

#define TLS_TEXT_MAX 256u

/* anchors: certificates in PEM, may be empty. ERR_CONFIG, and why says what would be right. */
MUST_CHECK enum err tls_new(struct slice protocols, struct slice grade, struct slice anchors,
	struct buf *why, struct tls **out);
void tls_free(struct tls **t);

/* For a handshake with that host (a name or an address); null when OpenSSL refuses. */
struct ssl_st *tls_client(struct tls *t, const char *host, enum tls_level level);
/* After the handshake: whether the certificate is valid and that host's; why, when it is not.
 */
enum tls_trust tls_judge(const struct ssl_st *ssl, char why[TLS_TEXT_MAX]);
/* "TLSv1.3 TLS_AES_256_GCM_SHA384". */
void tls_describe(const struct ssl_st *ssl, char to[TLS_TEXT_MAX]);

/* ">=TLSv1.2", "<=TLSv1.3", "TLSv1.2", "!SSLv3 !TLSv1": the lowest and highest version in
 * OpenSSL's numbers, 0: any. ERR_SYNTAX. */
MUST_CHECK enum err tls_versions_parse(struct slice text, int *lowest, int *highest);

#endif
