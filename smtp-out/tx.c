/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/tx.h"

#include "common/ipc/messages.h"

static bool has_8bit(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] >= 0x80) {
			return true;
		}
	}
	return false;
}

static bool addresses_have_8bit(const struct job *j)
{
	if (has_8bit(j->sender)) {
		return true;
	}
	for (uint32_t i = 0; i < j->rcpt_count; i++) {
		if (has_8bit(j->rcpts[i].address)) {
			return true;
		}
	}
	return false;
}

/* Why the server cannot take it; kind stays VERDICT_DONE when it can. */
static struct outcome find_obstacle(struct tx *tx, const struct ehlo *e)
{
	const struct job *j = tx->job;
	struct job_content seen = {.stuffed = 0};
	bool offers_8bit = (e->offers & OFFER_8BITMIME) != 0;
	bool offers_utf8 = (e->offers & OFFER_SMTPUTF8) != 0;
	bool said_8bit = (j->flags & TX_8BIT) != 0;
	bool said_utf8 = (j->flags & TX_SMTPUTF8) != 0;
	bool address_8bit = !offers_utf8 && addresses_have_8bit(j);

	tx->needs = (struct command_needs){
		.bytes = job_bytes(j),
		.body_8bit = said_8bit && offers_8bit,
		.smtputf8 = said_utf8 && offers_utf8,
	};
	/* What the client said may be more than what the message needs, and the dots that were
	 * stuffed do not count (RFC 1870 section 5). */
	if ((said_8bit && !offers_8bit) || (said_utf8 && !offers_utf8) ||
		(e->size > 0 && tx->needs.bytes > e->size)) {
		if (job_look(j, &seen) != ERR_OK) {
			return outcome_of_ours(VERDICT_LATER, STAGE_LOCAL,
				(struct enhanced_code){4, 3, 0},
				"the queue file could not be read");
		}
		tx->needs.bytes -= seen.stuffed;
	}
	if (e->size > 0 && tx->needs.bytes > e->size) {
		return outcome_of_ours(VERDICT_NEVER, STAGE_MAIL,
			(struct enhanced_code){5, 3, 4},
			"the message is larger than the server takes (SIZE)");
	}
	if (address_8bit || (said_utf8 && !offers_utf8 && seen.header_8bit)) {
		return outcome_of_ours(VERDICT_NEVER, STAGE_MAIL,
			(struct enhanced_code){5, 6, 7},
			"the server does not offer SMTPUTF8, which the message needs");
	}
	if (said_8bit && !offers_8bit && seen.any_8bit) {
		return outcome_of_ours(VERDICT_NEVER, STAGE_MAIL,
			(struct enhanced_code){5, 6, 3},
			"the server does not offer 8BITMIME, which the message needs");
	}
	return (struct outcome){.kind = VERDICT_DONE};
}

bool tx_admit(struct tx *tx, const struct ehlo *e)
{
	struct outcome o = find_obstacle(tx, e);

	if (o.kind == VERDICT_DONE) {
		return true;
	}
	job_settle_rest(tx->job, &o);
	return false;
}

uint32_t tx_rcpt_limit(const struct tx *tx, const struct ehlo *e)
{
	uint32_t all = tx->job->rcpt_count;

	return e->rcpt_max != 0 && e->rcpt_max < all ? e->rcpt_max : all;
}

void tx_settle_untold(struct tx *tx)
{
	struct outcome o = {
		.kind = VERDICT_LATER,
		.stage = STAGE_RCPT,
		.smtp_code = 452,
		.status = {4, 5, 3},
		.text = SLICE("the server takes no more recipients in one message"),
	};

	for (uint32_t i = tx->rcpts_sent; i < tx->job->rcpt_count; i++) {
		job_settle(tx->job, i, &o);
	}
	tx->rcpts_over = true;
}

void tx_settle_unspeakable(struct tx *tx, uint32_t from, uint32_t to)
{
	struct outcome o =
		outcome_of_ours(VERDICT_LATER, STAGE_LOCAL, (struct enhanced_code){4, 3, 0},
			"internal error: the envelope holds what no SMTP command can say");

	for (uint32_t i = from; i < to; i++) {
		job_settle(tx->job, i, &o);
	}
}

bool tx_may_deliver(const struct tx *tx)
{
	return tx->accepted + (tx->rcpts_sent - tx->rcpts_answered) > 0;
}

void tx_on_mail(struct tx *tx, const struct reply *r)
{
	struct outcome o = outcome_of_reply(STAGE_MAIL, r);

	if (o.kind != VERDICT_DONE) {
		tx->mail_failed = true;
		job_settle_rest(tx->job, &o);
	}
}

static bool text_has(struct slice text, struct slice word)
{
	for (size_t i = 0; i + word.n <= text.n; i++) {
		if (slice_eq_nocase(slice_make(text.p + i, word.n), word)) {
			return true;
		}
	}
	return false;
}

/*
 * RFC 5321 section 4.5.3.1.10: servers of the old school say 552 when they mean 452, too many
 * recipients. A full mailbox is 552 too, so it takes more than the code.
 */
static bool is_too_many(const struct tx *tx, const struct reply *r)
{
	if (r->code != 452 && r->code != 552) {
		return false;
	}
	if (r->status.class != 0) {
		return r->status.subject == 5 && r->status.detail == 3;
	}
	if (text_has(buf_view(&r->text), SLICE("too many recipients"))) {
		return true;
	}
	return tx->accepted > 0 && r->code == 452;
}

void tx_on_rcpt(struct tx *tx, uint32_t rcpt, const struct reply *r)
{
	struct outcome o = outcome_of_reply(STAGE_RCPT, r);

	tx->rcpts_answered++;
	if (tx->mail_failed) {
		return;
	}
	if (o.kind == VERDICT_DONE) {
		tx->accepted++;
		tx->job->rcpts[rcpt].state = RCPT_ACCEPTED;
		return;
	}
	if (is_too_many(tx, r)) {
		o.kind = VERDICT_LATER;
		o.status = (struct enhanced_code){4, 5, 3};
		if (!tx->rcpts_over) {
			tx_settle_untold(tx);
		}
	}
	job_settle(tx->job, rcpt, &o);
}

void tx_on_refused(struct tx *tx, const struct reply *r)
{
	struct outcome o = outcome_of_reply(STAGE_DATA, r);

	job_settle_rest(tx->job, &o);
}

void tx_on_dot(struct tx *tx, const struct reply *r, bool peer_has_dsn)
{
	struct outcome o = outcome_of_reply(STAGE_END_OF_DATA, r);

	if (tx->void_dot) {
		return; /* whatever it says: nobody is delivered to */
	}
	if (o.kind == VERDICT_DONE && !peer_has_dsn) {
		o.flags |= OUTCOME_NO_DSN_PEER;
	}
	job_settle_rest(tx->job, &o);
}
