/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/db/filter.h"
#include "smtpd/cleanup_peer.h"
#include "smtpd/connection.h"
#include "smtpd/listener.h"
#include "smtpd/server.h"
#include "smtpd/session.h"
#include "smtpd/settings.h"

/* Clients wait in the kernel's queue until a cleanup has spoken, but not for ever: then they
 * are told 451. */
#define KNOWN_WITHIN_MS ((int64_t)10 * 1000)

struct server {
	struct service *service;
	struct cleanup_peers *peers;
	struct filter *filter; /* null: not yet given */
	struct session_env env;
	struct connections connections;
	struct listeners listeners;
	struct loop_timer patience;
	bool has_started;
	bool is_draining;
};

struct server *server_new(void)
{
	return alloc_zero(1, sizeof(struct server));
}

void server_free(struct server **s)
{
	free(*s);
	*s = NULL;
}

static bool may_be_suppressed(void *arg, struct slice address)
{
	const struct server *s = arg;

	return s->filter == NULL || filter_may_have(s->filter, address);
}

static void end_when_empty(struct server *s)
{
	if (s->is_draining && s->connections.count == 0) {
		service_end(s->service);
	}
}

static void on_empty(void *arg)
{
	end_when_empty(arg);
}

static void let_in(void *arg)
{
	struct server *s = arg;

	loop_timer_stop(&s->patience);
	listeners_open(&s->listeners);
}

/* ---- hooks ---- */

/* The settings without options tell whether the configuration is any good before there are
 * listeners; each listener makes its own. */
static enum err on_conf(struct service *service, void *arg, const struct conf *c,
	struct buf *why)
{
	struct server *s = arg;
	struct settings *trial = NULL;
	enum err e = settings_new(c, SLICE("main.cf"), SLICE_EMPTY, why, &trial);

	(void)service;
	if (e == ERR_OK && trial->tls == NULL &&
		conf_is(c, CONF_smtpd_tls_security_level, "may")) {
		log_warn("event=tls what=\"smtpd_tls_security_level = may without "
			 "smtpd_tls_cert_file: STARTTLS is not offered\"");
	}
	settings_free(&trial);
	if (e == ERR_OK && s->has_started) {
		e = listeners_prepare(&s->listeners, c, why);
	}
	return e;
}

static void on_apply(struct service *service, void *arg)
{
	struct server *s = arg;

	(void)service;
	if (s->has_started) {
		listeners_apply(&s->listeners);
	}
}

static void on_forget(struct service *service, void *arg)
{
	struct server *s = arg;

	(void)service;
	if (s->has_started) {
		listeners_forget(&s->listeners);
	}
}

static void on_broken(void *arg)
{
	struct server *s = arg;

	service_fail(s->service, "what cleanup and we sent each other is no message");
}

static enum err on_start(struct service *service, void *arg)
{
	struct server *s = arg;

	s->service = service;
	s->peers = cleanup_peers_new(service->loop, service->index, let_in, on_broken, s);
	session_env_init(&s->env, cleanup_peers_store(s->peers));
	s->env.may_be_suppressed = may_be_suppressed;
	s->env.suppressed_arg = s;
	connections_init(&s->connections, service->loop, &s->env, on_empty, s);
	listeners_init(&s->listeners, service->loop, &s->connections);
	loop_timer_init(&s->patience, service->loop, let_in, s);
	loop_timer_start(&s->patience, KNOWN_WITHIN_MS);
	s->has_started = true;
	return ERR_OK;
}

static void on_listen(struct service *service, void *arg, const struct msg_listen *m, int *fd)
{
	struct server *s = arg;

	listeners_add(&s->listeners, service->conf, m, fd);
}

static void on_unlisten(struct service *service, void *arg, uint32_t id)
{
	struct server *s = arg;

	(void)service;
	listeners_remove(&s->listeners, id);
}

static void on_peer(struct service *service, void *arg, enum role role, unsigned index, int *fd)
{
	struct server *s = arg;

	(void)service;
	if (role == ROLE_CLEANUP) {
		cleanup_peers_set(s->peers, index, fd);
	}
}

static void on_shared(struct service *service, void *arg, unsigned kind, int *fd)
{
	struct server *s = arg;
	struct filter *filter = NULL;

	(void)service;
	if (kind != SHARED_SUPPRESS_FILTER) {
		return;
	}
	enum err e = filter_map(*fd, false, &filter);
	if (e != ERR_OK) {
		/* Every recipient is asked about: slower, and as right. */
		log_error("event=filter err=\"%s\"", err_str(e));
		return;
	}
	filter_unmap(&s->filter);
	s->filter = filter;
}

static void on_drain(struct service *service, void *arg, int64_t within_ms)
{
	struct server *s = arg;

	(void)service;
	(void)within_ms;
	s->is_draining = true;
	s->env.is_draining = true;
	listeners_clear(&s->listeners);
	connections_drain(&s->connections);
	end_when_empty(s);
}

static void on_status(struct service *service, void *arg, struct json *to)
{
	const struct server *s = arg;

	(void)service;
	json_member_u64(to, "connections", s->connections.count);
	json_member_u64(to, "connections_total", s->connections.total);
	json_member_u64(to, "connections_refused", s->connections.turned_away);
	json_member_u64(to, "messages_accepted", s->env.accepted);
	json_member_u64(to, "messages_discarded", s->env.discarded);
	json_member_u64(to, "rejects", s->env.rejected);
	json_member_u64(to, "accept_failures", s->listeners.accept_failures);
	json_member_u64(to, "cleanups", cleanup_peers_count(s->peers));
}

static void on_close(struct service *service, void *arg)
{
	struct server *s = arg;

	(void)service;
	if (!s->has_started) {
		return;
	}
	s->is_draining = false;
	loop_timer_stop(&s->patience);
	listeners_clear(&s->listeners);
	connections_clear(&s->connections);
	cleanup_peers_free(&s->peers);
	session_env_clear(&s->env);
	filter_unmap(&s->filter);
}

static const struct jail_rules rules = {.may = JAIL_ACCEPT};

static const struct service_hooks hooks = {
	.program = "smtpd",
	.role = ROLE_SMTPD,
	.jail = &rules,
	.on_conf = on_conf,
	.on_apply = on_apply,
	.on_forget = on_forget,
	.on_start = on_start,
	.on_listen = on_listen,
	.on_unlisten = on_unlisten,
	.on_peer = on_peer,
	.on_shared = on_shared,
	.on_drain = on_drain,
	.on_status = on_status,
	.on_close = on_close,
};

const struct service_hooks *server_hooks(void)
{
	return &hooks;
}
