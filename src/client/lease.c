/* src/client/lease.c -- what a worker says about a job that it has leased. Thread: loop. */
#include <errno.h>
#include <string.h>

#include "client/ask.h"

static struct wh__ask *ask_with(wh_client *client, const struct wh_lease *lease, const char *verb,
                                const struct wh_how *how, wh__ask_answer *answer, wh_future *ret_failed)
{
	struct wh__ask *ask = wh__ask_new(client, "POST", how, answer, ret_failed);
	char given[48];
	struct wh__text token;

	if (!ask)
		return NULL;
	wh__text_init(&token, given, sizeof(given));
	wh__text_u64(&token, lease->epoch);
	wh__text_put(&token, ".", 1);
	wh__text_u64(&token, lease->claim);
	wh__ask_field(ask, "Whilst-Lease", given, token.len);
	ask->job = lease->job;
	wh__ask_path(ask, "/v1/jobs/");
	wh__ask_number(ask, lease->job);
	wh__ask_path(ask, "/");
	wh__ask_path(ask, verb);
	return ask;
}

static wh_future start_with_text(struct wh__ask *ask, const char *text, const char *type)
{
	struct wh_payload payload = {.bytes = text, .len = text ? strlen(text) : 0, .type = type};

	return wh__ask_payload(ask, &payload) ? wh__ask_start(ask) : wh__ask_refuse(ask, -ENOMEM);
}

static void put_delay(struct wh__ask *ask, int64_t delay_ns)
{
	wh__ask_query(ask, "delay");
	wh__ask_duration(ask, delay_ns);
}

static void put_priority(struct wh__ask *ask, const uint32_t *priority)
{
	if (!priority)
		return;
	wh__ask_query(ask, "priority");
	wh__ask_number(ask, *priority);
}

wh_future wh_client_complete(wh_client *client, struct wh_lease lease, int status,
                             const struct wh_payload *result, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_with(client, &lease, "complete", how, wh__answer_zero, &failed);

	if (!ask) {
		wh__payload_release(result);
		return failed;
	}
	if (!wh__ask_payload(ask, result))
		return wh__ask_refuse(ask, -ENOMEM);
	if (status < 0)
		return wh__ask_refuse(ask, -EINVAL);
	if (status > 0) {
		wh__ask_query(ask, "status");
		wh__ask_number(ask, (uint64_t)status);
	}
	return wh__ask_start(ask);
}

wh_future wh_client_fail(wh_client *client, struct wh_lease lease, const char *text, int64_t delay_ns,
                         const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_with(client, &lease, "fail", how, wh__answer_state, &failed);

	if (!ask)
		return failed;
	if (delay_ns == WH_RETRY_NEVER) {
		wh__ask_query(ask, "retry");
		wh__ask_path(ask, "false");
	} else if (delay_ns >= 0) {
		put_delay(ask, delay_ns);
	} else if (delay_ns != WH_RETRY_BACKOFF) {
		return wh__ask_refuse(ask, -EINVAL);
	}
	return start_with_text(ask, text, "text/plain; charset=utf-8");
}

wh_future wh_client_release(wh_client *client, struct wh_lease lease, int64_t delay_ns,
                            const uint32_t *priority, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_with(client, &lease, "release", how, wh__answer_state, &failed);

	if (!ask)
		return failed;
	if (delay_ns < 0)
		return wh__ask_refuse(ask, -EINVAL);
	if (delay_ns > 0)
		put_delay(ask, delay_ns);
	put_priority(ask, priority);
	return wh__ask_start(ask);
}

static void extended(struct wh__ask *ask, struct wh_http_response *response)
{
	int64_t deadline;

	if (response->status != 200 ||
	    !wh__read_instant(wh__json_member(wh__body_json(response), "deadline"), &deadline) ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	wh__ask_end(ask, deadline, NULL, NULL);
}

wh_future wh_client_extend(wh_client *client, struct wh_lease lease, int64_t by_ns, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_with(client, &lease, "extend", how, extended, &failed);

	if (!ask)
		return failed;
	if (by_ns < 0)
		return wh__ask_refuse(ask, -EINVAL);
	if (by_ns > 0) {
		wh__ask_query(ask, "by");
		wh__ask_duration(ask, by_ns);
	}
	/* twice is as good as once */
	ask->changes = false;
	return wh__ask_start(ask);
}

wh_future wh_client_progress(wh_client *client, struct wh_lease lease, const char *json,
                             const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_with(client, &lease, "progress", how, wh__answer_zero, &failed);

	if (!ask)
		return failed;
	if (!json)
		return wh__ask_refuse(ask, -EINVAL);
	return start_with_text(ask, json, "application/json");
}

wh_future wh_client_bury(wh_client *client, struct wh_lease lease, const char *text, const uint32_t *priority,
                         const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_with(client, &lease, "bury", how, wh__answer_state, &failed);

	if (!ask)
		return failed;
	put_priority(ask, priority);
	return start_with_text(ask, text, "text/plain; charset=utf-8");
}
