/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/conf/lines.h"

void lines_init(struct lines *l, struct slice text)
{
	*l = (struct lines){.rest = text, .next = 1};
	/* Never reached: the joined line is part of the text. */
	buf_init(&l->joined, text.n + 1);
}

void lines_clear(struct lines *l)
{
	buf_clear(&l->joined);
}

static struct slice trim_end(struct slice s)
{
	while (s.n != 0 &&
		(s.p[s.n - 1] == ' ' || (s.p[s.n - 1] >= '\t' && s.p[s.n - 1] <= '\r'))) {
		s.n--;
	}
	return s;
}

static bool is_continuation(struct slice s)
{
	return s.n != 0 && (s.p[0] == ' ' || s.p[0] == '\t');
}

/* The next line that is neither empty nor a comment. */
static bool next_physical(struct slice *rest, unsigned *next, struct slice *line,
	unsigned *number)
{
	struct slice part;

	while (slice_cut(rest, '\n', &part)) {
		*number = (*next)++;
		*line = trim_end(part);
		struct slice text = slice_trim(*line);
		if (text.n != 0 && text.p[0] != '#') {
			return true;
		}
	}
	return false;
}

bool lines_next(struct lines *l, struct slice *line, unsigned *number)
{
	struct slice more;
	bool is_joined = false;

	do {
		if (!next_physical(&l->rest, &l->next, line, number)) {
			return false;
		}
		if (is_continuation(*line) && l->orphan == 0) {
			l->orphan = *number;
		}
	} while (is_continuation(*line));

	for (;;) {
		struct slice rest = l->rest;
		unsigned next = l->next;
		unsigned ignored;

		if (!next_physical(&rest, &next, &more, &ignored) || !is_continuation(more)) {
			return true;
		}
		l->rest = rest;
		l->next = next;
		if (!is_joined) {
			buf_reset(&l->joined);
			is_joined = buf_append(&l->joined, *line) == ERR_OK;
		}
		/* The line end counts as a blank of its own only where there would be none. */
		if (buf_append(&l->joined, more) != ERR_OK) {
			return true;
		}
		*line = buf_view(&l->joined);
	}
}

static bool is_among(uint8_t c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

bool lines_word(struct slice *rest, const char *separators, struct slice *word)
{
	size_t n = 0;
	size_t level = 0;

	while (rest->n != 0 && is_among(rest->p[0], separators)) {
		*rest = slice_skip(*rest, 1);
	}
	while (n < rest->n && (level != 0 || !is_among(rest->p[n], separators))) {
		if (rest->p[n] == '{') {
			level++;
		} else if (rest->p[n] == '}' && level != 0) {
			level--;
		}
		n++;
	}
	*word = slice_head(*rest, n);
	*rest = slice_skip(*rest, n);
	return n != 0;
}
