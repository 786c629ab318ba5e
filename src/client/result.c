/* src/client/result.c -- the result of a job: asked for, waited for, and as a struct. Thread: loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

/* The result is what is given; the response behind it holds the bytes. */
struct result {
	struct wh_result is;
	struct wh_http_response *response;
};

struct wh_result *wh_result_free(struct wh_result *result)
{
	if (result) {
		wh_http_response_free(((struct result *)(void *)result)->response);
		free(result);
	}
	return NULL;
}

void wh__result_dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_result_free(res.ptr);
}

struct wh_result *wh__result_new(struct wh_http_response *response)
{
	struct result *result = calloc(1, sizeof(*result));

	if (!result)
		return NULL;
	result->response = response;
	result->is.status = response->status;
	result->is.type = wh_http_response_header(response, "Content-Type");
	result->is.body = response->body;
	result->is.field_count = response->field_count;
	result->is.fields = response->fields;
	if (!wh__read_header_u64(response, "Whilst-Job", &result->is.job))
		result->is.job = 0;
	return &result->is;
}

void wh__answer_result(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_result *result;

	if (!wh_http_response_header(response, "Whilst-Job").data) {
		wh__ask_garbled(ask, response);
		return;
	}
	result = wh__result_new(response);
	if (!result)
		wh__ask_out_of_memory(ask, response);
	else
		wh__ask_end(ask, ask->runs ? (int64_t)ask->job : result->status, result, wh__result_dispose);
}

void wh__result_not_ready(struct wh__ask *ask)
{
	struct wh_result *result;

	if (!ask->accepted) {
		wh__ask_end(ask, (int64_t)ask->job, NULL, NULL);
		return;
	}
	result = wh__result_new(ask->accepted);
	if (!result) {
		wh__ask_fail(ask, -ENOMEM, -ENOMEM);
		return;
	}
	ask->accepted = NULL;
	result->accepted = true;
	result->job = ask->job;
	wh__ask_end(ask, result->status, result, wh__result_dispose);
}

wh_future wh_client_result(wh_client *client, uint64_t job, int64_t wait_ns, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "GET", how, wh__answer_result, &failed);

	if (!ask)
		return failed;
	ask->job = job;
	ask->by_result = true;
	wh__ask_path(ask, "/v1/jobs/");
	wh__ask_number(ask, job);
	wh__ask_path(ask, "/result");
	wh__ask_wait(ask, wait_ns);
	return wh__ask_start(ask);
}

static void got_payload(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_result *result = response->status == 200 ? wh__result_new(response) : NULL;

	if (response->status != 200) {
		wh__ask_garbled(ask, response);
	} else if (!result) {
		wh__ask_out_of_memory(ask, response);
	} else {
		result->job = ask->job;
		wh__ask_end(ask, (int64_t)result->body.len, result, wh__result_dispose);
	}
}

wh_future wh_client_payload(wh_client *client, uint64_t job, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "GET", how, got_payload, &failed);

	if (!ask)
		return failed;
	ask->job = job;
	wh__ask_path(ask, "/v1/jobs/");
	wh__ask_number(ask, job);
	wh__ask_path(ask, "/payload");
	return wh__ask_start(ask);
}
