/* tests/sim/test_sim_promises.c -- what the whole server promises of jobs beside keeping them, on a simulated machine whose power is cut at any disk
 * call: keys, callbacks, pushes, groups, dead letters, expiry.
 *
 * Clients submit jobs of each kind and work on them; a machine of its own takes pushes and callbacks, and does not always answer. What must
 * hold, as far as clients and the receiver can see it:
 *
 * - what is submitted under an Idempotency-Key, alone, in a batch or in a transaction, is one job, however often it is asked for, and one callback;
 * - a job with a callback whose end was answered is told of, after any crash: done, or failed because it has expired;
 * - a pushed job that was answered is sent at least once, and what its receiver said to it is kept as its result;
 * - a job of a group is not given out before those that came before it have ended;
 * - a job that has failed as often as it may is in the queue of the dead, the same one, and in no other;
 * - what has expired is given to nobody.
 *
 * One seed is one run: the traces of two runs are compared.
 */
#include "asking.h"

enum { JOBS_MAX = 2000, STEPS = 900, STEPS_CUT = 70, GROUPS = 3, RECEIVER_PORT = 9000 };

/* What a job is for; it is submitted to the queue of that name. */
enum { KEYED, PUSHED, GROUPED, SICK, LATE, KINDS };

static const char *const queues[KINDS] = {"keyed", "pushed", "grouped", "sick", "late"};

struct job {
	int kind;
	uint64_t id; /* 0: not known */
	bool answered;
	bool done, maybe_done;  /* its end was answered; may have been */
	bool shown;             /* that it is where it should be was seen at the end */
	uint64_t told_by, told; /* number of the message about it, and how often that came */
	uint64_t received;      /* pushes */
};

static struct job jobs[JOBS_MAX];
static uint64_t jobs_count, set_up;
static wh_sim *receiver;
static wh_loop *receiver_loop;
static wh_http_server *receiver_server;
static uint64_t messages, pushes, repeated, ended, expired, dead;

/* ---- the receiver ------------------------------------------------------------------------- */

static struct job *job_of_id(uint64_t id)
{
	for (uint64_t i = 0; i < jobs_count; i++)
		if (jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

static void know(struct job *job, uint64_t id)
{
	must(job->id == 0 || job->id == id, "%s-%d is job %" PRIu64 " and job %" PRIu64, queues[job->kind],
	     (int)(job - jobs), job->id, id);
	must(!job_of_id(id) || job_of_id(id) == job, "two jobs have id %" PRIu64, id);
	job->id = id;
}

/* How a job of a kind that is submitted in several ways is: alone, as the line of a batch, in a transaction. */
enum { ALONE, IN_BATCH, IN_TRANSACTION, WAYS };

static int way_of(const struct job *job)
{
	return job->kind == KEYED ? (int)(job - jobs) % WAYS : ALONE;
}

/* "keyed-17", as the line of a batch in quotes */
static struct job *job_of_payload(struct wh_slice payload, int kind)
{
	char prefix[24];
	uint64_t n;

	snprintf(prefix, sizeof prefix, "%s-", queues[kind]);
	n = must_number(payload, prefix);
	must(n < jobs_count && jobs[n].kind == kind, "a payload that nobody sent");
	return &jobs[n];
}

/* A callback. It may come before its submitter was answered. */
static void take_message(wh_http_exchange *x)
{
	struct wh_slice body = wh_http_body(x);
	uint64_t message = must_number(wh_http_header(x, "webhook-id"), "job_");
	uint64_t n = must_number(wh_http_query(x), "of=");
	must(n < jobs_count && (jobs[n].kind == KEYED || jobs[n].kind == LATE), "a callback of nobody");
	struct job *job = &jobs[n];

	know(job, must_number(body, "\"data\":{\"id\":"));
	must(job->told_by == 0 || job->told_by == message, "job %" PRIu64 " is told of by two messages",
	     job->id);
	must(job->kind != KEYED || (job->maybe_done && has(body, "\"type\":\"job.done\"")), "%.*s",
	     (int)body.len, body.data);
	must(job->kind != LATE || has(body, "\"type\":\"job.failed\""), "%.*s", (int)body.len, body.data);
	job->told_by = message;
	job->told++;
	messages++;
	wh_http_respond(x, drains || draw(4) ? 204 : 500, NULL, 0);
}

static void take_push(wh_http_exchange *x)
{
	struct job *job = job_of_payload(wh_http_body(x), PUSHED);
	char said[40];
	int len = snprintf(said, sizeof said, "did-%d", (int)(job - jobs));

	know(job, must_number(wh_http_header(x, "Whilst-Job"), ""));
	must(!job->done, "job %" PRIu64 " is done, and is pushed", job->id);
	job->received++;
	pushes++;
	if (drains || draw(4))
		wh_http_respond(x, 200, said, (size_t)len);
	else if (draw(2))
		wh_http_respond(x, draw(2) ? 500 : 429, NULL, 0);
	else
		wh_http_abort(x);
}

static void on_received(wh_http_exchange *x, void *arg)
{
	(void)arg;
	if (wh_slice_equal(wh_http_path(x), "/told"))
		take_message(x);
	else
		take_push(x);
}

static void start_receiver(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(RECEIVER_PORT)};
	struct wh_http_server_options options = {.on_request = on_received};
	struct wh_sim_options machine_options = {.world = world, .address = "10.0.0.99"};

	must(wh_sim_open(&receiver, &machine_options) == 0, "machine");
	receiver_loop = plan_loop(receiver);
	must(wh_http_server_open(receiver_loop, &options, &receiver_server) == 0, "receiver");
	int fd = wh_listen(receiver_loop, (struct sockaddr *)&any, sizeof any, NULL);
	must(fd >= 0 && wh_http_server_listen(receiver_server, fd) == 0, "listen");
}

static void end_receiver(void)
{
	receiver_server = wh_http_server_close(receiver_server);
	receiver_loop = wh_loop_close(receiver_loop);
	receiver = wh_sim_close(receiver);
}

/* ---- setting up --------------------------------------------------------------------------- */

static const struct {
	const char *path, *json;
} set_up_requests[] = {
	{"/v1/queues/keyed", "{\"attempts\":1000,\"time_to_run\":\"20s\",\"retention\":\"30d\"}"},
	{"/v1/queues/pushed",
         "{\"attempts\":1000,\"retention\":\"30d\",\"backoff\":\"1s\",\"backoff_max\":\"2s\"}"},
	{"/v1/queues/pushed/target", "{\"url\":\"http://10.0.0.99:9000/push\",\"timeout\":\"5s\","
                                     "\"connect_timeout\":\"2s\",\"breaker\":{\"failures\":0}}"},
	{"/v1/queues/grouped", "{\"attempts\":1000,\"time_to_run\":\"20s\",\"retention\":\"30d\"}"},
	{"/v1/queues/late", "{\"attempts\":1000,\"time_to_run\":\"20s\",\"retention\":\"30d\"}"},
	{"/v1/queues/dead", "{\"attempts\":1000,\"retention\":\"30d\"}"},
	{"/v1/queues/sick",
         "{\"attempts\":2,\"time_to_run\":\"20s\",\"retention\":\"30d\",\"backoff\":\"10ms\","
         "\"dead_letter\":\"dead\"}"},
};
enum { SET_UP = sizeof set_up_requests / sizeof *set_up_requests };

static void on_set_up(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;

	must(is_unknown(res) || res.n == 200 || res.n == 201, "request %d of setting up: %d %.*s",
	     (int)client->at, (int)res.n, (int)body_of(res).len, body_of(res).data);
	if (!is_unknown(res) && client->at == set_up)
		set_up++;
	rest(client, res);
}

static void set_up_next(struct client *client)
{
	static const char *const fields[] = {"Content-Type", "application/json", NULL};

	client->at = set_up;
	ask(client, "PUT", set_up_requests[set_up].path, set_up_requests[set_up].json, fields, on_set_up);
}

/* ---- submitting --------------------------------------------------------------------------- */

static void on_submitted(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = &jobs[client->at];

	must(is_unknown(res) || res.n == (way_of(job) == IN_TRANSACTION ? 200 : 202),
	     "a submission of %s: %d %.*s", queues[job->kind], (int)res.n, (int)body_of(res).len,
	     body_of(res).data);
	if (!is_unknown(res)) {
		know(job, must_number(body_of(res), "{\"id\":"));
		job->answered = true;
	}
	rest(client, res);
}

static void submit(struct client *client, struct job *job)
{
	int n = (int)(job - jobs);
	char key[24], url[60];
	const char *fields[7] = {NULL};
	int count = 0, way = way_of(job);

	snprintf(key, sizeof key, "%s-%d", queues[job->kind], n);
	snprintf(url, sizeof url, "http://10.0.0.99:9000/told?of=%d", n);
	if (job->kind == KEYED) {
		fields[count++] = "Idempotency-Key";
		fields[count++] = key;
	}
	if (way != ALONE) {
		fields[count++] = "Content-Type";
		fields[count++] = way == IN_BATCH ? "application/x-ndjson" : "application/json";
	}
	if (calls_back && (job->kind == KEYED || job->kind == LATE) && way != IN_TRANSACTION) {
		fields[count++] = "Whilst-Callback";
		fields[count++] = url;
	}
	client->at = (uint64_t)n;
	snprintf(client->body, sizeof client->body, way == IN_BATCH ? "\"%s\"" : "%s", key);
	if (way == IN_TRANSACTION)
		snprintf(client->body, sizeof client->body,
		         "{\"actions\":[{\"action\":\"submit\",\"queue\":\"keyed\",\"payload\":\"%s\"%s%s%s}]"
		         "}",
		         key, calls_back ? ",\"callback\":\"" : "", calls_back ? url : "",
		         calls_back ? "\"" : "");
	if (way == IN_TRANSACTION)
		snprintf(client->path, sizeof client->path, "/v1/transactions");
	else if (job->kind == GROUPED)
		snprintf(client->path, sizeof client->path, "/v1/queues/grouped/jobs?group=g%d", n % GROUPS);
	else if (job->kind == LATE)
		snprintf(client->path, sizeof client->path, "/v1/queues/late/jobs?expires=2s");
	else
		snprintf(client->path, sizeof client->path, "/v1/queues/%s/jobs", queues[job->kind]);
	ask(client, "POST", client->path, client->body, fields, on_submitted);
}

static void submit_new(struct client *client)
{
	struct job *job = &jobs[jobs_count++];

	job->kind = (int)draw(KINDS);
	submit(client, job);
}

/* One that nobody knows the outcome of, or any other, under its key once more. */
static bool submit_again(struct client *client)
{
	for (uint64_t i = 0; jobs_count > 0 && i < jobs_count; i++) {
		struct job *job = &jobs[drains ? i : draw(jobs_count)];

		if (job->kind != KEYED || (drains && job->answered))
			continue;
		repeated++;
		submit(client, job);
		return true;
	}
	return false;
}

/* ---- working ------------------------------------------------------------------------------ */

static void on_ended(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = &jobs[client->at];

	must(is_unknown(res) || res.n == 200 || res.n == 409, "an end: %d", (int)res.n);
	if (res.n == 200 && job->kind != SICK) {
		job->done = true;
		ended++;
	}
	rest(client, res);
}

/* Those that came before it into its group. */
static void check_group(const struct job *job)
{
	for (uint64_t i = 0; i < jobs_count; i++) {
		const struct job *other = &jobs[i];

		if (other->kind == GROUPED && (int)i % GROUPS == (int)(job - jobs) % GROUPS && other->id != 0)
			must(other->id >= job->id || other->maybe_done,
			     "job %" PRIu64 " is given out before job %" PRIu64 " of its group has ended",
			     job->id, other->id);
	}
}

static void on_reserved(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	const struct wh_http_response *response = res.ptr;
	char lease[64];
	const char *fields[] = {"Whilst-Lease", lease, NULL};

	must(is_unknown(res) || res.n == 200 || res.n == 204, "a reservation: %d", (int)res.n);
	if (res.n != 200) {
		rest(client, res);
		return;
	}
	struct wh_slice token = wh_http_response_header(response, "Whilst-Lease");
	struct job *job = job_of_payload(response->body, client->what);
	know(job, must_number(wh_http_response_header(response, "Whilst-Job"), ""));
	must(!job->done, "job %" PRIu64 " has ended, and was given out again", job->id);
	if (job->kind == GROUPED)
		check_group(job);
	client->at = (uint64_t)(job - jobs);
	snprintf(lease, sizeof lease, "%.*s", (int)token.len, token.data);
	rest(client, res);
	if (!drains && draw(8) == 0)
		return; /* a worker that died */
	job->maybe_done = true;
	snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64 "/%s", job->id,
	         job->kind == SICK ? "fail" : "complete");
	ask(client, "POST", client->path, job->kind == SICK ? "sick" : "done", fields, on_ended);
}

static void reserve(struct client *client)
{
	static const int worked_on[] = {KEYED, GROUPED, SICK};

	client->what = worked_on[draw(3)];
	snprintf(client->path, sizeof client->path, "/v1/queues/%s/reserve", queues[client->what]);
	ask(client, "POST", client->path, NULL, NULL, on_reserved);
}

/* ---- looking, at the end ------------------------------------------------------------------ */

static void on_result(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = &jobs[client->at];
	char said[40];

	snprintf(said, sizeof said, "did-%" PRIu64, client->at);
	must(is_unknown(res) || res.n == 409 || (res.n == 200 && wh_slice_equal(body_of(res), said)),
	     "job %" PRIu64 " was pushed, and has come to %d %.*s", job->id, (int)res.n,
	     (int)body_of(res).len, body_of(res).data);
	must(res.n != 200 || job->received > 0, "job %" PRIu64 " has a result of nobody", job->id);
	job->shown = job->done = res.n == 200;
	rest(client, res);
}

static void on_shown(wh_loop *l, wh_res res, void *arg)
{
	struct client *client = arg;
	struct job *job = &jobs[client->at];
	struct wh_slice body = body_of(res);

	must(is_unknown(res) || res.n == 200, "job %" PRIu64 ": %d", job->id, (int)res.n);
	if (job->kind == SICK) {
		job->shown = has(body, "\"queue\":\"dead\"");
		must(!job->shown || (has(body, "\"state\":\"ready\"") && has(body, "\"dead_from\":\"sick\"")),
		     "%.*s", (int)body.len, body.data);
		dead += job->shown;
	} else {
		job->shown = has(body, "\"state\":\"failed\"");
		must(!job->shown || (has(body, "\"message\":\"expired\"") && has(body, "\"attempts\":0")),
		     "%.*s", (int)body.len, body.data);
		expired += job->shown;
	}
	rest(client, res);
}

static bool show(struct client *client)
{
	for (uint64_t i = 0; i < jobs_count; i++) {
		struct job *job = &jobs[i];

		if (job->shown || job->id == 0 ||
		    (job->kind != PUSHED && job->kind != SICK && job->kind != LATE))
			continue;
		if (draw(3) == 0)
			continue;
		client->at = i;
		snprintf(client->path, sizeof client->path, "/v1/jobs/%" PRIu64 "%s", job->id,
		         job->kind == PUSHED ? "/result" : "");
		ask(client, "GET", client->path, NULL, NULL, job->kind == PUSHED ? on_result : on_shown);
		return true;
	}
	return false;
}

static void begin(struct client *client)
{
	if (set_up < SET_UP) {
		set_up_next(client);
		return;
	}
	if (!drains && jobs_count < JOBS_MAX && draw(3) == 0) {
		submit_new(client);
		return;
	}
	if ((drains ? draw(4) : draw(12)) == 0 && submit_again(client))
		return;
	if (drains && draw(3) == 0 && show(client))
		return;
	reserve(client);
}

/* ---- the end ------------------------------------------------------------------------------ */

static bool is_over(const struct job *job)
{
	if (job->id == 0)
		return !job->answered && job->kind != KEYED;
	switch (job->kind) {
	case KEYED:
		return job->answered && job->maybe_done && (job->told > 0 || !calls_back);
	case GROUPED:
		return job->maybe_done;
	case LATE:
		return job->shown && (job->told > 0 || !calls_back);
	default:
		return job->shown;
	}
}

/* What is left to do, apart from messages that are tried again in hours. */
static uint64_t left(void)
{
	static const char *const names[] = {"keyed", "grouped", "pushed", "sick", "late"};
	uint64_t count = 0;

	for (uint64_t i = 0; i < jobs_count; i++)
		count += !is_over(&jobs[i]);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct store_queue_view view;

		if (store_queue_now(store, (struct store_slice){names[i], strlen(names[i])}, &view) == 0)
			count += view.jobs[JOB_DELAYED] + view.jobs[JOB_READY] + view.jobs[JOB_RUNNING];
	}
	return count;
}

static bool only_messages_are_left(void)
{
	for (uint64_t i = 0; i < jobs_count; i++)
		if (!is_over(&jobs[i]) && (jobs[i].told > 0 || jobs[i].kind != LATE || !jobs[i].shown) &&
		    !(jobs[i].kind == KEYED && jobs[i].answered && jobs[i].done))
			return false;
	return true;
}

/* Every key made one job: the queue has had as many as there are keys. */
static void check_keys(void)
{
	struct store_queue_view view = {0};
	uint64_t keys = 0;

	(void)store_queue_now(store, STORE_SLICE("keyed"), &view);
	for (uint64_t i = 0; i < jobs_count; i++)
		keys += jobs[i].kind == KEYED;
	must(view.submitted == keys, "%" PRIu64 " jobs were made under %" PRIu64 " keys", view.submitted,
	     keys);
	memset(&view, 0, sizeof view);
	(void)store_queue_now(store, STORE_SLICE("callbacks/pending"), &view);
	must(view.jobs[JOB_READY] == 0, "%" PRIu64 " callbacks wait for jobs that have ended",
	     view.jobs[JOB_READY]);
}

static void drain(void)
{
	make_peace();
	int64_t until = wh_sim_world_now(world) + 86400 * WH_NS_PER_S;
	while (set_up < SET_UP || left() > 0) {
		must(wh_sim_world_now(world) < until, "%" PRIu64 " promises are not kept", left());
		step(only_messages_are_left() ? 60000 : 40);
	}
	check_keys();
	must(store_recount(store) == 0, "recount");
	for (uint64_t i = 0; i < jobs_count; i++) {
		tally.checked++;
		tally.kept += jobs[i].answered;
		tally.lost += jobs[i].id == 0;
	}
}

static uint64_t run_once(void)
{
	memset(jobs, 0, sizeof jobs);
	jobs_count = set_up = 0;
	chance_state = plan.seed * 77;
	start_machine(PORT);
	has_been_cut = life > 0;
	start_receiver();
	start_clients();
	for (uint64_t i = 0; i < (plan.crash_at > 0 ? STEPS_CUT : STEPS) || set_up < SET_UP; i++) {
		if (plan.crash_at == 0 && draw(8) == 0)
			trouble(draw(4) ? clients[draw(CLIENTS)].machine : receiver);
		step(40);
	}
	drain();
	uint64_t trace = wh_sim_world_trace(world);
	end_clients();
	end_receiver();
	end_machine();
	tally.runs++;
	return trace;
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	try_all("promises", run_once, 6, 7);
	printf("%" PRIu64 " messages and %" PRIu64 " pushes received, %" PRIu64 " keys used again, %" PRIu64
	       " ends answered, %" PRIu64 " expired, %" PRIu64 " dead\n",
	       messages, pushes, repeated, ended, expired, dead);
	must((messages > 0 || !calls_back) && pushes > 0 && repeated > 0 && ended > 0 && expired > 0 &&
	             dead > 0,
	     "nothing was tried");
	return 0;
}
