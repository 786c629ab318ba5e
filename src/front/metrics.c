/* src/front/metrics.c -- GET /metrics: Prometheus text 0.0.4.
 *
 * Series are bounded: queues beyond METRICS_QUEUES_MAX are summed up as queue="(other)", a name that no queue can have.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "front/api.h"

enum { METRICS_QUEUES_MAX = 1000 };

static void family(struct wh__text *text, const char *name, const char *type, const char *help)
{
	wh__text_format(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct wh__text *text, const char *name, const char *type, const char *help, uint64_t value)
{
	family(text, name, type, help);
	wh__text_format(text, "%s %llu\n", name, (unsigned long long)value);
}

/* The series of one histogram. shift: of its first bucket; scale: of the unit; first_label: "" or a label with a comma. */
static void put_histogram(struct wh__text *text, const char *name, const char *labels,
                          const struct wh__histogram *h, unsigned shift, double scale)
{
	const char *comma = labels[0] ? "," : "", *open = labels[0] ? "{" : "", *close = labels[0] ? "}" : "";
	uint64_t sum = 0;

	for (unsigned i = 0; i < WH__HISTOGRAM_BUCKETS; i++) {
		sum += h->counts[i];
		if (i + 1 < WH__HISTOGRAM_BUCKETS)
			wh__text_format(text, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", name, labels, comma,
			                (double)(UINT64_C(1) << (i + shift)) / scale,
			                (unsigned long long)sum);
	}
	wh__text_format(text, "%s_bucket{%s%sle=\"+Inf\"} %llu\n%s_sum%s%s%s %.9f\n%s_count%s%s%s %llu\n",
	                name, labels, comma, (unsigned long long)sum, name, open, labels, close,
	                (double)h->sum / scale, name, open, labels, close, (unsigned long long)sum);
}

static void label(struct wh__text *text, const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (value[i] == '\\' || value[i] == '"')
			wh__text_put(text, "\\", 1);
		if (value[i] == '\n')
			wh__text_put(text, "\\n", 2);
		else
			wh__text_put(text, value + i, 1);
	}
}

static const int states[] = {JOB_DELAYED, JOB_READY,     JOB_RUNNING, JOB_DONE,
                             JOB_FAILED,  JOB_CANCELLED, JOB_BURIED,  JOB_AWAITING};
enum { STATES = sizeof(states) / sizeof(states[0]) };

static void put_states(struct wh__text *text, const char *name, size_t len, const uint64_t jobs[JOB_STATES])
{
	for (size_t i = 0; i < STATES; i++) {
		wh__text_str(text, "whilst_jobs{queue=\"");
		label(text, name, len);
		wh__text_format(text, "\",state=\"%s\"} %llu\n", answer_state(states[i]),
		                (unsigned long long)jobs[states[i]]);
	}
}

static void put_queues(struct wh__text *text, const struct store_queues *queues)
{
	struct store_queue_view other = {.name = STORE_SLICE("(other)")};
	size_t shown = queues->count < METRICS_QUEUES_MAX ? queues->count : METRICS_QUEUES_MAX;

	for (size_t i = shown; i < queues->count; i++) {
		other.submitted += queues->queues[i].submitted;
		for (size_t j = 0; j < JOB_STATES; j++)
			other.jobs[j] += queues->queues[i].jobs[j];
	}
	family(text, "whilst_jobs_submitted_total", "counter", "Jobs accepted since the queue was made.");
	for (size_t i = 0; i < shown + (shown < queues->count); i++) {
		const struct store_queue_view *queue = i < shown ? &queues->queues[i] : &other;
		wh__text_str(text, "whilst_jobs_submitted_total{queue=\"");
		label(text, queue->name.data, queue->name.len);
		wh__text_format(text, "\"} %llu\n", (unsigned long long)queue->submitted);
	}
	family(text, "whilst_jobs", "gauge", "Jobs by state.");
	for (size_t i = 0; i < shown + (shown < queues->count); i++) {
		const struct store_queue_view *queue = i < shown ? &queues->queues[i] : &other;
		put_states(text, queue->name.data, queue->name.len, queue->jobs);
	}
}

static const char *const classes[ANSWER_CLASSES] = {
	[ANSWER_SUBMIT] = "class=\"submit\"", [ANSWER_WORK] = "class=\"work\"",
	[ANSWER_READ] = "class=\"read\"",     [ANSWER_CALL] = "class=\"call\"",
	[ANSWER_ADMIN] = "class=\"admin\"",   [ANSWER_WAIT] = "class=\"wait\"",
	[ANSWER_OTHER] = "class=\"other\""};

static void put_http(struct wh__text *text, const struct api *api)
{
	struct wh_http_server_stats stats;

	wh_http_server_stats(api->server, &stats);
	family(text, "whilst_http_requests_total", "counter", "Requests answered, by status.");
	for (int code = 100; code < API_CODES; code++) {
		if (api->codes[code] > 0)
			wh__text_format(text, "whilst_http_requests_total{code=\"%d\"} %llu\n", code,
			                (unsigned long long)api->codes[code]);
	}
	family(text, "whilst_http_request_seconds", "histogram",
	       "From the first byte of a request to the head of its answer, by class.");
	for (int i = 0; i < ANSWER_CLASSES; i++)
		put_histogram(text, "whilst_http_request_seconds", classes[i], &api->seconds[i],
		              STORE_COMMIT_SHIFT, 1e9);
	one(text, "whilst_http_connections", "gauge", "Connections open now.", stats.connections);
	one(text, "whilst_http_connections_accepted_total", "counter", "Connections accepted.",
	    stats.connections_accepted);
	one(text, "whilst_http_received_bytes_total", "counter", "Bytes received.", stats.bytes_received);
	one(text, "whilst_http_sent_bytes_total", "counter", "Bytes sent.", stats.bytes_sent);
	one(text, "whilst_http_parked", "gauge", "Callers that wait for a job, a lease or a position now.",
	    api->parked_count);
	one(text, "whilst_http_streams", "gauge", "Event streams open now.", api->streams_count);
	one(text, "whilst_http_streams_dropped_total", "counter",
	    "Event streams cut off because their reader made no room in stream-timeout.",
	    api->streams_dropped);
}

static void put_topics(struct wh__text *text, const struct api *api)
{
	one(text, "whilst_events_published_total", "counter", "Events published.", api->events_published);
	one(text, "whilst_events_replayed_total", "counter", "Kept events that were handed over again.",
	    api->events_replayed);
	one(text, "whilst_events_duplicate_total", "counter",
	    "Events that were published again, which their topics deduplicate.", api->events_duplicate);
	one(text, "whilst_topics", "gauge", "Topics.", api->topics.count);
	one(text, "whilst_subscriptions", "gauge", "Subscriptions of all topics.", api->topics.subscriptions);
	one(text, "whilst_replays", "gauge", "Replays that are under way.", api->topics.replays);
}

static void put_schedules(struct wh__text *text, const struct api *api)
{
	one(text, "whilst_schedules", "gauge", "Schedules.", api->scheduler.table.count);
	one(text, "whilst_schedules_late", "gauge",
	    "Schedules that have been due for more than a minute, or cannot run.", scheduler_late(api));
	one(text, "whilst_schedule_jobs_total", "counter", "Jobs that schedules made.", api->scheduler.jobs);
	one(text, "whilst_schedule_events_total", "counter", "Events that schedules published.",
	    api->scheduler.events);
	one(text, "whilst_schedule_refusals_total", "counter",
	    "Times that the jobs or events of a schedule were refused, and put off.",
	    api->scheduler.refusals);
}

/* Counted less one, so that a bucket up to a power of two includes it. */
static void put_actions(struct wh__text *text, const struct wh__histogram *less_one)
{
	struct wh__histogram h = *less_one;

	for (unsigned i = 0; i < WH__HISTOGRAM_BUCKETS; i++)
		h.sum += h.counts[i];
	family(text, "whilst_flush_changes", "histogram",
	       "Changes at level local that were answered together.");
	put_histogram(text, "whilst_flush_changes", "", &h, 0, 1);
}

static void put_log(struct wh__text *text, const struct store_stats *stats)
{
	uint64_t sum = 0;

	family(text, "whilst_commits_total", "counter", "Commits answered, by level.");
	wh__text_format(
		text,
		"whilst_commits_total{level=\"async\"} %llu\nwhilst_commits_total{level=\"local\"} %llu\n",
		(unsigned long long)stats->commits_async, (unsigned long long)stats->commits_local);
	family(text, "whilst_commit_seconds", "histogram",
	       "From carrying a change out to its answer, by level, without what HTTP takes.");
	put_histogram(text, "whilst_commit_seconds", "level=\"async\"", &stats->commit_async,
	              STORE_COMMIT_SHIFT, 1e9);
	put_histogram(text, "whilst_commit_seconds", "level=\"local\"", &stats->commit_local,
	              STORE_COMMIT_SHIFT, 1e9);
	put_actions(text, &stats->flush_actions);
	one(text, "whilst_log_groups_total", "counter", "Groups of commits written to the log.",
	    stats->groups);
	one(text, "whilst_log_flushes_total", "counter", "Flushes (fdatasync) of the log.", stats->flushes);
	family(text, "whilst_log_flush_seconds", "histogram", "How long a flush of the log took.");
	for (size_t i = 0; i < STORE_FLUSH_BUCKETS; i++) {
		sum += stats->flush_buckets[i];
		if (i + 1 < STORE_FLUSH_BUCKETS)
			wh__text_format(text, "whilst_log_flush_seconds_bucket{le=\"%.9g\"} %llu\n",
			                (double)(UINT64_C(1) << (i + 14)) / 1e9, (unsigned long long)sum);
	}
	wh__text_format(
		text,
		"whilst_log_flush_seconds_bucket{le=\"+Inf\"} %llu\nwhilst_log_flush_seconds_sum %.9f\n"
		"whilst_log_flush_seconds_count %llu\n",
		(unsigned long long)sum, (double)stats->flush_ns / 1e9, (unsigned long long)sum);
	one(text, "whilst_log_written_bytes_total", "counter", "Bytes written to the log.",
	    stats->log_written_bytes);
	one(text, "whilst_log_unsynced_bytes", "gauge", "Bytes appended and not flushed yet.",
	    stats->log_unflushed_bytes);
	family(text, "whilst_log_unsynced_age_seconds", "gauge",
	       "How long ago the oldest byte that is not flushed was written; 0: there is none.");
	wh__text_format(text, "whilst_log_unsynced_age_seconds %.9f\n",
	                (double)stats->log_unflushed_ns / 1e9);
	one(text, "whilst_log_records_total", "counter", "Records appended to the log.", stats->records);
	one(text, "whilst_log_segments", "gauge", "Segments of the log on disk, with those made ahead.",
	    stats->log_segments);
	one(text, "whilst_log_disk_bytes", "gauge", "Bytes of the log on disk.", stats->log_bytes);
	one(text, "whilst_idempotency_keys", "gauge", "Idempotency keys that are kept.", stats->keys);
	one(text, "whilst_idempotency_key_bytes", "gauge", "Memory for them.", stats->key_bytes);
	one(text, "whilst_idempotency_replays_total", "counter",
	    "Requests that were answered as one of before, by their key.", stats->keys_replayed);
	one(text, "whilst_idempotency_misused_total", "counter",
	    "Requests refused because their key was used for another one.", stats->keys_misused);
	one(text, "whilst_idempotency_refused_total", "counter",
	    "Requests refused because idempotency-keys were kept.", stats->keys_refused);
	one(text, "whilst_blobs", "gauge", "Files of bodies over 1 MiB that jobs name.", stats->blobs);
	one(text, "whilst_blob_bytes", "gauge", "Bytes in them.", stats->blob_bytes);
	one(text, "whilst_blobs_written_total", "counter", "Such files written.", stats->blobs_written);
	one(text, "whilst_blobs_removed_total", "counter", "Such files removed.", stats->blobs_removed);
	one(text, "whilst_blobs_refused_total", "counter",
	    "Bodies refused because max-uploads were under way.", stats->blobs_refused);
	one(text, "whilst_blobs_damaged_total", "counter",
	    "Reads of such a file that was missing or not what was written.", stats->blobs_damaged);
	one(text, "whilst_disk_full", "gauge", "1: there is no room for new jobs.", stats->disk_full);
}

/* What compaction and checkpoints have done, and what there is for them to do. */
static void put_upkeep(struct wh__text *text, const struct store_stats *stats)
{
	one(text, "whilst_checkpoints_total", "counter", "Checkpoints written.", stats->checkpoints);
	one(text, "whilst_checkpoints_failed_total", "counter",
	    "Checkpoints given up for want of memory or disk.", stats->checkpoints_failed);
	family(text, "whilst_checkpoint_seconds", "gauge", "How long the last checkpoint took.");
	wh__text_format(text, "whilst_checkpoint_seconds %.9f\n", (double)stats->checkpoint_ns / 1e9);
	one(text, "whilst_checkpoint_bytes", "gauge", "Size of the last checkpoint.",
	    stats->checkpoint_bytes);
	one(text, "whilst_log_since_checkpoint_bytes", "gauge", "Bytes of the log that a start would read.",
	    stats->log_since_checkpoint);
	one(text, "whilst_log_live_bytes", "gauge", "Bytes of the log that jobs need, about.",
	    stats->live_bytes);
	family(text, "whilst_log_live_ratio", "gauge", "Of the log on disk, how much jobs need, about.");
	wh__text_format(text, "whilst_log_live_ratio %.6f\n",
	                stats->log_bytes > 0 ? (double)stats->live_bytes / (double)stats->log_bytes : 0);
	one(text, "whilst_log_scanned_bytes_total", "counter", "Bytes of the log read by compaction.",
	    stats->scanned_bytes);
	one(text, "whilst_log_segments_scanned_total", "counter", "Segments read by compaction.",
	    stats->segments_scanned);
	one(text, "whilst_log_segments_released_total", "counter", "Segments given back by compaction.",
	    stats->segments_released);
	one(text, "whilst_log_moved_total", "counter", "Jobs, or parts of them, written again by compaction.",
	    stats->moved);
	one(text, "whilst_log_moved_bytes_total", "counter", "Bytes of them.", stats->moved_bytes);
}

static void put_store(struct wh__text *text, const struct store_stats *stats)
{
	one(text, "whilst_jobs_reserved_total", "counter", "Leases given.", stats->reserved);
	one(text, "whilst_jobs_completed_total", "counter", "Jobs done.", stats->completed);
	one(text, "whilst_jobs_failed_total", "counter", "Jobs that failed for good.", stats->failed);
	one(text, "whilst_jobs_cancelled_total", "counter", "Jobs cancelled.", stats->cancelled);
	one(text, "whilst_jobs_dead_total", "counter", "Jobs that went to a dead-letter queue.", stats->dead);
	one(text, "whilst_attempts_failed_total", "counter", "Attempts that failed.", stats->failed_attempts);
	one(text, "whilst_lease_timeouts_total", "counter", "Leases that passed.", stats->timeouts);
	one(text, "whilst_jobs_expired_total", "counter",
	    "Finished jobs forgotten at the end of their retention.", stats->expired);
	one(text, "whilst_commits_refused_total", "counter", "Changes refused.", stats->refused);
	family(text, "whilst_job_wait_seconds", "histogram",
	       "How long jobs waited for their first lease, since they were to run.");
	put_histogram(text, "whilst_job_wait_seconds", "", &stats->wait, STORE_JOB_SHIFT, 1e9);
	family(text, "whilst_job_run_seconds", "histogram",
	       "How long attempts ran, from lease to result or failure.");
	put_histogram(text, "whilst_job_run_seconds", "", &stats->run, STORE_JOB_SHIFT, 1e9);
	one(text, "whilst_job_memory_bytes", "gauge", "Memory of the job machine.", stats->job_memory_bytes);
}

/* A family with a series for each class of operations. */
static void by_class(struct wh__text *text, const struct wh_stats *stats, const char *name, const char *type,
                     const char *help, uint64_t (*value)(const struct wh_class_stats *class))
{
	family(text, name, type, help);
	for (int i = 0; i < WH_CLASS_COUNT; i++)
		wh__text_format(text, "%s{class=\"%s\"} %llu\n", name, stats->classes[i].name,
		                (unsigned long long)value(&stats->classes[i]));
}

static uint64_t started(const struct wh_class_stats *class)
{
	return class->started;
}

static uint64_t failed(const struct wh_class_stats *class)
{
	return class->failed;
}

static uint64_t in_flight(const struct wh_class_stats *class)
{
	return class->in_flight;
}

static void put_workers(struct wh__text *text, const struct wh_stats *stats)
{
	size_t count = sizeof stats->workers / sizeof stats->workers[0];
	family(text, "whilst_worker_threads", "gauge", "Worker threads now, by class.");
	for (size_t i = 0; i < count && stats->workers[i].name; i++)
		wh__text_format(text, "whilst_worker_threads{class=\"%s\"} %llu\n", stats->workers[i].name,
		                (unsigned long long)stats->workers[i].threads);
	family(text, "whilst_worker_queued", "gauge", "Operations that wait for a worker thread.");
	for (size_t i = 0; i < count && stats->workers[i].name; i++)
		wh__text_format(text, "whilst_worker_queued{class=\"%s\"} %llu\n", stats->workers[i].name,
		                (unsigned long long)stats->workers[i].queued);
}

/* Of one loop: that of the state, or of a thread that speaks HTTP. */
struct loop_figures {
	uint64_t turns, wakes, slow_callbacks, turn_ns_max;
};

static struct loop_figures figures_of(const struct wh_stats *stats)
{
	return (struct loop_figures){stats->turns, stats->wakes, stats->slow_callbacks, stats->turn_ns_max};
}

/* loop="state", and "http0" on for the threads, as they are numbered in the names of theirs. */
static void put_series(struct wh__text *text, const char *name, size_t i)
{
	if (i == 0)
		wh__text_format(text, "%s{loop=\"state\"} ", name);
	else
		wh__text_format(text, "%s{loop=\"http%zu\"} ", name, i - 1);
}

static void by_loop(struct wh__text *text, const char *name, const char *help, size_t offset,
                    const struct loop_figures *loops, size_t count)
{
	family(text, name, "counter", help);
	for (size_t i = 0; i < count; i++) {
		uint64_t value;

		memcpy(&value, (const char *)&loops[i] + offset, sizeof(value));
		put_series(text, name, i);
		wh__text_format(text, "%llu\n", (unsigned long long)value);
	}
}

static void put_loops(struct wh__text *text, const struct loop_figures *loops, size_t count)
{
	static const char longest[] = "whilst_loop_turn_max_seconds";

	by_loop(text, "whilst_loop_turns_total", "Turns of a loop.", offsetof(struct loop_figures, turns),
	        loops, count);
	by_loop(text, "whilst_loop_wakes_total", "Times another thread woke it.",
	        offsetof(struct loop_figures, wakes), loops, count);
	by_loop(text, "whilst_loop_slow_callbacks_total", "Callbacks of it that were slow.",
	        offsetof(struct loop_figures, slow_callbacks), loops, count);
	family(text, longest, "gauge", "Its longest turn since the start.");
	for (size_t i = 0; i < count; i++) {
		put_series(text, longest, i);
		wh__text_format(text, "%.9f\n", (double)loops[i].turn_ns_max / 1e9);
	}
}

static void put_loop(struct wh__text *text, const struct wh_stats *stats)
{
	by_class(text, stats, "whilst_operations_total", "counter",
	         "Operations of the loops started, by class.", started);
	by_class(text, stats, "whilst_operations_failed_total", "counter", "Operations that failed.", failed);
	by_class(text, stats, "whilst_operations_in_flight", "gauge", "Operations under way.", in_flight);
	put_workers(text, stats);
}

static uint64_t backend_calls(const struct backend *backend, int64_t now)
{
	return backend->calls;
}

static uint64_t backend_failures(const struct backend *backend, int64_t now)
{
	return backend->failures;
}

static uint64_t backend_outstanding(const struct backend *backend, int64_t now)
{
	return backend->outstanding;
}

static uint64_t backend_up(const struct backend *backend, int64_t now)
{
	return backend_state(backend, now) == BACKEND_UP;
}

static uint64_t backend_opened(const struct backend *backend, int64_t now)
{
	return backend->circuits_opened;
}

static uint64_t backend_checks_failed(const struct backend *backend, int64_t now)
{
	return backend->checks_failed;
}

static void put_backends(struct wh__text *text, const char *name,
                         uint64_t (*value)(const struct backend *backend, int64_t now),
                         const struct service *service, int64_t now)
{
	for (size_t k = 0; k < service->backends_count; k++) {
		const struct backend *backend = service->backends[k];

		wh__text_format(text, "%s{%s=\"", name, service->target ? "queue" : "service");
		label(text, service->name, strlen(service->name));
		wh__text_str(text, "\",backend=\"");
		label(text, backend->url, strlen(backend->url));
		wh__text_format(text, "\"} %llu\n", (unsigned long long)value(backend, now));
	}
}

static void put_services(struct wh__text *text, const struct api *api)
{
	static const struct {
		const char *name, *type, *help;
		uint64_t (*value)(const struct backend *backend, int64_t now);
	} families[] = {
		{"whilst_backend_calls_total", "counter", "Calls sent to a backend.", backend_calls},
		{"whilst_backend_failures_total", "counter", "Calls that it gave no answer to.",
	         backend_failures},
		{"whilst_backend_outstanding", "gauge", "Calls under way at it.", backend_outstanding},
		{"whilst_backend_up", "gauge", "1: it takes calls; 0: down, or its circuit is open.",
	         backend_up},
		{"whilst_backend_circuits_opened_total", "counter", "Times its circuit opened.",
	         backend_opened},
		{"whilst_backend_checks_failed_total", "counter", "Health checks that failed.",
	         backend_checks_failed},
	};
	int64_t now = wh_now(api->loop);

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		family(text, families[i].name, families[i].type, families[i].help);
		for (const struct service *service = api->services.first; service; service = service->next)
			put_backends(text, families[i].name, families[i].value, service, now);
		for (const struct service *service = api->targets.first; service; service = service->next)
			put_backends(text, families[i].name, families[i].value, service, now);
	}
	one(text, "whilst_callbacks_pending", "gauge", "Callbacks that wait for the end of their job.",
	    push_callbacks_pending(api->push));
	family(text, "whilst_push_concurrency", "gauge", "Jobs that a target is given at once now.");
	for (const struct service *service = api->targets.first; service; service = service->next) {
		wh__text_str(text, "whilst_push_concurrency{queue=\"");
		label(text, service->name, strlen(service->name));
		wh__text_format(text, "\"} %u\n", push_limit(api->push, service));
	}
}

/* What is gathered for an answer: the queues, and the figures of all loops, one of which is asked after the other. */
struct gathered {
	struct store_queues *queues; /* NULL: there is none, or nobody asked for them */
	struct wh_stats all;
	wh_loop *loop; /* that is asked */
	size_t asked;
	struct loop_figures loops[1 + FRONT_THREADS_MAX]; /* the state's, then those that were asked */
};

static void add_stats(struct wh_stats *to, const struct wh_stats *from)
{
	for (int i = 0; i < WH_CLASS_COUNT; i++) {
		to->classes[i].started += from->classes[i].started;
		to->classes[i].failed += from->classes[i].failed;
		to->classes[i].in_flight += from->classes[i].in_flight;
	}
	for (size_t i = 0; i < sizeof to->workers / sizeof to->workers[0]; i++) {
		to->workers[i].threads += from->workers[i].threads;
		to->workers[i].queued += from->workers[i].queued;
	}
}

/* On the thread of the loop that is asked. */
static int64_t tell_stats(void *arg)
{
	struct gathered *gathered = arg;
	struct wh_stats stats;

	wh_stats(gathered->loop, &stats);
	add_stats(&gathered->all, &stats);
	gathered->loops[gathered->asked] = figures_of(&stats);
	return 0;
}

static void answer_metrics(struct call *call, struct gathered *gathered)
{
	struct store_stats stats;
	struct wh__text text;

	store_stats(call->api->store, &stats);
	wh__text_init(&text, NULL, 0);
	family(&text, "whilst_build_info", "gauge", "What this is.");
	wh__text_format(&text, "whilst_build_info{version=\"" WH_VERSION "\",engine=\"%s\"} 1\n",
	                wh_engine_name(call->api->loop));
	family(&text, "whilst_sandbox", "gauge", "1: the server is restricted in this part by the kernel.");
	wh__text_format(&text, "whilst_sandbox{part=\"files\"} %d\nwhilst_sandbox{part=\"calls\"} %d\n",
	                call->api->options.files_restricted, call->api->options.calls_restricted);
	if (gathered->queues)
		put_queues(&text, gathered->queues);
	put_store(&text, &stats);
	put_log(&text, &stats);
	put_upkeep(&text, &stats);
	put_http(&text, call->api);
	put_services(&text, call->api);
	put_topics(&text, call->api);
	put_schedules(&text, call->api);
	put_loop(&text, &gathered->all);
	put_loops(&text, gathered->loops, 1 + gathered->asked);
	answer_text(call->api, call->x, 200, "text/plain; version=0.0.4; charset=utf-8", &text);
	store_queues_free(gathered->queues);
	call_end(call);
}

static void ask_next(struct call *call);

static void got_stats(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct gathered *gathered = call->arg;

	if (res.n >= 0) {
		ask_next(call);
		return;
	}
	store_queues_free(gathered->queues);
	answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "metrics");
	call_end(call);
}

static void ask_next(struct call *call)
{
	struct gathered *gathered = call->arg;
	wh_loop *loops[FRONT_THREADS_MAX];
	size_t count =
		call->api->server ? wh_http_server_threads(call->api->server, loops, FRONT_THREADS_MAX) : 0;

	if (gathered->asked >= count) {
		answer_metrics(call, gathered);
		return;
	}
	gathered->loop = loops[gathered->asked++];
	call_then(call, wh_ask(call->api->loop, gathered->loop, tell_stats, gathered), got_stats);
}

static void begin(struct call *call)
{
	struct gathered *gathered = call->arg;

	wh_stats(call->api->loop, &gathered->all);
	gathered->loops[0] = figures_of(&gathered->all);
	ask_next(call);
}

static void got_queues(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct gathered *gathered = call->arg;

	if (res.n < 0) {
		answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "metrics");
		call_end(call);
		return;
	}
	gathered->queues = res.ptr;
	begin(call);
}

void api_metrics(struct request *request)
{
	struct option options[] = {{.name = "queues", .kind = OPTION_FLAG, .value = 1}};
	struct gathered *gathered;
	struct call *call;

	if (!request_options(request, options, 1))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->arg = gathered = calloc(1, sizeof(*gathered));
	if (!gathered) {
		call_then(call, wh_failed(request->api->loop, -ENOMEM), got_queues);
	} else if (options[0].value) {
		call_then(call, store_queues(request->api->store), got_queues);
	} else {
		begin(call);
	}
}
