/* SPDX-License-Identifier: Apache-2.0 */
#include "bounce/pace.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/limits.h"

struct sender {
	struct hash_link by_name;
	unsigned notices;
	uint8_t name[];
};

void pace_init(struct pace *p)
{
	hash_table_init(&p->senders);
	p->began_ms = 0;
}

void pace_clear(struct pace *p)
{
	struct hash_link *next;

	/* Going on from where it stands: to begin anew for each of 100,000 takes seconds. */
	for (struct hash_link *l = hash_table_next(&p->senders, NULL); l != NULL; l = next) {
		next = hash_table_next(&p->senders, l);
		hash_table_remove(&p->senders, l);
		free(CONTAINER_OF(l, struct sender, by_name));
	}
	hash_table_clear(&p->senders);
}

static struct slice fold(struct slice sender, uint8_t to[LIMIT_ADDRESS])
{
	sender = slice_head(sender, LIMIT_ADDRESS);
	for (size_t i = 0; i < sender.n; i++) {
		to[i] = ascii_lower(sender.p[i]);
	}
	return slice_make(to, sender.n);
}

bool pace_allows(struct pace *p, struct slice sender, int64_t now_ms)
{
	uint8_t name[LIMIT_ADDRESS];
	struct slice key = fold(sender, name);

	if (now_ms - p->began_ms >= PACE_PERIOD_MS || now_ms < p->began_ms) {
		pace_clear(p);
		p->began_ms = now_ms;
	}
	struct hash_link *l = hash_table_find(&p->senders, key);
	if (l == NULL && p->senders.count >= PACE_SENDERS_MAX) {
		return true;
	}
	if (l == NULL) {
		struct sender *s = alloc_zero(1, sizeof(*s) + key.n);
		memcpy(s->name, name, key.n);
		hash_table_insert(&p->senders, &s->by_name, slice_make(s->name, key.n));
		l = &s->by_name;
	}
	struct sender *s = CONTAINER_OF(l, struct sender, by_name);
	if (s->notices >= PACE_NOTICES_MAX) {
		return false;
	}
	s->notices++;
	return true;
}

void pace_give_back(struct pace *p, struct slice sender)
{
	uint8_t name[LIMIT_ADDRESS];
	struct hash_link *l = hash_table_find(&p->senders, fold(sender, name));
	struct sender *s = l == NULL ? NULL : CONTAINER_OF(l, struct sender, by_name);

	/* None is there when the hour has ended meanwhile. */
	if (s != NULL && s->notices != 0) {
		s->notices--;
	}
}
