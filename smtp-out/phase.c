/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/phase.h"

#include <assert.h>

#include "common/base/attr.h"

static const struct {
	const char *name;
	enum smtp_stage stage;
	enum time_limit limit;
} rows[] = {
	[PHASE_GREETING] = {"the greeting", STAGE_GREETING, WAIT_HELO},
	[PHASE_EHLO] = {"EHLO", STAGE_EHLO, WAIT_HELO},
	[PHASE_HELO] = {"HELO", STAGE_EHLO, WAIT_HELO},
	[PHASE_STARTTLS] = {"STARTTLS", STAGE_STARTTLS, WAIT_STARTTLS},
	[PHASE_HANDSHAKE] = {"the TLS handshake", STAGE_STARTTLS, WAIT_STARTTLS},
	[PHASE_RSET] = {"RSET", STAGE_RSET, WAIT_RSET},
	[PHASE_MAIL] = {"MAIL", STAGE_MAIL, WAIT_MAIL},
	[PHASE_RCPT] = {"RCPT", STAGE_RCPT, WAIT_RCPT},
	[PHASE_DATA] = {"DATA", STAGE_DATA, WAIT_DATA_INIT},
	[PHASE_DOT] = {"the end of data", STAGE_END_OF_DATA, WAIT_DATA_DONE},
};
static_assert(ARRAY_LEN(rows) == PHASE_COUNT, "a phase without a row");

const char *phase_name(enum phase p)
{
	return rows[p].name;
}

enum smtp_stage phase_stage(enum phase p)
{
	return rows[p].stage;
}

enum time_limit phase_time_limit(enum phase p)
{
	return rows[p].limit;
}
