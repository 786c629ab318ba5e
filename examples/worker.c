/* worker.c -- a worker for a queue of a whilst server: each job is a task, eight at a time, until it is told to stop.
 *
 *   worker [--server URL] QUEUE
 *
 * The result of a job is its text in capitals; "fail" in it makes the job fail. SIGINT and SIGTERM let what runs finish, and then end
 * the program: no job is lost, and none is leased that nobody does.
 */
#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/client.h>

/* Runs as a task: it may wait for anything, and the other jobs go on. */
static void do_job(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	wh_loop *loop = arg;
	struct wh_slice text = leased->payload;
	struct wh_payload result = {0};
	char *capitals;

	if (wh_await(wh_sleep(loop, 20 * WH_NS_PER_MS)).n < 0) /* the work; cancelled if the job is */
		goto give_up;
	if (text.len >= 4 && memcmp(text.data, "fail", 4) == 0) {
		wh_await(wh_worker_fail(job, "it says that it fails", WH_RETRY_NEVER));
		return;
	}
	capitals = malloc(text.len + 1);
	if (!capitals)
		goto give_up;
	for (size_t i = 0; i < text.len; i++)
		capitals[i] = (char)toupper((unsigned char)text.data[i]);
	result.bytes = capitals;
	result.len = text.len;
	result.type = "text/plain";
	result.release = free; /* rather than a copy: it is freed when it is sent */
	result.release_arg = capitals;
	printf("job %" PRIu64 ", attempt %u\n", leased->lease.job, leased->attempt);
	fflush(stdout);
	wh_await(wh_worker_complete(job, 200, &result));
	return;
give_up:
	wh_await(wh_worker_release(job, 0)); /* somebody else does it */
}

static void on_trouble(wh_worker *worker, const struct wh_problem *problem, void *arg)
{
	(void)worker, (void)arg;
	fprintf(stderr, "no jobs for now: %s\n", problem->detail); /* it is tried again by itself */
}

static int work(wh_loop *loop, wh_client *client, const char *queue)
{
	struct wh_worker_options options = {0};
	wh_future signals[2];
	wh_worker *worker;
	int error;

	options.queue = queue;
	options.jobs_max = 8;
	options.on_job = do_job;
	options.on_trouble = on_trouble;
	options.arg = loop;
	options.task = true;
	error = wh_worker_open(client, &options, &worker);
	if (error < 0)
		return error;
	signals[0] = wh_signal(loop, SIGINT);
	signals[1] = wh_signal(loop, SIGTERM);
	printf("working\n");
	fflush(stdout);
	wh_await(wh_any(loop, signals, 2, NULL)); /* the loop turns, and jobs are done, until one comes */
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
	if (argc != first + 1) {
		fprintf(stderr, "usage: worker [--server URL] QUEUE\n");
		return 2;
	}
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
		fprintf(stderr, "worker: %s\n", wh_strerror(error));
	return error < 0;
}
