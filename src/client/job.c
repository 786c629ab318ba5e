/* src/client/job.c -- how a job stands: look, wait, cancel, kick, edit. Thread: loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "client/ask.h"
#include "client/members.h"

struct wh_job *wh_job_free(struct wh_job *job)
{
	free(job);
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_job_free(res.ptr);
}

/* Where strings of the answer go: a string with its NUL is never longer than it is in JSON. */
struct strings {
	char *at;
	bool wrong;
};

static const char *take_string(struct strings *to, struct wh_slice value)
{
	const char *string = to->at;
	size_t len;

	if (!value.data || wh__json_is_null(value))
		return NULL;
	if (!wh__json_string(value, to->at, &len)) {
		to->wrong = true;
		return NULL;
	}
	to->at[len] = 0;
	to->at += len + 1;
	return string;
}

static bool take_u32(struct wh_slice value, uint32_t *ret)
{
	uint64_t number;

	if (!wh__json_u64(value, &number) || number > UINT32_MAX)
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool take_errors(struct wh_slice array, struct wh_job_error *errors, struct strings *strings)
{
	struct wh_slice at = {NULL, 0};

	for (; wh__json_next(array, &at); errors++) {
		errors->message = take_string(strings, wh__json_member(at, "message"));
		if (!errors->message || !take_u32(wh__json_member(at, "attempt"), &errors->attempt) ||
		    !wh__read_instant(wh__json_member(at, "at"), &errors->at))
			return false;
	}
	return true;
}

static bool take_result(struct wh_job *job, struct wh_slice result, struct strings *strings)
{
	uint64_t status;

	if (!result.data || wh__json_is_null(result))
		return true;
	job->result_type = take_string(strings, wh__json_member(result, "content_type"));
	if (!job->result_type || !wh__json_u64(wh__json_member(result, "status"), &status) || status > 999)
		return false;
	job->result_status = (int)status;
	return wh__json_u64(wh__json_member(result, "bytes"), &job->result_bytes);
}

static bool take_members(struct wh_job *job, struct wh_slice json, struct wh_job_error *errors,
                         struct strings *strings)
{
	struct wh_slice progress = wh__json_member(json, "progress"), awaits;

	job->queue = take_string(strings, wh__json_member(json, "queue"));
	job->type = take_string(strings, wh__json_member(json, "content_type"));
	job->state = wh__read_state(wh__json_member(json, "state"));
	if (progress.data && !wh__json_is_null(progress)) {
		memcpy(strings->at, progress.data, progress.len);
		strings->at[progress.len] = 0;
		job->progress = strings->at;
		strings->at += progress.len + 1;
	}
	awaits = wh__json_member(json, "awaits");
	if (job->state == WH_JOB_AWAITING &&
	    (!take_u32(wh__json_member(awaits, "open"), &job->awaits_open) ||
	     !take_u32(wh__json_member(awaits, "count"), &job->awaits_count)))
		return false;
	if (!take_u32(wh__json_member(json, "attempts_max"), &job->attempts_max))
		job->attempts_max = 0; /* null */
	return job->queue && job->type && job->state != 0 &&
	       wh__json_u64(wh__json_member(json, "id"), &job->id) &&
	       take_u32(wh__json_member(json, "priority"), &job->priority) &&
	       take_u32(wh__json_member(json, "attempts"), &job->attempts) &&
	       wh__json_u64(wh__json_member(json, "bytes"), &job->payload_bytes) &&
	       wh__json_bool(wh__json_member(json, "cancel_requested"), &job->cancel_requested) &&
	       wh__read_instant(wh__json_member(json, "created_at"), &job->created_at) &&
	       wh__read_instant(wh__json_member(json, "run_at"), &job->run_at) &&
	       wh__read_instant(wh__json_member(json, "deadline"), &job->deadline) &&
	       wh__read_instant(wh__json_member(json, "finished_at"), &job->finished_at) &&
	       wh__read_duration(wh__json_member(json, "time_to_run"), &job->time_to_run_ns) &&
	       wh__read_duration(wh__json_member(json, "retention"), &job->retention_ns) &&
	       take_errors(wh__json_member(json, "errors"), errors, strings) &&
	       take_result(job, wh__json_member(json, "result"), strings) && !strings->wrong;
}

/* One allocation: the struct, its errors, the text, its strings. 0; -ENOMEM; -WH_EHTTP_SYNTAX. */
static int64_t read_job(struct wh_slice json, struct wh_slice etag, struct wh_job **ret)
{
	struct wh_slice at = {NULL, 0}, errors = wh__json_member(json, "errors");
	struct wh_job_error *first;
	struct strings strings;
	struct wh_job *job;
	size_t count = 0;
	char *text;

	while (wh__json_next(errors, &at))
		count++;
	job = calloc(1, sizeof(*job) + count * sizeof(*first) + 2 * (json.len + 1) + etag.len + 1);
	if (!job)
		return -ENOMEM;
	first = (struct wh_job_error *)(void *)(job + 1);
	text = (char *)(first + count);
	memcpy(text, json.data ? json.data : "", json.len);
	strings = (struct strings){.at = text + json.len + 1};
	if (!json.data || !take_members(job, json, first, &strings)) {
		free(job);
		return -WH_EHTTP_SYNTAX;
	}
	job->json = text;
	job->etag = strings.at;
	if (etag.len > 0)
		memcpy(strings.at, etag.data, etag.len); /* the rest is zero */
	job->errors = first;
	job->error_count = count;
	*ret = job;
	return 0;
}

static void looked(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_job *job = NULL;
	int64_t error = response->status == 200 ? read_job(wh__body_json(response),
	                                                   wh_http_response_header(response, "ETag"), &job)
	                                        : -WH_EHTTP_SYNTAX;

	if (error == -ENOMEM) {
		wh__ask_out_of_memory(ask, response);
	} else if (error != 0) {
		wh__ask_garbled(ask, response);
	} else if (!wh_job_is_finished(job->state) && wh__ask_is_waiting(ask)) {
		wh_job_free(job);
		wh_http_response_free(response);
		wh__ask_again(ask);
	} else {
		wh_http_response_free(response);
		wh__ask_end(ask, job->state, job, dispose);
	}
}

static void edited(struct wh__ask *ask, struct wh_http_response *response)
{
	if (wh__ask_receipt(ask, response))
		looked(ask, response);
	else
		wh__ask_garbled(ask, response);
}

static struct wh__ask *ask_about(wh_client *client, const char *method, uint64_t job, const char *what,
                                 const struct wh_how *how, wh__ask_answer *answer, wh_future *ret_failed)
{
	struct wh__ask *ask = wh__ask_new(client, method, how, answer, ret_failed);

	if (!ask)
		return NULL;
	ask->job = job;
	wh__ask_path(ask, "/v1/jobs/");
	wh__ask_number(ask, job);
	wh__ask_path(ask, what);
	return ask;
}

wh_future wh_client_wait(wh_client *client, uint64_t job, int64_t wait_ns, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_about(client, "GET", job, "", how, looked, &failed);

	if (!ask)
		return failed;
	wh__ask_wait(ask, wait_ns);
	return wh__ask_start(ask);
}

wh_future wh_client_look(wh_client *client, uint64_t job, const struct wh_how *how)
{
	return wh_client_wait(client, job, 0, how);
}

wh_future wh_client_cancel(wh_client *client, uint64_t job, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_about(client, "DELETE", job, "", how, wh__answer_state, &failed);

	return ask ? wh__ask_start(ask) : failed;
}

wh_future wh_client_kick(wh_client *client, uint64_t job, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_about(client, "POST", job, "/kick", how, wh__answer_state, &failed);

	return ask ? wh__ask_start(ask) : failed;
}

/* ---- edit -------------------------------------------------------------------------------- */

/* null: as if it had been submitted without. */
static void put_duration(struct wh__text *json, const char *name, int64_t ns, bool is_null)
{
	if (!is_null) {
		wh__member_duration(json, name, ns);
		return;
	}
	wh__member(json, name);
	wh__text_str(json, "null");
}

/* An instant or a time from now on; neither: null. */
static void put_when(struct wh__text *json, const char *name, int64_t at, const char *name_from_now,
                     int64_t ns)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	if (at <= 0) {
		put_duration(json, ns > 0 ? name_from_now : name, ns, ns <= 0);
		return;
	}
	wh__member(json, name);
	wh__text_format(json, "\"%.*s\"", (int)wh__put_instant(instant, at), instant);
}

void wh__put_edit(struct wh__text *json, const struct wh_edit *edit)
{
	if (edit->fields & WH_EDIT_PRIORITY) {
		wh__member(json, "priority");
		wh__text_u64(json, edit->priority);
	}
	if (edit->fields & WH_EDIT_RUN_AT)
		put_when(json, "run_at", edit->run_at, "delay", edit->delay_ns);
	if (edit->fields & WH_EDIT_TIME_TO_RUN)
		put_duration(json, "time_to_run", edit->time_to_run_ns, edit->time_to_run_ns == 0);
	if (edit->fields & WH_EDIT_ATTEMPTS) {
		wh__member(json, "attempts_max");
		if (edit->attempts > 0)
			wh__text_u64(json, edit->attempts);
		else
			wh__text_str(json, "null");
	}
	if (edit->fields & WH_EDIT_RETENTION)
		put_duration(json, "retention", edit->retention_ns > 0 ? edit->retention_ns : 0,
		             edit->retention_ns == 0);
	if (edit->fields & WH_EDIT_EXPIRES)
		put_when(json, "expires_at", edit->expires_at, "expires", edit->expires_ns);
}

wh_future wh_client_edit(wh_client *client, uint64_t job, const struct wh_edit *edit,
                         const struct wh_how *how)
{
	static const char type[] = "application/merge-patch+json";
	wh_future failed;
	struct wh__ask *ask = ask_about(client, "PATCH", job, "", how, edited, &failed);
	struct wh__text json;
	size_t len;

	if (!ask)
		return failed;
	wh__text_init(&json, NULL, 0);
	wh__text_put(&json, "{", 1);
	wh__put_edit(&json, edit);
	wh__text_put(&json, "}", 1);
	wh__ask_field(ask, "Content-Type", type, sizeof(type) - 1);
	if (edit->if_match)
		wh__ask_field(ask, "If-Match", edit->if_match, strlen(edit->if_match));
	len = json.len;
	if (!wh__ask_bytes(ask, wh__text_take(&json), len))
		return wh__ask_refuse(ask, -ENOMEM);
	return wh__ask_start(ask);
}
