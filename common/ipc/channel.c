/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/io/fd.h"
#include "common/ipc/channel.h"

#define BODY_MAX (LIMIT_FRAME_BYTES - CHANNEL_HEADER_BYTES)
#define FLAG_FD 1u

/* One read takes up to so much; a frame begun in the one before stands in front of it. */
#define READ_BYTES ((size_t)256 * 1024)
#define READS_PER_TURN 4

/* Our senders attach one descriptor to a write; a peer that floods us is cut off here. */
#define FDS_PER_READ 8u
#define FDS_HELD 16u

#define SEND_AT_ONCE ((size_t)128 * 1024) /* so much leaves before the turn ends */
#define OUT_KEPT ((size_t)256 * 1024)     /* memory kept by an empty queue */
#define SOCKET_BUFFER (1024 * 1024)
#define WAIT_MS 10000

/* A descriptor that waits for its frame to be sent. */
struct out_fd {
	uint64_t at; /* position of the frame in the stream of all bytes */
	int fd;
};

struct channel {
	struct loop_watch watch;
	struct loop_flush flush;
	struct loop *loop;
	const struct channel_handler *handler;
	void *arg;
	uint8_t *scratch; /* the loop's, shared */
	int fd;

	struct buf out;
	uint64_t sent; /* bytes that have left */
	struct out_fd *out_fds;
	size_t out_fd_first;
	size_t out_fd_count; /* entries from out_fd_first on */
	size_t out_fd_room;

	size_t frame_start; /* of the frame that is being written, in out */
	int frame_fd;       /* the duplicate that goes with it */
	enum err frame_err;

	struct buf in; /* frames and parts of frames not yet handled */
	int in_fds[FDS_HELD];
	size_t in_fd_count;

	bool paused;
	bool reads_again; /* resumed: look at what is kept */
	bool blocked;     /* the socket is full */
	bool was_high;    /* on_writable is due */
	bool out_dead;    /* the peer takes no more */
	bool gone;        /* on_gone has been called */
	bool closed;
};

static const char scratch_key;

static void *scratch_make(struct loop *loop)
{
	(void)loop;
	return alloc_bytes(READ_BYTES + LIMIT_FRAME_BYTES);
}

static uint32_t load_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void watch_update(struct channel *c)
{
	unsigned what = 0;

	if (!c->closed && !c->gone) {
		what |= !c->paused ? LOOP_READ : 0u;
		what |= c->blocked ? LOOP_WRITE : 0u;
	}
	loop_watch_set(&c->watch, what);
}

/* ---- sending ---- */

static void drop_output(struct channel *c)
{
	for (size_t i = 0; i < c->out_fd_count; i++) {
		fd_close(&c->out_fds[c->out_fd_first + i].fd);
	}
	c->out_fd_first = 0;
	c->out_fd_count = 0;
	buf_clear(&c->out);
	c->blocked = false;
}

/* The descriptor that leaves with the next byte, or null. */
static struct out_fd *next_fd(struct channel *c)
{
	return c->out_fd_count == 0 ? NULL : &c->out_fds[c->out_fd_first];
}

static void fd_is_sent(struct channel *c)
{
	fd_close(&c->out_fds[c->out_fd_first].fd);
	c->out_fd_first++;
	c->out_fd_count--;
	if (c->out_fd_count == 0) {
		c->out_fd_first = 0;
	}
}

/*
 * One write. A descriptor is attached to a write that starts with its frame, and a write
 * ends where the frame of the next descriptor starts, so the reader gets them in order.
 */
static ssize_t send_some(struct channel *c)
{
	struct slice left = buf_view(&c->out);
	struct out_fd *here = next_fd(c);
	struct out_fd *next = here;
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(int))];
	} control;

	if (here != NULL && here->at != c->sent) {
		here = NULL;
	}
	if (here != NULL) {
		next = c->out_fd_count > 1 ? here + 1 : NULL;
	}
	if (next != NULL && next->at - c->sent < left.n) {
		left.n = (size_t)(next->at - c->sent);
	}
	if (here == NULL) {
		return send(c->fd, left.p, left.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	memset(&control, 0, sizeof(control));
	struct iovec iov = {.iov_base = c->out.data + c->out.start, .iov_len = left.n};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &here->fd, sizeof(int));
	ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0) {
		fd_is_sent(c);
	}
	return n;
}

/* Sends until all is gone or the socket is full. A broken socket loses the output. */
static void send_all(struct channel *c)
{
	c->blocked = false;
	while (buf_len(&c->out) != 0 && !c->out_dead) {
		ssize_t n = send_some(c);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		/* ETOOMANYREFS: too many descriptors are under way; the peer will take some. */
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)) {
			c->blocked = true;
			return;
		}
		if (n < 0) {
			/* What the peer sent before is still to be read; then comes the end. */
			(void)shutdown(c->fd, SHUT_RDWR);
			c->out_dead = true;
			drop_output(c);
			return;
		}
		c->sent += (uint64_t)n;
		buf_consume(&c->out, (size_t)n);
	}
	if (buf_len(&c->out) == 0) {
		buf_shrink(&c->out, OUT_KEPT);
	}
}

/* ---- receiving ---- */

/*
 * The last word to a peer that broke the rules: no header, so it knows that it was cut off
 * and must not wait for us. An honest one that is merely broken ends itself on it and is
 * started anew, with new channels.
 */
static void cut_off(struct channel *c)
{
	static const uint8_t no_header[CHANNEL_HEADER_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff};

	send_all(c);
	if (buf_len(&c->out) == 0 && !c->out_dead) {
		(void)!send(c->fd, no_header, sizeof(no_header), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static void end(struct channel *c, enum err why)
{
	if (c->closed || c->gone) {
		return;
	}
	if (why != ERR_CLOSED) {
		cut_off(c);
	}
	c->gone = true;
	c->out_dead = true;
	drop_output(c);
	watch_update(c);
	c->handler->on_gone(c->arg, why);
}

/* Takes the oldest descriptor that came, or returns -1. */
static int take_fd(struct channel *c)
{
	if (c->in_fd_count == 0) {
		return -1;
	}
	int fd = c->in_fds[0];
	c->in_fd_count--;
	memmove(c->in_fds, c->in_fds + 1, c->in_fd_count * sizeof(c->in_fds[0]));
	return fd;
}

static bool may_handle(const struct channel *c)
{
	return !c->closed && !c->gone && !c->paused;
}

/* Checks a header; *body is the length behind it. */
static bool header_is_good(const uint8_t *p, size_t *body)
{
	uint32_t n = load_u32(p);

	*body = n;
	return n <= BODY_MAX && p[6] == IPC_VERSION && (p[7] & ~FLAG_FD) == 0;
}

/*
 * Descriptors that no whole frame has claimed: none, or the one of the frame that has
 * begun to come.
 */
static bool fds_are_paired(const struct channel *c, struct slice rest)
{
	if (c->in_fd_count == 0) {
		return true;
	}
	if (c->in_fd_count > 1 || rest.n == 0) {
		return false;
	}
	return rest.n < CHANNEL_HEADER_BYTES || (rest.p[7] & FLAG_FD) != 0;
}

/*
 * Hands whole frames to the handler until there is none, or it has had enough. *rest is
 * what remains. *handled counts them.
 */
static enum err handle_frames(struct channel *c, struct slice *rest, size_t *handled)
{
	while (may_handle(c) && rest->n >= CHANNEL_HEADER_BYTES) {
		size_t body;
		if (!header_is_good(rest->p, &body)) {
			return ERR_PROTO;
		}
		if (rest->n - CHANNEL_HEADER_BYTES < body) {
			break;
		}
		uint16_t type = (uint16_t)(rest->p[4] << 8 | rest->p[5]);
		int fd = -1;
		if ((rest->p[7] & FLAG_FD) != 0) {
			fd = take_fd(c);
			if (fd < 0) {
				return ERR_PROTO;
			}
		}
		struct slice bytes = {rest->p + CHANNEL_HEADER_BYTES, body};
		*rest = slice_skip(*rest, CHANNEL_HEADER_BYTES + body);
		++*handled;
		enum err e = c->handler->on_frame(c->arg, type, bytes, &fd);
		fd_close(&fd);
		if (e != ERR_OK) {
			return e;
		}
	}
	return !may_handle(c) || fds_are_paired(c, *rest) ? ERR_OK : ERR_PROTO;
}

/* Handles bytes, all there are; keeps what is left of them. */
static enum err take_bytes(struct channel *c, struct slice bytes, size_t *handled)
{
	enum err e = handle_frames(c, &bytes, handled);

	if (c->closed || c->gone || e != ERR_OK) {
		return e;
	}
	buf_reset(&c->in);
	if (bytes.n == 0) {
		buf_shrink(&c->in, LIMIT_FRAME_BYTES);
		return ERR_OK;
	}
	return buf_append(&c->in, bytes);
}

/* Collects the descriptors of one read; those that do not fit are closed. */
static enum err take_control(struct channel *c, struct msghdr *m)
{
	enum err e = (m->msg_flags & MSG_CTRUNC) != 0 ? ERR_PROTO : ERR_OK;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h != NULL; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (c->in_fd_count == FDS_HELD) {
				fd_close(&fd);
				e = ERR_PROTO;
			} else {
				c->in_fds[c->in_fd_count++] = fd;
			}
		}
	}
	return e;
}

/* Copies what is kept to the front of the scratch; returns its length. */
static size_t kept_to_scratch(struct channel *c)
{
	struct slice kept = buf_view(&c->in);

	if (kept.n != 0) {
		memcpy(c->scratch, kept.p, kept.n);
	}
	return kept.n;
}

/* One read and its frames. *more: another read is worth a try. */
static enum err read_some(struct channel *c, size_t *handled, bool *more)
{
	/* What a pause keeps is at most a whole scratch, and is handled before we read. */
	size_t kept = kept_to_scratch(c);
	struct iovec iov = {.iov_base = c->scratch + kept, .iov_len = READ_BYTES};
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(FDS_PER_READ * sizeof(int))];
	} control;
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes)};

	assert(kept <= LIMIT_FRAME_BYTES);
	*more = false;
	ssize_t n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0) {
		*more = errno == EINTR;
		return errno == EAGAIN || errno == EINTR ? ERR_OK : err_from_errno();
	}
	enum err e = take_control(c, &m);
	if (e != ERR_OK) {
		return e;
	}
	if (n == 0) {
		return ERR_CLOSED;
	}
	*more = (size_t)n == READ_BYTES || m.msg_controllen != 0;
	return take_bytes(c, slice_make(c->scratch, kept + (size_t)n), handled);
}

static void receive(struct channel *c)
{
	size_t handled = 0;
	enum err e = ERR_OK;
	bool more = true;

	if (buf_len(&c->in) >= CHANNEL_HEADER_BYTES && c->reads_again) {
		size_t kept = kept_to_scratch(c);
		e = take_bytes(c, slice_make(c->scratch, kept), &handled);
	}
	c->reads_again = false;
	for (int i = 0; i < READS_PER_TURN && e == ERR_OK && more && may_handle(c); i++) {
		e = read_some(c, &handled, &more);
	}
	if (handled != 0 && c->handler->on_batch != NULL && !c->closed) {
		c->handler->on_batch(c->arg);
	}
	if (e != ERR_OK) {
		end(c, e);
	}
}

/* ---- on the loop ---- */

static void tell_writable(struct channel *c)
{
	if (c->was_high && buf_len(&c->out) < CHANNEL_HIGH / 2 && !c->closed && !c->gone) {
		c->was_high = false;
		if (c->handler->on_writable != NULL) {
			c->handler->on_writable(c->arg);
		}
	}
}

static void on_ready(void *arg, unsigned what)
{
	struct channel *c = arg;

	if ((what & LOOP_WRITE) != 0) {
		send_all(c);
		tell_writable(c);
	}
	if ((what & LOOP_READ) != 0 && may_handle(c)) {
		receive(c);
	}
	watch_update(c);
}

static void on_flush(void *arg)
{
	struct channel *c = arg;

	if (c->closed) {
		return;
	}
	if (!c->blocked) {
		send_all(c);
	}
	tell_writable(c);
	if (c->reads_again && may_handle(c)) {
		receive(c);
	}
	watch_update(c);
}

/* ---- what the header promises ---- */

/* As large as we may; never smaller than the one who made the socket had it. */
static void enlarge_socket(int fd)
{
	int now = 0;
	int want = SOCKET_BUFFER;
	socklen_t n = sizeof(now);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &now, &n) != 0 || now >= want) {
		return;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &want, sizeof(want)) != 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &want, sizeof(want));
	}
}

struct channel *channel_new(struct loop *loop, int *fd, const struct channel_handler *handler,
	void *arg)
{
	struct channel *c = alloc_zero(1, sizeof(*c));

	c->loop = loop;
	c->handler = handler;
	c->arg = arg;
	c->scratch = loop_own(loop, &scratch_key, scratch_make, free);
	c->fd = *fd;
	*fd = -1;
	c->frame_fd = -1;
	/* No fd_set_nonblock(): every call below passes MSG_DONTWAIT. */
	enlarge_socket(c->fd);
	buf_init(&c->out, SIZE_MAX / 4);
	buf_init(&c->in, READ_BYTES + LIMIT_FRAME_BYTES);
	loop_watch_init(&c->watch, loop, c->fd, on_ready, c);
	loop_flush_add(&c->flush, loop, on_flush, c);
	watch_update(c);
	return c;
}

static void release(void *object)
{
	struct channel *c = object;

	buf_clear(&c->out);
	buf_clear(&c->in);
	free(c->out_fds);
	free(c);
}

void channel_close(struct channel **c)
{
	struct channel *it = *c;

	if (it == NULL) {
		return;
	}
	*c = NULL;
	assert(!it->closed);
	send_all(it);
	it->closed = true;
	loop_watch_set(&it->watch, 0);
	loop_flush_remove(&it->flush);
	drop_output(it);
	fd_close(&it->frame_fd);
	for (size_t i = 0; i < it->in_fd_count; i++) {
		fd_close(&it->in_fds[i]);
	}
	fd_close(&it->fd);
	loop_discard(it->loop, release, it);
}

size_t channel_unsent(const struct channel *c)
{
	return buf_len(&c->out);
}

void channel_pause(struct channel *c)
{
	c->paused = true;
	loop_flush_mark(&c->flush); /* the watch changes then, if it still has to */
}

void channel_resume(struct channel *c)
{
	if (c->paused) {
		c->paused = false;
		c->reads_again = true;
		loop_flush_mark(&c->flush);
	}
}

enum err channel_flush(struct channel *c, bool wait)
{
	send_all(c);
	while (wait && c->blocked) {
		struct pollfd p = {.fd = c->fd, .events = POLLOUT};
		int n = poll(&p, 1, WAIT_MS);
		if (n == 0) {
			return ERR_TIMEOUT;
		}
		if (n < 0 && errno != EINTR) {
			return err_from_errno();
		}
		send_all(c);
	}
	if (!c->closed) {
		watch_update(c);
		loop_flush_mark(&c->flush);
	}
	return c->out_dead ? ERR_CLOSED : ERR_OK;
}

struct buf *channel_frame_begin(struct channel *c, uint16_t type, int fd)
{
	uint8_t header[CHANNEL_HEADER_BYTES] = {[4] = (uint8_t)(type >> 8),
		[5] = (uint8_t)type,
		[6] = IPC_VERSION,
		[7] = (uint8_t)(fd < 0 ? 0u : FLAG_FD)};

	assert(c->frame_fd == -1);
	c->frame_start = buf_len(&c->out);
	c->frame_err = buf_append(&c->out, slice_make(header, sizeof(header)));
	if (fd >= 0 && c->frame_err == ERR_OK && !c->out_dead) {
		c->frame_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (c->frame_fd < 0) {
			c->frame_err = err_from_errno();
			c->frame_fd = -1;
		}
	}
	return &c->out;
}

static void queue_fd(struct channel *c, uint64_t at, int fd)
{
	if (c->out_fd_first + c->out_fd_count == c->out_fd_room) {
		if (c->out_fd_first != 0) {
			memmove(c->out_fds, c->out_fds + c->out_fd_first,
				c->out_fd_count * sizeof(*c->out_fds));
			c->out_fd_first = 0;
		} else {
			c->out_fd_room = c->out_fd_room == 0 ? 8 : c->out_fd_room * 2;
			c->out_fds =
				alloc_resize(c->out_fds, c->out_fd_room, sizeof(*c->out_fds));
		}
	}
	c->out_fds[c->out_fd_first + c->out_fd_count++] = (struct out_fd){at, fd};
}

enum err channel_frame_end(struct channel *c, enum err encoded)
{
	size_t start = c->frame_start;
	enum err e = c->frame_err != ERR_OK ? c->frame_err : encoded;
	size_t n = buf_len(&c->out) - start;

	if (e == ERR_OK && n > LIMIT_FRAME_BYTES) {
		e = ERR_TOOBIG;
	}
	if (e != ERR_OK || c->out_dead) {
		/* An error of the encoder is the caller's; a dead peer's loss is not. */
		fd_close(&c->frame_fd);
		buf_truncate(&c->out, start);
		return e;
	}
	uint8_t *p = c->out.data + c->out.start + start;
	uint32_t body = (uint32_t)(n - CHANNEL_HEADER_BYTES);
	p[0] = (uint8_t)(body >> 24);
	p[1] = (uint8_t)(body >> 16);
	p[2] = (uint8_t)(body >> 8);
	p[3] = (uint8_t)body;
	if (c->frame_fd >= 0) {
		queue_fd(c, c->sent + start, c->frame_fd);
		c->frame_fd = -1;
	}
	size_t unsent = buf_len(&c->out);
	c->was_high = c->was_high || unsent > CHANNEL_HIGH;
	if (unsent >= SEND_AT_ONCE && !c->blocked) {
		send_all(c);
	}
	loop_flush_mark(&c->flush);
	return ERR_OK;
}
