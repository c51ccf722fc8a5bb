/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/ehlo.h"

#include "common/base/attr.h"
#include "common/base/limits.h"
#include "common/base/num.h"

/* A number that is at least 1; 0 for everything else. The smaller of two that were said counts.
 */
static uint64_t smaller(uint64_t have, struct slice text, uint64_t max)
{
	uint64_t n = 0;
	enum err e = num_parse_u64(text, UINT64_MAX, &n);

	if (e == ERR_TOOBIG) {
		n = max;
	} else if (e != ERR_OK) {
		return have;
	}
	n = n > max ? max : n;
	return n != 0 && (have == 0 || n < have) ? n : have;
}

static void take_size(struct ehlo *e, struct slice args)
{
	struct slice word;

	if (slice_word(&args, " \t", &word)) {
		e->size = smaller(e->size, word, INT64_MAX);
	}
}

static void take_limits(struct ehlo *e, struct slice args)
{
	struct slice word;

	while (slice_word(&args, " \t", &word)) {
		size_t n = slice_find(word, '=');
		struct slice name = slice_head(word, n);
		struct slice value = slice_skip(word, n + 1);

		if (slice_eq_nocase(name, SLICE("MAILMAX"))) {
			e->mail_max = (uint32_t)smaller(e->mail_max, value, UINT32_MAX);
		} else if (slice_eq_nocase(name, SLICE("RCPTMAX"))) {
			e->rcpt_max = (uint32_t)smaller(e->rcpt_max, value, UINT32_MAX);
		}
	}
}

static const struct {
	struct slice keyword;
	unsigned offer;
	void (*take)(struct ehlo *e, struct slice args);
} keywords[] = {
	{SLICE_INIT("PIPELINING"), OFFER_PIPELINING, NULL},
	{SLICE_INIT("SIZE"), OFFER_SIZE, take_size},
	{SLICE_INIT("8BITMIME"), OFFER_8BITMIME, NULL},
	{SLICE_INIT("SMTPUTF8"), OFFER_SMTPUTF8, NULL},
	{SLICE_INIT("DSN"), OFFER_DSN, NULL},
	{SLICE_INIT("STARTTLS"), OFFER_STARTTLS, NULL},
	{SLICE_INIT("ENHANCEDSTATUSCODES"), OFFER_ENHANCED, NULL},
	{SLICE_INIT("CHUNKING"), OFFER_CHUNKING, NULL},
	{SLICE_INIT("LIMITS"), 0, take_limits},
};

struct ehlo ehlo_parse(struct slice text)
{
	struct ehlo e = {0};
	struct slice line;
	struct slice word;

	if (text.n >= LIMIT_REPLY_TEXT) {
		size_t n = slice_find_last(text, '\n');
		text = slice_head(text, n == text.n ? 0 : n);
	}
	text = slice_skip(text, slice_find(text, '\n') + 1);
	while (slice_cut(&text, '\n', &line)) {
		if (!slice_word(&line, " \t", &word)) {
			continue;
		}
		for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
			if (slice_eq_nocase(word, keywords[i].keyword)) {
				e.offers |= keywords[i].offer;
				if (keywords[i].take != NULL) {
					keywords[i].take(&e, line);
				}
			}
		}
	}
	return e;
}
