/* tests/unit/test_store_blob.c -- bodies in files of their own: taken in pieces, handed out in pieces, removed with their jobs, and never
 * trusted when they are not what was written.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "store_support.h"

#include "store/blob.h"

enum { SMALL = 1000 };

static int set_up_small(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	snprintf(b->directory, sizeof(b->directory), "/tmp/whilst-store-XXXXXX");
	assert_non_null(mkdtemp(b->directory));
	assert_int_equal(wh_loop_open(&b->loop, NULL), 0);
	b->options.blob_bytes = SMALL;
	b->options.bodies_max = 2;
	b->options.payload_bytes_max = 8 << 20;
	b->options.defaults.retention_ns = 3600 * WH_NS_PER_S;
	reopen(b);
	*state = b;
	return 0;
}

static void fill(uint8_t *to, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(i * 31 + i / 977 + len);
}

/* How many files blobs/ holds; the name of the last one. */
static int files(struct bench *b, char name[300])
{
	struct dirent *entry;
	char path[80];
	int count = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "%s/blobs", b->directory);
	folder = opendir(path);
	assert_non_null(folder);
	while ((entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (name)
			snprintf(name, 300, "%s/%.200s", path, entry->d_name);
	}
	closedir(folder);
	return count;
}

/* Files are removed in the background. */
static void expect_files(struct bench *b, int count)
{
	int n = files(b, NULL);

	/* counted once a time: another thread may make one between two looks */
	for (int i = 0; i < 30000 && n != count; i++) {
		wh_await(wh_sleep(b->loop, WH_NS_PER_MS));
		n = files(b, NULL);
	}
	assert_int_equal(n, count);
}

static int64_t write_all(struct store_body *body, const uint8_t *bytes, size_t len, size_t piece)
{
	int64_t n = 0;

	for (size_t at = 0; at < len && n >= 0; at += piece)
		n = wh_await(store_body_write(body, bytes + at, len - at < piece ? len - at : piece)).n;
	return n;
}

static struct store_body *body_open(struct bench *b, int64_t length)
{
	struct store_body *body;

	assert_int_equal(store_body_open(b->store, length, 0, &body), 0);
	return body;
}

static struct store_action submission_of(struct store_body *body)
{
	struct store_action a = submission("q", "");

	a.submit.payload = (struct store_slice){0};
	a.submit.body = body;
	return a;
}

/* A job whose payload came in pieces. */
static uint64_t submit_pieces(struct bench *b, const uint8_t *bytes, size_t len, size_t piece, bool known)
{
	struct store_body *body = body_open(b, known ? (int64_t)len : -1);
	struct store_commit *commit;
	uint64_t id;

	assert_int_equal(write_all(body, bytes, len, piece), 0);
	assert_int_equal(wh_await(store_body_end(body)).n, len);
	commit = apply(b, submission_of(body), STORE_DEFAULT);
	assert_int_equal(commit->error, 0);
	id = commit->results[0].job;
	store_commit_free(commit);
	store_body_free(body);
	return id;
}

static void expect_payload(struct bench *b, uint64_t id, const uint8_t *bytes, size_t len)
{
	wh_res res = wh_await(store_payload(b->store, id, STORE_DEFAULT));

	assert_int_equal(res.n, len);
	check_bytes(b, res.ptr, bytes, len);
	store_bytes_unref(res.ptr);
}

static int64_t payload_error(struct bench *b, uint64_t id)
{
	wh_res res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
	char *body;
	int64_t n;

	assert_true(res.n >= 0);
	n = bytes_body(b, res.ptr, &body);
	free(body);
	store_bytes_unref(res.ptr);
	return n;
}

/* ---- in and out --------------------------------------------------------------------------- */

static void test_sizes(void **state)
{
	static const size_t sizes[] = {0,
	                               1,
	                               SMALL,
	                               SMALL + 1,
	                               STORE_PIECE_MAX - 1,
	                               STORE_PIECE_MAX,
	                               STORE_PIECE_MAX + 1,
	                               2 * STORE_PIECE_MAX,
	                               5 * STORE_PIECE_MAX + 17};
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
	static const size_t pieces[] = {97, 4096, 100000, STORE_PIECE_MAX};
	struct bench *b = *state;
	uint8_t *bytes = malloc(sizes[SIZES - 1]);
	uint64_t ids[SIZES * 4 * 2];
	size_t count = 0, large = 0;

	for (size_t i = 0; i < SIZES; i++) {
		for (size_t k = 0; k < 8; k++) {
			if (pieces[k / 2] < 100 && sizes[i] > 10000)
				ids[count++] = 0;
			else {
				fill(bytes, sizes[i]);
				ids[count++] = submit_pieces(b, bytes, sizes[i], pieces[k / 2], k % 2);
				large += sizes[i] > SMALL;
			}
		}
	}
	assert_int_equal(files(b, NULL), large);
	for (int life = 0; life < 2; life++) {
		for (size_t i = 0; i < count; i++) {
			fill(bytes, sizes[i / 8]);
			if (ids[i])
				expect_payload(b, ids[i], bytes, sizes[i / 8]);
		}
		close_and_reopen(b);
		assert_int_equal(files(b, NULL), large);
	}
	free(bytes);
}

static void test_result(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[5000];
	uint64_t id = submit(b, "q", "small");
	struct store_action done = with_lease(STORE_COMPLETE, reserve_one(b, "q"));
	struct store_stats stats;
	struct store_view *view;
	wh_res res;

	fill(bytes, sizeof(bytes));
	done.complete.body = body_open(b, -1);
	done.complete.status = 201;
	done.complete.content_type = text("a/b");
	assert_int_equal(write_all(done.complete.body, bytes, sizeof(bytes), 777), 0);
	assert_int_equal(try(b, done), -JOB_EVALUE); /* not whole yet */
	assert_int_equal(wh_await(store_body_end(done.complete.body)).n, sizeof(bytes));
	assert_int_equal(try(b, done), 0);
	store_body_free(done.complete.body);
	store_stats(b->store, &stats);
	assert_int_equal(stats.blobs, 1);
	assert_int_equal(stats.blob_bytes, sizeof(bytes));
	close_and_reopen(b);
	res = wh_await(store_result(b->store, id, STORE_DEFAULT));
	assert_int_equal(res.n, sizeof(bytes));
	assert_int_equal(((struct store_bytes *)res.ptr)->status, 201);
	check_bytes(b, res.ptr, bytes, sizeof(bytes));
	store_bytes_unref(res.ptr);
	view = wh_await(store_get(b->store, id, STORE_DEFAULT)).ptr;
	assert_int_equal(view->result_bytes, sizeof(bytes));
	store_view_free(view);
}

/* What is in hand when its job is forgotten is read to its end; then the file goes. */
static void test_files_go_with_their_jobs(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[300000];
	uint64_t kept, deleted;
	struct store_reader *reader;
	struct store_action a;
	wh_res res, payload;

	fill(bytes, sizeof(bytes));
	kept = submit_pieces(b, bytes, sizeof(bytes), 5000, true);
	deleted = submit_pieces(b, bytes, 2000, 5000, true);
	expect_files(b, 2);
	payload = wh_await(store_payload(b->store, kept, STORE_DEFAULT));
	assert_int_equal(store_reader_open(b->store, payload.ptr, &reader), 0);
	assert_int_equal(wh_await(store_reader_check(reader)).n, sizeof(bytes));
	a = (struct store_action){.kind = STORE_DELETE, .job = deleted};
	assert_int_equal(try(b, a), 0);
	expect_files(b, 1);
	a = with_lease(STORE_COMPLETE, reserve_one(b, "q"));
	assert_int_equal(a.job, kept);
	a.complete.bytes = (struct store_slice){bytes, 1500};
	assert_int_equal(try(b, a), 0);
	expect_files(b, 2);
	expect_payload(b, kept, bytes, sizeof(bytes)); /* for as long as it is retained */
	a = (struct store_action){.kind = STORE_DELETE, .job = kept};
	assert_int_equal(try(b, a), 0);
	expect_files(b, 0);
	for (size_t at = 0; at < sizeof(bytes); at += (size_t)res.n) {
		res = wh_await(store_reader_next(reader));
		assert_true(res.n > 0);
		assert_memory_equal(res.ptr, bytes + at, (size_t)res.n);
	}
	assert_int_equal(wh_await(store_reader_next(reader)).n, 0);
	store_reader_free(reader);
	/* and one that comes too late hears that the job is gone, not that the disk is damaged */
	assert_int_equal(store_reader_open(b->store, payload.ptr, &reader), 0);
	assert_int_equal(wh_await(store_reader_check(reader)).n, -JOB_EEXPIRED);
	store_reader_free(reader);
	store_bytes_unref(payload.ptr);
}

static void test_finished_at_once(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[4000];
	struct store_action a = submission("q", "");

	fill(bytes, sizeof(bytes));
	a.submit.payload = (struct store_slice){bytes, sizeof(bytes)};
	a.submit.retention_ns = -1;
	assert_int_equal(try(b, a), 0);
	expect_files(b, 1);
	a = with_lease(STORE_COMPLETE, reserve_one(b, "q"));
	a.complete.bytes = (struct store_slice){bytes, sizeof(bytes)};
	assert_int_equal(try(b, a), 0);
	expect_files(b, 0);
	a = submission("q", "");
	a.submit.payload = (struct store_slice){bytes, sizeof(bytes)};
	a.submit.retention_ns = -1;
	assert_int_equal(try(b, a), 0);
	a = (struct store_action){.kind = STORE_QUEUE_PURGE, .queue = {.name = text("q")}};
	assert_int_equal(try(b, a), 0);
	expect_files(b, 0);
}

static void test_transaction(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[3 * 2000];
	struct store_action actions[4];
	struct store_commit *commit;
	uint64_t first = submit(b, "q", "first");

	fill(bytes, sizeof(bytes));
	actions[0] = with_lease(STORE_COMPLETE, reserve_one(b, "q"));
	actions[0].complete.bytes = (struct store_slice){bytes, 2000};
	actions[1] = submission("q", "");
	actions[1].submit.payload = (struct store_slice){bytes + 2000, 2000};
	actions[2] = submission("q", "small");
	actions[3] = submission("q", "");
	actions[3].submit.payload = (struct store_slice){bytes + 4000, 2000};
	commit = wh_await(store_apply(b->store, actions, 4, 0, STORE_DEFAULT)).ptr;
	assert_int_equal(commit->error, 0);
	assert_int_equal(commit->results[0].job, first);
	expect_payload(b, commit->results[1].job, bytes + 2000, 2000);
	expect_payload(b, commit->results[2].job, (const uint8_t *)"small", 5);
	expect_payload(b, commit->results[3].job, bytes + 4000, 2000);
	store_commit_free(commit);
	expect_files(b, 3);
	/* refused: nothing is left of it */
	commit = wh_await(store_apply(b->store, actions, 4, 0, STORE_DEFAULT)).ptr;
	assert_int_equal(commit->error, -JOB_ELEASE_LOST);
	store_commit_free(commit);
	expect_files(b, 3);
	assert_int_equal(store_recount(b->store), 0);
}

/* ---- what does not become a body ----------------------------------------------------------- */

static void test_given_up(void **state)
{
	struct bench *b = *state;
	uint8_t *bytes = calloc(1, 1 << 20);
	struct store_body *body = body_open(b, -1), *other;
	struct store_action a;
	struct store_commit *commit;

	/* in the middle */
	assert_int_equal(write_all(body, bytes, 500000, 100000), 0);
	assert_int_equal(files(b, NULL), 1);
	store_body_free(body);
	expect_files(b, 0);
	/* while it is being ended */
	body = body_open(b, 500000);
	assert_int_equal(write_all(body, bytes, 500000, 100000), 0);
	wh_drop(store_body_end(body));
	store_body_free(body);
	expect_files(b, 0);
	/* whole, and nobody names it */
	body = body_open(b, 5000);
	assert_int_equal(write_all(body, bytes, 5000, 5000), 0);
	assert_int_equal(wh_await(store_body_end(body)).n, 5000);
	assert_int_equal(files(b, NULL), 1);
	store_body_free(body);
	expect_files(b, 0);
	/* named twice */
	body = body_open(b, 5000);
	assert_int_equal(write_all(body, bytes, 5000, 5000), 0);
	assert_int_equal(wh_await(store_body_end(body)).n, 5000);
	assert_int_equal(try(b, submission_of(body)), 0);
	assert_int_equal(try(b, submission_of(body)), -JOB_EVALUE);
	store_body_free(body);
	expect_files(b, 1);
	/* refused: the store keeps nothing, the caller may try again with it */
	body = body_open(b, 5000);
	assert_int_equal(write_all(body, bytes, 5000, 5000), 0);
	assert_int_equal(wh_await(store_body_end(body)).n, 5000);
	a = submission_of(body);
	a.submit.delay_ns = -1;
	assert_int_equal(try(b, a), -JOB_EVALUE);
	commit = apply(b, submission_of(body), STORE_ASYNC);
	assert_int_equal(commit->error, 0);
	store_commit_free(commit);
	store_body_free(body);
	expect_files(b, 2);
	/* lengths that are not kept */
	body = body_open(b, 4000);
	assert_int_equal(wh_await(store_body_write(body, bytes, 4001)).n, -EMSGSIZE);
	assert_int_equal(wh_await(store_body_write(body, bytes, 1)).n, -EMSGSIZE);
	store_body_free(body);
	body = body_open(b, 4000);
	assert_int_equal(write_all(body, bytes, 3999, 1000), 0);
	assert_int_equal(wh_await(store_body_end(body)).n, -EMSGSIZE);
	assert_int_equal(try(b, submission_of(body)), -EMSGSIZE);
	store_body_free(body);
	/* limits */
	assert_int_equal(store_body_open(b->store, (8 << 20) + 1, 0, &other), -JOB_ETOO_LARGE);
	body = body_open(b, -1);
	assert_int_equal(write_all(body, bytes, 1 << 20, 1 << 17), 0);
	for (int i = 1; i < 8; i++)
		assert_int_equal(write_all(body, bytes, 1 << 20, 1 << 17), 0);
	assert_int_equal(wh_await(store_body_write(body, bytes, 1)).n, -JOB_ETOO_LARGE);
	expect_files(b, 2); /* gone before it is freed */
	store_body_free(body);
	expect_files(b, 2);
	assert_int_equal(b->failures, 0);
	free(bytes);
}

static void test_how_many(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[5000] = {0};
	struct store_body *one = body_open(b, 5000), *two = body_open(b, -1), *three, *waits;
	wh_future future;

	assert_int_equal(write_all(one, bytes, 2000, 2000), 0);
	assert_int_equal(write_all(two, bytes, 2000, 2000), 0);
	assert_int_equal(store_body_open(b->store, 5000, 0, &three), -JOB_EBUSY);
	/* small ones are not counted */
	three = body_open(b, -1);
	assert_int_equal(write_all(three, bytes, SMALL, SMALL), 0);
	assert_int_equal(wh_await(store_body_write(three, bytes, 1)).n, -JOB_EBUSY);
	store_body_free(three);
	assert_int_equal(store_body_open(b->store, 5000, STORE_BODY_WAITS, &waits), 0);
	assert_int_equal(write_all(waits, bytes, 5000, 5000), 0);
	future = store_body_end(waits);
	wh_await(wh_sleep(b->loop, 5 * WH_NS_PER_MS));
	assert_false(wh_done(future));
	assert_int_equal(write_all(one, bytes, 3000, 3000), 0);
	assert_int_equal(wh_await(store_body_end(one)).n, 5000);
	assert_int_equal(wh_await(future).n, 5000);
	assert_int_equal(try(b, submission_of(waits)), 0);
	store_body_free(one);
	store_body_free(waits);
	store_body_free(two);
	expect_files(b, 1);
}

static void test_closed_meanwhile(void **state)
{
	struct bench *b = *state;
	uint8_t *bytes = calloc(1, 4 << 20);
	struct store_body *idle = body_open(b, -1), *busy = body_open(b, -1), *whole;
	struct store_action a = submission("q", "");
	wh_future future, ending;
	struct store_commit *commit;
	wh_res ended;

	assert_int_equal(write_all(idle, bytes, 300000, 100000), 0);
	assert_int_equal(write_all(busy, bytes, 300000, 100000), 0);
	assert_int_equal(store_body_open(b->store, 10, 0, &whole), 0);
	assert_int_equal(write_all(whole, bytes, 10, 10), 0);
	assert_int_equal(wh_await(store_body_end(whole)).n, 10);
	ending = store_body_end(busy);
	a.submit.payload = (struct store_slice){bytes, 4 << 20};
	future = store_apply(b->store, &a, 1, 0, STORE_DEFAULT);
	assert_int_equal(store_close(b->store), 0);
	assert_int_equal(files(b, NULL), 0);
	/* the disk may have been faster than the close: then nobody has named the file, and the change is refused */
	ended = wh_await(ending);
	assert_true(ended.n == -ECANCELED || ended.n == 300000);
	ended = wh_await(future);
	commit = ended.ptr;
	assert_true(ended.n == -ECANCELED || (ended.n == 0 && commit->error < 0));
	if (ended.n == 0)
		store_commit_free(commit);
	store_body_free(idle);
	store_body_free(busy);
	store_body_free(whole);
	reopen(b);
	assert_int_equal(files(b, NULL), 0);
	free(bytes);
}

/* Somebody who gives up while its body is being written. */
static void test_cancelled(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("q", "");
	uint8_t *bytes = calloc(1, 4 << 20);
	wh_future future;

	a.submit.payload = (struct store_slice){bytes, 4 << 20};
	future = store_apply(b->store, &a, 1, 0, STORE_DEFAULT);
	(void)wh_loop_turn(b->loop, 0);
	wh_cancel(future);
	assert_int_equal(wh_await(future).n, -ECANCELED);
	expect_files(b, 0);
	assert_null(reserve(b, "q", 1));
	/* if there was none yet, there is none that came since */
	assert_int_equal(store_close(b->store), 0);
	assert_int_equal(files(b, NULL), 0);
	reopen(b);
	assert_null(reserve(b, "q", 1));
	free(bytes);
}

/* ---- what is found at a start --------------------------------------------------------------- */

static void put_file(struct bench *b, const char *name, const char *content)
{
	char path[200];
	FILE *file;

	snprintf(path, sizeof(path), "%s/blobs/%s", b->directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(content, file);
	fclose(file);
}

static void test_orphans(void **state)
{
	struct bench *b = *state;
	uint8_t bytes[5000];
	uint64_t id;

	fill(bytes, sizeof(bytes));
	id = submit_pieces(b, bytes, sizeof(bytes), 5000, true);
	assert_int_equal(store_close(b->store), 0);
	put_file(b, "00000001-00000077.blob", "nobody's");
	put_file(b, "00000001-00000078.tmp", "half");
	put_file(b, "00000001-00000001.tmp", "of the same number, half");
	put_file(b, "notes.txt", "not ours");
	put_file(b, "00000001-0000001.blob", "not ours either");
	put_file(b, "1-1.blob", "nor this");
	reopen(b);
	expect_files(b, 4);
	expect_payload(b, id, bytes, sizeof(bytes));
}

static int errors_told;

/* What names the file is in the log before the checkpoint, which a start does not read: the checkpoint names it. */
static void test_a_start_from_a_checkpoint(void **state)
{
	enum { LARGE = 300000, JOBS_MAX = 20000 };
	struct bench *b = *state;
	static uint8_t bytes[LARGE];
	char small[SMALL];
	struct store_stats stats;
	uint64_t id;

	assert_int_equal(store_close(b->store), 0);
	b->options.segment_bytes = 1 << 20;
	b->options.checkpoint_bytes = 1 << 20;
	reopen(b);
	fill(bytes, sizeof(bytes));
	id = submit_pieces(b, bytes, sizeof(bytes), 50000, true);
	memset(small, 's', SMALL - 1);
	small[SMALL - 1] = '\0';
	store_stats(b->store, &stats);
	for (int i = 0; stats.checkpoints == 0; i++) {
		assert_true(i < JOBS_MAX);
		store_commit_free(apply(b, submission("other", small), STORE_ASYNC));
		store_stats(b->store, &stats);
	}
	for (int life = 0; life < 2; life++) {
		assert_int_equal(store_close(b->store), 0);
		reopen(b);
		assert_int_equal(files(b, NULL), 1);
		expect_payload(b, id, bytes, sizeof(bytes));
	}
}

static void count_errors(int level, const char *message, void *arg)
{
	(void)arg;
	if (level >= WH_LOG_ERROR && strstr(message, "blobs/"))
		errors_told++;
}

static void test_damage(void **state)
{
	static const uint64_t where[] = {0, 131071, 131072, 262144, 299999};
	struct bench *b = *state;
	uint8_t *bytes = malloc(300000), *again = malloc(300000);
	uint64_t id, other;
	struct store_stats stats;
	char path[300];
	int fd;

	fill(bytes, 300000);
	id = submit_pieces(b, bytes, 300000, 100000, true);
	assert_int_equal(files(b, path), 1);
	other = submit_pieces(b, bytes, 2000, 2000, true);
	b->options.log = NULL;
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		uint8_t byte = bytes[where[i]] ^ 16;

		assert_int_equal(pwrite(fd, &byte, 1, (off_t)where[i]), 1);
		assert_int_equal(payload_error(b, id), -WH_EDAMAGED);
		assert_int_equal(pwrite(fd, bytes + where[i], 1, (off_t)where[i]), 1);
		expect_payload(b, id, bytes, 300000);
	}
	assert_int_equal(ftruncate(fd, 299999), 0);
	assert_int_equal(payload_error(b, id), -WH_EDAMAGED);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(payload_error(b, id), -WH_EDAMAGED);
	assert_int_equal(pwrite(fd, bytes, 300000, 0), 300000);
	assert_int_equal(pwrite(fd, bytes, 1, 300000), 1); /* longer */
	assert_int_equal(payload_error(b, id), -WH_EDAMAGED);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(payload_error(b, id), -WH_EDAMAGED);
	expect_payload(b, other, bytes, 2000);
	store_stats(b->store, &stats);
	assert_int_equal(stats.blobs_damaged, 9);
	/* the start goes on, and says so */
	assert_int_equal(store_close(b->store), 0);
	errors_told = 0;
	b->options.directory = b->directory;
	b->options.log = count_errors;
	assert_int_equal(store_open(b->loop, &b->options, &b->store, NULL), 0);
	assert_int_equal(errors_told, 1);
	assert_int_equal(payload_error(b, id), -WH_EDAMAGED);
	assert_int_equal(errors_told, 2);
	expect_payload(b, other, bytes, 2000);
	assert_int_equal(b->failures, 0);
	close(fd);
	free(bytes);
	free(again);
}

/* A body that changes between being compared and being read: of its last piece nothing is given. */
static void test_damage_while_it_is_read(void **state)
{
	struct bench *b = *state;
	uint8_t *bytes = malloc(300000), byte;
	struct store_reader *reader;
	char path[300];
	uint64_t id;
	wh_res res;
	int fd;

	fill(bytes, 300000);
	id = submit_pieces(b, bytes, 300000, 100000, true);
	assert_int_equal(files(b, path), 1);
	res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
	assert_int_equal(store_reader_open(b->store, res.ptr, &reader), 0);
	store_bytes_unref(res.ptr);
	assert_int_equal(wh_await(store_reader_next(reader)).n, -EINVAL); /* not compared yet */
	store_reader_free(reader);
	res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
	assert_int_equal(store_reader_open(b->store, res.ptr, &reader), 0);
	store_bytes_unref(res.ptr);
	assert_int_equal(wh_await(store_reader_check(reader)).n, 300000);
	fd = open(path, O_RDWR);
	byte = bytes[100] ^ 1;
	assert_int_equal(pwrite(fd, &byte, 1, 100), 1);
	b->options.log = NULL;
	assert_int_equal(wh_await(store_reader_next(reader)).n, STORE_PIECE_MAX);
	assert_int_equal(wh_await(store_reader_next(reader)).n, STORE_PIECE_MAX);
	assert_int_equal(wh_await(store_reader_next(reader)).n, -WH_EDAMAGED);
	assert_int_equal(wh_await(store_reader_next(reader)).n, -WH_EDAMAGED);
	store_reader_free(reader);
	close(fd);
	free(bytes);
}

static void test_many_readers(void **state)
{
	struct bench *b = *state;
	struct store_reader *readers[1000];
	uint8_t bytes[2000];
	size_t count = 0;
	int error = 0;
	wh_res res;

	fill(bytes, sizeof(bytes));
	res = wh_await(store_payload(b->store, submit_pieces(b, bytes, 2000, 2000, true), STORE_DEFAULT));
	while (count < 1000 && (error = store_reader_open(b->store, res.ptr, &readers[count])) == 0)
		count++;
	assert_int_equal(error, -JOB_EBUSY);
	assert_true(count >= 100);
	store_reader_free(readers[0]);
	assert_int_equal(store_reader_open(b->store, res.ptr, &readers[0]), 0);
	while (count > 1)
		store_reader_free(readers[--count]);
	wh_future pending = store_reader_check(readers[0]);
	assert_int_equal(store_close(b->store), 0); /* one is still open */
	wh_res end = wh_await(pending);
	assert_true(end.n == 2000 || end.n == -ECANCELED);
	store_reader_free(readers[0]);
	store_bytes_unref(res.ptr);
	reopen(b);
}

/* ---- the table ------------------------------------------------------------------------------ */

static uint64_t gone_sum;

static void on_gone(void *arg, const struct job_blob *blob, uint64_t place)
{
	(void)arg;
	assert_int_equal(place, 5);
	gone_sum += blob->number;
}

static void test_table(void **state)
{
	struct store_blob_table t = {0};
	uint8_t reference[JOB_BLOB_BYTES];
	uint64_t named = 0;
	bool whole;

	(void)state;
	assert_int_equal(store_blob_number("0000000a-00000b01.blob", &whole), UINT64_C(0xa00000b01));
	assert_true(whole);
	assert_int_equal(store_blob_number("0000000a-00000b01.tmp", &whole), UINT64_C(0xa00000b01));
	assert_false(whole);
	assert_int_equal(store_blob_number("0000000A-00000b01.tmp", &whole), 0);
	assert_int_equal(store_blob_number("0000000a-00000b01.tmp.x", &whole), 0);
	assert_int_equal(store_blob_number("x", &whole), 0);
	assert_null(store_blob_table_find(&t, 7));
	for (uint64_t id = 1; id <= 5000; id++) {
		struct job_blob blob = {.number = id * 3, .bytes = id};
		struct job_record r = {.type = JOB_SUBMIT, .id = id, .flags = JOB_BODY_IN_BLOB};

		job_blob_put(&blob, reference);
		r.body = (struct job_slice){reference, sizeof(reference)};
		assert_int_equal(store_blob_table_room(&t, 1), 0);
		store_blob_table_apply(&t, &r, 5, on_gone, NULL);
		named += id * 3;
	}
	assert_int_equal(t.files, 5000);
	assert_int_equal(t.bytes, 5000 * 5001 / 2);
	/* out in another order, some with a result that they end with */
	for (uint64_t i = 1; i <= 5000; i++) {
		uint64_t id = i * 1009 % 5003;
		struct job_record r = {.type = JOB_REMOVE, .body = {&id, 8}};
		struct job_blob blob = {.number = 1, .bytes = 9};

		if (id == 0 || id > 5000)
			continue;
		assert_int_equal(store_blob_table_find(&t, id)->payload.number, id * 3);
		if (i % 2) {
			job_blob_put(&blob, reference);
			r = (struct job_record){.type = JOB_FINISH, .id = id, .flags = JOB_BODY_IN_BLOB};
			r.body = (struct job_slice){reference, sizeof(reference)};
			named++;
		}
		store_blob_table_apply(&t, &r, 5, on_gone, NULL);
		assert_null(store_blob_table_find(&t, id));
	}
	for (uint64_t id = 5001; id <= 5002; id++)
		assert_null(store_blob_table_find(&t, id));
	assert_true(t.count <= 2);
	assert_true(gone_sum <= named && gone_sum > 0);
	store_blob_table_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test_setup_teardown(test_sizes, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_result, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_files_go_with_their_jobs, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_finished_at_once, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_transaction, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_given_up, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_how_many, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_closed_meanwhile, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_cancelled, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_orphans, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_a_start_from_a_checkpoint, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_damage, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_damage_while_it_is_read, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_many_readers, set_up_small, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
