/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "common/base/limits.h"
#include "common/conf/problems.h"
#include "common/conf/table.h"
#include "ctl/command.h"
#include "ctl/output.h"

/* A key that asks for a passphrase cannot be used; nobody is there to type it. */
static int no_passphrase(char *to, int size, int is_writing, void *arg)
{
	(void)to;
	(void)size;
	(void)is_writing;
	(void)arg;
	return -1;
}

static BIO *bio_of(struct slice bytes)
{
	return BIO_new_mem_buf(bytes.n == 0 ? "" : (const char *)bytes.p, (int)bytes.n);
}

static EVP_PKEY *read_key(struct slice bytes)
{
	BIO *b = bio_of(bytes);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL);

	BIO_free(b);
	ERR_clear_error();
	return key;
}

/* The files are in the configuration: what is looked at is what would be used. */
static void check_tls(const struct command *c, struct conf_source *s)
{
	struct slice cert_path = conf_text(s->checked, CONF_smtpd_tls_cert_file);
	struct slice key_path = conf_text(s->checked, CONF_smtpd_tls_key_file);
	char file[LIMIT_TEXT];
	struct slice cert_bytes;
	struct slice key_bytes;
	struct slice raw;
	unsigned line = 0;

	(void)snprintf(file, sizeof(file), "%s/main.cf", c->dir);
	if (cert_path.n == 0 || conf_file(s->checked, cert_path, &cert_bytes) != ERR_OK) {
		return;
	}
	(void)conf_main_raw(s->main, SLICE("smtpd_tls_cert_file"), &raw, &line);
	BIO *b = bio_of(cert_bytes);
	X509 *cert = PEM_read_bio_X509(b, NULL, no_passphrase, NULL);
	BIO_free(b);
	if (cert == NULL) {
		problems_add(s, true, file, line, "smtpd_tls_cert_file: no certificate in %.*s",
			SLICE_ARG(slice_head(cert_path, 200)));
	} else if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
		problems_add(s, false, file, line, "smtpd_tls_cert_file: %.*s has expired",
			SLICE_ARG(slice_head(cert_path, 200)));
	}
	if (conf_file(s->checked, key_path, &key_bytes) == ERR_OK) {
		EVP_PKEY *key = read_key(key_bytes);
		if (key == NULL) {
			problems_add(s, true, file, line,
				"smtpd_tls_key_file: no private key without a passphrase in %.*s",
				SLICE_ARG(slice_head(key_path, 200)));
		} else if (cert != NULL && X509_check_private_key(cert, key) != 1) {
			problems_add(s, true, file, line,
				"smtpd_tls_key_file: %.*s does not belong to the certificate",
				SLICE_ARG(slice_head(key_path, 200)));
		}
		EVP_PKEY_free(key);
	}
	X509_free(cert);
	ERR_clear_error();
}

static void check_dkim_key(const char *file, struct conf_source *s, unsigned line,
	struct slice domain, struct slice path)
{
	struct slice bytes;

	if (conf_file(s->checked, path, &bytes) != ERR_OK) {
		return;
	}
	EVP_PKEY *key = read_key(bytes);
	if (key == NULL) {
		problems_add(s, true, file, line, "dkim_keys: %.*s: no private key in %.*s",
			SLICE_ARG(slice_head(domain, 100)), SLICE_ARG(slice_head(path, 200)));
	} else if (EVP_PKEY_base_id(key) == EVP_PKEY_RSA && EVP_PKEY_bits(key) < 1024) {
		problems_add(s, true, file, line,
			"dkim_keys: %.*s: %.*s has %d bits; receivers ignore keys below 1024 (RFC 8301)",
			SLICE_ARG(slice_head(domain, 100)), SLICE_ARG(slice_head(path, 200)),
			EVP_PKEY_bits(key));
	}
	EVP_PKEY_free(key);
}

static void check_dkim(const struct command *c, struct conf_source *s)
{
	char file[LIMIT_TEXT];
	struct table *t = NULL;
	struct slice raw;
	struct buf why;
	unsigned line = 0;

	(void)snprintf(file, sizeof(file), "%s/main.cf", c->dir);
	buf_init(&why, LIMIT_TEXT);
	(void)conf_main_raw(s->main, SLICE("dkim_keys"), &raw, &line);
	if (table_from_conf(s->checked, CONF_dkim_keys, &why, &t) == ERR_OK) {
		for (size_t i = 0; i < table_count(t); i++) {
			struct slice domain;
			struct slice rest;
			struct slice word;
			table_at(t, i, &domain, &rest);
			while (slice_word(&rest, " \t\r\n,", &word)) {
				check_dkim_key(file, s, line, domain,
					slice_skip(word, slice_find(word, ':') + 1));
			}
		}
	}
	table_free(&t);
	buf_clear(&why);
}

static void tell_problem(const struct conf_problem *p)
{
	char place[32] = "";

	if (p->line != 0) {
		(void)snprintf(place, sizeof(place), ":%u", p->line);
	}
	(void)fprintf(stderr, "%s%s: %s: %s\n", p->file, place, p->fatal ? "error" : "warning",
		p->text);
}

static void tell_json(const struct conf_source *s)
{
	struct buf text;

	buf_init(&text, OUT_LINE_MAX);
	struct json j = json_begin(&text);
	json_object(&j);
	json_member_bool(&j, "ok", !s->has_fatal);
	json_key(&j, "problems");
	json_array(&j);
	for (size_t i = 0; i < s->problem_count; i++) {
		problems_put_json(&j, &s->problems[i]);
	}
	json_array_end(&j);
	json_key(&j, "listeners");
	json_array(&j);
	for (size_t i = 0; i < s->listener_count; i++) {
		const struct conf_listener *l = &s->listeners[i];
		json_object(&j);
		json_member_str(&j, "name", slice_from_cstr(l->name));
		json_member_str(&j, "host", slice_from_cstr(l->host));
		json_member_u64(&j, "port", l->port);
		json_object_end(&j);
	}
	json_array_end(&j);
	json_object_end(&j);
	out_json_line(&j);
	buf_clear(&text);
}

bool check_configuration(const struct command *c, struct conf_source *s, enum check_tell tell)
{
	conf_source_read(c->dir, s);
	size_t first = s->problem_count;
	if (s->checked != NULL) {
		check_tls(c, s);
		check_dkim(c, s);
	}
	if (tell == CHECK_TELL_JSON) {
		tell_json(s);
		return !s->has_fatal;
	}
	if (tell == CHECK_TELL_ALL || s->has_fatal) {
		first = 0;
	}
	for (size_t i = first; i < s->problem_count; i++) {
		tell_problem(&s->problems[i]);
	}
	return !s->has_fatal;
}

int verb_check(struct command *c)
{
	struct conf_source s;

	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("check takes no operands");
	}
	bool is_good = check_configuration(c, &s, c->json ? CHECK_TELL_JSON : CHECK_TELL_ALL);
	size_t count = s.problem_count;
	conf_source_clear(&s);
	if (!c->json && is_good) {
		out_printf("%s: fine, %zu warning%s\n", c->dir, count, count == 1 ? "" : "s");
	}
	return is_good ? EX_OK : EX_CONFIG;
}
