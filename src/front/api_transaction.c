/* src/front/api_transaction.c -- POST /v1/transactions: several actions, one commit; or none of them, and which one stood in the way.
 *
 * The body is read whole, each action is judged by its own queue's scope, and the store does the rest: it checks all before it does
 * any, and what it does is one commit. Of the request only kinds and job ids outlive the handler, for the answer's words.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/trace.h"
#include "front/once.h"
#include "front/transaction.h"

struct acted { /* call->arg: one for each action */
	uint64_t job;
	int kind;
};

/* What another moment or another place may allow is told by its own status; what this request got wrong about jobs is 409. */
static bool is_about_action(int64_t error)
{
	return error == -JOB_EUNKNOWN_JOB || error == -JOB_EEXPIRED || error == -JOB_EUNKNOWN_QUEUE ||
	       error == -JOB_ELEASE_LOST || error == -JOB_ECANCELLED || error == -JOB_EFINISHED ||
	       error == -JOB_ESTATE || error == -JOB_ETWICE;
}

static bool is_about_item(int64_t error)
{
	return error == -JOB_EQUEUE_FULL || error == -JOB_ETOO_LARGE || error == -JOB_EVALUE;
}

static void put_subject(const struct call *call, uint32_t index, char *to, size_t size)
{
	const struct acted *acted = (const struct acted *)call->arg + index;

	if (acted->job)
		snprintf(to, size, "action %u, %s job %llu", index, transaction_verb(acted->kind),
		         (unsigned long long)acted->job);
	else
		snprintf(to, size, "action %u, %s", index, transaction_verb(acted->kind));
}

/* .action_at and .error are those of the refusal. */
static void answer_refusal(struct call *call, int state)
{
	char subject[80], members[160];
	int n;

	put_subject(call, call->action_at, subject, sizeof(subject));
	if (!is_about_action(call->error) && !is_about_item(call->error)) {
		answer_error(call->api, call->x, call->error, call->reason, JOB_NONE, "transaction");
		call_end(call);
		return;
	}
	if (!is_about_action(call->error)) {
		snprintf(members, sizeof(members), ",\"action\":%u", call->action_at);
		answer_problem(call->api, call->x, answer_problem_of(call->error), members, "%s: %s", subject,
		               call->reason);
		call_end(call);
		return;
	}
	n = snprintf(members, sizeof(members), ",\"action\":%u,\"cause\":\"%s\"", call->action_at,
	             call->error == -JOB_ETWICE ? "named-twice"
	                                        : problem_code(answer_problem_of(call->error)));
	if (state > JOB_NONE)
		snprintf(members + n, sizeof(members) - (size_t)n, ",\"state\":\"%s\"", answer_state(state));
	answer_problem(call->api, call->x, PROBLEM_ACTION_REFUSED, members, "%s: %s; nothing was done",
	               subject, call->reason);
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

static void refuse(struct call *call, const struct store_commit *commit)
{
	const struct acted *acted = (const struct acted *)call->arg + commit->failed;

	call->error = commit->error;
	call->reason = commit->reason;
	call->action_at = commit->failed;
	if (commit->error == -JOB_EFINISHED || commit->error == -JOB_ESTATE ||
	    commit->error == -JOB_ECANCELLED)
		call_then(call, store_get(call->api->store, acted->job, STORE_DEFAULT), got_state);
	else
		answer_refusal(call, JOB_NONE);
}

static void answer_results(struct call *call, const struct store_commit *commit)
{
	const struct acted *acted = call->arg;
	char given[4096];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "{\"results\":[");
	for (size_t i = 0; i < commit->count; i++) {
		if (i > 0)
			wh__text_put(&text, ",", 1);
		answer_action(&text, acted[i].kind, acted[i].job ? acted[i].job : commit->results[i].job,
		              &commit->results[i]);
	}
	wh__text_format(&text, "],\"level\":\"%s\",\"position\":\"%u/%llu\"}\n", answer_level(commit->level),
	                commit->position.epoch, (unsigned long long)commit->position.lsn);
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
	if (commit->error != 0)
		refuse(call, commit);
	else
		answer_results(call, commit);
	store_commit_free(commit);
}

/* ---- who may ----------------------------------------------------------------------------- */

static bool may(struct request *request, const struct token *token, const struct store_action *action,
                size_t index)
{
	enum token_action scope = transaction_scope(action->kind);
	struct store_slice queue = action->submit.queue;
	char members[80];

	if (action->kind != STORE_SUBMIT && (store_queue_of(request->api->store, action->job, &queue) != 0 ||
	                                     !namespace_show(request->namespace, answer_slice(queue)).data))
		queue = (struct store_slice){
			0}; /* only who may do this to any job learns that it is not there, and nobody in a namespace */
	if ((queue.len > 0 || request->namespace.len == 0) &&
	    authorize_allows(token, scope, answer_slice(queue)))
		return true;
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

static bool may_all(struct request *request, const struct transaction *t)
{
	const struct token *token;

	if (!request->api->tokens)
		return true;
	token = authorize_who(request->api, request->x);
	if (!token) { /* it was taken away while the body came */
		answer_problem(request->api, request->x, PROBLEM_NO_TOKEN, NULL,
		               "the token that was shown is not known here");
		return false;
	}
	for (size_t i = 0; i < t->count; i++) {
		if (!may(request, token, &t->actions[i], i))
			return false;
	}
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
		n += (size_t)snprintf(members + n, sizeof(members) - n, ",\"line\":%d,\"column\":%d",
		                      refusal->line, refusal->column);
	if (refusal->limit > 0)
		snprintf(members + n, sizeof(members) - n, ",\"limit\":%llu",
		         (unsigned long long)refusal->limit);
	answer_problem(request->api, request->x, refusal->problem, members, "%s", refusal->detail);
}

static void apply(struct request *request, const struct transaction *t, int level, struct once *once)
{
	struct acted *acted = malloc(t->count * sizeof(*acted));
	struct call *call = acted ? call_new(request, CALL_OTHER) : NULL;

	if (!acted)
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	if (!call) {
		free(acted);
		return;
	}
	for (size_t i = 0; i < t->count; i++)
		acted[i] = (struct acted){t->actions[i].job, t->actions[i].kind};
	call->arg = acted;
	call_then(call, once_apply(request->api->store, t->actions, t->count, level, once), committed);
}

void api_transaction(struct request *request)
{
	struct wh_slice body = request_body(request);
	struct transaction_refusal refusal;
	struct transaction transaction;
	struct trace trace = {0};
	struct once once;
	int level;

	if (!request_json(request) || !request_level(request, false, &level) ||
	    !request_options(request, NULL, 0) || !once_read(request, 't', (struct wh_slice){"", 0}, &once))
		return;
	once_mix(&once, body);
	if (!transaction_read(&transaction, request->namespace, body.data, body.len,
	                      request->api->options.payload_bytes_max, &refusal))
		malformed(request, &refusal);
	else if (may_all(request, &transaction)) {
		if (request->traced)
			trace_read(request->x, &trace);
		for (size_t i = 0; i < transaction.count && trace.len > 0; i++) {
			if (transaction.actions[i].kind == STORE_SUBMIT)
				transaction.actions[i].submit.trace =
					(struct store_slice){trace.text, trace.len};
		}
		apply(request, &transaction, level, &once);
	}
	transaction_done(&transaction);
}
