/* src/front/api_many.c -- many jobs of a queue: POST /v1/queues/{queue}/purge and /kick, GET /v1/queues/{queue}/jobs.
 *
 * The store goes through them in steps, so the answer may take a while, and other requests are served meanwhile; a client that
 * leaves does not stop it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "front/api.h"

enum { STATE, FROM, UNTIL, COUNT, OPTIONS };
enum { LIST_DEFAULT = 100, LIST_MAX = 1000 };

#define BIT(state) (1u << (state))
#define WAITING    (BIT(JOB_DELAYED) | BIT(JOB_READY) | BIT(JOB_BURIED))
#define FINISHED   (BIT(JOB_DONE) | BIT(JOB_FAILED) | BIT(JOB_CANCELLED))

static const struct option known[OPTIONS] = {
	[STATE] = {"state", OPTION_TEXT, 0, 0, false, 0, ""},
	[FROM] = {"from", OPTION_NUMBER, 1, JOB_ID_MAX, false, 0, ""},
	[UNTIL] = {"until", OPTION_NUMBER, 1, JOB_ID_MAX, false, 0, ""},
	[COUNT] = {"count", OPTION_NUMBER, 1, INT64_MAX, false, 0, ""},
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

	snprintf(subject, sizeof(subject), "queue '%.*s'", (int)call->name_len, call->name);
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

static void do_many(struct request *request, struct store_many *many, unsigned allowed)
{
	struct option options[OPTIONS];
	struct call *call;
	int level;

	memcpy(options, known, sizeof(known));
	if (!request_level(request, true, &level) || !request_options(request, options, OPTIONS) ||
	    !read_states(request, &options[STATE], allowed, &many->states))
		return;
	many->queue = request_queue(request);
	many->id_min = (uint64_t)options[FROM].value;
	many->id_max = (uint64_t)options[UNTIL].value;
	many->count_max = (uint64_t)options[COUNT].value;
	if (many->kind == STORE_CANCEL && many->states == 0)
		many->states = WAITING;
	if ((many->states & WAITING) && (many->states & FINISHED)) {
		answer_problem(
			request->api, request->x, PROBLEM_BAD_VALUE, NULL,
			"query: state: waiting jobs are cancelled, finished ones forgotten: ask for one "
			"or the other");
		return;
	}
	if (many->states & FINISHED)
		many->kind = STORE_DELETE;
	call = call_new(request, CALL_OTHER);
	if (call)
		call_then(call, store_do_many(request->api->store, many), done_many);
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
	struct option options[] = {{"state", OPTION_TEXT, 0, 0, false, 0, ""},
	                           {"limit", OPTION_NUMBER, 1, LIST_MAX, false, LIST_DEFAULT, ""},
	                           {"after", OPTION_NUMBER, 1, UINT32_MAX, false, 0, ""}};
	unsigned states;
	struct call *call;
	int level;

	if (!request_level(request, false, &level) || !request_options(request, options, 3) ||
	    !read_states(request, &options[0], ~0u, &states))
		return;
	call = call_new(request, CALL_OTHER);
	if (call)
		call_then(call,
		          store_list(request->api->store, request_queue(request), states ? states : ~1u,
		                     (uint32_t)options[2].value, (uint32_t)options[1].value),
		          listed);
}
