/* src/front/api_many.c -- many jobs of a queue: POST /v1/queues/{queue}/purge, /kick, /replay and /move, GET /v1/queues/{queue}/jobs.
 *
 * The store goes through them in steps, so the answer may take a while, and other requests are served meanwhile; a client that
 * leaves does not stop it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "deliver/service.h"
#include "front/own.h"

enum { STATE, FROM, UNTIL, DEAD, ERROR, OLDER, NEWER, CHOICES, COUNT = CHOICES, TO, OPTIONS };
enum { LIST_DEFAULT = 100, LIST_MAX = 1000 };

#define DAY_NS     (INT64_C(86400) * WH_NS_PER_S)
#define BIT(state) (1u << (state))
#define WAITING    (BIT(JOB_DELAYED) | BIT(JOB_READY) | BIT(JOB_BURIED) | BIT(JOB_AWAITING))
#define FINISHED   (BIT(JOB_DONE) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED))

static const struct option known[OPTIONS] = {
	[STATE] = {"state", OPTION_TEXT, 0, 0, false, 0, ""},
	[FROM] = {"from", OPTION_NUMBER, 1, JOB_ID_MAX, false, 0, ""},
	[UNTIL] = {"until", OPTION_NUMBER, 1, JOB_ID_MAX, false, 0, ""},
	[DEAD] = {"dead", OPTION_FLAG, 0, 0, false, 0, ""},
	[ERROR] = {"error", OPTION_TEXT, 0, 0, false, 0, ""},
	[OLDER] = {"older", OPTION_DURATION, WH_NS_PER_MS, 3650 * DAY_NS, false, 0, ""},
	[NEWER] = {"newer", OPTION_DURATION, WH_NS_PER_MS, 3650 * DAY_NS, false, 0, ""},
	[COUNT] = {"count", OPTION_NUMBER, 1, INT64_MAX, false, 0, ""},
	[TO] = {"to", OPTION_TEXT, 0, 0, false, 0, ""},
};

/* "failed,buried" as bits; false: refused and answered. */
static bool read_states(struct request *request, const struct option *option, unsigned allowed, unsigned *ret)
{
	const char *at = option->text;
	unsigned states = 0;

	while (option->given) {
		size_t len = strcspn(at, ",");
		int state = JOB_DELAYED;

		while (state < JOB_STATES &&
		       (strlen(answer_state(state)) != len || memcmp(answer_state(state), at, len) != 0))
			state++;
		if (state == JOB_STATES || !(allowed & BIT(state))) {
			answer_problem(request->api, request->x,
			               len == 0 ? PROBLEM_BAD_REQUEST : PROBLEM_BAD_VALUE, NULL,
			               "query: state: '%.*s' is no state that this is for", (int)len, at);
			return false;
		}
		states |= BIT(state);
		if (at[len] == 0)
			break;
		at += len + 1;
	}
	*ret = states;
	return true;
}

static void refused(struct call *call, int64_t error, const char *reason)
{
	char subject[TARGET_NAME_BYTES_MAX + 20];

	snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
	answer_error(call->api, call->x, error, reason, JOB_NONE, subject);
	call_end(call);
}

static void done_many(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	char body[40];
	int n;

	(void)loop;
	if (res.n < 0) {
		refused(call, res.n, NULL);
		return;
	}
	n = snprintf(body, sizeof(body), "{\"count\":%llu}\n", (unsigned long long)commit->results[0].count);
	answer_committed(call->x, commit->level, commit->position);
	answer_bytes(call->api, call->x, 200, "application/json", body, (size_t)n);
	store_commit_free(commit);
	call_end(call);
}

/* Text of one line, or of several. */
static bool is_text(struct request *request, const struct option *option)
{
	for (int64_t i = 0; i < option->value; i++) {
		uint8_t c = (uint8_t)option->text[i];

		if ((c >= 0x20 && c != 0x7f) || c == '\t' || c == '\n' || c == '\r')
			continue;
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "query: %s has a control character", option->name);
		return false;
	}
	return true;
}

/* Which jobs, as the query says it. */
static bool read_choice(struct request *request, const struct option options[CHOICES], unsigned allowed,
                        struct store_many *many)
{
	many->queue = request_queue(request);
	many->id_min = (uint64_t)options[FROM].value;
	many->id_max = (uint64_t)options[UNTIL].value;
	many->dead = options[DEAD].value;
	many->error = (struct store_slice){options[ERROR].text, (size_t)options[ERROR].value};
	many->older_ns = options[OLDER].value;
	many->newer_ns = options[NEWER].value;
	return is_text(request, &options[ERROR]) &&
	       read_states(request, &options[STATE], allowed, &many->states);
}

static bool bad_ids(struct request *request, const char *what)
{
	answer_problem(request->api, request->x, PROBLEM_BAD_JSON, NULL, "%s; wanted is {\"ids\": [17, 18]}",
	               what);
	return false;
}

/* {"ids": [...]}, or no body. *ret_ids is freed by the caller. */
static bool read_ids(struct request *request, struct store_many *many, uint64_t **ret_ids)
{
	struct wh_slice body = request_body(request);
	json_t *json, *list, *value;
	uint64_t *ids = NULL;
	size_t count, i;
	bool good = true;

	if (body.len == 0)
		return true;
	if (!request_json(request))
		return false;
	json = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
	list = json_object_get(json, "ids");
	count = json_array_size(list);
	if (count > 0 && count <= STORE_MANY_IDS_MAX)
		ids = malloc(count * sizeof(ids[0]));
	if (!json_is_array(list) || json_object_size(json) != 1)
		good = bad_ids(request, "the body is not an object with a list of ids and nothing else");
	else if (count == 0 || count > STORE_MANY_IDS_MAX)
		good = bad_ids(request, "the body must hold 1 to 10000 ids");
	else if (!ids)
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	good = good && ids;
	json_array_foreach(list, i, value)
	{
		if (!good)
			break;
		ids[i] = (uint64_t)json_integer_value(value);
		if (!json_is_integer(value) || ids[i] == 0 || ids[i] > JOB_ID_MAX)
			good = bad_ids(request, "the id of a job is a whole number from 1 to 2^53 - 1");
	}
	json_decref(json);
	if (!good) {
		free(ids);
		return false;
	}
	many->ids = *ret_ids = ids;
	many->ids_count = count;
	return true;
}

/* Whoever sends jobs to a queue must be one who may submit to it. */
static bool may_send(struct request *request, struct wh_slice queue)
{
	const struct token *token = request->api->tokens ? authorize_who(request->api, request->x) : NULL;

	if (!request->api->tokens || (token && authorize_allows(token, TOKEN_SUBMIT, queue)))
		return true;
	if (token)
		authorize_refuse(request->api, request->x, token, TOKEN_SUBMIT, queue, NULL);
	else /* it was taken away while the body came */
		answer_problem(request->api, request->x, PROBLEM_NO_TOKEN, NULL,
		               "the token that was shown is not known here");
	return false;
}

/* Where they go; only jobs of people go to queues of people. */
static bool read_target(struct request *request, const struct option *to, char name[TARGET_NAME_BYTES_MAX],
                        struct store_many *many)
{
	size_t len;

	if (!to->given && many->kind == STORE_MOVE) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "query: to is missing: the queue that the jobs go to");
		return false;
	}
	if (!to->given)
		return true;
	if (!is_text(request, to))
		return false;
	if (namespace_name(request->namespace, (struct wh_slice){to->text, (size_t)to->value}, name, &len)) {
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "query: to must be 1 to 200 bytes of A-Z a-z 0-9 - + / ; . $ _ ( ), the first "
		               "not '-'");
		return false;
	}
	many->to = (struct store_slice){name, len};
	if (service_owns_queue(name, len) || service_owns_queue(request->name, request->name_len)) {
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "query: to: jobs of the server's own queues, callbacks and those that begin "
		               "with call/, "
		               "topic/ or callbacks/, stay there, and no others come to them");
		return false;
	}
	if (!may_send(request, (struct wh_slice){name, len}))
		return false;
	if (len == request->name_len && memcmp(name, request->name, len) == 0) {
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "query: to is the queue that they are in");
		return false;
	}
	return true;
}

static void do_many(struct request *request, struct store_many *many, unsigned allowed)
{
	bool moves = many->kind == STORE_MOVE || many->kind == STORE_REPLAY;
	struct option options[OPTIONS];
	char to[TARGET_NAME_BYTES_MAX];
	uint64_t *ids = NULL;
	struct call *call;
	int level;

	memcpy(options, known, sizeof(known));
	if (own_refused(request, OWN_JOBS) || !request_level(request, true, &level) ||
	    !request_options(request, options, moves ? OPTIONS : TO) ||
	    !read_choice(request, options, allowed, many) || !read_target(request, &options[TO], to, many) ||
	    !read_ids(request, many, &ids))
		return;
	many->count_max = (uint64_t)options[COUNT].value;
	if (many->kind == STORE_CANCEL && many->states == 0)
		many->states = WAITING;
	if (!moves && (many->states & WAITING) && (many->states & FINISHED)) {
		answer_problem(
			request->api, request->x, PROBLEM_BAD_VALUE, NULL,
			"query: state: waiting jobs are cancelled, finished ones forgotten: ask for one "
			"or the other");
		free(ids);
		return;
	}
	if (many->kind == STORE_CANCEL && (many->states & FINISHED))
		many->kind = STORE_DELETE;
	call = call_new(request, CALL_OTHER);
	if (call)
		call_then(call, store_do_many(request->api->store, many), done_many);
	free(ids);
}

void api_queue_purge(struct request *request)
{
	struct store_many many = {.kind = STORE_CANCEL};

	do_many(request, &many, WAITING | FINISHED);
}

void api_queue_kick(struct request *request)
{
	struct store_many many = {.kind = STORE_KICK};

	do_many(request, &many, BIT(JOB_BURIED) | BIT(JOB_DELAYED));
}

void api_queue_replay(struct request *request)
{
	struct store_many many = {.kind = STORE_REPLAY};

	do_many(request, &many, (WAITING & ~BIT(JOB_AWAITING)) | BIT(JOB_FAILED));
}

void api_queue_move(struct request *request)
{
	struct store_many many = {.kind = STORE_MOVE};

	do_many(request, &many, WAITING);
}

/* ---- a list ------------------------------------------------------------------------------ */

static void put_listed(struct wh__text *text, const struct store_listed *job)
{
	static const char *const names[JOB_STATES] = {[JOB_DELAYED] = "run_at",
	                                              [JOB_RUNNING] = "deadline",
	                                              [JOB_DONE] = "expires_at",
	                                              [JOB_FAILED] = "expires_at",
	                                              [JOB_CANCELLED] = "expires_at"};
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_format(text, "{\"id\":%llu,\"state\":\"%s\",\"priority\":%u,\"attempts\":%u",
	                (unsigned long long)job->job, answer_state(job->state), job->priority, job->attempts);
	if (names[job->state])
		wh__text_format(text, ",\"%s\":\"%.*s\"", names[job->state],
		                (int)wh__put_instant(instant, job->at), instant);
	if (job->cancel_requested)
		wh__text_str(text, ",\"cancel_requested\":true");
	if (job->dead)
		wh__text_str(text, ",\"dead\":true");
	wh__text_put(text, "}", 1);
}

static void listed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_list *list = res.ptr;
	char given[4096];
	struct wh__text text;

	(void)loop;
	if (res.n < 0) {
		refused(call, res.n, NULL);
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "{\"jobs\":[");
	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			wh__text_put(&text, ",", 1);
		put_listed(&text, &list->jobs[i]);
	}
	wh__text_str(&text, "],\"next\":");
	if (list->next)
		wh__text_format(&text, "\"%u\"}\n", list->next);
	else
		wh__text_str(&text, "null}\n");
	answer_text(call->api, call->x, 200, "application/json", &text);
	store_list_free(list);
	call_end(call);
}

void api_queue_jobs(struct request *request)
{
	enum { LIMIT = CHOICES, AFTER, LIST_OPTIONS };
	struct option options[LIST_OPTIONS];
	struct store_many which = {0};
	struct call *call;
	int level;

	memcpy(options, known, CHOICES * sizeof(known[0]));
	options[LIMIT] = (struct option){"limit", OPTION_NUMBER, 1, LIST_MAX, false, LIST_DEFAULT, ""};
	options[AFTER] = (struct option){"after", OPTION_NUMBER, 1, UINT32_MAX, false, 0, ""};
	if (!request_level(request, false, &level) || !request_options(request, options, LIST_OPTIONS) ||
	    !read_choice(request, options, ~0u, &which))
		return;
	if (which.states == 0)
		which.states = ~1u;
	call = call_new(request, CALL_OTHER);
	if (call)
		call_then(call,
		          store_list_some(request->api->store, &which, (uint32_t)options[AFTER].value,
		                          (uint32_t)options[LIMIT].value),
		          listed);
}
