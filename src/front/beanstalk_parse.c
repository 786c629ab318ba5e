/* src/front/beanstalk_parse.c -- one line of the beanstalkd protocol to a command. See beanstalk_parse.h.
 *
 * Commands are told by their beginning, in the order of the table, as beanstalkd does: "reservex" is a malformed reserve and
 * "use" without its space is not a command. Numbers are as loose as there: leading spaces, and for some commands anything
 * after the last one.
 */
#include "front/beanstalk_parse.h"

#include <string.h>
#include <strings.h>

enum shape { EXACT, ANY, ID, ID_PRIORITY, RELEASE, PUT, COUNT, SECONDS, TUBE, PAUSE };

static const struct {
	const char *text;
	uint8_t len, kind, shape;
} table[] = {
#define WORDS(text, kind, shape)                    \
	{                                           \
		text, sizeof(text) - 1, kind, shape \
	}
	WORDS("put ", BEANSTALK_PUT, PUT),
	WORDS("reserve-with-timeout ", BEANSTALK_RESERVE_TIMEOUT, SECONDS),
	WORDS("reserve-job ", BEANSTALK_RESERVE_JOB, ID),
	WORDS("reserve", BEANSTALK_RESERVE, EXACT),
	WORDS("delete ", BEANSTALK_DELETE, ID),
	WORDS("release ", BEANSTALK_RELEASE, RELEASE),
	WORDS("bury ", BEANSTALK_BURY, ID_PRIORITY),
	WORDS("touch ", BEANSTALK_TOUCH, ID),
	WORDS("peek ", BEANSTALK_PEEK, ID),
	WORDS("peek-ready", BEANSTALK_PEEK_READY, EXACT),
	WORDS("peek-delayed", BEANSTALK_PEEK_DELAYED, EXACT),
	WORDS("peek-buried", BEANSTALK_PEEK_BURIED, EXACT),
	WORDS("kick ", BEANSTALK_KICK, COUNT),
	WORDS("kick-job ", BEANSTALK_KICK_JOB, ID),
	WORDS("stats-job ", BEANSTALK_STATS_JOB, ID),
	WORDS("stats-tube ", BEANSTALK_STATS_TUBE, TUBE),
	WORDS("stats", BEANSTALK_STATS, EXACT),
	WORDS("use ", BEANSTALK_USE, TUBE),
	WORDS("watch ", BEANSTALK_WATCH, TUBE),
	WORDS("ignore ", BEANSTALK_IGNORE, TUBE),
	WORDS("list-tubes-watched", BEANSTALK_LIST_TUBES_WATCHED, EXACT),
	WORDS("list-tube-used", BEANSTALK_LIST_TUBE_USED, EXACT),
	WORDS("list-tubes", BEANSTALK_LIST_TUBES, EXACT),
	WORDS("quit", BEANSTALK_QUIT, ANY),
	WORDS("pause-tube", BEANSTALK_PAUSE_TUBE, PAUSE),
#undef WORDS
};
enum { COMMANDS = sizeof(table) / sizeof(table[0]) };

const char *beanstalk_name(int kind)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (table[i].kind == kind)
			return table[i].text;
	return "";
}

size_t beanstalk_line(const char *bytes, size_t len)
{
	size_t window = len < BEANSTALK_LINE_MAX ? len : BEANSTALK_LINE_MAX;
	const char *at = bytes, *end = bytes + window;

	while (end - at >= 2 && (at = memchr(at, '\r', (size_t)(end - at - 1))) != NULL) {
		if (at[1] == '\n')
			return (size_t)(at - bytes) + 2;
		at++;
	}
	return window < BEANSTALK_LINE_MAX ? 0 : BEANSTALK_LINE_MAX + 1;
}

/* ---- numbers and names ------------------------------------------------------------------- */

struct cursor {
	const char *at, *end;
};

/* Spaces, then digits: at least one, at most max. */
static bool number(struct cursor *c, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;
	const char *from;

	while (c->at < c->end && *c->at == ' ')
		c->at++;
	for (from = c->at; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
		uint64_t digit = (uint64_t)(*c->at - '0');

		if (value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return c->at > from;
}

static bool number32(struct cursor *c, uint32_t *ret)
{
	uint64_t value;

	if (!number(c, UINT32_MAX, &value))
		return false;
	*ret = (uint32_t)value;
	return true;
}

/* As strtoul(3): white space, a sign; -1 is the greatest of all numbers. */
static bool loose_number(struct cursor *c, uint64_t *ret)
{
	bool negative = false;

	while (c->at < c->end && (*c->at == ' ' || (*c->at >= '\t' && *c->at <= '\r')))
		c->at++;
	if (c->at < c->end && (*c->at == '-' || *c->at == '+'))
		negative = *c->at++ == '-';
	if (c->at == c->end || *c->at == ' ' || !number(c, UINT64_MAX, ret))
		return false;
	if (negative)
		*ret = 0 - *ret;
	return true;
}

static bool name_byte(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '-' && c <= '9') || c == '_' ||
	       c == '+' || c == ';' || c == '$' || c == '(' || c == ')';
}

bool beanstalk_tube_valid(const char *name, size_t len)
{
	if (len == 0 || len > 200 || name[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!name_byte((unsigned char)name[i]))
			return false;
	return true;
}

static bool tube(struct cursor *c, struct beanstalk_command *ret)
{
	ret->tube = c->at;
	ret->tube_len = (size_t)(c->end - c->at);
	return beanstalk_tube_valid(ret->tube, ret->tube_len);
}

/* "pause-tube" [spaces] name spaces seconds */
static bool pause_tube(struct cursor *c, struct beanstalk_command *ret)
{
	while (c->at < c->end && *c->at == ' ')
		c->at++;
	ret->tube = c->at;
	while (c->at < c->end && name_byte((unsigned char)*c->at))
		c->at++;
	ret->tube_len = (size_t)(c->at - ret->tube);
	return beanstalk_tube_valid(ret->tube, ret->tube_len) && number32(c, &ret->delay_s) &&
	       c->at == c->end;
}

/* ---- commands ---------------------------------------------------------------------------- */

static bool arguments(struct cursor *c, int shape, struct beanstalk_command *ret)
{
	switch (shape) {
	case EXACT:
		return c->at == c->end;
	case ANY:
		return true;
	case ID:
		return number(c, UINT64_MAX, &ret->id) && c->at == c->end;
	case ID_PRIORITY:
		return number(c, UINT64_MAX, &ret->id) && number32(c, &ret->priority) && c->at == c->end;
	case RELEASE:
		return number(c, UINT64_MAX, &ret->id) && number32(c, &ret->priority) &&
		       number32(c, &ret->delay_s) && c->at == c->end;
	case PUT:
		if (!number32(c, &ret->priority) || !number32(c, &ret->delay_s) ||
		    !number32(c, &ret->ttr_s) || !number32(c, &ret->bytes))
			return false;
		ret->garbage = c->at != c->end;
		return true;
	case COUNT:
		return loose_number(c, &ret->count);
	case SECONDS:
		return number32(c, &ret->delay_s) && ret->delay_s <= INT32_MAX;
	case TUBE:
		return tube(c, ret);
	default:
		return pause_tube(c, ret);
	}
}

/* A page of elsewhere can have a browser send here whatever body it likes, behind a head of HTTP; it would be read as commands. What begins so is over
 * with its first line, or, if that is too long to be read, with the field that every browser sends next. */
static bool is_http(const char *line, size_t len)
{
	static const char version[] = " HTTP/1.", host[] = "host:";
	const size_t version_len = sizeof(version) - 1, host_len = sizeof(host) - 1;

	return (len > version_len && memcmp(line + len - version_len - 1, version, version_len) == 0) ||
	       (len >= host_len && strncasecmp(line, host, host_len) == 0);
}

void beanstalk_parse(const char *line, size_t len, struct beanstalk_command *ret)
{
	*ret = (struct beanstalk_command){.kind = BEANSTALK_UNKNOWN};
	if (memchr(line, 0, len) || memchr(line, '\r', len)) {
		ret->kind = BEANSTALK_BAD_FORMAT;
		return;
	}
	for (size_t i = 0; i < COMMANDS; i++) {
		struct cursor c = {line + table[i].len, line + len};

		if (len < table[i].len || line[0] != table[i].text[0] ||
		    memcmp(line, table[i].text, table[i].len) != 0)
			continue;
		ret->kind = arguments(&c, table[i].shape, ret) ? table[i].kind : BEANSTALK_BAD_FORMAT;
		return;
	}
	if (is_http(line, len))
		ret->kind = BEANSTALK_QUIT;
}
