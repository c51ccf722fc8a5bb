/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/io/fd.h"
#include "master/listeners.h"

#define SOURCE_MAX 8

/* What the parser makes of master.cf, by hand; port 0 lets the kernel choose. */
struct source {
	struct conf_source source;
	struct conf_listener items[SOURCE_MAX];
	struct conf *conf;
};

static struct source source_new(const char *interfaces)
{
	struct source s = {.conf = NULL};
	struct conf_builder *b = conf_builder_new();
	struct buf why;

	buf_init(&why, 1024);
	assert_int_equal(conf_builder_set(b, SLICE("inet_interfaces"),
				 slice_from_cstr(interfaces), &why),
		ERR_OK);
	assert_int_equal(conf_builder_set(b, SLICE("inet_protocols"), SLICE("ipv4"), &why),
		ERR_OK);
	assert_int_equal(conf_builder_end(&b, &why, &s.conf), ERR_OK);
	buf_clear(&why);
	return s;
}

static void listen_on(struct source *s, const char *host, uint16_t port, const char *options,
	unsigned processes)
{
	static char name[] = "smtp";
	struct conf_listener *l = &s->items[s->source.listener_count++];

	assert_true(s->source.listener_count <= SOURCE_MAX);
	l->name = name;
	l->host = host == NULL ? NULL : alloc_cstr(host);
	l->port = port;
	l->processes = processes;
	l->options = options == NULL ? NULL : alloc_cstr(options);
	l->line = 3;
}

static enum err prepare(struct source *s, const struct listeners *old, struct listeners *out,
	bool *waits)
{
	struct buf why;

	buf_init(&why, 1024);
	s->source.listeners = s->items;
	enum err e = listeners_prepare(&s->source, s->conf, old, out, waits, &why);
	assert_int_equal(e == ERR_OK, buf_len(&why) == 0);
	buf_clear(&why);
	return e;
}

static void source_clear(struct source *s)
{
	for (size_t i = 0; i < s->source.listener_count; i++) {
		free(s->items[i].host);
		free(s->items[i].options);
	}
	conf_free(&s->conf);
}

static void binds_what_master_cf_names(void **state)
{
	struct source s = source_new("loopback-only");
	struct listeners l;
	bool waits;

	(void)state;
	listen_on(&s, "127.0.0.1", 0, "a=b\n", 0);
	listen_on(&s, NULL, 0, NULL, 0);
	listen_on(&s, "[127.0.0.2]", 0, NULL, 0);
	assert_int_equal(prepare(&s, NULL, &l, &waits), ERR_OK);
	assert_false(waits);
	assert_int_equal(l.count, 3);
	for (size_t i = 0; i < l.count; i++) {
		assert_true(l.items[i].fd >= 0 && l.items[i].bound.port != 0);
		assert_int_equal(l.items[i].id, i + 1);
	}
	assert_string_equal(l.items[0].options, "a=b\n");
	listeners_clear(&l);
	source_clear(&s);
}

static void refuses_what_cannot_be(void **state)
{
	static const struct {
		const char *why;
		const char *host;
		uint16_t port;
		unsigned times;
	} cases[] = {
		{"an address that this machine has not", "192.0.2.77", 0, 1},
		{"one place twice", "127.0.0.1", 47, 2},
		{"no service at all", NULL, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct source s = source_new("all");
		struct listeners l;
		bool waits;
		for (unsigned k = 0; k < cases[i].times; k++) {
			listen_on(&s, cases[i].host, cases[i].port, NULL, 0);
		}
		if (prepare(&s, NULL, &l, &waits) != ERR_CONFIG) {
			fail_msg("took: %s", cases[i].why);
		}
		assert_int_equal(l.count, 0);
		listeners_clear(&l);
		source_clear(&s);
	}
}

static void keeps_the_socket_of_what_stays(void **state)
{
	struct source s = source_new("all");
	struct listeners first;
	struct listeners second;
	struct listeners third;
	bool waits;

	(void)state;
	listen_on(&s, "127.0.0.1", 0, NULL, 0);
	assert_int_equal(prepare(&s, NULL, &first, &waits), ERR_OK);
	/* The kernel's choice stands for a port of master.cf from here on. */
	uint16_t port = first.items[0].bound.port;
	first.items[0].at.port = port;
	s.items[0].port = port;
	assert_int_equal(prepare(&s, &first, &second, &waits), ERR_OK);
	assert_false(waits);
	assert_true(second.items[0].is_kept);
	assert_int_equal(second.items[0].id, first.items[0].id);
	assert_true(listeners_have(&second, &first.items[0]));
	/* One that somebody has shut listens again. */
	int accepts = 1;
	socklen_t n = sizeof(accepts);
	assert_int_equal(shutdown(second.items[0].fd, SHUT_RD), 0);
	listeners_clear(&first);
	assert_int_equal(prepare(&s, &second, &first, &waits), ERR_OK);
	assert_int_equal(getsockopt(first.items[0].fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &n),
		0);
	assert_int_equal(accepts, 1);
	/* Other options: the same socket under another number. */
	s.items[0].options = alloc_cstr("x=y\n");
	assert_int_equal(prepare(&s, &second, &third, &waits), ERR_OK);
	assert_false(third.items[0].is_kept);
	assert_true(third.items[0].fd >= 0);
	assert_true(third.items[0].id > second.items[0].id);
	assert_false(listeners_have(&third, &second.items[0]));
	listeners_clear(&first);
	listeners_clear(&second);
	listeners_clear(&third);
	source_clear(&s);
}

/* False: a stranger's connection has the same port at another address of this machine. */
static bool takes_the_place(void)
{
	struct source one = source_new("all");
	struct source all = source_new("all");
	struct listeners old;
	struct listeners new;
	struct buf why;
	bool waits;

	buf_init(&why, 1024);
	listen_on(&one, "127.0.0.1", 0, NULL, 0);
	assert_int_equal(prepare(&one, NULL, &old, &waits), ERR_OK);
	uint16_t port = old.items[0].bound.port;
	old.items[0].at.port = port;
	listen_on(&all, NULL, port, NULL, 0);
	assert_int_equal(prepare(&all, &old, &new, &waits), ERR_OK);
	assert_true(waits);
	assert_int_equal(new.items[0].fd, -1);
	assert_false(listeners_bind_rest(&new, &why));
	assert_true(buf_len(&why) != 0);
	/* Another process may still hold it: the listening ends all the same. */
	int held = dup(old.items[0].fd);
	listener_shut(&old.items[0]);
	bool done = listeners_bind_rest(&new, &why);
	if (done) {
		assert_true(new.items[0].fd >= 0);
		assert_int_equal(new.items[0].bound.port, port);
	}
	close(held);
	listeners_clear(&old);
	listeners_clear(&new);
	source_clear(&one);
	source_clear(&all);
	buf_clear(&why);
	return done;
}

static void waits_for_a_place_that_an_old_socket_covers(void **state)
{
	bool done = false;

	(void)state;
	for (int i = 0; i < 20 && !done; i++) {
		done = takes_the_place();
	}
	assert_true(done);
}

static void describes_its_doors(void **state)
{
	struct source s = source_new("all");
	struct listeners l;
	struct buf doors;
	char want[64];
	bool waits;

	(void)state;
	buf_init(&doors, 65536);
	listen_on(&s, NULL, 0, NULL, 0);
	assert_int_equal(prepare(&s, NULL, &l, &waits), ERR_OK);
	listeners_describe(&l, &doors);
	/* All addresses of the machine: loopback is one of them wherever there is a network. */
	snprintf(want, sizeof(want), "[0.0.0.0]:%u\n", l.items[0].bound.port);
	assert_true(slice_starts(buf_view(&doors), slice_from_cstr(want)));
	listeners_clear(&l);
	source_clear(&s);
	buf_clear(&doors);
}

static void takes_the_wish_of_maxproc(void **state)
{
	struct source s = source_new("all");

	(void)state;
	s.source.listeners = s.items;
	assert_int_equal(listeners_wish(&s.source), 0);
	listen_on(&s, NULL, 0, NULL, 2);
	assert_int_equal(listeners_wish(&s.source), 2);
	listen_on(&s, NULL, 0, NULL, 5);
	assert_int_equal(listeners_wish(&s.source), 5);
	listen_on(&s, NULL, 0, NULL, 0);
	assert_int_equal(listeners_wish(&s.source), 0);
	source_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(binds_what_master_cf_names),
		cmocka_unit_test(refuses_what_cannot_be),
		cmocka_unit_test(keeps_the_socket_of_what_stays),
		cmocka_unit_test(waits_for_a_place_that_an_old_socket_covers),
		cmocka_unit_test(describes_its_doors),
		cmocka_unit_test(takes_the_wish_of_maxproc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
