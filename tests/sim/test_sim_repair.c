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
#include "repair_folder.h"

#include "store/repair.h"

static struct folder folders[2];
static unsigned char named[IDS + 1];
static bool loud;
static uint64_t damages;

static struct {
	uint64_t repaired, nothing, refused, impossible, named, back;
} sums;

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
	check(submit_one(store, 1, REPAIR_SHAPE_READY) > f->last, "an id is given again");
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
		fprintf(stderr, "%s: %s%s\n", repair_context, error < 0 ? problem.text : "", result.refused);
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
	snprintf(repair_context, sizeof(repair_context), "seed %" PRIu64 ", %s, %s, %s%s%s: %s at %" PRIu64,
	         plan.seed, f->what, how == STORE_REPAIR_CUT ? "cut" : "skip",
	         kind ? job_record_name(kind) : "", kind ? " of " : "", file.name, damage_names[damage],
	         offset);
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

/* Every block of every file, one at a time; of what says whose and from where on a segment is, and of its first group, not only
 * each stride-th. */
static void walk_blocks(const struct folder *f, uint64_t stride)
{
	static const int ways[] = {FLIP, GARBAGE, ZEROS};
	uint64_t count = 0;
	for (size_t i = 0; i < f->files_count; i++)
		for (uint64_t at = 0; at < f->files[i].used; at += 4096)
			for (size_t way = 0; way < 3; way++)
				for (int how = STORE_REPAIR_SKIP; how <= STORE_REPAIR_CUT; how++) {
					uint64_t left = f->files[i].used - at;
					bool head = at < 3 * 4096 && ways[way] == GARBAGE &&
					            strstr(f->files[i].name, ".log");
					if (count++ % stride == plan.seed % stride || head)
						damage_and_judge(f, i, at,
						                 left < 4096 ? (uint32_t)left : 4096,
						                 ways[way], how, 0);
				}
	must(count > 500, "%" PRIu64 " damages", count);
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
		segment = 64 << 10;
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
		test_each_block(seed, 50);
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
