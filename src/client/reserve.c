/* src/client/reserve.c -- lease jobs: one as it is, several as JSON or in the binary form. Thread: loop.
 *
 * A lot is one allocation and the response, whose bytes the payloads are (those of JSON are decoded where they stand).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

enum { BARE_BYTES = 24, JOBS_MAX = 1000 };

/* What is given, and what it refers to. */
struct lot {
	struct wh_leases is;
	struct wh_http_response *response;
	struct wh_leased *jobs; /* of is, to be filled */
	char *strings;          /* room for as many bytes as the body has */
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

static struct lot *new_lot(size_t count, size_t string_bytes)
{
	struct lot *lot = calloc(1, sizeof(*lot) + count * sizeof(*lot->jobs) + string_bytes);

	if (!lot)
		return NULL;
	lot->jobs = (struct wh_leased *)(void *)(lot + 1);
	lot->strings = (char *)(lot->jobs + count);
	lot->is.jobs = lot->jobs;
	lot->is.count = count;
	return lot;
}

/* -ENOMEM; -WH_EHTTP_SYNTAX; 0 and the lot, whose response is still the caller's. */
static int64_t read_single(struct wh_http_response *response, struct lot **ret)
{
	struct wh_slice type = wh_http_response_header(response, "Content-Type");
	struct lot *lot = new_lot(1, type.len + 1);
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
	if (type.len > 0)
		memcpy(lot->strings, type.data, type.len);
	job->type = lot->strings;
	job->field_count = response->field_count;
	job->fields = response->fields;
	*ret = lot;
	return 0;
}

static bool take_job(struct lot *lot, struct wh_slice json, struct wh_leased *job)
{
	struct wh_slice type = wh__json_member(json, "content_type");
	uint64_t attempt;
	size_t len;

	if (!wh__json_u64(wh__json_member(json, "id"), &job->lease.job) ||
	    !wh__read_lease(wh__json_member(json, "lease"), &job->lease) ||
	    !wh__json_u64(wh__json_member(json, "attempt"), &attempt) || attempt > UINT32_MAX ||
	    !wh__read_duration(wh__json_member(json, "time_to_run"), &job->time_to_run_ns) ||
	    !wh__json_string(type, lot->strings, &len))
		return false;
	job->attempt = (uint32_t)attempt;
	lot->strings[len] = 0;
	job->type = lot->strings;
	lot->strings += len + 1;
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
	size_t count = 0;
	bool good = true;

	while (wh__json_next(jobs, &at))
		count++;
	lot = new_lot(count, jobs.len);
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

static int64_t read_bare(struct wh_http_response *response, struct lot **ret)
{
	const char *at = response->body.data, *end = at + response->body.len, *item;
	struct lot *lot;
	size_t count = 0;

	for (item = at; item < end; count++) {
		uint32_t len = end - item < 4 ? 0 : wh__batch_u32(item);
		if (len < BARE_BYTES || len > (size_t)(end - item) - 4)
			return -WH_EHTTP_SYNTAX;
		item += 4 + len;
	}
	if (count == 0)
		return -WH_EHTTP_SYNTAX;
	lot = new_lot(count, 0);
	if (!lot)
		return -ENOMEM;
	item = at;
	for (size_t i = 0; i < count; i++) {
		struct wh_leased *job = &lot->jobs[i];
		uint32_t len = wh__batch_u32(item);

		job->lease.job = wh__batch_u64(item + 4);
		job->lease.claim = wh__batch_u64(item + 12);
		job->lease.epoch = wh__batch_u32(item + 20);
		job->attempt = wh__batch_u32(item + 24);
		job->payload = (struct wh_slice){item + 4 + BARE_BYTES, len - BARE_BYTES};
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
		wh__ask_field(ask, "Accept", "application/vnd.whilst.batch", 28);
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
