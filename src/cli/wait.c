/* src/cli/wait.c -- `whilst wait`: until jobs are finished, then their results.
 *
 * A wait longer than the server allows is asked for again by the client: it is level-triggered, so nothing is missed in between.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char usage[] = "usage: whilst wait JOB... [OPTION...]\n\n"
			    "Waits until each JOB is finished and prints its result. Exit status 1: a job "
			    "has failed; 3: the time ran out.\n\n"
			    "  --timeout DURATION   for all together; default: for ever\n"
			    "  --quiet              wait only, print no result\n"
			    "  --server URL, --json (the state of each job instead of its result), --help\n";

struct waiting {
	struct cli_session session;
	int64_t until; /* of wh_clock(); INT64_MAX: for ever */
	bool quiet;
};

static int64_t left(const struct waiting *w)
{
	int64_t ns = w->until == INT64_MAX ? WH_FOR_EVER : w->until - wh_clock(w->session.loop);
	return ns > 0 ? ns : 0;
}

static int print_result(struct waiting *w, uint64_t job)
{
	struct wh_problem problem = {0};
	wh_res res =
		wh_await(wh_client_result(w->session.calls, job, 0, &(struct wh_how){.problem = &problem}));
	struct wh_result *result = res.ptr;
	if (res.n < 0)
		return cli_failed(&w->session, &problem);
	int status = result->status < 400 ? cli_write_out(&w->session, result->body.data, result->body.len)
	                                  : cli_error(CLI_FAILED, "the server answered %d %s", result->status,
	                                              wh_http_reason(result->status));
	wh_result_free(result);
	return status;
}

static int wait_for(struct waiting *w, uint64_t id)
{
	struct wh_problem problem = {0};
	wh_res res = wh_await(
		wh_client_wait(w->session.calls, id, left(w), &(struct wh_how){.problem = &problem}));
	struct wh_job *job = res.ptr;
	int status = CLI_DONE;
	if (res.n < 0)
		return cli_failed(&w->session, &problem);
	if (!wh_job_is_finished(job->state)) {
		status = cli_error(CLI_TIMED_OUT, "job %llu is still %s", (unsigned long long)id,
		                   wh_job_state_name(job->state));
	} else if (w->session.json) {
		cli_print_json(job->json);
		status = job->state == WH_JOB_DONE ? CLI_DONE : CLI_FAILED;
	} else if (job->state != WH_JOB_DONE || !w->quiet) {
		status = print_result(w, id); /* says why when there is none */
	}
	wh_job_free(job);
	return status;
}

int cli_wait(int argc, char **argv)
{
	static const struct option longs[] = {{"timeout", 1, 0, 't'}, {"quiet", 0, 0, 'q'}, {0}};
	struct waiting w = {.until = INT64_MAX};
	struct cli_options common = {.usage = usage};
	int64_t timeout_ns = -1;
	for (int o; (o = cli_option(&common, argc, argv, longs)) != -1;) {
		switch (o) {
		case 't':
			if (!cli_parse_duration("--timeout", optarg, &timeout_ns))
				return CLI_USAGE;
			break;
		case 'q':
			w.quiet = true;
			break;
		}
	}
	if (common.ended)
		return common.status;
	if (optind == argc)
		return cli_usage(usage);
	for (int i = optind; i < argc; i++) {
		uint64_t job;
		if (!cli_parse_job(argv[i], &job))
			return CLI_USAGE;
	}
	int status = cli_session_open(&w.session, common.server, common.json);
	if (status == 0 && timeout_ns >= 0)
		w.until = wh_clock(w.session.loop) + timeout_ns;
	int worst = status;
	for (int i = optind;
	     i < argc && status != CLI_NO_CONNECTION && status != CLI_TIMED_OUT && w.session.loop; i++) {
		uint64_t job = 0;
		if (cli_parse_job(argv[i], &job))
			status = wait_for(&w, job);
		if (status > worst)
			worst = status;
	}
	cli_session_close(&w.session);
	return worst;
}
