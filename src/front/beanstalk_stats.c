/* src/front/beanstalk_stats.c -- statistics and lists of the beanstalkd protocol: YAML with beanstalkd's keys in its order,
 * about our store. Thread: loop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "deliver/service.h"
#include "front/beanstalk_inside.h"

enum { PROC_BYTES = 1024, TICKS_PER_SECOND = 100 /* USER_HZ of every Linux */ };

typedef unsigned long long ull;

/* "OK bytes\r\n", the text, "\r\n" */
static void reply_yaml(struct beanstalk_connection *c, struct wh__text *text)
{
	char head[40];

	if (text->failed) {
		BEANSTALK_REPLY(c, "OUT_OF_MEMORY");
	} else {
		int len = snprintf(head, sizeof(head), "OK %zu\r\n", text->len);

		beanstalk_reply(c, head, (size_t)len);
		beanstalk_reply(c, text->data, text->len);
		beanstalk_reply(c, "\r\n", 2);
	}
	wh__text_done(text);
}

static uint64_t unfinished(const struct store_queue_view *view)
{
	return view->jobs[JOB_READY] + view->jobs[JOB_DELAYED] + view->jobs[JOB_RUNNING] +
	       view->jobs[JOB_BURIED] + view->jobs[JOB_AWAITING];
}

bool beanstalk_queue_shown(const struct store_queue_view *view)
{
	return (unfinished(view) > 0 || !view->implicit) &&
	       !service_owns_queue(view->name.data, view->name.len) &&
	       job_name_skip(view->name.data, view->name.len) == 0; /* of a namespace: see is_servers() */
}

/* ---- stats -------------------------------------------------------------------------------- */

/* Segments are counted from 0, beanstalkd's files from 1: there 0 means that a job is in no file. */

static const char *platform(void)
{
#if defined(__x86_64__)
	return "x86_64";
#elif defined(__aarch64__)
	return "aarch64";
#elif defined(__riscv)
	return "riscv64";
#else
	return "unknown";
#endif
}

/* The process's id and CPU time out of /proc/self/stat: "pid (name) state ..."; the name may hold anything. */
static void read_proc(const char *text, ull *ret_pid, ull *ret_user, ull *ret_system)
{
	const char *end = strrchr(text, ')');

	*ret_pid = *ret_user = *ret_system = 0;
	if (!end)
		return;
	*ret_pid = strtoull(text, NULL, 10);
	/* utime and stime are the 12th and 13th field after the name */
	for (int field = 0; field < 12 && end; field++)
		end = strchr(end + 1, ' ');
	if (end) {
		char *rest;

		*ret_user = strtoull(end, &rest, 10);
		*ret_system = strtoull(rest, NULL, 10);
	}
}

static uint64_t count_tubes(struct beanstalk *front, const struct store_queues *queues)
{
	uint64_t count = front->tubes_count;

	for (size_t i = 0; queues && i < queues->count; i++) {
		const struct store_queue_view *view = &queues->queues[i];

		count += beanstalk_queue_shown(view) &&
		         !beanstalk_tube_find(front, view->name.data, view->name.len);
	}
	return count;
}

/* What is in memory is ready at once: no wait, no turn. */
static struct store_queues *queues_now(struct beanstalk *front)
{
	wh_res res;

	if (!wh_poll(store_queues(front->store), &res))
		return NULL;
	return res.n >= 0 ? res.ptr : NULL;
}

static void put_jobs(struct wh__text *text, const uint64_t jobs[JOB_STATES], uint64_t urgent)
{
	wh__text_format(text,
	                "current-jobs-urgent: %llu\ncurrent-jobs-ready: %llu\ncurrent-jobs-reserved: %llu\n"
	                "current-jobs-delayed: %llu\ncurrent-jobs-buried: %llu\n",
	                (ull)urgent, (ull)jobs[JOB_READY], (ull)jobs[JOB_RUNNING],
	                (ull)jobs[JOB_DELAYED] + (ull)jobs[JOB_AWAITING], (ull)jobs[JOB_BURIED]);
}

static void put_commands(struct wh__text *text, const uint64_t commands[BEANSTALK_KINDS])
{
	static const uint8_t order[] = {BEANSTALK_PUT,
	                                BEANSTALK_PEEK,
	                                BEANSTALK_PEEK_READY,
	                                BEANSTALK_PEEK_DELAYED,
	                                BEANSTALK_PEEK_BURIED,
	                                BEANSTALK_RESERVE,
	                                BEANSTALK_RESERVE_TIMEOUT,
	                                BEANSTALK_DELETE,
	                                BEANSTALK_RELEASE,
	                                BEANSTALK_USE,
	                                BEANSTALK_WATCH,
	                                BEANSTALK_IGNORE,
	                                BEANSTALK_BURY,
	                                BEANSTALK_KICK,
	                                BEANSTALK_TOUCH,
	                                BEANSTALK_STATS,
	                                BEANSTALK_STATS_JOB,
	                                BEANSTALK_STATS_TUBE,
	                                BEANSTALK_LIST_TUBES,
	                                BEANSTALK_LIST_TUBE_USED,
	                                BEANSTALK_LIST_TUBES_WATCHED,
	                                BEANSTALK_PAUSE_TUBE};

	for (size_t i = 0; i < sizeof(order); i++) {
		const char *name = beanstalk_name(order[i]);

		wh__text_format(text, "cmd-%.*s: %llu\n", (int)strcspn(name, " "), name,
		                (ull)commands[order[i]]);
	}
}

static void put_connections(struct wh__text *text, const struct beanstalk *front)
{
	uint64_t producers = 0, workers = 0;

	for (const struct beanstalk_connection *c = front->connections; c; c = c->next) {
		producers += c->producer && !c->closed;
		workers += c->worker && !c->closed;
	}
	wh__text_format(text,
	                "current-connections: %u\ncurrent-producers: %llu\ncurrent-workers: %llu\n"
	                "current-waiting: %llu\ntotal-connections: %llu\n",
	                front->connections_count, (ull)producers, (ull)workers, (ull)front->waiting,
	                (ull)front->connections_total);
}

static void put_system(struct wh__text *text, const struct beanstalk *front, const struct store_stats *stats,
                       const char *proc)
{
	ull pid, user, system;

	read_proc(proc, &pid, &user, &system);
	wh__text_format(text,
	                "pid: %llu\nversion: \"%s\"\nrusage-utime: %llu.%06llu\nrusage-stime: %llu.%06llu\n",
	                pid, wh_version(), user / TICKS_PER_SECOND,
	                user % TICKS_PER_SECOND * (1000000 / TICKS_PER_SECOND), system / TICKS_PER_SECOND,
	                system % TICKS_PER_SECOND * (1000000 / TICKS_PER_SECOND));
	wh__text_format(text,
	                "uptime: %llu\nbinlog-oldest-index: %llu\nbinlog-current-index: %llu\n"
	                "binlog-records-migrated: 0\nbinlog-records-written: %llu\nbinlog-max-size: %llu\n",
	                (ull)((wh_now(front->loop) - front->opened_at) / WH_NS_PER_S),
	                (ull)stats->segment_oldest + 1, (ull)stats->segment_newest + 1, (ull)stats->records,
	                (ull)stats->segment_bytes);
	wh__text_format(text, "draining: %s\nid: %s\nhostname: \"%s\"\nos: \"%s\"\nplatform: \"%s\"\n",
	                front->refusing ? "true" : "false", front->id, front->host_name, front->host_version,
	                platform());
}

static void answer_stats(struct beanstalk_connection *c, struct beanstalk_op *op)
{
	struct beanstalk *front = c->front;
	struct store_queues *queues = queues_now(front);
	struct store_stats stats;
	struct wh__text text;
	char given[2048];

	op->memory[op->res.n > 0 ? op->res.n : 0] = 0;
	store_stats(front->store, &stats);
	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "---\n");
	put_jobs(&text, stats.jobs, stats.urgent);
	put_commands(&text, front->commands);
	wh__text_format(&text,
	                "job-timeouts: %llu\ntotal-jobs: %llu\nmax-job-size: %u\ncurrent-tubes: %llu\n",
	                (ull)stats.timeouts, (ull)stats.submitted, front->options.job_bytes_max,
	                (ull)count_tubes(front, queues));
	put_connections(&text, front);
	put_system(&text, front, &stats, op->memory);
	reply_yaml(c, &text);
	store_queues_free(queues);
	free(op->memory);
}

void beanstalk_stats(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;
	struct beanstalk_op *op = beanstalk_op_new(c, BEANSTALK_STATS, 0);
	char *memory = malloc(PROC_BYTES + 1);

	if (!op || !memory) {
		beanstalk_op_abandon(op);
		free(memory);
		BEANSTALK_REPLY(c, "OUT_OF_MEMORY");
		return;
	}
	op->memory = memory;
	beanstalk_op_start(op, front->proc_fd >= 0
	                               ? wh_pread(front->loop, front->proc_fd, memory, PROC_BYTES, 0)
	                               : wh_failed(front->loop, front->proc_fd));
}

/* ---- stats-tube --------------------------------------------------------------------------- */

void beanstalk_stats_tube(struct beanstalk_connection *c, const char *name, size_t len)
{
	struct beanstalk *front = c->front;
	const struct beanstalk_tube *tube = beanstalk_tube_find(front, name, len);
	struct store_queue_view view = {0};
	struct wh__text text;
	char given[1024];
	bool known = store_queue_now(front->store, (struct store_slice){name, len}, &view) == 0;

	if (!tube && (!known || !beanstalk_queue_shown(&view))) {
		BEANSTALK_REPLY(c, "NOT_FOUND");
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	wh__text_format(&text, "---\nname: \"%.*s\"\n", (int)len, name);
	put_jobs(&text, view.jobs, view.urgent);
	wh__text_format(&text,
	                "total-jobs: %llu\ncurrent-using: %u\ncurrent-watching: %u\ncurrent-waiting: %llu\n"
	                "cmd-delete: %llu\ncmd-pause-tube: %llu\npause: %llu\npause-time-left: %llu\n",
	                (ull)view.submitted, tube ? tube->using : 0,
	                tube ? tube->watching - (tube == front->tube_default) : 0, (ull)view.waiting,
	                (ull)view.completed + (ull)view.cancelled, (ull)view.pauses,
	                (ull)(view.pause_ns / WH_NS_PER_S), (ull)(view.pause_left_ns / WH_NS_PER_S));
	reply_yaml(c, &text);
}

/* ---- stats-job ---------------------------------------------------------------------------- */

void beanstalk_stats_job(struct beanstalk_connection *c, uint64_t job)
{
	struct beanstalk_op *op;

	if (!beanstalk_job_shown(c->front, job)) {
		BEANSTALK_REPLY(c, "NOT_FOUND");
		return;
	}
	op = beanstalk_op_new(c, BEANSTALK_STATS_JOB, 0);
	if (op)
		beanstalk_op_start(op, store_get(c->front->store, job, c->front->options.level));
}

static ull seconds(int64_t ns)
{
	return ns > 0 ? (ull)(ns / WH_NS_PER_S) : 0;
}

static void answer_stats_job(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	static const char *const states[JOB_STATES] = {
		[JOB_DELAYED] = "delayed",
		[JOB_READY] = "ready",
		[JOB_RUNNING] = "reserved",
		[JOB_BURIED] = "buried",
		/* the protocol has no word for it: not to be reserved yet */
		[JOB_AWAITING] = "delayed"};
	struct store_view *view = op->res.n >= 0 ? op->res.ptr : NULL;
	int64_t now = wh_wall_now(c->front->loop), left = 0;
	struct wh__text text;
	char given[1024];

	if (!view || !states[view->state]) {
		store_view_free(view);
		BEANSTALK_REPLY(c, "NOT_FOUND");
		return;
	}
	if (view->state == JOB_RUNNING)
		left = view->deadline - now;
	else if (view->state == JOB_DELAYED)
		left = view->run_at - now;
	wh__text_init(&text, given, sizeof(given));
	wh__text_format(
		&text,
		"---\nid: %llu\ntube: \"%.*s\"\nstate: %s\npri: %u\nage: %llu\ndelay: %llu\nttr: %llu\n"
		"time-left: %llu\nfile: %llu\nreserves: %u\ntimeouts: %u\nreleases: %u\nburies: %u\n"
		"kicks: %u\n",
		(ull)view->job, (int)view->queue.len, (const char *)view->queue.data, states[view->state],
		view->priority, seconds(now - view->created_at), seconds(view->delay_ns + WH_NS_PER_S / 2),
		seconds(view->time_to_run_ns), seconds(left),
		(ull)store_segment(c->front->store, view->job) + 1, view->reserves, view->timeouts,
		view->releases, view->buries, view->kicks);
	reply_yaml(c, &text);
	store_view_free(view);
}

void beanstalk_stats_answer(struct beanstalk_connection *c, struct beanstalk_op *op)
{
	if (op->kind == BEANSTALK_STATS)
		answer_stats(c, op);
	else
		answer_stats_job(c, op);
}

/* ---- lists -------------------------------------------------------------------------------- */

static void put_item(struct wh__text *text, const void *name, size_t len)
{
	wh__text_put(text, "- ", 2);
	wh__text_put(text, name, len);
	wh__text_put(text, "\n", 1);
}

void beanstalk_list_tubes(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;
	struct store_queues *queues = queues_now(front);
	struct wh__text text;
	char given[2048];

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "---\n");
	for (const struct beanstalk_tube *tube = front->tubes_first; tube; tube = tube->next)
		put_item(&text, tube->name, tube->len);
	for (size_t i = 0; queues && i < queues->count; i++) {
		const struct store_queue_view *view = &queues->queues[i];

		if (beanstalk_queue_shown(view) &&
		    !beanstalk_tube_find(front, view->name.data, view->name.len))
			put_item(&text, view->name.data, view->name.len);
	}
	reply_yaml(c, &text);
	store_queues_free(queues);
}

void beanstalk_list_watched(struct beanstalk_connection *c)
{
	struct wh__text text;
	char given[2048];

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "---\n");
	for (uint32_t i = 0; i < c->watch_count; i++)
		put_item(&text, c->watch[i]->name, c->watch[i]->len);
	reply_yaml(c, &text);
}
