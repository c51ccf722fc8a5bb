/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/conf/why.h"
#include "common/io/fd.h"
#include "master/spool.h"

#define POLL_MS 10
/* An orderly stop unlocks a moment before its process is gone. */
#define PID_PATIENCE_MS 1000

/* ---- directories ---- */

enum owner {
	OWNER_ROOT,
	OWNER_PROGRAM,
	OWNER_QUEUE_GROUP
};
struct place {
	const char *path;
	mode_t mode;
	enum owner owner;
	enum role role; /* of OWNER_PROGRAM */
};
/* Files that several programs use are theirs by the group; its bit makes the files inherit it.
 */
static const struct place queue_places[] = {
	{"queue", 02770, OWNER_PROGRAM, ROLE_CLEANUP},
	{"corrupt", 02770, OWNER_PROGRAM, ROLE_QMGR},
	{"journal", 02770, OWNER_QUEUE_GROUP, ROLE_MASTER},
	{"run", 0755, OWNER_ROOT, ROLE_MASTER},
	{"run/empty", 0755, OWNER_ROOT, ROLE_MASTER},
};
static const struct place data_places[] = {
	{"suppress", 02750, OWNER_PROGRAM, ROLE_BOUNCE},
};

static void owner_of(const struct place *p, const struct users *u, struct user *out)
{
	*out = (struct user){geteuid(), getegid()};
	if (!u->is_root) {
		return;
	}
	switch (p->owner) {
	case OWNER_ROOT:
		*out = (struct user){0, 0};
		break;
	case OWNER_PROGRAM:
		*out = (struct user){u->of[p->role].uid, u->queue_group};
		break;
	case OWNER_QUEUE_GROUP:
		*out = (struct user){0, u->queue_group};
		break;
	}
}

/*
 * What is new, or still belongs to root as it was made, gets its owner; what belongs to
 * somebody else was not made by us, or the users have changed their numbers since, and then the
 * files inside are somebody else's too.
 */
static enum err place_fit(int fd, const struct place *p, const struct users *u,
	const char *base, struct buf *why)
{
	struct stat st;
	struct user owner;

	owner_of(p, u, &owner);
	if (fstat(fd, &st) != 0) {
		return ERR_SYS;
	}
	bool fits = st.st_uid == owner.uid && (!u->is_root || st.st_gid == owner.gid);
	if (!fits && st.st_uid != geteuid()) {
		why_add(why,
			"%s/%s belongs to user %u, group %u, but the relay that is started to "
			"user %u, group %u: started by somebody else before?",
			base, p->path, st.st_uid, st.st_gid, owner.uid, owner.gid);
		return ERR_CONFIG;
	}
	if (!fits && u->is_root && fchown(fd, owner.uid, owner.gid) != 0) {
		why_add(why, "%s/%s: cannot change the owner: %s", base, p->path,
			strerror(errno));
		return ERR_CONFIG;
	}
	/* Changing the owner may have taken the group's bit away. */
	if (((st.st_mode & 07777) != p->mode || !fits) && fchmod(fd, p->mode) != 0) {
		why_add(why, "%s/%s: cannot change the mode: %s", base, p->path,
			strerror(errno));
		return ERR_CONFIG;
	}
	return ERR_OK;
}

static enum err place_make(int base_fd, const struct place *p, const struct users *u,
	const char *base, struct buf *why)
{
	enum err e;

	if (mkdirat(base_fd, p->path, 0700) != 0 && errno != EEXIST) {
		why_add(why, "cannot make %s/%s: %s", base, p->path, strerror(errno));
		return ERR_CONFIG;
	}
	int fd = openat(base_fd, p->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		why_add(why, "%s/%s: %s", base, p->path,
			errno == ENOTDIR || errno == ELOOP ? "is not a directory"
							   : strerror(errno));
		return ERR_CONFIG;
	}
	e = place_fit(fd, p, u, base, why);
	fd_close(&fd);
	return e;
}

/* The directory that the settings name: ours, and nobody else can put things into it. */
static enum err base_open(const char *path, const char *param, int *out, struct buf *why)
{
	struct stat st;

	if (path[0] != '/') {
		why_add(why, "%s must be an absolute path", param);
		return ERR_CONFIG;
	}
	if (mkdir(path, 0755) == 0) {
		/* The mask must not keep the relay's users out. */
		(void)chmod(path, 0755);
	} else if (errno != EEXIST) {
		why_add(why, "%s = %s: cannot make it: %s", param, path, strerror(errno));
		return ERR_CONFIG;
	}
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		why_add(why, "%s = %s: %s", param, path, strerror(errno));
		fd_close(&fd);
		return ERR_CONFIG;
	}
	/* Root may be given a place that a system user keeps, as Postfix's data_directory is.
	 * Where others may make files but (sticky) not touch ours, what we find there is ours
	 * or refused. */
	bool open_to_others = (st.st_mode & 022) != 0 && (st.st_mode & S_ISVTX) == 0;
	if ((st.st_uid != geteuid() && geteuid() != 0) || open_to_others) {
		why_add(why,
			"%s = %s must belong to user %u and be writable by nobody else (it has "
			"user %u, mode %03o)",
			param, path, geteuid(), st.st_uid, st.st_mode & 0777u);
		fd_close(&fd);
		return ERR_CONFIG;
	}
	*out = fd;
	return ERR_OK;
}

static enum err places_make(int base_fd, const char *base, const struct place *places, size_t n,
	const struct users *u, struct buf *why)
{
	enum err e = ERR_OK;

	for (size_t i = 0; i < n && e == ERR_OK; i++) {
		e = place_make(base_fd, &places[i], u, base, why);
	}
	return e;
}

/* ---- locks ---- */

static void pause_ms(long ms)
{
	const struct timespec t = {.tv_sec = 0, .tv_nsec = ms * 1000000};

	(void)nanosleep(&t, NULL);
}

/* ERR_AGAIN: somebody else has it still, after patience_ms. */
static enum err lock_wait(int fd, int how, int64_t patience_ms)
{
	int64_t until = clock_mono_ms() + patience_ms;

	while (flock(fd, how | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			return ERR_SYS;
		}
		if (clock_mono_ms() >= until) {
			return ERR_AGAIN;
		}
		pause_ms(POLL_MS);
	}
	return ERR_OK;
}

/* Whoever can open a file can lock it: these are ours, and nobody else can read them. */
static enum err lock_open(int dir, const char *name, int flags, int *fd)
{
	struct stat st;

	*fd = openat(dir, name, flags | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (*fd < 0 || fstat(*fd, &st) != 0) {
		return ERR_SYS;
	}
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1) {
		errno = EPERM;
		return ERR_SYS;
	}
	return fchmod(*fd, 0600) == 0 ? ERR_OK : ERR_SYS;
}

static void tell_who_runs(int pid_file, const char *base, struct buf *why)
{
	char text[32];
	ssize_t n = pread(pid_file, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	why_add(why, "a relay already runs on %s%s%s", base,
		text[0] == '\0' ? "" : ", process ", text);
}

static enum err lock_master(struct spool *s, const char *queue, int data, const char *data_path,
	struct buf *why)
{
	enum err e = lock_open(s->run, "master.pid", O_RDWR, &s->pid_file);

	if (e == ERR_OK) {
		e = lock_wait(s->pid_file, LOCK_EX, PID_PATIENCE_MS);
	}
	if (e == ERR_AGAIN) {
		tell_who_runs(s->pid_file, queue, why);
		return ERR_EXISTS;
	}
	if (e == ERR_OK) {
		e = lock_open(data, "master.lock", O_RDWR, &s->data_lock);
	}
	if (e == ERR_OK) {
		e = lock_wait(s->data_lock, LOCK_EX, 0);
	}
	if (e == ERR_AGAIN) {
		why_add(why, "another relay uses data_directory = %s", data_path);
		return ERR_EXISTS;
	}
	if (e != ERR_OK) {
		why_add(why, "cannot lock below %s: %s", queue, strerror(errno));
	}
	return e;
}

/* The master's lock is held, so no new child can come; those that are left end by themselves.
 */
static enum err await_orphans(const struct spool *s, const char *queue, int64_t patience_ms,
	struct buf *why)
{
	int fd = -1;
	enum err e = lock_open(s->run, "children.lock", O_RDONLY, &fd);

	if (e == ERR_OK) {
		e = lock_wait(fd, LOCK_EX, 0);
	}
	if (e == ERR_AGAIN) {
		log_warn("event=wait what=\"programs of an earlier relay are ending\"");
		e = lock_wait(fd, LOCK_EX, patience_ms);
	}
	if (e == ERR_AGAIN) {
		why_add(why,
			"programs of an earlier relay still run on %s and do not end; see `fuser %s/run/children.lock'",
			queue, queue);
		e = ERR_TIMEOUT;
	} else if (e != ERR_OK) {
		why_add(why, "cannot lock %s/run/children.lock: %s", queue, strerror(errno));
	}
	fd_close(&fd);
	return e;
}

enum err spool_child_lock(const struct spool *s, int *fd)
{
	int lock = -1;
	enum err e = lock_open(s->run, "children.lock", O_RDONLY, &lock);

	if (e == ERR_OK && flock(lock, LOCK_SH | LOCK_NB) != 0) {
		e = ERR_SYS;
	}
	if (e != ERR_OK) {
		fd_close(&lock);
		return e;
	}
	*fd = lock;
	return ERR_OK;
}

enum err spool_write_pid(const struct spool *s)
{
	char text[32];
	enum err e = str_format(text, sizeof(text), "%ld\n", (long)getpid());

	if (e != ERR_OK) {
		return e;
	}
	if (ftruncate(s->pid_file, 0) != 0) {
		return ERR_SYS;
	}
	return fd_pwrite_all(s->pid_file, slice_from_cstr(text), 0);
}

/* ---- life ---- */

enum err spool_open(struct spool *s, const struct conf *c, const struct users *u,
	int64_t patience_ms, struct buf *why)
{
	const char *queue = conf_cstr(c, CONF_queue_directory);
	const char *data = conf_cstr(c, CONF_data_directory);
	int queue_fd = -1;
	int data_fd = -1;

	*s = (struct spool){.run = -1, .pid_file = -1, .data_lock = -1};
	enum err e = base_open(queue, "queue_directory", &queue_fd, why);
	if (e == ERR_OK) {
		e = base_open(data, "data_directory", &data_fd, why);
	}
	if (e == ERR_OK) {
		e = places_make(queue_fd, queue, queue_places, ARRAY_LEN(queue_places), u, why);
	}
	if (e == ERR_OK) {
		e = places_make(data_fd, data, data_places, ARRAY_LEN(data_places), u, why);
	}
	if (e == ERR_OK &&
		str_format(s->jail, sizeof(s->jail), "%s/run/empty", queue) != ERR_OK) {
		why_add(why, "queue_directory is too long a path");
		e = ERR_CONFIG;
	}
	if (e == ERR_OK) {
		s->run = openat(queue_fd, "run",
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		e = s->run < 0 ? ERR_SYS : lock_master(s, queue, data_fd, data, why);
	}
	if (e == ERR_OK) {
		e = await_orphans(s, queue, patience_ms, why);
	}
	if (e == ERR_OK) {
		e = spool_write_pid(s);
		if (e != ERR_OK) {
			why_add(why, "cannot write %s/run/master.pid: %s", queue,
				strerror(errno));
		}
	}
	fd_close(&queue_fd);
	fd_close(&data_fd);
	if (e != ERR_OK) {
		spool_close(s);
	}
	return e;
}

void spool_close(struct spool *s)
{
	/* Emptied only under the lock: what another master wrote is not ours to touch. */
	if (s->pid_file >= 0 && flock(s->pid_file, LOCK_EX | LOCK_NB) == 0) {
		(void)!ftruncate(s->pid_file, 0);
	}
	fd_close(&s->pid_file);
	fd_close(&s->data_lock);
	fd_close(&s->run);
}

/* ---- sockets ---- */

/*
 * A path of a UNIX socket has 107 bytes at most, and queue_directory may be longer: so it is
 * bound from within. Nothing of the master depends on where it stands.
 */
static enum err bind_in(int dir, const char *name, int fd)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	enum err e = str_format(sa.sun_path, sizeof(sa.sun_path), "%s", name);

	if (e != ERR_OK) {
		return e;
	}
	if (fchdir(dir) != 0) {
		return ERR_SYS;
	}
	mode_t mask = umask(0177);
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) != 0) {
		e = ERR_SYS;
	}
	(void)umask(mask);
	if (chdir("/") != 0 && e == ERR_OK) {
		e = ERR_SYS;
	}
	return e;
}

enum err spool_listen(const struct spool *s, const char *name, int *fd)
{
	enum err e;
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (sock < 0) {
		return ERR_SYS;
	}
	spool_unlink(s, name);
	e = bind_in(s->run, name, sock);
	if (e == ERR_OK && listen(sock, 64) != 0) {
		e = ERR_SYS;
	}
	if (e != ERR_OK) {
		fd_close(&sock);
		return e;
	}
	*fd = sock;
	return ERR_OK;
}

void spool_unlink(const struct spool *s, const char *name)
{
	(void)unlinkat(s->run, name, 0);
}
