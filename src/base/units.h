/* src/base/units.h -- numbers, durations and instants as people write them.
 *
 * Durations carry a unit ("500ms", "30s", "5m", "2h", "7d"; also composed, largest first: "1h30m"); instants
 * are RFC 3339. Pure functions; nothing here looks at a clock. Parsing is strict: the whole text, or false.
 */
#ifndef WH_BASE_UNITS_H
#define WH_BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WH__DURATION_TEXT_BYTES = 32, WH__INSTANT_TEXT_BYTES = 32 };

/* wh__parse_u64() - decimal digits only, at most max. */
bool wh__parse_u64(const char *text, size_t len, uint64_t max, uint64_t *ret);

/* wh__parse_duration() - nanoseconds; at most about 292 years. */
bool wh__parse_duration(const char *text, size_t len, int64_t *ret_ns);

/* wh__put_duration() - the shortest exact form down to milliseconds, seconds up to two minutes; bytes
 * written. */
size_t wh__put_duration(char *to, int64_t ns);

/* wh__parse_instant() - RFC 3339 date-time with Z or an offset; nanoseconds since 1970. */
bool wh__parse_instant(const char *text, size_t len, int64_t *ret_ns);

/* wh__put_instant() - "2026-11-23T20:00:00.000Z"; bytes written (24). */
size_t wh__put_instant(char *to, int64_t wall_ns);

#endif
