/* src/cli/publish.c -- `whilst publish`: a file, or standard input, is the data of an event.
 *
 * Without --id the server makes one. With it the event is published again safely: whoever remembers ids knows it.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: whilst publish TOPIC --event-type TYPE [OPTION...] [FILE]\n\n"
	"Publishes a CloudEvent whose data are FILE (standard input when there is none, or for -), and "
	"prints how many\n"
	"subscriptions it went to.\n\n"
	"  --event-type TYPE      what has happened: order.placed\n"
	"  --id ID                of its own among the events of its source; else the server makes one\n"
	"  --source URI           who says so; with --id it is wanted\n"
	"  --subject TEXT         what it is about\n"
	"  --attribute NAME=TEXT  a further attribute, with --id; may be repeated\n"
	"  --key KEY              publish once: again with the same key is the same event\n"
	"  --type TYPE            content type of the data, default application/octet-stream\n"
	"  --commit LEVEL         local (default: on disk) or async (written to the kernel)\n"
	"  --server URL, --json, --help\n";

struct publication {
	struct wh_event event;
	struct wh_event_attribute attributes[WH_ATTRIBUTES_MAX];
	struct wh_how how;
	struct wh_receipt receipt;
	struct wh_problem problem;
	struct cli_options common;
	const char *topic, *file;
};

/* NAME=TEXT, in place. */
static bool add_attribute(struct publication *p, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text || p->event.attribute_count == WH_ATTRIBUTES_MAX) {
		(void)cli_error(CLI_USAGE, "--attribute %s: NAME=TEXT is wanted, at most %d times", text,
		                WH_ATTRIBUTES_MAX);
		return false;
	}
	*equals = 0;
	p->attributes[p->event.attribute_count++] = (struct wh_event_attribute){text, equals + 1};
	return true;
}

static int publish(struct publication *p)
{
	struct cli_session session;
	struct cli_text data = {0};
	int status = cli_session_open(&session, p->common.server, p->common.json);
	wh_res res;

	if (status == 0)
		status = cli_read_all(&session, p->file, &data);
	if (status == 0) {
		p->event.data.bytes = data.bytes ? data.bytes : "";
		p->event.data.len = data.len;
		p->event.attributes = p->attributes;
		p->how.receipt = &p->receipt;
		p->how.problem = &p->problem;
		p->how.traceparent = session.traceparent;
		p->how.tracestate = session.tracestate;
		res = wh_await(wh_client_publish(session.calls, p->topic, &p->event, &p->how));
		if (res.n == -EINVAL)
			status = cli_error(CLI_USAGE, "an event with --id has a --source, one without has no "
			                              "--attribute; --key has 1 to 255 "
			                              "visible ASCII characters");
		else if (res.n < 0)
			status = cli_failed(&session, &p->problem);
		else if (p->common.json)
			printf("{\"jobs\":%lld,\"position\":\"%u/%llu\"%s}\n", (long long)res.n,
			       p->receipt.position.epoch, (unsigned long long)p->receipt.position.lsn,
			       p->receipt.duplicate ? ",\"duplicate\":true" : "");
		else
			printf("%lld\n", (long long)res.n);
	}
	cli_text_free(&data);
	cli_session_close(&session);
	return status;
}

static int read_level(const char *text, int *ret)
{
	if (strcmp(text, "async") == 0)
		*ret = WH_LEVEL_ASYNC;
	else if (strcmp(text, "local") == 0)
		*ret = WH_LEVEL_LOCAL;
	else
		return cli_error(CLI_USAGE, "--commit %s: local or async", text);
	return 0;
}

/* -1: go on; else an exit status. */
static int read_options(struct publication *p, int argc, char **argv)
{
	static const struct option longs[] = {
		{"event-type", 1, 0, 'e'}, {"id", 1, 0, 'i'},        {"source", 1, 0, 'o'},
		{"subject", 1, 0, 'u'},    {"attribute", 1, 0, 'a'}, {"type", 1, 0, 'y'},
		{"commit", 1, 0, 'c'},     {"key", 1, 0, 'k'},       {0}};

	for (int o; (o = cli_option(&p->common, argc, argv, longs)) != -1;) {
		switch (o) {
		case 'e':
			p->event.type = optarg;
			break;
		case 'i':
			p->event.id = optarg;
			break;
		case 'o':
			p->event.source = optarg;
			break;
		case 'u':
			p->event.subject = optarg;
			break;
		case 'a':
			if (!add_attribute(p, optarg))
				return CLI_USAGE;
			break;
		case 'y':
			p->event.data.type = optarg;
			break;
		case 'k':
			p->how.key = optarg;
			break;
		case 'c':
			if (read_level(optarg, &p->how.level) != 0)
				return CLI_USAGE;
			break;
		}
	}
	return p->common.ended ? p->common.status : -1;
}

int cli_publish(int argc, char **argv)
{
	struct publication p = {.common.usage = usage, .file = "-"};
	int status = read_options(&p, argc, argv);

	if (status >= 0)
		return status;
	if (argc - optind < 1 || argc - optind > 2 || !p.event.type)
		return cli_usage(usage);
	p.topic = argv[optind];
	if (argc - optind == 2)
		p.file = argv[optind + 1];
	return publish(&p);
}
