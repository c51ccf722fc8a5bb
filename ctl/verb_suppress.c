/* SPDX-License-Identifier: Apache-2.0 */
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/db/suppress.h"
#include "common/mail/address.h"
#include "common/mail/date.h"
#include "common/mail/verdict.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/output.h"

#define SOCKET "bounce.sock"

/*
 * What root makes here has to be as if the relay had made it: the programs must be able to open
 * it. For good: what is read here was written by a program that may have been captured.
 */
static enum err become_owner(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0) {
		return err_from_errno();
	}
	if (!S_ISDIR(st.st_mode)) {
		return ERR_DENIED;
	}
	if (geteuid() == 0 && st.st_uid != 0 &&
		(setgroups(0, NULL) != 0 || setresgid(st.st_gid, st.st_gid, st.st_gid) != 0 ||
			setresuid(st.st_uid, st.st_uid, st.st_uid) != 0)) {
		return err_from_errno();
	}
	(void)umask(0007);
	return ERR_OK;
}

static enum err open_list(const struct places *places, bool writer, struct suppress **out)
{
	char path[PATH_MAX];

	enum err e = str_format(path, sizeof(path), "%s/suppress", places->data_directory);
	if (e == ERR_OK) {
		e = become_owner(path);
	}
	return e != ERR_OK ? e : suppress_open(path, writer, out);
}

static int open_failed(const struct places *places, enum err e)
{
	if (e == ERR_DENIED) {
		return complain(EX_NOPERM, "the list in %s may not be used by this user",
			places->data_directory);
	}
	if (e == ERR_NOTFOUND) {
		return complain(EX_NOINPUT,
			"there is no list in %s yet; the relay makes it when it starts",
			places->data_directory);
	}
	return complain(EX_IOERR, "the list in %s cannot be opened: %s", places->data_directory,
		err_str(e));
}

static void show_json(const struct suppress_entry *e)
{
	struct buf text;

	buf_init(&text, OUT_LINE_MAX);
	struct json j = json_begin(&text);
	json_object(&j);
	json_member_str(&j, "address", e->address);
	json_member_str(&j, "reason",
		slice_from_cstr(suppress_reason_name((enum suppress_reason)e->reason)));
	json_key(&j, "first");
	json_time_us(&j, e->first_us);
	json_key(&j, "last");
	json_time_us(&j, e->last_us);
	json_member_u64(&j, "count", e->count);
	json_member_u64(&j, "code", e->smtp_code);
	json_member_str(&j, "stage",
		slice_from_cstr(smtp_stage_name((enum smtp_stage)e->stage)));
	json_member_str(&j, "text", e->text);
	json_member_str(&j, "host", e->host);
	json_member_str(&j, "queue_id", e->queue_id);
	json_member_str(&j, "tenant", e->tenant);
	json_object_end(&j);
	out_json_line(&j);
	buf_clear(&text);
}

static void add_row(struct columns *to, const struct suppress_entry *e)
{
	char when[DATE_TEXT_MAX];

	date_format_iso(e->last_us / 1000000 * 1000000, when);
	when[10] = '\0'; /* the day */
	columns_add(to, e->address);
	columns_printf(to, "%s", suppress_reason_name((enum suppress_reason)e->reason));
	columns_printf(to, "%s", when);
	columns_printf(to, "%" PRIu32, e->count);
	columns_add(to, e->text);
}

static int list_all(const struct command *c, struct suppress *s, uint32_t limit)
{
	static const char *const heads[] = {"ADDRESS", "REASON", "LAST", "TIMES", "EVIDENCE"};
	struct suppress_entry e;
	struct columns rows;
	struct arena arena;
	char after[LIMIT_ADDRESS + 1] = "";
	uint64_t shown = 0;
	enum err err = ERR_OK;

	columns_init(&rows, ARRAY_LEN(heads));
	arena_init(&arena, (size_t)1 << 20);
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		columns_add(&rows, slice_from_cstr(heads[i]));
	}
	while ((limit == 0 || shown < limit) && !out_is_broken()) {
		arena_reset(&arena);
		err = suppress_next(s, slice_from_cstr(after), &arena, &e);
		if (err != ERR_OK || str_copy(after, sizeof(after), e.address) != ERR_OK) {
			break;
		}
		shown++;
		if (c->json) {
			show_json(&e);
			continue;
		}
		add_row(&rows, &e);
		/* A long list is shown in pieces, each in columns of its own. */
		if (shown % 1000 == 0) {
			columns_print(&rows);
			columns_clear(&rows);
		}
	}
	suppress_read_end(s);
	if (!c->json && shown == 0) {
		out_printf("The list is empty.\n");
	} else if (!c->json) {
		columns_print(&rows);
	}
	columns_clear(&rows);
	arena_clear(&arena);
	return err == ERR_OK || err == ERR_NOTFOUND
		       ? EX_OK
		       : complain(EX_IOERR, "the list cannot be read: %s", err_str(err));
}

static int run_list(struct command *c)
{
	const char *limit_text = NULL;
	const struct option options[] = {{"--limit", &limit_text, NULL}};
	struct places places;
	struct suppress *s = NULL;
	uint32_t limit = 0;
	int status;

	if (!args_take(c, options, ARRAY_LEN(options))) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("suppress list takes no operands");
	}
	if (limit_text != NULL &&
		num_parse_u32(slice_from_cstr(limit_text), UINT32_MAX, &limit) != ERR_OK) {
		return usage_error("--limit must be a number");
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	enum err e = open_list(&places, false, &s);
	if (e == ERR_NOTFOUND) {
		/* No list yet is an empty list. */
		if (!c->json) {
			out_printf("The list is empty.\n");
		}
		status = EX_OK;
	} else if (e != ERR_OK) {
		status = open_failed(&places, e);
	} else {
		status = list_all(c, s, limit);
	}
	suppress_close(&s);
	places_clear(&places);
	return status;
}

static void show_entry(const struct suppress_entry *e)
{
	char first[DATE_TEXT_MAX];
	char last[DATE_TEXT_MAX];

	date_format_iso(e->first_us, first);
	date_format_iso(e->last_us, last);
	out_text(e->address);
	out_printf("\n  reason    %s\n  first     %s\n  last      %s\n  times     %" PRIu32
		   "\n",
		suppress_reason_name((enum suppress_reason)e->reason), first, last, e->count);
	if (e->smtp_code != 0) {
		out_printf("  reply     %u at %s\n", e->smtp_code,
			smtp_stage_name((enum smtp_stage)e->stage));
	}
	static const char *const names[] = {"evidence", "host", "message"};
	const struct slice texts[] = {e->text, e->host, e->queue_id};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (texts[i].n != 0) {
			out_printf("  %-9s ", names[i]);
			out_text(texts[i]);
			out_printf("\n");
		}
	}
}

/* The operand that is an address; false: told. */
static bool take_address(const struct command *c, const char *word)
{
	struct address a;

	if (c->count == 0) {
		(void)usage_error("suppress %s needs an address", word);
		return false;
	}
	if (strlen(c->args[0]) > LIMIT_ADDRESS ||
		address_parse(slice_from_cstr(c->args[0]), ADDRESS_UTF8 | ADDRESS_LAX_DOTS,
			&a) != ADDRESS_FINE) {
		(void)usage_error("\"%s\" is no mail address", c->args[0]);
		return false;
	}
	return true;
}

static int run_show(struct command *c)
{
	struct places places;
	struct suppress *s = NULL;
	struct suppress_entry entry;
	int status;

	if (!args_take(c, NULL, 0) || !take_address(c, "show")) {
		return EX_USAGE;
	}
	if (c->count != 1) {
		return usage_error("suppress show needs one address");
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	enum err e = open_list(&places, false, &s);
	if (e == ERR_OK) {
		e = suppress_find(s, slice_from_cstr(c->args[0]), &entry);
	}
	if (e == ERR_OK) {
		if (c->json) {
			show_json(&entry);
		} else {
			show_entry(&entry);
		}
		status = EX_OK;
	} else if (e == ERR_NOTFOUND) {
		status = complain(EX_UNAVAILABLE, "%s is not on the list", c->args[0]);
	} else {
		status = open_failed(&places, e);
	}
	if (s != NULL) {
		suppress_read_end(s);
	}
	suppress_close(&s);
	places_clear(&places);
	return status;
}

/* What was asked, for the relay or for the list itself. */
struct change {
	bool add;
	const char *address;
	char reason[LIMIT_TEXT + 1];
};

/* While no relay runs, the command is the writer. */
static int change_directly(const struct places *places, const struct change *ch)
{
	struct suppress *s = NULL;
	int64_t now = clock_wall_us();
	const struct suppress_entry entry = {.address = slice_from_cstr(ch->address),
		.reason = SUPPRESS_MANUAL,
		.first_us = now,
		.last_us = now,
		.count = 1,
		.text = slice_from_cstr(ch->reason)};
	int status = EX_OK;

	enum err e = open_list(places, true, &s);
	if (e != ERR_OK) {
		return open_failed(places, e);
	}
	e = ch->add ? suppress_put(s, &entry) : suppress_remove(s, entry.address);
	if (e == ERR_OK) {
		e = suppress_commit(s);
	}
	if (e == ERR_NOTFOUND) {
		status = complain(EX_UNAVAILABLE, "%s is not on the list", ch->address);
	} else if (e != ERR_OK) {
		status = complain(EX_IOERR, "the list cannot be changed: %s", err_str(e));
	}
	suppress_close(&s);
	return status;
}

static int change_list(struct command *c, const struct change *ch)
{
	struct places places;
	struct client *client = NULL;
	int status;

	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	/* Is there a relay? It is master that says so; bounce may be starting again just now.
	 */
	enum err e = client_open(places.queue_directory, "master.sock", &client);
	client_close(&client);
	if (e == ERR_NOTFOUND || e == ERR_CLOSED) {
		status = change_directly(&places, ch);
	} else if (e != ERR_OK) {
		status = client_absent(places.queue_directory, e);
	} else {
		status = client_order(c, SOCKET,
			ch->add ? CTL_SUPPRESS_ADD : CTL_SUPPRESS_REMOVE, ch->address,
			ch->reason, NULL, NULL, NULL);
	}
	places_clear(&places);
	return status;
}

static int run_change(struct command *c, bool add)
{
	struct change ch = {.add = add};
	size_t used = 0;

	if (!args_take(c, NULL, 0) || !take_address(c, add ? "add" : "remove")) {
		return EX_USAGE;
	}
	if (!add && c->count != 1) {
		return usage_error("suppress remove needs one address");
	}
	ch.address = c->args[0];
	for (size_t i = 1; i < c->count; i++) {
		size_t n = strlen(c->args[i]);
		if (n + 1 > sizeof(ch.reason) - 1 - used) {
			return usage_error("the reason is longer than %u bytes", LIMIT_TEXT);
		}
		if (used != 0) {
			ch.reason[used++] = ' ';
		}
		memcpy(ch.reason + used, c->args[i], n);
		used += n;
	}
	int status = change_list(c, &ch);
	if (c->json) {
		struct buf text;
		buf_init(&text, OUT_LINE_MAX);
		struct json j = json_begin(&text);
		json_object(&j);
		json_member_str(&j, "address", slice_from_cstr(ch.address));
		json_member_bool(&j, "suppressed", add == (status == EX_OK));
		json_member_bool(&j, "ok", status == EX_OK);
		json_object_end(&j);
		out_json_line(&j);
		buf_clear(&text);
	} else if (status == EX_OK) {
		out_printf("%s %s the list\n", ch.address, add ? "is on" : "is off");
	}
	return status;
}

int verb_suppress(struct command *c)
{
	if (args_take_word(c, "list")) {
		return run_list(c);
	}
	if (args_take_word(c, "show")) {
		return run_show(c);
	}
	if (args_take_word(c, "add")) {
		return run_change(c, true);
	}
	if (args_take_word(c, "remove")) {
		return run_change(c, false);
	}
	return usage_error("suppress must be followed by list, show, add or remove");
}
