/* tests/integration/client_namespaces.c -- the C client with tokens of two namespaces: jobs after jobs, in transactions with events as well.
 */
#include "client_server.h"

#include <inttypes.h>

#include "whilst/client.h"

static struct served server;
static char folder[] = "/tmp/whilst-tokens-XXXXXX", tokens[sizeof(folder) + 8];
static char acme_token[128], bolt_token[128];
static wh_loop *loop;
static wh_client *acme, *bolt;
static struct wh_problem problem;
static const struct wh_how how = {.problem = &problem};
static const struct wh_payload payload = {.bytes = "work", .len = 4};

#define NEED(f, wanted) need(wh_await(f), wanted, __LINE__)
static void *need(wh_res res, int64_t wanted, int line)
{
	if (res.n != wanted)
		fail_msg("line %d: %" PRId64 " (%s), wanted %" PRId64 "; %s", line, res.n,
		         res.n < 0 ? wh_strerror(res.n) : "", wanted, problem.detail);
	return res.ptr;
}

static uint64_t submit(wh_client *client, const char *queue, const struct wh_submit_options *options)
{
	wh_res res = wh_await(wh_client_submit(client, queue, &payload, options, &how));

	if (res.n <= 0)
		fail_msg("%s; %s", wh_strerror(res.n), problem.detail);
	return (uint64_t)res.n;
}

/* `whilst token`: the token on standard output, its line of the file on standard error. */
static void make_token(const char *name, char to[128])
{
	char command[600];
	FILE *out;

	snprintf(command, sizeof(command), "'%s' token %s admin prefix=%s 2>>'%s'", getenv("WHILST_BINARY"),
	         name, name, tokens);
	out = popen(command, "r"); /* NOLINT(cert-env33-c) */
	assert_non_null(out);
	assert_non_null(fgets(to, 128, out));
	to[strcspn(to, "\n")] = 0;
	assert_int_equal(pclose(out), 0);
}

static int open_all(void **state)
{
	struct wh_client_options options = {.server = server.tcp, .token = acme_token};

	(void)state;
	if (wh_loop_open(&loop, NULL) != 0 || wh_client_open(loop, &options, &acme) != 0)
		return 1;
	options.token = bolt_token;
	return wh_client_open(loop, &options, &bolt);
}

static int close_all(void **state)
{
	(void)state;
	acme = wh_client_close(acme);
	bolt = wh_client_close(bolt);
	loop = wh_loop_close(loop);
	return 0;
}

/* What is of another namespace and what was never given: one problem, in the same words. */
static void after_others(void **state)
{
	uint64_t mine = submit(acme, "a", NULL), foreign = submit(bolt, "a", NULL), ids[2] = {mine, foreign};
	struct wh_submit_options options = {.after = ids, .after_count = 1, .after_failure = WH_AFTER_RUN};
	char expected[400], code[sizeof(problem.code)];
	struct wh_job *look;
	uint64_t then = submit(acme, "then", &options);

	(void)state;
	look = NEED(wh_client_look(acme, then, &how), WH_JOB_AWAITING);
	assert_true(look->awaits_open == 1 && look->awaits_count == 1);
	assert_string_equal(look->queue, "then");
	wh_job_free(look);
	NEED(wh_client_look(bolt, then, &how), -WH_ECALL_UNKNOWN_JOB);
	options.after_count = 2;
	ids[1] = (UINT64_C(1) << 52) + foreign;
	NEED(wh_client_submit(acme, "then", &payload, &options, &how), -WH_ECALL_REFUSED);
	memcpy(code, problem.code, sizeof(code));
	assert_string_equal(code, "unknown-awaited");
	snprintf(expected, sizeof(expected), "queue 'then': after=%" PRIu64, foreign);
	ids[1] = foreign;
	NEED(wh_client_submit(acme, "then", &payload, &options, &how), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, code);
	assert_memory_equal(problem.detail, expected, strlen(expected));
	NEED(wh_client_cancel(acme, mine, &how), WH_JOB_CANCELLED);
	look = NEED(wh_client_look(acme, then, &how), WH_JOB_READY);
	wh_job_free(look);
}

static void transactions(void **state)
{
	uint64_t foreign = submit(bolt, "a", NULL), refs[2] = {WH_AFTER_ACTION(0), submit(acme, "b", NULL)};
	struct wh_event event = {.type = "t", .data = payload};
	struct wh_action actions[3] = {
		{.kind = WH_ACTION_SUBMIT, .queue = "b"},
		{.kind = WH_ACTION_PUBLISH, .queue = "news", .event = &event},
		{.kind = WH_ACTION_SUBMIT, .queue = "then", .options = {.after = refs, .after_count = 2}}};
	struct wh_subscription subscription = {.queue = "told"};
	struct wh_transaction *done;
	struct wh_queues *queues;
	struct wh_leases *leases;

	(void)state;
	NEED(wh_client_topic_put(acme, "news", NULL, &how), 1);
	NEED(wh_client_subscribe(acme, "news", "all", &subscription, &how), 1);
	done = NEED(wh_client_transact(acme, actions, 3, &how), 3);
	assert_int_equal(done->results[2].state, WH_JOB_AWAITING);
	wh_transaction_free(done);
	leases = NEED(wh_client_reserve(acme, "told", 1, 0, &how), 1);
	wh_leases_free(leases);
	refs[1] = foreign;
	NEED(wh_client_transact(acme, actions, 3, &how), -WH_ECALL_REFUSED);
	assert_string_equal(problem.code, "unknown-awaited");
	assert_int_equal(problem.action, 2);
	queues = NEED(wh_client_queues(acme, "told", &how), 1);
	assert_int_equal(queues->queues[0].submitted, 1);
	wh_queues_free(queues);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
	static const struct CMUnitTest tests[] = {ONE(after_others), ONE(transactions)};
	int failed;

	if (!mkdtemp(folder))
		return 1;
	snprintf(tokens, sizeof(tokens), "%s/tokens", folder);
	make_token("acme", acme_token);
	make_token("bolt", bolt_token);
	server.more[0] = "--tokens";
	server.more[1] = tokens;
	server_start(&server);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_remove(&server);
	unlink(tokens);
	rmdir(folder);
	return failed;
}
