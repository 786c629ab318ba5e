/* src/front/api_transaction.c -- POST /v1/transactions: several actions, one commit; or none of them, and which one stood in the way.
 *
 * The body is read whole, each action is judged by its own queue's scope, and the store does the rest: it checks all before it does
 * any, and what it does is one commit. Of the request only kinds and job ids outlive the handler, for the answer's words.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "deliver/service.h"
#include "deliver/trace.h"
#include "front/after.h"
#include "front/once.h"
#include "front/own.h"
#include "front/publication.h"
#include "front/publish.h"
#include "front/transaction.h"

struct acted {           /* of the receipt, call->arg: one for each action */
	uint64_t job;    /* of a publish: which event */
	uint32_t behind; /* up to where the store's actions are its own */
	int kind;
	bool called_back;
};

static const struct acted *acted_of(const struct call *call)
{
	return ((const struct receipt *)call->arg)->extra;
}

/* Which action the store's is of. */
static uint32_t find_action(const struct call *call, uint32_t failed)
{
	const struct acted *acted = acted_of(call);
	uint32_t i = 0;

	while (acted[i].behind <= failed)
		i++;
	return i;
}

/* What another moment or another place may allow is told by its own status; what this request got wrong about jobs is 409. */
static bool is_about_action(int64_t error)
{
	return error == -JOB_EUNKNOWN_JOB || error == -JOB_EEXPIRED || error == -JOB_EUNKNOWN_QUEUE ||
	       error == -JOB_ELEASE_LOST || error == -JOB_ECANCELLED || error == -JOB_EFINISHED ||
	       error == -JOB_ESTATE || error == -JOB_ETWICE || error == -JOB_EAWAITED ||
	       error == -JOB_EAWAITED_FULL || error == -JOB_EVERSION;
}

static bool is_awaited(int64_t error)
{
	return error == -JOB_EAWAITED || error == -JOB_EAWAITED_FULL;
}

static bool is_about_item(int64_t error)
{
	return job_is_full(error) || error == -JOB_ETOO_LARGE || error == -JOB_EVALUE;
}

/* .action_at is the store's. */
static void put_subject(const struct call *call, uint32_t index, char *to, size_t size)
{
	const char *queue = receipt_queue(call->arg, call->action_at);
	const struct acted *acted = acted_of(call) + index;

	if (acted->kind == TRANSACTION_PUBLISH && queue)
		snprintf(to, size, "action %u, publish, queue '%s' of a subscription", index,
		         queue + (call->namespace_len > 0 ? call->namespace_len + 1 : 0));
	else if (acted->kind != TRANSACTION_PUBLISH && acted->job)
		snprintf(to, size, "action %u, %s job %llu", index, transaction_verb(acted->kind),
		         (unsigned long long)acted->job);
	else
		snprintf(to, size, "action %u, %s", index, transaction_verb(acted->kind));
}

/* .action_at and .error are those of the refusal. */
static void answer_refusal(struct call *call, int state)
{
	const struct receipt *receipt = call->arg;
	const char *queue = receipt_queue(receipt, call->action_at);
	uint32_t index = find_action(call, call->action_at);
	char subject[TARGET_NAME_BYTES_MAX + 80], members[160];
	int n;

	put_subject(call, index, subject, sizeof(subject));
	if (!is_about_action(call->error) && !is_about_item(call->error)) {
		answer_error(call->api, call->x, call->error, call->reason, JOB_NONE, "transaction");
		call_end(call);
		return;
	}
	n = snprintf(members, sizeof(members), ",\"action\":%u", index);
	if (is_about_action(call->error))
		n += snprintf(members + n, sizeof(members) - (size_t)n, ",\"cause\":\"%s\"",
		              call->error == -JOB_ETWICE ? "named-twice"
		                                         : problem_code(answer_problem_of(call->error)));
	if (state > JOB_NONE)
		snprintf(members + n, sizeof(members) - (size_t)n, ",\"state\":\"%s\"", answer_state(state));
	if (is_awaited(call->error)) {
		snprintf(members + n, sizeof(members) - (size_t)n, ",\"awaited\":%llu",
		         (unsigned long long)call->job);
		snprintf(subject + strlen(subject), sizeof(subject) - strlen(subject), ", after job %llu",
		         (unsigned long long)call->job);
	}
	answer_refused(call->api, call->x,
	               &(struct refused){.error = call->error,
	                                 .reason = call->reason,
	                                 .limit = receipt->limit,
	                                 .queue = {queue, queue ? strlen(queue) : 0},
	                                 .members = members,
	                                 .subject = subject,
	                                 .in_action = is_about_action(call->error)});
	call_end(call);
}

static void got_state(wh_loop *loop, wh_res res, void *arg)
{
	struct store_view *view = res.ptr;
	int state = res.n < 0 ? JOB_NONE : view->state;

	(void)loop;
	if (res.n >= 0)
		store_view_free(view);
	answer_refusal(arg, state);
}

/* In the words of what was asked for. */
static const char *reason_of(int kind, const struct store_commit *commit)
{
	if (kind == STORE_EDIT && commit->error == -JOB_ESTATE)
		return api_edit_states;
	if (kind == STORE_EDIT && commit->error == -JOB_EVALUE)
		return api_edit_attempts;
	if (kind == STORE_MOVE && commit->error == -JOB_EVALUE)
		return "it is in that queue already";
	if (kind == STORE_SUBMIT && commit->error == -JOB_ETOO_LARGE)
		return "its jobs await more others in all than a transaction's may";
	if (kind == STORE_REPLAY && commit->error == -JOB_ESTATE)
		return "a job is called back that has failed, is buried, or is dead and waits in another "
		       "queue";
	return commit->reason;
}

static void refuse(struct call *call, const struct store_commit *commit)
{
	((struct receipt *)call->arg)->limit = commit->limit;
	call->error = commit->error;
	call->action_at = commit->failed;
	call->reason = reason_of(acted_of(call)[find_action(call, commit->failed)].kind, commit);
	call->job = commit->results[commit->failed].job;
	if (commit->error == -JOB_EFINISHED || commit->error == -JOB_ESTATE ||
	    commit->error == -JOB_ECANCELLED)
		call_then(call,
		          store_get(call->api->store, acted_of(call)[find_action(call, commit->failed)].job,
		                    STORE_DEFAULT),
		          got_state);
	else
		answer_refusal(call, JOB_NONE);
}

static void answer_results(struct call *call, const struct store_commit *commit)
{
	const struct acted *acted = acted_of(call);
	char given[4096];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "{\"results\":[");
	for (size_t i = 0; i < commit->count; i++) {
		if (i > 0)
			wh__text_put(&text, ",", 1);
		if (acted[i].kind == TRANSACTION_PUBLISH) {
			wh__text_put(&text, "{", 1);
			receipt_put(call->arg, acted[i].job, commit, &commit->results[i], &text);
			wh__text_put(&text, "}", 1);
			continue;
		}
		if (acted[i].called_back &&
		    !commit->replayed) /* what waits for its end has the id behind it */
			push_callback(call->api->push, commit->results[i].job, commit->results[i].job + 1);
		answer_action(&text, acted[i].kind, acted[i].job ? acted[i].job : commit->results[i].job,
		              &commit->results[i]);
	}
	wh__text_format(&text, "],\"level\":\"%s\",\"position\":\"%u/%llu\"}\n", answer_level(commit->level),
	                commit->position.epoch, (unsigned long long)commit->position.lsn);
	if (!commit->replayed) {
		size_t duplicates = receipt_duplicates(commit);

		call->api->events_published += ((const struct receipt *)call->arg)->count - duplicates;
		call->api->events_duplicate += duplicates;
	}
	once_told(call->x, commit);
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, 200, "application/json", &text);
	call_end(call);
}

static void committed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;

	(void)loop;
	if (res.n < 0) {
		answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "transaction");
		call_end(call);
		return;
	}
	publish_replay(call->api); /* if one has come to a halt for want of memory */
	if (commit->error != 0) {
		refuse(call, commit);
		store_commit_free(commit);
	} else {
		publish_tell(call, commit, "transaction", answer_results);
	}
}

/* ---- who may ----------------------------------------------------------------------------- */

static bool may_await(struct request *request, const struct store_action *action, size_t index,
                      struct once *once)
{
	uint64_t job = action->kind == STORE_SUBMIT
	                       ? after_refused(request->api, request->x, action->submit.after, once)
	                       : 0;
	char members[100];

	snprintf(members, sizeof(members), ",\"action\":%zu,\"cause\":\"unknown-awaited\",\"awaited\":%llu",
	         index, (unsigned long long)job);
	if (job != 0)
		answer_problem(request->api, request->x, PROBLEM_ACTION_REFUSED, members,
		               "action %zu, submit, after job %llu: %s; nothing was done", index,
		               (unsigned long long)job, job_strerror(JOB_EAWAITED));
	return job == 0;
}

/* Whoever sends a job to a queue must be one who may submit to it. */
static bool may_send(struct request *request, const struct token *token, const struct store_action *action,
                     size_t index)
{
	bool sends = (action->kind == STORE_MOVE || action->kind == STORE_REPLAY) && action->move.to.len > 0;
	char members[40];

	if (!sends || authorize_allows(token, TOKEN_SUBMIT, answer_slice(action->move.to)))
		return true;
	snprintf(members, sizeof(members), ",\"action\":%zu", index);
	authorize_refuse(request->api, request->x, token, TOKEN_SUBMIT, answer_slice(action->move.to),
	                 members);
	return false;
}

/* Jobs of the server's own queues are neither sent elsewhere nor, if they are promises, called back. */
static bool may_leave(struct request *request, const struct store_action *action, size_t index)
{
	struct store_slice queue;
	char members[40];

	if ((action->kind != STORE_MOVE && action->kind != STORE_REPLAY) ||
	    store_queue_of(request->api->store, action->job, &queue) != 0 ||
	    (action->move.to.len > 0 ? !service_owns_queue(queue.data, queue.len)
	                             : !own_is_promise(queue.data, queue.len)))
		return true;
	snprintf(members, sizeof(members), ",\"action\":%zu", index);
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, members,
	               "action %zu, %s job %llu: it is in one of the server's own queues, and stays there",
	               index, transaction_verb(action->kind), (unsigned long long)action->job);
	return false;
}

static bool may(struct request *request, const struct token *token, const struct transaction *t, size_t index,
                struct once *once)
{
	const struct store_action *action = &t->actions[index];
	enum token_action scope = transaction_scope(action->kind);
	struct store_slice queue = action->submit.queue;
	char members[80];

	if (action->kind == TRANSACTION_PUBLISH)
		queue = t->events[action->job].topic;
	else if (action->kind != STORE_SUBMIT &&
	         (store_queue_of(request->api->store, action->job, &queue) != 0 ||
	          !namespace_show(request->namespace, answer_slice(queue)).data))
		queue = (struct store_slice){
			0}; /* only who may do this to any job learns that it is not there, and nobody in a namespace */
	if ((queue.len > 0 || request->namespace.len == 0) &&
	    authorize_allows(token, scope, answer_slice(queue)))
		return may_await(request, action, index, once) && may_send(request, token, action, index);
	if (queue.len == 0) {
		snprintf(members, sizeof(members), ",\"action\":%zu,\"cause\":\"unknown-job\"", index);
		answer_problem(request->api, request->x, PROBLEM_ACTION_REFUSED, members,
		               "action %zu, %s job %llu: there is no such job, or its retention has passed",
		               index, transaction_verb(action->kind), (unsigned long long)action->job);
	} else {
		snprintf(members, sizeof(members), ",\"action\":%zu", index);
		authorize_refuse(request->api, request->x, token, scope, answer_slice(queue), members);
	}
	return false;
}

static bool may_all(struct request *request, const struct transaction *t, struct once *once)
{
	const struct token *token;
	bool admin = false;

	if (!request->api->tokens)
		return true;
	token = authorize_who(request->api, request->x);
	if (!token) { /* it was taken away while the body came */
		answer_problem(request->api, request->x, PROBLEM_NO_TOKEN, NULL,
		               "the token that was shown is not known here");
		return false;
	}
	for (size_t i = 0; i < t->count; i++) {
		if (!may(request, token, t, i, once))
			return false;
		admin |= transaction_scope(t->actions[i].kind) == TOKEN_ADMIN;
	}
	if (admin)
		authorize_tell(request->api, request->x, token, TOKEN_ADMIN);
	return true;
}

/* ---- the request ------------------------------------------------------------------------- */

static void malformed(struct request *request, const struct transaction_refusal *refusal)
{
	char members[160] = "";
	size_t n = 0;

	if (refusal->action >= 0)
		n += (size_t)snprintf(members, sizeof(members), ",\"action\":%ld", refusal->action);
	if (refusal->line > 0)
		snprintf(members + n, sizeof(members) - n, ",\"line\":%d,\"column\":%d", refusal->line,
		         refusal->column);
	answer_limit(request->api, request->x, refusal->problem, refusal->limit, members, "%s",
	             refusal->detail);
}

/* What is wrong with an event, or with what an action takes. */
static void refuse_event(struct request *request, size_t index, const char *verb, enum event_wrong wrong,
                         const struct event_refusal *refusal)
{
	char members[80];

	snprintf(members, sizeof(members), ",\"action\":%zu", index);
	if (wrong == EVENT_NO_MEMORY) {
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return;
	}
	answer_limit(request->api, request->x,
	             wrong == EVENT_TOO_LARGE  ? PROBLEM_TOO_LARGE
	             : wrong == EVENT_BAD_JSON ? PROBLEM_BAD_JSON
	                                       : PROBLEM_BAD_REQUEST,
	             wrong == EVENT_TOO_LARGE ? refusal->limit : 0, members, "action %zu, %s: %s", index,
	             verb, refusal->detail);
}

static bool add_event(struct request *request, const struct transaction_event *event, size_t index,
                      struct publication *p)
{
	const struct topic *topic = topic_there(&request->api->topics, event->topic.data, event->topic.len);
	struct publication_bare bare = {event->type, event->source, event->subject, event->content_type,
	                                event->data};
	struct event_refusal refusal = {0, ""};
	struct wh_slice said = namespace_show(request->namespace, answer_slice(event->topic));
	char members[80];
	enum event_wrong wrong;
	struct event whole;

	if (!topic && !p->known) {
		snprintf(members, sizeof(members), ",\"action\":%zu,\"cause\":\"unknown-topic\"", index);
		answer_problem(request->api, request->x, PROBLEM_ACTION_REFUSED, members,
		               "action %zu, publish: there is no topic '%.*s'; nothing was done", index,
		               (int)said.len, said.data);
		return false;
	}
	if (event->json.data) {
		wrong = event_read_json(&whole, event->json, &refusal);
		if (wrong == EVENT_GOOD)
			wrong = publication_event(p, topic, &whole, &refusal);
	} else {
		wrong = publication_bare(p, topic, &bare, &refusal);
	}
	if (wrong != EVENT_GOOD)
		refuse_event(request, index, "publish", wrong, &refusal);
	return wrong == EVENT_GOOD;
}

/* Actions are named by the client as it counts them, and an event may take several, or none; of a submit the first is the job. */
static uint64_t first_of(const uint32_t *behind, uint64_t index)
{
	return index > 0 ? behind[index - 1] : 0;
}

static void count_after(const struct store_action *action, const uint32_t *behind)
{
	size_t count = action->kind == STORE_SUBMIT ? action->submit.after.len / sizeof(uint64_t) : 0;
	uint64_t *ids = (uint64_t *)(uintptr_t)action->submit.after.data; /* the transaction's own */

	for (size_t i = 0; i < count; i++)
		if (ids[i] & STORE_AFTER_ACTION)
			ids[i] = STORE_AFTER_ACTION | first_of(behind, ids[i] & ~STORE_AFTER_ACTION);
}

/* false: refused and answered. */
static bool may_tell(struct request *request, struct wh_slice url, size_t index)
{
	enum problem problem;
	const char *why = callback_wrong(request->api, url, &problem);
	char members[40];

	snprintf(members, sizeof(members), ",\"action\":%zu", index);
	if (why)
		answer_problem(request->api, request->x, problem, members,
		               "action %zu, submit, callback %.*s: %s", index,
		               (int)(url.len < 200 ? url.len : 200), url.data, why);
	return !why;
}

static bool add_action(struct request *request, const struct transaction *t, size_t index,
                       struct publication *p)
{
	const struct store_action *action = &t->actions[index];
	struct wh_slice url = t->callbacks ? t->callbacks[index] : (struct wh_slice){NULL, 0};
	struct event_refusal refusal = {.limit = JOB_ACTIONS_MAX};

	if (!may_leave(request, action, index) || (url.data && !may_tell(request, url, index)))
		return false;
	if (url.data ? publication_called_back(p, action, url) : publication_action(p, action))
		return true;
	snprintf(refusal.detail, sizeof(refusal.detail),
	         "a transaction has at most %d actions, those that its events and callbacks take among them",
	         JOB_ACTIONS_MAX);
	refuse_event(request, index, transaction_verb(action->kind),
	             p->actions_count + (url.data ? 1 : 0) >= JOB_ACTIONS_MAX ? EVENT_TOO_LARGE
	                                                                      : EVENT_NO_MEMORY,
	             &refusal);
	return false;
}

/* Each action, and what it takes; behind: one for each. false: refused and answered. */
static bool gather(struct request *request, const struct transaction *t, struct publication *p,
                   uint32_t *behind)
{
	for (size_t i = 0; i < t->count; i++) {
		const struct store_action *action = &t->actions[i];

		count_after(action, behind);
		if (action->kind == TRANSACTION_PUBLISH ? !add_event(request, &t->events[action->job], i, p)
		                                        : !add_action(request, t, i, p))
			return false;
		behind[i] = (uint32_t)p->actions_count;
	}
	return true;
}

static void apply(struct request *request, const struct transaction *t, struct publication *p,
                  struct receipt *receipt, int level, struct once *once)
{
	struct acted *acted = receipt->extra;
	struct call *call = call_new(request, CALL_OTHER);
	struct trace trace = {0};

	if (!call) {
		free(receipt);
		return;
	}
	for (size_t i = 0; i < t->count; i++) {
		acted[i].job = t->actions[i].job;
		acted[i].kind = t->actions[i].kind;
		acted[i].called_back = t->callbacks && t->callbacks[i].data;
	}
	if (request->traced)
		trace_read(request->x, &trace);
	call->arg = receipt;
	call_then(call,
	          publication_apply(p, request->api->store, (struct store_slice){trace.text, trace.len},
	                            level, once),
	          committed);
}

/* May it be done, and with what? */
static void judge(struct request *request, const struct transaction *t, int level, struct once *once)
{
	uint32_t *behind = malloc(t->count * sizeof(*behind));
	struct receipt *receipt = NULL;
	struct publication p;
	bool good = behind != NULL;

	publication_open(&p, request->api->loop);
	p.known = once->given && store_key_known(request->api->store, once_key(once));
	if (good && !gather(request, t, &p, behind)) {
		free(behind);
		publication_done(&p);
		return;
	}
	receipt = good ? publication_receipt(&p, t->count * sizeof(struct acted)) : NULL;
	if (receipt) {
		for (size_t i = 0; i < t->count; i++)
			((struct acted *)receipt->extra)[i].behind = behind[i];
		apply(request, t, &p, receipt, level, once);
	} else {
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	}
	free(behind);
	publication_done(&p);
}

void api_transaction(struct request *request)
{
	struct wh_slice body = request_body(request);
	struct transaction_refusal refusal;
	struct transaction transaction;
	struct once once;
	int level;

	if (!request_json(request) || !request_level(request, false, &level) ||
	    !request_options(request, NULL, 0) || !once_read(request, 't', (struct wh_slice){"", 0}, &once))
		return;
	once_mix(&once, body);
	if (!transaction_read(&transaction, request->namespace, body.data, body.len,
	                      request->api->options.payload_bytes_max, &refusal))
		malformed(request, &refusal);
	else if (may_all(request, &transaction, &once))
		judge(request, &transaction, level, &once);
	transaction_done(&transaction);
}
