/* src/cli/schedule.c -- `whilst schedule`: jobs and events at given times, listed, put, paused and removed.
 *
 * What a schedule says goes to the server as it is said, which judges it.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: whilst schedule list [NAME...]\n"
	"       whilst schedule put NAME --cron EXPRESSION|--every DURATION --queue QUEUE|--topic TOPIC\n"
	"                           [OPTION...] [FILE]\n"
	"       whilst schedule run|pause|resume|delete NAME...\n\n"
	"Lists schedules, or makes one: a job of QUEUE, or an event of TOPIC, each time that it is due, "
	"whose payload is\n"
	"FILE (nothing when there is none; - is standard input).\n\n"
	"  --cron EXPRESSION      minute, hour, day of the month, month, day of the week: \"30 4 * * "
	"mon-fri\"\n"
	"  --time-zone NAME       for --cron: Europe/Berlin; default UTC\n"
	"  --every DURATION       instead of --cron, 1s or longer\n"
	"  --missed POLICY        of runs that were missed: once (default: one for all), skip or all\n"
	"  --missed-max N         with all: at most as many, 1 to 1000, default 100\n"
	"  --paused               it runs when it is resumed\n"
	"  --priority N, --attempts N, --time-to-run D, --retention D, --expires D, --unique KEY,\n"
	"  --unique-while W, --group KEY, --callback URL, --type TYPE   of each job, as of whilst submit\n"
	"  --header 'NAME: VALUE' that the jobs are given out with, may be repeated\n"
	"  --event-type TYPE, --source URI, --subject TEXT, --attribute NAME=TEXT, --type TYPE\n"
	"                         of each event; --attribute may be repeated\n"
	"  --server URL, --json, --help\n";

enum { OF_JOB = 256 }; /* options from here on are members of the job, or of the event */

static const struct option longs[] = {{"cron", 1, 0, 'c'},
                                      {"time-zone", 1, 0, 'z'},
                                      {"every", 1, 0, 'e'},
                                      {"missed", 1, 0, 'm'},
                                      {"missed-max", 1, 0, 'x'},
                                      {"paused", 0, 0, 'p'},
                                      {"queue", 1, 0, OF_JOB},
                                      {"priority", 1, 0, OF_JOB + 1},
                                      {"attempts", 1, 0, OF_JOB + 2},
                                      {"time-to-run", 1, 0, OF_JOB + 3},
                                      {"retention", 1, 0, OF_JOB + 4},
                                      {"expires", 1, 0, OF_JOB + 5},
                                      {"unique", 1, 0, OF_JOB + 6},
                                      {"unique-while", 1, 0, OF_JOB + 7},
                                      {"group", 1, 0, OF_JOB + 8},
                                      {"type", 1, 0, OF_JOB + 9},
                                      {"callback", 1, 0, OF_JOB + 10},
                                      {"topic", 1, 0, OF_JOB + 11},
                                      {"event-type", 1, 0, OF_JOB + 12},
                                      {"source", 1, 0, OF_JOB + 13},
                                      {"subject", 1, 0, OF_JOB + 14},
                                      {"attribute", 1, 0, 'a'},
                                      {"header", 1, 0, 'H'},
                                      {0}};

/* Their names in JSON, and whether they are numbers. */
static const struct {
	const char *name;
	bool number;
} members[] = {{"queue", false},     {"priority", true},      {"attempts", true},  {"time_to_run", false},
               {"retention", false}, {"expires", false},      {"unique", false},   {"unique_while", false},
               {"group", false},     {"content_type", false}, {"callback", false}, {"topic", false},
               {"type", false},      {"source", false},       {"subject", false}};

struct schedule {
	struct cli_options common;
	json_t *config, *job; /* job: or its event; it is in config in the end */
};

static int set_number(json_t *object, const char *name, const char *text)
{
	char *end;
	long long n = strtoll(text, &end, 10);

	if (end == text || *end)
		return cli_error(CLI_USAGE, "--%s %s: a whole number is wanted", name, text);
	json_object_set_new(object, name, json_integer(n));
	return 0;
}

static int set_text(json_t *object, const char *name, const char *text)
{
	json_t *value = json_string(text);

	if (!value)
		return cli_error(CLI_USAGE, "%s is not UTF-8", name);
	json_object_set_new(object, name, value);
	return 0;
}

/* A string into an object of the job or event. */
static int set_within(struct schedule *s, const char *object, const char *option, const char *name,
                      const char *value)
{
	json_t *within = json_object_get(s->job, object), *string = json_string(value);

	if (!string)
		return cli_error(CLI_USAGE, "%s %s is not UTF-8", option, name);
	if (!within) {
		within = json_object();
		json_object_set_new(s->job, object, within);
	}
	json_object_set_new(within, name, string);
	return 0;
}

/* "X-Report: daily" */
static int add_header(struct schedule *s, const char *text)
{
	const char *colon = strchr(text, ':'), *value = colon ? colon + 1 : NULL;
	char name[80];

	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(name))
		return cli_error(CLI_USAGE, "--header %s: 'NAME: VALUE' is wanted", text);
	memcpy(name, text, (size_t)(colon - text));
	name[colon - text] = 0;
	while (*value == ' ')
		value++;
	return set_within(s, "headers", "--header", name, value);
}

/* "region=eu" */
static int add_attribute(struct schedule *s, const char *text)
{
	const char *equals = strchr(text, '=');
	char name[80];

	if (!equals || equals == text || (size_t)(equals - text) >= sizeof(name))
		return cli_error(CLI_USAGE, "--attribute %s: NAME=TEXT is wanted", text);
	memcpy(name, text, (size_t)(equals - text));
	name[equals - text] = 0;
	return set_within(s, "attributes", "--attribute", name, equals + 1);
}

/* 0: go on; else an exit status, or -1: help was wanted. */
static int read_option(struct schedule *s, int o)
{
	switch (o) {
	case 'c':
		return set_text(s->config, "cron", optarg);
	case 'z':
		return set_text(s->config, "time_zone", optarg);
	case 'e':
		return set_text(s->config, "every", optarg);
	case 'm':
		return set_text(s->config, "missed", optarg);
	case 'x':
		return set_number(s->config, "missed_max", optarg);
	case 'H':
		return add_header(s, optarg);
	case 'a':
		return add_attribute(s, optarg);
	case 'p':
		json_object_set_new(s->config, "paused", json_true());
		return 0;
	default:
		return members[o - OF_JOB].number ? set_number(s->job, members[o - OF_JOB].name, optarg)
		                                  : set_text(s->job, members[o - OF_JOB].name, optarg);
	}
}

/* ---- what is shown ----------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "-";
}

static void show(const json_t *schedule)
{
	const char *next = json_string_value(json_array_get(json_object_get(schedule, "next"), 0));
	const char *error = json_string_value(json_object_get(schedule, "error"));
	bool paused = json_is_true(json_object_get(schedule, "paused"));
	const json_t *publish = json_object_get(schedule, "publish");
	char when[400];

	if (json_is_string(json_object_get(schedule, "cron")))
		snprintf(when, sizeof(when), "%s %s", text_of(schedule, "cron"),
		         text_of(schedule, "time_zone"));
	else
		snprintf(when, sizeof(when), "every %s", text_of(schedule, "every"));
	printf("%-20s %-30s %-12s next %-24s last %-24s runs %lld", text_of(schedule, "name"), when,
	       publish ? text_of(publish, "topic") : text_of(json_object_get(schedule, "job"), "queue"),
	       paused ? "paused"
	       : next ? next
	              : "-",
	       text_of(json_object_get(schedule, "last"), "due"),
	       (long long)json_integer_value(json_object_get(schedule, "runs")));
	if (error)
		printf("  %s", error);
	printf("\n");
}

/* ---- asking ------------------------------------------------------------------------------ */

/* below: "/run", or nothing */
static int ask(struct cli_session *session, const char *method, const char *name, const char *below,
               const json_t *body, json_t **ret)
{
	char *bytes = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct cli_text path = {0};
	struct cli_request request = {.method = method, .body = bytes, .body_len = bytes ? strlen(bytes) : 0};
	struct wh_http_response *response = NULL;
	int status;

	cli_text_format(&path, "/v1/schedules");
	if (name) {
		cli_text_format(&path, "/");
		cli_text_escaped(&path, name);
		cli_text_format(&path, "%s", below);
	}
	request.path = path.bytes;
	if (body) {
		request.headers[0][0] = "Content-Type";
		request.headers[0][1] = "application/json";
	}
	status = cli_ask(session, &request, &response);
	if (status == 0 && response->status / 100 != 2)
		status = cli_refused(response);
	if (status == 0) {
		*ret = cli_answer_json(response);
		if (!*ret)
			status = CLI_FAILED;
		else if (session->json)
			cli_print_json(response->body.data);
	}
	wh_http_response_free(response);
	cli_text_free(&path);
	free(bytes);
	return status;
}

static int list(struct cli_session *session, char **names, int count)
{
	json_t *answer = NULL, *each;
	size_t i;
	int status = 0;

	if (count == 0) {
		status = ask(session, "GET", NULL, "", NULL, &answer);
		json_array_foreach(json_object_get(answer, "schedules"), i, each) if (!session->json)
			show(each);
		json_decref(answer);
	}
	for (int n = 0; n < count && status == 0; n++) {
		status = ask(session, "GET", names[n], "", NULL, &answer);
		if (status == 0 && !session->json)
			show(answer);
		if (status == 0)
			json_decref(answer);
	}
	return status;
}

/* Bytes that are text are sent as that. */
static int add_payload(struct cli_session *session, struct schedule *s, const char *file)
{
	struct cli_text text = {0};
	json_t *value;
	int status = cli_read_all(session, file, &text);

	if (status == 0) {
		value = json_stringn(text.bytes ? text.bytes : "", text.len);
		if (!value)
			status = cli_error(CLI_USAGE, "%s is not UTF-8: the payload of a schedule is text",
			                   file);
		else
			json_object_set_new(s->job, "payload", value);
	}
	cli_text_free(&text);
	return status;
}

static int put(struct cli_session *session, struct schedule *s, char **words, int count)
{
	json_t *answer = NULL;
	int status = count > 1 ? add_payload(session, s, words[1]) : 0;

	if (status == 0)
		status = ask(session, "PUT", words[0], "", s->config, &answer);
	if (status == 0 && !session->json)
		show(answer);
	json_decref(answer);
	return status;
}

static int pause_one(struct cli_session *session, const char *name, const char *below)
{
	json_t *answer = NULL;
	int status = ask(session, "POST", name, below, NULL, &answer);

	if (status == 0 && !session->json)
		show(answer);
	json_decref(answer);
	return status;
}

static int run_one(struct cli_session *session, const char *name, json_t **ret)
{
	int status = ask(session, "POST", name, "/run", NULL, ret);
	const json_t *id = json_object_get(*ret, "id");

	if (status == 0 && !session->json && json_is_string(id)) /* of an event */
		printf("%s\n", json_string_value(id));
	else if (status == 0 && !session->json)
		printf("%lld\n", (long long)json_integer_value(id));
	return status;
}

static int each(struct cli_session *session, const char *verb, char **names, int count)
{
	json_t *answer;
	int status = 0;

	for (int n = 0; n < count && status == 0; n++) {
		answer = NULL;
		if (strcmp(verb, "delete") == 0)
			status = ask(session, "DELETE", names[n], "", NULL, &answer);
		else if (strcmp(verb, "run") == 0)
			status = run_one(session, names[n], &answer);
		else
			status = pause_one(session, names[n],
			                   strcmp(verb, "pause") == 0 ? "/pause" : "/resume");
		json_decref(answer);
	}
	return status;
}

static int run(struct schedule *s, const char *verb, char **words, int count)
{
	struct cli_session session;
	int status = cli_session_open(&session, s->common.server, s->common.json);

	if (status == 0) {
		if (strcmp(verb, "list") == 0)
			status = list(&session, words, count);
		else if (strcmp(verb, "put") == 0)
			status = put(&session, s, words, count);
		else
			status = each(&session, verb, words, count);
	}
	cli_session_close(&session);
	return status;
}

static bool is_good(const char *verb, int count)
{
	if (strcmp(verb, "list") == 0)
		return true;
	if (strcmp(verb, "put") == 0)
		return count == 1 || count == 2;
	return count > 0 && (strcmp(verb, "run") == 0 || strcmp(verb, "delete") == 0 ||
	                     strcmp(verb, "pause") == 0 || strcmp(verb, "resume") == 0);
}

int cli_schedule(int argc, char **argv)
{
	struct schedule s = {.common.usage = usage, .config = json_object(), .job = json_object()};
	int status = 0;

	for (int o; status == 0 && (o = cli_option(&s.common, argc, argv, longs)) != -1;)
		status = read_option(&s, o);
	json_object_set_new(s.config, json_object_get(s.job, "topic") ? "publish" : "job", s.job);
	if (s.common.ended)
		status = s.common.status;
	else if (status == 0 && (optind == argc || !is_good(argv[optind], argc - optind - 1))) {
		status = cli_usage(usage);
	}
	if (status == 0 && !s.common.ended)
		status = run(&s, argv[optind], argv + optind + 1, argc - optind - 1);
	json_decref(s.config);
	return status;
}
