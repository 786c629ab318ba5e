/* tests/integration/client_calls.c -- what is done with jobs, by the C client against the real server: alone, with leases, in
 * transactions and in batches; and the log.
 */
#include "client_calls.h"

/* ---- jobs ---------------------------------------------------------------------------------- */

static void a_life(void **state)
{
	struct wh_submit_options options = {.priority_set = true,
	                                    .priority = 7,
	                                    .time_to_run_ns = 20 * S,
	                                    .attempts = 3,
	                                    .retention_ns = 600 * S};
	struct wh_payload answer = bytes_of("olleh");
	uint64_t job = submit("hello", &options);
	struct wh_job *look;
	struct wh_result *result;
	struct wh_leases *leases;

	(void)state;
	assert_int_equal(receipt.job, job);
	assert_int_equal(receipt.level, WH_LEVEL_LOCAL);
	assert_true(receipt.position.epoch > 0 && receipt.position.lsn > 0);
	look = NEED_PTR(wh_client_look(client, job, &how), WH_JOB_READY);
	assert_int_equal(look->id, job);
	assert_string_equal(look->queue, queue);
	assert_string_equal(look->type, "text/plain");
	assert_int_equal(look->priority, 7);
	assert_int_equal(look->attempts_max, 3);
	assert_int_equal(look->attempts, 0);
	assert_int_equal(look->payload_bytes, 5);
	assert_int_equal(look->time_to_run_ns, 20 * S);
	assert_int_equal(look->retention_ns, 600 * S);
	assert_true(look->created_at > INT64_C(1600000000) * S);
	assert_int_equal(look->finished_at, 0);
	assert_null(look->progress);
	assert_int_equal(look->result_status, 0);
	assert_non_null(strstr(look->json, "\"state\":\"ready\""));
	wh_job_free(look);
	NEED(wh_client_result(client, job, 0, &how), -WH_ECALL_NOT_READY);
	assert_string_equal(problem.code, "not-ready");
	assert_string_equal(problem.state, "ready");
	assert_int_equal(problem.status, 409);
	assert_int_equal(problem.error, -WH_ECALL_NOT_READY);
	assert_true(problem.retry_after_ns > 0 && problem.detail[0]);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 0, &how), 1);
	assert_int_equal(leases->jobs[0].lease.job, job);
	assert_int_equal(leases->jobs[0].attempt, 1);
	assert_int_equal(leases->jobs[0].time_to_run_ns, 20 * S);
	assert_string_equal(leases->jobs[0].type, "text/plain");
	assert_true(equals(leases->jobs[0].payload, "hello"));
	NEED(wh_client_progress(client, leases->jobs[0].lease, "{\"half\": true}", &how), 0);
	look = NEED_PTR(wh_client_wait(client, job, 0, &how), WH_JOB_RUNNING);
	assert_string_equal(look->progress, "{\"half\": true}");
	assert_true(look->deadline > look->created_at);
	wh_job_free(look);
	NEED(wh_client_complete(client, leases->jobs[0].lease, 418, &answer, &how), 0);
	wh_leases_free(leases);
	result = NEED_PTR(wh_client_result(client, job, 0, &how), 418);
	assert_int_equal(result->job, job);
	assert_true(equals(result->body, "olleh") && equals(result->type, "text/plain"));
	assert_false(result->accepted);
	wh_result_free(result);
	look = NEED_PTR(wh_client_look(client, job, &how), WH_JOB_DONE);
	assert_int_equal(look->result_status, 418);
	assert_int_equal(look->result_bytes, 5);
	assert_string_equal(look->result_type, "text/plain");
	assert_true(look->finished_at >= look->created_at);
	wh_job_free(look);
	result = NEED_PTR(wh_client_payload(client, job, &how), 5);
	assert_true(equals(result->body, "hello"));
	wh_result_free(result);
}

static void waits_overlap(void **state)
{
	uint64_t job = submit("x", NULL);
	wh_future wait = wh_client_wait(client, job, WH_FOR_EVER, &how),
		  result = wh_client_result(client, job, 30 * S, NULL);
	struct wh_payload y = bytes_of("y");
	wh_res res;

	(void)state;
	NEED(wh_client_complete(client, lease_one(), 0, &y, &how), 0); /* while both wait */
	wh_job_free(need_ptr(wh_await(wait), WH_JOB_DONE, __LINE__));
	wh_result_free(need_ptr(wh_await(result), 200, __LINE__));
	/* a wait that runs out tells how it stands */
	job = submit("x", NULL);
	wh_job_free(NEED_PTR(wh_client_wait(client, job, MS, &how), WH_JOB_READY));
	NEED(wh_client_result(client, job, MS, &how), -WH_ECALL_NOT_READY);
	/* polled */
	wait = wh_client_look(client, job, NULL);
	while (!wh_poll(wait, &res))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(res.n, WH_JOB_READY);
	wh_job_free(res.ptr);
}

static void do_one(wh_loop *l, wh_res res, void *arg)
{
	struct wh_payload done = bytes_of("done");
	struct wh_leases *leases = res.ptr;

	(void)l;
	assert_int_equal(res.n, 1);
	assert_int_equal(wh_detach(*(bool *)arg
	                                   ? wh_client_complete(client, leases->jobs[0].lease, 0, &done, NULL)
	                                   : wh_client_fail(client, leases->jobs[0].lease, "cannot",
	                                                    WH_RETRY_NEVER, NULL)),
	                 0);
	wh_leases_free(leases);
}

static void run(void **state)
{
	struct wh_payload payload = bytes_of("x");
	struct wh_result *result;
	bool well = true;
	wh_res res;

	(void)state;
	assert_int_equal(wh_then(wh_client_reserve(client, queue, 1, 30 * S, NULL), do_one, &well), 0);
	res = wh_await(wh_client_run(client, queue, &payload, NULL, 30 * S, &how));
	assert_true(res.n > 0 && res.ptr);
	result = res.ptr;
	assert_int_equal(result->job, res.n);
	assert_true(equals(result->body, "done"));
	wh_result_free(result);
	well = false;
	assert_int_equal(wh_then(wh_client_reserve(client, queue, 1, 30 * S, NULL), do_one, &well), 0);
	NEED(wh_client_run(client, queue, &payload, NULL, 30 * S, &how), -WH_ECALL_JOB_FAILED);
	assert_true(receipt.job > 0);
	assert_int_equal(problem.job, receipt.job);
	assert_non_null(strstr(problem.detail, "cannot"));
	res = wh_await(wh_client_run(client, queue, &payload, NULL, MS, &how));
	assert_true(res.n > 0 && !res.ptr);
	assert_int_equal(receipt.job, res.n);
}

static void cancel_and_kick(void **state)
{
	struct wh_submit_options later = {.delay_ns = 3600 * S};
	uint64_t job = submit("x", &later);
	struct wh_lease lease;

	(void)state;
	wh_job_free(NEED_PTR(wh_client_look(client, job, &how), WH_JOB_DELAYED));
	NEED(wh_client_kick(client, job, &how), WH_JOB_READY);
	NEED(wh_client_kick(client, job, &how), -WH_ECALL_WRONG_STATE);
	NEED(wh_client_cancel(client, job, &how), WH_JOB_CANCELLED);
	NEED(wh_client_cancel(client, job, &how), -WH_ECALL_JOB_FINISHED);
	NEED(wh_client_result(client, job, 0, &how), -WH_ECALL_JOB_CANCELLED);
	job = submit("x", NULL);
	lease = lease_one();
	NEED(wh_client_cancel(client, job, &how), WH_JOB_RUNNING);
	NEED(wh_client_extend(client, lease, 0, &how), -WH_ECALL_JOB_CANCELLED);
	wh_job_free(NEED_PTR(wh_client_wait(client, job, 10 * S, &how), WH_JOB_CANCELLED));
	NEED(wh_client_look(client, (UINT64_C(1) << 53) - 1, &how), -WH_ECALL_UNKNOWN_JOB);
}

static void edits(void **state)
{
	struct wh_edit all = {.fields = WH_EDIT_PRIORITY | WH_EDIT_RUN_AT | WH_EDIT_TIME_TO_RUN |
	                                WH_EDIT_ATTEMPTS | WH_EDIT_RETENTION | WH_EDIT_EXPIRES,
	                      .priority = 7,
	                      .attempts = 9,
	                      .delay_ns = 3600 * S,
	                      .time_to_run_ns = 90 * S,
	                      .retention_ns = -1,
	                      .expires_at = INT64_C(4102444800) * S}, /* 2100 */
		none = {.fields = all.fields, .priority = 1024}, just = {.fields = WH_EDIT_PRIORITY};
	uint64_t job = submit("x", NULL);
	struct wh_job *before = NEED_PTR(wh_client_look(client, job, &how), WH_JOB_READY), *look;

	(void)state;
	look = NEED_PTR(wh_client_edit(client, job, &all, &how), WH_JOB_DELAYED);
	assert_true(receipt.position.lsn > 0);
	assert_true(look->priority == 7 && look->attempts_max == 9 && look->retention_ns == 0);
	assert_true(look->time_to_run_ns == 90 * S && look->run_at > look->created_at);
	assert_non_null(strstr(look->json, "\"expires_at\":\"2100-01-01T00:00:00.000Z\""));
	assert_string_not_equal(look->etag, before->etag);
	none.if_match = before->etag;
	NEED(wh_client_edit(client, job, &none, &how), -WH_ECALL_CHANGED);
	none.if_match = look->etag;
	wh_job_free(NEED_PTR(wh_client_edit(client, job, &none, &how), WH_JOB_READY));
	wh_job_free(look);
	look = NEED_PTR(wh_client_look(client, job, &how), WH_JOB_READY);
	assert_true(look->priority == 1024 && look->attempts_max == 5 && look->retention_ns == 3600 * S);
	wh_job_free(look);
	wh_job_free(before);
	just.priority = 0;
	wh_job_free(NEED_PTR(wh_client_edit(client, job, &just, NULL), WH_JOB_READY));
	none.if_match = NULL;
	lease_one();
	NEED(wh_client_edit(client, job, &none, &how), -WH_ECALL_WRONG_STATE);
	NEED(wh_client_edit(client, (UINT64_C(1) << 53) - 1, &just, &how), -WH_ECALL_UNKNOWN_JOB);
}

static void expired(void **state)
{
	struct wh_submit_options gone = {.retention_ns = -1};
	uint64_t job = submit("x", &gone);

	(void)state;
	NEED(wh_client_complete(client, lease_one(), 0, NULL, &how), 0);
	NEED(wh_client_look(client, job, &how), -WH_ECALL_EXPIRED);
	assert_string_equal(problem.code, "expired");
}

static void options(void **state)
{
	char long_type[300];
	struct wh_payload payload = {.bytes = "x", .len = 1, .type = long_type};
	struct wh_submit_options at = {.run_at = INT64_C(4102444800) * S, .attempts = 1}; /* 2100 */
	wh_res res;
	struct wh_job *look;

	(void)state;
	look = NEED_PTR(wh_client_look(client, submit("x", &at), &how), WH_JOB_DELAYED);
	assert_int_equal(look->run_at, at.run_at);
	wh_job_free(look);
	memset(long_type, 'a', sizeof(long_type));
	memcpy(long_type, "text/", 5);
	long_type[180] = 0;
	res = wh_await(wh_client_submit(client, queue, &payload, NULL, &how));
	assert_true(res.n > 0);
	look = NEED_PTR(wh_client_look(client, (uint64_t)res.n, &how), WH_JOB_READY);
	assert_string_equal(look->type, long_type);
	wh_job_free(look);
	at.delay_ns = S;
	NEED(wh_client_submit(client, queue, &payload, &at, &how), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "bad-request");
	at.attempts = 5000;
	at.delay_ns = 0;
	NEED(wh_client_submit(client, queue, &payload, &at, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_submit(client, "", &payload, NULL, &how), -EINVAL);
	NEED(wh_client_submit(client, NULL, &payload, NULL, &how), -EINVAL);
	NEED(wh_client_submit(client, "call/x", &payload, NULL, &how), -WH_ECALL_BAD_VALUE);
	payload.type = "bad\r\ntype";
	NEED(wh_client_submit(client, queue, &payload, NULL, &how), -EINVAL);
}

static void levels(void **state)
{
	struct wh_how with = how;
	struct wh_payload payload = bytes_of("x");

	(void)state;
	with.level = WH_LEVEL_ASYNC;
	assert_true(wh_await(wh_client_submit(client, queue, &payload, NULL, &with)).n > 0);
	assert_int_equal(receipt.level, WH_LEVEL_ASYNC);
	NEED(wh_client_reached(client, receipt.position, WH_LEVEL_LOCAL, 10 * S, &how), 1);
	NEED(wh_client_reached(client, receipt.position, WH_LEVEL_ASYNC, 0, &how), 1);
	with.level = WH_LEVEL_REMOTE_FLUSH;
	NEED(wh_client_submit(client, queue, &payload, NULL, &with), -WH_ECALL_LEVEL_UNAVAILABLE);
	with.level = 17;
	NEED(wh_client_submit(client, queue, &payload, NULL, &with), -EINVAL);
	NEED(wh_client_reached(client, receipt.position, 17, 0, NULL), -EINVAL);
	NEED(wh_client_reached(client, (struct wh_position){receipt.position.epoch, UINT64_MAX}, 0, 0, &how),
	     -WH_ECALL_BAD_VALUE);
}

static void released(void *arg)
{
	++*(int *)arg;
}

static void borrowed_bodies(void **state)
{
	static char big[3 << 20];
	int count = 0;
	struct wh_payload payload = {
		.bytes = big, .len = sizeof(big), .release = released, .release_arg = &count};
	wh_res res;
	struct wh_result *result;

	(void)state;
	memset(big, 'b', sizeof(big));
	res = wh_await(wh_client_submit(client, queue, &payload, NULL, &how));
	assert_true(res.n > 0);
	assert_int_equal(count, 1);
	result = NEED_PTR(wh_client_payload(client, (uint64_t)res.n, &how), sizeof(big));
	assert_memory_equal(result->body.data, big, sizeof(big));
	wh_result_free(result);
	NEED(wh_client_submit(client, NULL, &payload, NULL, &how), -EINVAL);
	assert_int_equal(count, 2);
}

/* ---- leases -------------------------------------------------------------------------------- */

static void several(uint32_t jobs, bool bare)
{
	struct wh_leases *leases;
	char text[16];

	for (uint32_t i = 0; i < jobs; i++) {
		snprintf(text, sizeof(text), "%.*s", (int)i, "abcdefghij");
		submit(text, NULL);
	}
	leases = NEED_PTR(bare ? wh_client_reserve_bare(client, queue, 100, 5 * S, &how)
	                       : wh_client_reserve(client, queue, 100, 5 * S, &how),
	                  jobs);
	for (uint32_t i = 0; i < jobs; i++) {
		const struct wh_leased *job = &leases->jobs[i];

		assert_int_equal(job->payload.len, i);
		assert_memory_equal(job->payload.data, "abcdefghij", i);
		assert_int_equal(job->attempt, 1);
		if (bare)
			assert_null(job->type);
		else
			assert_string_equal(job->type, "text/plain");
		assert_int_equal(job->time_to_run_ns, bare ? 0 : 60 * S);
		NEED(wh_client_complete(client, job->lease, 0, NULL, &how), 0);
	}
	wh_leases_free(leases);
}

static void reserve_many(void **state)
{
	(void)state;
	several(9, false);
	several(9, true);
	several(1, true);
	NEED(wh_client_reserve(client, queue, 1, 0, &how), 0);
	NEED(wh_client_reserve(client, queue, 5, MS, &how), 0);
	NEED(wh_client_reserve(client, queue, 0, 0, &how), -EINVAL);
	NEED(wh_client_reserve(client, queue, 1001, 0, &how), -EINVAL);
	NEED(wh_client_reserve(client, "call/x", 1, 0, &how), -WH_ECALL_BAD_VALUE);
}

static void verbs(void **state)
{
	uint32_t priority = 3;
	uint64_t job = submit("x", NULL);
	struct wh_lease lease = lease_one(), old = lease;
	struct wh_job *look;
	wh_res res;

	(void)state;
	res = wh_await(wh_client_extend(client, lease, 600 * S, &how));
	look = NEED_PTR(wh_client_look(client, job, &how), WH_JOB_RUNNING);
	assert_true(res.n > 0 && res.n == look->deadline);
	wh_job_free(look);
	NEED(wh_client_release(client, lease, 0, &priority, &how), WH_JOB_READY);
	NEED(wh_client_complete(client, old, 0, NULL, &how), -WH_ECALL_LEASE_LOST);
	assert_string_equal(problem.code, "lease-lost");
	assert_int_equal(problem.job, job);
	lease = lease_one();
	NEED(wh_client_fail(client, lease, "not yet", 0, &how), WH_JOB_READY);
	lease = lease_one();
	NEED(wh_client_fail(client, lease, "\"no\"\n\xc3\xa4 \xf0\x9f\x98\x80", WH_RETRY_BACKOFF, &how),
	     WH_JOB_DELAYED);
	look = NEED_PTR(wh_client_look(client, job, &how), WH_JOB_DELAYED);
	assert_int_equal(look->priority, 3);
	assert_int_equal(look->error_count, 2);
	assert_string_equal(look->errors[0].message, "not yet");
	assert_string_equal(look->errors[1].message, "\"no\"\n\xc3\xa4 \xf0\x9f\x98\x80");
	assert_true(look->errors[1].attempt > look->errors[0].attempt && look->errors[1].at > 0);
	wh_job_free(look);
	NEED(wh_client_kick(client, job, &how), WH_JOB_READY);
	lease = lease_one();
	NEED(wh_client_bury(client, lease, "aside", &priority, &how), WH_JOB_BURIED);
	NEED(wh_client_kick(client, job, &how), WH_JOB_READY);
	lease = lease_one();
	NEED(wh_client_progress(client, lease, "no json", &how), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "bad-json");
	NEED(wh_client_progress(client, lease, NULL, &how), -EINVAL);
	NEED(wh_client_release(client, lease, -1, NULL, &how), -EINVAL);
	NEED(wh_client_fail(client, lease, NULL, -7, &how), -EINVAL);
	NEED(wh_client_extend(client, lease, -1, &how), -EINVAL);
	NEED(wh_client_complete(client, lease, -1, NULL, &how), -EINVAL);
	NEED(wh_client_complete(client, lease, 999, NULL, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_release(client, lease, 60 * S, NULL, &how), WH_JOB_DELAYED);
	NEED(wh_client_kick(client, job, &how), WH_JOB_READY);
	NEED(wh_client_fail(client, lease_one(), NULL, WH_RETRY_NEVER, &how), WH_JOB_FAILED);
}

/* What is handed over under a key is so once. */
static void keys(void **state)
{
	static char long_key[257];
	struct wh_payload payload = bytes_of("x"), other = bytes_of("y");
	struct wh_how once = {.problem = &problem, .key = queue};
	struct iovec many[2] = {{(void *)(uintptr_t) "a", 1}, {(void *)(uintptr_t) "b", 1}};
	struct wh_action actions[2] = {{.kind = WH_ACTION_SUBMIT, .queue = queue},
	                               {.kind = WH_ACTION_SUBMIT, .queue = queue}};
	static const char *const bad[] = {"", "a b", "\x7f", "\t", "k\xc3\xa9", long_key};
	struct wh_transaction *done[2];
	struct wh_queues *queues;
	struct wh_ids *ids[2];
	int64_t job;

	(void)state;
	job = wh_await(wh_client_submit(client, queue, &payload, NULL, &once)).n;
	assert_true(job > 0);
	NEED(wh_client_submit(client, queue, &payload, NULL, &once), job);
	NEED(wh_client_submit(client, queue, &other, NULL, &once), -WH_ECALL_KEY_REUSED);
	assert_string_equal(problem.code, "key-reused");
	once.key = "\"many\\";
	for (int i = 0; i < 2; i++)
		ids[i] = NEED_PTR(wh_client_submit_many(client, queue, many, 2, NULL, NULL, &once), 2);
	assert_memory_equal(ids[0]->ids, ids[1]->ids, 2 * sizeof(uint64_t));
	once.key = queue;
	for (int i = 0; i < 2; i++)
		done[i] = NEED_PTR(wh_client_transact(client, actions, 2, &once), 2);
	assert_int_equal(done[0]->results[1].job, done[1]->results[1].job);
	queues = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	assert_int_equal(queues->queues[0].submitted, 5);
	wh_queues_free(queues);
	memset(long_key, 'k', sizeof(long_key) - 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		once.key = bad[i];
		NEED(wh_client_submit(client, queue, &payload, NULL, &once), -EINVAL);
		NEED(wh_client_submit_many(client, queue, many, 2, NULL, NULL, &once), -EINVAL);
		NEED(wh_client_transact(client, actions, 2, &once), -EINVAL);
	}
	for (int i = 0; i < 2; i++) {
		wh_ids_free(ids[i]);
		wh_transaction_free(done[i]);
	}
}

/* A job, its successors and more in one commit; or nothing. */
static void transactions(void **state)
{
	char next[40];
	uint32_t priority = 7;
	struct wh_payload payload = bytes_of("x"), result_payload = bytes_of("the \xff result");
	struct wh_transaction *done;
	struct wh_leases *held;
	struct wh_result *result;
	struct wh_action actions[9] = {{0}};
	uint64_t waits = 0;

	(void)state;
	snprintf(next, sizeof(next), "%s/next", queue);
	for (int i = 0; i < 6; i++)
		assert_true(wh_await(wh_client_submit(client, queue, &payload, NULL, &how)).n > 0);
	waits = (uint64_t)wh_await(wh_client_submit(client, next, &payload, NULL, &how)).n;
	held = NEED_PTR(wh_client_reserve(client, queue, 6, 0, &how), 6);
	for (int i = 0; i < 6; i++)
		actions[i] = (struct wh_action){.kind = WH_ACTION_COMPLETE + i, .lease = held->jobs[i].lease};
	result_payload.type = "text/\"odd\"";
	actions[0].payload = result_payload;
	actions[0].status = 299;
	actions[1].text = "no \"good\"";
	actions[1].delay_ns = WH_RETRY_NEVER;
	actions[2].delay_ns = 3600 * S + 1;
	actions[2].priority = &priority;
	actions[3].delay_ns = 7200 * S;
	actions[4].text = " {\"half\": true} ";
	actions[5].text = "odd";
	actions[6] = (struct wh_action){.kind = WH_ACTION_CANCEL, .job = waits};
	actions[7] = (struct wh_action){
		.kind = WH_ACTION_SUBMIT,
		.queue = next,
		.payload = payload,
		.options = {.priority_set = true, .priority = 3, .attempts = 2, .retention_ns = -1}};
	actions[8] = (struct wh_action){.kind = WH_ACTION_KICK, .job = waits};
	/* the last cannot be: waits is cancelled by then */
	NEED(wh_client_transact(client, actions, 9, &how), -WH_ECALL_REFUSED);
	assert_int_equal(problem.action, 8);
	assert_string_equal(problem.code, "named-twice");
	assert_string_not_equal(problem.detail, "");
	done = NEED_PTR(wh_client_transact(client, actions, 8, &how), 8);
	assert_int_equal(receipt.level, WH_LEVEL_LOCAL);
	assert_int_equal(done->count, 8);
	for (int i = 0; i < 8; i++) {
		static const int states[] = {WH_JOB_DONE, WH_JOB_FAILED, WH_JOB_DELAYED,   0,
		                             0,           WH_JOB_BURIED, WH_JOB_CANCELLED, WH_JOB_READY};

		assert_int_equal(done->results[i].state, states[i]);
		assert_int_equal(done->results[i].at != 0, i == 3);
		assert_true(i == 7 || done->results[i].job == (i < 6 ? held->jobs[i].lease.job : waits));
	}
	result = NEED_PTR(wh_client_result(client, held->jobs[0].lease.job, 0, &how), 299);
	assert_true(equals(result->body, "the \xff result") && equals(result->type, "text/\"odd\""));
	wh_result_free(result);
	/* what is done is done once */
	wh_transaction_free(NEED_PTR(wh_client_transact(client, actions + 3, 1, &how), 1));
	NEED(wh_client_transact(client, actions, 1, &how), -WH_ECALL_LEASE_LOST);
	assert_int_equal(problem.action, 0);
	assert_int_equal(problem.status, 409);
	assert_string_equal(problem.code, "lease-lost");
	wh_leases_free(held);
	wh_transaction_free(done);
	assert_null(wh_transaction_free(NULL));
	/* what is none is not sent */
	NEED(wh_client_transact(client, actions, 0, &how), -EINVAL);
	NEED(wh_client_transact(client, actions, 10001, &how), -EINVAL);
	for (int i = 0; i < 8; i++) {
		struct wh_action bad = {.kind = WH_ACTION_SUBMIT, .queue = queue};

		bad.kind = i == 0   ? 0
		           : i == 1 ? WH_ACTION_REPLAY + 1
		           : i == 2 ? WH_ACTION_PROGRESS
		                    : bad.kind;
		bad.kind = i == 4   ? WH_ACTION_FAIL
		           : i == 5 ? WH_ACTION_EXTEND
		           : i == 6 ? WH_ACTION_RELEASE
		                    : bad.kind;
		bad.queue = i == 3 ? NULL : queue;
		bad.text = i == 2 ? "{" : NULL;
		bad.delay_ns = i >= 4 && i <= 6 ? -3 : 0;
		bad.status = i == 7 ? -1 : 0;
		NEED(wh_client_transact(client, &bad, 1, &how), -EINVAL);
		assert_int_equal(problem.action, -1);
	}
}

/* Jobs that are told to be others, in one commit. */
static void others_of_a_transaction(void **state)
{
	char to[40];
	struct wh_submit_options once = {.attempts = 1};
	uint64_t failed = submit("f", &once), edited, moved, buried;
	struct wh_edit edit = {.fields =
	                               WH_EDIT_PRIORITY | WH_EDIT_RUN_AT | WH_EDIT_ATTEMPTS | WH_EDIT_EXPIRES,
	                       .priority = 3,
	                       .delay_ns = 3600 * S,
	                       .attempts = 7};
	struct wh_action actions[4];
	struct wh_transaction *done;
	struct wh_job *look;
	struct wh_edit stale = {.fields = WH_EDIT_PRIORITY, .if_match = "\"0\""};

	(void)state;
	snprintf(to, sizeof(to), "%s/to", queue);
	NEED(wh_client_fail(client, lease_one(), "no", WH_RETRY_BACKOFF, &how), WH_JOB_FAILED);
	buried = submit("b", NULL);
	NEED(wh_client_bury(client, lease_one(), "odd", NULL, &how), WH_JOB_BURIED);
	edited = submit("e", NULL);
	moved = submit("m", NULL);
	actions[0] = (struct wh_action){.kind = WH_ACTION_EDIT, .job = edited, .edit = &edit};
	actions[1] = (struct wh_action){.kind = WH_ACTION_MOVE, .job = moved, .queue = to};
	actions[2] = (struct wh_action){.kind = WH_ACTION_REPLAY, .job = failed, .queue = to};
	actions[3] = (struct wh_action){.kind = WH_ACTION_REPLAY, .job = buried};
	done = NEED_PTR(wh_client_transact(client, actions, 4, &how), 4);
	assert_true(done->results[0].state == WH_JOB_DELAYED && done->results[1].state == WH_JOB_READY);
	assert_true(done->results[2].state == WH_JOB_READY && done->results[3].state == WH_JOB_READY);
	assert_true(done->results[2].job == failed && done->results[3].job == buried);
	wh_transaction_free(done);
	look = NEED_PTR(wh_client_look(client, edited, &how), WH_JOB_DELAYED);
	assert_non_null(strstr(look->json, "\"priority\":3"));
	assert_non_null(strstr(look->json, "\"attempts_max\":7"));
	wh_job_free(look);
	look = NEED_PTR(wh_client_look(client, failed, &how), WH_JOB_READY);
	assert_non_null(strstr(look->json, to));
	wh_job_free(look);
	/* only if it is still what was looked at; which action it was is told */
	actions[0] = (struct wh_action){.kind = WH_ACTION_SUBMIT, .queue = queue};
	actions[1] = (struct wh_action){.kind = WH_ACTION_EDIT, .job = edited, .edit = &stale};
	NEED(wh_client_transact(client, actions, 2, &how), -WH_ECALL_CHANGED);
	assert_int_equal(problem.action, 1);
	actions[1] = (struct wh_action){.kind = WH_ACTION_REPLAY, .job = edited};
	NEED(wh_client_transact(client, actions, 2, &how), -WH_ECALL_WRONG_STATE);
	assert_int_equal(problem.action, 1);
	/* what is none is not sent */
	for (int i = 0; i < 4; i++) {
		struct wh_action bad = {.kind = i == 0   ? WH_ACTION_EDIT
		                                : i == 1 ? WH_ACTION_MOVE
		                                : i == 2 ? WH_ACTION_MOVE
		                                         : WH_ACTION_REPLAY,
		                        .job = edited,
		                        .queue = i >= 2 ? "" : NULL};

		NEED(wh_client_transact(client, &bad, 1, &how), -EINVAL);
	}
}

/* What queues do with jobs, said by a program and read back. */
static void policies(void **state)
{
	struct wh_queue_settings settings = {.attempts = 1,
	                                     .backoff_count = 2,
	                                     .backoffs_ns = {S, 60 * S},
	                                     .backoff_jitter = -1,
	                                     .dead_letter = "client-dead",
	                                     .concurrency = 3,
	                                     .rate = "50/s",
	                                     .rate_burst = 20,
	                                     .group_concurrency = 2,
	                                     .group_rate = "9/m",
	                                     .group_rate_burst = 4};
	struct wh_submit_options options = {
		.expires_ns = 3600 * S, .unique = "a key & more", .unique_while_ns = 3600 * S, .group = "g"};
	struct wh_action again = {.kind = WH_ACTION_SUBMIT, .queue = queue, .options = options};
	struct wh_queues *queues;
	const struct wh_queue_settings *read;
	struct wh_transaction *done;
	uint64_t job, other;

	(void)state;
	NEED(wh_client_queue_put(client, queue, &settings, &how), 1);
	queues = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	read = &queues->queues[0].settings;
	assert_int_equal(read->backoff_count, 2);
	assert_true(read->backoffs_ns[0] == S && read->backoffs_ns[1] == 60 * S);
	assert_int_equal(read->backoff_jitter, -1);
	assert_string_equal(read->dead_letter, "client-dead");
	assert_string_equal(read->rate, "50/s");
	assert_true(read->concurrency == 3 && read->rate_burst == 20 && read->group_concurrency == 2);
	assert_string_equal(read->group_rate, "9/m");
	assert_int_equal(read->group_rate_burst, 4);
	wh_queues_free(queues);
	job = submit("first", &options);
	assert_false(receipt.duplicate);
	assert_int_equal(submit("second", &options), job);
	assert_true(receipt.duplicate);
	assert_int_equal(receipt.job, job);
	again.payload = bytes_of("third");
	done = NEED_PTR(wh_client_transact(client, &again, 1, &how), 1);
	assert_int_equal(done->results[0].job, job);
	wh_transaction_free(done);
	options = (struct wh_submit_options){.unique = "q", .unique_while_ns = WH_UNIQUE_QUEUED};
	other = submit("fourth", &options);
	assert_int_equal(submit("fifth", &options), other);
	NEED(wh_client_fail(client, lease_one(), "no", WH_RETRY_NEVER, &how),
	     WH_JOB_READY); /* among the dead */
	settings = (struct wh_queue_settings){
		.backoff_ns = 2 * S, .backoff_max_ns = 9 * S, .backoff_jitter = 10};
	NEED(wh_client_queue_put(client, queue, &settings, &how), 0);
	queues = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	read = &queues->queues[0].settings;
	assert_true(read->backoff_ns == 2 * S && read->backoff_max_ns == 9 * S && read->backoff_count == 0);
	assert_true(read->backoff_jitter == 10 && !read->dead_letter && !read->rate &&
	            read->concurrency == 0);
	wh_queues_free(queues);
	NEED(wh_client_cancel(client, other, &how), WH_JOB_CANCELLED);
}

/* Jobs that run after others: by their ids, and in a transaction by its actions. */
static void after_others(void **state)
{
	uint64_t ids[2] = {submit("a", NULL), submit("b", NULL)}, refs[] = {WH_AFTER_ACTION(0), ids[0]}, then;
	struct wh_submit_options options = {.after = ids, .after_count = 2, .after_failure = WH_AFTER_BURY};
	struct wh_action actions[2] = {{.kind = WH_ACTION_SUBMIT, .queue = queue},
	                               {.kind = WH_ACTION_SUBMIT, .queue = queue}};
	struct wh_queues *queues;
	struct wh_transaction *done;
	struct wh_job *look;
	bool buried;

	(void)state;
	then = submit("c", &options);
	look = NEED_PTR(wh_client_look(client, then, &how), WH_JOB_AWAITING);
	assert_true(look->awaits_open == 2 && look->awaits_count == 2);
	assert_non_null(strstr(look->json, "\"after_failure\":\"bury\""));
	wh_job_free(look);
	assert_string_equal(wh_job_state_name(WH_JOB_AWAITING), "awaiting");
	assert_false(wh_job_is_finished(WH_JOB_AWAITING));
	queues = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	assert_int_equal(queues->queues[0].jobs[WH_JOB_AWAITING], 1);
	wh_queues_free(queues);
	actions[1].options =
		(struct wh_submit_options){.after = refs, .after_count = 2, .after_failure = WH_AFTER_RUN};
	done = NEED_PTR(wh_client_transact(client, actions, 2, &how), 2);
	assert_int_equal(done->results[0].state, WH_JOB_READY);
	assert_int_equal(done->results[1].state, WH_JOB_AWAITING);
	NEED(wh_client_complete(client, lease_one(), 0, NULL, &how), 0);
	look = NEED_PTR(wh_client_look(client, then, &how), WH_JOB_AWAITING);
	assert_true(look->awaits_open == 1 && look->awaits_count == 2);
	wh_job_free(look);
	NEED(wh_client_cancel(client, ids[1], &how), WH_JOB_CANCELLED);
	/* the server buries it in a commit of its own */
	do {
		wh_res res = wh_await(wh_client_look(client, then, &how));

		look = res.ptr;
		assert_true(res.n == WH_JOB_AWAITING || res.n == WH_JOB_BURIED);
		wh_job_free(look);
		buried = res.n == WH_JOB_BURIED;
	} while (!buried);
	NEED(wh_client_kick(client, then, &how), WH_JOB_READY);
	NEED(wh_client_cancel(client, done->results[0].job, &how), WH_JOB_CANCELLED);
	look = NEED_PTR(wh_client_look(client, done->results[1].job, &how), WH_JOB_READY);
	assert_true(look->awaits_open == 0 && look->awaits_count == 0);
	wh_job_free(look);
	/* what is not there; what is no action of a transaction, or no policy */
	ids[0] = UINT64_C(1) << 52;
	NEED(wh_client_submit(client, queue, &(struct wh_payload){.bytes = "x", .len = 1}, &options, &how),
	     -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "unknown-awaited");
	ids[0] = WH_AFTER_ACTION(0);
	NEED(wh_client_submit(client, queue, &(struct wh_payload){.bytes = "x", .len = 1}, &options, &how),
	     -WH_ECALL_REFUSED);
	ids[0] = then;
	options.after_failure = WH_AFTER_WAIT + 1;
	NEED(wh_client_submit(client, queue, &(struct wh_payload){.bytes = "x", .len = 1}, &options, &how),
	     -WH_ECALL_BAD_VALUE);
	wh_transaction_free(done);
}

static void batches(void **state)
{
	enum { COUNT = 2000 };
	static struct iovec payloads[COUNT];
	static struct wh_completion completions[COUNT];
	static char text[COUNT][8];
	struct wh_submit_options few = {.attempts = 2};
	struct wh_ids *ids;
	struct wh_leases *leases;
	struct wh_outcomes *outcomes;
	struct wh_result *result;
	struct wh_job *look;
	size_t got = 0;

	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		payloads[i] = (struct iovec){text[i], (size_t)snprintf(text[i], sizeof(text[i]), "%zu", i)};
	ids = NEED_PTR(wh_client_submit_many(client, queue, payloads, COUNT, "text/x; y=\"z\"", &few, &how),
	               COUNT);
	assert_int_equal(ids->count, COUNT);
	look = NEED_PTR(wh_client_look(client, ids->ids[COUNT - 1], &how), WH_JOB_READY);
	assert_string_equal(look->type, "text/x; y=\"z\"");
	assert_int_equal(look->attempts_max, 2);
	wh_job_free(look);
	while (got < COUNT) {
		wh_res res = wh_await(wh_client_reserve_bare(client, queue, 1000, 0, &how));
		assert_true(res.n > 0);
		leases = res.ptr;
		for (size_t i = 0; i < leases->count; i++, got++) {
			assert_int_equal(leases->jobs[i].lease.job, ids->ids[got]);
			assert_true(equals(leases->jobs[i].payload, text[got]));
			completions[got] =
				(struct wh_completion){leases->jobs[i].lease, text[got], strlen(text[got])};
		}
		wh_leases_free(leases);
	}
	completions[5].lease.claim += 1000000;
	completions[6].lease.job = (UINT64_C(1) << 53) - 1;
	outcomes = NEED_PTR(wh_client_complete_many(client, queue, completions, COUNT, "text/plain", &how),
	                    COUNT - 2);
	assert_int_equal(outcomes->count, COUNT);
	assert_int_equal(outcomes->errors[4], 0);
	assert_int_equal(outcomes->errors[5], -WH_ECALL_LEASE_LOST);
	assert_int_equal(outcomes->errors[6], -WH_ECALL_UNKNOWN_JOB);
	wh_outcomes_free(outcomes);
	result = NEED_PTR(wh_client_result(client, ids->ids[1999], 0, &how), 200);
	assert_true(equals(result->body, "1999") && equals(result->type, "text/plain"));
	wh_result_free(result);
	wh_ids_free(ids);
	NEED(wh_client_submit_many(client, queue, payloads, 0, NULL, NULL, &how), -EINVAL);
	NEED(wh_client_submit_many(client, queue, payloads, 10001, NULL, NULL, &how), -EINVAL);
	NEED(wh_client_complete_many(client, queue, completions, 0, NULL, &how), -EINVAL);
}

/* ---- the log ------------------------------------------------------------------------------- */

static void the_log(void **state)
{
	struct wh_log_state *log;
	wh_res res;

	(void)state;
	submit("x", NULL);
	res = wh_await(wh_client_log(client, &how));
	log = res.ptr;
	assert_int_equal(res.n, receipt.position.epoch);
	assert_int_equal(log->epoch, res.n);
	assert_true(log->flushed >= receipt.position.lsn && log->written >= log->flushed &&
	            log->appended >= log->written);
	wh_log_state_free(log);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(a_life),          ONE(waits_overlap), ONE(run),
		ONE(cancel_and_kick), ONE(edits),         ONE(expired),
		ONE(options),         ONE(levels),        ONE(borrowed_bodies),
		ONE(reserve_many),    ONE(verbs),         ONE(transactions),
		ONE(policies),        ONE(keys),          ONE(batches),
		ONE(the_log),         ONE(after_others),  ONE(others_of_a_transaction),
	};

	return RUN_OVER_BOTH(tests);
}
