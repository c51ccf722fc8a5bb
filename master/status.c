/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "master/jsontext.h"
#include "master/relay_parts.h"

#define WAIT_MS 1000
#define LINE_MAX_BYTES LIMIT_CHUNK_BYTES

static const char *phase_name(const struct relay *r)
{
	if (r->reload.next != NULL || r->reload.is_binding) {
		return "reloading";
	}
	switch (r->phase) {
	case RELAY_STARTING:
		return "starting";
	case RELAY_RUNNING:
		return "running";
	case RELAY_STOPPING:
		return "stopping";
	}
	return "";
}

static void member_text(struct json *j, const char *name, const char *text)
{
	json_member_str(j, name, slice_from_cstr(text));
}

static void put_listeners(struct json *j, const struct listeners *l)
{
	json_key(j, "listeners");
	json_array(j);
	for (size_t i = 0; i < l->count; i++) {
		char addr[ENDPOINT_TEXT_MAX];
		endpoint_format_addr(&l->items[i].at, addr);
		json_object(j);
		member_text(j, "name", l->items[i].name);
		member_text(j, "address", addr);
		json_member_u64(j, "port", l->items[i].bound.port);
		json_member_bool(j, "bound", l->items[i].fd >= 0);
		json_object_end(j);
	}
	json_array_end(j);
}

static void put_relay(struct json *j, const struct relay *r)
{
	const struct conf *c = r->settings->conf;
	uint64_t down = 0;

	for (size_t i = 0; i < r->child_count; i++) {
		down += r->children[i].state != CHILD_UP ? 1 : 0;
	}
	json_object(j);
	member_text(j, "role", "master");
	json_member_i64(j, "pid", getpid());
	member_text(j, "state", phase_name(r));
	json_member_i64(j, "uptime_s", (clock_mono_ms() - r->born_ms) / 1000);
	json_member_str(j, "version", conf_text(c, CONF_mail_version));
	json_member_str(j, "hostname", conf_text(c, CONF_myhostname));
	json_member_str(j, "queue_directory", conf_text(c, CONF_queue_directory));
	json_member_str(j, "data_directory", conf_text(c, CONF_data_directory));
	member_text(j, "config_directory", r->start->config_dir);
	member_text(j, "log", r->log_path == NULL ? "stderr" : r->log_path);
	json_member_bool(j, "privileged", r->users.is_root);
	json_member_u64(j, "programs", r->child_count);
	json_member_u64(j, "not_up", down);
	json_member_u64(j, "settings", r->settings->epoch);
	put_listeners(j, &r->listeners);
	json_object_end(j);
}

static void put_child(struct json *j, const struct child *c)
{
	int64_t now_ms = clock_mono_ms();

	json_object(j);
	member_text(j, "role", c->program->name);
	json_member_u64(j, "index", c->index);
	json_member_i64(j, "pid", c->pid);
	member_text(j, "state", child_state_name(c->state));
	json_member_i64(j, "uptime_s",
		c->state == CHILD_DOWN ? 0 : (now_ms - c->born_ms) / 1000);
	json_member_u64(j, "restarts", c->starts == 0 ? 0 : c->starts - 1);
	if (c->last_end[0] != '\0') {
		member_text(j, "last_end", c->last_end);
	}
	if (c->state == CHILD_DOWN && c->again_ms != 0) {
		json_member_i64(j, "again_in_ms",
			c->again_ms > now_ms ? c->again_ms - now_ms : 0);
	}
	struct slice told = buf_view(&c->status);
	/* A program that was captured writes what it likes; what is no JSON ends here. */
	if (c->state == CHILD_UP && jsontext_is_object(told)) {
		json_key(j, "detail");
		if (j->err == ERR_OK) {
			j->err = buf_append(j->to, told);
		}
		j->need_comma = true;
	}
	json_object_end(j);
}

static void tell_line(struct relay *r, struct ask *to, const struct child *c)
{
	struct buf line;

	buf_init(&line, LINE_MAX_BYTES);
	struct json j = json_begin(&line);
	if (c == NULL) {
		put_relay(&j, r);
	} else {
		put_child(&j, c);
	}
	if (json_end(&j) == ERR_OK) {
		ask_line(to, buf_view(&line));
	}
	buf_clear(&line);
}

void status_finish(struct relay *r)
{
	if (r->status_ask_count == 0) {
		return;
	}
	loop_timer_stop(&r->status_timer);
	for (size_t k = 0; k < r->status_ask_count; k++) {
		tell_line(r, r->status_asks[k], NULL);
		for (size_t i = 0; i < r->child_count; i++) {
			tell_line(r, r->status_asks[k], &r->children[i]);
		}
		ask_done(&r->status_asks[k], EX_OK, r->child_count + 1, SLICE_EMPTY);
	}
	r->status_ask_count = 0;
}

void status_on_pong(struct relay *r)
{
	if (r->status_ask_count == 0) {
		return;
	}
	for (size_t i = 0; i < r->child_count; i++) {
		const struct child *c = &r->children[i];
		if (c->state == CHILD_UP && c->pong_seq != c->ping_seq) {
			return;
		}
	}
	status_finish(r);
}

void status_begin(struct relay *r, struct ask *asker)
{
	if (r->status_ask_count == ASKS_MAX) {
		ask_done(&asker, EX_TEMPFAIL, 0, SLICE("too many ask at once"));
		return;
	}
	r->status_asks[r->status_ask_count++] = asker;
	if (r->status_ask_count == 1) {
		loop_timer_start(&r->status_timer, WAIT_MS);
	}
	for (size_t i = 0; i < r->child_count; i++) {
		child_ping(&r->children[i]);
	}
	/* None may be up. */
	status_on_pong(r);
}

static void on_status_time(void *arg)
{
	status_finish(arg);
}

void status_init(struct relay *r)
{
	loop_timer_init(&r->status_timer, r->loop, on_status_time, r);
}
