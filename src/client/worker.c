/* src/client/worker.c -- a worker: leases jobs of a queue and has a function of the user's do them.
 *
 * One reservation is under way at a time, for as many jobs as there is room; it waits at the server. Each job has a timer that extends its
 * lease at a third of its time to run. A job counts until the server has answered how it ended, so that drained means answered.
 *
 * Thread: loop.  Memory: a worker goes when it is closed and its jobs are finished; the jobs of one answer share its bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

#define PAUSE_NS     (100 * WH_NS_PER_MS)
#define PAUSE_MAX_NS (10 * WH_NS_PER_S)

enum { JOBS_MAX = 1000 };

/* What jobs were leased together. */
struct lot {
	struct wh_leases *leases;
	size_t references;
};

struct wh_worker_job {
	struct wh_worker_job *next, **list; /* unfinished ones of the worker */
	wh_worker *worker;
	struct lot *lot;
	const struct wh_leased *leased;
	struct wh__op *op; /* the future of its end; NULL: nobody waits for it */
	wh_future beat;    /* the pause before an extension, or that; id 0: none */
	wh_future task;
	int64_t outcome;     /* of a result that was too large */
	uint32_t references; /* until the end is answered; the beat; the task */
	bool finished, lost, too_large, task_began;
};

struct wh_worker {
	wh_client *client;
	wh_loop *loop;
	struct wh_worker_options options;
	char *queue;
	struct wh_worker_job *jobs;
	struct wh__op *drain;
	wh_future leasing; /* the reservation, or the pause before it; id 0: neither */
	struct wh_problem problem;
	uint32_t in_flight, references /* the user, jobs, leasing */, failures;
	bool draining, closed;
};

static void lease_more(wh_worker *worker);

/* ---- life ---------------------------------------------------------------------------------- */

static void unref_worker(wh_worker *worker)
{
	wh_client *client = worker->client;

	if (--worker->references > 0)
		return;
	free(worker->queue);
	free(worker);
	wh__client_unref(client);
}

static void unref_lot(struct lot *lot)
{
	if (--lot->references > 0)
		return;
	wh_leases_free(lot->leases);
	free(lot);
}

static void unref_job(wh_worker_job *job)
{
	wh_worker *worker = job->worker;

	if (--job->references > 0)
		return;
	unref_lot(job->lot);
	free(job);
	unref_worker(worker);
}

static void look_whether_drained(wh_worker *worker)
{
	struct wh__op *op = worker->drain;

	if (!op || worker->in_flight > 0 || worker->leasing.id != 0)
		return;
	worker->drain = NULL;
	wh__op_complete(op, 0, NULL);
}

/* ---- the end of a job ---------------------------------------------------------------------- */

static void ended(wh_worker_job *job, int64_t n)
{
	wh_worker *worker = job->worker;

	if (job->op)
		wh__op_complete(job->op, n, NULL);
	job->op = NULL;
	worker->in_flight--;
	worker->references++; /* the job may have been the last to hold it */
	unref_job(job);
	look_whether_drained(worker);
	lease_more(worker);
	unref_worker(worker);
}

static void on_told(wh_loop *loop, wh_res res, void *arg);

static void tell(wh_worker_job *job, wh_future f)
{
	if (wh_then(f, on_told, job) != 0)
		ended(job, -ENOMEM);
}

static void on_told(wh_loop *loop, wh_res res, void *arg)
{
	wh_worker_job *job = arg;

	(void)loop;
	wh_transaction_free(res.ptr);
	if (job->too_large) {
		ended(job, -WH_ECALL_TOO_LARGE);
	} else if (res.n == -WH_ECALL_TOO_LARGE) {
		/* it would be too large the next time as well */
		job->too_large = true;
		tell(job, wh_client_fail(job->worker->client, job->leased->lease, "the result is too large",
		                         WH_RETRY_NEVER, &job->worker->options.how));
	} else {
		ended(job, res.n);
	}
}

static void end_cancelled(struct wh__op *op)
{
	wh_worker_job *job = op->buf; /* what was said to the server stays said */

	job->op = NULL;
	wh__op_complete(op, -ECANCELED, NULL);
}

/* The job leaves the user's hands. *ret_f: what he gets. false: there is nobody to tell. */
static bool finish(wh_worker_job *job, wh_future *ret_f)
{
	wh_worker *worker = job->worker;

	assert(!job->finished);
	job->finished = true;
	*job->list = job->next;
	if (job->next)
		job->next->list = job->list;
	wh_cancel(job->beat);
	if (job->lost) {
		*ret_f = wh_failed(worker->loop, -WH_ECALL_LEASE_LOST);
		ended(job, 0);
		return false;
	}
	job->op = wh__begin(worker->loop, WH__OP_CALL, ret_f);
	if (!job->op) { /* it is told all the same */
		(void)wh_drop(*ret_f);
		*ret_f = wh_failed(worker->loop, -WH_ECALL_UNKNOWN);
		return true;
	}
	job->op->buf = job;
	job->op->cancel_inner = end_cancelled;
	*ret_f = wh__op_future(job->op);
	return true;
}

wh_future wh_worker_complete(wh_worker_job *job, int status, const struct wh_payload *result)
{
	wh_future f;

	if (finish(job, &f))
		tell(job, wh_client_complete(job->worker->client, job->leased->lease, status, result,
		                             &job->worker->options.how));
	else
		wh__payload_release(result);
	return f;
}

wh_future wh_worker_fail(wh_worker_job *job, const char *text, int64_t delay_ns)
{
	wh_future f;

	if (finish(job, &f))
		tell(job, wh_client_fail(job->worker->client, job->leased->lease, text, delay_ns,
		                         &job->worker->options.how));
	return f;
}

wh_future wh_worker_release(wh_worker_job *job, int64_t delay_ns)
{
	wh_future f;

	if (finish(job, &f))
		tell(job, wh_client_release(job->worker->client, job->leased->lease, delay_ns, NULL,
		                            &job->worker->options.how));
	return f;
}

wh_future wh_worker_bury(wh_worker_job *job, const char *text)
{
	wh_future f;

	if (finish(job, &f))
		tell(job, wh_client_bury(job->worker->client, job->leased->lease, text, NULL,
		                         &job->worker->options.how));
	return f;
}

wh_future wh_worker_transact(wh_worker_job *job, const struct wh_action *actions, size_t count)
{
	wh_future f;

	if (finish(job, &f))
		tell(job, wh_client_transact(job->worker->client, actions, count, &job->worker->options.how));
	return f;
}

bool wh_worker_lost(const wh_worker_job *job)
{
	return job->lost;
}

const struct wh_leased *wh_worker_leased(const wh_worker_job *job)
{
	return job->leased;
}

/* ---- leases last --------------------------------------------------------------------------- */

static void on_beat(wh_loop *loop, wh_res res, void *arg);

/* Takes the reference of the beat. */
static void beat(wh_worker_job *job, wh_future f, wh_callback *callback)
{
	job->beat = f;
	if (wh_then(f, callback, job) == 0)
		return;
	job->beat.id = 0;
	unref_job(job); /* without memory the lease passes, and the job comes again */
}

static bool is_lost(int64_t error)
{
	switch (-error) {
	case WH_ECALL_LEASE_LOST:
	case WH_ECALL_JOB_CANCELLED:
	case WH_ECALL_JOB_FINISHED:
	case WH_ECALL_WRONG_STATE:
	case WH_ECALL_UNKNOWN_JOB:
	case WH_ECALL_EXPIRED:
		return true;
	default:
		return false;
	}
}

static void pause_beat(wh_worker_job *job)
{
	beat(job, wh_sleep(job->worker->loop, job->leased->time_to_run_ns / 3), on_beat);
}

static void on_extended(wh_loop *loop, wh_res res, void *arg)
{
	wh_worker_job *job = arg;
	wh_worker *worker = job->worker;

	(void)loop;
	job->beat.id = 0;
	if (!job->finished && is_lost(res.n)) {
		job->lost = true;
		wh_cancel(job->task);
		if (worker->options.on_lost)
			worker->options.on_lost(job, job->leased, worker->options.arg);
	} else if (!job->finished && !worker->closed && res.n != -ECANCELED) {
		pause_beat(job); /* no answer: the server may be back before the lease passes */
		return;
	}
	unref_job(job);
}

static void on_beat(wh_loop *loop, wh_res res, void *arg)
{
	wh_worker_job *job = arg;
	wh_worker *worker = job->worker;
	struct wh_how how = {.timeout_ns = job->leased->time_to_run_ns / 3};

	(void)loop;
	job->beat.id = 0;
	if (res.n < 0 || job->finished || worker->closed)
		unref_job(job);
	else
		beat(job, wh_client_extend(worker->client, job->leased->lease, 0, &how), on_extended);
}

/* ---- jobs begin ---------------------------------------------------------------------------- */

static int64_t run_task(void *arg)
{
	wh_worker_job *job = arg;
	const struct wh_worker_options *options = &job->worker->options;

	job->task_began = true;
	options->on_job(job, job->leased, options->arg);
	return 0;
}

static void on_task_ended(wh_loop *loop, wh_res res, void *arg)
{
	wh_worker_job *job = arg;

	(void)loop;
	(void)res;
	job->task.id = 0;
	if (!job->finished && job->task_began)
		(void)wh_detach(wh_worker_fail(job, "the worker returned without an end of the job",
		                               WH_RETRY_BACKOFF));
	else if (!job->finished)
		(void)wh_detach(wh_worker_release(job, 0));
	unref_job(job);
}

static void begin_task(wh_worker_job *job)
{
	struct wh_task_options options = {.name = "job", .stack_bytes = job->worker->options.stack_bytes};

	job->references++;
	job->task = wh_go_with(job->worker->loop, run_task, job, &options);
	if (wh_then(job->task, on_task_ended, job) != 0)
		on_task_ended(job->worker->loop, (wh_res){-ENOMEM, NULL}, job);
}

static wh_worker_job *new_job(wh_worker *worker, struct lot *lot, const struct wh_leased *leased)
{
	wh_worker_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->worker = worker;
	job->lot = lot;
	job->leased = leased;
	job->references = 1;
	lot->references++;
	worker->references++;
	worker->in_flight++;
	job->next = worker->jobs;
	job->list = &worker->jobs;
	if (job->next)
		job->next->list = &job->next;
	worker->jobs = job;
	return job;
}

/* What cannot be begun goes back at once rather than when its lease has passed. */
static void give_back(wh_worker *worker, const struct wh_leased *leased)
{
	(void)wh_detach(wh_client_release(worker->client, leased->lease, 0, NULL, NULL));
}

static void begin_jobs(wh_worker *worker, struct wh_leases *leases)
{
	struct lot *lot = malloc(sizeof(*lot));

	if (lot)
		*lot = (struct lot){leases, 1};
	for (size_t i = 0; i < leases->count; i++) {
		const struct wh_leased *leased = &leases->jobs[i];
		wh_worker_job *job = lot && !worker->draining ? new_job(worker, lot, leased) : NULL;

		if (!job) {
			give_back(worker, leased);
			continue;
		}
		job->references++;
		pause_beat(job);
		if (worker->options.task)
			begin_task(job);
		else
			worker->options.on_job(job, leased, worker->options.arg);
	}
	if (lot)
		unref_lot(lot);
	else
		wh_leases_free(leases);
}

/* ---- leasing ------------------------------------------------------------------------------- */

static void on_leased(wh_loop *loop, wh_res res, void *arg);

/* Takes a reference of the worker. */
static void pend(wh_worker *worker, wh_future f, wh_callback *callback)
{
	worker->references++;
	worker->leasing = f;
	if (wh_then(f, callback, worker) == 0)
		return;
	worker->leasing.id = 0; /* without memory: it goes on with the next job that ends */
	look_whether_drained(worker);
	unref_worker(worker);
}

static void on_paused(wh_loop *loop, wh_res res, void *arg)
{
	wh_worker *worker = arg;

	(void)loop;
	worker->leasing.id = 0;
	if (res.n >= 0)
		lease_more(worker);
	look_whether_drained(worker);
	unref_worker(worker);
}

static void lease_later(wh_worker *worker)
{
	int64_t pause_ns = worker->failures < 7 ? PAUSE_NS << worker->failures : PAUSE_MAX_NS;

	worker->failures++;
	pend(worker, wh_sleep(worker->loop, pause_ns), on_paused);
}

static void on_leased(wh_loop *loop, wh_res res, void *arg)
{
	wh_worker *worker = arg;

	(void)loop;
	worker->leasing.id = 0;
	if (res.n > 0) {
		worker->failures = 0;
		begin_jobs(worker, res.ptr);
	} else if (res.n < 0 && res.n != -ECANCELED && !worker->draining) {
		if (worker->options.on_trouble)
			worker->options.on_trouble(worker, &worker->problem, worker->options.arg);
		if (!worker->draining)
			lease_later(worker);
	}
	if (res.n >= 0)
		lease_more(worker);
	look_whether_drained(worker);
	unref_worker(worker);
}

static void lease_more(wh_worker *worker)
{
	struct wh_how how = {.problem = &worker->problem};
	uint32_t room = worker->options.jobs_max - worker->in_flight;

	if (worker->draining || worker->leasing.id != 0 || worker->in_flight >= worker->options.jobs_max)
		return;
	pend(worker, wh_client_reserve(worker->client, worker->queue, room, WH_FOR_EVER, &how), on_leased);
}

/* ---- open, drain, close -------------------------------------------------------------------- */

int wh_worker_open(wh_client *client, const struct wh_worker_options *options, wh_worker **ret)
{
	wh_worker *worker;

	if (!options || !options->queue || !*options->queue || !options->on_job ||
	    options->jobs_max > JOBS_MAX)
		return -EINVAL;
	worker = calloc(1, sizeof(*worker));
	if (!worker)
		return -ENOMEM;
	worker->queue = strdup(options->queue);
	if (!worker->queue) {
		free(worker);
		return -ENOMEM;
	}
	worker->options = *options;
	worker->options.queue = NULL;
	worker->options.how.receipt = NULL; /* those of many jobs would write over each other */
	worker->options.how.problem = NULL;
	if (worker->options.jobs_max == 0)
		worker->options.jobs_max = 1;
	worker->client = client;
	worker->loop = client->loop;
	worker->references = 1;
	client->references++;
	*ret = worker;
	lease_more(worker);
	return 0;
}

static void drain_cancelled(struct wh__op *op)
{
	wh_worker *worker = op->buf;

	worker->drain = NULL;
	wh__op_complete(op, -ECANCELED, NULL);
}

wh_future wh_worker_drain(wh_worker *worker)
{
	wh_future f;
	struct wh__op *op;

	if (worker->draining)
		return wh_failed(worker->loop, -EALREADY);
	op = wh__begin(worker->loop, WH__OP_CALL, &f);
	if (!op)
		return f;
	op->buf = worker;
	op->cancel_inner = drain_cancelled;
	f = wh__op_future(op);
	worker->drain = op;
	worker->draining = true;
	wh_cancel(worker->leasing);
	look_whether_drained(worker);
	return f;
}

wh_worker *wh_worker_close(wh_worker *worker)
{
	struct wh__op *op;

	if (!worker)
		return NULL;
	assert(!worker->closed);
	worker->closed = worker->draining = true;
	wh_cancel(worker->leasing);
	for (wh_worker_job *job = worker->jobs; job; job = job->next)
		wh_cancel(job->beat);
	op = worker->drain;
	worker->drain = NULL;
	if (op)
		wh__op_complete(op, -ECANCELED, NULL);
	unref_worker(worker);
	return NULL;
}

uint32_t wh_worker_in_flight(const wh_worker *worker)
{
	return worker->in_flight;
}
