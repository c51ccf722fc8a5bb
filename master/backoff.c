/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "common/base/attr.h"
#include "master/backoff.h"

#define HEALING_MS 2000
#define HEALTHY_MS 60000

static const int64_t waits_ms[] = {0, 0, 100, 500, 1000, 2000, 5000, 10000, 20000, 30000};

int64_t backoff_ms(unsigned failures)
{
	return waits_ms[failures < ARRAY_LEN(waits_ms) ? failures : ARRAY_LEN(waits_ms) - 1];
}

unsigned backoff_failures(unsigned failures, int64_t lived_ms)
{
	/* More than the table has would only take longer to heal. */
	unsigned before =
		failures < ARRAY_LEN(waits_ms) ? failures : (unsigned)ARRAY_LEN(waits_ms);

	if (lived_ms >= HEALTHY_MS) {
		return 1;
	}
	unsigned healed = lived_ms > 0 ? (unsigned)(lived_ms / HEALING_MS) : 0;
	return (healed < before ? before - healed : 0) + 1;
}
