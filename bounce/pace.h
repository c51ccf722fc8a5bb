/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace: how many notices one sender gets in an hour. A sender who mails a million dead
 * addresses, or somebody whose name was used for that, is not sent a million notices.
 */
#ifndef BOUNCE_PACE_H
#define BOUNCE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/slice.h"

#define PACE_PERIOD_MS 3600000
#define PACE_NOTICES_MAX 1000u
/* Senders remembered; beyond it new ones are not counted. */
#define PACE_SENDERS_MAX 100000u

struct pace {
	struct hash_table senders;
	int64_t began_ms;
};

void pace_init(struct pace *p);
void pace_clear(struct pace *p);
/* Counts one more for the sender; false: he has had enough. */
bool pace_allows(struct pace *p, struct slice sender, int64_t now_ms);
/* The notice that was counted last for the sender was not sent after all. */
void pace_give_back(struct pace *p, struct slice sender);

#endif
