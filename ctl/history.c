/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/journal/event.h"
#include "common/journal/journal_reader.h"
#include "ctl/history.h"
#include "ctl/jsonview.h"
#include "ctl/output.h"

#define FOLLOW_PAUSE_NS 100000000L

static const struct {
	struct slice name;
	uint16_t type;
} types[] = {
#define AS_TYPE(id, name, FIELDS) {SLICE_INIT(#name), (id)},
	EVENT_ALL(AS_TYPE)
#undef AS_TYPE
};

bool history_event_is_known(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (slice_eq(types[i].name, name)) {
			return true;
		}
	}
	return false;
}

static bool type_matches(uint16_t type, struct slice want)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (types[i].type == type) {
			return slice_eq(types[i].name, want);
		}
	}
	return false;
}

static bool member_is(struct slice json, const char *name, struct slice want, bool fold)
{
	struct jsonview_value value;
	struct buf plain;

	if (!jsonview_find(json, name, &value)) {
		return false;
	}
	buf_init(&plain, value.text.n + 1);
	jsonview_plain(&value, &plain);
	bool is = fold ? slice_eq_nocase(buf_view(&plain), want)
		       : slice_eq(buf_view(&plain), want);
	buf_clear(&plain);
	return is;
}

/* Cheap questions first: most records of a large journal are of no interest. */
static bool record_may_match(const struct journal_record *r, const struct history_filter *f)
{
	if (f->event.n != 0 && !type_matches(r->type, f->event)) {
		return false;
	}
	return f->qid.n == 0 || memmem(r->body.p, r->body.n, f->qid.p, f->qid.n) != NULL;
}

static bool json_matches(struct slice json, const struct history_filter *f)
{
	if (f->qid.n != 0 && !member_is(json, "qid", f->qid, false) &&
		!member_is(json, "notice_qid", f->qid, false)) {
		return false;
	}
	return f->rcpt.n == 0 || member_is(json, "rcpt", f->rcpt, true) ||
	       member_is(json, "address", f->rcpt, true);
}

static enum err open_journal(const char *queue_directory, int *fd)
{
	char path[PATH_MAX];

	enum err e = str_format(path, sizeof(path), "%s/journal", queue_directory);
	if (e != ERR_OK) {
		return e;
	}
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *fd < 0 ? err_from_errno() : ERR_OK;
}

static void pause_for_more(void)
{
	const struct timespec pause = {.tv_nsec = FOLLOW_PAUSE_NS};

	(void)fflush(stdout);
	(void)nanosleep(&pause, NULL);
}

enum err history_read(const char *queue_directory, const struct history_filter *f,
	void (*on_event)(void *arg, const struct history_event *e), void *arg, uint64_t *count)
{
	struct journal_reader *r = NULL;
	struct journal_record record;
	struct buf text;
	uint64_t n = 0;
	int dir = -1;

	buf_init(&text, OUT_LINE_MAX);
	enum err e = open_journal(queue_directory, &dir);
	if (e == ERR_OK) {
		e = journal_reader_new(dir, f->from_us, &r);
	}
	while (e == ERR_OK && !out_is_broken()) {
		e = journal_reader_next(r, &record);
		if (e == ERR_AGAIN && f->follow) {
			pause_for_more();
			e = ERR_OK;
			continue;
		}
		if (e != ERR_OK) {
			break;
		}
		if (!record_may_match(&record, f)) {
			continue;
		}
		buf_reset(&text);
		if (event_to_json(record.type, record.time_us, record.by, record.body, &text) !=
				ERR_OK ||
			!json_matches(buf_view(&text), f)) {
			continue;
		}
		const struct history_event event = {.time_us = record.time_us,
			.json = buf_view(&text)};
		n++;
		on_event(arg, &event);
	}
	journal_reader_free(&r);
	fd_close(&dir);
	buf_clear(&text);
	if (count != NULL) {
		*count = n;
	}
	return e == ERR_AGAIN ? ERR_OK : e;
}

static void print_text(struct slice json, const char *name, const char *behind)
{
	struct jsonview_value value;
	struct buf plain;

	buf_init(&plain, OUT_LINE_MAX);
	if (jsonview_find(json, name, &value)) {
		jsonview_plain(&value, &plain);
	}
	out_text(buf_view(&plain));
	out_printf("%s", behind);
	buf_clear(&plain);
}

static void print_pair(struct slice name, struct slice text)
{
	bool is_quoted = slice_find(text, ' ') != text.n;

	out_printf(" ");
	out_text(name);
	out_printf("=%s", is_quoted ? "\"" : "");
	out_text(text);
	out_printf("%s", is_quoted ? "\"" : "");
}

void history_print(const struct history_event *e)
{
	static const char *const heads[] = {"time", "event", "by"};
	struct jsonview v = jsonview_open(e->json);
	struct jsonview_value value;
	struct slice name;
	struct buf plain;

	print_text(e->json, "time", "  ");
	print_text(e->json, "by", ": ");
	print_text(e->json, "event", "");
	buf_init(&plain, OUT_LINE_MAX);
	while (jsonview_next(&v, &name, &value)) {
		bool is_head = false;
		for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
			is_head = is_head || slice_eq(name, slice_from_cstr(heads[i]));
		}
		buf_reset(&plain);
		jsonview_plain(&value, &plain);
		/* What says nothing is left out. */
		if (!is_head && buf_len(&plain) != 0 &&
			!slice_eq(buf_view(&plain), SLICE("0"))) {
			print_pair(name, buf_view(&plain));
		}
	}
	out_printf("\n");
	buf_clear(&plain);
}

void history_put_json(struct json *j, const struct history_event *e)
{
	json_raw(j, e->json);
}
