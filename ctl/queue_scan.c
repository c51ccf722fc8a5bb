/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/queue/segment_reader.h"
#include "ctl/queue_scan.h"

#define ENVELOPE_ARENA_MAX ((size_t)1 << 30)
#define SEGMENTS_MAX ((size_t)1 << 22)

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The ids of all segments, in order. */
static enum err list_segments(int dir, uint64_t **out, size_t *count)
{
	uint64_t *ids = NULL;
	size_t n = 0;
	size_t room = 0;
	uint64_t id;
	const struct dirent *entry;

	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (copy < 0) {
		return err_from_errno();
	}
	DIR *d = fdopendir(copy);
	if (d == NULL) {
		enum err e = err_from_errno();
		fd_close(&copy);
		return e;
	}
	while ((entry = readdir(d)) != NULL && n < SEGMENTS_MAX) {
		if (segment_name_parse(slice_from_cstr(entry->d_name), &id) != ERR_OK) {
			continue;
		}
		if (n == room) {
			room = room == 0 ? 64 : room * 2;
			ids = alloc_resize(ids, room, sizeof(*ids));
		}
		ids[n++] = id;
	}
	(void)closedir(d);
	if (n != 0) {
		qsort(ids, n, sizeof(*ids), by_id);
	}
	*out = ids;
	*count = n;
	return ERR_OK;
}

struct reading {
	struct queue_scan *scan;
	struct arena arena;
	uint8_t *bytes;
	struct slot *slots;
	size_t room;
	bool is_over;
};

static enum err read_slots(struct reading *r, int fd, const struct segment_record *rec,
	uint32_t *live)
{
	if (rec->rcpt_count > LIMIT_RCPTS) {
		return ERR_CORRUPT;
	}
	if (rec->rcpt_count > r->room) {
		r->room = rec->rcpt_count;
		r->bytes = alloc_resize(r->bytes, r->room, SEGMENT_SLOT_BYTES);
		r->slots = alloc_resize(r->slots, r->room, sizeof(*r->slots));
	}
	enum err e = segment_read_slots(fd, rec->first_slot, rec->rcpt_count, r->bytes);
	if (e != ERR_OK) {
		return e;
	}
	*live = 0;
	for (uint32_t i = 0; i < rec->rcpt_count; i++) {
		slot_decode(r->bytes + (size_t)i * SEGMENT_SLOT_BYTES, &r->slots[i]);
		*live += !slot_is_final(&r->slots[i]);
	}
	return ERR_OK;
}

static void take_record(struct reading *r, int fd, uint64_t segment,
	const struct segment_record *rec)
{
	struct queue_message m = {.fd = fd, .segment = segment, .record = *rec};
	struct slice want = r->scan->queue_id;

	if (want.n != 0 && !slice_eq(want, slice_from_cstr(rec->queue_id))) {
		return;
	}
	if (read_slots(r, fd, rec, &m.live) != ERR_OK ||
		(m.live == 0 && !r->scan->with_final)) {
		return;
	}
	arena_reset(&r->arena);
	if (segment_read_envelope(fd, rec, false, &r->arena, &m.envelope) != ERR_OK ||
		m.envelope.rcpt_count != rec->rcpt_count) {
		r->scan->damaged++;
		return;
	}
	m.slots = r->slots;
	r->is_over = !r->scan->on_message(r->scan->arg, &m);
}

static void read_segment(struct reading *r, int dir, uint64_t id)
{
	struct segment_info info;
	struct segment_record rec;
	enum segment_found found = SEGMENT_END;
	uint64_t at;
	int fd = -1;

	enum err e = segment_open(dir, id, false, &fd, &info);
	if (e != ERR_OK) {
		/* Gone in the meantime: finished. */
		r->scan->damaged += e != ERR_NOTFOUND;
		return;
	}
	at = info.data_at;
	while (!r->is_over) {
		e = segment_next(fd, &info, &at, UINT64_MAX, false, &found, &rec, NULL);
		if (e != ERR_OK || found == SEGMENT_END) {
			break;
		}
		if (found == SEGMENT_DAMAGED) {
			r->scan->damaged++;
			continue;
		}
		take_record(r, fd, id, &rec);
	}
	fd_close(&fd);
}

enum err queue_scan_run(const char *queue_directory, struct queue_scan *s)
{
	struct reading r = {.scan = s};
	char path[PATH_MAX];
	uint64_t *ids = NULL;
	size_t count = 0;

	s->damaged = 0;
	enum err e = str_format(path, sizeof(path), "%s/queue", queue_directory);
	if (e != ERR_OK) {
		return e;
	}
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		return err_from_errno();
	}
	arena_init(&r.arena, ENVELOPE_ARENA_MAX);
	e = list_segments(dir, &ids, &count);
	for (size_t i = 0; e == ERR_OK && i < count && !r.is_over; i++) {
		read_segment(&r, dir, ids[i]);
	}
	arena_clear(&r.arena);
	free(ids);
	free(r.bytes);
	free(r.slots);
	fd_close(&dir);
	return e;
}
