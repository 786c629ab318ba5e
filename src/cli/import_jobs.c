/* src/cli/import_jobs.c -- `whilst import jobs FILE`: what `whilst log export` wrote, into a data folder.
 *
 * The file is read twice: once to judge every line of it, before anything is written, and once to submit. Each commit carries, as a setting, how far
 * it has come in a file of just this content, so an import that was interrupted goes on where it was. A job that is finished
 * already is submitted buried, then reserved and finished: nobody can get hold of it in between. Thread: main.
 */
#include "cli/import_jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "base/units.h"
#include "cli/cli.h"
#include "deliver/service.h"
#include "store/store.h"

enum {
	AT_ONCE = 1000,
	BYTES_AT_ONCE = 4 << 20,
	PIECE = 256 << 10,
	LINE_MAX_BYTES = 64 << 20,
	BODY_MAX = 1 << 30
};

/* Lines of a file, one after the other. */
struct lines {
	int fd;
	uint64_t at; /* of the next piece */
	char *bytes; /* what has been read and not been given */
	size_t from, len, cap;
	uint64_t number; /* of the line given last, from 1 */
};

/* A job of a line; its strings are of .json. */
struct line_job {
	json_t *json;
	struct store_submit submit;
	char *bytes[5]; /* payload, headers, result, its headers, spare: decoded */
	const char *payload_file, *result_file, *error;
	struct store_slice result, result_type, result_headers;
	uint32_t result_status;
	int state;
};

struct jobs_import {
	wh_loop *loop;
	const char *path, *data;
	bool dry_run;
	struct lines lines;
	char key[64];
	uint64_t all, done; /* lines */
	uint64_t found;     /* those that are jobs */
	uint64_t jobs, expired, before, promises;
	uint64_t others, left; /* queues and settings that came along; and those, and keys, that did not */
	struct store *store;
	struct line_job batch[AT_ONCE];
	size_t count, bytes;
};

/* ---- lines ------------------------------------------------------------------------------- */

/* 1: a line, without its end, in *ret; 0: no more; an exit status, said, as a negative number. */
static int next_line(struct jobs_import *im, char **ret, size_t *ret_len)
{
	struct lines *l = &im->lines;
	int64_t n = 1;

	for (;;) {
		char *start = l->len > 0 ? l->bytes + l->from : NULL;
		char *end = start ? memchr(start, '\n', l->len) : NULL;

		if (end || (n == 0 && l->len > 0)) {
			*ret = start;
			*ret_len = end ? (size_t)(end - start) : l->len;
			l->from += *ret_len + (end != NULL);
			l->len -= *ret_len + (end != NULL);
			l->number++;
			return 1;
		}
		if (n == 0)
			return 0;
		if (l->len > LINE_MAX_BYTES)
			return -cli_error(CLI_FAILED, "%s: line %llu is longer than 64 MiB", im->path,
			                  (unsigned long long)l->number + 1);
		if (l->from > 0 && l->len > 0)
			memmove(l->bytes, start, l->len);
		l->from = 0;
		if (l->len + PIECE + 1 > l->cap) {
			char *bytes = realloc(l->bytes, (l->len + PIECE) * 2);

			if (!bytes)
				return -cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));
			l->bytes = bytes;
			l->cap = (l->len + PIECE) * 2;
		}
		n = wh_await(wh_pread_all(im->loop, l->fd, l->bytes + l->len, PIECE, l->at)).n;
		if (n < 0)
			return -cli_error(CLI_FAILED, "%s: %s", im->path, wh_strerror(n));
		l->at += (uint64_t)n;
		l->len += (size_t)n;
	}
}

static void rewind_lines(struct lines *l)
{
	l->at = l->number = 0;
	l->from = l->len = 0;
}

/* ---- a line ------------------------------------------------------------------------------ */

static void job_done(struct line_job *job)
{
	for (size_t i = 0; i < sizeof(job->bytes) / sizeof(job->bytes[0]); i++)
		free(job->bytes[i]);
	json_decref(job->json);
	*job = (struct line_job){0};
}

static int64_t number(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

static struct store_slice text_of(const json_t *o, const char *name)
{
	const json_t *value = json_object_get(o, name);

	return (struct store_slice){json_string_value(value), json_string_length(value)};
}

/* false: not base64. What is not there is empty. */
static bool bytes_of(const json_t *o, const char *name, char **keep, struct store_slice *ret)
{
	struct store_slice text = text_of(o, name);
	size_t len = 0;

	*keep = malloc(text.len + 1);
	if (!*keep)
		return false;
	if (text.len > 0)
		memcpy(*keep, text.data, text.len);
	if (!wh__unbase64(*keep, text.len, &len))
		return false;
	*ret = (struct store_slice){*keep, len};
	return true;
}

static int state_of(const char *name)
{
	static const char *const names[JOB_STATES] = {
		[JOB_DELAYED] = "delayed", [JOB_READY] = "ready",       [JOB_RUNNING] = "running",
		[JOB_DONE] = "done",       [JOB_FAILED] = "failed",     [JOB_CANCELLED] = "cancelled",
		[JOB_BURIED] = "buried",   [JOB_AWAITING] = "awaiting",
	};

	for (int state = 1; name && state < JOB_STATES; state++)
		if (names[state] && !strcmp(name, names[state]))
			return state;
	return JOB_NONE;
}

/* NULL, or what is wrong with the line. */
static const char *read_result(struct line_job *job)
{
	const json_t *result = json_object_get(job->json, "result");

	if (job->state == JOB_FAILED) {
		const json_t *errors = json_object_get(job->json, "errors");
		const json_t *last =
			json_array_get(errors, json_array_size(errors) ? json_array_size(errors) - 1 : 0);

		job->error = json_string_value(json_object_get(last, "text"));
	}
	if (job->state != JOB_DONE)
		return NULL;
	if (!json_is_object(result))
		return "a done job without its result";
	job->result_file = json_string_value(json_object_get(result, "body_file"));
	job->result_type = text_of(result, "content_type");
	job->result_status = (uint32_t)number(result, "status");
	return bytes_of(result, "body", &job->bytes[2], &job->result) &&
	                       bytes_of(result, "headers", &job->bytes[3], &job->result_headers)
	               ? NULL
	               : "a result that is not base64";
}

/* A queue, a setting or a key. */
static bool is_other(const json_t *o)
{
	return json_object_get(o, "queue_config") || json_object_get(o, "setting") ||
	       json_object_get(o, "key");
}

static const char *read_other(const json_t *o)
{
	struct store_slice name = text_of(o, json_object_get(o, "setting") ? "setting" : "queue_config");
	struct store_slice value;
	char *bytes = NULL;
	bool good;

	if (json_object_get(o, "key"))
		return NULL;
	if (name.len == 0)
		return "a name that is not a text";
	good = !json_object_get(o, "setting") ||
	       (json_is_string(json_object_get(o, "value")) && bytes_of(o, "value", &bytes, &value));
	free(bytes);
	return good ? NULL : "a value that is not base64";
}

/* Is this the queue of a topic's events, in its namespace? */
static bool is_of_topic(struct store_slice queue)
{
	size_t skip = job_name_skip(queue.data, queue.len), prefix = strlen(STORE_EVENTS_PREFIX);

	return queue.len > skip + prefix &&
	       memcmp((const char *)queue.data + skip, STORE_EVENTS_PREFIX, prefix) == 0;
}

static const char *read_job(char *line, size_t len, struct line_job *job)
{
	struct store_submit *s = &job->submit;
	const json_t *o;
	int64_t retention;

	*job = (struct line_job){.json = json_loadb(line, len, JSON_ALLOW_NUL, NULL)};
	o = job->json;
	if (!json_is_object(o))
		return "not an object of JSON";
	if (is_other(o))
		return read_other(o);
	job->state = state_of(json_string_value(json_object_get(o, "state")));
	if (job->state == JOB_NONE)
		return "no state, or none that is known";
	s->queue = text_of(o, "queue");
	if (s->queue.len == 0)
		return "no queue";
	job->payload_file = json_string_value(json_object_get(o, "payload_file"));
	if (!bytes_of(o, "payload", &job->bytes[0], &s->payload) ||
	    !bytes_of(o, "headers", &job->bytes[1], &s->headers))
		return "a payload that is not base64";
	s->content_type = text_of(o, "content_type");
	s->trace = text_of(o, "trace");
	s->priority = (uint32_t)number(o, "priority");
	s->attempts_max = json_object_get(o, "attempts_max") ? (uint32_t)number(o, "attempts_max")
	                                                     : JOB_ATTEMPTS_UNLIMITED;
	s->time_to_run_ns = number(o, "time_to_run_ms") * WH_NS_PER_MS;
	retention = number(o, "retention_ms");
	s->retention_ns = retention ? retention * WH_NS_PER_MS : -1;
	s->run_at = job->state == JOB_DELAYED ? number(o, "run_at_ms") * WH_NS_PER_MS : 0;
	if (!job_state_finished(job->state)) {
		s->group = text_of(o, "group");
		s->unique = text_of(o, "unique");
		s->unique_while_ns =
			json_object_get(o, "unique_while") ? JOB_UNIQUE_QUEUED : JOB_UNIQUE_ACTIVE;
		s->expires_at = number(o, "begin_by_ms") * WH_NS_PER_MS;
	}
	/* an event that a topic keeps has a position in the log that it comes to */
	s->done = job->state == JOB_DONE && json_object_get(o, "event") && is_of_topic(s->queue);
	s->event = s->done;
	if (s->done) /* it is known by its source and id for as long as it was there */
		s->unique = text_of(o, "unique");
	/* what it awaited has another id here: whether it may run is for people to say */
	s->buried = job->state == JOB_BURIED || job->state == JOB_AWAITING ||
	            (job_state_finished(job->state) && !s->done);
	return read_result(job);
}

/* ---- judging ----------------------------------------------------------------------------- */

/* The whole file, before anything of it is written. */
static int judge(struct jobs_import *im)
{
	XXH3_state_t *hash = XXH3_createState();
	XXH128_hash_t sum;
	char *line = NULL;
	size_t len = 0;
	int status = hash ? 0 : -cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));

	if (hash)
		XXH3_128bits_reset(hash);
	while (status >= 0 && (status = next_line(im, &line, &len)) > 0) {
		struct line_job job;
		const char *wrong = read_job(line, len, &job);
		bool other = !wrong && is_other(job.json);

		job_done(&job);
		if (wrong)
			status = -cli_error(CLI_FAILED, "%s: line %llu: %s; nothing was imported", im->path,
			                    (unsigned long long)im->lines.number, wrong);
		XXH3_128bits_update(hash, line, len);
		im->all++;
		im->found += !other;
	}
	if (status == 0) {
		sum = XXH3_128bits_digest(hash);
		snprintf(im->key, sizeof(im->key), "import/jobs/%016llx%016llx",
		         (unsigned long long)sum.high64, (unsigned long long)sum.low64);
	}
	XXH3_freeState(hash);
	rewind_lines(&im->lines);
	return -status;
}

/* ---- writing ----------------------------------------------------------------------------- */

static int refused(const struct jobs_import *im, int64_t error)
{
	return cli_error(CLI_FAILED, "%s: after %llu lines: %s", im->data, (unsigned long long)im->done,
	                 job_strerror(error));
}

static int64_t apply(struct jobs_import *im, const struct store_action *actions, size_t count,
                     uint64_t *ret_job)
{
	wh_res res = wh_await(store_apply(im->store, actions, count, 0, STORE_ASYNC));
	struct store_commit *commit = res.n >= 0 ? res.ptr : NULL;
	int64_t error = commit ? commit->error : res.n;

	if (error == 0 && ret_job)
		*ret_job = commit->results[0].job;
	store_commit_free(commit);
	return error;
}

/* A body out of a file, piece by piece. Names are as the line has them, or beside the file of the lines. */
static int take_file(struct jobs_import *im, const char *name, unsigned flags, struct store_body **ret)
{
	const char *slash = strrchr(im->path, '/');
	char path[4400];
	uint8_t *piece = malloc(STORE_PIECE_MAX);
	uint64_t at = 0;
	int64_t fd = wh_await(wh_open(im->loop, name, O_RDONLY, 0)).n, n;

	if (fd == -ENOENT && name[0] != '/' && slash) {
		snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - im->path), im->path, name);
		fd = wh_await(wh_open(im->loop, path, O_RDONLY, 0)).n;
	}
	n = !piece ? -ENOMEM : fd < 0 ? fd : store_body_open(im->store, -1, flags | STORE_BODY_WAITS, ret);
	while (n >= 0) {
		n = wh_await(wh_pread_all(im->loop, (int)fd, piece, STORE_PIECE_MAX, at)).n;
		if (n <= 0)
			break;
		at += (uint64_t)n;
		n = wh_await(store_body_write(*ret, piece, (size_t)n)).n;
	}
	if (n >= 0)
		n = wh_await(store_body_end(*ret)).n;
	if (fd >= 0)
		(void)wh_await(wh_close(im->loop, (int)fd));
	free(piece);
	return n < 0 ? cli_error(CLI_FAILED, "%s: %s", name, job_strerror(n)) : 0;
}

static struct store_action progress_action(struct jobs_import *im, uint64_t done, char text[24])
{
	snprintf(text, 24, "%llu", (unsigned long long)done);
	return (struct store_action){
		.kind = STORE_SETTING_PUT,
		.setting = {.key = {im->key, strlen(im->key)}, .value = {text, strlen(text)}}};
}

/* Those that wait to be committed together, none of which is finished or has its payload in a file. */
static int flush_batch(struct jobs_import *im)
{
	struct store_action actions[AT_ONCE + 1];
	char text[24];
	int64_t error;

	if (im->count == 0)
		return 0;
	for (size_t i = 0; i < im->count; i++)
		actions[i] = (struct store_action){.kind = STORE_SUBMIT, .submit = im->batch[i].submit};
	actions[im->count] = progress_action(im, im->done + im->count, text);
	error = apply(im, actions, im->count + 1, NULL);
	if (error < 0)
		return refused(im, error);
	for (size_t i = 0; i < im->count; i++)
		job_done(&im->batch[i]);
	im->done += im->count;
	im->jobs += im->count;
	im->count = im->bytes = 0;
	return 0;
}

static int finish(struct jobs_import *im, const struct line_job *job, uint64_t id)
{
	struct store_action a = {.kind = STORE_CANCEL, .job = id};
	struct store_body *body = NULL;
	int status = 0;
	int64_t error;

	if (job->state != JOB_CANCELLED) {
		wh_res res = wh_await(
			store_reserve(im->store, &(struct store_reserve){.job = id, .level = STORE_ASYNC}));
		struct store_lot *lot = res.ptr;

		if (res.n != 1)
			return refused(im, res.n < 0 ? res.n : -JOB_ESTATE);
		a.lease = lot->jobs[0].lease;
		store_lot_free(lot);
	}
	if (job->state == JOB_DONE) {
		a.kind = STORE_COMPLETE;
		a.complete.status = job->result_status;
		a.complete.content_type = job->result_type;
		a.complete.headers = job->result_headers;
		a.complete.bytes = job->result;
		if (job->result_file)
			status = take_file(im, job->result_file, STORE_BODY_RESULT, &body);
		a.complete.body = body;
	} else if (job->state == JOB_FAILED) {
		a.kind = STORE_FAIL;
		a.fail.no_retry = true;
		a.fail.error = (struct store_slice){job->error, job->error ? strlen(job->error) : 0};
	}
	if (status == 0 && (error = apply(im, &a, 1, NULL)) < 0)
		status = refused(im, error);
	store_body_free(body);
	return status;
}

/* A job that needs more than one commit, or a file. */
static int import_alone(struct jobs_import *im, struct line_job *job)
{
	struct store_action actions[2] = {{.kind = STORE_SUBMIT, .submit = job->submit}};
	int64_t expires = number(job->json, "expires_ms"), now = wh_wall_now(im->loop) / WH_NS_PER_MS, error;
	struct store_body *body = NULL;
	uint64_t id = 0;
	char text[24];
	int status = flush_batch(im);

	if (status != 0)
		return status;
	if (job_state_finished(job->state) && expires <= now) {
		im->expired++;
		im->done++;
		return 0;
	}
	if (job_state_finished(job->state))
		actions[0].submit.retention_ns = (expires - now) * WH_NS_PER_MS;
	if (job->payload_file)
		status = take_file(im, job->payload_file, 0, &body);
	actions[0].submit.body = body;
	actions[1] = progress_action(im, im->done + 1, text);
	if (status == 0 && (error = apply(im, actions, 2, &id)) < 0)
		status = refused(im, error);
	store_body_free(body);
	if (status == 0) {
		im->done++;
		im->jobs++;
	}
	return status == 0 && job_state_finished(job->state) && !job->submit.done ? finish(im, job, id)
	                                                                          : status;
}

/* ---- what is no job ---------------------------------------------------------------------- */

static struct job_queue_config config_of(const json_t *o)
{
	const json_t *list = json_object_get(o, "backoffs_ms"),
		     *jitter = json_object_get(o, "backoff_jitter");
	int64_t attempts = number(o, "attempts_max"), retention = number(o, "retention_ms");
	struct job_queue_config c = {
		.time_to_run_ns = number(o, "time_to_run_ms") * WH_NS_PER_MS,
		.retention_ns = retention < 0 ? -1 : retention * WH_NS_PER_MS,
		.backoff_ns = number(o, "backoff_ms") * WH_NS_PER_MS,
		.backoff_max_ns = number(o, "backoff_max_ms") * WH_NS_PER_MS,
		.attempts_max = attempts < 0 ? JOB_ATTEMPTS_UNLIMITED : (uint32_t)attempts,
		.jobs_max = (uint64_t)number(o, "jobs_max"),
		.finished_max = (uint64_t)number(o, "finished_max"),
		.concurrency = (uint32_t)number(o, "concurrency"),
		.rate.count = (uint32_t)number(o, "rate_count"),
		.rate.period_ms = (uint32_t)number(o, "rate_period_ms"),
		.rate.burst = (uint32_t)number(o, "rate_burst"),
		.group_concurrency = (uint32_t)number(o, "group_concurrency"),
		.group_rate = {(uint32_t)number(o, "group_rate_count"),
	                       (uint32_t)number(o, "group_rate_period_ms"),
	                       (uint32_t)number(o, "group_rate_burst")},
	};

	if (jitter)
		c.backoff_jitter =
			json_integer_value(jitter) ? (uint32_t)json_integer_value(jitter) : JOB_NO_JITTER;
	for (size_t i = 0; i < json_array_size(list) && i < JOB_BACKOFFS_MAX; i++)
		c.backoff_list_ms[c.backoffs++] = (uint32_t)json_integer_value(json_array_get(list, i));
	return c;
}

/* As it was configured there, unless it is configured here. Each is a commit of its own, and may be done again. */
static int64_t import_queue(struct jobs_import *im, const json_t *o)
{
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = text_of(o, "queue_config"),
	                                     .config = config_of(o),
	                                     .dead_letter = text_of(o, "dead_letter")}};
	struct store_action pause = {.kind = STORE_QUEUE_PAUSE, .queue = {.name = put.queue.name}};
	struct store_queue_view view;
	bool there = store_queue_now(im->store, put.queue.name, &view) == 0;
	int64_t error = 0;

	if (there && !view.implicit) {
		im->left++;
		return 0;
	}
	if (json_is_true(json_object_get(o, "implicit")) && !json_is_true(json_object_get(o, "paused")))
		return 0; /* its jobs make it */
	error = apply(im, &put, 1, NULL);
	if (error == 0 && json_is_true(json_object_get(o, "paused")))
		error = apply(im, &pause, 1, NULL);
	im->others += error == 0;
	return error;
}

static int64_t is_set(struct jobs_import *im, struct store_slice key, bool *ret)
{
	wh_res res = wh_await(store_settings(im->store, key));
	struct store_settings *all = res.n >= 0 ? res.ptr : NULL;

	*ret = all && all->count > 0 && all->settings[0].key.len == key.len;
	store_settings_free(all);
	return res.n < 0 ? res.n : 0;
}

/* Together with how far that is. */
static int64_t import_setting(struct jobs_import *im, const json_t *o)
{
	struct store_action actions[2] = {
		{.kind = STORE_SETTING_PUT, .setting = {.key = text_of(o, "setting")}}};
	char *bytes = NULL, text[24];
	bool there = false, good = bytes_of(o, "value", &bytes, &actions[0].setting.value);
	int64_t error = good ? is_set(im, actions[0].setting.key, &there) : -ENOMEM;

	actions[1] = progress_action(im, im->done + 1, text);
	if (error == 0 && there)
		im->left++;
	else if (error == 0)
		error = apply(im, actions, 2, NULL);
	im->others += error == 0 && !there;
	free(bytes);
	return error;
}

static int import_other(struct jobs_import *im, const json_t *o)
{
	static const char notes[] = "import/"; /* of imports into that folder */
	struct store_slice setting = text_of(o, "setting");
	int status = flush_batch(im);
	int64_t error = 0;

	if (status != 0)
		return status;
	if (json_object_get(o, "queue_config"))
		error = import_queue(im, o);
	else if (json_object_get(o, "key"))
		im->left++; /* what was answered under it names jobs by the ids that they had there */
	else if (setting.len < strlen(notes) || memcmp(setting.data, notes, strlen(notes)) != 0)
		error = import_setting(im, o);
	if (error < 0)
		return refused(im, error);
	im->done++;
	return 0;
}

static int import_line(struct jobs_import *im, char *line, size_t len)
{
	struct line_job job;
	const char *wrong = read_job(line, len, &job);
	int status;

	if (wrong) {
		job_done(&job);
		return cli_error(CLI_FAILED, "%s: line %llu: %s", im->path,
		                 (unsigned long long)im->lines.number, wrong);
	}
	if (is_other(job.json)) {
		status = import_other(im, job.json);
		job_done(&job);
		return status;
	}
	if (json_object_get(job.json, "unique_while_ms")) {
		int64_t until = number(job.json, "created_ms") + number(job.json, "unique_while_ms");
		int64_t left = until - wh_wall_now(im->loop) / WH_NS_PER_MS;

		if (left > 0)
			job.submit.unique_while_ns = left * WH_NS_PER_MS;
		else
			job.submit.unique = (struct store_slice){0};
	}
	/* it is about the job whose id is one less, and ids are others here */
	if (job.submit.queue.len == sizeof(CALLBACKS_PENDING) - 1 &&
	    memcmp(job.submit.queue.data, CALLBACKS_PENDING, job.submit.queue.len) == 0) {
		job_done(&job);
		status = flush_batch(im);
		im->done += status == 0;
		im->promises += status == 0;
		return status;
	}
	if (job_state_finished(job.state) || job.payload_file) {
		status = import_alone(im, &job);
		job_done(&job);
		return status;
	}
	im->bytes += job.submit.payload.len;
	im->batch[im->count++] = job;
	return im->count == AT_ONCE || im->bytes > BYTES_AT_ONCE ? flush_batch(im) : 0;
}

/* How far has an import of this very file come? */
static int read_progress(struct jobs_import *im)
{
	wh_res res = wh_await(store_settings(im->store, (struct store_slice){im->key, strlen(im->key)}));
	struct store_settings *settings = res.n >= 0 ? res.ptr : NULL;

	if (res.n < 0)
		return cli_error(CLI_FAILED, "%s: %s", im->data, job_strerror(res.n));
	if (settings && settings->count > 0 &&
	    !wh__parse_u64(settings->settings[0].value.data, settings->settings[0].value.len, UINT64_MAX,
	                   &im->done))
		im->done = UINT64_MAX;
	store_settings_free(settings);
	im->before = im->done;
	return im->done <= im->all
	               ? 0
	               : cli_error(CLI_FAILED, "%s: the note about an earlier import cannot be read",
	                           im->data);
}

static int import_all(struct jobs_import *im)
{
	struct store_options options = {.directory = im->data, .payload_bytes_max = BODY_MAX};
	struct store_problem problem = {0};
	int error = store_open(im->loop, &options, &im->store, &problem), status;
	char *line = NULL;
	size_t len = 0;

	if (error < 0)
		return cli_error(error == -EBUSY ? CLI_NO_CONNECTION : CLI_FAILED, "%s: %s", im->data,
		                 problem.text[0] ? problem.text : wh_strerror(error));
	status = read_progress(im);
	while (status == 0 && (status = next_line(im, &line, &len)) > 0)
		status = im->lines.number <= im->before ? 0 : import_line(im, line, len);
	status = status < 0 ? -status : status;
	if (status == 0)
		status = flush_batch(im);
	for (size_t i = 0; i < im->count; i++)
		job_done(&im->batch[i]);
	error = store_close(im->store);
	return status == 0 && error < 0 ? cli_error(CLI_FAILED, "%s: %s", im->data, wh_strerror(error))
	                                : status;
}

int cli_import_jobs(const char *path, const char *data, bool dry_run)
{
	struct jobs_import *im = calloc(1, sizeof(*im));
	int64_t error = im ? wh_loop_open(&im->loop, NULL) : -ENOMEM;
	int status = CLI_FAILED;

	if (error < 0) {
		free(im);
		return cli_error(CLI_FAILED, "%s", wh_strerror(error));
	}
	im->path = path;
	im->data = data;
	error = wh_await(wh_open(im->loop, path, O_RDONLY, 0)).n;
	if (error < 0) {
		cli_error(CLI_FAILED, "%s: %s", path, wh_strerror(error));
	} else {
		im->lines.fd = (int)error;
		status = judge(im);
		if (status == 0 && !dry_run)
			status = import_all(im);
		(void)wh_await(wh_close(im->loop, im->lines.fd)); /* it was only read */
	}
	if (status == 0 && dry_run)
		printf("found %llu jobs\n", (unsigned long long)im->found);
	else if (status == 0 && im->promises > 0)
		fprintf(stderr,
		        "%llu callbacks were left out, whose jobs were not finished when they were exported: "
		        "nobody is told of their end\n",
		        (unsigned long long)im->promises);
	if (status == 0 && !dry_run)
		printf("imported %llu jobs, and %llu queues and settings; %llu lines had been imported "
		       "before, "
		       "%llu jobs were not to be kept any longer, %llu queues, settings and keys were left "
		       "out\n",
		       (unsigned long long)im->jobs, (unsigned long long)im->others,
		       (unsigned long long)im->before, (unsigned long long)im->expired,
		       (unsigned long long)im->left);
	free(im->lines.bytes);
	wh_loop_close(im->loop);
	free(im);
	return status;
}
