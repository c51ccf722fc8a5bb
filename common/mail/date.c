/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mail/date.h"

#include <assert.h>

#include "common/base/str.h"

enum {
	DAY_S = 86400,
	DAYS_TO_1970 = 719468, /* from 0000-03-01 */
	DAYS_OF_400_YEARS = 146097
};
/* 9999-12-31T23:59:59Z: the last second that four digits of a year can tell. */
#define LAST_S INT64_C(253402300799)

struct civil {
	int year;
	int month; /* 1 to 12 */
	int day;
	int weekday; /* 0: Sunday */
	int hour;
	int minute;
	int second;
};

/*
 * Not gmtime_r(): that reads the zone files on its first call, and a jail has none. Years
 * begin in March here, so that the leap day is the last of its year and a month's first day
 * is a linear function of its number.
 */
static struct civil civil_from_wall(int64_t wall_s)
{
	struct civil c;

	if (wall_s < 0) {
		wall_s = 0;
	} else if (wall_s > LAST_S) {
		wall_s = LAST_S;
	}
	int64_t days = wall_s / DAY_S;
	int64_t second = wall_s % DAY_S;
	c.weekday = (int)((days + 4) % 7); /* 1970-01-01 was a Thursday */
	c.hour = (int)(second / 3600);
	c.minute = (int)(second / 60 % 60);
	c.second = (int)(second % 60);
	days += DAYS_TO_1970;
	int64_t era = days / DAYS_OF_400_YEARS;
	int64_t of_era = days % DAYS_OF_400_YEARS;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * of_year + 2) / 153; /* 0: March */
	c.day = (int)(of_year - (153 * month + 2) / 5 + 1);
	c.month = (int)(month < 10 ? month + 3 : month - 9);
	c.year = (int)(era * 400 + year + (c.month <= 2 ? 1 : 0));
	return c;
}

void date_format_rfc5322(int64_t wall_s, char to[DATE_TEXT_MAX])
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul",
		"Aug", "Sep", "Oct", "Nov", "Dec"};
	struct civil c = civil_from_wall(wall_s);
	enum err e = str_format(to, DATE_TEXT_MAX, "%s, %d %s %04d %02d:%02d:%02d +0000",
		days[c.weekday], c.day, months[c.month - 1], c.year, c.hour, c.minute,
		c.second);

	assert(e == ERR_OK);
	(void)e;
}

void date_format_iso(int64_t wall_us, char to[DATE_TEXT_MAX])
{
	int64_t us = wall_us < 0 ? 0 : wall_us;
	struct civil c = civil_from_wall(us / 1000000);
	enum err e = str_format(to, DATE_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
		c.year, c.month, c.day, c.hour, c.minute, c.second, (int)(us % 1000000));

	assert(e == ERR_OK);
	(void)e;
}
