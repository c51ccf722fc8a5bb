/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wording: what a notice says to people, in English and in Japanese. UTF-8, '\n' line ends.
 */
#ifndef BOUNCE_WORDING_H
#define BOUNCE_WORDING_H

#include <stdint.h>

struct wording {
	const char *subject; /* as it stands in the header: ASCII */
	const char *opening;
	const char *closing;
};

/* kind: NOTICE_. */
const struct wording *wording_english(uint8_t kind);
const struct wording *wording_japanese(uint8_t kind);

#endif
