/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_id: the name of a message for as long as anybody speaks of it.
 *
 * Twelve characters of the alphabet of Postfix's long queue ids (digits and consonants, base
 * 52), so that tools that parse logs know them: nine of the microsecond of acceptance, one of
 * the writer, two drawn when the writer started. Unique over restarts and over clock steps
 * back, because a writer never uses a microsecond twice. Not a secret.
 */
#ifndef COMMON_MAIL_QUEUE_ID_H
#define COMMON_MAIL_QUEUE_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define QUEUE_ID_BYTES 12u

struct queue_id_source {
	int64_t last_us;
	uint8_t writer; /* below 52 */
	uint16_t salt;  /* below 52 * 52 */
};

/* salt is drawn from the kernel. */
void queue_id_source_init(struct queue_id_source *s, unsigned writer);
/* The next id, terminated. */
void queue_id_next(struct queue_id_source *s, int64_t wall_us, char to[QUEUE_ID_BYTES + 1]);
/* Exactly QUEUE_ID_BYTES of the alphabet. */
bool queue_id_is_valid(struct slice id);

#endif
