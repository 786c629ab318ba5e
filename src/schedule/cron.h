/* src/schedule/cron.h -- cron expressions: read, and when they are due.
 *
 * Five fields as in crontab(5): minute hour day-of-month month day-of-week. A field is *, numbers, ranges (1-5), lists (1,3,5-7) and steps
 * through either (star/15, 10-40/10); months and days of the week have names (jan, mon), Sunday is 0 and 7. If neither of the two fields of days begins with *,
 * a day that either of them names is meant, else one that both do. Or @hourly, @daily (@midnight), @weekly, @monthly, @yearly (@annually).
 *
 * Where a clock is set for summer time: an expression for every hour is due whenever the clock shows its minutes. Any
 * other one is due once for each time that it names: when the clock skips it, at the moment of the jump (once, however many are skipped);
 * when the clock shows it twice, the first time. Pure. Thread: any.
 */
#ifndef WH_SCHEDULE_CRON_H
#define WH_SCHEDULE_CRON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "schedule/zone.h"

enum { CRON_BYTES_MAX = 255, CRON_WRONG_BYTES = 200 };

struct cron {
	uint64_t minutes; /* a bit for each number that is meant */
	uint32_t hours, days, months, weekdays;
	bool any_day, any_weekday; /* the field begins with * */
};

/* cron_read() - false: *wrong is a sentence that says why. Refused as well: what is due on no day that there is. */
bool cron_read(const char *text, size_t len, struct cron *ret, char wrong[CRON_WRONG_BYTES]);

/* Instants are seconds since 1970, up to the year 9999.
 * cron_next() - the first one behind after at which it is due. INT64_MAX: none is found within 50 years.
 * cron_last() - the last one at or before until, but behind after. INT64_MIN: there is none. */
int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after);
int64_t cron_last(const struct cron *cron, const struct zone *zone, int64_t after, int64_t until);

#endif
