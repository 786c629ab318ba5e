/* src/schedule/cron.c -- cron expressions. See cron.h.
 *
 * Looked for is in local time, day by day, within one span of the zone's at a time: inside of it local time less its offset is the
 * instant. What summer time does happens where spans meet, and nowhere else.
 */
#include "schedule/cron.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "schedule/calendar.h"

enum { DAYS_MAX = 50 * 366 }; /* 29 February on a given day of the week comes after 40 years at most */
#define EVERY_HOUR ((UINT32_C(1) << 24) - 1)

/* ---- reading ----------------------------------------------------------------------------- */

struct field {
	const char *name;
	int min, max;
	const char *const *words; /* of min, min + 1, ... */
	int words_count;
};

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
enum { FIELDS = 5 };
static const struct field fields[FIELDS] = {{"minute", 0, 59, NULL, 0},
                                            {"hour", 0, 23, NULL, 0},
                                            {"day of the month", 1, 31, NULL, 0},
                                            {"month", 1, 12, month_names, 12},
                                            {"day of the week", 0, 7, day_names, 7}};

static bool refuse(char *wrong, const struct field *field, const char *what)
{
	snprintf(wrong, CRON_WRONG_BYTES, "the %s (%d to %d) %s", field->name, field->min, field->max, what);
	return false;
}

static bool take_digits(const char **at, const char *end, int *ret)
{
	int n = 0, digits = 0;

	for (; *at < end && **at >= '0' && **at <= '9' && digits < 4; digits++)
		n = n * 10 + (*(*at)++ - '0');
	*ret = n;
	return digits > 0;
}

static bool take_number(const struct field *field, const char **at, const char *end, int *ret)
{
	for (int i = 0; i < field->words_count && end - *at >= 3; i++) {
		if (strncasecmp(*at, field->words[i], 3) == 0) {
			*at += 3;
			*ret = field->min + i;
			return true;
		}
	}
	return take_digits(at, end, ret) && *ret >= field->min && *ret <= field->max;
}

/* One item of a list, up to its comma. */
static bool read_item(const struct field *field, const char *at, const char *end, uint64_t *bits, char *wrong)
{
	int first = field->min, last = field->max, step = 1;
	bool one = false;

	if (at < end && *at == '*') {
		at++;
		if (field->max == 7) /* Sunday once */
			last = 6;
	} else {
		if (!take_number(field, &at, end, &first))
			return refuse(wrong, field, "has something that is neither one of its numbers nor *");
		last = first;
		one = at == end || *at != '-';
		if (!one) {
			at++;
			if (!take_number(field, &at, end, &last))
				return refuse(wrong, field,
				              "has a range that does not end with one of its numbers");
		}
	}
	if (first > last)
		return refuse(wrong, field, "has a range that ends before it begins");
	if (at < end && *at == '/') {
		at++;
		if (one)
			return refuse(wrong, field, "has a step through a single number: write a range");
		if (!take_digits(&at, end, &step) || step < 1 || step > field->max)
			return refuse(wrong, field, "has a step that is missing, 0 or too large");
	}
	if (at != end)
		return refuse(wrong, field, "has something that is no list of numbers, ranges and steps");
	for (int i = first; i <= last; i += step)
		*bits |= UINT64_C(1) << i;
	return true;
}

static bool read_field(const struct field *field, const char *at, size_t len, uint64_t *ret, char *wrong)
{
	const char *end = at + len;
	uint64_t bits = 0;

	for (;;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));

		if (!read_item(field, at, comma ? comma : end, &bits, wrong))
			return false;
		if (!comma)
			break;
		at = comma + 1;
	}
	*ret = bits;
	return true;
}

static const char *macro(const char *text, size_t len)
{
	static const struct {
		const char *name, *stands_for;
	} macros[] = {{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
	              {"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
	              {"@annually", "0 0 1 1 *"}};

	for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++) {
		if (strlen(macros[i].name) == len && strncasecmp(text, macros[i].name, len) == 0)
			return macros[i].stands_for;
	}
	return NULL;
}

/* The next word between blanks; its length, 0: there is none. */
static size_t next_word(const char **at, const char *end)
{
	const char *to;

	while (*at < end && (**at == ' ' || **at == '\t'))
		(*at)++;
	for (to = *at; to < end && *to != ' ' && *to != '\t';)
		to++;
	return (size_t)(to - *at);
}

static int64_t next_local(const struct cron *cron, int64_t local);

bool cron_read(const char *text, size_t len, struct cron *ret, char wrong[CRON_WRONG_BYTES])
{
	const char *stands_for = macro(text, len), *at = stands_for ? stands_for : text;
	const char *end = stands_for ? at + strlen(at) : at + len;
	uint64_t bits[FIELDS];
	struct cron cron;
	bool star[FIELDS];

	if (len > 0 && *at == '@') {
		snprintf(wrong, CRON_WRONG_BYTES,
		         "of the words with @ there are @hourly, @daily, @midnight, @weekly, @monthly, "
		         "@yearly and @annually");
		return false;
	}
	for (int i = 0; i < FIELDS; i++) {
		size_t word = next_word(&at, end);

		star[i] = word > 0 && *at == '*';
		if (word == 0)
			return refuse(wrong, &fields[i], "is missing: there are five fields");
		if (!read_field(&fields[i], at, word, &bits[i], wrong))
			return false;
		at += word;
	}
	if (next_word(&at, end) > 0) {
		snprintf(wrong, CRON_WRONG_BYTES,
		         "there are five fields: minute, hour, day of the month, month, day of the week");
		return false;
	}
	cron = (struct cron){bits[0],
	                     (uint32_t)bits[1],
	                     (uint32_t)bits[2],
	                     (uint32_t)bits[3],
	                     (uint32_t)((bits[4] | bits[4] >> 7) & 0x7f),
	                     star[2],
	                     star[4]};
	if (next_local(&cron, 0) == INT64_MAX) {
		snprintf(wrong, CRON_WRONG_BYTES, "there is no such day");
		return false;
	}
	*ret = cron;
	return true;
}

/* ---- local time -------------------------------------------------------------------------- */

static bool day_is_meant(const struct cron *cron, struct calendar_date date, int64_t days)
{
	bool day = cron->days >> date.day & 1, weekday = cron->weekdays >> calendar_weekday(days) & 1;

	return cron->any_day || cron->any_weekday ? day && weekday : day || weekday;
}

static bool month_is_meant(const struct cron *cron, struct calendar_date date)
{
	return cron->months >> date.month & 1;
}

/* The first minute of a day from this one on; -1: none. */
static int minute_from(const struct cron *cron, int minute)
{
	for (int hour = minute / 60; hour < 24; hour++, minute = hour * 60) {
		uint64_t left = cron->hours >> hour & 1 ? cron->minutes >> (minute % 60) << (minute % 60) : 0;

		if (left)
			return hour * 60 + __builtin_ctzll(left);
	}
	return -1;
}

/* The last one up to this one. */
static int minute_to(const struct cron *cron, int minute)
{
	for (int hour = minute / 60; hour >= 0; hour--, minute = hour * 60 + 59) {
		uint64_t mask = (UINT64_C(2) << (minute % 60)) - 1;
		uint64_t left = cron->hours >> hour & 1 ? cron->minutes & mask : 0;

		if (left)
			return hour * 60 + 63 - __builtin_clzll(left);
	}
	return -1;
}

/* Local times are seconds since 1970 by the local clock. The first that is meant from this one on; INT64_MAX: none. */
static int64_t next_local(const struct cron *cron, int64_t local)
{
	int64_t at = -calendar_floor_div(-local, 60); /* in whole minutes */
	int64_t day = calendar_floor_div(at, 1440), end = day + DAYS_MAX;
	int from = (int)(at - day * 1440);

	for (; day <= end; from = 0) {
		struct calendar_date date = calendar_date(day);
		int minute = -1;

		if (!month_is_meant(cron, date)) { /* over the rest of it */
			day = date.month == 12 ? calendar_days(date.year + 1, 1, 1)
			                       : calendar_days(date.year, date.month + 1, 1);
			continue;
		}
		if (day_is_meant(cron, date, day))
			minute = minute_from(cron, from);
		if (minute >= 0)
			return (day * 1440 + minute) * 60;
		day++;
	}
	return INT64_MAX;
}

/* The last that is meant up to this one, but not before low; INT64_MIN: none. */
static int64_t last_local(const struct cron *cron, int64_t local, int64_t low)
{
	int64_t at = calendar_floor_div(local, 60), day = calendar_floor_div(at, 1440);
	int to = (int)(at - day * 1440);

	for (; (day + 1) * CALENDAR_DAY > low; to = 1439) {
		struct calendar_date date = calendar_date(day);
		int minute = -1;

		if (!month_is_meant(cron, date)) {
			day = calendar_days(date.year, date.month, 1) - 1;
			continue;
		}
		if (day_is_meant(cron, date, day))
			minute = minute_to(cron, to);
		if (minute >= 0)
			return (day * 1440 + minute) * 60 >= low ? (day * 1440 + minute) * 60 : INT64_MIN;
		day--;
	}
	return INT64_MIN;
}

/* ---- instants ---------------------------------------------------------------------------- */

static bool every_hour(const struct cron *cron)
{
	return cron->hours == EVERY_HOUR;
}

/* Does the clock jump forward where the span begins, over a time that is meant? */
static bool is_due_at_jump(const struct cron *cron, const struct zone_span *span)
{
	return !every_hour(cron) && span->before < span->offset &&
	       next_local(cron, span->begin + span->before) < span->begin + span->offset;
}

/* The local time from which on the span's count: before it, the clock shows what it has shown already. */
static int64_t local_low(const struct cron *cron, const struct zone_span *span)
{
	if (span->begin == INT64_MIN)
		return INT64_MIN;
	return span->begin + (every_hour(cron) || span->before < span->offset ? span->offset : span->before);
}

int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after)
{
	int64_t at = after + 1, limit = at + (int64_t)DAYS_MAX * CALENDAR_DAY;
	struct zone_span span;

	for (;; at = span.end) {
		int64_t local, low;

		zone_span(zone, at, &span);
		if (at == span.begin && is_due_at_jump(cron, &span))
			return at;
		low = local_low(cron, &span);
		local = next_local(cron, at + span.offset > low ? at + span.offset : low);
		if (local != INT64_MAX && local - span.offset < span.end)
			return local - span.offset;
		if (span.end > limit)
			return INT64_MAX;
	}
}

int64_t cron_last(const struct cron *cron, const struct zone *zone, int64_t after, int64_t until)
{
	struct zone_span span;

	for (int64_t at = until; at > after; at = span.begin - 1) {
		int64_t local, low;

		zone_span(zone, at, &span);
		low = local_low(cron, &span);
		if (low < after + 1 + span.offset)
			low = after + 1 + span.offset;
		local = last_local(cron, at + span.offset, low);
		if (local != INT64_MIN)
			return local - span.offset;
		if (span.begin <= after)
			break;
		if (is_due_at_jump(cron, &span))
			return span.begin;
	}
	return INT64_MIN;
}
