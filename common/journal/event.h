/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event: what the journal tells, each field named once (like ipc/messages.h).
 *
 * The encoder, the decoder and the JSON form (member names are the field names) come from these
 * lists. Add fields at the end and raise the event's version byte in the list; readers know
 * older versions by their shorter bodies. Type numbers are on disk: never reuse one.
 */
#ifndef COMMON_JOURNAL_EVENT_H
#define COMMON_JOURNAL_EVENT_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/slice.h"

/* A message is durable in the queue. By cleanup. */
#define EVENT_ACCEPTED(FIELD)                                                                  \
	FIELD(str, qid, LIMIT_QUEUE_ID)                                                        \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(u32, rcpts, LIMIT_RCPTS)                                                         \
	FIELD(u64, bytes, UINT64_MAX)                                                          \
	FIELD(str, message_id, 998)                                                            \
	FIELD(str, from_header, LIMIT_ADDRESS)                                                 \
	FIELD(str, client, 64)                                                                 \
	FIELD(str, helo, LIMIT_HOSTNAME)                                                       \
	FIELD(str, protocol, 16)                                                               \
	FIELD(str, tls, LIMIT_NAME)                                                            \
	FIELD(str, login, LIMIT_NAME)                                                          \
	FIELD(str, tenant, LIMIT_TENANT)                                                       \
	FIELD(str, dkim, LIMIT_TEXT) /* "domain:selector ..." that signed */                   \
	FIELD(str, listener, LIMIT_NAME)
/* cleanup refused content, or could not store it. */
#define EVENT_REFUSED(FIELD)                                                                   \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(str, client, 64)                                                                 \
	FIELD(u16, code, 599)                                                                  \
	FIELD(str, text, LIMIT_TEXT)
/* One attempt for one recipient. result: delivered, deferred, failed. By qmgr. */
#define EVENT_ATTEMPT(FIELD)                                                                   \
	FIELD(str, qid, LIMIT_QUEUE_ID)                                                        \
	FIELD(str, rcpt, LIMIT_ADDRESS)                                                        \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(u8, result, 2) /* enum verdict_kind */                                           \
	FIELD(u8, stage, 31)                                                                   \
	FIELD(u16, code, 999)                                                                  \
	FIELD(str, status, 16)                                                                 \
	FIELD(str, reply, LIMIT_REPLY_TEXT)                                                    \
	FIELD(str, site, LIMIT_TEXT)                                                           \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(str, addr, 64)                                                                   \
	FIELD(str, local, 64)                                                                  \
	FIELD(str, tls, LIMIT_NAME)                                                            \
	FIELD(u64, connection, UINT64_MAX)                                                     \
	FIELD(u32, attempt, UINT32_MAX)                                                        \
	FIELD(i64, next_at_s, INT64_MAX) /* 0: none */                                         \
	FIELD(u64, delay_us, UINT64_MAX) /* since acceptance */                                \
	FIELD(u32, transfer_ms, UINT32_MAX)                                                    \
	FIELD(u8, maybe_duplicate, 1)                                                          \
	FIELD(str, tenant, LIMIT_TENANT)
/* A recipient reached its end otherwise: expired, deleted, suppressed; or its failure was told.
 */
#define EVENT_FINAL(FIELD)                                                                     \
	FIELD(str, qid, LIMIT_QUEUE_ID)                                                        \
	FIELD(str, rcpt, LIMIT_ADDRESS)                                                        \
	FIELD(u8, state, 15) /* enum slot_state */                                             \
	FIELD(str, text, LIMIT_REPLY_TEXT)
/* A notice was sent (its own queue id) or found not to be due. By bounce. */
#define EVENT_NOTICE(FIELD)                                                                    \
	FIELD(str, qid, LIMIT_QUEUE_ID)                                                        \
	FIELD(str, notice_qid, LIMIT_QUEUE_ID)                                                 \
	FIELD(u8, kind, 3)                                                                     \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(u32, rcpts, LIMIT_RCPTS)                                                         \
	FIELD(str, why_not, LIMIT_TEXT)
#define EVENT_CONNECTION(FIELD)                                                                \
	FIELD(u64, connection, UINT64_MAX)                                                     \
	FIELD(str, site, LIMIT_TEXT)                                                           \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(str, addr, 64)                                                                   \
	FIELD(u16, port, UINT16_MAX)                                                           \
	FIELD(str, local, 64)                                                                  \
	FIELD(str, tls, LIMIT_NAME)                                                            \
	FIELD(u8, tls_trust, 3)                                                                \
	FIELD(u32, connect_ms, UINT32_MAX)                                                     \
	FIELD(u32, ready_ms, UINT32_MAX)
#define EVENT_ROUTE(FIELD)                                                                     \
	FIELD(str, name, LIMIT_HOSTNAME)                                                       \
	FIELD(u8, result, 2)                                                                   \
	FIELD(u8, dnssec, 2)                                                                   \
	FIELD(u32, addrs, UINT32_MAX)                                                          \
	FIELD(u32, ttl_s, UINT32_MAX)                                                          \
	FIELD(str, text, LIMIT_TEXT)
#define EVENT_SUPPRESS(FIELD)                                                                  \
	FIELD(str, address, LIMIT_ADDRESS)                                                     \
	FIELD(u8, added, 1) /* 0: removed */                                                   \
	FIELD(str, reason, LIMIT_NAME)                                                         \
	FIELD(str, evidence, LIMIT_REPLY_TEXT)                                                 \
	FIELD(str, qid, LIMIT_QUEUE_ID)                                                        \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(str, operator_name, LIMIT_NAME)
#define EVENT_OPERATED(FIELD)                                                                  \
	FIELD(str, operator_name, LIMIT_NAME)                                                  \
	FIELD(str, verb, LIMIT_NAME)                                                           \
	FIELD(str, operand, LIMIT_TEXT)                                                        \
	FIELD(u64, count, UINT64_MAX)
/* Damaged bytes were set aside. */
#define EVENT_DAMAGE(FIELD)                                                                    \
	FIELD(u64, segment, UINT64_MAX)                                                        \
	FIELD(u64, offset, UINT64_MAX)                                                         \
	FIELD(u64, bytes, UINT64_MAX)                                                          \
	FIELD(str, text, LIMIT_TEXT)
/* So many events could not be written (disk full). */
#define EVENT_GAP(FIELD) FIELD(u64, lost, UINT64_MAX)

#define EVENT_ALL(EVENT)                                                                       \
	EVENT(1, accepted, EVENT_ACCEPTED)                                                     \
	EVENT(2, refused, EVENT_REFUSED)                                                       \
	EVENT(3, attempt, EVENT_ATTEMPT)                                                       \
	EVENT(4, final, EVENT_FINAL)                                                           \
	EVENT(5, notice, EVENT_NOTICE)                                                         \
	EVENT(6, connection, EVENT_CONNECTION)                                                 \
	EVENT(7, route, EVENT_ROUTE)                                                           \
	EVENT(8, suppress, EVENT_SUPPRESS)                                                     \
	EVENT(9, operated, EVENT_OPERATED)                                                     \
	EVENT(10, damage, EVENT_DAMAGE)                                                        \
	EVENT(11, gap, EVENT_GAP)

typedef uint8_t event_u8;
typedef uint16_t event_u16;
typedef uint32_t event_u32;
typedef uint64_t event_u64;
typedef int64_t event_i64;
typedef struct slice event_str;

#define AS_MEMBER(type, field, max) event_##type field;
#define AS_DECLARATION(id, name, FIELDS)                                                       \
	enum {                                                                                 \
		EVENT_ID_##name = (id)                                                         \
	};                                                                                     \
	struct event_##name {                                                                  \
		FIELDS(AS_MEMBER)                                                              \
	};                                                                                     \
	MUST_CHECK enum err event_##name##_encode(const struct event_##name *e,                \
		struct buf *to);                                                               \
	MUST_CHECK enum err event_##name##_decode(struct slice body, struct event_##name *out);
EVENT_ALL(AS_DECLARATION)
#undef AS_DECLARATION
#undef AS_MEMBER

/*
 * Appends one JSON object (no newline): "time", "event", "by", then the fields; enums as words
 * (result, stage, state, kind ...). ERR_CORRUPT for an unknown type or a bad body.
 */
MUST_CHECK enum err event_to_json(uint16_t type, int64_t time_us, struct slice by,
	struct slice body, struct buf *to);

#endif
