/* splitter.c -- a step of a chain: each job of a queue ends, and its successors begin, in one transaction.
 *
 *   splitter [--server URL] QUEUE NEXT
 *
 * A job's text is taken apart: each word becomes a job of the queue NEXT, and the result is their number. Kill the program or the server
 * when you like: no word is lost, and none is there twice. SIGINT and SIGTERM let what runs finish.
 */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/client.h>

enum { WORDS_MAX = 1000 };

static const char *next;

/* The job's end and its successors, all or none. */
static void split(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	struct wh_action *actions = calloc(1 + WORDS_MAX, sizeof(*actions));
	const char *text = leased->payload.data, *end = text + leased->payload.len;
	char result[16];
	size_t count = 1;

	(void)arg;
	if (!actions) {
		wh_detach(wh_worker_release(job, 0));
		return;
	}
	while (text < end && count <= WORDS_MAX) {
		const char *from = text;

		while (text < end && !isspace((unsigned char)*text))
			text++;
		if (text > from) {
			actions[count].kind = WH_ACTION_SUBMIT;
			actions[count].queue = next;
			actions[count].payload.bytes = from;
			actions[count].payload.len = (size_t)(text - from);
			actions[count++].payload.type = "text/plain";
		}
		text++;
	}
	actions[0].kind = WH_ACTION_COMPLETE;
	actions[0].lease = leased->lease; /* which fences: who was too slow adds nothing */
	actions[0].payload.bytes = result;
	actions[0].payload.len = (size_t)snprintf(result, sizeof(result), "%zu", count - 1);
	actions[0].payload.type = "text/plain";
	wh_detach(wh_worker_transact(job, actions, count));
	free(actions);
}

static int work(wh_loop *loop, wh_client *client, const char *queue)
{
	struct wh_worker_options options = {0};
	wh_future signals[2];
	wh_worker *worker;
	int error;

	options.queue = queue;
	options.jobs_max = 8;
	options.on_job = split;
	error = wh_worker_open(client, &options, &worker);
	if (error < 0)
		return error;
	signals[0] = wh_signal(loop, SIGINT);
	signals[1] = wh_signal(loop, SIGTERM);
	printf("working\n");
	fflush(stdout);
	wh_await(wh_any(loop, signals, 2, NULL));
	error = (int)wh_await(wh_worker_drain(worker)).n;
	printf("done\n");
	wh_worker_close(worker);
	return error;
}

int main(int argc, char **argv)
{
	struct wh_client_options options = {0};
	wh_client *client;
	wh_loop *loop;
	int first = 1, error;

	if (argc > 2 && strcmp(argv[1], "--server") == 0) {
		options.server = argv[2];
		first = 3;
	}
	if (argc != first + 2) {
		fprintf(stderr, "usage: splitter [--server URL] QUEUE NEXT\n");
		return 2;
	}
	next = argv[first + 1];
	error = wh_loop_open(&loop, NULL);
	if (error == 0) {
		error = wh_client_open(loop, &options, &client);
		if (error == 0) {
			error = work(loop, client, argv[first]);
			wh_client_close(client);
		}
		wh_loop_close(loop);
	}
	if (error < 0)
		fprintf(stderr, "splitter: %s\n", wh_strerror(error));
	return error < 0;
}
