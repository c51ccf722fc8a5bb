/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/wire.h"
#include "common/journal/event.h"
#include "common/mail/verdict.h"

#define VERSION 1u

/* ---- encoding: three events a message, so one look at the buffer each ---- */

static inline size_t size_of_u8(uint8_t v)
{
	(void)v;
	return 1;
}

static inline size_t size_of_u16(uint16_t v)
{
	(void)v;
	return 2;
}

static inline size_t size_of_u32(uint32_t v)
{
	(void)v;
	return 4;
}

static inline size_t size_of_u64(uint64_t v)
{
	(void)v;
	return 8;
}

static inline size_t size_of_i64(int64_t v)
{
	(void)v;
	return 8;
}

/* What is too long is refused before anything is written, so no sum here can wrap. */
static inline size_t size_of_str(struct slice v)
{
	return 4 + v.n;
}

static inline bool fits_u8(uint8_t v, uint8_t max)
{
	return v <= max;
}

static inline bool fits_u16(uint16_t v, uint16_t max)
{
	return v <= max;
}

static inline bool fits_u32(uint32_t v, uint32_t max)
{
	return v <= max;
}

static inline bool fits_u64(uint64_t v, uint64_t max)
{
	return v <= max;
}

static inline bool fits_i64(int64_t v, int64_t max)
{
	return v <= max;
}

static inline bool fits_str(struct slice v, size_t max)
{
	return v.n <= max;
}

static inline uint8_t *put_u8(uint8_t *p, uint8_t v)
{
	p[0] = v;
	return p + 1;
}

static inline uint8_t *put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static inline uint8_t *put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
	return p + 4;
}

static inline uint8_t *put_u64(uint8_t *p, uint64_t v)
{
	return put_u32(put_u32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

static inline uint8_t *put_i64(uint8_t *p, int64_t v)
{
	return put_u64(p, (uint64_t)v);
}

static inline uint8_t *put_str(uint8_t *p, struct slice v)
{
	p = put_u32(p, (uint32_t)v.n);
	if (v.n != 0) {
		memcpy(p, v.p, v.n);
	}
	return p + v.n;
}

#define AS_FITS(type, field, max) &&fits_##type(e->field, max)
#define AS_SIZE(type, field, max) +size_of_##type(e->field)
#define AS_PUT(type, field, max) p = put_##type(p, e->field);
#define AS_GET(type, field, max) e.field = wire_get_##type(&r, max);

#define AS_CODEC(id, name, FIELDS)                                                             \
	enum err event_##name##_encode(const struct event_##name *e, struct buf *to)           \
	{                                                                                      \
		if (!(true FIELDS(AS_FITS))) {                                                 \
			return ERR_TOOBIG;                                                     \
		}                                                                              \
		size_t n = 1 FIELDS(AS_SIZE);                                                  \
		uint8_t *p = buf_reserve(to, n);                                               \
		if (p == NULL) {                                                               \
			return ERR_TOOBIG;                                                     \
		}                                                                              \
		p = put_u8(p, VERSION);                                                        \
		FIELDS(AS_PUT)                                                                 \
		buf_commit(to, n);                                                             \
		return ERR_OK;                                                                 \
	}                                                                                      \
	enum err event_##name##_decode(struct slice body, struct event_##name *out)            \
	{                                                                                      \
		struct wire_reader r = {.left = body, .err = ERR_OK};                          \
		struct event_##name e;                                                         \
		if (wire_get_u8(&r, VERSION) != VERSION) {                                     \
			return ERR_CORRUPT;                                                    \
		}                                                                              \
		FIELDS(AS_GET)                                                                 \
		if (wire_finish(&r) != ERR_OK) {                                               \
			return ERR_CORRUPT;                                                    \
		}                                                                              \
		*out = e;                                                                      \
		return ERR_OK;                                                                 \
	}
EVENT_ALL(AS_CODEC)

/* ---- JSON ---- */

static const char *const route_results[] = {"found", "later", "never"};
static const char *const dnssec_states[] = {"insecure", "secure", "bogus"};
static const char *const trust_states[] = {"none", "anonymous", "untrusted", "verified"};
static const char *const notice_kinds[] = {"failed", "expired", "delayed", "relayed"};
static const char *const slot_states[] = {"waiting", "delivered", "failed", "expired",
	"deleted", "suppressed", "moved"};
static const char *const attempt_results[] = {"delivered", "deferred", "failed"};

/* Small numbers that are told as words. names null: a stage; count 0: true or false. */
struct words {
	int event;
	const char *field;
	const char *const *names;
	size_t count;
};
static const struct words all_words[] = {
	{EVENT_ID_attempt, "result", attempt_results, ARRAY_LEN(attempt_results)},
	{EVENT_ID_attempt, "stage", NULL, STAGE_COUNT},
	{EVENT_ID_attempt, "maybe_duplicate", NULL, 0},
	{EVENT_ID_final, "state", slot_states, ARRAY_LEN(slot_states)},
	{EVENT_ID_notice, "kind", notice_kinds, ARRAY_LEN(notice_kinds)},
	{EVENT_ID_connection, "tls_trust", trust_states, ARRAY_LEN(trust_states)},
	{EVENT_ID_route, "result", route_results, ARRAY_LEN(route_results)},
	{EVENT_ID_route, "dnssec", dnssec_states, ARRAY_LEN(dnssec_states)},
	{EVENT_ID_suppress, "added", NULL, 0},
};

static void tell_u8(struct json *j, int event, const char *name, uint8_t v)
{
	for (size_t i = 0; i < ARRAY_LEN(all_words); i++) {
		const struct words *w = &all_words[i];
		if (w->event != event || strcmp(w->field, name) != 0) {
			continue;
		}
		if (w->count == 0) {
			json_member_bool(j, name, v != 0);
			return;
		}
		if (v < w->count) {
			const char *word = w->names == NULL
						   ? smtp_stage_name((enum smtp_stage)v)
						   : w->names[v];
			json_member_str(j, name, slice_from_cstr(word));
			return;
		}
	}
	json_member_u64(j, name, v);
}

static void tell_u16(struct json *j, int event, const char *name, uint16_t v)
{
	(void)event;
	json_member_u64(j, name, v);
}

static void tell_u32(struct json *j, int event, const char *name, uint32_t v)
{
	(void)event;
	json_member_u64(j, name, v);
}

static void tell_u64(struct json *j, int event, const char *name, uint64_t v)
{
	(void)event;
	json_member_u64(j, name, v);
}

static void tell_i64(struct json *j, int event, const char *name, int64_t v)
{
	(void)event;
	json_member_i64(j, name, v);
}

static void tell_str(struct json *j, int event, const char *name, struct slice v)
{
	(void)event;
	json_member_str(j, name, v);
}

#define AS_TELL(type, field, max) tell_##type(j, event, #field, e.field);
#define AS_TELLER(id, name, FIELDS)                                                            \
	static enum err tell_##name(struct json *j, struct slice body)                         \
	{                                                                                      \
		const int event = (id);                                                        \
		struct event_##name e;                                                         \
		enum err err = event_##name##_decode(body, &e);                                \
		if (err == ERR_OK) {                                                           \
			json_member_str(j, "event", SLICE(#name));                             \
			FIELDS(AS_TELL)                                                        \
		}                                                                              \
		return err;                                                                    \
	}
EVENT_ALL(AS_TELLER)

#define AS_CASE(id, name, FIELDS)                                                              \
	case (id):                                                                             \
		return tell_##name(j, body);

static enum err tell_fields(struct json *j, uint16_t type, struct slice body)
{
	switch (type) {
		EVENT_ALL(AS_CASE)
	default:
		return ERR_CORRUPT;
	}
}

enum err event_to_json(uint16_t type, int64_t time_us, struct slice by, struct slice body,
	struct buf *to)
{
	size_t start = buf_len(to);
	struct json j = json_begin(to);

	json_object(&j);
	json_key(&j, "time");
	json_time_us(&j, time_us);
	json_member_str(&j, "by", by);
	enum err e = tell_fields(&j, type, body);
	json_object_end(&j);
	if (e == ERR_OK) {
		e = json_end(&j);
	}
	if (e != ERR_OK) {
		buf_truncate(to, start);
	}
	return e;
}
