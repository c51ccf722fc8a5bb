/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync */
/*
 * power: puts the queue's commit protocol through power cuts.
 *
 * power write DIR MARK SEED GROUPS   fills a queue in DIR and tells MARK what was acknowledged
 * power cuts BASE LOG WORK FSTYPE OPTIONS SEED COUNT [KEEP]
 *   Draws COUNT moments of LOG at random. Of each it makes what a disk may hold after the power
 * went at that moment: all writes before the last flush that had completed, and of the later
 * ones none, all or a random half, 4 KiB block by block, each time as a file of a new name in
 * WORK. It mounts that as FSTYPE and reads the queue. Prints a line for each cut that is wrong
 * and one with the sums; with KEEP the images of the first wrong cuts are kept there. Status 1
 * when anything is wrong.
 *
 * A message's number gives its size and all its bytes, so that a reader needs no other witness.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/queue/segment_reader.h"
#include "common/queue/segment_writer.h"
#include "tests/system/power/power_log.h"

#define MESSAGES_MAX 100000u
#define CONTENT_MAX ((size_t)512 * 1024)
#define BLOCK 4096u

static void PRINTF_LIKE(1, 2) NORETURN fail(const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	fprintf(stderr, "power: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, " (%s)\n", strerror(saved));
	va_end(args);
	exit(2);
}

static uint64_t random_next(uint64_t *state)
{
	/* xorshift64*: the same on every machine for a seed. */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t random_seed(uint64_t seed)
{
	return seed * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0x1234567);
}

/* ---- a busy machine ---- */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

/* Between a write and its sync others get the processor, and sync their own files. */
static bool is_busy;

int __wrap_fdatasync(int fd)
{
	static unsigned count;

	if (is_busy && ++count % 2 == 0) {
		usleep(1500);
	}
	return __real_fdatasync(fd);
}

/* ---- messages ---- */

static bool is_big(uint32_t number)
{
	return number % 17 == 16;
}

/* The content of a message, all of which follows from its number. */
static struct slice content_of(uint32_t number, bool is_poisoned, uint8_t *to)
{
	uint64_t state = random_seed(number);
	size_t n = is_big(number) ? 20000 + random_next(&state) % 300000
				  : 200 + random_next(&state) % 9000;
	int head = snprintf((char *)to, CONTENT_MAX, "Number: %" PRIu32 "\r\n%s%s", number,
		is_poisoned ? POWER_POISON : "", is_poisoned ? "\r\n" : "");

	for (size_t i = (size_t)head; i < n; i++) {
		to[i] = (uint8_t)('!' + random_next(&state) % 90);
	}
	return slice_make(to, n);
}

/* ---- write ---- */

struct written {
	uint64_t segment;
	uint32_t slot;
	bool is_acknowledged;
};

struct filling {
	int dir;
	int mark;
	uint64_t random;
	struct segment_writer *w;
	struct written *messages;
	uint8_t *bytes;
	uint32_t next;
	unsigned refused;
};

static void mark(struct filling *f, const char *text)
{
	if (write(f->mark, text, strlen(text)) != (ssize_t)strlen(text)) {
		fail("mark");
	}
}

static void acknowledge(struct filling *f, uint32_t from, uint32_t to)
{
	char text[64];

	for (uint32_t i = from; i < to; i++) {
		f->messages[i].is_acknowledged = true;
	}
	snprintf(text, sizeof(text), "ack %" PRIu32 " %" PRIu32 "\n", from, to);
	mark(f, text);
}

static struct envelope make_envelope(uint32_t number, struct envelope_rcpt *rcpts)
{
	struct envelope e = {.sender = SLICE("sender@example.org"),
		.protocol = SLICE("ESMTP"),
		.rcpt_count = is_big(number) ? 1 + number % 700 : 1 + number % 3,
		.rcpts = rcpts};

	for (uint32_t i = 0; i < e.rcpt_count; i++) {
		rcpts[i] = (struct envelope_rcpt){.address = SLICE("rcpt@example.net")};
	}
	return e;
}

static bool write_big(struct filling *f, uint32_t number)
{
	static struct envelope_rcpt rcpts[1000];
	struct envelope e = make_envelope(number, rcpts);
	struct slice content = content_of(number, false, f->bytes);
	struct segment_big *b = NULL;
	struct segment_record r;

	if (segment_big_begin(f->w, &e, &b) != ERR_OK) {
		return false;
	}
	while (content.n > 0) {
		struct slice piece = slice_head(content, 30000);
		if (segment_big_content(b, piece) != ERR_OK) {
			segment_big_abort(&b);
			return false;
		}
		content = slice_skip(content, piece.n);
	}
	if (segment_big_commit(&b, SLICE("Received: big\r\n"), 1, &r,
		    &f->messages[number].segment) != ERR_OK) {
		return false;
	}
	f->messages[number].slot = r.first_slot;
	return true;
}

static bool write_group(struct filling *f, uint32_t from, uint32_t to, bool is_poisoned)
{
	static struct envelope_rcpt rcpts[1000];

	for (uint32_t i = from; i < to; i++) {
		struct envelope e = make_envelope(i, rcpts);
		struct slice content = content_of(i, is_poisoned && i == to - 1, f->bytes);
		struct segment_record r;
		if (segment_writer_add(f->w, &e, SLICE("Received: x\r\n"), content, 1, &r,
			    &f->messages[i].segment) != ERR_OK) {
			fail("add");
		}
		f->messages[i].slot = r.first_slot;
	}
	return segment_writer_commit(f->w) == ERR_OK;
}

/* As qmgr does it: the slot in place, then flushed. */
static void deliver_one(struct filling *f)
{
	uint32_t number = (uint32_t)(random_next(&f->random) % f->next);
	const struct written *m = &f->messages[number];
	struct segment_info info;
	uint8_t slot[SEGMENT_SLOT_BYTES];
	char text[64];
	int fd = -1;

	if (!m->is_acknowledged) {
		return;
	}
	if (segment_open(f->dir, m->segment, true, &fd, &info) != ERR_OK) {
		fail("segment_open");
	}
	snprintf(text, sizeof(text), "doing %" PRIu32 "\n", number);
	mark(f, text);
	slot_encode(&(struct slot){.state = SLOT_DELIVERED, .attempts = 1, .smtp_code = 250},
		slot);
	if (segment_write_slots(fd, m->slot, 1, slot) == ERR_OK && fdatasync(fd) == 0) {
		snprintf(text, sizeof(text), "done %" PRIu32 "\n", number);
		mark(f, text);
	}
	close(fd);
}

static void write_one_group(struct filling *f, unsigned group)
{
	uint32_t from = f->next;
	uint32_t to = from;

	if (is_big(from)) {
		f->next++;
		if (write_big(f, from)) {
			acknowledge(f, from, from + 1);
		}
		return;
	}
	for (uint64_t n = 1 + random_next(&f->random) % 6; n > 0 && !is_big(to); n--) {
		to++;
	}
	bool is_poisoned = group % 11 == 10;
	f->next = to;
	bool is_durable = write_group(f, from, to, is_poisoned);
	if (!is_durable && is_poisoned) {
		/* The client was told to come again, and comes again. */
		f->refused++;
		is_durable = write_group(f, from, to, false);
	}
	if (is_durable) {
		acknowledge(f, from, to);
	}
}

/*
 * Other programs sync other files meanwhile. On a file system that orders data and metadata
 * less strictly, that is what makes half of a group appear.
 */
static pid_t start_noise(const char *dir)
{
	char path[300];
	pid_t pid = fork();

	if (pid < 0) {
		fail("fork");
	}
	if (pid > 0) {
		return pid;
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	snprintf(path, sizeof(path), "%s/../noise", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (off_t at = 0; fd >= 0; at = (at + 100) % 40000) {
		if (pwrite(fd, "noise", 5, at) != 5 || ftruncate(fd, at + 100) != 0 ||
			fsync(fd) != 0) {
			break;
		}
		usleep(3000);
	}
	_exit(1);
}

static void stop_noise(pid_t pid)
{
	kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static int write_queue(const char *dir, const char *mark_path, uint64_t seed, unsigned groups)
{
	struct filling f = {.random = random_seed(seed)};

	f.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f.mark = open(mark_path, O_WRONLY | O_CLOEXEC);
	if (f.dir < 0 || f.mark < 0) {
		fail("%s, %s", dir, mark_path);
	}
	f.messages = alloc_zero(MESSAGES_MAX, sizeof(*f.messages));
	f.bytes = alloc_bytes(CONTENT_MAX);
	if (segment_writer_new(f.dir, 0, NULL, NULL, &f.w) != ERR_OK) {
		fail("segment_writer_new");
	}
	pid_t noise = start_noise(dir);
	is_busy = true;
	for (unsigned g = 0; g < groups && f.next + 10 < MESSAGES_MAX; g++) {
		uint64_t segment = 0;
		uint64_t end = 0;
		write_one_group(&f, g);
		if (g % 3 == 2) {
			segment_writer_prepare(f.w);
		}
		if (g % 4 == 3) {
			deliver_one(&f);
		}
		if (g % 6 == 5 && segment_writer_current(f.w, &segment, &end)) {
			segment_writer_rotate(f.w, segment);
		}
	}
	segment_writer_free(&f.w);
	stop_noise(noise);
	printf("written %" PRIu32 " refused-groups %u\n", f.next, f.refused);
	free(f.messages);
	free(f.bytes);
	close(f.mark);
	close(f.dir);
	return 0;
}

/* ---- cuts ---- */

struct entry {
	uint32_t type;
	uint32_t bytes;
	uint64_t offset;
	const uint8_t *data;
};

/* What one message must and may be at the moment of a cut. */
struct promise {
	bool is_acknowledged;
	bool may_be_delivered;
	bool must_be_delivered;
	bool is_found;
};

struct cutting {
	struct entry *entries;
	size_t count;
	const char *work;
	const char *fstype;
	const char *options;
	bool is_journaled;
	const char *keep;
	uint64_t random;
	int durable; /* the image with all that the last flush before the cut made durable */
	size_t applied;
	struct promise *promises;
	uint8_t *bytes;
	uint8_t *want;
	/* Of one cut. */
	char image[256];
	char mountpoint[256];
	unsigned lost;
	unsigned torn;
	unsigned damaged;
	unsigned slots_wrong;
	unsigned not_mounted;
	unsigned not_writable;
};

static void read_log(struct cutting *c, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
		fail("%s", path);
	}
	const uint8_t *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) {
		fail("%s", path);
	}
	struct slice left = {p, (size_t)st.st_size};
	size_t room = 0;
	while (left.n >= sizeof(struct power_entry)) {
		struct power_entry e;
		memcpy(&e, left.p, sizeof(e));
		left = slice_skip(left, sizeof(e));
		if (e.bytes > left.n) {
			fail("%s ends in the middle", path);
		}
		if (c->count == room) {
			room = room == 0 ? 1024 : room * 2;
			c->entries = alloc_resize(c->entries, room, sizeof(*c->entries));
		}
		c->entries[c->count++] = (struct entry){e.type, e.bytes, e.offset, left.p};
		left = slice_skip(left, e.bytes);
	}
	close(fd);
}

static void write_at(int fd, const uint8_t *p, size_t n, uint64_t at)
{
	if (pwrite(fd, p, n, (off_t)at) != (ssize_t)n) {
		fail("image");
	}
}

/* What the marks before the cut promise. */
static void read_marks(struct cutting *c, size_t cut)
{
	memset(c->promises, 0, MESSAGES_MAX * sizeof(*c->promises));
	for (size_t i = 0; i < cut; i++) {
		const struct entry *e = &c->entries[i];
		if (e->type != POWER_MARK) {
			continue;
		}
		struct slice line = slice_trim(slice_make(e->data, e->bytes));
		struct slice word;
		struct slice a = SLICE_EMPTY;
		struct slice b = SLICE_EMPTY;
		uint32_t from = 0;
		uint32_t to = 0;
		(void)slice_cut(&line, ' ', &word);
		(void)slice_cut(&line, ' ', &a);
		(void)slice_cut(&line, ' ', &b);
		if (num_parse_u32(a, MESSAGES_MAX - 1, &from) != ERR_OK) {
			fail("a mark");
		}
		if (slice_eq(word, SLICE("ack"))) {
			if (num_parse_u32(b, MESSAGES_MAX, &to) != ERR_OK) {
				fail("a mark");
			}
			for (uint32_t k = from; k < to; k++) {
				c->promises[k].is_acknowledged = true;
			}
		} else if (slice_eq(word, SLICE("doing"))) {
			c->promises[from].may_be_delivered = true;
		} else {
			c->promises[from].must_be_delivered = true;
		}
	}
}

static void copy_image(int from, int to)
{
	static uint8_t chunk[1024 * 1024];
	struct stat st;
	off_t at = 0;

	if (fstat(from, &st) != 0 || ftruncate(to, st.st_size) != 0) {
		fail("image");
	}
	for (;;) {
		off_t begin = lseek(from, at, SEEK_DATA);
		if (begin < 0) {
			return; /* no more data */
		}
		at = lseek(from, begin, SEEK_HOLE);
		while (begin < at) {
			size_t n = at - begin < (off_t)sizeof(chunk) ? (size_t)(at - begin)
								     : sizeof(chunk);
			if (pread(from, chunk, n, begin) != (ssize_t)n) {
				fail("image");
			}
			write_at(to, chunk, n, (uint64_t)begin);
			begin += (off_t)n;
		}
	}
}

/* Makes the image of a cut before the entry of that number; moments must come in order. */
static void make_image(struct cutting *c, size_t cut, unsigned number)
{
	size_t flush = 0; /* behind the last flush before the cut */
	unsigned mode = (unsigned)(random_next(&c->random) % 6);

	for (size_t i = c->applied; i < cut; i++) {
		flush = c->entries[i].type == POWER_FLUSH ? i + 1 : flush;
	}
	for (; c->applied < flush; c->applied++) {
		const struct entry *e = &c->entries[c->applied];
		if (e->type == POWER_WRITE) {
			write_at(c->durable, e->data, e->bytes, e->offset);
		}
	}
	snprintf(c->image, sizeof(c->image), "%s/cut-%u.img", c->work, number);
	int fd = open(c->image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		fail("%s", c->image);
	}
	copy_image(c->durable, fd);
	/* None, all, a random half, or all but one block of what had not been flushed. */
	uint64_t blocks = 0;
	for (size_t i = c->applied; i < cut; i++) {
		const struct entry *e = &c->entries[i];
		blocks += e->type == POWER_WRITE ? num_round_up(e->bytes, BLOCK) / BLOCK : 0;
	}
	uint64_t missing = blocks == 0 ? 0 : random_next(&c->random) % blocks;
	uint64_t block = 0;
	for (size_t i = c->applied; i < cut; i++) {
		const struct entry *e = &c->entries[i];
		for (uint32_t at = 0; e->type == POWER_WRITE && at < e->bytes;
			at += BLOCK, block++) {
			uint32_t n = e->bytes - at < BLOCK ? e->bytes - at : BLOCK;
			bool is_heads = (random_next(&c->random) >> 40 & 1) == 1;
			bool is_kept = mode == 1 || (mode >= 4 && block != missing) ||
				       ((mode == 2 || mode == 3) && is_heads);
			if (is_kept) {
				write_at(fd, e->data + at, n, e->offset + at);
			}
		}
	}
	close(fd);
}

/* A loop device of one's own that vanishes with its last user. */
static int attach_loop(const struct cutting *c, char *node, size_t size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int image = open(c->image, O_RDWR | O_CLOEXEC);

	if (control < 0 || image < 0) {
		fail("loop");
	}
	for (unsigned tries = 0; tries < 1000; tries++) {
		struct loop_config conf;
		int index = ioctl(control, LOOP_CTL_GET_FREE);
		if (index < 0) {
			fail("LOOP_CTL_GET_FREE");
		}
		snprintf(node, size, "%s/loop%d", c->work, index);
		if (mknod(node, S_IFBLK | 0600, makedev(7, (unsigned)index)) != 0 &&
			errno != EEXIST) {
			fail("%s", node);
		}
		int fd = open(node, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			fail("%s", node);
		}
		memset(&conf, 0, sizeof(conf));
		conf.fd = (uint32_t)image;
		conf.info.lo_flags = LO_FLAGS_AUTOCLEAR;
		if (ioctl(fd, LOOP_CONFIGURE, &conf) == 0) {
			close(control);
			close(image);
			return fd;
		}
		close(fd);
		if (errno != EBUSY) {
			fail("LOOP_CONFIGURE");
		}
		usleep(1000); /* somebody else took it */
	}
	fail("no loop device is free");
}

static void check_slot(struct cutting *c, int fd, const struct segment_record *r,
	uint32_t number)
{
	const struct promise *p = &c->promises[number];
	uint8_t bytes[SEGMENT_SLOT_BYTES];
	struct slot slot;

	if (segment_read_slots(fd, r->first_slot, 1, bytes) != ERR_OK) {
		c->slots_wrong++;
		return;
	}
	slot_decode(bytes, &slot);
	bool is_delivered = slot.state == SLOT_DELIVERED;
	/* The same message may be there twice; only one of the two was delivered. */
	if ((is_delivered && !p->may_be_delivered) ||
		(!is_delivered && p->must_be_delivered && !p->is_found)) {
		c->slots_wrong++;
	}
}

static void check_record(struct cutting *c, int fd, const struct segment_record *r)
{
	struct envelope e;
	struct arena a;
	uint32_t number = 0;

	arena_init(&a, (size_t)1 << 22);
	bool is_whole = r->content_bytes <= CONTENT_MAX &&
			pread(fd, c->bytes, (size_t)r->content_bytes, (off_t)r->content_at) ==
				(ssize_t)r->content_bytes &&
			segment_read_envelope(fd, r, false, &a, &e) == ERR_OK;
	arena_clear(&a);
	struct slice got = {c->bytes, is_whole ? (size_t)r->content_bytes : 0};
	struct slice line = slice_head(got, slice_find(got, '\r'));
	if (!slice_starts(line, SLICE("Number: ")) ||
		num_parse_u32(slice_skip(line, 8), MESSAGES_MAX - 1, &number) != ERR_OK ||
		(!slice_eq(got, content_of(number, false, c->want)) &&
			!slice_eq(got, content_of(number, true, c->want)))) {
		c->torn++;
		return;
	}
	check_slot(c, fd, r, number);
	c->promises[number].is_found = true;
}

static void check_segment(struct cutting *c, int dir, uint64_t id)
{
	struct segment_info info;
	uint64_t at = 0;
	int fd = -1;

	if (segment_open(dir, id, false, &fd, &info) != ERR_OK) {
		c->damaged++;
		return;
	}
	for (;;) {
		enum segment_found found;
		struct segment_record r;
		/* Without being asked for, payloads of what may be torn are checked. */
		if (segment_next(fd, &info, &at, UINT64_MAX, id % 128 < 64, &found, &r, NULL) !=
			ERR_OK) {
			c->damaged++;
			break;
		}
		if (found == SEGMENT_END) {
			break;
		}
		if (found == SEGMENT_DAMAGED) {
			c->damaged++;
		} else {
			check_record(c, fd, &r);
		}
	}
	close(fd);
}

/* The relay starts again and takes mail. */
static void check_writer(struct cutting *c, int dir)
{
	struct envelope_rcpt rcpt[3];
	struct envelope e = make_envelope(0, rcpt);
	struct segment_writer *w = NULL;
	struct segment_record r;
	uint64_t segment = 0;

	if (segment_writer_new(dir, 0, NULL, NULL, &w) != ERR_OK ||
		segment_writer_add(w, &e, SLICE_EMPTY, SLICE("x"), 1, &r, &segment) != ERR_OK ||
		segment_writer_commit(w) != ERR_OK) {
		c->not_writable++;
	}
	segment_writer_free(&w);
}

static void check_queue(struct cutting *c, bool is_written_to)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/queue", c->mountpoint);
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = dir < 0 ? NULL : fdopendir(dup(dir));
	for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
		uint64_t id = 0;
		if (segment_name_parse(slice_from_cstr(e->d_name), &id) == ERR_OK) {
			check_segment(c, dir, id);
		}
	}
	if (d != NULL) {
		closedir(d);
	}
	for (uint32_t i = 0; i < MESSAGES_MAX; i++) {
		c->lost += c->promises[i].is_acknowledged && !c->promises[i].is_found ? 1 : 0;
	}
	if (dir >= 0 && is_written_to) {
		check_writer(c, dir);
	}
	if (dir >= 0) {
		close(dir);
	}
}

static void check_image(struct cutting *c, unsigned number)
{
	char node[256];
	int fd = attach_loop(c, node, sizeof(node));

	if (mount(node, c->mountpoint, c->fstype, MS_NOATIME, c->options) != 0) {
		c->not_mounted++;
	} else {
		/* Without a journal a file system has to be repaired before it is written to.
		 */
		check_queue(c, number % 10 == 0 && c->is_journaled);
		if (umount2(c->mountpoint, 0) != 0) {
			fail("umount %s", c->mountpoint);
		}
	}
	close(fd);
	unlink(node);
}

static int by_value(const void *a, const void *b)
{
	const size_t *x = a;
	const size_t *y = b;

	return *x < *y ? -1 : *x > *y ? 1 : 0;
}

static unsigned sum(const struct cutting *c)
{
	return c->lost + c->torn + c->damaged + c->slots_wrong + c->not_mounted +
	       c->not_writable;
}

static void keep_image(struct cutting *c, unsigned kept)
{
	char path[512];

	if (c->keep == NULL || kept > 3) {
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", c->keep, strrchr(c->image, '/') + 1);
	int from = open(c->image, O_RDONLY | O_CLOEXEC);
	int to = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (from < 0 || to < 0) {
		fail("%s", path);
	}
	copy_image(from, to);
	close(from);
	close(to);
	printf("kept %s\n", path);
}

/* A group of records that tears when a block of it is missing. */
static bool is_group(const struct entry *e)
{
	return e->type == POWER_WRITE && e->bytes >= 2 * BLOCK &&
	       memcmp(e->data, "EKRC", 4) == 0;
}

/*
 * Over all of the log, the unmounting at its end included: a queue that never syncs looks well
 * before that. Half of them just before the flush that would have made a group durable: then
 * most is at stake.
 */
static size_t draw_moment(struct cutting *c)
{
	size_t at = 1 + random_next(&c->random) % c->count;
	bool is_behind_group = false;

	if ((random_next(&c->random) >> 32 & 1) == 0) {
		return at;
	}
	while (at < c->count && !(is_behind_group && c->entries[at].type == POWER_FLUSH)) {
		is_behind_group = is_behind_group || is_group(&c->entries[at]);
		at++;
	}
	return at;
}

static int cut(struct cutting *c, const char *base, uint64_t seed, unsigned count,
	bool until_red)
{
	char path[256];
	size_t *moments = alloc_zero(count + 1, sizeof(*moments));
	struct cutting all = {.count = 0};
	unsigned wrong = 0;
	unsigned done = 0;

	snprintf(path, sizeof(path), "%s/durable.img", c->work);
	c->durable = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int from = open(base, O_RDONLY | O_CLOEXEC);
	if (c->durable < 0 || from < 0) {
		fail("%s, %s", path, base);
	}
	copy_image(from, c->durable);
	close(from);
	snprintf(c->mountpoint, sizeof(c->mountpoint), "%s/mnt", c->work);
	if (mkdir(c->mountpoint, 0700) != 0 && errno != EEXIST) {
		fail("%s", c->mountpoint);
	}
	c->random = random_seed(seed);
	for (unsigned i = 0; i < count; i++) {
		moments[i] = draw_moment(c);
	}
	qsort(moments, count, sizeof(*moments), by_value);
	for (unsigned i = 0; i < count && !(until_red && wrong > 0); i++, done++) {
		c->lost = c->torn = c->damaged = 0;
		c->slots_wrong = c->not_mounted = c->not_writable = 0;
		read_marks(c, moments[i]);
		make_image(c, moments[i], i);
		check_image(c, i);
		if (sum(c) > 0) {
			wrong++;
			printf("cut %u before entry %zu of %zu: lost %u torn %u damaged %u slots %u "
			       "unmountable %u unwritable %u\n",
				i, moments[i], c->count, c->lost, c->torn, c->damaged,
				c->slots_wrong, c->not_mounted, c->not_writable);
			keep_image(c, wrong);
		}
		all.lost += c->lost;
		all.torn += c->torn;
		all.damaged += c->damaged + c->slots_wrong + c->not_mounted + c->not_writable;
		unlink(c->image);
	}
	printf("cuts %u wrong %u lost %u torn %u other %u entries %zu\n", done, wrong, all.lost,
		all.torn, all.damaged, c->count);
	unlink(path);
	close(c->durable);
	free(moments);
	return wrong == 0 ? 0 : 1;
}

static uint32_t number_of(const char *text)
{
	uint32_t n = 0;

	if (num_parse_u32(slice_from_cstr(text), UINT32_MAX, &n) != ERR_OK) {
		fail("not a number: %s", text);
	}
	return n;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 6 && strcmp(argv[1], "write") == 0) {
		return write_queue(argv[2], argv[3], number_of(argv[4]), number_of(argv[5]));
	}
	if ((argc == 9 || argc == 10) &&
		(strcmp(argv[1], "cuts") == 0 || strcmp(argv[1], "find") == 0)) {
		struct cutting c = {.work = argv[4],
			.fstype = argv[5],
			.options = argv[6],
			.is_journaled = strstr(argv[6], "norecovery") == NULL,
			.keep = argc == 10 ? argv[9] : NULL};
		read_log(&c, argv[3]);
		c.promises = alloc_zero(MESSAGES_MAX, sizeof(*c.promises));
		c.bytes = alloc_bytes(CONTENT_MAX);
		c.want = alloc_bytes(CONTENT_MAX);
		int status = cut(&c, argv[2], number_of(argv[7]), number_of(argv[8]),
			argv[1][0] == 'f');
		free(c.promises);
		free(c.bytes);
		free(c.want);
		free(c.entries);
		return status;
	}
	fprintf(stderr,
		"usage: power write DIR MARK SEED GROUPS\n"
		"       power cuts|find BASE LOG WORK FSTYPE OPTIONS SEED COUNT [KEEP]\n"
		"find ends with the first wrong cut.\n");
	return 64;
}
