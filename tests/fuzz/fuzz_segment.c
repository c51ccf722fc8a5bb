/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input tells how to fill a segment: raw bytes, records with fields of its choice and right
 * checksums, page ends. Whatever comes out is read to its end: always forward, never outside
 * the file, the same with and without payloads.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/num.h"
#include "common/queue/layout.h"
#include "common/queue/segment_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_MAX ((size_t)32 * 1024)
#define SLOTS 256u

static const struct segment_info info = {.id = 1,
	.mark = 2,
	.slot_capacity = SLOTS,
	.data_at = 8192};

static uint8_t file[FILE_MAX];
static size_t file_bytes;

static uint8_t take(struct slice *s)
{
	uint8_t c = s->n == 0 ? 0 : s->p[0];

	*s = slice_skip(*s, 1);
	return c;
}

static uint64_t take_number(struct slice *s)
{
	uint8_t kind = take(s);
	uint64_t n = 0;

	/* Mostly small ones. */
	for (unsigned i = 0; i < (kind & 7u); i++) {
		n = n << 8 | take(s);
	}
	return n;
}

static void add_raw(struct slice *s)
{
	struct slice raw = slice_head(*s, take(s));

	raw = slice_head(raw, FILE_MAX - file_bytes);
	if (raw.n != 0) {
		memcpy(file + file_bytes, raw.p, raw.n);
	}
	file_bytes += raw.n;
	*s = slice_skip(*s, raw.n);
}

static void add_record(struct slice *s)
{
	uint8_t how = take(s);
	struct layout_record r = {.content_first = (how & 1) != 0, .record = {.rcpt_count = 1}};

	file_bytes = num_round_up(file_bytes, SEGMENT_ALIGN);
	if (FILE_MAX - file_bytes < SEGMENT_RECORD_HEADER_BYTES) {
		return;
	}
	r.record.offset = file_bytes + ((how & 2) != 0 ? take_number(s) : 0);
	r.record.first_slot = (uint32_t)take_number(s);
	r.record.rcpt_count = (how & 4) != 0 ? (uint32_t)take_number(s) : 1;
	r.record.envelope_bytes = (uint32_t)take_number(s);
	r.record.head_bytes = (uint32_t)take_number(s);
	r.record.content_bytes = take_number(s);
	memcpy(r.record.queue_id, "4XyZ00000000", QUEUE_ID_BYTES);
	layout_record_place(&r);
	r.group_at = (how & 8) != 0 ? take_number(s) : file_bytes / SEGMENT_PAGE * SEGMENT_PAGE;
	r.group_end = (how & 16) != 0
			      ? take_number(s)
			      : num_round_up(file_bytes + r.record.length, SEGMENT_PAGE);
	/* The payload is what comes next in the input, as far as there is any. */
	uint8_t *payload = file + file_bytes + SEGMENT_RECORD_HEADER_BYTES;
	size_t room = FILE_MAX - file_bytes - SEGMENT_RECORD_HEADER_BYTES;
	uint64_t want = r.record.length - SEGMENT_RECORD_HEADER_BYTES;
	size_t n = want < room ? (size_t)want : room;
	struct slice given = slice_head(*s, n);
	if (given.n != 0) {
		memcpy(payload, given.p, given.n);
	}
	*s = slice_skip(*s, given.n);
	r.record.payload_crc = crc32c(0, slice_make(payload, n)) ^ ((how & 32) != 0 ? 1 : 0);
	layout_record_encode(&info, &r, file + file_bytes);
	file_bytes += SEGMENT_RECORD_HEADER_BYTES + n;
}

static void build(struct slice s)
{
	memset(file, 0, sizeof(file));
	layout_file_encode(&info, 0, file);
	file_bytes = (size_t)info.data_at;
	while (s.n > 0 && file_bytes < FILE_MAX) {
		switch (take(&s) & 3u) {
		case 0:
			add_raw(&s);
			break;
		case 1:
			file_bytes = num_round_up(file_bytes, SEGMENT_PAGE);
			break;
		default:
			add_record(&s);
			break;
		}
	}
	if (file_bytes > FILE_MAX) {
		file_bytes = FILE_MAX;
	}
}

static void check(bool holds)
{
	if (!holds) {
		abort();
	}
}

static void check_record(int fd, const struct segment_record *r)
{
	struct segment_record again;
	struct envelope e;
	struct arena a;

	check(r->offset >= info.data_at && r->offset <= file_bytes &&
		r->length <= file_bytes - r->offset);
	check(r->rcpt_count > 0 && r->rcpt_count <= SLOTS &&
		r->first_slot <= SLOTS - r->rcpt_count);
	check(segment_read_record(fd, &info, r->offset, &again) == ERR_OK);
	check(again.length == r->length && again.payload_crc == r->payload_crc);
	arena_init(&a, (size_t)1 << 20);
	(void)!segment_read_envelope(fd, r, true, &a, &e);
	arena_clear(&a);
}

static void read_to_end(int fd, uint64_t limit, bool check_payload)
{
	uint64_t at = 0;

	for (size_t steps = 0;; steps++) {
		enum segment_found found;
		struct segment_record r;
		uint64_t torn = 0;
		uint64_t before = at;
		check(segment_next(fd, &info, &at, limit, check_payload, &found, &r, &torn) ==
			ERR_OK);
		check(torn <= file_bytes && steps <= FILE_MAX / SEGMENT_ALIGN);
		if (found == SEGMENT_END) {
			return;
		}
		check(at > before);
		if (found == SEGMENT_RECORD) {
			check_record(fd, &r);
		} else {
			check(r.length > 0);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("segment", MFD_CLOEXEC);
		check(fd >= 0);
	}
	build(slice_make(data, size));
	check(ftruncate(fd, (off_t)file_bytes) == 0);
	check(pwrite(fd, file, file_bytes, 0) == (ssize_t)file_bytes);
	read_to_end(fd, UINT64_MAX, true);
	read_to_end(fd, UINT64_MAX, false);
	read_to_end(fd, size == 0 ? 0 : info.data_at + data[0] * (uint64_t)100, true);
	return 0;
}
