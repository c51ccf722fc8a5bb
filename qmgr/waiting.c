/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/waiting.h"

#include <stdlib.h>

#include "common/base/alloc.h"

void waiting_init(struct waiting *w)
{
	*w = (struct waiting){NULL, 0, 0};
}

void waiting_clear(struct waiting *w)
{
	free(w->entries);
	waiting_init(w);
}

void waiting_push(struct waiting *w, struct waiting_entry e)
{
	if (w->count == w->room) {
		w->room = w->room == 0 ? 256 : w->room + w->room / 2;
		w->entries = alloc_resize(w->entries, w->room, sizeof(*w->entries));
	}
	size_t i = w->count++;
	while (i > 0 && w->entries[(i - 1) / 2].at_s > e.at_s) {
		w->entries[i] = w->entries[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->entries[i] = e;
}

static void drop_first(struct waiting *w)
{
	struct waiting_entry last = w->entries[--w->count];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= w->count) {
			break;
		}
		if (child + 1 < w->count &&
			w->entries[child + 1].at_s < w->entries[child].at_s) {
			child++;
		}
		if (w->entries[child].at_s >= last.at_s) {
			break;
		}
		w->entries[i] = w->entries[child];
		i = child;
	}
	if (w->count > 0) {
		w->entries[i] = last;
	}
	/* A queue that has drained gives its memory back. */
	if (w->room > 4096 && w->count < w->room / 4) {
		w->room /= 2;
		w->entries = alloc_resize(w->entries, w->room, sizeof(*w->entries));
	}
}

bool waiting_pop_due(struct waiting *w, int64_t now_s, struct waiting_entry *out)
{
	if (w->count == 0 || (int64_t)w->entries[0].at_s > now_s) {
		return false;
	}
	*out = w->entries[0];
	drop_first(w);
	return true;
}

uint32_t waiting_next_s(const struct waiting *w)
{
	return w->count == 0 ? UINT32_MAX : w->entries[0].at_s;
}

void waiting_shift(struct waiting *w, int64_t step_s)
{
	/* The same step for all (0 stays 0, which is the smallest), so the heap stays one. */
	for (size_t i = 0; i < w->count; i++) {
		if (w->entries[i].at_s != 0) {
			int64_t at = (int64_t)w->entries[i].at_s + step_s;
			w->entries[i].at_s = at < 1            ? 1
					     : at > UINT32_MAX ? UINT32_MAX
							       : (uint32_t)at;
		}
	}
}

void waiting_flush(struct waiting *w)
{
	for (size_t i = 0; i < w->count; i++) {
		w->entries[i].at_s = 0;
	}
}
