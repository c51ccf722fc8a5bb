/* SPDX-License-Identifier: Apache-2.0 */
#include "smtpd/envelope_commands.h"
#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/mail/address.h"
#include "common/mail/params.h"
#include "smtpd/policy.h"

/* Addresses in replies: printable ASCII. */
struct shown {
	char text[LIMIT_ADDRESS + 1];
};

static const char *show(struct shown *to, struct slice address)
{
	str_printable(to->text, sizeof(to->text), address);
	return to->text;
}

static bool has_8bit(struct slice s)
{
	uint8_t all = 0;

	for (size_t i = 0; i < s.n; i++) {
		all |= s.p[i];
	}
	return (all & 0x80) != 0;
}

/* ---- MAIL ---- */

/* Each parameter once. */
enum {
	SEEN_SIZE = 1,
	SEEN_BODY = 2,
	SEEN_SMTPUTF8 = 4,
	SEEN_RET = 8,
	SEEN_ENVID = 16,
	SEEN_AUTH = 32,
	SEEN_NOTIFY = 64,
	SEEN_ORCPT = 128
};

static const struct answer fine = {.text = SLICE_INIT("")};

static bool is_fine(struct answer a)
{
	return a.text.n == 0;
}

static struct answer bad_value(struct session *s, const char *keyword)
{
	return answer_format(s, 0, "501 5.5.4 Bad value of parameter %s", keyword);
}

static struct answer on_size(struct session *s, struct slice value, struct tx *tx)
{
	uint64_t n = 0;

	if (value.p == NULL || value.n > 20) {
		return bad_value(s, "SIZE");
	}
	enum err e = num_parse_u64(value, s->settings->size_limit, &n);
	if (e == ERR_SYNTAX) {
		return bad_value(s, "SIZE");
	}
	if (e != ERR_OK) {
		return ANSWER_WITH("552 5.3.4 Message size exceeds fixed limit", ANSWER_OURS);
	}
	tx->declared_bytes = n;
	return fine;
}

static struct answer on_body(struct session *s, struct slice value, struct tx *tx)
{
	if (slice_eq_nocase(value, SLICE("8BITMIME"))) {
		tx->flags |= TX_8BIT;
		return fine;
	}
	return slice_eq_nocase(value, SLICE("7BIT")) ? fine : bad_value(s, "BODY");
}

static struct answer on_smtputf8(struct session *s, struct slice value, struct tx *tx)
{
	if (value.p != NULL) {
		return bad_value(s, "SMTPUTF8");
	}
	tx->flags |= TX_SMTPUTF8;
	return fine;
}

static struct answer on_ret(struct session *s, struct slice value, struct tx *tx)
{
	if (slice_eq_nocase(value, SLICE("FULL"))) {
		tx->ret = RET_FULL;
		return fine;
	}
	tx->ret = RET_HDRS;
	return slice_eq_nocase(value, SLICE("HDRS")) ? fine : bad_value(s, "RET");
}

static struct answer on_envid(struct session *s, struct slice value, struct tx *tx)
{
	if (value.n == 0 || value.n > LIMIT_ENVID ||
		xtext_decode(value, &tx->arena, &tx->envid) != ERR_OK) {
		return bad_value(s, "ENVID");
	}
	return fine;
}

/* Taken, as RFC 4954 section 5 asks of those who do not trust it, and dropped. */
static struct answer on_auth_param(struct session *s, struct slice value, struct tx *tx)
{
	struct slice decoded;

	if (value.n == 0 || xtext_decode(value, &tx->arena, &decoded) != ERR_OK) {
		return bad_value(s, "AUTH");
	}
	return fine;
}

static const struct {
	struct slice keyword;
	unsigned seen;
	struct answer (*take)(struct session *s, struct slice value, struct tx *tx);
} mail_params[] = {
	{SLICE_INIT("SIZE"), SEEN_SIZE, on_size},
	{SLICE_INIT("BODY"), SEEN_BODY, on_body},
	{SLICE_INIT("SMTPUTF8"), SEEN_SMTPUTF8, on_smtputf8},
	{SLICE_INIT("RET"), SEEN_RET, on_ret},
	{SLICE_INIT("ENVID"), SEEN_ENVID, on_envid},
	{SLICE_INIT("AUTH"), SEEN_AUTH, on_auth_param},
};

static struct answer unknown_param(struct session *s, struct slice keyword)
{
	struct shown shown;

	return answer_format(s, 0, "555 5.5.4 Unsupported parameter %s",
		show(&shown, slice_head(keyword, 40)));
}

static struct answer take_mail_param(struct session *s, const struct param *p, struct tx *tx,
	unsigned *seen)
{
	for (size_t i = 0; i < ARRAY_LEN(mail_params); i++) {
		if (!slice_eq_nocase(p->keyword, mail_params[i].keyword)) {
			continue;
		}
		if ((*seen & mail_params[i].seen) != 0) {
			return ANSWER("501 5.5.4 A parameter is given twice");
		}
		*seen |= mail_params[i].seen;
		return mail_params[i].take(s, p->value, tx);
	}
	return unknown_param(s, p->keyword);
}

static struct answer take_mail_params(struct session *s, struct slice rest, struct tx *tx)
{
	struct answer a = fine;
	struct param p;
	unsigned seen = 0;
	enum err e;

	while (is_fine(a) && (e = param_next(&rest, &p)) != ERR_NOTFOUND) {
		if (e != ERR_OK) {
			return ANSWER("501 5.5.4 Syntax error in parameters");
		}
		if (!s->is_esmtp) {
			return ANSWER("555 5.5.4 Parameters need EHLO");
		}
		a = take_mail_param(s, &p, tx, &seen);
	}
	return a;
}

/* The path behind "FROM:" or "TO:"; false when the word is missing. Blanks behind the colon
 * are tolerated: many clients send one. */
static bool cut_word(struct slice args, struct slice word, struct slice *path)
{
	if (!slice_starts_nocase(args, word)) {
		return false;
	}
	args = slice_skip(args, word.n);
	while (args.n != 0 && args.p[0] == ' ') {
		args = slice_skip(args, 1);
	}
	*path = args;
	return args.n != 0;
}

static struct answer not_utf8(bool asked)
{
	return asked ? ANSWER("553 5.6.7 Address is not valid UTF-8")
		     : ANSWER("553 5.6.7 Address needs SMTPUTF8");
}

/* Refusals that do not depend on what the command says; fine when mail can be taken. */
struct answer envelope_check_store(struct session *s)
{
	switch (s->env->store.ops->state(s->env->store.arg)) {
	case STORE_OK:
		return fine;
	case STORE_FULL:
		return ANSWER_WITH("452 4.3.1 Insufficient system storage", ANSWER_OURS);
	default:
		return ANSWER_WITH("451 4.3.0 Queue is not available, try again later",
			ANSWER_OURS);
	}
}

static struct answer begin_tx(struct session *s, const struct address *sender,
	struct slice rest)
{
	struct tx *tx = tx_new(&s->env->txs, s->settings->rcpt_limit);
	struct answer a = take_mail_params(s, rest, tx);
	bool utf8 = (tx->flags & TX_SMTPUTF8) != 0;

	if (is_fine(a) && !utf8 && has_8bit(sender->text)) {
		a = not_utf8(false);
	}
	if (is_fine(a) && !arena_copy(&tx->arena, sender->text, &tx->sender)) {
		a = ANSWER_WITH("452 4.3.1 Insufficient memory", ANSWER_OURS);
	}
	if (!is_fine(a)) {
		tx_free(&s->env->txs, &tx);
		return a;
	}
	s->tx = tx;
	return ANSWER("250 2.1.0 Ok");
}

struct answer envelope_mail(struct session *s, struct slice args)
{
	struct slice path;
	struct slice rest = SLICE_EMPTY;
	struct address sender;

	if (s->helo == NULL && s->settings->needs_helo) {
		return ANSWER("503 5.5.1 Send EHLO first");
	}
	if (s->settings->message_limit != 0 && s->messages >= s->settings->message_limit) {
		return ANSWER_WITH("421 4.7.0 Too many messages in one connection",
			ANSWER_CLOSE | ANSWER_OURS);
	}
	if (!cut_word(args, SLICE("FROM:"), &path)) {
		return ANSWER("501 5.5.4 Syntax: MAIL FROM:<address>");
	}
	struct answer a = envelope_check_store(s);
	if (!is_fine(a)) {
		return a;
	}
	switch (address_parse_path(path, ADDRESS_UTF8 | ADDRESS_NULL, &sender, &rest)) {
	case ADDRESS_FINE:
		return begin_tx(s, &sender, rest);
	case ADDRESS_NEEDS_UTF8:
		return not_utf8(true);
	case ADDRESS_TOO_LONG:
		return ANSWER("501 5.1.7 Bad sender address: too long");
	case ADDRESS_BAD_LOCAL:
	case ADDRESS_BAD_DOMAIN:
	case ADDRESS_BAD_SYNTAX:
		break;
	}
	return ANSWER("501 5.1.7 Bad sender address syntax");
}

/* ---- RCPT ---- */

static struct answer take_rcpt_params(struct session *s, struct slice rest, struct slice *orcpt,
	uint8_t *notify)
{
	unsigned seen = 0;
	struct param p;
	enum err e;

	while ((e = param_next(&rest, &p)) != ERR_NOTFOUND) {
		unsigned bit = 0;
		if (e != ERR_OK) {
			return ANSWER("501 5.5.4 Syntax error in parameters");
		}
		if (!s->is_esmtp) {
			return ANSWER("555 5.5.4 Parameters need EHLO");
		}
		if (slice_eq_nocase(p.keyword, SLICE("NOTIFY"))) {
			bit = SEEN_NOTIFY;
			if (notify_parse(p.value, notify) != ERR_OK) {
				return bad_value(s, "NOTIFY");
			}
		} else if (slice_eq_nocase(p.keyword, SLICE("ORCPT"))) {
			bit = SEEN_ORCPT;
			if (orcpt_parse(p.value, &s->tx->arena, orcpt) != ERR_OK) {
				return bad_value(s, "ORCPT");
			}
		} else {
			return unknown_param(s, p.keyword);
		}
		if ((seen & bit) != 0) {
			return ANSWER("501 5.5.4 A parameter is given twice");
		}
		seen |= bit;
	}
	return fine;
}

/* A recipient that has been judged fit: 250, whether it is new or not. */
static struct answer accept_rcpt(struct session *s, const struct address *a, struct slice orcpt,
	uint8_t notify)
{
	enum err e = tx_add_rcpt(s->tx, a, orcpt, notify);

	if (e != ERR_OK && e != ERR_EXISTS) {
		return ANSWER_WITH("452 4.5.3 Too many recipients", ANSWER_OURS);
	}
	s->tx->accepted++;
	return ANSWER("250 2.1.5 Ok");
}

struct answer envelope_finish_rcpt(struct session *s, const struct address *a,
	struct slice orcpt, uint8_t notify, unsigned result, struct slice reason)
{
	struct shown shown;
	char why[201];

	if (result == LOOKUP_CLEAR) {
		return accept_rcpt(s, a, orcpt, notify);
	}
	if (result == LOOKUP_FAILED) {
		s->tx->has_refused = true;
		return ANSWER_WITH(
			"451 4.3.0 Suppression list is not available, try again later",
			ANSWER_OURS);
	}
	if (s->settings->suppression == SUPPRESSION_DISCARD) {
		session_log_reject(s, "discard_rcpt", a->text);
		s->tx->accepted++;
		return ANSWER("250 2.1.5 Ok");
	}
	session_log_reject(s, "suppressed", a->text);
	s->tx->has_refused = true;
	str_printable(why, sizeof(why), reason);
	return answer_format(s, ANSWER_OURS,
		"550 5.7.1 <%s>: recipient is on the suppression list%s%s%s",
		show(&shown, slice_head(a->text, 200)), why[0] == '\0' ? "" : " (", why,
		why[0] == '\0' ? "" : ")");
}

static struct answer judge_rcpt(struct session *s, const struct address *a, struct slice orcpt,
	uint8_t notify)
{
	struct session_env *env = s->env;

	if (s->settings->suppression == SUPPRESSION_OFF || tx_has_rcpt(s->tx, a) ||
		!env->may_be_suppressed(env->suppressed_arg, a->text)) {
		return accept_rcpt(s, a, orcpt, notify);
	}
	if (!session_look_up(s, a, orcpt, notify)) {
		return envelope_finish_rcpt(s, a, orcpt, notify, LOOKUP_FAILED, SLICE_EMPTY);
	}
	return (struct answer){.flags = ANSWER_LATER};
}

static struct answer relay_refusal(struct session *s, const struct address *a,
	enum relay_answer verdict)
{
	struct shown shown;

	session_log_reject(s, "relay_denied", a->text);
	s->tx->has_refused = true;
	return answer_format(s, 0, "%s <%s>: Relay access denied",
		verdict == RELAY_REFUSED ? "554 5.7.1" : "450 4.7.1",
		show(&shown, slice_head(a->text, 300)));
}

static struct answer on_good_path(struct session *s, struct address *a, struct slice rest)
{
	char whole[LIMIT_ADDRESS + 1];
	struct slice orcpt = SLICE_EMPTY;
	uint8_t notify = 0;

	if ((s->tx->flags & TX_SMTPUTF8) == 0 && has_8bit(a->text)) {
		return not_utf8(false);
	}
	struct answer refusal = take_rcpt_params(s, rest, &orcpt, &notify);
	if (!is_fine(refusal)) {
		return refusal;
	}
	if (a->domain.n == 0) {
		if (!policy_is_postmaster(a)) {
			return ANSWER("550 5.1.3 Recipient address needs a domain");
		}
		if (str_format(whole, sizeof(whole), "%.*s@%.*s", SLICE_ARG(a->local),
			    SLICE_ARG(s->settings->origin)) != ERR_OK ||
			address_parse(slice_from_cstr(whole), 0, a) != ADDRESS_FINE) {
			return ANSWER_WITH("451 4.3.5 Server configuration error", ANSWER_OURS);
		}
	}
	enum relay_answer verdict = policy_relay(s->settings, s->is_trusted, a);
	if (verdict != RELAY_OK) {
		return relay_refusal(s, a, verdict);
	}
	return judge_rcpt(s, a, orcpt, notify);
}

struct answer envelope_rcpt(struct session *s, struct slice args)
{
	struct slice path;
	struct slice rest = SLICE_EMPTY;
	struct address a;
	struct answer answer = ANSWER("501 5.1.3 Bad recipient address syntax");

	if (!cut_word(args, SLICE("TO:"), &path)) {
		return ANSWER("501 5.5.4 Syntax: RCPT TO:<address>");
	}
	if (s->tx->accepted >= s->settings->rcpt_limit) {
		s->tx->has_refused = true;
		return ANSWER_WITH("452 4.5.3 Too many recipients", ANSWER_OURS);
	}
	switch (address_parse_path(path, ADDRESS_UTF8 | ADDRESS_LAX_DOTS | ADDRESS_NO_DOMAIN,
		&a, &rest)) {
	case ADDRESS_FINE:
		answer = on_good_path(s, &a, rest);
		break;
	case ADDRESS_NEEDS_UTF8:
		answer = not_utf8(true);
		break;
	case ADDRESS_TOO_LONG:
		answer = ANSWER("501 5.1.3 Bad recipient address: too long");
		break;
	case ADDRESS_BAD_LOCAL:
	case ADDRESS_BAD_DOMAIN:
	case ADDRESS_BAD_SYNTAX:
		break;
	}
	s->tx->has_refused =
		s->tx->has_refused || (answer.text.n != 0 && answer.text.p[0] != '2');
	return answer;
}
