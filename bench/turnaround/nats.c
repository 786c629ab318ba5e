/* bench/turnaround/nats.c -- a JetStream on disk with one consumer that is pulled; the outcome goes to the caller's inbox.
 *
 * A caller has its outcome when both the stream's acknowledgement and the worker's message are there. */
#include "turnaround.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORED = 1, ANSWERED = 2 };
#define STREAM "{\"name\":\"TURN\",\"subjects\":[\"turn\"],\"storage\":\"file\",\"retention\":\"workqueue\"}"
#define CONSUMER                                                                                          \
	"{\"stream_name\":\"TURN\",\"config\":{\"durable_name\":\"W\",\"ack_policy\":\"explicit\",\"max_" \
	"ack_pending\":10000}}"
#define PULL "{\"batch\":1,\"expires\":60000000000}"

static void open_peer(struct peer *p)
{
	say(p, "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nPING\r\n");
	settle(p, "PONG\r\n");
	if (p->worker && p->number == 0) {
		say(p, "SUB setup 9\r\nPUB $JS.API.STREAM.CREATE.TURN setup %zu\r\n%s\r\n", strlen(STREAM),
		    STREAM);
		settle(p, "}\r\n");
		say(p, "PUB $JS.API.CONSUMER.DURABLE.CREATE.TURN.W setup %zu\r\n%s\r\n", strlen(CONSUMER),
		    CONSUMER);
		settle(p, "}\r\n");
	}
	say(p, "SUB %s.%u 1\r\n", p->worker ? "work" : "inbox", p->number);
	if (!p->worker)
		say(p, "SUB stored.%u 2\r\n", p->number);
	say(p, "PING\r\n");
	settle(p, "PONG\r\n");
}

static void pull(struct peer *p)
{
	say(p, "PUB $JS.API.CONSUMER.MSG.NEXT.TURN.W work.%u %zu\r\n%s\r\n", p->number, strlen(PULL), PULL);
}

static void begin(struct peer *p)
{
	if (p->worker) {
		pull(p);
		return;
	}
	p->step = 0;
	say(p, "PUB turn stored.%u %d\r\n%-10u%.*s\r\n", p->number, PAYLOAD_BYTES, p->number,
	    PAYLOAD_BYTES - 10, payload);
}

static void work(struct peer *p, const char *reply, const char *body)
{
	say(p, "PUB inbox.%lu 4\r\ndone\r\nPUB %s 4\r\n+ACK\r\n", strtoul(body, NULL, 10), reply);
	pull(p);
}

static size_t take(struct peer *p, bool *ret_done)
{
	size_t len = line_length(p->in, p->in_len), body;
	char line[512], subject[128], reply[256] = "", *last;
	int id;
	if (len == 0)
		return 0;
	if (len >= sizeof line)
		unexpected(p, "a line longer than is kept");
	memcpy(line, p->in, len);
	line[len - 2] = 0;
	if (!strcmp(line, "PING")) {
		say(p, "PONG\r\n");
		return len;
	}
	if (!strcmp(line, "PONG") || !strncmp(line, "INFO ", 5))
		return len;
	last = strrchr(line, ' ');
	if (strncmp(line, "MSG ", 4) != 0 && strncmp(line, "HMSG ", 5) != 0)
		unexpected(p, "a line");
	body = strtoul(last + 1, NULL, 10);
	if (p->in_len < len + body + 2)
		return 0;
	if (line[0] == 'H') { /* a status: the pull has run out */
		pull(p);
		return len + body + 2;
	}
	*last = 0;
	if (sscanf(line, "MSG %127s %d %255s", subject, &id, reply) < 2)
		unexpected(p, "a message");
	if (p->worker) {
		work(p, reply, (const char *)p->in + len);
	} else {
		if (id == 2 && memmem(p->in + len, body, "\"error\"", 7))
			unexpected(p, "a refusal");
		p->step |= id == 2 ? STORED : ANSWERED;
		*ret_done = p->step == (STORED | ANSWERED);
	}
	return len + body + 2;
}

const struct protocol protocol_nats = {"nats", open_peer, begin, take};
