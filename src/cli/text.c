/* src/cli/text.c -- strings, numbers, durations and messages of the command line. */
#include "cli/cli.h"

#include "base/units.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cli_error(enum cli_status status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "whilst %s: ", cli_command);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return (int)status;
}

bool cli_parse_job(const char *text, uint64_t *ret)
{
	if (wh__parse_u64(text, strlen(text), (UINT64_C(1) << 53) - 1, ret))
		return true;
	(void)cli_error(CLI_USAGE, "'%s' is not a job id", text);
	return false;
}

bool cli_parse_duration(const char *option, const char *text, int64_t *ret_ns)
{
	if (wh__parse_duration(text, strlen(text), ret_ns))
		return true;
	(void)cli_error(CLI_USAGE, "%s %s: not a duration such as 30s, 5m or 2h", option, text);
	return false;
}

static void reserve(struct cli_text *text, size_t more)
{
	if (text->len + more + 1 <= text->cap)
		return;
	size_t cap = text->cap ? text->cap : 256;
	while (cap < text->len + more + 1)
		cap *= 2;
	char *bytes = realloc(text->bytes, cap);
	if (!bytes)
		exit(cli_error(CLI_FAILED, "out of memory (%zu bytes)", cap));
	text->bytes = bytes;
	text->cap = cap;
}

void cli_text_add(struct cli_text *text, const void *bytes, size_t len)
{
	reserve(text, len);
	if (len > 0)
		memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
	text->bytes[text->len] = 0;
}

void cli_text_format(struct cli_text *text, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len > 0) {
		reserve(text, (size_t)len);
		vsnprintf(text->bytes + text->len, (size_t)len + 1, format, again);
		text->len += (size_t)len;
	}
	va_end(again);
}

void cli_text_escaped(struct cli_text *text, const char *segment)
{
	for (; *segment; segment++) {
		unsigned char c = (unsigned char)*segment;
		if (isalnum(c) || strchr("-._", c))
			cli_text_add(text, segment, 1);
		else
			cli_text_format(text, "%%%02X", c);
	}
}

void cli_text_free(struct cli_text *text)
{
	free(text->bytes);
	*text = (struct cli_text){0};
}
