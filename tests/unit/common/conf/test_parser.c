/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/attr.h"
#include "common/conf/conf.h"
#include "common/conf/main_cf.h"
#include "common/conf/master_cf.h"
#include "common/conf/parser.h"

/* A folder for each test; "@" in what is written stands for it. */
static char dir[64];

static int set_up(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/ekiden-test-parser.XXXXXX");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static const char *const written[] = {"main.cf", "master.cf", "table", "keys", "key", "nets",
	"mailname", "pem", "fifo"};

static int tear_down(void **state)
{
	char path[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(written); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, written[i]);
		(void)unlink(path);
	}
	return rmdir(dir);
}

static void put(const char *name, const char *text)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	for (; *text != '\0'; text++) {
		if (*text == '@') {
			(void)fputs(dir, f);
		} else {
			(void)fputc(*text, f);
		}
	}
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0600), 0);
}

/* What every good main.cf here begins with, three lines. */
#define HEAD "queue_directory = @/q\ndata_directory = @/d\nmyhostname = relay.example.com\n"
#define ONE_LISTENER "127.0.0.1:2525 inet n - y - - smtpd\n"

static struct conf_source read_both(const char *main_text, const char *master_text)
{
	struct conf_source s;

	put("main.cf", main_text);
	put("master.cf", master_text);
	conf_source_read(dir, &s);
	return s;
}

static void print_problems(const struct conf_source *s)
{
	for (size_t i = 0; i < s->problem_count; i++) {
		print_message("%s:%u: %s: %s\n", s->problems[i].file, s->problems[i].line,
			s->problems[i].fatal ? "error" : "warning", s->problems[i].text);
	}
}

/* There is that problem, and it is in that file. */
static void expect_problem(const struct conf_source *s, bool fatal, const char *file,
	unsigned line, const char *text)
{
	for (size_t i = 0; i < s->problem_count; i++) {
		const struct conf_problem *p = &s->problems[i];
		if (p->fatal == fatal && p->line == line && strstr(p->text, text) != NULL &&
			strcmp(strrchr(p->file, '/') + 1, file) == 0) {
			return;
		}
	}
	print_problems(s);
	fail_msg("not told: %s %u %s", file, line, text);
}

/* Systems differ in what they have installed; everything else is our doing. */
static size_t own_problems(const struct conf_source *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->problem_count; i++) {
		n += strstr(s->problems[i].text, "dns_trust_anchor") == NULL;
	}
	if (n != 0) {
		print_problems(s);
	}
	return n;
}

static void expect_setting(const struct conf_source *s, const char *name, const char *want)
{
	struct slice got = SLICE_EMPTY;

	if (!conf_main_get(s->main, slice_from_cstr(name), &got) ||
		!slice_eq(got, slice_from_cstr(want))) {
		fail_msg("%s: \"%.*s\", want \"%s\"", name, SLICE_ARG(got), want);
	}
}

static void reads_main_cf_as_postfix_does(void **state)
{
	struct conf_source s = read_both("# comment\n" HEAD "\n"
					 "smtpd_banner =\n"
					 "  $myhostname\n"
					 "# inside\n"
					 "\n"
					 "\tESMTP   $mine  \n"
					 "mine = # is text\n"
					 "relayhost=[127.0.0.1]:25\n"
					 "empty =\n"
					 "smtpd_recipient_limit = ${empty?1}${empty:77}\n",
		ONE_LISTENER);

	(void)state;
	assert_false(s.has_fatal);
	expect_setting(&s, "smtpd_banner", "relay.example.com\tESMTP   # is text");
	expect_setting(&s, "relayhost", "[127.0.0.1]:25");
	expect_setting(&s, "smtpd_recipient_limit", "77");
	expect_setting(&s, "mydomain", "example.com");
	expect_setting(&s, "myorigin", "relay.example.com");
	assert_int_equal(own_problems(&s), 0);
	assert_true(conf_main_is_set(s.main, SLICE("empty")));
	assert_false(conf_main_is_set(s.main, SLICE("mydomain")));
	assert_int_equal(conf_main_count(s.main), 8);
	conf_source_clear(&s);
	conf_source_clear(&s);
}

static void tells_file_and_line_of_every_problem(void **state)
{
	static const struct {
		const char *line;
		bool fatal;
		const char *text;
	} cases[] = {
		{"smtpd_recipent_limit = 3", false,
			"smtpd_recipent_limit: unknown parameter; did you mean smtpd_recipient_limit?"},
		{"nothing_like_it_at_all = 3", false, "unknown parameter"},
		{"content_filter = x", false, "content_filter: accepted, without effect"},
		{"smtp_destination_concurrency_limit = 3", false, "accepted, without effect"},
		{"smtpd_timeout = soon", true, "smtpd_timeout: must be a time such as 30s"},
		{"smtpd_recipient_limit = 0", true,
			"must be a number in 1..1000000 (got \"0\")"},
		{"no equals sign", true, "expected \"name = value\""},
		{"a-b = c", true, "cannot be a name"},
		{"= c", true, "cannot be a name"},
		{"smtpd_banner = $smtpd_banner x", true, "$smtpd_banner refers to itself"},
		{"own = $own", false, "$own refers to itself"},
		{"smtp_helo_name = $nosuch", false, "$nosuch is set nowhere"},
		{"smtp_helo_name = a $ b", true, "a lone $"},
		{"mydestination = example.com", false, "nothing is delivered locally"},
		{"myhostname = b.example", false, "myhostname: overrides line 3"},
		{"transport_maps = hash:/etc/x", true, "write texthash:/etc/x"},
		{"transport_maps = texthash:/nosuch/file", true, "No such file"},
		{"transport_maps = texthash:relative", true, "must be a path, from / on"},
		{"transport_maps = texthash:@", true, "not a regular file"},
		{"smtpd_tls_cert_file = /nosuch/file", true, "No such file"},
		{"smtp_tls_CAfile = /nosuch/file", false, "No such file"},
		{"smtpd_tls_security_level = encrypt", true, "needs smtpd_tls_cert_file"},
		{"smtpd_tls_security_level = may", false, "STARTTLS is not offered"},
		{"minimal_backoff_time = 2h", true,
			"must not be larger than maximal_backoff_time"},
		{"smtpd_relay_restrictions = permit_sasl_authenticated reject", false,
			"permit_sasl_authenticated permits nobody"},
		{"myorigin = /nosuch/file", true, "cannot read its first line"},
		{"mynetworks = /nosuch/file", true, "No such file"},
		{"transport_maps = inline:{a=local:}", true, "a: must be smtp:NEXTHOP"},
		{"transport_maps = inline:{a=smtp:[b}", true, "a: must be smtp:NEXTHOP"},
		{"transport_maps = inline:{a=[b]:25}", true, "a: must be smtp:NEXTHOP"},
		{"dkim_keys = inline:{example.com=x}", true, "must be selector:/path/of/key"},
		{"dkim_keys = inline:{example.com=x:/nosuch/key}", true, "No such file"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[512];
		(void)snprintf(text, sizeof(text), HEAD "\n%s\n", cases[i].line);
		struct conf_source s = read_both(text, ONE_LISTENER);
		struct conf *c = NULL;
		expect_problem(&s, cases[i].fatal, "main.cf", 5, cases[i].text);
		assert_int_equal(s.has_fatal, cases[i].fatal);
		assert_int_equal(conf_source_conf(&s, &c),
			cases[i].fatal ? ERR_CONFIG : ERR_OK);
		assert_int_equal(conf_source_file_count(&s) == 0, cases[i].fatal);
		conf_free(&c);
		conf_source_clear(&s);
	}
}

static void lets_macros_and_idle_parameters_pass(void **state)
{
	struct conf_source s = read_both(HEAD
		"transport_maps = inline:{a=smtp:, {b = error:no such}, c=:b, "
		"d=relay:[::1]:2525, e=discard:}\n"
		"mine = 10.0.0.0/8\n"
		"mynetworks = 127.0.0.0/8 $mine\n"
		"for_master = 5\n"
		"biff = no\n"
		"alias_maps =\n"
		"compatibility_level = 3.6\n"
		"smtpd_restriction_classes = strict\n"
		"strict = reject\n",
		"127.0.0.1:2525 inet n - y - - smtpd -o smtpd_recipient_limit=$for_master\n");

	(void)state;
	expect_problem(&s, false, "main.cf", 11, "smtpd_restriction_classes: accepted");
	assert_int_equal(own_problems(&s), 1);
	conf_source_clear(&s);
}

static void takes_the_names_of_this_host_from_files(void **state)
{
	put("mailname", "  mail.example.org \nsecond line\n");
	struct conf_source s = read_both(
		"queue_directory = @/q\ndata_directory = @/d\nmyhostname = @/mailname\n"
		"myorigin = @/mailname\nsmtpd_banner = $myhostname\n",
		ONE_LISTENER);
	struct conf *c = NULL;

	(void)state;
	assert_int_equal(own_problems(&s), 0);
	expect_setting(&s, "myhostname", "mail.example.org");
	expect_setting(&s, "mydomain", "example.org");
	expect_setting(&s, "myorigin", "mail.example.org");
	assert_int_equal(conf_source_conf(&s, &c), ERR_OK);
	assert_string_equal(conf_cstr(c, CONF_smtpd_banner), "mail.example.org");
	conf_free(&c);
	conf_source_clear(&s);
}

static void completes_the_systems_name_by_mydomain(void **state)
{
	struct conf_source s = read_both(
		"queue_directory = @/q\ndata_directory = @/d\nmydomain = example.org\n",
		ONE_LISTENER);
	struct slice host;
	char name[256] = "";

	(void)state;
	assert_int_equal(gethostname(name, sizeof(name) - 1), 0);
	assert_true(conf_main_get(s.main, SLICE("myhostname"), &host));
	if (strchr(name, '.') == NULL) {
		assert_true(slice_starts(host, slice_from_cstr(name)));
		assert_true(slice_ends_nocase(host, SLICE(".example.org")));
	} else {
		assert_true(slice_eq(host, slice_from_cstr(name)));
	}
	conf_source_clear(&s);
}

static void keeps_the_files_that_settings_name(void **state)
{
	put("table", "example.com smtp:[127.0.0.1]:25\n");
	put("keys", "example.com one:@/key, two:@/key\n");
	put("key", "the key\n");
	put("pem", "both\n");
	put("nets", "# mine\n10.0.0.0/8\n192.0.2.0/24\n");
	struct conf_source s = read_both(HEAD "transport_maps = texthash:@/table\n"
					      "dkim_keys = texthash:@/keys\n"
					      "smtpd_tls_cert_file = @/pem\n"
					      "smtp_tls_CAfile =\n"
					      "dns_trust_anchor =\n"
					      "mynetworks = 127.0.0.0/8, @/nets\n",
		ONE_LISTENER);
	static const struct {
		const char *name;
		const char *content;
		unsigned sees;
	} want[] = {
		{"texthash:@/table", "example.com smtp:[127.0.0.1]:25\n", SEES_QMGR},
		{"@/pem", "both\n", SEES_SMTPD},
		{"texthash:@/keys", NULL, SEES_CLEANUP},
		{"@/key", "the key\n", SEES_CLEANUP},
	};
	struct conf *c = NULL;
	struct endpoint e;

	(void)state;
	assert_int_equal(own_problems(&s), 0);
	assert_int_equal(conf_source_file_count(&s), ARRAY_LEN(want));
	assert_int_equal(conf_source_conf(&s, &c), ERR_OK);
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct conf_source_file f = conf_source_file_at(&s, i);
		char name[128] = "";
		struct slice got;
		const char *at = strchr(want[i].name, '@');
		(void)snprintf(name, sizeof(name), "%.*s%s%s", (int)(at - want[i].name),
			want[i].name, dir, at + 1);
		assert_true(slice_eq(f.name, slice_from_cstr(name)));
		assert_int_equal(f.sees, want[i].sees);
		assert_int_equal(conf_file(c, f.name, &got), ERR_OK);
		assert_true(slice_eq(got, f.bytes));
		if (want[i].content != NULL) {
			assert_true(slice_eq(f.bytes, slice_from_cstr(want[i].content)));
		}
	}
	assert_int_equal(endpoint_parse_addr(SLICE("192.0.2.9"), 0, &e), ERR_OK);
	assert_true(cidr_list_has(conf_cidr(c, CONF_mynetworks), &e));
	conf_free(&c);
	conf_source_clear(&s);
}

static void waits_for_no_fifo(void **state)
{
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	struct conf_source s = read_both(HEAD "smtpd_tls_cert_file = @/fifo\n", ONE_LISTENER);
	expect_problem(&s, true, "main.cf", 4, "not a regular file");
	conf_source_clear(&s);
}

static void warns_of_keys_that_everybody_can_read(void **state)
{
	char path[128];

	(void)state;
	put("key", "key\n");
	(void)snprintf(path, sizeof(path), "%s/key", dir);
	assert_int_equal(chmod(path, 0644), 0);
	struct conf_source s =
		read_both(HEAD "dkim_keys = inline:{{x = s:@/key}}\n", ONE_LISTENER);
	expect_problem(&s, false, "main.cf", 4, "everybody can read the private key");
	conf_source_clear(&s);
}

static void reads_the_listeners_of_master_cf(void **state)
{
	struct conf_source s = read_both(HEAD "mua = reject\n",
		"# comment\n"
		"smtp      inet  n       -       y       -       -       smtpd\n"
		"[::1]:submission inet n - y - 7 smtpd\n"
		"  -o smtpd_recipient_limit=5\n"
		"# inside\n"
		"  -o { smtpd_banner = $myhostname says hello }\n"
		"  -o myhostname=other.example -o smtpd_helo_required=no\n"
		"  -o syslog_name=postfix/submission -o smtpd_client_restrictions=$mua\n"
		"localhost:2525 inet n - n - 1 smtpd\n"
		"pickup unix n - y 60 1 pickup\n"
		"tlsmgr unix - - y 1000? 1 tlsmgr\n"
		"postlog unix-dgram n - n - 1 postlogd\n"
		"relay unix - - y - - smtp -o syslog_name=postfix/$service_name\n"
		"maildrop unix - n n - - pipe flags=DRXhu user=vmail argv=/usr/bin/maildrop -d\n"
		"slow unix - - y - - smtp -o smtp_bind_address=192.0.2.1\n"
		"10025 inet n - n - - spawn user=nobody argv=/x\n"
		"odd unix - - n - - mine\n");

	(void)state;
	assert_false(s.has_fatal);
	assert_int_equal(s.listener_count, 3);
	assert_string_equal(s.listeners[0].name, "smtp");
	assert_null(s.listeners[0].host);
	assert_int_equal(s.listeners[0].port, 25);
	assert_string_equal(s.listeners[0].options, "");
	assert_string_equal(s.listeners[1].host, "::1");
	assert_int_equal(s.listeners[1].port, 587);
	assert_int_equal(s.listeners[1].processes, 7);
	assert_int_equal(s.listeners[1].line, 3);
	static const char *const options[] = {"myhostname=other.example\n",
		"smtpd_banner=other.example says hello\n", "smtpd_recipient_limit=5\n"};
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		assert_non_null(strstr(s.listeners[1].options, options[i]));
	}
	assert_null(strstr(s.listeners[1].options, "smtpd_timeout"));
	assert_null(strstr(s.listeners[1].options, "syslog_name"));
	assert_string_equal(s.listeners[2].host, "127.0.0.1");
	assert_int_equal(s.listeners[2].processes, 1);
	expect_problem(&s, false, "master.cf", 3, "smtpd_client_restrictions: accepted");
	expect_problem(&s, false, "master.cf", 15, "options of a transport are without effect");
	expect_problem(&s, false, "master.cf", 16, "only smtpd does here");
	expect_problem(&s, false, "master.cf", 17, "no program of Postfix");
	assert_int_equal(own_problems(&s), 4);
	conf_source_clear(&s);
}

static void tells_what_is_wrong_in_master_cf(void **state)
{
	static const struct {
		const char *line;
		bool fatal;
		const char *text;
	} cases[] = {
		{"smtp inet n - y - smtpd", true, "expected eight columns"},
		{"smtp tcp n - y - - smtpd", true, "type must be inet"},
		{"smtp inet x - y - - smtpd", true, "private must be y, n or -"},
		{"smtp inet n x y - - smtpd", true, "unpriv must be y, n or -"},
		{"smtp inet n - x - - smtpd", true, "chroot must be y, n or -"},
		{"smtp inet n - y x - smtpd", true, "wakeup must be a number"},
		{"smtp inet n - y - x smtpd", true, "maxproc must be a number"},
		{"nosuchservice inet n - y - - smtpd", true,
			"must be named port, ADDRESS:port"},
		{"0 inet n - y - - smtpd", true, "must be named port"},
		{"65536 inet n - y - - smtpd", true, "must be named port"},
		{"host.example:25 inet n - y - - smtpd", true, "must be named port"},
		{"::1:25 inet n - y - - smtpd", true, "must be named port"},
		{"[::1:25 inet n - y - - smtpd", true, "must be named port"},
		{"25 inet n - y - - smtpd -o", true, "-o must be followed by"},
		{"25 inet n - y - - smtpd -o x", true, "-o must be followed by"},
		{"25 inet n - y - - smtpd -o { = x }", true, "-o must be followed by"},
		{"25 inet n - y - - smtpd -o smtpd_tls_security_level=encrypt", true,
			"needs smtpd_tls_cert_file"},
		{"25 inet n - y - - smtpd -x", true, "smtpd takes only -o"},
		{"25 inet n - y - - smtpd -v", false, "-v is without effect"},
		{"25 inet n - y - - smtpd -o smtpd_timeout=x", true,
			"smtpd_timeout: must be a time"},
		{"25 inet n - y - - smtpd -osmtpd_timeout=x", true,
			"smtpd_timeout: must be a time"},
		{"25 inet n - y - - smtpd -o smtpd_timeot=9", false,
			"did you mean smtpd_timeout?"},
		{"25 inet n - y - - smtpd -o relayhost=x", false,
			"not a matter of one listener"},
		{"25 inet n - y - - smtpd -o smtpd_banner=$", true, "a lone $"},
		{"25 inet n - y - - smtpd -o smtpd_banner=$nosuch", false,
			"$nosuch is set nowhere"},
		{"25 inet n - y - - smtpd -o smtpd_tls_cert_file=/nosuch/x", true,
			"No such file"},
		{"127.0.0.1:2525 inet n - y - - smtpd", true,
			"listens where line 1 does already"},
		{"qmqp inet n - n - - qmqpd", false, "only smtpd does here"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[512];
		(void)snprintf(text, sizeof(text), ONE_LISTENER "\n%s\n", cases[i].line);
		struct conf_source s = read_both(HEAD, text);
		expect_problem(&s, cases[i].fatal, "master.cf", 3, cases[i].text);
		assert_int_equal(s.has_fatal, cases[i].fatal);
		conf_source_clear(&s);
	}
}

static void says_what_is_missing(void **state)
{
	struct conf_source s;
	struct conf *c = NULL;

	(void)state;
	conf_source_read(NULL, &s);
	assert_true(s.has_fatal);
	assert_int_equal(conf_source_conf(&s, &c), ERR_CONFIG);
	conf_source_clear(&s);
	conf_source_read(dir, &s);
	expect_problem(&s, true, "main.cf", 0, "cannot be read");
	expect_problem(&s, true, "master.cf", 0, "cannot be read");
	conf_source_clear(&s);
	s = read_both(HEAD, "pickup unix n - y 60 1 pickup\n");
	expect_problem(&s, false, "master.cf", 0, "nothing listens");
	assert_false(s.has_fatal);
	conf_source_clear(&s);
}

static void tells_lines_that_continue_nothing(void **state)
{
	struct conf_source s = read_both("  lost\n" HEAD, "\t lost\n" ONE_LISTENER);

	(void)state;
	expect_problem(&s, false, "main.cf", 1, "continues nothing");
	expect_problem(&s, false, "master.cf", 1, "continues nothing");
	assert_false(s.has_fatal);
	conf_source_clear(&s);
}

static void ends_at_every_truncation(void **state)
{
	static const char main_text[] =
		"# c\na = b\n  c\nsmtpd_banner = ${a?{$x}:{y}}\nmynetworks=::/0\n";
	static const char master_text[] =
		"# c\n[::1]:25 inet n - y 1? 5 smtpd -v -o a=b -o { c = d }\n"
		"x unix - - n - - smtp -o {\n";

	(void)state;
	for (size_t n = 0; n < sizeof(main_text); n++) {
		struct conf_source s = {.main = NULL};
		char *exact = test_malloc(n + 1);
		memcpy(exact, main_text, n);
		s.main = main_cf_parse(slice_make(exact, n), "/main.cf", &s);
		main_cf_expand(s.main, &s);
		conf_source_clear(&s);
		test_free(exact);
	}
	for (size_t n = 0; n < sizeof(master_text); n++) {
		struct conf_source s = {.main = NULL};
		struct master_cf m;
		char *exact = test_malloc(n + 1);
		memcpy(exact, master_text, n);
		master_cf_parse(slice_make(exact, n), "/master.cf", &s, &m);
		master_cf_clear(&m);
		conf_source_clear(&s);
		test_free(exact);
	}
}

#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_FOLDER(reads_main_cf_as_postfix_does),
		IN_A_FOLDER(tells_file_and_line_of_every_problem),
		IN_A_FOLDER(lets_macros_and_idle_parameters_pass),
		IN_A_FOLDER(takes_the_names_of_this_host_from_files),
		IN_A_FOLDER(completes_the_systems_name_by_mydomain),
		IN_A_FOLDER(keeps_the_files_that_settings_name),
		IN_A_FOLDER(waits_for_no_fifo),
		IN_A_FOLDER(warns_of_keys_that_everybody_can_read),
		IN_A_FOLDER(reads_the_listeners_of_master_cf),
		IN_A_FOLDER(tells_what_is_wrong_in_master_cf),
		IN_A_FOLDER(says_what_is_missing),
		IN_A_FOLDER(tells_lines_that_continue_nothing),
		cmocka_unit_test(ends_at_every_truncation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
