/* tests/fuzz/beanstalk_line.c -- the lines of the beanstalkd protocol, as they come from a peer that may send anything.
 *
 * Whatever the bytes are: a line ends at its first CR LF and nowhere else, however much of what follows it has come; what a
 * command points to is within its line; and a name or a number that was accepted is one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/beanstalk_parse.h"

#define CHECK(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void check_command(const char *line, size_t len)
{
	struct beanstalk_command command;

	beanstalk_parse(line, len, &command);
	CHECK(command.kind >= 0 && command.kind < BEANSTALK_KINDS);
	switch (command.kind) {
	case BEANSTALK_USE:
	case BEANSTALK_WATCH:
	case BEANSTALK_IGNORE:
	case BEANSTALK_STATS_TUBE:
	case BEANSTALK_PAUSE_TUBE:
		CHECK(command.tube >= line && command.tube + command.tube_len <= line + len);
		CHECK(beanstalk_tube_valid(command.tube, command.tube_len));
		CHECK(command.tube_len > 0 && command.tube_len <= 200 && command.tube[0] != '-');
		CHECK(!memchr(command.tube, ' ', command.tube_len));
		break;
	case BEANSTALK_RESERVE_TIMEOUT:
		CHECK(command.delay_s <= INT32_MAX);
		break;
	case BEANSTALK_UNKNOWN:
		CHECK(len < 4 || memcmp(line, "put ", 4) != 0);
		break;
	case BEANSTALK_BAD_FORMAT:
		break;
	default:
		CHECK(!memchr(line, 0, len) && !memchr(line, '\r', len));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *at = (const char *)data, *end = at + len;

	while (at < end) {
		size_t left = (size_t)(end - at), line = beanstalk_line(at, left);

		if (line == 0) {
			CHECK(left < BEANSTALK_LINE_MAX);
			return 0;
		}
		if (line > BEANSTALK_LINE_MAX) { /* as the front does: to its end, wherever that is */
			const char *lf = at;

			for (size_t i = 0; i + 1 < BEANSTALK_LINE_MAX; i++)
				CHECK(at[i] != '\r' || at[i + 1] != '\n');
			do
				lf = memchr(lf + 1, '\n', (size_t)(end - lf - 1));
			while (lf && lf[-1] != '\r');
			if (!lf)
				return 0;
			at = lf + 1;
			continue;
		}
		CHECK(line >= 2 && line <= left && at[line - 2] == '\r' && at[line - 1] == '\n');
		for (size_t part = 0; part < line; part++)
			CHECK(beanstalk_line(at, part) == 0);
		check_command(at, line - 2);
		at += line;
	}
	return 0;
}
