/* tests/integration/client_calls.c -- every call of the C client against the real server, over TCP and over a UNIX socket.
 *
 * Each test is run twice, once for each transport; the engine is $WHILST_ENGINE for both sides.
 */
#include "client_server.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>

#include "whilst/client.h"

#define S  WH_NS_PER_S
#define MS WH_NS_PER_MS

static struct served server;
static wh_loop *loop;
static wh_client *client;
static bool over_unix;
static char queue[32];
static struct wh_problem problem;
static struct wh_receipt receipt;
static const struct wh_how how = {.receipt = &receipt, .problem = &problem};

static int open_all(void **state)
{
	static int number;
	struct wh_client_options options = {.server = over_unix ? server.local : server.tcp,
	                                    .user_agent = "test"};

	(void)state;
	snprintf(queue, sizeof(queue), "q/%d", ++number);
	memset(&problem, 0, sizeof(problem));
	memset(&receipt, 0, sizeof(receipt));
	return wh_loop_open(&loop, NULL) != 0 || wh_client_open(loop, &options, &client) != 0;
}

static int close_all(void **state)
{
	(void)state;
	client = wh_client_close(client);
	loop = wh_loop_close(loop);
	return 0;
}

#define NEED(f, wanted) need(wh_await(f), wanted, __LINE__)
static void need(wh_res res, int64_t wanted, int line)
{
	if (res.n != wanted)
		fail_msg("line %d: %" PRId64 " (%s), wanted %" PRId64 "; %s", line, res.n,
		         res.n < 0 ? wh_strerror(res.n) : "", wanted, problem.detail);
}

static void *need_ptr(wh_res res, int64_t wanted, int line)
{
	need(res, wanted, line);
	assert_non_null(res.ptr);
	return res.ptr;
}
#define NEED_PTR(f, wanted) need_ptr(wh_await(f), wanted, __LINE__)

static struct wh_payload bytes_of(const char *text)
{
	return (struct wh_payload){.bytes = text, .len = strlen(text), .type = "text/plain"};
}

static uint64_t submit(const char *text, const struct wh_submit_options *options)
{
	struct wh_payload payload = bytes_of(text);
	wh_res res = wh_await(wh_client_submit(client, queue, &payload, options, &how));

	assert_true(res.n > 0);
	return (uint64_t)res.n;
}

static struct wh_lease lease_one(void)
{
	struct wh_leases *leases = NEED_PTR(wh_client_reserve(client, queue, 1, 5 * S, &how), 1);
	struct wh_lease lease = leases->jobs[0].lease;

	wh_leases_free(leases);
	return lease;
}

static bool equals(struct wh_slice slice, const char *text)
{
	return wh_slice_equal(slice, text);
}

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

		bad.kind = i == 0 ? 0 : i == 1 ? WH_ACTION_KICK + 1 : i == 2 ? WH_ACTION_PROGRESS : bad.kind;
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
	                                     .group_concurrency = 2};
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

/* ---- queues -------------------------------------------------------------------------------- */

static void many_jobs(void **state)
{
	uint64_t ids[6];
	struct wh_many some = {.state = "ready", .error = "\"bro & ken\""},
		       move = {.ids = ids, .id_count = 2};
	char other[64];

	(void)state;
	snprintf(other, sizeof(other), "%.40s.other", queue);
	for (int i = 0; i < 6; i++)
		ids[i] = submit("x", NULL);
	for (int i = 0; i < 3; i++)
		NEED(wh_client_fail(client, lease_one(), i ? "\"bro & ken\"" : "else", WH_RETRY_NEVER, &how),
		     WH_JOB_FAILED);
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 0);
	some.state = "failed";
	NEED(wh_client_many(client, queue, WH_MANY_REPLAY, &some, &how), 2);
	assert_true(receipt.position.lsn > 0);
	NEED(wh_client_many(client, queue, WH_MANY_REPLAY, NULL, &how), 1);
	NEED(wh_client_many(client, queue, WH_MANY_MOVE, &move, &how), -WH_ECALL_REFUSED);
	move.to = other;
	NEED(wh_client_many(client, queue, WH_MANY_MOVE, &move, &how), 2);
	some = (struct wh_many){.from = ids[2], .until = ids[4], .count = 2, .newer_ns = 3600 * S};
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 2);
	some = (struct wh_many){.older_ns = 3600 * S};
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 0);
	some = (struct wh_many){.dead = true};
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, &some, &how), 0);
	NEED(wh_client_many(client, queue, WH_MANY_PURGE, NULL, &how), 2);
	NEED(wh_client_many(client, queue, WH_MANY_KICK, NULL, &how), 0);
	NEED(wh_client_many(client, "nowhere", WH_MANY_KICK, NULL, &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_many(client, queue, 7, NULL, &how), -EINVAL);
	NEED(wh_client_many(client, "", WH_MANY_KICK, NULL, &how), -EINVAL);
}

static void queues(void **state)
{
	struct wh_queue_settings settings = {
		.time_to_run_ns = 90 * S, .attempts = 4, .retention_ns = 7200 * S, .jobs_max = 2};
	struct wh_payload payload = bytes_of("x");
	struct wh_queues *list;
	uint64_t job;
	bool found = false;

	(void)state;
	NEED(wh_client_queue_put(client, queue, &settings, &how), 1);
	NEED(wh_client_queue_put(client, queue, &settings, &how), 0);
	job = submit("x", NULL);
	submit("x", NULL);
	NEED(wh_client_submit(client, queue, &payload, NULL, &how), -WH_ECALL_QUEUE_FULL);
	assert_int_equal(problem.limit, 2);
	assert_int_equal(problem.status, 429);
	assert_true(problem.retry_after_ns > 0);
	list = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	assert_string_equal(list->queues[0].name, queue);
	assert_int_equal(list->queues[0].jobs[WH_JOB_READY], 2);
	assert_int_equal(list->queues[0].submitted, 2);
	assert_false(list->queues[0].paused);
	assert_int_equal(list->queues[0].settings.time_to_run_ns, 90 * S);
	assert_int_equal(list->queues[0].settings.attempts, 4);
	assert_int_equal(list->queues[0].settings.retention_ns, 7200 * S);
	assert_int_equal(list->queues[0].settings.jobs_max, 2);
	wh_queues_free(list);
	NEED(wh_client_queue_pause(client, queue, &how), 0);
	NEED(wh_client_reserve(client, queue, 1, 0, &how), 0);
	list = wh_await(wh_client_queues(client, NULL, &how)).ptr;
	assert_non_null(list);
	for (size_t i = 0; i < list->count; i++)
		found |= !strcmp(list->queues[i].name, queue) && list->queues[i].paused;
	assert_true(found);
	wh_queues_free(list);
	NEED(wh_client_queue_resume(client, queue, &how), 0);
	NEED(wh_client_queue_delete(client, queue, &how), -WH_ECALL_QUEUE_NOT_EMPTY);
	NEED(wh_client_cancel(client, job, &how), WH_JOB_CANCELLED);
	NEED(wh_client_complete(client, lease_one(), 0, NULL, &how), 0);
	NEED(wh_client_queue_put(client, queue, NULL, &how), 0);
	list = NEED_PTR(wh_client_queues(client, queue, &how), 1);
	assert_int_equal(list->queues[0].settings.jobs_max, 0);
	wh_queues_free(list);
	NEED(wh_client_queue_delete(client, queue, &how), 0);
	NEED(wh_client_queues(client, "nothing", &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_delete(client, "nothing", &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_pause(client, "nothing", &how), -WH_ECALL_UNKNOWN_QUEUE);
	NEED(wh_client_queue_put(client, "", NULL, &how), -EINVAL);
	settings.attempts = 2000;
	NEED(wh_client_queue_put(client, queue, &settings, &how), -WH_ECALL_BAD_VALUE);
}

/* ---- services ------------------------------------------------------------------------------ */

static void backend_later(wh_loop *l, wh_res res, void *arg)
{
	(void)l, (void)res;
	wh_http_respond(arg, 200, "late", 4);
}

static void backend(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x), body = wh_http_body(x);

	(void)arg;
	if (equals(path, "/base/slow")) {
		wh_then(wh_sleep(loop, 1500 * MS), backend_later, x);
	} else if (equals(path, "/base/none")) {
		wh_http_problem(x, 404, "not here");
	} else if (equals(path, "/base/broken")) {
		wh_http_abort(x);
	} else {
		(void)wh_http_set(x, "Content-Type", "text/echo");
		(void)wh_http_set_slice(x, (struct wh_slice){"X-Method", 8}, wh_http_method_token(x));
		(void)wh_http_set_slice(x, (struct wh_slice){"X-Own", 5}, wh_http_header(x, "X-Own"));
		wh_http_respond(x, 203, body.data, body.len);
	}
}

static wh_http_server *open_backend(char *url, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wh_http_server_options options = {.on_request = backend};
	socklen_t len = sizeof(address);
	wh_http_server *http;
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);

	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(url, size, "http://127.0.0.1:%u/base", ntohs(address.sin_port));
	assert_int_equal(wh_http_server_open(loop, &options, &http), 0);
	assert_int_equal(wh_http_server_listen(http, fd), 0);
	return http;
}

static void passes_through(const char *service)
{
	struct wh_http_field own = {{"X-Own", 5}, {"mine", 4}};
	struct wh_service_call call = {
		.service = service, .path = "echo?a=b", .fields = &own, .field_count = 1};
	struct wh_result *result;

	call.body = bytes_of("hello");
	result = NEED_PTR(wh_client_call(client, &call, &how), 203);
	assert_true(equals(result->body, "hello") && equals(result->type, "text/echo"));
	assert_int_equal(result->job, 0);
	wh_result_free(result);
	call.method = "DELETE";
	call.body = (struct wh_payload){0};
	result = NEED_PTR(wh_client_call(client, &call, &how), 203);
	for (size_t i = 0, found = 0; i <= result->field_count; i++) {
		if (i == result->field_count)
			assert_int_equal(found, 2);
		else
			found += equals(result->fields[i].value, "DELETE") ||
			         equals(result->fields[i].value, "mine");
	}
	wh_result_free(result);
	call.method = "FETCH";
	NEED(wh_client_call(client, &call, &how), -EINVAL);
	call.method = NULL;
	call.path = "/none";
	wh_result_free(NEED_PTR(wh_client_call(client, &call, &how), 404)); /* the service's own */
	call.path = "/broken";
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_BACKEND);
}

static void recorded(const char *service)
{
	struct wh_service_call call = {.service = service, .path = "/echo", .respond_async = true};
	struct wh_result *result;
	uint64_t first = 0;

	call.body = bytes_of("later");
	result = NEED_PTR(wh_client_call(client, &call, &how), 202);
	assert_true(result->accepted && result->job > 0 && receipt.job == result->job);
	wh_result_free(NEED_PTR(wh_client_result(client, result->job, 20 * S, &how), 203));
	wh_result_free(result);
	call.respond_async = false;
	call.wait_ns = 20 * S;
	result = NEED_PTR(wh_client_call(client, &call, &how), 203);
	assert_true(!result->accepted && result->job > 0 && equals(result->body, "later"));
	wh_result_free(result);
	for (int i = 0; i < 2; i++) {
		struct wh_how once = {.problem = &problem, .key = "call"};

		result = NEED_PTR(wh_client_call(client, &call, &once), 203);
		assert_true(i == 0 || result->job == first);
		first = result->job;
		wh_result_free(result);
	}
	call.path = "/slow";
	call.wait_ns = MS; /* at least a second, which is not enough */
	result = NEED_PTR(wh_client_call(client, &call, &how), 202);
	assert_true(result->accepted && result->job > 0);
	wh_result_free(NEED_PTR(wh_client_result(client, result->job, 20 * S, &how), 200));
	wh_result_free(result);
}

static void services(void **state)
{
	struct wh_service_settings settings = {.concurrency = 3, .attempts = 1, .timeout_ns = 30 * S};
	struct wh_service_call call = {.service = "nobody", .path = "/"};
	char url[64], service[40];
	wh_http_server *http = open_backend(url, sizeof(url));

	(void)state;
	snprintf(service, sizeof(service), "s%s", queue + 2);
	settings.url = url;
	NEED(wh_client_service_put(client, service, &settings, &how), 1);
	NEED(wh_client_service_put(client, service, &settings, &how), 0);
	passes_through(service);
	recorded(service);
	wh_http_server_close(http);
	call.service = service;
	call.method = "POST";
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_BACKEND);
	assert_int_equal(strncmp(problem.code, "backend-", 8),
	                 0); /* refused, or a kept connection that has ended */
	call.wait_ns = 20 * S;
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_JOB_FAILED);
	assert_true(problem.job > 0 && problem.job == receipt.job);
	NEED(wh_client_service_delete(client, service, &how), 0);
	NEED(wh_client_call(client, &call, &how), -WH_ECALL_UNKNOWN_SERVICE);
	NEED(wh_client_service_delete(client, service, &how), -WH_ECALL_UNKNOWN_SERVICE);
	settings.url = "ftp://x";
	NEED(wh_client_service_put(client, service, &settings, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_service_put(client, service, NULL, &how), -EINVAL);
}

/* ---- topics -------------------------------------------------------------------------------- */

static bool has_field(const struct wh_leased *job, const char *name, const char *value)
{
	for (size_t i = 0; i < job->field_count; i++) {
		if (wh_slice_equal_caseless(job->fields[i].name, name))
			return equals(job->fields[i].value, value);
	}
	return false;
}

static void events(void **state)
{
	static const struct wh_event_attribute more[] = {{"region", "\xc3\xa9 \"u\" 100%"}, {"n", ""}};
	struct wh_event event = {.type = "order.placed", .data = bytes_of("seventeen")}, bad;
	struct wh_subscription subscription = {.filters = "[{\"prefix\":{\"type\":\"order.\"}}]"};
	struct wh_leases *leases;
	char topic[40];

	(void)state;
	snprintf(topic, sizeof(topic), "topic-%s", queue);
	NEED(wh_client_publish(client, topic, &event, &how), -WH_ECALL_UNKNOWN_TOPIC);
	NEED(wh_client_topic_put(client, topic, 3600 * S, 1000, &how), 1);
	NEED(wh_client_topic_put(client, topic, 3600 * S, 0, &how), 0);
	NEED(wh_client_publish(client, topic, &event, &how), 0);
	subscription.queue = queue;
	NEED(wh_client_subscribe(client, topic, "mail", &subscription, &how), 1);
	subscription.from = "beginning";
	NEED(wh_client_subscribe(client, topic, "mail", &subscription, &how), 0);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 20 * S, &how), 1);
	assert_true(has_field(&leases->jobs[0], "ce-type", "order.placed"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	event.id = "A 1";
	event.source = "/shop";
	event.subject = "order/17";
	event.time = INT64_C(1700000000) * S;
	event.attributes = more;
	event.attribute_count = 2;
	NEED(wh_client_publish(client, topic, &event, &how), 1);
	leases = NEED_PTR(wh_client_reserve(client, queue, 1, 20 * S, &how), 1);
	assert_true(equals(leases->jobs[0].payload, "seventeen"));
	assert_true(has_field(&leases->jobs[0], "ce-id", "A%201") &&
	            has_field(&leases->jobs[0], "ce-source", "/shop") &&
	            has_field(&leases->jobs[0], "ce-subject", "order/17") &&
	            has_field(&leases->jobs[0], "ce-time", "2023-11-14T22:13:20.000Z") &&
	            has_field(&leases->jobs[0], "ce-region", "%C3%A9%20%22u%22%20100%25"));
	NEED(wh_client_complete(client, leases->jobs[0].lease, 0, NULL, &how), 0);
	wh_leases_free(leases);
	event.type = "item.sold";
	NEED(wh_client_publish(client, topic, &event, &how), 0);
	event.source = "not a uri";
	NEED(wh_client_publish(client, topic, &event, &how), -WH_ECALL_REFUSED);
	event.source = NULL;
	NEED(wh_client_publish(client, topic, &event, &how), -EINVAL);
	bad = (struct wh_event){.type = "a", .time = 1};
	NEED(wh_client_publish(client, topic, &bad, &how), -EINVAL);
	bad = (struct wh_event){.id = "1", .source = "/a"};
	NEED(wh_client_publish(client, topic, &bad, &how), -EINVAL);
	bad = (struct wh_event){.type = "a",
	                        .id = "1",
	                        .source = "/a",
	                        .attributes = (struct wh_event_attribute[]){{"A", "x"}},
	                        .attribute_count = 1};
	NEED(wh_client_publish(client, topic, &bad, &how), -EINVAL);
	NEED(wh_client_publish(client, topic, NULL, &how), -EINVAL);
	NEED(wh_client_subscribe(client, topic, "", NULL, &how), -EINVAL);
	subscription.filters = "[{\"sql\":\"x\"}]";
	NEED(wh_client_subscribe(client, topic, "mail", &subscription, &how), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_unsubscribe(client, topic, "mail", &how), 0);
	NEED(wh_client_unsubscribe(client, topic, "mail", &how), -WH_ECALL_UNKNOWN_TOPIC);
}

/* ---- the rest ------------------------------------------------------------------------------ */

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

static void refused_addresses(void **state)
{
	static const char *const bad[] = {"",           "unix:", "http://",   "http://a/b",
	                                  "http://u@a", "a/b",   "http://a?x"};
	wh_client *other;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(wh_client_open(loop, &(struct wh_client_options){.server = bad[i]}, &other) < 0);
	assert_int_equal(wh_client_open(loop, &(struct wh_client_options){.server = "ftp://a"}, &other),
	                 -EPROTONOSUPPORT);
	assert_int_equal(
		wh_client_open(loop, &(struct wh_client_options){.server = "http://127.0.0.1:1/"}, &other),
		0);
	wh_client_close(other);
	assert_null(wh_client_close(NULL));
}

static void nobody_there(void **state)
{
	struct wh_client_options options = {.server = over_unix ? "unix:/nowhere/at/all" : "127.0.0.1:1",
	                                    .retry_ns = -1};
	struct wh_payload payload = bytes_of("x");
	int64_t error = over_unix ? -ENOENT : -ECONNREFUSED;
	wh_client *other;

	(void)state;
	assert_int_equal(wh_client_open(loop, &options, &other), 0);
	NEED(wh_client_submit(other, queue, &payload, NULL, &how),
	     error); /* nothing was done, and that is known */
	assert_int_equal(problem.cause, error);
	assert_int_equal(problem.status, 0);
	assert_true(problem.detail[0]);
	NEED(wh_client_look(other, 1, &how), error);
	wh_client_close(other);
	options.retry_ns = 200 * MS;
	assert_int_equal(wh_client_open(loop, &options, &other), 0);
	NEED(wh_client_submit(other, queue, &payload, NULL, &how), error);
	struct wh_client_stats stats;
	wh_client_stats(other, &stats);
	assert_true(stats.retries >= 1 && stats.requests == stats.retries + 1 && stats.in_flight == 0);
	wh_client_close(other);
}

static void time_is_up(void **state)
{
	struct wh_how soon = {.timeout_ns = MS, .problem = &problem};
	int fds;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct wh_payload payload = bytes_of("x");
	char name[40];
	wh_client *other;

	(void)state;
	fds = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL); /* accepts nobody */
	assert_true(fds >= 0);
	assert_int_equal(getsockname(fds, (struct sockaddr *)&address, &len), 0);
	snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(wh_client_open(loop, &(struct wh_client_options){.server = name}, &other), 0);
	NEED(wh_client_look(other, 1, &soon), -ETIMEDOUT);
	NEED(wh_client_submit(other, queue, &payload, NULL, &soon), -WH_ECALL_UNKNOWN); /* it was sent */
	assert_int_equal(problem.cause, -ETIMEDOUT);
	wh_client_close(other);
	close(fds);
}

/* Something else than a whilst server. */
static void strange(wh_http_exchange *x, void *arg)
{
	const char *const *answer = arg;

	wh_http_respond(x, atoi(answer[0]), answer[1], strlen(answer[1]));
}

static void strange_answers(void **state)
{
	static const char *answers[2];
	static const struct {
		const char *status, *body;
		int64_t change, read;
	} cases[] = {
		{"200", "hello", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX},
		{"202", "{\"id\":", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX},
		{"202", "{\"id\": 17}", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX}, /* no position */
		{"204", "", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX},
		{"404", "<html>", -WH_ECALL_REFUSED, -WH_ECALL_REFUSED},
		{"413", "", -WH_ECALL_TOO_LARGE, -WH_ECALL_TOO_LARGE},
		{"502", "<html>", -WH_ECALL_UNKNOWN, -WH_ECALL_REFUSED},
	};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wh_http_server_options options = {.on_request = strange, .arg = (void *)(uintptr_t)answers};
	struct wh_payload payload = bytes_of("x");
	socklen_t len = sizeof(address);
	wh_http_server *http;
	char name[40];
	wh_client *other;
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(name, sizeof(name), "http://127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(wh_http_server_open(loop, &options, &http), 0);
	assert_int_equal(wh_http_server_listen(http, fd), 0);
	assert_int_equal(wh_client_open(loop, &(struct wh_client_options){.server = name}, &other), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answers[0] = cases[i].status;
		answers[1] = cases[i].body;
		NEED(wh_client_submit(other, queue, &payload, NULL, &how), cases[i].change);
		NEED(wh_client_look(other, 1, &how), cases[i].read);
		NEED(wh_client_cancel(other, 1, &how), cases[i].change);
		NEED(wh_client_queues(other, NULL, &how), cases[i].read);
		NEED(wh_client_log(other, &how), cases[i].read);
		NEED(wh_client_queue_put(other, queue, NULL, &how), cases[i].change);
	}
	wh_client_close(other);
	wh_http_server_close(http);
}

static wh_future any_request(int kind)
{
	struct wh_payload payload = bytes_of("x");
	struct iovec many[2] = {{queue, 3}, {queue, 0}};

	switch (kind) {
	case 0:
		return wh_client_submit(client, queue, &payload, NULL, &how);
	case 1:
		return wh_client_run(client, queue, &payload, NULL, 20 * S, &how);
	case 2:
		return wh_client_look(client, 1, &how);
	case 3:
		return wh_client_reserve(client, queue, 3, 5 * S, &how);
	case 4:
		return wh_client_submit_many(client, queue, many, 2, NULL, NULL, &how);
	case 5:
		return wh_client_queues(client, NULL, &how);
	default:
		return wh_client_log(client, &how);
	}
}

static void free_any(int kind, wh_res res)
{
	if (kind == 1)
		wh_result_free(res.ptr);
	else if (kind == 2)
		wh_job_free(res.ptr);
	else if (kind == 3)
		wh_leases_free(res.ptr);
	else if (kind == 4)
		wh_ids_free(res.ptr);
	else if (kind == 5)
		wh_queues_free(res.ptr);
	else
		wh_log_state_free(res.ptr);
}

/* Given up after every number of turns of the loop: by cancel, by drop, and by the end of the client. */
static void given_up_at_every_moment(void **state)
{
	struct wh_client_options options = {.server = over_unix ? server.local : server.tcp};
	struct wh_client_stats stats;

	(void)state;
	for (int kind = 0; kind < 7; kind++) {
		for (int turns = 0; turns < 12; turns++) {
			wh_future f = any_request(kind), dropped = any_request(kind);
			wh_res res;

			for (int i = 0; i < turns; i++)
				assert_int_equal(wh_loop_turn(loop, MS), 0);
			wh_cancel(f);
			assert_int_equal(wh_drop(dropped), 0);
			res = wh_await(f);
			assert_true(res.n == -ECANCELED || res.n >= 0 || res.n <= -4096);
			free_any(kind, res);
			/* and with the client, which ends all */
			f = any_request(kind);
			for (int i = 0; i < turns; i++)
				assert_int_equal(wh_loop_turn(loop, 0), 0);
			wh_client_stats(client, &stats);
			assert_true(stats.in_flight <= 1);
			wh_client_close(client);
			res = wh_await(f);
			assert_true(res.n == -ECANCELED || res.n >= 0 || res.n <= -4096);
			free_any(kind, res);
			assert_int_equal(wh_client_open(loop, &options, &client), 0);
		}
	}
}

/* Every wait has a connection, and none stands in the way of what is answered at once. */
static void thousands_wait(void **state)
{
	enum { COUNT_MAX = 5000 };
	static struct iovec payloads[COUNT_MAX];
	static struct wh_completion completions[COUNT_MAX];
	static wh_future waits[COUNT_MAX];
	struct wh_ids *ids;
	struct wh_client_stats stats;
	/* a thread blocks for each on that engine, on both sides */
	size_t got = 0, count = strcmp(wh_engine_name(loop), "threads") == 0 ? 400 : COUNT_MAX;

	(void)state;
	ids = NEED_PTR(wh_client_submit_many(client, queue, payloads, count, NULL, NULL, &how),
	               (int64_t)count);
	for (size_t i = 0; i < count; i++)
		waits[i] = wh_client_wait(client, ids->ids[i], 120 * S, NULL);
	wh_client_stats(client, &stats);
	assert_int_equal(stats.in_flight, count);
	while (got < count) {
		wh_res res = wh_await(wh_client_reserve_bare(client, queue, 1000, 0, &how));
		struct wh_leases *leases = res.ptr;

		assert_true(res.n > 0);
		for (size_t i = 0; i < leases->count; i++)
			completions[got++] = (struct wh_completion){leases->jobs[i].lease, NULL, 0};
		wh_leases_free(leases);
	}
	wh_outcomes_free(NEED_PTR(wh_client_complete_many(client, queue, completions, count, NULL, &how),
	                          (int64_t)count));
	for (size_t i = 0; i < count; i++)
		wh_job_free(need_ptr(wh_await(waits[i]), WH_JOB_DONE, __LINE__));
	wh_ids_free(ids);
	wh_client_stats(client, &stats);
	assert_int_equal(stats.in_flight, 0);
}

static void thousands_submit(void **state)
{
	enum { COUNT = 5000 };
	static wh_future submits[COUNT];
	struct wh_payload payload = bytes_of("x");
	struct wh_client_stats stats;

	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		submits[i] = wh_client_submit(client, queue, &payload, NULL, NULL);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(wh_await(submits[i]).n > 0);
	wh_client_stats(client, &stats);
	assert_true(stats.connections <= 64 && stats.requests == COUNT);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(a_life),
		ONE(waits_overlap),
		ONE(run),
		ONE(cancel_and_kick),
		ONE(edits),
		ONE(expired),
		ONE(options),
		ONE(levels),
		ONE(borrowed_bodies),
		ONE(reserve_many),
		ONE(verbs),
		ONE(transactions),
		ONE(policies),
		ONE(keys),
		ONE(batches),
		ONE(many_jobs),
		ONE(queues),
		ONE(services),
		ONE(events),
		ONE(the_log),
		ONE(refused_addresses),
		ONE(nobody_there),
		ONE(time_is_up),
		ONE(strange_answers),
		ONE(given_up_at_every_moment),
		ONE(thousands_submit),
		ONE(thousands_wait),
	};
	int failed;

	need_descriptors(12000);
	server_start(&server);
	failed = cmocka_run_group_tests_name("over TCP", tests, NULL, NULL);
	over_unix = true;
	failed += cmocka_run_group_tests_name("over a UNIX socket", tests, NULL, NULL);
	server_remove(&server);
	return failed;
}
