/* SPDX-License-Identifier: Apache-2.0 */
#include "qmgr/retry.h"

uint32_t retry_wait_s(uint32_t attempt, int64_t least_s, int64_t most_s, uint64_t seed)
{
	int64_t wait = least_s < 1 ? 1 : least_s;

	for (uint32_t i = 1; i < attempt && wait < most_s; i++) {
		wait *= 2;
	}
	if (wait > most_s && most_s >= 1) {
		wait = most_s;
	}
	/* 0 .. 1/4 of the wait, so that the middle stays where it was. */
	int64_t spread = wait / 4;
	int64_t moved = wait - spread / 2 + (int64_t)(seed % (uint64_t)(spread + 1));
	return (uint32_t)(moved < 1 ? 1 : moved);
}
