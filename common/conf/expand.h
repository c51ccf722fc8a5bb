/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expand: the $name and ${...} forms of Postfix's main.cf and master.cf.
 *
 * $name, $(name), ${name}; ${name?text} when name is not empty, ${name:text} when it is, both
 * also with the text in braces, and ${name?{one}:{other}}; ${{a} == {b} ? {one} : {other}} with
 * == != < <= > >= (numbers when both sides are all digits) and with "level" behind the operator
 * (compatibility levels, part by part); $$ is a dollar. Blanks inside braces count, as they do
 * there. Work, depth and size are bounded.
 */
#ifndef COMMON_CONF_EXPAND_H
#define COMMON_CONF_EXPAND_H

#include <stdbool.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/slice.h"

/* Where names get their text. */
struct expand_source {
	/* The text of name, not expanded; false: nothing sets it (it is then empty). */
	bool (*find)(const void *arg, struct slice name, struct slice *raw);
	const void *arg;
};

/* Appends text, expanded. ERR_SYNTAX (a loop too), ERR_TOOBIG: why says what is wrong; what was
 * appended stays. */
MUST_CHECK enum err expand_text(struct slice text, const struct expand_source *from,
	struct buf *out, struct buf *why);

/* Calls on_name for every name that text refers to, in every branch, but not what their texts
 * refer to. */
void expand_references(struct slice text, void (*on_name)(void *arg, struct slice name),
	void *arg);

#endif
