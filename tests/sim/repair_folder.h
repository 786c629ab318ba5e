/* tests/sim/repair_folder.h -- data folders to be damaged, on a simulated machine: one with jobs, queues, settings and keys in every shape, held
 * in memory file by file, what a look at it shows, and where in it which kinds of records are.
 */
#ifndef TESTS_SIM_REPAIR_FOLDER_H
#define TESTS_SIM_REPAIR_FOLDER_H

#include "plan.h"

#include <fcntl.h>

#include "job/record.h"
#include "log/log.h"

#include "../unit/repair_help.h"

enum { JOBS = 92, SHAPES = 23, IDS = 1200, FILES_MAX = 96, SPOTS = 3 };

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
static wh_loop *loop;
static uint64_t segment = 64 << 10;

static void repair_wrong(const char *text)
{
	must(false, "%s", text);
	abort();
}

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
	                                .blob_bytes = REPAIR_BLOB,
	                                .recent_bytes = 4096,
	                                .log = verbose ? tell : NULL};
	int error = store_open(loop, &options, &store, &problem);
	check(error == 0, "%s", problem.text);
	return store;
}

static void put_queue(struct store *store, const char *name, const char *dead, uint32_t rate)
{
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = words(name), .dead_letter = words(dead)}};
	if (rate > 0) {
		put.queue.config.rate = (struct job_rate){.count = rate, .period_ms = 1000};
		put.queue.config.group_rate = (struct job_rate){.count = rate, .period_ms = 86400000};
	}
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
		uint64_t job = shape == 20                  ? submit_once(store, i)
		               : shape > REPAIR_SHAPE_READY ? submit_after(store, i, shape == 22)
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

/* Closed in order, so that ids go on where they were, and opened again: another epoch. */
static struct store *another_life(struct store *store)
{
	check(store_close(store) == 0, "close");
	loop = wh_loop_close(loop);
	loop = plan_loop(sim);
	return open_store("/data", true);
}

/* lives: beside the first. */
static void make_folder(struct folder *f, bool compacted, unsigned lives)
{
	struct store_stats stats = {0};
	*f = (struct folder){.what = compacted ? "compacted" : "all there", .compacted = compacted};
	snprintf(repair_context, sizeof(repair_context), "making: %s", f->what);
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
		len += (size_t)snprintf(to + len, sizeof(to) - len, "%.*s %d %u/%u %u %u/%u >%.*s\n",
		                        (int)q->name.len, (const char *)q->name.data, q->implicit,
		                        q->config.rate.count, q->config.rate.period_ms,
		                        q->config.group_concurrency, q->config.group_rate.count,
		                        q->config.group_rate.period_ms, (int)q->dead_letter.len,
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
	unsigned count = 0;
	snprintf(repair_context, sizeof(repair_context), "looking: %s", f->what);
	begin_machine(f, plan.seed + 77, NULL, 0);
	struct store *store = open_store("/folder", f->compacted);
	for (uint64_t id = 1; id <= IDS; id++) {
		f->seen[id] = describe(store, id);
		f->last = f->seen[id] ? id : f->last;
		count += f->seen[id] != NULL;
	}
	check(count > JOBS && f->last < IDS, "%u jobs, ids up to %" PRIu64, count, f->last);
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
	snprintf(repair_context, sizeof(repair_context), "records: %s", f->what);
	begin_machine(f, plan.seed + 78, NULL, 0);
	check(verify(on_record, f, &problem) == 0, "%s", problem.reason);
	end_machine();
}

#endif
