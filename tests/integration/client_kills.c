/* tests/integration/client_kills.c -- the server is killed, stopped and started again under the C client.
 *
 * What is checked after each: no acknowledged change is lost, nothing that was reported as not done is there, and what is not known is
 * reported as that. Waits and workers go on as if nothing had happened.
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

static int open_all(void **state)
{
	struct wh_client_options options = {.server = server.tcp, .retry_ns = 60 * S};

	(void)state;
	return wh_loop_open(&loop, NULL) != 0 || wh_client_open(loop, &options, &client) != 0;
}

static int close_all(void **state)
{
	(void)state;
	client = wh_client_close(client);
	loop = wh_loop_close(loop);
	return 0;
}

static struct wh_payload text(const char *bytes)
{
	return (struct wh_payload){.bytes = bytes, .len = strlen(bytes), .type = "text/plain"};
}

/* How often each payload is in the queue; all of it is taken out. */
static void count_jobs(const char *queue, int *counts, int max)
{
	for (;;) {
		wh_res res = wh_await(wh_client_reserve(client, queue, 1000, 0, NULL));
		struct wh_leases *leases = res.ptr;

		assert_true(res.n >= 0);
		if (res.n == 0)
			return;
		for (size_t i = 0; i < leases->count; i++) {
			char number[16] = "";
			int at;

			memcpy(number, leases->jobs[i].payload.data, leases->jobs[i].payload.len);
			at = atoi(number);
			assert_in_range(at, 0, max - 1);
			counts[at]++;
		}
		wh_leases_free(leases);
	}
}

/* ---- submits ------------------------------------------------------------------------------- */

enum { SUBMITS = 400, ROUNDS = 4 };

struct submit {
	wh_future f;
	struct wh_receipt receipt;
	struct wh_problem problem;
	wh_res res;
};

static void submits_are_lost_or_not(void **state)
{
	static struct submit submits[SUBMITS];
	static int counts[SUBMITS];
	int known = 0, unknown = 0;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		char queue[32];

		snprintf(queue, sizeof(queue), "submits%d", round);
		memset(submits, 0, sizeof(submits));
		memset(counts, 0, sizeof(counts));
		for (int i = 0; i < SUBMITS; i++) {
			struct submit *s = &submits[i];
			struct wh_how how = {.receipt = &s->receipt, .problem = &s->problem};
			char number[16];
			struct wh_payload payload = {
				.bytes = number, .len = (size_t)snprintf(number, sizeof(number), "%d", i)};

			s->f = wh_client_submit(client, queue, &payload, NULL, &how);
		}
		/* killed with some answered, some sent and some in line */
		for (int i = 0; i < 40 * round; i++)
			submits[i].res = wh_await(submits[i].f);
		server_end(&server, SIGKILL);
		for (int turns = 0; turns < 20; turns++)
			assert_int_equal(wh_loop_turn(loop, MS), 0);
		server_start(&server);
		for (int i = 40 * round; i < SUBMITS; i++)
			submits[i].res = wh_await(submits[i].f);
		count_jobs(queue, counts, SUBMITS);
		for (int i = 0; i < SUBMITS; i++) {
			const struct submit *s = &submits[i];

			if (s->res.n > 0) {
				assert_int_equal(counts[i], 1);
				assert_int_equal(s->receipt.job, s->res.n);
				known++;
			} else {
				/* all others were sent: what was not was sent again, once the server was back */
				assert_int_equal(s->res.n, -WH_ECALL_UNKNOWN);
				assert_int_equal(s->problem.error, -WH_ECALL_UNKNOWN);
				assert_true(s->problem.cause < 0 && s->problem.cause != -WH_ECALL_UNKNOWN);
				assert_in_range(counts[i], 0, 1);
				assert_int_equal(s->receipt.job, 0);
				unknown++;
			}
		}
	}
	assert_true(known > SUBMITS && unknown > 0);
}

/* With keys nothing is unknown: what was sent is sent again, and is there once. */
static void keys_are_known(void **state)
{
	static struct submit submits[SUBMITS];
	static int counts[SUBMITS];

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct wh_client_stats stats;
		char queue[32];

		snprintf(queue, sizeof(queue), "keys%d", round);
		memset(counts, 0, sizeof(counts));
		for (int i = 0; i < SUBMITS; i++) {
			char number[16], key[32];
			struct wh_how how = {.problem = &submits[i].problem, .key = key};
			struct wh_action action = {.kind = WH_ACTION_SUBMIT, .queue = queue};
			struct iovec many = {number, 0};

			many.iov_len = (size_t)snprintf(number, sizeof(number), "%d", i);
			snprintf(key, sizeof(key), "\"%d\\%d", round, i);
			action.payload = (struct wh_payload){.bytes = number, .len = many.iov_len};
			submits[i].f =
				i % 3 == 0 ? wh_client_submit(client, queue, &action.payload, NULL, &how)
				: i % 3 == 1
					? wh_client_submit_many(client, queue, &many, 1, NULL, NULL, &how)
					: wh_client_transact(client, &action, 1, &how);
		}
		for (int i = 0; i < 40 * round; i++)
			submits[i].res = wh_await(submits[i].f);
		server_end(&server, SIGKILL);
		for (int turns = 0; turns < 20; turns++)
			assert_int_equal(wh_loop_turn(loop, MS), 0);
		server_start(&server);
		for (int i = 0; i < SUBMITS; i++) {
			if (i >= 40 * round)
				submits[i].res = wh_await(submits[i].f);
			if (submits[i].res.n <= 0)
				fail_msg("%d: %s", i, submits[i].problem.detail);
			if (i % 3 == 1)
				wh_ids_free(submits[i].res.ptr);
			else if (i % 3 == 2)
				wh_transaction_free(submits[i].res.ptr);
		}
		count_jobs(queue, counts, SUBMITS);
		for (int i = 0; i < SUBMITS; i++)
			assert_int_equal(counts[i], 1);
		wh_client_stats(client, &stats);
		assert_true(stats.retries > 0);
	}
}

/* Without time to try again, what is known not to have been done has another error. */
static void refused_is_known(void **state)
{
	struct wh_client_options options = {.server = server.tcp, .retry_ns = -1};
	struct wh_payload payload = text("0");
	wh_client *other;
	int counts[1] = {0};

	(void)state;
	assert_int_equal(wh_client_open(loop, &options, &other), 0);
	server_end(&server, SIGKILL);
	assert_int_equal(wh_await(wh_client_submit(other, "refused", &payload, NULL, NULL)).n, -ECONNREFUSED);
	wh_client_close(other);
	server_start(&server);
	count_jobs("refused", counts, 1);
	assert_int_equal(counts[0], 0);
}

/* ---- waits --------------------------------------------------------------------------------- */

static void waits_go_on(void **state)
{
	static const int how_it_ends[] = {SIGKILL, SIGTERM};
	struct wh_receipt receipt = {0};
	struct wh_how how = {.receipt = &receipt};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct wh_payload payload = text("x"), done = text("done");
		wh_res res = wh_await(wh_client_submit(client, "waits", &payload, NULL, NULL));
		wh_future wait = wh_client_wait(client, (uint64_t)res.n, WH_FOR_EVER, NULL);
		wh_future run = wh_client_run(client, "runs", &payload, NULL, 60 * S, &how);
		struct wh_leases *leases;

		assert_true(res.n > 0);
		receipt.job = 0;
		while (receipt.job == 0)
			assert_int_equal(wh_loop_turn(loop, -1), 0);
		for (int turns = 0; turns < 5; turns++)
			assert_int_equal(wh_loop_turn(loop, MS), 0);
		server_end(&server, how_it_ends[i]);
		for (int turns = 0; turns < 20; turns++)
			assert_int_equal(wh_loop_turn(loop, MS), 0);
		assert_false(wh_done(wait) || wh_done(run));
		server_start(&server);
		for (int both = 0; both < 2; both++) {
			res = wh_await(wh_client_reserve(client, both ? "runs" : "waits", 1, 30 * S, NULL));
			assert_int_equal(res.n, 1);
			leases = res.ptr;
			assert_int_equal(
				wh_await(wh_client_complete(client, leases->jobs[0].lease, 0, &done, NULL)).n,
				0);
			wh_leases_free(leases);
		}
		res = wh_await(wait);
		assert_int_equal(res.n, WH_JOB_DONE);
		wh_job_free(res.ptr);
		res = wh_await(run);
		assert_int_equal(res.n, receipt.job);
		assert_true(wh_slice_equal(((struct wh_result *)res.ptr)->body, "done"));
		wh_result_free(res.ptr);
	}
}

/* A reservation that waits may have been answered: it does not say that there was no job. */
static void reservations_are_unknown(void **state)
{
	wh_future f = wh_client_reserve(client, "empty", 1, 60 * S, NULL);

	(void)state;
	for (int turns = 0; turns < 10; turns++)
		assert_int_equal(wh_loop_turn(loop, MS), 0);
	server_end(&server, SIGKILL);
	assert_int_equal(wh_await(f).n, -WH_ECALL_UNKNOWN);
	server_start(&server);
}

/* ---- positions ----------------------------------------------------------------------------- */

static void positions_are_lost(void **state)
{
	struct wh_receipt receipt;
	struct wh_how how = {.level = WH_LEVEL_ASYNC, .receipt = &receipt};
	struct wh_payload payload = text("x");
	struct wh_log_state *log;
	wh_res res;

	(void)state;
	assert_true(wh_await(wh_client_submit(client, "positions", &payload, NULL, &how)).n > 0);
	server_end(&server, SIGKILL); /* which async survives */
	server_start(&server);
	assert_int_equal(
		wh_await(wh_client_reached(client, receipt.position, WH_LEVEL_LOCAL, 10 * S, NULL)).n, 1);
	receipt.position.lsn += 1 << 20;
	assert_int_equal(
		wh_await(wh_client_reached(client, receipt.position, WH_LEVEL_LOCAL, 10 * S, NULL)).n,
		-WH_ECALL_LOST);
	res = wh_await(wh_client_log(client, NULL));
	log = res.ptr;
	assert_true(log->epoch > receipt.position.epoch && log->epoch_count > 0);
	assert_int_equal(log->epochs[log->epoch_count - 1].epoch, receipt.position.epoch);
	assert_true(log->epochs[log->epoch_count - 1].end < receipt.position.lsn);
	wh_log_state_free(log);
}

/* ---- workers ------------------------------------------------------------------------------- */

enum { JOBS = 120 };

struct duty {
	wh_worker_job *job;
};
static int seen[JOBS];

static void do_later(wh_loop *l, wh_res res, void *arg)
{
	struct duty *duty = arg;
	struct wh_payload done = text("done");

	(void)l, (void)res;
	assert_int_equal(wh_detach(wh_worker_complete(duty->job, 0, &done)), 0);
	free(duty);
}

static void on_job(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	struct duty *duty = malloc(sizeof(*duty));
	char number[16] = "";

	(void)arg;
	memcpy(number, leased->payload.data, leased->payload.len);
	seen[atoi(number)]++;
	duty->job = job;
	assert_int_equal(wh_then(wh_sleep(loop, 2 * MS), do_later, duty), 0);
}

static void on_trouble(wh_worker *worker, const struct wh_problem *problem, void *arg)
{
	(void)worker, (void)arg;
	assert_true(problem->error < 0 && problem->detail[0]);
}

static void workers_go_on(void **state)
{
	struct wh_worker_options options = {
		.queue = "work", .jobs_max = 8, .on_job = on_job, .on_trouble = on_trouble};
	struct wh_submit_options short_lease = {.time_to_run_ns = 500 * MS};
	struct iovec payloads[JOBS];
	char numbers[JOBS][8];
	struct wh_ids *ids;
	wh_worker *worker;
	wh_res res;

	(void)state;
	for (int i = 0; i < JOBS; i++)
		payloads[i] =
			(struct iovec){numbers[i], (size_t)snprintf(numbers[i], sizeof(numbers[i]), "%d", i)};
	res = wh_await(wh_client_submit_many(client, "work", payloads, JOBS, NULL, &short_lease, NULL));
	assert_int_equal(res.n, JOBS);
	ids = res.ptr;
	assert_int_equal(wh_worker_open(client, &options, &worker), 0);
	for (int i = 0; i < 2; i++) {
		for (int turns = 0; turns < 30; turns++)
			assert_int_equal(wh_loop_turn(loop, MS), 0);
		server_end(&server, i ? SIGTERM : SIGKILL);
		server_start(&server);
	}
	for (int i = 0; i < JOBS; i++) {
		res = wh_await(wh_client_wait(client, ids->ids[i], 60 * S, NULL));
		assert_int_equal(res.n, WH_JOB_DONE);
		wh_job_free(res.ptr);
		assert_true(seen[i] >= 1);
	}
	wh_ids_free(ids);
	assert_int_equal(wh_await(wh_worker_drain(worker)).n, 0);
	assert_int_equal(wh_worker_in_flight(worker), 0);
	wh_worker_close(worker);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(submits_are_lost_or_not),
		ONE(keys_are_known),
		ONE(refused_is_known),
		ONE(waits_go_on),
		ONE(reservations_are_unknown),
		ONE(positions_are_lost),
		ONE(workers_go_on),
	};
	int failed;

	need_descriptors(2000);
	server_start(&server);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_remove(&server);
	return failed;
}
