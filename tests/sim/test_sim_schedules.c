/* tests/sim/test_sim_schedules.c -- schedules on a simulated machine that loses power at any disk call: each due time gets one job.
 *
 * A client puts them over HTTP, and long after takes all that they have made. In between are power cuts, kills, starts that break off and a machine that
 * stands still. With missed "all" the due times of the jobs follow each other without a gap and without one twice; with "once" none comes twice. One seed is one
 * run: the traces of two runs are compared.
 */
#include "fronted.h"

#include "base/units.h"
#include "whilst/http.h"

enum { PORT = 4480, STEPS = 400, DUE_MAX = 20000 };

#define ORIGIN "10.0.0.1:4480"

static wh_sim *client;
static wh_loop *client_loop;
static wh_http_client *http;

static const struct {
	const char *name, *config;
	int64_t interval_ns; /* of due times; 0: only none twice */
} schedules[] = {
	{"fast",
         "{\"every\":\"2s\",\"missed\":\"all\",\"missed_max\":1000,\"job\":{\"queue\":\"fast\",\"time_to_"
         "run\":\"30d\"}}",
         2 * WH_NS_PER_S},
	{"cron",
         "{\"cron\":\"* * * * "
         "*\",\"missed\":\"all\",\"missed_max\":1000,\"job\":{\"queue\":\"cron\",\"time_to_run\":\"30d\"}}",
         60 * WH_NS_PER_S},
	{"once", "{\"every\":\"3s\",\"job\":{\"queue\":\"once\",\"time_to_run\":\"30d\",\"payload\":\"x\"}}",
         0},
};
enum { SCHEDULES = sizeof(schedules) / sizeof(schedules[0]) };

static struct asked {
	bool idle, done; /* done: put, or nothing is left to take */
	char path[96];
	int64_t *due;
	size_t count;
} asked[SCHEDULES];
static uint64_t jobs_taken, puts_unanswered;

/* ---- the server --------------------------------------------------------------------------- */

static int server_open(void)
{
	int error = front_begin(NULL);

	return error == 0 ? front_schedules(front) : error;
}

/* ---- the client --------------------------------------------------------------------------- */

static void ask(struct asked *a, const char *method, const char *body, wh_callback *callback)
{
	struct wh_http_field json = {{"Content-Type", 12}, {"application/json", 16}};
	struct wh_http_request request = {.origin = ORIGIN,
	                                  .method = method,
	                                  .target = a->path,
	                                  .fields = &json,
	                                  .field_count = body ? 1 : 0,
	                                  .body = body,
	                                  .body_len = body ? strlen(body) : 0};
	a->idle = false;
	must(wh_then(wh_http_request(http, &request), callback, a) == 0, "then");
}

static void on_put(wh_loop *l, wh_res res, void *arg)
{
	struct asked *a = arg;

	must(res.n < 0 || res.n == 200 || res.n == 201 || res.n == 503, "%s was answered with %d", a->path,
	     (int)res.n);
	a->done = res.n == 200 || res.n == 201;
	puts_unanswered += !a->done;
	a->idle = true;
	wh_http_response_free(res.ptr);
}

static void on_taken(wh_loop *l, wh_res res, void *arg)
{
	struct asked *a = arg;
	struct wh_slice due;

	must(res.n == 200 || res.n == 204, "%s was answered with %d", a->path, (int)res.n);
	if (res.n == 200) {
		due = wh_http_response_header(res.ptr, "Whilst-Due");
		must(a->count < DUE_MAX && wh__parse_instant(due.data, due.len, &a->due[a->count]),
		     "'%.*s' is no instant", (int)due.len, due.data);
		a->count++;
	}
	a->done = res.n == 204;
	a->idle = true;
	wh_http_response_free(res.ptr);
}

/* ---- the world ---------------------------------------------------------------------------- */

static void start_world(void)
{
	const struct wh_http_client_options options = {.connect_timeout_ns = 2 * WH_NS_PER_S,
	                                               .first_byte_timeout_ns = 5 * WH_NS_PER_S,
	                                               .read_timeout_ns = 2 * WH_NS_PER_S};
	start_machine(PORT);
	must(wh_sim_open(&client, &(struct wh_sim_options){.world = world}) == 0, "machine");
	client_loop = plan_loop(client);
	must(wh_http_client_open(client_loop, &options, &http) == 0, "client");
	for (size_t i = 0; i < SCHEDULES; i++) {
		asked[i] = (struct asked){.idle = true, .due = malloc(DUE_MAX * sizeof(int64_t))};
		must(asked[i].due != NULL, "memory");
		snprintf(asked[i].path, sizeof(asked[i].path), "/v1/schedules/%s", schedules[i].name);
	}
}

static void end_world(void)
{
	http = wh_http_client_close(http);
	client_loop = wh_loop_close(client_loop);
	client = wh_sim_close(client);
	for (size_t i = 0; i < SCHEDULES; i++)
		free(asked[i].due);
	end_machine();
}

static void turn(uint64_t ms)
{
	must(wh_sim_world_run(world, (int64_t)ms * WH_NS_PER_MS) == 0, "run");
	if (!wh_sim_has_power(machine) || has_failed)
		restart_server(PORT);
}

static bool all_done(void)
{
	for (size_t i = 0; i < SCHEDULES; i++)
		if (!asked[i].done)
			return false;
	return true;
}

static void put_all(void)
{
	while (!all_done()) {
		for (size_t i = 0; i < SCHEDULES; i++)
			if (asked[i].idle && !asked[i].done)
				ask(&asked[i], "PUT", schedules[i].config, on_put);
		turn(1 + draw(20));
	}
}

static void misfortune(void)
{
	switch (draw(8)) {
	case 0:
		if (life < LIVES_MAX)
			wh_sim_power_cut(machine);
		break;
	case 1:
		wh_sim_pause(machine, (int64_t)draw(20000) * WH_NS_PER_MS);
		break;
	default:
		break;
	}
}

/* Peace: all that was made is taken. */
static void take_all(void)
{
	drains = true;
	wh_sim_power_cut(machine);
	restart_server(PORT);
	turn(5000);
	for (size_t i = 0; i < SCHEDULES; i++) {
		snprintf(asked[i].path, sizeof(asked[i].path), "/v1/queues/%s/reserve", schedules[i].name);
		asked[i].done = false;
	}
	while (!all_done()) {
		for (size_t i = 0; i < SCHEDULES; i++)
			if (asked[i].idle && !asked[i].done)
				ask(&asked[i], "POST", NULL, on_taken);
		turn(1);
	}
}

/* FIFO: the order in which they were made is the order in which they come, and due times rise. */
static void judge(size_t i)
{
	const struct asked *a = &asked[i];

	must(a->count > 10, "%s has made %zu jobs only", schedules[i].name, a->count);
	for (size_t n = 1; n < a->count; n++) {
		int64_t step = a->due[n] - a->due[n - 1];

		must(step > 0, "%s: a due time has two jobs", schedules[i].name);
		must(schedules[i].interval_ns == 0 || step == schedules[i].interval_ns,
		     "%s: %" PRId64 " ms between two due times", schedules[i].name, step / WH_NS_PER_MS);
	}
	must(wh_wall_now(client_loop) - a->due[a->count - 1] < 70 * WH_NS_PER_S, "%s stands still",
	     schedules[i].name);
	jobs_taken += a->count;
	tally.checked += a->count;
	tally.kept += a->count;
}

static uint64_t run_once(void)
{
	uint64_t trace;

	chance_state = plan.seed * 77;
	start_world();
	put_all();
	for (int i = 0; i < STEPS; i++) {
		misfortune();
		turn(1 + draw(4000));
	}
	take_all();
	for (size_t i = 0; i < SCHEDULES; i++)
		judge(i);
	trace = wh_sim_world_trace(world);
	end_world();
	tally.runs++;
	return trace;
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	plan_seeds("schedules", run_once, 8);
	printf("%" PRIu64 " jobs taken, %" PRIu64 " puts asked again\n", jobs_taken, puts_unanswered);
	must(tally.crashes > 0, "nothing was tried");
	return 0;
}
