/* tests/sim/test_sim_log.c -- the log on the simulated machine: power is cut at every disk call, in recovery too, and
 * every disk call fails; what was promised is there afterwards.
 *
 * After each recovery: a commit whose level was reached survives what that level promises (I1); survivors are a prefix
 * in the order of their positions (I2), whole commits (I3), and exactly those that the published end of their epoch says
 * (I10); epochs rise (I6); what was recovered once stays, what was lost once stays lost (I7); nothing but a crash is
 * never reported as damage (I8). Checkpoints are written meanwhile, of all commits so far, and segments below them are
 * released in any order: what a start then shows is the same, and a record whose segment nobody released can be read.
 */
#include "plan.h"

#include "log/log.h"

enum {
	COMMITS_MAX = 400,
	RECORDS_MAX = 2000,
	PAYLOAD_MAX = 6000,
	SEGMENT_BYTES = 64 << 10,
	STEPS = 24, /* of one life */
	LIVES = 3,
	SEGMENTS_MAX = 64,
	RANGES_MAX = 400,
};

struct commit {
	uint32_t first, count; /* records */
	uint32_t epoch;
	uint64_t lsn;
	bool written;  /* its mark was seen reached: survives the end of the process */
	bool flushed;  /* survives a power cut */
	bool lost;     /* a recovery has shown that it is gone */
	bool restored; /* a recovery has shown it */
};

static wh_sim *sim;
static wh_loop *loop;
static struct log *opened;
static struct commit commits[COMMITS_MAX];
static uint32_t commits_count;
static uint64_t locations[RECORDS_MAX];
static uint32_t records_count;
static uint32_t epoch_last; /* the highest that was ever given out */

/* Where segments were released, in any life. */
static struct {
	uint64_t from, to;
} released[RANGES_MAX];
static uint32_t released_count;
static uint64_t checkpoints, releases, recycled;

/* What the replay under way has shown. */
static uint32_t shown[RECORDS_MAX], shown_count;

/* ---- records that can be recognised ------------------------------------------------------- */

struct fixed {
	uint32_t number, commit;
	uint64_t seed;
};

static uint32_t payload_bytes(uint32_t number)
{
	uint64_t mixed = (number + plan.seed) * UINT64_C(0x9e3779b97f4a7c15) >> 32;
	if (plan.seed % 2 == 0) /* many rolls */
		return (uint32_t)(mixed % (PAYLOAD_MAX / 2));
	return number % 5 == 0 ? (uint32_t)(mixed % PAYLOAD_MAX) : (uint32_t)(mixed % 200);
}

static uint8_t payload_byte(uint32_t number, uint32_t at)
{
	return (uint8_t)((number * 131 + at * 7 + at / 256) ^ plan.seed);
}

static bool is_right(uint32_t number, const uint8_t *payload, uint32_t len)
{
	if (len != payload_bytes(number))
		return false;
	for (uint32_t i = 0; i < len; i++)
		if (payload[i] != payload_byte(number, i))
			return false;
	return true;
}

/* ---- a life ------------------------------------------------------------------------------- */

/* One record of the checkpoint is a whole commit. */
static void replay_saved(const struct log_record *record)
{
	uint32_t at;
	must(record->type == LOG_TYPE_USER + 2 && record->fixed_bytes == sizeof at && record->location == 0,
	     "a foreign record in the checkpoint");
	memcpy(&at, record->fixed, sizeof at);
	must(at < commits_count && commits[at].lsn <= record->group_lsn,
	     "commit %u in a checkpoint at %" PRIu64, at, record->group_lsn);
	for (uint32_t i = 0; i < commits[at].count; i++) {
		must(shown_count < RECORDS_MAX, "too many records");
		shown[shown_count++] = commits[at].first + i;
	}
}

static int replay(void *arg, const struct log_record *record)
{
	struct fixed fixed;
	if (record->checkpoint) {
		replay_saved(record);
		return 0;
	}
	must(record->fixed_bytes == sizeof fixed && record->type == LOG_TYPE_USER + 1, "a foreign record");
	memcpy(&fixed, record->fixed, sizeof fixed);
	must(fixed.seed == plan.seed && fixed.number < records_count, "record %u", fixed.number);
	must(is_right(fixed.number, record->payload, record->payload_bytes), "content of record %u",
	     fixed.number);
	must(record->location == locations[fixed.number], "place of record %u", fixed.number);
	must(shown_count < RECORDS_MAX, "too many records");
	shown[shown_count++] = fixed.number;
	return 0;
}

static int open_log(void)
{
	struct log_options options = {
		.path = "/data",
		.segment_bytes = SEGMENT_BYTES,
		.group_bytes = plan.seed % 2 ? 0 : 8192,
		.replay = replay,
		.notice = verbose ? tell : NULL,
	};
	struct log_problem problem;
	shown_count = 0;
	int error = log_open(loop, &options, &opened, &problem);
	if (error != 0 && verbose) {
		char text[2048];
		log_problem_text(&problem, text, sizeof text);
		tell(0, text, NULL);
	}
	return error;
}

static void on_written(wh_loop *on, wh_res res, void *arg)
{
	if (res.n == 0)
		((struct commit *)arg)->written = true;
}

static void on_flushed(wh_loop *on, wh_res res, void *arg)
{
	if (res.n == 0)
		((struct commit *)arg)->flushed = ((struct commit *)arg)->written = true;
}

/* 0, or why not. */
static int commit_some(int level)
{
	uint32_t count = chance(8) == 0 ? 4 + (uint32_t)chance(6) : 1 + (uint32_t)chance(3);
	uint8_t payload[PAYLOAD_MAX];
	uint64_t bytes = 0;
	if (commits_count == COMMITS_MAX || records_count + count > RECORDS_MAX)
		return 0;
	for (uint32_t i = 0; i < count; i++)
		bytes += log_record_bytes(sizeof(struct fixed), payload_bytes(records_count + i));
	int error;
	while ((error = log_begin(opened, bytes, 0)) == -EAGAIN) {
		error = (int)wh_await(log_room_wait(opened)).n;
		if (error != 0)
			return error;
	}
	if (error != 0)
		return error;
	struct commit *commit = &commits[commits_count];
	*commit = (struct commit){.first = records_count, .count = count, .epoch = log_epoch(opened)};
	for (uint32_t i = 0; i < count; i++) {
		struct fixed fixed = {records_count, commits_count, plan.seed};
		struct iovec iov = {payload, payload_bytes(records_count)};
		for (uint32_t at = 0; at < iov.iov_len; at++)
			payload[at] = payload_byte(records_count, at);
		locations[records_count++] =
			log_append(opened, &(struct log_append){.type = LOG_TYPE_USER + 1,
		                                                .version = 1,
		                                                .fixed_bytes = sizeof fixed,
		                                                .fixed = &fixed,
		                                                .payload = &iov,
		                                                .payload_count = 1});
	}
	struct log_commit made = log_commit(opened, level);
	commit->lsn = made.lsn;
	commits_count++;
	/* what it asked for, and both levels beside it: each must say the truth */
	(void)wh_then(wh_mark_wait(made.mark, commit->lsn), level == LOG_LOCAL ? on_flushed : on_written,
	              commit);
	(void)wh_then(wh_mark_wait(log_written(opened), commit->lsn), on_written, commit);
	(void)wh_then(wh_mark_wait(log_flushed(opened), commit->lsn), on_flushed, commit);
	return 0;
}

/* ---- checkpoints, and what they allow ----------------------------------------------------- */

/* Nothing of the log's hangs on it: a full disk ends it alone. */
static int64_t is_bearable(int64_t error)
{
	return error == -ENOSPC || error == -EBUSY || error == -EALREADY ? 0 : error;
}

static int64_t write_checkpoint(void)
{
	struct log_checkpoint *checkpoint = NULL;
	uint32_t count = commits_count;
	int64_t error = log_checkpoint_begin(opened, &checkpoint);
	if (error < 0)
		return is_bearable(error);
	for (uint32_t i = 0; i < count && error == 0; i++) {
		if (commits[i].lost)
			continue;
		error = log_checkpoint_append(checkpoint, &(struct log_append){.type = LOG_TYPE_USER + 2,
		                                                               .version = 1,
		                                                               .fixed_bytes = sizeof i,
		                                                               .fixed = &i});
		if (error == 0 && chance(count) < 2)
			error = commit_some(chance(2) ? LOG_ASYNC : LOG_LOCAL);
		if (error == 0 && chance(count) < 2)
			error = wh_await(log_checkpoint_room(checkpoint)).n;
	}
	if (error < 0 || chance(8) == 0) {
		log_checkpoint_cancel(checkpoint);
		return is_bearable(error);
	}
	wh_future end = log_checkpoint_end(checkpoint);
	bool leave = chance(3) == 0;
	/* while the disk has no room for the manifest, it is not at its end, and that may be for ever */
	while (!leave && !wh_done(end) && !log_waits_for_space(opened))
		if (wh_loop_turn(loop, -1) < 0)
			break;
	if (!wh_done(end)) { /* it goes on by itself */
		(void)wh_detach(end);
		return 0;
	}
	error = wh_await(end).n;
	checkpoints += error == 0;
	return is_bearable(error);
}

static bool is_released(uint64_t location)
{
	for (uint32_t i = 0; i < released_count; i++)
		if (location >= released[i].from && location < released[i].to)
			return true;
	return false;
}

/* Some of all, whether or not it may go. */
static int64_t release_some(void)
{
	struct log_segment_info infos[SEGMENTS_MAX];
	size_t count = log_segments_list(opened, infos, SEGMENTS_MAX);
	for (size_t i = 0; i < count && i < SEGMENTS_MAX; i++) {
		if (chance(3) == 0)
			continue;
		int error = log_segment_release(opened, infos[i].number);
		if (error == -EINVAL || error == -EBUSY)
			continue;
		if (error < 0)
			return error;
		must(released_count < RANGES_MAX, "too many releases");
		released[released_count].from = infos[i].base_lsn;
		released[released_count++].to = infos[i].end_lsn;
		releases++;
	}
	return 0;
}

static int scanned(void *arg, const struct log_record *record)
{
	struct fixed fixed;
	must(record->type == LOG_TYPE_USER + 1 && record->fixed_bytes == sizeof fixed, "a foreign record");
	memcpy(&fixed, record->fixed, sizeof fixed);
	must(fixed.seed == plan.seed && fixed.number < records_count &&
	             is_right(fixed.number, record->payload, record->payload_bytes),
	     "record %u is scanned", fixed.number);
	return 0;
}

static int64_t scan_one(void)
{
	struct log_segment_info infos[SEGMENTS_MAX];
	size_t count = log_segments_list(opened, infos, SEGMENTS_MAX);
	if (count < 2)
		return 0;
	int64_t n = wh_await(log_segment_scan(opened, infos[chance(count - 1)].number, scanned, NULL)).n;
	must(n != -WH_EDAMAGED, "a scan finds damage");
	return n < 0 ? n : 0;
}

static int64_t read_one(void)
{
	uint32_t number = (uint32_t)chance(records_count ? records_count : 1);
	uint32_t at = 0;
	while (at < commits_count && number >= commits[at].first + commits[at].count)
		at++;
	if (at == commits_count || commits[at].lost || (!commits[at].written && !commits[at].restored))
		return 0;
	if (log_segment_number(opened, locations[number]) == LOG_SEGMENT_NONE) {
		must(is_released(locations[number]), "the segment of record %u is gone", number);
		return 0;
	}
	wh_res res = wh_await(log_read(opened, locations[number], 0));
	if (res.n < 0)
		return res.n;
	struct log_data *data = res.ptr;
	must(is_right(number, data->payload, data->payload_bytes), "record %u read back", number);
	log_data_free(data);
	return 0;
}

static int64_t step(void)
{
	switch (chance(12)) {
	case 0:
	case 1: { /* a closed loop of one client */
		int error = commit_some(LOG_LOCAL);
		return error != 0 || commits_count == 0
		               ? error
		               : wh_await(wh_mark_wait(log_flushed(opened), commits[commits_count - 1].lsn))
		                         .n;
	}
	case 2:
	case 3: { /* many in a turn */
		int error = 0;
		for (uint64_t n = 1 + chance(5); n > 0 && error == 0; n--)
			error = commit_some(chance(2) ? LOG_ASYNC : LOG_LOCAL);
		return error;
	}
	case 4: {
		int error = commit_some(LOG_ASYNC);
		return error != 0 || commits_count == 0
		               ? error
		               : wh_await(wh_mark_wait(log_written(opened), commits[commits_count - 1].lsn))
		                         .n;
	}
	case 5:
		return wh_await(wh_sleep(loop, (int64_t)chance(12) * WH_NS_PER_MS)).n;
	case 6:
		return read_one();
	case 8:
	case 9:
		return write_checkpoint();
	case 10:
		return release_some();
	case 11:
		return scan_one();
	default:
		return commit_some(chance(2) ? LOG_ASYNC : LOG_LOCAL);
	}
}

/* Work until something goes wrong; close in order if nothing does. */
static int64_t live(uint64_t steps)
{
	int64_t error = 0;
	for (uint64_t i = 0; i < steps && error == 0; i++)
		error = step();
	struct log_stats stats;
	log_stats(opened, &stats);
	recycled += stats.recycled;
	int closed = log_close(opened);
	opened = NULL;
	return error != 0 ? error : closed;
}

/* ---- what must hold after a recovery ------------------------------------------------------- */

static bool survived(const struct commit *commit, uint32_t *at)
{
	if (*at == shown_count || shown[*at] != commit->first)
		return false;
	for (uint32_t i = 0; i < commit->count; i++, ++*at)
		must(*at < shown_count && shown[*at] == commit->first + i, "part of commit %td is missing",
		     commit - commits);
	return true;
}

/* killed: the page cache lived. */
static void check_recovered(bool killed)
{
	uint32_t at = 0;
	uint64_t end = 0;
	must(log_epoch(opened) > epoch_last, "epoch %u after %u", log_epoch(opened), epoch_last);
	for (uint32_t i = 0; i < commits_count; i++) {
		struct commit *commit = &commits[i];
		bool here = survived(commit, &at);
		int error = log_epoch_end(opened, commit->epoch, &end);
		must(error == 0, "end of epoch %u: %s", commit->epoch, wh_strerror(error));
		must(here == (commit->lsn <= end),
		     "commit %u, position %u/%" PRIu64 ", is %s, but the end of its epoch is %" PRIu64, i,
		     commit->epoch, commit->lsn, here ? "there" : "gone", end);
		must(here || !commit->flushed, "commit %u was flushed, and is gone", i);
		must(here || !killed || !commit->written || commit->lost,
		     "commit %u was written, and is gone", i);
		must(here || !commit->restored, "commit %u was recovered once, and is gone", i);
		must(!here || !commit->lost, "commit %u was gone, and is back", i);
		commit->lost = !here;
		commit->restored = here;
		tally.checked++;
		tally.kept += here;
		tally.lost += !here;
	}
	for (uint32_t i = 0; i < commits_count; i++)
		if (!commits[i].lost)
			must(log_segment_number(opened, locations[commits[i].first]) != LOG_SEGMENT_NONE ||
			             is_released(locations[commits[i].first]),
			     "the segment of commit %u is gone", i);
	must(at == shown_count, "records that nobody committed: %u of %u are known", at, shown_count);
	must(log_failed(opened) == 0, "failed");
	epoch_last = log_epoch(opened);
	tally.recoveries++;
}

/* Start the machine again and recover; power may be cut within recovery, and in the life that follows. */
static void recover(int damage, bool faulty, bool last)
{
	/* after a flush that failed, the cache shows what the disk does not hold: only what was flushed is promised */
	bool killed = damage == WH_SIM_KILLED && !faulty;
	for (;;) {
		struct wh_sim_options options = {.seed = plan.seed * 1000 + chance(1000)};
		options.crash_at_io = last ? 0 : 1 + chance(chance(2) ? 40 : 250);
		loop = wh_loop_close(loop);
		int error = wh_sim_restart(sim, &options, damage);
		must(error == 0, "restart: %s", wh_strerror(error));
		tally.crashes++;
		loop = plan_loop(sim);
		error = open_log();
		if (error == 0)
			break;
		must(error == -WH_ESIM_POWER_CUT && !last, "recovery: %s", wh_strerror(error));
		tally.crashes_in_recovery++;
		damage = (int)chance(WH_SIM_KILLED + 1);
		killed = killed && damage == WH_SIM_KILLED;
	}
	check_recovered(killed);
}

static void begin_run(void)
{
	sim = plan_machine();
	commits_count = records_count = epoch_last = released_count = 0;
	loop = plan_loop(sim);
}

/* A log that was closed in order has no torn tail, whatever happens to the machine afterwards. */
static void end_run(void)
{
	struct log_stats stats;
	for (int times = 0; times < 2; times++) {
		int closed = log_close(opened);
		must(closed == 0, "close: %s", wh_strerror(closed));
		opened = NULL;
		if (times == 1)
			break;
		loop = wh_loop_close(loop);
		int error = wh_sim_restart(sim, NULL, (int)chance(WH_SIM_KILLED + 1));
		must(error == 0, "restart: %s", wh_strerror(error));
		loop = plan_loop(sim);
		error = open_log();
		must(error == 0, "after a close in order: %s", wh_strerror(error));
		check_recovered(true);
		log_stats(opened, &stats);
		must(stats.torn_bytes == 0, "%" PRIu64 " torn bytes after a close in order",
		     stats.torn_bytes);
	}
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
}

/* One plan: a life that ends as planned, recovery, another life that ends by chance, recovery, ... Returns the disk calls
 * of the first life. */
static uint64_t run(void)
{
	begin_run();
	int64_t error = open_log();
	if (error == 0) {
		epoch_last = log_epoch(opened);
		error = live(STEPS);
	}
	uint64_t calls = plan_first_life(sim, error);
	int damage = plan.damage;
	for (int life = 1; life < LIVES; life++) {
		recover(damage, life == 1 && plan.fail_at > 0, false);
		error = live(STEPS);
		must(error == 0 || error == -WH_ESIM_POWER_CUT, "life %d: %s", life, wh_strerror(error));
		damage = (int)chance(WH_SIM_KILLED + 1);
	}
	recover(damage, false, true);
	end_run();
	return calls;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_power_is_cut_at_every_disk_call(void **state)
{
	checkpoints = releases = recycled = 0;
	plan_cut_everywhere("power cuts", run, 4);
	assert_true(tally.kept > tally.lost && tally.lost > 0);
	printf("%" PRIu64 " checkpoints, %" PRIu64 " segments released, %" PRIu64 " made into new ones\n",
	       checkpoints, releases, recycled);
	assert_true(checkpoints > 0 && releases > 0 && recycled > 0);
}

static void test_every_disk_call_fails(void **state)
{
	plan_fail_everywhere(run, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_is_cut_at_every_disk_call),
		cmocka_unit_test(test_every_disk_call_fails),
	};
	if (plan_alone(run))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
