/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/messages.h"

#define PERIOD_MS 1000
#define MINFREE_LEAST (UINT64_C(32) * 1024 * 1024)
/* One segment's head and a little: what a probe has to get onto the disk. */
#define PROBE_BYTES 65536u

struct store {
	struct loop_timer timer;
	int dir;
	void (*on_change)(void *arg, uint8_t state);
	void *arg;
	uint64_t minfree;
	uint64_t message_size_limit;
	uint64_t room;
	uint8_t state;
	enum err failure; /* of the last write; ERR_OK: none since a probe worked */
};

static void set_state(struct store *s, uint8_t state)
{
	static const char *const names[] =
		{[STORE_OK] = "ok", [STORE_FULL] = "full", [STORE_SICK] = "sick"};

	if (state == s->state) {
		return;
	}
	s->state = state;
	if (state == STORE_OK) {
		log_info("event=store state=ok room=%llu", (unsigned long long)s->room);
	} else {
		log_error("event=store state=%s room=%llu err=\"%s\"", names[state],
			(unsigned long long)s->room, err_str(s->failure));
	}
	s->on_change(s->arg, state);
}

static uint64_t minimum(const struct store *s, uint64_t total)
{
	uint64_t least = s->minfree;

	if (least == 0) {
		least = s->message_size_limit / 2 * 3;
		if (least < MINFREE_LEAST) {
			least = MINFREE_LEAST;
		}
		if (least > total / 10) {
			least = total / 10;
		}
	}
	return least;
}

/* How much room there is above the minimum; ERR_FULL when none. */
static enum err measure(struct store *s)
{
	struct statvfs v;

	s->room = 0;
	if (fstatvfs(s->dir, &v) != 0) {
		return ERR_SYS;
	}
	/* Some file systems count no files. */
	if (v.f_files != 0 && v.f_favail < 8) {
		return ERR_FULL;
	}
	uint64_t least = minimum(s, (uint64_t)v.f_blocks * v.f_frsize);
	uint64_t available = (uint64_t)v.f_bavail * v.f_frsize;
	if (available <= least) {
		return ERR_FULL;
	}
	s->room = available - least;
	return ERR_OK;
}

/* Does what a commit does, with a file that nobody finds. */
static enum err probe(struct store *s)
{
	static const uint8_t zeros[PROBE_BYTES];
	char name[32];
	enum err e = str_format(name, sizeof(name), "probe-%ld", (long)getpid());

	if (e != ERR_OK) {
		return e;
	}
	int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		0600);
	if (fd < 0) {
		return err_from_errno();
	}
	if (unlinkat(s->dir, name, 0) != 0) {
		e = err_from_errno();
	}
	if (e == ERR_OK) {
		e = fd_write_all(fd, slice_make(zeros, sizeof(zeros)));
	}
	if (e == ERR_OK && fdatasync(fd) != 0) {
		e = err_from_errno();
	}
	fd_close(&fd);
	return e;
}

void store_check(struct store *s)
{
	enum err e = measure(s);

	if (e == ERR_OK && s->failure != ERR_OK) {
		s->failure = probe(s);
		e = s->failure;
	}
	set_state(s, e == ERR_OK ? STORE_OK : e == ERR_FULL ? STORE_FULL : STORE_SICK);
}

static void on_time(void *arg)
{
	struct store *s = arg;

	loop_timer_start(&s->timer, PERIOD_MS);
	store_check(s);
}

struct store *store_new(struct loop *loop, int dir, void (*on_change)(void *arg, uint8_t state),
	void *arg)
{
	struct store *s = alloc_zero(1, sizeof(*s));

	s->dir = dir;
	s->on_change = on_change;
	s->arg = arg;
	s->failure = ERR_OK;
	loop_timer_init(&s->timer, loop, on_time, s);
	loop_timer_start(&s->timer, PERIOD_MS);
	return s;
}

void store_free(struct store **s)
{
	if (*s != NULL) {
		loop_timer_stop(&(*s)->timer);
		ALLOC_FREE(*s);
	}
}

void store_set_minimum(struct store *s, uint64_t minfree, uint64_t message_size_limit)
{
	s->minfree = minfree;
	s->message_size_limit = message_size_limit;
	store_check(s);
}

uint8_t store_state(const struct store *s)
{
	return s->state;
}

uint64_t store_room(const struct store *s)
{
	return s->room;
}

void store_note_failure(struct store *s, enum err e)
{
	s->failure = e;
	set_state(s, e == ERR_FULL ? STORE_FULL : STORE_SICK);
}
