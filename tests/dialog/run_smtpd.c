/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the scripts of tests/dialog/smtpd/ against sessions in memory: each case whole, byte by
 *byte, in pieces of several sizes, and cut once at every place.
 *
 * A case begins with "== NUMBER what it shows". Then come lines:
 *
 *	set NAME VALUE     a parameter of main.cf ("set tls may": with a certificate), first
 *	client ADDRESS     who connects, first; 127.0.0.1 if not said
 *	early              the client talks before the greeting
 *	whole              the case depends on segments: played whole only
 *	C: text            the client sends text and CR LF. Lines without another between them
 *	                   travel in one segment. \r \n \0 \t \\ \xNN
 *	C- text            without CR LF
 *	C* N text          N times
 *	S: pattern         the next line of the reply; * stands for anything. What has not been
 *	                   expected before the next step is an error
 *	S* N pattern       N such lines
 *	EHLO:              C: EHLO c.example, and all of its reply
 *	OK3:               the same, then MAIL FROM:<a@t.example> and RCPT TO:<b@d.example>
 *	S! open, close     whether the connection is
 *	Q? pattern         the store was told this, perhaps behind other things: begin, rcpt,
 *content, end, abort, ask Q? nothing         and nothing since Q! manual          the store
 *answers only when told: Q! done CODE TEXT, answer clear|suppressed|failed TEXT, die, back,
 *state ok|full|sick, Q! room yes|no T: SECONDS         time goes by E: eof, reset      the
 *client's end TLS: ok, fail      the handshake that the session wanted D:                 the
 *relay begins to stop
 */
#include <dirent.h>

#include "common/base/num.h"
#include "tests/dialog/smtpd_stage.h"

#define SCRIPT_MOST ((size_t)4 << 20)
#define GROUP_MOST ((size_t)32 << 20)
/* Longer groups are not cut everywhere. */
#define CUT_MOST ((size_t)600)

enum cut_kind {
	CUT_NOT,
	CUT_EVERY,
	CUT_AT
};

struct cut {
	enum cut_kind kind;
	size_t n;
};

struct play {
	struct stage stage;
	struct cut cut;
	const char *file;
	unsigned line;
	struct buf group; /* of C lines */
	size_t longest;   /* group */
	bool is_started;
	bool only_whole;
	bool failed;
};

static int failures;
static int count;

/* ---- complaints ---- */

static void complain(struct play *p, const char *what, struct slice detail)
{
	struct buf text;

	if (p->failed) {
		return;
	}
	p->failed = true;
	buf_init(&text, GROUP_MOST * 4);
	stage_escape(&text, slice_head(detail, 2000));
	printf("# %s:%u (cut %d/%zu): %s: %.*s\n", p->file, p->line, (int)p->cut.kind, p->cut.n,
		what, SLICE_ARG(buf_view(&text)));
	buf_clear(&text);
}

/* ---- patterns ---- */

static bool matches(struct slice pattern, struct slice text)
{
	size_t p = 0;
	size_t t = 0;
	size_t star = SIZE_MAX;
	size_t from = 0;

	while (t < text.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			from = t;
		} else if (p < pattern.n && pattern.p[p] == text.p[t]) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++from;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*') {
		p++;
	}
	return p == pattern.n;
}

/* ---- what every reply must be ---- */

static bool has_enhanced_code(struct slice line)
{
	return line.n >= 9 && line.p[4] == line.p[0] && line.p[5] == '.' && line.p[7] == '.';
}

static void check_reply(struct play *p, struct slice line)
{
	bool is_ehlo = slice_starts(line, SLICE("250-")) ||
		       slice_eq(line, SLICE("250 SMTPUTF8")) ||
		       slice_eq(line, SLICE("250 8BITMIME"));
	bool is_name = slice_starts(line, SLICE("220 relay.example")) ||
		       slice_eq(line, SLICE("250 relay.example"));

	if (line.n + 2 > 512) {
		complain(p, "a reply line over 512 octets", line);
	}
	for (size_t i = 0; i < line.n; i++) {
		if (line.p[i] < 0x20 || line.p[i] > 0x7e) {
			complain(p, "a reply that is not printable ASCII", line);
		}
	}
	if (line.n < 4 || (line.p[3] != ' ' && line.p[3] != '-')) {
		complain(p, "no reply", line);
	} else if (!is_ehlo && !is_name && !slice_starts(line, SLICE("354 ")) &&
		   !has_enhanced_code(line)) {
		complain(p, "no enhanced status code", line);
	}
}

static bool next_line(struct buf *from, struct slice *line)
{
	struct slice out = buf_view(from);
	size_t at = slice_find(out, '\n');

	if (at == out.n) {
		return false;
	}
	*line = slice_head(out, at);
	return true;
}

/* ---- steps ---- */

static void send_group(struct play *p)
{
	struct slice left = buf_view(&p->group);
	size_t first = p->cut.kind == CUT_AT ? p->cut.n : 0;

	p->longest = left.n > p->longest ? left.n : p->longest;
	if (left.n != 0 && p->stage.is_closed) {
		/* A client may go on sending; nobody listens. */
		left = SLICE_EMPTY;
	}
	if (first != 0 && first < left.n) {
		stage_feed(&p->stage, slice_head(left, first));
		left = slice_skip(left, first);
	}
	while (left.n != 0) {
		size_t n = p->cut.kind == CUT_EVERY && p->cut.n < left.n ? p->cut.n : left.n;
		stage_feed(&p->stage, slice_head(left, n));
		left = slice_skip(left, n);
	}
	if (p->stage.overflowed) {
		complain(p, "more input was left than a stream keeps", SLICE_EMPTY);
	}
	buf_reset(&p->group);
}

static void start(struct play *p)
{
	if (!p->is_started) {
		p->is_started = true;
		if (!stage_start(&p->stage)) {
			complain(p, "bad settings", SLICE_EMPTY);
			p->stage.is_closed = true;
		}
	}
}

/* Before a step that lets something happen. */
static void before_step(struct play *p)
{
	start(p);
	send_group(p);
	if (buf_len(&p->stage.out) != 0) {
		complain(p, "unexpected output", buf_view(&p->stage.out));
	}
}

static int hex(uint8_t c)
{
	c = ascii_lower(c);
	return c >= 'a' ? c - 'a' + 10 : c - '0';
}

static void unescape(struct buf *to, struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		if (c == '\\' && i + 1 < s.n) {
			c = s.p[++i];
			if (c == 'x' && i + 2 < s.n) {
				c = (uint8_t)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
				i += 2;
			} else {
				c = c == 'r'   ? '\r'
				    : c == 'n' ? '\n'
				    : c == 't' ? '\t'
				    : c == '0' ? 0
					       : c;
			}
		}
		enum err e = buf_append_byte(to, c);
		assert(e == ERR_OK);
	}
}

static void add_client_text(struct play *p, struct slice text, bool with_end, size_t times)
{
	struct buf piece;

	buf_init(&piece, GROUP_MOST);
	unescape(&piece, text);
	if (with_end) {
		enum err e = buf_append(&piece, SLICE("\r\n"));
		assert(e == ERR_OK);
	}
	for (size_t i = 0; i < times; i++) {
		enum err e = buf_append(&p->group, buf_view(&piece));
		assert(e == ERR_OK);
	}
	buf_clear(&piece);
}

static void expect_reply(struct play *p, struct slice pattern)
{
	struct slice line;

	start(p);
	send_group(p);
	if (!next_line(&p->stage.out, &line)) {
		complain(p, "no output, expected", pattern);
		return;
	}
	if (line.n == 0 || line.p[line.n - 1] != '\r') {
		complain(p, "a reply line without CR LF", line);
		return;
	}
	size_t whole = line.n + 1;
	line = slice_head(line, line.n - 1);
	check_reply(p, line);
	if (!matches(pattern, line)) {
		complain(p, "another reply", line);
	}
	buf_consume(&p->stage.out, whole);
}

static void say(struct play *p, struct slice command, struct slice reply)
{
	before_step(p);
	add_client_text(p, command, true, 1);
	expect_reply(p, reply);
}

static void say_ehlo(struct play *p)
{
	say(p, SLICE("EHLO c.example"), SLICE("250-relay.example"));
	while (!p->failed && slice_starts(buf_view(&p->stage.out), SLICE("250-"))) {
		expect_reply(p, SLICE("250-*"));
	}
	expect_reply(p, SLICE("250 *"));
}

static void say_ok3(struct play *p)
{
	say_ehlo(p);
	say(p, SLICE("MAIL FROM:<a@t.example>"), SLICE("250 2.1.0 Ok"));
	say(p, SLICE("RCPT TO:<b@d.example>"), SLICE("250 2.1.5 Ok"));
}

static void expect_state(struct play *p, struct slice word)
{
	bool wants_closed = slice_eq(word, SLICE("close"));

	before_step(p);
	if (p->stage.is_closed != wants_closed) {
		complain(p,
			wants_closed ? "the connection is open" : "the connection is closed",
			word);
	}
}

static void expect_event(struct play *p, struct slice pattern)
{
	struct slice line = SLICE_EMPTY;
	bool is_there = false;

	start(p);
	send_group(p);
	if (slice_eq(pattern, SLICE("nothing"))) {
		if (buf_len(&p->stage.events) != 0) {
			complain(p, "the store was told", buf_view(&p->stage.events));
		}
		return;
	}
	struct slice all = buf_view(&p->stage.events);
	while (!is_there && next_line(&p->stage.events, &line)) {
		is_there = matches(pattern, line);
		buf_consume(&p->stage.events, line.n + 1);
	}
	if (!is_there) {
		complain(p, "the store was only told", all);
	}
}

static void tell_store(struct play *p, struct slice rest)
{
	struct slice word;
	struct slice what = SLICE_EMPTY;
	uint32_t code = 0;

	if (!slice_word(&rest, " ", &word)) {
		complain(p, "what about the store?", rest);
		return;
	}
	if (slice_eq(word, SLICE("manual"))) {
		p->stage.answers = false;
		return;
	}
	if (slice_eq(word, SLICE("state")) || slice_eq(word, SLICE("back"))) {
		(void)slice_word(&rest, " ", &what);
		send_group(p);
		p->stage.store_is_gone = false;
		p->stage.state = slice_eq(what, SLICE("full"))   ? STORE_FULL
				 : slice_eq(what, SLICE("sick")) ? STORE_SICK
								 : STORE_OK;
		return;
	}
	before_step(p);
	rest = slice_trim(rest);
	if (slice_eq(word, SLICE("die"))) {
		stage_die(&p->stage);
	} else if (slice_eq(word, SLICE("room"))) {
		stage_set_room(&p->stage, slice_eq(rest, SLICE("yes")));
	} else if (slice_eq(word, SLICE("done")) && slice_word(&rest, " ", &what) &&
		   num_parse_u32(what, 999, &code) == ERR_OK) {
		if (stage_oldest(&p->stage, false) == NULL) {
			complain(p, "no transaction is open", word);
			return;
		}
		stage_done(&p->stage, code, slice_trim(rest));
	} else if (slice_eq(word, SLICE("answer")) && slice_word(&rest, " ", &what)) {
		if (stage_oldest(&p->stage, true) == NULL) {
			complain(p, "no question is open", word);
			return;
		}
		stage_answer(&p->stage,
			slice_eq(what, SLICE("clear"))        ? LOOKUP_CLEAR
			: slice_eq(what, SLICE("suppressed")) ? LOOKUP_SUPPRESSED
							      : LOOKUP_FAILED,
			slice_trim(rest));
	} else {
		complain(p, "unknown order to the store", word);
	}
	stage_settle(&p->stage);
}

static void do_other(struct play *p, struct slice word, struct slice rest)
{
	uint32_t n = 0;

	if (slice_eq(word, SLICE("EHLO:"))) {
		say_ehlo(p);
	} else if (slice_eq(word, SLICE("OK3:"))) {
		say_ok3(p);
	} else if (slice_eq(word, SLICE("T:")) && num_parse_u32(rest, 10000000, &n) == ERR_OK) {
		before_step(p);
		stage_wait(&p->stage, (int64_t)n * 1000);
	} else if (slice_eq(word, SLICE("E:"))) {
		before_step(p);
		if (slice_eq(rest, SLICE("eof")) && !p->stage.is_closed) {
			session_on_end(&p->stage.session);
		} else {
			stage_reset(&p->stage);
		}
	} else if (slice_eq(word, SLICE("O:"))) {
		before_step(p);
		stage_set_reading(&p->stage, slice_eq(rest, SLICE("flows")));
	} else if (slice_eq(word, SLICE("TLS:"))) {
		before_step(p);
		if (!p->stage.wants_tls || p->stage.is_closed) {
			complain(p, "TLS is not wanted", rest);
			return;
		}
		stage_tls(&p->stage, slice_eq(rest, SLICE("ok")));
	} else if (slice_eq(word, SLICE("D:"))) {
		before_step(p);
		p->stage.env.is_draining = true;
		session_drain(&p->stage.session);
	} else if (slice_eq(word, SLICE("client"))) {
		if (endpoint_parse_addr(rest, 12345, &p->stage.client) != ERR_OK) {
			complain(p, "no address", rest);
		}
	} else if (slice_eq(word, SLICE("early"))) {
		p->stage.is_early = true;
	} else if (slice_eq(word, SLICE("whole"))) {
		p->only_whole = true;
	} else if (slice_eq(word, SLICE("set"))) {
		struct slice name;
		if (!slice_word(&rest, " ", &name) ||
			!stage_set(&p->stage, name, slice_trim(rest))) {
			complain(p, "bad parameter", rest);
		}
	} else {
		complain(p, "unknown step", word);
	}
}

static void do_line(struct play *p, struct slice line)
{
	size_t at = slice_find(line, ' ');
	struct slice word = slice_head(line, at);
	struct slice rest = slice_skip(line, at + 1);
	struct slice number;
	uint32_t times = 1;

	if (line.n == 0 || line.p[0] == '#') {
		return;
	}
	if (slice_eq(word, SLICE("C:"))) {
		if (buf_len(&p->group) == 0) {
			before_step(p);
		}
		add_client_text(p, rest, true, 1);
	} else if (slice_eq(word, SLICE("C-"))) {
		if (buf_len(&p->group) == 0) {
			before_step(p);
		}
		add_client_text(p, rest, false, 1);
	} else if (slice_eq(word, SLICE("C*"))) {
		if (buf_len(&p->group) == 0) {
			before_step(p);
		}
		if (!slice_word(&rest, " ", &number) ||
			num_parse_u32(number, 100000000, &times) != ERR_OK) {
			complain(p, "how many times?", rest);
			return;
		}
		add_client_text(p, slice_skip(rest, rest.n != 0 && rest.p[0] == ' '), false,
			times);
	} else if (slice_eq(word, SLICE("S:"))) {
		expect_reply(p, rest);
	} else if (slice_eq(word, SLICE("S*"))) {
		if (!slice_word(&rest, " ", &number) ||
			num_parse_u32(number, 100000, &times) != ERR_OK) {
			complain(p, "how many times?", rest);
			return;
		}
		for (uint32_t i = 0; i < times && !p->failed; i++) {
			expect_reply(p, slice_trim(rest));
		}
	} else if (slice_eq(word, SLICE("S!"))) {
		expect_state(p, rest);
	} else if (slice_eq(word, SLICE("Q?"))) {
		expect_event(p, rest);
	} else if (slice_eq(word, SLICE("Q!"))) {
		tell_store(p, rest);
	} else {
		do_other(p, word, rest);
	}
}

/* One case, cut in one way. */
static bool play(const char *file, unsigned first, struct slice script, struct cut cut,
	size_t *longest, bool *only_whole)
{
	struct play p = {.cut = cut, .file = file, .line = first};
	struct slice line;

	stage_init(&p.stage);
	buf_init(&p.group, GROUP_MOST);
	while (!p.failed && slice_cut(&script, '\n', &line)) {
		p.line++;
		do_line(&p, line);
	}
	if (!p.failed) {
		before_step(&p);
	}
	stage_clear(&p.stage);
	buf_clear(&p.group);
	*longest = p.longest;
	*only_whole = p.only_whole;
	return !p.failed;
}

static bool play_all(const char *file, unsigned first, struct slice script)
{
	static const size_t sizes[] = {1, 2, 3, 5, 7, 64, 1000, 4096};
	size_t longest = 0;
	size_t unused = 0;
	bool only_whole = false;

	if (!play(file, first, script, (struct cut){CUT_NOT, 0}, &longest, &only_whole)) {
		return false;
	}
	if (only_whole) {
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		/* Megabytes byte by byte show nothing that kilobytes do not. */
		if (longest / sizes[i] < 200000 &&
			!play(file, first, script, (struct cut){CUT_EVERY, sizes[i]}, &unused,
				&only_whole)) {
			return false;
		}
	}
	for (size_t n = 1; n < longest && longest <= CUT_MOST; n++) {
		if (!play(file, first, script, (struct cut){CUT_AT, n}, &unused, &only_whole)) {
			return false;
		}
	}
	return true;
}

/* ---- files ---- */

static void run_case(const char *file, unsigned line, struct slice title, struct slice script)
{
	bool ok = play_all(file, line, script);

	count++;
	failures += ok ? 0 : 1;
	printf("%s %d - %s: %.*s\n", ok ? "ok" : "not ok", count, file, SLICE_ARG(title));
}

static void run_file(const char *folder, const char *name)
{
	char path[8192];
	static char text[SCRIPT_MOST];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *f = fopen(path, "r");
	if (f == NULL) {
		printf("not ok %d - %s: cannot be read\n", ++count, path);
		failures++;
		return;
	}
	struct slice rest = {(const uint8_t *)text, fread(text, 1, sizeof(text), f)};
	(void)fclose(f);
	struct slice title = SLICE_EMPTY;
	struct slice script = SLICE_EMPTY;
	struct slice line;
	unsigned number = 0;
	unsigned first = 0;
	while (slice_cut(&rest, '\n', &line)) {
		number++;
		if (!slice_starts(line, SLICE("== "))) {
			script.n =
				script.p == NULL ? 0 : (size_t)(line.p + line.n + 1 - script.p);
			continue;
		}
		if (title.n != 0) {
			run_case(name, first, title, script);
		}
		title = slice_skip(line, 3);
		first = number;
		script = slice_make(line.p + line.n + 1, 0);
	}
	if (title.n != 0) {
		run_case(name, first, title, script);
	}
}

static int is_script(const struct dirent *d)
{
	return slice_ends_nocase(slice_from_cstr(d->d_name), SLICE(".dlg"));
}

int main(int argc, char **argv)
{
	const char *root = getenv("EKIDEN_ROOT");
	char folder[4096];
	struct dirent **names = NULL;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	log_set_level(LOG_LEVEL_ERROR);
	(void)snprintf(folder, sizeof(folder), "%s/tests/dialog/smtpd",
		root == NULL ? "." : root);
	int n = scandir(folder, &names, is_script, alphasort);
	if (n <= 0) {
		printf("not ok 1 - %s has no scripts\n", folder);
		return EXIT_FAILURE;
	}
	for (int i = 0; i < n; i++) {
		if (argc < 2 || strcmp(argv[1], names[i]->d_name) == 0) {
			run_file(folder, names[i]->d_name);
		}
		free(names[i]);
	}
	free(names);
	printf("1..%d\n", count);
	return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
