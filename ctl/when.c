/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/when.h"
#include "common/base/num.h"
#include "common/conf/value.h"

/* Takes exactly width digits, then the separator if one follows. */
static enum err take(struct slice *s, size_t width, uint32_t least, uint32_t most,
	uint32_t *out)
{
	if (s->n < width) {
		return ERR_SYNTAX;
	}
	enum err e = num_parse_u32(slice_head(*s, width), most, out);
	if (e != ERR_OK || *out < least) {
		return ERR_SYNTAX;
	}
	*s = slice_skip(*s, width);
	return ERR_OK;
}

static bool take_byte(struct slice *s, uint8_t c)
{
	if (s->n == 0 || s->p[0] != c) {
		return false;
	}
	*s = slice_skip(*s, 1);
	return true;
}

/* Days since 1970 of a date of the Gregorian calendar. */
static int64_t days_of(uint32_t year, uint32_t month, uint32_t day)
{
	/* Years that begin with March end with the leap day. */
	int64_t y = (int64_t)year - (month <= 2);
	int64_t m = ((int64_t)month + 9) % 12;

	return 365 * y + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + (int64_t)day - 1 -
	       719468;
}

static uint32_t month_days(uint32_t year, uint32_t month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && is_leap ? 1u : 0u);
}

static enum err take_fraction(struct slice *s, int64_t *us)
{
	int64_t each = 100000;

	*us = 0;
	if (!take_byte(s, '.')) {
		return ERR_OK;
	}
	if (s->n == 0 || s->p[0] < '0' || s->p[0] > '9') {
		return ERR_SYNTAX;
	}
	while (s->n != 0 && s->p[0] >= '0' && s->p[0] <= '9') {
		*us += each * (s->p[0] - '0');
		each /= 10;
		*s = slice_skip(*s, 1);
	}
	return ERR_OK;
}

enum err when_parse(struct slice text, int64_t now_us, int64_t *out_us)
{
	struct slice s = slice_trim(text);
	uint32_t year = 0;
	uint32_t month = 0;
	uint32_t day = 0;
	uint32_t hour = 0;
	uint32_t minute = 0;
	uint32_t second = 0;
	int64_t us = 0;
	int64_t ago = 0;

	if (conf_time_parse(s, 's', &ago) == ERR_OK) {
		*out_us = ago > now_us / 1000000 ? 0 : now_us - ago * 1000000;
		return ERR_OK;
	}
	if (take(&s, 4, 1970, 9999, &year) != ERR_OK || !take_byte(&s, '-') ||
		take(&s, 2, 1, 12, &month) != ERR_OK || !take_byte(&s, '-') ||
		take(&s, 2, 1, month_days(year, month), &day) != ERR_OK) {
		return ERR_SYNTAX;
	}
	if (s.n != 0) {
		if ((!take_byte(&s, 'T') && !take_byte(&s, ' ')) ||
			take(&s, 2, 0, 23, &hour) != ERR_OK || !take_byte(&s, ':') ||
			take(&s, 2, 0, 59, &minute) != ERR_OK) {
			return ERR_SYNTAX;
		}
		if (take_byte(&s, ':') && (take(&s, 2, 0, 60, &second) != ERR_OK ||
						  take_fraction(&s, &us) != ERR_OK)) {
			return ERR_SYNTAX;
		}
		(void)take_byte(&s, 'Z');
		if (s.n != 0) {
			return ERR_SYNTAX;
		}
	}
	*out_us = (((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) *
			  1000000 +
		  us;
	return ERR_OK;
}
