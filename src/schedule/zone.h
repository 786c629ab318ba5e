/* src/schedule/zone.h -- time zones: what a clock on the wall shows, from the files of the tz database.
 *
 * A file is TZif (RFC 8536), version 2 or later: instants at which the offset from UTC changes, and a rule in the form of POSIX's TZ for
 * all that comes after them. Of it nothing is kept but offsets; names of zones ("CET") and what is called summer time do not matter here. The C library's
 * own (localtime) has one zone for the whole process. Pure but for memory. Thread: any.
 */
#ifndef WH_SCHEDULE_ZONE_H
#define WH_SCHEDULE_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	ZONE_NAME_BYTES_MAX = 64,
	ZONE_FILE_BYTES_MAX = 64 << 10,
	ZONE_CHANGES_MAX = 4096, /* in one file; the longest has a few hundred */
};

struct zone;

/* A stretch of time with one offset. */
struct zone_span {
	int64_t begin, end; /* seconds since 1970, end not included; INT64_MIN, INT64_MAX: there is none */
	int32_t offset;     /* local time less UTC, seconds */
	int32_t before;     /* the offset that holds up to begin; .offset when there is no begin */
};

/* zone_read() - from the bytes of a file. 0; -EINVAL: not such a file; -ENOTSUP: its seconds count leap seconds ("right/..."); -ENOMEM. */
int zone_read(const void *bytes, size_t len, struct zone **ret);
struct zone *zone_utc(void);               /* NULL: no memory */
struct zone *zone_free(struct zone *zone); /* NULL; accepts NULL */

/* zone_span() - the one in which an instant lies. Any instant from year 1 to 9999. */
void zone_span(const struct zone *zone, int64_t at, struct zone_span *ret);

/* zone_name_is_good() - "Europe/Berlin": of letters, digits and + - _, in parts with / between them, none of which is empty. So it
 * leads nowhere but below the folder of zones. */
bool zone_name_is_good(const char *name, size_t len);

#endif
