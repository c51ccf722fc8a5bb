/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/attr.h"
#include "common/base/str.h"
#include "common/mail/address.h"
#include "smtpd/commands.h"
#include "smtpd/envelope_commands.h"

static bool has_controls(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < 0x20 || s.p[i] == 0x7f) {
			return true;
		}
	}
	return false;
}

/* ---- greeting ---- */

/* Kept as printable ASCII: it goes into Received and into logs. */
static bool keep_helo(struct session *s, struct slice name)
{
	name = slice_trim(name);
	if (!helo_is_valid(name)) {
		return false;
	}
	ALLOC_FREE(s->helo);
	s->helo = alloc_bytes(name.n + 1);
	str_printable(s->helo, name.n + 1, name);
	return true;
}

static struct answer on_ehlo(struct session *s, struct slice args)
{
	if (!keep_helo(s, args)) {
		return ANSWER("501 5.5.4 Syntax: EHLO hostname");
	}
	session_drop_tx(s);
	s->is_esmtp = true;
	return (struct answer){
		.text = s->tls != NULL ? s->settings->ehlo_tls : s->settings->ehlo};
}

static struct answer on_helo(struct session *s, struct slice args)
{
	if (!keep_helo(s, args)) {
		return ANSWER("501 5.5.4 Syntax: HELO hostname");
	}
	session_drop_tx(s);
	s->is_esmtp = false;
	return (struct answer){.text = s->settings->helo};
}

static struct answer on_starttls(struct session *s, struct slice args)
{
	if (s->tls != NULL) {
		return ANSWER("503 5.5.1 TLS is already active");
	}
	if (s->settings->tls == NULL) {
		return ANSWER("502 5.5.1 STARTTLS is not offered");
	}
	if (args.n != 0) {
		return ANSWER("501 5.5.4 Syntax: STARTTLS");
	}
	/* What was said in clear is forgotten when the handshake is done. */
	return ANSWER_WITH("220 2.0.0 Ready to start TLS", ANSWER_TLS);
}

/* ---- the rest ---- */

static struct answer on_data(struct session *s, struct slice args)
{
	(void)args;
	if (s->tx->accepted == 0) {
		return s->tx->has_refused ? ANSWER("554 5.5.1 No valid recipients")
					  : ANSWER("503 5.5.1 Need RCPT first");
	}
	struct answer a = envelope_check_store(s);
	if (a.text.n != 0) {
		return a;
	}
	session_begin_data(s);
	return ANSWER("354 End data with <CR><LF>.<CR><LF>");
}

static struct answer on_rset(struct session *s, struct slice args)
{
	(void)args;
	session_drop_tx(s);
	return ANSWER("250 2.0.0 Ok");
}

static struct answer on_noop(struct session *s, struct slice args)
{
	(void)s;
	(void)args;
	return ANSWER("250 2.0.0 Ok");
}

static struct answer on_quit(struct session *s, struct slice args)
{
	(void)args;
	session_drop_tx(s);
	s->has_quit = true;
	return ANSWER_WITH("221 2.0.0 Bye", ANSWER_CLOSE);
}

/* The same for everybody who exists and everybody who does not. */
static struct answer on_vrfy(struct session *s, struct slice args)
{
	if (!s->settings->has_vrfy) {
		return ANSWER("502 5.5.1 VRFY is disabled");
	}
	if (args.n == 0) {
		return ANSWER("501 5.5.4 Syntax: VRFY address");
	}
	return ANSWER("252 2.1.5 Send some mail, and we will try");
}

static struct answer on_help(struct session *s, struct slice args)
{
	(void)s;
	(void)args;
	return ANSWER("214 2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS");
}

static struct answer on_not_offered(struct session *s, struct slice args)
{
	(void)s;
	(void)args;
	return ANSWER("502 5.5.1 Command not implemented");
}

/* Another protocol's client, perhaps driven by a web page. */
static struct answer on_foreign(struct session *s, struct slice args)
{
	(void)args;
	session_log_reject(s, "foreign_protocol", SLICE("http"));
	return ANSWER_WITH("521 5.7.0 This is an SMTP server", ANSWER_CLOSE);
}

/* ---- the table ---- */

#define IN(phase) (1u << (phase))
#define IN_ANY (IN(PHASE_NEW) | IN(PHASE_READY) | IN(PHASE_MAIL) | IN(PHASE_RCPT))
#define IN_TX (IN(PHASE_MAIL) | IN(PHASE_RCPT))
#define OUTSIDE_TX (IN(PHASE_NEW) | IN(PHASE_READY))

enum {
	IS_JUNK = 1,  /* does nothing for a message: there may be so many */
	IS_LAST = 2,  /* ends a pipelined group (RFC 2920 section 3.1) */
	IN_CLEAR = 4, /* also where TLS is demanded */
	NO_ARGS = 8,  /* 501 when there are some */
	NO_REST = 16  /* nobody may send anything behind it */
};

static const struct command {
	struct slice verb;
	unsigned phases;
	unsigned flags;
	struct answer (*run)(struct session *s, struct slice args);
} commands[] = {
	{SLICE_INIT("MAIL"), OUTSIDE_TX, 0, envelope_mail},
	{SLICE_INIT("RCPT"), IN_TX, 0, envelope_rcpt},
	{SLICE_INIT("DATA"), IN_TX, IS_LAST | NO_ARGS, on_data},
	{SLICE_INIT("EHLO"), IN_ANY, IS_JUNK | IS_LAST | IN_CLEAR, on_ehlo},
	{SLICE_INIT("HELO"), IN_ANY, IS_JUNK | IS_LAST | IN_CLEAR, on_helo},
	{SLICE_INIT("RSET"), IN_ANY, IS_JUNK | IN_CLEAR | NO_ARGS, on_rset},
	{SLICE_INIT("NOOP"), IN_ANY, IS_JUNK | IN_CLEAR, on_noop},
	{SLICE_INIT("QUIT"), IN_ANY, IN_CLEAR | NO_ARGS, on_quit},
	{SLICE_INIT("STARTTLS"), OUTSIDE_TX, IN_CLEAR | NO_REST, on_starttls},
	{SLICE_INIT("VRFY"), IN_ANY, IS_JUNK, on_vrfy},
	{SLICE_INIT("HELP"), IN_ANY, IS_JUNK | IN_CLEAR, on_help},
	{SLICE_INIT("EXPN"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("ETRN"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("TURN"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("ATRN"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("SEND"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("SOML"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("SAML"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("AUTH"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("BDAT"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("BURL"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("XCLIENT"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("XFORWARD"), IN_ANY, 0, on_not_offered},
	{SLICE_INIT("GET"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("POST"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("PUT"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("HEAD"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("DELETE"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("PATCH"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("OPTIONS"), IN_ANY, IN_CLEAR, on_foreign},
	{SLICE_INIT("CONNECT"), IN_ANY, IN_CLEAR, on_foreign},
};

static const struct command *find(struct slice verb)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (slice_eq_nocase(verb, commands[i].verb)) {
			return &commands[i];
		}
	}
	return NULL;
}

static bool is_word(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = ascii_lower(s.p[i]);
		if ((c < 'a' || c > 'z') && (c < '0' || c > '9' || i == 0)) {
			return false;
		}
	}
	return s.n != 0;
}

static struct answer out_of_order(const struct session *s, const struct command *c)
{
	if (c->run == envelope_mail) {
		return ANSWER("503 5.5.1 A mail transaction is under way");
	}
	if (c->run == on_starttls) {
		return ANSWER("503 5.5.1 STARTTLS is not allowed in a mail transaction");
	}
	return s->helo == NULL && s->settings->needs_helo ? ANSWER("503 5.5.1 Send EHLO first")
							  : ANSWER("503 5.5.1 Need MAIL first");
}

/* Talking before one's turn (RFC 2920 section 3.1): how spam software and injected text do. */
static struct answer on_unauthorized_pipelining(struct session *s, struct slice verb)
{
	session_log_reject(s, "improper_pipelining", verb);
	return ANSWER_WITH("503 5.5.0 Improper command pipelining", ANSWER_CLOSE);
}

struct answer commands_run(struct session *s, struct slice line, bool has_more)
{
	size_t end = slice_find(line, ' ');
	struct slice verb = slice_head(line, end);
	struct slice args = slice_skip(line, end + 1);
	const struct command *c = find(verb);

	/* Blanks at both ends carry nothing; tabs and controls are refused below. */
	while (args.n != 0 && args.p[args.n - 1] == ' ') {
		args.n--;
	}
	while (args.n != 0 && args.p[0] == ' ') {
		args = slice_skip(args, 1);
	}
	if (c == NULL) {
		return is_word(verb) ? ANSWER("500 5.5.1 Command unrecognized")
				     : ANSWER("500 5.5.2 Bad command syntax");
	}
	if ((c->flags & IS_JUNK) != 0) {
		s->junk++;
	}
	if (has_controls(args)) {
		return ANSWER("501 5.5.4 Control characters are not allowed");
	}
	if (has_more && (c->flags & IS_LAST) != 0 && !s->is_trusted &&
		s->settings->forbids_pipelining) {
		return on_unauthorized_pipelining(s, c->verb);
	}
	if (has_more && (c->flags & NO_REST) != 0) {
		/* RFC 3207 section 6: never run in TLS what was sent in clear. */
		return on_unauthorized_pipelining(s, c->verb);
	}
	if (s->settings->needs_tls && s->tls == NULL && (c->flags & IN_CLEAR) == 0) {
		return ANSWER("530 5.7.0 Must issue a STARTTLS command first");
	}
	if ((c->flags & NO_ARGS) != 0 && args.n != 0) {
		return ANSWER("501 5.5.4 No parameters allowed");
	}
	if ((c->phases & IN(session_phase(s))) == 0) {
		return out_of_order(s, c);
	}
	return c->run(s, args);
}
