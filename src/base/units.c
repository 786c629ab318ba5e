/* src/base/units.c -- numbers, durations and instants as people write them. See units.h. */
#include "base/units.h"

#include <string.h>

#include "base/text.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

static const struct unit {
	char name[3];
	int64_t ns;
} units[] = {
	{"d", 86400 * NS_PER_S}, {"h", 3600 * NS_PER_S}, {"m", 60 * NS_PER_S},
	{"s", NS_PER_S},         {"ms", NS_PER_MS},
};
enum { UNITS = sizeof(units) / sizeof(units[0]) };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool wh__parse_u64(const char *text, size_t len, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(text[i]))
			return false;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value) || value > max)
			return false;
	}
	*ret = value;
	return true;
}

bool wh__parse_duration(const char *text, size_t len, int64_t *ret_ns)
{
	int64_t total = 0;
	size_t i = 0, next_unit = 0;

	if (len == 0)
		return false;
	while (i < len) {
		size_t digits = i, letters;
		uint64_t count;
		int64_t ns;

		while (i < len && is_digit(text[i]))
			i++;
		if (!wh__parse_u64(text + digits, i - digits, INT64_MAX, &count))
			return false;
		letters = i;
		while (i < len && !is_digit(text[i]))
			i++;
		for (;; next_unit++) {
			if (next_unit == UNITS)
				return false;
			if (strlen(units[next_unit].name) == i - letters &&
			    memcmp(units[next_unit].name, text + letters, i - letters) == 0)
				break;
		}
		if (__builtin_mul_overflow((int64_t)count, units[next_unit].ns, &ns) ||
		    __builtin_add_overflow(total, ns, &total))
			return false;
		next_unit++;
	}
	*ret_ns = total;
	return true;
}

size_t wh__put_duration(char *to, int64_t ns)
{
	size_t unit = 0, len;

	if (ns <= 0) {
		memcpy(to, "0s", 2);
		return 2;
	}
	if (ns < 120 * NS_PER_S)
		unit = 3;
	while (unit < UNITS - 1 && ns % units[unit].ns != 0)
		unit++;
	len = wh__put_u64(to, (uint64_t)(ns / units[unit].ns));
	memcpy(to + len, units[unit].name, strlen(units[unit].name));
	return len + strlen(units[unit].name);
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar, by eras of 400 years that begin in March. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static void civil_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t of_era = z - era * 146097;
	int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * of_year + 2) / 153;

	*day = (unsigned)(of_year - (153 * shifted + 2) / 5 + 1);
	*month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
	*year = year_of_era + era * 400 + (*month <= 2);
}

static bool two_digits(const char *text, unsigned min, unsigned max, unsigned *ret)
{
	if (!is_digit(text[0]) || !is_digit(text[1]))
		return false;
	*ret = (unsigned)(text[0] - '0') * 10 + (unsigned)(text[1] - '0');
	return *ret >= min && *ret <= max;
}

static unsigned month_days(unsigned year, unsigned month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
		return 29;
	return days[month - 1];
}

/* What follows the seconds: a fraction, then Z or an offset. */
static bool parse_rest(const char *text, size_t len, int64_t *ret_fraction_ns, int64_t *ret_offset_s)
{
	size_t i = 0;
	unsigned hours, minutes;

	*ret_fraction_ns = 0;
	if (len > 0 && text[0] == '.') {
		int64_t scale = NS_PER_S / 10;
		for (i = 1; i < len && is_digit(text[i]); i++, scale /= 10)
			*ret_fraction_ns += (text[i] - '0') * scale;
		if (i == 1)
			return false;
	}
	*ret_offset_s = 0;
	if (len - i == 1 && (text[i] == 'Z' || text[i] == 'z'))
		return true;
	if (len - i != 6 || (text[i] != '+' && text[i] != '-') || text[i + 3] != ':' ||
	    !two_digits(text + i + 1, 0, 23, &hours) || !two_digits(text + i + 4, 0, 59, &minutes))
		return false;
	*ret_offset_s = ((int64_t)hours * 60 + minutes) * 60;
	if (text[i] == '-')
		*ret_offset_s = -*ret_offset_s;
	return true;
}

bool wh__parse_instant(const char *text, size_t len, int64_t *ret_ns)
{
	unsigned century, year, month, day, hour, minute, second;
	int64_t fraction, offset, seconds;

	if (len < 20 || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't') ||
	    text[13] != ':' || text[16] != ':')
		return false;
	if (!two_digits(text, 0, 99, &century) || !two_digits(text + 2, 0, 99, &year) ||
	    !two_digits(text + 5, 1, 12, &month) || !two_digits(text + 8, 1, 31, &day) ||
	    !two_digits(text + 11, 0, 23, &hour) || !two_digits(text + 14, 0, 59, &minute) ||
	    !two_digits(text + 17, 0, 60, &second))
		return false;
	year += century * 100;
	if (day > month_days(year, month) || !parse_rest(text + 19, len - 19, &fraction, &offset))
		return false;
	seconds = days_from_civil(year, month, day) * 86400 + (int64_t)hour * 3600 + (int64_t)minute * 60 +
	          second - offset;
	if (__builtin_mul_overflow(seconds, NS_PER_S, &seconds) ||
	    __builtin_add_overflow(seconds, fraction, &seconds))
		return false;
	*ret_ns = seconds;
	return true;
}

static void put_digits(char *to, unsigned digits, unsigned value)
{
	while (digits-- > 0) {
		to[digits] = (char)('0' + value % 10);
		value /= 10;
	}
}

size_t wh__put_instant(char *to, int64_t wall_ns)
{
	int64_t ms = wall_ns / NS_PER_MS - (wall_ns % NS_PER_MS < 0);
	int64_t seconds = ms / 1000 - (ms % 1000 < 0);
	int64_t days = seconds / 86400 - (seconds % 86400 < 0);
	unsigned of_day = (unsigned)(seconds - days * 86400), month, day;
	int64_t year;

	civil_from_days(days, &year, &month, &day);
	memcpy(to, "0000-00-00T00:00:00.000Z", 24);
	put_digits(to, 4, (unsigned)year);
	put_digits(to + 5, 2, month);
	put_digits(to + 8, 2, day);
	put_digits(to + 11, 2, of_day / 3600);
	put_digits(to + 14, 2, of_day / 60 % 60);
	put_digits(to + 17, 2, of_day % 60);
	put_digits(to + 20, 3, (unsigned)(ms - seconds * 1000));
	return 24;
}
