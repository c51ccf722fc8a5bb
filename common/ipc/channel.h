/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel: frames between two of our programs over a UNIX stream socket.
 *
 * A frame is u32 length of the body, u16 type, u8 version (IPC_VERSION), u8 flags, then
 * the body; big-endian; at most LIMIT_FRAME_BYTES in all. Flag 1: a descriptor travels
 * with the frame (SCM_RIGHTS, in order). Frames queue up and leave in one write when the
 * turn ends, or as the socket takes them. A frame that breaks the format ends the
 * channel with ERR_PROTO: whose fault that is, is for the owner to judge. Frames for a
 * peer that is gone are dropped without an error: on_gone tells, once, after the last
 * frame that the peer had sent. A peer that broke the format learns it: its end of the
 * channel ends with ERR_PROTO too.
 */
#ifndef COMMON_IPC_CHANNEL_H
#define COMMON_IPC_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/io/loop.h"

#define IPC_VERSION 1u
#define CHANNEL_HEADER_BYTES 8u

struct channel;

struct channel_handler {
	/* *fd is -1, or a descriptor that now belongs to the handler if it takes it (sets *fd
	 * to -1); what is not taken is closed. May call channel_close(). ERR_PROTO (and any
	 * other error) ends the channel. body is valid during the call only. */
	enum err (*on_frame)(void *arg, uint16_t type, struct slice body, int *fd);
	/* All frames of one read have been handled. May be null. */
	void (*on_batch)(void *arg);
	/* The queue has drained below the low mark again (CHANNEL_HIGH / 2). May be null. */
	void (*on_writable)(void *arg);
	/* The other side is gone (ERR_CLOSED) or broke the format. The handler calls
	 * channel_close(). */
	void (*on_gone)(void *arg, enum err why);
};

/* A sender should stop producing while channel_unsent() is above this. Never a hard limit:
 * control frames always go in. */
#define CHANNEL_HIGH 1048576u

/* Takes *fd. */
struct channel *channel_new(struct loop *loop, int *fd, const struct channel_handler *handler,
	void *arg);
/* Sends what the socket takes at once, closes, frees at the end of the turn; nulls *c. */
void channel_close(struct channel **c);
size_t channel_unsent(const struct channel *c);
/* Stops / restarts reading frames (back-pressure towards the peer). */
void channel_pause(struct channel *c);
void channel_resume(struct channel *c);
/* Writes now what the socket takes. Blocks until everything has gone when wait is true (for
 * shutting down and for the command only); ERR_TIMEOUT when nothing went for 10 seconds. */
MUST_CHECK enum err channel_flush(struct channel *c, bool wait);

/*
 * Used by the generated senders: returns the buffer to encode the body into. An encoding
 * error must be handed to channel_frame_end(), which takes the frame back. fd, when
 * not -1, is duplicated.
 */
struct buf *channel_frame_begin(struct channel *c, uint16_t type, int fd);
MUST_CHECK enum err channel_frame_end(struct channel *c, enum err encoded);

#endif
