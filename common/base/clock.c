/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdbool.h>
#include <time.h>

#include "common/base/clock.h"

static struct {
	bool is_held;
	int64_t wall_us;
	int64_t mono_us;
} hold;

static int64_t read_us(clockid_t id)
{
	struct timespec t;
	int failed = clock_gettime(id, &t);

	assert(failed == 0);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
	return hold.is_held ? hold.wall_us : read_us(CLOCK_REALTIME);
}

int64_t clock_wall_s(void)
{
	return clock_wall_us() / 1000000;
}

int64_t clock_mono_us(void)
{
	return hold.is_held ? hold.mono_us : read_us(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

void clock_hold(int64_t wall_us, int64_t mono_us)
{
	hold.is_held = true;
	hold.wall_us = wall_us;
	hold.mono_us = mono_us;
}

void clock_advance_ms(int64_t ms)
{
	hold.wall_us += ms * 1000;
	hold.mono_us += ms * 1000;
}

void clock_release(void)
{
	hold.is_held = false;
}
