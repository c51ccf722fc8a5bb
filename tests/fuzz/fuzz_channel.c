/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile peer's bytes, in pieces. The first byte chooses their size and whether the
 * handler pauses. What comes out is compared with a second, plain reading of the same bytes.
 */
#include <stdlib.h>
#include <unistd.h>

#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"
#include "common/ipc/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct channel *c;
	uint64_t digest;
	size_t frames;
	bool pauses;
	bool gone;
	enum err why;
};

static void add(struct seen *s, uint16_t type, struct slice body)
{
	s->digest = s->digest * 31 + type;
	s->digest = s->digest * 31 + hash_bytes(body);
	s->frames++;
}

static enum err on_frame(void *arg, uint16_t type, struct slice body, int *fd)
{
	struct seen *s = arg;

	add(s, type, body);
	if (*fd >= 0) {
		abort(); /* none was sent */
	}
	if (s->pauses && s->frames % 2 == 1) {
		channel_pause(s->c);
	}
	return ERR_OK;
}

static void on_gone(void *arg, enum err why)
{
	struct seen *s = arg;

	if (s->gone) {
		abort();
	}
	s->gone = true;
	s->why = why;
}

/* The same by the letter of the format. */
static void read_plainly(struct seen *s, struct slice all)
{
	while (all.n >= CHANNEL_HEADER_BYTES) {
		const uint8_t *p = all.p;
		size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
		if (n > LIMIT_FRAME_BYTES - CHANNEL_HEADER_BYTES || p[6] != IPC_VERSION ||
			p[7] > 1) {
			s->why = ERR_PROTO;
			return;
		}
		if (n > all.n - CHANNEL_HEADER_BYTES) {
			break;
		}
		if (p[7] == 1) {
			s->why = ERR_PROTO;
			return;
		}
		add(s, (uint16_t)(p[4] << 8 | p[5]), slice_make(p + CHANNEL_HEADER_BYTES, n));
		all = slice_skip(all, CHANNEL_HEADER_BYTES + n);
	}
	s->why = ERR_CLOSED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct channel_handler handler = {.on_frame = on_frame,
		.on_gone = on_gone};
	static struct loop *loop;
	struct seen expected = {.digest = 0};
	struct seen seen = {.digest = 0};
	int pair[2];

	if (size < 2 || size > 60000) {
		return -1;
	}
	if ((loop == NULL && loop_new(&loop) != ERR_OK) || fd_socketpair(pair) != ERR_OK) {
		abort();
	}
	size_t chunk = (size_t)(data[0] & 0x7f) * (data[0] & 0x7f) + 1;
	seen.pauses = (data[0] & 0x80) != 0;
	struct slice all = slice_make(data + 1, size - 1);
	read_plainly(&expected, all);
	seen.c = channel_new(loop, &pair[0], &handler, &seen);
	while (all.n != 0 && !seen.gone) {
		struct slice part = slice_head(all, chunk);
		if (fd_write_all(pair[1], part) != ERR_OK) {
			abort();
		}
		all = slice_skip(all, part.n);
		loop_turn(loop, false);
		channel_resume(seen.c);
	}
	fd_close(&pair[1]);
	while (!seen.gone) {
		channel_resume(seen.c);
		loop_turn(loop, false);
	}
	if (seen.why != expected.why || seen.frames != expected.frames ||
		seen.digest != expected.digest) {
		abort();
	}
	channel_close(&seen.c);
	loop_turn(loop, false);
	return 0;
}
