/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mail/verdict.h"

#include <assert.h>

#include "common/base/attr.h"
#include "common/base/str.h"

static const char *const kind_names[] = {
	[VERDICT_DONE] = "delivered",
	[VERDICT_LATER] = "deferred",
	[VERDICT_NEVER] = "failed",
};
static_assert(ARRAY_LEN(kind_names) == VERDICT_NEVER + 1, "a kind without a name");

static const char *const stage_names[] = {
	[STAGE_NONE] = "none",
	[STAGE_DNS] = "dns",
	[STAGE_CONNECT] = "connect",
	[STAGE_GREETING] = "greeting",
	[STAGE_EHLO] = "ehlo",
	[STAGE_STARTTLS] = "starttls",
	[STAGE_AUTH] = "auth",
	[STAGE_MAIL] = "mail",
	[STAGE_RCPT] = "rcpt",
	[STAGE_DATA] = "data",
	[STAGE_CONTENT] = "content",
	[STAGE_END_OF_DATA] = "end_of_data",
	[STAGE_RSET] = "rset",
	[STAGE_QUIT] = "quit",
	[STAGE_EXPIRED] = "expired",
	[STAGE_OPERATOR] = "operator",
	[STAGE_CANCELLED] = "cancelled",
	[STAGE_LOCAL] = "local",
};
static_assert(ARRAY_LEN(stage_names) == STAGE_COUNT, "a stage without a name");

/* Takes ".NNN" off *s: a dot and one to three digits. */
static bool take_number(struct slice *s, uint16_t *out)
{
	unsigned value = 0;
	size_t digits = 0;

	if (s->n == 0 || s->p[0] != '.') {
		return false;
	}
	*s = slice_skip(*s, 1);
	while (digits < s->n && s->p[digits] >= '0' && s->p[digits] <= '9') {
		if (digits == 3) {
			return false;
		}
		value = value * 10 + (unsigned)(s->p[digits] - '0');
		digits++;
	}
	*s = slice_skip(*s, digits);
	*out = (uint16_t)value;
	return digits > 0;
}

bool enhanced_parse(struct slice s, struct enhanced_code *out, struct slice *rest)
{
	struct enhanced_code code = {0};

	if (s.n == 0 || (s.p[0] != '2' && s.p[0] != '4' && s.p[0] != '5')) {
		return false;
	}
	code.class = (uint8_t)(s.p[0] - '0');
	s = slice_skip(s, 1);
	if (!take_number(&s, &code.subject) || !take_number(&s, &code.detail)) {
		return false;
	}
	if (s.n != 0 && s.p[0] != ' ') {
		return false;
	}
	*out = code;
	if (rest != NULL) {
		while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
			s = slice_skip(s, 1);
		}
		*rest = s;
	}
	return true;
}

void enhanced_format(struct enhanced_code code, char to[ENHANCED_TEXT_MAX])
{
	/* 3 + 1 + 5 + 1 + 5 digits at the very most. */
	enum err e = str_format(to, ENHANCED_TEXT_MAX, "%u.%u.%u", (unsigned)code.class,
		(unsigned)code.subject, (unsigned)code.detail);

	assert(e == ERR_OK);
}

const char *verdict_kind_name(enum verdict_kind kind)
{
	return (unsigned)kind < ARRAY_LEN(kind_names) ? kind_names[kind] : "unknown";
}

const char *smtp_stage_name(enum smtp_stage stage)
{
	return (unsigned)stage < ARRAY_LEN(stage_names) ? stage_names[stage] : "unknown";
}
