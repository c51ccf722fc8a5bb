/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp-out/office.h"

#include <sys/random.h>

#include "common/base/clock.h"
#include "smtp-out/site.h"

/* A window of command lines, and room to spare. */
#define SCRATCH_MAX ((size_t)1024 * 1024)

static void on_flush(void *arg)
{
	struct office *o = arg;
	struct list *entry;

	while ((entry = list_first(&o->restless)) != NULL) {
		list_remove(entry);
		site_look_for_work(site_of_restless(entry));
	}
}

static void on_patience(void *arg)
{
	struct office *o = arg;
	struct list *entry;

	while ((entry = list_first(&o->patient)) != NULL) {
		site_wake(entry);
	}
}

void office_init(struct office *o, struct loop *loop, const struct office_reports *reports,
	void *arg)
{
	*o = (struct office){.loop = loop, .reports = reports, .arg = arg};
	buf_init(&o->scratch, SCRATCH_MAX);
	list_init(&o->idle);
	list_init(&o->restless);
	list_init(&o->patient);
	loop_timer_init(&o->patience, loop, on_patience, o);
	list_init(&o->starved);
	loop_flush_add(&o->flush, loop, on_flush, o);
	if (getrandom(&o->random, sizeof(o->random), 0) != (ssize_t)sizeof(o->random)) {
		o->random = (uint64_t)clock_wall_us();
	}
}

void office_clear(struct office *o)
{
	loop_flush_remove(&o->flush);
	loop_timer_stop(&o->patience);
	buf_clear(&o->scratch);
}

uint32_t office_random(struct office *o, uint32_t n)
{
	/* Weyl sequence with a mixer: good enough to spread load. */
	o->random += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t x = o->random;
	x = (x ^ (x >> 31)) * UINT64_C(0x7fb5d329728ea185);
	x = (x ^ (x >> 27)) * UINT64_C(0x81dadef4bc2dd44d);
	return (uint32_t)((x ^ (x >> 33)) % n);
}
