/* bench/turnaround/redis.c -- a stream read by a group of consumers; the outcome is pushed to a list of the caller's own. */
#include "turnaround.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A worker's answers: of LPUSH and XACK numbers, of XREADGROUP an array. A caller's: of XADD a string, of BLPOP an array. */

static void open_peer(struct peer *p)
{
	if (p->worker && p->number == 0) {
		say(p, "XGROUP CREATE turn workers $ MKSTREAM\r\n");
		settle(p, "\r\n");
	}
}

static void read_group(struct peer *p)
{
	say(p, "XREADGROUP GROUP workers w%u COUNT 1 BLOCK 0 STREAMS turn >\r\n", p->number);
}

static void begin(struct peer *p)
{
	if (p->worker)
		read_group(p);
	else
		say(p, "XADD turn MAXLEN ~ 100000 * reply r%u data %s\r\nBLPOP r%u 0\r\n", p->number, payload,
		    p->number);
}

/* Length of the value of RESP at the start, 0: not whole. */
static size_t value_length(const uint8_t *at, size_t len)
{
	size_t line = line_length(at, len), used = line;
	long n;
	if (line == 0)
		return 0;
	if (*at != '$' && *at != '*')
		return line;
	n = strtol((const char *)at + 1, NULL, 10);
	if (*at == '$') {
		used += n >= 0 ? (size_t)n + 2 : 0;
		return len >= used ? used : 0;
	}
	for (long i = 0; i < n; i++) {
		size_t one = value_length(at + used, len - used);
		if (one == 0)
			return 0;
		used += one;
	}
	return used;
}

/* [[turn, [[ID, [reply, rN, data, ...]]]]]: the two strings that a worker needs are the values of "$" lines 2 and 4. */
static void answer(struct peer *p, size_t len)
{
	const char *strings[4] = {0};
	size_t at = 0;
	for (int found = 0; at < len && found < 4;) {
		size_t line = line_length(p->in + at, len - at);
		if (p->in[at] == '$') {
			size_t n = strtoul((const char *)p->in + at + 1, NULL, 10);
			strings[found++] = (const char *)p->in + at + line;
			line += n + 2;
		}
		at += line;
	}
	if (!strings[3])
		unexpected(p, "an entry");
	say(p, "LPUSH %.*s done\r\nXACK turn workers %.*s\r\n", (int)strcspn(strings[3], "\r"), strings[3],
	    (int)strcspn(strings[1], "\r"), strings[1]);
	read_group(p);
}

static size_t take(struct peer *p, bool *ret_done)
{
	size_t len = value_length(p->in, p->in_len);
	if (len == 0)
		return 0;
	if (p->in[0] == '-')
		unexpected(p, "an error");
	if (p->in[0] == '*') {
		if (p->worker)
			answer(p, len);
		else
			*ret_done = true;
	}
	return len;
}

const struct protocol protocol_redis = {"redis", open_peer, begin, take};
