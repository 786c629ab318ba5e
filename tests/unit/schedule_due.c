/* tests/unit/schedule_due.c -- when are expressions due? For test_schedule_zones.py: schedule_due ZONE-FILE, lines "from until expression" on standard
 * input, for each a line of the instants behind from, up to until. Found from both ends, which must agree. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule/cron.h"

enum { DUE_MAX = 100000 };

static struct zone *read_zone(const char *path)
{
	static uint8_t bytes[ZONE_FILE_BYTES_MAX];
	FILE *file = fopen(path, "rb");
	struct zone *zone = NULL;
	size_t len = file ? fread(bytes, 1, sizeof(bytes), file) : 0;

	if (file)
		fclose(file);
	if (zone_read(bytes, len, &zone) != 0) {
		fprintf(stderr, "%s is no zone\n", path);
		exit(1);
	}
	return zone;
}

static int answer(const struct zone *zone, const char *expression, int64_t from, int64_t until)
{
	static int64_t due[DUE_MAX];
	char wrong[CRON_WRONG_BYTES];
	struct cron cron;
	size_t count = 0;
	int64_t at = from;

	if (!cron_read(expression, strlen(expression), &cron, wrong)) {
		fprintf(stderr, "%s: %s\n", expression, wrong);
		return 1;
	}
	while ((at = cron_next(&cron, zone, at)) <= until && count < DUE_MAX) {
		due[count++] = at;
		printf("%" PRId64 " ", at);
	}
	printf("\n");
	at = until;
	for (size_t i = count; i > 0; i--, at--) {
		at = cron_last(&cron, zone, from, at);
		if (at != due[i - 1]) {
			fprintf(stderr, "%s: from the end %" PRId64 ", from the beginning %" PRId64 "\n",
			        expression, at, due[i - 1]);
			return 1;
		}
	}
	if (cron_last(&cron, zone, from, at) != INT64_MIN) {
		fprintf(stderr, "%s: one more from the end, %" PRId64 "\n", expression,
		        cron_last(&cron, zone, from, at));
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	char line[512], expression[256];
	int64_t from, until;
	struct zone *zone;
	int status = 0;

	if (argc != 2)
		return 2;
	zone = read_zone(argv[1]);
	while (status == 0 && fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%" SCNd64 " %" SCNd64 " %255[^\n]", &from, &until, expression) != 3)
			status = 2;
		else
			status = answer(zone, expression, from, until);
	}
	zone_free(zone);
	return status;
}
