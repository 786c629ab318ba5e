/* src/cli/status.c -- `whilst status`, `whilst cancel`, `whilst queues`: short questions, short answers. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

struct plain_options {
	const char *usage, *server;
	bool json;
};

/* -1: go on; else the exit status. */
static int parse_plain(int argc, char **argv, struct plain_options *o)
{
	static const struct option longs[] = {
		{"server", 1, 0, 's'}, {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0}};
	for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (c) {
		case 's':
			o->server = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		case 'h':
			fputs(o->usage, stdout);
			return CLI_DONE;
		default:
			fputs(o->usage, stderr);
			return CLI_USAGE;
		}
	}
	return -1;
}

static const char *text_of(json_t *job, const char *name)
{
	const char *text = json_string_value(json_object_get(job, name));
	return text ? text : "";
}

static long long number_of(json_t *job, const char *name)
{
	return (long long)json_integer_value(json_object_get(job, name));
}

static void print_job(json_t *job)
{
	printf("job %lld: %s\n  queue     %s\n  priority  %lld\n  attempts  %lld", number_of(job, "id"),
	       text_of(job, "state"), text_of(job, "queue"), number_of(job, "priority"),
	       number_of(job, "attempts"));
	if (json_is_integer(json_object_get(job, "attempts_max")))
		printf(" of %lld", number_of(job, "attempts_max"));
	printf("\n  created   %s\n", text_of(job, "created_at"));
	static const char *const instants[][2] = {
		{"run_at", "runs at"}, {"deadline", "deadline"}, {"finished_at", "finished"}};
	for (size_t i = 0; i < sizeof instants / sizeof *instants; i++)
		if (*text_of(job, instants[i][0]))
			printf("  %-9s %s\n", instants[i][1], text_of(job, instants[i][0]));
	json_t *progress = json_object_get(job, "progress"), *result = json_object_get(job, "result"), *error;
	if (progress && !json_is_null(progress)) {
		printf("  progress  ");
		json_dumpf(progress, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
		putchar('\n');
	}
	if (json_is_object(result))
		printf("  result    %lld bytes, %s\n", number_of(result, "bytes"),
		       text_of(result, "content_type"));
	json_t *errors = json_object_get(job, "errors");
	for (size_t i = 0; (error = json_array_get(errors, i)) != NULL; i++)
		printf("  attempt %lld failed at %s: %s\n", number_of(error, "attempt"), text_of(error, "at"),
		       text_of(error, "message"));
}

/* One request for each job; show() gets each good answer. */
static int for_each_job(int argc, char **argv, struct plain_options *o, const char *method,
                        void (*show)(json_t *job))
{
	struct cli_session session = {0};
	if (optind == argc) {
		fputs(o->usage, stderr);
		return CLI_USAGE;
	}
	int status = cli_session_open(&session, o->server, o->json), worst = status;
	for (int i = optind; i < argc && status != CLI_NO_CONNECTION && session.client; i++) {
		uint64_t job;
		char path[64];
		struct wh_http_response *response = NULL;
		json_t *json;
		if (!cli_parse_job(argv[i], &job)) {
			worst = CLI_USAGE;
			break;
		}
		snprintf(path, sizeof path, "/v1/jobs/%llu", (unsigned long long)job);
		status = cli_ask(&session, &(struct cli_request){.method = method, .path = path}, &response);
		if (status == 0 && response->status >= 300)
			status = cli_refused(response);
		else if (status == 0 && session.json)
			printf("%.*s\n", (int)response->body.len, response->body.data);
		else if (status == 0 && (json = cli_answer_json(response)) != NULL) {
			show(json);
			json_decref(json);
		}
		wh_http_response_free(response);
		if (status > worst)
			worst = status;
	}
	cli_session_close(&session);
	return worst;
}

int cli_status(int argc, char **argv)
{
	struct plain_options o = {.usage = "usage: whilst status JOB... [--server URL] [--json] [--help]\n\n"
	                                   "Shows how each JOB stands.\n"};
	int status = parse_plain(argc, argv, &o);
	return status >= 0 ? status : for_each_job(argc, argv, &o, "GET", print_job);
}

static void print_cancelled(json_t *job)
{
	printf("job %lld: %s\n", number_of(job, "id"),
	       json_is_true(json_object_get(job, "cancel_requested")) ? "running; its worker will be told"
	                                                              : text_of(job, "state"));
}

int cli_cancel(int argc, char **argv)
{
	struct plain_options o = {
		.usage = "usage: whilst cancel JOB... [--server URL] [--json] [--help]\n\n"
			 "Cancels each JOB: at once if it waits; if it runs, its worker is told.\n"};
	int status = parse_plain(argc, argv, &o);
	return status >= 0 ? status : for_each_job(argc, argv, &o, "DELETE", print_cancelled);
}

static void print_queues(json_t *answer)
{
	static const char *const states[] = {"delayed", "ready",     "running", "done",
	                                     "failed",  "cancelled", "buried"};
	enum { STATE_COUNT = sizeof states / sizeof *states };
	json_t *queues = json_object_get(answer, "queues"), *queue;
	printf("%-24s", "queue");
	for (int s = 0; s < STATE_COUNT; s++)
		printf(" %9s", states[s]);
	putchar('\n');
	for (size_t i = 0; (queue = json_array_get(queues, i)) != NULL; i++) {
		printf("%-24s", text_of(queue, "name"));
		for (int s = 0; s < STATE_COUNT; s++)
			printf(" %9lld", number_of(json_object_get(queue, "jobs"), states[s]));
		printf("%s\n", json_is_true(json_object_get(queue, "paused")) ? "  paused" : "");
	}
}

int cli_queues(int argc, char **argv)
{
	struct plain_options o = {.usage = "usage: whilst queues [--server URL] [--json] [--help]\n\n"
	                                   "Lists queues and how many jobs they hold in each state.\n"};
	struct cli_session session = {0};
	struct wh_http_response *response = NULL;
	int status = parse_plain(argc, argv, &o);
	if (status >= 0)
		return status;
	status = cli_session_open(&session, o.server, o.json);
	if (status == 0)
		status = cli_ask(&session, &(struct cli_request){.method = "GET", .path = "/v1/queues"},
		                 &response);
	if (status == 0 && response->status != 200)
		status = cli_refused(response);
	else if (status == 0 && session.json)
		printf("%.*s\n", (int)response->body.len, response->body.data);
	else if (status == 0) {
		json_t *json = cli_answer_json(response);
		if (json)
			print_queues(json);
		else
			status = CLI_FAILED;
		json_decref(json);
	}
	wh_http_response_free(response);
	cli_session_close(&session);
	return status;
}
