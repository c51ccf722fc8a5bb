/* SPDX-License-Identifier: Apache-2.0 */
#include "resolve/dns_packet.h"

#include <assert.h>
#include <string.h>

#define HEADER_BYTES 12u
#define CLASS_IN 1u
#define FLAG_RESPONSE 0x8000u
#define FLAG_TRUNCATED 0x0200u
#define RCODE_MASK 0x000fu

#define NAME_WIRE_MAX 255u /* RFC 1035 section 2.3.4, length octets included */
#define LABEL_MAX 63u

struct name {
	char text[DNS_NAME_MAX + 3];
	size_t n;
	bool is_host; /* letters, digits, '-' and '_' only */
};

struct record {
	struct name owner;
	uint16_t type;
	uint16_t class;
	uint32_t ttl_s;
	size_t rdata_at;
	size_t rdata_n;
};

struct reader {
	struct slice packet;
	size_t at;
	enum err err;
};

static size_t left(const struct reader *r)
{
	return r->packet.n - r->at;
}

static uint32_t get(struct reader *r, size_t width)
{
	uint32_t v = 0;

	if (r->err != ERR_OK || width > left(r)) {
		r->err = ERR_SYNTAX;
		return 0;
	}
	for (size_t i = 0; i < width; i++) {
		v = v << 8 | r->packet.p[r->at++];
	}
	return v;
}

static uint16_t get_u16(struct reader *r)
{
	return (uint16_t)get(r, 2);
}

static bool is_host_byte(uint8_t c)
{
	uint8_t l = ascii_lower(c);

	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static void name_add(struct name *name, struct slice label)
{
	if (name->n != 0) {
		name->text[name->n++] = '.';
	}
	for (size_t i = 0; i < label.n; i++) {
		if (!is_host_byte(label.p[i])) {
			name->is_host = false;
		}
		/* A dot within a label must not look like one between labels. */
		name->text[name->n++] = (char)(label.p[i] == '.' ? 1 : label.p[i]);
	}
}

/*
 * A name, which may be compressed: each pointer must lead to before the place where the labels
 * that led to it began, so that no chain of them can go in circles (RFC 1035 section 4.1.4).
 */
static void get_name(struct reader *r, struct name *out)
{
	size_t at = r->at;
	size_t run = r->at; /* where this run of labels began */
	size_t wire = 1;    /* octets of the whole name, with its end */
	bool jumped = false;

	out->n = 0;
	out->is_host = true;
	while (r->err == ERR_OK) {
		if (at >= r->packet.n) {
			break;
		}
		size_t n = r->packet.p[at];
		if (n == 0) {
			if (!jumped) {
				r->at = at + 1;
			}
			return;
		}
		if ((n & 0xc0) == 0xc0) {
			if (r->packet.n - at < 2) {
				break;
			}
			size_t to = (n & 0x3f) << 8 | r->packet.p[at + 1];
			if (to >= run) {
				break;
			}
			if (!jumped) {
				r->at = at + 2;
			}
			jumped = true;
			run = to;
			at = to;
			continue;
		}
		if (n > LABEL_MAX || r->packet.n - at - 1 < n || NAME_WIRE_MAX - wire < n + 1) {
			break;
		}
		wire += n + 1;
		name_add(out, slice_make(r->packet.p + at + 1, n));
		at += n + 1;
	}
	r->err = ERR_SYNTAX;
}

static bool name_eq(const struct name *a, const struct name *b)
{
	return slice_eq_nocase(slice_make(a->text, a->n), slice_make(b->text, b->n));
}

static void get_record(struct reader *r, struct record *out)
{
	get_name(r, &out->owner);
	out->type = get_u16(r);
	out->class = get_u16(r);
	uint32_t ttl_s = get(r, 4);
	out->rdata_n = get_u16(r);
	out->rdata_at = r->at;
	/* RFC 2181 section 8: the highest bit makes it zero. */
	out->ttl_s = ttl_s > INT32_MAX ? 0 : ttl_s > DNS_TTL_MAX_S ? DNS_TTL_MAX_S : ttl_s;
	if (r->err == ERR_OK && out->rdata_n > left(r)) {
		r->err = ERR_SYNTAX;
	}
	if (r->err == ERR_OK) {
		r->at += out->rdata_n;
	}
}

/* The name that fills the rest of the record's contents, from skip bytes on. */
static bool rdata_name(struct slice packet, const struct record *record, size_t skip,
	struct name *out)
{
	struct reader r = {.packet = packet, .at = record->rdata_at + skip, .err = ERR_OK};

	if (record->rdata_n <= skip) {
		return false;
	}
	get_name(&r, out);
	return r.err == ERR_OK && r.at == record->rdata_at + record->rdata_n;
}

/* False: unusable. *e is ERR_TOOBIG when the arena is full. */
static bool read_mx(struct slice packet, const struct record *record, struct arena *a,
	struct dns_record *out, enum err *e)
{
	struct name host;

	if (!rdata_name(packet, record, 2, &host) || !host.is_host) {
		return false;
	}
	out->preference =
		(uint16_t)(packet.p[record->rdata_at] << 8 | packet.p[record->rdata_at + 1]);
	if (!arena_copy(a, slice_make(host.text, host.n), &out->host)) {
		*e = ERR_TOOBIG;
	}
	return true;
}

static bool read_addr(struct slice packet, const struct record *record, size_t bytes,
	uint8_t family, struct dns_record *out)
{
	if (record->rdata_n != bytes) {
		return false;
	}
	out->family = family;
	memcpy(out->addr, packet.p + record->rdata_at, bytes);
	return true;
}

static bool read_record(struct slice packet, const struct record *record, struct arena *a,
	struct dns_record *out, enum err *e)
{
	switch (record->type) {
	case DNS_TYPE_MX:
		return read_mx(packet, record, a, out, e);
	case DNS_TYPE_A:
		return read_addr(packet, record, 4, 4, out);
	case DNS_TYPE_AAAA:
		return read_addr(packet, record, 16, 6, out);
	default:
		return false;
	}
}

struct section {
	struct reader start; /* at its first record */
	size_t count;
};

/*
 * One pass over the answers: takes the records of the type that *name owns; else, when there is
 * an alias, says so and moves *name on.
 */
static enum err pass(const struct section *answers, uint16_t type, struct arena *a,
	struct name *name, struct dns_answer *out, bool *aliased)
{
	struct reader r = answers->start;
	struct record record;
	struct name alias = {.n = 0};
	uint32_t alias_ttl_s = 0;
	enum err e = ERR_OK;

	*aliased = false;
	for (size_t i = 0; i < answers->count; i++) {
		get_record(&r, &record);
		if (r.err != ERR_OK) {
			return r.err;
		}
		if (record.class != CLASS_IN || !name_eq(&record.owner, name)) {
			continue;
		}
		if (record.type == DNS_TYPE_CNAME && !*aliased) {
			*aliased = rdata_name(r.packet, &record, 0, &alias);
			out->unusable += *aliased ? 0 : 1;
			alias_ttl_s = record.ttl_s;
			continue;
		}
		if (record.type != type) {
			continue;
		}
		assert(out->records != NULL); /* there is one of the type */
		struct dns_record *to = &out->records[out->count];
		if (out->count == DNS_RECORDS_MAX ||
			!read_record(r.packet, &record, a, to, &e)) {
			out->unusable++;
			continue;
		}
		if (e != ERR_OK) {
			return e;
		}
		out->count++;
		if (record.ttl_s < out->ttl_s) {
			out->ttl_s = record.ttl_s;
		}
	}
	*aliased = *aliased && out->count == 0;
	if (*aliased) {
		*name = alias;
		if (alias_ttl_s < out->ttl_s) {
			out->ttl_s = alias_ttl_s;
		}
	}
	return ERR_OK;
}

/* RFC 2308 section 5: a "no" holds as long as the SOA record says that came with it. */
static uint32_t negative_ttl(struct reader *r, size_t count)
{
	struct record record;
	struct name skipped;
	uint32_t ttl_s = DNS_TTL_NO_SOA_S;

	for (size_t i = 0; i < count; i++) {
		get_record(r, &record);
		if (r->err != ERR_OK) {
			break;
		}
		if (record.type != DNS_TYPE_SOA || record.class != CLASS_IN) {
			continue;
		}
		struct reader soa = {
			.packet = slice_head(r->packet, record.rdata_at + record.rdata_n),
			.at = record.rdata_at,
			.err = ERR_OK};
		get_name(&soa, &skipped);
		get_name(&soa, &skipped);
		(void)get(&soa, 4); /* serial */
		(void)get(&soa, 4); /* refresh */
		(void)get(&soa, 4); /* retry */
		(void)get(&soa, 4); /* expire */
		uint32_t minimum_s = get(&soa, 4);
		if (soa.err == ERR_OK) {
			ttl_s = minimum_s < record.ttl_s ? minimum_s : record.ttl_s;
			break;
		}
	}
	return ttl_s;
}

enum err dns_packet_parse(struct slice packet, uint16_t type, struct arena *a,
	struct dns_answer *out)
{
	struct reader r = {.packet = packet, .at = 0, .err = ERR_OK};
	struct dns_answer answer = {.ttl_s = DNS_TTL_MAX_S};
	struct section answers;
	struct name name = {.n = 0};
	struct record record;
	bool aliased = true;
	enum err e = ERR_OK;

	(void)get_u16(&r); /* the id: the library has looked at it */
	unsigned flags = get_u16(&r);
	unsigned questions = get_u16(&r);
	answers.count = get_u16(&r);
	size_t authorities = get_u16(&r);
	(void)get_u16(&r);
	if (r.err != ERR_OK || (flags & FLAG_RESPONSE) == 0 || questions != 1) {
		return ERR_SYNTAX;
	}
	answer.rcode = flags & RCODE_MASK;
	answer.is_truncated = (flags & FLAG_TRUNCATED) != 0;
	get_name(&r, &name);
	unsigned asked_type = get_u16(&r);
	unsigned asked_class = get_u16(&r);
	if (r.err != ERR_OK || asked_type != type || asked_class != CLASS_IN) {
		return ERR_SYNTAX;
	}
	answers.start = r;
	size_t most = 0;
	for (size_t i = 0; i < answers.count; i++) {
		get_record(&r, &record);
		if (r.err != ERR_OK) {
			return ERR_SYNTAX;
		}
		most += record.type == type ? 1 : 0;
	}
	if (most != 0) {
		most = most > DNS_RECORDS_MAX ? DNS_RECORDS_MAX : most;
		/* One more: a record is read into its place before it counts. */
		answer.records = arena_alloc(a, (most + 1) * sizeof(*answer.records));
		if (answer.records == NULL) {
			return ERR_TOOBIG;
		}
	}
	while (aliased) {
		e = pass(&answers, type, a, &name, &answer, &aliased);
		if (e != ERR_OK) {
			return e;
		}
		if (aliased && ++answer.aliases > DNS_ALIASES_MAX) {
			return ERR_SYNTAX; /* a circle, or as good as one */
		}
	}
	if (answer.count == 0) {
		uint32_t ttl_s = negative_ttl(&r, authorities);
		answer.ttl_s = ttl_s < answer.ttl_s ? ttl_s : answer.ttl_s;
	}
	*out = answer;
	return ERR_OK;
}
