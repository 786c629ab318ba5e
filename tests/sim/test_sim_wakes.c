/* tests/sim/test_sim_wakes.c -- no wake-up is missed: jobs are submitted, leased and ended, and events published, while others begin to wait for that
 * in every order that a network can bring about.
 *
 * A round is one job and one event. Who wants to know of them begins a little earlier, at the same moment or a little later: a
 * reservation that waits, Prefer: wait on the job, on its result and on a log position, streams of the job, of its queue and of a topic, a callback.
 * Nothing is lost here and no power is cut, so all of them are told within moments; a wake-up that is missed shows as a wait
 * that goes on. One seed is one run: the traces of two runs are compared.
 */
#include "asking.h"

enum { ROUNDS = 120, RECEIVER_PORT = 9000, TEXT_BYTES = 1 << 16 };

enum { WORKER, WAIT, RESULT, JOB_STREAM, QUEUE_STREAM, TOPIC_STREAM, POSITION, CALLBACK, WATCHERS };

static const char *const names[WATCHERS] = {
	"a reservation",      "a wait for the job", "a wait for the result", "the job's stream",
	"the queue's stream", "the topic's stream", "a wait for a position", "a callback"};

struct watcher {
	int64_t begins_at; /* of the world's clock; 0: has begun */
	bool is_on, told;
	wh_http_call *call; /* of a stream without end */
	wh_future reading;
	char text[TEXT_BYTES];
	size_t len;
};

static struct watcher watchers[WATCHERS];
static wh_sim *receiver;
static wh_loop *receiver_loop;
static wh_http_server *receiver_server;
static uint64_t job, position_epoch, position_lsn; /* of the round; 0: not known yet */
static uint64_t event_epoch, event_lsn;            /* of the newest event before the round */
static uint64_t round_number, told[WATCHERS];
static char lease[64];
static bool is_delayed, fails, ended, published, submitted;
static int64_t submit_at, end_at, publish_at; /* 0: done */

static int64_t now_of_world(void)
{
	return wh_sim_world_now(world);
}

static int64_t soon(void)
{
	return now_of_world() + 1 + (int64_t)draw(3000) * WH_NS_PER_US;
}

/* ---- plain requests ----------------------------------------------------------------------- */

static wh_future request(int client, const char *method, const char *target, const char *name,
                         const char *value, const char *body)
{
	struct wh_http_field field = {{name, name ? strlen(name) : 0}, {value, value ? strlen(value) : 0}};
	struct wh_http_request what = {.origin = ORIGIN,
	                               .method = method,
	                               .target = target,
	                               .fields = &field,
	                               .field_count = name != NULL,
	                               .body = body,
	                               .body_len = body ? strlen(body) : 0,
	                               .first_byte_timeout_ns = 100 * WH_NS_PER_S};

	return wh_http_request(clients[client].http, &what);
}

static void then(wh_future future, wh_callback *callback, void *arg)
{
	must(wh_then(future, callback, arg) == 0, "then");
}

static void tell_of(int which)
{
	watchers[which].told = true;
	told[which]++;
}

static void on_submitted(wh_loop *l, wh_res res, void *arg)
{
	must(res.n == 202, "a submission: %d %.*s", (int)res.n, (int)body_of(res).len, body_of(res).data);
	must(job == 0 || job == must_number(body_of(res), "{\"id\":"), "another job");
	job = must_number(body_of(res), "{\"id\":");
	position_epoch = must_number(body_of(res), "\"position\":\"");
	char before[60];
	snprintf(before, sizeof before, "\"position\":\"%" PRIu64 "/", position_epoch);
	position_lsn = must_number(body_of(res), before);
	wh_http_response_free(res.ptr);
	for (int i = WAIT; i < WATCHERS; i++)
		if (i != QUEUE_STREAM && i != TOPIC_STREAM && i != CALLBACK)
			watchers[i].begins_at = soon();
}

static void on_ended(wh_loop *l, wh_res res, void *arg)
{
	must(res.n == 200, "an end: %d %.*s", (int)res.n, (int)body_of(res).len, body_of(res).data);
	wh_http_response_free(res.ptr);
	ended = true;
}

static void on_published(wh_loop *l, wh_res res, void *arg)
{
	must(res.n == 202, "publishing: %d %.*s", (int)res.n, (int)body_of(res).len, body_of(res).data);
	wh_http_response_free(res.ptr);
	published = true;
}

/* ---- who waits ---------------------------------------------------------------------------- */

static void on_told(wh_loop *l, wh_res res, void *arg)
{
	int which = (int)((struct watcher *)arg - watchers);
	struct wh_slice body = body_of(res);

	must(which == RESULT && fails ? res.n >= 400 : res.n == 200, "%s ends with %d %.*s", names[which],
	     (int)res.n, (int)body.len, body.data);
	if (which == WORKER) {
		const struct wh_http_response *response = res.ptr;
		struct wh_slice token = wh_http_response_header(response, "Whilst-Lease");

		must(job == 0 || job == must_number(wh_http_response_header(response, "Whilst-Job"), ""),
		     "another job");
		job = must_number(wh_http_response_header(response, "Whilst-Job"), "");
		snprintf(lease, sizeof lease, "%.*s", (int)token.len, token.data);
		end_at = soon();
	} else if (which == WAIT) {
		must(has(body, fails ? "\"state\":\"failed\"" : "\"state\":\"done\""), "%.*s", (int)body.len,
		     body.data);
	} else if (which == JOB_STREAM) {
		must(has(body, "event: end"), "%.*s", (int)body.len, body.data);
	} else if (which == POSITION) {
		must(has(body, "\"reached\":true"), "%.*s", (int)body.len, body.data);
	}
	wh_http_response_free(res.ptr);
	tell_of(which);
}

static bool stream_has_it(int which)
{
	char wanted[100];

	if (which == TOPIC_STREAM)
		snprintf(wanted, sizeof wanted, "\"subject\":\"r%" PRIu64 "\"", round_number);
	else
		snprintf(wanted, sizeof wanted, "\"change\":\"finish\"");
	if (which == QUEUE_STREAM && job == 0)
		return false;
	return strstr(watchers[which].text, wanted) != NULL;
}

static void read_on(struct watcher *watcher);

static void on_read(wh_loop *l, wh_res res, void *arg)
{
	struct watcher *watcher = arg;
	struct wh_buf *buf = res.ptr;

	if (res.n < 0 && !watcher->call)
		return; /* closed by us */
	must(res.n > 0, "%s ends with %d", names[watcher - watchers], (int)res.n);
	must(watcher->len + (size_t)res.n < sizeof watcher->text, "too much");
	memcpy(watcher->text + watcher->len, buf->data, (size_t)res.n);
	watcher->len += (size_t)res.n;
	watcher->text[watcher->len] = 0;
	wh_buf_put(buf);
	if (stream_has_it((int)(watcher - watchers))) {
		tell_of((int)(watcher - watchers));
		watcher->call = wh_http_call_close(watcher->call);
	} else {
		read_on(watcher);
	}
}

static void read_on(struct watcher *watcher)
{
	then(wh_http_call_read(watcher->call), on_read, watcher);
}

static void on_head(wh_loop *l, wh_res res, void *arg)
{
	must(res.n == 200, "a stream: %d", (int)res.n);
	((struct watcher *)arg)->is_on = true;
	read_on(arg);
}

static void open_stream(struct watcher *watcher, int client, const char *target)
{
	struct wh_http_field field = {{"Accept", 6}, {"text/event-stream", 17}};
	struct wh_http_request what = {
		.origin = ORIGIN, .target = target, .fields = &field, .field_count = 1};

	must(wh_http_call_open(clients[client].http, &what, 0, &watcher->call) == 0, "call");
	then(wh_http_call_response(watcher->call), on_head, watcher);
}

static void begin_watcher(int which)
{
	struct watcher *watcher = &watchers[which];
	char target[120];

	watcher->begins_at = 0;
	switch (which) {
	case WORKER:
		then(request(1, "POST", "/v1/queues/w/reserve", "Prefer", "wait=60", NULL), on_told, watcher);
		break;
	case WAIT:
		snprintf(target, sizeof target, "/v1/jobs/%" PRIu64, job);
		then(request(2, "GET", target, "Prefer", "wait=60", NULL), on_told, watcher);
		break;
	case RESULT:
		snprintf(target, sizeof target, "/v1/jobs/%" PRIu64 "/result", job);
		then(request(2, "GET", target, "Prefer", "wait=60", NULL), on_told, watcher);
		break;
	case JOB_STREAM:
		snprintf(target, sizeof target, "/v1/jobs/%" PRIu64, job);
		then(request(2, "GET", target, "Accept", "text/event-stream", NULL), on_told, watcher);
		break;
	case QUEUE_STREAM:
		open_stream(watcher, 2, "/v1/queues/w/events");
		break;
	case TOPIC_STREAM:
		snprintf(target, sizeof target, "/v1/topics/t/events?from=%" PRIu64 "/%" PRIu64, event_epoch,
		         event_lsn);
		open_stream(watcher, 2, target);
		break;
	case POSITION:
		snprintf(target, sizeof target, "/v1/log?position=%" PRIu64 "/%" PRIu64 "&level=local",
		         position_epoch, position_lsn);
		then(request(2, "GET", target, "Prefer", "wait=60", NULL), on_told, watcher);
		break;
	default:
		break;
	}
}

/* ---- who is called back ------------------------------------------------------------------- */

static void on_message(wh_http_exchange *x, void *arg)
{
	char wanted[40];

	snprintf(wanted, sizeof wanted, "of=%" PRIu64, round_number);
	if (wh_slice_equal(wh_http_query(x), wanted) && !watchers[CALLBACK].told)
		tell_of(CALLBACK);
	wh_http_respond(x, 204, NULL, 0);
}

static void start_receiver(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(RECEIVER_PORT)};
	struct wh_http_server_options options = {.on_request = on_message};
	struct wh_sim_options machine_options = {.world = world, .address = "10.0.0.99"};

	must(wh_sim_open(&receiver, &machine_options) == 0, "machine");
	receiver_loop = plan_loop(receiver);
	must(wh_http_server_open(receiver_loop, &options, &receiver_server) == 0, "receiver");
	int fd = wh_listen(receiver_loop, (struct sockaddr *)&any, sizeof any, NULL);
	must(fd >= 0 && wh_http_server_listen(receiver_server, fd) == 0, "listen");
}

/* ---- a round ------------------------------------------------------------------------------ */

static void begin(struct client *client)
{
	(void)client;
}

static void do_submit(void)
{
	char target[200];

	submit_at = 0;
	submitted = true;
	snprintf(target, sizeof target, "/v1/queues/w/jobs?retention=1h%s%s", is_delayed ? "&delay=2ms" : "",
	         calls_back ? "&callback=http://10.0.0.99:9000/?of=" : "");
	if (calls_back)
		snprintf(target + strlen(target), sizeof target - strlen(target), "%" PRIu64, round_number);
	then(request(0, "POST", target, draw(2) ? "Whilst-Commit" : NULL, "async", "payload"), on_submitted,
	     NULL);
}

static void do_end(void)
{
	char target[80];

	end_at = 0;
	if (fails)
		snprintf(target, sizeof target, "/v1/jobs/%" PRIu64 "/fail?retry=false", job);
	else
		snprintf(target, sizeof target, "/v1/jobs/%" PRIu64 "/complete", job);
	then(request(1, "POST", target, "Whilst-Lease", lease, "result"), on_ended, NULL);
}

static void do_publish(void)
{
	char target[80];

	publish_at = 0;
	snprintf(target, sizeof target, "/v1/topics/t/events?type=e&subject=r%" PRIu64, round_number);
	then(request(0, "POST", target, "Content-Type", "text/plain", "event"), on_published, NULL);
}

static bool all_told(void)
{
	for (int i = 0; i < WATCHERS; i++)
		if (!watchers[i].told && (i != CALLBACK || calls_back))
			return false;
	return ended && published;
}

static void run_for(int64_t ns)
{
	must(wh_sim_world_run(world, ns) == 0, "run");
}

static void play_round(void)
{
	int64_t until;

	for (int i = 0; i < WATCHERS; i++)
		watchers[i] = (struct watcher){0};
	job = 0;
	ended = published = submitted = false;
	is_delayed = draw(3) == 0;
	fails = draw(3) == 0;
	end_at = 0;
	/* what is told from now on only has to be there before it happens; all else comes in any order */
	begin_watcher(QUEUE_STREAM);
	until = now_of_world() + 5 * WH_NS_PER_S;
	while (!watchers[QUEUE_STREAM].is_on) {
		must(now_of_world() < until, "no stream");
		run_for(WH_NS_PER_MS);
	}
	submit_at = soon();
	publish_at = soon();
	watchers[WORKER].begins_at = soon();
	watchers[TOPIC_STREAM].begins_at = soon();
	until = now_of_world() + 5 * WH_NS_PER_S;
	while (!all_told()) {
		int64_t now = now_of_world();

		for (int i = 0; i < WATCHERS; i++)
			if (watchers[i].begins_at != 0 && watchers[i].begins_at <= now)
				begin_watcher(i);
		if (submit_at != 0 && submit_at <= now)
			do_submit();
		if (publish_at != 0 && publish_at <= now)
			do_publish();
		if (end_at != 0 && end_at <= now)
			do_end();
		for (int i = 0; now >= until && i < WATCHERS; i++)
			must(watchers[i].told || (i == CALLBACK && !calls_back),
			     "round %" PRIu64 ": %s was not told within 5 s", round_number, names[i]);
		must(now < until, "round %" PRIu64 ": no answer", round_number);
		run_for((int64_t)(1 + draw(200)) * WH_NS_PER_US);
	}
}

static uint64_t run_once(void)
{
	chance_state = plan.seed * 77;
	event_epoch = 1;
	event_lsn = 0;
	start_machine(PORT);
	start_clients();
	start_receiver();
	static const struct {
		const char *method, *target, *body;
	} set_up[] = {{"PUT", "/v1/queues/w", "{\"time_to_run\":\"60s\"}"},
	              {"PUT", "/v1/topics/t", "{\"retention\":\"1s\",\"events_max\":10}"}};
	for (size_t i = 0; i < sizeof set_up / sizeof *set_up; i++) {
		wh_res res = wh_await(request(0, set_up[i].method, set_up[i].target, "Content-Type",
		                              "application/json", set_up[i].body));
		must(res.n == 201, "%d %.*s", (int)res.n, (int)body_of(res).len, body_of(res).data);
		wh_http_response_free(res.ptr);
	}
	for (round_number = 1; round_number <= ROUNDS; round_number++)
		play_round();
	tally.checked += ROUNDS;
	tally.kept += ROUNDS;
	uint64_t trace = wh_sim_world_trace(world);
	end_clients();
	receiver_server = wh_http_server_close(receiver_server);
	receiver_loop = wh_loop_close(receiver_loop);
	receiver = wh_sim_close(receiver);
	end_machine();
	tally.runs++;
	return trace;
}

int main(void)
{
	if (plan_alone(run_once))
		return 0;
	plan_seeds("wakes", run_once, 8);
	for (int i = 0; i < WATCHERS; i++)
		printf("%s was told %" PRIu64 " times\n", names[i], told[i]);
	return 0;
}
