/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/io/outqueue.h"
#include "common/io/stream.h"

#define READS_PER_TURN 4
#define IOVECS 16
/* For the last words of a dialogue to leave. */
#define LAST_WORD_MS 2000
#define TLS_RECORD 16384u
#define SENDFILE_MOST ((uint64_t)1 << 30)

enum phase {
	PHASE_CONNECTING,
	PHASE_CLEAR,
	PHASE_HANDSHAKE,
	PHASE_TLS
};

/* What all streams of a loop have in common. */
struct shared {
	struct loop *loop;
	struct loop_flush flush;
	struct list dirty;     /* streams with something to do at the end of the turn */
	struct list lingering; /* finished streams that are not closed yet */
	BIO_METHOD *bio;
	uint8_t scratch[STREAM_INPUT_MAX];
};

/* Only a finished stream has one. */
struct farewell {
	struct list all;
	struct loop_deadline deadline;
	struct stream *stream;
	bool write_shut;
	bool is_last_word; /* nothing is expected from the peer any more */
};

struct stream {
	struct loop_watch watch;
	struct list dirty;
	struct shared *shared;
	const struct stream_handler *handler;
	void *arg;
	struct buf kept; /* input that the handler has left */
	struct outqueue out;
	uint64_t sent;
	SSL *ssl;
	char *tls_error;
	struct farewell *linger;
	int fd;
	int io_errno; /* of the last system call under TLS; 0: none failed */
	enum phase phase;
	enum stream_end fault; /* when faulty: what on_end is going to say or has said */
	bool faulty : 1;
	bool write_failed : 1; /* the fault is in writing: there may be input to read */
	bool broken : 1;       /* the fault has been told */
	bool input_ended : 1;  /* the end has been told */
	bool paused : 1;
	bool again : 1; /* resumed: offer what is kept, and what OpenSSL may hold */
	bool blocked : 1;
	bool wants_read : 1;  /* under TLS: output or handshake waits for input */
	bool wants_write : 1; /* under TLS: input or handshake waits for output */
	bool drain_due : 1;
	bool connected_due : 1;
	bool corked : 1;
	bool more : 1;    /* under TLS: the bytes being written are not the last */
	bool saw_eof : 1; /* under TLS: the connection ended */
	bool closed : 1;
};

static const char shared_key;

static void work(struct stream *s, unsigned ready);
static void destroy(struct stream *s);

static void mark(struct stream *s)
{
	if (list_is_empty(&s->dirty)) {
		list_append(&s->shared->dirty, &s->dirty);
	}
	loop_flush_mark(&s->shared->flush);
}

static enum stream_end end_from_errno(int number)
{
	switch (number) {
	case ECONNRESET:
	case EPIPE:
	case ECONNABORTED:
		return STREAM_END_RESET;
	case ECONNREFUSED:
		return STREAM_END_REFUSED;
	case ETIMEDOUT:
		return STREAM_END_TIMEOUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
	case ENONET:
	case EACCES: /* a firewall of our own */
	case EPERM:
	case EAFNOSUPPORT: /* no IPv6 here */
	case ENOPROTOOPT:
	case EPROTO:
	case EINVAL:
		return STREAM_END_UNREACHED;
	case EADDRNOTAVAIL:
	case EADDRINUSE:
		return STREAM_END_BIND;
	default:
		return STREAM_END_ERROR;
	}
}

/* The first fault counts. It is told by work(). */
static void fail(struct stream *s, enum stream_end why)
{
	if (!s->faulty) {
		s->faulty = true;
		s->fault = why;
	}
	outqueue_clear(&s->out);
	s->drain_due = false;
	s->blocked = false;
	mark(s);
}

static void watch_update(struct stream *s)
{
	unsigned what = 0;

	if (s->closed || s->faulty) {
		what = 0;
	} else if (s->linger != NULL) {
		what |= s->input_ended ? 0u : LOOP_READ;
		what |= s->blocked ? LOOP_WRITE : 0u;
	} else if (s->phase == PHASE_CONNECTING) {
		what = LOOP_WRITE;
	} else if (s->phase == PHASE_HANDSHAKE) {
		what = s->wants_write ? LOOP_WRITE : LOOP_READ;
	} else {
		what |= !s->paused && !s->input_ended ? LOOP_READ : 0u;
		what |= s->wants_read ? LOOP_READ : 0u;
		what |= s->blocked || s->wants_write ? LOOP_WRITE : 0u;
	}
	loop_watch_set(&s->watch, what);
}

/* ---- TLS ---- */

/*
 * OpenSSL's own socket BIO calls write(), which raises SIGPIPE, and cannot tell the
 * kernel that more is to follow.
 */
static int bio_write(BIO *b, const char *bytes, int n)
{
	struct stream *s = BIO_get_data(b);
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (s->more ? MSG_MORE : 0);

	BIO_clear_retry_flags(b);
	ssize_t sent = send(s->fd, bytes, (size_t)n, flags);
	if (sent >= 0) {
		return (int)sent;
	}
	if (errno == EAGAIN || errno == EINTR) {
		BIO_set_retry_write(b);
	} else {
		s->io_errno = errno;
	}
	return -1;
}

static int bio_read(BIO *b, char *to, int n)
{
	struct stream *s = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	ssize_t got = recv(s->fd, to, (size_t)n, MSG_DONTWAIT);
	if (got > 0) {
		return (int)got;
	}
	if (got == 0) {
		s->saw_eof = true;
		return 0;
	}
	if (errno == EAGAIN || errno == EINTR) {
		BIO_set_retry_read(b);
	} else {
		s->io_errno = errno;
	}
	return -1;
}

static long bio_ctrl(BIO *b, int command, long n, void *p)
{
	const struct stream *s = BIO_get_data(b);

	(void)n;
	(void)p;
	if (command == BIO_CTRL_FLUSH) {
		return 1;
	}
	return command == BIO_CTRL_EOF && s != NULL && s->saw_eof ? 1 : 0;
}

static BIO_METHOD *bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");

	if (m != NULL) {
		(void)BIO_meth_set_write(m, bio_write);
		(void)BIO_meth_set_read(m, bio_read);
		(void)BIO_meth_set_ctrl(m, bio_ctrl);
	}
	return m;
}

/* The first one counts: what follows from it says less. */
static void set_tls_error(struct stream *s, const char *what, const char *detail)
{
	char text[256];

	if (str_format(text, sizeof(text), "%s%s%s", what, detail[0] == '\0' ? "" : ": ",
		    detail) == ERR_OK &&
		s->tls_error == NULL) {
		s->tls_error = alloc_cstr(text);
	}
}

/* What the failure of an operation with that SSL_get_error() means. */
static enum stream_end tls_end(struct stream *s, int ssl_error)
{
	bool shaking = s->phase == PHASE_HANDSHAKE;
	unsigned long code = ERR_peek_error();
	char text[160];

	if (ssl_error == SSL_ERROR_ZERO_RETURN) {
		return STREAM_END_EOF;
	}
	if (s->saw_eof) {
		set_tls_error(s, "connection closed", shaking ? "during the handshake" : "");
		return shaking ? STREAM_END_TLS : STREAM_END_TRUNCATED;
	}
	if (s->io_errno != 0) {
		enum stream_end e = end_from_errno(s->io_errno);
		if (shaking && e == STREAM_END_RESET) {
			set_tls_error(s, "connection reset", "during the handshake");
			return STREAM_END_TLS;
		}
		return e;
	}
	const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
	if (reason == NULL) {
		ERR_error_string_n(code, text, sizeof(text));
		reason = code == 0 ? "unknown error" : text;
	}
	long verified = SSL_get_verify_result(s->ssl);
	bool of_verify = code != 0 && ERR_GET_LIB(code) == ERR_LIB_SSL &&
			 ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
	set_tls_error(s, reason,
		of_verify && verified != X509_V_OK ? X509_verify_cert_error_string(verified)
						   : "");
	return STREAM_END_TLS;
}

/* True when the operation only has to wait; then the wants_ flags say for what. */
static bool tls_waits(struct stream *s, int ssl_error)
{
	if (ssl_error == SSL_ERROR_WANT_READ) {
		s->wants_read = true;
		return true;
	}
	if (ssl_error == SSL_ERROR_WANT_WRITE) {
		s->wants_write = true;
		return true;
	}
	return false;
}

static void handshake(struct stream *s)
{
	s->wants_read = false;
	s->wants_write = false;
	ERR_clear_error();
	int n = SSL_do_handshake(s->ssl);
	if (n == 1) {
		s->phase = PHASE_TLS;
		s->again = true; /* the read-ahead may hold the first records */
		if (s->handler->on_tls != NULL) {
			s->handler->on_tls(s->arg);
		}
		return;
	}
	int e = SSL_get_error(s->ssl, n);
	if (!tls_waits(s, e)) {
		fail(s, tls_end(s, e));
	}
}

/* ---- output ---- */

static void took(struct stream *s, size_t n)
{
	outqueue_take(&s->out, n);
	s->sent += n;
}

static void cork(struct stream *s, bool on)
{
	int value = on ? 1 : 0;

	if (s->corked != on) {
		s->corked = on;
		/* Refused by what is not TCP; only the number of segments depends on it. */
		(void)setsockopt(s->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
	}
}

static bool has_range(const struct outqueue *q)
{
	for (const struct outpiece *p = q->head; p != NULL; p = p->next) {
		if (p->fd >= 0) {
			return true;
		}
	}
	return false;
}

/* One system call for the pieces of memory at the front. *asked is what was offered. */
static ssize_t send_bytes(struct stream *s, size_t *asked)
{
	struct iovec iov[IOVECS];
	struct msghdr m = {.msg_iov = iov};

	*asked = 0;
	for (struct outpiece *p = s->out.head; p != NULL && p->fd < 0; p = p->next) {
		if (m.msg_iovlen == IOVECS) {
			break;
		}
		iov[m.msg_iovlen].iov_base = p->bytes + p->start;
		iov[m.msg_iovlen].iov_len = (size_t)p->n;
		m.msg_iovlen++;
		*asked += (size_t)p->n;
	}
	return m.msg_iovlen == 1 ? send(s->fd, iov[0].iov_base, iov[0].iov_len,
					   MSG_NOSIGNAL | MSG_DONTWAIT)
				 : sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_clear(struct stream *s)
{
	if (s->out.head != s->out.tail && has_range(&s->out)) {
		cork(s, true);
	}
	while (s->out.n != 0) {
		struct outpiece *p = s->out.head;
		size_t asked = 0;
		ssize_t n;
		if (p->fd < 0) {
			n = send_bytes(s, &asked);
		} else {
			off_t at = p->at;
			asked = (size_t)(p->n < SENDFILE_MOST ? p->n : SENDFILE_MOST);
			n = sendfile(s->fd, p->fd, &at, asked);
			if (n == 0) {
				fail(s, STREAM_END_ERROR); /* the file is shorter */
				return;
			}
			asked = 0; /* it may stop early without being blocked */
		}
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0 && errno == EAGAIN) {
			s->blocked = true;
			return;
		}
		if (n < 0) {
			s->write_failed = true;
			fail(s, end_from_errno(errno));
			return;
		}
		took(s, (size_t)n);
		if ((size_t)n < asked) {
			s->blocked = true;
			return;
		}
	}
	cork(s, false);
}

static void send_tls(struct stream *s)
{
	uint8_t record[TLS_RECORD];

	while (s->out.n != 0) {
		/*
		 * A write that had to wait is repeated with at least the same bytes: the
		 * queue only grows at its end, and files do not change.
		 */
		struct slice bytes = {record, 0};
		struct outpiece *p = s->out.head;
		if (p->fd < 0 && (p->n >= TLS_RECORD || p->next == NULL)) {
			bytes = slice_head(outpiece_view(p), TLS_RECORD);
		} else if (outqueue_peek(&s->out, record, sizeof(record), &bytes.n) != ERR_OK) {
			fail(s, STREAM_END_ERROR);
			return;
		}
		size_t n = 0;
		s->more = s->out.n > bytes.n;
		ERR_clear_error();
		int ok = SSL_write_ex(s->ssl, bytes.p, bytes.n, &n);
		s->more = false;
		if (ok != 1) {
			int e = SSL_get_error(s->ssl, ok);
			if (e == SSL_ERROR_WANT_WRITE) {
				s->blocked = true;
				return;
			}
			if (tls_waits(s, e)) {
				return;
			}
			enum stream_end why = tls_end(s, e);
			s->write_failed = true;
			fail(s, why == STREAM_END_EOF ? STREAM_END_RESET : why);
			return;
		}
		took(s, n);
	}
}

static void send_out(struct stream *s)
{
	s->blocked = false;
	if (s->out.n == 0 || s->faulty) {
		return;
	}
	if (s->phase == PHASE_CLEAR) {
		send_clear(s);
	} else if (s->phase == PHASE_TLS) {
		send_tls(s);
	}
}

static void tell_drained(struct stream *s)
{
	if (s->drain_due && s->out.n == 0 && !s->closed && s->linger == NULL) {
		s->drain_due = false;
		if (s->handler->on_drained != NULL) {
			s->handler->on_drained(s->arg);
		}
	}
}

/* ---- input ---- */

/* How a read went. */
enum got {
	GOT_ALL,  /* as much as there was room for */
	GOT_SOME, /* all there is, perhaps nothing */
	GOT_END   /* the end, behind the bytes that were got */
};

/* Both read up to room bytes to the given place. */
static enum got read_clear(struct stream *s, uint8_t *to, size_t room, size_t *n,
	enum stream_end *why)
{
	ssize_t got;

	do {
		got = recv(s->fd, to, room, MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	*n = got > 0 ? (size_t)got : 0;
	if (got > 0) {
		return *n == room ? GOT_ALL : GOT_SOME;
	}
	if (got < 0 && errno == EAGAIN) {
		return GOT_SOME;
	}
	*why = got == 0 ? STREAM_END_EOF : end_from_errno(errno);
	return GOT_END;
}

static enum got read_tls(struct stream *s, uint8_t *to, size_t room, size_t *n,
	enum stream_end *why)
{
	*n = 0;
	s->wants_write = false;
	while (*n < room) {
		size_t got = 0;
		ERR_clear_error();
		int ok = SSL_read_ex(s->ssl, to + *n, room - *n, &got);
		if (ok == 1) {
			*n += got;
			continue;
		}
		int e = SSL_get_error(s->ssl, ok);
		if (e == SSL_ERROR_WANT_READ || tls_waits(s, e)) {
			return GOT_SOME;
		}
		*why = tls_end(s, e);
		return GOT_END;
	}
	return GOT_ALL;
}

static bool may_receive(const struct stream *s)
{
	return !s->closed && s->linger == NULL && !s->paused && !s->input_ended &&
	       (!s->faulty || s->write_failed) &&
	       (s->phase == PHASE_CLEAR || s->phase == PHASE_TLS);
}

static size_t kept_to_scratch(struct stream *s)
{
	struct slice kept = buf_view(&s->kept);

	if (kept.n != 0) {
		memcpy(s->shared->scratch, kept.p, kept.n);
	}
	return kept.n;
}

/* Offers the first n bytes of the scratch, the kept ones among them. */
static void offer(struct stream *s, size_t n)
{
	enum phase before = s->phase;
	size_t used = s->handler->on_input(s->arg, slice_make(s->shared->scratch, n));

	if (s->closed || s->linger != NULL || s->phase != before) {
		return;
	}
	assert(used <= n);
	struct slice left = {s->shared->scratch + used, n - used};
	if (used == 0) {
		left = slice_skip(left, buf_len(&s->kept)); /* those are kept already */
	} else {
		buf_reset(&s->kept);
	}
	if (buf_append(&s->kept, left) != ERR_OK) {
		fail(s, STREAM_END_ERROR);
	}
	size_t kept = buf_len(&s->kept);
	if (kept == 0) {
		buf_clear(&s->kept);
	}
	if (kept >= STREAM_INPUT_MAX && !s->paused) {
		fail(s, STREAM_END_ERROR);
	}
}

/* Tells the end of the input: orderly, or a fault that ends the stream. */
static void input_end(struct stream *s, enum stream_end why)
{
	if (why != STREAM_END_EOF) {
		fail(s, why);
		s->write_failed = false;
		return;
	}
	s->input_ended = true;
	if (!s->faulty) {
		s->handler->on_end(s->arg, STREAM_END_EOF);
	}
}

/* Reads and offers. What is kept is offered even when nothing has come if again is set. */
static void receive(struct stream *s)
{
	bool tls = s->phase == PHASE_TLS;
	bool again = s->again;
	enum got got = GOT_ALL;
	enum stream_end why = STREAM_END_EOF;

	s->again = false;
	for (int i = 0; i < READS_PER_TURN && got == GOT_ALL && may_receive(s); i++) {
		size_t kept = kept_to_scratch(s);
		size_t n = 0;
		uint8_t *to = s->shared->scratch + kept;
		size_t room = STREAM_INPUT_MAX - kept;
		if (room != 0) {
			got = tls ? read_tls(s, to, room, &n, &why)
				  : read_clear(s, to, room, &n, &why);
		}
		if (n != 0 || (again && kept != 0)) {
			offer(s, kept + n);
		}
		again = false;
	}
	if (got == GOT_END && may_receive(s)) {
		input_end(s, why);
	} else if (got == GOT_END && s->paused && !s->closed) {
		s->again = true; /* the end is found again after stream_resume() */
	} else if (got == GOT_ALL && tls && may_receive(s)) {
		s->again = true; /* what OpenSSL holds makes no socket readable */
		mark(s);
	}
}

/* ---- life on the loop ---- */

static void connect_done(struct stream *s)
{
	int number = 0;
	socklen_t n = sizeof(number);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &number, &n) != 0) {
		number = errno;
	}
	if (number != 0) {
		fail(s, end_from_errno(number));
		return;
	}
	s->phase = PHASE_CLEAR;
	s->connected_due = true;
}

/* close_notify; false when the socket is too full for it. */
static bool say_goodbye(struct stream *s)
{
	ERR_clear_error();
	int n = SSL_shutdown(s->ssl);
	bool full = n < 0 && SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_WRITE;
	ERR_clear_error();
	return !full;
}

/* A finished stream: the rest of the output, then the end, then whatever the peer says. */
static void linger_work(struct stream *s)
{
	struct farewell *l = s->linger;

	send_out(s);
	if (s->faulty || s->phase == PHASE_HANDSHAKE || s->phase == PHASE_CONNECTING) {
		destroy(s);
		return;
	}
	if (s->out.n == 0 && !l->write_shut) {
		s->blocked = s->phase == PHASE_TLS && !say_goodbye(s);
		l->write_shut = !s->blocked;
		/* With the peer's end in hand there is nothing to wait for. */
		if (!s->blocked && !l->is_last_word && !s->input_ended &&
			shutdown(s->fd, SHUT_WR) != 0) {
			s->input_ended = true;
		}
	}
	for (int i = 0; i < READS_PER_TURN && !s->input_ended; i++) {
		ssize_t n = recv(s->fd, s->shared->scratch, sizeof(s->shared->scratch),
			MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			break;
		}
		if (n < 0) {
			destroy(s);
			return;
		}
		s->input_ended = n == 0;
		if (n > 0 && l->is_last_word) {
			l->is_last_word = false;
			(void)(l->write_shut && shutdown(s->fd, SHUT_WR));
		}
	}
	if ((s->input_ended || l->is_last_word) && l->write_shut) {
		destroy(s);
		return;
	}
	watch_update(s);
}

static void tell_fault(struct stream *s)
{
	if (s->faulty && !s->broken && !s->closed && s->linger == NULL) {
		s->broken = true;
		watch_update(s);
		s->handler->on_end(s->arg, s->fault);
	}
}

static void work(struct stream *s, unsigned ready)
{
	if (s->phase == PHASE_CONNECTING && !s->faulty && ready != 0) {
		connect_done(s);
	}
	if (s->connected_due) {
		s->connected_due = false;
		if (s->handler->on_connected != NULL && s->linger == NULL) {
			s->handler->on_connected(s->arg);
		}
	}
	if (s->linger != NULL) {
		linger_work(s);
		return;
	}
	if (s->phase == PHASE_HANDSHAKE && !s->faulty && !s->closed) {
		handshake(s);
	}
	/* Under TLS reading and writing may wait for each other. */
	bool either = s->ssl != NULL && ready != 0;
	if (!s->closed && s->linger == NULL && s->out.n != 0 &&
		(!s->blocked || either || (ready & LOOP_WRITE) != 0)) {
		s->wants_read = s->wants_read && !either;
		send_out(s);
	}
	tell_drained(s);
	if (may_receive(s) &&
		(s->again || either || (ready & LOOP_READ) != 0 || s->write_failed)) {
		receive(s);
	}
	tell_fault(s);
	if (!s->closed) {
		watch_update(s);
	}
}

static void on_ready(void *arg, unsigned what)
{
	work(arg, what);
}

static void on_flush(void *arg)
{
	struct shared *shared = arg;
	struct list now;
	struct list *entry;

	if (list_is_empty(&shared->dirty)) {
		return;
	}
	/* Those that are marked meanwhile have their turn in the next pass. */
	list_prepend(&shared->dirty, &now);
	list_remove(&shared->dirty);
	while ((entry = list_first(&now)) != NULL) {
		list_remove(entry);
		work(CONTAINER_OF(entry, struct stream, dirty), 0);
	}
}

static void on_linger_end(void *arg)
{
	destroy(arg);
}

/* ---- making and releasing ---- */

static void *shared_make(struct loop *loop)
{
	struct shared *shared = alloc_bytes(sizeof(*shared));

	shared->loop = loop;
	shared->bio = NULL;
	list_init(&shared->dirty);
	list_init(&shared->lingering);
	loop_flush_add(&shared->flush, loop, on_flush, shared);
	return shared;
}

static void shared_release(void *object)
{
	struct shared *shared = object;
	struct list *entry;

	while ((entry = list_first(&shared->lingering)) != NULL) {
		destroy(CONTAINER_OF(entry, struct farewell, all)->stream);
	}
	loop_flush_remove(&shared->flush);
	BIO_meth_free(shared->bio);
	free(shared);
}

static struct stream *make(struct loop *loop, const struct stream_handler *handler, void *arg)
{
	struct stream *s = alloc_zero(1, sizeof(*s));

	s->shared = loop_own(loop, &shared_key, shared_make, shared_release);
	s->handler = handler;
	s->arg = arg;
	s->fd = -1;
	list_init(&s->dirty);
	buf_init(&s->kept, STREAM_INPUT_MAX);
	outqueue_init(&s->out);
	return s;
}

static void no_delay(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

struct stream *stream_accepted(struct loop *loop, int *fd, const struct stream_handler *handler,
	void *arg)
{
	struct stream *s = make(loop, handler, arg);

	s->fd = *fd;
	*fd = -1;
	s->phase = PHASE_CLEAR;
	loop_watch_init(&s->watch, loop, s->fd, on_ready, s);
	watch_update(s);
	return s;
}

struct stream *stream_new(struct loop *loop, int *fd, const struct stream_handler *handler,
	void *arg)
{
	bool is_ready = fd_set_nonblock(*fd) == ERR_OK;

	no_delay(*fd);
	struct stream *s = stream_accepted(loop, fd, handler, arg);
	if (!is_ready) {
		fail(s, STREAM_END_ERROR); /* sendfile() would block */
	}
	return s;
}

/* The outcome of starting a connection: 0, EINPROGRESS or what went wrong. */
static int start_connect(struct stream *s, const struct endpoint *to,
	const struct endpoint *from, bool *at_bind)
{
	struct sockaddr_storage sa;
	int on = 1;

	s->fd = socket(to->family == 4 ? AF_INET : AF_INET6,
		SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0) {
		return errno;
	}
	no_delay(s->fd);
	if (from != NULL && from->family != 0) {
		if (from->port == 0) {
			/* One source address serves more than 64 K destinations at once. */
			(void)setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
				sizeof(on));
		}
		socklen_t n = endpoint_to_sockaddr(from, &sa);
		if (bind(s->fd, (struct sockaddr *)&sa, n) != 0) {
			*at_bind = true;
			return errno;
		}
	}
	socklen_t n = endpoint_to_sockaddr(to, &sa);
	return connect(s->fd, (struct sockaddr *)&sa, n) == 0 ? 0 : errno;
}

struct stream *stream_connect(struct loop *loop, const struct endpoint *to,
	const struct endpoint *from, const struct stream_handler *handler, void *arg)
{
	struct stream *s = make(loop, handler, arg);
	bool at_bind = false;
	int number = start_connect(s, to, from, &at_bind);

	s->phase = PHASE_CONNECTING;
	loop_watch_init(&s->watch, loop, s->fd, on_ready, s);
	if (number == 0) {
		s->phase = PHASE_CLEAR;
		s->connected_due = true;
		mark(s);
	} else if (number != EINPROGRESS && number != EINTR) {
		fail(s, at_bind ? STREAM_END_BIND : end_from_errno(number));
	}
	watch_update(s);
	return s;
}

static void release(void *object)
{
	struct stream *s = object;

	free(s->tls_error);
	free(s);
}

static void destroy(struct stream *s)
{
	s->closed = true;
	loop_watch_set(&s->watch, 0);
	list_remove(&s->dirty);
	if (s->linger != NULL) {
		loop_deadline_unset(&s->linger->deadline);
		list_remove(&s->linger->all);
		ALLOC_FREE(s->linger);
	}
	outqueue_clear(&s->out);
	buf_clear(&s->kept);
	SSL_free(s->ssl);
	s->ssl = NULL;
	fd_close(&s->fd);
	loop_discard(s->shared->loop, release, s);
}

void stream_close(struct stream **s)
{
	struct stream *it = *s;

	if (it == NULL) {
		return;
	}
	*s = NULL;
	assert(!it->closed);
	if (it->phase == PHASE_TLS && !it->faulty) {
		/* Polite, and without it OpenSSL forgets the session. */
		(void)say_goodbye(it);
	}
	destroy(it);
}

void stream_finish(struct stream **s, int64_t linger_ms)
{
	struct stream *it = *s;

	if (it == NULL) {
		return;
	}
	if (it->faulty || it->phase == PHASE_CONNECTING || it->phase == PHASE_HANDSHAKE) {
		stream_close(s);
		return;
	}
	*s = NULL;
	it->linger = alloc_zero(1, sizeof(*it->linger));
	it->linger->stream = it;
	list_append(&it->shared->lingering, &it->linger->all);
	loop_deadline_init(&it->linger->deadline, it->shared->loop, on_linger_end, it);
	it->linger->is_last_word = linger_ms == 0 && buf_len(&it->kept) == 0;
	loop_deadline_set(&it->linger->deadline,
		clock_mono_ms() + (linger_ms == 0 ? LAST_WORD_MS : linger_ms));
	buf_clear(&it->kept);
	mark(it);
}

/* ---- what owners ask for ---- */

void stream_write(struct stream *s, struct slice bytes)
{
	if (s->faulty || bytes.n == 0) {
		return;
	}
	outqueue_put(&s->out, bytes);
	s->drain_due = true;
	mark(s);
}

void stream_write_file(struct stream *s, int fd, off_t at, uint64_t n)
{
	if (s->faulty || n == 0) {
		return;
	}
	/* Half a message must not be followed by its end: nothing is sent any more. */
	if (outqueue_put_file(&s->out, fd, at, n) != ERR_OK) {
		fail(s, STREAM_END_ERROR);
		return;
	}
	s->drain_due = true;
	mark(s);
}

uint64_t stream_unsent(const struct stream *s)
{
	return s->out.n;
}

uint64_t stream_sent_total(const struct stream *s)
{
	return s->sent;
}

void stream_flush(struct stream *s)
{
	send_out(s);
	watch_update(s);
	mark(s);
}

void stream_pause(struct stream *s)
{
	s->paused = true;
	mark(s); /* the watch changes at the end of the turn, if it still has to */
}

void stream_resume(struct stream *s)
{
	if (s->paused) {
		s->paused = false;
		s->again = true;
		mark(s);
	}
}

void stream_start_tls(struct stream *s, struct ssl_st **ssl, bool server)
{
	BIO *bio = NULL;

	assert(s->phase == PHASE_CLEAR && s->ssl == NULL);
	s->ssl = *ssl;
	*ssl = NULL;
	send_out(s);
	buf_clear(&s->kept);
	if (s->out.n != 0) {
		set_tls_error(s, "clear text was waiting to be sent", "");
		fail(s, STREAM_END_TLS);
	}
	if (s->shared->bio == NULL) {
		s->shared->bio = bio_method();
	}
	if (s->shared->bio != NULL) {
		bio = BIO_new(s->shared->bio);
	}
	if (bio == NULL) {
		set_tls_error(s, "out of memory", "");
		fail(s, STREAM_END_TLS);
		return;
	}
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(s->ssl, bio, bio);
	(void)SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
					   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					   SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_set_options(s->ssl, SSL_OP_NO_RENEGOTIATION);
	/* One read fetches whole records, not five bytes and then the rest. */
	SSL_set_read_ahead(s->ssl, 1);
	if (server) {
		SSL_set_accept_state(s->ssl);
	} else {
		SSL_set_connect_state(s->ssl);
	}
	s->phase = PHASE_HANDSHAKE;
	s->wants_write = false;
	mark(s);
}

bool stream_has_input(const struct stream *s)
{
	return buf_len(&s->kept) != 0;
}

struct ssl_st *stream_tls(const struct stream *s)
{
	return s->ssl;
}

const char *stream_tls_error(const struct stream *s)
{
	return s->tls_error == NULL ? "" : s->tls_error;
}

struct endpoint stream_local(const struct stream *s)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t n = sizeof(sa);
	struct endpoint e = {.family = 0};

	if (s->fd < 0 || getsockname(s->fd, (struct sockaddr *)&sa, &n) != 0 ||
		endpoint_from_sockaddr(&sa, &e) != ERR_OK) {
		e.family = 0;
	}
	return e;
}
