/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "smtp-out/session_parts.h"

static void send_hello(struct session *s, enum phase phase)
{
	session_put(s, phase == PHASE_HELO ? SLICE("HELO ") : SLICE("EHLO "));
	session_put(s, slice_from_cstr(s->settings->helo_name));
	session_put(s, SLICE("\r\n"));
	session_fly(s, phase, NULL, 0);
}

void opening_begin(struct session *s)
{
	session_fly(s, PHASE_GREETING, NULL, 0);
	session_set_deadline(s);
}

static void become_ready(struct session *s)
{
	s->is_ready = true;
	s->pipelines = (s->ehlo.offers & OFFER_PIPELINING) != 0 && s->pipelines;
	s->owner->on_ready(s->arg);
}

/* It may have TLS again tomorrow. */
static void fail_tls(struct session *s, uint16_t detail, const char *text)
{
	struct outcome o = ending_ours(STAGE_STARTTLS, 7, detail, text);

	ending_fail(s, &o, SESSION_DISMISSED);
}

/* After EHLO in clear. */
static void decide_tls(struct session *s)
{
	bool offered = (s->ehlo.offers & OFFER_STARTTLS) != 0;

	switch (s->level) {
	case TLS_NONE:
		become_ready(s);
		return;
	case TLS_DANE:
	case TLS_DANE_ONLY:
		fail_tls(s, 5, "DANE is asked for, and this relay does not do it");
		return;
	case TLS_MAY:
		if (!offered || s->in_clear) {
			become_ready(s);
			return;
		}
		break;
	case TLS_ENCRYPT:
	case TLS_VERIFY:
	case TLS_SECURE:
		if (!offered) {
			fail_tls(s, 4,
				"TLS is required, and the server does not offer STARTTLS");
			return;
		}
		break;
	}
	session_put(s, SLICE("STARTTLS\r\n"));
	session_fly(s, PHASE_STARTTLS, NULL, 0);
}

static void fail_by_reply(struct session *s, enum smtp_stage stage, enum verdict_kind most)
{
	struct outcome o = outcome_of_reply(stage, &s->reply);

	if (most == VERDICT_LATER) {
		o.kind = VERDICT_LATER;
	}
	ending_fail(s, &o, SESSION_DISMISSED);
}

void opening_on_greeting(struct session *s, const struct flight_entry *e)
{
	(void)e;
	if (s->reply.code / 100 == 2) {
		send_hello(s, PHASE_EHLO);
	} else {
		fail_by_reply(s, STAGE_GREETING, VERDICT_NEVER);
	}
}

void opening_on_ehlo(struct session *s, const struct flight_entry *e)
{
	if (s->reply.code / 100 == 2) {
		s->ehlo = (struct ehlo){0};
		if (e->phase == PHASE_EHLO) {
			s->ehlo = ehlo_parse(buf_view(&s->reply.text));
		}
		if (s->is_tls) {
			become_ready(s);
		} else {
			decide_tls(s);
		}
		return;
	}
	if (e->phase == PHASE_EHLO && !s->is_tls &&
		(s->reply.code == 500 || s->reply.code == 502 || s->reply.code == 504)) {
		send_hello(s, PHASE_HELO); /* RFC 5321 section 3.2 */
		return;
	}
	fail_by_reply(s, STAGE_EHLO, VERDICT_NEVER);
}

void opening_on_starttls(struct session *s, const struct flight_entry *e)
{
	(void)e;
	if (s->reply.code / 100 == 2) {
		session_fly(s, PHASE_HANDSHAKE, NULL, 0); /* session_input() goes on */
	} else if (s->level == TLS_MAY) {
		become_ready(s);
	} else {
		fail_by_reply(s, STAGE_STARTTLS, VERDICT_LATER);
	}
}

void opening_on_tls(struct session *s, enum tls_trust trust, const char *why_untrusted)
{
	char text[ENDING_TEXT_MAX];

	if ((s->level == TLS_VERIFY || s->level == TLS_SECURE) && trust != TRUST_VERIFIED) {
		if (str_format(text, sizeof(text),
			    "the server's certificate is not trusted: %s",
			    why_untrusted) != ERR_OK) {
			text[0] = '\0';
		}
		s->is_tls = true;
		fail_tls(s, 5, text);
		return;
	}
	s->is_tls = true;
	s->ehlo = (struct ehlo){0}; /* RFC 3207 section 4.2: nothing said in clear counts */
	send_hello(s, PHASE_EHLO);
}
