/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/cleaner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup/peer.h"
#include "cleanup/settings.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"

/* Queue ids have one character for the writer; the last ones are for others (qmgr). */
#define WRITERS 48u
/* A list that is there and cannot be opened is tried again so often. */
#define LIST_AGAIN_MS 1000

struct cleaner {
	struct service *service;
	int queue_fd;
	int journal_fd;
	int suppress_fd; /* -1: there is none */
	struct signer *signer;
	struct suppress *suppress; /* null: not open (yet) */
	int64_t list_again_ms;
	struct settings *settings;
	struct settings *pending;
	struct store *store;
	struct committer *committer;
	struct journal_writer *journal;
	struct tx_works works;
	struct peer_hub hub;
};

struct cleaner *cleaner_new(void)
{
	struct cleaner *c = alloc_zero(1, sizeof(*c));

	c->queue_fd = -1;
	c->journal_fd = -1;
	c->suppress_fd = -1;
	tx_works_init(&c->works);
	list_init(&c->hub.peers);
	return c;
}

void cleaner_free(struct cleaner **cleaner)
{
	struct cleaner *c = *cleaner;

	if (c == NULL) {
		return;
	}
	settings_free(&c->settings);
	settings_free(&c->pending);
	signer_free(&c->signer);
	tx_works_clear(&c->works);
	fd_close(&c->queue_fd);
	fd_close(&c->journal_fd);
	fd_close(&c->suppress_fd);
	ALLOC_FREE(*cleaner);
}

/* ---- before the jail ---- */

static enum err open_dir(const char *base, const char *name, int *fd)
{
	char path[4096];
	enum err e = str_format(path, sizeof(path), "%s/%s", base, name);

	if (e != ERR_OK) {
		return e;
	}
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (*fd < 0) {
		int saved = errno;
		log_error("event=open path=%s errno=\"%s\"", LOG_TEXT(slice_from_cstr(path)),
			strerror(saved));
		errno = saved;
		return err_from_errno();
	}
	return ERR_OK;
}

static enum err on_open(struct service *s, void *arg, const struct conf *conf)
{
	struct cleaner *c = arg;
	enum err e = open_dir(conf_cstr(conf, CONF_queue_directory), "queue", &c->queue_fd);

	(void)s;
	if (e == ERR_OK) {
		e = open_dir(conf_cstr(conf, CONF_queue_directory), "journal", &c->journal_fd);
	}
	if (e == ERR_OK) {
		e = signer_new(&c->signer);
	}
	if (e == ERR_OK) {
		/* Told there; what follows from it is told by open_list(). */
		(void)!open_dir(conf_cstr(conf, CONF_data_directory), "suppress",
			&c->suppress_fd);
	}
	return e;
}

/*
 * In the jail: LMDB believes what it reads, and others write those files. Mail that no list
 * speaks of can be taken without it: look-ups say that they failed.
 */
static void open_list(struct cleaner *c)
{
	enum err e = fchdir(c->suppress_fd) == 0 ? suppress_open(".", false, &c->suppress)
						 : err_from_errno();

	if (e == ERR_NOTFOUND) {
		log_debug("event=suppress_open what=\"there is no list yet: bounce makes it\"");
	} else if (e != ERR_OK) {
		log_error("event=suppress_open err=\"%s\"", err_str(e));
	}
	if (e != ERR_OK) {
		c->suppress = NULL;
		c->list_again_ms = e == ERR_NOTFOUND ? 0 : clock_mono_ms() + LIST_AGAIN_MS;
	}
}

/* On the first start of all, bounce may still be making it. */
static struct suppress *find_list(void *arg)
{
	struct cleaner *c = arg;

	if (c->suppress == NULL && clock_mono_ms() >= c->list_again_ms) {
		open_list(c);
	}
	return c->suppress;
}

/* ---- settings ---- */

static enum err on_conf(struct service *s, void *arg, const struct conf *conf, struct buf *why)
{
	struct cleaner *c = arg;

	(void)s;
	settings_free(&c->pending);
	return settings_new(conf, why, &c->pending);
}

static void use_settings(struct cleaner *c)
{
	c->works.settings = c->settings;
	signer_set_canonicalization(c->signer, slice_from_cstr(c->settings->canonicalization));
	if (c->store != NULL) {
		store_set_minimum(c->store, c->settings->queue_minfree,
			c->settings->message_size_limit);
	}
}

static void on_apply(struct service *s, void *arg)
{
	struct cleaner *c = arg;

	(void)s;
	settings_free(&c->settings);
	c->settings = c->pending;
	c->pending = NULL;
	use_settings(c);
}

static void on_forget(struct service *s, void *arg)
{
	struct cleaner *c = arg;

	(void)s;
	settings_free(&c->pending);
}

/* ---- at work ---- */

static void on_store_change(void *arg, uint8_t state)
{
	struct cleaner *c = arg;

	peer_tell_store_state(&c->hub, state);
}

static void on_failure(void *arg, enum err e)
{
	struct cleaner *c = arg;

	store_note_failure(c->store, e);
}

static void on_broken(void *arg, const char *what)
{
	struct cleaner *c = arg;

	service_fail(c->service, what);
}

static void on_ended(void *arg)
{
	struct cleaner *c = arg;

	if (c->hub.draining && c->works.count == 0) {
		service_end(c->service);
	}
}

static enum err on_start(struct service *s, void *arg)
{
	struct cleaner *c = arg;
	const struct conf *conf = s->conf;

	c->service = s;
	c->store = store_new(s->loop, c->queue_fd, on_store_change, c);
	enum err e = committer_new(s->loop, c->queue_fd, s->index % WRITERS, on_failure, c,
		&c->committer);
	if (e == ERR_OK) {
		e = journal_writer_new(s->loop, c->journal_fd, "cleanup", s->index,
			conf_count(conf, CONF_journal_keep_bytes),
			conf_time_s(conf, CONF_journal_keep_time), &c->journal);
	}
	if (e != ERR_OK) {
		return e;
	}
	open_list(c);
	c->works.signer = c->signer;
	c->works.committer = c->committer;
	c->works.store = c->store;
	c->works.journal = c->journal;
	c->works.on_ended = on_ended;
	c->works.arg = c;
	c->hub.loop = s->loop;
	c->hub.works = &c->works;
	c->hub.find_list = find_list;
	c->hub.index = s->index;
	c->hub.on_broken = on_broken;
	c->hub.arg = c;
	use_settings(c);
	return ERR_OK;
}

static void on_peer(struct service *s, void *arg, enum role role, unsigned index, int *fd)
{
	struct cleaner *c = arg;

	(void)s;
	peer_new(&c->hub, role, index, fd);
}

static void on_drain(struct service *s, void *arg, int64_t within_ms)
{
	struct cleaner *c = arg;

	(void)s;
	(void)within_ms;
	c->hub.draining = true;
	on_ended(c);
}

static void on_status(struct service *s, void *arg, struct json *to)
{
	static const char *const states[] =
		{[STORE_OK] = "ok", [STORE_FULL] = "full", [STORE_SICK] = "sick"};
	const struct cleaner *c = arg;
	struct committer_counts n = committer_count(c->committer);

	(void)s;
	json_member_str(to, "store", slice_from_cstr(states[store_state(c->store)]));
	json_member_u64(to, "accepted", n.messages);
	json_member_u64(to, "refused", c->works.refused);
	json_member_u64(to, "groups", n.groups);
	json_member_u64(to, "failures", n.failures);
	json_member_u64(to, "signed", c->works.signatures);
	json_member_u64(to, "transactions", c->works.count);
	json_member_u64(to, "held_bytes", c->works.held);
}

static void on_close(struct service *s, void *arg)
{
	struct cleaner *c = arg;

	(void)s;
	/* What has ended becomes durable and is told; then the segment is sealed, while qmgr
	 * listens. */
	if (c->committer != NULL) {
		committer_flush(c->committer);
		peer_close_submitters(&c->hub);
		committer_free(&c->committer);
	}
	c->works.committer = NULL;
	peer_close_all(&c->hub);
	store_free(&c->store);
	journal_writer_free(&c->journal);
	suppress_close(&c->suppress);
}

static const struct jail_rules jail = {.may = JAIL_FILES};

const struct service_hooks cleaner_hooks = {
	.program = "cleanup",
	.role = ROLE_CLEANUP,
	.jail = &jail,
	.on_open = on_open,
	.on_conf = on_conf,
	.on_apply = on_apply,
	.on_forget = on_forget,
	.on_start = on_start,
	.on_peer = on_peer,
	.on_drain = on_drain,
	.on_status = on_status,
	.on_close = on_close,
};
