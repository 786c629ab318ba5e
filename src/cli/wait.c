/* src/cli/wait.c -- `whilst wait`: until jobs are finished, then their results.
 *
 * A wait longer than the server allows is asked for again: it is level-triggered, so nothing is missed in between.
 */
#include <getopt.h>
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
	if (w->until == INT64_MAX)
		return 60 * WH_NS_PER_S;
	int64_t ns = w->until - wh_clock(w->session.loop);
	return ns < 60 * WH_NS_PER_S ? ns : 60 * WH_NS_PER_S;
}

static int ask_about(struct waiting *w, uint64_t job, const char *what, int64_t wait_ns,
                     struct wh_http_response **ret)
{
	char path[64];
	snprintf(path, sizeof path, "/v1/jobs/%llu%s", (unsigned long long)job, what);
	struct cli_request request = {.method = "GET", .path = path, .wait_ns = wait_ns};
	return cli_ask(&w->session, &request, ret);
}

/* 0 and the state, an exit status otherwise. */
static int await_end(struct waiting *w, uint64_t job, json_t **ret)
{
	for (;;) {
		struct wh_http_response *response = NULL;
		int64_t wait_ns = left(w);
		int status = ask_about(w, job, "", wait_ns > 0 ? wait_ns : 0, &response);
		if (status != 0)
			return status;
		json_t *state = response->status == 200 ? cli_answer_json(response) : NULL;
		if (!state)
			status = response->status == 200 ? CLI_FAILED : cli_refused(response);
		wh_http_response_free(response);
		if (!state)
			return status;
		const char *name = json_string_value(json_object_get(state, "state"));
		if (name &&
		    (!strcmp(name, "done") || !strcmp(name, "failed") || !strcmp(name, "cancelled"))) {
			*ret = state;
			return 0;
		}
		if (wait_ns <= 0) {
			status = cli_error(CLI_TIMED_OUT, "job %llu is still %s", (unsigned long long)job,
			                   name ? name : "unfinished");
			json_decref(state);
			return status;
		}
		json_decref(state);
	}
}

static int print_result(struct waiting *w, uint64_t job)
{
	struct wh_http_response *response = NULL;
	int status = ask_about(w, job, "/result", 0, &response);
	if (status == 0) {
		status = response->status < 400
		                 ? cli_write_out(&w->session, response->body.data, response->body.len)
		                 : cli_refused(response);
		wh_http_response_free(response);
	}
	return status;
}

static int wait_for(struct waiting *w, uint64_t job)
{
	json_t *state = NULL;
	int status = await_end(w, job, &state);
	if (status != 0)
		return status;
	bool done = !strcmp(json_string_value(json_object_get(state, "state")), "done");
	if (w->session.json) {
		json_dumpf(state, stdout, JSON_COMPACT);
		putchar('\n');
		status = done ? CLI_DONE : CLI_FAILED;
	} else if (!done || !w->quiet) {
		status = print_result(w, job); /* says why when there is none */
	}
	json_decref(state);
	return status;
}

int cli_wait(int argc, char **argv)
{
	static const struct option longs[] = {{"timeout", 1, 0, 't'}, {"quiet", 0, 0, 'q'},
	                                      {"server", 1, 0, 's'},  {"json", 0, 0, 'j'},
	                                      {"help", 0, 0, 'h'},    {0}};
	struct waiting w = {.until = INT64_MAX};
	const char *server = NULL;
	bool json = false;
	int64_t timeout_ns = -1;
	for (int o; (o = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (o) {
		case 't':
			if (!cli_parse_duration("--timeout", optarg, &timeout_ns))
				return CLI_USAGE;
			break;
		case 'q':
			w.quiet = true;
			break;
		case 's':
			server = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return CLI_DONE;
		default:
			fputs(usage, stderr);
			return CLI_USAGE;
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		return CLI_USAGE;
	}
	for (int i = optind; i < argc; i++) {
		uint64_t job;
		if (!cli_parse_job(argv[i], &job))
			return CLI_USAGE;
	}
	int status = cli_session_open(&w.session, server, json);
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
