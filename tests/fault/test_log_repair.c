/* tests/fault/test_log_repair.c -- a data folder damaged in many ways, and repaired: a start works, everything reads, and every job that
 * the repair does not name is what it was.
 *
 * Three folders with jobs of every kind, bodies in files, several segments and a checkpoint: one closed in order, one as a kill
 * leaves it, one whose history has been compacted. LOG_REPAIR_SEED chooses where the damage is, LOG_REPAIR_ROUNDS how often.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first */
#include <cmocka.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/repair_help.h"
#include "log/log.h"
#include "store/repair.h"

enum { SEGMENT = 128 << 10, JOBS = 240, FILES_MAX = 256 };

struct image {
	const char *what;
	char folder[64];
	char *seen[JOBS * 4 + 1]; /* by id: what a look at it shows; NULL: it is not there */
	char files[FILES_MAX][64];
	size_t files_count;
	uint64_t last; /* the highest id that was given */
	bool compacted, killed;
};

static wh_loop *loop;
static const char *base; /* folder of folders: in memory, where flushing costs nothing, if there is one */
static char work[64];
static unsigned char *named; /* by id */
static uint64_t named_max, damages;
static uint32_t random_state;

static void repair_wrong(const char *text)
{
	fail_msg("%s", text);
	abort();
}

#define CHECK(condition) check(condition, "it does not hold")

static uint32_t any(uint32_t below)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(random_state >> 8) * below >> 24);
}

static void __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
	char command[400];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	CHECK(system(command) == 0);
}

/* ---- folders with jobs ------------------------------------------------------------------- */

static void on_notice(int level, const char *message, void *arg)
{
	(void)arg;
	if (level >= WH_LOG_ERROR && getenv("LOG_REPAIR_LOUD"))
		fprintf(stderr, "%s\n", message);
}

static struct store *open_store(const char *folder, const struct image *image)
{
	struct store_problem problem = {0};
	struct store *store = NULL;
	struct store_options options = {.directory = folder,
	                                .segment_bytes = SEGMENT,
	                                .checkpoint_bytes = 2 * SEGMENT,
	                                .compact_slack = image->compacted ? SEGMENT : UINT64_C(1) << 40,
	                                .blob_bytes = REPAIR_BLOB,
	                                .recent_bytes = 4096,
	                                .log = on_notice};
	int error = store_open(loop, &options, &store, &problem);
	check(error == 0, "%s", problem.text);
	return store;
}

/* ---- looking ----------------------------------------------------------------------------- */

enum { IDS = JOBS * 4 };

static void list_files(struct image *image)
{
	static const char *const patterns[] = {"manifest-?", "checkpoint-*", "seg-*", "blobs/*"};
	for (size_t p = 0; p < 4; p++) {
		char pattern[120];
		glob_t found;
		snprintf(pattern, sizeof(pattern), "%s/%s", image->folder, patterns[p]);
		if (glob(pattern, 0, NULL, &found) != 0)
			continue;
		CHECK(image->files_count + found.gl_pathc <= FILES_MAX);
		for (size_t i = 0; i < found.gl_pathc; i++)
			snprintf(image->files[image->files_count++], 64, "%s",
			         found.gl_pathv[i] + strlen(image->folder) + 1);
		globfree(&found);
	}
}

static void look_at_all(struct image *image)
{
	shell("rm -rf %s", work);
	shell("cp -r %s %s", image->folder, work);
	struct store *store = open_store(work, image);
	for (uint64_t id = 1; id <= IDS; id++) {
		image->seen[id] = describe(store, id);
		image->last = image->seen[id] ? id : image->last;
	}
	CHECK(store_close(store) == 0);
}

enum ending { CLEAN, KILLED, COMPACTED };

static void fill_image(struct image *image, enum ending ending)
{
	struct store_stats stats = {0};
	struct store_marks marks;
	CHECK(wh_loop_open(&loop, NULL) == 0);
	struct store *store = open_store(image->folder, image);
	for (unsigned i = 0; i < JOBS; i++) {
		treat(store, submit_one(store, i, i % REPAIR_SHAPES_PLAIN), i % REPAIR_SHAPES_PLAIN);
		if (ending == COMPACTED && i % 20 == 19)
			churn(store, 100);
	}
	for (int i = 0; i < 30000 && ending == COMPACTED && stats.segments_released < 5; i++) {
		wh_await(wh_sleep(loop, WH_NS_PER_MS));
		store_stats(store, &stats);
	}
	CHECK(ending != COMPACTED || stats.segments_released >= 5);
	for (unsigned i = 0; i < 24; i++)
		treat(store, submit_one(store, i, i % REPAIR_SHAPES_PLAIN), i % REPAIR_SHAPES_PLAIN);
	store_marks(store, &marks);
	CHECK(wh_await(store_wait_position(store, (struct store_position){marks.epoch, marks.appended},
	                                   STORE_LOCAL))
	              .n == 0);
	if (ending != KILLED) {
		CHECK(store_close(store) == 0);
		return;
	}
	/* the log's seal says that all before it is durable: without one, damage of the last groups cannot be told from a torn tail */
	store_marks(store, &marks);
	CHECK(wh_await(store_moved(store, marks.flushed, STORE_LOCAL)).n == 0);
}

static void make_image(struct image *image, enum ending ending)
{
	static const char *const texts[] = {"closed in order", "killed", "compacted"};
	*image = (struct image){
		.what = texts[ending], .compacted = ending == COMPACTED, .killed = ending == KILLED};
	snprintf(repair_context, sizeof(repair_context), "%s", image->what);
	snprintf(image->folder, sizeof(image->folder), "%s/whilst-repair-image-XXXXXX", base);
	CHECK(mkdtemp(image->folder) != NULL);
	shell("rmdir %s", image->folder);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		fill_image(image, ending); /* in a process of its own, which may end as it likes */
		_exit(0);
	}
	int status = 0;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	list_files(image);
}

static void free_image(struct image *image)
{
	shell("rm -rf %s %s", image->folder, work);
	for (uint64_t id = 0; id <= IDS; id++)
		free(image->seen[id]);
}

/* ---- damage ------------------------------------------------------------------------------ */

static uint64_t size_of(const char *path)
{
	struct stat stat_of;
	return stat(path, &stat_of) == 0 ? (uint64_t)stat_of.st_size : 0;
}

static void write_at(const char *path, uint64_t at, const void *bytes, size_t len)
{
	int fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pwrite(fd, bytes, len, (off_t)at) == (ssize_t)len);
	close(fd);
}

static void flip(const char *path, uint64_t at)
{
	uint8_t byte = 0;
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
	close(fd);
	byte ^= (uint8_t)(1u << any(8));
	write_at(path, at, &byte, 1);
}

/* How much of it means something; behind that are zeros. */
static uint64_t used_of(const char *path)
{
	uint64_t used = size_of(path);
	if (used == 0)
		return 0;
	uint8_t *bytes = malloc(used + 1);
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0 && bytes && pread(fd, bytes, used, 0) == (ssize_t)used);
	close(fd);
	while (used > 0 && bytes[used - 1] == 0)
		used--;
	free(bytes);
	return used;
}

enum damage { FLIP, FLIP_HEAD, FLIP_MANY, ZERO_BLOCK, ZERO_SOME, CUT_SHORT, REMOVE, GARBAGE, DAMAGE_KINDS };

/* A file of the work folder gets worse. */
static void damage(const char *file, int kind, bool sealed)
{
	static const char *const texts[] = {"a bit flipped",
	                                    "a bit of its first blocks flipped",
	                                    "bits flipped",
	                                    "a block of zeros",
	                                    "some blocks of zeros",
	                                    "cut short",
	                                    "removed",
	                                    "a block of garbage"};
	char path[160];
	uint8_t block[3 * 4096] = {0};
	snprintf(path, sizeof(path), "%s/%s", work, file);
	uint64_t used = used_of(path);
	/* a seal that is lost with what it seals cannot be told from a torn tail */
	if (sealed && used > 5 * 4096 && kind != CUT_SHORT && kind != REMOVE)
		used -= kind == ZERO_SOME ? 3 * 4096 : 4096;
	uint64_t at = used > 0 ? any((uint32_t)used) : 0;
	snprintf(repair_context + strlen(repair_context), sizeof(repair_context) - strlen(repair_context),
	         ", %s: %s at %llu", file, texts[kind], (unsigned long long)at);
	if (used == 0)
		return;
	switch (kind) {
	case FLIP:
		flip(path, at);
		break;
	case FLIP_HEAD:
		flip(path, any(used < 8320 ? (uint32_t)used : 8320));
		break;
	case FLIP_MANY:
		for (int i = 0; i < 5; i++)
			flip(path, any((uint32_t)used));
		break;
	case GARBAGE:
		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = (uint8_t)any(256);
		write_at(path, at & ~UINT64_C(4095), block, 4096);
		break;
	case ZERO_BLOCK:
		write_at(path, at & ~UINT64_C(4095), block, 4096);
		break;
	case ZERO_SOME:
		write_at(path, at & ~UINT64_C(4095), block, sizeof(block));
		break;
	case CUT_SHORT:
		CHECK(truncate(path, (off_t)at) == 0);
		break;
	case REMOVE:
		CHECK(unlink(path) == 0);
		break;
	}
}

/* ---- repair ------------------------------------------------------------------------------ */

static void on_found(void *arg, const char *file, uint64_t offset, const char *reason)
{
	(void)arg;
	damages++;
	if (getenv("LOG_REPAIR_LOUD"))
		fprintf(stderr, "found: %s, byte %llu: %s\n", file, (unsigned long long)offset, reason);
}

static void on_job(void *arg, uint64_t job, struct store_slice queue, const char *what)
{
	(void)arg;
	CHECK(what && *what);
	if (job <= IDS)
		named[job] = 1;
	named_max = job > named_max ? job : named_max;
	if (getenv("LOG_REPAIR_LOUD"))
		fprintf(stderr, "job %llu of %.*s: %s\n", (unsigned long long)job, (int)queue.len,
		        (const char *)queue.data, what);
}

static void on_ids(void *arg, uint64_t from, uint64_t until)
{
	(void)arg;
	CHECK(from < until);
	for (uint64_t id = from; id < until && id <= IDS; id++)
		named[id] = 1;
}

static int repair(int how, bool apply, struct store_repair_result *ret, struct store_problem *problem)
{
	struct store_repair_options options = {.directory = work,
	                                       .how = how,
	                                       .apply = apply,
	                                       .found = on_found,
	                                       .job = on_job,
	                                       .ids = on_ids,
	                                       .log = on_notice};
	memset(named, 0, IDS + 1);
	damages = named_max = 0;
	return store_repair(loop, &options, ret, problem);
}

/* What is in the folder, but for its lock, in one number. */
static uint64_t folder_sum(void)
{
	char command[300];
	unsigned long long sum = 0;
	snprintf(command, sizeof(command),
	         "cd %s && find . -type f ! -name LOCK | sort | xargs cksum | cksum | cut -d' ' -f1", work);
	FILE *pipe = popen(command, "r");
	CHECK(pipe && fscanf(pipe, "%llu", &sum) == 1);
	pclose(pipe);
	return sum;
}

struct tally {
	uint64_t repaired, refused, impossible, named, harmless;
};

static void check_jobs(struct image *image, struct tally *tally)
{
	struct store *store = open_store(work, image);
	for (uint64_t id = 1; id <= IDS; id++) {
		char *now = describe(store, id);
		bool same = !now == !image->seen[id] && (!now || strcmp(now, image->seen[id]) == 0);
		tally->named += named[id];
		check(named[id] || same, "job %" PRIu64 ", which is not named, was\n%s\nand is\n%s", id,
		      image->seen[id] ? image->seen[id] : "not there", now ? now : "not there");
		free(now);
	}
	CHECK(store_recount(store) == 0);
	CHECK(submit_one(store, 1, REPAIR_SHAPE_READY) > image->last); /* no id is given again */
	CHECK(store_close(store) == 0);
}

/* What was lost of earlier epochs is told to whoever asks for a position there. */
static void check_epochs(const struct image *image, const struct store_repair_result *result)
{
	struct store *store = open_store(work, image);
	wh_res res = wh_await(store_log(store));
	struct store_log *epochs = res.ptr;
	CHECK(res.n == 0);
	for (size_t i = 0; i < epochs->epochs_count; i++)
		CHECK(epochs->epochs[i].epoch >= result->epoch || epochs->epochs[i].end <= result->lost_from);
	store_log_free(epochs);
	CHECK(store_close(store) == 0);
}

/* Each file that was there is there still, or is kept. */
static void check_kept(const char *kept)
{
	shell("cd %s.before && find . -type f ! -name LOCK | while read f; do cmp -s $f %s/$f || cmp -s $f "
	      "%s/%s/$f || exit 1; done",
	      work, work, work, kept[0] ? kept : ".");
	shell("rm -rf %s.before", work);
}

/* The folder as it is now must be repairable, or be refused and left alone. */
static void judge(struct image *image, int how, struct tally *tally)
{
	struct store_repair_result result, again;
	struct store_problem problem = {0};
	uint64_t before = folder_sum();
	int error = repair(how, false, &result, &problem);
	CHECK(folder_sum() == before);
	if (error < 0 || result.refused[0]) {
		CHECK(error == 0 || (error == -WH_EDAMAGED && problem.text[0]));
		if (error < 0 && getenv("LOG_REPAIR_LOUD"))
			fprintf(stderr, "%s: %s\n", repair_context, problem.text);
		CHECK(repair(how, true, &result, &problem) == error && folder_sum() == before);
		tally->refused += error == 0;
		tally->impossible += error < 0;
		return;
	}
	uint64_t found = damages;
	shell("cp -r %s %s.before", work, work);
	CHECK(repair(how, true, &result, &problem) == 0);
	check_kept(result.kept);
	CHECK(damages == found);
	CHECK(result.nothing == (result.kept[0] == 0) && (!result.nothing || folder_sum() == before));
	tally->harmless += result.nothing;
	tally->repaired += !result.nothing;
	unsigned char *first = malloc(IDS + 1);
	CHECK(first);
	memcpy(first, named, IDS + 1);
	CHECK(repair(how, false, &again, &problem) == 0);
	check(again.nothing, "%" PRIu64 " damages and %" PRIu64 " jobs after the repair", again.damages,
	      again.jobs);
	memcpy(named, first, IDS + 1);
	free(first);
	if (!result.nothing)
		check_epochs(image, &result);
	check_jobs(image, tally);
}

static void damage_all(struct image *image, unsigned rounds)
{
	struct tally tally = {0};
	for (unsigned round = 0; round < rounds; round++)
		for (size_t i = 0; i < image->files_count; i++) {
			int kind = (int)any(DAMAGE_KINDS), how = (int)any(2);
			shell("rm -rf %s", work);
			shell("cp -r %s %s", image->folder, work);
			snprintf(repair_context, sizeof(repair_context), "%s, %s", image->what,
			         how ? "cut" : "skip");
			damage(image->files[i], kind, image->killed);
			bool twice = round % 3 == 2;
			if (twice)
				damage(image->files[any((uint32_t)image->files_count)], FLIP, image->killed);
			uint64_t impossible = tally.impossible;
			judge(image, how, &tally);
			/* a checkpoint can be made again out of the log, unless that has gone, or is damaged, too */
			CHECK(impossible == tally.impossible || twice || image->compacted);
		}
	print_message("%s: %llu repaired, %llu had nothing, %llu refused, %llu impossible; %llu jobs named\n",
	              image->what, (unsigned long long)tally.repaired, (unsigned long long)tally.harmless,
	              (unsigned long long)tally.refused, (unsigned long long)tally.impossible,
	              (unsigned long long)tally.named);
	assert_true(tally.repaired > rounds * image->files_count / 3);
}

/* Each segment lost, one at a time: whatever was in it, jobs that name a place there are named or unharmed. */
static void lose_segments(struct image *image)
{
	struct tally tally = {0};
	for (size_t i = 0; i < image->files_count; i++) {
		if (strncmp(image->files[i], "seg-", 4) != 0)
			continue;
		shell("rm -rf %s", work);
		shell("cp -r %s %s", image->folder, work);
		snprintf(repair_context, sizeof(repair_context), "%s, skip", image->what);
		damage(image->files[i], REMOVE, false);
		judge(image, STORE_REPAIR_SKIP, &tally);
	}
	assert_true(tally.repaired > 5);
}

static struct image images[3];

/* A repair that ends at any of the steps by which its files take the place of the old ones: nothing starts, until it is repeated. */
static void test_broken_off(void **state)
{
	static const char *const files[] = {"seg-0000000000000000.log", "seg-0000000000000003.log",
	                                    "manifest-b"};
	struct image *image = &images[1];
	struct store_repair_result result;
	struct store_problem problem = {0};
	snprintf(repair_context, sizeof(repair_context), "broken off");
	/* what the swap does, by hand: the new log beside the old one, which has lost its manifests already */
	for (int step = 0; step < 4; step++) {
		char path[200];
		shell("rm -rf %s %s.new && cp -r %s %s", work, work, image->folder, work);
		snprintf(path, sizeof(path), "%s/%s", work, files[0]);
		flip(path, 20000);
		shell("cp -r %s %s.old", work, work);
		CHECK(repair(STORE_REPAIR_SKIP, true, &result, &problem) == 0 && result.kept[0]);
		unsigned char *first = malloc(IDS + 1);
		CHECK(first);
		memcpy(first, named, IDS + 1);
		/* back again to where a crash may have left it */
		shell("mv %s %s.new && mv %s.old %s", work, work, work, work);
		shell("cp -r %s.new %s/repaired-2.new && rm -rf %s/repaired-2.new/repaired-* "
		      "%s/repaired-2.new/blobs",
		      work, work, work, work);
		shell("cd %s/repaired-2.new && ls > ../files.txt && mv ../files.txt .", work);
		shell("mkdir %s/repaired-2", work);
		for (int i = 0; i < step; i++)
			if (i < 1)
				shell("mv %s/manifest-a %s/manifest-b %s/repaired-2", work, work, work);
			else
				shell("cd %s && { [ ! -e %s ] || ln %s repaired-2/%s; } && mv "
				      "repaired-2.new/%s %s",
				      work, files[i - 1], files[i - 1], files[i - 1], files[i - 1],
				      files[i - 1]);
		struct store *store = NULL;
		struct store_options options = {
			.directory = work, .segment_bytes = SEGMENT, .log = on_notice};
		CHECK(step == 0 || store_open(loop, &options, &store, &problem) == -WH_EDAMAGED);
		CHECK(repair(STORE_REPAIR_SKIP, false, &result, &problem) == 0 && result.resumed &&
		      !result.kept[0]);
		CHECK(repair(STORE_REPAIR_CUT, true, &result, &problem) == 0 && result.resumed);
		CHECK(strcmp(result.kept, "repaired-2") == 0);
		shell("test ! -e %s/repaired-2.new", work);
		memcpy(named, first, IDS + 1);
		free(first);
		struct tally tally = {0};
		check_jobs(image, &tally);
		CHECK(repair(STORE_REPAIR_SKIP, false, &result, &problem) == 0 && result.nothing);
		shell("rm -rf %s.new", work);
	}
}

/* All that a life has written is lost, the record that reserved its ids among it: none of them is given again. */
static void test_ids_of_the_lost(void **state)
{
	struct image *image = &images[0];
	struct store_options options = {.directory = work,
	                                .segment_bytes = SEGMENT,
	                                .checkpoint_bytes = UINT64_C(1) << 40,
	                                .compact_slack = UINT64_C(1) << 40,
	                                .blob_bytes = REPAIR_BLOB};
	for (int how = STORE_REPAIR_SKIP; how <= STORE_REPAIR_CUT; how++) {
		struct store_repair_result result;
		struct store_problem problem = {0};
		struct store *store = NULL;
		uint64_t used[FILES_MAX], id = 0;
		snprintf(repair_context, sizeof(repair_context), "ids of the lost, %d", how);
		shell("rm -rf %s", work);
		shell("cp -r %s %s", image->folder, work);
		for (size_t i = 0; i < image->files_count; i++) {
			char path[160];
			snprintf(path, sizeof(path), "%s/%s", work, image->files[i]);
			used[i] = used_of(path);
		}
		CHECK(store_open(loop, &options, &store, &problem) == 0);
		for (unsigned i = 0; i < 5; i++)
			id = submit_one(store, i, REPAIR_SHAPE_READY);
		CHECK(id > image->last && store_close(store) == 0);
		for (size_t i = 0; i < image->files_count; i++) {
			static const uint8_t zeros[SEGMENT];
			char path[160];
			uint64_t from = (used[i] + 4095) & ~UINT64_C(4095);
			snprintf(path, sizeof(path), "%s/%s", work, image->files[i]);
			if (strncmp(image->files[i], "seg-", 4) == 0 && from < SEGMENT)
				write_at(path, from, zeros, SEGMENT - from);
		}
		CHECK(store_open(loop, &options, &store, &problem) == -WH_EDAMAGED);
		CHECK(repair(how, true, &result, &problem) == 0 && result.kept[0]);
		CHECK(store_open(loop, &options, &store, &problem) == 0);
		CHECK(submit_one(store, 1, REPAIR_SHAPE_READY) > id);
		CHECK(store_close(store) == 0);
	}
}

static void flush(struct store *store)
{
	struct store_marks marks;
	store_marks(store, &marks);
	CHECK(wh_await(store_wait_position(store, (struct store_position){marks.epoch, marks.appended},
	                                   STORE_LOCAL))
	              .n == 0);
}

static void used_of_all(const struct image *image, uint64_t used[FILES_MAX])
{
	for (size_t i = 0; i < image->files_count; i++) {
		char path[160];
		snprintf(path, sizeof(path), "%s/%s", work, image->files[i]);
		used[i] = (used_of(path) + 4095) & ~UINT64_C(4095);
	}
}

/* The end of a job that was there long before is lost, and nothing else: who looks must be told that it may have ended. */
static void test_a_lost_end(void **state)
{
	struct image *image = &images[0];
	struct store_repair_result result;
	struct store_problem problem = {0};
	uint64_t before[FILES_MAX], after[FILES_MAX];
	snprintf(repair_context, sizeof(repair_context), "a lost end");
	shell("rm -rf %s", work);
	shell("cp -r %s %s", image->folder, work);
	struct store *store = open_store(work, image);
	submit_one(store, 0, REPAIR_SHAPE_READY);
	flush(store);
	used_of_all(image, before);
	CHECK(image->seen[1] && image->seen[1][0] == '0' + JOB_DELAYED);
	apply(store, (struct store_action){.kind = STORE_CANCEL, .job = 1});
	flush(store);
	used_of_all(image, after);
	submit_one(store, 1, REPAIR_SHAPE_READY);
	flush(store);
	CHECK(store_close(store) == 0);
	for (size_t i = 0; i < image->files_count; i++) {
		static uint8_t garbage[SEGMENT];
		char path[160];
		memset(garbage, 0x5a, sizeof(garbage));
		snprintf(path, sizeof(path), "%s/%s", work, image->files[i]);
		if (strncmp(image->files[i], "seg-", 4) == 0 && after[i] > before[i])
			write_at(path, before[i], garbage, after[i] - before[i]);
	}
	CHECK(repair(STORE_REPAIR_SKIP, true, &result, &problem) == 0 && result.kept[0]);
	CHECK(named[1]);
}

static void test_damage(void **state)
{
	const char *rounds = getenv("LOG_REPAIR_ROUNDS"), *seed = getenv("LOG_REPAIR_SEED");
	random_state = seed ? (uint32_t)atoi(seed) : 1;
	for (int i = 0; i < 3; i++)
		damage_all(&images[i], rounds ? (unsigned)atoi(rounds) : 1);
	lose_segments(&images[2]);
}

static int set_up_images(void **state)
{
	base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(work, sizeof(work), "%s/whilst-repair-work-XXXXXX", base);
	if (!mkdtemp(work) || !(named = calloc(1, IDS + 1)))
		return -1;
	for (int i = 0; i < 3; i++)
		make_image(&images[i], (enum ending)i);
	if (wh_loop_open(&loop, NULL) < 0)
		return -1;
	for (int i = 0; i < 3; i++)
		look_at_all(&images[i]);
	return 0;
}

static int tear_down_images(void **state)
{
	for (int i = 0; i < 3; i++)
		free_image(&images[i]);
	free(named);
	wh_loop_close(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken_off),
		cmocka_unit_test(test_ids_of_the_lost),
		cmocka_unit_test(test_a_lost_end),
		cmocka_unit_test(test_damage),
	};
	return cmocka_run_group_tests(tests, set_up_images, tear_down_images);
}
