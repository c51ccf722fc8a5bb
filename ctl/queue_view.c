/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/mail/date.h"
#include "common/mail/verdict.h"
#include "ctl/client.h"
#include "ctl/command.h"
#include "ctl/history.h"
#include "ctl/output.h"
#include "ctl/queue_scan.h"
#include "ctl/queue_view.h"

#define CHUNK_BYTES ((size_t)65536)

static const char *state_name(const struct slot *s)
{
	static const char *const names[] = {[SLOT_WAITING] = "waiting",
		[SLOT_DELIVERED] = "delivered",
		[SLOT_FAILED] = "failed",
		[SLOT_EXPIRED] = "expired",
		[SLOT_DELETED] = "deleted",
		[SLOT_SUPPRESSED] = "suppressed",
		[SLOT_MOVED] = "moved"};

	if (s->state == SLOT_WAITING && (s->flags & SLOT_HELD) != 0) {
		return "held";
	}
	return s->state < ARRAY_LEN(names) ? names[s->state] : "?";
}

static void format_status(const struct slot *s, char to[ENHANCED_TEXT_MAX])
{
	const struct enhanced_code code = {.class = s->status_class,
		.subject = s->status_subject,
		.detail = s->status_detail};

	to[0] = '\0';
	if (code.class != 0) {
		enhanced_format(code, to);
	}
}

/* "451 4.7.1 at rcpt", "at connect", or nothing before the first attempt. */
static void format_last(const struct slot *s, char *to, size_t size)
{
	char status[ENHANCED_TEXT_MAX];
	char code[8] = "";

	to[0] = '\0';
	if (s->attempts == 0 && s->stage == STAGE_NONE) {
		return;
	}
	format_status(s, status);
	if (s->smtp_code != 0) {
		(void)snprintf(code, sizeof(code), "%u", s->smtp_code);
	}
	(void)snprintf(to, size, "%s%s%s%sat %s", code, code[0] == '\0' ? "" : " ", status,
		status[0] == '\0' ? "" : " ", smtp_stage_name((enum smtp_stage)s->stage));
}

static uint64_t message_bytes(const struct queue_message *m)
{
	return m->record.head_bytes + m->record.content_bytes;
}

static void json_rcpts(struct json *j, const struct queue_message *m)
{
	char status[ENHANCED_TEXT_MAX];

	json_key(j, "recipients");
	json_array(j);
	for (uint32_t i = 0; i < m->envelope.rcpt_count; i++) {
		const struct slot *s = &m->slots[i];
		json_object(j);
		json_member_str(j, "address", m->envelope.rcpts[i].address);
		json_member_str(j, "state", slice_from_cstr(state_name(s)));
		json_member_u64(j, "attempts", s->attempts);
		if (s->state == SLOT_WAITING && s->next_at_s != 0) {
			json_key(j, "next_attempt");
			json_time_us(j, (int64_t)s->next_at_s * 1000000);
		}
		if (s->attempts != 0 || s->stage != STAGE_NONE) {
			format_status(s, status);
			json_member_u64(j, "code", s->smtp_code);
			json_member_str(j, "status", slice_from_cstr(status));
			json_member_str(j, "stage",
				slice_from_cstr(smtp_stage_name((enum smtp_stage)s->stage)));
		}
		json_object_end(j);
	}
	json_array_end(j);
}

/* Names as in "postqueue -j", and what Postfix has no name for. */
static void json_message(struct json *j, const struct queue_message *m)
{
	bool is_held = false;

	for (uint32_t i = 0; i < m->envelope.rcpt_count; i++) {
		is_held = is_held || strcmp(state_name(&m->slots[i]), "held") == 0;
	}
	json_member_str(j, "queue_name", is_held ? SLICE("hold") : SLICE("queue"));
	json_member_str(j, "queue_id", slice_from_cstr(m->record.queue_id));
	json_member_i64(j, "arrival_time", m->record.accepted_us / 1000000);
	json_key(j, "accepted");
	json_time_us(j, m->record.accepted_us);
	json_member_u64(j, "message_size", message_bytes(m));
	json_member_bool(j, "forced_expire", false);
	json_member_str(j, "sender", m->envelope.sender);
	json_member_u64(j, "live", m->live);
	json_rcpts(j, m);
}

/* ---- list ---- */

struct listing {
	const struct command *command;
	const char *sender;
	const char *rcpt;
	bool held;
	uint32_t limit;
	int64_t now_s;
	uint64_t messages;
	uint64_t rcpts;
	uint64_t bytes;
};

/* An address, or a domain alone. */
static bool address_matches(struct slice address, const char *want)
{
	struct slice w = slice_from_cstr(want);

	if (slice_find(w, '@') != w.n || w.n == 0) {
		return slice_eq_nocase(address, w);
	}
	return slice_eq_nocase(slice_skip(address, slice_find_last(address, '@') + 1), w);
}

static bool list_wants(const struct listing *l, const struct queue_message *m)
{
	bool has_rcpt = l->rcpt == NULL;
	bool has_held = !l->held;

	if (l->sender != NULL && !address_matches(m->envelope.sender,
					 strcmp(l->sender, "<>") == 0 ? "" : l->sender)) {
		return false;
	}
	for (uint32_t i = 0; i < m->envelope.rcpt_count; i++) {
		if (slot_is_final(&m->slots[i])) {
			continue;
		}
		has_rcpt = has_rcpt || address_matches(m->envelope.rcpts[i].address, l->rcpt);
		has_held = has_held || (m->slots[i].flags & SLOT_HELD) != 0;
	}
	return has_rcpt && has_held;
}

/* One recipient, below its message. */
static void show_rcpt(const struct queue_message *m, uint32_t i, int64_t now_s)
{
	const struct slot *s = &m->slots[i];
	char last[128];
	char next[OUT_SHORT_MAX] = "now";

	format_last(s, last, sizeof(last));
	out_printf("%34s", "");
	out_text(m->envelope.rcpts[i].address);
	out_printf("  %s", state_name(s));
	if (s->attempts != 0) {
		out_printf(", %u attempt%s", s->attempts, s->attempts == 1 ? "" : "s");
	}
	if (s->state == SLOT_WAITING && (s->flags & SLOT_HELD) == 0 && s->attempts != 0) {
		if ((int64_t)s->next_at_s > now_s) {
			out_format_age((int64_t)s->next_at_s - now_s, next);
			out_printf(", next in %s", next);
		} else {
			out_printf(", next now");
		}
	}
	if (last[0] != '\0') {
		out_printf(", last %s", last);
	}
	out_printf("\n");
}

static void show_message(const struct queue_message *m, int64_t now_s)
{
	char size[OUT_SHORT_MAX];
	char age[OUT_SHORT_MAX];

	out_format_bytes(message_bytes(m), size);
	out_format_age(now_s - m->record.accepted_us / 1000000, age);
	out_printf("%-14s  %6s  %7s  ", m->record.queue_id, size, age);
	if (m->envelope.sender.n == 0) {
		out_printf("<>");
	} else {
		out_text(m->envelope.sender);
	}
	out_printf("\n");
}

static bool on_listed(void *arg, const struct queue_message *m)
{
	struct listing *l = arg;
	struct buf text;

	if (!list_wants(l, m)) {
		return true;
	}
	if (l->messages == 0 && !l->command->json) {
		out_printf("%-14s  %6s  %7s  %s\n", "QUEUE ID", "SIZE", "AGE",
			"SENDER, RECIPIENTS");
	}
	l->messages++;
	l->rcpts += m->live;
	l->bytes += message_bytes(m);
	if (l->command->json) {
		buf_init(&text, (size_t)1 << 30);
		struct json j = json_begin(&text);
		json_object(&j);
		json_message(&j, m);
		json_object_end(&j);
		out_json_line(&j);
		buf_clear(&text);
	} else {
		show_message(m, l->now_s);
		for (uint32_t i = 0; i < m->envelope.rcpt_count; i++) {
			if (!slot_is_final(&m->slots[i])) {
				show_rcpt(m, i, l->now_s);
			}
		}
	}
	return !out_is_broken() && (l->limit == 0 || l->messages < l->limit);
}

static int scan_failed(const char *queue_directory, enum err e)
{
	if (e == ERR_NOTFOUND) {
		return complain(EX_NOINPUT, "there is no queue in %s", queue_directory);
	}
	if (e == ERR_DENIED) {
		return complain(EX_NOPERM, "the queue in %s may not be read by this user",
			queue_directory);
	}
	return complain(EX_IOERR, "the queue in %s cannot be read: %s", queue_directory,
		e == ERR_SYS ? strerrordesc_np(errno) : err_str(e));
}

static void tell_damage(uint64_t damaged)
{
	if (damaged != 0) {
		(void)complain(0,
			"%" PRIu64
			" stretches of damaged bytes were passed over; the relay sets "
			"them aside when it starts",
			damaged);
	}
}

int queue_view_list(struct command *c)
{
	struct listing l = {.command = c, .now_s = clock_wall_s()};
	struct queue_scan scan = {.on_message = on_listed, .arg = &l};
	const char *limit = NULL;
	const struct option options[] = {{"--sender", &l.sender, NULL},
		{"--rcpt", &l.rcpt, NULL}, {"--held", NULL, &l.held},
		{"--limit", &limit, NULL}};
	struct places places;
	int status = EX_OK;

	if (!args_take(c, options, ARRAY_LEN(options))) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("queue list takes no operands");
	}
	if (limit != NULL &&
		num_parse_u32(slice_from_cstr(limit), UINT32_MAX, &l.limit) != ERR_OK) {
		return usage_error("--limit must be a number");
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	enum err e = queue_scan_run(places.queue_directory, &scan);
	if (e != ERR_OK) {
		status = scan_failed(places.queue_directory, e);
	} else if (!c->json && l.messages == 0) {
		out_printf("The queue is empty.\n");
	} else if (!c->json) {
		char size[OUT_SHORT_MAX];
		out_format_bytes(l.bytes, size);
		out_printf("%" PRIu64 " message%s, %" PRIu64 " recipient%s, %s bytes\n",
			l.messages, l.messages == 1 ? "" : "s", l.rcpts,
			l.rcpts == 1 ? "" : "s", size);
	}
	tell_damage(scan.damaged);
	places_clear(&places);
	return status;
}

/* ---- show ---- */

struct show {
	const struct command *command;
	bool content;
	bool is_found;
	int64_t now_s;
	struct json *json; /* what the message is written to */
};

/* Copies a stretch of the segment, without dot-stuffing, to out; headers only up to the empty
 * line when not all. */
struct unstuff {
	struct buf *to;
	unsigned line_at; /* bytes into the line, at most 2 */
	bool is_over;
	bool headers_only;
};

static void unstuff_feed(struct unstuff *u, struct slice s)
{
	for (size_t i = 0; i < s.n && !u->is_over; i++) {
		uint8_t c = s.p[i];
		if (u->line_at == 0 && c == '.') {
			u->line_at = 1;
			continue;
		}
		if (c == '\r') {
			continue;
		}
		if (c == '\n' && u->line_at == 0 && u->headers_only) {
			u->is_over = true;
			return;
		}
		u->line_at = c == '\n' ? 0 : 1;
		u->is_over = buf_append_byte(u->to, c) != ERR_OK;
	}
}

static bool feed_range(struct unstuff *u, int fd, uint64_t at, uint64_t length)
{
	uint8_t *bytes = alloc_bytes(CHUNK_BYTES);
	bool is_good = true;

	while (is_good && length != 0 && !u->is_over) {
		size_t n = length < CHUNK_BYTES ? (size_t)length : CHUNK_BYTES;
		is_good = fd_pread_all(fd, bytes, n, (off_t)at) == ERR_OK;
		if (is_good) {
			unstuff_feed(u, slice_make(bytes, n));
		}
		at += n;
		length -= n;
	}
	free(bytes);
	return is_good;
}

static void read_content(const struct show *s, const struct queue_message *m, struct buf *to)
{
	struct unstuff u = {.to = to, .headers_only = !s->content};

	if (feed_range(&u, m->fd, m->record.head_at, m->record.head_bytes) && !u.is_over) {
		(void)feed_range(&u, m->fd, m->record.content_at, m->record.content_bytes);
	}
}

static void show_text(const struct show *s, const struct queue_message *m)
{
	char when[DATE_TEXT_MAX];
	struct buf content;
	struct slice rest;
	struct slice line;
	const struct envelope *e = &m->envelope;

	date_format_iso(m->record.accepted_us, when);
	show_message(m, s->now_s);
	for (uint32_t i = 0; i < e->rcpt_count; i++) {
		show_rcpt(m, i, s->now_s);
	}
	out_printf("\naccepted  %s\nfrom      ", when);
	out_text(e->client_name);
	out_printf(" [");
	out_text(e->client_addr);
	out_printf("] by ");
	out_text(e->protocol);
	out_printf("\nsegment   %016" PRIx64 ".seg at %" PRIu64 "\n\n", m->segment,
		m->record.offset);
	buf_init(&content, (size_t)1 << 34);
	read_content(s, m, &content);
	rest = buf_view(&content);
	while (slice_cut(&rest, '\n', &line)) {
		/* Tabs and the like are shown as what they are. */
		out_text(line);
		out_printf("\n");
	}
	buf_clear(&content);
}

static bool on_shown(void *arg, const struct queue_message *m)
{
	struct show *s = arg;
	struct buf content;

	s->is_found = true;
	if (!s->command->json) {
		show_text(s, m);
		return false;
	}
	json_message(s->json, m);
	json_member_str(s->json, "client", m->envelope.client_addr);
	json_member_str(s->json, "client_name", m->envelope.client_name);
	json_member_str(s->json, "helo", m->envelope.helo);
	json_member_str(s->json, "protocol", m->envelope.protocol);
	json_member_str(s->json, "envid", m->envelope.envid);
	buf_init(&content, OUT_LINE_MAX / 8);
	read_content(s, m, &content);
	json_member_str(s->json, s->content ? "content" : "headers", buf_view(&content));
	buf_clear(&content);
	return false;
}

static void on_history(void *arg, const struct history_event *e)
{
	struct show *s = arg;

	if (s->json != NULL) {
		history_put_json(s->json, e);
	} else {
		history_print(e);
	}
}

int queue_view_show(struct command *c)
{
	struct show s = {.command = c, .now_s = clock_wall_s()};
	struct queue_scan scan = {.with_final = true, .on_message = on_shown, .arg = &s};
	const struct option options[] = {{"--content", NULL, &s.content}};
	struct history_filter filter = {.follow = false};
	struct places places;
	struct buf text;
	struct json j;
	uint64_t events = 0;
	int status = EX_OK;

	if (!args_take(c, options, ARRAY_LEN(options))) {
		return EX_USAGE;
	}
	if (c->count != 1 || !queue_id_is_valid(slice_from_cstr(c->args[0]))) {
		return usage_error("queue show needs one queue id");
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	scan.queue_id = slice_from_cstr(c->args[0]);
	filter.qid = scan.queue_id;
	buf_init(&text, OUT_LINE_MAX);
	j = json_begin(&text);
	if (c->json) {
		s.json = &j;
		json_object(&j);
	}
	enum err e = queue_scan_run(places.queue_directory, &scan);
	if (e != ERR_OK) {
		status = scan_failed(places.queue_directory, e);
		goto out;
	}
	if (c->json) {
		json_member_bool(&j, "queued", s.is_found);
		json_key(&j, "history");
		json_array(&j);
	} else if (s.is_found) {
		out_printf("\n");
	}
	e = history_read(places.queue_directory, &filter, on_history, &s, &events);
	if (c->json) {
		json_array_end(&j);
		json_object_end(&j);
	}
	if (!s.is_found && events == 0) {
		status = complain(EX_UNAVAILABLE, "no message %s in the queue or the journal",
			c->args[0]);
	} else if (c->json) {
		out_json_line(&j);
	} else if (e != ERR_OK && e != ERR_NOTFOUND) {
		(void)complain(0, "its history cannot be read: %s", err_str(e));
	}
out:
	buf_clear(&text);
	places_clear(&places);
	return status;
}
