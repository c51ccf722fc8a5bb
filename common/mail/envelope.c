/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mail/envelope.h"
#include "common/base/limits.h"
#include "common/base/wire.h"

#define VERSION 1u
/* An address of one byte, no ORCPT: what keeps a count from asking for more memory than its
 * bytes earn. */
#define RCPT_BYTES_MIN (4u + 1u + 4u + 1u)
#define CLIENT_ADDR_MAX 64u
#define PROTOCOL_MAX 16u
#define RET_MAX 2u
#define NOTIFY_MAX 15u

enum err envelope_encode(const struct envelope *e, struct buf *to)
{
	struct wire_writer w = wire_begin(to);

	if (e->rcpt_count == 0) {
		return ERR_SYNTAX;
	}
	wire_put_u8(&w, VERSION, VERSION);
	wire_put_str(&w, e->sender, LIMIT_ADDRESS);
	wire_put_str(&w, e->envid, LIMIT_ENVID);
	wire_put_str(&w, e->client_name, LIMIT_HOSTNAME);
	wire_put_str(&w, e->client_addr, CLIENT_ADDR_MAX);
	wire_put_str(&w, e->helo, LIMIT_HOSTNAME);
	wire_put_str(&w, e->protocol, PROTOCOL_MAX);
	wire_put_str(&w, e->login, LIMIT_NAME);
	wire_put_str(&w, e->tenant, LIMIT_TENANT);
	wire_put_u8(&w, e->ret, RET_MAX);
	wire_put_u8(&w, e->stream_class, UINT8_MAX);
	wire_put_u8(&w, e->priority, UINT8_MAX);
	wire_put_i64(&w, e->deadline_s, INT64_MAX);
	wire_put_u32(&w, e->flags, UINT32_MAX);
	wire_put_u32(&w, e->rcpt_count, LIMIT_RCPTS);
	for (uint32_t i = 0; i < e->rcpt_count && w.err == ERR_OK; i++) {
		const struct envelope_rcpt *r = &e->rcpts[i];

		if (r->address.n == 0) {
			w.err = ERR_SYNTAX;
		}
		wire_put_str(&w, r->address, LIMIT_ADDRESS);
		wire_put_str(&w, r->orcpt, LIMIT_ORCPT);
		wire_put_u8(&w, r->notify, NOTIFY_MAX);
	}
	return wire_end(&w);
}

static void get_rcpt(struct wire_reader *r, struct envelope_rcpt *out)
{
	out->address = wire_get_str(r, LIMIT_ADDRESS);
	out->orcpt = wire_get_str(r, LIMIT_ORCPT);
	out->notify = wire_get_u8(r, NOTIFY_MAX);
	if (out->address.n == 0) {
		r->err = ERR_PROTO;
	}
}

enum err envelope_decode(struct slice bytes, struct arena *a, struct envelope *out)
{
	struct wire_reader r = {.left = bytes, .err = ERR_OK};
	struct envelope e = {.rcpts = NULL};

	if (wire_get_u8(&r, UINT8_MAX) != VERSION) {
		return ERR_CORRUPT;
	}
	e.sender = wire_get_str(&r, LIMIT_ADDRESS);
	e.envid = wire_get_str(&r, LIMIT_ENVID);
	e.client_name = wire_get_str(&r, LIMIT_HOSTNAME);
	e.client_addr = wire_get_str(&r, CLIENT_ADDR_MAX);
	e.helo = wire_get_str(&r, LIMIT_HOSTNAME);
	e.protocol = wire_get_str(&r, PROTOCOL_MAX);
	e.login = wire_get_str(&r, LIMIT_NAME);
	e.tenant = wire_get_str(&r, LIMIT_TENANT);
	e.ret = wire_get_u8(&r, RET_MAX);
	e.stream_class = wire_get_u8(&r, UINT8_MAX);
	e.priority = wire_get_u8(&r, UINT8_MAX);
	e.deadline_s = wire_get_i64(&r, INT64_MAX);
	e.flags = wire_get_u32(&r, UINT32_MAX);
	e.rcpt_count = wire_get_u32(&r, LIMIT_RCPTS);
	if (r.err != ERR_OK || e.rcpt_count == 0 || e.rcpt_count > r.left.n / RCPT_BYTES_MIN) {
		return ERR_CORRUPT;
	}
	e.rcpts = arena_alloc(a, e.rcpt_count * sizeof(*e.rcpts));
	if (e.rcpts == NULL) {
		return ERR_TOOBIG;
	}
	for (uint32_t i = 0; i < e.rcpt_count && r.err == ERR_OK; i++) {
		get_rcpt(&r, &e.rcpts[i]);
	}
	if (wire_finish(&r) != ERR_OK) {
		return ERR_CORRUPT;
	}
	*out = e;
	return ERR_OK;
}
