/* src/front/api_operation.c -- /livez, /readyz, what there is at /, and the same for programs: /openapi.json. */
#include <stdio.h>
#include <string.h>

#include "front/api.h"

#define PLAIN "text/plain; charset=utf-8"

void api_live(struct request *request)
{
	answer_bytes(request->api, request->x, 200, PLAIN, "ok\n", 3);
}

void api_ready(struct request *request)
{
	struct api *api = request->api;
	struct store_stats stats;

	store_stats(api->store, &stats);
	if (api->draining)
		answer_problem(api, request->x, PROBLEM_DRAINING, NULL, "the server is stopping");
	else if (stats.disk_full)
		answer_problem(api, request->x, PROBLEM_DISK_FULL, NULL,
		               "no room for new jobs; finishing and cancelling go on");
	else
		answer_bytes(api, request->x, 200, PLAIN, "ok\n", 3);
}

/* openapi.json, by scripts/embed */
extern const char openapi_document[];
extern const unsigned long openapi_document_bytes;

void api_openapi(struct request *request)
{
	answer_bytes(request->api, request->x, 200, "application/json", openapi_document,
	             openapi_document_bytes);
}

void api_index(struct request *request)
{
	static const char body[] =
		"whilst " WH_VERSION
		": hand over work, carry on, and wait, poll or be called back for the outcome\n\n"
		"POST   /v1/queues/{queue}/jobs        submit; the body is the payload\n"
		"GET    /v1/jobs/{id}                  poll; with Prefer: wait=N wait for the end\n"
		"GET    /v1/jobs/{id}/result           the result; /payload: what was submitted\n"
		"DELETE /v1/jobs/{id}                  cancel\n"
		"PATCH  /v1/jobs/{id}                  another priority, delay, time to run, ... of a job\n"
		"POST   /v1/queues/{queue}/reserve     lease jobs\n"
		"POST   /v1/jobs/{id}/complete         and fail, release, extend, progress, bury, kick\n"
		"GET    /v1/queues                     queues and their counters\n"
		"GET    /v1/queues/{queue}/events      what happens to its jobs, as server-sent events\n"
		"PUT    /v1/queues/{queue}/target      have its jobs pushed to an HTTP server\n"
		"PUT    /v1/services/{name}            a backend for the gateway\n"
		"ANY    /call/{service}/{path}         the gateway\n"
		"GET    /v1/log                        how far the log has come\n"
		"GET    /v1/log/backup                 a copy of the data, as a tar archive\n"
		"GET    /livez /readyz /metrics        operation\n"
		"GET    /openapi.json                  all of this in detail, for programs\n";

	answer_bytes(request->api, request->x, 200, PLAIN, body, sizeof(body) - 1);
}
