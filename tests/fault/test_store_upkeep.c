/* tests/fault/test_store_upkeep.c -- what a store does by itself, and bodies in files, while memory is short.
 *
 * A folder whose history waits to be written down and compacted, with jobs of every kind, is opened on a simulated machine, where
 * time costs nothing: checkpoints, compaction, the end of retention, the next segments, bodies that come, are read and go. The first
 * allocation fails, the second, ... until none is left to fail; then stretches of them do, and every n-th. Only those of the server:
 * the library and its simulated disk are not short of anything. One failure may refuse what was asked just then, and delays the
 * rest: a minute later all of it has been done, every job reads as before, no file is left over, and so it is after a start.
 *
 * And when nobody asks for anything, the same is done.
 *
 * STORE_UPKEEP_AT=n repeats one run; STORE_UPKEEP_ALL=1 leaves none out.
 */
#include "../unit/store_support.h"

#include <fcntl.h>
#include <limits.h>

#include "allocations.h"
#include "whilst/sim.h"

enum { SEGMENT = 64 << 10, BLOB = 4096, JOBS = 44, FILES_MAX = 80, TEXT = 20000, SHORT_S = 30 };

struct file {
	char name[40];
	uint8_t *bytes;
	size_t len;
};

static struct file files[FILES_MAX];
static size_t files_count, blobs_left; /* files of bodies that there must be at the end */
static char *expected[JOBS];
static uint64_t ids[JOBS];
static wh_sim *sim;
static struct bench bench;
static char context[120];

#define CHECK(condition)                                                             \
	do {                                                                         \
		if (!(condition)) {                                                  \
			atomic_store(&fail_at, 0);                                   \
			fail_msg("%s: %s (line %d)", context, #condition, __LINE__); \
		}                                                                    \
	} while (0)

static uint8_t body[8 * BLOB];

static struct store_slice bytes_of(unsigned i, size_t len)
{
	memset(body, 'a' + (int)(i % 26), len);
	return (struct store_slice){body, len};
}

/* ---- machines ---------------------------------------------------------------------------- */

static void open_machine(void)
{
	bench = (struct bench){.directory = "/data"};
	CHECK(wh_sim_open(&sim, &(struct wh_sim_options){.seed = 3}) == 0);
	CHECK(wh_loop_open(&bench.loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
}

static void end_machine(void)
{
	bench.loop = wh_loop_close(bench.loop);
	sim = wh_sim_close(sim);
}

static void take_folder(const char *folder)
{
	char path[64];
	snprintf(path, sizeof(path), "/data%s", folder);
	wh_res res = wh_await(wh_list(bench.loop, path));
	struct wh_names *names = res.ptr;
	CHECK(res.n >= 0);
	for (size_t i = 0; i < names->count; i++) {
		struct file *file = &files[files_count];
		CHECK(files_count < FILES_MAX);
		snprintf(file->name, sizeof(file->name), "%s/%s", folder, names->names[i]);
		snprintf(path, sizeof(path), "/data%s", file->name);
		if (strcmp(file->name, "/blobs") == 0 || strcmp(file->name, "/LOCK") == 0)
			continue;
		int fd = (int)wh_await(wh_open(bench.loop, path, O_RDONLY, 0)).n;
		CHECK(fd >= 0);
		file->len = (size_t)wh_await(wh_size(bench.loop, fd)).n;
		file->bytes = malloc(file->len + 1);
		CHECK(wh_await(wh_pread_all(bench.loop, fd, file->bytes, file->len, 0)).n ==
		      (int64_t)file->len);
		CHECK(wh_await(wh_close(bench.loop, fd)).n == 0);
		files_count++;
	}
	wh_names_free(names);
}

static void put_folder(void)
{
	CHECK(wh_await(wh_mkdir(bench.loop, "/data", 0700)).n == 0);
	CHECK(wh_await(wh_mkdir(bench.loop, "/data/blobs", 0700)).n == 0);
	for (size_t i = 0; i < files_count; i++) {
		char path[64];
		snprintf(path, sizeof(path), "/data%.*s", (int)sizeof(files[i].name), files[i].name);
		int fd = (int)wh_await(wh_open(bench.loop, path, O_RDWR | O_CREAT, 0600)).n;
		CHECK(fd >= 0);
		CHECK(wh_await(wh_pwrite_all(bench.loop, fd, files[i].bytes, files[i].len, 0)).n ==
		      (int64_t)files[i].len);
		CHECK(wh_await(wh_close(bench.loop, fd)).n == 0);
	}
}

static size_t count_blobs(void)
{
	wh_res res = wh_await(wh_list(bench.loop, "/data/blobs"));
	CHECK(res.n >= 0);
	wh_names_free(res.ptr);
	return (size_t)res.n;
}

/* ---- the history ------------------------------------------------------------------------- */

static struct store_leased take(uint64_t job)
{
	wh_res res = wh_await(store_reserve(bench.store, &(struct store_reserve){.job = job}));
	struct store_lot *lot = res.ptr;
	CHECK(res.n == 1);
	struct store_leased leased = lot->jobs[0];
	store_lot_free(lot);
	return leased;
}

static void fail_once(uint64_t job, bool last)
{
	struct store_action a = with_lease(STORE_FAIL, take(job));
	a.fail.error = text("it did not work");
	a.fail.delay_set = true;
	a.fail.no_retry = last;
	CHECK(try(&bench, a) == 0);
}

static void finish(uint64_t job, unsigned i, size_t len)
{
	struct store_action a = with_lease(STORE_COMPLETE, take(job));
	a.complete.bytes = bytes_of(i, len);
	a.complete.content_type = text("text/x-result");
	CHECK(try(&bench, a) == 0);
}

/* Each of its commits is a block of the log at least, so that segments hold little that is needed. */
static void make_job(unsigned i)
{
	static const size_t lengths[] = {300, 2 * BLOB, 700,      900,      500, 400,
	                                 600, 200,      BLOB + 1, 3 * BLOB, 800};
	unsigned shape = i % 11;
	struct store_action a = submission("q", "");
	a.submit.payload = bytes_of(i, lengths[shape]);
	a.submit.retention_ns = (shape == 7 || shape == 8 ? SHORT_S : 86400) * WH_NS_PER_S;
	a.submit.time_to_run_ns = 86400 * WH_NS_PER_S;
	a.submit.attempts_max = 9;
	struct store_commit *commit = apply(&bench, a, STORE_ASYNC);
	CHECK(commit->error == 0);
	uint64_t job = ids[i] = commit->results[0].job;
	store_commit_free(commit);
	switch (shape) {
	case 2:
		a = with_lease(STORE_PROGRESS, take(job));
		a.progress.bytes = text("half of it");
		CHECK(try(&bench, a) == 0);
		break;
	case 3:
	case 4:
		fail_once(job, false);
		fail_once(job, shape == 4);
		break;
	case 5:
	case 7:
		finish(job, i, 700);
		break;
	case 6:
	case 8:
		finish(job, i, BLOB + 300);
		break;
	case 10:
		CHECK(try(&bench, (struct store_action){.kind = STORE_CANCEL, .job = job}) == 0);
		break;
	}
}

static void options(bool busy)
{
	bench.options = (struct store_options){.segment_bytes = SEGMENT,
	                                       .blob_bytes = BLOB,
	                                       .recent_bytes = 4096,
	                                       .checkpoint_bytes = busy ? SEGMENT : UINT64_C(1) << 40,
	                                       .compact_slack = busy ? 6 * SEGMENT : UINT64_C(1) << 40};
}

/* What a look at it shows, bodies and all; NULL: it is not there. */
static char *describe(uint64_t job)
{
	static char to[TEXT];
	wh_res res = wh_await(store_get(bench.store, job, STORE_LOCAL));
	struct store_view *v = res.ptr;
	if (res.n == -JOB_EUNKNOWN_JOB || res.n == -JOB_EEXPIRED)
		return NULL;
	CHECK(res.n >= 0);
	size_t len = (size_t)snprintf(to, sizeof(to), "%d a%u/%u c%lld run%lld exp%lld lease%u.%llu [%.*s]",
	                              v->state, v->attempts, v->attempts_max, (long long)v->created_at,
	                              (long long)v->run_at, (long long)v->expires_at, v->lease.epoch,
	                              (unsigned long long)v->lease.claim, (int)v->progress.len,
	                              (const char *)v->progress.data);
	for (uint32_t i = 0; i < v->errors_count; i++)
		len += (size_t)snprintf(to + len, sizeof(to) - len, " %u:%.*s", v->errors[i].attempt,
		                        (int)v->errors[i].text.len, (const char *)v->errors[i].text.data);
	for (int result = 0; result < 1 + (v->state == JOB_DONE); result++) {
		wh_res read = wh_await(result ? store_result(bench.store, job, STORE_LOCAL)
		                              : store_payload(bench.store, job, STORE_LOCAL));
		char *bytes;
		CHECK(read.n >= 0);
		int64_t n = bytes_body(&bench, read.ptr, &bytes);
		CHECK(n >= 0);
		len += (size_t)snprintf(to + len, sizeof(to) - len, " {%.*s}", (int)n, bytes);
		free(bytes);
		store_bytes_unref(read.ptr);
	}
	store_view_free(v);
	return strdup(to);
}

static int make_history(void **state)
{
	(void)state;
	snprintf(context, sizeof(context), "the history");
	open_machine();
	options(false);
	reopen(&bench);
	for (unsigned i = 0; i < JOBS; i++) {
		make_job(i);
		expected[i] = i % 11 == 7 || i % 11 == 8 ? NULL : describe(ids[i]);
		blobs_left += i % 11 == 1 || i % 11 == 9 || i % 11 == 6;
	}
	CHECK(store_close(bench.store) == 0);
	take_folder("");
	take_folder("/blobs");
	end_machine();
	return 0;
}

static int forget_history(void **state)
{
	(void)state;
	for (unsigned i = 0; i < JOBS; i++)
		free(expected[i]);
	for (size_t i = 0; i < files_count; i++)
		free(files[i].bytes);
	return 0;
}

/* ---- a life while memory is short -------------------------------------------------------- */

static bool may_be(int64_t n)
{
	return n >= 0 || n == -ENOMEM || n == -EAGAIN;
}

/* A body in pieces, and the job that names it. Its id, 0: it was refused. */
static uint64_t upload(void)
{
	struct store_body *whole;
	struct store_action a = submission("q", "");
	int64_t n = store_body_open(bench.store, -1, 0, &whole);
	uint64_t id = 0;
	wh_res res;
	CHECK(may_be(n));
	if (n < 0)
		return 0;
	for (int i = 0; i < 4 && n >= 0; i++)
		n = wh_await(store_body_write(whole, bytes_of(17, 3000).data, 3000)).n;
	if (n >= 0)
		n = wh_await(store_body_end(whole)).n;
	CHECK(may_be(n));
	a.submit.body = whole;
	a.submit.payload = (struct store_slice){0};
	res = wh_await(n >= 0 ? store_apply(bench.store, &a, 1, 0, STORE_LOCAL) : wh_failed(bench.loop, n));
	CHECK(may_be(res.n));
	if (res.n == 0) {
		struct store_commit *commit = res.ptr;
		CHECK(may_be(commit->error));
		id = commit->error == 0 ? commit->results[0].job : 0;
		store_commit_free(commit);
	}
	store_body_free(whole);
	return id;
}

/* The same at once, which the store copies and writes by itself. */
static uint64_t submit_large(void)
{
	struct store_action a = submission("q", "");
	uint64_t id = 0;
	wh_res res;
	a.submit.payload = bytes_of(18, 2 * BLOB);
	res = wh_await(store_apply(bench.store, &a, 1, 0, STORE_LOCAL));
	CHECK(may_be(res.n));
	if (res.n == 0) {
		struct store_commit *commit = res.ptr;
		CHECK(may_be(commit->error));
		id = commit->error == 0 ? commit->results[0].job : 0;
		store_commit_free(commit);
	}
	return id;
}

static void download(uint64_t job)
{
	struct store_reader *reader;
	wh_res res = wh_await(store_payload(bench.store, job, STORE_LOCAL));
	CHECK(may_be(res.n));
	if (res.n < 0)
		return;
	int64_t n = store_reader_open(bench.store, res.ptr, &reader);
	CHECK(may_be(n));
	if (n == 0) {
		n = wh_await(store_reader_check(reader)).n;
		while (n > 0)
			n = wh_await(store_reader_next(reader)).n;
		CHECK(may_be(n));
		store_reader_free(reader);
	}
	store_bytes_unref(res.ptr);
}

static void look(uint64_t job)
{
	wh_res res = wh_await(store_get(bench.store, job, STORE_LOCAL));
	CHECK(may_be(res.n));
	if (res.n >= 0)
		store_view_free(res.ptr);
}

static void pass(int64_t seconds)
{
	CHECK(wh_await(wh_sleep(bench.loop, seconds * WH_NS_PER_S)).n == 0);
}

/* exact: no file is left over. What could not be removed while there was no memory at all goes with the next start. */
static void check_all(const uint64_t *made, size_t made_count, bool exact)
{
	for (unsigned i = 0; i < JOBS; i++) {
		char *now = describe(ids[i]);
		if (!now != !expected[i] || (now && strcmp(now, expected[i]) != 0))
			fail_msg("%s: job %llu was\n%s\nand is\n%s", context, (unsigned long long)ids[i],
			         expected[i] ? expected[i] : "gone", now ? now : "gone");
		free(now);
	}
	size_t blobs = blobs_left;
	for (size_t i = 0; i < made_count; i++)
		if (made[i]) {
			char *now = describe(made[i]);
			CHECK(now != NULL);
			free(now);
			blobs++;
		}
	CHECK(exact ? count_blobs() == blobs : count_blobs() >= blobs);
	CHECK(store_recount(bench.store) == 0);
}

/* The first failure, then every each-th allocation up to end; 0: that one alone. true: there was one to fail. */
static bool live_short(int first, int each, int end)
{
	uint64_t made[4] = {0};
	struct store_stats stats;
	open_machine();
	put_folder();
	options(true);
	reopen(&bench);
	atomic_store(&calls, 0);
	atomic_store(&hit, false);
	atomic_store(&fail_each, each);
	atomic_store(&fail_end, end);
	atomic_store(&fail_at, first);
	for (int i = 0; i < 2; i++) {
		made[i] = upload();
		download(ids[1]);
		look(ids[3]);
		look(ids[6]);
		pass(2);
		made[2 + i] = submit_large();
		pass(20);
	}
	bool failed = atomic_load(&hit);
	atomic_store(&fail_at, 0);
	pass(60);
	CHECK(bench.failures == 0);
	store_stats(bench.store, &stats);
	CHECK(stats.checkpoints > 0 && stats.segments_released >= 5);
	if (each == 0 && !failed)
		CHECK(made[0] && made[1] && made[2] && made[3] && stats.checkpoints_failed == 0);
	check_all(made, 4, each == 0);
	CHECK(store_close(bench.store) == 0);
	reopen(&bench);
	check_all(made, 4, true);
	CHECK(store_close(bench.store) == 0);
	end_machine();
	return failed;
}

static bool skipped(int n)
{
	const char *only = getenv("STORE_UPKEEP_AT");
	return only && atoi(only) != n;
}

static void test_each(void **state)
{
	const char *only = getenv("STORE_UPKEEP_AT");
	bool all = getenv("STORE_UPKEEP_ALL");
	int n = only ? atoi(only) : 1;
	(void)state;
	for (bool failed = true; failed; n += all || n < 200 ? 1 : 7) {
		snprintf(context, sizeof(context), "allocation %d", n);
		failed = live_short(n, 0, 0) && !only;
	}
	print_message("%d allocations\n", n);
	assert_true(only || n > 100);
}

static void test_many(void **state)
{
	(void)state;
	for (int n = 1; n < 40; n++) {
		if (skipped(n))
			continue;
		snprintf(context, sizeof(context), "allocations %d to %d", n * 5, n * 7 + 20);
		live_short(n * 5, 1, n * 7 + 20);
		snprintf(context, sizeof(context), "every allocation that %d divides", n + 1);
		live_short(n + 1, n + 1, INT_MAX);
	}
}

/* Nobody asks for anything: segments that have become old enough are compacted all the same. */
static void test_idle(void **state)
{
	struct store_stats stats;
	(void)state;
	snprintf(context, sizeof(context), "idle");
	open_machine();
	put_folder();
	options(false);
	bench.options.checkpoint_bytes = SEGMENT;
	reopen(&bench);
	store_stats(bench.store, &stats);
	CHECK(stats.segments_released == 0 && stats.log_segments >= 8);
	pass(200);
	store_stats(bench.store, &stats);
	CHECK(stats.checkpoints > 0 && stats.segments_released >= 5);
	check_all(NULL, 0, true);
	CHECK(store_close(bench.store) == 0);
	end_machine();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each), cmocka_unit_test(test_many),
	                                   cmocka_unit_test(test_idle)};
	return cmocka_run_group_tests(tests, make_history, forget_history);
}
