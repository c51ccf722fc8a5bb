/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf/expand.h"
#include "common/base/num.h"
#include "common/conf/why.h"

#define DEPTH_MAX 40u
/* Names that refer to names can double at every step; this ends it. */
#define STEPS_MAX 20000u

/* The functions below call one another as deep as names and braces are nested, which DEPTH_MAX
 * bounds. */
/* NOLINTBEGIN(misc-no-recursion) */

struct run {
	const struct expand_source *from;
	struct buf *why;
	unsigned steps;
};

/* What is being expanded at the moment, from the inside out. */
struct frame {
	const struct frame *up;
	struct slice name; /* empty: a branch of a ${...} form */
	unsigned depth;
};

static enum err expand_in(struct run *r, const struct frame *up, struct slice text,
	struct buf *out);

static bool is_name_byte(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_';
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct slice skip_blanks(struct slice s)
{
	while (s.n != 0 && is_blank(s.p[0])) {
		s = slice_skip(s, 1);
	}
	return s;
}

/* Takes the name that s begins with, which may be empty. */
static struct slice take_name(struct slice *s)
{
	size_t n = 0;

	while (n < s->n && is_name_byte(s->p[n])) {
		n++;
	}
	struct slice name = slice_head(*s, n);
	*s = slice_skip(*s, n);
	return name;
}

/* s begins with open: takes all up to the close that belongs to it, and returns what is
 * between. */
static bool take_group(struct slice *s, uint8_t open, uint8_t close, struct slice *inner)
{
	size_t level = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (s->p[i] == open) {
			level++;
		} else if (s->p[i] == close && --level == 0) {
			*inner = slice_skip(slice_head(*s, i), 1);
			*s = slice_skip(*s, i + 1);
			return true;
		}
	}
	return false;
}

static enum err complain(const struct run *r, const char *what, struct slice at)
{
	why_add(r->why, "%s at \"%.*s\"", what, SLICE_ARG(slice_head(at, 60)));
	return ERR_SYNTAX;
}

/* The text of a name, expanded. */
static enum err expand_name(struct run *r, const struct frame *up, struct slice name,
	struct buf *out)
{
	struct frame here = {.up = up, .name = name, .depth = up == NULL ? 1 : up->depth + 1};
	struct slice raw;

	for (const struct frame *f = up; f != NULL; f = f->up) {
		if (f->name.n != 0 && slice_eq(f->name, name)) {
			why_add(r->why, "$%.*s refers to itself",
				SLICE_ARG(slice_head(name, 60)));
			return ERR_SYNTAX;
		}
	}
	if (!r->from->find(r->from->arg, name, &raw)) {
		return ERR_OK;
	}
	return expand_in(r, &here, raw, out);
}

/* A text of its own: an operand, or a value of which only the emptiness counts. */
static enum err expand_apart(struct run *r, const struct frame *up, struct slice text,
	bool is_name, struct buf *out)
{
	struct frame here = {.up = up, .depth = up == NULL ? 1 : up->depth + 1};

	buf_init(out, 65536);
	return is_name ? expand_name(r, up, text, out) : expand_in(r, &here, text, out);
}

/*
 * What follows the '?' or ':' of a form: "text" to the end, or "{text}", and behind a '?' also
 * ":text" or ":{text}" for the other case.
 */
static enum err take_branches(const struct run *r, struct slice rest, bool may_have_other,
	struct slice *one, struct slice *other)
{
	struct slice s = skip_blanks(rest);
	struct slice all = rest;

	*other = SLICE_EMPTY;
	if (s.n == 0 || s.p[0] != '{') {
		*one = rest;
		return ERR_OK;
	}
	if (!take_group(&s, '{', '}', one)) {
		return complain(r, "missing }", all);
	}
	s = skip_blanks(s);
	if (s.n == 0) {
		return ERR_OK;
	}
	if (s.p[0] != ':' || !may_have_other) {
		return complain(r, may_have_other ? "expected a colon" : "nothing may follow",
			s);
	}
	rest = slice_skip(s, 1);
	s = skip_blanks(rest);
	if (s.n == 0 || s.p[0] != '{') {
		*other = rest;
		return ERR_OK;
	}
	if (!take_group(&s, '{', '}', other)) {
		return complain(r, "missing }", all);
	}
	s = skip_blanks(s);
	return s.n == 0 ? ERR_OK : complain(r, "nothing may follow", s);
}

enum relation {
	IS_EQUAL,
	IS_UNEQUAL,
	IS_LESS,
	IS_LESS_EQUAL,
	IS_MORE,
	IS_MORE_EQUAL
};

static bool take_relation(struct slice *s, enum relation *out)
{
	static const struct {
		struct slice text;
		enum relation relation;
	} words[] = {
		{SLICE_INIT("=="), IS_EQUAL},
		{SLICE_INIT("!="), IS_UNEQUAL},
		{SLICE_INIT("<="), IS_LESS_EQUAL},
		{SLICE_INIT("<"), IS_LESS},
		{SLICE_INIT(">="), IS_MORE_EQUAL},
		{SLICE_INIT(">"), IS_MORE},
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (slice_starts(*s, words[i].text)) {
			*s = slice_skip(*s, words[i].text.n);
			*out = words[i].relation;
			return true;
		}
	}
	return false;
}

static bool holds(enum relation relation, int order)
{
	switch (relation) {
	case IS_EQUAL:
		return order == 0;
	case IS_UNEQUAL:
		return order != 0;
	case IS_LESS:
		return order < 0;
	case IS_LESS_EQUAL:
		return order <= 0;
	case IS_MORE:
		return order > 0;
	case IS_MORE_EQUAL:
		return order >= 0;
	}
	return false;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* "3.6": up to three numbers; what is missing is 0. */
static enum err level_parse(struct slice s, uint64_t level[3])
{
	struct slice rest = slice_trim(s);
	struct slice part;
	size_t n = 0;

	level[0] = level[1] = level[2] = 0;
	while (slice_cut(&rest, '.', &part)) {
		if (n == 3 || num_parse_u64(part, UINT32_MAX, &level[n]) != ERR_OK) {
			return ERR_SYNTAX;
		}
		n++;
	}
	return n == 0 ? ERR_SYNTAX : ERR_OK;
}

static enum err compare(const struct run *r, struct slice a, struct slice b, bool by_level,
	int *order)
{
	uint64_t x = 0;
	uint64_t y = 0;
	uint64_t left[3];
	uint64_t right[3];

	if (by_level) {
		if (level_parse(a, left) != ERR_OK) {
			return complain(r, "not a compatibility level", a);
		}
		if (level_parse(b, right) != ERR_OK) {
			return complain(r, "not a compatibility level", b);
		}
		*order = 0;
		for (size_t i = 0; i < 3 && *order == 0; i++) {
			*order = compare_numbers(left[i], right[i]);
		}
		return ERR_OK;
	}
	if (num_parse_u64(a, UINT64_MAX, &x) == ERR_OK &&
		num_parse_u64(b, UINT64_MAX, &y) == ERR_OK) {
		*order = compare_numbers(x, y);
	} else {
		*order = slice_cmp(a, b);
	}
	return ERR_OK;
}

/* The content of ${{a} == {b} ? {one} : {other}}. */
static enum err expand_comparison(struct run *r, const struct frame *up, struct slice content,
	struct buf *out)
{
	struct frame here = {.up = up, .depth = up == NULL ? 1 : up->depth + 1};
	struct slice rest = content;
	struct slice sides[2];
	struct slice one = SLICE_INIT("true");
	struct slice other = SLICE_EMPTY;
	struct buf left;
	struct buf right;
	enum relation relation = IS_EQUAL;
	int order = 0;
	enum err e;

	if (!take_group(&rest, '{', '}', &sides[0])) {
		return complain(r, "missing }", content);
	}
	rest = skip_blanks(rest);
	struct slice at = rest;
	if (!take_relation(&rest, &relation)) {
		return complain(r, "expected == != < <= > or >=", at);
	}
	bool by_level = slice_starts(rest, SLICE("level"));
	if (by_level) {
		rest = slice_skip(rest, 5);
	}
	rest = skip_blanks(rest);
	if (rest.n == 0 || rest.p[0] != '{' || !take_group(&rest, '{', '}', &sides[1])) {
		return complain(r, "expected {text}", at);
	}
	rest = skip_blanks(rest);
	if (rest.n != 0) {
		bool is_then = rest.p[0] == '?';
		if (!is_then && rest.p[0] != ':') {
			return complain(r, "expected ? or :", rest);
		}
		struct slice first = SLICE_EMPTY;
		struct slice second = SLICE_EMPTY;
		e = take_branches(r, slice_skip(rest, 1), is_then, &first, &second);
		if (e != ERR_OK) {
			return e;
		}
		one = is_then ? first : SLICE_EMPTY;
		other = is_then ? second : first;
	}

	buf_init(&right, 0);
	e = expand_apart(r, up, sides[0], false, &left);
	if (e == ERR_OK) {
		e = expand_apart(r, up, sides[1], false, &right);
	}
	if (e == ERR_OK) {
		e = compare(r, buf_view(&left), buf_view(&right), by_level, &order);
	}
	if (e == ERR_OK) {
		e = expand_in(r, &here, holds(relation, order) ? one : other, out);
	}
	buf_clear(&left);
	buf_clear(&right);
	return e;
}

/* What stands between the braces of ${...}. */
static enum err expand_braces(struct run *r, const struct frame *up, struct slice content,
	struct buf *out)
{
	struct frame here = {.up = up, .depth = up == NULL ? 1 : up->depth + 1};
	struct slice rest = skip_blanks(content);
	struct slice one = SLICE_EMPTY;
	struct slice other = SLICE_EMPTY;
	struct buf value;

	if (rest.n != 0 && rest.p[0] == '{') {
		return expand_comparison(r, up, rest, out);
	}
	struct slice name = take_name(&rest);
	if (name.n == 0) {
		return complain(r, "expected a name", content);
	}
	rest = skip_blanks(rest);
	if (rest.n == 0) {
		return expand_name(r, up, name, out);
	}
	bool is_then = rest.p[0] == '?';
	if (!is_then && rest.p[0] != ':') {
		return complain(r, "expected ? or : behind the name", rest);
	}
	enum err e = take_branches(r, slice_skip(rest, 1), is_then, &one, &other);
	if (e != ERR_OK) {
		return e;
	}
	e = expand_apart(r, up, name, true, &value);
	if (e == ERR_OK) {
		bool use_one = (buf_len(&value) != 0) == is_then;
		e = expand_in(r, &here, use_one ? one : other, out);
	}
	buf_clear(&value);
	return e;
}

static enum err expand_in(struct run *r, const struct frame *up, struct slice text,
	struct buf *out)
{
	struct slice rest = text;
	struct slice inner;
	enum err e = ERR_OK;

	if ((up != NULL && up->depth > DEPTH_MAX) || ++r->steps > STEPS_MAX) {
		why_add(r->why, "names refer to names too often");
		return ERR_SYNTAX;
	}
	while (e == ERR_OK && rest.n != 0) {
		size_t n = slice_find(rest, '$');
		e = buf_append(out, slice_head(rest, n));
		rest = slice_skip(rest, n);
		if (e != ERR_OK || rest.n == 0) {
			break;
		}
		struct slice at = rest;
		rest = slice_skip(rest, 1);
		if (rest.n != 0 && rest.p[0] == '$') {
			rest = slice_skip(rest, 1);
			e = buf_append_byte(out, '$');
		} else if (rest.n != 0 && rest.p[0] == '{') {
			e = take_group(&rest, '{', '}', &inner)
				    ? expand_braces(r, up, inner, out)
				    : complain(r, "missing }", at);
		} else if (rest.n != 0 && rest.p[0] == '(') {
			e = take_group(&rest, '(', ')', &inner)
				    ? expand_braces(r, up, inner, out)
				    : complain(r, "missing )", at);
		} else {
			struct slice name = take_name(&rest);
			e = name.n == 0 ? complain(r, "a lone $ (a dollar is written $$)", at)
					: expand_name(r, up, name, out);
		}
	}
	if (e == ERR_TOOBIG && buf_len(r->why) == 0) {
		why_add(r->why, "too long when expanded");
	}
	return e;
}

/* NOLINTEND(misc-no-recursion) */

enum err expand_text(struct slice text, const struct expand_source *from, struct buf *out,
	struct buf *why)
{
	struct run r = {.from = from, .why = why};

	return expand_in(&r, NULL, text, out);
}

void expand_references(struct slice text, void (*on_name)(void *arg, struct slice name),
	void *arg)
{
	struct slice rest = text;

	for (;;) {
		rest = slice_skip(rest, slice_find(rest, '$'));
		if (rest.n == 0) {
			return;
		}
		rest = slice_skip(rest, 1);
		if (rest.n != 0 && rest.p[0] == '$') {
			rest = slice_skip(rest, 1);
			continue;
		}
		if (rest.n != 0 && (rest.p[0] == '{' || rest.p[0] == '(')) {
			rest = skip_blanks(slice_skip(rest, 1));
		}
		struct slice name = take_name(&rest);
		if (name.n != 0) {
			on_name(arg, name);
		}
	}
}
