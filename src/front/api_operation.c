/* src/front/api_operation.c -- /livez, /readyz, and what there is, for programs: /openapi.json. */
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
