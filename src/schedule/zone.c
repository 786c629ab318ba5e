/* src/schedule/zone.c -- time zones from TZif files. See zone.h.
 *
 * A file begins with its data in 32 bits, for readers of before 2007, then comes all of it in 64, then the rule between two line feeds:
 *
 *   "TZif" version(1) zero(15) isutcnt(4) isstdcnt(4) leapcnt(4) timecnt(4) typecnt(4) charcnt(4)     big-endian
 *   instants(timecnt * 8) types(timecnt) type(typecnt * 6: offset(4) isdst(1) name(1)) names(charcnt)
 *   leap seconds(leapcnt * 12) isstd(isstdcnt) isut(isutcnt)
 */
#include "schedule/zone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/calendar.h"

enum { HEADER_BYTES = 44, OFFSET_MAX = 26 * 3600, RULE_TIME_MAX = 167 * 3600 };

/* When in a year something begins: a day, and seconds from its midnight on. */
struct rule {
	enum { RULE_MONTH, RULE_JULIAN, RULE_DAY } kind; /* Mm.w.d, Jn, n */
	int month, week, day;
	int32_t seconds;
};

struct zone {
	bool ruled, has_summer; /* ruled: there is a rule for what comes after the last change */
	int32_t winter_offset, summer_offset;
	struct rule to_summer, to_winter;
	int32_t first_offset; /* before all changes */
	size_t count;
	struct change {
		int64_t at;
		int32_t offset;
	} changes[];
};

/* ---- the rule ---------------------------------------------------------------------------- */

struct text {
	const char *at, *end;
};

static bool take(struct text *text, char c)
{
	if (text->at == text->end || *text->at != c)
		return false;
	text->at++;
	return true;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool take_number(struct text *text, int max, int *ret)
{
	int n = 0;

	if (text->at == text->end || !is_digit(*text->at))
		return false;
	while (text->at < text->end && is_digit(*text->at) && n <= max)
		n = n * 10 + (*text->at++ - '0');
	*ret = n;
	return n <= max;
}

/* Three letters or more, or what stands between < and >. */
static bool take_name(struct text *text)
{
	const char *begin = text->at;

	if (take(text, '<')) {
		while (text->at < text->end &&
		       (is_letter(*text->at) || is_digit(*text->at) || *text->at == '+' || *text->at == '-'))
			text->at++;
		return text->at - begin >= 4 && take(text, '>');
	}
	while (text->at < text->end && is_letter(*text->at))
		text->at++;
	return text->at - begin >= 3;
}

/* hh[:mm[:ss]], with a sign or without */
static bool take_time(struct text *text, int hours_max, int32_t *ret)
{
	bool minus = take(text, '-');
	int hours, minutes = 0, seconds = 0;

	if (!minus)
		take(text, '+');
	if (!take_number(text, hours_max, &hours) ||
	    (take(text, ':') &&
	     (!take_number(text, 59, &minutes) || (take(text, ':') && !take_number(text, 59, &seconds)))))
		return false;
	*ret = (hours * 3600 + minutes * 60 + seconds) * (minus ? -1 : 1);
	return true;
}

static bool take_rule(struct text *text, struct rule *ret)
{
	*ret = (struct rule){.kind = RULE_DAY, .seconds = 2 * 3600};
	if (take(text, 'M')) {
		ret->kind = RULE_MONTH;
		if (!take_number(text, 12, &ret->month) || ret->month < 1 || !take(text, '.') ||
		    !take_number(text, 5, &ret->week) || ret->week < 1 || !take(text, '.') ||
		    !take_number(text, 6, &ret->day))
			return false;
	} else if (take(text, 'J')) {
		ret->kind = RULE_JULIAN;
		if (!take_number(text, 365, &ret->day) || ret->day < 1)
			return false;
	} else if (!take_number(text, 365, &ret->day)) {
		return false;
	}
	return !take(text, '/') || take_time(text, 167, &ret->seconds);
}

/* std offset [dst [offset] , start [/time] , end [/time]]; offsets count to the west */
static bool read_rules(struct zone *zone, const char *at, size_t len)
{
	struct text text = {at, at + len};
	int32_t offset;

	if (len == 0)
		return true;
	zone->ruled = true;
	if (!take_name(&text) || !take_time(&text, 24, &offset))
		return false;
	zone->winter_offset = -offset;
	if (text.at == text.end)
		return true;
	zone->has_summer = true;
	zone->summer_offset = zone->winter_offset + 3600;
	if (!take_name(&text))
		return false;
	if (text.at < text.end && *text.at != ',') {
		if (!take_time(&text, 24, &offset))
			return false;
		zone->summer_offset = -offset;
	}
	return take(&text, ',') && take_rule(&text, &zone->to_summer) && take(&text, ',') &&
	       take_rule(&text, &zone->to_winter) && text.at == text.end;
}

/* Seconds from 1970 to that moment of the year, by the clock that it ends. */
static int64_t rule_in(const struct rule *rule, int64_t year)
{
	int64_t days = calendar_days(year, 1, 1);

	if (rule->kind == RULE_MONTH) {
		int64_t first = calendar_days(year, rule->month, 1);
		int64_t next = rule->month == 12 ? calendar_days(year + 1, 1, 1)
		                                 : calendar_days(year, rule->month + 1, 1);
		int shift = (rule->day - calendar_weekday(first) + 7) % 7;

		days = first + shift + 7 * (rule->week - 1);
		while (days >= next)
			days -= 7;
	} else if (rule->kind == RULE_JULIAN) { /* no day of it is 29 February */
		days += rule->day - 1 + (calendar_is_leap(year) && rule->day >= 60);
	} else {
		days += rule->day;
	}
	return days * CALENDAR_DAY + rule->seconds;
}

enum { YEARS = 5, RULED_CHANGES = 2 * YEARS };

/* The changes of the years around this one, in their order. One may lie a few days outside its year, and even beyond one of the next. */
static void ruled_changes(const struct zone *zone, int64_t year, struct change ret[RULED_CHANGES])
{
	size_t count = 0;

	for (int64_t y = year - YEARS / 2; y <= year + YEARS / 2; y++) {
		struct change both[2] = {
			{rule_in(&zone->to_summer, y) - zone->winter_offset, zone->summer_offset},
			{rule_in(&zone->to_winter, y) - zone->summer_offset, zone->winter_offset}};

		for (size_t i = 0; i < 2; i++, count++) {
			size_t at = count;

			for (; at > 0 && ret[at - 1].at > both[i].at; at--)
				ret[at] = ret[at - 1];
			ret[at] = both[i];
		}
	}
}

/* The span of the rule's in which at lies. Two changes at one instant are how a rule says that summer never ends: the later one holds, and
 * nothing changes. */
static void ruled_span(const struct zone *zone, int64_t at, struct zone_span *ret)
{
	struct change changes[RULED_CHANGES];

	*ret = (struct zone_span){INT64_MIN, INT64_MAX, zone->winter_offset, zone->winter_offset};
	if (!zone->has_summer)
		return;
	ruled_changes(zone, calendar_date(calendar_floor_div(at, CALENDAR_DAY)).year, changes);
	for (size_t i = 0; i < RULED_CHANGES; i++) {
		if (changes[i].at > at) {
			ret->end = changes[i].at;
			return;
		}
		if (changes[i].at > ret->begin)
			ret->before = ret->offset;
		ret->begin = changes[i].at;
		ret->offset = changes[i].offset;
	}
}

/* ---- the file ---------------------------------------------------------------------------- */

struct counts {
	uint64_t utc, standard, leap, time, type, name;
};

static uint32_t get_u32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int64_t get_i64(const uint8_t *at)
{
	return (int64_t)((uint64_t)get_u32(at) << 32 | get_u32(at + 4));
}

static bool get_counts(const uint8_t *at, size_t len, struct counts *ret)
{
	if (len < HEADER_BYTES || memcmp(at, "TZif", 4) != 0 || at[4] < '2')
		return false;
	*ret = (struct counts){get_u32(at + 20), get_u32(at + 24), get_u32(at + 28),
	                       get_u32(at + 32), get_u32(at + 36), get_u32(at + 40)};
	return true;
}

static uint64_t data_bytes(const struct counts *n, unsigned time_bytes)
{
	return n->time * (time_bytes + 1) + n->type * 6 + n->name + n->leap * (time_bytes + 4) + n->standard +
	       n->utc;
}

/* The data in 64 bits, and what follows them. */
static int find_data(const uint8_t **at, size_t *len, struct counts *n)
{
	uint64_t skip;

	if (*len > ZONE_FILE_BYTES_MAX || !get_counts(*at, *len, n))
		return -EINVAL;
	skip = HEADER_BYTES + data_bytes(n, 4);
	if (skip > *len)
		return -EINVAL;
	*at += skip;
	*len -= skip;
	if (!get_counts(*at, *len, n) || HEADER_BYTES + data_bytes(n, 8) > *len)
		return -EINVAL;
	*at += HEADER_BYTES;
	*len -= HEADER_BYTES;
	if (n->time > ZONE_CHANGES_MAX || n->type == 0 || n->type > 256)
		return -EINVAL;
	return n->leap > 0 ? -ENOTSUP : 0;
}

static bool type_offset(const uint8_t *types, const struct counts *n, uint8_t type, int32_t *ret)
{
	if (type >= n->type)
		return false;
	*ret = (int32_t)get_u32(types + (size_t)type * 6);
	return *ret > -OFFSET_MAX && *ret < OFFSET_MAX;
}

static bool read_changes(struct zone *zone, const uint8_t *at, const struct counts *n)
{
	const uint8_t *kinds = at + n->time * 8, *types = kinds + n->time;

	if (!type_offset(types, n, 0, &zone->first_offset))
		return false;
	for (uint64_t i = 0; i < n->time; i++) {
		struct change *change = &zone->changes[i];

		change->at = get_i64(at + i * 8);
		if (!type_offset(types, n, kinds[i], &change->offset) ||
		    (i > 0 && change->at <= zone->changes[i - 1].at))
			return false;
	}
	zone->count = n->time;
	return true;
}

int zone_read(const void *bytes, size_t len, struct zone **ret)
{
	const uint8_t *at = bytes, *rule, *end;
	struct zone *zone;
	struct counts n;
	int error = find_data(&at, &len, &n);

	if (error < 0)
		return error;
	rule = at + data_bytes(&n, 8);
	if (rule == at + len || *rule != '\n')
		return -EINVAL;
	rule++;
	end = memchr(rule, '\n', (size_t)(at + len - rule));
	if (!end)
		return -EINVAL;
	zone = calloc(1, sizeof(*zone) + n.time * sizeof(zone->changes[0]));
	if (!zone)
		return -ENOMEM;
	if (!read_changes(zone, at, &n) || !read_rules(zone, (const char *)rule, (size_t)(end - rule))) {
		free(zone);
		return -EINVAL;
	}
	*ret = zone;
	return 0;
}

struct zone *zone_utc(void)
{
	return calloc(1, sizeof(struct zone));
}

struct zone *zone_free(struct zone *zone)
{
	free(zone);
	return NULL;
}

/* ---- asking ------------------------------------------------------------------------------ */

static int32_t offset_before(const struct zone *zone, size_t change)
{
	return change > 0 ? zone->changes[change - 1].offset : zone->first_offset;
}

void zone_span(const struct zone *zone, int64_t at, struct zone_span *ret)
{
	size_t low = 0, high = zone->count; /* the first change behind at */

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (zone->changes[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < zone->count || !zone->ruled) {
		ret->begin = low > 0 ? zone->changes[low - 1].at : INT64_MIN;
		ret->end = low < zone->count ? zone->changes[low].at : INT64_MAX;
		ret->offset = offset_before(zone, low);
		ret->before = low > 0 ? offset_before(zone, low - 1) : ret->offset;
		return;
	}
	ruled_span(zone, at, ret);
	if (low > 0 &&
	    ret->begin <= zone->changes[low - 1].at) { /* it began with the last change of the table */
		ret->begin = zone->changes[low - 1].at;
		ret->before = offset_before(zone, low - 1);
	}
}

bool zone_name_is_good(const char *name, size_t len)
{
	bool part = false;

	if (len == 0 || len > ZONE_NAME_BYTES_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (c == '/' && !part)
			return false;
		if (c != '/' && !is_letter(c) && !is_digit(c) && c != '+' && c != '-' && c != '_')
			return false;
		part = c != '/';
	}
	return part;
}
