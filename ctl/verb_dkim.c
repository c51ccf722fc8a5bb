/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/mail/address.h"
#include "ctl/command.h"
#include "ctl/output.h"

#define TXT_PIECE 255u /* RFC 1035 section 3.3: the longest character-string */

/* The text of a file that exists only when it is whole and on the disk. */
static enum err write_key(const char *path, struct slice pem)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		return err_from_errno();
	}
	enum err e = fd_write_all(fd, pem);
	if (e == ERR_OK && (fchmod(fd, 0600) != 0 || fsync(fd) != 0)) {
		e = err_from_errno();
	}
	fd_close(&fd);
	if (e != ERR_OK) {
		int saved = errno;
		(void)unlink(path);
		errno = saved;
	}
	return e;
}

static enum err sync_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		return err_from_errno();
	}
	enum err e = fsync(fd) == 0 ? ERR_OK : err_from_errno();
	fd_close(&fd);
	return e;
}

/* "v=DKIM1; k=rsa; p=..." of the public half. */
static bool format_record(EVP_PKEY *key, struct buf *to)
{
	unsigned char *der = NULL;
	int n = i2d_PUBKEY(key, &der);
	bool is_good = false;

	if (n > 0) {
		size_t size = ((size_t)n + 2) / 3 * 4 + 1;
		enum err e = buf_append(to, SLICE("v=DKIM1; k=rsa; p="));
		uint8_t *at = e == ERR_OK ? buf_reserve(to, size) : NULL;
		if (at != NULL) {
			int used = EVP_EncodeBlock(at, der, n);
			buf_commit(to, (size_t)used);
			is_good = used > 0;
		}
	}
	OPENSSL_free(der);
	return is_good;
}

static void print_record(const char *selector, const char *domain, struct slice record)
{
	struct slice rest = record;
	bool is_first = true;

	out_printf("%s._domainkey.%s. IN TXT (", selector, domain);
	while (rest.n != 0) {
		struct slice piece = slice_head(rest, TXT_PIECE);
		rest = slice_skip(rest, piece.n);
		out_printf("%s\"%.*s\"", is_first ? " " : "\n\t", SLICE_ARG(piece));
		is_first = false;
	}
	out_printf(" )\n");
}

static void print_json(const char *selector, const char *domain, const char *path,
	struct slice record)
{
	struct buf text;
	char name[LIMIT_TEXT];

	buf_init(&text, OUT_LINE_MAX);
	struct json j = json_begin(&text);
	json_object(&j);
	json_member_str(&j, "domain", slice_from_cstr(domain));
	json_member_str(&j, "selector", slice_from_cstr(selector));
	json_member_str(&j, "key_file", slice_from_cstr(path));
	if (str_format(name, sizeof(name), "%s._domainkey.%s", selector, domain) == ERR_OK) {
		json_member_str(&j, "record_name", slice_from_cstr(name));
	}
	json_member_str(&j, "record", record);
	if (str_format(name, sizeof(name), "%s %s:%s", domain, selector, path) == ERR_OK) {
		json_member_str(&j, "dkim_keys_line", slice_from_cstr(name));
	}
	json_object_end(&j);
	out_json_line(&j);
	buf_clear(&text);
}

static int make_key(struct command *c, const char *domain, const char *selector, uint32_t bits,
	const char *dir)
{
	EVP_PKEY *key = NULL;
	BIO *pem = NULL;
	char *bytes = NULL;
	char path[PATH_MAX];
	struct buf record;
	int status = EX_OK;

	buf_init(&record, 65536);
	if (str_format(path, sizeof(path), "%s/%s.%s.pem", dir, selector, domain) != ERR_OK) {
		return usage_error("the name of the key file would be too long");
	}
	if (access(path, F_OK) == 0) {
		return complain(EX_CANTCREAT, "%s exists; choose another selector", path);
	}
	key = EVP_RSA_gen(bits);
	pem = BIO_new(BIO_s_mem());
	if (key == NULL || pem == NULL ||
		PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) != 1 ||
		!format_record(key, &record)) {
		status = complain(EX_SOFTWARE, "no key could be made");
		goto out;
	}
	long n = BIO_get_mem_data(pem, &bytes);
	enum err e = write_key(path, slice_make(bytes, n > 0 ? (size_t)n : 0));
	if (e == ERR_OK) {
		e = sync_dir(dir);
	}
	if (e != ERR_OK) {
		status = complain(EX_CANTCREAT, "%s: %s", path, strerrordesc_np(errno));
		goto out;
	}
	if (c->json) {
		print_json(selector, domain, path, buf_view(&record));
	} else {
		out_printf("; into the zone of %s:\n", domain);
		print_record(selector, domain, buf_view(&record));
		out_printf("; into the table that dkim_keys names:\n; %s %s:%s\n", domain,
			selector, path);
	}
out:
	EVP_PKEY_free(key);
	BIO_free(pem);
	buf_clear(&record);
	return status;
}

static bool is_file_word(const char *text)
{
	return text[0] != '\0' && strchr(text, '/') == NULL;
}

static int run_create(struct command *c)
{
	const char *bits_text = "2048";
	const char *out = NULL;
	const struct option options[] = {{"--bits", &bits_text, NULL}, {"--out", &out, NULL}};
	char dir[PATH_MAX];
	char whole[PATH_MAX];
	uint32_t bits;

	if (!args_take(c, options, ARRAY_LEN(options))) {
		return EX_USAGE;
	}
	if (c->count == 0 || c->count > 2) {
		return usage_error("dkim create needs a domain, and perhaps a selector");
	}
	const char *selector = c->count == 2 ? c->args[1] : "ekiden";
	if (!domain_is_valid(slice_from_cstr(c->args[0]), 0) || !is_file_word(c->args[0])) {
		return usage_error("\"%s\" is no domain", c->args[0]);
	}
	if (!domain_is_valid(slice_from_cstr(selector), 0) || !is_file_word(selector)) {
		return usage_error("\"%s\" is no selector", selector);
	}
	if (num_parse_u32(slice_from_cstr(bits_text), 8192, &bits) != ERR_OK || bits < 1024) {
		return usage_error("--bits must be 1024 to 8192");
	}
	enum err e = out == NULL ? str_format(dir, sizeof(dir), "%s/dkim", c->dir)
				 : str_format(dir, sizeof(dir), "%s", out);
	if (e != ERR_OK) {
		return usage_error("the name of the folder is too long");
	}
	if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
		return complain(EX_CANTCREAT, "%s: %s", dir, strerrordesc_np(errno));
	}
	/* The line for dkim_keys needs a whole path. */
	if (realpath(dir, whole) == NULL) {
		return complain(EX_CANTCREAT, "%s: %s", dir, strerrordesc_np(errno));
	}
	return make_key(c, c->args[0], selector, bits, whole);
}

int verb_dkim(struct command *c)
{
	if (args_take_word(c, "create")) {
		return run_create(c);
	}
	return usage_error("dkim must be followed by create");
}
