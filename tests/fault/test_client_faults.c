/* tests/fault/test_client_faults.c -- every allocation of the C client fails, one at a time, against the real server.
 *
 * allocations.h stands before each function that allocates. A script does one of everything; the first allocation
 * fails, then the second, ... until the script ends without a failure. Every request must end, well or with a documented error; one after
 * it, with memory, must go well; at the end nothing may be left: allocations and frees are counted here, and sanitizers see the rest. The server
 * is another process, whose memory is its own.
 *
 * WHILST_FAULT=n repeats one.
 */
#include "../integration/client_server.h"

#include <errno.h>

#include "allocations.h"
#include "whilst/client.h"

/* ---- the script ---------------------------------------------------------------------------- */

static struct served server;
static wh_loop *loop;
static wh_client *client;
static int problems;
static struct wh_problem problem;
static struct wh_how how = {.level = WH_LEVEL_ASYNC, .problem = &problem}; /* the disk is not the subject */
static struct wh_how durably = {.problem = &problem};

static bool is_documented(int64_t n)
{
	return n == -ENOMEM || n == -EAGAIN || n == -ENOBUFS || n == -ETIMEDOUT || n == -WH_ECALL_UNKNOWN;
}

/* true: as it is without a failure. */
static bool expect(const char *what, int64_t n, bool good)
{
	if (good)
		return true;
	problems++;
	if (!is_documented(n)) {
		fprintf(stderr, "WHILST_FAULT=%d: %s gives %lld, %s: %s\n", atomic_load(&fail_at), what,
		        (long long)n, n < 0 ? wh_strerror(n) : "", problem.detail);
		abort();
	}
	return false;
}

static uint64_t submit(const char *queue)
{
	static char long_text[300];
	struct wh_payload payload = {.bytes = "payload", .len = 7, .type = long_text};
	struct wh_submit_options options = {.time_to_run_ns = 200 * WH_NS_PER_S,
	                                    .retention_ns = WH_NS_PER_S * 60};
	wh_res res;

	/* beyond what an ask has room for itself */
	memset(long_text, 'a', sizeof(long_text) - 1);
	memcpy(long_text, "text/", 5);
	long_text[200] = 0;
	res = wh_await(wh_client_submit(client, queue, &payload, &options, &how));
	return expect("submit", res.n, res.n > 0) ? (uint64_t)res.n : 0;
}

static void finish_one(const char *queue, bool bare, bool many)
{
	wh_res res = wh_await(bare ? wh_client_reserve_bare(client, queue, 10, 0, &how)
	                           : wh_client_reserve(client, queue, many ? 10 : 1, 0, &how));
	struct wh_leases *leases = res.ptr;

	/* jobs whose submit or lease was lost with an answer are no failure here */
	if (!expect("reserve", res.n, res.n >= 0) || res.n == 0)
		return;
	for (size_t i = 0; i < leases->count; i++) {
		const struct wh_leased *job = &leases->jobs[i];
		struct wh_payload result = {.bytes = job->payload.data, .len = job->payload.len};
		struct wh_completion completion = {job->lease, "x", 1};

		res = wh_await(wh_client_extend(client, job->lease, 0, &how));
		expect("extend", res.n, res.n > 0);
		if (many && i % 2 == 0) {
			struct wh_action actions[2] = {
				{.kind = WH_ACTION_COMPLETE, .lease = job->lease, .payload = result},
				{.kind = WH_ACTION_SUBMIT, .queue = "after", .text = "x"}};

			res = wh_await(wh_client_transact(client, actions, 2, &how));
			expect("transact", res.n, res.n == 2);
			wh_transaction_free(res.ptr);
		} else if (many) {
			res = wh_await(
				wh_client_complete_many(client, queue, &completion, 1, "text/plain", &how));
			expect("complete_many", res.n, res.n == 1);
			wh_outcomes_free(res.ptr);
		} else {
			res = wh_await(wh_client_complete(client, job->lease, 200, &result, &how));
			expect("complete", res.n, res.n == 0);
		}
	}
	wh_leases_free(leases);
}

static void look_at(uint64_t job)
{
	struct wh_log_state *log;
	wh_res res;

	if (job == 0)
		return;
	res = wh_await(wh_client_look(client, job, &how));
	if (expect("look", res.n, res.n > 0))
		wh_job_free(res.ptr);
	res = wh_await(wh_client_result(client, job, 0, &how));
	if (expect("result", res.n, res.n > 0 || res.n == -WH_ECALL_NOT_READY))
		wh_result_free(res.ptr);
	res = wh_await(wh_client_queues(client, NULL, &how));
	if (expect("queues", res.n, res.n > 0))
		wh_queues_free(res.ptr);
	res = wh_await(wh_client_log(client, &how));
	log = res.ptr;
	if (expect("log", res.n, res.n > 0)) {
		res = wh_await(wh_client_reached(client, (struct wh_position){log->epoch, log->flushed}, 0,
		                                 10 * WH_NS_PER_S, &how));
		expect("reached", res.n, res.n == 1);
		wh_log_state_free(log);
	}
}

/* Does what the run below waits for. */
static void on_leased(wh_loop *l, wh_res res, void *arg)
{
	struct wh_leases *leases = res.ptr;

	(void)l, (void)arg;
	if (res.n > 0)
		wh_detach(wh_client_complete(client, leases->jobs[0].lease, 0, NULL,
		                             &(struct wh_how){.level = WH_LEVEL_ASYNC}));
	wh_leases_free(leases);
}

static void others(void)
{
	struct iovec many[2] = {{many, 10}, {many, 0}};
	struct wh_queue_settings settings = {.attempts = 3, .retention_ns = WH_NS_PER_S * 60};
	struct wh_service_call call = {.service = "nobody", .path = "/"};
	struct wh_payload payload = {.bytes = "x", .len = 1};
	struct wh_subscription subscription = {
		.filters = "[]", .group = "subject", .unique = "id", .unique_while_ns = WH_NS_PER_S};
	struct wh_schedule_settings daily = {.cron = "@daily", .queue = "daily", .payload = payload};
	struct wh_topic_settings kept = {.retention_ns = WH_NS_PER_S, .deduplicate_ns = WH_NS_PER_S};
	struct wh_event event = {.type = "sold", .id = "1", .source = "/shop", .data = payload};
	struct wh_event_attribute region = {"region", "eu"};
	struct wh_event told = {.type = "due", .attribute_count = 1, .attributes = &region, .data = payload};
	wh_res res = wh_await(wh_client_queue_put(client, "put", &settings, &durably));
	char run[16]; /* of each script its own: what an earlier one left there would be done instead */

	snprintf(run, sizeof(run), "run%d", atomic_load(&fail_at));

	expect("queue_put", res.n, res.n >= 0);
	res = wh_await(wh_client_submit_many(client, "many", many, 2, NULL, NULL, &how));
	if (expect("submit_many", res.n, res.n == 2))
		wh_ids_free(res.ptr);
	res = wh_await(wh_client_topic_put(client, "shop", &kept, &durably));
	expect("topic_put", res.n, res.n >= 0);
	res = wh_await(wh_client_subscribe(client, "shop", "mail", &subscription, &durably));
	expect("subscribe", res.n, res.n >= 0);
	res = wh_await(wh_client_publish(client, "shop", &event, &how));
	expect("publish", res.n, res.n >= 0);
	res = wh_await(wh_client_schedule_put(client, run, &daily, &durably));
	expect("schedule_put", res.n, res.n >= 0);
	daily = (struct wh_schedule_settings){.cron = "@daily", .topic = "shop", .event = &told};
	res = wh_await(wh_client_schedule_put(client, run, &daily, &durably));
	expect("schedule_put of an event", res.n, res.n >= 0 || res.n == -WH_ECALL_UNKNOWN_TOPIC);
	res = wh_await(wh_client_schedule_pause(client, run, &durably));
	expect("schedule_pause", res.n, res.n == 0 || res.n == -WH_ECALL_REFUSED);
	res = wh_await(wh_client_schedules(client, NULL, &how));
	if (expect("schedules", res.n, res.n >= 0))
		wh_schedules_free(res.ptr);
	res = wh_await(wh_client_schedule_delete(client, run, &durably));
	expect("schedule_delete", res.n, res.n == 0 || res.n == -WH_ECALL_REFUSED);
	res = wh_await(wh_client_call(client, &call, &how));
	expect("call", res.n, res.n == -WH_ECALL_UNKNOWN_SERVICE);
	if (wh_then(wh_client_reserve(client, run, 1, WH_NS_PER_S, NULL), on_leased, NULL) != 0)
		problems++;
	res = wh_await(wh_client_run(client, run, &payload, NULL, WH_NS_PER_S, &how));
	expect("run", res.n, res.n > 0);
	wh_result_free(res.ptr);
}

/* ---- a worker ------------------------------------------------------------------------------ */

static void on_job(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	struct wh_payload result = {.bytes = leased->payload.data, .len = leased->payload.len};

	(void)arg;
	wh_detach(wh_worker_complete(job, 0, &result));
}

static void work(bool task)
{
	struct wh_worker_options options = {
		.queue = "work", .jobs_max = 2, .on_job = on_job, .task = task, .how.level = WH_LEVEL_ASYNC};
	uint64_t job = submit("work");
	wh_worker *worker;
	wh_res res;
	int error = wh_worker_open(client, &options, &worker);

	if (!expect("worker_open", error, error == 0))
		return;
	for (int i = 0; job > 0 && i < 200; i++) {
		res = wh_await(wh_client_look(client, job, &how));
		if (!expect("look", res.n, res.n > 0))
			break;
		wh_job_free(res.ptr);
		if (res.n == WH_JOB_DONE)
			break;
		wh_await(wh_sleep(loop, WH_NS_PER_MS));
	}
	res = wh_await(wh_worker_drain(worker));
	expect("drain", res.n, res.n == 0);
	wh_worker_close(worker);
}

static void script(void)
{
	struct wh_client_options options = {.server = server.local,
	                                    .user_agent = "fault",
	                                    .retry_ns = -1,
	                                    .connect_timeout_ns = 300 * WH_NS_PER_MS,
	                                    .answer_timeout_ns = 300 * WH_NS_PER_MS};
	int error = wh_loop_open(&loop, NULL);
	uint64_t job;

	if (!expect("loop_open", error, error == 0))
		return;
	error = wh_client_open(loop, &options, &client);
	if (expect("client_open", error, error == 0)) {
		job = submit("one");
		finish_one("one", false, false);
		look_at(job);
		submit("two");
		finish_one("two", false, true);
		submit("three");
		finish_one("three", true, false);
		others();
		work(false);
		work(true);
		/* and with memory, whatever was short before */
		atomic_store(&fail_at, 0);
		if (submit("last") == 0)
			abort();
		wh_client_close(client);
	}
	wh_loop_close(loop);
}

int main(void)
{
	const char *only = getenv("WHILST_FAULT");
	int n = only ? atoi(only) : 1;

	need_descriptors(2000);
	server_start(&server);
	script(); /* what is kept for ever is there now */
	for (;; n++) {
		long before = atomic_load(&live);

		atomic_store(&calls, 0);
		atomic_store(&hit, false);
		problems = 0;
		memset(&problem, 0, sizeof(problem));
		atomic_store(&fail_at, n);
		script();
		atomic_store(&fail_at, 0);
		if (atomic_load(&live) != before) {
			fprintf(stderr, "WHILST_FAULT=%d: %ld allocations are left\n", n,
			        atomic_load(&live) - before);
			abort();
		}
		if (!atomic_load(&hit) || only)
			break;
	}
	if (problems > 0 && !only) {
		fprintf(stderr, "without a failure, %d requests fail\n", problems);
		abort();
	}
	printf("%d allocations\n", n - 1);
	server_remove(&server);
	return 0;
}
