/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte is the type, the rest a body: what decodes is encoded again and must be the
 * same, and has a JSON form. Then all of it as frames of a journal file.
 */
#include <stdlib.h>

#include "common/journal/event.h"
#include "common/journal/part.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define AS_CHECK(id, name, FIELDS)                                                             \
	static bool check_##name(struct slice body, struct buf *again)                         \
	{                                                                                      \
		struct event_##name e;                                                         \
		if (event_##name##_decode(body, &e) != ERR_OK) {                               \
			return false;                                                          \
		}                                                                              \
		if (event_##name##_encode(&e, again) != ERR_OK ||                              \
			!slice_eq(buf_view(again), body)) {                                    \
			abort();                                                               \
		}                                                                              \
		return true;                                                                   \
	}
EVENT_ALL(AS_CHECK)

static void check_event(uint8_t type, struct slice body)
{
#define AS_ENTRY(id, name, FIELDS) [id] = check_##name,
	static bool (*const checks[])(struct slice, struct buf *) = {EVENT_ALL(AS_ENTRY)};
	bool is_one = false;
	struct buf b;

	buf_init(&b, (size_t)1 << 20);
	if (type < ARRAY_LEN(checks) && checks[type] != NULL) {
		is_one = checks[type](body, &b);
	}
	buf_reset(&b);
	if ((event_to_json(type, 1, SLICE("fuzz-0"), body, &b) == ERR_OK) != is_one) {
		abort();
	}
	buf_clear(&b);
}

static void check_frames(struct slice s)
{
	while (s.n > 0) {
		struct part_event e;
		enum part_found found = part_frame_decode(s, &e);
		if (found == PART_EVENT && (e.n > s.n || e.body.n > PART_BODY_MAX)) {
			abort();
		}
		s = slice_skip(s, found == PART_EVENT ? e.n : 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) {
		return -1;
	}
	check_event(data[0], slice_make(data + 1, size - 1));
	check_frames(slice_make(data, size));
	return 0;
}
