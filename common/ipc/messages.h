/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messages: every message that two of our programs exchange, each field named once.
 *
 * The struct, the encoder, the decoder and the sender all come from these lists, so the
 * two ends cannot disagree. Add fields at the end and raise IPC_VERSION. A repeated
 * thing is a message of its own, announced by a count in the first. Slices in a decoded
 * message point into the frame. docs/IPC.md tells the conversations.
 */
#ifndef COMMON_IPC_MESSAGES_H
#define COMMON_IPC_MESSAGES_H

#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"
#include "common/ipc/channel.h"

#define IPC_ANY_U16 UINT16_MAX
#define IPC_ANY_U32 UINT32_MAX
#define IPC_ANY_U64 UINT64_MAX
#define IPC_ANY_I64 INT64_MAX

/* Programs, as they name themselves and their peers. */
enum role {
	ROLE_MASTER,
	ROLE_SMTPD,
	ROLE_CLEANUP,
	ROLE_QMGR,
	ROLE_RESOLVE,
	ROLE_SMTP_OUT,
	ROLE_BOUNCE,
	ROLE_CTL,
	ROLE_COUNT
};

/* ---- both ways, first on every channel ---- */

#define MSG_HELLO(FIELD)                                                                       \
	FIELD(u8, role, ROLE_COUNT - 1)                                                        \
	FIELD(u32, index, 1023)

/* ---- master and its children (the control channel, descriptor 3) ---- */

/* master -> child, once, before the first configuration: who to become (0: stay) and the jail.
 */
#define MSG_IDENTITY(FIELD)                                                                    \
	FIELD(u32, uid, IPC_ANY_U32)                                                           \
	FIELD(u32, gid, IPC_ANY_U32)                                                           \
	FIELD(str, jail, 4000)
/* master -> child: the next configuration, in pieces; conf_end makes the child check it. */
#define MSG_CONF_BEGIN(FIELD) FIELD(u64, epoch, IPC_ANY_U64)
#define MSG_CONF_PARAM(FIELD)                                                                  \
	FIELD(str, name, LIMIT_PARAM_NAME)                                                     \
	FIELD(str, value, LIMIT_PARAM_VALUE)
/* The contents of a file that a parameter names (table, key, certificate): many pieces. */
#define MSG_CONF_FILE(FIELD)                                                                   \
	FIELD(str, name,                                                                       \
		4000) /* as the parameter spells it, e.g. "texthash:/etc/x" or a path */       \
	FIELD(str, bytes, LIMIT_CHUNK_BYTES)
#define MSG_CONF_END(FIELD) FIELD(u64, epoch, IPC_ANY_U64)
/* child -> master: what it thinks of it; text is empty when it is fine. */
#define MSG_CONF_CHECKED(FIELD)                                                                \
	FIELD(u64, epoch, IPC_ANY_U64)                                                         \
	FIELD(str, text, LIMIT_TEXT)
/* master -> child: use it from now on (all children found it good), or forget it. */
#define MSG_CONF_APPLY(FIELD) FIELD(u64, epoch, IPC_ANY_U64)
#define MSG_CONF_FORGET(FIELD) FIELD(u64, epoch, IPC_ANY_U64)

/* master -> child, with a descriptor: a listening socket. options: "name=value\n" lines. */
#define MSG_LISTEN(FIELD)                                                                      \
	FIELD(u32, id, IPC_ANY_U32)                                                            \
	FIELD(str, name, LIMIT_NAME)                                                           \
	FIELD(str, options, LIMIT_PARAM_VALUE)
#define MSG_UNLISTEN(FIELD) FIELD(u32, id, IPC_ANY_U32)
/* master -> child, with a descriptor: your channel to that program, in place of an earlier one.
 */
#define MSG_PEER(FIELD)                                                                        \
	FIELD(u8, role, ROLE_COUNT - 1)                                                        \
	FIELD(u32, index, 1023)
/* master -> child, with a descriptor: log there from now on. */
#define MSG_LOG_TO(FIELD) FIELD(u8, level, 3)
/* master -> child, with a descriptor: memory that programs share; kind says which. */
enum {
	SHARED_SUPPRESS_FILTER = 1
};
#define MSG_SHARED(FIELD) FIELD(u8, kind, 1)
/* child -> master: set up, jailed, in the loop; it does its work from now on. */
#define MSG_READY(FIELD) FIELD(u32, pid, IPC_ANY_U32)
/* master -> child: take nothing new, finish what runs within so many ms, then end. */
#define MSG_DRAIN(FIELD) FIELD(u32, within_ms, IPC_ANY_U32)
/* both: the watchdog; and what a child tells of itself (JSON object text) in its answer. */
#define MSG_PING(FIELD) FIELD(u64, seq, IPC_ANY_U64)
#define MSG_PONG(FIELD)                                                                        \
	FIELD(u64, seq, IPC_ANY_U64)                                                           \
	FIELD(str, status, 32768)

/* ---- smtpd, bounce -> cleanup: a transaction ---- */

/* Flags of a transaction and of a record. */
enum {
	TX_8BIT = 1, /* BODY=8BITMIME was said, or the content has 8-bit bytes */
	TX_SMTPUTF8 = 2,
	TX_REQUIRETLS = 4,
	TX_DSN = 8,         /* a notice of ours: null sender, from bounce */
	TX_NO_SIGN = 16,    /* reserved */
	TX_AUTH = 32,       /* the client had authenticated */
	TX_TLS = 64,        /* it came over TLS */
	TX_MAYBE_BARE = 128 /* reserved */
};
/* RET of RFC 3461 section 4.3. */
enum {
	RET_DEFAULT,
	RET_FULL,
	RET_HDRS
};
/* NOTIFY of RFC 3461 section 4.1; 0: not said. */
enum {
	NOTIFY_NEVER = 1,
	NOTIFY_SUCCESS = 2,
	NOTIFY_FAILURE = 4,
	NOTIFY_DELAY = 8
};

#define MSG_TX_BEGIN(FIELD)                                                                    \
	FIELD(u64, tx, IPC_ANY_U64)                                                            \
	FIELD(u32, flags, IPC_ANY_U32)                                                         \
	FIELD(u32, rcpt_count, LIMIT_RCPTS)                                                    \
	FIELD(str, sender, LIMIT_ADDRESS) /* "" is the null reverse-path */                    \
	FIELD(str, envid, LIMIT_ENVID)                                                         \
	FIELD(u8, ret, RET_HDRS)                                                               \
	FIELD(u64, declared_bytes, IPC_ANY_U64) /* SIZE=, 0 when not said */                   \
	FIELD(str, client_name, LIMIT_HOSTNAME)                                                \
	FIELD(str, client_addr, 64)                                                            \
	FIELD(str, helo, LIMIT_HOSTNAME)                                                       \
	FIELD(str, protocol, 16)    /* SMTP, ESMTP, ESMTPS, UTF8SMTPS ... (RFC 3848, 6531) */  \
	FIELD(str, tls, LIMIT_NAME) /* "TLSv1.3 TLS_AES_256_GCM_SHA384", "" without */         \
	FIELD(str, login, LIMIT_NAME)                                                          \
	FIELD(str, listener, LIMIT_NAME)                                                       \
	FIELD(str, tenant, LIMIT_TENANT)                                                       \
	FIELD(u8, stream_class, 255) /* 0: unset */                                            \
	FIELD(u8, priority, 255)                                                               \
	FIELD(i64, deadline_s, IPC_ANY_I64) /* wall clock; 0: none */
#define MSG_TX_RCPT(FIELD)                                                                     \
	FIELD(u64, tx, IPC_ANY_U64)                                                            \
	FIELD(str, address, LIMIT_ADDRESS)                                                     \
	FIELD(str, orcpt, LIMIT_ORCPT) /* "rfc822;user@x", decoded; "" when not said */        \
	FIELD(u8, notify, 15)
/* Content in wire form: CR LF lines, dot-stuffed, without the final "." line. */
#define MSG_TX_CONTENT(FIELD)                                                                  \
	FIELD(u64, tx, IPC_ANY_U64)                                                            \
	FIELD(str, bytes, LIMIT_CHUNK_BYTES)
#define MSG_TX_END(FIELD) FIELD(u64, tx, IPC_ANY_U64)
#define MSG_TX_ABORT(FIELD) FIELD(u64, tx, IPC_ANY_U64)
/* cleanup -> smtpd, bounce: the fate. 250: durable, text is the queue id; else 4xx/5xx and
 * text is "x.y.z explanation". Also comes before tx_end when the content is refused early:
 * the rest of the transaction is then ignored. */
#define MSG_TX_DONE(FIELD)                                                                     \
	FIELD(u64, tx, IPC_ANY_U64)                                                            \
	FIELD(u16, smtp_code, 599)                                                             \
	FIELD(str, text, LIMIT_TEXT)
/* smtpd -> cleanup: is that address suppressed? */
#define MSG_LOOKUP(FIELD)                                                                      \
	FIELD(u64, request, IPC_ANY_U64)                                                       \
	FIELD(str, address, LIMIT_ADDRESS)
enum {
	LOOKUP_CLEAR,
	LOOKUP_SUPPRESSED,
	LOOKUP_FAILED
};
#define MSG_LOOKUP_DONE(FIELD)                                                                 \
	FIELD(u64, request, IPC_ANY_U64)                                                       \
	FIELD(u8, result, LOOKUP_FAILED)                                                       \
	FIELD(str, text, LIMIT_TEXT) /* why it is on the list */
/* cleanup -> smtpd: can mail be taken? Sent first and at every change. */
enum {
	STORE_OK,
	STORE_FULL,
	STORE_SICK
};
#define MSG_STORE_STATE(FIELD) FIELD(u8, state, STORE_SICK)

/* ---- cleanup -> qmgr: what is on disk ---- */

/* First after hello, for the segment that it writes now: records up to end are durable, of
 * which qmgr may have been told already or not. Then again for each new segment. */
#define MSG_SEGMENT_OPEN(FIELD)                                                                \
	FIELD(u64, segment, IPC_ANY_U64)                                                       \
	FIELD(u64, end, IPC_ANY_U64)
/* One durable record, in the order of the segment. Small envelopes come along (rcpts_follow
 * enqueue_rcpt messages, all of them), others (rcpts_follow 0) are read from the segment. */
#define MSG_ENQUEUE(FIELD)                                                                     \
	FIELD(u64, segment, IPC_ANY_U64)                                                       \
	FIELD(u64, offset, IPC_ANY_U64)                                                        \
	FIELD(u64, length, IPC_ANY_U64)                                                        \
	FIELD(u32, first_slot, IPC_ANY_U32)                                                    \
	FIELD(u32, rcpt_count, LIMIT_RCPTS)                                                    \
	FIELD(u32, rcpts_follow, 64)                                                           \
	FIELD(u32, flags, IPC_ANY_U32)                                                         \
	FIELD(u64, head_offset, IPC_ANY_U64) /* from the start of the file */                  \
	FIELD(u32, head_bytes, IPC_ANY_U32)                                                    \
	FIELD(u64, content_offset, IPC_ANY_U64)                                                \
	FIELD(u64, content_bytes, IPC_ANY_U64)                                                 \
	FIELD(i64, accepted_us, IPC_ANY_I64)                                                   \
	FIELD(str, queue_id, LIMIT_QUEUE_ID)                                                   \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(str, envid, LIMIT_ENVID)                                                         \
	FIELD(u8, ret, RET_HDRS)                                                               \
	FIELD(str, tenant, LIMIT_TENANT)                                                       \
	FIELD(u8, stream_class, 255)                                                           \
	FIELD(u8, priority, 255)                                                               \
	FIELD(i64, deadline_s, IPC_ANY_I64)
#define MSG_ENQUEUE_RCPT(FIELD)                                                                \
	FIELD(str, address, LIMIT_ADDRESS)                                                     \
	FIELD(str, orcpt, LIMIT_ORCPT)                                                         \
	FIELD(u8, notify, 15)
/* Nothing more will be appended; end is where the records end. */
#define MSG_SEGMENT_SEALED(FIELD)                                                              \
	FIELD(u64, segment, IPC_ANY_U64)                                                       \
	FIELD(u64, end, IPC_ANY_U64)
/* qmgr -> cleanup: please seal that segment soon (it is finished or old). */
#define MSG_SEGMENT_ROTATE(FIELD) FIELD(u64, segment, IPC_ANY_U64)

/* ---- qmgr and resolve ---- */

enum {
	ROUTE_MX = 0,
	ROUTE_HOST = 1
}; /* ROUTE_HOST: "[name]", no MX look-up */
#define MSG_ROUTE_ASK(FIELD)                                                                   \
	FIELD(u64, request, IPC_ANY_U64)                                                       \
	FIELD(u8, kind, ROUTE_HOST)                                                            \
	FIELD(str, name, LIMIT_HOSTNAME) /* domain, host or address literal text */            \
	FIELD(u16, port, IPC_ANY_U16)
enum {
	ROUTE_OK,
	ROUTE_LATER,
	ROUTE_NEVER
};
enum {
	DNSSEC_INSECURE,
	DNSSEC_SECURE,
	DNSSEC_BOGUS
};
#define MSG_ROUTE(FIELD)                                                                       \
	FIELD(u64, request, IPC_ANY_U64)                                                       \
	FIELD(u8, result, ROUTE_NEVER)                                                         \
	FIELD(u8, dnssec, DNSSEC_BOGUS) /* of the MX answer */                                 \
	FIELD(u32, ttl_s, 604800)                                                              \
	FIELD(u32, addr_count, LIMIT_ROUTE_ADDRS)                                              \
	FIELD(str, code, 16) /* enhanced status code when not ok */                            \
	FIELD(str, text, LIMIT_TEXT)
#define MSG_ROUTE_ADDR(FIELD)                                                                  \
	FIELD(u64, request, IPC_ANY_U64)                                                       \
	FIELD(u16, preference, IPC_ANY_U16)                                                    \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(u8, dnssec, DNSSEC_BOGUS)                                                        \
	FIELD(u8, family, 6)                                                                   \
	FIELD(str, addr, 16) /* 4 or 16 bytes, network order */                                \
	FIELD(u16, port, IPC_ANY_U16)

/* ---- qmgr -> smtp-out ---- */

enum tls_level {
	TLS_NONE,
	TLS_MAY,
	TLS_ENCRYPT,
	TLS_DANE,
	TLS_DANE_ONLY,
	TLS_VERIFY,
	TLS_SECURE
};
/* A site: where its jobs go and how. Sent before its first job and again when it changes;
 * addr_count site_addr messages follow. max_connections is this process's share. */
#define MSG_SITE(FIELD)                                                                        \
	FIELD(u64, site, IPC_ANY_U64)                                                          \
	FIELD(str, name, LIMIT_TEXT)                                                           \
	FIELD(u32, max_connections, 65535)                                                     \
	FIELD(u8, tls_level, TLS_SECURE)                                                       \
	FIELD(u32, addr_count, LIMIT_ROUTE_ADDRS)
#define MSG_SITE_ADDR(FIELD)                                                                   \
	FIELD(u64, site, IPC_ANY_U64)                                                          \
	FIELD(u16, preference, IPC_ANY_U16)                                                    \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(u8, dnssec, DNSSEC_BOGUS)                                                        \
	FIELD(u8, family, 6)                                                                   \
	FIELD(str, addr, 16)                                                                   \
	FIELD(u16, port, IPC_ANY_U16)                                                          \
	FIELD(u8, tls_level, TLS_SECURE)
#define MSG_SITE_DROP(FIELD) FIELD(u64, site, IPC_ANY_U64)
/* With a read-only descriptor: jobs name the segment from now on; closed by segment_drop. */
#define MSG_SEGMENT(FIELD) FIELD(u64, segment, IPC_ANY_U64)
#define MSG_SEGMENT_DROP(FIELD) FIELD(u64, segment, IPC_ANY_U64)
#define MSG_JOB(FIELD)                                                                         \
	FIELD(u64, job, IPC_ANY_U64)                                                           \
	FIELD(u64, site, IPC_ANY_U64)                                                          \
	FIELD(u64, segment, IPC_ANY_U64)                                                       \
	FIELD(u64, head_offset, IPC_ANY_U64)                                                   \
	FIELD(u32, head_bytes, IPC_ANY_U32)                                                    \
	FIELD(u64, content_offset, IPC_ANY_U64)                                                \
	FIELD(u64, content_bytes, IPC_ANY_U64)                                                 \
	FIELD(u32, flags, IPC_ANY_U32)                                                         \
	FIELD(str, queue_id, LIMIT_QUEUE_ID)                                                   \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(str, envid, LIMIT_ENVID)                                                         \
	FIELD(u8, ret, RET_HDRS)                                                               \
	FIELD(u32, rcpt_count, 1000)
#define MSG_JOB_RCPT(FIELD)                                                                    \
	FIELD(u64, job, IPC_ANY_U64)                                                           \
	FIELD(str, address, LIMIT_ADDRESS)                                                     \
	FIELD(str, orcpt, LIMIT_ORCPT)                                                         \
	FIELD(u8, notify, 15)
/* Give it back if it has not begun (answered by outcomes with stage STAGE_CANCELLED). */
#define MSG_JOB_CANCEL(FIELD) FIELD(u64, job, IPC_ANY_U64)

/* ---- smtp-out -> qmgr ---- */

/* A connection is up (greeted, EHLO done, TLS decided); outcomes refer to it. */
#define MSG_CONNECTION(FIELD)                                                                  \
	FIELD(u64, connection, IPC_ANY_U64)                                                    \
	FIELD(u64, site, IPC_ANY_U64)                                                          \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(str, addr, 64)                                                                   \
	FIELD(u16, port, IPC_ANY_U16)                                                          \
	FIELD(str, local, 64)                                                                  \
	FIELD(str, tls, LIMIT_NAME)                                                            \
	FIELD(u8, tls_trust, 3) /* enum tls_trust */                                           \
	FIELD(u32, connect_ms, IPC_ANY_U32)                                                    \
	FIELD(u32, ready_ms, IPC_ANY_U32)
enum tls_trust {
	TRUST_NONE,
	TRUST_ANONYMOUS,
	TRUST_UNTRUSTED,
	TRUST_VERIFIED
};
#define MSG_CONNECTION_GONE(FIELD)                                                             \
	FIELD(u64, connection, IPC_ANY_U64)                                                    \
	FIELD(u32, jobs, IPC_ANY_U32)
/* What one recipient of a job earned. kind: enum verdict_kind; stage: enum smtp_stage. */
#define MSG_OUTCOME(FIELD)                                                                     \
	FIELD(u64, job, IPC_ANY_U64)                                                           \
	FIELD(u32, rcpt, 999)                                                                  \
	FIELD(u8, kind, 2)                                                                     \
	FIELD(u8, stage, 31)                                                                   \
	FIELD(u16, smtp_code, 999)                                                             \
	FIELD(u8, status_class, 9)                                                             \
	FIELD(u16, status_subject, 999)                                                        \
	FIELD(u16, status_detail, 999)                                                         \
	FIELD(u8, flags, 255)                                                                  \
	FIELD(u64, connection, IPC_ANY_U64) /* of msg_connection; 0: none came up */           \
	FIELD(str, text, LIMIT_REPLY_TEXT)                                                     \
	FIELD(str, host, LIMIT_HOSTNAME) /* where, when no connection came up */               \
	FIELD(str, addr, 64)
enum {
	OUTCOME_MAYBE_DUPLICATE = 1, /* the connection broke between the dot and its reply */
	OUTCOME_NO_DSN_PEER =
		2,            /* delivered to a server without DSN (RFC 3461 section 5.2.2) */
	OUTCOME_SITE_DOWN = 4 /* no server of the site could be spoken to */
};
/* All outcomes of the job have been sent; its messages, segment and site are no longer used
 * by it. Times in ms: waiting in smtp-out, connecting, transferring. */
#define MSG_JOB_DONE(FIELD)                                                                    \
	FIELD(u64, job, IPC_ANY_U64)                                                           \
	FIELD(u64, connection, IPC_ANY_U64) /* 0: none */                                      \
	FIELD(u32, wait_ms, IPC_ANY_U32)                                                       \
	FIELD(u32, transfer_ms, IPC_ANY_U32)

/* ---- qmgr and bounce ---- */

enum {
	NOTICE_FAILED,
	NOTICE_EXPIRED,
	NOTICE_DELAYED,
	NOTICE_RELAYED
};
/* qmgr -> bounce, with a read-only descriptor of the segment: tell the sender. bounce alone
 * decides whether a notice is due (null sender, NOTIFY=NEVER ...) and writes the suppression
 * list. */
#define MSG_NOTICE(FIELD)                                                                      \
	FIELD(u64, notice, IPC_ANY_U64)                                                        \
	FIELD(u8, kind, NOTICE_RELAYED)                                                        \
	FIELD(u64, head_offset, IPC_ANY_U64)                                                   \
	FIELD(u32, head_bytes, IPC_ANY_U32)                                                    \
	FIELD(u64, content_offset, IPC_ANY_U64)                                                \
	FIELD(u64, content_bytes, IPC_ANY_U64)                                                 \
	FIELD(u32, flags, IPC_ANY_U32)                                                         \
	FIELD(i64, accepted_us, IPC_ANY_I64)                                                   \
	FIELD(str, queue_id, LIMIT_QUEUE_ID)                                                   \
	FIELD(str, sender, LIMIT_ADDRESS)                                                      \
	FIELD(str, envid, LIMIT_ENVID)                                                         \
	FIELD(u8, ret, RET_HDRS)                                                               \
	FIELD(str, tenant, LIMIT_TENANT)                                                       \
	FIELD(u32, rcpt_count, 1000)
#define MSG_NOTICE_RCPT(FIELD)                                                                 \
	FIELD(u64, notice, IPC_ANY_U64)                                                        \
	FIELD(str, address, LIMIT_ADDRESS)                                                     \
	FIELD(str, orcpt, LIMIT_ORCPT)                                                         \
	FIELD(u8, notify, 15)                                                                  \
	FIELD(u8, stage, 31)                                                                   \
	FIELD(u16, smtp_code, 999)                                                             \
	FIELD(u8, status_class, 9)                                                             \
	FIELD(u16, status_subject, 999)                                                        \
	FIELD(u16, status_detail, 999)                                                         \
	FIELD(str, text, LIMIT_REPLY_TEXT)                                                     \
	FIELD(str, host, LIMIT_HOSTNAME)                                                       \
	FIELD(str, addr, 64)                                                                   \
	FIELD(i64, last_attempt_us, IPC_ANY_I64)
/* bounce -> qmgr: the consequences are durable (ok 1), or could not be made (ok 0: ask again).
 */
#define MSG_NOTICE_DONE(FIELD)                                                                 \
	FIELD(u64, notice, IPC_ANY_U64)                                                        \
	FIELD(u8, ok, 1)                                                                       \
	FIELD(str, notice_queue_id, LIMIT_QUEUE_ID) /* "" when none was due */

/* ---- the command `ekiden` and master, qmgr, bounce (sockets under run/) ---- */

enum ctl_verb {
	CTL_STOP,
	CTL_RELOAD,
	CTL_STATUS,
	CTL_QUEUE_HOLD,
	CTL_QUEUE_RELEASE,
	CTL_QUEUE_DELETE,
	CTL_QUEUE_REQUEUE,
	CTL_QUEUE_FLUSH,
	CTL_QUEUE_LIST,
	CTL_QUEUE_SITES,
	CTL_SUPPRESS_ADD,
	CTL_SUPPRESS_REMOVE,
	CTL_VERB_COUNT
};
#define MSG_CTL_ASK(FIELD)                                                                     \
	FIELD(u8, verb, CTL_VERB_COUNT - 1)                                                    \
	FIELD(str, operand, LIMIT_TEXT) /* queue id, "ALL", address, site */                   \
	FIELD(str, text, LIMIT_TEXT)    /* reason */                                           \
	FIELD(str, operator_name, LIMIT_NAME)
/* One line of the answer, a JSON object; then ctl_done. */
#define MSG_CTL_LINE(FIELD) FIELD(str, json, LIMIT_CHUNK_BYTES)
/* exit_code of sysexits; text for people when it is not 0; count: how many things it concerned.
 */
#define MSG_CTL_DONE(FIELD)                                                                    \
	FIELD(u8, exit_code, 255)                                                              \
	FIELD(u64, count, IPC_ANY_U64)                                                         \
	FIELD(str, text, LIMIT_TEXT)

#define MSG_ALL(MESSAGE)                                                                       \
	MESSAGE(1, hello, MSG_HELLO)                                                           \
	MESSAGE(2, conf_begin, MSG_CONF_BEGIN)                                                 \
	MESSAGE(3, conf_param, MSG_CONF_PARAM)                                                 \
	MESSAGE(4, conf_file, MSG_CONF_FILE)                                                   \
	MESSAGE(5, conf_end, MSG_CONF_END)                                                     \
	MESSAGE(6, conf_checked, MSG_CONF_CHECKED)                                             \
	MESSAGE(7, conf_apply, MSG_CONF_APPLY)                                                 \
	MESSAGE(8, conf_forget, MSG_CONF_FORGET)                                               \
	MESSAGE(9, listen, MSG_LISTEN)                                                         \
	MESSAGE(10, unlisten, MSG_UNLISTEN)                                                    \
	MESSAGE(11, peer, MSG_PEER)                                                            \
	MESSAGE(12, log_to, MSG_LOG_TO)                                                        \
	MESSAGE(13, ready, MSG_READY)                                                          \
	MESSAGE(14, drain, MSG_DRAIN)                                                          \
	MESSAGE(15, ping, MSG_PING)                                                            \
	MESSAGE(16, pong, MSG_PONG)                                                            \
	MESSAGE(17, shared, MSG_SHARED)                                                        \
	MESSAGE(18, identity, MSG_IDENTITY)                                                    \
	MESSAGE(20, tx_begin, MSG_TX_BEGIN)                                                    \
	MESSAGE(21, tx_rcpt, MSG_TX_RCPT)                                                      \
	MESSAGE(22, tx_content, MSG_TX_CONTENT)                                                \
	MESSAGE(23, tx_end, MSG_TX_END)                                                        \
	MESSAGE(24, tx_abort, MSG_TX_ABORT)                                                    \
	MESSAGE(25, tx_done, MSG_TX_DONE)                                                      \
	MESSAGE(26, lookup, MSG_LOOKUP)                                                        \
	MESSAGE(27, lookup_done, MSG_LOOKUP_DONE)                                              \
	MESSAGE(28, store_state, MSG_STORE_STATE)                                              \
	MESSAGE(30, segment_open, MSG_SEGMENT_OPEN)                                            \
	MESSAGE(31, enqueue, MSG_ENQUEUE)                                                      \
	MESSAGE(32, enqueue_rcpt, MSG_ENQUEUE_RCPT)                                            \
	MESSAGE(33, segment_sealed, MSG_SEGMENT_SEALED)                                        \
	MESSAGE(34, segment_rotate, MSG_SEGMENT_ROTATE)                                        \
	MESSAGE(40, route_ask, MSG_ROUTE_ASK)                                                  \
	MESSAGE(41, route, MSG_ROUTE)                                                          \
	MESSAGE(42, route_addr, MSG_ROUTE_ADDR)                                                \
	MESSAGE(50, site, MSG_SITE)                                                            \
	MESSAGE(51, site_addr, MSG_SITE_ADDR)                                                  \
	MESSAGE(52, site_drop, MSG_SITE_DROP)                                                  \
	MESSAGE(53, segment, MSG_SEGMENT)                                                      \
	MESSAGE(54, segment_drop, MSG_SEGMENT_DROP)                                            \
	MESSAGE(55, job, MSG_JOB)                                                              \
	MESSAGE(56, job_rcpt, MSG_JOB_RCPT)                                                    \
	MESSAGE(57, job_cancel, MSG_JOB_CANCEL)                                                \
	MESSAGE(60, connection, MSG_CONNECTION)                                                \
	MESSAGE(61, connection_gone, MSG_CONNECTION_GONE)                                      \
	MESSAGE(62, outcome, MSG_OUTCOME)                                                      \
	MESSAGE(63, job_done, MSG_JOB_DONE)                                                    \
	MESSAGE(70, notice, MSG_NOTICE)                                                        \
	MESSAGE(71, notice_rcpt, MSG_NOTICE_RCPT)                                              \
	MESSAGE(72, notice_done, MSG_NOTICE_DONE)                                              \
	MESSAGE(80, ctl_ask, MSG_CTL_ASK)                                                      \
	MESSAGE(81, ctl_line, MSG_CTL_LINE)                                                    \
	MESSAGE(82, ctl_done, MSG_CTL_DONE)

typedef uint8_t ipc_u8;
typedef uint16_t ipc_u16;
typedef uint32_t ipc_u32;
typedef uint64_t ipc_u64;
typedef int64_t ipc_i64;
typedef struct slice ipc_str; /* points into the frame that it was decoded from */

/*
 * For each message NAME: struct msg_NAME; MSG_ID_NAME, its frame type; msg_NAME_encode()
 * appends the body to a buffer; msg_NAME_decode() answers ERR_PROTO and leaves *out alone
 * when the body is not exactly one; msg_NAME_send() queues a frame, msg_NAME_send_fd()
 * one that carries a descriptor (duplicated).
 */
#define AS_MEMBER(type, field, max) ipc_##type field;
#define AS_DECLARATION(id, name, FIELDS)                                                       \
	enum {                                                                                 \
		MSG_ID_##name = (id)                                                           \
	};                                                                                     \
	struct msg_##name {                                                                    \
		FIELDS(AS_MEMBER)                                                              \
	};                                                                                     \
	MUST_CHECK enum err msg_##name##_encode(const struct msg_##name *m, struct buf *to);   \
	MUST_CHECK enum err msg_##name##_decode(struct slice body, struct msg_##name *out);    \
	MUST_CHECK enum err msg_##name##_send(struct channel *c, const struct msg_##name *m);  \
	MUST_CHECK enum err msg_##name##_send_fd(struct channel *c,                            \
		const struct msg_##name *m, int fd);
MSG_ALL(AS_DECLARATION)
#undef AS_DECLARATION
#undef AS_MEMBER

/* "tx_begin" for 20; "unknown" for what is no message. For logs. */
const char *msg_name(uint16_t type);
/* "smtpd", "smtp-out" ... */
const char *role_name(enum role role);

#endif
