/* src/front/api_edit.c -- PATCH /v1/jobs/{id}: other values for a job that is there already, as a JSON merge patch (RFC 7396).
 *
 * The members are those that a look at the job shows, and beside the instants what counts from now on. null is what a job has that was
 * submitted without them. If-Match holds in the commit itself: between the look and the change nobody comes in.
 */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "front/api.h"
#include "front/json_words.h"

#define DAY_NS     (INT64_C(86400) * WH_NS_PER_S)
#define PATCH_TYPE "application/merge-patch+json"

enum form { FORM_NUMBER, FORM_DURATION, FORM_INSTANT };

/* What may be said; two members of one field are two ways to say the same. */
static const struct member {
	const char *name;
	unsigned field;
	enum form form;
	int64_t min, max, absent; /* absent: what null means */
} members[] = {
	{"priority", STORE_EDIT_PRIORITY, FORM_NUMBER, 0, UINT32_MAX, JOB_PRIORITY_DEFAULT},
	{"run_at", STORE_EDIT_RUN_AT, FORM_INSTANT, 0, 0, 0},
	{"delay", STORE_EDIT_RUN_AT, FORM_DURATION, 0, 3650 * DAY_NS, 0},
	{"time_to_run", STORE_EDIT_TIME_TO_RUN, FORM_DURATION, WH_NS_PER_MS, 30 * DAY_NS, 0},
	{"attempts_max", STORE_EDIT_ATTEMPTS, FORM_NUMBER, 1, JOB_ATTEMPTS_MAX, 0},
	{"retention", STORE_EDIT_RETENTION, FORM_DURATION, 0, 3650 * DAY_NS, 0},
	{"expires_at", STORE_EDIT_EXPIRES, FORM_INSTANT, 0, 0, 0},
	{"expires", STORE_EDIT_EXPIRES, FORM_DURATION, WH_NS_PER_MS, 3650 * DAY_NS, 0},
};
enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

/* What a job shows and nobody changes. */
static const char *const fixed[] = {
	"id",           "queue",       "state",  "attempts", "created_at",
	"deadline",     "finished_at", "unique", "group",    "dead_from",
	"content_type", "traceparent", "bytes",  "progress", "cancel_requested",
	"errors",       "result",
};

/* ---- the body ---------------------------------------------------------------------------- */

static bool refuse(struct request *request, enum problem problem, const char *name, const char *how)
{
	answer_problem(request->api, request->x, problem, NULL, "\"%.60s\" %s", name, how);
	return false;
}

static bool out_of_range(struct request *request, const struct member *member)
{
	char range[100], low[WH__DURATION_TEXT_BYTES], high[WH__DURATION_TEXT_BYTES];

	if (member->form == FORM_DURATION)
		snprintf(range, sizeof(range), "must be from %.*s to %.*s",
		         (int)wh__put_duration(low, member->min), low,
		         (int)wh__put_duration(high, member->max), high);
	else
		snprintf(range, sizeof(range), "must be from %lld to %lld", (long long)member->min,
		         (long long)member->max);
	return refuse(request, PROBLEM_BAD_VALUE, member->name, range);
}

static bool read_value(struct request *request, const struct member *member, const json_t *json, int64_t *ret)
{
	const char *text = json_string_value(json);
	size_t len = json_string_length(json);

	*ret = member->absent;
	if (json_is_null(json))
		return true;
	switch (member->form) {
	case FORM_NUMBER:
		if (!json_is_integer(json))
			return refuse(request, PROBLEM_BAD_JSON, member->name,
			              "must be a whole number or null");
		*ret = json_integer_value(json);
		break;
	case FORM_DURATION:
		if (!text || !wh__parse_duration(text, len, ret))
			return refuse(request, PROBLEM_BAD_JSON, member->name,
			              "must be a duration with its unit, such as \"30s\", or null");
		break;
	case FORM_INSTANT:
		if (!text || !wh__parse_instant(text, len, ret))
			return refuse(request, PROBLEM_BAD_JSON, member->name,
			              "must be an instant as in RFC 3339 before the year 2262, such as "
			              "\"2026-11-23T20:00:00Z\", "
			              "or null");
		*ret = *ret > 0 ? *ret : 1; /* long ago is not the same as never */
		return true;
	}
	return (*ret >= member->min && *ret <= member->max) || out_of_range(request, member);
}

static void set(struct store_edit *edit, const struct member *member, int64_t value, bool is_null)
{
	edit->fields |= member->field;
	switch (member->field) {
	case STORE_EDIT_PRIORITY:
		edit->priority = (uint32_t)value;
		break;
	case STORE_EDIT_RUN_AT:
		*(member->form == FORM_INSTANT ? &edit->run_at : &edit->delay_ns) = value;
		break;
	case STORE_EDIT_TIME_TO_RUN:
		edit->time_to_run_ns = value;
		break;
	case STORE_EDIT_ATTEMPTS:
		edit->attempts_max = (uint32_t)value;
		break;
	case STORE_EDIT_RETENTION:
		edit->retention_ns = value == 0 && !is_null ? -1 : value;
		break;
	default:
		*(member->form == FORM_INSTANT ? &edit->expires_at : &edit->expires_ns) = value;
	}
}

static const struct member *find_member(struct request *request, const char *name)
{
	for (size_t i = 0; i < MEMBERS; i++)
		if (strcmp(name, members[i].name) == 0)
			return &members[i];
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (strcmp(name, fixed[i]) != 0)
			continue;
		refuse(request, PROBLEM_BAD_VALUE, name,
		       strcmp(name, "queue") == 0
		               ? "is not changed so: POST /v1/queues/{queue}/move moves jobs"
		       : strcmp(name, "attempts") == 0
		               ? "are those that have been begun; \"attempts_max\" says how many there may be"
		               : "of a job is not changed");
		return NULL;
	}
	refuse(request, PROBLEM_BAD_JSON, name,
	       "is no member of a job; known: priority, run_at, delay, time_to_run, attempts_max, retention, "
	       "expires_at, expires");
	return NULL;
}

static bool read_members(struct request *request, json_t *json, struct store_edit *edit)
{
	const char *name;
	json_t *value;

	if (!json_is_object(json)) {
		answer_problem(request->api, request->x, PROBLEM_BAD_JSON, NULL,
		               "a merge patch of a job is a JSON object");
		return false;
	}
	json_object_foreach(json, name, value)
	{
		const struct member *member = find_member(request, name);
		int64_t number;

		if (!member)
			return false;
		if (edit->fields & member->field)
			return refuse(request, PROBLEM_BAD_JSON, name,
			              "and another member are two ways to say the same: give one of them");
		if (!read_value(request, member, value, &number))
			return false;
		set(edit, member, number, json_is_null(value));
	}
	return true;
}

static bool read_patch(struct request *request, struct store_edit *edit)
{
	struct wh_slice body = request_body(request);
	json_error_t error;
	char where[64];
	json_t *json;
	bool good;

	if (request->content_type.data && !request_is_type(request->content_type, PATCH_TYPE) &&
	    !request_is_type(request->content_type, "application/json")) {
		wh_http_set(request->x, "Accept-Patch", PATCH_TYPE);
		answer_problem(request->api, request->x, PROBLEM_WRONG_CONTENT_TYPE, NULL,
		               "Content-Type: '%.*s' is not " PATCH_TYPE,
		               (int)(request->content_type.len < 100 ? request->content_type.len : 100),
		               request->content_type.data);
		return false;
	}
	json = json_loadb(body.data ? body.data : "", body.len, JSON_REJECT_DUPLICATES, &error);
	if (!json) {
		snprintf(where, sizeof(where), ",\"line\":%d,\"column\":%d", error.line, error.column);
		answer_problem(request->api, request->x, PROBLEM_BAD_JSON, where, "line %d, column %d: %s",
		               error.line, error.column, json_words(&error));
		return false;
	}
	good = read_members(request, json, edit);
	json_decref(json);
	return good;
}

/* ---- If-Match ---------------------------------------------------------------------------- */

/* A list of tags; ours are versions in hexadecimal. Compared strongly: a weak one is none of ours. */
const char *api_edit_match(struct wh_slice tags, struct store_edit *edit)
{
	const char *at = tags.data, *end;

	if (!at || (tags.len == 1 && *at == '*'))
		return NULL;
	end = at + tags.len;
	edit->conditional = true;
	while (at < end) {
		const char *close = *at == '"' ? memchr(at + 1, '"', (size_t)(end - at - 1)) : NULL;
		uint64_t version;

		if (!close) { /* a blank, a comma, what makes a tag weak; the tag behind that is passed over */
			bool weak = end - at > 2 && at[0] == 'W' && at[1] == '/' && at[2] == '"';

			close = weak ? memchr(at + 3, '"', (size_t)(end - at - 3)) : at;
			if (!close || *at == 0 || (!weak && !strchr(" \t,", *at)))
				return "is not a list of entity tags";
		} else if (edit->versions_count == STORE_EDIT_VERSIONS_MAX) {
			return "has more than 8 entity tags";
		} else if (api_parse_version(at + 1, (size_t)(close - at - 1), &version)) {
			edit->versions[edit->versions_count++] = version;
		}
		at = close + 1;
	}
	return NULL;
}
_Static_assert(STORE_EDIT_VERSIONS_MAX == 8, "as it is told");

static bool read_if_match(struct request *request, struct store_edit *edit)
{
	size_t count = request->if_match ? wh_http_field_count(request->x) : 0;

	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(request->x, i);
		const char *why = wh_slice_equal_caseless(field.name, "If-Match")
		                          ? api_edit_match(field.value, edit)
		                          : NULL;

		if (why) {
			answer_problem(
				request->api, request->x, PROBLEM_BAD_REQUEST, NULL, "If-Match: '%.*s' %s",
				(int)(field.value.len < 100 ? field.value.len : 100), field.value.data, why);
			return false;
		}
	}
	return true;
}

bool api_parse_version(const char *text, size_t len, uint64_t *ret)
{
	uint64_t version = 0;

	if (len == 0 || len > 16)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
			return false;
		version = version << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	*ret = version;
	return true;
}

/* ---- the call ---------------------------------------------------------------------------- */

const char api_edit_states[] =
	"run_at is changed of a job that is delayed or ready, expires_at of one that has not "
	"been begun";
const char api_edit_attempts[] =
	"attempts_max must leave room for the attempts begun, and one more if the job waits";

static void edited(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int64_t code = res.n < 0 ? res.n : commit->error;
	const char *reason = res.n < 0 ? NULL : commit->reason;

	(void)loop;
	if (code == 0)
		answer_committed(call->x, commit->level, commit->position);
	if (res.n >= 0)
		store_commit_free(commit);
	if (code == -JOB_EVALUE)
		reason = api_edit_attempts;
	if (code == 0)
		call_finish(call, JOB_NONE); /* as it is now */
	else
		call_refuse(call, code, code == -JOB_ESTATE ? api_edit_states : reason);
}

void api_job_edit(struct request *request)
{
	struct store_action action = {.kind = STORE_EDIT, .job = request->job};
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level) ||
	    !read_if_match(request, &action.edit) || !read_patch(request, &action.edit))
		return;
	call = call_new(request, CALL_POLL);
	if (call)
		call_then(call, store_apply(request->api->store, &action, 1, 0, level), edited);
}
