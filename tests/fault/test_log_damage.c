/* tests/fault/test_log_damage.c -- every bit of a small log flipped, every length cut, blocks lost, swapped and doubled, blocks and
 * files that came from elsewhere or from an earlier time.
 *
 * What was durable is either all there or the log does not start, says where the damage is, and changes nothing. What was
 * not durable may be missing, but only from some point on. Nothing else may ever be replayed. Four logs: closed
 * in order; killed when all was flushed and sealed; killed with groups that were written and not flushed; and one with a
 * checkpoint, closed in order. In the
 * gate one bit of some of the bytes is flipped; LOG_DAMAGE_ALL=1 flips every bit, LOG_DAMAGE_PART=i/n the i-th of n parts of them.
 */
#include "../unit/log_help.h"
#include "log/format.h"

enum { FILES_MAX = 16, BLOCK = 4096 };

struct file {
	const char *name;
	uint8_t *bytes;
	size_t len;
	uint64_t used; /* bytes that mean something; behind them are zeros */
};

struct image {
	const char *what;
	struct file files[FILES_MAX];
	size_t count;
	struct help_model model;
	uint64_t saved;   /* the checkpoint's lsn, 0: there is none. Nothing before it is read at a start */
	uint64_t durable; /* what is acknowledged as flushed, and for which there is evidence */
};

struct outcome {
	uint64_t refused, whole, shorter;
};

static char saved_name[64]; /* the checkpoint's */
static const char *const names[] = {"manifest-a",
                                    "manifest-b",
                                    "seg-0000000000000000.log",
                                    "seg-0000000000000001.log",
                                    "seg-0000000000000002.log",
                                    "seg-0000000000000003.log",
                                    "seg-0000000000000004.log",
                                    saved_name};
static char context[200];

#define CHECK(condition)                                         \
	do {                                                     \
		if (!(condition))                                \
			fail_msg("%s: %s", context, #condition); \
	} while (0)

static uint64_t machine_seed = 7;

static wh_sim *new_machine(void)
{
	wh_sim *sim = NULL;
	CHECK(wh_sim_open(&sim, &(struct wh_sim_options){.seed = machine_seed}) == 0);
	loop = NULL;
	CHECK(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
	return sim;
}

static void end_machine(wh_sim *sim)
{
	loop = wh_loop_close(loop);
	wh_sim_close(sim);
}

static unsigned part, parts;

/* Is it in the part that was asked for? */
static bool is_mine(uint64_t number)
{
	const char *text = getenv("LOG_DAMAGE_PART");
	if (parts == 0 && (!text || sscanf(text, "%u/%u", &part, &parts) != 2 || parts == 0))
		parts = 1;
	return number % parts == part;
}

/* All parts together have more than so many; of one of them nothing can be said. */
static bool more_than(uint64_t many, uint64_t count)
{
	return parts > 1 || count > many;
}

/* ---- images ------------------------------------------------------------------------------ */

static void take_image(struct image *image)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[64];
		snprintf(path, sizeof(path), "data/%s", names[i]);
		int fd = names[i][0] ? (int)wh_await(wh_open(loop, path, O_RDONLY, 0)).n : -ENOENT;
		if (fd < 0)
			continue;
		struct file *file = &image->files[image->count++];
		file->name = names[i];
		file->len = (size_t)wh_await(wh_size(loop, fd)).n;
		file->bytes = malloc(file->len);
		CHECK(file->bytes != NULL);
		CHECK(wh_await(wh_pread_all(loop, fd, file->bytes, file->len, 0)).n == (int64_t)file->len);
		CHECK(wh_await(wh_close(loop, fd)).n == 0);
		for (file->used = file->len; file->used > 0 && file->bytes[file->used - 1] == 0; file->used--)
			;
	}
}

static void write_image(const struct image *image)
{
	CHECK(wh_await(wh_mkdir(loop, "data", 0700)).n == 0);
	for (size_t i = 0; i < image->count; i++) {
		const struct file *file = &image->files[i];
		char path[64];
		if (!file->bytes)
			continue;
		snprintf(path, sizeof(path), "data/%s", file->name);
		int fd = (int)wh_await(wh_open(loop, path, O_RDWR | O_CREAT, 0600)).n;
		CHECK(fd >= 0);
		CHECK(wh_pwrite_blocking(loop, fd, file->bytes, file->len, 0) == (int64_t)file->len);
		CHECK(wh_await(wh_close(loop, fd)).n == 0);
	}
}

static void free_image(struct image *image)
{
	for (size_t i = 0; i < image->count; i++)
		free(image->files[i].bytes);
	help_fini(&image->model);
}

/* All records so far as a checkpoint. */
static void save(struct log *log, struct image *image)
{
	struct help_model *model = &image->model;
	struct log_checkpoint *checkpoint = NULL;
	CHECK(log_checkpoint_begin(log, &checkpoint) == 0);
	image->saved = log_checkpoint_lsn(checkpoint);
	snprintf(saved_name, sizeof(saved_name), "checkpoint-%016llx.ckp", (unsigned long long)image->saved);
	for (uint32_t i = 0; i < model->count; i++)
		CHECK(help_append_to(log, checkpoint, model, model->records[i].seed) == 0);
	CHECK(wh_await(log_checkpoint_end(checkpoint)).n == 0);
	model->in_checkpoint = model->count;
}

enum ending { CLEAN, SEALED, UNFLUSHED, SAVED };

static void make_image(struct image *image, enum ending ending)
{
	static const char *const texts[] = {"closed in order", "killed, all flushed and sealed",
	                                    "killed, the end not flushed", "with a checkpoint"};
	*image = (struct image){.what = texts[ending]};
	saved_name[0] = 0;
	snprintf(context, sizeof(context), "%s", image->what);
	help_init(&image->model, 700);
	wh_sim *sim = new_machine();
	struct log_options options = help_options("data", &image->model);
	struct log *log = NULL;
	options.group_bytes = 16384;
	CHECK(log_open(loop, &options, &log, NULL) == 0);
	for (uint32_t i = 0; i < 16; i++)
		must_commit(log, &image->model, i == 9 ? 60 : 1 + i % 4, i % 3 ? LOG_LOCAL : LOG_ASYNC);
	if (ending == SAVED) {
		save(log, image);
		for (uint32_t i = 0; i < 6; i++)
			must_commit(log, &image->model, 2, LOG_LOCAL);
	}
	must_commit(log, &image->model, 1, LOG_LOCAL);
	image->durable = wh_mark_read(log_flushed(log));
	if (ending == SEALED)
		CHECK(wh_await(wh_mark_wait(log_flushed(log), image->durable + BLOCK)).n == 0);
	if (ending == UNFLUSHED) {
		must_commit(log, &image->model, 2, LOG_ASYNC);
		must_commit(log, &image->model, 2, LOG_ASYNC);
		CHECK(wh_mark_read(log_flushed(log)) == image->durable);
	}
	if (ending == CLEAN || ending == SAVED) {
		CHECK(log_close(log) == 0);
		image->durable = UINT64_MAX;
		log = NULL;
	}
	take_image(image);
	CHECK(image->count >= 4);
	log_close(log);
	end_machine(sim);
}

/* ---- judging ----------------------------------------------------------------------------- */

/* The image as it is now must be refused, or give what it may give. true: refused. */
static bool judge(struct image *image, struct outcome *outcome)
{
	struct help_model *model = &image->model;
	struct log_options options = help_options("data", model);
	struct log *log = NULL;
	struct log_problem problem = {0};
	wh_sim *sim = new_machine();
	write_image(image);
	int status = log_open(loop, &options, &log, &problem);
	if (status < 0) {
		CHECK(status == -WH_EDAMAGED);
		CHECK(problem.kind == LOG_PROBLEM_DAMAGED && problem.exit_status == 3);
		CHECK(problem.file[0] && problem.reason[0] && problem.advice[0]);
		CHECK(log == NULL);
		struct image after = {0};
		take_image(&after);
		size_t there = 0;
		for (size_t i = 0; i < image->count; i++) {
			const struct file *before = &image->files[i];
			if (!before->bytes)
				continue;
			CHECK(there < after.count && after.files[there].len == before->len);
			CHECK(memcmp(after.files[there].bytes, before->bytes, before->len) == 0);
			free(after.files[there++].bytes);
		}
		CHECK(there == after.count);
		outcome->refused++;
	} else {
		CHECK(!model->wrong && model->replayed <= model->count);
		for (uint32_t i = model->replayed; i < model->count; i++)
			CHECK(model->records[i].lsn > image->durable);
		uint64_t *which = model->replayed == model->count ? &outcome->whole : &outcome->shorter;
		(*which)++;
		log_close(log);
	}
	end_machine(sim);
	return status < 0;
}

/* Does the byte belong to a group that is certainly durable? Then its damage must be seen. */
static bool must_be_refused(const struct image *image, const struct file *file, uint64_t at)
{
	if (file->name[0] == 'c')
		return at < file->used;
	if (file->name[0] != 's' || at >= file->used || file->used <= BLOCK)
		return false; /* a manifest has a second; zeros and spare segments hold nothing */
	if (image->durable == UINT64_MAX && image->saved == 0)
		return true;
	uint64_t base;
	memcpy(&base, file->bytes + BLOCK + 24, sizeof(base)); /* the opening's base_lsn */
	if (at >= 2 * BLOCK && base + at - 2 * BLOCK < image->saved)
		return false;
	return at >= 2 * BLOCK && base + at - 2 * BLOCK < image->durable && file->bytes[BLOCK] == 'W';
}

static void flip_bits(struct image *image, uint32_t stride)
{
	struct outcome outcome = {0};
	bool all = getenv("LOG_DAMAGE_ALL");
	for (size_t i = 0; i < image->count; i++) {
		struct file *file = &image->files[i];
		for (uint64_t at = i; at < file->len; at += all ? 1 : at < file->used ? stride : 997) {
			if (all && !is_mine(at))
				continue;
			for (uint32_t bit = all ? 0 : help_mix((uint32_t)at) % 8; bit < 8;
			     bit += all ? 1 : 8) {
				bool must = must_be_refused(image, file, at);
				snprintf(context, sizeof(context), "%s: %s, byte %llu, bit %u flipped",
				         image->what, file->name, (unsigned long long)at, bit);
				file->bytes[at] ^= (uint8_t)(1 << bit);
				bool refused = judge(image, &outcome);
				file->bytes[at] ^= (uint8_t)(1 << bit);
				CHECK(refused || !must);
			}
		}
	}
	print_message("%s: bits flipped: %llu refused, %llu whole, %llu shorter\n", image->what,
	              (unsigned long long)outcome.refused, (unsigned long long)outcome.whole,
	              (unsigned long long)outcome.shorter);
	assert_true(more_than(100, outcome.refused) && more_than(10, outcome.whole));
}

static void cut_lengths(struct image *image)
{
	struct outcome outcome = {0};
	uint64_t step = getenv("LOG_DAMAGE_ALL") ? 1 : 509;
	for (size_t i = 0; i < image->count; i++) {
		struct file *file = &image->files[i];
		size_t len = file->len;
		for (uint64_t cut = 0; cut < len; cut += step) {
			if (step == 1 && !is_mine(cut))
				continue;
			snprintf(context, sizeof(context), "%s: %s cut to %llu bytes", image->what,
			         file->name, (unsigned long long)cut);
			file->len = (size_t)cut;
			judge(image, &outcome);
		}
		file->len = len;
	}
	print_message("%s: cut: %llu refused, %llu whole, %llu shorter\n", image->what,
	              (unsigned long long)outcome.refused, (unsigned long long)outcome.whole,
	              (unsigned long long)outcome.shorter);
}

static void lose_files(struct image *image)
{
	struct outcome outcome = {0};
	for (size_t i = 0; i < image->count; i++) {
		uint8_t *bytes = image->files[i].bytes;
		snprintf(context, sizeof(context), "%s: %s removed", image->what, image->files[i].name);
		image->files[i].bytes = NULL;
		bool refused = judge(image, &outcome), segment = image->files[i].name[0] == 's';
		bool needed = segment && image->files[i].used > BLOCK;
		uint64_t base = 0;
		if (needed)
			memcpy(&base, bytes + BLOCK + 24, sizeof(base));
		if (needed && base + image->files[i].len - 2 * BLOCK <= image->saved)
			needed = false;
		CHECK(refused == (needed || image->files[i].name[0] == 'c'));
		image->files[i].bytes = bytes;
	}
}

/* Zeros in place of a block, one block in place of another, two of them swapped. */
static void damage_blocks(struct image *image)
{
	struct outcome outcome = {0};
	uint8_t saved[BLOCK], other[BLOCK];
	for (size_t i = 2; i < image->count; i++) {
		struct file *file = &image->files[i];
		uint64_t end = file->used + BLOCK < file->len ? file->used + BLOCK : file->len;
		for (uint64_t a = 0; a + BLOCK <= end; a += BLOCK) {
			memcpy(saved, file->bytes + a, BLOCK);
			memset(file->bytes + a, 0, BLOCK);
			snprintf(context, sizeof(context), "%s: %s, block at %llu lost", image->what,
			         file->name, (unsigned long long)a);
			judge(image, &outcome);
			memcpy(file->bytes + a, saved, BLOCK);
			for (uint64_t b = a + BLOCK; b + BLOCK <= end; b += BLOCK) {
				if (!is_mine((a + b) / BLOCK))
					continue;
				memcpy(other, file->bytes + b, BLOCK);
				memcpy(file->bytes + b, saved, BLOCK);
				snprintf(context, sizeof(context), "%s: %s, block at %llu also at %llu",
				         image->what, file->name, (unsigned long long)a,
				         (unsigned long long)b);
				judge(image, &outcome);
				memcpy(file->bytes + a, other, BLOCK);
				snprintf(context, sizeof(context), "%s: %s, blocks at %llu and %llu swapped",
				         image->what, file->name, (unsigned long long)a,
				         (unsigned long long)b);
				judge(image, &outcome);
				memcpy(file->bytes + a, saved, BLOCK);
				memcpy(file->bytes + b, other, BLOCK);
			}
		}
	}
	print_message("%s: blocks: %llu refused, %llu whole, %llu shorter\n", image->what,
	              (unsigned long long)outcome.refused, (unsigned long long)outcome.whole,
	              (unsigned long long)outcome.shorter);
	assert_true(more_than(5, outcome.refused));
}

static bool is_segment(const struct file *file)
{
	return file->name[0] == 's';
}

/* A segment in which something of the log lies that a start reads. */
static bool is_read(const struct image *image, const struct file *file)
{
	uint64_t base;
	if (!is_segment(file) || file->used <= BLOCK)
		return false;
	memcpy(&base, file->bytes + BLOCK + 24, sizeof(base));
	return base + file->len - 2 * BLOCK > image->saved;
}

/* A block of one file stands in another one: the disk wrote, or reads, in the wrong place. */
static void misdirect_blocks(struct image *image)
{
	struct outcome outcome = {0};
	uint8_t saved[BLOCK];
	uint32_t number = 0;
	for (size_t i = 0; i < image->count; i++)
		for (size_t k = 0; k < image->count; k++) {
			struct file *to = &image->files[i], *from = &image->files[k];
			uint64_t to_end = to->used + BLOCK < to->len ? to->used + BLOCK : to->len;
			for (uint64_t a = 0; a + BLOCK <= to_end && i != k; a += BLOCK)
				for (uint64_t b = 0; b < from->used; b += BLOCK) {
					if (!is_mine(number++))
						continue;
					snprintf(context, sizeof(context),
					         "%s: block at %llu of %s at %llu of %s", image->what,
					         (unsigned long long)b, from->name, (unsigned long long)a,
					         to->name);
					memcpy(saved, to->bytes + a, BLOCK);
					memcpy(to->bytes + a, from->bytes + b, BLOCK);
					judge(image, &outcome);
					memcpy(to->bytes + a, saved, BLOCK);
				}
		}
	print_message("%s: blocks astray: %llu refused, %llu whole, %llu shorter\n", image->what,
	              (unsigned long long)outcome.refused, (unsigned long long)outcome.whole,
	              (unsigned long long)outcome.shorter);
	assert_true(more_than(5, outcome.refused));
}

static void exchange(struct file *a, struct file *b)
{
	struct file was = *a;
	a->bytes = b->bytes;
	a->len = b->len;
	a->used = b->used;
	b->bytes = was.bytes;
	b->len = was.len;
	b->used = was.used;
}

/* Files under each other's names, and one file under two. */
static void misdirect_files(struct image *image)
{
	struct outcome outcome = {0};
	for (size_t i = 0; i < image->count; i++)
		for (size_t k = 0; k < image->count; k++) {
			struct file *a = &image->files[i], *b = &image->files[k], was = *a;
			bool manifests = i < 2 && k < 2, harm = is_read(image, a) || a->name[0] == 'c';
			if (i == k)
				continue;
			snprintf(context, sizeof(context), "%s: %s is %s as well", image->what, a->name,
			         b->name);
			a->bytes = b->bytes;
			a->len = b->len;
			a->used = b->used;
			bool refused = judge(image, &outcome);
			*a = was;
			CHECK(manifests ? !refused : refused || !harm);
			if (k < i)
				continue;
			harm |= is_read(image, b) || b->name[0] == 'c';
			snprintf(context, sizeof(context), "%s: %s and %s under each other's names",
			         image->what, a->name, b->name);
			exchange(a, b);
			refused = judge(image, &outcome);
			exchange(a, b);
			CHECK(manifests ? !refused : refused || !harm);
		}
	print_message("%s: files astray: %llu refused, %llu whole, %llu shorter\n", image->what,
	              (unsigned long long)outcome.refused, (unsigned long long)outcome.whole,
	              (unsigned long long)outcome.shorter);
}

static void all_damage(enum ending ending)
{
	struct image image;
	make_image(&image, ending);
	struct outcome outcome = {0};
	assert_false(judge(&image, &outcome));
	assert_int_equal(outcome.whole, 1);
	flip_bits(&image, ending == CLEAN ? 17 : 37);
	cut_lengths(&image);
	damage_blocks(&image);
	lose_files(&image);
	misdirect_blocks(&image);
	misdirect_files(&image);
	free_image(&image);
}

/* ---- files of an earlier time, and of another log ---------------------------------------- */

/* One log at two moments: as it is amid its life, of which earlier holds the files alone, and closed in order at the end. */
static void make_moments(struct image *earlier, struct image *later, bool checkpoint)
{
	*earlier = (struct image){.what = "earlier"};
	*later = (struct image){.what = checkpoint ? "at two moments, with a checkpoint" : "at two moments"};
	saved_name[0] = 0;
	snprintf(context, sizeof(context), "%s", later->what);
	help_init(&later->model, 700);
	wh_sim *sim = new_machine();
	struct log_options options = help_options("data", &later->model);
	struct log *log = NULL;
	options.group_bytes = 16384;
	CHECK(log_open(loop, &options, &log, NULL) == 0);
	for (uint32_t i = 0; i < 8; i++)
		must_commit(log, &later->model, i == 5 ? 60 : 1 + i % 4, i % 3 ? LOG_LOCAL : LOG_ASYNC);
	if (checkpoint)
		save(log, later);
	must_commit(log, &later->model, 1, LOG_LOCAL);
	take_image(earlier);
	for (uint32_t i = 0; i < 14; i++)
		must_commit(log, &later->model, i == 3 ? 60 : 1 + i % 4, i % 3 ? LOG_LOCAL : LOG_ASYNC);
	CHECK(log_close(log) == 0);
	later->durable = UINT64_MAX;
	take_image(later);
	CHECK(earlier->count >= 4 && later->count >= 5);
	end_machine(sim);
}

static const struct file *same_name(const struct image *image, const struct file *file)
{
	for (size_t i = 0; i < image->count; i++)
		if (strcmp(image->files[i].name, file->name) == 0)
			return &image->files[i];
	return NULL;
}

/* Some of the files are those of another image, where it has them and they differ. How many. */
static size_t put_others(struct image *image, const struct image *others, struct file *kept, unsigned which)
{
	size_t count = 0;
	for (size_t i = 0; i < image->count; i++) {
		const struct file *other = same_name(others, &image->files[i]);
		kept[i] = image->files[i];
		if (!(which & 1u << i) || !other ||
		    (other->len == kept[i].len && memcmp(other->bytes, kept[i].bytes, other->len) == 0))
			continue;
		image->files[i] = *other;
		count++;
	}
	return count;
}

/* Any files of it are as they were earlier, as after a restore of some of them, or a write that never came. */
static void stale_files(bool checkpoint)
{
	struct image earlier, later;
	struct outcome outcome = {0};
	struct file kept[FILES_MAX];
	make_moments(&earlier, &later, checkpoint);
	/* the manifest that counts: the sequence is at byte 32 */
	size_t newest = memcmp(later.files[0].bytes + 32, later.files[1].bytes + 32, 1) < 0;
	for (unsigned which = 1; which < 1u << later.count; which++) {
		bool harm = false, end = false;
		size_t count = put_others(&later, &earlier, kept, which);
		snprintf(context, sizeof(context), "%s: files %x as they were", later.what, which);
		for (size_t i = 0; i < later.count; i++)
			if (is_read(&later, &kept[i])) {
				end = later.files[i].bytes != kept[i].bytes; /* of the last one */
				harm |= end;
			}
		/* A stale manifest alone takes nothing away: the log itself says how far it goes. With the end of the log as it was at
		 * the same moment it is a log that was killed then, and nothing can tell. */
		if (count > 0 && !(end && later.files[newest].bytes != kept[newest].bytes))
			CHECK(judge(&later, &outcome) == harm);
		for (size_t i = 0; i < later.count; i++)
			later.files[i] = kept[i];
	}
	print_message("%s: %llu refused, %llu whole, %llu shorter\n", later.what,
	              (unsigned long long)outcome.refused, (unsigned long long)outcome.whole,
	              (unsigned long long)outcome.shorter);
	assert_true(outcome.refused > 10 && outcome.whole > 0 && outcome.shorter == 0);
	free_image(&earlier);
	free_image(&later);
}

static void of_files_of_an_earlier_time(void **state)
{
	stale_files(false);
	stale_files(true);
}

/* Files of another log, which had the same life, under the names of this one's. */
static void of_files_of_another_log(void **state)
{
	struct image image, other;
	struct outcome outcome = {0};
	struct file kept[FILES_MAX];
	machine_seed = 8;
	make_image(&other, SAVED);
	machine_seed = 7;
	make_image(&image, SAVED);
	for (unsigned which = 1; which < 1u << image.count; which++) {
		if ((which & 3) == 3)
			continue; /* then it is that log, with files of this one */
		size_t count = put_others(&image, &other, kept, which);
		snprintf(context, sizeof(context), "files %x of another log", which);
		bool refused = count > 0 && judge(&image, &outcome), harm = false;
		for (size_t i = 0; i < image.count; i++) {
			bool foreign = image.files[i].bytes != kept[i].bytes;
			harm |= foreign && (i < 2 || is_read(&image, &kept[i]) || kept[i].name[0] == 'c');
			image.files[i] = kept[i];
		}
		CHECK(refused || !harm);
	}
	assert_true(outcome.refused > 10);
	free_image(&image);
	free_image(&other);
}

static void of_a_closed_log(void **state)
{
	all_damage(CLEAN);
}

static void of_a_sealed_log(void **state)
{
	all_damage(SEALED);
}

static void of_a_log_with_a_checkpoint(void **state)
{
	all_damage(SAVED);
}

static void of_a_log_with_an_unflushed_end(void **state)
{
	all_damage(UNFLUSHED);
}

/* What is cut off is kept aside, and is zero in the segment afterwards. */
static void a_torn_tail_is_kept_and_cleared(void **state)
{
	struct image image;
	make_image(&image, UNFLUSHED);
	struct help_model *model = &image.model;
	struct log_options options = help_options("data", model);
	struct log *log = NULL;
	struct log_stats stats;
	struct file *file = NULL;
	for (size_t i = 2; i < image.count; i++)
		if (image.files[i].used > 2 * BLOCK)
			file = &image.files[i]; /* the last one in use */
	assert_non_null(file);
	if (!file)
		return;
	uint64_t torn = (file->used - 1) / BLOCK * BLOCK; /* the last group, of one block */
	uint8_t *before = malloc(BLOCK);
	file->bytes[torn + 200] ^= 1;
	memcpy(before, file->bytes + torn, BLOCK);
	snprintf(context, sizeof(context), "torn tail");

	wh_sim *sim = new_machine();
	write_image(&image);
	CHECK(log_open(loop, &options, &log, NULL) == 0);
	CHECK(model->replayed == model->count - 2);
	log_stats(log, &stats);
	CHECK(stats.torn_bytes == BLOCK);
	uint64_t end;
	CHECK(log_epoch_end(log, 1, &end) == 0);
	char path[96];
	snprintf(path, sizeof(path), "data/torn-%llu-1.bin", (unsigned long long)end);
	int fd = (int)wh_await(wh_open(loop, path, O_RDONLY, 0)).n;
	uint8_t *kept = malloc(BLOCK);
	CHECK(fd >= 0 && wh_pread_blocking(loop, fd, kept, BLOCK, 0) == BLOCK);
	CHECK(memcmp(kept, before, BLOCK) == 0);
	CHECK(wh_await(wh_close(loop, fd)).n == 0);
	CHECK(log_close(log) == 0);
	model->count = model->replayed;
	options = help_options("data", model);
	CHECK(log_open(loop, &options, &log, NULL) == 0); /* and again: nothing is torn now */
	CHECK(!model->wrong && model->replayed == model->count);
	log_stats(log, &stats);
	CHECK(stats.torn_bytes == 0);
	CHECK(log_close(log) == 0);
	end_machine(sim);
	free(before);
	free(kept);
	free_image(&image);
}

/* Groups that are right in themselves, chain included, and do not belong where they are: as a faulty writer, or one of an
 * earlier life, would leave them. None is believed. */
static void a_group_that_does_not_follow_is_not_taken(void **state)
{
	for (int what = 0; what < 4; what++) {
		struct image image;
		make_image(&image, UNFLUSHED);
		struct help_model *model = &image.model;
		struct log_options options = help_options("data", model);
		struct log_identity identity;
		struct log_group before, group;
		struct log *log = NULL;
		struct file *file = NULL;
		for (size_t i = 2; i < image.count; i++)
			if (image.files[i].used > 2 * BLOCK)
				file = &image.files[i];
		assert_non_null(file);
		uint8_t *at =
			file->bytes + (file->used - 1) / BLOCK * BLOCK; /* the last group, of one block */
		snprintf(context, sizeof(context), "a group that does not follow, %d", what);
		CHECK(log_identity_get(file->bytes, &identity) == LOG_GOOD);
		CHECK(log_group_get(at, identity.salt, &group) == LOG_GOOD && group.group_len == BLOCK);
		CHECK(log_group_get(at - BLOCK, identity.salt, &before) == LOG_GOOD &&
		      before.group_len == BLOCK);
		if (what == 0)
			group.lsn += BLOCK;
		if (what == 1)
			group.seq++;
		if (what == 2)
			group.epoch--;
		if (what == 3)
			group.durable_lsn = group.lsn + 1;
		log_group_put(at, &group, before.chain, identity.salt);

		wh_sim *sim = new_machine();
		write_image(&image);
		int status = log_open(loop, &options, &log, NULL);
		CHECK(status == 0 || status == -WH_EDAMAGED);
		CHECK(status < 0 || (!model->wrong && model->replayed == model->count - 2));
		CHECK(log_close(log) == 0);
		end_machine(sim);
		free_image(&image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_torn_tail_is_kept_and_cleared),
		cmocka_unit_test(a_group_that_does_not_follow_is_not_taken),
		cmocka_unit_test(of_a_closed_log),
		cmocka_unit_test(of_a_sealed_log),
		cmocka_unit_test(of_a_log_with_an_unflushed_end),
		cmocka_unit_test(of_a_log_with_a_checkpoint),
		cmocka_unit_test(of_files_of_an_earlier_time),
		cmocka_unit_test(of_files_of_another_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
