/* tests/sim/test_sim_schedules.c -- schedules on a simulated machine that loses power at any disk call: each due time gets one job, or one event.
 *
 * A client puts them over HTTP, and long after takes all that they have made. In between are power cuts, kills, starts that break off and a machine that
 * stands still; and now and then the topic of one is removed, and put again. With missed "all" the due times of the jobs follow each other without a gap and without one twice; with "once" none comes twice. Of events
 * both subscriptions have the same, and the id says which due time it is. One seed is one run: the traces of two runs are compared.
 */
#include "fronted.h"

#include "base/units.h"
#include "whilst/http.h"

enum { PORT = 4480, STEPS = 400, DUE_MAX = 20000 };

#define ORIGIN "10.0.0.1:4480"

static wh_sim *client;
static wh_loop *client_loop;
static wh_http_client *http;

#define EVERY(every, what) "{\"every\":\"" every "\",\"missed\":\"all\",\"missed_max\":1000," what "}"

/* In their order: a topic is there before what publishes to it. */
static const struct {
	const char *path, *config;
} configured[] = {
	{"/v1/topics/told", "{\"retention\":\"1h\"}"},
	{"/v1/topics/told/subscriptions/a", "{\"queue\":\"told-a\"}"},
	{"/v1/topics/told/subscriptions/b", "{\"queue\":\"told-b\"}"},
	{"/v1/topics/brief/subscriptions/s", "{\"queue\":\"brief\"}"},
	{"/v1/schedules/fast", EVERY("2s", "\"job\":{\"queue\":\"fast\",\"time_to_run\":\"30d\"}")},
	{"/v1/schedules/cron",
         "{\"cron\":\"* * * * "
         "*\",\"missed\":\"all\",\"missed_max\":1000,\"job\":{\"queue\":\"cron\",\"time_to_run\":\"30d\"}}"},
	{"/v1/schedules/once",
         "{\"every\":\"3s\",\"job\":{\"queue\":\"once\",\"time_to_run\":\"30d\",\"payload\":\"x\"}}"},
	{"/v1/schedules/told", EVERY("5s", "\"publish\":{\"topic\":\"told\",\"payload\":\"x\"}")},
	{"/v1/schedules/brief", EVERY("4s", "\"publish\":{\"topic\":\"brief\"}")},
};
enum { PUTS = sizeof(configured) / sizeof(configured[0]), BRIEF = 3 };

/* What came of them. */
static const struct {
	const char *queue, *field;
	int64_t interval_ns; /* of due times; 0: only none twice */
} takes[] = {
	{"fast", "Whilst-Due", 2 * WH_NS_PER_S},
	{"cron", "Whilst-Due", 60 * WH_NS_PER_S},
	{"once", "Whilst-Due", 0},
	{"told-a", "ce-time", 5 * WH_NS_PER_S},
	{"told-b", "ce-time", 5 * WH_NS_PER_S},
	{"brief", "ce-time", 4 * WH_NS_PER_S},
};
enum { TAKES = sizeof(takes) / sizeof(takes[0]), TOLD_A = 3, TOLD_B = 4 };

enum { ASKED = 20 };
_Static_assert((int)PUTS <= (int)ASKED && (int)TAKES <= (int)ASKED, "more room");

static struct asked {
	bool idle, done; /* done: put, or nothing is left to take */
	char path[96];
	const char *field;
	int64_t *due;
	size_t count;
} asked[ASKED], brief;
static bool brief_there;
static uint64_t jobs_taken, puts_unanswered, topics_gone;

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

/* An event's id says the same as its time. */
static void must_be_of(const struct wh_http_response *response, struct wh_slice due)
{
	struct wh_slice id = wh_http_response_header(response, "ce-id");

	must(!id.data || (id.len > due.len && id.data[id.len - due.len - 1] == '/' &&
	                  memcmp(id.data + id.len - due.len, due.data, due.len) == 0),
	     "the event of %.*s is '%.*s'", (int)due.len, due.data, (int)id.len, id.data);
}

static void on_taken(wh_loop *l, wh_res res, void *arg)
{
	struct asked *a = arg;
	struct wh_slice due;

	must(res.n == 200 || res.n == 204, "%s was answered with %d", a->path, (int)res.n);
	if (res.n == 200) {
		due = wh_http_response_header(res.ptr, a->field);
		must(a->count < DUE_MAX && wh__parse_instant(due.data, due.len, &a->due[a->count]),
		     "'%.*s' is no instant", (int)due.len, due.data);
		must_be_of(res.ptr, due);
		a->count++;
	}
	a->done = res.n == 204;
	a->idle = true;
	wh_http_response_free(res.ptr);
}

/* Its topic is there, or not, as it was asked for; unanswered: it is asked for again. */
static void on_brief(wh_loop *l, wh_res res, void *arg)
{
	must(res.n < 0 || res.n == 200 || res.n == 201 || res.n == 404 || res.n == 503,
	     "the topic was answered with %d", (int)res.n);
	brief.done = res.n > 0 && res.n != 503;
	topics_gone += brief.done && !brief_there;
	brief.idle = true;
	wh_http_response_free(res.ptr);
}

static void ask_brief(void)
{
	if (brief.idle)
		ask(&brief, brief_there ? "PUT" : "DELETE", brief_there ? configured[BRIEF].config : NULL,
		    on_brief);
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
	for (size_t i = 0; i < ASKED; i++) {
		asked[i] =
			(struct asked){.idle = true, .done = true, .due = malloc(DUE_MAX * sizeof(int64_t))};
		must(asked[i].due != NULL, "memory");
	}
	brief = (struct asked){.idle = true, .done = true};
	brief_there = true;
	snprintf(brief.path, sizeof(brief.path), "%s", configured[BRIEF].path);
}

static void end_world(void)
{
	http = wh_http_client_close(http);
	client_loop = wh_loop_close(client_loop);
	client = wh_sim_close(client);
	for (size_t i = 0; i < ASKED; i++)
		free(asked[i].due);
	end_machine();
}

static void turn(uint64_t ms)
{
	must(wh_sim_world_run(world, (int64_t)ms * WH_NS_PER_MS) == 0, "run");
	if (!wh_sim_has_power(machine) || has_failed)
		restart_server(PORT);
}

static void put_all(void)
{
	for (size_t i = 0; i < PUTS; i++) {
		snprintf(asked[i].path, sizeof(asked[i].path), "%s", configured[i].path);
		asked[i].done = false;
		while (!asked[i].done) {
			if (asked[i].idle)
				ask(&asked[i], "PUT", configured[i].config, on_put);
			turn(1 + draw(20));
		}
	}
}

static void misfortune(void)
{
	switch (draw(12)) {
	case 0:
		if (life < LIVES_MAX)
			wh_sim_power_cut(machine);
		break;
	case 1:
		wh_sim_pause(machine, (int64_t)draw(20000) * WH_NS_PER_MS);
		break;
	case 2:
	case 3:
		if (brief.done && brief.idle) {
			brief_there = !brief_there;
			brief.done = false;
		}
		break;
	default:
		break;
	}
}

/* Peace: all that was made is taken. */
static void take_all(void)
{
	bool all = false;

	drains = true;
	wh_sim_power_cut(machine);
	restart_server(PORT);
	for (brief_there = true, brief.done = false; !brief.done || !brief.idle; turn(100))
		ask_brief();
	turn(5000);
	for (size_t i = 0; i < TAKES; i++) {
		snprintf(asked[i].path, sizeof(asked[i].path), "/v1/queues/%s/reserve", takes[i].queue);
		asked[i].field = takes[i].field;
		asked[i].done = false;
	}
	while (!all) {
		all = true;
		for (size_t i = 0; i < TAKES; i++) {
			if (asked[i].idle && !asked[i].done)
				ask(&asked[i], "POST", NULL, on_taken);
			all = all && asked[i].done;
		}
		turn(1);
	}
}

/* FIFO: the order in which they were made is the order in which they come, and due times rise. */
static void judge(size_t i)
{
	const struct asked *a = &asked[i];

	must(a->count > 10, "%s has %zu jobs only", takes[i].queue, a->count);
	for (size_t n = 1; n < a->count; n++) {
		int64_t step = a->due[n] - a->due[n - 1];

		must(step > 0, "%s: a due time has two jobs", takes[i].queue);
		must(takes[i].interval_ns == 0 || step == takes[i].interval_ns,
		     "%s: %" PRId64 " ms between two due times", takes[i].queue, step / WH_NS_PER_MS);
	}
	must(wh_wall_now(client_loop) - a->due[a->count - 1] < 70 * WH_NS_PER_S, "%s stands still",
	     takes[i].queue);
	jobs_taken += a->count;
	tally.checked += a->count;
	tally.kept += a->count;
}

/* What has come to one subscription and not to the other came while they were taken. */
static void judge_both(const struct asked *a, const struct asked *b)
{
	for (size_t n = 0; n < a->count && n < b->count; n++)
		must(a->due[n] == b->due[n], "an event has gone to one of two subscriptions");
	must(a->count < b->count + 10 && b->count < a->count + 10,
	     "events have gone to one of two subscriptions");
}

static uint64_t run_once(void)
{
	uint64_t trace;

	chance_state = plan.seed * 77;
	start_world();
	put_all();
	for (int i = 0; i < STEPS; i++) {
		misfortune();
		if (!brief.done)
			ask_brief();
		turn(1 + draw(4000));
	}
	take_all();
	for (size_t i = 0; i < TAKES; i++)
		judge(i);
	judge_both(&asked[TOLD_A], &asked[TOLD_B]);
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
	printf("%" PRIu64 " jobs taken, %" PRIu64 " puts asked again, a topic removed %" PRIu64 " times\n",
	       jobs_taken, puts_unanswered, topics_gone);
	must(tally.crashes > 0 && topics_gone > 0, "nothing was tried");
	return 0;
}
