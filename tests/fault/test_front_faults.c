/* tests/fault/test_front_faults.c -- every allocation of the HTTP front, and of the store below it, fails once: keys, bulk, lists, streams,
 * policies, jobs after others, topics, subscriptions, publishing, replays, services of several backends, bodies in pieces and in files. Linked once with the
 * shared library and once with a static one, whose own allocations fail then, too.
 *
 * A round sends a script of requests, and the n-th allocation in it fails, or so many from that one on. Whichever it is: what was asked is done, or refused with a problem
 * of 500 or 503, or its connection ends; what was acknowledged is there; what was not is there whole or not at all; a refused reservation
 * leaves its job as it was; a replay comes to its end by itself; the next round is served. In the end nothing is left of the memory.
 */
#include "front_world.h"

/* ---- reservations ------------------------------------------------------------------------ */

static const struct {
	const char *query, *fields;
} forms[] = {{"", NULL},
             {"?n=2", NULL},
             {"?n=2", "Accept: application/vnd.whilst.batch\r\n"},
             {"", "Accept: application/cloudevents+json\r\n"},
             {"?n=2", "Accept: application/cloudevents-batch+json\r\n"}};
static size_t form;

/* A reservation that is refused in words has taken no job: they have one attempt only. */
static void reserve_round(struct world *w)
{
	char path[80];

	must_do(w, "PUT", "/v1/queues/r@", JSON, "{\"attempts\":1,\"time_to_run\":\"10m\"}", 201);
	must_do(w, "POST", "/v1/queues/r@/jobs", "Content-Type: text/plain\r\n", "payload", 202);
	must_do(w, "POST", "/v1/queues/r@/jobs", "Content-Type: text/plain\r\n", "payload", 202);
	snprintf(path, sizeof(path), "/v1/queues/r@/reserve%s", forms[form].query);
	memory_is_short(w);
	if (did(w, "POST", path, forms[form].fields, NULL, 200)) {
		assert_true(strstr(w->answer, "\nWhilst-Lease: ") || forms[form].query[0]);
		memory_is_back();
		must_do(w, "GET", "/v1/queues/r@", NULL, NULL, 200);
		assert_in_range(number(w, "\"running\":"), 1, forms[form].query[0] ? 2 : 1);
	} else if (w->status != 0) {
		memory_is_back();
		must_do(w, "GET", "/v1/queues/r@", NULL, NULL, 200);
		if (number(w, "\"ready\":") != 2)
			fail_msg("WHILST_FAULT=%ld (%d): a refused reservation has taken jobs: %s", w->round,
			         in_a_row, w->answer);
	}
	memory_is_back();
}

static void every_form(void **state)
{
	(void)state;
	for (form = 0; form < sizeof(forms) / sizeof(forms[0]); form++)
		every_allocation(reserve_round, 1);
}

/* ---- jobs -------------------------------------------------------------------------------- */

/* Keys, policies, many jobs, looks at them. */
static void jobs_round(struct world *w)
{
	static const char lines[] = "Content-Type: application/x-ndjson\r\n";
	static const char *const keyed =
		"Idempotency-Key: \"a key of some length that is kept @\"\r\nContent-Type: text/plain\r\n";
	unsigned long id, many;
	bool once, batch;
	char path[80];

	memory_is_short(w);
	did(w, "PUT", "/v1/queues/j@", JSON,
	    "{\"rate\":\"1000/"
	    "s\",\"concurrency\":9,\"group_concurrency\":2,\"dead_letter\":\"dead@\",\"jobs_max\":1000}",
	    201);
	once = did(w, "POST", "/v1/queues/j@/jobs?group=g&delay=10m", keyed, "payload", 202);
	id = once ? number(w, "{\"id\":") : 0;
	did(w, "POST", "/v1/queues/j@/jobs?unique=u&expires=1h", NULL, "payload", 202);
	batch = did(w, "POST", "/v1/queues/m@/jobs?delay=1h", lines, "1\n2\n3\n4\n5\n", 202);
	many = batch ? 5 : 0;
	did(w, "GET", "/v1/queues/m@/jobs?limit=3", NULL, NULL, 200);
	did(w, "GET", "/v1/queues", NULL, NULL, 200);
	if (did(w, "POST", "/v1/queues/m@/kick?state=delayed&count=2", NULL, NULL, 200)) {
		if (batch) /* what was not answered may be there all the same */
			same(w, "kicked", number(w, "{\"count\":"), 2);
	}
	if (did(w, "POST", "/v1/queues/m@/purge?count=1", NULL, NULL, 200))
		many -= batch;
	did(w, "GET", "/metrics", NULL, NULL, 200);
	if (id) {
		snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
		did(w, "GET", path, NULL, NULL, 200);
	}
	memory_is_back();
	/* under the key once more: the same, or now */
	must_do(w, "PUT", "/v1/queues/j@", JSON, "{}", 201);
	must_do(w, "POST", "/v1/queues/j@/jobs?group=g&delay=10m", keyed, "payload", 202);
	assert_true(!once || (number(w, "{\"id\":") == id && strstr(w->answer, "Idempotent-Replayed: true")));
	must_do(w, "GET", "/v1/queues/j@", NULL, NULL, 200);
	same(w, "keyed", number(w, "\"delayed\":"), 1);
	if (!batch)
		return;
	must_do(w, "GET", "/v1/queues/m@", NULL, NULL, 200);
	if (!w->spoilt)
		same(w, "left", number(w, "\"delayed\":") + number(w, "\"ready\":"), many);
}

/* ---- transactions ------------------------------------------------------------------------ */

/* A job that has failed, ready to be called back. */
static unsigned long failed_job(struct world *w)
{
	static char lease[120];
	unsigned long id;
	const char *at;
	char path[80];

	must_do(w, "POST", "/v1/queues/f@/jobs?attempts=1&unique=key&group=g", "Content-Type: text/plain\r\n",
	        "payload", 202);
	must_do(w, "POST", "/v1/queues/f@/reserve", NULL, NULL, 200);
	id = number(w, "Whilst-Job: ");
	at = strstr(w->answer, "Whilst-Lease: ");
	assert_non_null(at);
	snprintf(lease, sizeof(lease), "%.*s\r\n", (int)strcspn(at, "\r"), at);
	snprintf(path, sizeof(path), "/v1/jobs/%lu/fail", id);
	must_do(w, "POST", path, lease, "no", 200);
	return id;
}

static void look_at(struct world *w, unsigned long job, const char *shows, bool does)
{
	char path[80];

	snprintf(path, sizeof(path), "/v1/jobs/%lu", job);
	must_do(w, "GET", path, NULL, NULL, 200);
	if ((strstr(w->answer, shows) != NULL) != does)
		fail_msg("WHILST_FAULT=%ld (%d): job %lu, which was %s: %s", w->round, in_a_row, job,
		         does ? "changed" : "not changed", w->answer);
}

/* Jobs are called back, moved, edited and kicked beside a submit: all of them, or none. */
static void transaction_round(struct world *w)
{
	unsigned long failed = failed_job(w), moved, edited, submitted;
	char body[600];
	bool done;

	must_do(w, "POST", "/v1/queues/w@/jobs", NULL, "payload", 202);
	moved = number(w, "{\"id\":");
	must_do(w, "POST", "/v1/queues/w@/jobs?delay=1h", NULL, "payload", 202);
	edited = number(w, "{\"id\":");
	snprintf(body, sizeof(body),
	         "{\"actions\":[{\"action\":\"replay\",\"job\":%lu},{\"action\":\"move\",\"job\":%lu,\"to\":"
	         "\"to@\"},"
	         "{\"action\":\"edit\",\"job\":%lu,\"priority\":7,\"expires\":\"1h\"},"
	         "{\"action\":\"submit\",\"queue\":\"to@\",\"payload\":\"x\",\"group\":\"h\"}]}",
	         failed, moved, edited);
	memory_is_short(w);
	done = did(w, "POST", "/v1/transactions", JSON, body, 200);
	memory_is_back();
	if (!done && w->status == 0)
		return; /* nobody knows */
	look_at(w, failed, "\"state\":\"ready\"", done);
	look_at(w, moved, "\"queue\":\"to", done);
	look_at(w, edited, "\"priority\":7", done);
	ask(w, "GET", "/v1/queues/to@", NULL, NULL, NULL);
	submitted = w->status == 200 ? number(w, "\"submitted\":") : 0;
	same(w, "submitted", submitted, done ? 1 : 0);
	if (!done) /* asked for again, it is done */
		must_do(w, "POST", "/v1/transactions", JSON, body, 200);
}

/* ---- jobs that run after others ----------------------------------------------------------- */

static const char plain[] = "Content-Type: text/plain\r\n";

/* To the state that follows from what has been acknowledged, without anything else being asked for. */
static void await_state(struct world *w, unsigned long id, const char *state)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;
	char path[80], wanted[60];

	snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
	snprintf(wanted, sizeof(wanted), "\"state\":\"%s\"", state);
	for (;;) {
		must_do(w, "GET", path, NULL, NULL, 200);
		if (strstr(w->answer, wanted))
			return;
		if (wh_clock(w->loop) > end)
			fail_msg("WHILST_FAULT=%ld (%d): it should be %s: %s", w->round, in_a_row, state,
			         w->answer);
		assert_true(wh_loop_turn(w->loop, WH_NS_PER_MS * 20) >= 0);
	}
}

static unsigned long await_list(struct world *w, const char *after)
{
	char path[120];

	snprintf(path, sizeof(path), "/v1/queues/then@/jobs?%s", after);
	return did(w, "POST", path, plain, "then", 202) ? number(w, "{\"id\":") : 0;
}

/* One is submitted after others, alone and in a graph; the others end, well and not. What was acknowledged is released or ends with them, by
 * itself. */
static void joins_round(struct world *w)
{
	static const char graph[] =
		"{\"actions\":[{\"action\":\"submit\",\"queue\":\"graph@\",\"payload\":\"a\"},"
		"{\"action\":\"submit\",\"queue\":\"graph@\",\"payload\":\"b\",\"after\":[{\"action\":0}]},"
		"{\"action\":\"submit\",\"queue\":\"graph@\",\"payload\":\"c\",\"after\":[{\"action\":0},{"
		"\"action\":1}]}]}";
	unsigned long first, second, ready, cancelled, buried;
	char path[120], lease[120], after[60];
	bool done, gone;
	const char *at;

	must_do(w, "PUT", "/v1/queues/first@", JSON, "{\"retention\":\"1h\",\"time_to_run\":\"10m\"}", 201);
	must_do(w, "POST", "/v1/queues/first@/jobs", plain, "first", 202);
	must_do(w, "POST", "/v1/queues/first@/reserve", NULL, NULL, 200);
	first = number(w, "Whilst-Job: ");
	at = strstr(w->answer, "Whilst-Lease: ");
	assert_non_null(at);
	snprintf(lease, sizeof(lease), "%.*s\r\n", (int)strcspn(at, "\r"), at);
	must_do(w, "POST", "/v1/queues/first@/jobs", plain, "second", 202);
	second = number(w, "{\"id\":");
	memory_is_short(w);
	snprintf(after, sizeof(after), "after=%lu", first);
	ready = await_list(w, after);
	snprintf(after, sizeof(after), "after=%lu,%lu", first, second);
	cancelled = await_list(w, after);
	snprintf(after, sizeof(after), "after=%lu&after-failure=bury", second);
	buried = await_list(w, after);
	if (did(w, "POST", "/v1/transactions", JSON, graph, 200) && !strstr(w->answer, "\"awaiting\""))
		fail_msg("a graph that awaits nothing: %s", w->answer);
	snprintf(path, sizeof(path), "/v1/jobs/%lu/complete", first);
	done = did(w, "POST", path, lease, "well", 200);
	snprintf(path, sizeof(path), "/v1/jobs/%lu", second);
	gone = did(w, "DELETE", path, NULL, NULL, 200);
	memory_is_back();
	snprintf(path, sizeof(path), "/v1/jobs/%lu", first);
	must_do(w, "GET", path, NULL, NULL, 200);
	if (!strstr(w->answer, "\"state\":\"done\"")) {
		assert_false(done);
		snprintf(path, sizeof(path), "/v1/jobs/%lu/complete", first);
		must_do(w, "POST", path, lease, "well", 200);
	}
	snprintf(path, sizeof(path), "/v1/jobs/%lu", second);
	must_do(w, "GET", path, NULL, NULL, 200);
	if (!strstr(w->answer, "\"state\":\"cancelled\"")) {
		assert_false(gone);
		must_do(w, "DELETE", path, NULL, NULL, 200);
	}
	if (ready)
		await_state(w, ready, "ready");
	if (cancelled)
		await_state(w, cancelled, "cancelled");
	if (buried)
		await_state(w, buried, "buried");
	/* the graph is there whole, or not at all */
	ask(w, "GET", "/v1/queues/graph@", NULL, NULL, NULL);
	if (w->status == 200)
		same(w, "of a graph", number(w, "\"ready\":") * 2, number(w, "\"awaiting\":"));
}

/* ---- events ------------------------------------------------------------------------------ */

static const char event_list[] =
	"[{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"e\",\"data\":{\"n\":1}},"
	"{\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"/"
	"s\",\"type\":\"f\",\"subject\":\"x\",\"data\":2}]";
static const char events_type[] = "Content-Type: application/cloudevents-batch+json\r\n";

static unsigned long submitted_to(struct world *w, const char *queue)
{
	char path[80];

	snprintf(path, sizeof(path), "/v1/queues/t@%%2F%s", queue);
	must_do(w, "GET", path, NULL, NULL, 200);
	return number(w, "\"submitted\":");
}

/* All of it, with memory: nothing of what failed stands in its way. */
static void make_topic(struct world *w)
{
	must_do(w, "PUT", "/v1/topics/t@", JSON, "{\"retention\":\"1h\"}", 201);
	must_do(w, "PUT", "/v1/topics/t@/subscriptions/a", JSON, "{}", 201);
	must_do(w, "PUT", "/v1/topics/t@/subscriptions/b", JSON,
	        "{\"filters\":[{\"any\":[{\"exact\":{\"type\":\"e\"}},{\"prefix\":{\"subject\":\"x\"}}]}]}",
	        201);
}

/* A replay comes to its end, without anything else happening. */
static void await_replay(struct world *w, const char *path)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;

	for (;;) {
		must_do(w, "GET", path, NULL, NULL, 200);
		if (strstr(w->answer, "\"replay\":null"))
			return;
		if (wh_clock(w->loop) > end)
			fail_msg("WHILST_FAULT=%ld (%d): a replay has come to a halt: %s", w->round, in_a_row,
			         w->answer);
		assert_true(wh_loop_turn(w->loop, WH_NS_PER_MS * 20) >= 0);
	}
}

static void remove_topic(struct world *w)
{
	static const char *const names[] = {"a", "b", "late"};
	char path[80];

	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "/v1/topics/t@/subscriptions/%s", names[i]);
		do
			ask(w, "DELETE", path, NULL, NULL, NULL);
		while (w->status == 503);
	}
	do
		ask(w, "DELETE", "/v1/topics/t@", NULL, NULL, NULL);
	while (w->status == 503);
	if (w->status != 200 && w->status != 404)
		fail_msg("WHILST_FAULT=%ld (%d): a topic does not go: %s", w->round, in_a_row, w->answer);
}

/* Topics and subscriptions are made. */
static void topics_round(struct world *w)
{
	memory_is_short(w);
	did(w, "PUT", "/v1/topics/t@", JSON, "{\"retention\":\"1h\"}", 201);
	did(w, "PUT", "/v1/topics/t@/subscriptions/a", JSON, "{}", 201);
	did(w, "PUT", "/v1/topics/t@/subscriptions/b", JSON,
	    "{\"filters\":[{\"any\":[{\"exact\":{\"type\":\"e\"}},{\"prefix\":{\"subject\":\"x\"}}]}]}", 201);
	did(w, "GET", "/v1/topics", NULL, NULL, 200);
	did(w, "GET", "/v1/topics/t@/subscriptions/b", NULL, NULL, 200);
	memory_is_back();
	make_topic(w);
	remove_topic(w);
}

/* Events are published, and kept for a subscription that comes later. */
static void publish_round(struct world *w)
{
	bool published, bare, late;
	unsigned long all;

	make_topic(w);
	memory_is_short(w);
	published = did(w, "POST", "/v1/topics/t@/events", events_type, event_list, 202);
	bare = did(w, "POST", "/v1/topics/t@/events?type=e", "Content-Type: text/plain\r\n", "bare", 202);
	late = did(w, "PUT", "/v1/topics/t@/subscriptions/late", JSON, "{\"from\":\"beginning\"}", 201);
	memory_is_back();
	all = submitted_to(w, "a");
	if (all < published * 2ul + bare || (w->status && all > 3))
		fail_msg("WHILST_FAULT=%ld (%d): %lu events", w->round, in_a_row, all);
	same(w, "b, of the events of a", submitted_to(w, "b"), all);
	if (late) {
		await_replay(w, "/v1/topics/t@/subscriptions/late");
		same(w, "late", submitted_to(w, "late"), all);
	}
	remove_topic(w);
}

/* The same events, whose jobs have keys, over and over: each is there once, whatever came of it before. */
static void duplicates_round(struct world *w)
{
	static const char twice[] = "[{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/"
				    "s\",\"type\":\"e\",\"subject\":\"x\",\"data\":1},"
				    "{\"specversion\":\"1.0\",\"id\":\"2\",\"source\":\"/"
				    "s\",\"type\":\"e\",\"subject\":\"x\",\"data\":2},"
				    "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/"
				    "s\",\"type\":\"e\",\"subject\":\"x\",\"data\":3}]";
	bool late;

	must_do(w, "PUT", "/v1/topics/t@", JSON, "{\"retention\":\"1h\",\"deduplicate\":\"1h\"}", 201);
	must_do(w, "PUT", "/v1/topics/t@/subscriptions/a", JSON, "{\"group\":\"subject\"}", 201);
	must_do(w, "PUT", "/v1/topics/t@/subscriptions/b", JSON,
	        "{\"unique\":\"subject\",\"unique_while\":\"1h\"}", 201);
	memory_is_short(w);
	did(w, "POST", "/v1/topics/t@/events", events_type, twice, 202);
	did(w, "POST", "/v1/topics/t@/events", events_type, twice, 202);
	late = did(w, "PUT", "/v1/topics/t@/subscriptions/late", JSON,
	           "{\"from\":\"beginning\",\"group\":\"source\",\"unique\":\"id\"}", 201);
	memory_is_back();
	must_do(w, "POST", "/v1/topics/t@/events", events_type, twice, 202);
	if (!strstr(w->answer, "\"duplicate\":true") || strstr(w->answer, "\"event\":null"))
		fail_msg("WHILST_FAULT=%ld (%d): %s", w->round, in_a_row, w->answer);
	same(w, "a, each event once", submitted_to(w, "a"), 2);
	same(w, "b, each subject once", submitted_to(w, "b"), 1);
	if (late) {
		await_replay(w, "/v1/topics/t@/subscriptions/late");
		same(w, "late", submitted_to(w, "late"), 2);
	}
	remove_topic(w);
}

/* A subscription goes, or stays and gets its events. */
static void delete_round(struct world *w)
{
	bool deleted, known;

	make_topic(w);
	memory_is_short(w);
	deleted = did(w, "DELETE", "/v1/topics/t@/subscriptions/a", NULL, NULL, 200);
	known = w->status != 0;
	memory_is_back();
	must_do(w, "POST", "/v1/topics/t@/events?type=e", "Content-Type: text/plain\r\n", "bare", 202);
	same(w, "b", submitted_to(w, "b"), 1);
	if (known)
		same(w, "a", submitted_to(w, "a"), !deleted);
	remove_topic(w);
}

/* A topic goes, or stays. */
static void delete_topic_round(struct world *w)
{
	bool deleted;

	must_do(w, "PUT", "/v1/topics/t@", JSON, "{\"retention\":\"1h\"}", 201);
	memory_is_short(w);
	deleted = did(w, "DELETE", "/v1/topics/t@", NULL, NULL, 200);
	memory_is_back();
	if (w->status == 0)
		return; /* nobody knows */
	ask(w, "GET", "/v1/topics/t@", NULL, NULL, NULL);
	same(w, "GET", (unsigned long)w->status, deleted ? 404 : 200);
	remove_topic(w);
}

/* Replays, which read and submit when nobody asks. */
static void replay_round(struct world *w)
{
	bool again;

	make_topic(w);
	must_do(w, "POST", "/v1/topics/t@/events", events_type, event_list, 202);
	memory_is_short(w);
	again = did(w, "POST", "/v1/topics/t@/subscriptions/b/replay", NULL, NULL, 202);
	for (int i = 0; again && i < 20; i++) /* while memory is short */
		assert_true(wh_loop_turn(w->loop, 0) >= 0);
	memory_is_back();
	if (again) {
		await_replay(w, "/v1/topics/t@/subscriptions/b");
		same(w, "b", submitted_to(w, "b"), 4);
	}
	same(w, "a", submitted_to(w, "a"), 2);
	remove_topic(w);
}

/* ---- streams ----------------------------------------------------------------------------- */

/* Until it says this; or it ends, as it may without memory. Whoever comes again is told. */
static void follow(struct world *w, const char *path, const char *until)
{
	static const char fields[] = "Accept: text/event-stream\r\n";

	ask(w, "GET", path, fields, NULL, until);
	if (strstr(w->answer, until))
		return;
	if (!atomic_load(&hit))
		fail_msg("round %ld (%d): %s ended before it said %s: %s", w->round, in_a_row, path, until,
		         w->answer);
	memory_is_back();
	ask(w, "GET", path, fields, NULL, until);
	if (!strstr(w->answer, until))
		fail_msg("WHILST_FAULT=%ld (%d): afterwards %s does not say %s: %s", w->round, in_a_row, path,
		         until, w->answer);
}

static void streams_round(struct world *w)
{
	unsigned long id;
	char path[120], position[80];
	const char *at;

	must_do(w, "PUT", "/v1/topics/s@", JSON, "{\"retention\":\"1h\"}", 201);
	must_do(w, "POST", "/v1/topics/s@/events?type=e", "Content-Type: text/plain\r\n", "bare", 202);
	must_do(w, "POST", "/v1/queues/s@/jobs", NULL, "payload", 202);
	id = number(w, "{\"id\":");
	at = strstr(w->answer, "\"position\":\"");
	assert_non_null(at);
	snprintf(position, sizeof(position), "%.*s", (int)strcspn(at + 12, "\""), at + 12);
	memory_is_short(w);
	snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
	follow(w, path, "\"state\":\"ready\"");
	follow(w, "/v1/topics/s@/events?from=beginning", "\"specversion\"");
	snprintf(path, sizeof(path), "/v1/log?position=%s", position);
	follow(w, path, "event: reached");
	follow(w, "/v1/queues/s@/events", "HTTP/1.1 200");
	memory_is_back();
	must_do(w, "DELETE", "/v1/topics/s@", NULL, NULL, 200);
}

/* ---- services ---------------------------------------------------------------------------- */

static void services_round(struct world *w)
{
	static const char urls[] = "{\"urls\":[\"$\",\"^\"],\"breaker\":{\"failures\":0}}";
	bool recorded;

	memory_is_short(w);
	did(w, "PUT", "/v1/services/s@", JSON, urls, 201);
	did(w, "GET", "/v1/services", NULL, NULL, 200);
	did(w, "GET", "/call/s@/x", NULL, NULL, 200);
	did(w, "POST", "/call/s@/x", NULL, "body", 200);
	recorded = did(w, "GET", "/call/s@/x", "Prefer: respond-async\r\n", NULL, 202);
	memory_is_back();
	must_do(w, "PUT", "/v1/services/s@", JSON, urls, 201);
	if (recorded) {
		must_do(w, "GET", "/v1/queues/call%2Fs@", NULL, NULL, 200);
		assert_int_equal(number(w, "\"submitted\":"), 1);
	}
	ask(w, "GET", "/call/s@/x", NULL, NULL, NULL);
	assert_int_equal(w->status, 200);
	must_do(w, "DELETE", "/v1/services/s@", NULL, NULL, 200);
}

/* A service that was taken delivers what is recorded of it, and needs not be put again; one that was refused is not there. */
static void taken_service_round(struct world *w)
{
	static const char url[] = "{\"url\":\"$\",\"breaker\":{\"failures\":0}}";
	bool taken;

	memory_is_short(w);
	taken = did(w, "PUT", "/v1/services/d@", JSON, url, 201);
	memory_is_back();
	if (!taken && w->status != 0) {
		ask(w, "GET", "/v1/services/d@", NULL, NULL, NULL);
		assert_int_equal(w->status, 404);
	}
	if (!taken)
		must_do(w, "PUT", "/v1/services/d@", JSON, url, 201);
	must_do(w, "GET", "/call/d@/x", "Prefer: wait=30\r\n", NULL, 200);
	must_do(w, "DELETE", "/v1/services/d@", NULL, NULL, 200);
}

/* No promise of a callback is left: what a purge has ended is told, whatever was missing before. */
static void wait_until_told(struct world *w)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;

	do {
		must_do(w, "GET", "/v1/queues/callbacks%2Fpending", NULL, NULL, 200);
		assert_true(wh_clock(w->loop) < end);
	} while (number(w, "\"ready\":") > 0);
}

/* ---- lines with callbacks of their own, and schedules ------------------------------------ */

/* The jobs of a batch that was taken are all there, and those whose lines say so are told of; of one that was refused none is. */
static void lines_round(struct world *w)
{
	static const char *const fields =
		"Content-Type: application/x-ndjson\r\nIdempotency-Key: \"lines @\"\r\n";
	static const char lines[] = "{\"to\":\"$/a\"}\n{}\n{\"to\":\"^/a\"}\n";
	bool taken;

	memory_is_short(w);
	taken = did(w, "POST", "/v1/queues/l@/jobs?callback-member=to", fields, lines, 202);
	memory_is_back();
	if (!taken && w->status != 0) {
		ask(w, "GET", "/v1/queues/l@", NULL, NULL, NULL);
		if (w->status == 200)
			same(w, "submitted", number(w, "\"submitted\":"), 0);
	}
	must_do(w, "POST", "/v1/queues/l@/jobs?callback-member=to", fields, lines, 202);
	must_do(w, "GET", "/v1/queues/l@", NULL, NULL, 200);
	same(w, "lines", number(w, "\"submitted\":"), 3);
	must_do(w, "POST", "/v1/queues/l@/purge", NULL, NULL, 200);
	wait_until_told(w);
}

/* A schedule that is paused or not, told of or not, is either what it was or what was asked for. */
static void schedules_round(struct world *w)
{
	static const char body[] =
		"{\"every\":\"1h\",\"job\":{\"queue\":\"s@\",\"payload\":\"x\",\"callback\":\"$/a\"}}";
	bool put, paused;

	memory_is_short(w);
	put = did(w, "PUT", "/v1/schedules/s@", JSON, body, 201);
	paused = put && did(w, "POST", "/v1/schedules/s@/pause", NULL, NULL, 200);
	if (paused)
		did(w, "POST", "/v1/schedules/s@/resume", NULL, NULL, 200);
	if (put)
		did(w, "POST", "/v1/schedules/s@/run", NULL, NULL, 202);
	memory_is_back();
	must_do(w, "PUT", "/v1/schedules/s@", JSON, body, 201);
	must_do(w, "POST", "/v1/schedules/s@/pause", NULL, NULL, 200);
	assert_non_null(strstr(w->answer, "\"paused\":true"));
	must_do(w, "POST", "/v1/schedules/s@/run", NULL, NULL, 202);
	must_do(w, "DELETE", "/v1/schedules/s@", NULL, NULL, 200);
	must_do(w, "POST", "/v1/queues/s@/purge", NULL, NULL, 200);
	wait_until_told(w);
}

/* ---- bodies in pieces -------------------------------------------------------------------- */

static bool is_large(const struct world *w, char of)
{
	const char *body = strstr(w->answer, "\r\n\r\n");
	size_t count = 0;

	for (const char *at = body; at && *at; at++)
		count += *at == of;
	return count >= LARGE_BYTES;
}

/* A payload comes in, is in a file, and goes out again. */
static void upload_round(struct world *w)
{
	unsigned long id, all;
	char path[80];

	memory_is_short(w);
	w->large = 'P';
	id = did(w, "POST", "/v1/queues/u@/jobs?delay=1h", "Idempotency-Key: \"upload @\"\r\n", NULL, 202)
	             ? number(w, "{\"id\":")
	             : 0;
	w->large = 0;
	memory_is_back();
	ask(w, "GET", "/v1/queues/u@", NULL, NULL, NULL);
	all = number(w, "\"delayed\":");
	if (id)
		same(w, "uploaded", all, 1);
	w->large = 'P';
	must_do(w, "POST", "/v1/queues/u@/jobs?delay=1h", "Idempotency-Key: \"upload @\"\r\n", NULL, 202);
	w->large = 0;
	assert_true(!id || number(w, "{\"id\":") == id);
	id = number(w, "{\"id\":");
	must_do(w, "GET", "/v1/queues/u@", NULL, NULL, 200);
	same(w, "uploaded at last", number(w, "\"delayed\":"), 1);
	snprintf(path, sizeof(path), "/v1/jobs/%lu/payload", id);
	must_do(w, "GET", path, NULL, NULL, 200);
	assert_true(is_large(w, 'P'));
	snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
	must_do(w, "DELETE", path, NULL, NULL, 200);
}

/* So does a result; a completion that was not answered can be repeated. */
static void result_round(struct world *w)
{
	static char lease[120];
	unsigned long id;
	const char *at;
	char path[80];
	bool done;

	must_do(w, "POST", "/v1/queues/c@/jobs", "Content-Type: text/plain\r\n", "payload", 202);
	must_do(w, "POST", "/v1/queues/c@/reserve", NULL, NULL, 200);
	id = number(w, "Whilst-Job: ");
	at = strstr(w->answer, "Whilst-Lease: ");
	assert_non_null(at);
	snprintf(lease, sizeof(lease), "%.*s\r\n", (int)strcspn(at, "\r"), at);
	snprintf(path, sizeof(path), "/v1/jobs/%lu/complete", id);
	memory_is_short(w);
	w->large = 'R';
	done = did(w, "POST", path, lease, NULL, 200);
	w->large = 0;
	memory_is_back();
	snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
	must_do(w, "GET", path, NULL, NULL, 200);
	if (done && !strstr(w->answer, "\"state\":\"done\""))
		fail_msg("WHILST_FAULT=%ld (%d): answered as done: %s", w->round, in_a_row, w->answer);
	if (!strstr(w->answer, "\"state\":\"done\"")) {
		snprintf(path, sizeof(path), "/v1/jobs/%lu/complete", id);
		w->large = 'R';
		must_do(w, "POST", path, lease, NULL, 200);
		w->large = 0;
	}
	snprintf(path, sizeof(path), "/v1/jobs/%lu/result", id);
	must_do(w, "GET", path, NULL, NULL, 200);
	assert_true(is_large(w, 'R'));
}

/* Both go out. */
static void download_round(struct world *w)
{
	char path[80];

	w->large = 'P';
	must_do(w, "POST", "/v1/queues/d@/jobs?delay=1h", NULL, NULL, 202);
	w->large = 0;
	snprintf(path, sizeof(path), "/v1/jobs/%lu/payload", number(w, "{\"id\":"));
	memory_is_short(w);
	if (did(w, "GET", path, NULL, NULL, 200))
		assert_true(is_large(w, 'P'));
	memory_is_back();
	must_do(w, "GET", path, NULL, NULL, 200);
	assert_true(is_large(w, 'P'));
}

/* ... and payloads that are handed out: who is refused in words has taken no job. */
static void handed_out_round(struct world *w)
{
	must_do(w, "PUT", "/v1/queues/h@", JSON, "{\"attempts\":1,\"time_to_run\":\"10m\"}", 201);
	w->large = 'P';
	must_do(w, "POST", "/v1/queues/h@/jobs", NULL, NULL, 202);
	w->large = 0;
	memory_is_short(w);
	if (did(w, "POST", "/v1/queues/h@/reserve", NULL, NULL, 200)) {
		assert_true(is_large(w, 'P'));
	} else if (w->status >= 400) {
		memory_is_back();
		must_do(w, "GET", "/v1/queues/h@", NULL, NULL, 200);
		same(w, "still ready", number(w, "\"ready\":"), 1);
	}
	memory_is_back();
}

/* ---- all --------------------------------------------------------------------------------- */

static void test_jobs(void **state)
{
	(void)state;
	every_allocation(jobs_round, 20);
}

static void test_transactions(void **state)
{
	(void)state;
	every_allocation(transaction_round, 10);
}

static void test_joins(void **state)
{
	(void)state;
	every_allocation(joins_round, 20);
}

static void test_topics(void **state)
{
	(void)state;
	every_allocation(topics_round, 20);
	every_allocation(publish_round, 15);
	every_allocation(duplicates_round, 15);
	every_allocation(delete_round, 1);
	every_allocation(delete_topic_round, 1);
}

static void test_replay(void **state)
{
	(void)state;
	every_allocation(replay_round, 10);
}

static void test_streams(void **state)
{
	(void)state;
	every_allocation(streams_round, 10);
}

static void test_services(void **state)
{
	(void)state;
	every_allocation(services_round, 20);
	every_allocation(taken_service_round, 5);
}

static void test_callbacks(void **state)
{
	(void)state;
	every_allocation(lines_round, 5);
	every_allocation(schedules_round, 10);
}

static void test_bodies(void **state)
{
	(void)state;
	every_allocation(upload_round, 5);
	every_allocation(result_round, 5);
	every_allocation(download_round, 2);
	every_allocation(handed_out_round, 3);
}

int main(void)
{
	/* a replay that finds no memory in the library, not even for a pause, waits for the next event or start */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(every_form),
		cmocka_unit_test(test_jobs),
		cmocka_unit_test(test_joins),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_transactions),
#if !LIBRARY_FAILS
		cmocka_unit_test(test_topics),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_services),
		cmocka_unit_test(test_callbacks),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
