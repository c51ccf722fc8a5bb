/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays scripted dialogues against a client session in memory: every case whole and in pieces
 * of every size, with a clock that the script moves. tests/dialog/smtp-out/README.md tells how
 * a script is written.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/fd.h"
#include "common/ipc/messages.h"
#include "smtp-out/session.h"

#define JOBS_MAX 16
#define RCPTS_MAX 400
#define LINES_MAX 2000

struct script_job {
	struct job *job; /* null: not declared */
	struct buf content;
	bool waits;
	bool is_taken;
	bool is_done;
	bool is_back;
	bool was_refused;
	bool wanted[RCPTS_MAX];
};

struct line {
	char *text;
	unsigned number;
};

struct script {
	const char *file;
	char title[200];
	struct line lines[LINES_MAX];
	size_t count;
};

struct player {
	const struct script *script;
	unsigned line;
	size_t piece;   /* server's bytes at a time */
	size_t longest; /* run of the server's bytes so far */
	bool failed;
	char why[600];
	struct session *session;
	struct settings settings;
	struct buf scratch;
	struct buf said;   /* by the client, not yet looked at */
	struct buf server; /* to be said by the server */
	struct job_pool pool;
	struct script_job jobs[JOBS_MAX];
	int queue[64]; /* numbers of the jobs that wait */
	size_t queue_n;
	uint64_t written;
	uint64_t sent;
	bool holds;
	int64_t now_ms;
	int64_t deadline_ms;
	enum tls_level level;
	bool in_clear;
	bool refuse_back;
	bool whole_only;
	bool begun;
	bool is_ready;
	bool is_idle;
	bool is_closed;
	bool closed_seen;
	enum session_end closed_how;
	bool is_failed;
	bool failed_seen;
	struct outcome failure;
	char failure_text[LIMIT_REPLY_TEXT + 1];
	enum session_failure failure_how;
	bool tls_due;
};

static void complain(struct player *p, const char *format, ...) PRINTF_LIKE(2, 3);

static void complain(struct player *p, const char *format, ...)
{
	char text[400];
	va_list args;

	if (p->failed) {
		return;
	}
	p->failed = true;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)snprintf(p->why, sizeof(p->why), "line %u, pieces of %zu: %s", p->line, p->piece,
		text);
}

/* ---- the owner ---- */

static struct script_job *find(struct player *p, const struct job *j)
{
	for (size_t i = 0; i < JOBS_MAX; i++) {
		if (p->jobs[i].job == j) {
			return &p->jobs[i];
		}
	}
	abort();
}

static struct job *owner_next_job(void *arg, bool behind)
{
	struct player *p = arg;

	(void)behind;
	if (p->queue_n == 0) {
		return NULL;
	}
	struct script_job *sj = &p->jobs[p->queue[0]];
	p->queue_n--;
	memmove(p->queue, p->queue + 1, p->queue_n * sizeof(p->queue[0]));
	sj->is_taken = true;
	sj->is_back = false;
	p->is_idle = false;
	return sj->job;
}

static bool owner_job_back(void *arg, struct job *j, bool was_refused)
{
	struct player *p = arg;
	struct script_job *sj = find(p, j);

	if (!sj->is_taken || sj->is_done) {
		complain(p, "a job came back that was not out");
	}
	if (was_refused && p->refuse_back) {
		return false;
	}
	memmove(p->queue + 1, p->queue, p->queue_n * sizeof(p->queue[0]));
	p->queue[0] = (int)(sj - p->jobs);
	p->queue_n++;
	job_restart(j);
	sj->is_taken = false;
	sj->is_back = true;
	sj->was_refused = was_refused;
	return true;
}

static void owner_job_done(void *arg, struct job *j)
{
	struct player *p = arg;
	struct script_job *sj = find(p, j);

	if (!sj->is_taken || sj->is_done) {
		complain(p, "a job was done twice, or never out");
	}
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].state != RCPT_SETTLED) {
			complain(p, "recipient %u of a job that is done is not settled", i);
		}
	}
	sj->is_taken = false;
	sj->is_done = true;
}

static void owner_ready(void *arg)
{
	struct player *p = arg;

	p->is_ready = true;
}

static void owner_idle(void *arg)
{
	struct player *p = arg;

	p->is_idle = true;
}

static void owner_failed(void *arg, const struct outcome *why, enum session_failure how)
{
	struct player *p = arg;

	p->is_failed = true;
	p->failure = *why;
	str_printable(p->failure_text, sizeof(p->failure_text), why->text);
	p->failure_how = how;
}

static void owner_closed(void *arg, enum session_end how)
{
	struct player *p = arg;

	p->is_closed = true;
	p->closed_how = how;
}

static void owner_write(void *arg, struct slice bytes)
{
	struct player *p = arg;

	if (buf_append(&p->said, bytes) != ERR_OK) {
		complain(p, "the client says too much");
	}
	p->written += bytes.n;
}

static void owner_write_file(void *arg, int fd, uint64_t at, uint64_t n)
{
	struct player *p = arg;
	uint8_t *to = buf_reserve(&p->said, n);

	if (to == NULL || fd_pread_all(fd, to, n, (off_t)at) != ERR_OK) {
		complain(p, "the content cannot be read");
		return;
	}
	buf_commit(&p->said, n);
	p->written += n;
}

static uint64_t owner_sent(void *arg)
{
	struct player *p = arg;

	return p->sent;
}

static void owner_start_tls(void *arg)
{
	struct player *p = arg;

	p->tls_due = true;
}

static int64_t owner_now_ms(void *arg)
{
	struct player *p = arg;

	return p->now_ms;
}

static void owner_set_deadline(void *arg, int64_t at_ms)
{
	struct player *p = arg;

	p->deadline_ms = at_ms;
}

static const struct session_owner owner = {
	.next_job = owner_next_job,
	.job_back = owner_job_back,
	.job_done = owner_job_done,
	.on_ready = owner_ready,
	.on_idle = owner_idle,
	.on_failed = owner_failed,
	.on_closed = owner_closed,
	.write = owner_write,
	.write_file = owner_write_file,
	.sent = owner_sent,
	.start_tls = owner_start_tls,
	.now_ms = owner_now_ms,
	.set_deadline = owner_set_deadline,
};

/* The end of a turn: what was written leaves. */
static void turn_end(struct player *p)
{
	if (buf_len(&p->scratch) != 0) {
		complain(p, "the scratch is not empty between calls");
	}
	if (!p->holds && p->sent < p->written) {
		p->sent = p->written;
		session_drained(p->session);
	}
}

/* ---- jobs ---- */

/* Lines of a pattern, 72 bytes each, some with a stuffed dot, the last as long as it takes. */
static void make_content(struct buf *to, size_t bytes, bool high)
{
	char line[80];
	size_t n = 0;

	while (bytes - n > 140) {
		size_t k = (n / 72) % 26;
		memset(line, (int)('a' + k), 70);
		memcpy(line, k == 3 ? ".." : "x ", 2);
		memcpy(line + 70, "\r\n", 2);
		if (buf_append(to, slice_make(line, 72)) != ERR_OK) {
			abort();
		}
		n += 72;
	}
	while (bytes - n > 2) {
		if (buf_append_byte(to, high && bytes - n == 3 ? 0xe9 : 'z') != ERR_OK) {
			abort();
		}
		n++;
	}
	if (buf_append(to, SLICE("\r\n")) != ERR_OK) {
		abort();
	}
}

static void put(struct buf *b, struct slice s)
{
	if (buf_append(b, s) != ERR_OK) {
		abort();
	}
}

static void make_file(struct player *p, struct script_job *sj, struct slice head, bool apart,
	bool unreadable)
{
	struct job *j = sj->job;
	struct buf file;
	struct slice all = buf_view(&sj->content);
	int fd = memfd_create("segment", MFD_CLOEXEC);

	buf_init(&file, 1u << 24);
	put(&file, SLICE("what stands before"));
	if (apart) {
		/* The content in front of the head, and a gap between. */
		j->content_at = buf_len(&file);
		put(&file, slice_skip(all, head.n));
		put(&file, SLICE("a gap"));
		j->head_at = buf_len(&file);
		put(&file, head);
	} else {
		j->head_at = buf_len(&file);
		put(&file, all);
		j->content_at = j->head_at + head.n;
	}
	put(&file, SLICE("what stands behind"));
	j->head_bytes = (uint32_t)head.n;
	j->content_bytes = all.n - head.n;
	if (fd < 0 || (!unreadable && fd_write_all(fd, buf_view(&file)) != ERR_OK)) {
		complain(p, "no file for a job");
	}
	j->fd = fd;
	buf_clear(&file);
}

static uint32_t number(struct player *p, struct slice s)
{
	uint32_t n = 0;

	if (num_parse_u32(s, UINT32_MAX, &n) != ERR_OK) {
		complain(p, "not a number: %.*s", SLICE_ARG(s));
	}
	return n;
}

static void job_recipients(struct script_job *sj, struct slice to)
{
	struct slice word;

	for (uint32_t i = 0; i < sj->job->rcpt_count; i++) {
		char text[64];
		(void)slice_cut(&to, ',', &word);
		if (to.n == 0 && i + 1 < sj->job->rcpt_count) {
			(void)snprintf(text, sizeof(text), "r%u@d.example", i);
			word = slice_from_cstr(text);
		}
		sj->job->rcpts[i].address = job_copy(sj->job, word);
	}
}

static void declare_job(struct player *p, struct slice args)
{
	static const char header[] = "Subject: test\r\nFrom: a@s.example\r\n\r\n";
	static const char header8[] = "Subject: caf\xc3\xa9\r\nFrom: a@s.example\r\n\r\n";
	struct slice word;
	struct slice from = SLICE("a@s.example");
	struct slice to = SLICE("b@d.example");
	struct slice orcpt = SLICE_EMPTY;
	struct slice envid = SLICE_EMPTY;
	uint32_t bytes = 200;
	uint32_t flags = 0;
	uint32_t count = 0;
	uint8_t ret = 0;
	uint8_t notify = 0;
	bool apart = false;
	bool later = false;
	bool high = false;
	bool head8 = false;
	bool unreadable = false;

	if (!slice_word(&args, " ", &word)) {
		complain(p, "job without a number");
		return;
	}
	uint32_t id = number(p, word);
	if (id >= JOBS_MAX) {
		complain(p, "job number");
		return;
	}
	while (slice_word(&args, " ", &word)) {
		size_t n = slice_find(word, '=');
		struct slice name = slice_head(word, n);
		struct slice value = slice_skip(word, n + 1);
		if (slice_eq(name, SLICE("from"))) {
			from = slice_eq(value, SLICE("<>")) ? SLICE_EMPTY : value;
		} else if (slice_eq(name, SLICE("to"))) {
			to = value;
		} else if (slice_eq(name, SLICE("rcpts"))) {
			count = number(p, value);
		} else if (slice_eq(name, SLICE("bytes"))) {
			bytes = number(p, value);
		} else if (slice_eq(name, SLICE("orcpt"))) {
			orcpt = value;
		} else if (slice_eq(name, SLICE("envid"))) {
			envid = value;
		} else if (slice_eq(name, SLICE("notify"))) {
			notify = (uint8_t)number(p, value);
		} else if (slice_eq(name, SLICE("ret"))) {
			ret = slice_eq(value, SLICE("full")) ? RET_FULL : RET_HDRS;
		} else if (slice_eq(name, SLICE("8bit"))) {
			flags |= TX_8BIT;
		} else if (slice_eq(name, SLICE("has8bit"))) {
			high = true;
		} else if (slice_eq(name, SLICE("head8bit"))) {
			head8 = true;
		} else if (slice_eq(name, SLICE("utf8"))) {
			flags |= TX_SMTPUTF8;
		} else if (slice_eq(name, SLICE("apart"))) {
			apart = true;
		} else if (slice_eq(name, SLICE("unreadable"))) {
			unreadable = true;
		} else if (slice_eq(name, SLICE("later"))) {
			later = true;
		} else {
			complain(p, "job: %.*s?", SLICE_ARG(word));
		}
	}
	if (count == 0) {
		count = 1;
		for (size_t i = 0; i < to.n; i++) {
			count += to.p[i] == ',';
		}
	}
	struct script_job *sj = &p->jobs[id];
	struct slice head = slice_from_cstr(head8 ? header8 : header);
	sj->job = job_new(&p->pool, count);
	sj->job->id = id;
	sj->job->sender = job_copy(sj->job, from);
	sj->job->envid = job_copy(sj->job, envid);
	sj->job->ret = ret;
	sj->job->flags = flags;
	job_recipients(sj, to);
	for (uint32_t i = 0; i < count; i++) {
		sj->job->rcpts[i].orcpt = job_copy(sj->job, orcpt);
		sj->job->rcpts[i].notify = notify;
	}
	buf_init(&sj->content, 1u << 24);
	put(&sj->content, head);
	make_content(&sj->content, bytes < head.n + 3 ? 3 : bytes - head.n, high);
	make_file(p, sj, head, apart, unreadable);
	if (!later) {
		p->queue[p->queue_n++] = (int)id;
	}
}

/* ---- what the script says ---- */

static void begin(struct player *p)
{
	if (!p->begun) {
		p->begun = true;
		session_begin(p->session, p->level, p->in_clear);
		turn_end(p);
	}
}

/* The server's words so far arrive. */
static void deliver(struct player *p)
{
	struct slice left = buf_view(&p->server);

	if (left.n == 0) {
		return;
	}
	p->longest = left.n > p->longest ? left.n : p->longest;
	begin(p);
	while (left.n > 0 && !p->is_failed && !p->is_closed) {
		struct slice part = slice_head(left, p->piece);
		session_input(p->session, part);
		turn_end(p);
		left = slice_skip(left, part.n);
	}
	buf_reset(&p->server);
}

static void unescape(struct player *p, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		if (c == '\\' && i + 1 < s.n) {
			c = s.p[++i];
			uint64_t value = 0;
			switch (c) {
			case 'r':
				c = '\r';
				break;
			case 'n':
				c = '\n';
				break;
			case 't':
				c = '\t';
				break;
			case '0':
				c = 0;
				break;
			case 'x':
				if (num_parse_hex_u64(slice_head(slice_skip(s, i + 1), 2),
					    &value) != ERR_OK) {
					complain(p, "bad \\x");
				}
				c = (uint8_t)value;
				i += 2;
				break;
			default:
				break;
			}
		}
		if (buf_append_byte(&p->server, c) != ERR_OK) {
			abort();
		}
	}
}

static void expect_line(struct player *p, struct slice want)
{
	struct slice said = buf_view(&p->said);
	size_t n = slice_find(said, '\n');

	if (n == said.n) {
		complain(p, "the client has said nothing; wanted \"%.*s\"%s%s", SLICE_ARG(want),
			p->is_failed   ? "; it failed: "
			: p->is_closed ? "; it is closed"
				       : "",
			p->is_failed ? p->failure_text : "");
		return;
	}
	struct slice line = slice_head(said, n);
	if (line.n == 0 || line.p[line.n - 1] != '\r') {
		complain(p, "a line of the client without CR");
		return;
	}
	line.n--;
	if (!slice_eq(line, want)) {
		char text[200];
		str_printable(text, sizeof(text), line);
		complain(p, "the client said \"%s\"", text);
	}
	buf_consume(&p->said, n + 1);
}

static void expect_content(struct player *p, struct slice args)
{
	uint32_t id = number(p, args);

	if (id >= JOBS_MAX || p->jobs[id].job == NULL) {
		complain(p, "no such job");
		return;
	}
	struct slice want = buf_view(&p->jobs[id].content);
	struct slice said = buf_view(&p->said);
	if (!slice_starts(said, want)) {
		char text[100];
		str_printable(text, sizeof(text), said);
		complain(p, "the client did not send the content of job %u but \"%s\"", id,
			text);
		return;
	}
	buf_consume(&p->said, want.n);
	expect_line(p, SLICE("."));
}

static void check_outcome(struct player *p, struct slice args, const struct outcome *o,
	const char *text)
{
	struct slice kind;
	struct slice code;
	struct slice status;
	struct slice stage;
	struct slice word;
	char have[ENHANCED_TEXT_MAX];
	uint8_t flags = 0;

	if (!slice_word(&args, " ", &kind) || !slice_word(&args, " ", &code) ||
		!slice_word(&args, " ", &status) || !slice_word(&args, " ", &stage)) {
		complain(p, "KIND CODE STATUS STAGE");
		return;
	}
	enhanced_format(o->status, have);
	if (!slice_eq(kind, slice_from_cstr(verdict_kind_name(o->kind))) ||
		number(p, code) != o->smtp_code || !slice_eq(status, slice_from_cstr(have)) ||
		!slice_eq(stage, slice_from_cstr(smtp_stage_name(o->stage)))) {
		complain(p, "it is %s %u %s %s \"%.100s\"", verdict_kind_name(o->kind),
			o->smtp_code, have, smtp_stage_name(o->stage), text);
		return;
	}
	size_t tilde = slice_find(args, '~');
	struct slice want = slice_skip(args, tilde + 1);
	args = slice_head(args, tilde);
	while (slice_word(&args, " ", &word)) {
		if (slice_eq(word, SLICE("dup"))) {
			flags |= OUTCOME_MAYBE_DUPLICATE;
		} else if (slice_eq(word, SLICE("nodsn"))) {
			flags |= OUTCOME_NO_DSN_PEER;
		} else if (!slice_eq(word, SLICE("clear"))) {
			complain(p, "%.*s?", SLICE_ARG(word));
		}
	}
	if (flags != o->flags) {
		complain(p, "its flags are %u", o->flags);
	}
	char wanted[300];
	if (str_copy(wanted, sizeof(wanted), want) != ERR_OK) {
		complain(p, "text too long");
	} else if (strstr(text, wanted) == NULL) {
		complain(p, "its text is \"%.200s\"", text);
	}
}

static void expect_want(struct player *p, struct slice args)
{
	struct slice which;
	struct slice rest = args;

	if (!slice_word(&rest, " ", &which)) {
		complain(p, "want what?");
		return;
	}
	size_t dot = slice_find(which, '.');
	uint32_t id = number(p, slice_head(which, dot));
	struct slice ranks = slice_skip(which, dot + 1);
	size_t dash = slice_find(ranks, '-');
	uint32_t first = number(p, slice_head(ranks, dash));
	uint32_t last = dash == ranks.n ? first : number(p, slice_skip(ranks, dash + 1));
	if (id >= JOBS_MAX || p->jobs[id].job == NULL || first < 1 || last < first ||
		last > p->jobs[id].job->rcpt_count) {
		complain(p, "no such recipient");
		return;
	}
	if (!p->jobs[id].is_done) {
		complain(p, "job %u is not done", id);
		return;
	}
	for (uint32_t i = first - 1; i < last && !p->failed; i++) {
		const struct outcome *o = &p->jobs[id].job->rcpts[i].outcome;
		char text[LIMIT_REPLY_TEXT + 1];
		if (str_copy(text, sizeof(text), o->text) != ERR_OK) {
			complain(p, "the text cannot be shown");
		}
		check_outcome(p, rest, o, text);
		p->jobs[id].wanted[i] = true;
	}
}

static void expect_back(struct player *p, struct slice args)
{
	struct slice word;

	if (!slice_word(&args, " ", &word)) {
		complain(p, "back what?");
		return;
	}
	uint32_t id = number(p, word);
	bool refused = slice_word(&args, " ", &word);
	if (id >= JOBS_MAX || !p->jobs[id].is_back) {
		complain(p, "job %u is not back", id);
	} else if (p->jobs[id].was_refused != refused) {
		complain(p, "job %u is back because %s", id,
			refused ? "of no refusal" : "refused");
	}
}

/* MAIL and RCPT without parameters, and DATA, as PIPELINING sends them. */
static void expect_envelope(struct player *p, struct slice args)
{
	uint32_t id = number(p, slice_trim(args));
	char line[400];

	if (id >= JOBS_MAX || p->jobs[id].job == NULL) {
		complain(p, "no such job");
		return;
	}
	const struct job *j = p->jobs[id].job;
	(void)snprintf(line, sizeof(line), "MAIL FROM:<%.*s>", SLICE_ARG(j->sender));
	expect_line(p, slice_from_cstr(line));
	for (uint32_t i = 0; i < j->rcpt_count && !p->failed; i++) {
		(void)snprintf(line, sizeof(line), "RCPT TO:<%.*s>",
			SLICE_ARG(j->rcpts[i].address));
		expect_line(p, slice_from_cstr(line));
	}
	expect_line(p, SLICE("DATA"));
}

static void play_set(struct player *p, struct slice args)
{
	static const struct {
		struct slice name;
		enum tls_level level;
	} levels[] = {
		{SLICE_INIT("none"), TLS_NONE},
		{SLICE_INIT("may"), TLS_MAY},
		{SLICE_INIT("encrypt"), TLS_ENCRYPT},
		{SLICE_INIT("dane"), TLS_DANE},
		{SLICE_INIT("dane-only"), TLS_DANE_ONLY},
		{SLICE_INIT("verify"), TLS_VERIFY},
		{SLICE_INIT("secure"), TLS_SECURE},
	};
	struct slice name;

	if (!slice_word(&args, " ", &name)) {
		complain(p, "set what?");
		return;
	}
	struct slice value = slice_trim(args);
	if (slice_eq(name, SLICE("tls"))) {
		for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
			if (slice_eq(value, levels[i].name)) {
				p->level = levels[i].level;
				return;
			}
		}
		complain(p, "no such level");
	} else if (slice_eq(name, SLICE("in_clear"))) {
		p->in_clear = true;
	} else if (slice_eq(name, SLICE("refuse_back"))) {
		p->refuse_back = true;
	} else if (slice_eq(name, SLICE("whole"))) {
		p->whole_only = true;
	} else if (slice_eq(name, SLICE("pipeline_next"))) {
		p->settings.pipeline_next = !slice_eq(value, SLICE("no"));
	} else if (slice_eq(name, SLICE("reuse_count"))) {
		p->settings.reuse_count = number(p, value);
	} else if (slice_eq(name, SLICE("reuse_time"))) {
		p->settings.limit_ms[WAIT_REUSE] = (int64_t)number(p, value) * 1000;
	} else {
		complain(p, "set %.*s?", SLICE_ARG(name));
	}
}

static void play_wait(struct player *p, struct slice args)
{
	begin(p);
	p->now_ms += (int64_t)number(p, args) * 1000;
	if (p->deadline_ms != 0 && p->now_ms >= p->deadline_ms) {
		p->deadline_ms = 0;
		session_late(p->session);
		turn_end(p);
	}
}

static void play_end(struct player *p, struct slice args)
{
	static const struct {
		struct slice name;
		enum stream_end end;
	} ends[] = {
		{SLICE_INIT("eof"), STREAM_END_EOF},
		{SLICE_INIT("reset"), STREAM_END_RESET},
		{SLICE_INIT("refused"), STREAM_END_REFUSED},
		{SLICE_INIT("timeout"), STREAM_END_TIMEOUT},
		{SLICE_INIT("unreached"), STREAM_END_UNREACHED},
		{SLICE_INIT("bind"), STREAM_END_BIND},
		{SLICE_INIT("tls"), STREAM_END_TLS},
		{SLICE_INIT("truncated"), STREAM_END_TRUNCATED},
		{SLICE_INIT("error"), STREAM_END_ERROR},
	};
	struct slice name;
	char detail[200];

	begin(p);
	(void)slice_word(&args, " ", &name);
	if (str_copy(detail, sizeof(detail), slice_trim(args)) != ERR_OK) {
		detail[0] = '\0';
	}
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		if (slice_eq(name, ends[i].name)) {
			session_ended(p->session, ends[i].end, detail);
			turn_end(p);
			return;
		}
	}
	complain(p, "end how?");
}

static void play_tls(struct player *p, struct slice args)
{
	struct slice word;
	char why[200];
	enum tls_trust trust = TRUST_UNTRUSTED;

	if (!p->tls_due) {
		complain(p, "no handshake was asked for%s%s", p->is_failed ? ": " : "",
			p->is_failed ? p->failure_text : "");
		return;
	}
	p->tls_due = false;
	(void)slice_word(&args, " ", &word);
	if (slice_eq(word, SLICE("anonymous"))) {
		trust = TRUST_ANONYMOUS;
	} else if (slice_eq(word, SLICE("verified"))) {
		trust = TRUST_VERIFIED;
	} else if (!slice_eq(word, SLICE("untrusted"))) {
		complain(p, "trust?");
	}
	if (str_copy(why, sizeof(why), slice_trim(args)) != ERR_OK) {
		why[0] = '\0';
	}
	session_tls_up(p->session, trust, why);
	turn_end(p);
}

static void play_add(struct player *p, struct slice args)
{
	uint32_t id = number(p, args);

	if (id >= JOBS_MAX || p->jobs[id].job == NULL) {
		complain(p, "no such job");
		return;
	}
	p->queue[p->queue_n++] = (int)id;
	session_work(p->session);
	turn_end(p);
}

static void play_quit(struct player *p, struct slice args)
{
	(void)args;
	session_quit(p->session);
	turn_end(p);
}

static void play_reconnect(struct player *p, struct slice args)
{
	(void)args;
	if (!p->is_closed && !p->is_failed) {
		complain(p, "it is not closed");
	}
	if ((p->is_closed && !p->closed_seen) || (p->is_failed && !p->failed_seen)) {
		complain(p, "nobody looked how it ended");
	}
	if (buf_len(&p->said) != 0) {
		complain(p, "the client has said more");
	}
	p->is_closed = false;
	p->is_failed = false;
	p->closed_seen = false;
	p->failed_seen = false;
	p->is_ready = false;
	p->is_idle = false;
	p->tls_due = false;
	p->holds = false;
	p->written = 0;
	p->sent = 0;
	p->begun = false;
	begin(p);
}

static void play_none(struct player *p, struct slice args)
{
	(void)args;
	begin(p);
	if (buf_len(&p->said) != 0) {
		char text[100];
		str_printable(text, sizeof(text), buf_view(&p->said));
		complain(p, "the client said \"%s\"", text);
	}
}

static void play_hold(struct player *p, struct slice args)
{
	(void)args;
	p->holds = true;
}

static void play_release(struct player *p, struct slice args)
{
	args = slice_trim(args);
	if (args.n == 0) {
		p->holds = false;
	} else {
		p->sent += number(p, args);
		p->sent = p->sent > p->written ? p->written : p->sent;
	}
	turn_end(p);
}

static void play_ready(struct player *p, struct slice args)
{
	(void)args;
	if (!p->is_ready) {
		complain(p, "it is not ready%s%s", p->is_failed ? ": " : "",
			p->is_failed ? p->failure_text : "");
	}
}

static void play_idle(struct player *p, struct slice args)
{
	(void)args;
	if (!p->is_idle || p->is_closed) {
		complain(p, "it is not idle");
	}
}

static void play_closed(struct player *p, struct slice args)
{
	static const char *const names[] = {[SESSION_ORDERLY] = "orderly",
		[SESSION_BROKEN] = "broken",
		[SESSION_REFUSED] = "refused"};

	args = slice_trim(args);
	if (!p->is_closed) {
		complain(p, "it is not closed");
	} else if (!slice_eq(args, slice_from_cstr(names[p->closed_how]))) {
		complain(p, "it is closed %s", names[p->closed_how]);
	}
	p->closed_seen = true;
}

static void play_failed(struct player *p, struct slice args)
{
	bool clear = false;
	struct slice rest = slice_head(args, slice_find(args, '~'));
	struct slice word;

	if (!p->is_failed) {
		complain(p, "it has not failed");
		return;
	}
	while (slice_word(&rest, " ", &word)) {
		clear = clear || slice_eq(word, SLICE("clear"));
	}
	check_outcome(p, args, &p->failure, p->failure_text);
	if (clear != (p->failure_how == SESSION_NO_TLS)) {
		complain(p, clear ? "not to be tried in clear" : "to be tried in clear");
	}
	p->failed_seen = true;
}

static void say(struct player *p, struct slice code, struct slice text)
{
	put(&p->server, code);
	put(&p->server, text);
	put(&p->server, SLICE("\r\n"));
}

/* Greeting and EHLO; args are what is offered, with | between. */
static void play_open(struct player *p, struct slice args)
{
	struct slice keyword;

	say(p, SLICE("220 "), SLICE("mx.example ESMTP"));
	deliver(p);
	expect_line(p, SLICE("EHLO relay.example"));
	say(p, args.n > 0 ? SLICE("250-") : SLICE("250 "), SLICE("mx.example"));
	while (slice_cut(&args, '|', &keyword)) {
		say(p, args.n > 0 ? SLICE("250-") : SLICE("250 "), keyword);
	}
	deliver(p);
}

static const struct {
	struct slice name;
	void (*play)(struct player *p, struct slice args);
	bool keeps_quiet; /* the server's words wait for others */
} commands[] = {
	{SLICE_INIT("set"), play_set, true},
	{SLICE_INIT("job"), declare_job, true},
	{SLICE_INIT("open"), play_open, true},
	{SLICE_INIT("C="), expect_content, false},
	{SLICE_INIT("C@"), expect_envelope, false},
	{SLICE_INIT("none"), play_none, false},
	{SLICE_INIT("hold"), play_hold, false},
	{SLICE_INIT("release"), play_release, false},
	{SLICE_INIT("wait"), play_wait, false},
	{SLICE_INIT("end"), play_end, false},
	{SLICE_INIT("tls"), play_tls, false},
	{SLICE_INIT("add"), play_add, false},
	{SLICE_INIT("quit"), play_quit, false},
	{SLICE_INIT("reconnect"), play_reconnect, false},
	{SLICE_INIT("ready"), play_ready, false},
	{SLICE_INIT("idle"), play_idle, false},
	{SLICE_INIT("closed"), play_closed, false},
	{SLICE_INIT("failed"), play_failed, false},
	{SLICE_INIT("back"), expect_back, false},
	{SLICE_INIT("want"), expect_want, false},
};

static bool play_speech(struct player *p, struct slice line)
{
	if (slice_starts(line, SLICE("S: ")) || slice_eq(line, SLICE("S:"))) {
		put(&p->server, slice_skip(line, 3));
		put(&p->server, SLICE("\r\n"));
		return true;
	}
	if (slice_starts(line, SLICE("S| "))) {
		unescape(p, slice_skip(line, 3));
		return true;
	}
	if (slice_starts(line, SLICE("S* "))) {
		struct slice rest = slice_skip(line, 3);
		struct slice word;
		(void)slice_word(&rest, " ", &word);
		for (uint32_t n = number(p, word); n > 0; n--) {
			put(&p->server, slice_skip(rest, 1));
			put(&p->server, SLICE("\r\n"));
		}
		return true;
	}
	return false;
}

static void play_line(struct player *p, struct slice line)
{
	struct slice rest = line;
	struct slice word;

	if (play_speech(p, line)) {
		return;
	}
	if (slice_starts(line, SLICE("C: "))) {
		deliver(p);
		expect_line(p, slice_skip(line, 3));
		return;
	}
	(void)slice_word(&rest, " ", &word);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (slice_eq(word, commands[i].name)) {
			if (!commands[i].keeps_quiet) {
				deliver(p);
			}
			commands[i].play(p, slice_skip(rest, 1));
			return;
		}
	}
	complain(p, "what is \"%.*s\"?", SLICE_ARG(word));
}

static void check_end(struct player *p)
{
	deliver(p);
	play_none(p, SLICE_EMPTY);
	if (p->is_closed && !p->closed_seen) {
		complain(p, "closed at the end, and nobody looked");
	}
	if (p->is_failed && !p->failed_seen) {
		complain(p, "failed, and nobody looked: %.200s", p->failure_text);
	}
	for (size_t i = 0; i < JOBS_MAX; i++) {
		const struct script_job *sj = &p->jobs[i];
		if (sj->job == NULL) {
			continue;
		}
		if (sj->is_taken && p->is_closed) {
			complain(p, "job %zu was lost", i);
		}
		for (uint32_t r = 0; sj->is_done && r < sj->job->rcpt_count; r++) {
			if (!sj->wanted[r]) {
				complain(p, "nobody looked at %zu.%u", i, r + 1);
			}
		}
	}
}

/* Plays a script once; returns the longest run of the server's bytes, 0 when only whole. */
static size_t play(const struct script *script, size_t piece, char *why, size_t why_size)
{
	struct player *p = alloc_zero(1, sizeof(*p));
	size_t longest;

	p->script = script;
	p->piece = piece;
	p->now_ms = 1000000;
	p->level = TLS_NONE;
	p->settings = (struct settings){
		.helo_name = "relay.example",
		.pipeline_next = true,
		.limit_ms = {[WAIT_CONNECT] = 30000,
			[WAIT_HELO] = 300000,
			[WAIT_STARTTLS] = 300000,
			[WAIT_MAIL] = 300000,
			[WAIT_RCPT] = 300000,
			[WAIT_DATA_INIT] = 120000,
			[WAIT_DATA_XFER] = 180000,
			[WAIT_DATA_DONE] = 600000,
			[WAIT_RSET] = 20000,
			[WAIT_QUIT] = 10000,
			[WAIT_IDLE] = 2000,
			[WAIT_REUSE] = 300000},
	};
	buf_init(&p->scratch, 1u << 20);
	buf_init(&p->said, 1u << 24);
	buf_init(&p->server, 1u << 22);
	job_pool_init(&p->pool);
	p->session = session_new(&owner, p, &p->settings, &p->scratch);
	for (size_t i = 0; i < script->count && !p->failed; i++) {
		p->line = script->lines[i].number;
		play_line(p, slice_from_cstr(script->lines[i].text));
	}
	if (!p->failed) {
		check_end(p);
	}
	(void)snprintf(why, why_size, "%s", p->failed ? p->why : "");
	longest = p->whole_only ? 0 : p->longest;
	session_free(&p->session);
	for (size_t i = 0; i < JOBS_MAX; i++) {
		if (p->jobs[i].job != NULL) {
			fd_close(&p->jobs[i].job->fd);
			buf_clear(&p->jobs[i].content);
			job_free(&p->pool, &p->jobs[i].job);
		}
	}
	job_pool_clear(&p->pool);
	buf_clear(&p->scratch);
	buf_clear(&p->said);
	buf_clear(&p->server);
	free(p);
	return longest;
}

static bool play_in_every_chunking(const struct script *script)
{
	char why[600];
	size_t longest = play(script, SIZE_MAX, why, sizeof(why));

	for (size_t piece = 1; why[0] == '\0' && piece < longest; piece++) {
		(void)play(script, piece, why, sizeof(why));
		if (piece > 70) {
			piece += piece / 2;
		}
	}
	if (why[0] != '\0') {
		printf("not ok %s: %s: %s\n", script->file, script->title, why);
		return false;
	}
	printf("ok %s: %s\n", script->file, script->title);
	return true;
}

/* ---- files ---- */

static void script_clear(struct script *s)
{
	for (size_t i = 0; i < s->count; i++) {
		free(s->lines[i].text);
	}
	s->count = 0;
}

static int play_file(const char *path, const char *name, const char *only)
{
	FILE *f = fopen(path, "re");
	struct script *s = alloc_zero(1, sizeof(*s));
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	unsigned at = 0;
	int bad = 0;

	if (f == NULL) {
		printf("not ok %s: cannot be read\n", path);
		free(s);
		return 1;
	}
	s->file = name;
	while ((n = getline(&line, &size, f)) >= 0 || s->title[0] != '\0') {
		bool is_end = n < 0;
		at++;
		if (!is_end && n > 0 && line[n - 1] == '\n') {
			line[n - 1] = '\0';
		}
		if (is_end || strncmp(line, "== ", 3) == 0) {
			if (s->title[0] != '\0' &&
				(only == NULL || strstr(s->title, only) != NULL)) {
				bad += play_in_every_chunking(s) ? 0 : 1;
			}
			script_clear(s);
			if (is_end) {
				break;
			}
			(void)snprintf(s->title, sizeof(s->title), "%s", line + 3);
		} else if (line[0] != '#' && line[0] != '\0') {
			if (s->count == LINES_MAX) {
				abort();
			}
			s->lines[s->count].text = alloc_cstr(line);
			s->lines[s->count].number = at;
			s->count++;
		}
	}
	free(line);
	script_clear(s);
	free(s);
	(void)fclose(f);
	return bad;
}

static int is_script(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 4 && strcmp(d->d_name + n - 4, ".dlg") == 0;
}

int main(int argc, char **argv)
{
	static const char folder[] = "tests/dialog/smtp-out";
	struct dirent **found = NULL;
	int n = scandir(folder, &found, is_script, alphasort);
	int bad = 0;

	if (n <= 0) {
		printf("not ok no scripts in %s\n", folder);
		return 1;
	}
	for (int i = 0; i < n; i++) {
		char path[512];
		(void)snprintf(path, sizeof(path), "%s/%s", folder, found[i]->d_name);
		bad += play_file(path, found[i]->d_name, argc > 1 ? argv[1] : NULL);
		free(found[i]);
	}
	free(found);
	return bad == 0 ? 0 : 1;
}
