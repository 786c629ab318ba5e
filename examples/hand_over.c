/* hand_over.c -- hand work over to a whilst server: carry on, then wait for the results.
 *
 *   hand_over [--server URL] QUEUE TEXT...
 *
 * Each TEXT becomes a job, all at once. Then the program waits for all of them, whatever happens to the server meanwhile, and prints
 * what the workers made of them, in order.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/client.h>

struct errand {
	const char *text;
	wh_future future;          /* the submit, then the wait for its result */
	struct wh_receipt receipt; /* filled once the job is on the server's disk */
	struct wh_problem problem; /* filled if something goes wrong */
};

/* Told as it is: a submit whose answer is lost has made a job or not, and to submit again might make two. */
static void complain(const struct errand *e, int64_t error)
{
	if (error == -WH_ECALL_UNKNOWN)
		printf("%s: handed over or not, nobody knows: %s\n", e->text, e->problem.detail);
	else if (e->receipt.job > 0)
		printf("%s: job %" PRIu64 ": %s\n", e->text, e->receipt.job, e->problem.detail);
	else
		printf("%s: not handed over: %s\n", e->text, e->problem.detail);
}

static void submit(wh_client *client, const char *queue, struct errand *e)
{
	struct wh_payload payload = {0};
	struct wh_how how = {0};

	payload.bytes = e->text;
	payload.len = strlen(e->text);
	payload.type = "text/plain";
	how.receipt = &e->receipt;
	how.problem = &e->problem;
	e->future = wh_client_submit(client, queue, &payload, NULL, &how);
}

static int print_result(struct errand *e, wh_res res)
{
	struct wh_result *result = res.ptr;

	if (res.n < 0) {
		complain(e, res.n);
		return 1;
	}
	printf("%s: %.*s\n", e->text, (int)result->body.len, result->body.data);
	wh_result_free(result);
	return 0;
}

static int hand_over(wh_client *client, const char *queue, struct errand *errands, int count)
{
	int failed = 0;

	for (int i = 0; i < count; i++)
		submit(client, queue, &errands[i]);
	fprintf(stderr, "%d on their way; this line did not wait for any\n", count);
	for (int i = 0; i < count; i++) {
		struct wh_how how = {0};
		wh_res res = wh_await(errands[i].future);

		how.problem = &errands[i].problem;
		if (res.n < 0)
			errands[i].future.id = 0; /* no job to wait for */
		else
			errands[i].future = wh_client_result(client, (uint64_t)res.n, WH_FOR_EVER, &how);
		if (res.n < 0)
			complain(&errands[i], res.n);
	}
	fprintf(stderr, "told of all; waiting for the results\n");
	for (int i = 0; i < count; i++) {
		if (errands[i].future.id != 0)
			failed += print_result(&errands[i], wh_await(errands[i].future));
		else
			failed++;
	}
	return failed;
}

int main(int argc, char **argv)
{
	struct wh_client_options options = {0};
	struct errand *errands;
	wh_client *client;
	wh_loop *loop;
	int first = 1, failed, error;

	if (argc > 2 && strcmp(argv[1], "--server") == 0) {
		options.server = argv[2];
		first = 3;
	}
	if (argc < first + 2) {
		fprintf(stderr, "usage: hand_over [--server URL] QUEUE TEXT...\n");
		return 2;
	}
	errands = calloc((size_t)(argc - first - 1), sizeof(*errands));
	error = errands ? wh_loop_open(&loop, NULL) : -1;
	if (error < 0 || (error = wh_client_open(loop, &options, &client)) < 0) {
		fprintf(stderr, "cannot start: %s\n", wh_strerror(error));
		free(errands);
		return 1;
	}
	for (int i = first + 1; i < argc; i++)
		errands[i - first - 1].text = argv[i];
	failed = hand_over(client, argv[first], errands, argc - first - 1);
	wh_client_close(client);
	wh_loop_close(loop);
	free(errands);
	return failed > 0;
}
