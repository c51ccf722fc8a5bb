/* SPDX-License-Identifier: Apache-2.0 */
/* backoff: how long to wait before a program that died is started again. Pure functions. */
#ifndef MASTER_BACKOFF_H
#define MASTER_BACKOFF_H

#include <stdint.h>

/* Before the failures-th start in a row; 0 for the first. Never more than 30 seconds. */
int64_t backoff_ms(unsigned failures);

/* The number of failures after one more, of a process that was ready for lived_ms (0: never).
 * Health heals: every two seconds of it take one failure away, a minute all. */
unsigned backoff_failures(unsigned failures, int64_t lived_ms);

#endif
