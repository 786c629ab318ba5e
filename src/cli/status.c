/* src/cli/status.c -- `whilst status`, `whilst cancel`, `whilst queues`: short questions, short answers. */
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cli/cli.h"

/* No options of their own. -1: go on; else the exit status. */
static int parse_plain(int argc, char **argv, struct cli_options *o)
{
	(void)cli_option(o, argc, argv, NULL);
	return o->ended ? o->status : -1;
}

static void print_instant(const char *what, int64_t at)
{
	char text[WH__INSTANT_TEXT_BYTES];
	if (at != 0)
		printf("  %-9s %.*s\n", what, (int)wh__put_instant(text, at), text);
}

static void print_job(const struct wh_job *job)
{
	printf("job %llu: %s\n  queue     %s\n  priority  %u\n  attempts  %u", (unsigned long long)job->id,
	       wh_job_state_name(job->state), job->queue, job->priority, job->attempts);
	if (job->attempts_max > 0)
		printf(" of %u", job->attempts_max);
	putchar('\n');
	if (job->awaits_count > 0)
		printf("  awaits    %u of %u jobs\n", job->awaits_open, job->awaits_count);
	print_instant("created", job->created_at);
	print_instant("runs at", job->run_at);
	print_instant("deadline", job->deadline);
	print_instant("finished", job->finished_at);
	if (job->progress)
		printf("  progress  %s\n", job->progress);
	if (job->result_status != 0)
		printf("  result    %llu bytes, %s\n", (unsigned long long)job->result_bytes,
		       job->result_type);
	for (size_t i = 0; i < job->error_count; i++) {
		const struct wh_job_error *error = &job->errors[i];
		char at[WH__INSTANT_TEXT_BYTES];
		printf("  attempt %u failed at %.*s: %s\n", error->attempt,
		       (int)wh__put_instant(at, error->at), at, error->message);
	}
}

/* One request for each job; show() gets each good answer. */
static int for_each_job(int argc, char **argv, struct cli_options *o,
                        wh_future (*ask)(wh_client *client, uint64_t job, const struct wh_how *how),
                        void (*show)(uint64_t job, wh_res res, bool json))
{
	struct cli_session session = {0};
	struct wh_problem problem = {0};
	if (optind == argc)
		return cli_usage(o->usage);
	int status = cli_session_open(&session, o->server, o->json), worst = status;
	for (int i = optind; i < argc && status != CLI_NO_CONNECTION && session.calls; i++) {
		uint64_t job;
		if (!cli_parse_job(argv[i], &job)) {
			worst = CLI_USAGE;
			break;
		}
		wh_res res = wh_await(ask(session.calls, job, &(struct wh_how){.problem = &problem}));
		status = res.n < 0 ? cli_failed(&session, &problem) : CLI_DONE;
		if (res.n >= 0)
			show(job, res, session.json);
		if (status > worst)
			worst = status;
	}
	cli_session_close(&session);
	return worst;
}

static void show_job(uint64_t job, wh_res res, bool json)
{
	struct wh_job *look = res.ptr;
	(void)job;
	if (json)
		cli_print_json(look->json);
	else
		print_job(look);
	wh_job_free(look);
}

int cli_status(int argc, char **argv)
{
	struct cli_options o = {.usage = "usage: whilst status JOB... [--server URL] [--json] [--help]\n\n"
	                                 "Shows how each JOB stands.\n"};
	int status = parse_plain(argc, argv, &o);
	return status >= 0 ? status : for_each_job(argc, argv, &o, wh_client_look, show_job);
}

static void show_cancelled(uint64_t job, wh_res res, bool json)
{
	const char *state = wh_job_state_name((int)res.n);
	bool running = res.n == WH_JOB_RUNNING;
	if (json)
		printf("{\"id\":%llu,\"state\":\"%s\"%s}\n", (unsigned long long)job, state,
		       running ? ",\"cancel_requested\":true" : "");
	else
		printf("job %llu: %s\n", (unsigned long long)job,
		       running ? "running; its worker will be told" : state);
}

int cli_cancel(int argc, char **argv)
{
	struct cli_options o = {
		.usage = "usage: whilst cancel JOB... [--server URL] [--json] [--help]\n\n"
			 "Cancels each JOB: at once if it waits; if it runs, its worker is told.\n"};
	int status = parse_plain(argc, argv, &o);
	return status >= 0 ? status : for_each_job(argc, argv, &o, wh_client_cancel, show_cancelled);
}

static void print_queues(const struct wh_queues *queues)
{
	printf("%-24s", "queue");
	for (int state = WH_JOB_DELAYED; state < WH_JOB_STATES; state++)
		printf(" %9s", wh_job_state_name(state));
	putchar('\n');
	for (size_t i = 0; i < queues->count; i++) {
		const struct wh_queue *queue = &queues->queues[i];
		printf("%-24s", queue->name);
		for (int state = WH_JOB_DELAYED; state < WH_JOB_STATES; state++)
			printf(" %9llu", (unsigned long long)queue->jobs[state]);
		printf("%s\n", queue->paused ? "  paused" : "");
	}
}

int cli_queues(int argc, char **argv)
{
	struct cli_options o = {.usage = "usage: whilst queues [--server URL] [--json] [--help]\n\n"
	                                 "Lists queues and how many jobs they hold in each state.\n"};
	struct cli_session session = {0};
	struct wh_problem problem = {0};
	int status = parse_plain(argc, argv, &o);
	if (status >= 0)
		return status;
	status = cli_session_open(&session, o.server, o.json);
	if (status == 0) {
		wh_res res = wh_await(
			wh_client_queues(session.calls, NULL, &(struct wh_how){.problem = &problem}));
		struct wh_queues *queues = res.ptr;
		if (res.n < 0)
			status = cli_failed(&session, &problem);
		else if (session.json)
			cli_print_json(queues->json);
		else
			print_queues(queues);
		wh_queues_free(queues);
	}
	cli_session_close(&session);
	return status;
}
