/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history: events of the journal, filtered, for the verbs that show them.
 */
#ifndef CTL_HISTORY_H
#define CTL_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/slice.h"

struct history_filter {
	int64_t from_us;
	struct slice qid;   /* empty: any */
	struct slice rcpt;  /* empty: any; compares without case */
	struct slice event; /* "attempt"; empty: any */
	bool follow;        /* do not end */
};

struct history_event {
	int64_t time_us;
	struct slice json; /* a whole object */
};

/* Calls on_event in order of time; *count, when not null, is how often. ERR_NOTFOUND: there is
 * no journal. Ends when output is broken. */
MUST_CHECK enum err history_read(const char *queue_directory, const struct history_filter *f,
	void (*on_event)(void *arg, const struct history_event *e), void *arg, uint64_t *count);

/* "attempt" and the like. */
bool history_event_is_known(struct slice name);
/* For people: time, event, then what it says. */
void history_print(const struct history_event *e);
/* As a value of an array. */
void history_put_json(struct json *j, const struct history_event *e);

#endif
