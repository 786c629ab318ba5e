/* tests/sim/test_sim_server.c -- the whole server on a simulated machine, its clients on others, while paths between them
 * are cut and machines lose power; then every promise is checked.
 *
 * Front, store and log run as they do in `whilst serve`, and are spoken to over HTTP only. Clients submit, reserve,
 * complete and wait, and know of nothing but answers. What must hold (durability.md 6.3, as far as clients can see it):
 *
 * I1  a submission that was answered at `local` is there after any crash, and so is a completion;
 * I4  what an answer shows stays: a job seen done is never given out again;
 * I6  an id is never given twice; lease tokens of a job rise, and an older one is refused once a newer is known;
 * at least once: every job that was answered and not completed is given out again, until it is completed.
 *
 * One seed is one run: the traces of two runs are compared.
 */
#include "fronted.h"

#include "whilst/http.h"

enum { CLIENTS = 3, JOBS_MAX = 4096, PORT = 4480, STEPS = 1500 };

#define ORIGIN "10.0.0.1:4480"

struct token {
	uint64_t epoch, claim;
};

struct job {
	uint64_t number;      /* what its payload says */
	uint64_t id;          /* 0: not answered */
	bool done;            /* a completion was answered, or an answer showed it */
	bool maybe_done;      /* a completion was sent */
	struct token highest; /* that anybody was given */
};

struct client {
	wh_sim *machine;
	wh_loop *loop;
	wh_http_client *http;
	struct job *job; /* of the request under way; NULL: not known yet */
	struct token token;
	bool has_lease, stale; /* stale: token is known not to be the newest, or the job to be done */
	bool idle;
	char body[32], path[96];
};

static struct client clients[CLIENTS];
static struct job jobs[JOBS_MAX];
static uint64_t jobs_count, answered_count, given_count, lost_leases, unknown_count;

/* ---- the server --------------------------------------------------------------------------- */

static int server_open(void)
{
	return front_begin(NULL);
}

/* ---- clients ------------------------------------------------------------------------------ */

static void begin(struct client *client);

static bool is_newer(struct token a, struct token b)
{
	return a.epoch != b.epoch ? a.epoch > b.epoch : a.claim > b.claim;
}

static struct job *job_of_id(uint64_t id)
{
	for (uint64_t i = 0; i < jobs_count; i++)
		if (jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

static uint64_t number_of(struct wh_slice text, const char *prefix)
{
	size_t skip = strlen(prefix);
	uint64_t number = 0;
	must(text.data && text.len > skip && !memcmp(text.data, prefix, skip), "'%.*s'", (int)text.len,
	     text.data);
	for (size_t i = skip; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++)
		number = number * 10 + (uint64_t)(text.data[i] - '0');
	return number;
}

static void ask(struct client *client, const char *method, const char *path, const char *body, int wait_s,
                wh_callback *callback)
{
	struct wh_http_field fields[2];
	char lease[64], prefer[32];
	size_t count = 0;
	if (client->has_lease) {
		int len = snprintf(lease, sizeof lease, "%" PRIu64 ".%" PRIu64, client->token.epoch,
		                   client->token.claim);
		fields[count++] = (struct wh_http_field){{"Whilst-Lease", 12}, {lease, (size_t)len}};
	}
	if (wait_s > 0) {
		int len = snprintf(prefer, sizeof prefer, "wait=%d", wait_s);
		fields[count++] = (struct wh_http_field){{"Prefer", 6}, {prefer, (size_t)len}};
	}
	struct wh_http_request request = {.origin = ORIGIN,
	                                  .method = method,
	                                  .target = path,
	                                  .fields = fields,
	                                  .field_count = count,
	                                  .body = body,
	                                  .body_len = body ? strlen(body) : 0};
	client->idle = false;
	must(wh_then(wh_http_request(client->http, &request), callback, client) == 0, "then");
}

/* Whatever was asked, the answer is there or will never be. */
static void rest(struct client *client, wh_res res)
{
	wh_http_response_free(res.ptr);
	client->has_lease = false;
	client->job = NULL;
	client->idle = true;
}

static void on_submitted(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = client->job;
	must(res.n < 0 || res.n == 202 || res.n == 503, "a submission was answered with %d", (int)res.n);
	if (res.n == 202) {
		uint64_t id = number_of(wh_http_response_header(res.ptr, "Location"), "/v1/jobs/");
		must(!job_of_id(id) || job_of_id(id) == job, "I6: id %" PRIu64 " was given twice", id);
		must(job->id == 0 || job->id == id, "one submission, two ids");
		job->id = id;
		answered_count++;
	} else {
		unknown_count++;
	}
	rest(client, res);
}

static void on_completed(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = client->job;
	must(res.n < 0 || res.n == 200 || res.n == 409 || res.n == 503,
	     "I1: a completion of job %" PRIu64 " was answered with %d", job->id, (int)res.n);
	if (res.n == 200) {
		must(!client->stale, "I6: an old lease of job %" PRIu64 " was taken", job->id);
		job->done = true;
	} else if (res.n == 409) {
		lost_leases++;
	}
	rest(client, res);
}

static void complete(struct client *client, struct token token)
{
	client->token = token;
	client->has_lease = true;
	client->stale = is_newer(client->job->highest, token) || client->job->done;
	client->job->maybe_done |= !client->stale;
	snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64 "/complete", client->job->id);
	ask(client, "POST", client->path, "result", 0, on_completed);
}

static void on_reserved(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	must(res.n < 0 || res.n == 200 || res.n == 204 || res.n == 503 || res.n == 404,
	     "a reservation was answered with %d", (int)res.n);
	if (res.n != 200) {
		rest(client, res);
		return;
	}
	const struct wh_http_response *response = res.ptr;
	struct wh_slice lease = wh_http_response_header(response, "Whilst-Lease");
	uint64_t id = number_of(wh_http_response_header(response, "Whilst-Job"), "");
	struct token token = {.epoch = number_of(lease, "")};
	const char *dot = memchr(lease.data, '.', lease.len);
	must(dot, "a lease without claim");
	token.claim = number_of((struct wh_slice){dot, (size_t)(lease.data + lease.len - dot)}, ".");
	uint64_t number = number_of(response->body, "job-");
	must(number < jobs_count, "a payload that nobody sent");
	struct job *job = &jobs[number];
	must(job->id == 0 || job->id == id, "I1: job %" PRIu64 " has become %" PRIu64, job->id, id);
	must(!job_of_id(id) || job_of_id(id) == job, "I6: two jobs have id %" PRIu64, id);
	must(!job->done, "I4: job %" PRIu64 " is done, and was given out again", id);
	must(is_newer(token, job->highest), "I6: the lease of job %" PRIu64 " did not rise", id);
	job->id = id;
	struct token before = job->highest;
	job->highest = token;
	given_count++;
	rest(client, res);
	client->job = job;
	if (before.claim != 0 && draw(4) == 0)
		complete(client, before); /* must be refused */
	else if (drains || draw(5) > 0)
		complete(client, token);
	else
		rest(client, (wh_res){0, NULL}); /* a worker that died */
}

static void on_seen(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = client->job;
	must(res.n < 0 || res.n == 200 || res.n == 503, "I1: job %" PRIu64 " is answered with %d", job->id,
	     (int)res.n);
	if (res.n == 200) {
		const struct wh_http_response *response = res.ptr;
		bool shows_done =
			memmem(response->body.data, response->body.len, "\"state\":\"done\"", 14) != NULL;
		must(shows_done || !job->done || client->stale, "I4: job %" PRIu64 " was done: %.*s", job->id,
		     (int)response->body.len, response->body.data);
		must(!shows_done || job->maybe_done, "nobody completed job %" PRIu64, job->id);
		job->done |= shows_done;
	}
	rest(client, res);
}

static void begin(struct client *client)
{
	uint64_t what = draw(10);
	if (!drains && what < 4 && jobs_count < JOBS_MAX) {
		client->job = &jobs[jobs_count];
		client->job->number = jobs_count++;
		snprintf(client->body, sizeof client->body, "job-%" PRIu64, client->job->number);
		ask(client, "POST", "/v1/queues/work/jobs?attempts=1000&time-to-run=20s", client->body, 0,
		    on_submitted);
		return;
	}
	if (what >= 8 && jobs_count > 0) {
		client->job = &jobs[draw(jobs_count)];
		/* at the end, those whose completion was never answered */
		for (uint64_t i = 0; drains && i < jobs_count; i++)
			if (jobs[i].maybe_done && !jobs[i].done)
				client->job = &jobs[i];
		if (client->job->id != 0) {
			client->stale = !client->job->done; /* it may be completed while this is on its way */
			snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64, client->job->id);
			ask(client, "GET", client->path, NULL, (int)draw(3), on_seen);
			return;
		}
	}
	ask(client, "POST", "/v1/queues/work/reserve", NULL, (int)draw(3), on_reserved);
}

/* ---- the world ---------------------------------------------------------------------------- */

static void start_world(void)
{
	start_machine(PORT);
	for (int i = 0; i < CLIENTS; i++) {
		struct client *client = &clients[i];
		const struct wh_http_client_options options = {.connect_timeout_ns = 2 * WH_NS_PER_S,
		                                               .first_byte_timeout_ns = 5 * WH_NS_PER_S,
		                                               .read_timeout_ns = 2 * WH_NS_PER_S};
		*client = (struct client){.idle = true};
		must(wh_sim_open(&client->machine, &(struct wh_sim_options){.world = world}) == 0, "machine");
		client->loop = plan_loop(client->machine);
		must(wh_http_client_open(client->loop, &options, &client->http) == 0, "client");
	}
}

static void end_world(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		wh_http_client_close(clients[i].http);
		clients[i].loop = wh_loop_close(clients[i].loop);
		clients[i].machine = wh_sim_close(clients[i].machine);
	}
	end_machine();
}

static void step(void)
{
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].idle)
			begin(&clients[i]);
	must(wh_sim_world_run(world, (int64_t)(1 + draw(40)) * WH_NS_PER_MS) == 0, "run");
	if (!wh_sim_has_power(machine) || has_failed)
		restart_server(PORT);
}

static bool all_done(void)
{
	for (uint64_t i = 0; i < jobs_count; i++)
		if (jobs[i].id != 0 && !jobs[i].done)
			return false;
	return true;
}

/* Peace: what was promised is given out until it is done. */
static void drain(void)
{
	drains = true;
	wh_sim_heal(world, NULL, NULL);
	must(wh_sim_link(world, NULL, NULL, NULL) == 0, "link");
	wh_sim_power_cut(machine);
	restart_server(PORT);
	int64_t until = wh_sim_world_now(world) + 1800 * WH_NS_PER_S;
	while (!all_done()) {
		must(wh_sim_world_now(world) < until,
		     "at least once: jobs that were promised are not given out");
		step();
	}
	for (uint64_t i = 0; i < jobs_count; i++) {
		tally.checked += jobs[i].id != 0;
		tally.kept += jobs[i].done;
	}
}

static uint64_t run_once(void)
{
	memset(jobs, 0, sizeof jobs);
	jobs_count = 0;
	chance_state = plan.seed * 77;
	start_world();
	for (int i = 0; i < STEPS; i++) {
		if (draw(8) == 0)
			trouble(clients[draw(CLIENTS)].machine);
		step();
	}
	drain();
	uint64_t trace = wh_sim_world_trace(world);
	end_world();
	tally.runs++;
	return trace;
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	plan_seeds("server", run_once, 4);
	printf("%" PRIu64 " submissions answered, %" PRIu64 " not; %" PRIu64 " jobs given out, %" PRIu64
	       " leases lost\n",
	       answered_count, unknown_count, given_count, lost_leases);
	must(answered_count > 0 && given_count > 0 && lost_leases > 0, "nothing was tried");
	return 0;
}
