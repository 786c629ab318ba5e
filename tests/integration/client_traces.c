/* tests/integration/client_traces.c -- trace context and callbacks by the C client: from who submits to who does the work, and to who is told.
 */
#include "client_server.h"

#include <errno.h>
#include <inttypes.h>

#include "whilst/client.h"
#include "whilst/http.h"
#include "whilst/socket.h"

#define S      WH_NS_PER_S
#define PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define TRACE  "00-4bf92f3577b34da6a3ce929d0e0e4736-"
#define STATE  "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"

static struct served server;
static wh_loop *loop;
static wh_client *client;
static char queue[32], secrets[] = "/tmp/whilst-secrets-XXXXXX";
static struct wh_problem problem;
static const struct wh_how both = {.problem = &problem, .traceparent = PARENT, .tracestate = STATE},
			   parent_only = {.problem = &problem, .traceparent = PARENT},
			   state_only = {.problem = &problem, .tracestate = STATE},
			   plain = {.problem = &problem};

static int open_all(void **state)
{
	static int number;
	struct wh_client_options options = {.server = server.tcp};

	(void)state;
	snprintf(queue, sizeof(queue), "t%d", ++number);
	return wh_loop_open(&loop, NULL) != 0 || wh_client_open(loop, &options, &client) != 0;
}

static int close_all(void **state)
{
	(void)state;
	client = wh_client_close(client);
	loop = wh_loop_close(loop);
	return 0;
}

#define NEED(f, wanted) need(wh_await(f), wanted, __LINE__)
static void *need(wh_res res, int64_t wanted, int line)
{
	if (res.n != wanted)
		fail_msg("line %d: %" PRId64 " (%s), wanted %" PRId64 "; %s", line, res.n,
		         res.n < 0 ? wh_strerror(res.n) : "", wanted, problem.detail);
	return res.ptr;
}

static uint64_t submit(const struct wh_submit_options *options, const struct wh_how *how)
{
	struct wh_payload payload = {.bytes = "work", .len = 4};
	wh_res res = wh_await(wh_client_submit(client, queue, &payload, options, how));

	if (res.n <= 0)
		fail_msg("%s; %s", wh_strerror(res.n), problem.detail);
	return (uint64_t)res.n;
}

static void assert_context(const struct wh_leased *leased, const char *parent, const char *state)
{
	if (parent)
		assert_string_equal(leased->traceparent, parent);
	else
		assert_null(leased->traceparent);
	if (state)
		assert_string_equal(leased->tracestate, state);
	else
		assert_null(leased->tracestate);
	assert_int_equal(leased->payload.len, 4);
	assert_memory_equal(leased->payload.data, "work", 4);
}

/* ---- traces -------------------------------------------------------------------------------- */

static const struct {
	const struct wh_how *how;
	const char *parent, *state;
} contexts[] = {{&both, PARENT, STATE},
                {&parent_only, PARENT, NULL},
                {&state_only, NULL, NULL},
                {&plain, NULL, NULL}};
enum { CONTEXTS = sizeof(contexts) / sizeof(contexts[0]) };

static void leased_alone(void **state)
{
	struct wh_leases *leases;

	(void)state;
	for (size_t i = 0; i < CONTEXTS; i++) {
		submit(NULL, contexts[i].how);
		leases = NEED(wh_client_reserve(client, queue, 1, 5 * S, &plain), 1);
		assert_context(&leases->jobs[0], contexts[i].parent, contexts[i].state);
		wh_leases_free(leases);
	}
}

static void leased_together(void **state)
{
	struct wh_leases *leases;

	(void)state;
	for (int bare = 0; bare < 2; bare++) {
		for (size_t i = 0; i < CONTEXTS; i++)
			submit(NULL, contexts[i].how);
		leases = NEED(bare ? wh_client_reserve_bare(client, queue, 10, 5 * S, &plain)
		                   : wh_client_reserve(client, queue, 10, 5 * S, &plain),
		              CONTEXTS);
		for (size_t i = 0; i < CONTEXTS; i++)
			assert_context(&leases->jobs[i], contexts[i].parent, contexts[i].state);
		wh_leases_free(leases);
	}
}

/* The request has one context, and each job that it makes has that. */
static void many_at_once(void **state)
{
	static char work[] = "work";
	struct iovec payloads[3] = {{work, 4}, {work, 4}, {work, 4}};
	struct wh_action actions[2] = {
		{.kind = WH_ACTION_SUBMIT, .queue = queue, .payload = {.bytes = "work", .len = 4}},
		{.kind = WH_ACTION_SUBMIT, .queue = queue, .payload = {.bytes = "work", .len = 4}}};
	struct wh_event event = {.type = "x", .data = {.bytes = "work", .len = 4}};
	struct wh_subscription subscription = {.queue = queue};
	struct wh_leases *leases;

	(void)state;
	wh_ids_free(NEED(wh_client_submit_many(client, queue, payloads, 3, NULL, NULL, &both), 3));
	wh_transaction_free(NEED(wh_client_transact(client, actions, 2, &both), 2));
	NEED(wh_client_subscribe(client, queue, "one", &subscription, &plain), 1);
	NEED(wh_client_publish(client, queue, &event, &both), 1);
	leases = NEED(wh_client_reserve_bare(client, queue, 10, 5 * S, &plain), 6);
	for (size_t i = 0; i < 6; i++)
		assert_context(&leases->jobs[i], PARENT, STATE);
	wh_leases_free(leases);
}

static void released(void *arg)
{
	++*(int *)arg;
}

static void malformed(void **state)
{
	static const char *const none[] = {"", "00-x",
	                                   "00-00000000000000000000000000000000-00f067aa0ba902b7-01"};
	static const char *const bad[] = {"a\r\nb: c", "a\x7f", "a\xc3\xa4", "\x01"};
	struct wh_leases *leases;
	int freed = 0;
	struct wh_payload payload = {.bytes = "work", .len = 4, .release = released, .release_arg = &freed};

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct wh_how how = {.problem = &problem, .traceparent = none[i], .tracestate = STATE};

		submit(NULL, &how);
		leases = NEED(wh_client_reserve(client, queue, 1, 5 * S, &plain), 1);
		assert_context(&leases->jobs[0], NULL, NULL);
		wh_leases_free(leases);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct wh_how parent = {.traceparent = bad[i]},
			      list = {.traceparent = PARENT, .tracestate = bad[i]};

		NEED(wh_client_submit(client, queue, &payload, NULL, &parent), -EINVAL);
		NEED(wh_client_run(client, queue, &payload, NULL, S, &list), -EINVAL);
		assert_int_equal(freed, 2 * (int)(i + 1));
	}
	NEED(wh_client_reserve(client, queue, 1, 0, &plain), 0);
}

static void pass_on(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	struct wh_payload result = {.bytes = leased->traceparent,
	                            .len = leased->traceparent ? strlen(leased->traceparent) : 0};

	(void)arg;
	wh_await(wh_worker_complete(job, 200, &result));
}

static void by_a_worker(void **state)
{
	struct wh_worker_options options = {.queue = queue, .jobs_max = 8, .on_job = pass_on, .task = true};
	struct wh_payload payload = {.bytes = "work", .len = 4};
	struct wh_result *result;
	wh_worker *worker;
	wh_res res;

	(void)state;
	assert_int_equal(wh_worker_open(client, &options, &worker), 0);
	res = wh_await(wh_client_run(client, queue, &payload, NULL, 30 * S, &both));
	assert_true(res.n > 0);
	assert_non_null(res.ptr);
	result = res.ptr;
	assert_true(wh_slice_equal(result->body, PARENT));
	wh_result_free(result);
	wh_worker_close(worker);
}

/* ---- callbacks ----------------------------------------------------------------------------- */

static struct {
	wh_http_server *http;
	char url[64];
	char parent[80], state[80], type[32];
	uint64_t job;
	wh_future told;
} receiver;

static void take(wh_http_exchange *x, void *arg)
{
	struct wh_slice parent = wh_http_header(x, "traceparent"), state = wh_http_header(x, "tracestate"),
			body = wh_http_body(x);
	const char *id = memmem(body.data, body.len, "\"id\":", 5),
		   *type = memmem(body.data, body.len, "job.", 4);

	(void)arg;
	assert_non_null(id);
	assert_non_null(type);
	snprintf(receiver.parent, sizeof(receiver.parent), "%.*s", (int)parent.len,
	         parent.data ? parent.data : "");
	snprintf(receiver.state, sizeof(receiver.state), "%.*s", (int)state.len,
	         state.data ? state.data : "");
	snprintf(receiver.type, sizeof(receiver.type), "%.*s", (int)strcspn(type, "\""), type);
	receiver.job = strtoull(id + 5, NULL, 10);
	wh_http_respond(x, 200, "", 0);
	assert_int_equal(wh_resolve(receiver.told, 0, NULL), 0);
}

static void receiver_open(void)
{
	struct wh_http_server_options options = {.on_request = take};
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	int fd = wh_listen_text(loop, "127.0.0.1:0", NULL);

	assert_true(fd >= 0);
	assert_int_equal(wh_local_address(loop, fd, &bound, &len), 0);
	snprintf(receiver.url, sizeof(receiver.url), "http://127.0.0.1:%d/told?of=it",
	         ntohs(((struct sockaddr_in *)(void *)&bound)->sin_port));
	assert_int_equal(wh_http_server_open(loop, &options, &receiver.http), 0);
	assert_int_equal(wh_http_server_listen(receiver.http, fd), 0);
}

static void called_back(void **state)
{
	struct wh_submit_options options = {.callback = receiver.url};
	struct wh_leases *leases;
	uint64_t job;

	(void)state;
	receiver_open();
	for (size_t i = 0; i < CONTEXTS; i++) {
		receiver.told = wh_promise(loop, NULL, NULL);
		job = submit(&options, contexts[i].how);
		leases = NEED(wh_client_reserve(client, queue, 1, 5 * S, &plain), 1);
		NEED(wh_client_complete(client, leases->jobs[0].lease, 200, NULL, &plain), 0);
		wh_leases_free(leases);
		NEED(wh_deadline(receiver.told, wh_now(loop) + 60 * S), 0);
		assert_int_equal(receiver.job, job);
		assert_string_equal(receiver.type, "job.done");
		assert_string_equal(receiver.state, contexts[i].state ? contexts[i].state : "");
		/* the same trace, by another request */
		assert_int_equal(strlen(receiver.parent), contexts[i].parent ? strlen(PARENT) : 0);
		if (contexts[i].parent) {
			assert_memory_equal(receiver.parent, TRACE, strlen(TRACE));
			assert_string_not_equal(receiver.parent, PARENT);
		}
	}
	wh_http_server_close(receiver.http);
}

/* Each of a batch, and of a transaction those that say so. */
static void each_called_back(void **state)
{
	struct wh_submit_options options = {.callback = receiver.url};
	static char work[] = "work";
	struct iovec payloads[2] = {{work, 4}, {work, 4}};
	struct wh_action actions[] = {{.kind = WH_ACTION_SUBMIT, .queue = queue},
	                              {.kind = WH_ACTION_SUBMIT, .queue = queue, .options = options}};
	struct wh_transaction *transaction;
	struct wh_leases *leases;
	struct wh_ids *ids;
	uint64_t told[3];

	(void)state;
	receiver_open();
	ids = NEED(wh_client_submit_many(client, queue, payloads, 2, NULL, &options, &plain), 2);
	transaction = NEED(wh_client_transact(client, actions, 2, &plain), 2);
	told[0] = ids->ids[0];
	told[1] = ids->ids[1];
	told[2] = transaction->results[1].job;
	for (int i = 0, told_of = 0; i < 4; i++) {
		leases = NEED(wh_client_reserve(client, queue, 1, 5 * S, &plain), 1);
		receiver.told = wh_promise(loop, NULL, NULL);
		NEED(wh_client_complete(client, leases->jobs[0].lease, 200, NULL, &plain), 0);
		if (leases->jobs[0].lease.job == transaction->results[0].job) {
			wh_cancel(receiver.told);
			wh_detach(receiver.told);
		} else {
			NEED(wh_deadline(receiver.told, wh_now(loop) + 60 * S), 0);
			assert_int_equal(receiver.job, told[told_of++]);
		}
		wh_leases_free(leases);
	}
	wh_transaction_free(transaction);
	wh_ids_free(ids);
	wh_http_server_close(receiver.http);
}

static void not_called_back(void **state)
{
	struct wh_submit_options options = {.callback = "http://10.0.0.1/"},
				 unique = {.callback = "http://127.0.0.1:1/", .unique = "u"};
	static char work[] = "work";
	struct iovec payloads[1] = {{work, 4}};
	struct wh_action action = {.kind = WH_ACTION_SUBMIT, .queue = queue, .options = options};
	struct wh_payload payload = {.bytes = "work", .len = 4};

	(void)state;
	NEED(wh_client_submit_many(client, queue, payloads, 1, NULL, &options, &plain), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "target-refused");
	NEED(wh_client_transact(client, &action, 1, &plain), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "target-refused");
	NEED(wh_client_submit(client, queue, &payload, &unique, &plain), -WH_ECALL_BAD_VALUE);
	NEED(wh_client_submit(client, queue, &payload, &options, &plain), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "target-refused");
	NEED(wh_client_reserve(client, queue, 1, 0, &plain), 0);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

static int write_secrets(void)
{
	static const char line[] = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
	int fd = mkstemp(secrets);

	return fd < 0 || write(fd, line, sizeof(line) - 1) != sizeof(line) - 1 || close(fd) != 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		ONE(leased_alone), ONE(leased_together), ONE(many_at_once),     ONE(malformed),
		ONE(by_a_worker),  ONE(called_back),     ONE(each_called_back), ONE(not_called_back),
	};
	int failed;

	if (write_secrets() != 0)
		return 1;
	server.more[0] = "--callback-secrets";
	server.more[1] = secrets;
	server.more[2] = "--allow-private-targets";
	server.more[3] = "127.0.0.0/8";
	server_start(&server);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_remove(&server);
	unlink(secrets);
	return failed;
}
