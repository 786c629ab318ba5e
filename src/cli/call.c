/* src/cli/call.c -- `whilst call`: a service behind the gateway, in the three moods. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
	"usage: whilst call SERVICE PATH [OPTION...]\n\n"
	"Calls an HTTP backend through the gateway and prints its answer.\n\n"
	"  --async              do not wait: print the id of the job that carries the call\n"
	"  --wait DURATION      wait that long; then print the job's id (exit status 3)\n"
	"  --method METHOD      default GET, POST with --data\n"
	"  --data FILE          body of the request, - for standard input\n"
	"  --type TYPE          its content type, default application/octet-stream\n"
	"  --callback URL       the call becomes a job, of whose end this is told by a signed message\n"
	"  --include            print the answer's status and header fields too\n"
	"  --server URL, --json (with --async), --help\n"
	"Exit status 1: the backend answered 400 or above, or the call was refused.\n";

struct call {
	struct cli_session session;
	const char *method, *data, *type, *callback;
	int64_t wait_ns;
	bool asynchronous, include;
};

static void print_head(const struct wh_http_response *response)
{
	printf("HTTP/1.1 %d %.*s\n", response->status, (int)response->reason.len, response->reason.data);
	for (size_t i = 0; i < response->field_count; i++) {
		const struct wh_http_field *f = &response->fields[i];
		printf("%.*s: %.*s\n", (int)f->name.len, f->name.data, (int)f->value.len, f->value.data);
	}
	putchar('\n');
	fflush(stdout);
}

static int print_answer(struct call *c, const struct wh_http_response *response)
{
	struct wh_slice applied = wh_http_response_header(response, "Preference-Applied");
	bool accepted = response->status == 202 && applied.data && (c->asynchronous || c->wait_ns > 0);
	if (c->include)
		print_head(response);
	if (accepted) {
		json_t *job = cli_answer_json(response);
		if (!job)
			return CLI_FAILED;
		if (c->session.json)
			printf("%.*s\n", (int)response->body.len, response->body.data);
		else
			printf("%lld\n", (long long)json_integer_value(json_object_get(job, "id")));
		json_decref(job);
		return c->asynchronous ? CLI_DONE
		                       : cli_error(CLI_TIMED_OUT, "not answered yet; `whilst wait` waits on");
	}
	struct wh_slice type = wh_http_response_header(response, "Content-Type");
	if (response->status >= 400 && wh_slice_equal(type, "application/problem+json"))
		return cli_refused(response);
	int status = cli_write_out(&c->session, response->body.data, response->body.len);
	return status != 0 ? status : response->status < 400 ? CLI_DONE : CLI_FAILED;
}

static int call(struct call *c, const char *service, const char *path)
{
	struct cli_text target = {0}, body = {0};
	struct wh_http_response *response = NULL;
	struct cli_request request = {.method = c->method, .wait_ns = c->wait_ns};
	int status = c->data ? cli_read_all(&c->session, c->data, &body) : 0, headers = 0;
	cli_text_format(&target, "/call/");
	cli_text_escaped(&target, service);
	cli_text_format(&target, "%s%s", *path == '/' ? "" : "/", path);
	request.path = target.bytes;
	request.body = body.bytes;
	request.body_len = body.len;
	if (c->data) {
		request.headers[headers][0] = "Content-Type";
		request.headers[headers++][1] = c->type;
	}
	if (c->asynchronous) {
		request.headers[headers][0] = "Prefer";
		request.headers[headers++][1] = "respond-async";
	}
	if (c->callback) {
		request.headers[headers][0] = "Whilst-Callback";
		request.headers[headers++][1] = c->callback;
	}
	if (status == 0)
		status = cli_ask(&c->session, &request, &response);
	if (status == 0)
		status = print_answer(c, response);
	wh_http_response_free(response);
	cli_text_free(&target);
	cli_text_free(&body);
	return status;
}

int cli_call(int argc, char **argv)
{
	static const struct option longs[] = {
		{"async", 0, 0, 'a'}, {"wait", 1, 0, 'w'},    {"method", 1, 0, 'm'},   {"data", 1, 0, 'd'},
		{"type", 1, 0, 't'},  {"include", 0, 0, 'i'}, {"callback", 1, 0, 'b'}, {0}};
	struct call c = {.type = "application/octet-stream"};
	struct cli_options common = {.usage = usage};
	for (int o; (o = cli_option(&common, argc, argv, longs)) != -1;) {
		switch (o) {
		case 'a':
			c.asynchronous = true;
			break;
		case 'w':
			if (!cli_parse_duration("--wait", optarg, &c.wait_ns))
				return CLI_USAGE;
			break;
		case 'm':
			c.method = optarg;
			break;
		case 'd':
			c.data = optarg;
			break;
		case 't':
			c.type = optarg;
			break;
		case 'b':
			c.callback = optarg;
			break;
		case 'i':
			c.include = true;
			break;
		}
	}
	if (common.ended)
		return common.status;
	if (argc - optind != 2)
		return cli_usage(usage);
	if (c.asynchronous && c.wait_ns > 0)
		return cli_error(CLI_USAGE, "--async and --wait exclude each other");
	if (!c.method)
		c.method = c.data ? "POST" : "GET";
	int status = cli_session_open(&c.session, common.server, common.json);
	if (status == 0)
		status = call(&c, argv[optind], argv[optind + 1]);
	cli_session_close(&c.session);
	return status;
}
