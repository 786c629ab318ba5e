/* tests/sim/test_sim_backup.c -- copies of a running server, taken by clients of every kind, while it writes, compacts and writes its state down.
 *
 * A client takes an archive (GET /v1/log/backup) as fast as it comes, slowly, ever more slowly, or not at all; it goes, or the path to it is
 * cut, or its machine; the server stops amid it. Meanwhile jobs come and go, so that segments are released and checkpoints replaced. A copy
 * that came whole starts, at the position that it was promised, with every job that was durable there, and none that came later; what did not
 * come whole cannot be taken for it. Nobody holds files for ever, no more than the copy has is held, and in the end nothing is.
 *
 *     WHILST_SIM_FIRST, WHILST_SIM_SEEDS   see plan.h
 */
#define SERVED_CHECKPOINT_BYTES (128 << 10)
#define SERVED_COMPACT_SLACK    (128 << 10)
#include "fronted.h"

#include <fcntl.h>

#include "log/log.h"
#include "whilst/http.h"

enum { PORT = 4480, KEPT = 100, COPY_MAX = 16 << 20, TAR_BLOCK = 512 };

#define ORIGIN "10.0.0.1:4480"

/* How the client takes it. */
enum manner {
	AT_ONCE,
	STEADILY,
	TOO_SLOWLY,
	NOT_AT_ALL,
	LEAVES,
	IS_CUT_OFF,
	LOSES_POWER,
	SERVER_STOPS,
	MANNERS
};
static const char *const manners[] = {"at once", "steadily",   "too slowly",  "not at all",
                                      "leaves",  "is cut off", "loses power", "the server stops"};

static struct {
	wh_sim *machine;
	wh_loop *loop;
	wh_http_client *http;
	wh_http_call *call;
	bool asked, began, reading, over, whole;
	int status;
	uint64_t lsn;
	int64_t take_next;
	uint8_t bytes[COPY_MAX];
	size_t len;
} taker;
static uint64_t kept[KEPT], copies[MANNERS], brought[MANNERS];
static size_t usual; /* segments, when nobody takes a copy */

static int server_open(void)
{
	return front_begin(NULL);
}

/* ---- the server's work --------------------------------------------------------------------- */

static wh_res turn_until(wh_future f)
{
	while (!wh_done(f))
		must(wh_sim_world_run(world, WH_NS_PER_MS / 4) == 0, "run");
	return wh_await(f);
}

static uint64_t submit(unsigned i, bool keep)
{
	static uint8_t body[24000];
	struct store_submit s = {.queue = keep ? STORE_SLICE("kept") : STORE_SLICE("q"),
	                         .payload = {body, (keep ? 20000 : 500) + i * 37 % 3000}};

	memset(body, 'a' + (int)(i % 26), sizeof(body));
	wh_res res = turn_until(store_submit(store, &s, STORE_LOCAL));
	struct store_commit *commit = res.ptr;
	must(res.n == 0 && commit->error == 0, "submit: %s", wh_strerror(res.n));
	uint64_t id = commit->results[0].job;
	store_commit_free(commit);
	return id;
}

static void forget(uint64_t job)
{
	struct store_action action = {.kind = STORE_DELETE, .job = job};
	wh_res res = turn_until(store_apply(store, &action, 1, 0, STORE_LOCAL));

	must(res.n == 0, "delete: %s", wh_strerror(res.n));
	store_commit_free(res.ptr);
}

/* Jobs that come and go, so that what was there when a copy began is not needed any more. */
static void churn(int rounds)
{
	for (int i = 0; i < rounds; i++)
		forget(submit((unsigned)draw(1000), false));
}

/* ---- the client ---------------------------------------------------------------------------- */

static void on_piece(wh_loop *l, wh_res res, void *arg)
{
	taker.reading = false;
	if (res.n > 0) {
		struct wh_buf *piece = res.ptr;
		must(taker.len + piece->len <= COPY_MAX, "a copy too large for this test");
		memcpy(taker.bytes + taker.len, piece->data, piece->len);
		taker.len += piece->len;
		wh_buf_put(piece);
		return;
	}
	taker.over = true;
	taker.whole = res.n == 0;
}

static void on_head(wh_loop *l, wh_res res, void *arg)
{
	taker.began = true;
	taker.status = (int)res.n;
	taker.over = res.n != 200;
	if (res.n != 200)
		return;
	struct wh_slice position = wh_http_response_header(res.ptr, "Whilst-Position");
	const char *slash = memchr(position.data, '/', position.len);
	must(slash != NULL, "no position");
	taker.lsn = strtoull(slash + 1, NULL, 10);
}

static void begin_copy(void)
{
	struct wh_http_request request = {
		.origin = ORIGIN, .method = "GET", .target = "/v1/log/backup", .no_retry = true};

	taker.asked = true;
	taker.began = taker.reading = taker.over = taker.whole = false;
	taker.len = 0;
	must(wh_http_call_open(taker.http, &request, 0, &taker.call) == 0, "call");
	must(wh_then(wh_http_call_response(taker.call), on_head, NULL) == 0, "then");
}

static void take_piece(void)
{
	if (!taker.began || taker.over || taker.reading)
		return;
	taker.reading = true;
	must(wh_then(wh_http_call_read(taker.call), on_piece, NULL) == 0, "then");
}

static void open_taker(void)
{
	/* it waits longer than the server does */
	const struct wh_http_client_options options = {.read_timeout_ns = 3600 * WH_NS_PER_S,
	                                               .first_byte_timeout_ns = 3600 * WH_NS_PER_S};

	must(wh_sim_open(&taker.machine, &(struct wh_sim_options){.world = world}) == 0, "machine");
	taker.loop = plan_loop(taker.machine);
	must(wh_http_client_open(taker.loop, &options, &taker.http) == 0, "client");
}

static void close_taker(void)
{
	taker.call = wh_http_call_close(taker.call);
	taker.http = wh_http_client_close(taker.http);
	taker.loop = wh_loop_close(taker.loop);
	taker.machine = wh_sim_close(taker.machine);
}

/* ---- what is held ------------------------------------------------------------------------- */

/* How many more copies can be begun. */
static int room_for_copies(void)
{
	struct store_backup *some[STORE_BACKUPS_MAX];
	int count = 0;

	while (count < STORE_BACKUPS_MAX && store_backup_begin(store, &some[count]) == 0)
		count++;
	for (int i = 0; i < count; i++)
		store_backup_end(some[i]);
	return count;
}

static size_t files_of(const char *begin)
{
	wh_res res = wh_await(wh_list(loop, "/data"));
	struct wh_names *names = res.ptr;
	size_t count = 0;

	must(res.n >= 0, "list");
	for (size_t i = 0; i < names->count; i++)
		count += strncmp(names->names[i], begin, strlen(begin)) == 0;
	wh_names_free(names);
	return count;
}

/* Once nobody takes a copy, what was held goes. */
static void check_let_go(enum manner manner)
{
	for (int s = 0; room_for_copies() < STORE_BACKUPS_MAX; s++) {
		must(s < 200, "%s: it is held for ever", manners[manner]);
		must(wh_sim_world_run(world, WH_NS_PER_S) == 0, "run");
	}
	for (int i = 0; files_of("seg-") > usual + 8 || files_of("checkpoint-") > 2; i++) {
		must(i < 400, "%s: %zu segments and %zu checkpoints are left", manners[manner],
		     files_of("seg-"), files_of("checkpoint-"));
		churn(1);
		must(wh_sim_world_run(world, 50 * WH_NS_PER_MS) == 0, "run");
	}
}

/* ---- the copy ------------------------------------------------------------------------------ */

static void put_file(wh_loop *l, const char *name, const uint8_t *bytes, size_t len)
{
	char path[200];

	snprintf(path, sizeof(path), "/copy/%s", name);
	wh_res res = wh_await(wh_open(l, path, O_WRONLY | O_CREAT | O_EXCL, 0600));
	must(res.n >= 0, "%s: %s", path, wh_strerror(res.n));
	must(wh_await(wh_pwrite_all(l, (int)res.n, bytes, len, 0)).n >= 0, "write");
	must(wh_await(wh_close(l, (int)res.n)).n == 0, "close");
}

static void unpack(wh_loop *l)
{
	size_t at = 0;

	must(wh_await(wh_mkdir(l, "/copy", 0700)).n == 0, "mkdir");
	for (; taker.bytes[at] != 0; at += TAR_BLOCK) {
		char name[101] = "";
		size_t len = strtoul((char *)taker.bytes + at + 124, NULL, 8);

		memcpy(name, taker.bytes + at, 100);
		must(!strchr(name, '/'), "%s", name); /* no body is large here */
		at += TAR_BLOCK;
		must(at + len <= taker.len, "the archive ends within %s", name);
		put_file(l, name, taker.bytes + at, len);
		at += (len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK - TAR_BLOCK;
	}
	must(at + 2 * TAR_BLOCK == taker.len, "%zu bytes behind the end of the archive", taker.len - at);
}

/* A start from it, on another machine. after: a job that was submitted later. */
static void check_copy(uint64_t after)
{
	wh_sim *other = NULL;
	struct store *copy = NULL;
	struct store_problem problem = {0};
	struct log_problem found = {0};
	struct log_look look;

	must(wh_sim_open(&other, &(struct wh_sim_options){.seed = plan.seed}) == 0, "machine");
	wh_loop *l = plan_loop(other);
	unpack(l);
	int error = log_look(l, &(struct log_options){.path = "/copy"}, &look, &found);
	must(error == 0, "%s, byte %llu: %s", found.file, (unsigned long long)found.offset, found.reason);
	must(look.end_lsn == taker.lsn, "it ends at %" PRIu64 ", not at %" PRIu64, look.end_lsn, taker.lsn);
	log_look_fini(&look);
	error = store_open(l, &(struct store_options){.directory = "/copy", .segment_bytes = 1 << 16}, &copy,
	                   &problem);
	must(error == 0, "%s", problem.text);
	for (int i = 0; i < KEPT; i++) {
		wh_res res = wh_await(store_payload(copy, kept[i], STORE_LOCAL));
		must(res.n > 0, "job %" PRIu64 ": %s", kept[i], wh_strerror(res.n));
		store_bytes_unref(res.ptr);
		res = wh_await(store_get(copy, kept[i], STORE_LOCAL));
		must(res.n >= 0, "job %" PRIu64 ": %s", kept[i], wh_strerror(res.n));
		store_view_free(res.ptr);
	}
	must(wh_await(store_get(copy, after, STORE_LOCAL)).n < 0, "job %" PRIu64 " came after the copy",
	     after);
	must(store_recount(copy) == 0 && store_close(copy) == 0, "close");
	(void)wh_loop_close(l);
	(void)wh_sim_close(other);
}

/* ---- a run --------------------------------------------------------------------------------- */

/* The client's next move, some time later. */
static void move(enum manner manner, int64_t now)
{
	int64_t pause = 0;

	if (manner == TOO_SLOWLY)
		pause = WH_NS_PER_MS * 1500;
	if (manner == STEADILY)
		pause = WH_NS_PER_MS * 200;
	/* until the server has had enough of it */
	if (manner == NOT_AT_ALL && taker.len > 0 && room_for_copies() < STORE_BACKUPS_MAX)
		return;
	if (now < taker.take_next)
		return;
	take_piece();
	taker.take_next = now + pause;
}

static void interrupt(enum manner manner)
{
	if (manner == LEAVES)
		taker.call = wh_http_call_close(taker.call);
	if (manner == IS_CUT_OFF)
		wh_sim_isolate(taker.machine);
	if (manner == LOSES_POWER)
		wh_sim_power_cut(taker.machine);
	if (manner == SERVER_STOPS)
		(void)wh_detach(front_drain(front, wh_now(loop)));
}

static void take_a_copy(enum manner manner)
{
	bool interrupted = false;
	uint64_t after = 0;
	size_t enough = (size_t)draw(200000);

	taker.take_next = 0;
	begin_copy();
	for (int turns = 0; !taker.over; turns++) {
		must(turns < 4000, "%s: no end of it, after %zu bytes", manners[manner], taker.len);
		must(wh_sim_world_run(world, (int64_t)(1 + draw(200)) * WH_NS_PER_MS) == 0, "run");
		if (taker.began && !after && !taker.over)
			after = submit(0, false);
		if (taker.began && manner != SERVER_STOPS)
			churn(3);
		/* what is held is of the copy, and what comes and goes does not add to it */
		must(files_of("seg-") <= 2 * usual + 16 && files_of("checkpoint-") <= 4,
		     "%zu segments and %zu checkpoints are there", files_of("seg-"), files_of("checkpoint-"));
		if (manner >= LEAVES && taker.len > enough && !interrupted) {
			interrupt(manner);
			interrupted = true;
		}
		if (interrupted && (manner == LEAVES || manner == LOSES_POWER || manner == IS_CUT_OFF))
			break; /* it will not hear of it */
		move(manner, wh_now(loop));
	}
	copies[manner]++;
	brought[manner] += taker.whole;
	must(!taker.whole || manner <= STEADILY || manner >= LEAVES, "%s: yet it came whole",
	     manners[manner]);
	must(taker.whole || manner > STEADILY, "%s: it broke off after %zu bytes", manners[manner],
	     taker.len);
	if (taker.whole)
		check_copy(after);
	if (manner != SERVER_STOPS)
		check_let_go(manner);
}

static uint64_t run_once(void)
{
	start_machine(PORT);
	for (unsigned i = 0; i < KEPT; i++) {
		kept[i] = submit(i, true);
		churn(2);
	}
	for (int i = 0; i < 100; i++) {
		churn(2);
		must(wh_sim_world_run(world, 50 * WH_NS_PER_MS) == 0, "run");
	}
	usual = files_of("seg-");
	for (int manner = 0; manner < MANNERS; manner++) {
		open_taker();
		take_a_copy((enum manner)manner);
		close_taker();
		wh_sim_heal(world, NULL, NULL);
	}
	end_machine();
	return 0;
}

static void test_copies(void **state)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1), seeds = env_number("WHILST_SIM_SEEDS", 3);
	double from = seconds();

	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		chance_state = seed;
		(void)run_once();
	}
	for (int i = 0; i < MANNERS; i++)
		printf("%s: %" PRIu64 " copies, %" PRIu64 " whole\n", manners[i], copies[i], brought[i]);
	printf("seeds %" PRIu64 "..%" PRIu64 ", %.1f s\n", first, first + seeds - 1, seconds() - from);
	fflush(stdout);
	must(brought[AT_ONCE] == seeds && brought[STEADILY] == seeds, "not all came");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_copies)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
