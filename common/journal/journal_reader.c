/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/journal/journal_reader.h"
#include "common/journal/part.h"

#define CHUNK ((size_t)128 * 1024)
static_assert(CHUNK > PART_FRAME_BYTES + PART_BODY_MAX, "an event fits into a chunk");
#define STREAMS_MAX 4096u
/* Events are stamped a little before their file is made; nothing that is asked for is skipped
 * for that. */
#define SKIP_SLACK_US INT64_C(10000000)

/* The files of one writer, read one after the other. */
struct stream {
	char by[PART_BY_MAX + 1];
	uint64_t *files; /* not read yet, oldest first */
	size_t file_count;
	size_t file_room;
	uint64_t newest_us;

	int fd;            /* -1: none open */
	bool is_last_look; /* there is a newer file: what is not in this one now never comes */
	uint64_t at;       /* in the file, of bytes[0] */
	uint8_t *bytes;
	size_t used; /* bytes that have been dealt with */
	size_t have;
	bool is_damaged; /* the last bytes were no event; counted once */

	bool has_event;
	struct part_event event;
};

struct journal_reader {
	int dir; /* borrowed */
	int64_t from_us;
	struct stream **streams;
	size_t count;
	size_t room;
	struct stream *given; /* whose event the caller has */
	uint64_t damaged;
};

/* ---- which files there are ---- */

static struct stream *find_stream(struct journal_reader *r, struct slice by)
{
	for (size_t i = 0; i < r->count; i++) {
		if (slice_eq(by, slice_from_cstr(r->streams[i]->by))) {
			return r->streams[i];
		}
	}
	if (r->count == STREAMS_MAX) {
		return NULL;
	}
	struct stream *s = alloc_zero(1, sizeof(*s));
	if (str_copy(s->by, sizeof(s->by), by) != ERR_OK) {
		free(s);
		return NULL;
	}
	s->fd = -1;
	if (r->count == r->room) {
		r->room = r->room == 0 ? 8 : r->room * 2;
		r->streams = alloc_resize(r->streams, r->room, sizeof(struct stream *));
	}
	r->streams[r->count++] = s;
	return s;
}

static void add_file(struct stream *s, uint64_t made_us)
{
	size_t i = s->file_count;

	if (s->file_count == s->file_room) {
		s->file_room = s->file_room == 0 ? 8 : s->file_room * 2;
		s->files = alloc_resize(s->files, s->file_room, sizeof(*s->files));
	}
	while (i > 0 && s->files[i - 1] > made_us) {
		s->files[i] = s->files[i - 1];
		i--;
	}
	s->files[i] = made_us;
	s->file_count++;
}

static bool is_known(const struct stream *s, uint64_t made_us)
{
	return made_us <= s->newest_us;
}

/* Files newer than those that are known; true when there are any. */
static bool look_for_files(struct journal_reader *r)
{
	int fd = openat(r->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool is_new = false;

	if (d == NULL) {
		fd_close(&fd);
		return false;
	}
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		struct slice by;
		uint64_t made_us = 0;
		struct stream *s = NULL;
		if (part_name_parse(slice_from_cstr(e->d_name), &by, &made_us) == ERR_OK) {
			s = find_stream(r, by);
		}
		if (s != NULL && !is_known(s, made_us)) {
			add_file(s, made_us);
			is_new = true;
		}
	}
	(void)closedir(d);
	for (size_t i = 0; i < r->count; i++) {
		struct stream *s = r->streams[i];
		if (s->file_count > 0) {
			s->newest_us = s->files[s->file_count - 1];
		}
	}
	return is_new;
}

/* ---- one stream ---- */

static void drop_file(struct stream *s, size_t n)
{
	s->file_count -= n;
	memmove(s->files, s->files + n, s->file_count * sizeof(*s->files));
}

/* Files that end before what is asked for. */
static void skip_old_files(struct stream *s, int64_t from_us)
{
	size_t n = 0;

	while (n + 1 < s->file_count && from_us > SKIP_SLACK_US &&
		s->files[n + 1] < (uint64_t)(from_us - SKIP_SLACK_US)) {
		n++;
	}
	drop_file(s, n);
}

static bool open_next(const struct journal_reader *r, struct stream *s)
{
	char name[PART_NAME_MAX];

	skip_old_files(s, r->from_us);
	while (s->fd < 0 && s->file_count > 0) {
		uint64_t made_us = s->files[0];
		drop_file(s, 1);
		if (part_name(s->by, made_us, name) == ERR_OK) {
			/* One that has been removed meanwhile is passed over. */
			s->fd = openat(r->dir, name,
				O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		}
	}
	if (s->fd < 0) {
		return false;
	}
	if (s->bytes == NULL) {
		s->bytes = alloc_bytes(CHUNK);
	}
	s->at = 0;
	s->used = s->have = 0;
	s->is_damaged = false;
	s->is_last_look = false;
	return true;
}

/* Reads on behind what has been dealt with; what was there but unfinished is read again. */
static enum err read_on(struct stream *s)
{
	s->at += s->used;
	s->used = s->have = 0;
	for (;;) {
		ssize_t n = pread(s->fd, s->bytes, CHUNK, (off_t)s->at);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return err_from_errno();
		}
		s->have = (size_t)n;
		return ERR_OK;
	}
}

/* The next event among the bytes at hand. */
static bool take_event(struct journal_reader *r, struct stream *s)
{
	while (s->used < s->have) {
		struct slice left = {s->bytes + s->used, s->have - s->used};
		enum part_found found = part_frame_decode(left, &s->event);
		if (found == PART_EVENT) {
			s->used += s->event.n;
			s->is_damaged = false;
			if (s->event.time_us >= r->from_us) {
				return true;
			}
			continue;
		}
		/* Within damage a beginning that looks right proves nothing; nor does one that
		 * no more comes after. */
		bool may_come = found == PART_SHORT && !(s->is_last_look && s->have < CHUNK);
		if (may_come) {
			return false;
		}
		if (!s->is_damaged) {
			s->is_damaged = true;
			r->damaged++;
		}
		s->used++;
	}
	return false;
}

/* Sees to it that the stream has an event, if there is one. */
static enum err fill(struct journal_reader *r, struct stream *s)
{
	while (!s->has_event) {
		if (s->fd < 0 && !open_next(r, s)) {
			return ERR_OK;
		}
		if (take_event(r, s)) {
			s->has_event = true;
			break;
		}
		size_t left = s->have - s->used;
		bool was_full = s->have == CHUNK;
		enum err e = read_on(s);
		if (e != ERR_OK) {
			return e;
		}
		if (s->have > left || was_full) {
			continue;
		}
		/* Nothing came. The writer closes a file before it makes the next. */
		if (s->file_count == 0) {
			return ERR_OK;
		}
		if (!s->is_last_look) {
			s->is_last_look = true;
			continue;
		}
		fd_close(&s->fd);
	}
	return ERR_OK;
}

/* ---- the merge ---- */

enum err journal_reader_new(int dir, int64_t from_us, struct journal_reader **out)
{
	struct journal_reader *r = alloc_zero(1, sizeof(*r));

	r->dir = dir;
	r->from_us = from_us;
	(void)look_for_files(r);
	*out = r;
	return ERR_OK;
}

void journal_reader_free(struct journal_reader **reader)
{
	struct journal_reader *r = *reader;

	if (r == NULL) {
		return;
	}
	for (size_t i = 0; i < r->count; i++) {
		struct stream *s = r->streams[i];
		fd_close(&s->fd);
		free(s->files);
		free(s->bytes);
		free(s);
	}
	free(r->streams);
	ALLOC_FREE(*reader);
}

static enum err find_earliest(struct journal_reader *r, struct stream **out)
{
	struct stream *first = NULL;

	for (size_t i = 0; i < r->count; i++) {
		struct stream *s = r->streams[i];
		enum err e = fill(r, s);
		if (e != ERR_OK) {
			return e;
		}
		if (s->has_event &&
			(first == NULL || s->event.time_us < first->event.time_us)) {
			first = s;
		}
	}
	*out = first;
	return ERR_OK;
}

enum err journal_reader_next(struct journal_reader *r, struct journal_record *out)
{
	struct stream *s = NULL;

	if (r->given != NULL) {
		r->given->has_event = false;
		r->given = NULL;
	}
	enum err e = find_earliest(r, &s);
	if (e == ERR_OK && s == NULL && look_for_files(r)) {
		e = find_earliest(r, &s);
	}
	if (e != ERR_OK) {
		return e;
	}
	if (s == NULL) {
		return ERR_AGAIN;
	}
	r->given = s;
	*out = (struct journal_record){
		.time_us = s->event.time_us,
		.type = s->event.type,
		.by = slice_from_cstr(s->by),
		.body = s->event.body,
	};
	return ERR_OK;
}

uint64_t journal_reader_damaged(const struct journal_reader *r)
{
	return r->damaged;
}
