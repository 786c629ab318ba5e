/* src/client/reserve.c -- lease jobs: one as it is, several as JSON or in the binary form. Thread: loop.
 *
 * A lot is one allocation and the response, whose bytes the payloads are (those of JSON are decoded where they stand).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

enum { BARE_BYTES = 24, TRACED_BYTES = 26, PARENT_BYTES = 55, JOBS_MAX = 1000 };

/* What is given, and what it refers to. */
struct lot {
	struct wh_leases is;
	struct wh_http_response *response;
	struct wh_leased *jobs;       /* of is, to be filled */
	struct wh_http_field *fields; /* room for those of all jobs */
	char *strings;                /* room for as many bytes as the body has */
};

struct wh_leases *wh_leases_free(struct wh_leases *leases)
{
	if (leases) {
		wh_http_response_free(((struct lot *)(void *)leases)->response);
		free(leases);
	}
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_leases_free(res.ptr);
}

static struct lot *new_lot(size_t count, size_t field_count, size_t string_bytes)
{
	struct lot *lot = calloc(1, sizeof(*lot) + count * sizeof(*lot->jobs) +
	                                    field_count * sizeof(*lot->fields) + string_bytes);

	if (!lot)
		return NULL;
	lot->jobs = (struct wh_leased *)(void *)(lot + 1);
	lot->fields = (struct wh_http_field *)(void *)(lot->jobs + count);
	lot->strings = (char *)(lot->fields + field_count);
	lot->is.jobs = lot->jobs;
	lot->is.count = count;
	return lot;
}

/* A copy that ends in NUL: room has been seen to. */
static const char *put_string(struct lot *lot, struct wh_slice text)
{
	char *to = lot->strings;

	if (text.len > 0)
		memcpy(to, text.data, text.len);
	to[text.len] = 0;
	lot->strings += text.len + 1;
	return to;
}

/* A member that need not be there. false: it is no string. */
static bool take_string(struct lot *lot, struct wh_slice value, const char **ret)
{
	size_t len;

	if (!value.data)
		return true;
	if (!wh__json_string(value, lot->strings, &len))
		return false;
	lot->strings[len] = 0;
	*ret = lot->strings;
	lot->strings += len + 1;
	return true;
}

/* -ENOMEM; -WH_EHTTP_SYNTAX; 0 and the lot, whose response is still the caller's. */
static int64_t read_single(struct wh_http_response *response, struct lot **ret)
{
	struct wh_slice type = wh_http_response_header(response, "Content-Type"),
			parent = wh_http_response_header(response, "traceparent"),
			state = wh_http_response_header(response, "tracestate");
	struct lot *lot = new_lot(1, 0, type.len + parent.len + state.len + 3);
	struct wh_leased *job;
	uint64_t attempt;

	if (!lot)
		return -ENOMEM;
	job = lot->jobs;
	if (!wh__read_header_u64(response, "Whilst-Job", &job->lease.job) ||
	    !wh__read_lease(wh_http_response_header(response, "Whilst-Lease"), &job->lease) ||
	    !wh__read_header_u64(response, "Whilst-Attempt", &attempt) || attempt > UINT32_MAX ||
	    !wh__read_duration(wh_http_response_header(response, "Whilst-Time-To-Run"),
	                       &job->time_to_run_ns)) {
		free(lot);
		return -WH_EHTTP_SYNTAX;
	}
	job->attempt = (uint32_t)attempt;
	job->payload = response->body;
	job->type = put_string(lot, type);
	job->traceparent = parent.data ? put_string(lot, parent) : NULL;
	job->tracestate = state.data ? put_string(lot, state) : NULL;
	job->field_count = response->field_count;
	job->fields = response->fields;
	*ret = lot;
	return 0;
}

static bool take_slice(struct lot *lot, struct wh_slice value, struct wh_slice *ret)
{
	const char *string = NULL;

	if (!take_string(lot, value, &string) || !string)
		return false;
	*ret = (struct wh_slice){string, (size_t)(lot->strings - string) - 1};
	return true;
}

static const char event_name[] = "Whilst-Event";

/* The fields that were kept with it, and of what is about an event its position, named as it is alone: there is room for all. */
static bool take_fields(struct lot *lot, struct wh_slice json, struct wh_leased *job)
{
	struct wh_slice headers = wh__json_member(json, "headers"), event = wh__json_member(json, "event"),
			at = {NULL, 0}, name;

	job->fields = lot->fields;
	while (wh__json_each(headers, &at, &name)) {
		if (!take_slice(lot, name, &lot->fields->name) || !take_slice(lot, at, &lot->fields->value))
			return false;
		lot->fields++;
	}
	if (event.data) {
		lot->fields->name = (struct wh_slice){event_name, sizeof(event_name) - 1};
		if (!take_slice(lot, event, &lot->fields->value))
			return false;
		lot->fields++;
	}
	job->field_count = (size_t)(lot->fields - job->fields);
	return true;
}

static size_t count_fields(struct wh_slice json)
{
	struct wh_slice headers = wh__json_member(json, "headers"), at = {NULL, 0}, name;
	size_t count = wh__json_member(json, "event").data != NULL;

	while (wh__json_each(headers, &at, &name))
		count++;
	return count;
}

static bool take_job(struct lot *lot, struct wh_slice json, struct wh_leased *job)
{
	uint64_t attempt;
	size_t len;

	if (!wh__json_u64(wh__json_member(json, "id"), &job->lease.job) ||
	    !wh__read_lease(wh__json_member(json, "lease"), &job->lease) ||
	    !wh__json_u64(wh__json_member(json, "attempt"), &attempt) || attempt > UINT32_MAX ||
	    !wh__read_duration(wh__json_member(json, "time_to_run"), &job->time_to_run_ns) ||
	    !take_string(lot, wh__json_member(json, "content_type"), &job->type) || !job->type ||
	    !take_string(lot, wh__json_member(json, "traceparent"), &job->traceparent) ||
	    !take_string(lot, wh__json_member(json, "tracestate"), &job->tracestate) ||
	    !take_fields(lot, json, job))
		return false;
	job->attempt = (uint32_t)attempt;
	job->payload.data = lot->strings;
	if (!wh__json_string(wh__json_member(json, "payload"), lot->strings, &len) ||
	    !wh__unbase64(lot->strings, len, &job->payload.len))
		return false;
	lot->strings += job->payload.len;
	return true;
}

static int64_t read_json(struct wh_http_response *response, struct lot **ret)
{
	struct wh_slice jobs = wh__json_member(wh__body_json(response), "jobs"), at = {NULL, 0};
	struct lot *lot;
	size_t count = 0, field_count = 0;
	bool good = true;

	for (; wh__json_next(jobs, &at); count++)
		field_count += count_fields(at);
	lot = new_lot(count, field_count, jobs.len);
	if (!lot)
		return -ENOMEM;
	at.data = NULL;
	for (size_t i = 0; good && wh__json_next(jobs, &at); i++)
		good = take_job(lot, at, &lot->jobs[i]);
	if (!good || count == 0) {
		free(lot);
		return -WH_EHTTP_SYNTAX;
	}
	*ret = lot;
	return 0;
}

/* How many bytes of a trace context an item of len bytes has; -1: they are not there. */
static int64_t trace_len(const char *item, uint32_t len)
{
	const uint8_t *at = (const uint8_t *)item + 4 + BARE_BYTES;
	uint32_t n;

	if (len < TRACED_BYTES)
		return -1;
	n = (uint32_t)at[0] | (uint32_t)at[1] << 8;
	return n <= len - TRACED_BYTES ? (int64_t)n : -1;
}

/* A traceparent, and behind a blank a tracestate if there is one. */
static void take_trace(struct lot *lot, struct wh_leased *job, const char *bytes, size_t len)
{
	if (len < PARENT_BYTES)
		return;
	job->traceparent = put_string(lot, (struct wh_slice){bytes, PARENT_BYTES});
	if (len > PARENT_BYTES + 1)
		job->tracestate =
			put_string(lot, (struct wh_slice){bytes + PARENT_BYTES + 1, len - PARENT_BYTES - 1});
}

/* How many items there are, and what strings of theirs take; -1: they do not fill the body. */
static int64_t count_bare(const char *at, const char *end, bool traced, size_t *ret_string_bytes)
{
	int64_t count = 0;

	*ret_string_bytes = 0;
	for (; at < end; count++) {
		uint32_t len = end - at < 4 ? 0 : wh__batch_u32(at);
		int64_t trace = 0;

		if (len < BARE_BYTES || len > (size_t)(end - at) - 4)
			return -1;
		if (traced)
			trace = trace_len(at, len);
		if (trace < 0)
			return -1;
		*ret_string_bytes += (size_t)trace + 1; /* the blank is the first one's NUL */
		at += 4 + len;
	}
	return count > 0 ? count : -1;
}

static int64_t read_bare(struct wh_http_response *response, struct lot **ret)
{
	struct wh_slice type = wh_http_response_header(response, "Content-Type");
	const char *at = response->body.data, *end = at + response->body.len, *item = at;
	bool traced = type.data && memmem(type.data, type.len, "trace=1", 7);
	size_t string_bytes = 0, count;
	int64_t counted = count_bare(at, end, traced, &string_bytes);
	struct lot *lot;

	if (counted < 0)
		return -WH_EHTTP_SYNTAX;
	count = (size_t)counted;
	lot = new_lot(count, 0, string_bytes);
	if (!lot)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		struct wh_leased *job = &lot->jobs[i];
		uint32_t len = wh__batch_u32(item), head = BARE_BYTES;

		job->lease.job = wh__batch_u64(item + 4);
		job->lease.claim = wh__batch_u64(item + 12);
		job->lease.epoch = wh__batch_u32(item + 20);
		job->attempt = wh__batch_u32(item + 24);
		if (traced) {
			int64_t n = trace_len(item, len);

			take_trace(lot, job, item + 4 + TRACED_BYTES, (size_t)n);
			head = TRACED_BYTES + (uint32_t)n;
		}
		job->payload = (struct wh_slice){item + 4 + head, len - head};
		item += 4 + len;
	}
	*ret = lot;
	return 0;
}

static void reserved(struct wh__ask *ask, struct wh_http_response *response)
{
	struct lot *lot = NULL;
	int64_t error = -WH_EHTTP_SYNTAX;

	if (response->status == 204) {
		wh_http_response_free(response);
		if (wh__ask_is_waiting(ask))
			wh__ask_again(ask);
		else
			wh__ask_end(ask, 0, NULL, NULL);
		return;
	}
	if (response->status == 200 && wh__ask_receipt(ask, response))
		error = ask->bare                                              ? read_bare(response, &lot)
		        : wh_http_response_header(response, "Whilst-Job").data ? read_single(response, &lot)
		                                                               : read_json(response, &lot);
	if (error == -ENOMEM) {
		wh__ask_out_of_memory(ask, response);
	} else if (error != 0) {
		wh__ask_garbled(ask, response);
	} else {
		lot->response = response;
		wh__ask_end(ask, (int64_t)lot->is.count, lot, dispose);
	}
}

static wh_future reserve(wh_client *client, const char *queue, uint32_t jobs_max, int64_t wait_ns, bool bare,
                         const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "POST", how, reserved, &failed);

	if (!ask)
		return failed;
	if (!queue || !*queue || jobs_max == 0 || jobs_max > JOBS_MAX)
		return wh__ask_refuse(ask, -EINVAL);
	wh__ask_path(ask, "/v1/queues/");
	wh__ask_segment(ask, queue);
	wh__ask_path(ask, "/reserve");
	if (jobs_max > 1) {
		wh__ask_query(ask, "n");
		wh__ask_number(ask, jobs_max);
	}
	if (bare)
		wh__ask_field(ask, "Accept", "application/vnd.whilst.batch; trace=1", 37);
	ask->bare = bare;
	wh__ask_wait(ask, wait_ns);
	return wh__ask_start(ask);
}

wh_future wh_client_reserve(wh_client *client, const char *queue, uint32_t jobs_max, int64_t wait_ns,
                            const struct wh_how *how)
{
	return reserve(client, queue, jobs_max, wait_ns, false, how);
}

wh_future wh_client_reserve_bare(wh_client *client, const char *queue, uint32_t jobs_max, int64_t wait_ns,
                                 const struct wh_how *how)
{
	return reserve(client, queue, jobs_max, wait_ns, true, how);
}
