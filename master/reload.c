/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/conf/problems.h"
#include "common/conf/why.h"
#include "common/io/fd.h"
#include "master/logfile.h"
#include "master/relay_parts.h"

/* For all programs to look at new settings: tables may be large, disks slow. */
#define ANSWER_MS 30000
/* For a socket whose place another one held. */
#define BIND_AGAIN_MS 5
#define GIVE_UP_MS 5000

static void log_level_of(const struct conf *c, uint8_t *level)
{
	static const char *const words[] = {"error", "warn", "info", "debug"};

	*level = LOG_LEVEL_INFO;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (conf_is(c, CONF_log_level, words[i])) {
			*level = (uint8_t)i;
		}
	}
}

/* ---- the end of it ---- */

static void release(struct relay *r)
{
	struct reload *l = &r->reload;

	loop_timer_stop(&l->timer);
	if (l->next != NULL) {
		settings_clear(l->next);
		ALLOC_FREE(l->next);
	}
	listeners_clear(&l->listeners);
	listeners_clear(&l->leaving);
	fd_close(&l->log_fd);
	ALLOC_FREE(l->log_path);
	l->is_binding = false;
	l->awaited = 0;
}

static void finish(struct relay *r, unsigned exit_code, struct slice text)
{
	if (exit_code == EX_OK) {
		log_info("event=reloaded settings=%llu",
			(unsigned long long)r->settings->epoch);
	} else {
		log_error("event=reload_failed why=%s", LOG_TEXT(text));
	}
	notify_reloaded();
	ask_done(&r->reload.asker, exit_code, r->settings->epoch, text);
	release(r);
}

/* Everything stays as it was. */
static void give_back(struct relay *r, unsigned exit_code, struct slice text)
{
	for (size_t i = 0; i < r->child_count; i++) {
		if (r->reload.asked[i]) {
			child_forget(&r->children[i], r->reload.next->epoch);
			r->reload.asked[i] = false;
		}
	}
	finish(r, exit_code, text);
}

void reload_cancel(struct relay *r)
{
	if (r->reload.next != NULL) {
		give_back(r, EX_TEMPFAIL, SLICE("the relay stops"));
	} else if (r->reload.is_binding) {
		finish(r, EX_TEMPFAIL, SLICE("the relay stops"));
	}
}

/* ---- in force ---- */

static void tell_listener_gone(struct relay *r, uint32_t id)
{
	struct msg_unlisten m = {.id = id};

	for (size_t i = 0; i < r->child_count; i++) {
		struct child *c = &r->children[i];
		if (c->takes && c->program->listens &&
			msg_unlisten_send(c->control, &m) != ERR_OK) {
			child_kill(c, "cannot be told of a listener");
		}
	}
}

static void tell_listener_new(struct relay *r, const struct listener *l)
{
	for (size_t i = 0; i < r->child_count; i++) {
		if (r->children[i].program->listens) {
			relay_give_listener(&r->children[i], l);
		}
	}
}

/* The new ones first: between the two a client finds one of them open. */
static void change_listeners(struct relay *r)
{
	struct reload *l = &r->reload;

	l->leaving = r->listeners;
	r->listeners = l->listeners;
	l->listeners = (struct listeners){0};
	for (size_t i = 0; i < r->listeners.count; i++) {
		struct listener *one = &r->listeners.items[i];
		if (!one->is_kept && one->fd >= 0) {
			tell_listener_new(r, one);
		}
		/* So that a later change does not take it for granted. */
		one->is_kept = false;
	}
	for (size_t i = 0; i < l->leaving.count; i++) {
		if (!listeners_have(&r->listeners, &l->leaving.items[i])) {
			tell_listener_gone(r, l->leaving.items[i].id);
		}
	}
}

static void change_log(struct relay *r)
{
	struct reload *l = &r->reload;
	struct msg_log_to m = {.level = LOG_LEVEL_INFO};

	log_level_of(r->settings->conf, &m.level);
	log_set_level((enum log_level)m.level);
	if (l->log_fd < 0) {
		return;
	}
	if (dup2(l->log_fd, STDERR_FILENO) < 0) {
		log_error("event=log_to errno=\"%s\"", strerror(errno));
		return;
	}
	free(r->log_path);
	r->log_path = l->log_path;
	l->log_path = NULL;
	for (size_t i = 0; i < r->child_count; i++) {
		struct child *c = &r->children[i];
		if (c->takes && msg_log_to_send_fd(c->control, &m, l->log_fd) != ERR_OK) {
			child_kill(c, "cannot be told of the log");
		}
	}
}

/*
 * A socket for all addresses and one for a single address cannot listen on one port. The
 * programs close theirs, but when, is theirs to say; this ends the listening at once, whoever
 * holds it.
 */
static void shut_leaving(struct relay *r)
{
	for (size_t i = 0; i < r->reload.leaving.count; i++) {
		struct listener *old = &r->reload.leaving.items[i];
		bool stays = false;
		for (size_t k = 0; k < r->listeners.count; k++) {
			stays = stays || endpoint_eq(&r->listeners.items[k].at, &old->at);
		}
		if (!stays) {
			listener_shut(old);
		}
	}
}

static void bind_rest(struct relay *r)
{
	struct reload *l = &r->reload;
	struct buf why;
	int64_t now_ms = clock_mono_ms();
	bool *was_bound = alloc_zero(r->listeners.count, sizeof(bool));

	for (size_t i = 0; i < r->listeners.count; i++) {
		was_bound[i] = r->listeners.items[i].fd >= 0;
	}
	buf_init(&why, LIMIT_TEXT);
	bool done = listeners_bind_rest(&r->listeners, &why);
	for (size_t i = 0; i < r->listeners.count; i++) {
		if (!was_bound[i] && r->listeners.items[i].fd >= 0) {
			tell_listener_new(r, &r->listeners.items[i]);
		}
	}
	if (done) {
		finish(r, EX_OK, SLICE_EMPTY);
	} else if (now_ms >= l->give_up_ms) {
		finish(r, EX_OSERR, buf_view(&why));
	} else {
		loop_timer_start(&l->timer, BIND_AGAIN_MS);
	}
	buf_clear(&why);
	free(was_bound);
}

static void commit(struct relay *r)
{
	struct reload *l = &r->reload;
	bool waits = l->listeners_wait;

	loop_timer_stop(&l->timer);
	for (size_t i = 0; i < r->child_count; i++) {
		if (l->asked[i]) {
			child_apply(&r->children[i], l->next->epoch);
			l->asked[i] = false;
		} else if (r->children[i].takes) {
			child_offer(&r->children[i], l->next);
		}
	}
	settings_clear(r->settings);
	free(r->settings);
	r->settings = l->next;
	l->next = NULL;
	change_log(r);
	change_listeners(r);
	if (!waits) {
		finish(r, EX_OK, SLICE_EMPTY);
		return;
	}
	l->is_binding = true;
	l->give_up_ms = clock_mono_ms() + GIVE_UP_MS;
	shut_leaving(r);
	bind_rest(r);
}

/* ---- what the programs think ---- */

static void fail_by(struct relay *r, const struct child *c, const char *what)
{
	char text[LIMIT_TEXT];

	if (str_format(text, sizeof(text), "nothing changed: %s %s", c->program->name, what) !=
		ERR_OK) {
		text[0] = '\0';
	}
	give_back(r, EX_CONFIG, slice_from_cstr(text));
}

static void on_late(void *arg)
{
	struct relay *r = arg;

	if (r->reload.is_binding) {
		bind_rest(r);
	} else if (r->reload.next != NULL) {
		give_back(r, EX_TEMPFAIL,
			SLICE("nothing changed: not all programs answered in time"));
	}
}

void reload_on_checked(struct relay *r, struct child *c, uint64_t epoch, struct slice text)
{
	struct reload *l = &r->reload;
	char shown[LIMIT_TEXT];

	if (epoch == r->settings->epoch) {
		/* It began with older settings while these came into force. */
		if (text.n == 0) {
			child_apply(c, epoch);
		} else {
			child_kill(c, "it cannot work with the settings in force");
		}
		return;
	}
	/* One answer each: a program that was captured does not speak for others. */
	if (l->next == NULL || epoch != l->next->epoch || !l->asked[c - r->children] ||
		l->agreed[c - r->children]) {
		return;
	}
	if (text.n != 0) {
		str_printable(shown, sizeof(shown), slice_head(text, LIMIT_TEXT / 2));
		fail_by(r, c, shown);
		return;
	}
	l->agreed[c - r->children] = true;
	l->awaited--;
	if (l->awaited == 0) {
		commit(r);
	}
}

void reload_on_death(struct relay *r, struct child *c)
{
	if (r->reload.next != NULL && r->reload.asked[c - r->children]) {
		r->reload.asked[c - r->children] = false;
		fail_by(r, c, "ended while it looked at the settings");
	}
}

static void offer_all(struct relay *r)
{
	struct reload *l = &r->reload;

	free(l->asked);
	free(l->agreed);
	l->asked = alloc_zero(r->child_count, sizeof(bool));
	l->agreed = alloc_zero(r->child_count, sizeof(bool));
	for (size_t i = 0; i < r->child_count; i++) {
		/* Those that have not begun yet get what is in force when they do. */
		if (r->children[i].takes) {
			l->asked[i] = true;
			l->awaited++;
			child_offer(&r->children[i], l->next);
		}
	}
	if (l->awaited == 0) {
		commit(r);
	} else {
		loop_timer_start(&l->timer, ANSWER_MS);
	}
}

/* ---- reading ---- */

static void tell_problem(struct relay *r, const struct conf_problem *p)
{
	struct buf line;

	log_warn("event=settings file=%s line=%u fatal=%d what=%s", p->file, p->line,
		p->fatal ? 1 : 0, LOG_TEXT(slice_from_cstr(p->text)));
	buf_init(&line, LIMIT_CHUNK_BYTES);
	struct json j = json_begin(&line);
	problems_put_json(&j, p);
	if (json_end(&j) == ERR_OK) {
		ask_line(r->reload.asker, buf_view(&line));
	}
	buf_clear(&line);
}

/* What a running relay cannot change. */
static const enum conf_param fixed[] = {CONF_queue_directory, CONF_data_directory};
static const enum conf_param at_start[] = {CONF_smtpd_processes, CONF_cleanup_processes,
	CONF_smtp_processes};

static enum err check_fixed(const struct relay *r, const struct conf *c, struct buf *why)
{
	const struct conf *now = r->settings->conf;

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		if (!slice_eq(conf_value_text(now, fixed[i]), conf_value_text(c, fixed[i]))) {
			why_add(why, "nothing changed: %s needs a stop and a start",
				conf_param_info(fixed[i])->name);
			return ERR_CONFIG;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(at_start); i++) {
		if (conf_count(now, at_start[i]) != conf_count(c, at_start[i])) {
			log_warn("event=settings what=\"%s has its effect at the next start\"",
				conf_param_info(at_start[i])->name);
		}
	}
	return ERR_OK;
}

/* Everything of the master's own that can fail. */
static enum err prepare(struct relay *r, struct buf *why)
{
	struct reload *l = &r->reload;
	const struct conf *c = l->next->conf;
	enum err e = check_fixed(r, c, why);

	if (e == ERR_OK) {
		e = listeners_prepare(&l->next->source, c, &r->listeners, &l->listeners,
			&l->listeners_wait, why);
	}
	if (e == ERR_OK) {
		listeners_describe(&l->listeners, &l->next->doors);
		e = logfile_open(c, r->start->background, &l->log_fd, &l->log_path, why);
	}
	return e;
}

void reload_begin(struct relay *r, struct ask *asker)
{
	struct reload *l = &r->reload;
	struct buf why;

	if (r->phase != RELAY_RUNNING || l->next != NULL || l->is_binding) {
		log_warn("event=reload what=\"not now\"");
		ask_done(&asker, EX_TEMPFAIL, 0,
			SLICE("the relay is starting, stopping or reloading; try again"));
		return;
	}
	log_info("event=reload");
	notify_reloading();
	l->asker = asker;
	l->listeners_wait = false;
	l->awaited = 0;
	l->next = alloc_zero(1, sizeof(*l->next));
	enum err e = settings_read(l->next, r->start->config_dir, r->settings->epoch + 1);
	for (size_t i = 0; i < l->next->source.problem_count; i++) {
		tell_problem(r, &l->next->source.problems[i]);
	}
	if (e != ERR_OK) {
		finish(r, EX_CONFIG, SLICE("nothing changed: the settings cannot be used"));
		return;
	}
	buf_init(&why, LIMIT_TEXT);
	if (prepare(r, &why) != ERR_OK) {
		finish(r, EX_CONFIG, buf_view(&why));
	} else {
		offer_all(r);
	}
	buf_clear(&why);
}

void reload_init(struct relay *r)
{
	r->reload.log_fd = -1;
	loop_timer_init(&r->reload.timer, r->loop, on_late, r);
}
