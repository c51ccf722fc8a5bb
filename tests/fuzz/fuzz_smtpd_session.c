/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-of: smtpd */
#include "tests/dialog/smtpd_stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice take(struct slice *s, size_t n)
{
	struct slice head = slice_head(*s, n);

	*s = slice_skip(*s, n);
	return head;
}

/* Replies are lines of printable ASCII with a code, whatever comes. */
static void check_output(struct stage *s)
{
	struct slice out = buf_view(&s->out);
	struct slice line;

	assert(out.n == 0 || out.p[out.n - 1] == '\n');
	while (slice_cut(&out, '\n', &line)) {
		assert(line.n >= 5 && line.n < 512 && line.p[line.n - 1] == '\r');
		assert(line.p[0] >= '2' && line.p[0] <= '5');
		assert(line.p[3] == ' ' || line.p[3] == '-');
		for (size_t i = 0; i + 1 < line.n; i++) {
			assert(line.p[i] >= 0x20 && line.p[i] < 0x7f);
		}
	}
	buf_reset(&s->out);
}

/* What the store gets is in wire form. */
static void check_content(const struct stage *s)
{
	struct slice c = buf_view(&s->content);

	for (size_t i = 0; i < c.n; i++) {
		assert(c.p[i] != '\n' || (i > 0 && c.p[i - 1] == '\r'));
		assert(c.p[i] != '\r' || i + 1 == c.n || c.p[i + 1] == '\n');
		if (c.p[i] == '.' && (i == 0 || c.p[i - 1] == '\n') && i + 1 < c.n) {
			assert(c.p[i + 1] == '.');
		}
	}
}

/* Orders that are not the client's. */
static void do_order(struct stage *s, uint8_t order)
{
	switch (order % 16) {
	case 0:
		stage_wait(s, 1000);
		break;
	case 1:
		stage_wait(s, 400000);
		break;
	case 2:
		s->answers = !s->answers;
		break;
	case 3:
		stage_die(s);
		break;
	case 4:
		s->store_is_gone = false;
		s->state = order / 16 % 3;
		break;
	case 5:
		stage_set_room(s, !s->has_room);
		break;
	case 6:
		if (stage_oldest(s, true) != NULL) {
			stage_answer(s, order / 16 % 3, SLICE("why\r\n\xff"));
		}
		break;
	case 7:
		if (stage_oldest(s, false) != NULL) {
			bool ended = stage_oldest(s, false)->has_ended;
			stage_done(s, ended && order < 128 ? 250 : 554,
				SLICE("5.6.0 no\r\n\x80"));
		}
		break;
	case 8:
		session_on_end(&s->session);
		break;
	case 9:
		stage_reset(s);
		break;
	case 10:
		s->env.is_draining = true;
		session_drain(&s->session);
		break;
	case 11:
		stage_set_reading(s, s->reads_nothing);
		break;
	default:
		break;
	}
	if (!s->is_closed) {
		stage_settle(s);
	}
}

/* Made once for each choice. */
static struct settings *settings_for(uint8_t how)
{
	static const char *const choices[][2] = {
		{"smtpd_forbid_bare_newline", "reject"},
		{"suppression_action", "discard"},
		{"message_size_limit", "200"},
		{"smtpd_helo_required", "no"},
		{"smtpd_hard_error_limit", "1000"},
	};
	static struct settings *made[1u << ARRAY_LEN(choices)];
	struct settings **it = &made[how % ARRAY_LEN(made)];

	if (*it == NULL) {
		struct stage s;
		bool ok = true;
		stage_init(&s);
		ok = stage_set(&s, SLICE("tls"), SLICE("may"));
		for (unsigned i = 0; i < ARRAY_LEN(choices); i++) {
			ok = ok && ((how & (1u << i)) == 0 ||
					   stage_set(&s, slice_from_cstr(choices[i][0]),
						   slice_from_cstr(choices[i][1])));
		}
		ok = ok && stage_start(&s);
		assert(ok);
		*it = settings_share(s.settings);
		stage_clear(&s);
	}
	return settings_share(*it);
}

/* 0xff is followed by an order, 0xfe by words that sessions are made of; the rest is input, cut
 * where these stand. The first byte chooses settings. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const words[] = {"EHLO x\r\n", "HELO x\r\n", "MAIL FROM:<a@t>",
		"RCPT TO:<b@d>", "RCPT TO:<perhaps@d>\r\n", "RCPT TO:<suppressed@d>\r\n",
		"\r\n", "DATA\r\n", "\r\n.\r\n", "RSET\r\n", "QUIT\r\n", "STARTTLS\r\n",
		"NOOP\r\n", " SIZE=", " BODY=8BITMIME", " SMTPUTF8", " NOTIFY=SUCCESS",
		" ORCPT=rfc822;x", " ENVID=+2B",
		"0123456789012345678901234567890123456789012345678901234567890123456789",
		"VRFY x\r\n", "GET / HTTP/1.1\r\n", "BDAT 5 LAST\r\n", "AUTH PLAIN\r\n",
		"\n.\n", "\r.\r", "MAIL FROM:<>\r\nRCPT TO:<b@d>\r\nDATA\r\n"};
	struct stage s;

	if (size < 2 || size > 20000) {
		return 0;
	}
	log_set_level(LOG_LEVEL_ERROR);
	stage_init_bare(&s);
	struct slice rest = {data + 1, size - 1};
	uint8_t how = data[0];
	s.settings = settings_for(how);
	if ((how & 32) != 0) {
		s.client.addr[0] = 192;
	}
	s.is_early = (how & 64) != 0;
	stage_start_with(&s);
	while (rest.n != 0 && !s.is_closed) {
		size_t n = 0;
		while (n < rest.n && rest.p[n] < 0xfe) {
			n++;
		}
		stage_feed(&s, take(&rest, n));
		if (rest.n >= 2 && !s.is_closed) {
			struct slice order = take(&rest, 2);
			if (order.p[0] == 0xff) {
				do_order(&s, order.p[1]);
			} else {
				stage_feed(&s,
					slice_from_cstr(words[order.p[1] % ARRAY_LEN(words)]));
			}
		} else {
			rest = SLICE_EMPTY;
		}
		if (s.wants_tls && !s.is_closed) {
			stage_tls(&s, (how & 128) == 0);
		}
		assert(!s.overflowed);
		check_output(&s);
		check_content(&s);
	}
	stage_clear(&s);
	return 0;
}
