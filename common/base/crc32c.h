/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c: the Castagnoli checksum of RFC 3720 section B.4; by hardware where there is one. */
#ifndef COMMON_BASE_CRC32C_H
#define COMMON_BASE_CRC32C_H

#include <stdint.h>

#include "common/base/slice.h"

/* Start with crc 0; feed pieces in order. crc32c(0, "123456789") is 0xe3069283. */
uint32_t crc32c(uint32_t crc, struct slice s);

/* The same without the help of the processor; for machines that have none, and for tests. */
uint32_t crc32c_by_table(uint32_t crc, struct slice s);

#endif
