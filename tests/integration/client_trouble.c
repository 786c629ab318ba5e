/* tests/integration/client_trouble.c -- the C client where things go wrong: nobody there, no time left, somebody else who answers, requests
 * given up at every moment, and thousands at once.
 */
#include "client_calls.h"

static void refused_addresses(void **state)
{
	static const char *const bad[] = {"",           "unix:", "http://",   "http://a/b",
	                                  "http://u@a", "a/b",   "http://a?x"};
	wh_client *other;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(wh_client_open(loop, &(struct wh_client_options){.server = bad[i]}, &other) < 0);
	assert_int_equal(wh_client_open(loop, &(struct wh_client_options){.server = "ftp://a"}, &other),
	                 -EPROTONOSUPPORT);
	assert_int_equal(
		wh_client_open(loop, &(struct wh_client_options){.server = "http://127.0.0.1:1/"}, &other),
		0);
	wh_client_close(other);
	assert_null(wh_client_close(NULL));
}

static void nobody_there(void **state)
{
	struct wh_client_options options = {.server = over_unix ? "unix:/nowhere/at/all" : "127.0.0.1:1",
	                                    .retry_ns = -1};
	struct wh_payload payload = bytes_of("x");
	int64_t error = over_unix ? -ENOENT : -ECONNREFUSED;
	wh_client *other;

	(void)state;
	assert_int_equal(wh_client_open(loop, &options, &other), 0);
	NEED(wh_client_submit(other, queue, &payload, NULL, &how),
	     error); /* nothing was done, and that is known */
	assert_int_equal(problem.cause, error);
	assert_int_equal(problem.status, 0);
	assert_true(problem.detail[0]);
	NEED(wh_client_look(other, 1, &how), error);
	wh_client_close(other);
	options.retry_ns = 200 * MS;
	assert_int_equal(wh_client_open(loop, &options, &other), 0);
	NEED(wh_client_submit(other, queue, &payload, NULL, &how), error);
	struct wh_client_stats stats;
	wh_client_stats(other, &stats);
	assert_true(stats.retries >= 1 && stats.requests == stats.retries + 1 && stats.in_flight == 0);
	wh_client_close(other);
}

static void time_is_up(void **state)
{
	struct wh_how soon = {.timeout_ns = MS, .problem = &problem};
	int fds;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct wh_payload payload = bytes_of("x");
	char name[40];
	wh_client *other;

	(void)state;
	fds = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL); /* accepts nobody */
	assert_true(fds >= 0);
	assert_int_equal(getsockname(fds, (struct sockaddr *)&address, &len), 0);
	snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(wh_client_open(loop, &(struct wh_client_options){.server = name}, &other), 0);
	NEED(wh_client_look(other, 1, &soon), -ETIMEDOUT);
	NEED(wh_client_submit(other, queue, &payload, NULL, &soon), -WH_ECALL_UNKNOWN); /* it was sent */
	assert_int_equal(problem.cause, -ETIMEDOUT);
	wh_client_close(other);
	close(fds);
}

/* Something else than a whilst server. */
static void strange(wh_http_exchange *x, void *arg)
{
	const char *const *answer = arg;

	wh_http_respond(x, atoi(answer[0]), answer[1], strlen(answer[1]));
}

static void strange_answers(void **state)
{
	static const char *answers[2];
	static const struct {
		const char *status, *body;
		int64_t change, read;
	} cases[] = {
		{"200", "hello", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX},
		{"202", "{\"id\":", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX},
		{"202", "{\"id\": 17}", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX}, /* no position */
		{"204", "", -WH_ECALL_UNKNOWN, -WH_EHTTP_SYNTAX},
		{"404", "<html>", -WH_ECALL_REFUSED, -WH_ECALL_REFUSED},
		{"413", "", -WH_ECALL_TOO_LARGE, -WH_ECALL_TOO_LARGE},
		{"502", "<html>", -WH_ECALL_UNKNOWN, -WH_ECALL_REFUSED},
	};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wh_http_server_options options = {.on_request = strange, .arg = (void *)(uintptr_t)answers};
	struct wh_payload payload = bytes_of("x");
	socklen_t len = sizeof(address);
	wh_http_server *http;
	char name[40];
	wh_client *other;
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	snprintf(name, sizeof(name), "http://127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(wh_http_server_open(loop, &options, &http), 0);
	assert_int_equal(wh_http_server_listen(http, fd), 0);
	assert_int_equal(wh_client_open(loop, &(struct wh_client_options){.server = name}, &other), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answers[0] = cases[i].status;
		answers[1] = cases[i].body;
		NEED(wh_client_submit(other, queue, &payload, NULL, &how), cases[i].change);
		NEED(wh_client_look(other, 1, &how), cases[i].read);
		NEED(wh_client_cancel(other, 1, &how), cases[i].change);
		NEED(wh_client_queues(other, NULL, &how), cases[i].read);
		NEED(wh_client_log(other, &how), cases[i].read);
		NEED(wh_client_queue_put(other, queue, NULL, &how), cases[i].change);
	}
	wh_client_close(other);
	wh_http_server_close(http);
}

static wh_future any_request(int kind)
{
	struct wh_payload payload = bytes_of("x");
	struct iovec many[2] = {{queue, 3}, {queue, 0}};

	switch (kind) {
	case 0:
		return wh_client_submit(client, queue, &payload, NULL, &how);
	case 1:
		return wh_client_run(client, queue, &payload, NULL, 20 * S, &how);
	case 2:
		return wh_client_look(client, 1, &how);
	case 3:
		return wh_client_reserve(client, queue, 3, 5 * S, &how);
	case 4:
		return wh_client_submit_many(client, queue, many, 2, NULL, NULL, &how);
	case 5:
		return wh_client_queues(client, NULL, &how);
	default:
		return wh_client_log(client, &how);
	}
}

static void free_any(int kind, wh_res res)
{
	if (kind == 1)
		wh_result_free(res.ptr);
	else if (kind == 2)
		wh_job_free(res.ptr);
	else if (kind == 3)
		wh_leases_free(res.ptr);
	else if (kind == 4)
		wh_ids_free(res.ptr);
	else if (kind == 5)
		wh_queues_free(res.ptr);
	else
		wh_log_state_free(res.ptr);
}

/* Given up after every number of turns of the loop: by cancel, by drop, and by the end of the client. */
static void given_up_at_every_moment(void **state)
{
	struct wh_client_options options = {.server = over_unix ? server.local : server.tcp};
	struct wh_client_stats stats;

	(void)state;
	for (int kind = 0; kind < 7; kind++) {
		for (int turns = 0; turns < 12; turns++) {
			wh_future f = any_request(kind), dropped = any_request(kind);
			wh_res res;

			for (int i = 0; i < turns; i++)
				assert_int_equal(wh_loop_turn(loop, MS), 0);
			wh_cancel(f);
			assert_int_equal(wh_drop(dropped), 0);
			res = wh_await(f);
			assert_true(res.n == -ECANCELED || res.n >= 0 || res.n <= -4096);
			free_any(kind, res);
			/* and with the client, which ends all */
			f = any_request(kind);
			for (int i = 0; i < turns; i++)
				assert_int_equal(wh_loop_turn(loop, 0), 0);
			wh_client_stats(client, &stats);
			assert_true(stats.in_flight <= 1);
			wh_client_close(client);
			res = wh_await(f);
			assert_true(res.n == -ECANCELED || res.n >= 0 || res.n <= -4096);
			free_any(kind, res);
			assert_int_equal(wh_client_open(loop, &options, &client), 0);
		}
	}
}

/* Every wait has a connection, and none stands in the way of what is answered at once. */
static void thousands_wait(void **state)
{
	enum { COUNT_MAX = 5000 };
	static struct iovec payloads[COUNT_MAX];
	static struct wh_completion completions[COUNT_MAX];
	static wh_future waits[COUNT_MAX];
	struct wh_ids *ids;
	struct wh_client_stats stats;
	/* a thread blocks for each on that engine, on both sides */
	size_t got = 0, count = strcmp(wh_engine_name(loop), "threads") == 0 ? 400 : COUNT_MAX;

	(void)state;
	ids = NEED_PTR(wh_client_submit_many(client, queue, payloads, count, NULL, NULL, &how),
	               (int64_t)count);
	for (size_t i = 0; i < count; i++)
		waits[i] = wh_client_wait(client, ids->ids[i], 120 * S, NULL);
	wh_client_stats(client, &stats);
	assert_int_equal(stats.in_flight, count);
	while (got < count) {
		wh_res res = wh_await(wh_client_reserve_bare(client, queue, 1000, 0, &how));
		struct wh_leases *leases = res.ptr;

		assert_true(res.n > 0);
		for (size_t i = 0; i < leases->count; i++)
			completions[got++] = (struct wh_completion){leases->jobs[i].lease, NULL, 0};
		wh_leases_free(leases);
	}
	wh_outcomes_free(NEED_PTR(wh_client_complete_many(client, queue, completions, count, NULL, &how),
	                          (int64_t)count));
	for (size_t i = 0; i < count; i++)
		wh_job_free(need_ptr(wh_await(waits[i]), WH_JOB_DONE, __LINE__));
	wh_ids_free(ids);
	wh_client_stats(client, &stats);
	assert_int_equal(stats.in_flight, 0);
}

static void thousands_submit(void **state)
{
	enum { COUNT = 5000 };
	static wh_future submits[COUNT];
	struct wh_payload payload = bytes_of("x");
	struct wh_client_stats stats;

	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		submits[i] = wh_client_submit(client, queue, &payload, NULL, NULL);
	for (size_t i = 0; i < COUNT; i++)
		assert_true(wh_await(submits[i]).n > 0);
	wh_client_stats(client, &stats);
	assert_true(stats.connections <= 64 && stats.requests == COUNT);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(refused_addresses),
		ONE(nobody_there),
		ONE(time_is_up),
		ONE(strange_answers),
		ONE(given_up_at_every_moment),
		ONE(thousands_submit),
		ONE(thousands_wait),
	};

	need_descriptors(12000);
	return RUN_OVER_BOTH(tests);
}
