/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte is the type, the rest a body. What decodes is encoded again and must be the
 * same. */
#include <stdlib.h>

#include "common/ipc/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define AS_CHECK(id, name, FIELDS)                                                             \
	static void check_##name(struct slice body, struct buf *again)                         \
	{                                                                                      \
		struct msg_##name m;                                                           \
		if (msg_##name##_decode(body, &m) == ERR_OK &&                                 \
			(msg_##name##_encode(&m, again) != ERR_OK ||                           \
				!slice_eq(buf_view(again), body))) {                           \
			abort();                                                               \
		}                                                                              \
	}
MSG_ALL(AS_CHECK)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#define AS_ENTRY(id, name, FIELDS) [id] = check_##name,
	static void (*const checks[])(struct slice, struct buf *) = {MSG_ALL(AS_ENTRY)};
	struct buf again;

	if (size == 0 || data[0] >= ARRAY_LEN(checks) || checks[data[0]] == NULL) {
		return -1;
	}
	buf_init(&again, (size_t)1 << 20);
	checks[data[0]](slice_make(data + 1, size - 1), &again);
	buf_clear(&again);
	return 0;
}
