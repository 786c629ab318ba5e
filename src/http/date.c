/* src/http/date.c -- dates of HTTP, read: the three forms of RFC 9110 section 5.6.7. Pure. */
#include <string.h>

#include "http/message.h"

static bool digits(const char *text, int count, int *ret)
{
	int value = 0;

	for (int i = 0; i < count; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (text[i] - '0');
	}
	*ret = value;
	return true;
}

static bool month_of(const char *text, int *ret)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; i < 12; i++) {
		if (memcmp(text, months + 3 * (size_t)i, 3) == 0) {
			*ret = i + 1;
			return true;
		}
	}
	return false;
}

static bool time_of(const char *text, int64_t *ret)
{
	int hour, minute, second;

	if (!digits(text, 2, &hour) || text[2] != ':' || !digits(text + 3, 2, &minute) || text[5] != ':' ||
	    !digits(text + 6, 2, &second) || hour > 23 || minute > 59 || second > 60)
		return false;
	*ret = hour * 3600 + minute * 60 + second;
	return true;
}

static bool day_exists(int year, int month, int day)
{
	static const int8_t lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return day >= 1 && day <= lengths[month - 1] && (month != 2 || day < 29 || leap);
}

/* Days since 1970, in years that begin with March: H. Hinnant, days_from_civil. */
static int64_t days_of(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = y / 400, yoe = y - era * 400;
	int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* "06 Nov 1994", "06-Nov-94": years of two digits are of 1970 to 2069, as everybody has it. */
static bool date_of(const char *text, bool two_digits, int *year, int *month, int *day)
{
	char blank = two_digits ? '-' : ' ';

	if (!digits(text, 2, day) || text[2] != blank || !month_of(text + 3, month) || text[6] != blank ||
	    !digits(text + 7, two_digits ? 2 : 4, year))
		return false;
	if (two_digits)
		*year += *year < 70 ? 2000 : 1900;
	return true;
}

bool wh__http_date_parse(struct wh_slice text, int64_t *ret_unix_seconds)
{
	const char *t = text.data, *comma = text.len ? memchr(t, ',', text.len) : NULL;
	size_t rest = comma ? text.len - (size_t)(comma - t) : 0;
	int year, month, day;
	int64_t time;

	if (rest == 26 && comma - t == 3) { /* Sun, 06 Nov 1994 08:49:37 GMT */
		if (!date_of(comma + 2, false, &year, &month, &day) || !time_of(comma + 14, &time) ||
		    memcmp(comma + 22, " GMT", 4) != 0)
			return false;
	} else if (rest == 24 && comma - t >= 6) { /* Sunday, 06-Nov-94 08:49:37 GMT */
		if (!date_of(comma + 2, true, &year, &month, &day) || !time_of(comma + 12, &time) ||
		    memcmp(comma + 20, " GMT", 4) != 0)
			return false;
	} else if (text.len == 24 && !comma) { /* Sun Nov  6 08:49:37 1994 */
		if (!month_of(t + 4, &month) ||
		    !digits(t + (t[8] == ' ' ? 9 : 8), t[8] == ' ' ? 1 : 2, &day) ||
		    !time_of(t + 11, &time) || !digits(t + 20, 4, &year))
			return false;
	} else {
		return false;
	}
	if (!day_exists(year, month, day))
		return false;
	*ret_unix_seconds = days_of(year, month, day) * 86400 + time;
	return true;
}
