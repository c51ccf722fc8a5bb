/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify: tells whoever started us how we are: the command, which waits on the pipe that
 * EKIDEN_READY_FD names, and systemd.
 */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct notify {
	int ready_fd;        /* -1: nobody waits */
	int64_t watchdog_ms; /* systemd wants a sign of life so often; 0: not at all */
};

/* Takes what the environment says out of it. */
void notify_init(struct notify *n);
/* Accepts mail. Writes "READY\n" once. */
void notify_ready(struct notify *n);
/* Will not. Writes "FAILED why\n" once; false: nobody waits. */
bool notify_failed(struct notify *n, const char *why);
void notify_reloading(void);
void notify_reloaded(void);
void notify_stopping(void);
/* Starting or stopping takes its time: so much longer from now on. */
void notify_patience(int64_t ms);
void notify_alive(const struct notify *n);
void notify_clear(struct notify *n);

#endif
