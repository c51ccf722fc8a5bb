/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/conf/value.h"
#include "ctl/command.h"
#include "ctl/history.h"
#include "ctl/output.h"
#include "ctl/when.h"

static void on_event(void *arg, const struct history_event *e)
{
	const bool *as_text = arg;

	if (*as_text) {
		history_print(e);
		return;
	}
	out_bytes(e->json);
	(void)putchar('\n');
}

int verb_log(struct command *c)
{
	struct history_filter f = {.follow = false};
	const char *since = NULL;
	const char *qid = NULL;
	const char *rcpt = NULL;
	const char *event = NULL;
	bool as_text = false;
	const struct option options[] = {{"--follow", NULL, &f.follow}, {"-f", NULL, &f.follow},
		{"--since", &since, NULL}, {"--qid", &qid, NULL}, {"--rcpt", &rcpt, NULL},
		{"--event", &event, NULL}, {"--text", NULL, &as_text}};
	struct places places;
	int status = EX_OK;

	if (!args_take(c, options, ARRAY_LEN(options))) {
		return EX_USAGE;
	}
	if (c->count != 0) {
		return usage_error("log takes no operands");
	}
	if (since != NULL &&
		when_parse(slice_from_cstr(since), clock_wall_us(), &f.from_us) != ERR_OK) {
		return usage_error(
			"--since must be a time such as 2026-11-26T21:00:00Z, 2026-11-26, or "
			"10m, 2h, 3d (ago)");
	}
	f.qid = slice_from_cstr(qid);
	f.rcpt = slice_from_cstr(rcpt);
	f.event = slice_from_cstr(event);
	if (f.event.n != 0 && !history_event_is_known(f.event)) {
		return usage_error("no event is called %s; see ekiden help log", event);
	}
	if (!places_find(c, &places)) {
		return EX_CONFIG;
	}
	as_text = as_text && !c->json;
	enum err e = history_read(places.queue_directory, &f, on_event, &as_text, NULL);
	if (e == ERR_NOTFOUND) {
		status = complain(EX_NOINPUT, "there is no journal in %s",
			places.queue_directory);
	} else if (e == ERR_DENIED) {
		status = complain(EX_NOPERM, "the journal in %s may not be read by this user",
			places.queue_directory);
	} else if (e != ERR_OK) {
		status = complain(EX_IOERR, "the journal in %s cannot be read: %s",
			places.queue_directory,
			e == ERR_SYS ? strerrordesc_np(errno) : err_str(e));
	}
	places_clear(&places);
	return status;
}
