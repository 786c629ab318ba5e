/* tests/sim/test_sim_uploads.c -- bodies that go into files of their own, through the whole server on a simulated machine, while power is cut at any
 * disk call and paths are cut: no job without its body, no body without its job.
 *
 * Clients submit jobs with bodies that come in pieces, that are one piece, and that need no file; under keys, sent until they are answered, and
 * without. Workers lease them and answer with results that are as large; results are fetched. What must hold:
 *
 * - what was answered at `local` is there after any crash: the job with every byte of its body, a result with every byte of it;
 * - what was not answered is there whole or not at all, and under a key once;
 * - whenever the server starts, the folder of bodies has the files that jobs name, and no other;
 * - when all jobs are forgotten it is empty, without a start between.
 *
 * One seed is one run: the traces of two runs are compared.
 */
#define SERVED_CHECKPOINT_BYTES (24 << 10)
#define SERVED_COMPACT_SLACK    (512 << 10)
#define SERVED_BLOB_BYTES       (8 << 10)
#define FRONTED_PAYLOAD_BYTES   (2 << 20)
#define ASKING_STARTED          count_files
#include "asking.h"

enum { JOBS_MAX = 40, JOBS_CUT = 6, STEPS = 500, STEPS_CUT = 24, BODY_MAX = 1200 << 10, SIZES = 4 };

struct job {
	uint64_t id; /* 0: never seen */
	bool answered, sent;
	bool again;            /* under its key, once all is peaceful */
	bool maybe_done, done; /* a completion was sent, was answered */
	bool fetched;
};

static const size_t sizes[SIZES] = {500, 20 << 10, 140 << 10, BODY_MAX - 1};
static struct job jobs[JOBS_MAX];
static uint64_t jobs_count, jobs_max;
static char bodies[CLIENTS][BODY_MAX], expected[BODY_MAX];
static uint64_t bodies_kept, results_kept, unknown, swept, steps_max;

/* ---- bodies ------------------------------------------------------------------------------- */

/* One that says whose it is, and goes on with a part of a long text. 'p': a payload, 'r': a result. */
static size_t write_body(char *to, char kind, uint64_t n)
{
	static char text[BODY_MAX + 100 * JOBS_MAX];
	size_t len = sizes[(n + (kind == 'r')) % SIZES], at;
	uint32_t state = 1;

	for (size_t i = 0; text[0] == 0 || (i > 0 && i < sizeof text); i++) {
		state = state * 1664525u + 1013904223u;
		text[i] = (char)('a' + (state >> 24) % 26);
	}
	at = (size_t)snprintf(to, BODY_MAX, "%c-%" PRIu64 " ", kind, n);
	memcpy(to + at, text + 100 * n + (kind == 'r' ? 50 : 0), len - at);
	to[len] = 0;
	return len;
}

static void check_body(struct wh_slice body, char kind, uint64_t n)
{
	size_t len = write_body(expected, kind, n);

	must(body.len == len, "%c-%" PRIu64 " has %zu bytes, not %zu", kind, n, body.len, len);
	must(memcmp(body.data, expected, len) == 0, "%c-%" PRIu64 " has other bytes", kind, n);
}

/* Of a store that has just started, before anybody asks it. */
static int count_files(void)
{
	struct store_stats stats;
	wh_res res = wh_await(wh_list(loop, "/data/blobs"));
	int64_t count = res.n;

	if (count < 0)
		return (int)count;
	wh_names_free(res.ptr);
	store_stats(store, &stats);
	must(count == (int64_t)stats.blobs, "%" PRId64 " files, and jobs name %" PRIu64, count, stats.blobs);
	swept += stats.blobs_removed;
	tally.files += stats.blobs;
	return 0;
}

/* ---- clients ------------------------------------------------------------------------------ */

static void see(uint64_t n, uint64_t id)
{
	must(n < jobs_count && jobs[n].sent, "a body that nobody sent");
	must(jobs[n].id == 0 || jobs[n].id == id, "%" PRIu64 " is there twice: job %" PRIu64 " and %" PRIu64,
	     n, jobs[n].id, id);
	jobs[n].id = id;
}

static void on_submitted(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = &jobs[client->at];

	must(is_unknown(res) || res.n == 202, "a submission was answered with %d: %.*s", (int)res.n,
	     (int)body_of(res).len, body_of(res).data);
	unknown += is_unknown(res);
	if (res.n == 202) {
		see(client->at, must_number(body_of(res), "\"id\":"));
		job->again = drains && job->answered;
		job->answered = true;
	}
	rest(client, res);
}

static void submit(struct client *client, uint64_t n)
{
	const char *fields[] = {"Idempotency-Key", client->path, NULL};
	char *body = bodies[client - clients];

	client->at = n;
	jobs[n].sent = true;
	(void)write_body(body, 'p', n);
	snprintf(client->path, sizeof client->path, "upload-%" PRIu64, n);
	ask(client, "POST", "/v1/queues/files/jobs?attempts=1000&time-to-run=20s&retention=1h", body,
	    n % 3 ? fields : NULL, on_submitted);
}

static void on_completed(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 200 || res.n == 409, "a completion was answered with %d: %.*s",
	     (int)res.n, (int)body_of(res).len, body_of(res).data);
	jobs[client->at].done |= res.n == 200;
	unknown += is_unknown(res);
	rest(client, res);
}

static void complete(struct client *client)
{
	const char *fields[] = {"Whilst-Lease", client->fields[0], NULL};
	char *body = bodies[client - clients];

	(void)write_body(body, 'r', client->at);
	jobs[client->at].maybe_done = true;
	snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64 "/complete", jobs[client->at].id);
	ask(client, "POST", client->path, body, fields, on_completed);
}

static void on_reserved(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	const struct wh_http_response *response = res.ptr;

	must(is_unknown(res) || res.n == 200 || res.n == 204 || res.n == 404,
	     "a reservation was answered with %d: %.*s", (int)res.n, (int)body_of(res).len,
	     body_of(res).data);
	if (res.n == 200) {
		struct wh_slice lease = wh_http_response_header(response, "Whilst-Lease");

		client->at = must_number(response->body, "p-");
		see(client->at, number_behind(wh_http_response_header(response, "Whilst-Job"), "", 0));
		check_body(response->body, 'p', client->at);
		must(!jobs[client->at].done, "job %" PRIu64 " was done, and is given out",
		     jobs[client->at].id);
		bodies_kept++;
		snprintf(client->fields[0], sizeof client->fields[0], "%.*s", (int)lease.len, lease.data);
		rest(client, res);
		if (drains || draw(6) > 0)
			complete(client);
		return;
	}
	rest(client, res);
}

static void on_fetched(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = &jobs[client->at];

	must(is_unknown(res) || res.n == 200 || (res.n == 409 && !client->more),
	     "the result of job %" PRIu64 " was answered with %d: %.*s", job->id, (int)res.n,
	     (int)body_of(res).len, body_of(res).data);
	if (res.n == 200) {
		must(job->maybe_done, "nobody completed job %" PRIu64, job->id);
		check_body(body_of(res), 'r', client->at);
		job->done = true;
		job->fetched = drains;
		results_kept++;
	}
	rest(client, res);
}

static void fetch(struct client *client, uint64_t n)
{
	client->at = n;
	client->more = jobs[n].done; /* when it is asked */
	snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64 "/result", jobs[n].id);
	ask(client, "GET", client->path, NULL, NULL, on_fetched);
}

static void begin(struct client *client)
{
	uint64_t n = jobs_count > 0 ? draw(jobs_count) : 0;

	/* a key is asked for until it is answered, and once in a while again */
	if (jobs_count > 0 && n % 3 && (!jobs[n].answered || (drains ? !jobs[n].again : draw(20) == 0)))
		submit(client, n);
	else if (!drains && jobs_count < jobs_max && draw(2))
		submit(client, jobs_count++);
	else if (jobs_count > 0 && jobs[n].maybe_done && !jobs[n].fetched && draw(2))
		fetch(client, n);
	else
		ask(client, "POST", "/v1/queues/files/reserve", NULL, NULL, on_reserved);
}

/* ---- the world ---------------------------------------------------------------------------- */

static bool all_done(void)
{
	struct store_queue_view view = {0};

	for (uint64_t n = 0; n < jobs_count; n++)
		if ((n % 3 && !jobs[n].again) || (jobs[n].id != 0 && !jobs[n].fetched))
			return false;
	return store_queue_now(store, STORE_SLICE("files"), &view) != 0 ||
	       view.jobs[JOB_READY] + view.jobs[JOB_RUNNING] + view.jobs[JOB_DELAYED] == 0;
}

/* Nothing is asked for any more, and an hour passes. */
static void forget_all(void)
{
	struct store_stats stats;
	wh_res res;

	for (int i = 0; i < CLIENTS; i++) {
		int64_t until = wh_sim_world_now(world) + 120 * WH_NS_PER_S;

		while (!clients[i].idle) {
			must(wh_sim_world_now(world) < until, "a request does not end");
			must(wh_sim_world_run(world, WH_NS_PER_S) == 0, "run");
		}
	}
	must(wh_sim_world_run(world, 4000 * WH_NS_PER_S) == 0, "run");
	store_stats(store, &stats);
	must(stats.blobs == 0 && stats.jobs[JOB_DONE] == 0, "%" PRIu64 " bodies, %" PRIu64 " jobs are kept",
	     stats.blobs, stats.jobs[JOB_DONE]);
	res = wh_await(wh_list(loop, "/data/blobs"));
	must(res.n == 0, "%" PRId64 " files are left behind", res.n);
	wh_names_free(res.ptr);
	must(store_recount(store) == 0, "recount");
}

static void drain(void)
{
	make_peace();
	int64_t until = wh_sim_world_now(world) + 1800 * WH_NS_PER_S;
	while (!all_done()) {
		must(wh_sim_world_now(world) < until, "what was promised does not come");
		step(200);
	}
	for (uint64_t n = 0; n < jobs_count; n++) {
		tally.checked++;
		tally.kept += jobs[n].answered;
		tally.lost += jobs[n].id == 0;
	}
	forget_all();
}

static bool goes_on(uint64_t steps)
{
	return steps < steps_max;
}

static uint64_t run_once(void)
{
	memset(jobs, 0, sizeof jobs);
	jobs_count = 0;
	jobs_max = plan.crash_at > 0 ? JOBS_CUT : JOBS_MAX;
	steps_max = plan.crash_at > 0 ? STEPS_CUT : STEPS;
	return live(goes_on, drain);
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	try_all("uploads", run_once, 3, 2);
	printf("%" PRIu64 " bodies and %" PRIu64 " results were whole, %" PRIu64
	       " requests of unknown outcome; %" PRIu64 " files of nobody were removed\n",
	       bodies_kept, results_kept, unknown, swept);
	must(bodies_kept > 0 && results_kept > 0 && unknown > 0 && swept > 0, "nothing was tried");
	return 0;
}
