/* src/front/api_submit.c -- POST /v1/queues/{queue}/jobs: one job, or a batch of them as one commit.
 *
 * The path of most requests: one pass over the header fields, no JSON library, one small allocation for what is
 * left to do when the commit has reached its level.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "deliver/trace.h"
#include "front/after.h"
#include "front/api.h"
#include "front/batch.h"
#include "front/once.h"

#define DAY_NS (INT64_C(86400) * WH_NS_PER_S)

enum { ANSWER_BATCH, ANSWER_LINES };
enum { LINE_BYTES_MAX = 32 };

static void subject(const struct call *call, char *to, size_t len)
{
	snprintf(to, len, "queue '%.*s'", SHOWN(call));
}

static void refused(struct call *call, wh_res res)
{
	const struct store_commit *commit = res.n < 0 ? NULL : res.ptr;
	int64_t error = commit ? commit->error : res.n;
	char text[TARGET_NAME_BYTES_MAX + 60], members[40] = "";

	subject(call, text, sizeof(text));
	if ((error == -JOB_EAWAITED || error == -JOB_EAWAITED_FULL) && call->job != 0) {
		snprintf(members, sizeof(members), ",\"awaited\":%llu", (unsigned long long)call->job);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ": after=%llu",
		         (unsigned long long)call->job);
	}
	answer_commit_refused(call, res, call_queue(call), members, text);
	call_end(call);
}

static bool was_refused(struct call *call, wh_res res)
{
	struct store_commit *commit = res.n < 0 ? NULL : res.ptr;

	if (commit && commit->error == 0)
		return false;
	if (commit)
		call->job = commit->results[commit->failed].job;
	refused(call, res);
	store_commit_free(commit);
	return true;
}

static void submitted(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int state;

	if (was_refused(call, res))
		return;
	once_told(call->x, commit);
	call->job = commit->results[0].job;
	call->level = (int8_t)commit->level;
	call->position = commit->position;
	state = commit->results[0].state;
	call->duplicate = commit->results[0].duplicate;
	callback_begin(call->api, commit);
	store_commit_free(commit);
	if (call->prefer.wait) {
		call_wait_finished(call);
		return;
	}
	call_accepted(call, state);
	call_end(call);
}

/* ---- many ---------------------------------------------------------------------------------- */

/* Which jobs of a batch are told of: call->arg. Behind each that is there is the callback's own job, which is nobody's business. */
struct told {
	size_t count; /* jobs */
	bool of[];
};

/* The id of each job of a batch, and its callback, if it has one, begun. *at: where its results are, 0 at first. */
static uint64_t next_id(struct call *call, const struct store_commit *commit, size_t nth, size_t *at)
{
	const struct told *told = call->arg;
	uint64_t id = commit->results[(*at)++].job;

	if (told && told->of[nth]) {
		/* one that was there before waits already, or has been told */
		if (!commit->replayed)
			push_callback(call->api->push, id, commit->results[*at].job);
		(*at)++;
	}
	return id;
}

static void answer_ids(struct call *call, const struct store_commit *commit)
{
	const struct told *told = call->arg;
	size_t count = told ? told->count : commit->count, at = 0;
	char given[4096];
	struct wh__text text;
	bool lines = call->action == ANSWER_LINES;
	char *to;

	wh__text_init(&text, given, sizeof(given));
	to = wh__text_room(&text, count * (lines ? LINE_BYTES_MAX : 12));
	for (size_t i = 0; i < count; i++) {
		uint64_t id = next_id(call, commit, i, &at);

		if (!to)
			continue;
		if (lines) {
			memcpy(to, "{\"id\":", 6);
			to += 6;
			to += wh__put_u64(to, id);
			memcpy(to, "}\n", 2);
			to += 2;
		} else {
			batch_put_u32(to, 8);
			batch_put_u64(to + 4, id);
			to += 12;
		}
	}
	if (to)
		text.len = (size_t)(to - text.data);
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, 202, lines ? BATCH_LINES : BATCH_TYPE, &text);
}

static void submitted_many(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;

	if (was_refused(call, res))
		return;
	once_told(call->x, res.ptr);
	answer_ids(call, res.ptr);
	store_commit_free(res.ptr);
	call_end(call);
}

/* Jobs that differ in their payload, and in who is told of their end, only: under a key or with callbacks. */
static wh_future submit_each(struct request *request, const struct store_submit *options,
                             const struct batch *batch, const struct callback_urls *urls, int level,
                             struct once *once)
{
	struct store_action *actions = calloc(batch->count + urls->count, sizeof(*actions));
	wh_future future;
	size_t at = 0;

	if (!actions)
		return wh_failed(request->api->loop, -ENOMEM);
	for (size_t i = 0; i < batch->count; i++) {
		actions[at].kind = STORE_SUBMIT;
		actions[at].submit = *options;
		actions[at].submit.payload = batch->items[i];
		if (callback_url(urls, i).data)
			callback_fill(&actions[at++], 1, callback_url(urls, i));
		at++;
	}
	future = once_apply(request->api->store, actions, at, level, once);
	free(actions);
	return future;
}

/* Each callback is a job of its own. false: refused and answered. */
static bool has_room(struct request *request, const struct batch *batch, const struct callback_urls *urls)
{
	if (batch->count + urls->count <= JOB_ACTIONS_MAX)
		return true;
	if (urls->count == batch->count)
		answer_limit(request->api, request->x, PROBLEM_TOO_LARGE, JOB_ACTIONS_MAX / 2, NULL,
		             "a batch whose jobs are called back has at most %d items", JOB_ACTIONS_MAX / 2);
	else
		answer_limit(request->api, request->x, PROBLEM_TOO_LARGE, JOB_ACTIONS_MAX, NULL,
		             "a batch has at most %d items, its callbacks among them", JOB_ACTIONS_MAX);
	return false;
}

/* call->arg; false: refused, answered and ended. */
static bool keep_told(struct call *call, const struct callback_urls *urls, size_t count)
{
	struct told *told = urls->count > 0 ? malloc(sizeof(*told) + count * sizeof(told->of[0])) : NULL;

	if (urls->count > 0 && !told) {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
		return false;
	}
	call->arg = told;
	for (size_t i = 0; told && i < count; i++)
		told->of[i] = callback_url(urls, i).data != NULL;
	if (told)
		told->count = count;
	return true;
}

static void submit_batch(struct request *request, struct store_submit *submit, const struct batch *batch,
                         const struct callback_urls *urls, int level, bool lines, struct once *once)
{
	struct store *store = request->api->store;
	struct call *call = has_room(request, batch, urls) ? call_new(request, CALL_OTHER) : NULL;

	if (!call || !keep_told(call, urls, batch->count))
		return;
	call->action = lines ? ANSWER_LINES : ANSWER_BATCH;
	call_then(call,
	          once->given || urls->count > 0
	                  ? submit_each(request, submit, batch, urls, level, once)
	                  : store_submit_many(store, submit, batch->items, batch->count, level),
	          submitted_many);
}

/* url: of each; member: name of the lines' member that says another one. */
static void submit_many(struct request *request, struct store_submit *submit, struct wh_slice url,
                        const char *member, int level, bool lines, struct once *once)
{
	struct wh_slice body = request_body(request);
	struct batch batch;
	struct callback_urls urls = {.of_all = url};
	uint64_t item_max = request->api->options.payload_bytes_max;
	int wrong = lines ? batch_read_lines(&batch, body.data, body.len, item_max)
	                  : batch_read(&batch, body.data, body.len, item_max);

	if (wrong != BATCH_GOOD)
		batch_refuse(request, &batch, wrong);
	else if (callback_read_lines(request, batch.items, batch.count, member, &urls))
		submit_batch(request, submit, &batch, &urls, level, lines, once);
	callback_urls_done(&urls);
	batch_done(&batch);
}

/* ---- options ------------------------------------------------------------------------------- */

enum {
	PRIORITY,
	DELAY,
	RUN_AT,
	TIME_TO_RUN,
	ATTEMPTS,
	RETENTION,
	CONTENT_TYPE,
	EXPIRES,
	EXPIRES_AT,
	UNIQUE,
	UNIQUE_WHILE,
	GROUP,
	CALLBACK,
	CALLBACK_MEMBER,
	AFTER,
	AFTER_FAILURE,
	OPTIONS
};

static bool refuse_option(struct request *request, enum problem problem, const char *wrong)
{
	answer_problem(request->api, request->x, problem, NULL, "query: %s", wrong);
	return false;
}

static bool read_key(struct request *request, const struct option *option, struct store_slice *ret)
{
	for (int64_t i = 0; i < option->value; i++) {
		if ((uint8_t)option->text[i] >= 0x20 && option->text[i] != 0x7f)
			continue;
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "query: %s has a control character", option->name);
		return false;
	}
	*ret = (struct store_slice){option->text, (size_t)option->value};
	if (!option->given || (option->value > 0 && option->value <= JOB_KEY_MAX))
		return true;
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL, "query: %s must be 1 to %d bytes",
	               option->name, JOB_KEY_MAX);
	return false;
}

/* What few submits say. */
static bool read_policy(struct request *request, struct store_submit *submit,
                        const struct option options[OPTIONS])
{
	const struct option *unique = &options[UNIQUE], *group = &options[GROUP],
			    *scope = &options[UNIQUE_WHILE];

	if (options[EXPIRES].given && options[EXPIRES_AT].given)
		return refuse_option(request, PROBLEM_BAD_REQUEST,
		                     "expires and expires-at are two ways to say the same: give one of them");
	submit->expires_ns = options[EXPIRES].value;
	if (options[EXPIRES_AT].given)
		submit->expires_at = options[EXPIRES_AT].value > 0 ? options[EXPIRES_AT].value : 1;
	if (scope->given && !unique->given)
		return refuse_option(request, PROBLEM_BAD_REQUEST,
		                     "unique-while says nothing without unique");
	if (scope->given &&
	    !request_unique_while(scope->text, (size_t)scope->value, &submit->unique_while_ns))
		return refuse_option(request, PROBLEM_BAD_VALUE,
		                     "unique-while must be queued, active or a duration from 1ms to 3650d");
	return read_key(request, unique, &submit->unique) && read_key(request, group, &submit->group);
}

static void unknown_awaited(struct request *request, uint64_t job)
{
	char members[40];

	snprintf(members, sizeof(members), ",\"awaited\":%llu", (unsigned long long)job);
	answer_problem(request->api, request->x, PROBLEM_UNKNOWN_AWAITED, members,
	               "queue '%.*s': after=%llu: %s", SHOWN(request), (unsigned long long)job,
	               job_strerror(JOB_EAWAITED));
}

/* Of a body in pieces it is judged when that is here (upload.c), and now, so that it need not come in vain. */
static bool may_await(struct request *request, const struct store_submit *submit, struct once *once)
{
	uint64_t job = request->streamed && once->given
	                       ? 0
	                       : after_refused(request->api, request->x, submit->after, once);

	if (job != 0)
		unknown_awaited(request, job);
	return job == 0;
}

/* The jobs that it is to run after; what submit says of them points into *after. */
static bool read_after(struct request *request, struct store_submit *submit,
                       const struct option options[OPTIONS], struct after *after)
{
	const struct option *failure = &options[AFTER_FAILURE];

	if (failure->given && !options[AFTER].given)
		return refuse_option(request, PROBLEM_BAD_REQUEST,
		                     "after-failure says nothing without after");
	if (failure->given &&
	    !after_failure_read(failure->text, (size_t)failure->value, &submit->after_failure))
		return refuse_option(request, PROBLEM_BAD_VALUE,
		                     "after-failure must be cancel, bury, run or wait");
	if (!options[AFTER].given)
		return true;
	if (!after_read(options[AFTER].raw, after))
		return refuse_option(request, PROBLEM_BAD_REQUEST,
		                     "after must be ids of jobs with commas between, at most 1000 (more in a "
		                     "transaction)");
	submit->after = (struct store_slice){after->ids, after->count * sizeof(after->ids[0])};
	return true;
}

static bool read_options(struct request *request, struct store_submit *submit, struct option options[OPTIONS])
{
	static const struct option known[OPTIONS] = {
		[PRIORITY] = {"priority", OPTION_NUMBER, 0, UINT32_MAX, false, 0, ""},
		[DELAY] = {"delay", OPTION_DURATION, 0, 3650 * DAY_NS, false, 0, ""},
		[RUN_AT] = {"run-at", OPTION_INSTANT, 0, 0, false, 0, ""},
		[TIME_TO_RUN] = {"time-to-run", OPTION_DURATION, WH_NS_PER_MS, 30 * DAY_NS, false, 0, ""},
		[ATTEMPTS] = {"attempts", OPTION_NUMBER, 1, JOB_ATTEMPTS_MAX, false, 0, ""},
		[RETENTION] = {"retention", OPTION_DURATION, 0, 3650 * DAY_NS, false, 0, ""},
		[CONTENT_TYPE] = {"content-type", OPTION_TEXT, 0, 0, false, 0, ""},
		[EXPIRES] = {"expires", OPTION_DURATION, WH_NS_PER_MS, 3650 * DAY_NS, false, 0, ""},
		[EXPIRES_AT] = {"expires-at", OPTION_INSTANT, 0, 0, false, 0, ""},
		[UNIQUE] = {"unique", OPTION_TEXT, 0, 0, false, 0, ""},
		[UNIQUE_WHILE] = {"unique-while", OPTION_TEXT, 0, 0, false, 0, ""},
		[GROUP] = {"group", OPTION_TEXT, 0, 0, false, 0, ""},
		[CALLBACK] = {"callback", OPTION_TEXT, 0, 0, false, 0, ""},
		[CALLBACK_MEMBER] = {"callback-member", OPTION_TEXT, 0, 0, false, 0, ""},
		[AFTER] = {"after", OPTION_RAW, 0, 0, false, 0, ""},
		[AFTER_FAILURE] = {"after-failure", OPTION_TEXT, 0, 0, false, 0, ""},
	};

	memcpy(options, known, sizeof(known));
	if (!request_options(request, options, OPTIONS))
		return false;
	if (options[DELAY].given && options[RUN_AT].given) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "query: delay and run-at are two ways to say the same: give one of them");
		return false;
	}
	if (options[PRIORITY].given)
		submit->priority = (uint32_t)options[PRIORITY].value;
	submit->delay_ns = options[DELAY].value;
	submit->run_at = options[RUN_AT].given ? (options[RUN_AT].value > 0 ? options[RUN_AT].value : 1) : 0;
	submit->time_to_run_ns = options[TIME_TO_RUN].value;
	submit->attempts_max = (uint32_t)options[ATTEMPTS].value;
	submit->retention_ns = options[RETENTION].value;
	if (options[RETENTION].given && options[RETENTION].value == 0)
		submit->retention_ns = -1;
	if (options[CONTENT_TYPE].given)
		submit->content_type =
			(struct store_slice){options[CONTENT_TYPE].text, (size_t)options[CONTENT_TYPE].value};
	return read_policy(request, submit, options);
}

/* submit is a copy: with an option of type text it points into this function. */
static void submit_with_options(struct request *request, struct store_submit submit, int level, bool batch,
                                bool lines)
{
	struct option options[OPTIONS];
	struct after after;
	struct wh_slice queue = {request->name, request->name_len};
	struct once once;
	struct wh_slice url = {NULL, 0};
	struct call *call;

	options[CALLBACK].given = options[CALLBACK_MEMBER].given = false;
	if (request->target.query.len > 0 &&
	    (!read_options(request, &submit, options) || !read_after(request, &submit, options, &after)))
		return;
	if (options[CALLBACK].given)
		url = (struct wh_slice){options[CALLBACK].text, (size_t)options[CALLBACK].value};
	if (!callback_read(request, url, &url))
		return;
	if (options[CALLBACK_MEMBER].given && !lines) {
		refuse_option(request, PROBLEM_BAD_REQUEST,
		              "callback-member is a member of lines, of application/x-ndjson");
		return;
	}
	/* the job that has the key already has been promised to nobody else */
	if (url.data && submit.unique.len > 0) {
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "callback: not together with a unique key, whose job may be there already");
		return;
	}
	if (!once_read(request, 'q', queue, &once))
		return;
	once_mix(&once, request->target.query);
	once_mix(&once, url);
	once_mix(&once, request->content_type);
	if (!request->streamed)
		once_mix(&once, request_body(request));
	if (!may_await(request, &submit, &once))
		return;
	if (batch || lines) {
		if (submit.unique.len > 0)
			refuse_option(request, PROBLEM_BAD_REQUEST,
			              "unique is the key of one job, and a batch may hold many");
		else
			submit_many(request, &submit, url,
			            options[CALLBACK_MEMBER].given ? options[CALLBACK_MEMBER].text : NULL,
			            level, lines, &once);
		return;
	}
	call = call_new(request, CALL_SUBMIT);
	if (!call)
		return;
	call_set_wait(call, request);
	if (request->streamed || once.given) {
		struct store_action action = {.kind = STORE_SUBMIT, .submit = submit};

		if (request->streamed)
			upload_start(call, &action, NULL, url, level, &once, submitted);
		else
			call_then(call, callback_submit(request->api->store, &submit, url, level, &once),
			          submitted);
		return;
	}
	call_then(call,
	          url.data ? callback_submit(request->api->store, &submit, url, level, NULL)
	                   : store_submit(request->api->store, &submit, level),
	          submitted);
}

/* Queues that the server itself fills. */
static bool is_own_queue(struct request *request)
{
	static const struct {
		const char *prefix, *why;
	} own[] = {{SERVICE_QUEUE_PREFIX,
	            "names that begin with call/ belong to the gateway; use /call/{service}/..."},
	           {TOPIC_QUEUE_PREFIX,
	            "names that begin with topic/ belong to topics; use /v1/topics/{topic}/events"}};

	const size_t skip = job_name_skip(request->name, request->name_len);

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		size_t len = strlen(own[i].prefix);

		if (request->name_len < skip + len || memcmp(request->name + skip, own[i].prefix, len) != 0)
			continue;
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL, "queue '%.*s': %s",
		               SHOWN(request), own[i].why);
		return true;
	}
	if (!service_owns_queue(request->name, request->name_len))
		return false;
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
	               "queue '%.*s': callbacks, and what begins with callbacks/, are the server's own; use "
	               "Whilst-Callback",
	               SHOWN(request));
	return true;
}

void api_submit(struct request *request)
{
	struct wh_slice body = request_body(request);
	bool batch = request_is_type(request->content_type, BATCH_TYPE);
	bool lines = !batch && request_is_type(request->content_type, BATCH_LINES);
	struct store_submit submit = {
		.queue = request_queue(request),
		.payload = {body.data, body.len},
		.priority = JOB_PRIORITY_DEFAULT,
	};
	struct trace trace;
	int level;

	if (is_own_queue(request) || !request_level(request, false, &level))
		return;
	if (batch)
		submit.content_type = STORE_SLICE("application/octet-stream");
	else if (lines)
		submit.content_type = STORE_SLICE("application/json");
	else if (!request_content_type(request, &submit.content_type))
		return;
	if (request->traced) {
		trace_read(request->x, &trace);
		submit.trace = (struct store_slice){trace.text, trace.len};
	}
	submit_with_options(request, submit, level, batch, lines);
}
