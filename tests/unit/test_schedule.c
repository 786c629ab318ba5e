/* tests/unit/test_schedule.c -- cron expressions, time zones and schedules as pure functions. What is due when in the zones of the world is judged by
 * test_schedule_zones.py; here is what can be said without a database. */
#include "schedule/schedule.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "schedule/calendar.h"

#define S      INT64_C(1000000000)
#define MINUTE (60 * S)

/* ---- the calendar ------------------------------------------------------------------------ */

static void every_day_there_and_back(void **state)
{
	int64_t days = calendar_days(1, 1, 1);

	for (int64_t end = calendar_days(2400, 1, 1), weekday = calendar_weekday(days); days < end; days++) {
		struct calendar_date date = calendar_date(days), next = calendar_date(days + 1);

		assert_int_equal(calendar_days(date.year, date.month, date.day), days);
		assert_int_equal(calendar_weekday(days), weekday);
		weekday = (weekday + 1) % 7;
		assert_true(next.day == date.day + 1 || (next.day == 1 && date.day >= 28));
	}
	assert_int_equal(calendar_days(1970, 1, 1), 0);
	assert_int_equal(calendar_days(2000, 3, 1), 11017);
	assert_int_equal(calendar_weekday(calendar_days(2026, 11, 27)), 5);
}

/* ---- expressions ------------------------------------------------------------------------- */

static void good_expressions(void **state)
{
	static const struct {
		const char *text;
		struct cron cron;
	} table[] = {
		{"* * * * *", {(UINT64_C(1) << 60) - 1, 0xffffff, 0xfffffffe, 0x1ffe, 0x7f, true, true}},
		{"0 3 1 1 0", {1, 1 << 3, 2, 2, 1, false, false}},
		{" 0\t3  1 jan 7 ", {1, 1 << 3, 2, 2, 1, false, false}},
		{"5,10-12,50-59/4 0 * * Mon-FRI",
	         {UINT64_C(1) << 5 | UINT64_C(7) << 10 | UINT64_C(1) << 50 | UINT64_C(1) << 54 |
	                  UINT64_C(1) << 58,
	          1, 0xfffffffe, 0x1ffe, 0x3e, true, false}},
		{"*/20 */6 */10 */4 */2",
	         {1 | UINT64_C(1) << 20 | UINT64_C(1) << 40, 1 | 1 << 6 | 1 << 12 | 1 << 18,
	          1 << 1 | 1 << 11 | 1 << 21 | 1u << 31, 1 << 1 | 1 << 5 | 1 << 9, 1 | 4 | 16 | 64, true,
	          true}},
		{"0 0 * * 5-7", {1, 1, 0xfffffffe, 0x1ffe, 1 | 1 << 5 | 1 << 6, true, false}},
		{"@hourly", {1, 0xffffff, 0xfffffffe, 0x1ffe, 0x7f, true, true}},
		{"@MIDNIGHT", {1, 1, 0xfffffffe, 0x1ffe, 0x7f, true, true}},
		{"@weekly", {1, 1, 0xfffffffe, 0x1ffe, 1, true, false}},
		{"@yearly", {1, 1, 2, 2, 0x7f, false, true}},
	};
	char wrong[CRON_WRONG_BYTES];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct cron *want = &table[i].cron;
		struct cron cron;

		assert_true(cron_read(table[i].text, strlen(table[i].text), &cron, wrong));
		assert_int_equal(cron.minutes, want->minutes);
		assert_int_equal(cron.hours, want->hours);
		assert_int_equal(cron.days, want->days);
		assert_int_equal(cron.months, want->months);
		assert_int_equal(cron.weekdays, want->weekdays);
		assert_int_equal(cron.any_day, want->any_day);
		assert_int_equal(cron.any_weekday, want->any_weekday);
	}
}

static void bad_expressions(void **state)
{
	static const char *const table[] = {"",
	                                    "*",
	                                    "* * * *",
	                                    "* * * * * *",
	                                    "60 * * * *",
	                                    "* 24 * * *",
	                                    "* * 0 * *",
	                                    "* * 32 * *",
	                                    "* * * 13 *",
	                                    "* * * 0 *",
	                                    "* * * * 8",
	                                    "-1 * * * *",
	                                    "a * * * *",
	                                    "1- * * * *",
	                                    "1-2- * * * *",
	                                    "2-1 * * * *",
	                                    "1, * * * *",
	                                    ",1 * * * *",
	                                    "*/0 * * * *",
	                                    "*/ * * * *",
	                                    "*/60 * * * *",
	                                    "5/2 * * * *",
	                                    "*5 * * * *",
	                                    "** * * * *",
	                                    "* * * jax *",
	                                    "* * * * monday",
	                                    "* jan * * *",
	                                    "0 0 30 2 *",
	                                    "0 0 31 4,6,9,11 *",
	                                    "@reboot",
	                                    "@",
	                                    "@dailyx",
	                                    "1-2/3/4 * * * *",
	                                    "00000001 * * * *",
	                                    "* * * * 1#2",
	                                    "* * L * *",
	                                    "* * * * fri-mon"};
	struct cron cron = {.minutes = 77};
	char wrong[CRON_WRONG_BYTES];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		wrong[0] = 0;
		if (cron_read(table[i], strlen(table[i]), &cron, wrong))
			fail_msg("'%s' was taken", table[i]);
		assert_true(wrong[0] != 0);
		assert_int_equal(cron.minutes, 77);
	}
}

static int64_t at(int64_t year, int month, int day, int hour, int minute)
{
	return calendar_days(year, month, day) * CALENDAR_DAY + hour * 3600 + minute * 60;
}

static void due_in_utc(void **state)
{
	static const struct {
		const char *text;
		int64_t after[5], next[5];
	} table[] = {
		{"* * * * *", {2026, 11, 27, 12, 0}, {2026, 11, 27, 12, 1}},
		{"0 3 * * *", {2026, 12, 31, 3, 0}, {2027, 1, 1, 3, 0}},
		{"59 23 28-31 * *", {2026, 2, 28, 23, 59}, {2026, 3, 28, 23, 59}},
		{"0 0 29 2 *", {2096, 2, 29, 0, 0}, {2104, 2, 29, 0, 0}},
		{"0 0 13 * fri", {2026, 11, 27, 0, 0}, {2026, 12, 4, 0, 0}}, /* the 13th, and every Friday */
		{"0 0 13 * */5",
	         {2026, 11, 27, 0, 0},
	         {2026, 12, 13, 0, 0}}, /* a Sunday or Friday that is the 13th */
		{"0 0 29 2 */6", {2026, 11, 27, 0, 0}, {2032, 2, 29, 0, 0}},
		{"15 9-17/4 * * mon", {2026, 11, 27, 0, 0}, {2026, 11, 30, 9, 15}},
		{"@monthly", {2026, 11, 1, 0, 0}, {2026, 12, 1, 0, 0}},
	};
	struct zone *utc = zone_utc();
	char wrong[CRON_WRONG_BYTES];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const int64_t *a = table[i].after, *n = table[i].next;
		int64_t after = at(a[0], (int)a[1], (int)a[2], (int)a[3], (int)a[4]);
		int64_t next = at(n[0], (int)n[1], (int)n[2], (int)n[3], (int)n[4]);
		struct cron cron;

		assert_true(cron_read(table[i].text, strlen(table[i].text), &cron, wrong));
		assert_int_equal(cron_next(&cron, utc, after), next);
		assert_int_equal(cron_next(&cron, utc, next - 1), next);
		assert_int_equal(cron_last(&cron, utc, after, next), next);
		assert_int_equal(cron_last(&cron, utc, after, next + 59), next);
		assert_int_equal(cron_last(&cron, utc, after, next - 1), INT64_MIN);
	}
	zone_free(utc);
}

/* ---- zones ------------------------------------------------------------------------------- */

struct file {
	uint8_t bytes[4096];
	size_t len;
};

static void put(struct file *f, const void *bytes, size_t len)
{
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static void put_number(struct file *f, uint64_t value, int bytes)
{
	while (bytes-- > 0)
		f->bytes[f->len++] = (uint8_t)(value >> (8 * bytes));
}

static void put_header(struct file *f, unsigned leap, unsigned time, unsigned type)
{
	put(f, "TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	put_number(f, 0, 4);
	put_number(f, 0, 4);
	put_number(f, leap, 4);
	put_number(f, time, 4);
	put_number(f, type, 4);
	put_number(f, 4, 4);
}

/* A file with these changes, and a rule for what comes after them. */
static struct file make(const int64_t (*changes)[2], unsigned count, int first, const char *rule)
{
	struct file f = {.len = 0};

	put_header(&f, 0, 0, 1);
	put_number(&f, 0, 6);
	put(&f, "ABC", 4);
	put_header(&f, 0, count, count + 1);
	for (unsigned i = 0; i < count; i++)
		put_number(&f, (uint64_t)changes[i][0], 8);
	for (unsigned i = 0; i < count; i++)
		put_number(&f, i + 1, 1);
	put_number(&f, (uint32_t)first, 4);
	put_number(&f, 0, 2);
	for (unsigned i = 0; i < count; i++) {
		put_number(&f, (uint32_t)changes[i][1], 4);
		put_number(&f, 0, 2);
	}
	put(&f, "ABC", 4);
	put(&f, "\n", 1);
	put(&f, rule, strlen(rule));
	put(&f, "\n", 1);
	return f;
}

static struct zone *zone_of(const char *rule)
{
	struct file f = make(NULL, 0, 3600, rule);
	struct zone *zone = NULL;

	if (zone_read(f.bytes, f.len, &zone) != 0)
		fail_msg("'%s' was refused", rule);
	return zone;
}

static void assert_span(const struct zone *zone, int64_t when, int64_t begin, int64_t end, int offset,
                        int before)
{
	struct zone_span span;

	zone_span(zone, when, &span);
	assert_int_equal(span.begin, begin);
	assert_int_equal(span.end, end);
	assert_int_equal(span.offset, offset);
	assert_int_equal(span.before, before);
}

static void spans_of_a_table(void **state)
{
	static const int64_t changes[][2] = {{1000, 7200}, {5000, 3600}, {9000, -1800}};
	struct file f = make(changes, 3, 0, "");
	struct zone *zone = NULL;

	assert_int_equal(zone_read(f.bytes, f.len, &zone), 0);
	assert_span(zone, 0, INT64_MIN, 1000, 0, 0);
	assert_span(zone, 999, INT64_MIN, 1000, 0, 0);
	assert_span(zone, 1000, 1000, 5000, 7200, 0);
	assert_span(zone, 8999, 5000, 9000, 3600, 7200);
	assert_span(zone, 9000, 9000, INT64_MAX, -1800, 3600);
	zone_free(zone);
	f = make(changes, 3, 0, "<-0030>0:30");
	assert_int_equal(zone_read(f.bytes, f.len, &zone), 0);
	assert_span(zone, 8999, 5000, 9000, 3600, 7200);
	assert_span(zone, 1 << 30, 9000, INT64_MAX, -1800, 3600);
	zone_free(zone);
}

static void spans_of_rules(void **state)
{
	int64_t march = at(2027, 3, 28, 1, 0), october = at(2027, 10, 31, 1, 0);
	struct zone *zone = zone_of("CET-1CEST,M3.5.0,M10.5.0/3");

	assert_span(zone, march - 1, at(2026, 10, 25, 1, 0), march, 3600, 7200);
	assert_span(zone, march, march, october, 7200, 3600);
	assert_span(zone, october, october, at(2028, 3, 26, 1, 0), 3600, 7200);
	zone_free(zone);
	/* in the south summer ends in the year in which it began the year before */
	zone = zone_of("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0");
	assert_span(zone, at(2027, 1, 1, 0, 0), at(2026, 10, 3, 15, 30), at(2027, 4, 3, 15, 0), 39600, 37800);
	zone_free(zone);
	/* days by their number, with 29 February and without, and hours beyond a day */
	zone = zone_of("AAA0BBB,J60/0,300/26");
	assert_span(zone, at(2028, 3, 1, 0, 0), at(2028, 3, 1, 0, 0), at(2028, 10, 28, 1, 0), 3600, 0);
	assert_span(zone, at(2027, 3, 1, 0, 0), at(2027, 3, 1, 0, 0), at(2027, 10, 29, 1, 0), 3600, 0);
	zone_free(zone);
	zone = zone_of("<-02>2<-01>,M3.5.0/-1,M10.5.0/0");
	assert_span(zone, at(2027, 3, 28, 1, 0), at(2027, 3, 28, 1, 0), at(2027, 10, 31, 1, 0), -3600, -7200);
	zone_free(zone);
	/* a summer that ends after the next one has begun: what comes later holds */
	zone = zone_of("EST5EDT,0/0,J365/45");
	assert_span(zone, at(2027, 1, 1, 12, 0), at(2027, 1, 1, 5, 0), at(2027, 1, 2, 1, 0), -4 * 3600,
	            -5 * 3600);
	assert_span(zone, at(2027, 1, 2, 1, 0), at(2027, 1, 2, 1, 0), at(2028, 1, 1, 5, 0), -5 * 3600,
	            -4 * 3600);
	zone_free(zone);
	/* summer that never ends: nothing changes where it does */
	zone = zone_of("EST5EDT,0/0,J365/25");
	for (int64_t when = at(2027, 1, 1, 0, 0); when < at(2029, 1, 1, 0, 0); when += 3600) {
		struct zone_span span;

		zone_span(zone, when, &span);
		assert_int_equal(span.offset, -4 * 3600);
		assert_int_equal(span.before, -4 * 3600);
		assert_true(span.begin <= when && when < span.end);
	}
	zone_free(zone);
}

static void bad_files(void **state)
{
	static const int64_t changes[][2] = {{1000, 7200}, {5000, 3600}},
			     backwards[][2] = {{5000, 1}, {5000, 2}}, far[][2] = {{1000, 100000}};
	static const char *const rules[] = {"CET",
	                                    "C-1",
	                                    "CET-25",
	                                    "CET-1CEST",
	                                    "CET-1CEST,M3.5.0",
	                                    "CET-1CEST,M3.5.0,M13.5.0",
	                                    "CET-1CEST,M3.6.0,M10.5.0",
	                                    "CET-1CEST,M3.5.7,M10.5.0",
	                                    "CET-1CEST,J0,J1",
	                                    "CET-1CEST,M3.5.0/168,M10.5.0",
	                                    "CET-1CEST,366,1",
	                                    "CET-1CEST,M3.5.0,M10.5.0x",
	                                    "<CET-1",
	                                    "<C>-1",
	                                    "CET-1:60",
	                                    "CET-1CEST,M3.5.0,M10.5.0/3/4"};
	struct file good = make(changes, 2, 0, "CET-1CEST,M3.5.0,M10.5.0/3"), f;
	struct zone *zone = (void *)&f;

	for (size_t len = 0; len < good.len; len++)
		assert_int_equal(zone_read(good.bytes, len, &zone), -EINVAL);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		f = make(changes, 2, 0, rules[i]);
		if (zone_read(f.bytes, f.len, &zone) != -EINVAL)
			fail_msg("'%s' was taken", rules[i]);
	}
	f = make(backwards, 2, 0, "");
	assert_int_equal(zone_read(f.bytes, f.len, &zone), -EINVAL);
	f = make(far, 1, 0, "");
	assert_int_equal(zone_read(f.bytes, f.len, &zone), -EINVAL);
	f = good;
	f.bytes[4] = '1'; /* a version without 64 bits */
	assert_int_equal(zone_read(f.bytes, f.len, &zone), -EINVAL);
	f = good;
	f.bytes[44 + 6 + 4 + 31] = 1; /* a leap second: its time and count would be in the data */
	assert_int_equal(zone_read(f.bytes, f.len, &zone), -ENOTSUP);
	assert_ptr_equal(zone, &f);
}

static void names(void **state)
{
	static const char *const good[] = {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires",
	                                   "Etc/GMT+12"};
	static const char *const bad[] = {
		"",
		"/etc/passwd",
		"../UTC",
		"Europe/../UTC",
		"Europe/",
		"a//b",
		"tzdata.zi",
		"a b",
		"Europe\\Berlin",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(zone_name_is_good(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(zone_name_is_good(bad[i], strlen(bad[i])));
	assert_false(zone_name_is_good("UTC\0", 4));
}

/* ---- schedules --------------------------------------------------------------------------- */

static struct schedule *schedule_of(const char *json, int64_t now)
{
	char detail[SCHEDULE_DETAIL_BYTES];
	struct schedule *s = NULL;

	if (schedule_read((struct wh_slice){json, strlen(json)}, "s", 1, false, &s, detail) != SCHEDULE_GOOD)
		fail_msg("%s: %s", json, detail);
	if (s->by_cron)
		s->zone = zone_utc();
	schedule_begin(s, NULL, now);
	return s;
}

static void intervals(void **state)
{
	struct schedule *s = schedule_of("{\"every\":\"90s\",\"job\":{}}", 1000 * S);

	assert_int_equal(schedule_next(s, 0), 1090 * S);
	assert_int_equal(schedule_next(s, 1000 * S), 1090 * S);
	assert_int_equal(schedule_next(s, 1090 * S - 1), 1090 * S);
	assert_int_equal(schedule_next(s, 1090 * S), 1180 * S);
	assert_int_equal(schedule_next(s, INT64_MAX - S), INT64_MAX);
	assert_int_equal(schedule_last(s, 0, 1090 * S - 1), INT64_MIN);
	assert_int_equal(schedule_last(s, 0, 1090 * S), 1090 * S);
	assert_int_equal(schedule_last(s, 1090 * S, 1179 * S), INT64_MIN);
	schedule_free(s);
}

/* What is due at now, of a schedule that has come to minute 0 of 1000. */
static void assert_due(const char *missed, int64_t now, const int64_t *want, size_t count)
{
	char json[200];
	int64_t due[SCHEDULE_MISSED_MAX], through;
	struct schedule *s;

	snprintf(json, sizeof(json), "{\"cron\":\"* * * * *\",%s\"job\":{\"queue\":\"q\"}}", missed);
	s = schedule_of(json, 1000 * MINUTE);
	assert_int_equal(schedule_due(s, now, due, SCHEDULE_MISSED_MAX, &through), count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(due[i], want[i] * MINUTE);
	assert_int_equal(through, now < 1001 * MINUTE ? 1000 * MINUTE : now - now % MINUTE);
	schedule_free(s);
}

static void missed_runs(void **state)
{
	static const int64_t one[] = {1001}, newest[] = {1005}, all[] = {1001, 1002, 1003, 1004, 1005};

	assert_due("", 1001 * MINUTE - 1, NULL, 0);
	assert_due("", 1001 * MINUTE, one, 1);
	assert_due("", 1005 * MINUTE + S, newest, 1);
	assert_due("\"missed\":\"skip\",", 1001 * MINUTE + 59 * S, one, 1);
	assert_due("\"missed\":\"skip\",", 1005 * MINUTE + S, newest, 1);
	assert_due("\"missed\":\"all\",", 1005 * MINUTE + S, all, 5);
	assert_due("\"missed\":\"all\",\"missed_max\":3,", 1005 * MINUTE + S, all + 2, 3);
	assert_due("\"missed\":\"all\",\"missed_max\":1,", 1005 * MINUTE + S, newest, 1);
}

static void a_late_run_is_skipped(void **state)
{
	struct schedule *s = schedule_of("{\"every\":\"1h\",\"missed\":\"skip\",\"job\":{}}", 0);
	int64_t due[SCHEDULE_MISSED_MAX], through;

	assert_int_equal(schedule_due(s, 61 * MINUTE, due, SCHEDULE_MISSED_MAX, &through), 1);
	assert_int_equal(schedule_due(s, 61 * MINUTE + 1, due, SCHEDULE_MISSED_MAX, &through), 0);
	assert_int_equal(through, 60 * MINUTE);
	schedule_free(s);
}

/* For a year that no server ran the newest thousand are found from the end. */
static void a_year_away(void **state)
{
	struct schedule *s =
		schedule_of("{\"cron\":\"* * * * *\",\"missed\":\"all\",\"missed_max\":1000,\"job\":{}}", 0);
	int64_t due[SCHEDULE_MISSED_MAX], through, now = INT64_C(366) * 1440 * MINUTE;

	assert_int_equal(schedule_due(s, now, due, SCHEDULE_MISSED_MAX, &through), 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(due[i], now - (999 - i) * MINUTE);
	schedule_free(s);
}

static void replaced(void **state)
{
	struct schedule *old = schedule_of("{\"cron\":\"* * * * *\",\"job\":{}}", 1000 * MINUTE), *s;

	old->through_ns = 1010 * MINUTE;
	old->runs = 10;
	old->serial = 7;
	old->running = true;
	/* the same times: it goes on where that stands, so that what was missed is not forgotten */
	s = schedule_of("{\"cron\":\"* * * * *\",\"missed\":\"all\",\"job\":{\"queue\":\"other\"}}", 0);
	schedule_begin(s, old, 1020 * MINUTE);
	assert_int_equal(s->since_ns, 1010 * MINUTE);
	old->through_ns = 1011 * MINUTE; /* a run that came to its end meanwhile */
	schedule_take_over(s, old);
	assert_int_equal(s->through_ns, 1011 * MINUTE);
	assert_int_equal(s->runs, 10);
	assert_int_equal(s->serial, 7);
	assert_true(s->running);
	schedule_free(s);
	/* other times, and one that was paused: from now on */
	s = schedule_of("{\"every\":\"1m\",\"job\":{}}", 0);
	schedule_begin(s, old, 1020 * MINUTE);
	assert_int_equal(s->since_ns, 1020 * MINUTE);
	assert_int_equal(s->anchor_ns, 1020 * MINUTE);
	schedule_free(s);
	old->paused = true;
	s = schedule_of("{\"cron\":\"* * * * *\",\"job\":{}}", 0);
	schedule_begin(s, old, 1020 * MINUTE);
	assert_int_equal(s->since_ns, 1020 * MINUTE);
	schedule_free(s);
	schedule_free(old);
}

static void clocks_that_are_set(void **state)
{
	struct schedule *s = schedule_of("{\"cron\":\"* * * * *\",\"job\":{}}", 1000 * MINUTE);
	int64_t due[SCHEDULE_MISSED_MAX], through;

	s->through_ns = 1180 * MINUTE;
	/* back by up to three hours: nothing runs twice */
	assert_false(schedule_set_back(s, 1000 * MINUTE));
	assert_int_equal(schedule_due(s, 1100 * MINUTE, due, SCHEDULE_MISSED_MAX, &through), 0);
	assert_int_equal(through, 1180 * MINUTE);
	assert_int_equal(schedule_next(s, s->through_ns), 1181 * MINUTE);
	/* further: it goes on by the clock */
	assert_true(schedule_set_back(s, 1000 * MINUTE - 1));
	assert_int_equal(s->through_ns, 1000 * MINUTE - 1);
	schedule_free(s);
}

static void says(const struct schedule *s, const char *words)
{
	struct wh__text text;

	wh__text_init(&text, NULL, 0);
	schedule_write(&text, s, 5, 6 * S, NULL);
	wh__text_put(&text, "", 1);
	if (!strstr(text.data, words))
		fail_msg("%s is not in %s", words, text.data);
	wh__text_done(&text);
}

/* One that publishes: what it did last is told of what it does now, and by its name within its namespace. */
static void publishes(void **state)
{
	static const char json[] = "{\"every\":\"1s\",\"publish\":{\"topic\":\"t\"}}",
			  job[] = "{\"every\":\"1s\",\"job\":{}}",
			  both[] = "{\"every\":\"1s\",\"job\":{},\"publish\":{}}";
	char detail[SCHEDULE_DETAIL_BYTES], id[SCHEDULE_EVENT_ID_BYTES];
	struct schedule *s = NULL, *other = NULL;

	assert_int_equal(schedule_read((struct wh_slice){both, sizeof(both) - 1}, "s", 1, false, &s, detail),
	                 SCHEDULE_BAD_JSON);
	assert_int_equal(
		schedule_read((struct wh_slice){json, sizeof(json) - 1}, "acme:s/x", 8, false, &s, detail),
		SCHEDULE_GOOD);
	assert_int_equal(
		schedule_read((struct wh_slice){job, sizeof(job) - 1}, "acme:s/x", 8, false, &other, detail),
		SCHEDULE_GOOD);
	assert_null(s->job.data);
	assert_int_equal(schedule_event_id(id, s, 5 * S + 7000000), 28);
	assert_memory_equal(id, "s/x/1970-01-01T00:00:05.007Z", 28);
	schedule_begin(s, NULL, 5 * S);
	says(s, "\"publish\":{\"topic\":\"t\"}");
	says(s, "\"last\":null");
	s->last_due_ns = 5 * S;
	s->last_at_ns = 6 * S;
	says(s, "\"id\":null,\"event\":null,\"jobs\":null}");
	s->last_event = (struct schedule_published){true, false, 3, 90112, 2};
	says(s, "\"id\":\"s/x/1970-01-01T00:00:05.000Z\",\"event\":\"3/90112\",\"jobs\":2}");
	s->last_event = (struct schedule_published){true, true, 0, 0, 0};
	says(s, "\"event\":null,\"jobs\":0,\"duplicate\":true}");
	/* a job now, which has done nothing yet of its kind, and back */
	schedule_begin(other, s, 7 * S);
	schedule_take_over(other, s);
	says(other, "\"job\":null}");
	other->last_job = 17;
	schedule_take_over(s, other);
	assert_true(s->last_event.known); /* its own, still */
	schedule_free(s);
	schedule_free(other);
	(void)state;
}

static void stored_and_loaded(void **state)
{
	struct schedule_table table = {0};
	struct schedule *s = schedule_of("{\"every\":\"2h\",\"missed\":\"all\",\"missed_max\":9,\"paused\":"
	                                 "true,\"job\":{ \"a\": \"\\u00e9\"}}",
	                                 5 * S);
	struct wh__text text, shown, again;
	const struct schedule *found;

	wh__text_init(&text, NULL, 0);
	schedule_write_setting(&text, s);
	assert_int_equal(schedule_load(&table, (struct wh_slice){"schedule/s", 10},
	                               (struct wh_slice){text.data, text.len}),
	                 0);
	found = schedule_find(&table, "s", 1);
	assert_non_null(found);
	wh__text_init(&shown, NULL, 0);
	wh__text_init(&again, NULL, 0);
	schedule_write(&shown, s, 0, 6 * S, NULL);
	schedule_write(&again, found, 0, 6 * S, NULL);
	assert_int_equal(shown.len, again.len);
	assert_memory_equal(shown.data, again.data, shown.len);
	assert_int_equal(found->anchor_ns, 5 * S);
	assert_int_equal(found->through_ns, 5 * S);
	text.len = 0;
	schedule_write_state(&text, 7 * S, 8 * S, 3);
	assert_int_equal(schedule_load(&table, (struct wh_slice){"scheduled/s", 11},
	                               (struct wh_slice){text.data, text.len}),
	                 0);
	assert_int_equal(found->through_ns, 7 * S);
	assert_int_equal(found->last_at_ns, 8 * S);
	assert_int_equal(found->runs, 3);
	/* of one that is gone */
	assert_int_equal(schedule_load(&table, (struct wh_slice){"scheduled/x", 11},
	                               (struct wh_slice){text.data, text.len}),
	                 0);
	assert_int_equal(
		schedule_load(&table, (struct wh_slice){"scheduled/s", 11}, (struct wh_slice){"{}", 2}),
		-EINVAL);
	assert_int_equal(
		schedule_load(&table, (struct wh_slice){"schedule/t", 10}, (struct wh_slice){"{}", 2}),
		-EINVAL);
	wh__text_done(&text);
	wh__text_done(&shown);
	wh__text_done(&again);
	schedule_free(s);
	schedule_clear(&table);
}

static void the_table(void **state)
{
	struct schedule_table table = {0};
	char name[16];

	for (int i = 0; i < 200; i++) {
		struct schedule *s = schedule_of("{\"every\":\"1h\",\"job\":{}}", 0);

		s->name_len = (size_t)snprintf(s->name, sizeof(s->name), "n%d", i * 7919 % 200);
		assert_int_equal(schedule_put(&table, s), 0);
		assert_int_equal(s->serial, (uint64_t)i + 1);
	}
	assert_int_equal(table.count, 200);
	for (size_t i = 1; i < table.count; i++)
		assert_true(strcmp(table.all[i - 1]->name, table.all[i]->name) < 0);
	for (int i = 0; i < 200; i += 2) {
		size_t len = (size_t)snprintf(name, sizeof(name), "n%d", i);

		schedule_remove(&table, name, len);
		assert_null(schedule_find(&table, name, len));
		assert_null(schedule_find(&table, name, 0));
	}
	assert_int_equal(table.count, 100);
	assert_non_null(schedule_find(&table, "n199", 4));
	schedule_clear(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_day_there_and_back),
		cmocka_unit_test(good_expressions),
		cmocka_unit_test(bad_expressions),
		cmocka_unit_test(due_in_utc),
		cmocka_unit_test(spans_of_a_table),
		cmocka_unit_test(spans_of_rules),
		cmocka_unit_test(bad_files),
		cmocka_unit_test(names),
		cmocka_unit_test(intervals),
		cmocka_unit_test(missed_runs),
		cmocka_unit_test(a_late_run_is_skipped),
		cmocka_unit_test(a_year_away),
		cmocka_unit_test(replaced),
		cmocka_unit_test(clocks_that_are_set),
		cmocka_unit_test(stored_and_loaded),
		cmocka_unit_test(publishes),
		cmocka_unit_test(the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
