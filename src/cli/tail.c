/* src/cli/tail.c -- `whilst tail`: what happens to the jobs of a queue, line by line, for as long as one looks.
 *
 * A connection that is lost is made anew and goes on behind the last event; what the server does not know any more is said.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/cli.h"
#include "cli/events.h"

enum { SILENCE_S = 45, PAUSE_MAX_S = 30 }; /* the server sends a comment every 15 s */

struct tail {
	struct cli_session session;
	struct cli_text path;
	struct cli_events events;
	uint64_t wanted, seen; /* events; wanted 0: all */
	int64_t pause_ns;      /* before the next attempt */
	bool one, removed;     /* of one queue; which was removed */
};

static const char usage[] =
	"usage: whilst tail QUEUE|--all [OPTION...]\n\n"
	"Shows what happens to the jobs of QUEUE, or of all queues, as it becomes durable, until interrupted "
	"or until the\n"
	"queue is removed. A lost connection is made anew, and what happened meanwhile is shown.\n\n"
	"  --all              of all queues\n"
	"  --since ID         go on behind this event: the id of one, as --json shows it\n"
	"  --count N          end after N events\n"
	"  --json             a line of JSON for each: {\"event\", \"id\", \"data\"}\n"
	"  --server URL       the server's address\n"
	"  --help             this text\n";

static const char *text_of(const json_t *data, const char *member)
{
	const char *text = json_string_value(json_object_get(data, member));

	return text ? text : "";
}

/* "20:00:01.250  mail                     17  running   reserve, attempt 1" */
static void print_event(const struct cli_event *event, const json_t *data)
{
	const char *at = text_of(data, "at"), *state = text_of(data, "state"),
		   *change = text_of(data, "change");
	long long id = json_integer_value(json_object_get(data, "id")),
		  attempts = json_integer_value(json_object_get(data, "attempts"));

	if (!strcmp(event->name, "reset")) {
		printf("--- some events are missing here; what follows begins at position %s\n",
		       text_of(data, "position"));
		return;
	}
	printf("%.12s  %-24s", strlen(at) > 23 ? at + 11 : "            ", text_of(data, "queue"));
	if (!strcmp(event->name, "queue")) {
		printf(" %s\n", json_is_true(json_object_get(data, "removed")) ? "removed"
		                : json_is_true(json_object_get(data, "paused"))
		                        ? "paused"
		                        : "made, configured or resumed");
		return;
	}
	printf(" %10lld  %-9s  %s", id, *state ? state : "forgotten", change);
	if (attempts > 0 && *state)
		printf(", attempt %lld", attempts);
	if (*text_of(data, "run_at"))
		printf(", runs at %s", text_of(data, "run_at"));
	if (json_is_true(json_object_get(data, "cancel_requested")))
		printf(", cancellation asked for");
	putchar('\n');
}

static bool on_event(const struct cli_event *event, void *arg)
{
	struct tail *tail = arg;
	json_t *data = json_loads(event->data, 0, NULL);

	tail->pause_ns = WH_NS_PER_S;
	if (tail->session.json)
		printf("{\"event\":\"%s\",\"id\":\"%s\",\"data\":%s}\n", event->name, event->last_id,
		       event->data);
	else
		print_event(event, data);
	fflush(stdout);
	tail->removed = tail->one && json_is_true(json_object_get(data, "removed"));
	json_decref(data);
	tail->seen++;
	return tail->seen != tail->wanted;
}

/* What was refused is not asked for again: the server is there. */
static int refused(const struct wh_http_response *head, wh_http_call *call)
{
	struct wh_http_response whole = *head;
	struct cli_text body = {0};
	int status;

	for (;;) {
		wh_res res = wh_await(wh_http_call_read(call));
		struct wh_buf *piece = res.ptr;

		if (res.n <= 0)
			break;
		cli_text_add(&body, piece->data, piece->len);
		wh_buf_put(piece);
	}
	whole.body = (struct wh_slice){body.bytes ? body.bytes : "", body.len};
	status = cli_refused(&whole);
	cli_text_free(&body);
	return status;
}

/* One connection. -1: it was lost. */
static int follow(struct tail *tail)
{
	struct wh_http_field fields[3] = {{{"Accept", 6}, {"text/event-stream", 17}}};
	struct wh_http_request request = {.origin = tail->session.server,
	                                  .target = tail->path.bytes,
	                                  .fields = fields,
	                                  .field_count = 1};
	const char *token = getenv("WHILST_TOKEN");
	wh_http_call *call = NULL;
	int status = -1;
	bool more = true;
	wh_res res;

	if (token && *token)
		fields[request.field_count++] =
			(struct wh_http_field){{"Whilst-Token", 12}, {token, strlen(token)}};
	if (tail->events.id.len > 0)
		fields[request.field_count++] = (struct wh_http_field){
			{"Last-Event-ID", 13}, {tail->events.id.bytes, tail->events.id.len}};
	int error = wh_http_call_open(tail->session.client, &request, 0, &call);
	if (error < 0)
		return cli_error(CLI_FAILED, "cannot ask: %s", wh_strerror(error));
	res = wh_await(wh_http_call_response(call));
	/* what is only too much now is asked for again */
	if (res.n >= 0 && res.n != 200 && res.n != 503 && res.n != 429)
		status = refused(res.ptr, call);
	while (res.n == 200 && more && !tail->removed) {
		wh_res got = wh_await(wh_deadline(wh_http_call_read(call),
		                                  wh_clock(tail->session.loop) + SILENCE_S * WH_NS_PER_S));
		struct wh_buf *piece = got.ptr;

		if (got.n <= 0)
			break;
		more = cli_events_feed(&tail->events, (const char *)piece->data, piece->len, on_event, tail);
		wh_buf_put(piece);
	}
	if (!more || tail->removed)
		status = CLI_DONE;
	cli_events_cut(&tail->events);
	wh_http_call_close(call);
	return status;
}

static int run(struct tail *tail)
{
	bool told = false;
	uint64_t seen = 0;
	int status;

	tail->pause_ns = WH_NS_PER_S;
	while ((status = follow(tail)) < 0) {
		if (!told || tail->seen != seen)
			fprintf(stderr, "whilst tail: no connection to %s; trying again\n",
			        tail->session.server);
		told = true;
		seen = tail->seen;
		(void)wh_await(wh_sleep(tail->session.loop, tail->pause_ns));
		if (tail->pause_ns < PAUSE_MAX_S * WH_NS_PER_S)
			tail->pause_ns += tail->pause_ns / 2;
	}
	if (tail->removed)
		fprintf(stderr, "whilst tail: the queue was removed\n");
	return status;
}

int cli_tail(int argc, char **argv)
{
	static const struct option longs[] = {
		{"all", 0, 0, 'a'}, {"since", 1, 0, 'i'}, {"count", 1, 0, 'n'}, {0}};
	struct cli_options common = {.usage = usage};
	const char *since = NULL;
	bool all = false;
	struct tail tail = {0};
	int status;

	for (int c; (c = cli_option(&common, argc, argv, longs)) != -1;) {
		switch (c) {
		case 'a':
			all = true;
			break;
		case 'i':
			since = optarg;
			break;
		case 'n':
			if (!wh__parse_u64(optarg, strlen(optarg), UINT64_MAX, &tail.wanted) ||
			    tail.wanted == 0)
				return cli_error(CLI_USAGE, "--count: '%s' is not a number of events",
				                 optarg);
			break;
		}
	}
	if (common.ended)
		return common.status;
	if (argc - optind != (all ? 0 : 1))
		return cli_usage(usage);
	tail.one = !all;
	if (since)
		cli_text_add(&tail.events.id, since, strlen(since));
	cli_text_format(&tail.path, "/v1/queues");
	if (!all) {
		cli_text_format(&tail.path, "/");
		cli_text_escaped(&tail.path, argv[optind]);
		cli_text_format(&tail.path, "/events");
	}
	status = cli_session_open(&tail.session, common.server, common.json);
	if (status == 0)
		status = run(&tail);
	cli_session_close(&tail.session);
	cli_events_done(&tail.events);
	cli_text_free(&tail.path);
	return status;
}
