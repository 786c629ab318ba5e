/* src/cli/work.c -- `whilst work QUEUE -- COMMAND`: any program becomes an asynchronous backend.
 *
 * Each slot leases a job, runs the command with the payload on its standard input, and gives its standard output as the
 * result; the exit status decides. While the command runs the lease is extended, and a lease that is lost or a job
 * that is cancelled ends the command. A signal stops the leasing and lets what runs finish; a second one ends it and
 * gives the jobs back.
 *
 * One thread, callbacks only: the slots overlap.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>

#include "base/units.h"
#include "cli/cli.h"

enum {
	EXIT_FOR_GOOD = 100,    /* no further attempt, as with qmail-command(8) */
	ERROR_BYTES_MAX = 4096, /* of standard error: the server keeps no more */
	SLOTS_MAX = 1024,
	PIECE_BYTES = 16 * 1024,
};

static const char usage[] =
	"usage: whilst work QUEUE [OPTION...] -- COMMAND [ARGUMENT...]\n\n"
	"Runs COMMAND for each job of QUEUE: the payload on its standard input, its standard output is the "
	"result.\n"
	"Exit status 0: the job is done; 100: failed for good; anything else: failed, tried again as the job "
	"allows, with\n"
	"what was written to standard error kept. WHILST_JOB, WHILST_ATTEMPT and WHILST_QUEUE are in its "
	"environment, of\n"
	"an event its attributes: CE_TYPE, CE_ID, ..., and of a job that has one its trace context: "
	"TRACEPARENT, "
	"TRACESTATE.\n\n"
	"  --concurrency N      jobs at a time, default 1\n"
	"  --type TYPE          content type of the results, default application/octet-stream\n"
	"  --exit-when-empty    end when the queue has no job that is ready\n"
	"  --server URL, --json (a line for each job), --help\n"
	"A first SIGINT or SIGTERM lets what runs finish, a second one ends it and gives the jobs back.\n";

struct work;

struct slot {
	struct work *work;
	/* the job */
	struct wh_leases *leases;       /* one */
	const struct wh_leased *leased; /* that; NULL: none */
	struct wh_problem problem;      /* of the request that is under way */
	/* the command */
	struct wh_child child;
	wh_future heartbeat;
	struct cli_text out, err;
	char out_piece[PIECE_BYTES], err_piece[PIECE_BYTES];
	int parts_left; /* input, output, error output, exit */
	int wait_status;
	bool running, lost, too_large;
};

struct work {
	struct cli_session session;
	const char *queue, *type;
	char *const *command;
	struct slot **slots;
	uint32_t slot_count, active;
	bool exit_when_empty, stopping, releasing;
	int status;
	uint64_t failures; /* of the connection, in a row: for the pause before the next try */
};

static void reserve(struct slot *slot);

/* ---- the end ------------------------------------------------------------------------------ */

static void slot_is_idle(struct slot *slot)
{
	struct work *work = slot->work;
	if (!work->stopping) {
		reserve(slot);
		return;
	}
	if (--work->active == 0)
		wh_loop_stop(work->session.loop);
}

static void forget_job(struct slot *slot)
{
	slot->leases = wh_leases_free(slot->leases);
	slot->leased = NULL;
	cli_text_free(&slot->out);
	cli_text_free(&slot->err);
	slot->running = slot->lost = slot->too_large = false;
	slot_is_idle(slot);
}

static void report(const struct slot *slot, const char *state, const char *why)
{
	if (slot->work->session.json) {
		json_t *line = json_pack("{s:I, s:s, s:s}", "id", (json_int_t)slot->leased->lease.job,
		                         "state", state, "error", why);
		json_dumpf(line, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(line);
	} else if (*why) {
		fprintf(stderr, "whilst work: job %llu: %s: %s\n",
		        (unsigned long long)slot->leased->lease.job, state, why);
	}
}

static void conclude(struct slot *slot);

static void on_told(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	(void)loop;
	if (res.n == -WH_ECALL_TOO_LARGE && !slot->too_large) {
		slot->too_large = true;
		conclude(slot); /* as a failure that says so */
		return;
	}
	if (res.n < 0 && slot->problem.status == 0)
		report(slot, "unknown",
		       wh_strerror(slot->problem.cause)); /* the lease will pass, and the job run again */
	else if (res.n < 0)
		report(slot, "refused", slot->problem.detail);
	forget_job(slot);
}

/* How each request of the slot is made. */
static struct wh_how how(struct slot *slot)
{
	slot->problem = (struct wh_problem){0};
	return (struct wh_how){.problem = &slot->problem};
}

static void release(struct slot *slot)
{
	struct wh_how h = how(slot);
	wh_then(wh_client_release(slot->work->session.calls, slot->leased->lease, 0, NULL, &h), on_told,
	        slot);
}

static void complete(struct slot *slot)
{
	struct wh_payload result = {.bytes = slot->out.bytes, .len = slot->out.len, .type = slot->work->type};
	struct wh_how h = how(slot);
	wh_then(wh_client_complete(slot->work->session.calls, slot->leased->lease, 200, &result, &h), on_told,
	        slot);
}

static void fail(struct slot *slot, const char *why, bool for_good)
{
	struct wh_how h = how(slot);
	wh_then(wh_client_fail(slot->work->session.calls, slot->leased->lease, why,
	                       for_good ? WH_RETRY_NEVER : WH_RETRY_BACKOFF, &h),
	        on_told, slot);
}

static void describe_failure(struct slot *slot, struct cli_text *ret)
{
	if (slot->too_large)
		cli_text_format(ret, "the result is too large");
	else if (WIFSIGNALED(slot->wait_status))
		cli_text_format(ret, "ended by signal %d", WTERMSIG(slot->wait_status));
	else
		cli_text_format(ret, "exit status %d", WEXITSTATUS(slot->wait_status));
	while (slot->err.len > 0 && slot->err.bytes[slot->err.len - 1] == '\n')
		slot->err.bytes[--slot->err.len] = 0;
	if (slot->err.len > 0)
		cli_text_format(ret, ": %s", slot->err.bytes);
}

static void conclude(struct slot *slot)
{
	struct work *work = slot->work;
	bool exited = WIFEXITED(slot->wait_status);
	if (slot->lost) {
		report(slot, "lost", "the lease was lost or the job cancelled; its result is not wanted");
		forget_job(slot);
	} else if (work->releasing) {
		release(slot);
	} else if (exited && WEXITSTATUS(slot->wait_status) == 0 && !slot->too_large) {
		report(slot, "done", "");
		complete(slot);
	} else {
		struct cli_text why = {0};
		bool for_good = exited && WEXITSTATUS(slot->wait_status) == EXIT_FOR_GOOD;
		describe_failure(slot, &why);
		report(slot, "failed", why.bytes);
		fail(slot, why.bytes, for_good);
		cli_text_free(&why);
	}
}

/* ---- the command -------------------------------------------------------------------------- */

static void part_ended(struct slot *slot)
{
	if (--slot->parts_left > 0)
		return;
	wh_cancel(slot->heartbeat);
	conclude(slot);
}

static void on_input_written(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	(void)res; /* a command need not read its input: its exit status decides */
	wh_drop(wh_close(loop, slot->child.in));
	part_ended(slot);
}

static void on_output(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	if (res.n > 0) {
		cli_text_add(&slot->out, slot->out_piece, (size_t)res.n);
		wh_then(wh_read(loop, slot->child.out, slot->out_piece, PIECE_BYTES), on_output, slot);
		return;
	}
	wh_drop(wh_close(loop, slot->child.out));
	part_ended(slot);
}

/* The last ERROR_BYTES_MAX bytes: the end tells more than the beginning. */
static void keep_error(struct slot *slot, size_t len)
{
	cli_text_add(&slot->err, slot->err_piece, len);
	if (slot->err.len > ERROR_BYTES_MAX) {
		size_t extra = slot->err.len - ERROR_BYTES_MAX;
		memmove(slot->err.bytes, slot->err.bytes + extra, ERROR_BYTES_MAX + 1);
		slot->err.len = ERROR_BYTES_MAX;
	}
}

static void on_error_output(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	if (res.n > 0) {
		keep_error(slot, (size_t)res.n);
		wh_then(wh_read(loop, slot->child.err, slot->err_piece, PIECE_BYTES), on_error_output, slot);
		return;
	}
	wh_drop(wh_close(loop, slot->child.err));
	part_ended(slot);
}

static void on_exited(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	(void)loop;
	slot->wait_status = res.n >= 0 ? (int)res.n : 127 << 8;
	slot->running = false; /* its number is no longer its own */
	part_ended(slot);
}

static void end_command(struct slot *slot)
{
	if (slot->running)
		(void)wh_child_kill(slot->work->session.loop, -slot->child.pid,
		                    SIGTERM); /* it may have ended */
}

static void beat(struct slot *slot);

static void on_extended(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	(void)loop;
	slot->heartbeat.id = 0;
	if (res.n == -ECANCELED)
		return;
	if (res.n < 0 &&
	    (slot->problem.status == 409 || slot->problem.status == 404 || slot->problem.status == 410)) {
		slot->lost = true;
		end_command(slot);
		return;
	}
	if (slot->parts_left > 0)
		beat(slot); /* no answer: the server may be back before the lease passes */
}

static void on_beat(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	(void)loop;
	slot->heartbeat.id = 0;
	if (res.n < 0 || slot->parts_left == 0)
		return;
	struct wh_how h = how(slot);
	slot->heartbeat = wh_client_extend(slot->work->session.calls, slot->leased->lease, 0, &h);
	wh_then(slot->heartbeat, on_extended, slot);
}

static void beat(struct slot *slot)
{
	slot->heartbeat = wh_sleep(slot->work->session.loop, slot->leased->time_to_run_ns / 3);
	wh_then(slot->heartbeat, on_beat, slot);
}

static int hex(char c)
{
	const char *digits = "0123456789abcdef",
		   *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* "ce-type: a%20b" as "CE_TYPE=a b", malloc'ed; NULL: it is no attribute of an event. The server percent-encodes, and nothing else. */
static char *event_variable(const struct wh_http_field *field)
{
	char *text, *to;
	if (field->name.len < 4 || strncasecmp(field->name.data, "ce-", 3) != 0)
		return NULL;
	to = text = malloc(field->name.len + field->value.len + 2);
	if (!text)
		return NULL;
	memcpy(to, "CE_", 3);
	to += 3;
	for (size_t i = 3; i < field->name.len; i++)
		*to++ = (char)toupper((unsigned char)field->name.data[i]);
	*to++ = '=';
	for (size_t i = 0; i < field->value.len; i++) {
		const char *at = field->value.data + i;
		if (*at == '%' && i + 2 < field->value.len && hex(at[1]) >= 0 && hex(at[2]) >= 0) {
			*to++ = (char)(hex(at[1]) << 4 | hex(at[2]));
			i += 2;
		} else {
			*to++ = *at;
		}
	}
	*to = 0;
	return text;
}

static bool is_trace(const char *variable)
{
	return strncmp(variable, "TRACEPARENT=", 12) == 0 || strncmp(variable, "TRACESTATE=", 11) == 0;
}

/* Its environment is ours, and what a command wants to know of its job. */
static int spawn(struct slot *slot)
{
	struct work *work = slot->work;
	struct cli_text job = {0}, attempt = {0}, queue = {0}, parent = {0}, state = {0};
	size_t count = 0, own;
	while (environ[count])
		count++;
	const char **environment = calloc(count + slot->leased->field_count + 6, sizeof *environment);
	if (!environment)
		return -ENOMEM;
	count = 0;
	for (size_t i = 0; environ[i]; i++) {
		if (!is_trace(environ[i])) /* who started the worker has not asked for this job */
			environment[count++] = environ[i];
	}
	cli_text_format(&job, "WHILST_JOB=%llu", (unsigned long long)slot->leased->lease.job);
	cli_text_format(&attempt, "WHILST_ATTEMPT=%u", slot->leased->attempt);
	cli_text_format(&queue, "WHILST_QUEUE=%s", work->queue);
	environment[count++] = job.bytes;
	environment[count++] = attempt.bytes;
	environment[count++] = queue.bytes;
	if (slot->leased->traceparent) {
		cli_text_format(&parent, "TRACEPARENT=%s", slot->leased->traceparent);
		environment[count++] = parent.bytes;
	}
	if (slot->leased->tracestate) {
		cli_text_format(&state, "TRACESTATE=%s", slot->leased->tracestate);
		environment[count++] = state.bytes;
	}
	own = count;
	for (size_t i = 0; i < slot->leased->field_count; i++) {
		environment[count] = event_variable(&slot->leased->fields[i]);
		count += environment[count] != NULL;
	}
	struct wh_spawn_options options = {.argv = (const char *const *)(uintptr_t)work->command,
	                                   .environment = environment,
	                                   .pipe_in = true,
	                                   .pipe_out = true,
	                                   .pipe_err = true,
	                                   .new_group = true};
	int error = wh_spawn(work->session.loop, &options, &slot->child);
	while (count > own)
		free((void *)(uintptr_t)environment[--count]);
	free(environment);
	cli_text_free(&job);
	cli_text_free(&attempt);
	cli_text_free(&queue);
	cli_text_free(&parent);
	cli_text_free(&state);
	return error;
}

static void run(struct slot *slot)
{
	struct work *work = slot->work;
	wh_loop *loop = work->session.loop;
	int error = spawn(slot);
	if (error != 0) {
		(void)cli_error(CLI_FAILED, "cannot run %s: %s", work->command[0], wh_strerror(error));
		work->stopping = true;
		work->status = CLI_FAILED;
		release(slot);
		return;
	}
	slot->running = true;
	slot->parts_left = 4;
	beat(slot);
	wh_then(wh_write_all(loop, slot->child.in, slot->leased->payload.data, slot->leased->payload.len),
	        on_input_written, slot);
	wh_then(wh_read(loop, slot->child.out, slot->out_piece, PIECE_BYTES), on_output, slot);
	wh_then(wh_read(loop, slot->child.err, slot->err_piece, PIECE_BYTES), on_error_output, slot);
	wh_then(wh_child_wait(loop, slot->child.pid), on_exited, slot);
}

/* ---- leasing ------------------------------------------------------------------------------ */

static void on_paused(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop;
	(void)res;
	slot_is_idle(arg);
}

static void try_later(struct slot *slot)
{
	struct work *work = slot->work;
	int64_t pause = work->failures < 7 ? WH_NS_PER_MS * 100 << work->failures : 10 * WH_NS_PER_S;
	work->failures++;
	wh_then(wh_sleep(work->session.loop, pause), on_paused, slot);
}

static void stop_with(struct slot *slot, int status)
{
	slot->work->stopping = true;
	slot->work->status = status;
	slot_is_idle(slot);
}

static void on_reserved(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	struct work *work = slot->work;
	(void)loop;
	if (res.n == 1) {
		work->failures = 0;
		slot->leases = res.ptr;
		slot->leased = slot->leases->jobs;
		run(slot);
	} else if (res.n == 0) {
		work->failures = 0;
		if (work->exit_when_empty)
			stop_with(slot, work->status);
		else
			slot_is_idle(slot);
	} else if (res.n == -ECANCELED || (slot->problem.status == 0 && work->stopping)) {
		slot_is_idle(slot);
	} else if (slot->problem.status == 0) {
		if (work->failures == 0)
			(void)cli_error(CLI_NO_CONNECTION, "no answer from %s: %s; trying on",
			                work->session.server, wh_strerror(slot->problem.cause));
		try_later(slot);
	} else if (slot->problem.status == 503 || slot->problem.status == 429) {
		try_later(slot);
	} else {
		stop_with(slot, cli_failed(&work->session, &slot->problem));
	}
}

static void reserve(struct slot *slot)
{
	struct work *work = slot->work;
	struct wh_how h = how(slot);
	slot->heartbeat = wh_client_reserve(work->session.calls, work->queue, 1,
	                                    work->exit_when_empty ? 0 : WH_FOR_EVER, &h);
	wh_then(slot->heartbeat, on_reserved, slot);
}

/* ---- signals and set-up ------------------------------------------------------------------- */

static void on_signal(wh_loop *loop, wh_res res, void *arg)
{
	struct work *work = arg;
	if (res.n < 0)
		return;
	work->releasing = work->stopping;
	work->stopping = true;
	for (uint32_t i = 0; i < work->slot_count; i++) {
		struct slot *slot = work->slots[i];
		if (work->releasing)
			end_command(slot);
		else if (!slot->leased)
			wh_cancel(slot->heartbeat); /* the reservation, or the pause before the next */
	}
	wh_then(wh_signal(loop, (int)res.n), on_signal, work);
}

static int run_slots(struct work *work)
{
	wh_loop *loop = work->session.loop;
	work->slots = calloc(work->slot_count, sizeof *work->slots);
	for (uint32_t i = 0; work->slots && i < work->slot_count; i++) {
		work->slots[i] = calloc(1, sizeof **work->slots);
		if (!work->slots[i])
			return cli_error(CLI_FAILED, "out of memory");
		work->slots[i]->work = work;
	}
	if (!work->slots)
		return cli_error(CLI_FAILED, "out of memory");
	wh_then(wh_signal(loop, SIGINT), on_signal, work);
	wh_then(wh_signal(loop, SIGTERM), on_signal, work);
	work->active = work->slot_count;
	for (uint32_t i = 0; i < work->slot_count; i++)
		reserve(work->slots[i]);
	int error = wh_loop_run(loop);
	return error < 0 ? cli_error(CLI_FAILED, "%s", wh_strerror(error)) : work->status;
}

int cli_work(int argc, char **argv)
{
	static const struct option longs[] = {
		{"concurrency", 1, 0, 'c'}, {"type", 1, 0, 't'}, {"exit-when-empty", 0, 0, 'e'}, {0}};
	struct work work = {.type = "application/octet-stream", .slot_count = 1};
	struct cli_options common = {.usage = usage};
	uint64_t number;
	for (int o; (o = cli_option(&common, argc, argv, longs)) != -1;) {
		switch (o) {
		case 'c':
			if (!wh__parse_u64(optarg, strlen(optarg), SLOTS_MAX, &number) || number == 0)
				return cli_error(CLI_USAGE, "--concurrency %s: not a number from 1 to %d",
				                 optarg, SLOTS_MAX);
			work.slot_count = (uint32_t)number;
			break;
		case 't':
			work.type = optarg;
			break;
		case 'e':
			work.exit_when_empty = true;
			break;
		}
	}
	if (common.ended)
		return common.status;
	if (argc - optind < 2)
		return cli_usage(usage);
	work.queue = argv[optind];
	work.command = argv + optind + 1;
	int status = cli_session_open(&work.session, common.server, common.json);
	if (status == 0)
		status = run_slots(&work);
	cli_session_close(&work.session);
	for (uint32_t i = 0; work.slots && i < work.slot_count; i++)
		free(work.slots[i]);
	free(work.slots);
	return status;
}
