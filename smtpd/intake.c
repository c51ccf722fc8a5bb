/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "smtpd/intake.h"

/* Bytes looked at together, and how much is edited in one go. */
#define BLOCK ((size_t)64)
#define PIECE ((size_t)64 * 1024)

void intake_init(struct intake *in)
{
	*in = (struct intake){.place = INTAKE_LINE};
}

/* One piece on its way. */
struct pass {
	struct intake *in;
	const struct intake_sink *to;
	struct slice bytes;
	size_t from; /* what stands before has been passed on */
	size_t dot;  /* where the dot of INTAKE_DOT stands; bytes.n: in an earlier piece */
};

static void put(struct pass *p, struct slice s)
{
	p->in->size += s.n;
	if (p->in->is_discarding || s.n == 0) {
		return;
	}
	enum err e = buf_append(p->to->edited, s);
	assert(e == ERR_OK); /* at most three bytes come of one */
}

/* Passes on what stands before until, then text in place of the bytes up to next. */
static void edit(struct pass *p, size_t until, struct slice text, size_t next)
{
	if (until > p->from) {
		put(p, slice_make(p->bytes.p + p->from, until - p->from));
	}
	put(p, text);
	p->from = next;
}

/* Where the text before a waiting dot ends. */
static size_t before_dot(const struct pass *p)
{
	return p->dot < p->bytes.n ? p->dot : p->from;
}

/* The rest of the piece: as it is when nothing was edited. */
static void finish(struct pass *p, size_t until)
{
	struct intake *in = p->in;
	struct slice rest = {p->bytes.p + p->from, until - p->from};

	if (buf_len(p->to->edited) != 0) {
		put(p, rest);
		rest = buf_view(p->to->edited);
	} else {
		in->size += rest.n;
	}
	if (!in->is_discarding && rest.n != 0) {
		p->to->content(p->to->arg, rest);
	}
	buf_reset(p->to->edited);
}

/*
 * Whether BLOCK bytes, and the step to the one behind them, are plain text: no NUL, every CR
 * before an LF and every LF behind a CR, no dot at the beginning of a line. Written so that
 * the compiler makes vector code of it.
 */
static bool block_is_plain(const uint8_t *p, bool *has_8bit)
{
	uint8_t odd = 0;
	uint8_t all = 0;

	for (size_t i = 0; i < BLOCK; i++) {
		uint8_t c = p[i];
		uint8_t next = p[i + 1];
		uint8_t cr = c == '\r';
		uint8_t lf = next == '\n';
		uint8_t dot = (uint8_t)((c == '\n') & (next == '.'));
		uint8_t nul = c == 0;
		odd = (uint8_t)(odd | (cr ^ lf) | dot | nul);
		all = (uint8_t)(all | c);
	}
	*has_8bit = *has_8bit || (odd == 0 && (all & 0x80) != 0);
	return odd == 0;
}

/* Goes over plain text from i on; returns where something has to be looked at. */
static size_t skip_plain(struct pass *p, size_t i)
{
	struct intake *in = p->in;
	const uint8_t *b = p->bytes.p;
	size_t start = i;

	if ((in->place != INTAKE_MIDDLE && (in->place != INTAKE_LINE || b[i] == '.')) ||
		b[i] == '\n') {
		return i;
	}
	while (p->bytes.n - i > BLOCK && block_is_plain(b + i, &in->has_8bit)) {
		i += BLOCK;
	}
	if (i != start) {
		uint8_t last = b[i - 1];
		in->place = last == '\r'   ? INTAKE_CR
			    : last == '\n' ? INTAKE_LINE
					   : INTAKE_MIDDLE;
	}
	return i;
}

/* A byte in the middle of a line, or at the beginning of one and no dot. */
static void on_text(struct pass *p, size_t i, uint8_t c)
{
	struct intake *in = p->in;

	if (c == '\r') {
		in->place = INTAKE_CR;
	} else if (c == '\n') {
		in->has_bare = true;
		edit(p, i, SLICE("\r\n"), i + 1);
		in->place = INTAKE_BARE_LINE;
	} else {
		in->place = INTAKE_MIDDLE;
	}
}

/* At the beginning of a line whose beginning is not CR LF. */
static void on_bare_line(struct pass *p, size_t i, uint8_t c)
{
	if (c == '.') {
		edit(p, i, SLICE(".."), i + 1);
		p->in->size--;
		p->in->place = INTAKE_BARE_DOT;
	} else {
		on_text(p, i, c);
	}
}

/* The byte behind a dot at the beginning of a line. */
static void on_dot(struct pass *p, size_t i, uint8_t c)
{
	struct intake *in = p->in;

	switch (c) {
	case '.':
		if (p->dot == p->bytes.n) {
			edit(p, p->from, SLICE("."), p->from);
		}
		in->size--;
		in->place = INTAKE_MIDDLE;
		break;
	case '\r':
		in->place = INTAKE_DOT_CR;
		break;
	case '\n': /* a line of one dot, wrongly ended: text */
		in->has_bare = true;
		edit(p, before_dot(p), SLICE("..\r\n"), i + 1);
		in->size--;
		in->place = INTAKE_BARE_LINE;
		break;
	default: /* RFC 5321 section 4.5.2: the dot is dropped */
		edit(p, before_dot(p), SLICE_EMPTY, i);
		in->place = INTAKE_MIDDLE;
		break;
	}
}

static void on_byte(struct pass *p, size_t i)
{
	struct intake *in = p->in;
	uint8_t c = p->bytes.p[i];

	in->has_nul = in->has_nul || c == 0;
	in->has_8bit = in->has_8bit || c >= 0x80;
	switch (in->place) {
	case INTAKE_LINE:
		if (c == '.') {
			p->dot = i;
			in->place = INTAKE_DOT;
		} else {
			on_text(p, i, c);
		}
		break;
	case INTAKE_DOT:
		on_dot(p, i, c);
		break;
	case INTAKE_DOT_CR:
		if (c == '\n') {
			in->place = INTAKE_ENDED;
			break;
		}
		/* A line of one dot and a lone CR: text as well. */
		in->has_bare = true;
		edit(p, before_dot(p), SLICE("..\r\n"), i);
		in->size--;
		on_bare_line(p, i, c);
		break;
	case INTAKE_MIDDLE:
		on_text(p, i, c);
		break;
	case INTAKE_CR:
		if (c == '\n') {
			in->place = INTAKE_LINE;
			break;
		}
		in->has_bare = true;
		edit(p, i, SLICE("\n"), i);
		on_bare_line(p, i, c);
		break;
	case INTAKE_BARE_LINE:
		on_bare_line(p, i, c);
		break;
	case INTAKE_BARE_DOT:
		if (c == '.') {
			edit(p, i, SLICE_EMPTY, i + 1);
			in->place = INTAKE_MIDDLE;
		} else {
			on_text(p, i, c);
		}
		break;
	case INTAKE_ENDED:
		break;
	}
}

/* One piece; returns how much of it was taken. */
static size_t feed_piece(struct intake *in, struct slice bytes, const struct intake_sink *to)
{
	struct pass p = {.in = in, .to = to, .bytes = bytes, .dot = bytes.n};
	size_t i = 0;

	while (i < bytes.n && in->place != INTAKE_ENDED) {
		i = skip_plain(&p, i);
		/* The rest of a block that is not plain, byte by byte. */
		for (size_t n = 0; n < BLOCK && i < bytes.n && in->place != INTAKE_ENDED; n++) {
			on_byte(&p, i++);
		}
	}
	/* The dot of the end does not belong to the content; another waits for its successor.
	 */
	bool has_dot = in->place == INTAKE_DOT || in->place == INTAKE_DOT_CR ||
		       in->place == INTAKE_ENDED;
	finish(&p, has_dot ? before_dot(&p) : i);
	return i;
}

size_t intake_feed(struct intake *in, struct slice bytes, const struct intake_sink *to)
{
	size_t used = 0;

	while (used < bytes.n && in->place != INTAKE_ENDED) {
		used += feed_piece(in, slice_head(slice_skip(bytes, used), PIECE), to);
	}
	return used;
}
