/* src/cli/submit.c -- `whilst submit`: each file, or standard input, becomes a job.
 *
 * Many files are kept in flight at once, so that they share the flushes of the log; a bar shows the progress on a
 * terminal.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
	"usage: whilst submit QUEUE [FILE...] [OPTION...]\n\n"
	"Hands over each FILE (standard input when there is none, or for -) as a job and prints its id.\n\n"
	"  --wait DURATION      wait for the job and print its result instead (one FILE only)\n"
	"  --commit LEVEL       local (default: on disk) or async (written to the kernel)\n"
	"  --priority N         0 first; default 1024\n"
	"  --delay DURATION     not before this long from now\n"
	"  --time-to-run D      length of a lease\n"
	"  --attempts N         how often it is tried in all\n"
	"  --retention D        how long it can be asked for when finished\n"
	"  --expires D          it fails if it has not been begun within this long from now\n"
	"  --unique KEY         no second job of the queue while one has this key: prints that one's id\n"
	"  --unique-while W     queued, active (default) or a DURATION from now on\n"
	"  --group KEY          jobs of the queue with the same key run in their order\n"
	"  --after JOB,...      runs after these jobs, all of which must be done; the delay counts from then "
	"on\n"
	"  --after-failure F    what if one of them is not: cancel (default), bury, run or wait\n"
	"  --callback URL       is told of the job's end, by a signed message\n"
	"  --key KEY            hand over once: again with the same key gives the same job (one FILE only)\n"
	"  --type TYPE          content type of the payload, default application/octet-stream\n"
	"  --server URL, --json, --help\n"
	"The job belongs to the trace in TRACEPARENT and TRACESTATE (W3C Trace Context) of the "
	"environment.\n";

struct submission {
	struct cli_session session;
	struct cli_text path; /* with the options in its query */
	const char *type, *commit;
	struct cli_text key; /* as a string of a header field */
	int64_t wait_ns;
};

static int submit_one(struct submission *s, const char *file, struct wh_http_response **ret)
{
	struct cli_text body = {0};
	int status = cli_read_all(&s->session, file, &body);
	if (status == 0) {
		struct cli_request request = {
			.method = "POST",
			.path = s->path.bytes,
			.headers = {{"Content-Type", s->type}},
			.body = body.bytes,
			.body_len = body.len,
			.wait_ns = s->wait_ns,
		};
		size_t headers = 1;
		if (s->commit) {
			request.headers[headers][0] = "Whilst-Commit";
			request.headers[headers++][1] = s->commit;
		}
		if (s->key.bytes) {
			request.headers[headers][0] = "Idempotency-Key";
			request.headers[headers][1] = s->key.bytes;
		}
		status = cli_ask(&s->session, &request, ret);
	}
	cli_text_free(&body);
	return status;
}

static int print_job(const struct submission *s, const char *file, const struct wh_http_response *response)
{
	json_t *job = cli_answer_json(response);
	if (!job)
		return CLI_FAILED;
	if (s->session.json)
		printf("%.*s\n", (int)response->body.len, response->body.data);
	else if (file && isatty(1))
		printf("%lld  %s\n", (long long)json_integer_value(json_object_get(job, "id")), file);
	else
		printf("%lld\n", (long long)json_integer_value(json_object_get(job, "id")));
	json_decref(job);
	return 0;
}

static int submit_waiting(struct submission *s, const char *file)
{
	struct wh_http_response *response = NULL;
	int status = submit_one(s, file, &response);
	if (status != 0)
		return status;
	if (response->status == 202) {
		(void)print_job(s, NULL, response);
		status = cli_error(CLI_TIMED_OUT, "the job is not finished yet; `whilst wait` waits on");
	} else if (response->status < 400) {
		status = cli_write_out(&s->session, response->body.data, response->body.len);
	} else {
		status = cli_refused(response);
	}
	wh_http_response_free(response);
	return status;
}

static int submit_all(struct submission *s, char **files, int count)
{
	bool bar = isatty(2) && count > 20;
	for (int i = 0; i < count; i++) {
		struct wh_http_response *response = NULL;
		int status = submit_one(s, files[i], &response);
		if (status == 0)
			status = response->status < 400 ? print_job(s, count > 1 ? files[i] : NULL, response)
			                                : cli_refused(response);
		wh_http_response_free(response);
		if (status != 0)
			return status;
		if (bar)
			fprintf(stderr, "\r%d of %d submitted%s", i + 1, count, i + 1 == count ? "\n" : "");
	}
	return CLI_DONE;
}

/* false: said. */
static bool set_key(struct cli_text *field, const char *key)
{
	if (!*key || strlen(key) > 255) {
		cli_error(CLI_USAGE, "--key: 1 to 255 characters");
		return false;
	}
	field->len = 0;
	cli_text_format(field, "\"");
	for (; *key; key++) {
		if (*key < ' ' || *key > '~') {
			cli_error(CLI_USAGE, "--key: only visible ASCII characters and blanks");
			return false;
		}
		cli_text_format(field, *key == '"' || *key == '\\' ? "\\%c" : "%c", *key);
	}
	cli_text_format(field, "\"");
	return true;
}

/* Adds name=value to the query. */
static void add_option(struct cli_text *path, const char *name, const char *value)
{
	cli_text_format(path, "%c%s=", strchr(path->bytes, '?') ? '&' : '?', name);
	cli_text_escaped(path, value);
}

/* query, key: what becomes of the options, for the caller to free. */
static int submit(int argc, char **argv, struct cli_text *query, struct cli_text *key)
{
	static const struct option longs[] = {{"wait", 1, 0, 'w'},
	                                      {"commit", 1, 0, 'c'},
	                                      {"priority", 1, 0, 'p'},
	                                      {"delay", 1, 0, 'd'},
	                                      {"time-to-run", 1, 0, 't'},
	                                      {"attempts", 1, 0, 'a'},
	                                      {"retention", 1, 0, 'r'},
	                                      {"type", 1, 0, 'y'},
	                                      {"expires", 1, 0, 'e'},
	                                      {"unique", 1, 0, 'u'},
	                                      {"unique-while", 1, 0, 'U'},
	                                      {"group", 1, 0, 'g'},
	                                      {"key", 1, 0, 'k'},
	                                      {"callback", 1, 0, 'b'},
	                                      {"after", 1, 0, 'A'},
	                                      {"after-failure", 1, 0, 'F'},
	                                      {0}};
	struct submission s = {.type = "application/octet-stream"};
	struct cli_options common = {.usage = usage};
	for (int o; (o = cli_option(&common, argc, argv, longs)) != -1;) {
		switch (o) {
		case 'w':
			if (!cli_parse_duration("--wait", optarg, &s.wait_ns))
				return CLI_USAGE;
			break;
		case 'c':
			s.commit = optarg;
			break;
		case 'p':
			add_option(query, "priority", optarg);
			break;
		case 'd':
			add_option(query, "delay", optarg);
			break;
		case 't':
			add_option(query, "time-to-run", optarg);
			break;
		case 'a':
			add_option(query, "attempts", optarg);
			break;
		case 'r':
			add_option(query, "retention", optarg);
			break;
		case 'e':
			add_option(query, "expires", optarg);
			break;
		case 'u':
			add_option(query, "unique", optarg);
			break;
		case 'U':
			add_option(query, "unique-while", optarg);
			break;
		case 'g':
			add_option(query, "group", optarg);
			break;
		case 'b':
			add_option(query, "callback", optarg);
			break;
		case 'A':
			add_option(query, "after", optarg);
			break;
		case 'F':
			add_option(query, "after-failure", optarg);
			break;
		case 'k':
			if (!set_key(key, optarg))
				return CLI_USAGE;
			break;
		case 'y':
			s.type = optarg;
			break;
		}
	}
	if (common.ended)
		return common.status;
	char dash[] = "-", *standard_input[] = {dash};
	char **files = argv + optind + 1;
	int count = argc - optind - 1;
	if (count < 0)
		return cli_usage(usage);
	if (count == 0) {
		files = standard_input;
		count = 1;
	}
	if (s.wait_ns > 0 && count > 1)
		return cli_error(CLI_USAGE,
		                 "--wait takes one FILE; submit many, then `whilst wait` their ids");
	if (key->bytes && count > 1)
		return cli_error(CLI_USAGE, "--key takes one FILE: each needs a key of its own");
	s.key = *key;
	cli_text_format(&s.path, "/v1/queues/");
	cli_text_escaped(&s.path, argv[optind]);
	cli_text_format(&s.path, "/jobs%s", query->bytes);
	int status = cli_session_open(&s.session, common.server, common.json);
	if (status == 0)
		status = s.wait_ns > 0 ? submit_waiting(&s, files[0]) : submit_all(&s, files, count);
	cli_session_close(&s.session);
	cli_text_free(&s.path);
	return status;
}

int cli_submit(int argc, char **argv)
{
	struct cli_text query = {0}, key = {0};
	cli_text_add(&query, "", 0);
	int status = submit(argc, argv, &query, &key);
	cli_text_free(&query);
	cli_text_free(&key);
	return status;
}
