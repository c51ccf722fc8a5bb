/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: smtp-out */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/ipc/messages.h"
#include "smtp-out/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define JOBS 6
#define FILE_BYTES 4096

/*
 * A server that says whatever it likes, in pieces, with time passing, endings and half-written
 * output in between. Whatever happens: every job that is taken comes back exactly once or is
 * done with every recipient settled, nobody is delivered without a 2yz after a dot, nothing but
 * lines goes out, and nothing happens after the end.
 */
struct world {
	struct session *session;
	struct settings settings;
	struct buf scratch;
	struct job_pool pool;
	struct job *jobs[JOBS];
	bool is_out[JOBS];
	bool waits[JOBS];
	int64_t now_ms;
	int64_t deadline_ms;
	uint64_t written;
	uint64_t sent;
	bool holds;
	bool is_over;
	bool tls_due;
	bool is_idle;
};

static int content_fd = -1;

static unsigned number_of(const struct job *j)
{
	return (unsigned)j->id;
}

static struct job *next_job(void *arg, bool behind)
{
	struct world *w = arg;

	(void)behind;
	assert(!w->is_over);
	for (unsigned i = 0; i < JOBS; i++) {
		if (w->waits[i]) {
			w->waits[i] = false;
			w->is_out[i] = true;
			return w->jobs[i];
		}
	}
	return NULL;
}

static bool job_back(void *arg, struct job *j, bool was_refused)
{
	struct world *w = arg;

	assert(w->is_out[number_of(j)]);
	if (was_refused && ++j->tries > 2) {
		return false;
	}
	job_restart(j);
	w->is_out[number_of(j)] = false;
	w->waits[number_of(j)] = true;
	return true;
}

static void job_done(void *arg, struct job *j)
{
	struct world *w = arg;

	assert(w->is_out[number_of(j)]);
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		const struct outcome *o = &j->rcpts[i].outcome;
		assert(j->rcpts[i].state == RCPT_SETTLED);
		assert(o->kind != VERDICT_DONE ||
			(o->stage == STAGE_END_OF_DATA && o->smtp_code / 100 == 2));
		assert(o->kind != VERDICT_NEVER || o->smtp_code / 100 == 5 ||
			o->smtp_code == 0);
		assert((o->flags & OUTCOME_MAYBE_DUPLICATE) == 0 || o->kind == VERDICT_LATER);
	}
	w->is_out[number_of(j)] = false;
}

static void on_ready(void *arg)
{
	assert(!((struct world *)arg)->is_over);
}

static void on_idle(void *arg)
{
	((struct world *)arg)->is_idle = true;
}

static void end(struct world *w)
{
	assert(!w->is_over);
	w->is_over = true;
}

static void on_failed(void *arg, const struct outcome *why, enum session_failure how)
{
	(void)how;
	assert(why->kind != VERDICT_DONE);
	end(arg);
}

static void on_closed(void *arg, enum session_end how)
{
	struct world *w = arg;

	(void)how;
	for (unsigned i = 0; i < JOBS; i++) {
		assert(!w->is_out[i]);
	}
	end(w);
}

static void write_bytes(void *arg, struct slice bytes)
{
	struct world *w = arg;

	assert(!w->is_over && bytes.n >= 3);
	assert(bytes.p[bytes.n - 1] == '\n' && bytes.p[bytes.n - 2] == '\r');
	for (size_t i = 0; i < bytes.n; i++) {
		uint8_t c = bytes.p[i];
		assert((c >= 0x20 && c != 0x7f) ||
			(c == '\r' && i + 1 < bytes.n && bytes.p[i + 1] == '\n') ||
			(c == '\n' && i > 0 && bytes.p[i - 1] == '\r'));
	}
	w->written += bytes.n;
}

static void write_file(void *arg, int fd, uint64_t at, uint64_t n)
{
	struct world *w = arg;

	assert(fd == content_fd && at + n <= FILE_BYTES);
	w->written += n;
}

static uint64_t sent(void *arg)
{
	return ((struct world *)arg)->sent;
}

static void start_tls(void *arg)
{
	((struct world *)arg)->tls_due = true;
}

static int64_t now_ms(void *arg)
{
	return ((struct world *)arg)->now_ms;
}

static void set_deadline(void *arg, int64_t at_ms)
{
	((struct world *)arg)->deadline_ms = at_ms;
}

static const struct session_owner owner = {
	.next_job = next_job,
	.job_back = job_back,
	.job_done = job_done,
	.on_ready = on_ready,
	.on_idle = on_idle,
	.on_failed = on_failed,
	.on_closed = on_closed,
	.write = write_bytes,
	.write_file = write_file,
	.sent = sent,
	.start_tls = start_tls,
	.now_ms = now_ms,
	.set_deadline = set_deadline,
};

static void make_jobs(struct world *w, uint8_t seed)
{
	static const char *const addresses[] = {"a@d.example", "b>@d.example",
		"\"x y\"@d.example", "\xc3\xa4@d.example", "c@d.example"};

	for (unsigned i = 0; i < JOBS; i++) {
		uint32_t count = 1 + (seed >> (i % 4) & 3) * (i == 2 ? 30 : 1);
		struct job *j = job_new(&w->pool, count);

		j->id = i;
		j->fd = content_fd;
		j->head_bytes = 40;
		j->content_at = (seed & 64) != 0 ? 40 : 100;
		j->content_bytes = 500;
		j->flags = (i & 1) != 0 ? TX_8BIT | TX_SMTPUTF8 : 0;
		j->sender = SLICE("s@s.example");
		j->envid = SLICE("x+y");
		for (uint32_t k = 0; k < count; k++) {
			j->rcpts[k].address = slice_from_cstr(
				addresses[(k + seed) %
					  (sizeof(addresses) / sizeof(*addresses))]);
			j->rcpts[k].orcpt = SLICE("rfc822;o@d.example");
			j->rcpts[k].notify = NOTIFY_FAILURE;
		}
		w->jobs[i] = j;
		w->waits[i] = i < 3;
	}
}

static void leave(struct world *w, uint64_t n)
{
	uint64_t left = w->written - w->sent;

	w->sent += n < left ? n : left;
	if (w->sent == w->written && n > 0) {
		session_drained(w->session);
	}
}

/* Bytes of the input are what the server says; 0xff and the byte behind it are events. */
static void event(struct world *w, uint8_t what)
{
	switch (what & 7) {
	case 0:
		w->holds = !w->holds;
		break;
	case 1:
		leave(w, (uint64_t)what * 8);
		break;
	case 2:
		w->now_ms += (int64_t)what * 4000;
		if (w->deadline_ms != 0 && w->now_ms >= w->deadline_ms) {
			w->deadline_ms = 0;
			session_late(w->session);
		}
		break;
	case 3:
		session_ended(w->session,
			(enum stream_end)((what >> 3) % (STREAM_END_ERROR + 1)),
			(what & 128) != 0 ? "detail" : "");
		break;
	case 4:
		if (w->tls_due) {
			w->tls_due = false;
			session_tls_up(w->session, (enum tls_trust)(1 + (what >> 3) % 3),
				"why");
		}
		break;
	case 5:
		w->waits[3 + (what >> 3) % 3] |=
			!w->is_out[3 + (what >> 3) % 3] &&
			w->jobs[3 + (what >> 3) % 3]->rcpts[0].state == RCPT_PENDING;
		session_work(w->session);
		break;
	case 6:
		session_quit(w->session);
		break;
	default:
		break; /* only the end of a piece */
	}
}

static void play(struct world *w, struct slice s)
{
	while (s.n > 0 && !w->is_over) {
		size_t n = slice_find(s, 0xff);
		struct slice said = slice_head(s, n);

		if (said.n > 0) {
			session_input(w->session, said);
		} else if (s.n > 1) {
			event(w, s.p[1]);
		}
		s = slice_skip(s, said.n > 0 ? said.n : 2);
		assert(buf_len(&w->scratch) == 0);
		if (!w->holds && !w->is_over) {
			leave(w, UINT64_MAX);
		}
	}
}

static void set_up(void)
{
	char bytes[FILE_BYTES];

	memset(bytes, 'x', sizeof(bytes));
	content_fd = memfd_create("content", MFD_CLOEXEC);
	assert(write(content_fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.now_ms = 1000};

	if (content_fd < 0) {
		set_up();
	}
	if (size < 2) {
		return 0;
	}
	w.settings = (struct settings){.helo_name = "relay.example",
		.pipeline_next = (data[0] & 8) != 0,
		.reuse_count = (data[0] & 16) != 0 ? 2 : 0};
	for (int i = 0; i < WAIT_COUNT; i++) {
		w.settings.limit_ms[i] = 60000;
	}
	buf_init(&w.scratch, 1u << 20);
	job_pool_init(&w.pool);
	make_jobs(&w, data[1]);
	w.session = session_new(&owner, &w, &w.settings, &w.scratch);
	session_begin(w.session, (enum tls_level)((data[0] & 7) % (TLS_SECURE + 1)),
		(data[0] & 32) != 0);
	play(&w, slice_make(data + 2, size - 2));
	session_ended(w.session, STREAM_END_RESET, "");
	assert(w.is_over);
	for (unsigned i = 0; i < JOBS; i++) {
		assert(!w.is_out[i]);
		job_free(&w.pool, &w.jobs[i]);
	}
	session_free(&w.session);
	job_pool_clear(&w.pool);
	buf_clear(&w.scratch);
	return 0;
}
