/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"

static int open_dir(const char *base, const char *name)
{
	char path[4096];

	if (str_format(path, sizeof(path), "%s/%s", base, name) != ERR_OK) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/*
 * What root has put back from a backup becomes ours: a file of root's that stands nowhere else.
 * Done before the list is opened, for to close one of its files would give up LMDB's locks.
 */
static void take_files(int dir)
{
	static const char *const names[] = {"data.mdb", "lock.mdb"};
	struct stat owner;
	struct stat st;

	if (geteuid() != 0 || fstat(dir, &owner) != 0) {
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int fd = openat(dir, names[i],
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 &&
			st.st_nlink == 1 && fchown(fd, owner.st_uid, owner.st_gid) != 0) {
			log_warn("event=chown_failed file=%s err=\"%s\"", names[i],
				strerror(errno));
		}
		fd_close(&fd);
	}
}

static enum err on_open(struct service *s, void *arg, const struct conf *c)
{
	struct daemon *d = arg;

	(void)s;
	d->journal_dir = -1;
	d->suppress_dir = open_dir(conf_cstr(c, CONF_data_directory), "suppress");
	if (d->suppress_dir < 0) {
		return err_from_errno();
	}
	take_files(d->suppress_dir);
	d->journal_dir = open_dir(conf_cstr(c, CONF_queue_directory), "journal");
	return d->journal_dir < 0 ? err_from_errno() : ERR_OK;
}

/*
 * In the jail and as the user that the files belong to: LMDB believes what it reads, and makes
 * files by name in a directory where whoever captured us before could have put links.
 */
static enum err open_list(struct daemon *d)
{
	if (fchdir(d->suppress_dir) != 0) {
		return err_from_errno();
	}
	enum err e = suppress_open(".", true, &d->list);
	if (e != ERR_OK) {
		int saved = errno;
		log_error("event=suppress_open err=\"%s\"", err_str(e));
		errno = saved;
	}
	return e;
}

static enum err on_start(struct service *s, void *arg)
{
	struct daemon *d = arg;
	enum err e = journal_writer_new(s->loop, d->journal_dir, "bounce", s->index,
		conf_count(s->conf, CONF_journal_keep_bytes),
		conf_time_s(s->conf, CONF_journal_keep_time), &d->journal);

	if (e == ERR_OK) {
		e = open_list(d);
	}
	if (e != ERR_OK) {
		return e;
	}
	d->suppressor = suppressor_new(s->loop, &d->list, d->journal);
	d->desk = desk_new(s, d->suppressor, d->journal);
	return ERR_OK;
}

static void on_listen(struct service *s, void *arg, const struct msg_listen *l, int *fd)
{
	struct daemon *d = arg;

	if (slice_eq(l->name, SLICE("ctl"))) {
		orders_free(&d->orders);
		d->orders = orders_new(s, d->suppressor, d->journal, fd);
	}
}

static void on_peer(struct service *s, void *arg, enum role role, unsigned index, int *fd)
{
	struct daemon *d = arg;

	if (role == ROLE_QMGR) {
		desk_peer_qmgr(d->desk, fd);
	} else if (role == ROLE_CLEANUP) {
		desk_peer_cleanup(d->desk, index, fd);
	} else {
		service_fail(s, "a peer that is not ours");
	}
}

static void on_shared(struct service *s, void *arg, unsigned kind, int *fd)
{
	struct daemon *d = arg;

	(void)s;
	if (kind == SHARED_SUPPRESS_FILTER) {
		enum err e = suppressor_share(d->suppressor, *fd);
		if (e != ERR_OK) {
			log_error("event=filter err=\"%s\"", err_str(e));
		}
	}
}

static void on_drain(struct service *s, void *arg, int64_t within_ms)
{
	struct daemon *d = arg;

	(void)s;
	(void)within_ms;
	desk_drain(d->desk);
}

static void on_status(struct service *s, void *arg, struct json *to)
{
	struct daemon *d = arg;
	struct suppressor_counts list = suppressor_counts(d->suppressor);
	struct desk_counts desk = desk_counts(d->desk);

	(void)s;
	json_member_u64(to, "suppressed", list.listed);
	json_member_u64(to, "suppress_added", list.added);
	json_member_u64(to, "suppress_removed", list.removed);
	json_member_u64(to, "suppress_failed_commits", list.failed);
	json_member_bool(to, "filter_ready", list.filter_is_ready);
	json_member_u64(to, "notices_asked", desk.asked);
	json_member_u64(to, "notices_sent", desk.sent);
	json_member_u64(to, "notices_not_due", desk.not_due);
	json_member_u64(to, "notices_failed", desk.failed);
	json_member_u64(to, "notices_at_hand", desk.at_hand);
	json_member_u64(to, "notices_waiting", desk.waiting);
}

static void on_close(struct service *s, void *arg)
{
	struct daemon *d = arg;

	(void)s;
	orders_free(&d->orders);
	desk_free(&d->desk);
	suppressor_free(&d->suppressor);
	suppress_close(&d->list);
	journal_writer_free(&d->journal);
	fd_close(&d->journal_dir);
	fd_close(&d->suppress_dir);
}

static const struct jail_rules rules = {.may = JAIL_FILES | JAIL_ACCEPT};

const struct service_hooks daemon_hooks = {
	.program = "bounce",
	.role = ROLE_BOUNCE,
	.jail = &rules,
	.on_open = on_open,
	.on_start = on_start,
	.on_listen = on_listen,
	.on_peer = on_peer,
	.on_shared = on_shared,
	.on_drain = on_drain,
	.on_status = on_status,
	.on_close = on_close,
};
