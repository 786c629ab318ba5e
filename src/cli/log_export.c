/* src/cli/log_export.c -- `whilst log export`: what is in a data folder, a line of JSON each: log_export_state.c, then the jobs.
 *
 * Reads as a start of the server would, but beside the folder's files, which stay as they are: see store/repair.h. One job is in memory at a
 * time; bodies in files are not read but named, or copied. Thread: main.
 */
#include "cli/log_export.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/log_export_state.h"
#include "store/blob.h"
#include "store/repair.h"

static const char usage_text[] =
	"usage: whilst log export DIRECTORY [--jobs] [--queue NAME] [--state STATE] [--bodies FOLDER] "
	"[--salvage] [--help]\n\n"
	"Writes what is in a data folder, or in a backup, to standard output: a line of JSON for each queue, "
	"setting (topics,\n"
	"subscriptions, schedules and services are some), key and job, these in the order of their ids. The "
	"server must not be\n"
	"running. `whilst import jobs` puts it into another folder.\n\n"
	"  --jobs           jobs only\n"
	"  --queue NAME     jobs of this queue only\n"
	"  --state STATE    jobs in this state only: delayed, ready, running, done, failed, cancelled or "
	"buried; repeatable\n"
	"  --bodies FOLDER  copy bodies over 1 MiB there, which must not be there yet; else lines name them "
	"where they are\n"
	"  --salvage        of a damaged folder what can be read; jobs that are not certain say so\n\n"
	"The folder stays as it is. It is read with the help of another one, which is made in it and removed "
	"again; if it cannot be\n"
	"written, in $TMPDIR (default: /tmp).\n"
	"Exit status: 0 done; 1 failed; 3 damaged, and nothing was written; 4 unreadable or in use.\n";

enum { EXIT_DAMAGED = 3, EXIT_UNREADABLE = 4, TELL_NS = 100000000 };

struct export_command {
	const char *directory, *bodies;
	struct store_slice queue;
	unsigned states; /* bits 1 << enum job_state; 0: all */
	bool jobs_only, salvage, terminal;
	wh_loop *loop;
	struct store *store;
	struct wh__text line;
	uint64_t written, told_of; /* jobs; those that a repair would name */
	int64_t told_at;
	uint64_t *doubtful; /* ids of jobs that are not certain, rising */
	const char **why;
	size_t doubtful_count, doubtful_cap;
};

static const char *const state_names[JOB_STATES] = {
	[JOB_DELAYED] = "delayed", [JOB_READY] = "ready",       [JOB_RUNNING] = "running",
	[JOB_DONE] = "done",       [JOB_FAILED] = "failed",     [JOB_CANCELLED] = "cancelled",
	[JOB_BURIED] = "buried",   [JOB_AWAITING] = "awaiting",
};

/* ---- a line ------------------------------------------------------------------------------ */

static void put_number(struct wh__text *t, const char *name, int64_t value)
{
	wh__text_format(t, ",\"%s\":%" PRId64, name, value);
}

static void put_ms(struct wh__text *t, const char *name, int64_t ns)
{
	if (ns != 0)
		put_number(t, name, ns / WH_NS_PER_MS);
}

static void put_text(struct wh__text *t, const char *name, struct store_slice text)
{
	if (text.len == 0)
		return;
	wh__text_format(t, ",\"%s\":", name);
	wh__text_json(t, text.data, text.len);
}

static void put_bytes(struct wh__text *t, const char *name, struct store_slice bytes)
{
	wh__text_format(t, ",\"%s\":\"", name);
	wh__text_base64(t, bytes.data, bytes.len);
	wh__text_str(t, "\"");
}

/* Its file by name; copied when that was asked for. 0 or an exit status, said. */
static int put_file(struct export_command *c, const struct store_bytes *bytes, const char *name)
{
	char file[STORE_BLOB_NAME_BYTES], from[4400], to[4400];

	store_blob_name(bytes->blob.number, true, file);
	snprintf(from, sizeof(from), "%s/" STORE_BLOBS_FOLDER "/%s", c->directory, file);
	if (c->bodies) {
		int64_t n;

		snprintf(to, sizeof(to), "%s/%s", c->bodies, file);
		n = wh_await(wh_copy_file(c->loop, from, to, false)).n;
		if (n < 0)
			return cli_error(CLI_FAILED, "cannot copy %s to %s: %s", from, to, wh_strerror(n));
	}
	put_text(&c->line, name, (struct store_slice){c->bodies ? to : from, strlen(c->bodies ? to : from)});
	return 0;
}

/* Of a payload or a result: type, fields, bytes. */
static int put_body(struct export_command *c, wh_future future, const char *name, const char *file_name)
{
	wh_res res = wh_await(future);
	struct store_bytes *bytes = res.ptr;
	int status = 0;

	if (res.n < 0)
		return cli_error(CLI_FAILED, "cannot read a body: %s", job_strerror(res.n));
	put_text(&c->line, "content_type", bytes->content_type);
	if (bytes->event.epoch != 0)
		wh__text_format(&c->line, ",\"event\":\"%" PRIu32 "/%" PRIu64 "\"", bytes->event.epoch,
		                bytes->event.lsn);
	if (bytes->headers.len > 0)
		put_bytes(&c->line, "headers", bytes->headers);
	put_number(&c->line, "bytes", (int64_t)bytes->bytes);
	if (bytes->blob.number != 0)
		status = put_file(c, bytes, file_name);
	else
		put_bytes(&c->line, name, bytes->body);
	store_bytes_unref(bytes);
	return status;
}

static void put_errors(struct wh__text *t, const struct store_view *v)
{
	if (v->errors_count == 0)
		return;
	wh__text_str(t, ",\"errors\":[");
	for (uint32_t i = 0; i < v->errors_count; i++) {
		wh__text_format(t, "%s{\"attempt\":%" PRIu32 ",\"at_ms\":%" PRId64, i ? "," : "",
		                v->errors[i].attempt, v->errors[i].at / WH_NS_PER_MS);
		put_text(t, "text", v->errors[i].text);
		wh__text_str(t, "}");
	}
	wh__text_str(t, "]");
}

/* Of one that waits for others. */
static void put_awaits(struct wh__text *t, const struct store_view *v)
{
	static const char *const failures[JOB_AFTER_FAILURES] = {[JOB_AFTER_CANCEL] = "cancel",
	                                                         [JOB_AFTER_BURY] = "bury",
	                                                         [JOB_AFTER_RUN] = "run",
	                                                         [JOB_AFTER_WAIT] = "wait"};

	if (v->state != JOB_AWAITING)
		return;
	wh__text_format(t,
	                ",\"awaits\":{\"open\":%" PRIu32 ",\"count\":%" PRIu32
	                ",\"after_failure\":\"%s\",\"jobs\":[",
	                v->awaits_open, v->awaits_count, failures[v->after_failure]);
	for (size_t i = 0; i < v->awaits.len / sizeof(uint64_t); i++) {
		uint64_t id;

		memcpy(&id, (const uint8_t *)v->awaits.data + i * sizeof(id), sizeof(id));
		wh__text_format(t, "%s%" PRIu64, i ? "," : "", id);
	}
	wh__text_str(t, "]}");
}

static void put_view(struct export_command *c, const struct store_view *v)
{
	struct wh__text *t = &c->line;

	wh__text_format(t, "{\"id\":%" PRIu64, v->job);
	put_text(t, "queue", v->queue);
	wh__text_format(t, ",\"state\":\"%s\"", state_names[v->state]);
	put_number(t, "priority", v->priority);
	put_ms(t, "created_ms", v->created_at);
	put_ms(t, "run_at_ms", v->run_at);
	put_ms(t, "finished_ms", v->finished_at);
	put_ms(t, "expires_ms", v->expires_at);
	put_number(t, "attempts", v->attempts);
	if (v->attempts_max != JOB_ATTEMPTS_UNLIMITED)
		put_number(t, "attempts_max", v->attempts_max);
	put_ms(t, "time_to_run_ms", v->time_to_run_ns);
	put_ms(t, "retention_ms", v->retention_ns);
	put_ms(t, "begin_by_ms", v->begin_by);
	put_text(t, "group", v->group);
	put_text(t, "unique", v->unique);
	if (v->unique.len > 0 && v->unique_while_ns == JOB_UNIQUE_QUEUED)
		put_text(t, "unique_while", STORE_SLICE("queued"));
	else if (v->unique.len > 0)
		put_ms(t, "unique_while_ms", v->unique_while_ns);
	put_awaits(t, v);
	put_text(t, "dead_from", v->dead_from);
	put_text(t, "trace", v->trace);
	if (v->progress.len > 0)
		put_bytes(t, "progress", v->progress);
	put_errors(t, v);
}

static const char *doubt_of(const struct export_command *c, uint64_t job)
{
	size_t low = 0, high = c->doubtful_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		*(c->doubtful[middle] < job ? &low : &high) = c->doubtful[middle] < job ? middle + 1 : middle;
	}
	return low < c->doubtful_count && c->doubtful[low] == job ? c->why[low] : NULL;
}

static int put_job(struct export_command *c, uint64_t job)
{
	wh_res res = wh_await(store_get(c->store, job, STORE_ASYNC));
	struct store_view *v = res.ptr;
	const char *doubt = doubt_of(c, job);
	int status;

	if (res.n < 0)
		return cli_error(CLI_FAILED, "cannot read job %" PRIu64 ": %s", job, job_strerror(res.n));
	c->line.len = 0;
	put_view(c, v);
	if (doubt)
		put_text(&c->line, "uncertain", (struct store_slice){doubt, strlen(doubt)});
	status = put_body(c, store_payload(c->store, job, STORE_ASYNC), "payload", "payload_file");
	if (status == 0 && v->state == JOB_DONE) {
		wh__text_format(&c->line, ",\"result\":{\"status\":%" PRIu32, v->result_status);
		status = put_body(c, store_result(c->store, job, STORE_ASYNC), "body", "body_file");
		wh__text_str(&c->line, "}");
	}
	wh__text_str(&c->line, "}");
	store_view_free(v);
	if (status == 0)
		status = log_export_write(&c->line);
	c->written += status == 0;
	return status;
}

/* ---- all of them ------------------------------------------------------------------------- */

static void tell_progress(struct export_command *c, uint64_t done, uint64_t all)
{
	enum { WIDTH = 40 };
	int64_t now = wh_clock(c->loop);
	int filled = all > 0 ? (int)(done * WIDTH / all) : WIDTH;

	if (!c->terminal || (now - c->told_at < TELL_NS && done < all))
		return;
	c->told_at = now;
	fprintf(stderr, "\r[%.*s%.*s] %" PRIu64 " of %" PRIu64 " jobs%s", filled,
	        "########################################", WIDTH - filled,
	        "                                        ", done, all, done == all ? "\n" : "");
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Ids rise with time, and jobs of the same priority go in their order: so do lines. */
static int export_jobs(struct export_command *c)
{
	uint64_t *ids = NULL, id;
	size_t count = 0, cap = 0;
	uint32_t cursor = 0;
	int status = 0;

	while ((id = store_scan(c->store, c->queue, c->states, &cursor)) != 0) {
		if (count == cap) {
			uint64_t *more = realloc(ids, (cap = cap ? cap * 2 : 4096) * sizeof(ids[0]));

			if (!more) {
				free(ids);
				return cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));
			}
			ids = more;
		}
		ids[count++] = id;
	}
	if (count > 0)
		qsort(ids, count, sizeof(ids[0]), by_id);
	for (size_t i = 0; i < count && status == 0; i++) {
		status = put_job(c, ids[i]);
		tell_progress(c, i + 1, count);
	}
	free(ids);
	if (status == 0 && fflush(stdout) != 0)
		status = cli_error(CLI_FAILED, "cannot write: %s", wh_strerror(-errno));
	return status;
}

/* ---- what is damaged --------------------------------------------------------------------- */

static void on_found(void *arg, const char *file, uint64_t offset, const char *reason)
{
	struct export_command *c = arg;

	fprintf(stderr, "whilst log: %s/%s, byte %" PRIu64 ": %s\n", c->directory, file, offset, reason);
}

static void on_job(void *arg, uint64_t job, struct store_slice queue, const char *what)
{
	struct export_command *c = arg;

	(void)queue;
	c->told_of++;
	if (c->doubtful_count == c->doubtful_cap) {
		size_t cap = c->doubtful_cap ? c->doubtful_cap * 2 : 1024;

		c->doubtful = realloc(c->doubtful, cap * sizeof(c->doubtful[0]));
		c->why = realloc(c->why, cap * sizeof(c->why[0]));
		c->doubtful_cap = cap;
		if (!c->doubtful || !c->why) {
			cli_error(CLI_FAILED, "%s", wh_strerror(-ENOMEM));
			exit(CLI_FAILED);
		}
	}
	c->doubtful[c->doubtful_count] = job;
	c->why[c->doubtful_count++] = what; /* static text */
}

static void on_ids(void *arg, uint64_t from, uint64_t until)
{
	(void)arg;
	fprintf(stderr,
	        "whilst log: jobs %" PRIu64 " to %" PRIu64
	        ": as many of them as there were are lost, or none\n",
	        from, until - 1);
}

static int on_open(void *arg, struct store *store, const struct store_repair_result *result)
{
	struct export_command *c = arg;

	if (!c->salvage && (result->damages > 0 || c->told_of > 0))
		return EXIT_DAMAGED;
	c->store = store;
	int status = c->jobs_only ? 0 : log_export_state(store, &c->line);
	return status == 0 ? export_jobs(c) : status;
}

static int run(struct export_command *c)
{
	const char *temporary = getenv("TMPDIR");
	char scratch[4400];
	struct store_repair_options options = {.directory = c->directory,
	                                       .how = STORE_REPAIR_SKIP,
	                                       .scratch = scratch,
	                                       .found = on_found,
	                                       .job = on_job,
	                                       .ids = on_ids,
	                                       .open = on_open,
	                                       .arg = c};
	struct store_repair_result result;
	struct store_problem problem;
	int64_t made = c->bodies ? wh_await(wh_mkdir(c->loop, c->bodies, 0700)).n : 0;
	int error;

	if (made < 0)
		return cli_error(CLI_FAILED, "cannot make %s: %s", c->bodies, wh_strerror(made));
	snprintf(scratch, sizeof(scratch), "%s/whilst-export-%ld-%08x",
	         temporary && *temporary ? temporary : "/tmp", (long)getpid(), (unsigned)wh_clock(c->loop));
	error = store_repair(c->loop, &options, &result, &problem);
	if (error < 0) {
		cli_error(CLI_FAILED, "%s", problem.text);
		return problem.exit_status ? problem.exit_status : EXIT_UNREADABLE;
	}
	if (result.resumed)
		return cli_error(CLI_FAILED, "a repair was broken off: finish it by `whilst log repair`"),
		       EXIT_DAMAGED;
	if (result.opened == EXIT_DAMAGED)
		cli_error(CLI_FAILED,
		          "the folder is damaged, and nothing was written; --salvage takes what can be read");
	return result.opened;
}

static bool parse_state(struct export_command *c, const char *text)
{
	for (int state = 1; state < JOB_STATES; state++)
		if (state_names[state] && !strcmp(text, state_names[state])) {
			c->states |= 1u << state;
			return true;
		}
	return false;
}

static int parse(int argc, char **argv, struct export_command *c)
{
	static const struct option longs[] = {{"queue", 1, 0, 'q'},
	                                      {"state", 1, 0, 's'},
	                                      {"bodies", 1, 0, 'b'},
	                                      {"salvage", 0, 0, 'v'},
	                                      {"jobs", 0, 0, 'j'},
	                                      {"help", 0, 0, 'h'},
	                                      {0}};
	bool good = true;

	for (int o; (o = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (o) {
		case 'j':
			c->jobs_only = true;
			break;
		case 'q':
			c->jobs_only = true;
			c->queue = (struct store_slice){optarg, strlen(optarg)};
			break;
		case 's':
			c->jobs_only = true;
			good = good && parse_state(c, optarg);
			break;
		case 'b':
			c->bodies = optarg;
			break;
		case 'v':
			c->salvage = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return CLI_DONE;
		default:
			good = false;
		}
	}
	if (!good || argc - optind != 2) {
		fputs(usage_text, stderr);
		return CLI_USAGE;
	}
	c->directory = argv[optind + 1];
	return -1;
}

int cli_log_export(int argc, char **argv)
{
	struct export_command c = {0};
	int status = parse(argc, argv, &c), error;

	if (status >= 0)
		return status;
	error = wh_loop_open(&c.loop, NULL);
	if (error < 0)
		return cli_error(CLI_FAILED, "%s", wh_strerror(error));
	wh__text_init(&c.line, NULL, 0);
	c.terminal = isatty(STDERR_FILENO);
	status = run(&c);
	wh__text_done(&c.line);
	free(c.doubtful);
	free(c.why);
	wh_loop_close(c.loop);
	return status;
}
