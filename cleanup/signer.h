/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signer: DKIM signatures (RFC 6376) by libopendkim.
 *
 * A signing takes the header fields at once and the body as it comes, in wire form
 * (dot-stuffed); what is signed is the form without those dots, as the receiver sees it. All
 * keys of a domain sign, each with a signature of its own.
 */
#ifndef CLEANUP_SIGNER_H
#define CLEANUP_SIGNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cleanup/dkim_keys.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

struct signer;
struct signing;

/* Before the jail: the library reads files of the resolver when it starts. */
MUST_CHECK enum err signer_new(struct signer **out);
void signer_free(struct signer **s);
/* "relaxed/simple" and the like: header and body; for signings that begin from now on. Ed25519
 * signs the header relaxed in any case: libopendkim cannot do it otherwise. */
void signer_set_canonicalization(struct signer *s, struct slice header_and_body);
/* Tests only: t= of all signatures. */
void signer_set_time(struct signer *s, uint64_t wall_s);

/*
 * Begins to sign for a domain. header is one or two blocks of whole fields, in the order of the
 * message. Nothing of the arguments is needed afterwards, nor are the keys. ERR_TOOBIG: more
 * fields than a signature can name. ERR_SYNTAX: a field in a form that cannot be signed.
 * ERR_LIB: it has been logged; the message must not leave unsigned.
 */
MUST_CHECK enum err signing_begin(struct signer *s, const struct dkim_domain *domain,
	const struct slice *header, size_t blocks, struct signing **out);
/* The body, in pieces that may be cut anywhere. */
MUST_CHECK enum err signing_body(struct signing *g, struct slice wire);
/*
 * Appends one "DKIM-Signature: ... CR LF" for each key. Frees the signing whatever comes out.
 * ERR_LIB, ERR_TOOBIG as above.
 */
MUST_CHECK enum err signing_end(struct signing **g, struct buf *to);
void signing_abort(struct signing **g);

#endif
