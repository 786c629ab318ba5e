/* tests/sim/test_sim_callback.c -- a callback whose job comes back from its end before the callback has been sent on its way: whoever asked
 * to be told is told of the end that lasts, and of no other.
 *
 * On a simulated machine, where what is read of the disk is late: the end of the job is seen, where to send the callback is still being read,
 * and meanwhile the job is submitted anew by hand.
 */
#include "plan.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "deliver/push.h"
#include "store/store.h"
#include "whilst/http.h"

enum { PORT = 9000, FILLERS = 40 };

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;
static struct push *push;
static wh_http_client *client;
static wh_http_server *server;
static char told[20][400];
static int told_count;

static void take(wh_http_exchange *x, void *arg)
{
	struct wh_slice body = wh_http_body(x);

	must(told_count < 20, "callbacks without end");
	snprintf(told[told_count++], sizeof(told[0]), "%.*s", (int)body.len, body.data);
	wh_http_respond(x, 204, NULL, 0);
}

static void must_settle(wh_future future, const char *what)
{
	wh_res res = wh_await(future);
	struct store_commit *commit = res.ptr;

	must(res.n == 0 && commit->error == 0, "%s: %s", what,
	     job_strerror(res.n < 0 ? res.n : commit->error));
	store_commit_free(commit);
}

static struct store_action submit_of(const char *queue, const char *payload)
{
	return (struct store_action){.kind = STORE_SUBMIT,
	                             .submit = {.queue = {queue, strlen(queue)},
	                                        .payload = {payload, strlen(payload)},
	                                        .priority = JOB_PRIORITY_DEFAULT,
	                                        .retention_ns = 3600 * WH_NS_PER_S,
	                                        .attempts_max = 5}};
}

/* A job, and the callback that waits for its end. */
static uint64_t submit_with_callback(const char *url)
{
	struct store_action pair[2] = {submit_of("q", "work"), submit_of(CALLBACKS_PENDING, url)};
	wh_res res = wh_await(store_apply(store, pair, 2, 0, STORE_LOCAL));
	struct store_commit *commit = res.ptr;

	must(res.n == 0 && commit->error == 0, "submit");
	uint64_t job = commit->results[0].job, pending = commit->results[1].job;
	store_commit_free(commit);
	push_callback(push, job, pending);
	return job;
}

static struct store_action leased(uint64_t job, int kind)
{
	wh_res res =
		wh_await(store_reserve(store, &(struct store_reserve){.job = job, .level = STORE_LOCAL}));
	struct store_lot *lot = res.ptr;

	must(res.n == 1, "job %" PRIu64 " is not to be had: %s", job, job_strerror(res.n));
	struct store_action a = {.kind = kind, .job = job, .lease = lot->jobs[0].lease};
	store_lot_free(lot);
	return a;
}

static void submit_anew(uint64_t job)
{
	struct store_many many = {
		.kind = STORE_REPLAY, .queue = STORE_SLICE("q"), .ids = &job, .ids_count = 1};
	wh_res res = wh_await(store_do_many(store, &many));
	struct store_commit *commit = res.ptr;

	must(res.n == 0 && commit->results[0].count == 1, "replay: %s", job_strerror(res.n));
	store_commit_free(commit);
}

static void begin(const struct secrets *secrets)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct wh_sim_options machine = {.seed = plan.seed};
	/* so little is kept in memory that the callback's target is read from the disk */
	struct store_options options = {.directory = "/data", .segment_bytes = 1 << 18, .recent_bytes = 4096};
	struct wh_http_server_options receiver = {.on_request = take};
	struct store_problem problem = {0};

	told_count = 0;
	must(wh_sim_open(&sim, &machine) == 0, "machine");
	loop = plan_loop(sim);
	must(store_open(loop, &options, &store, &problem) == 0, "%s", problem.text);
	must(wh_http_server_open(loop, &receiver, &server) == 0, "receiver");
	int fd = wh_listen(loop, (struct sockaddr *)&any, sizeof(any), NULL);
	must(fd >= 0 && wh_http_server_listen(server, fd) == 0, "listen");
	must(wh_http_client_open(loop, NULL, &client) == 0, "client");
	must(push_open(loop, store, client, client, &(struct push_options){0}, &push) == 0, "push");
	must(push_callbacks_open(push) == 0 && push_use_secrets(push, secrets) == 0, "secrets");
}

static void stop(void)
{
	push = push_close(push);
	client = wh_http_client_close(client);
	server = wh_http_server_close(server);
	must(store_recount(store) == 0 && store_close(store) == 0, "close");
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
}

static void run(const struct secrets *secrets, bool comes_back)
{
	struct wh_sim_fault late = {.kinds = WH_SIM_READS, .count = 1, .late_ns = WH_NS_PER_S};
	struct store_action filler, end_of_job;
	char text[300];

	begin(secrets);
	uint64_t job = submit_with_callback("http://127.0.0.1:9000/told");
	memset(text, 'f', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	filler = submit_of("other", text);
	for (int i = 0; i < FILLERS; i++)
		must_settle(store_apply(store, &filler, 1, 0, STORE_LOCAL), "filler");
	end_of_job = leased(job, STORE_FAIL);
	end_of_job.fail.error = STORE_SLICE("in vain");
	end_of_job.fail.no_retry = true;
	must(wh_sim_add_fault(sim, &late) == 0, "late");
	must_settle(store_apply(store, &end_of_job, 1, 0, STORE_LOCAL), "fail");
	wh_await(wh_sleep(loop, 10 * WH_NS_PER_MS)); /* it is being read where to send it */
	must(told_count == 0, "the disk is not late: the test tries nothing");
	if (comes_back) {
		submit_anew(job);
		wh_await(wh_sleep(loop, 60 * WH_NS_PER_S));
		must(told_count == 0, "told of a job that runs: %s", told[0]);
		end_of_job = leased(job, STORE_COMPLETE);
		must_settle(store_apply(store, &end_of_job, 1, 0, STORE_LOCAL), "complete");
	}
	wh_await(wh_sleep(loop, 60 * WH_NS_PER_S));
	must(told_count == 1, "told %d times", told_count);
	must(strstr(told[0], comes_back ? "\"type\":\"job.done\"" : "\"type\":\"job.failed\""), "%s",
	     told[0]);
	must(push_callbacks_pending(push) == 0, "somebody is still waiting");
	stop();
}

int main(void)
{
	static const char text[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr\n";
	struct secrets secrets;
	const char *detail = "";
	unsigned line;
	int error = secrets_read(text, sizeof(text) - 1, &secrets, &line, &detail);

	if (error == -ENOSYS) {
		printf("callbacks cannot be signed: built without OpenSSL\n");
		return 77;
	}
	must(error == 0, "%s", detail);
	for (uint64_t seed = 1; seed <= 20; seed++) {
		plan = (struct plan){.seed = seed};
		run(&secrets, false);
		run(&secrets, true);
	}
	return 0;
}
