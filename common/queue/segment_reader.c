/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/queue/layout.h"
#include "common/queue/planted.h"
#include "common/queue/segment_reader.h"

#define CHUNK ((size_t)65536)
#define HEADER SEGMENT_RECORD_HEADER_BYTES

enum err segment_read_info(int fd, struct segment_info *out)
{
	uint8_t page[SEGMENT_PAGE];
	struct segment_info info;
	struct stat st;

	if (fstat(fd, &st) != 0) {
		return err_from_errno();
	}
	if (!S_ISREG(st.st_mode)) {
		return ERR_CORRUPT;
	}
	enum err e = fd_pread_all(fd, page, sizeof(page), 0);
	if (e != ERR_OK) {
		return e;
	}
	if (!layout_file_decode(page, &info) || (uint64_t)st.st_size < info.data_at) {
		return ERR_CORRUPT;
	}
	*out = info;
	return ERR_OK;
}

enum err segment_open(int dir, uint64_t id, bool writable, int *fd, struct segment_info *out)
{
	char name[SEGMENT_NAME_MAX];
	struct segment_info info = {.id = 0};
	struct stat st;
	enum err e = ERR_OK;

	segment_name(id, name);
	/* O_NONBLOCK: a FIFO that bears the name must not hold us up. */
	int f = openat(dir, name,
		(writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
			O_NOCTTY);
	if (f < 0) {
		return errno == ELOOP || errno == EISDIR || errno == ENXIO || errno == ENODEV
			       ? ERR_CORRUPT
			       : err_from_errno();
	}
	if (fstat(f, &st) != 0) {
		e = err_from_errno();
	} else if (!S_ISREG(st.st_mode) || st.st_nlink > 1) {
		e = ERR_CORRUPT;
	} else {
		e = segment_read_info(f, &info);
	}
	if (e == ERR_OK && info.id != id) {
		e = ERR_CORRUPT;
	}
	if (e != ERR_OK) {
		fd_close(&f);
		return e;
	}
	*fd = f;
	*out = info;
	return ERR_OK;
}

static bool slots_exist(uint32_t first, uint32_t count)
{
	return count <= SEGMENT_SLOTS_MAX && first <= SEGMENT_SLOTS_MAX - count;
}

enum err segment_read_slots(int fd, uint32_t first, uint32_t count, uint8_t *to)
{
	if (!slots_exist(first, count)) {
		return ERR_TOOBIG;
	}
	return fd_pread_all(fd, to, (size_t)count * SEGMENT_SLOT_BYTES,
		(off_t)segment_slot_at(first));
}

enum err segment_write_slots(int fd, uint32_t first, uint32_t count, const uint8_t *from)
{
	if (!slots_exist(first, count)) {
		return ERR_TOOBIG;
	}
	return fd_pwrite_all(fd, slice_make(from, (size_t)count * SEGMENT_SLOT_BYTES),
		(off_t)segment_slot_at(first));
}

/* ---- looking for records ---- */

struct scan {
	int fd;
	const struct segment_info *info;
	uint64_t size;    /* of the file */
	uint64_t end;     /* of what is looked at */
	uint64_t limit;   /* as the caller gave it */
	bool is_limited;  /* all of it has been announced as durable */
	bool is_checking; /* payloads are compared in any case */
};

static uint64_t record_end(const struct layout_record *r)
{
	return r->record.offset + r->record.length;
}

/*
 * Whether the record's group is known to have been committed: it is the first one, for which
 * the file got its name, or something was written behind it, which happens only afterwards. Of
 * another group a power cut may have left any part.
 */
static bool is_proven(const struct scan *s, const struct layout_record *r)
{
	return s->is_limited || r->group_at == s->info->data_at || r->group_end < s->size;
}

/* At most n bytes from at on; fewer only at the end of the file. */
static enum err read_up_to(int fd, uint8_t *to, size_t n, uint64_t at, size_t *got)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, to + done, n - done, (off_t)(at + done));
		if (r < 0 && errno == EINTR) {
			continue;
		}
		if (r < 0) {
			return err_from_errno();
		}
		if (r == 0) {
			break;
		}
		done += (size_t)r;
	}
	*got = done;
	return ERR_OK;
}

static bool is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/*
 * Where the next record should begin: at from, or at the next page when only zeros lie between.
 * *is_there tells whether the header there is a valid one. One read for both.
 */
static enum err expect_header(const struct scan *s, uint64_t *from, bool *is_there,
	struct layout_record *out)
{
	uint8_t window[SEGMENT_PAGE + HEADER];
	size_t gap = (size_t)(num_round_up(*from, SEGMENT_PAGE) - *from);
	size_t got = 0;
	enum err e = read_up_to(s->fd, window, gap + HEADER, *from, &got);

	*is_there = false;
	if (e != ERR_OK || got < HEADER) {
		return e;
	}
	*is_there = layout_record_decode(s->info, *from, window, out);
	if (*is_there || gap == 0 || got < gap || !is_zero(window, gap)) {
		return ERR_OK;
	}
	*from += gap;
	*is_there =
		got == gap + HEADER && layout_record_decode(s->info, *from, window + gap, out);
	return ERR_OK;
}

/* The first valid header at or behind from. */
static enum err find_header(const struct scan *s, uint64_t from, bool *is_there,
	struct layout_record *out)
{
	uint8_t chunk[CHUNK];
	size_t got = 0;

	*is_there = false;
	while (from < s->end && s->end - from >= HEADER) {
		uint64_t left = s->end - from;
		enum err e = read_up_to(s->fd, chunk, left < CHUNK ? (size_t)left : CHUNK, from,
			&got);
		if (e != ERR_OK || got < HEADER) {
			return e;
		}
		for (size_t i = 0; i + HEADER <= got; i += SEGMENT_ALIGN) {
			if (layout_record_decode(s->info, from + i, chunk + i, out)) {
				*is_there = true;
				return ERR_OK;
			}
		}
		/* The last header of the chunk may be half in the next one. */
		from += (got - HEADER) / SEGMENT_ALIGN * SEGMENT_ALIGN + SEGMENT_ALIGN;
	}
	return ERR_OK;
}

static enum err payload_is_whole(int fd, const struct segment_record *r, bool *is_whole)
{
	uint8_t chunk[CHUNK];
	uint64_t at = r->envelope_at;
	uint64_t end = r->offset + r->length;
	uint32_t crc = 0;

	*is_whole = false;
	while (at < end) {
		size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
		size_t got = 0;
		enum err e = read_up_to(fd, chunk, n, at, &got);
		if (e != ERR_OK || got < n) {
			return e;
		}
		crc = crc32c(crc, slice_make(chunk, n));
		at += n;
	}
	*is_whole = crc == r->payload_crc;
	return ERR_OK;
}

static enum err record_is_whole(const struct scan *s, const struct layout_record *r,
	bool *is_whole)
{
	*is_whole = record_end(r) <= s->size;
	if (PLANTED_NO_TORN_CHECK || !*is_whole || (is_proven(s, r) && !s->is_checking)) {
		return ERR_OK;
	}
	return payload_is_whole(s->fd, &r->record, is_whole);
}

/* How many bytes from from on there are up to the last one that is not zero. */
static enum err count_garbage(const struct scan *s, uint64_t from, uint64_t *out)
{
	uint8_t chunk[CHUNK];
	uint64_t at = from;
	size_t got = 0;

	*out = 0;
	while (at < s->end) {
		uint64_t left = s->end - at;
		enum err e =
			read_up_to(s->fd, chunk, left < CHUNK ? (size_t)left : CHUNK, at, &got);
		if (e != ERR_OK || got == 0) {
			return e;
		}
		size_t n = got;
		while (n > 0 && chunk[n - 1] == 0) {
			n--;
		}
		*out = n == 0 ? *out : at + n - from;
		at += got;
	}
	return ERR_OK;
}

static void say_damaged(uint64_t from, uint64_t to, uint64_t *at, enum segment_found *found,
	struct segment_record *out)
{
	*out = (struct segment_record){.offset = from, .length = to - from};
	*at = to;
	*found = SEGMENT_DAMAGED;
}

/* Nothing valid from from on. */
static enum err end_of_records(const struct scan *s, uint64_t from, uint64_t *at,
	enum segment_found *found, struct segment_record *out, uint64_t *torn)
{
	uint64_t garbage = 0;

	/* What was announced, or what the file got its name for, was there once. */
	if (from < s->end && (s->is_limited || from == s->info->data_at)) {
		say_damaged(from, s->end, at, found, out);
		return ERR_OK;
	}
	enum err e = count_garbage(s, from, &garbage);
	if (e != ERR_OK) {
		return e;
	}
	*torn += garbage;
	*at = garbage == 0 ? from : s->end;
	*found = SEGMENT_END;
	return ERR_OK;
}

static void say_record(const struct layout_record *r, enum segment_found what, uint64_t *at,
	enum segment_found *found, struct segment_record *out)
{
	*out = r->record;
	*at = num_round_up(record_end(r), SEGMENT_ALIGN);
	*found = what;
}

/*
 * The bytes at hole are no valid record: finds the next one. When that belongs to the same
 * group and the group is not proven, the hole is what a power cut tore from messages that were
 * never acknowledged; otherwise it is damage.
 */
static enum err pass_hole(const struct scan *s, uint64_t hole, uint64_t from, uint64_t *at,
	enum segment_found *found, struct segment_record *out, uint64_t *torn)
{
	struct layout_record r;
	bool is_there = false;
	bool is_whole = false;

	for (;;) {
		enum err e = find_header(s, from, &is_there, &r);
		if (e == ERR_OK && is_there) {
			e = record_is_whole(s, &r, &is_whole);
		}
		if (e != ERR_OK) {
			return e;
		}
		if (!is_there) {
			return end_of_records(s, hole, at, found, out, torn);
		}
		if (is_whole || is_proven(s, &r)) {
			break;
		}
		from = r.record.offset + SEGMENT_ALIGN;
	}
	if (!is_proven(s, &r) && r.group_at <= hole) {
		*torn += r.record.offset - hole;
		say_record(&r, SEGMENT_RECORD, at, found, out);
	} else {
		say_damaged(hole, r.record.offset, at, found, out);
	}
	return ERR_OK;
}

/* The end, unless the file is shorter than what was announced as durable. */
static void say_end(const struct scan *s, uint64_t from, uint64_t *at,
	enum segment_found *found, struct segment_record *out)
{
	if (s->is_limited && s->size < s->limit && from < s->limit) {
		say_damaged(from, s->limit, at, found, out);
	} else {
		*at = from;
		*found = SEGMENT_END;
	}
}

static enum err next_of(const struct scan *s, uint64_t from, uint64_t *at,
	enum segment_found *found, struct segment_record *out, uint64_t *torn)
{
	struct layout_record r;
	bool is_there = false;
	bool is_whole = false;

	if (from >= s->end) {
		say_end(s, from, at, found, out);
		return ERR_OK;
	}
	enum err e = expect_header(s, &from, &is_there, &r);
	if (e == ERR_OK && is_there) {
		e = record_is_whole(s, &r, &is_whole);
	}
	if (e != ERR_OK) {
		return e;
	}
	if (from < s->end && (!is_there || (!is_whole && !is_proven(s, &r)))) {
		return pass_hole(s, from, from + SEGMENT_ALIGN, at, found, out, torn);
	}
	if (from >= s->end) {
		/* Only the filling of the last page. */
		say_end(s, from, at, found, out);
	} else {
		say_record(&r, is_whole ? SEGMENT_RECORD : SEGMENT_DAMAGED, at, found, out);
	}
	return ERR_OK;
}

enum err segment_next(int fd, const struct segment_info *info, uint64_t *at, uint64_t limit,
	bool check_payload, enum segment_found *found, struct segment_record *out,
	uint64_t *torn_bytes)
{
	struct stat st;
	uint64_t torn = 0;

	if (fstat(fd, &st) != 0) {
		return err_from_errno();
	}
	struct scan s = {
		.fd = fd,
		.info = info,
		.size = (uint64_t)st.st_size,
		.end = limit < (uint64_t)st.st_size ? limit : (uint64_t)st.st_size,
		.limit = limit,
		.is_limited = limit != UINT64_MAX,
		.is_checking = check_payload,
	};
	uint64_t from = *at < info->data_at ? info->data_at : *at;
	enum err e = ERR_OK;

	if (from > UINT64_MAX - SEGMENT_PAGE) {
		*found = SEGMENT_END;
	} else {
		e = next_of(&s, num_round_up(from, SEGMENT_ALIGN), at, found, out, &torn);
	}
	if (e == ERR_OK && torn_bytes != NULL) {
		*torn_bytes = torn;
	}
	return e;
}

enum err segment_read_record(int fd, const struct segment_info *info, uint64_t offset,
	struct segment_record *out)
{
	uint8_t header[HEADER];
	struct layout_record r;

	if (offset > INT64_MAX) {
		return ERR_CORRUPT;
	}
	enum err e = fd_pread_all(fd, header, sizeof(header), (off_t)offset);
	if (e != ERR_OK) {
		return e;
	}
	if (!layout_record_decode(info, offset, header, &r)) {
		return ERR_CORRUPT;
	}
	*out = r.record;
	return ERR_OK;
}

enum err segment_read_envelope(int fd, const struct segment_record *r, bool check_payload,
	struct arena *a, struct envelope *out)
{
	struct envelope envelope;
	bool is_whole = true;
	enum err e = ERR_OK;

	if (check_payload) {
		e = payload_is_whole(fd, r, &is_whole);
	}
	if (e != ERR_OK || !is_whole) {
		return e != ERR_OK ? e : ERR_CORRUPT;
	}
	uint8_t *bytes = arena_alloc(a, r->envelope_bytes);
	if (bytes == NULL) {
		return ERR_TOOBIG;
	}
	e = fd_pread_all(fd, bytes, r->envelope_bytes, (off_t)r->envelope_at);
	if (e == ERR_OK) {
		e = envelope_decode(slice_make(bytes, r->envelope_bytes), a, &envelope);
	}
	if (e != ERR_OK) {
		return e;
	}
	if (envelope.rcpt_count != r->rcpt_count || envelope.flags != r->flags) {
		return ERR_CORRUPT;
	}
	*out = envelope;
	return ERR_OK;
}

static enum err copy_range(int from, uint64_t offset, uint64_t length, int to)
{
	uint8_t chunk[CHUNK];
	size_t got = 0;

	while (length > 0) {
		size_t n = length < CHUNK ? (size_t)length : CHUNK;
		enum err e = read_up_to(from, chunk, n, offset, &got);
		if (e == ERR_OK) {
			e = fd_write_all(to, slice_make(chunk, got));
		}
		if (e != ERR_OK || got < n) {
			return e;
		}
		offset += n;
		length -= n;
	}
	return ERR_OK;
}

enum err segment_set_aside(int fd, int corrupt_dir, uint64_t segment, uint64_t offset,
	uint64_t length)
{
	char name[48];

	if (str_format(name, sizeof(name), "%016" PRIx64 "-%" PRIu64, segment, offset) !=
			ERR_OK ||
		offset > INT64_MAX) {
		return ERR_TOOBIG;
	}
	int to = openat(corrupt_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		0600);
	if (to < 0) {
		/* It has been set aside before: recovery finds it again each time. */
		return errno == EEXIST ? ERR_OK : err_from_errno();
	}
	enum err e = copy_range(fd, offset, length, to);
	if (e == ERR_OK && fsync(to) != 0) {
		e = err_from_errno();
	}
	if (e != ERR_OK) {
		int saved = errno;
		(void)unlinkat(corrupt_dir, name, 0);
		errno = saved;
	}
	fd_close(&to);
	return e;
}
