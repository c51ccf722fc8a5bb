/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stddef.h>

#include "common/base/wire.h"
#include "common/ipc/messages.h"

#define AS_PUT(type, field, max) wire_put_##type(&w, m->field, max);
#define AS_GET(type, field, max) m.field = wire_get_##type(&r, max);

#define AS_CODEC(id, name, FIELDS)                                                             \
	enum err msg_##name##_encode(const struct msg_##name *m, struct buf *to)               \
	{                                                                                      \
		struct wire_writer w = wire_begin(to);                                         \
		FIELDS(AS_PUT)                                                                 \
		return wire_end(&w);                                                           \
	}                                                                                      \
	enum err msg_##name##_decode(struct slice body, struct msg_##name *out)                \
	{                                                                                      \
		struct wire_reader r = {.left = body};                                         \
		struct msg_##name m;                                                           \
		FIELDS(AS_GET)                                                                 \
		enum err e = wire_finish(&r);                                                  \
		if (e == ERR_OK) {                                                             \
			*out = m;                                                              \
		}                                                                              \
		return e;                                                                      \
	}                                                                                      \
	enum err msg_##name##_send(struct channel *c, const struct msg_##name *m)              \
	{                                                                                      \
		struct buf *to = channel_frame_begin(c, id, -1);                               \
		return channel_frame_end(c, msg_##name##_encode(m, to));                       \
	}                                                                                      \
	enum err msg_##name##_send_fd(struct channel *c, const struct msg_##name *m, int fd)   \
	{                                                                                      \
		struct buf *to = channel_frame_begin(c, id, fd);                               \
		return channel_frame_end(c, msg_##name##_encode(m, to));                       \
	}
MSG_ALL(AS_CODEC)

const char *msg_name(uint16_t type)
{
#define AS_NAME(id, name, FIELDS) [id] = #name,
	static const char *const names[] = {MSG_ALL(AS_NAME)};
#undef AS_NAME

	return type < ARRAY_LEN(names) && names[type] != NULL ? names[type] : "unknown";
}

const char *role_name(enum role role)
{
	static const char *const names[] = {
		[ROLE_MASTER] = "master",
		[ROLE_SMTPD] = "smtpd",
		[ROLE_CLEANUP] = "cleanup",
		[ROLE_QMGR] = "qmgr",
		[ROLE_RESOLVE] = "resolve",
		[ROLE_SMTP_OUT] = "smtp-out",
		[ROLE_BOUNCE] = "bounce",
		[ROLE_CTL] = "ekiden",
	};
	static_assert(ARRAY_LEN(names) == ROLE_COUNT, "a name for each role");

	return (unsigned)role < ROLE_COUNT ? names[role] : "unknown";
}
