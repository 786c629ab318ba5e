/* src/client/submit.c -- hand over a job. Thread: loop. */
#include <errno.h>

#include "base/units.h"
#include "client/ask.h"

static void put_number(struct wh__ask *ask, const char *name, uint64_t number)
{
	wh__ask_query(ask, name);
	wh__ask_number(ask, number);
}

static void put_duration(struct wh__ask *ask, const char *name, int64_t ns)
{
	wh__ask_query(ask, name);
	wh__ask_duration(ask, ns);
}

static void put_text(struct wh__ask *ask, const char *name, const char *text)
{
	if (!text)
		return;
	wh__ask_query(ask, name);
	wh__ask_segment(ask, text);
}

static const char *const failures[] = {"cancel", "bury", "run", "wait"};

const char *wh__after_failure(int failure)
{
	return failure >= 0 && failure <= WH_AFTER_WAIT ? failures[failure]
	                                                : "?"; /* which the server refuses */
}

static void put_after(struct wh__ask *ask, const struct wh_submit_options *options)
{
	for (size_t i = 0; i < options->after_count; i++) {
		if (i == 0)
			wh__ask_query(ask, "after");
		else
			wh__ask_path(ask, ",");
		wh__ask_number(ask, options->after[i]);
	}
	if (options->after_failure != WH_AFTER_CANCEL)
		put_text(ask, "after-failure", wh__after_failure(options->after_failure));
}

void wh__ask_options(struct wh__ask *ask, const struct wh_submit_options *options)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	if (!options)
		return;
	if (options->priority_set)
		put_number(ask, "priority", options->priority);
	if (options->delay_ns > 0)
		put_duration(ask, "delay", options->delay_ns);
	if (options->run_at > 0) {
		wh__ask_query(ask, "run-at");
		instant[wh__put_instant(instant, options->run_at)] = 0;
		wh__ask_segment(ask, instant);
	}
	if (options->time_to_run_ns > 0)
		put_duration(ask, "time-to-run", options->time_to_run_ns);
	if (options->attempts > 0)
		put_number(ask, "attempts", options->attempts);
	if (options->retention_ns != 0)
		put_duration(ask, "retention", options->retention_ns > 0 ? options->retention_ns : 0);
	if (options->expires_ns > 0)
		put_duration(ask, "expires", options->expires_ns);
	if (options->expires_at > 0) {
		instant[wh__put_instant(instant, options->expires_at)] = 0;
		put_text(ask, "expires-at", instant);
	}
	put_text(ask, "unique", options->unique);
	if (options->unique && options->unique_while_ns > 0)
		put_duration(ask, "unique-while", options->unique_while_ns);
	else if (options->unique && options->unique_while_ns < 0)
		put_text(ask, "unique-while", "queued");
	put_text(ask, "group", options->group);
	put_text(ask, "callback", options->callback);
	put_after(ask, options);
}

/* What is left to wait for is asked of the job, also when the server is restarted meanwhile. */
static void submitted(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice json = wh__body_json(response);
	bool duplicate = false;

	if (!wh__json_bool(wh__json_member(json, "duplicate"), &duplicate))
		duplicate = false;
	if (response->status != (duplicate ? 200 : 202) ||
	    !wh__json_u64(wh__json_member(json, "id"), &ask->job) || !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	if (ask->receipt)
		ask->receipt->duplicate = duplicate;
	wh_http_response_free(response);
	if (ask->result_wait_ns > 0)
		wh__ask_become_result(ask);
	else
		wh__ask_end(ask, (int64_t)ask->job, NULL, NULL);
}

wh_future wh_client_run(wh_client *client, const char *queue, const struct wh_payload *payload,
                        const struct wh_submit_options *options, int64_t wait_ns, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "POST", how, submitted, &failed);

	if (!ask) {
		wh__payload_release(payload);
		return failed;
	}
	if (!wh__ask_payload(ask, payload))
		return wh__ask_refuse(ask, -ENOMEM);
	if (!queue || !*queue || !wh__ask_key(ask, how))
		return wh__ask_refuse(ask, -EINVAL);
	ask->runs = true;
	ask->result_wait_ns = wait_ns;
	wh__ask_path(ask, "/v1/queues/");
	wh__ask_segment(ask, queue);
	wh__ask_path(ask, "/jobs");
	wh__ask_options(ask, options);
	return wh__ask_start(ask);
}

wh_future wh_client_submit(wh_client *client, const char *queue, const struct wh_payload *payload,
                           const struct wh_submit_options *options, const struct wh_how *how)
{
	return wh_client_run(client, queue, payload, options, 0, how);
}
