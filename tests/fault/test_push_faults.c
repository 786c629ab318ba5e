/* tests/fault/test_push_faults.c -- every allocation below a recorded call, a pushed job and a callback fails once, on the way to their
 * receiver and back; and several that follow one another do, as when memory is short.
 *
 * Whichever fails: no promise of a callback waits for the next start, what is delivered afterwards is delivered, nothing is delivered that was not submitted, and nothing leaks or is used
 * after it was freed (which AddressSanitizer tells). The receiver is a server of the library on the same loop, whose own allocations are the
 * subject of other tests.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "deliver/push.h"
#include "store/store.h"
#include "whilst/http.h"

#include "allocations.h"

struct world {
	wh_loop *loop;
	struct store *store;
	struct push *push;
	wh_http_client *client, *outside;
	wh_http_server *server;
	char directory[64], url[64], health[24]; /* health: the path of the checks that are counted */
	int calls, pushes, callbacks, checks;    /* that were received */
	int failures;
};

static void on_failure(int64_t error, const char *message, void *arg)
{
	(void)error, (void)message;
	((struct world *)arg)->failures++;
}

static void receive(wh_http_exchange *x, void *arg)
{
	struct world *w = arg;

	if (wh_slice_equal(wh_http_path(x), w->health))
		w->checks++;
	else if (wh_http_path(x).len > 7 && memcmp(wh_http_path(x).data, "/health", 7) == 0)
		(void)0; /* of a service given before */
	else if (wh_http_header(x, "webhook-signature").data)
		w->callbacks++;
	else if (wh_http_header(x, "Whilst-Job").data)
		w->pushes++;
	else
		w->calls++;
	wh_http_respond(x, 200, "ok", 2);
}

/* Whether there was memory for it. */
static bool give_service(struct world *w, const char *name, bool target, const char *more)
{
	struct service_refusal refusal;
	struct service *service;
	char json[300];
	bool good;
	int n = snprintf(json, sizeof(json), "{\"url\": \"%s\", \"breaker\": {\"failures\": 0}%s}", w->url,
	                 more);

	service = service_parse(name, strlen(name), target, json, (size_t)n, &refusal);
	good = service && push_prepare(service) == 0;
	if (good)
		push_service(w->push, service);
	service_unref(service);
	return good;
}

static int set_up(void **state)
{
	static struct world world;
	struct world *w = &world;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct store_options store = {.segment_bytes = 4 << 20,
	                              .recent_bytes = 1 << 20,
	                              .on_failure = on_failure,
	                              .failure_arg = w};
	struct wh_http_server_options server = {.on_request = receive, .arg = w};
	static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
	struct sockaddr_storage address;
	struct store_problem problem;
	struct secrets secrets;
	const char *detail;
	socklen_t len;
	unsigned line;
	int fd;

	memset(w, 0, sizeof(*w));
	snprintf(w->health, sizeof(w->health), "/health");
	/* a folder in memory, where there is one: it is not the disk that is tried here */
	snprintf(w->directory, sizeof(w->directory), "%s/whilst-store-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(w->directory));
	store.directory = w->directory;
	assert_int_equal(wh_loop_open(&w->loop, NULL), 0);
	assert_int_equal(store_open(w->loop, &store, &w->store, &problem), 0);
	assert_int_equal(wh_http_server_open(w->loop, &server, &w->server), 0);
	fd = wh_listen(w->loop, (struct sockaddr *)&any, sizeof(any), NULL);
	assert_true(fd >= 0);
	assert_int_equal(wh_local_address(w->loop, fd, &address, &len), 0);
	snprintf(w->url, sizeof(w->url), "http://127.0.0.1:%u",
	         ntohs(((struct sockaddr_in *)&address)->sin_port));
	assert_int_equal(wh_http_server_listen(w->server, fd), 0);
	assert_int_equal(wh_http_client_open(w->loop, NULL, &w->client), 0);
	assert_int_equal(wh_http_client_open(w->loop, NULL, &w->outside), 0);
	assert_int_equal(
		push_open(w->loop, w->store, w->client, w->outside, &(struct push_options){0}, &w->push), 0);
	assert_int_equal(secrets_read(secret, sizeof(secret) - 1, &secrets, &line, &detail), 0);
	assert_int_equal(push_callbacks_open(w->push), 0);
	assert_int_equal(push_use_secrets(w->push, &secrets), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	char command[128];

	atomic_store(&fail_at, 0);
	w->push = push_close(w->push);
	w->client = wh_http_client_close(w->client);
	w->outside = wh_http_client_close(w->outside);
	w->server = wh_http_server_close(w->server);
	store_close(w->store);
	wh_loop_close(w->loop);
	snprintf(command, sizeof(command), "rm -rf %s", w->directory);
	assert_int_equal(system(command), 0);
	return 0;
}

/* The ids of what was submitted, or 0. */
static uint64_t apply(struct world *w, const struct store_action *actions, size_t count, uint64_t *ret_second)
{
	wh_res res = wh_await(store_apply(w->store, actions, count, 0, STORE_LOCAL));
	struct store_commit *commit = res.n < 0 ? NULL : res.ptr;
	uint64_t id = commit && commit->error == 0 ? commit->results[0].job : 0;

	if (id && ret_second)
		*ret_second = commit->results[1].job;
	store_commit_free(commit);
	return id;
}

static struct store_action submit_of(const char *queue, const char *payload, size_t len)
{
	return (struct store_action){.kind = STORE_SUBMIT,
	                             .submit = {.queue = {queue, strlen(queue)},
	                                        .payload = {payload, len},
	                                        .priority = JOB_PRIORITY_DEFAULT,
	                                        .attempts_max = 100}};
}

/* A call, a push and a callback whose job is cancelled at once. Whether all could be submitted. */
static bool submit_all(struct world *w)
{
	static const char message[] = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
	struct store_action call = submit_of("call/s", message, sizeof(message) - 1),
			    job = submit_of("q", "x", 1),
			    pair[2] = {submit_of("w", "x", 1),
	                               submit_of(CALLBACKS_PENDING, w->url, strlen(w->url))},
			    cancel = {.kind = STORE_CANCEL};
	uint64_t pending = 0;
	bool all = apply(w, &call, 1, NULL) != 0;

	all = apply(w, &job, 1, NULL) != 0 && all;
	cancel.job = apply(w, pair, 2, &pending);
	if (cancel.job)
		push_callback(w->push, cancel.job, pending);
	return cancel.job && apply(w, &cancel, 1, NULL) != 0 && all;
}

static bool has_come(const struct world *w, int each)
{
	return w->calls >= each && w->pushes >= each && w->callbacks >= each;
}

/* Until each of the three has come so often; or soon after an allocation has failed, as what is tried again a second later is no matter. */
static bool turn_until(struct world *w, int each, bool patient)
{
	int64_t now = wh_clock(w->loop), until = now + 30 * WH_NS_PER_S, soon = now + 10 * WH_NS_PER_MS;

	while (!has_come(w, each)) {
		now = wh_clock(w->loop);
		if (now > until || (!patient && atomic_load(&hit) && now > soon))
			return false;
		assert_true(wh_loop_turn(w->loop, 5 * WH_NS_PER_MS) >= 0);
	}
	return true;
}

/* What failed may have been the log's: it has no room then, and tries again within a second. */
static void recover(struct world *w)
{
	struct store_action probe = submit_of("probe", "x", 1);
	int64_t until = wh_clock(w->loop) + 30 * WH_NS_PER_S;

	while (apply(w, &probe, 1, NULL) == 0) {
		assert_true(wh_clock(w->loop) < until);
		assert_true(wh_loop_turn(w->loop, 5 * WH_NS_PER_MS) >= 0);
	}
}

/* A service that was taken while memory was short delivers, and is asked for its health, without being given again. */
static void given_once(void **state)
{
	static const char message[] = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n";
	struct world *w = *state;
	int in_vain = 0, refused = 0;

	for (int n = 1; in_vain < 5; n++) {
		int64_t until = wh_clock(w->loop) + 30 * WH_NS_PER_S;
		struct store_action call;
		char name[20], queue[30], more[80];
		bool taken;

		assert_true(n < 1000);
		snprintf(name, sizeof(name), "once%d", n);
		snprintf(queue, sizeof(queue), "call/once%d", n);
		/* others are asked for another health */
		snprintf(more, sizeof(more), ",\"health\":{\"path\":\"/health%d\",\"interval\":\"10ms\"}", n);
		snprintf(w->health, sizeof(w->health), "/health%d", n);
		atomic_store(&calls, 0);
		atomic_store(&hit, false);
		atomic_store(&fail_each, n % 2);
		atomic_store(&fail_end, n + 3);
		atomic_store(&fail_at, n);
		taken = give_service(w, name, false, more);
		in_vain = atomic_load(&hit) ? 0 : in_vain + 1;
		atomic_store(&fail_at, 0);
		refused += !taken;
		if (!taken)
			continue;
		w->calls = w->checks = 0;
		recover(w);
		call = submit_of(queue, message, sizeof(message) - 1);
		assert_true(apply(w, &call, 1, NULL) != 0);
		while (w->calls == 0 || w->checks == 0) {
			if (wh_clock(w->loop) > until)
				fail_msg("allocation %d: taken, and %d calls, %d checks", n, w->calls,
				         w->checks);
			assert_true(wh_loop_turn(w->loop, 5 * WH_NS_PER_MS) >= 0);
		}
	}
	assert_true(refused > 5);
}

static void check_none_failed(struct world *w, const char *queue)
{
	struct store_queue_view view;

	assert_int_equal(store_queue_now(w->store, (struct store_slice){queue, strlen(queue)}, &view), 0);
	if (view.jobs[JOB_FAILED] > 0 || view.jobs[JOB_BURIED] > 0)
		fail_msg("%s: %d failed, %d are buried", queue, (int)view.jobs[JOB_FAILED],
		         (int)view.jobs[JOB_BURIED]);
}

static uint64_t count_in(struct world *w, const char *queue, int job_state)
{
	struct store_queue_view view;

	assert_int_equal(store_queue_now(w->store, (struct store_slice){queue, strlen(queue)}, &view), 0);
	return view.jobs[job_state];
}

/* Those whose job has finished are told, without anything else happening; the others' are cancelled first, as its own cancellation has failed. */
static void keep_promises(struct world *w)
{
	struct store_action purge = {.kind = STORE_QUEUE_PURGE, .queue.name = {"w", 1}};
	int64_t until = wh_clock(w->loop) + 60 * WH_NS_PER_S;
	wh_res res = wh_await(store_apply(w->store, &purge, 1, 0, STORE_LOCAL));

	assert_true(res.n >= 0);
	store_commit_free(res.ptr);
	while (push_callbacks_pending(w->push) > 0) {
		assert_true(wh_clock(w->loop) < until);
		assert_true(wh_loop_turn(w->loop, 5 * WH_NS_PER_MS) >= 0);
	}
	assert_int_equal(count_in(w, CALLBACKS_PENDING, JOB_READY), 0);
}

static void fail_in_a_row(struct world *w, int in_a_row)
{
	int in_vain = 0; /* rounds in which there were not so many allocations */
	long n;

	atomic_store(&fail_each, in_a_row > 1);
	for (n = 1; in_vain<5; n += in_a_row> 1 ? 3 : 1) {
		assert_true(n < 5000);
		w->calls = w->pushes = w->callbacks = 0;
		atomic_store(&calls, 0);
		atomic_store(&hit, false);
		atomic_store(&fail_end, (int)n + in_a_row);
		atomic_store(&fail_at, (int)n);
		give_service(w, "s", false, ", \"health\": {\"path\": \"/health\", \"interval\": \"1ms\"}");
		give_service(w, "q", true, "");
		(void)submit_all(w);
		(void)turn_until(w, 1, false);
		in_vain = atomic_load(&hit) ? 0 : in_vain + 1;
	}
	atomic_store(&fail_at, 0);
	assert_true(n > 50); /* there are that many */
	assert_int_equal(w->failures, 0);
	/* as if nothing had been */
	recover(w);
	keep_promises(w);
	give_service(w, "s", false, "");
	give_service(w, "q", true, "");
	w->calls = w->pushes = w->callbacks = 0;
	for (int i = 0; i < 10; i++)
		assert_true(submit_all(w));
	assert_true(turn_until(w, 10, true));
	assert_true(w->checks > 0);
	/* what was postponed is still leased */
	check_none_failed(w, "call/s");
	check_none_failed(w, "q");
	check_none_failed(w, CALLBACKS);
	assert_int_equal(store_recount(w->store), 0);
}

static void every_allocation(void **state)
{
	fail_in_a_row(*state, 1);
}

static void three_in_a_row(void **state)
{
	fail_in_a_row(*state, 3);
}

/* So many that what says so, and what waits for better times, fails as well. */
static void all_for_a_while(void **state)
{
	fail_in_a_row(*state, 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(given_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(every_allocation, set_up, tear_down),
		cmocka_unit_test_setup_teardown(three_in_a_row, set_up, tear_down),
		cmocka_unit_test_setup_teardown(all_for_a_while, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
