/* tests/fuzz/zone.c -- files of time zones, and cron expressions in them.
 *
 * The input is an expression up to its first line feed, then a file. Properties: any bytes are a zone and an expression, or refused; spans contain the
 * instant that was asked for and follow each other without a gap; instants found forward are found backward.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/cron.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void walk(const struct zone *zone, int64_t at)
{
	struct zone_span span, next;

	zone_span(zone, at, &span);
	for (int i = 0; i < 50; i++, span = next) {
		REQUIRE(span.begin <= at && at < span.end);
		REQUIRE(span.begin != INT64_MIN || span.before == span.offset);
		if (span.end == INT64_MAX || span.end > INT64_C(250000000000))
			return;
		at = span.end;
		zone_span(zone, at, &next);
		REQUIRE(next.begin == at && next.before == span.offset);
	}
}

static void search(const struct cron *cron, const struct zone *zone, int64_t from)
{
	int64_t due[20], at = from;
	size_t count = 0;

	while (count < 20 && (at = cron_next(cron, zone, at)) != INT64_MAX) {
		REQUIRE(at > (count > 0 ? due[count - 1] : from));
		due[count++] = at;
	}
	for (; count > 0; count--) {
		REQUIRE(cron_last(cron, zone, from, due[count - 1]) == due[count - 1]);
		REQUIRE(cron_last(cron, zone, from, due[count - 1] - 1) ==
		        (count > 1 ? due[count - 2] : INT64_MIN));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const int64_t instants[] = {-2500000000, 0, 1000000000, 1774746000, 1793000000, 4000000000};
	const uint8_t *line = len > 0 ? memchr(data, '\n', len) : NULL;
	size_t text = line ? (size_t)(line - data) : 0;
	char wrong[CRON_WRONG_BYTES];
	struct zone *zone = NULL;
	struct cron cron;
	char *copy;
	uint8_t *file;
	bool good;

	if (!line)
		return 0;
	copy = malloc(text + 1); /* of their own, so that a byte read beyond is seen */
	file = malloc(len - text);
	REQUIRE(copy && file);
	memcpy(copy, data, text);
	memcpy(file, line + 1, len - text - 1);
	good = cron_read(copy, text, &cron, wrong);
	REQUIRE(good || memchr(wrong, 0, sizeof(wrong)));
	if (zone_read(file, len - text - 1, &zone) == 0) {
		for (size_t i = 0; i < sizeof(instants) / sizeof(instants[0]); i++) {
			walk(zone, instants[i]);
			if (good)
				search(&cron, zone, instants[i]);
		}
	}
	zone_free(zone);
	free(copy);
	free(file);
	return 0;
}
