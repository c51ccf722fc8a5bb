/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "common/base/clock.h"
#include "common/base/num.h"
#include "common/io/fd.h"
#include "master/notify.h"

#define READY_VARIABLE "EKIDEN_READY_FD"

void notify_init(struct notify *n)
{
	uint64_t watchdog_us = 0;
	uint32_t fd = 0;

	*n = (struct notify){.ready_fd = -1};
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread. */
	const char *text = secure_getenv(READY_VARIABLE);
	if (text != NULL && num_parse_u32(slice_from_cstr(text), 65535, &fd) == ERR_OK &&
		fd > 2 && fcntl((int)fd, F_SETFD, FD_CLOEXEC) == 0) {
		n->ready_fd = (int)fd;
	}
	if (sd_watchdog_enabled(0, &watchdog_us) > 0) {
		/* Half of it, as systemd advises. */
		n->watchdog_ms = (int64_t)(watchdog_us / 2000);
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread. */
	(void)unsetenv(READY_VARIABLE);
}

void notify_ready(struct notify *n)
{
	if (n->ready_fd >= 0) {
		(void)!write(n->ready_fd, "READY\n", 6);
		fd_close(&n->ready_fd);
	}
	(void)sd_notifyf(0, "READY=1\nMAINPID=%ld\nSTATUS=Relaying mail.", (long)getpid());
}

bool notify_failed(struct notify *n, const char *why)
{
	(void)sd_notifyf(0, "STATUS=Not started: %s", why);
	if (n->ready_fd < 0) {
		return false;
	}
	(void)dprintf(n->ready_fd, "FAILED %s\n", why);
	fd_close(&n->ready_fd);
	return true;
}

void notify_reloading(void)
{
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_us());
}

void notify_reloaded(void)
{
	(void)sd_notify(0, "READY=1\nSTATUS=Relaying mail.");
}

void notify_stopping(void)
{
	(void)sd_notify(0, "STOPPING=1\nSTATUS=Finishing what runs.");
}

void notify_patience(int64_t ms)
{
	(void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRId64, ms * 1000);
}

void notify_alive(const struct notify *n)
{
	if (n->watchdog_ms != 0) {
		(void)sd_notify(0, "WATCHDOG=1");
	}
}

void notify_clear(struct notify *n)
{
	fd_close(&n->ready_fd);
}
