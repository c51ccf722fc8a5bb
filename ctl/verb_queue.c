/* SPDX-License-Identifier: Apache-2.0 */
/* What the operator does to the queue; looking at it is in queue_view.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "common/mail/queue_id.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/jsonview.h"
#include "ctl/output.h"
#include "ctl/queue_view.h"

#define SOCKET "qmgr.sock"

static const struct order {
	const char *word;
	enum ctl_verb verb;
	const char *done; /* "3 messages held" */
} orders[] = {
	{"hold", CTL_QUEUE_HOLD, "held"},
	{"release", CTL_QUEUE_RELEASE, "released"},
	{"delete", CTL_QUEUE_DELETE, "deleted"},
	{"requeue", CTL_QUEUE_REQUEUE, "requeued"},
	{"flush", CTL_QUEUE_FLUSH, "flushed"},
};

/* What several asks did together. */
struct tally {
	const struct command *command;
	const struct order *order;
	uint64_t count;
	bool is_all;
	int status; /* the first that was not 0 */
};

static void ask_one(struct tally *t, const char *operand)
{
	uint64_t count = 0;
	bool is_all = strcmp(operand, "ALL") == 0;

	t->is_all = t->is_all || is_all;
	if (!is_all && !queue_id_is_valid(slice_from_cstr(operand))) {
		int status = usage_error("\"%s\" is neither a queue id nor ALL", operand);
		t->status = t->status == EX_OK ? status : t->status;
		return;
	}
	int status = client_order(t->command, SOCKET, t->order->verb, operand, "", NULL, NULL,
		&count);
	t->count += status == EX_OK ? count : 0;
	t->status = t->status == EX_OK ? status : t->status;
}

/* Ids on standard input, one a line. */
static void ask_input(struct tally *t)
{
	char line[256];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		struct slice word = slice_trim(slice_from_cstr(line));
		char id[sizeof(line)];
		if (word.n == 0) {
			continue;
		}
		memcpy(id, word.p, word.n);
		id[word.n] = '\0';
		ask_one(t, id);
		if (t->status == EX_UNAVAILABLE || t->status == EX_CONFIG) {
			break;
		}
	}
}

static int run_order(struct command *c, const struct order *o)
{
	struct tally t = {.command = c, .order = o, .status = EX_OK};

	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count == 0 && o->verb != CTL_QUEUE_FLUSH) {
		return usage_error("queue %s needs queue ids, or ALL", o->word);
	}
	if (c->count == 0) {
		ask_one(&t, "ALL");
	}
	for (size_t i = 0; i < c->count; i++) {
		if (strcmp(c->args[i], "-") == 0) {
			ask_input(&t);
		} else {
			ask_one(&t, c->args[i]);
		}
	}
	if (c->json) {
		struct buf text;
		buf_init(&text, OUT_LINE_MAX);
		struct json j = json_begin(&text);
		json_object(&j);
		json_member_str(&j, "verb", slice_from_cstr(o->word));
		json_member_u64(&j, "count", t.count);
		json_member_bool(&j, "ok", t.status == EX_OK);
		json_object_end(&j);
		out_json_line(&j);
		buf_clear(&text);
	} else if (t.status == EX_OK || t.count != 0) {
		/* A flush of everything is counted by recipients. */
		bool is_rcpts = t.is_all && o->verb == CTL_QUEUE_FLUSH;
		out_printf("%" PRIu64 " %s%s %s\n", t.count, is_rcpts ? "recipient" : "message",
			t.count == 1 ? "" : "s", o->done);
	}
	return t.status;
}

/* ---- sites ---- */

struct sites {
	const struct command *command;
	struct columns columns;
};

static void add_cell(struct columns *to, struct slice object, const char *name)
{
	struct jsonview_value value;
	struct buf text;

	buf_init(&text, OUT_LINE_MAX);
	if (jsonview_find(object, name, &value)) {
		jsonview_plain(&value, &text);
	}
	columns_add(to, buf_view(&text));
	buf_clear(&text);
}

static void on_site(void *arg, struct slice json)
{
	static const char *const members[] = {"site", "state", "queued", "jobs", "concurrency",
		"delivered", "deferred", "failed", "next_probe", "last_error"};
	struct sites *s = arg;

	if (s->command->json) {
		out_bytes(json);
		(void)putchar('\n');
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		add_cell(&s->columns, json, members[i]);
	}
}

static int list_sites(struct command *c)
{
	static const char *const heads[] = {"SITE", "STATE", "QUEUED", "JOBS", "LIMIT", "SENT",
		"DEFERRED", "FAILED", "NEXT TRY", "LAST ERROR"};
	struct sites s = {.command = c};

	if (!args_take(c, NULL, 0)) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("queue sites takes no operands");
	}
	columns_init(&s.columns, ARRAY_LEN(heads));
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		columns_add(&s.columns, slice_from_cstr(heads[i]));
	}
	int status = client_order(c, SOCKET, CTL_QUEUE_SITES, "", "", on_site, &s, NULL);
	if (status == EX_OK && !c->json) {
		columns_print(&s.columns);
	}
	columns_clear(&s.columns);
	return status;
}

int verb_queue(struct command *c)
{
	if (args_take_word(c, "list")) {
		return queue_view_list(c);
	}
	if (args_take_word(c, "show")) {
		return queue_view_show(c);
	}
	if (args_take_word(c, "sites")) {
		return list_sites(c);
	}
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		if (args_take_word(c, orders[i].word)) {
			return run_order(c, &orders[i]);
		}
	}
	return usage_error(
		"queue must be followed by list, show, hold, release, delete, requeue, "
		"flush or sites");
}
