/* SPDX-License-Identifier: Apache-2.0 */
/* power_log: what power_disk writes and power reads. */
#ifndef TESTS_SYSTEM_POWER_POWER_LOG_H
#define TESTS_SYSTEM_POWER_POWER_LOG_H

#include <stdint.h>

enum {
	POWER_WRITE = 1,
	POWER_FLUSH = 2,
	POWER_MARK = 3
};

/* Followed by the bytes of a write or the text of a mark. In the byte order of the machine. */
struct power_entry {
	uint64_t offset;
	uint32_t bytes;
	uint32_t type;
};

#define POWER_POISON "this text cannot be written to the disk"

#endif
