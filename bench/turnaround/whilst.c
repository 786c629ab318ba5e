/* bench/turnaround/whilst.c -- over HTTP: the submit waits for the result; a worker completes and reserves in one write. */
#include "turnaround.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { RESERVED, COMPLETED };

static void reserve(struct peer *p)
{
	say(p, "POST /v1/queues/turn/reserve HTTP/1.1\r\nHost: localhost\r\nPrefer: "
	       "wait=60\r\nContent-Length: 0\r\n\r\n");
}

static void begin(struct peer *p)
{
	if (p->worker)
		reserve(p);
	else
		say(p,
		    "POST /v1/queues/turn/jobs HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n"
		    "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s",
		    PAYLOAD_BYTES, payload);
}

/* The value of a field in a head that ends with a NUL; it runs up to the end of its line. */
static const char *field(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);
	return at ? at + strlen(name) : NULL;
}

static size_t take(struct peer *p, bool *ret_done)
{
	const uint8_t *end = memmem(p->in, p->in_len, "\r\n\r\n", 4);
	char head[2048];
	if (!end)
		return 0;
	size_t head_len = (size_t)(end - p->in) + 4;
	if (head_len >= sizeof head) {
		unexpected(p, "a head longer than is kept");
		return 0;
	}
	memcpy(head, p->in, head_len);
	head[head_len] = 0;
	const char *length = field(head, "\r\ncontent-length: ");
	size_t len = head_len + (length ? strtoul(length, NULL, 10) : 0);
	if (p->in_len < len)
		return 0;
	if (strncmp(head, "HTTP/1.1 200", 12) != 0 && strncmp(head, "HTTP/1.1 204", 12) != 0)
		unexpected(p, "an answer");
	if (!p->worker) {
		*ret_done = true;
	} else if (p->step == COMPLETED) {
		p->step = RESERVED;
	} else {
		const char *job = field(head, "\r\nwhilst-job: "), *lease = field(head, "\r\nwhilst-lease: ");
		if (job && lease) {
			say(p,
			    "POST /v1/jobs/%.*s/complete HTTP/1.1\r\nHost: localhost\r\nWhilst-Lease: "
			    "%.*s\r\n"
			    "Content-Length: 4\r\n\r\ndone",
			    (int)strcspn(job, "\r"), job, (int)strcspn(lease, "\r"), lease);
			p->step = COMPLETED;
		}
		reserve(p);
	}
	return len;
}

const struct protocol protocol_whilst = {"whilst", NULL, begin, take};
