/* bench/turnaround/beanstalk.c -- the outcome is a job in a tube of the caller's own, named in the payload. */
#include "turnaround.h"

#include <stdio.h>
#include <string.h>

static void open_peer(struct peer *p)
{
	if (p->worker)
		say(p, "watch turn\r\nignore default\r\n");
	else
		say(p, "use turn\r\nwatch reply%u\r\nignore default\r\n", p->number);
	settle(p, "WATCHING 1\r\n");
}

static void begin(struct peer *p)
{
	if (p->worker) {
		say(p, "reserve\r\n");
		return;
	}
	say(p, "put 0 0 60 %d\r\n%-10u%.*s\r\nreserve\r\n", PAYLOAD_BYTES, p->number, PAYLOAD_BYTES - 10,
	    payload);
}

static size_t take(struct peer *p, bool *ret_done)
{
	size_t len = line_length(p->in, p->in_len);
	unsigned long long id;
	unsigned body, number;
	const char *line = (const char *)p->in;
	if (len == 0)
		return 0;
	if (!strncmp(line, "INSERTED ", 9) || !strncmp(line, "DELETED", 7) || !strncmp(line, "USING ", 6))
		return len;
	if (sscanf(line, "RESERVED %llu %u", &id, &body) != 2)
		unexpected(p, "an answer");
	if (p->in_len < len + body + 2)
		return 0;
	if (p->worker) {
		if (sscanf(line + len, "%u", &number) != 1)
			unexpected(p, "a payload");
		say(p, "use reply%u\r\nput 0 0 60 4\r\ndone\r\ndelete %llu\r\nreserve\r\n", number, id);
	} else {
		say(p, "delete %llu\r\n", id);
		*ret_done = true;
	}
	return len + body + 2;
}

const struct protocol protocol_beanstalk = {"beanstalk", open_peer, begin, take};
