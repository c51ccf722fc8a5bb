/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retry: when to try again, as a pure function.
 */
#ifndef QMGR_RETRY_H
#define QMGR_RETRY_H

#include <stdint.h>

/*
 * Seconds to wait after the attempt numbered attempt (1: the first): least doubled with each
 * further attempt, at most most, then moved by up to an eighth either way by seed, so that what
 * failed together does not come back together. Never under 1.
 */
uint32_t retry_wait_s(uint32_t attempt, int64_t least_s, int64_t most_s, uint64_t seed);

#endif
