/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: a TCP connection with buffers, with or without TLS, on the loop.
 *
 * Input is read into a scratch area that all streams of the process share and offered
 * to the handler; only what the handler leaves is kept, so an idle connection holds no
 * buffer. Output is a queue of bytes and file ranges that leaves when the turn ends
 * (or when the socket is ready again): a file range goes by sendfile(), or through
 * SSL_write() under TLS.
 *
 * Callbacks may call any function here, stream_close() included; after stream_close()
 * none is called any more, and the memory goes when the turn ends. The functions here
 * never call back: what they find out is told by the loop. All callbacks but on_input and
 * on_end may be null.
 */
#ifndef COMMON_IO_STREAM_H
#define COMMON_IO_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/attr.h"
#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/io/endpoint.h"
#include "common/io/loop.h"

struct ssl_st; /* OpenSSL's SSL */
struct stream;

enum stream_end {
	STREAM_END_EOF,       /* orderly end (under TLS: close_notify came) */
	STREAM_END_RESET,     /* ECONNRESET, EPIPE */
	STREAM_END_REFUSED,   /* connect: ECONNREFUSED */
	STREAM_END_TIMEOUT,   /* the kernel gave up: ETIMEDOUT */
	STREAM_END_UNREACHED, /* EHOSTUNREACH, ENETUNREACH and the like */
	STREAM_END_BIND,      /* connect: the source address cannot be used */
	STREAM_END_TLS,       /* handshake or record failure; stream_tls_error() says what */
	STREAM_END_TRUNCATED, /* under TLS: end of the connection without close_notify */
	STREAM_END_ERROR
};

struct stream_handler {
	/* stream_connect() succeeded. */
	void (*on_connected)(void *arg);
	/*
	 * Bytes have come; returns how many of them were used. The rest is offered again,
	 * with more behind it, when more has come, or after stream_resume(). Returning
	 * less while STREAM_INPUT_MAX bytes are kept ends the stream with STREAM_END_ERROR.
	 */
	size_t (*on_input)(void *arg, struct slice bytes);
	/* All output has been handed to the kernel. */
	void (*on_drained)(void *arg);
	/* stream_start_tls() succeeded. */
	void (*on_tls)(void *arg);
	/* Nothing more will come, or the stream broke. The handler calls stream_close().
	 * After STREAM_END_EOF output still works (the peer may only have half-closed); should
	 * it break, on_end comes a second time. */
	void (*on_end)(void *arg, enum stream_end why);
};

#define STREAM_INPUT_MAX 65536u /* most unused input kept */

/* Takes fd (connected, any blocking mode). The handler must outlive the stream. */
struct stream *stream_new(struct loop *loop, int *fd, const struct stream_handler *handler,
	void *arg);
/* The same for a descriptor that accept4() made non-blocking, of a listener with TCP_NODELAY
 * (it is inherited): two system calls fewer. */
struct stream *stream_accepted(struct loop *loop, int *fd, const struct stream_handler *handler,
	void *arg);
/* Starts a connection; from may be null or have port 0. Failures come by on_end. */
struct stream *stream_connect(struct loop *loop, const struct endpoint *to,
	const struct endpoint *from, const struct stream_handler *handler, void *arg);
/* Closes at once, unsent output is lost; nulls *s; harmless when null. */
void stream_close(struct stream **s);
/* Sends what is queued (and close_notify), then closes, within linger_ms; no callbacks any
 * more. Reads and drops what still comes, so that the last reply is not lost to a reset.
 * linger_ms 0: after the last word of a dialogue, when the peer has nothing more to say: closes
 * as soon as all has been sent, unless something unread is there. */
void stream_finish(struct stream **s, int64_t linger_ms);

/* Queues output. Bytes are copied. */
void stream_write(struct stream *s, struct slice bytes);
/* Queues n bytes of the file from at on; fd must stay open until on_drained. */
void stream_write_file(struct stream *s, int fd, off_t at, uint64_t n);
/* Bytes queued and not yet taken by the kernel (file ranges included). */
uint64_t stream_unsent(const struct stream *s);
/* Bytes taken by the kernel since the stream began: moves while a slow peer reads. */
uint64_t stream_sent_total(const struct stream *s);
/* Sends now what can be sent, without waiting for the end of the turn. */
void stream_flush(struct stream *s);

/* Stops / restarts reading (back-pressure). Kept input is offered again at the end of the
 * turn in which stream_resume() was called. */
void stream_pause(struct stream *s);
void stream_resume(struct stream *s);

/*
 * From here on TLS; takes ssl, which is set up for accepting or connecting by the
 * caller. Queued output must have drained (what a last attempt to send it leaves behind
 * ends the stream). Kept clear-text input is dropped; ask stream_has_input() first to
 * refuse it (inside on_input: look at what follows in the bytes offered, they are dropped
 * too).
 */
void stream_start_tls(struct stream *s, struct ssl_st **ssl, bool server);
bool stream_has_input(const struct stream *s);
/* Null without TLS. Borrowed. */
struct ssl_st *stream_tls(const struct stream *s);
/* Why TLS failed, in OpenSSL's words; never null. */
const char *stream_tls_error(const struct stream *s);
/* The local address of the connection; family 0 when unknown. */
struct endpoint stream_local(const struct stream *s);

#endif
