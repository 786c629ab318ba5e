/* src/schedule/calendar.h -- days of the Gregorian calendar, before and after 1970, without a clock or a zone.
 *
 * Years have 365.2425 days on average, so an era of 400 years has 146,097 days exactly; a year is taken to begin in March, which puts the
 * leap day at its end. Pure. Thread: any.
 */
#ifndef WH_SCHEDULE_CALENDAR_H
#define WH_SCHEDULE_CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

#define CALENDAR_DAY 86400 /* seconds */

struct calendar_date {
	int64_t year;
	int month, day; /* from 1 */
};

static inline int64_t calendar_floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static inline bool calendar_is_leap(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* calendar_days() - from 1970-01-01 to a date that exists. */
static inline int64_t calendar_days(int64_t year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = calendar_floor_div(y, 400), of_era = y - era * 400;
	int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static inline struct calendar_date calendar_date(int64_t days)
{
	int64_t z = days + 719468, era = calendar_floor_div(z, 146097), of_era = z - era * 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
	struct calendar_date date = {year + era * 400, (int)(month < 10 ? month + 3 : month - 9),
	                             (int)(of_year - (153 * month + 2) / 5 + 1)};

	date.year += date.month <= 2;
	return date;
}

/* calendar_weekday() - 0: Sunday. 1970-01-01 was a Thursday. */
static inline int calendar_weekday(int64_t days)
{
	return (int)(days + 4 - 7 * calendar_floor_div(days + 4, 7));
}

#endif
