/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/crc32c.h"
#include "common/base/num.h"
#include "common/queue/layout.h"
#include "common/queue/segment_reader.h"
#include "tests/support/lib/scratch.h"

/* ---- a segment of three groups of two records, made by hand ---- */

#define RECORDS 6u
#define GROUPS 3u
#define SLOTS 256u
#define FILE_MAX ((size_t)64 * 1024)

static struct {
	uint8_t bytes[FILE_MAX];
	size_t n;
	struct segment_info info;
	struct layout_record records[RECORDS];
	uint64_t group_end[GROUPS];
} made;

/* Of several sizes; none ends at a multiple of SEGMENT_ALIGN. */
static const size_t content_bytes[RECORDS] = {100, 3000, 37, 1, 4500, 700};

static struct envelope_rcpt one_rcpt[] = {
	{.address = SLICE_INIT("rcpt@example.net"), .notify = 0}};

static void put_record(struct layout_record *r, size_t i, struct slice envelope)
{
	static const char head[] = "Received: x\r\n";
	uint8_t *at = made.bytes + r->record.offset;

	r->record.first_slot = (uint32_t)i;
	r->record.rcpt_count = 1;
	r->record.envelope_bytes = (uint32_t)envelope.n;
	r->record.head_bytes = sizeof(head) - 1;
	r->record.content_bytes = content_bytes[i];
	r->record.accepted_us = 1700000000000000 + (int64_t)i;
	memcpy(r->record.queue_id, "4XyZ0000000", QUEUE_ID_BYTES);
	r->record.queue_id[QUEUE_ID_BYTES - 1] = (char)('0' + i);
	r->content_first = i % 2 == 1;
	layout_record_place(r);
	memcpy(made.bytes + r->record.envelope_at, envelope.p, envelope.n);
	memcpy(made.bytes + r->record.head_at, head, sizeof(head) - 1);
	memset(made.bytes + r->record.content_at, (int)('a' + i), content_bytes[i]);
	r->record.payload_crc =
		crc32c(0, slice_make(at + SEGMENT_RECORD_HEADER_BYTES,
				  r->record.length - SEGMENT_RECORD_HEADER_BYTES));
}

static int make_segment(void **state)
{
	struct envelope e = {.rcpt_count = 1, .rcpts = one_rcpt};
	struct buf envelope;
	uint64_t at = layout_data_at(SLOTS);

	(void)state;
	memset(&made, 0, sizeof(made));
	made.info = (struct segment_info){.id = UINT64_C(0x0006123456789abc),
		.mark = UINT64_C(0x1122334455667788),
		.slot_capacity = SLOTS,
		.data_at = at};
	layout_file_encode(&made.info, 1700000000000000, made.bytes);
	buf_init(&envelope, 1000);
	assert_int_equal(envelope_encode(&e, &envelope), ERR_OK);
	for (size_t g = 0; g < GROUPS; g++) {
		uint64_t group_at = at;
		for (size_t i = g * 2; i < g * 2 + 2; i++) {
			struct layout_record *r = &made.records[i];
			r->record.offset = num_round_up(at, SEGMENT_ALIGN);
			put_record(r, i, buf_view(&envelope));
			at = r->record.offset + r->record.length;
		}
		at = num_round_up(at, SEGMENT_PAGE);
		for (size_t i = g * 2; i < g * 2 + 2; i++) {
			struct layout_record *r = &made.records[i];
			r->group_at = group_at;
			r->group_end = at;
			layout_record_encode(&made.info, r, made.bytes + r->record.offset);
		}
		made.group_end[g] = at;
	}
	made.n = at;
	assert_true(made.n <= FILE_MAX);
	buf_clear(&envelope);
	return 0;
}

static int file_of(const uint8_t *bytes, size_t n)
{
	int fd = memfd_create("segment", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	return fd;
}

/* What reading a file gave. */
struct outcome {
	bool is_record[RECORDS];
	size_t records;
	size_t damages;
	uint64_t damaged_at;
	uint64_t damaged_bytes;
	uint64_t torn;
	uint64_t end;
};

static void assert_is_record(const struct segment_record *r, size_t i)
{
	const struct segment_record *want = &made.records[i].record;

	assert_int_equal(r->offset, want->offset);
	assert_int_equal(r->length, want->length);
	assert_int_equal(r->first_slot, want->first_slot);
	assert_int_equal(r->envelope_at, want->envelope_at);
	assert_int_equal(r->head_at, want->head_at);
	assert_int_equal(r->content_at, want->content_at);
	assert_int_equal(r->content_bytes, want->content_bytes);
	assert_int_equal(r->payload_crc, want->payload_crc);
	assert_string_equal(r->queue_id, want->queue_id);
}

static struct outcome read_whole(int fd, uint64_t limit, bool check)
{
	struct outcome o = {.records = 0};
	uint64_t at = 0;
	size_t steps = 0;

	for (;;) {
		enum segment_found found;
		struct segment_record r;
		uint64_t torn = 77;
		uint64_t before = at;

		assert_int_equal(
			segment_next(fd, &made.info, &at, limit, check, &found, &r, &torn),
			ERR_OK);
		assert_true(++steps < 50);
		o.torn += torn;
		if (found == SEGMENT_END) {
			o.end = at;
			return o;
		}
		assert_true(at > before);
		if (found == SEGMENT_DAMAGED) {
			o.damages++;
			o.damaged_at = r.offset;
			o.damaged_bytes = r.length;
			continue;
		}
		size_t i = 0;
		while (i < RECORDS && made.records[i].record.offset != r.offset) {
			i++;
		}
		assert_true(i < RECORDS && !o.is_record[i]);
		assert_is_record(&r, i);
		o.is_record[i] = true;
		o.records++;
	}
}

static struct outcome read_bytes(size_t n, uint64_t limit, bool check)
{
	int fd = file_of(made.bytes, n);
	struct outcome o = read_whole(fd, limit, check);

	close(fd);
	return o;
}

/* ---- the tests ---- */

static void finds_all_records_in_order(void **state)
{
	(void)state;
	for (int check = 0; check < 2; check++) {
		struct outcome o = read_bytes(made.n, UINT64_MAX, check != 0);
		assert_int_equal(o.records, RECORDS);
		assert_int_equal(o.damages, 0);
		assert_int_equal(o.torn, 0);
	}
}

static void looks_no_further_than_its_limit(void **state)
{
	(void)state;
	for (size_t i = 0; i < RECORDS; i++) {
		const struct segment_record *r = &made.records[i].record;
		struct outcome o = read_bytes(made.n, r->offset + r->length, true);
		assert_int_equal(o.records, i + 1);
		assert_int_equal(o.damages, 0);
		o = read_bytes(made.n, num_round_up(r->offset + r->length, SEGMENT_PAGE), true);
		assert_true(o.records >= i + 1);
		assert_int_equal(o.damages, 0);
	}
	assert_int_equal(read_bytes(made.n, 0, true).records, 0);
	assert_int_equal(read_bytes(made.n, made.info.data_at, true).records, 0);
}

static void what_was_announced_and_is_missing_is_damage(void **state)
{
	struct outcome o;

	(void)state;
	/* The file is too short. */
	o = read_bytes(made.group_end[1], made.n, true);
	assert_int_equal(o.records, 4);
	assert_int_equal(o.damages, 1);
	assert_int_equal(o.damaged_at + o.damaged_bytes, made.n);
	/* The last record is there in part. */
	made.bytes[made.records[5].record.content_at] ^= 1;
	o = read_bytes(made.n, made.n, true);
	assert_int_equal(o.records, 5);
	assert_int_equal(o.damages, 1);
	assert_int_equal(o.damaged_at, made.records[5].record.offset);
	/* Or not at all. */
	memset(made.bytes + made.records[5].record.offset, 0, 500);
	o = read_bytes(made.n, made.n, true);
	assert_int_equal(o.records, 5);
	assert_int_equal(o.damages, 1);
}

static bool lies_in(uint64_t at, uint64_t from, uint64_t to)
{
	return at >= from && at < to;
}

static void every_flipped_bit_costs_one_record_at_most(void **state)
{
	int fd = file_of(made.bytes, made.n);

	(void)state;
	for (uint64_t bit = made.info.data_at * 8; bit < made.n * 8; bit++) {
		uint64_t byte = bit / 8;
		size_t hit = RECORDS;

		for (size_t i = 0; i < RECORDS; i++) {
			const struct segment_record *r = &made.records[i].record;
			hit = lies_in(byte, r->offset, r->offset + r->length) ? i : hit;
		}
		uint8_t flipped = made.bytes[byte] ^ (uint8_t)(1u << bit % 8);
		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)byte), 1);
		struct outcome o = read_whole(fd, UINT64_MAX, true);
		assert_int_equal(pwrite(fd, &made.bytes[byte], 1, (off_t)byte), 1);
		assert_int_equal(o.records, hit == RECORDS ? RECORDS : RECORDS - 1);
		assert_true(hit == RECORDS || !o.is_record[hit]);
		if (byte < made.group_end[1]) {
			/* Committed once: told, where it was noticed at all. */
			assert_true(hit == RECORDS ? o.damages <= 1 : o.damages == 1);
			assert_true(o.damages == 0 || lies_in(byte, o.damaged_at,
							      o.damaged_at + o.damaged_bytes));
			assert_int_equal(o.torn, 0);
		} else {
			/* As a power cut may leave it. */
			assert_int_equal(o.damages, 0);
			assert_true(hit == RECORDS || o.torn > 0);
		}
		/* One bit is enough of a group's page filling: the rest is alike. */
		if (hit == RECORDS && bit % 64 != 0) {
			bit += 63;
		}
	}
	close(fd);
}

static void every_flipped_bit_of_the_file_header_is_noticed(void **state)
{
	struct segment_info info;

	(void)state;
	for (size_t bit = 0; bit < (size_t)SEGMENT_PAGE * 8; bit++) {
		made.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(layout_file_decode(made.bytes, &info));
		made.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(layout_file_decode(made.bytes, &info));
}

static void every_truncation_leaves_whole_records(void **state)
{
	int fd = file_of(made.bytes, made.n);
	struct segment_info info;

	(void)state;
	for (size_t n = made.n + 1; n-- > 0;) {
		assert_int_equal(ftruncate(fd, (off_t)n), 0);
		if (n < made.info.data_at) {
			assert_int_equal(segment_read_info(fd, &info), ERR_CORRUPT);
			continue;
		}
		assert_int_equal(segment_read_info(fd, &info), ERR_OK);
		struct outcome o = read_whole(fd, UINT64_MAX, true);
		size_t whole = 0;
		for (size_t i = 0; i < RECORDS; i++) {
			const struct segment_record *r = &made.records[i].record;
			whole += r->offset + r->length <= n ? 1 : 0;
		}
		assert_int_equal(o.records, whole);
		/* Only the first group is known to have been there. */
		assert_true(o.damages == 0 || (n < made.group_end[0] && o.damages == 1));
		if (n > made.info.data_at && whole == 0) {
			assert_int_equal(o.damages, 1);
		}
	}
	close(fd);
}

static void any_missing_pages_of_the_last_group_are_torn(void **state)
{
	static uint8_t whole[FILE_MAX];
	uint64_t from = made.group_end[1];
	size_t pages = (made.n - from) / SEGMENT_PAGE;

	(void)state;
	memcpy(whole, made.bytes, made.n);
	assert_true(pages >= 2);
	for (unsigned kept = 0; kept < 1u << pages; kept++) {
		for (size_t p = 0; p < pages; p++) {
			uint64_t at = from + p * SEGMENT_PAGE;
			memcpy(made.bytes + at, whole + at, SEGMENT_PAGE);
			if ((kept & 1u << p) == 0) {
				memset(made.bytes + at, 0, SEGMENT_PAGE);
			}
		}
		for (int check = 0; check < 2; check++) {
			struct outcome o = read_bytes(made.n, UINT64_MAX, check != 0);
			assert_int_equal(o.damages, 0);
			for (size_t i = 0; i < RECORDS; i++) {
				const struct segment_record *r = &made.records[i].record;
				bool is_whole = memcmp(made.bytes + r->offset,
							whole + r->offset, r->length) == 0;
				assert_int_equal(o.is_record[i], is_whole);
			}
		}
	}
}

static void payloads_of_earlier_groups_are_checked_when_asked(void **state)
{
	(void)state;
	made.bytes[made.records[1].record.content_at + 5] ^= 1;
	assert_int_equal(read_bytes(made.n, UINT64_MAX, false).records, RECORDS);
	struct outcome o = read_bytes(made.n, UINT64_MAX, true);
	assert_int_equal(o.records, RECORDS - 1);
	assert_int_equal(o.damaged_at, made.records[1].record.offset);
	assert_int_equal(o.damaged_bytes, made.records[1].record.length);
}

static void bytes_of_another_segment_are_no_records(void **state)
{
	uint64_t at = made.group_end[2];

	(void)state;
	/* Old records of the same place under another mark, and our own at another place. */
	struct segment_info other = made.info;
	other.mark++;
	struct layout_record r = made.records[0];
	r.record.offset = at;
	r.group_at = at;
	r.group_end = at + SEGMENT_PAGE;
	layout_record_place(&r);
	layout_record_encode(&other, &r, made.bytes + at);
	memcpy(made.bytes + at + 512, made.bytes + made.records[0].record.offset, 512);
	struct outcome o = read_bytes(at + SEGMENT_PAGE, UINT64_MAX, true);
	assert_int_equal(o.records, RECORDS);
	assert_int_equal(o.damages, 0);
	assert_true(o.torn >= 1024 && o.torn <= SEGMENT_PAGE);
}

static void a_segment_without_any_record_is_damaged(void **state)
{
	struct outcome o;

	(void)state;
	memset(made.bytes + made.info.data_at, 0, made.n - made.info.data_at);
	o = read_bytes(made.n, UINT64_MAX, true);
	assert_int_equal(o.records, 0);
	assert_int_equal(o.damages, 1);
	/* Nothing behind its slots: nothing was ever written. */
	o = read_bytes(made.info.data_at, UINT64_MAX, true);
	assert_int_equal(o.damages, 0);
	assert_int_equal(o.records, 0);
}

static void lengths_are_never_believed(void **state)
{
	static const uint64_t huge[] = {0, 1, 127, 4096, UINT32_MAX, (uint64_t)1 << 59,
		(uint64_t)1 << 60, INT64_MAX, UINT64_MAX};
	struct layout_record r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(huge); i++) {
		for (int field = 0; field < 7; field++) {
			uint8_t header[SEGMENT_RECORD_HEADER_BYTES];
			struct layout_record m = made.records[3];
			m.record.content_bytes = field == 0 ? huge[i] : m.record.content_bytes;
			m.record.envelope_bytes =
				field == 1 ? (uint32_t)huge[i] : m.record.envelope_bytes;
			m.record.head_bytes =
				field == 2 ? (uint32_t)huge[i] : m.record.head_bytes;
			m.record.first_slot =
				field == 3 ? (uint32_t)huge[i] : m.record.first_slot;
			m.record.rcpt_count =
				field == 4 ? (uint32_t)huge[i] : m.record.rcpt_count;
			m.group_at = field == 5 ? huge[i] : m.group_at;
			m.group_end = field == 6 ? huge[i] : m.group_end;
			layout_record_encode(&made.info, &m, header);
			if (!layout_record_decode(&made.info, m.record.offset, header, &r)) {
				continue;
			}
			assert_true(r.record.length <= r.group_end - r.record.offset);
			assert_true(r.record.first_slot + r.record.rcpt_count <= SLOTS);
			assert_true(r.record.rcpt_count > 0);
		}
	}
}

static void a_record_is_read_again_by_its_place(void **state)
{
	int fd = file_of(made.bytes, made.n);
	struct segment_record r;
	struct envelope e;
	struct arena a;

	(void)state;
	arena_init(&a, 100000);
	for (size_t i = 0; i < RECORDS; i++) {
		assert_int_equal(
			segment_read_record(fd, &made.info, made.records[i].record.offset, &r),
			ERR_OK);
		assert_is_record(&r, i);
		assert_int_equal(segment_read_envelope(fd, &r, true, &a, &e), ERR_OK);
		assert_true(slice_eq(e.rcpts[0].address, SLICE("rcpt@example.net")));
	}
	assert_int_equal(segment_read_record(fd, &made.info, made.info.data_at + 64, &r),
		ERR_CORRUPT);
	assert_int_equal(segment_read_record(fd, &made.info, made.n, &r), ERR_CORRUPT);
	assert_int_equal(segment_read_record(fd, &made.info, UINT64_MAX, &r), ERR_CORRUPT);
	r = made.records[0].record;
	r.flags = 9; /* says something else than its envelope */
	assert_int_equal(segment_read_envelope(fd, &r, false, &a, &e), ERR_CORRUPT);
	r = made.records[0].record;
	r.payload_crc++;
	assert_int_equal(segment_read_envelope(fd, &r, true, &a, &e), ERR_CORRUPT);
	arena_clear(&a);
	close(fd);
}

static void only_a_plain_file_of_its_own_name_is_opened(void **state)
{
	struct scratch s;
	struct segment_info info;
	char name[SEGMENT_NAME_MAX];
	char other[SEGMENT_NAME_MAX];
	int fd = -1;

	(void)state;
	scratch_make(&s);
	segment_name(made.info.id, name);
	segment_name(7, other);
	assert_int_equal(segment_open(s.dir, made.info.id, false, &fd, &info), ERR_NOTFOUND);
	int f = openat(s.dir, name, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(f, made.bytes, made.n), made.n);
	assert_int_equal(segment_open(s.dir, made.info.id, false, &fd, &info), ERR_OK);
	assert_int_equal(info.mark, made.info.mark);
	assert_int_equal(info.slot_capacity, SLOTS);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	close(fd);
	/* A second name, a link, another's name, a FIFO, a directory, a socket's worth of
	 * nothing. */
	assert_int_equal(linkat(s.dir, name, s.dir, "second", 0), 0);
	assert_int_equal(segment_open(s.dir, made.info.id, false, &fd, &info), ERR_CORRUPT);
	assert_int_equal(unlinkat(s.dir, "second", 0), 0);
	assert_int_equal(symlinkat(name, s.dir, other), 0);
	assert_int_equal(segment_open(s.dir, 7, false, &fd, &info), ERR_CORRUPT);
	assert_int_equal(unlinkat(s.dir, other, 0), 0);
	assert_int_equal(renameat(s.dir, name, s.dir, other), 0);
	assert_int_equal(segment_open(s.dir, 7, false, &fd, &info), ERR_CORRUPT);
	assert_int_equal(unlinkat(s.dir, other, 0), 0);
	assert_int_equal(mkfifoat(s.dir, other, 0600), 0);
	assert_int_equal(segment_open(s.dir, 7, false, &fd, &info), ERR_CORRUPT);
	assert_int_equal(segment_open(s.dir, 7, true, &fd, &info), ERR_CORRUPT);
	assert_int_equal(unlinkat(s.dir, other, 0), 0);
	assert_int_equal(mkdirat(s.dir, other, 0700), 0);
	assert_int_equal(segment_open(s.dir, 7, false, &fd, &info), ERR_CORRUPT);
	assert_int_equal(segment_open(s.dir, 7, true, &fd, &info), ERR_CORRUPT);
	close(f);
	scratch_remove(&s);
}

static void damage_is_set_aside_once(void **state)
{
	int fd = file_of(made.bytes, made.n);
	uint8_t back[200];
	struct scratch s;

	(void)state;
	scratch_make(&s);
	assert_int_equal(segment_set_aside(fd, s.dir, made.info.id, 8192, 100), ERR_OK);
	assert_int_equal(segment_set_aside(fd, s.dir, made.info.id, 8192, 100), ERR_OK);
	int f = openat(s.dir, "0006123456789abc-8192", O_RDONLY);
	assert_true(f >= 0);
	assert_int_equal(read(f, back, sizeof(back)), 100);
	assert_memory_equal(back, made.bytes + 8192, 100);
	close(f);
	/* Beyond the end: what there is. */
	assert_int_equal(segment_set_aside(fd, s.dir, made.info.id, made.n - 10, UINT64_MAX),
		ERR_OK);
	close(fd);
	scratch_remove(&s);
}

static void names_have_one_spelling(void **state)
{
	static const struct {
		struct slice name;
		bool is_one;
	} cases[] = {
		{SLICE_INIT("0005f3a1b2c3d4e5.seg"), true},
		{SLICE_INIT("0005F3A1B2C3D4E5.seg"), false},
		{SLICE_INIT("0005f3a1b2c3d4e5.SEG"), false},
		{SLICE_INIT("005f3a1b2c3d4e5.seg"), false},
		{SLICE_INIT("00005f3a1b2c3d4e5.seg"), false},
		{SLICE_INIT("0005f3a1b2c3d4e5.seg\0"), false},
		{SLICE_INIT("0005f3a1b2c3d4g5.seg"), false},
		{SLICE_INIT("tmp-07-0005f3a1b2c3d4e5"), false},
		{SLICE_INIT(".seg"), false},
		{SLICE_INIT(""), false},
	};
	char name[SEGMENT_NAME_MAX];
	uint64_t id = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(segment_name_parse(cases[i].name, &id) == ERR_OK,
			cases[i].is_one);
	}
	segment_name(UINT64_MAX, name);
	assert_string_equal(name, "ffffffffffffffff.seg");
	assert_int_equal(segment_name_parse(slice_from_cstr(name), &id), ERR_OK);
	assert_true(id == UINT64_MAX);
}

static void slots_come_back_and_no_bit_can_turn_unnoticed(void **state)
{
	static const struct slot slots[] = {
		{.state = SLOT_WAITING},
		{.state = SLOT_DELIVERED,
			.attempts = 1,
			.smtp_code = 250,
			.stage = 11,
			.status_class = 2},
		{.state = SLOT_WAITING,
			.flags = SLOT_HELD | SLOT_DELAY_TOLD,
			.attempts = UINT16_MAX,
			.next_at_s = UINT32_MAX,
			.smtp_code = 451,
			.stage = 8,
			.status_class = 4,
			.status_subject = 999,
			.status_detail = 999},
		{.state = SLOT_MOVED, .flags = 15},
	};
	uint8_t bytes[SEGMENT_SLOT_BYTES] = {0};
	struct slot back;

	(void)state;
	slot_decode(bytes, &back);
	assert_int_equal(back.state, SLOT_WAITING);
	assert_int_equal(back.next_at_s, 0);
	for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
		slot_encode(&slots[i], bytes);
		slot_decode(bytes, &back);
		assert_memory_equal(&back, &slots[i], sizeof(back));
		assert_int_equal(slot_is_final(&back), slots[i].state != SLOT_WAITING);
		for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			slot_decode(bytes, &back);
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_int_equal(back.state, SLOT_WAITING);
			assert_int_equal(back.next_at_s, 0);
			assert_int_equal(back.flags, 0);
		}
	}
	/* A state that does not exist, with a check byte that fits. */
	slot_encode(&(struct slot){.state = SLOT_MOVED + 1}, bytes);
	slot_decode(bytes, &back);
	assert_int_equal(back.state, SLOT_WAITING);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, make_segment)
	const struct CMUnitTest tests[] = {
		CASE(finds_all_records_in_order),
		CASE(looks_no_further_than_its_limit),
		CASE(what_was_announced_and_is_missing_is_damage),
		CASE(every_flipped_bit_costs_one_record_at_most),
		CASE(every_flipped_bit_of_the_file_header_is_noticed),
		CASE(every_truncation_leaves_whole_records),
		CASE(any_missing_pages_of_the_last_group_are_torn),
		CASE(payloads_of_earlier_groups_are_checked_when_asked),
		CASE(bytes_of_another_segment_are_no_records),
		CASE(a_segment_without_any_record_is_damaged),
		CASE(lengths_are_never_believed),
		CASE(a_record_is_read_again_by_its_place),
		CASE(only_a_plain_file_of_its_own_name_is_opened),
		CASE(damage_is_set_aside_once),
		CASE(names_have_one_spelling),
		CASE(slots_come_back_and_no_bit_can_turn_unnoticed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
