/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/journal/journal_writer.h"
#include "common/journal/part.h"

/* What waits while the disk refuses it; beyond that, events are lost and counted. */
#define WAITING_MAX ((size_t)4 * 1024 * 1024)
#define WAITING_KEEP ((size_t)1024 * 1024)
#define SYNC_MS 1000
#define RETRY_MS 1000
#define FILE_MODE 0640
#define FILES_MAX 65536u
/* Files that are to be removed in time must end in time. */
#define FILE_AGE_US (UINT64_C(86400) * 1000000)
#define FILE_BYTES_LEAST (UINT64_C(1) << 20)

struct journal_writer {
	int dir; /* borrowed */
	char by[PART_BY_MAX + 1];
	uint64_t keep_bytes;
	int64_t keep_s;
	uint64_t file_bytes; /* a file ends here */

	int fd;
	uint64_t made_us;     /* of the newest file; names only grow */
	uint64_t written;     /* whole events in it */
	bool is_dirty;        /* written since the last sync */
	bool is_entry_synced; /* its name is on the disk */
	bool is_failing;
	int64_t retry_at_ms;

	struct buf waiting;
	size_t event_at; /* where the event that is being encoded begins */
	int64_t event_time_us;
	uint16_t event_type;
	bool is_event_refused;
	uint64_t lost;

	struct loop_flush flush;
	struct loop_timer sync_timer;
};

/* ---- files ---- */

struct old_file {
	uint64_t made_us;
	uint64_t bytes;
};

static int by_age(const void *a, const void *b)
{
	const struct old_file *x = a;
	const struct old_file *y = b;

	return x->made_us < y->made_us ? -1 : x->made_us > y->made_us ? 1 : 0;
}

static void remove_file(struct journal_writer *j, uint64_t made_us)
{
	char name[PART_NAME_MAX];

	if (part_name(j->by, made_us, name) == ERR_OK) {
		(void)unlinkat(j->dir, name, 0);
	}
}

/* Removes what is beyond the settings; files holds this writer's, oldest first. */
static void remove_old(struct journal_writer *j, const struct old_file *files, size_t count)
{
	uint64_t bytes = 0;
	int64_t oldest_us = clock_wall_us() - j->keep_s * 1000000;

	for (size_t i = 0; i < count; i++) {
		bytes += files[i].bytes;
	}
	for (size_t i = 0; i < count; i++) {
		/* What a file holds ends where the next one begins. */
		uint64_t end_us = i + 1 < count ? files[i + 1].made_us : UINT64_MAX;
		bool is_too_much = j->keep_bytes != 0 && bytes > j->keep_bytes;
		bool is_too_old =
			j->keep_s != 0 && oldest_us > 0 && end_us < (uint64_t)oldest_us;
		if (!is_too_much && !is_too_old) {
			break;
		}
		remove_file(j, files[i].made_us);
		bytes -= files[i].bytes;
	}
}

/* Notes the newest name and removes old files. */
static void tidy(struct journal_writer *j)
{
	int fd = openat(j->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct old_file *files = NULL;
	size_t count = 0;

	if (d == NULL) {
		fd_close(&fd);
		return;
	}
	for (struct dirent *e = readdir(d); e != NULL && count < FILES_MAX; e = readdir(d)) {
		struct slice by;
		uint64_t made_us = 0;
		struct stat st;
		if (part_name_parse(slice_from_cstr(e->d_name), &by, &made_us) != ERR_OK ||
			!slice_eq(by, slice_from_cstr(j->by)) ||
			fstatat(j->dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
			continue;
		}
		if ((count & (count - 1)) == 0) {
			files = alloc_resize(files, count == 0 ? 1 : count * 2, sizeof(*files));
		}
		files[count++] = (struct old_file){made_us, (uint64_t)st.st_size};
		j->made_us = made_us > j->made_us ? made_us : j->made_us;
	}
	(void)closedir(d);
	if (count > 0) {
		qsort(files, count, sizeof(*files), by_age);
		remove_old(j, files, count);
	}
	free(files);
}

static void sync_file(struct journal_writer *j)
{
	if (!j->is_dirty || j->fd < 0) {
		return;
	}
	j->is_dirty = false;
	bool is_synced = fdatasync(j->fd) == 0;
	if (is_synced && !j->is_entry_synced) {
		is_synced = j->is_entry_synced = fsync(j->dir) == 0;
	}
	if (!is_synced) {
		/* What the disk did not take is gone; the descriptor would not tell it again.
		 */
		fd_close(&j->fd);
	}
}

static void close_file(struct journal_writer *j)
{
	sync_file(j);
	fd_close(&j->fd);
}

static enum err open_file(struct journal_writer *j)
{
	char name[PART_NAME_MAX];
	uint64_t now = (uint64_t)clock_wall_us();

	tidy(j);
	j->made_us = now > j->made_us ? now : j->made_us + 1;
	enum err e = part_name(j->by, j->made_us, name);
	if (e != ERR_OK) {
		return e;
	}
	j->fd = openat(j->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		FILE_MODE);
	if (j->fd < 0) {
		return err_from_errno();
	}
	(void)fchmod(j->fd, FILE_MODE);
	j->written = 0;
	j->is_entry_synced = false;
	return ERR_OK;
}

/* ---- writing ---- */

/* Whole or not at all, as far as readers are concerned. */
static enum err write_events(struct journal_writer *j, struct slice events)
{
	enum err e = fd_pwrite_all(j->fd, events, (off_t)j->written);

	if (e == ERR_OK) {
		j->written += events.n;
		j->is_dirty = true;
		return ERR_OK;
	}
	if (ftruncate(j->fd, (off_t)j->written) != 0 || e != ERR_FULL) {
		/* A reader passes over the half event at its end. */
		fd_close(&j->fd);
	}
	return e;
}

static enum err write_gap(struct journal_writer *j)
{
	struct event_gap gap = {.lost = j->lost};
	struct buf b;

	buf_init(&b, PART_FRAME_BYTES + PART_BODY_MAX);
	uint8_t *frame = buf_reserve(&b, PART_FRAME_BYTES);
	assert(frame != NULL);
	buf_commit(&b, PART_FRAME_BYTES);
	enum err e = event_gap_encode(&gap, &b);
	if (e == ERR_OK) {
		part_frame_encode(b.data + b.start, clock_wall_us(), EVENT_ID_gap,
			buf_len(&b) - PART_FRAME_BYTES);
		e = write_events(j, buf_view(&b));
	}
	if (e == ERR_OK) {
		j->lost = 0;
	}
	buf_clear(&b);
	return e;
}

static bool file_is_over(const struct journal_writer *j)
{
	if (j->written == 0) {
		return false;
	}
	return j->written >= j->file_bytes ||
	       buf_len(&j->waiting) > j->file_bytes - j->written ||
	       (uint64_t)clock_wall_us() > j->made_us + FILE_AGE_US;
}

static enum err write_waiting(struct journal_writer *j)
{
	enum err e = ERR_OK;

	if (j->fd >= 0 && file_is_over(j)) {
		close_file(j);
	}
	if (j->fd < 0) {
		e = open_file(j);
	}
	if (e == ERR_OK && j->lost > 0) {
		e = write_gap(j);
	}
	return e == ERR_OK ? write_events(j, buf_view(&j->waiting)) : e;
}

static void write_out(struct journal_writer *j)
{
	if (buf_len(&j->waiting) == 0 && j->lost == 0) {
		return;
	}
	if (write_waiting(j) == ERR_OK) {
		j->is_failing = false;
		buf_shrink(&j->waiting, WAITING_KEEP);
	} else {
		/* They stay, as many as there is room for. */
		j->is_failing = true;
		j->retry_at_ms = clock_mono_ms() + RETRY_MS;
	}
	if (!j->sync_timer.armed) {
		loop_timer_start(&j->sync_timer, SYNC_MS);
	}
}

static void on_flush(void *arg)
{
	struct journal_writer *j = arg;

	if (!j->is_failing || clock_mono_ms() >= j->retry_at_ms) {
		write_out(j);
	}
}

static void on_sync_time(void *arg)
{
	struct journal_writer *j = arg;

	if (j->is_failing) {
		write_out(j);
	}
	sync_file(j);
	if (j->is_failing) {
		loop_timer_start(&j->sync_timer, RETRY_MS);
	}
}

enum err journal_writer_new(struct loop *loop, int dir, const char *program, unsigned index,
	uint64_t keep_bytes, int64_t keep_s, struct journal_writer **out)
{
	struct journal_writer *j = alloc_zero(1, sizeof(*j));
	enum err e = str_format(j->by, sizeof(j->by), "%s-%u", program, index);

	if (e != ERR_OK) {
		free(j);
		return e;
	}
	j->dir = dir;
	j->keep_bytes = keep_bytes;
	/* So many seconds in microseconds have to be a number. */
	j->keep_s = keep_s < 0 || keep_s > INT64_MAX / 1000000 ? 0 : keep_s;
	/* Of several files the last few can stay when the first has to go. */
	j->file_bytes = JOURNAL_FILE_BYTES;
	if (keep_bytes != 0 && keep_bytes / 4 < j->file_bytes) {
		j->file_bytes =
			keep_bytes / 4 < FILE_BYTES_LEAST ? FILE_BYTES_LEAST : keep_bytes / 4;
	}
	j->fd = -1;
	buf_init(&j->waiting, WAITING_MAX);
	loop_flush_add(&j->flush, loop, on_flush, j);
	loop_timer_init(&j->sync_timer, loop, on_sync_time, j);
	tidy(j);
	*out = j;
	return ERR_OK;
}

void journal_writer_free(struct journal_writer **writer)
{
	struct journal_writer *j = *writer;

	if (j == NULL) {
		return;
	}
	write_out(j);
	close_file(j);
	loop_timer_stop(&j->sync_timer);
	loop_flush_remove(&j->flush);
	buf_clear(&j->waiting);
	ALLOC_FREE(*writer);
}

/* ---- one event ---- */

struct buf *journal_event_begin(struct journal_writer *j, uint16_t type, int64_t time_us)
{
	j->event_at = buf_len(&j->waiting);
	j->event_time_us = time_us;
	j->event_type = type;
	j->is_event_refused = buf_reserve(&j->waiting, PART_FRAME_BYTES) == NULL;
	if (!j->is_event_refused) {
		buf_commit(&j->waiting, PART_FRAME_BYTES);
	}
	return &j->waiting;
}

void journal_event_end(struct journal_writer *j, enum err encoded)
{
	size_t n = buf_len(&j->waiting) - j->event_at;

	if (encoded != ERR_OK || j->is_event_refused || n - PART_FRAME_BYTES > PART_BODY_MAX) {
		buf_truncate(&j->waiting, j->event_at);
		j->lost++;
	} else {
		part_frame_encode(j->waiting.data + j->waiting.start + j->event_at,
			j->event_time_us, j->event_type, n - PART_FRAME_BYTES);
	}
	loop_flush_mark(&j->flush);
}
