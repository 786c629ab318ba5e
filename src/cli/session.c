/* src/cli/session.c -- a loop, a client and the server's address, for one command. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "deliver/trace.h"

static const char default_server[] = "http://127.0.0.1:4480";

/* The trace that whoever started the command belongs to, as OpenTelemetry hands it to processes. */
static void read_trace(struct cli_session *session)
{
	const char *parent = getenv("TRACEPARENT"), *state = getenv("TRACESTATE");
	char known[TRACE_PARENT_BYTES];
	if (!parent || !trace_parent(parent, strlen(parent), known))
		return;
	session->traceparent = parent;
	if (state && *state && strlen(state) <= TRACE_STATE_MAX &&
	    trace_is_state((struct wh_slice){state, strlen(state)}))
		session->tracestate = state;
}

int cli_session_open(struct cli_session *session, const char *server, bool json)
{
	static const char prefix[] = "http://";
	if (!server)
		server = getenv("WHILST_SERVER");
	if (!server || !*server)
		server = default_server;
	if (!strncmp(server, prefix, sizeof prefix - 1))
		server += sizeof prefix - 1;
	else if (strncmp(server, "unix:", 5) != 0)
		return cli_error(CLI_USAGE,
		                 "the server's address %s is neither http://HOST:PORT nor unix:/PATH",
		                 server);
	size_t len = strlen(server);
	if (strncmp(server, "unix:", 5) != 0 && len > 0 && server[len - 1] == '/')
		len--;
	*session = (struct cli_session){.json = json, .server = strndup(server, len)};
	read_trace(session);
	if (!session->server)
		return cli_error(CLI_FAILED, "out of memory");
	int error = wh_loop_open(&session->loop, NULL);
	if (error == 0) {
		struct wh_http_client_options options = {.user_agent = "whilst-cli",
		                                         .first_byte_timeout_ns = 30 * WH_NS_PER_S,
		                                         .body_bytes_max = UINT64_MAX};
		error = wh_http_client_open(session->loop, &options, &session->client);
	}
	if (error == 0) {
		/* who waits at a terminal wants to know that the server is away */
		struct wh_client_options options = {.server = session->server,
		                                    .user_agent = "whilst-cli",
		                                    .answer_bytes_max = UINT64_MAX,
		                                    .retry_ns = -1,
		                                    .token = getenv("WHILST_TOKEN")};
		error = wh_client_open(session->loop, &options, &session->calls);
	}
	if (error != 0)
		return cli_error(CLI_FAILED, "cannot start: %s", wh_strerror(error));
	return 0;
}

void cli_session_close(struct cli_session *session)
{
	wh_client_close(session->calls);
	wh_http_client_close(session->client);
	wh_loop_close(session->loop);
	free((void *)(uintptr_t)session->server);
	*session = (struct cli_session){0};
}

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

wh_future cli_start(struct cli_session *session, const struct cli_request *request)
{
	enum { FIELDS_MAX = sizeof request->headers / sizeof *request->headers };
	struct wh_http_field fields[FIELDS_MAX + 4];
	struct wh_http_request out = {.origin = session->server,
	                              .method = request->method,
	                              .target = request->path,
	                              .fields = fields,
	                              .body = request->body,
	                              .body_len = request->body_len};
	const char *token = getenv("WHILST_TOKEN");
	char wait[48];
	if (token && *token)
		fields[out.field_count++] = (struct wh_http_field){slice("Whilst-Token"), slice(token)};
	if (session->traceparent)
		fields[out.field_count++] =
			(struct wh_http_field){slice("traceparent"), slice(session->traceparent)};
	if (session->tracestate)
		fields[out.field_count++] =
			(struct wh_http_field){slice("tracestate"), slice(session->tracestate)};
	for (size_t i = 0; i < FIELDS_MAX && request->headers[i][0]; i++)
		fields[out.field_count++] =
			(struct wh_http_field){slice(request->headers[i][0]), slice(request->headers[i][1])};
	if (request->wait_ns > 0) {
		/* whole seconds, at least one: a shorter wait is not worth a request */
		long long seconds = (request->wait_ns + WH_NS_PER_S - 1) / WH_NS_PER_S;
		snprintf(wait, sizeof wait, "wait=%lld", seconds);
		fields[out.field_count++] = (struct wh_http_field){slice("Prefer"), slice(wait)};
		out.first_byte_timeout_ns = (seconds + 30) * WH_NS_PER_S;
	}
	return wh_http_request(session->client, &out);
}

int cli_ask(struct cli_session *session, const struct cli_request *request, struct wh_http_response **ret)
{
	wh_res res = wh_await(cli_start(session, request));
	if (res.n < 0)
		return cli_error(CLI_NO_CONNECTION, "no answer from %s: %s", session->server,
		                 wh_strerror(res.n));
	*ret = res.ptr;
	return 0;
}

json_t *cli_answer_json(const struct wh_http_response *response)
{
	json_error_t error;
	json_t *json = json_loadb(response->body.data, response->body.len, 0, &error);
	if (!json)
		(void)cli_error(CLI_FAILED, "the server's answer is not JSON: %s", error.text);
	return json;
}

int cli_failed(const struct cli_session *session, const struct wh_problem *problem)
{
	if (problem->status == 0)
		return cli_error(CLI_NO_CONNECTION, "no answer from %s: %s", session->server,
		                 wh_strerror(problem->cause));
	if (!problem->code[0])
		return cli_error(CLI_FAILED, "%s", problem->detail);
	return cli_error(CLI_FAILED, "%s (%d %s)", problem->detail, problem->status, problem->code);
}

void cli_print_json(const char *json)
{
	printf("%.*s\n", (int)strcspn(json, "\n"), json);
}

int cli_refused(const struct wh_http_response *response)
{
	json_t *problem = json_loadb(response->body.data, response->body.len, 0, NULL);
	const char *detail = json_string_value(json_object_get(problem, "detail"));
	const char *code = json_string_value(json_object_get(problem, "code"));
	int status = detail ? cli_error(CLI_FAILED, "%s (%d%s%s)", detail, response->status, code ? " " : "",
	                                code ? code : "")
	                    : cli_error(CLI_FAILED, "the server answered %d %s", response->status,
	                                wh_http_reason(response->status));
	json_decref(problem);
	return status;
}
