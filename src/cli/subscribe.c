/* src/cli/subscribe.c -- `whilst subscribe`: a subscription, and a command for each event that comes to it.
 *
 * Makes the subscription, or finds it as it was, and goes on as `whilst work` for its queue: what came while nobody was there
 * is done first.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: whilst subscribe TOPIC [OPTION...] -- COMMAND [ARGUMENT...]\n\n"
	"Subscribes to TOPIC and runs COMMAND for each event: its data on standard input, its attributes in "
	"the environment\n"
	"(CE_TYPE, CE_ID, CE_SOURCE ...). Exit statuses and what else is in the environment are those of "
	"`whilst work`.\n\n"
	"  --name NAME          of the subscription, default that of the command\n"
	"  --queue QUEUE        that gets the events, default TOPIC/NAME\n"
	"  --event-type TYPE    events of this type alone; with * at its end: whose type begins so\n"
	"  --filters JSON       an array of filters instead, as in docs/reference/http.md\n"
	"  --from PLACE         beginning, or a position: also what the topic has kept\n"
	"  --group ATTRIBUTE    events in which it is the same are done in order, one at a time\n"
	"  --unique ATTRIBUTE   no second job while one has the same\n"
	"  --unique-while W     active (default), queued or a DURATION from its making on\n"
	"  --concurrency N, --exit-when-empty\n"
	"                       as of `whilst work`\n"
	"  --server URL, --json, --help\n"
	"The subscription stays when the command line ends; curl -X DELETE "
	".../v1/topics/TOPIC/subscriptions/NAME removes it.\n";

struct subscriber {
	struct wh_subscription subscription;
	struct cli_options common;
	const char *topic, *name, *type, *concurrency, *unique_while;
	bool exit_when_empty;
	struct cli_text queue, filters;
	char **command; /* up to its NULL */
	int command_count;
};

/* The last part of a path. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static void put_json_string(struct cli_text *text, const char *string, size_t len)
{
	json_t *value = json_stringn(string, len);
	char *dumped = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

	cli_text_format(text, "%s", dumped ? dumped : "\"\"");
	free(dumped);
	json_decref(value);
}

static void prepare(struct subscriber *s)
{
	size_t len = s->type ? strlen(s->type) : 0;
	bool prefix = len > 0 && s->type[len - 1] == '*';

	if (!s->name)
		s->name = base_name(s->command[0]);
	if (!s->subscription.queue)
		cli_text_format(&s->queue, "%s/%s", s->topic, s->name);
	else
		cli_text_format(&s->queue, "%s", s->subscription.queue);
	s->subscription.queue = s->queue.bytes;
	if (!s->type || (prefix && len == 1))
		return;
	cli_text_format(&s->filters, "[{\"%s\":{\"type\":", prefix ? "prefix" : "exact");
	put_json_string(&s->filters, s->type, len - prefix);
	cli_text_format(&s->filters, "}}]");
	s->subscription.filters = s->filters.bytes;
}

static int subscribe(struct subscriber *s)
{
	struct cli_session session;
	struct wh_problem problem = {0};
	struct wh_how how = {.problem = &problem};
	int status = cli_session_open(&session, s->common.server, s->common.json);

	if (status == 0 &&
	    wh_await(wh_client_subscribe(session.calls, s->topic, s->name, &s->subscription, &how)).n < 0)
		status = cli_failed(&session, &problem);
	cli_session_close(&session);
	return status;
}

/* As if `whilst work QUEUE ... -- COMMAND` had been said. */
static int work(const struct subscriber *s)
{
	char **argv = calloc((size_t)s->command_count + 10, sizeof(*argv));
	const char *words[] = {"work",
	                       s->queue.bytes,
	                       s->concurrency ? "--concurrency" : NULL,
	                       s->concurrency,
	                       s->exit_when_empty ? "--exit-when-empty" : NULL,
	                       s->common.json ? "--json" : NULL,
	                       s->common.server ? "--server" : NULL,
	                       s->common.server,
	                       "--"};
	int count = 0, status;

	if (!argv)
		return cli_error(CLI_FAILED, "out of memory");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (words[i])
			argv[count++] = (char *)(uintptr_t)words[i];
	}
	for (int i = 0; i < s->command_count; i++)
		argv[count++] = s->command[i];
	optind = 0; /* options are read anew */
	status = cli_work(count, argv);
	free(argv);
	return status;
}

static bool read_unique_while(const char *text, int64_t *ret)
{
	*ret = strcmp(text, "queued") == 0 ? WH_UNIQUE_QUEUED : WH_UNIQUE_ACTIVE;
	return *ret == WH_UNIQUE_QUEUED || strcmp(text, "active") == 0 ||
	       cli_parse_duration("--unique-while", text, ret);
}

/* -1: go on; else an exit status. */
static int read_options(struct subscriber *s, int argc, char **argv)
{
	static const struct option longs[] = {{"name", 1, 0, 'n'},
	                                      {"queue", 1, 0, 'q'},
	                                      {"event-type", 1, 0, 'e'},
	                                      {"filters", 1, 0, 'f'},
	                                      {"from", 1, 0, 'r'},
	                                      {"group", 1, 0, 'g'},
	                                      {"unique", 1, 0, 'u'},
	                                      {"unique-while", 1, 0, 'w'},
	                                      {"concurrency", 1, 0, 'c'},
	                                      {"exit-when-empty", 0, 0, 'x'},
	                                      {0}};

	for (int o; (o = cli_option(&s->common, argc, argv, longs)) != -1;) {
		switch (o) {
		case 'n':
			s->name = optarg;
			break;
		case 'q':
			s->subscription.queue = optarg;
			break;
		case 'e':
			s->type = optarg;
			break;
		case 'f':
			s->subscription.filters = optarg;
			break;
		case 'r':
			s->subscription.from = optarg;
			break;
		case 'g':
			s->subscription.group = optarg;
			break;
		case 'u':
			s->subscription.unique = optarg;
			break;
		case 'w':
			s->unique_while = optarg;
			if (!read_unique_while(optarg, &s->subscription.unique_while_ns))
				return CLI_USAGE;
			break;
		case 'c':
			s->concurrency = optarg;
			break;
		case 'x':
			s->exit_when_empty = true;
			break;
		}
	}
	return s->common.ended ? s->common.status : -1;
}

int cli_subscribe(int argc, char **argv)
{
	struct subscriber s = {.common.usage = usage};
	int status = read_options(&s, argc, argv);

	if (status >= 0)
		return status;
	if (argc - optind < 2 || (s.type && s.subscription.filters) ||
	    (s.unique_while && !s.subscription.unique))
		return cli_usage(usage);
	s.topic = argv[optind];
	s.command = argv + optind + 1;
	s.command_count = argc - optind - 1;
	prepare(&s);
	status = subscribe(&s);
	if (status == 0)
		status = work(&s);
	cli_text_free(&s.queue);
	cli_text_free(&s.filters);
	return status;
}
