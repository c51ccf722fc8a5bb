/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: the time of day, and time that only goes forward.
 *
 * Deadlines and intervals use the monotonic clock, stamps and retry times the wall
 * clock. Tests can set both.
 */
#ifndef COMMON_BASE_CLOCK_H
#define COMMON_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall_us(void); /* microseconds since 1970-01-01 UTC */
int64_t clock_wall_s(void);
int64_t clock_mono_ms(void); /* milliseconds since boot; unaffected by steps of the day */
int64_t clock_mono_us(void);

/* Tests only: both clocks stand still at these values until clock_release(). */
void clock_hold(int64_t wall_us, int64_t mono_us);
/* Tests only: moves both held clocks forward. */
void clock_advance_ms(int64_t ms);
void clock_release(void);

#endif
