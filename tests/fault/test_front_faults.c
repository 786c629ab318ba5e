/* tests/fault/test_front_faults.c -- every allocation of the HTTP front, and of the store below it, fails once: keys, bulk, lists, streams,
 * policies, topics, subscriptions, publishing, replays, services of several backends.
 *
 * A round sends a script of requests, and the n-th allocation in it fails, or so many from that one on. Whichever it is: what was asked is done, or refused with a problem
 * of 500 or 503, or its connection ends; what was acknowledged is there; what was not is there whole or not at all; a refused reservation
 * leaves its job as it was; a replay comes to its end by itself; the next round is served. In the end nothing is left of the memory.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "front/front.h"
#include "store/store.h"
#include "whilst/http.h"

#include "allocations.h"

static int in_a_row; /* allocations that fail */

enum { ANSWER_BYTES = 1 << 18, ROUNDS_MAX = 4000, GOOD_AFTER = 3 };

struct world {
	wh_loop *loop;
	struct store *store;
	struct api *front;
	wh_http_server *backend;
	char directory[64], backend_url[2][64];
	struct sockaddr_storage address;
	socklen_t address_len;
	int failures;
	/* of the round */
	long round;
	bool spoilt; /* something of it was not done */
	int status;  /* of the last answer; 0: none */
	size_t answer_len;
	char answer[ANSWER_BYTES];
};

static void on_failure(int64_t error, const char *message, void *arg)
{
	(void)error, (void)message;
	((struct world *)arg)->failures++;
}

static void on_backend(wh_http_exchange *x, void *arg)
{
	(void)arg;
	wh_http_respond(x, 200, "backend", 7);
}

static int listen_at(struct world *w, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = wh_listen(w->loop, (struct sockaddr *)&any, sizeof(any), NULL);

	assert_true(fd >= 0);
	assert_int_equal(wh_local_address(w->loop, fd, ret, ret_len), 0);
	return fd;
}

static void open_world(struct world *w)
{
	struct front_options options = {.payload_bytes_max = 1 << 20,
	                                .wait_ns_max = 60 * WH_NS_PER_S,
	                                .request_timeout_ns = 30 * WH_NS_PER_S,
	                                .idle_timeout_ns = 60 * WH_NS_PER_S,
	                                .connections_max = 100};
	struct store_options store = {.segment_bytes = 4 << 20,
	                              .recent_bytes = 1 << 20,
	                              .on_failure = on_failure,
	                              .failure_arg = w};
	struct wh_http_server_options backend = {.on_request = on_backend};
	struct sockaddr_storage address;
	struct store_problem problem;
	socklen_t len;
	int fd;

	/* a folder in memory, where there is one: it is not the disk that is tried here */
	snprintf(w->directory, sizeof(w->directory), "%s/whilst-store-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(w->directory));
	store.directory = w->directory;
	assert_int_equal(wh_loop_open(&w->loop, NULL), 0);
	assert_int_equal(store_open(w->loop, &store, &w->store, &problem), 0);
	assert_int_equal(front_open(w->loop, w->store, &options, &w->front), 0);
	assert_int_equal(front_listen(w->front, listen_at(w, &w->address, &w->address_len), NULL), 0);
	assert_int_equal(wh_http_server_open(w->loop, &backend, &w->backend), 0);
	for (int i = 0; i < 2; i++) {
		fd = listen_at(w, &address, &len);
		assert_int_equal(wh_http_server_listen(w->backend, fd), 0);
		snprintf(w->backend_url[i], sizeof(w->backend_url[i]), "http://127.0.0.1:%u",
		         ntohs(((struct sockaddr_in *)&address)->sin_port));
	}
}

static void close_world(struct world *w)
{
	char command[128];

	front_close(w->front);
	w->backend = wh_http_server_close(w->backend);
	store_close(w->store);
	w->loop = wh_loop_close(w->loop);
	front_free(w->front);
	snprintf(command, sizeof(command), "rm -rf %s", w->directory);
	assert_int_equal(system(command), 0);
}

/* ---- asking ------------------------------------------------------------------------------ */

/* '@' is the number of the round, '$' and '^' the URLs of the backends. */
static size_t expand(const struct world *w, const char *from, char *to, size_t cap)
{
	size_t len = 0;

	for (; from && *from; from++) {
		if (*from == '@')
			len += (size_t)snprintf(to + len, cap - len, "%ld", w->round);
		else if (*from == '$' || *from == '^')
			len += (size_t)snprintf(to + len, cap - len, "%s", w->backend_url[*from == '^']);
		else
			to[len++] = *from;
		assert_true(len < cap - 80);
	}
	to[len] = 0;
	return len;
}

/* The whole answer, or of a stream what has come by the time that it has until; then the connection is closed. */
static void receive(struct world *w, int fd, const char *until)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;
	size_t len = 0;

	w->answer[0] = 0;
	w->answer_len = 0;
	for (;;) {
		ssize_t n = recv(fd, w->answer + len, sizeof(w->answer) - len - 1, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			break;
		if (n > 0) {
			len += (size_t)n;
			w->answer[len] = 0;
			w->answer_len = len;
			if (until && strstr(w->answer, until))
				break;
		} else {
			assert_true(wh_loop_turn(w->loop, WH_NS_PER_MS * 10) >= 0);
		}
		if (wh_clock(w->loop) > end)
			fail_msg("WHILST_FAULT=%ld (%d): no answer", w->round, in_a_row);
	}
}

static void ask(struct world *w, const char *method, const char *path, const char *fields, const char *body,
                const char *until)
{
	static char request[16384], text[8192];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0, body_len = expand(w, body, text, sizeof(text));

	assert_true(fd >= 0);
	len += (size_t)snprintf(request, sizeof(request), "%s ", method);
	len += expand(w, path, request + len, sizeof(request) - len);
	len += (size_t)snprintf(request + len, sizeof(request) - len,
	                        " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %zu\r\n",
	                        body_len);
	len += expand(w, fields, request + len, sizeof(request) - len);
	len += (size_t)snprintf(request + len, sizeof(request) - len, "\r\n%s", text);
	assert_int_equal(connect(fd, (struct sockaddr *)&w->address, w->address_len), 0);
	assert_int_equal(send(fd, request, len, MSG_NOSIGNAL), len);
	receive(w, fd, until);
	close(fd);
	w->status = strncmp(w->answer, "HTTP/1.1 ", 9) == 0 ? atoi(w->answer + 9) : 0;
	if (w->answer[0] && !strstr(w->answer, "\r\n\r\n"))
		w->status = 0; /* cut off */
}

/* Whole, as far as it says how long it is? */
static bool is_whole(const struct world *w)
{
	const char *body = strstr(w->answer, "\r\n\r\n"), *length = strstr(w->answer, "Content-Length: ");

	return body && (!length || length > body ||
	                (size_t)(w->answer + w->answer_len - body - 4) == strtoul(length + 16, NULL, 10));
}

/* Asked while memory may be short. Was it done? good: the status that says so. */
static bool did(struct world *w, const char *method, const char *path, const char *fields, const char *body,
                int good)
{
	bool before = atomic_load(&hit);

	ask(w, method, path, fields, body, NULL);
	if ((w->status == good || w->status + 1 == good) && is_whole(w)) /* 201 or 200 */
		return true;
	/* once something has not been done, what builds on it is refused for other reasons */
	if (w->status >= 200 && is_whole(w) && w->status != 500 && w->status != 503 && w->status != 502 &&
	    !w->spoilt)
		fail_msg("WHILST_FAULT=%ld (%d): %s %s gives %s", w->round, in_a_row, method, path,
		         w->answer);
	if (!before && !atomic_load(&hit))
		fail_msg("round %ld (%d): %s %s fails, and no allocation did: %s", w->round, in_a_row, method,
		         path, w->answer);
	if (w->status >= 400 && is_whole(w) && !strstr(w->answer, "application/problem+json"))
		fail_msg("WHILST_FAULT=%ld (%d): not a problem: %s", w->round, in_a_row, w->answer);
	w->spoilt = true;
	return false;
}

#define JSON "Content-Type: application/json\r\n"

/* With memory: it must be so. */
static void must_do(struct world *w, const char *method, const char *path, const char *fields,
                    const char *body, int good)
{
	int64_t end = wh_clock(w->loop) + 30 * WH_NS_PER_S;

	do /* what failed may have been the log's: it has no room then, and tries again within a second */
		ask(w, method, path, fields, body, NULL);
	while ((w->status == 503 || w->status == 0) && wh_clock(w->loop) < end);
	if (w->status != good && w->status + 1 != good)
		fail_msg("WHILST_FAULT=%ld (%d): afterwards %s %s gives %s", w->round, in_a_row, method, path,
		         w->answer);
}

static unsigned long number(const struct world *w, const char *before)
{
	const char *at = strstr(w->answer, before);

	return at ? strtoul(at + strlen(before), NULL, 10) : 0;
}

static void memory_is_short(struct world *w)
{
	w->spoilt = false;
	atomic_store(&calls, 0);
	atomic_store(&hit, false);
	atomic_store(&fail_each, 1);
	atomic_store(&fail_end, (int)w->round + in_a_row);
	atomic_store(&fail_at, (int)w->round);
}

static void memory_is_back(void)
{
	atomic_store(&fail_at, 0);
}

/* ---- the rounds -------------------------------------------------------------------------- */

static void same(const struct world *w, const char *what, unsigned long is, unsigned long wanted)
{
	if (is != wanted)
		fail_msg("WHILST_FAULT=%ld (%d): %s: %lu, not %lu; %s", w->round, in_a_row, what, is, wanted,
		         w->answer);
}

typedef void round_function(struct world *w);

static void every_allocation_of(round_function *one_round, long at_least)
{
	static struct world world;
	struct world *w = &world;
	const char *only = getenv("WHILST_FAULT");
	long before, in_vain = 0, rounds = 0;

	memset(w, 0, sizeof(*w));
	for (int warm = 0; warm < 2;
	     warm++) { /* what is kept for the life of the process is made in the first */
		before = atomic_load(&live);
		open_world(w);
		w->round = ROUNDS_MAX + 1; /* so that none fails */
		one_round(w);
		assert_false(w->spoilt);
		for (w->round = only ? atol(only) : 1; warm && in_vain < GOOD_AFTER; w->round++) {
			assert_true(w->round < ROUNDS_MAX);
			one_round(w);
			rounds++;
			in_vain = only ? GOOD_AFTER : atomic_load(&hit) ? 0 : in_vain + 1;
		}
		assert_int_equal(w->failures, 0);
		assert_int_equal(store_recount(w->store), 0);
		close_world(w);
		if (warm)
			assert_int_equal(atomic_load(&live), before);
	}
	assert_true(only || rounds - GOOD_AFTER >= at_least);
	print_message("%ld allocations failed\n", rounds - GOOD_AFTER);
}

/* One, and several that follow one another, as they do when memory is short. */
static void every_allocation(round_function *one_round, long at_least)
{
	static const int rows[] = {1, 3};
	const char *only = getenv("WHILST_FAULTS");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (only && atoi(only) != rows[i])
			continue;
		in_a_row = rows[i];
		every_allocation_of(one_round, at_least);
	}
}

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
	if (did(w, "POST", "/v1/queues/m@/kick?state=delayed&count=2", NULL, NULL, 200))
		same(w, "kicked", number(w, "{\"count\":"), batch ? 2 : 0);
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

/* ---- all --------------------------------------------------------------------------------- */

static void test_jobs(void **state)
{
	(void)state;
	every_allocation(jobs_round, 20);
}

static void test_topics(void **state)
{
	(void)state;
	every_allocation(topics_round, 20);
	every_allocation(publish_round, 15);
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
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form),   cmocka_unit_test(test_jobs),
		cmocka_unit_test(test_topics),  cmocka_unit_test(test_replay),
		cmocka_unit_test(test_streams), cmocka_unit_test(test_services),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
