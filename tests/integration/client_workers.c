/* tests/integration/client_workers.c -- the worker of the C client: callbacks and tasks, leases that last, jobs that are lost, the end.
 */
#include "client_server.h"

#include <errno.h>
#include <inttypes.h>

#include "whilst/client.h"

#define S  WH_NS_PER_S
#define MS WH_NS_PER_MS

static struct served server;
static wh_loop *loop;
static wh_client *client;
static wh_worker *worker;
static char queue[32];

static int open_all(void **state)
{
	static int number;
	struct wh_client_options options = {.server = server.tcp};

	(void)state;
	snprintf(queue, sizeof(queue), "w%d", ++number);
	return wh_loop_open(&loop, NULL) != 0 || wh_client_open(loop, &options, &client) != 0;
}

static int close_all(void **state)
{
	(void)state;
	worker = wh_worker_close(worker);
	client = wh_client_close(client);
	loop = wh_loop_close(loop);
	return 0;
}

static uint64_t submit(const char *text, const struct wh_submit_options *options)
{
	struct wh_payload payload = {.bytes = text, .len = strlen(text), .type = "text/plain"};
	wh_res res = wh_await(wh_client_submit(client, queue, &payload, options, NULL));

	assert_true(res.n > 0);
	return (uint64_t)res.n;
}

static struct wh_job *wait_for(uint64_t job, int state)
{
	wh_res res = wh_await(wh_client_wait(client, job, 30 * S, NULL));

	assert_int_equal(res.n, state);
	return res.ptr;
}

static void finished(uint64_t job, int state)
{
	wh_job_free(wait_for(job, state));
}

static void work_with(struct wh_worker_options options)
{
	options.queue = queue;
	assert_int_equal(wh_worker_open(client, &options, &worker), 0);
}

/* ---- callbacks ----------------------------------------------------------------------------- */

static int in_flight, in_flight_max;

static void echo_later(wh_loop *l, wh_res res, void *arg)
{
	wh_worker_job *job = arg;
	const struct wh_leased *leased = wh_worker_leased(job);
	struct wh_payload back = {
		.bytes = leased->payload.data, .len = leased->payload.len, .type = leased->type};

	(void)l, (void)res;
	in_flight--;
	assert_int_equal(wh_detach(wh_worker_complete(job, 201, &back)), 0);
}

static void echo(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	(void)leased, (void)arg;
	if (++in_flight > in_flight_max)
		in_flight_max = in_flight;
	assert_int_equal(wh_then(wh_sleep(loop, MS), echo_later, job), 0);
}

static void many_at_once(void **state)
{
	enum { COUNT = 200 };
	uint64_t jobs[COUNT];

	(void)state;
	in_flight = in_flight_max = 0;
	for (int i = 0; i < COUNT; i++)
		jobs[i] = submit("echo", NULL);
	work_with((struct wh_worker_options){.jobs_max = 16, .on_job = echo});
	for (int i = 0; i < COUNT; i++) {
		wh_res res = wh_await(wh_client_result(client, jobs[i], 30 * S, NULL));
		struct wh_result *result = res.ptr;

		assert_int_equal(res.n, 201);
		assert_true(wh_slice_equal(result->body, "echo") &&
		            wh_slice_equal(result->type, "text/plain"));
		wh_result_free(result);
	}
	assert_int_equal(in_flight_max, 16);
}

/* What each payload asks for. */
static void as_told(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	wh_future f;

	(void)arg;
	if (wh_slice_equal(leased->payload, "fail"))
		f = wh_worker_fail(job, "as told", WH_RETRY_NEVER);
	else if (wh_slice_equal(leased->payload, "bury"))
		f = wh_worker_bury(job, "as told");
	else if (leased->attempt == 1 && wh_slice_equal(leased->payload, "again"))
		f = wh_worker_fail(job, "once", 0);
	else
		f = wh_worker_complete(job, 0, NULL);
	assert_int_equal(wh_detach(f), 0);
}

static void every_end(void **state)
{
	uint64_t fail = submit("fail", NULL), bury = submit("bury", NULL), again = submit("again", NULL);
	struct wh_job *job;

	(void)state;
	work_with((struct wh_worker_options){.on_job = as_told, .how.level = WH_LEVEL_LOCAL});
	job = wait_for(fail, WH_JOB_FAILED);
	assert_string_equal(job->errors[0].message, "as told");
	wh_job_free(job);
	job = wait_for(again, WH_JOB_DONE);
	assert_int_equal(job->attempts, 2);
	wh_job_free(job);
	assert_int_equal(wh_await(wh_worker_drain(worker)).n, 0);
	job = wh_await(wh_client_look(client, bury, NULL)).ptr;
	assert_int_equal(job->state, WH_JOB_BURIED);
	wh_job_free(job);
	assert_int_equal(wh_await(wh_worker_drain(worker)).n, -EALREADY);
}

/* ---- tasks --------------------------------------------------------------------------------- */

static void in_a_task(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	struct wh_payload back = {.bytes = "slept", .len = 5};

	(void)arg;
	assert_int_equal(wh_await(wh_sleep(loop, MS)).n, 0);
	if (wh_slice_equal(leased->payload, "forget"))
		return;
	assert_int_equal(wh_await(wh_worker_complete(job, 0, &back)).n, 0);
}

static void tasks(void **state)
{
	struct wh_submit_options once = {.attempts = 1};
	uint64_t forget = submit("forget", &once), jobs[20];
	struct wh_job *job;

	(void)state;
	for (int i = 0; i < 20; i++)
		jobs[i] = submit("x", NULL);
	work_with((struct wh_worker_options){
		.jobs_max = 5, .on_job = in_a_task, .task = true, .stack_bytes = 32768});
	for (int i = 0; i < 20; i++)
		finished(jobs[i], WH_JOB_DONE);
	job = wait_for(forget, WH_JOB_FAILED);
	assert_non_null(strstr(job->errors[0].message, "without an end"));
	wh_job_free(job);
}

/* ---- leases -------------------------------------------------------------------------------- */

static wh_worker_job *held;
static int lost_count;

static void hold(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	(void)leased, (void)arg;
	held = job;
}

static void lost(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	(void)leased, (void)arg;
	assert_true(wh_worker_lost(job) && job == held);
	lost_count++;
}

static void leases_last(void **state)
{
	struct wh_submit_options brief = {.time_to_run_ns = 150 * MS};
	uint64_t job = submit("x", &brief);
	struct wh_job *look;

	(void)state;
	held = NULL;
	lost_count = 0;
	work_with((struct wh_worker_options){.on_job = hold, .on_lost = lost});
	assert_int_equal(wh_await(wh_sleep(loop, 700 * MS)).n, 0); /* the subject is time that passes */
	assert_non_null(held);
	assert_int_equal(wh_await(wh_worker_complete(held, 0, NULL)).n, 0);
	look = wait_for(job, WH_JOB_DONE);
	assert_int_equal(look->attempts, 1);
	wh_job_free(look);
	assert_int_equal(lost_count, 0);
}

static wh_future finish_by(int verb)
{
	switch (verb) {
	case 0:
		return wh_worker_complete(held, 0, NULL);
	case 1:
		return wh_worker_fail(held, "too late", WH_RETRY_NEVER);
	case 2:
		return wh_worker_release(held, 0);
	default:
		return wh_worker_bury(held, "too late");
	}
}

static void a_job_is_cancelled(void **state)
{
	struct wh_submit_options brief = {.time_to_run_ns = 150 * MS};

	(void)state;
	work_with((struct wh_worker_options){.on_job = hold, .on_lost = lost});
	for (int verb = 0; verb < 4; verb++) {
		uint64_t job;

		held = NULL;
		lost_count = 0;
		job = submit("x", &brief);
		while (!held)
			assert_int_equal(wh_loop_turn(loop, -1), 0);
		assert_int_equal(wh_await(wh_client_cancel(client, job, NULL)).n, WH_JOB_RUNNING);
		while (lost_count == 0)
			assert_int_equal(wh_loop_turn(loop, -1), 0);
		finished(job, WH_JOB_CANCELLED);
		assert_int_equal(wh_await(finish_by(verb)).n, -WH_ECALL_LEASE_LOST);
		assert_int_equal(wh_worker_in_flight(worker), 0);
	}
}

static bool task_was_cancelled;

static void sleep_long(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	(void)leased, (void)arg;
	held = job;
	task_was_cancelled = wh_await(wh_sleep(loop, 60 * S)).n == -ECANCELED;
	assert_int_equal(wh_detach(wh_worker_fail(job, "cancelled", WH_RETRY_NEVER)), 0);
	held = NULL;
}

static void a_task_is_cancelled(void **state)
{
	struct wh_submit_options brief = {.time_to_run_ns = 150 * MS};
	uint64_t job = submit("x", &brief);

	(void)state;
	held = NULL;
	work_with((struct wh_worker_options){.on_job = sleep_long, .task = true});
	while (!held)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_await(wh_client_cancel(client, job, NULL)).n, WH_JOB_RUNNING);
	while (held)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_true(task_was_cancelled);
}

static void too_large(void **state)
{
	static char big[40 * 1024];
	struct wh_payload payload = {.bytes = big, .len = sizeof(big)};
	uint64_t job = submit("x", NULL);
	struct wh_job *look;

	(void)state;
	held = NULL;
	work_with((struct wh_worker_options){.on_job = hold});
	while (!held)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_await(wh_worker_complete(held, 0, &payload)).n, -WH_ECALL_TOO_LARGE);
	look = wait_for(job, WH_JOB_FAILED);
	assert_non_null(strstr(look->errors[0].message, "too large"));
	wh_job_free(look);
}

/* ---- the end ------------------------------------------------------------------------------- */

static void drained(void **state)
{
	struct wh_submit_options brief = {.time_to_run_ns = 150 * MS};
	uint64_t first = submit("x", NULL), second;
	wh_worker_job *only;
	wh_future drain;

	(void)state;
	held = NULL;
	work_with((struct wh_worker_options){.on_job = hold, .jobs_max = 3});
	while (!held)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_worker_in_flight(worker), 1);
	only = held;
	drain = wh_worker_drain(worker);
	/* nobody is given it any more; the server may lease it to the request that has just been taken back, if
	 * it learns of the job before it learns of that */
	second = submit("y", &brief);
	assert_false(wh_done(drain));
	assert_int_equal(wh_detach(wh_worker_complete(held, 0, NULL)), 0);
	assert_int_equal(wh_await(drain).n, 0);
	finished(first, WH_JOB_DONE);
	assert_true(wh_await(wh_client_cancel(client, second, NULL)).n > 0);
	finished(second, WH_JOB_CANCELLED);
	assert_ptr_equal(held, only);
}

static void closed_with_a_job(void **state)
{
	uint64_t job = submit("x", NULL);

	(void)state;
	held = NULL;
	work_with((struct wh_worker_options){.on_job = hold});
	while (!held)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	worker = wh_worker_close(worker);
	assert_int_equal(wh_await(wh_worker_complete(held, 0, NULL)).n, 0);
	finished(job, WH_JOB_DONE);
	/* and after the client, where nobody is told any more */
	submit("y", NULL);
	held = NULL;
	work_with((struct wh_worker_options){.on_job = hold});
	while (!held)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	worker = wh_worker_close(worker);
	client = wh_client_close(client);
	assert_int_equal(wh_await(wh_worker_release(held, 0)).n, -ECANCELED);
}

/* Closed after every number of turns. */
static void closed_at_every_moment(void **state)
{
	(void)state;
	for (int turns = 0; turns < 15; turns++) {
		submit("x", NULL);
		work_with((struct wh_worker_options){.on_job = as_told, .jobs_max = 2});
		for (int i = 0; i < turns; i++)
			assert_int_equal(wh_loop_turn(loop, MS), 0);
		if (turns % 2) {
			wh_future drain = wh_worker_drain(worker);
			assert_int_equal(wh_loop_turn(loop, 0), 0);
			worker = wh_worker_close(worker);
			int64_t n = wh_await(drain).n;
			assert_true(n == 0 || n == -ECANCELED);
		} else {
			worker = wh_worker_close(worker);
		}
	}
	assert_null(wh_worker_close(NULL));
}

static int troubles;

static void on_trouble(wh_worker *w, const struct wh_problem *problem, void *arg)
{
	(void)arg;
	assert_ptr_equal(w, worker);
	assert_int_equal(problem->error, -WH_ECALL_BAD_VALUE);
	troubles++;
}

static void trouble(void **state)
{
	struct wh_worker_options options = {.queue = "call/x", .on_job = hold, .on_trouble = on_trouble};
	wh_worker *none;

	(void)state;
	assert_int_equal(wh_worker_open(client, &options, &worker), 0);
	while (troubles < 2)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	options.on_job = NULL;
	assert_int_equal(wh_worker_open(client, &options, &none), -EINVAL);
	options.on_job = hold;
	options.jobs_max = 1001;
	assert_int_equal(wh_worker_open(client, &options, &none), -EINVAL);
	options.jobs_max = 1;
	options.queue = "";
	assert_int_equal(wh_worker_open(client, &options, &none), -EINVAL);
	assert_int_equal(wh_worker_open(client, NULL, &none), -EINVAL);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(many_at_once),
		ONE(every_end),
		ONE(tasks),
		ONE(leases_last),
		ONE(a_job_is_cancelled),
		ONE(a_task_is_cancelled),
		ONE(too_large),
		ONE(drained),
		ONE(closed_with_a_job),
		ONE(closed_at_every_moment),
		ONE(trouble),
	};
	int failed;

	need_descriptors(2000);
	server.more[0] = "--max-payload";
	server.more[1] = "32KiB";
	server_start(&server);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_remove(&server);
	return failed;
}
