/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"
#include "common/conf/problems.h"

static void make_printable(char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f) {
			*text = '?';
		}
	}
}

void problems_add(struct conf_source *s, bool fatal, const char *file, unsigned line,
	const char *format, ...)
{
	char text[LIMIT_TEXT];
	va_list args;

	s->has_fatal = s->has_fatal || fatal;
	if (s->problem_count > PROBLEMS_MAX) {
		return;
	}
	if (s->problem_count == PROBLEMS_MAX) {
		(void)snprintf(text, sizeof(text), "there are more problems than these");
	} else {
		va_start(args, format);
		(void)vsnprintf(text, sizeof(text), format, args);
		va_end(args);
	}
	make_printable(text);
	s->problems = alloc_resize(s->problems, s->problem_count + 1, sizeof(*s->problems));
	s->problems[s->problem_count++] = (struct conf_problem){.fatal = fatal,
		.file = alloc_cstr(file),
		.line = line,
		.text = alloc_cstr(text)};
}

void problems_clear(struct conf_source *s)
{
	for (size_t i = 0; i < s->problem_count; i++) {
		free(s->problems[i].file);
		free(s->problems[i].text);
	}
	ALLOC_FREE(s->problems);
	s->problem_count = 0;
}

void problems_put_json(struct json *j, const struct conf_problem *p)
{
	json_object(j);
	json_member_str(j, "level", p->fatal ? SLICE("error") : SLICE("warning"));
	json_member_str(j, "file", slice_from_cstr(p->file));
	json_member_u64(j, "line", p->line);
	json_member_str(j, "text", slice_from_cstr(p->text));
	json_object_end(j);
}
