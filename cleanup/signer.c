/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/signer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <stdbool.h>

#include <opendkim/dkim.h>

#include "common/base/alloc.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/mail/header.h"

/*
 * What libopendkim may hold for one signature of one message. It gathers one word of the body
 * at a time when that is relaxed, so only a message with one enormous word comes near.
 */
#define MEMORY_MAX ((size_t)64 * 1024 * 1024)
/* Names in h=: the library cuts its list of them at 4,096 bytes, without a word. */
#define NAMES_MAX 3500u
#define SIGNATURE_NAME "DKIM-Signature: "

struct signer {
	DKIM_LIB *library;
	dkim_canon_t header;
	dkim_canon_t body;
};

/* One signature that is being made. */
struct one {
	DKIM *dkim;
	dkim_canon_t header;
	EVP_PKEY *pkey;     /* a reference of its own: the keys may be replaced meanwhile */
	struct list blocks; /* all that the library has allocated for it */
	size_t bytes;
	bool over;    /* the library was denied memory */
	bool has_key; /* the library holds a reference to pkey */
	bool tried;   /* the library has been told to sign */
	bool signed_well;
};

struct signing {
	size_t count;
	bool line_start; /* the next byte of the body begins a line */
	struct one ones[DKIM_KEYS_PER_DOMAIN];
};

/* ---- which fields ---- */

/*
 * The fields of RFC 6376 section 5.4.1, those that receivers demand to be signed (RFC 8058),
 * and the identity of the message. Sorted by nothing: found by length first.
 */
static const struct slice signed_names[] = {
	SLICE_INIT("From"),
	SLICE_INIT("To"),
	SLICE_INIT("Subject"),
	SLICE_INIT("Date"),
	SLICE_INIT("Message-ID"),
	SLICE_INIT("MIME-Version"),
	SLICE_INIT("Content-Type"),
	SLICE_INIT("Content-Transfer-Encoding"),
	SLICE_INIT("Reply-To"),
	SLICE_INIT("Cc"),
	SLICE_INIT("Sender"),
	SLICE_INIT("In-Reply-To"),
	SLICE_INIT("References"),
	SLICE_INIT("Content-ID"),
	SLICE_INIT("Content-Description"),
	SLICE_INIT("Content-Disposition"),
	SLICE_INIT("Resent-Date"),
	SLICE_INIT("Resent-From"),
	SLICE_INIT("Resent-Sender"),
	SLICE_INIT("Resent-To"),
	SLICE_INIT("Resent-Cc"),
	SLICE_INIT("Resent-Message-ID"),
	SLICE_INIT("List-Id"),
	SLICE_INIT("List-Help"),
	SLICE_INIT("List-Unsubscribe"),
	SLICE_INIT("List-Unsubscribe-Post"),
	SLICE_INIT("List-Subscribe"),
	SLICE_INIT("List-Post"),
	SLICE_INIT("List-Owner"),
	SLICE_INIT("List-Archive"),
	SLICE_INIT("Feedback-ID"),
	SLICE_INIT("Auto-Submitted"),
};

/* Named once more than they stand there, so that nobody can add another one (security of RFC
 * 6376 section 8.15). */
static const char *const oversigned_names[] = {"From", "Subject", "To", "Date", "Reply-To",
	"Content-Type", "Cc", "Message-ID", NULL};

static bool is_signed(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(signed_names); i++) {
		if (slice_eq_nocase(name, signed_names[i])) {
			return true;
		}
	}
	return false;
}

/* ---- keys lent to the library ---- */

/*
 * libopendkim takes a key as text only and parses it for every message: that is two thirds of
 * what a signature costs, for PEM and the set-up of a fresh RSA object on its first use. It
 * gets at the key by one call of PEM_read_bio_PrivateKey(). The library is linked statically
 * with
 * --wrap=PEM_read_bio_PrivateKey, so that this call comes here, and is answered with the parsed
 * key that stands in `lent`.
 *
 * This is safe because: the library asks within dkim_eom(), and `lent` is set just before that
 * call and cleared just after; the process has one thread. What is returned has its reference
 * count raised, as the real function's result has, so the library owns what it believes to own
 * and frees it in dkim_free(). The object is only read: OpenSSL keeps what it computes from a
 * key (the legacy RSA object that EVP_PKEY_get1_RSA() makes, its blinding) inside it under its
 * own locks, and that is the gain. With nothing lent the wrapped function is called, for
 * dkim_keys.c.
 *
 * dkim_free() forgets to release Ed25519 keys. So EVP_PKEY_free() is wrapped too, only to see
 * whether the library calls it for `awaited`; where it does not, one_end() does. The library's
 * own allocations go through one_alloc() and end with the signature, forgotten or not. Nothing
 * is left of either.
 */
static EVP_PKEY *lent;
static bool is_taken; /* the library has asked for it */
static EVP_PKEY *awaited;

/* The linker's names, see ld(1), --wrap. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
EVP_PKEY *__real_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **x, pem_password_cb *cb, void *u);
EVP_PKEY *__wrap_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **x, pem_password_cb *cb, void *u);
void __real_EVP_PKEY_free(EVP_PKEY *key);
void __wrap_EVP_PKEY_free(EVP_PKEY *key);

EVP_PKEY *__wrap_PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **x, pem_password_cb *cb, void *u)
{
	if (lent == NULL) {
		return __real_PEM_read_bio_PrivateKey(bio, x, cb, u);
	}
	is_taken = EVP_PKEY_up_ref(lent) == 1;
	return is_taken ? lent : NULL;
}

void __wrap_EVP_PKEY_free(EVP_PKEY *key)
{
	if (key == awaited) {
		awaited = NULL;
	}
	__real_EVP_PKEY_free(key);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* What the library takes for a key: text that begins like PEM. Never parsed. */
static const char key_text[] = "-----";

/* ---- the library's memory ---- */

struct block {
	struct list link;
	size_t bytes;
	max_align_t content[];
};

static void *one_alloc(void *closure, size_t n)
{
	struct one *one = closure;

	if (one == NULL) {
		return alloc_bytes(n);
	}
	if (n > MEMORY_MAX - one->bytes) {
		one->over = true;
		return NULL;
	}
	struct block *b = alloc_bytes(sizeof(*b) + n);
	b->bytes = n;
	one->bytes += n;
	list_append(&one->blocks, &b->link);
	return b->content;
}

static void one_release(void *closure, void *p)
{
	struct one *one = closure;

	if (one == NULL || p == NULL) {
		free(p);
		return;
	}
	struct block *b = CONTAINER_OF(p, struct block, content);
	one->bytes -= b->bytes;
	list_remove(&b->link);
	free(b);
}

/* ---- one signature ---- */

/* The library only reads or copies what it is given; it forgot to say so. */
static void *text_of(const void *p)
{
	union {
		const void *p;
		void *text;
	} u = {.p = p};

	return u.text;
}

static enum err fail(struct one *one, const char *where, DKIM_STAT status)
{
	const char *text = one->dkim == NULL ? NULL : dkim_geterror(one->dkim);

	ERR_clear_error();
	if (one->over) {
		return ERR_TOOBIG;
	}
	log_error("event=dkim where=%s status=%d text=%s", where, (int)status,
		LOG_TEXT(slice_from_cstr(text == NULL ? "" : text)));
	return ERR_LIB;
}

static void one_end(struct one *one)
{
	awaited = one->has_key ? one->pkey : NULL;
	/*
	 * After a failed signature libopendkim has released its RSA object already and
	 * dkim_free() would do so again, which would destroy a key that others use. So a handle
	 * that has failed to sign is not freed; its memory goes below.
	 */
	if (one->dkim != NULL && one->tried == one->signed_well) {
		(void)dkim_free(one->dkim);
	}
	one->dkim = NULL;
	if (awaited != NULL) {
		EVP_PKEY_free(one->pkey); /* in the library's place */
	}
	awaited = NULL;
	for (struct list *l = one->blocks.next; l != &one->blocks;) {
		struct block *b = CONTAINER_OF(l, struct block, link);

		l = l->next;
		free(b);
	}
	list_init(&one->blocks);
	one->bytes = 0;
	EVP_PKEY_free(one->pkey);
	one->pkey = NULL;
}

static enum err one_begin(struct one *one, const struct signer *s, const char *domain,
	const struct dkim_key *key)
{
	DKIM_STAT status = DKIM_STAT_OK;
	dkim_alg_t algorithm = DKIM_SIGN_RSASHA256;

	one->header = s->header;
	if (key->secret->is_ed25519) {
		algorithm = DKIM_SIGN_ED25519SHA256;
		/*
		 * The library folds the line before b= in one way while it signs and in another
		 * when the value is there; for RSA it sees to that, for Ed25519 it does not.
		 * Only relaxed canonicalization makes no difference between the two.
		 */
		one->header = DKIM_CANON_RELAXED;
	}

	one->dkim = dkim_sign(s->library, (const unsigned char *)"", one, text_of(key_text),
		(const unsigned char *)key->selector, (const unsigned char *)domain,
		one->header, s->body, algorithm, -1, &status);
	if (one->dkim == NULL) {
		return fail(one, "sign", status);
	}
	if (EVP_PKEY_up_ref(key->secret->pkey) != 1) {
		return fail(one, "key", DKIM_STAT_NORESOURCE);
	}
	one->pkey = key->secret->pkey;
	return ERR_OK;
}

/*
 * A field without the blanks between its name and the colon. The library allows no tab there;
 * relaxed canonicalization drops them anyway (RFC 6376 section 3.4.2).
 */
static DKIM_STAT one_spaced_field(struct one *one, const struct header_field *f)
{
	struct buf text;
	DKIM_STAT status = DKIM_STAT_NORESOURCE;

	buf_init(&text, f->raw.n + 1);
	if (buf_append(&text, f->name) == ERR_OK && buf_append_byte(&text, ':') == ERR_OK &&
		buf_append(&text, f->value) == ERR_OK) {
		status = dkim_header(one->dkim, text.data, buf_len(&text));
	}
	buf_clear(&text);
	return status;
}

static DKIM_STAT one_field(struct one *one, const struct header_field *f)
{
	bool spaced = f->raw.p[f->name.n] != ':';
	size_t n = (size_t)(f->value.p + f->value.n - f->raw.p);

	if (spaced && one->header == DKIM_CANON_RELAXED) {
		return one_spaced_field(one, f);
	}
	return dkim_header(one->dkim, text_of(f->raw.p), n);
}

static enum err one_fields(struct one *one, const struct slice *header, size_t blocks)
{
	size_t names = 0;
	DKIM_STAT status;

	for (size_t i = 0; i < blocks; i++) {
		struct slice rest = header[i];
		struct header_field f;

		while (header_next(&rest, &f)) {
			/* The library would judge other signatures of the message; and it need
			 * not copy what it does not sign. */
			if (!is_signed(f.name)) {
				continue;
			}
			names += f.name.n + 1;
			if (names > NAMES_MAX) {
				return ERR_TOOBIG;
			}
			status = one_field(one, &f);
			if (status == DKIM_STAT_SYNTAX) {
				return ERR_SYNTAX;
			}
			if (status != DKIM_STAT_OK) {
				return fail(one, "header", status);
			}
		}
	}
	status = dkim_eoh(one->dkim);
	return status == DKIM_STAT_OK ? ERR_OK : fail(one, "end_of_header", status);
}

static enum err one_finish(struct one *one, struct buf *to)
{
	unsigned char *text = NULL;
	size_t n = 0;

	one->tried = true;
	lent = one->pkey;
	is_taken = false;
	DKIM_STAT status = dkim_eom(one->dkim, NULL);
	lent = NULL;
	one->has_key = is_taken;
	if (status != DKIM_STAT_OK) {
		return fail(one, "end_of_message", status);
	}
	one->signed_well = true;
	status = dkim_getsighdr_d(one->dkim, sizeof(SIGNATURE_NAME) - 1, &text, &n);
	if (status != DKIM_STAT_OK) {
		return fail(one, "signature", status);
	}
	if (buf_append(to, SLICE(SIGNATURE_NAME)) != ERR_OK ||
		buf_append(to, slice_make(text, n)) != ERR_OK ||
		buf_append(to, SLICE("\r\n")) != ERR_OK) {
		return ERR_TOOBIG;
	}
	return ERR_OK;
}

/* ---- signings ---- */

static void signing_free(struct signing **g)
{
	for (size_t i = 0; i < (*g)->count; i++) {
		one_end(&(*g)->ones[i]);
	}
	ALLOC_FREE(*g);
}

enum err signing_begin(struct signer *s, const struct dkim_domain *domain,
	const struct slice *header, size_t blocks, struct signing **out)
{
	struct signing *g = alloc_zero(1, sizeof(*g));
	enum err e = ERR_OK;

	g->line_start = true;
	for (size_t i = 0; i < domain->key_count && e == ERR_OK; i++) {
		struct one *one = &g->ones[i];

		list_init(&one->blocks);
		g->count++;
		e = one_begin(one, s, domain->name, &domain->keys[i]);
		if (e == ERR_OK) {
			e = one_fields(one, header, blocks);
		}
	}
	if (e != ERR_OK) {
		signing_free(&g);
		return e;
	}
	*out = g;
	return ERR_OK;
}

static enum err feed(struct signing *g, struct slice s)
{
	if (s.n == 0) {
		return ERR_OK;
	}
	for (size_t i = 0; i < g->count; i++) {
		DKIM_STAT status = dkim_body(g->ones[i].dkim, text_of(s.p), s.n);
		if (status != DKIM_STAT_OK || g->ones[i].over) {
			return fail(&g->ones[i], "body", status);
		}
	}
	return ERR_OK;
}

enum err signing_body(struct signing *g, struct slice wire)
{
	while (wire.n > 0) {
		if (g->line_start && wire.p[0] == '.') {
			g->line_start = false;
			wire = slice_skip(wire, 1);
			continue;
		}
		/* Up to the next line that begins with a dot; most messages have none. */
		const uint8_t *dot = memmem(wire.p, wire.n, "\n.", 2);
		struct slice piece =
			dot == NULL ? wire : slice_head(wire, (size_t)(dot - wire.p) + 1);
		enum err e = feed(g, piece);
		if (e != ERR_OK) {
			return e;
		}
		g->line_start = piece.p[piece.n - 1] == '\n';
		wire = slice_skip(wire, piece.n);
	}
	return ERR_OK;
}

enum err signing_end(struct signing **g, struct buf *to)
{
	size_t before = buf_len(to);
	enum err e = ERR_OK;

	for (size_t i = 0; i < (*g)->count && e == ERR_OK; i++) {
		e = one_finish(&(*g)->ones[i], to);
	}
	if (e != ERR_OK) {
		buf_truncate(to, before);
	}
	signing_free(g);
	return e;
}

void signing_abort(struct signing **g)
{
	if (*g != NULL) {
		signing_free(g);
	}
}

/* ---- the library ---- */

enum err signer_new(struct signer **out)
{
	struct signer *s = alloc_zero(1, sizeof(*s));
	unsigned min_bits = DKIM_RSA_BITS_MIN;
	const char *const *names = oversigned_names;

	s->library = dkim_init(one_alloc, one_release);
	if (s->library == NULL) {
		free(s);
		return ERR_LIB;
	}
	if (dkim_options(s->library, DKIM_OP_SETOPT, DKIM_OPTS_OVERSIGNHDRS, text_of(names),
		    sizeof(names)) != DKIM_STAT_OK ||
		dkim_options(s->library, DKIM_OP_SETOPT, DKIM_OPTS_MINKEYBITS, &min_bits,
			sizeof(min_bits)) != DKIM_STAT_OK ||
		!dkim_libfeature(s->library, DKIM_FEATURE_ED25519)) {
		signer_free(&s);
		return ERR_LIB;
	}
	s->header = DKIM_CANON_RELAXED;
	s->body = DKIM_CANON_SIMPLE;
	*out = s;
	return ERR_OK;
}

void signer_free(struct signer **s)
{
	if (*s != NULL) {
		dkim_close((*s)->library);
		ALLOC_FREE(*s);
	}
}

void signer_set_canonicalization(struct signer *s, struct slice header_and_body)
{
	s->header = slice_starts(header_and_body, SLICE("simple/")) ? DKIM_CANON_SIMPLE
								    : DKIM_CANON_RELAXED;
	s->body = slice_ends_nocase(header_and_body, SLICE("/relaxed")) ? DKIM_CANON_RELAXED
									: DKIM_CANON_SIMPLE;
}

void signer_set_time(struct signer *s, uint64_t wall_s)
{
	DKIM_STAT status = dkim_options(s->library, DKIM_OP_SETOPT, DKIM_OPTS_FIXEDTIME,
		&wall_s, sizeof(wall_s));

	assert(status == DKIM_STAT_OK);
	(void)status;
}
