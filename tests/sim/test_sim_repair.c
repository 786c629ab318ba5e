/* tests/sim/test_sim_repair.c -- a data folder is damaged, each kind of record in turn and then by chance, and repaired: on a
 * simulated machine, so that the same seed gives the same folder, the same damage and the same order of everything.
 *
 * Each seed makes two folders with jobs, queues, settings and keys in every shape: one whose log is all there, as a kill leaves it, and
 * one with a checkpoint, whose history has been compacted. Of every kind of record that there is (docs/format-records.md; a kind that no
 * folder holds fails the test) some are damaged: a bit of it flipped, its file cut off there, its file lost. `log verify` names the
 * damage; each choice of the repair is tried; a folder that was repaired starts, adds up, verifies, is not repaired twice, gives no id
 * again, and what the repair does not name is what it was.
 *
 *     WHILST_SIM_FIRST, WHILST_SIM_SEEDS   see plan.h
 *     WHILST_REPAIR_RANDOM                 how often each folder is damaged by chance besides (default 40)
 *     WHILST_REPAIR_WALK                   1: instead, each block of each file of a compacted folder of four lives is damaged in each way and repaired in
 *                                          each way; N: each N-th of these. Segments are 64, 128 and 192 KiB, by the seed
 *     WHILST_REPAIR_LOUD                   tell of every repair
 */
#include "plan.h"

#include <fcntl.h>

#include "job/record.h"
#include "log/log.h"
#include "store/repair.h"

enum { BLOB = 8 << 10, JOBS = 92, SHAPES = 23, IDS = 1200, FILES_MAX = 96, SPOTS = 3, TEXT = 4000 };

#define DAY (86400 * WH_NS_PER_S)

struct file {
	char name[64];
	uint8_t *bytes;
	size_t len, used; /* used: behind it are zeros */
};

/* A record in a file. */
struct spot {
	size_t file;
	uint64_t offset, location; /* location 0: in the checkpoint */
	uint32_t len;
};

struct folder {
	const char *what;
	struct file files[FILES_MAX];
	size_t files_count;
	char *seen[IDS + 1]; /* by id: what a look at it shows; NULL: it is not there */
	char *others;        /* queues and settings */
	uint64_t last;       /* the highest id */
	uint64_t keys;
	struct spot spots[JOB_RECORD_TYPES_END][SPOTS];
	size_t spots_count[JOB_RECORD_TYPES_END];
	bool compacted;
};

static wh_sim *sim;
static uint64_t segment = 64 << 10;
static wh_loop *loop;
static struct folder folders[2];
static unsigned char named[IDS + 1];
static bool loud;
static uint64_t damages;
static char context[256];

static struct {
	uint64_t repaired, nothing, refused, impossible, named, back;
} sums;

#define check(condition, ...)                                             \
	do {                                                              \
		bool holds = (condition);                                 \
		if (!holds)                                               \
			fprintf(stderr, "%s: %s\n", context, #condition); \
		must(holds, __VA_ARGS__);                                 \
	} while (0)

/* ---- files ------------------------------------------------------------------------------- */

static int64_t await(wh_future future)
{
	return wh_await(future).n;
}

static void put_file(const char *folder, const struct file *file)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, file->name);
	int64_t fd = await(wh_open(loop, path, O_WRONLY | O_CREAT | O_EXCL, 0600));
	must(fd >= 0, "%s: %s", path, wh_strerror(fd));
	if (file->len > 0)
		must(await(wh_pwrite_all(loop, (int)fd, file->bytes, file->len, 0)) == (int64_t)file->len,
		     "write");
	must(await(wh_close(loop, (int)fd)) == 0, "close");
}

static void get_file(struct folder *f, const char *folder, const char *name)
{
	char path[400];
	struct file *file = &f->files[f->files_count++];
	must(f->files_count < FILES_MAX && strlen(name) < sizeof(file->name), "too many files");
	memcpy(file->name, name, strlen(name) + 1);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int64_t fd = await(wh_open(loop, path, O_RDONLY, 0));
	must(fd >= 0, "%s: %s", path, wh_strerror(fd));
	int64_t len = await(wh_size(loop, (int)fd));
	must(len >= 0, "size");
	file->len = (size_t)len;
	file->bytes = malloc(file->len + 1);
	must(file->bytes && await(wh_pread_all(loop, (int)fd, file->bytes, file->len, 0)) == len, "read");
	must(await(wh_close(loop, (int)fd)) == 0, "close");
	for (file->used = file->len; file->used > 0 && file->bytes[file->used - 1] == 0;)
		file->used--;
}

static bool is_of_store(const char *name)
{
	return !strncmp(name, "seg-", 4) || !strncmp(name, "checkpoint-", 11) ||
	       !strncmp(name, "manifest-", 9) || !strncmp(name, "blobs/", 6);
}

/* All that is in it, into memory. */
static void get_folder(struct folder *f, const char *folder)
{
	static const char *const below[] = {"", "blobs/"};
	for (int b = 0; b < 2; b++) {
		char path[128], name[300];
		snprintf(path, sizeof(path), "%s/%s", folder, b ? "blobs" : "");
		wh_res res = wh_await(wh_list(loop, path));
		struct wh_names *names = res.ptr;
		must(res.n >= 0, "%s: %s", path, wh_strerror(res.n));
		for (size_t i = 0; i < names->count; i++) {
			snprintf(name, sizeof(name), "%s%s", below[b], names->names[i]);
			if (is_of_store(name))
				get_file(f, folder, name);
		}
		wh_names_free(names);
	}
}

/* The folder on a new machine. */
static void begin_machine(const struct folder *f, uint64_t seed, const struct file *damaged,
                          size_t damaged_at)
{
	struct wh_sim_options options = {.seed = seed};
	must(wh_sim_open(&sim, &options) == 0, "a machine");
	loop = plan_loop(sim);
	if (!f)
		return;
	must(await(wh_mkdir(loop, "/folder", 0700)) == 0 && await(wh_mkdir(loop, "/folder/blobs", 0700)) == 0,
	     "mkdir");
	for (size_t i = 0; i < f->files_count; i++)
		if (!damaged || i != damaged_at)
			put_file("/folder", &f->files[i]);
		else if (damaged->bytes)
			put_file("/folder", damaged);
}

static void end_machine(void)
{
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
}

static uint64_t folder_sum(void)
{
	struct folder now = {0};
	uint64_t sum = 1469598103934665603u;
	get_folder(&now, "/folder");
	for (size_t i = 0; i < now.files_count; i++) {
		for (size_t k = 0; now.files[i].name[k]; k++)
			sum = (sum ^ (uint8_t)now.files[i].name[k]) * 1099511628211u;
		for (size_t k = 0; k < now.files[i].used; k++)
			sum = (sum ^ now.files[i].bytes[k]) * 1099511628211u;
		sum = (sum ^ now.files[i].len) * 1099511628211u;
		free(now.files[i].bytes);
	}
	return sum;
}

/* ---- a folder with everything in it ------------------------------------------------------ */

static struct store *open_store(const char *directory, bool compacts)
{
	struct store_problem problem = {0};
	struct store *store = NULL;
	struct store_options options = {.directory = directory,
	                                .segment_bytes = segment,
	                                .checkpoint_bytes = compacts ? segment : UINT64_C(1) << 40,
	                                .compact_slack = compacts ? segment : UINT64_C(1) << 40,
	                                .blob_bytes = BLOB,
	                                .recent_bytes = 4096,
	                                .log = verbose ? tell : NULL};
	int error = store_open(loop, &options, &store, &problem);
	check(error == 0, "%s", problem.text);
	return store;
}

static struct store_slice words(const char *text)
{
	return (struct store_slice){text, strlen(text)};
}

static struct store_result apply(struct store *store, struct store_action action)
{
	wh_res res = wh_await(store_apply(store, &action, 1, 0, STORE_ASYNC));
	struct store_commit *commit = res.ptr;
	check(res.n == 0 && commit->error == 0, "action %d: %s", action.kind,
	      job_strerror(res.n < 0 ? res.n : commit->error));
	struct store_result result = commit->results[0];
	store_commit_free(commit);
	return result;
}

static struct store_action leased(struct store *store, int kind, uint64_t job)
{
	wh_res res =
		wh_await(store_reserve(store, &(struct store_reserve){.job = job, .level = STORE_ASYNC}));
	struct store_lot *lot = res.ptr;
	check(res.n == 1, "job %" PRIu64 " is not to be had: %s", job, job_strerror(res.n));
	struct store_action a = {.kind = kind, .job = job, .lease = lot->jobs[0].lease};
	store_lot_free(lot);
	return a;
}

static void fail_once(struct store *store, uint64_t job, int attempt, bool last)
{
	struct store_action a = leased(store, STORE_FAIL, job);
	char error[100];
	snprintf(error, sizeof(error), "attempt %d of job %" PRIu64, attempt, job);
	a.fail.error = words(error);
	a.fail.delay_set = true;
	a.fail.no_retry = last;
	apply(store, a);
}

static void end_one(struct store *store, uint64_t job, bool large)
{
	static char body[2 * BLOB];
	struct store_action a = leased(store, STORE_COMPLETE, job);
	memset(body, 'r', sizeof(body));
	a.complete.bytes = large ? (struct store_slice){body, sizeof(body)} : words("the result");
	a.complete.content_type = words("text/x-result");
	apply(store, a);
}

/* One of its kind for every shape; all values that a queue could say are the job's own. */
static struct store_submit shaped(unsigned i, unsigned shape, char queue[16], char key[16], uint8_t *body)
{
	struct store_submit s = {.payload = {body, 100 + i * 37 % 700},
	                         .content_type = words("text/plain"),
	                         .headers = words("x: y\r\n"),
	                         .priority = JOB_PRIORITY_DEFAULT,
	                         .attempts_max = 10,
	                         .retention_ns = 9 * DAY,
	                         .time_to_run_ns = 9 * DAY};
	memset(body, 'a' + (int)(i % 26), 2 * BLOB);
	snprintf(queue, 16, "q%u", i % 4);
	snprintf(key, 16, "k%u", i);
	if (shape == 0)
		s.delay_ns = 9 * DAY;
	if (shape == 1)
		s.payload.len = BLOB + 1 + i;
	if (shape == 11)
		s.buried = true;
	if (shape == 12 || shape == 13)
		s.unique = words(key);
	if (shape == 12)
		s.unique_while_ns = 9 * DAY;
	if (shape == 14)
		s.group = words(key);
	if (shape == 15)
		s.expires_ns = 9 * DAY;
	if (shape == 16) {
		snprintf(queue, 16, "topic/t");
		s.done = true;
		s.event = 1;
	}
	if (shape == 17) {
		snprintf(queue, 16, "short");
		s.attempts_max = 1;
	}
	if (shape == 18)
		snprintf(queue, 16, "rated");
	s.queue = words(queue);
	return s;
}

static uint64_t submit_one(struct store *store, unsigned i, unsigned shape)
{
	static uint8_t body[2 * BLOB];
	char queue[16], key[16];
	return apply(store, (struct store_action){.kind = STORE_SUBMIT,
	                                          .submit = shaped(i, shape, queue, key, body)})
	        .job;
}

/* One that runs after another, which is delayed, or has ended by now. */
static uint64_t submit_after(struct store *store, unsigned i, bool ended)
{
	static uint8_t body[2 * BLOB];
	char queue[16], key[16];
	uint64_t other = submit_one(store, i, ended ? 20 : 0);
	struct store_action a = {.kind = STORE_SUBMIT, .submit = shaped(i, 20, queue, key, body)};
	a.submit.after = (struct store_slice){&other, sizeof(other)};
	uint64_t id = apply(store, a).job;
	if (ended)
		end_one(store, other, false);
	return id;
}

static uint64_t submit_once(struct store *store, unsigned i)
{
	static uint8_t body[2 * BLOB];
	char queue[16], unique[16], name[32];
	struct store_action a = {.kind = STORE_SUBMIT, .submit = shaped(i, 20, queue, unique, body)};
	struct store_key key = {.name = {name, (size_t)snprintf(name, sizeof(name), "once %u", i)}};
	wh_res res = wh_await(store_apply_once(store, &a, 1, STORE_ASYNC, &key));
	struct store_commit *commit = res.ptr;
	check(res.n == 0 && commit->error == 0, "once: %s", wh_strerror(res.n));
	uint64_t id = commit->results[0].job;
	store_commit_free(commit);
	return id;
}

static void try_again(struct store *store, uint64_t job)
{
	struct store_many many = {.kind = STORE_REPLAY, .queue = {0}, .ids = &job, .ids_count = 1};
	struct store_slice queue;
	check(store_queue_of(store, job, &queue) == 0, "its queue");
	char name[16];
	snprintf(name, sizeof(name), "%.*s", (int)queue.len, (const char *)queue.data);
	many.queue = words(name);
	wh_res res = wh_await(store_do_many(store, &many));
	struct store_commit *commit = res.ptr;
	check(res.n == 0 && commit->results[0].count == 1, "replay: %s", job_strerror(res.n));
	store_commit_free(commit);
}

static void reserve_from(struct store *store, const char *queue)
{
	struct store_slice name = words(queue);
	wh_res res = wh_await(store_reserve(
		store, &(struct store_reserve){.queues = &name, .queues_count = 1, .level = STORE_ASYNC}));
	check(res.n == 1, "nothing in %s: %s", queue, job_strerror(res.n));
	store_lot_free(res.ptr);
}

/* What is done to a job once it is there. */
static void treat(struct store *store, uint64_t job, unsigned shape)
{
	struct store_action a;
	switch (shape) {
	case 2:
		a = leased(store, STORE_PROGRESS, job);
		a.progress.bytes = words("half of it");
		apply(store, a);
		a.kind = STORE_EXTEND;
		a.extend.by_ns = 8 * DAY;
		apply(store, a);
		break;
	case 3:
	case 4:
		fail_once(store, job, 1, false);
		fail_once(store, job, 2, shape == 4);
		break;
	case 5:
	case 6:
		end_one(store, job, shape == 6);
		break;
	case 7:
		apply(store, (struct store_action){.kind = STORE_CANCEL, .job = job});
		break;
	case 8:
		fail_once(store, job, 1, false);
		end_one(store, job, false);
		break;
	case 9:
		if (job % 2)
			end_one(store, job, false);
		apply(store, (struct store_action){.kind = STORE_DELETE, .job = job});
		break;
	case 10:
		a = leased(store, STORE_BURY, job);
		a.bury.error = words("set aside");
		apply(store, a);
		break;
	case 11:
		apply(store, (struct store_action){.kind = STORE_KICK, .job = job});
		a = leased(store, STORE_RELEASE, job);
		a.release.delay_ns = 8 * DAY;
		apply(store, a);
		break;
	case 13:
		a = leased(store, STORE_RETURN, job);
		apply(store, a);
		break;
	case 14:
		leased(store, STORE_CANCEL, job);
		apply(store, (struct store_action){.kind = STORE_CANCEL, .job = job});
		break;
	case 15:
		apply(store, (struct store_action){.kind = STORE_EDIT,
		                                   .job = job,
		                                   .edit = {.fields = STORE_EDIT_PRIORITY, .priority = 7}});
		break;
	case 17:
		fail_once(store, job, 1, false); /* dead */
		break;
	case 18:
		reserve_from(store, "rated");
		break;
	case 19:
		fail_once(store, job, 1, true);
		try_again(store, job);
		break;
	}
}

static void put_queue(struct store *store, const char *name, const char *dead, uint32_t rate)
{
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = words(name), .dead_letter = words(dead)}};
	put.queue.config.rate_count = rate;
	put.queue.config.rate_period_ms = rate ? 1000 : 0;
	put.queue.config.group_concurrency = 3;
	apply(store, put);
}

static void put_setting(struct store *store, unsigned i)
{
	char key[16], value[64];
	snprintf(key, sizeof(key), "setting/%u", i % 7);
	snprintf(value, sizeof(value), "the value %u", i);
	apply(store, (struct store_action){.kind = STORE_SETTING_PUT, .setting = {words(key), words(value)}});
}

static void churn(struct store *store, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		apply(store, (struct store_action){.kind = STORE_DELETE, .job = submit_one(store, i, 20)});
}

static void flush(struct store *store)
{
	struct store_marks marks;
	store_marks(store, &marks);
	check(wh_await(store_wait_position(store, (struct store_position){marks.epoch, marks.appended},
	                                   STORE_LOCAL))
	                      .n == 0,
	      "flush");
	/* the seal says that all before it is durable: without one, damage at the end cannot be told from a torn tail */
	wh_await(wh_sleep(loop, WH_NS_PER_S));
}

/* A job of each shape, and what is there besides jobs. */
static void fill(struct store *store, unsigned from, unsigned until, bool compacts)
{
	for (unsigned i = from; i < until; i++) {
		unsigned shape = i % SHAPES;
		uint64_t job = shape == 20  ? submit_once(store, i)
		               : shape > 20 ? submit_after(store, i, shape == 22)
		                            : submit_one(store, i, shape);
		treat(store, job, shape);
		if (shape == 5)
			put_setting(store, i);
		if (shape == 6 && i > SHAPES) {
			apply(store, (struct store_action){.kind = STORE_SETTING_DELETE,
			                                   .setting = {.key = words("setting/gone")}});
		}
		if (shape == 4)
			apply(store,
			      (struct store_action){.kind = STORE_SETTING_PUT,
			                            .setting = {words("setting/gone"), words("soon")}});
		if (shape == 7) {
			put_queue(store, "gone", "", 0);
			apply(store, (struct store_action){.kind = STORE_QUEUE_DELETE,
			                                   .queue = {.name = words("gone")}});
		}
		if (compacts && i % 12 == 11)
			churn(store, 30 + (unsigned)chance(30));
		if (chance(4) == 0)
			wh_await(wh_sleep(loop, (int64_t)chance(30 * WH_NS_PER_MS)));
	}
}

/* Closed in order or killed, and opened again: another epoch. */
static struct store *another_life(struct store *store)
{
	bool killed = chance(2);
	flush(store);
	if (killed)
		wh_sim_power_cut(sim);
	check(store_close(store) == 0 || killed, "close");
	loop = wh_loop_close(loop);
	check(!killed || wh_sim_restart(sim, NULL, WH_SIM_KILLED) == 0, "restart");
	loop = plan_loop(sim);
	return open_store("/data", true);
}

/* lives: beside the first. */
static void make_folder(struct folder *f, bool compacted, unsigned lives)
{
	struct store_stats stats = {0};
	*f = (struct folder){.what = compacted ? "compacted" : "all there", .compacted = compacted};
	snprintf(context, sizeof(context), "making: %s", f->what);
	begin_machine(NULL, plan.seed * 2 + compacted, NULL, 0);
	struct store *store = open_store("/data", compacted);
	put_queue(store, "short", "dead", 0);
	put_queue(store, "rated", "", 1000);
	for (unsigned life = 0; life <= lives; life++) {
		fill(store, JOBS * life / (lives + 1), JOBS * (life + 1) / (lives + 1), compacted);
		if (life < lives)
			store = another_life(store);
	}
	for (int i = 0; i < 3000 && compacted && stats.segments_released < 3; i++) {
		churn(store, 5);
		wh_await(wh_sleep(loop, 5 * WH_NS_PER_MS));
		store_stats(store, &stats);
	}
	check(!compacted || stats.segments_released >= 3, "no compaction");
	/* so that something of every kind is behind the checkpoint, too */
	fill(store, JOBS, JOBS + SHAPES + (unsigned)chance(SHAPES), false);
	flush(store);
	wh_sim_power_cut(sim);
	(void)!store_close(store);
	loop = wh_loop_close(loop);
	check(wh_sim_restart(sim, NULL, WH_SIM_KILLED) == 0, "restart");
	loop = plan_loop(sim);
	get_folder(f, "/data");
	end_machine();
}

/* ---- looking ----------------------------------------------------------------------------- */

static char *describe(struct store *store, uint64_t id)
{
	static char to[TEXT * 8];
	wh_res res = wh_await(store_get(store, id, STORE_LOCAL));
	struct store_view *v = res.ptr;
	if (res.n == -JOB_EUNKNOWN_JOB || res.n == -JOB_EEXPIRED)
		return NULL;
	check(res.n >= 0, "job %" PRIu64 ": %s", id, job_strerror(res.n));
	size_t len = (size_t)snprintf(
		to, sizeof(to),
		"%d a%u/%u t%u r%u.%u.%u.%u p%u c%lld run%lld fin%lld exp%lld by%lld lease%u.%llu %.*s "
		"%.*s/%llu %u "
		"%.*s/%llu [%.*s] u:%.*s g:%.*s d:%.*s %d",
		v->state, v->attempts, v->attempts_max, v->timeouts, v->reserves, v->releases, v->buries,
		v->kicks, v->priority, (long long)v->created_at, (long long)v->run_at,
		(long long)v->finished_at, (long long)v->expires_at, (long long)v->begin_by, v->lease.epoch,
		(unsigned long long)v->lease.claim, (int)v->queue.len, (const char *)v->queue.data,
		(int)v->content_type.len, (const char *)v->content_type.data,
		(unsigned long long)v->payload_bytes, v->result_status, (int)v->result_content_type.len,
		(const char *)v->result_content_type.data, (unsigned long long)v->result_bytes,
		(int)v->progress.len, (const char *)v->progress.data, (int)v->unique.len,
		(const char *)v->unique.data, (int)v->group.len, (const char *)v->group.data,
		(int)v->dead_from.len, (const char *)v->dead_from.data, v->cancel_requested);
	for (uint32_t i = 0; i < v->errors_count; i++)
		len += (size_t)snprintf(to + len, sizeof(to) - len, " %u:%.*s", v->errors[i].attempt,
		                        (int)v->errors[i].text.len, (const char *)v->errors[i].text.data);
	for (int result = 0; result < 1 + (v->state == JOB_DONE); result++) {
		wh_res body = wh_await(result ? store_result(store, id, STORE_LOCAL)
		                              : store_payload(store, id, STORE_LOCAL));
		struct store_bytes *bytes = body.ptr;
		check(body.n >= 0, "body %d of job %" PRIu64 ": %s", result, id, job_strerror(body.n));
		len += (size_t)snprintf(to + len, sizeof(to) - len, " {%.*s}%llx.%zu",
		                        bytes->body.len < TEXT ? (int)bytes->body.len : TEXT,
		                        (const char *)bytes->body.data,
		                        (unsigned long long)bytes->blob.number, bytes->headers.len);
		if (bytes->blob.number != 0) {
			struct store_reader *reader;
			check(store_reader_open(store, bytes, &reader) == 0, "reader");
			int64_t n = await(store_reader_check(reader));
			check(n == (int64_t)bytes->blob.bytes, "file of body %d of job %" PRIu64 ": %s",
			      result, id, job_strerror(n));
			store_reader_free(reader);
		}
		store_bytes_unref(bytes);
	}
	store_view_free(v);
	return strdup(to);
}

/* Queues as they are configured, and settings. */
static char *describe_others(struct store *store)
{
	static char to[16384];
	size_t len = 0;
	wh_res res = wh_await(store_queues(store));
	struct store_queues *queues = res.ptr;
	check(res.n >= 0, "queues");
	for (size_t i = 0; i < queues->count; i++) {
		const struct store_queue_view *q = &queues->queues[i];
		len += (size_t)snprintf(to + len, sizeof(to) - len, "%.*s %d %u/%u %u >%.*s\n",
		                        (int)q->name.len, (const char *)q->name.data, q->implicit,
		                        q->config.rate_count, q->config.rate_period_ms,
		                        q->config.group_concurrency, (int)q->dead_letter.len,
		                        (const char *)q->dead_letter.data);
	}
	store_queues_free(queues);
	res = wh_await(store_settings(store, (struct store_slice){0}));
	struct store_settings *settings = res.ptr;
	check(res.n >= 0, "settings");
	for (size_t i = 0; i < settings->count; i++) {
		const struct store_setting *s = &settings->settings[i];
		len += (size_t)snprintf(to + len, sizeof(to) - len, "%.*s=%.*s\n", (int)s->key.len,
		                        (const char *)s->key.data, (int)s->value.len,
		                        (const char *)s->value.data);
	}
	store_settings_free(settings);
	return strdup(to);
}

static void look_at_all(struct folder *f)
{
	struct store_stats stats;
	snprintf(context, sizeof(context), "looking: %s", f->what);
	begin_machine(f, plan.seed + 77, NULL, 0);
	struct store *store = open_store("/folder", f->compacted);
	for (uint64_t id = 1; id <= IDS; id++) {
		f->seen[id] = describe(store, id);
		f->last = f->seen[id] ? id : f->last;
	}
	check(f->last > 0 && f->last < IDS, "ids up to %" PRIu64, f->last);
	f->others = describe_others(store);
	store_stats(store, &stats);
	f->keys = stats.keys;
	check(store_recount(store) == 0 && store_close(store) == 0, "close");
	end_machine();
}

/* ---- which records there are ------------------------------------------------------------- */

static int on_record(void *arg, const struct log_record *record)
{
	struct folder *f = arg;
	struct spot spot = {.offset = record->file_offset,
	                    .location = record->location,
	                    .len = LOG_RECORD_BYTES + record->fixed_bytes + record->payload_bytes};
	char name[64];
	size_t n, at;
	if (record->type >= JOB_RECORD_TYPES_END)
		return -ENOTSUP;
	if (record->checkpoint)
		snprintf(name, sizeof(name), "checkpoint-%016" PRIx64 ".ckp", record->group_lsn);
	else
		snprintf(name, sizeof(name), "seg-%016" PRIx64 ".log", record->segment);
	while (spot.file < f->files_count && strcmp(f->files[spot.file].name, name) != 0)
		spot.file++;
	check(spot.file < f->files_count, "%s is not in the folder", name);
	/* any of them by chance, each as likely */
	n = f->spots_count[record->type]++;
	at = n < SPOTS ? n : (size_t)chance(n + 1);
	if (at < SPOTS)
		f->spots[record->type][at] = spot;
	return 0;
}

static int verify(log_replay_function *replay, void *arg, struct log_problem *problem)
{
	struct log_options options = {.path = "/folder", .replay = replay, .replay_arg = arg};
	struct log_look look;
	int error = log_look(loop, &options, &look, problem);
	log_look_fini(&look);
	return error;
}

static void find_records(struct folder *f)
{
	struct log_problem problem = {0};
	snprintf(context, sizeof(context), "records: %s", f->what);
	begin_machine(f, plan.seed + 78, NULL, 0);
	check(verify(on_record, f, &problem) == 0, "%s", problem.reason);
	end_machine();
}

/* Each kind that there is must be damaged: in one of the folders there has to be one of it. */
static void test_kinds_are_all_there(void)
{
	for (int type = JOB_IDS; type < JOB_RECORD_TYPES_END; type++)
		must(!strcmp(job_record_name(type), "unknown") || folders[0].spots_count[type] > 0 ||
		             folders[1].spots_count[type] > 0,
		     "no folder has a record of kind %d, %s, to be damaged: fill() has to make one", type,
		     job_record_name(type));
}

/* ---- a repair ---------------------------------------------------------------------------- */

static void on_found(void *arg, const char *file, uint64_t offset, const char *reason)
{
	damages++;
	check(reason && *reason, "a damage without a reason");
	if (loud)
		fprintf(stderr, "\tfound: %s, byte %" PRIu64 ": %s\n", file, offset, reason);
}

static void on_job(void *arg, uint64_t job, struct store_slice queue, const char *what)
{
	check(what && *what, "job %" PRIu64 " is named without a reason", job);
	if (job <= IDS)
		named[job] = 1;
	if (loud)
		fprintf(stderr, "\tjob %" PRIu64 " of %.*s: %s\n", job, (int)queue.len,
		        (const char *)queue.data, what);
}

static void on_ids(void *arg, uint64_t from, uint64_t until)
{
	check(from < until, "ids");
	for (uint64_t id = from; id < until && id <= IDS; id++)
		named[id] = 1;
}

static int repair(int how, bool do_it, struct store_repair_result *ret, struct store_problem *problem)
{
	struct store_repair_options options = {.directory = "/folder",
	                                       .how = how,
	                                       .apply = do_it,
	                                       .found = on_found,
	                                       .job = on_job,
	                                       .ids = on_ids,
	                                       .log = verbose ? tell : NULL};
	memset(named, 0, sizeof(named));
	damages = 0;
	return store_repair(loop, &options, ret, problem);
}

enum damage { FLIP, CUT_SHORT, LOSE, GARBAGE, ZEROS, DAMAGES };
static const char *const damage_names[DAMAGES] = {"a bit flipped", "cut short", "lost", "a block of garbage",
                                                  "zeros"};

/* Finished jobs whose end of keeping is lost are there again: those alone may be what they were not. */
static bool is_back(const struct folder *f, uint64_t id, const char *now)
{
	return !f->seen[id] && now && now[0] >= '0' + JOB_DONE && now[0] <= '0' + JOB_CANCELLED;
}

/* What was to run after a job that the repair has failed is dealt with as was asked for in that case. */
static bool is_ended_with_another(const struct folder *f, uint64_t id, const char *now)
{
	return f->seen[id] && f->seen[id][0] == '0' + JOB_AWAITING && now && now[0] == '0' + JOB_CANCELLED &&
	       strstr(now, ", which it was to run after, has failed") != NULL;
}

static void check_jobs(const struct folder *f, const struct store_repair_result *result, int kind, int damage)
{
	struct store *store = open_store("/folder", f->compacted);
	struct store_stats stats;
	for (uint64_t id = 1; id <= IDS; id++) {
		char *now = describe(store, id);
		sums.named += named[id];
		if (!named[id] && is_back(f, id, now))
			sums.back++;
		else if (!named[id] && !is_ended_with_another(f, id, now) &&
		         (!now != !f->seen[id] || (now && strcmp(now, f->seen[id]) != 0)))
			check(false, "job %" PRIu64 ", which is not named, was\n%s\nand is\n%s", id,
			      f->seen[id] ? f->seen[id] : "not there", now ? now : "not there");
		free(now);
	}
	/* a record alone that is lost takes nothing else with it */
	if (damage == FLIP && kind != 0 && result->lost_bytes > 0 && kind != JOB_QUEUE &&
	    kind != JOB_QUEUE_GONE && kind != JOB_SETTING) {
		char *others = describe_others(store);
		check(!strcmp(others, f->others), "queues and settings were\n%sand are\n%s", f->others,
		      others);
		free(others);
		store_stats(store, &stats);
		check(kind == JOB_KEY || stats.keys == f->keys, "%" PRIu64 " keys, not %" PRIu64, stats.keys,
		      f->keys);
	}
	check(store_recount(store) == 0, "counters");
	check(submit_one(store, 1, 20) > f->last, "an id is given again");
	check(store_close(store) == 0, "close");
}

/* The folder as it is now must be repairable, or be refused and left alone. */
static void judge(const struct folder *f, int how, int kind, int damage)
{
	struct store_repair_result result, again;
	struct store_problem problem = {0};
	struct log_problem found = {0};
	int verified = verify(NULL, NULL, &found);
	check(verified == 0 || (verified == -WH_EDAMAGED && found.reason[0] && found.exit_status == 3),
	      "verify: %s", wh_strerror(verified));
	uint64_t before = folder_sum();
	int error = repair(how, false, &result, &problem);
	check(folder_sum() == before, "a look has changed the folder");
	if (loud)
		fprintf(stderr, "%s: %s%s\n", context, error < 0 ? problem.text : "", result.refused);
	if (error < 0 || result.refused[0]) {
		check(error == 0 ||
		              (error == -WH_EDAMAGED && strstr(problem.text, "cannot be repaired") != NULL),
		      "%s: %s", wh_strerror(error), problem.text);
		check(how == STORE_REPAIR_SKIP || error < 0, "to cut is refused: %s", result.refused);
		check(repair(how, true, &result, &problem) == error && folder_sum() == before,
		      "a refusal changes the folder");
		sums.refused += error == 0;
		sums.impossible += error < 0;
		/* a checkpoint can be made again out of the log, as long as that is all there */
		check(error == 0 || f->compacted, "cannot be repaired: %s", problem.text);
		return;
	}
	check(verified == 0 || result.damages > 0, "what verify finds (%s) the repair does not",
	      found.reason);
	check(verified == 0 || result.lost_bytes == 0 || result.lost_from != 0, "what is lost is not told");
	error = repair(how, true, &result, &problem);
	check(error == 0, "%s", problem.text);
	check(result.nothing == (result.kept[0] == 0), "kept");
	sums.nothing += result.nothing;
	sums.repaired += !result.nothing;
	unsigned char first[sizeof(named)];
	memcpy(first, named, sizeof(named));
	error = repair(how, false, &again, &problem);
	check(error == 0, "the second time: %s", problem.text);
	check(again.nothing, "%" PRIu64 " damages and %" PRIu64 " jobs after the repair", again.damages,
	      again.jobs);
	memcpy(named, first, sizeof(named));
	check(verify(NULL, NULL, &found) == 0, "after the repair: %s", found.reason);
	check_jobs(f, &result, kind, damage);
}

/* At a byte of a file, over so many bytes. */
static void damage_and_judge(const struct folder *f, size_t at, uint64_t offset, uint32_t len, int damage,
                             int how, int kind)
{
	struct file file = f->files[at];
	file.bytes = malloc(file.len + 1);
	must(file.bytes, "memory");
	memcpy(file.bytes, f->files[at].bytes, file.len);
	snprintf(context, sizeof(context), "seed %" PRIu64 ", %s, %s, %s%s%s: %s at %" PRIu64, plan.seed,
	         f->what, how == STORE_REPAIR_CUT ? "cut" : "skip", kind ? job_record_name(kind) : "",
	         kind ? " of " : "", file.name, damage_names[damage], offset);
	if (damage == FLIP)
		file.bytes[offset + chance(len)] ^= (uint8_t)(1u << chance(8));
	if (damage == CUT_SHORT)
		file.len = offset + chance(len);
	if (damage == GARBAGE || damage == ZEROS)
		for (uint64_t i = offset & ~UINT64_C(4095);
		     i < file.len && i < (offset & ~UINT64_C(4095)) + 4096; i++)
			file.bytes[i] = damage == ZEROS ? 0 : (uint8_t)chance(256);
	if (damage == LOSE) {
		free(file.bytes);
		file.bytes = NULL;
	}
	begin_machine(f, plan.seed * 1000 + chance(1000), &file, at);
	judge(f, how, kind, damage);
	end_machine();
	free(file.bytes);
}

static void damage_kinds(const struct folder *f)
{
	for (int type = JOB_IDS; type < JOB_RECORD_TYPES_END; type++)
		for (size_t i = 0; i < f->spots_count[type] && i < SPOTS; i++)
			for (int damage = FLIP; damage <= LOSE; damage++)
				for (int how = STORE_REPAIR_SKIP; how <= STORE_REPAIR_CUT; how++) {
					const struct spot *spot = &f->spots[type][i];
					if (damage != FLIP && i > 0)
						continue;
					damage_and_judge(f, spot->file, spot->offset, spot->len, damage, how,
					                 type);
				}
}

/* The end of the log, whose length only the file itself tells. */
static void damage_last(const struct folder *f)
{
	size_t last = f->files_count;
	for (size_t i = 0; i < f->files_count; i++)
		if (!strncmp(f->files[i].name, "seg-", 4) && f->files[i].used > 8192 &&
		    (last == f->files_count || strcmp(f->files[i].name, f->files[last].name) > 0))
			last = i;
	check(last < f->files_count, "no segment is in use");
	for (int how = STORE_REPAIR_SKIP; how <= STORE_REPAIR_CUT; how++) {
		damage_and_judge(f, last, 0, 1, LOSE, how, 0);
		damage_and_judge(f, last, 1000, 1, CUT_SHORT, how, 0);  /* within its identity */
		damage_and_judge(f, last, 5000, 1, CUT_SHORT, how, 0);  /* ... its opening */
		damage_and_judge(f, last, 12300, 1, CUT_SHORT, how, 0); /* ... its groups */
	}
}

static void damage_by_chance(const struct folder *f, uint64_t times)
{
	for (uint64_t i = 0; i < times; i++) {
		size_t at = (size_t)chance(f->files_count);
		if (f->files[at].used == 0)
			continue;
		damage_and_judge(f, at, chance(f->files[at].used), 1, (int)chance(DAMAGES), (int)chance(2),
		                 0);
	}
}

/* Every block of every file, one at a time. */
static void walk_blocks(const struct folder *f, uint64_t stride)
{
	static const int ways[] = {FLIP, GARBAGE, ZEROS};
	uint64_t count = 0;
	for (size_t i = 0; i < f->files_count; i++)
		for (uint64_t at = 0; at < f->files[i].used; at += 4096)
			for (size_t way = 0; way < 3; way++)
				for (int how = STORE_REPAIR_SKIP; how <= STORE_REPAIR_CUT; how++) {
					uint64_t left = f->files[i].used - at;
					if (count++ % stride == plan.seed % stride)
						damage_and_judge(f, i, at,
						                 left < 4096 ? (uint32_t)left : 4096,
						                 ways[way], how, 0);
				}
	must(count > 1000, "%" PRIu64 " damages", count);
}

static void free_folder(struct folder *f)
{
	for (size_t i = 0; i < f->files_count; i++)
		free(f->files[i].bytes);
	for (uint64_t id = 0; id <= IDS; id++)
		free(f->seen[id]);
	free(f->others);
}

/* Whatever block is damaged: each job that is left can be read, and what the repair does not name is what it was. */
static void test_each_block(uint64_t seed, uint64_t stride)
{
	segment = (1 + seed % 3) * (64 << 10);
	plan = (struct plan){.seed = seed};
	chance_state = seed;
	make_folder(&folders[1], true, 3);
	look_at_all(&folders[1]);
	walk_blocks(&folders[1], stride);
	free_folder(&folders[1]);
}

static void test_damage_is_repaired(void **state)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1), seeds = env_number("WHILST_SIM_SEEDS", 1);
	uint64_t times = env_number("WHILST_REPAIR_RANDOM", 40), walk = env_number("WHILST_REPAIR_WALK", 0);
	double from = seconds();
	loud = getenv("WHILST_REPAIR_LOUD") != NULL;
	for (uint64_t seed = first; walk > 0 && seed < first + seeds; seed++)
		test_each_block(seed, walk);
	for (uint64_t seed = first; walk == 0 && seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		chance_state = seed;
		for (int i = 0; i < 2; i++) {
			make_folder(&folders[i], i, 0);
			find_records(&folders[i]);
			look_at_all(&folders[i]);
		}
		test_kinds_are_all_there();
		for (int i = 0; i < 2; i++) {
			damage_kinds(&folders[i]);
			damage_last(&folders[i]);
			damage_by_chance(&folders[i], times);
			free_folder(&folders[i]);
		}
	}
	printf("seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " repaired, %" PRIu64 " had nothing, %" PRIu64
	       " refused, %" PRIu64 " impossible; %" PRIu64 " jobs named, %" PRIu64
	       " finished ones back; %.1f s\n",
	       first, first + seeds - 1, sums.repaired, sums.nothing, sums.refused, sums.impossible,
	       sums.named, sums.back, seconds() - from);
	fflush(stdout);
	assert_true(sums.repaired > (walk ? 500 / walk : 100) * seeds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_damage_is_repaired)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
