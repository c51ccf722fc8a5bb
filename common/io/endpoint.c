/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/num.h"
#include "common/base/str.h"
#include "common/io/endpoint.h"

#define CIDR_MAX 4096u

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

/* Without a pair of brackets around it; false when there is only one of them. */
static bool unbracket(struct slice *text)
{
	bool open = text->n != 0 && text->p[0] == '[';
	bool shut = text->n != 0 && text->p[text->n - 1] == ']';

	if (open && shut && text->n >= 2) {
		*text = slice_make(text->p + 1, text->n - 2);
		return true;
	}
	return !open && !shut;
}

enum err endpoint_parse_addr(struct slice text, uint16_t port, struct endpoint *out)
{
	struct endpoint e = {.port = port};
	char s[ENDPOINT_TEXT_MAX];

	if (!unbracket(&text) || text.n == 0 || str_copy(s, sizeof(s), text) != ERR_OK) {
		return ERR_SYNTAX;
	}
	if (inet_pton(AF_INET, s, e.addr) == 1) {
		e.family = 4;
	} else if (inet_pton(AF_INET6, s, e.addr) == 1) {
		e.family = 6;
	} else {
		return ERR_SYNTAX;
	}
	*out = e;
	return ERR_OK;
}

enum err endpoint_parse(struct slice text, uint16_t default_port, struct endpoint *out)
{
	struct slice addr = text;
	struct slice port = SLICE_EMPTY;
	bool has_port = false;
	uint32_t n = default_port;
	size_t at = slice_find_last(text, '@');
	size_t colon = slice_find_last(text, ':');

	if (at != text.n) {
		addr = slice_head(text, at);
		port = slice_skip(text, at + 1);
		has_port = true;
	} else if (colon != text.n && colon != 0 &&
		   (slice_find(text, ':') == colon ||
			   (text.p[0] == '[' && text.p[colon - 1] == ']'))) {
		addr = slice_head(text, colon);
		port = slice_skip(text, colon + 1);
		has_port = true;
	}
	if (has_port && num_parse_u32(port, UINT16_MAX, &n) != ERR_OK) {
		return ERR_SYNTAX;
	}
	return endpoint_parse_addr(addr, (uint16_t)n, out);
}

void endpoint_format_addr(const struct endpoint *e, char to[ENDPOINT_TEXT_MAX])
{
	static_assert(ENDPOINT_TEXT_MAX >= INET6_ADDRSTRLEN + sizeof("[]:65535"), "fits");

	to[0] = '\0';
	if (e->family == 4 || e->family == 6) {
		(void)inet_ntop(e->family == 4 ? AF_INET : AF_INET6, e->addr, to,
			ENDPOINT_TEXT_MAX);
	}
}

void endpoint_format(const struct endpoint *e, char to[ENDPOINT_TEXT_MAX])
{
	char addr[ENDPOINT_TEXT_MAX];

	endpoint_format_addr(e, addr);
	if (str_format(to, ENDPOINT_TEXT_MAX, "[%s]:%u", addr, (unsigned)e->port) != ERR_OK) {
		to[0] = '\0';
	}
}

static size_t addr_bytes(uint8_t family)
{
	return family == 4 ? 4 : 16;
}

bool endpoint_eq_addr(const struct endpoint *a, const struct endpoint *b)
{
	return a->family == b->family &&
	       (a->family == 0 || memcmp(a->addr, b->addr, addr_bytes(a->family)) == 0);
}

bool endpoint_eq(const struct endpoint *a, const struct endpoint *b)
{
	return endpoint_eq_addr(a, b) && a->port == b->port;
}

void endpoint_unmap(struct endpoint *e)
{
	if (e->family == 6 && memcmp(e->addr, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		e->family = 4;
		memmove(e->addr, e->addr + 12, 4);
		memset(e->addr + 4, 0, 12);
	}
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (e->family == 4) {
		struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(e->port)};
		memcpy(&sin.sin_addr, e->addr, 4);
		memcpy(out, &sin, sizeof(sin));
		return sizeof(sin);
	}
	assert(e->family == 6);
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = htons(e->port)};
	memcpy(&sin6.sin6_addr, e->addr, 16);
	memcpy(out, &sin6, sizeof(sin6));
	return sizeof(sin6);
}

enum err endpoint_from_sockaddr(const struct sockaddr_storage *sa, struct endpoint *out)
{
	struct endpoint e = {.family = 0};

	if (sa->ss_family == AF_INET) {
		struct sockaddr_in sin;
		memcpy(&sin, sa, sizeof(sin));
		e.family = 4;
		e.port = ntohs(sin.sin_port);
		memcpy(e.addr, &sin.sin_addr, 4);
	} else if (sa->ss_family == AF_INET6) {
		struct sockaddr_in6 sin6;
		memcpy(&sin6, sa, sizeof(sin6));
		e.family = 6;
		e.port = ntohs(sin6.sin6_port);
		memcpy(e.addr, &sin6.sin6_addr, 16);
	} else {
		return ERR_SYNTAX;
	}
	*out = e;
	return ERR_OK;
}

/* Whether the first bits of both are the same. */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	size_t whole = bits / 8;
	unsigned rest = bits % 8;

	if (whole != 0 && memcmp(a, b, whole) != 0) {
		return false;
	}
	return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

static bool host_bits_clear(const struct cidr *c)
{
	struct cidr masked = *c;
	size_t n = addr_bytes(c->family);

	for (size_t i = 0; i < n; i++) {
		unsigned kept = c->bits > i * 8 ? c->bits - (unsigned)i * 8 : 0;
		if (kept < 8) {
			masked.addr[i] &= (uint8_t)(0xff00u >> kept);
		}
	}
	return memcmp(masked.addr, c->addr, n) == 0;
}

static bool cidr_parse(struct slice word, struct cidr *out)
{
	struct cidr c = {.negated = false};
	struct endpoint e = {.family = 0};
	uint32_t bits = 0;

	while (word.n != 0 && word.p[0] == '!') {
		c.negated = !c.negated;
		word = slice_skip(word, 1);
	}
	size_t slash = slice_find(word, '/');
	struct slice addr = slice_head(word, slash);
	struct slice length = slice_skip(word, slash + 1);
	if (slash + 1 < word.n && word.p[0] == '[' && word.p[word.n - 1] == ']') {
		/* "[2001:db8::/32]" is what some people write for "[2001:db8::]/32". */
		addr = slice_skip(addr, 1);
		length = slice_head(length, length.n - 1);
	}
	if (endpoint_parse_addr(addr, 0, &e) != ERR_OK) {
		return false;
	}
	uint32_t most = e.family == 4 ? 32 : 128;
	bits = most;
	if (slash != word.n && num_parse_u32(length, most, &bits) != ERR_OK) {
		return false;
	}
	c.family = e.family;
	c.bits = (uint8_t)bits;
	memcpy(c.addr, e.addr, sizeof(c.addr));
	if (!host_bits_clear(&c)) {
		return false;
	}
	/* Addresses are compared unmapped, so a network of mapped ones is an IPv4 network. */
	if (c.bits >= 96 && e.family == 6) {
		endpoint_unmap(&e);
		if (e.family == 4) {
			c.family = 4;
			c.bits = (uint8_t)(c.bits - 96);
			memcpy(c.addr, e.addr, sizeof(c.addr));
		}
	}
	*out = c;
	return true;
}

enum err cidr_list_parse(struct slice text, struct cidr_list *out, struct slice *bad)
{
	struct cidr_list l = {.items = NULL};
	size_t room = 0;
	struct slice word;
	enum err e = ERR_OK;

	while (e == ERR_OK && slice_word(&text, " \t\r\n,", &word)) {
		struct cidr c;
		if (!cidr_parse(word, &c)) {
			e = ERR_SYNTAX;
		} else if (l.count == CIDR_MAX) {
			e = ERR_TOOBIG;
		} else {
			if (l.count == room) {
				room = room == 0 ? 8 : room * 2;
				l.items = alloc_resize(l.items, room, sizeof(*l.items));
			}
			l.items[l.count++] = c;
		}
		if (e != ERR_OK) {
			*bad = word;
		}
	}
	if (e != ERR_OK) {
		cidr_list_clear(&l);
		return e;
	}
	*out = l;
	return ERR_OK;
}

void cidr_list_clear(struct cidr_list *l)
{
	ALLOC_FREE(l->items);
	l->count = 0;
}

bool cidr_list_has(const struct cidr_list *l, const struct endpoint *e)
{
	struct endpoint plain = *e;

	endpoint_unmap(&plain);
	for (size_t i = 0; i < l->count; i++) {
		const struct cidr *c = &l->items[i];
		if (c->family == plain.family && same_bits(c->addr, plain.addr, c->bits)) {
			return !c->negated;
		}
	}
	return false;
}
