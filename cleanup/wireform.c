/* SPDX-License-Identifier: Apache-2.0 */
#include "cleanup/wireform.h"

#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

static bool has_8bit(struct slice s)
{
	uint64_t all = 0;
	size_t i = 0;

	for (; s.n - i >= 32; i += 32) {
		uint64_t w[4];
		memcpy(w, s.p + i, sizeof(w));
		all |= w[0] | w[1] | w[2] | w[3];
	}
	for (; i < s.n; i++) {
		all |= s.p[i];
	}
	return (all & HIGH_BITS) != 0;
}

/* At the beginning of a line, *i below s.n: past what stuffing put there, as far as it has
 * come. */
static enum err pass_dot(struct wireform *w, struct slice s, size_t *i)
{
	if (s.p[*i] != '.') {
		return ERR_OK;
	}
	if (*i + 1 == s.n) {
		w->after_dot = true;
		*i += 1;
		return ERR_OK;
	}
	if (s.p[*i + 1] != '.') {
		return ERR_PROTO;
	}
	w->dots++;
	*i += 2;
	return ERR_OK;
}

/* What the last piece left half done. */
static enum err resume(struct wireform *w, struct slice s, size_t *i)
{
	if (w->after_cr) {
		if (s.p[0] != '\n') {
			return ERR_PROTO;
		}
		w->after_cr = false;
		w->in_line = false;
		*i = 1;
	} else if (w->after_dot) {
		if (s.p[0] != '.') {
			return ERR_PROTO;
		}
		w->after_dot = false;
		w->dots++;
		*i = 1;
	}
	return ERR_OK;
}

enum err wireform_feed(struct wireform *w, struct slice s)
{
	size_t i = 0;

	if (s.n == 0) {
		return ERR_OK;
	}
	w->bytes += s.n;
	w->has_nul = w->has_nul || memchr(s.p, '\0', s.n) != NULL;
	w->has_8bit = w->has_8bit || has_8bit(s);
	enum err e = resume(w, s, &i);
	while (e == ERR_OK && i < s.n) {
		if (!w->in_line) {
			w->in_line = true;
			e = pass_dot(w, s, &i);
			if (e != ERR_OK || i == s.n) {
				break;
			}
		}
		const uint8_t *cr = memchr(s.p + i, '\r', s.n - i);
		size_t text = cr == NULL ? s.n - i : (size_t)(cr - s.p) - i;
		if (memchr(s.p + i, '\n', text) != NULL) {
			return ERR_PROTO;
		}
		if (cr == NULL) {
			break;
		}
		i += text + 1;
		if (i == s.n) {
			w->after_cr = true;
			break;
		}
		if (s.p[i] != '\n') {
			return ERR_PROTO;
		}
		w->in_line = false;
		i++;
	}
	return e;
}

bool wireform_is_whole(const struct wireform *w)
{
	return !w->in_line && !w->after_cr && !w->after_dot;
}
