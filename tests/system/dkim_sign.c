/* SPDX-License-Identifier: Apache-2.0 */
/* parts-of: cleanup */
/*
 * dkim_sign [-c HEADER/BODY] [-p BYTES] DOMAIN "SELECTOR:KEYFILE ..." <message >message
 *
 * What cleanup does to a message, without any of the relay around it: composed, dot-stuffed,
 * signed in pieces of so many bytes, and written as a receiver gets it. Lines end in CR LF.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup/composer.h"
#include "cleanup/signer.h"
#include "common/base/log.h"
#include "common/base/num.h"

#define MESSAGE_MAX (256u * 1024 * 1024)

static void read_all(FILE *from, struct buf *to)
{
	for (;;) {
		uint8_t *room = buf_reserve(to, 65536);
		if (room == NULL) {
			(void)fprintf(stderr, "dkim_sign: too large\n");
			exit(1);
		}
		size_t n = fread(room, 1, 65536, from);
		if (n == 0) {
			return;
		}
		buf_commit(to, n);
	}
}

static void require(enum err e, const char *what)
{
	if (e != ERR_OK) {
		(void)fprintf(stderr, "dkim_sign: %s: %s\n", what, err_str(e));
		exit(1);
	}
}

static enum err find_file(const void *arg, struct slice name, struct slice *content)
{
	static struct buf files[8];
	static unsigned used;
	char path[4096];

	(void)arg;
	if (used == 8 || name.n >= sizeof(path)) {
		return ERR_TOOBIG;
	}
	memcpy(path, name.p, name.n);
	path[name.n] = '\0';
	FILE *f = fopen(path, "rb");
	if (f == NULL) {
		return ERR_NOTFOUND;
	}
	buf_init(&files[used], MESSAGE_MAX);
	read_all(f, &files[used]);
	(void)fclose(f);
	*content = buf_view(&files[used++]);
	return ERR_OK;
}

/* plain lines to wire form, or back. */
static void copy_dots(struct slice s, bool stuff, struct buf *to)
{
	while (s.n > 0) {
		size_t n = slice_find(s, '\n');
		struct slice line = slice_head(s, n + 1);

		s = slice_skip(s, n + 1);
		if (line.p[0] == '.') {
			if (stuff) {
				require(buf_append_byte(to, '.'), "message");
			} else {
				line = slice_skip(line, 1);
			}
		}
		require(buf_append(to, line), "message");
	}
}

int main(int argc, char **argv)
{
	struct composer_rules rules = {.hostname = SLICE_INIT("relay.example"),
		.mail_name = SLICE_INIT("Ekiden"),
		.add_missing = true,
		.hopcount_limit = 50};
	struct composer_origin origin = {.client_addr = SLICE_INIT("192.0.2.1"),
		.helo = SLICE_INIT("client.example"),
		.protocol = SLICE_INIT("ESMTP"),
		.queue_id = SLICE_INIT("4XyZ4XyZ4XyZ"),
		.wall_s = 1795727982};
	struct composer_refusal why = {0};
	struct composed composed;
	struct dkim_key_files files = {.find = find_file};
	struct dkim_keys *keys = NULL;
	struct signer *signer = NULL;
	struct signing *signing = NULL;
	struct table *table = NULL;
	struct buf entry;
	struct buf text;
	struct buf plain;
	struct buf wire;
	struct buf front;
	struct buf stored;
	struct buf out;
	uint32_t piece = 61440;
	const char *canonicalization = "relaxed/simple";
	int option;

	log_open("dkim_sign");
	while ((option = getopt(argc, argv, "c:p:")) != -1) {
		if (option == 'c') {
			canonicalization = optarg;
		} else if (option != 'p' ||
			   num_parse_u32(slice_from_cstr(optarg), MESSAGE_MAX, &piece) !=
				   ERR_OK ||
			   piece == 0) {
			return 64;
		}
	}
	if (argc - optind != 2) {
		return 64;
	}
	buf_init(&entry, 65536);
	buf_init(&text, 4096);
	buf_init(&plain, MESSAGE_MAX);
	buf_init(&wire, MESSAGE_MAX);
	buf_init(&front, 65536);
	buf_init(&stored, MESSAGE_MAX);
	buf_init(&out, MESSAGE_MAX);
	require(buf_printf(&entry, "%s %s\n", argv[optind], argv[optind + 1]), "arguments");
	require(table_parse(SLICE("texthash:keys"), buf_view(&entry), &text, &table), "table");
	enum err e = dkim_keys_new(table, &files, &text, &keys);
	if (e != ERR_OK) {
		(void)fprintf(stderr, "%.*s\n", SLICE_ARG(buf_view(&text)));
		return 1;
	}
	require(signer_new(&signer), "libopendkim");
	signer_set_canonicalization(signer, slice_from_cstr(canonicalization));

	read_all(stdin, &plain);
	copy_dots(buf_view(&plain), true, &wire);
	struct slice content = buf_view(&wire);
	if (composer_read(content, true, &rules, &composed, &why) != ERR_OK) {
		(void)fprintf(stderr, "%u %s\n", why.smtp_code, why.text);
		return 2;
	}
	require(composer_front(&composed, &rules, &origin, &front), "composer");
	require(buf_append(&stored, buf_view(&composed.kept)), "message");
	require(buf_append(&stored, slice_skip(content, composed.rest_at)), "message");
	const struct dkim_domain *domain = dkim_keys_find(keys, composed.from_domain);
	if (domain != NULL) {
		struct slice header[2] = {buf_view(&front), composed.fields};
		struct buf head;

		require(signing_begin(signer, domain, header, 2, &signing), "signing");
		for (struct slice body = slice_skip(content, composed.body_at); body.n > 0;
			body = slice_skip(body, piece)) {
			require(signing_body(signing, slice_head(body, piece)), "body");
		}
		buf_init(&head, 65536);
		require(signing_end(&signing, &head), "signature");
		copy_dots(buf_view(&head), false, &out);
		buf_clear(&head);
	}
	copy_dots(buf_view(&front), false, &out);
	copy_dots(buf_view(&stored), false, &out);
	if (fwrite(buf_view(&out).p, 1, buf_len(&out), stdout) != buf_len(&out) ||
		fflush(stdout) != 0) {
		return 1;
	}
	composed_clear(&composed);
	signer_free(&signer);
	dkim_keys_free(&keys);
	table_free(&table);
	return 0;
}
